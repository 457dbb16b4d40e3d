"""What is done about nodes that join and go while a job runs, without a Ray."""

from types import SimpleNamespace

import pytest

from cluster import growth as module
from cluster.growth import Growth
from cluster.nodes import Node
from cluster.pools import places_on, plan_pools
from cluster.ray_data import InEffect
from cluster.session import Session


def node(name, cpus=4.0):
    return Node(node_id=name, cpus=cpus, gpus=0.0, store_bytes=1 << 30)


class Hosts:
    """Stands for what runs on nodes: those in `ready` become so at the next look."""

    def __init__(self):
        self.welcomed, self.ready = [], []

    def welcome(self, node, detectors):
        self.welcomed.append((node.node_id, detectors))

    def settled(self):
        ready, self.ready = self.ready, []
        return {name: SimpleNamespace(pss_mb=500.0) for name in ready}


class Actors:
    """Stands for the actors beside a dataset."""

    def __init__(self):
        self.hosts, self.opened, self.widened = Hosts(), [], []

    def open_nodes(self, names):
        self.opened += names

    def widen(self, nodes):
        self.widened.append([node.node_id for node in nodes])


@pytest.fixture
def job(monkeypatch):
    """Return what follows a cluster of one node, the cluster's nodes, and what is in effect."""
    monkeypatch.setattr(module, "tell_of_nodes", lambda: None)
    monkeypatch.setattr(module, "check_store", lambda *_: None)
    nodes = [node("head", cpus=0.0), node("first")]
    pools = plan_pools(nodes, places_on(nodes, "cpu"), cameras=1, decoders=1)
    spec = SimpleNamespace(
        pools=pools, memory=None, in_flight_bytes=lambda nodes: 100 * max(1, len(nodes))
    )
    in_effect, actors = InEffect(), Actors()
    session = Session(nodes=tuple(nodes), is_local=False)
    growth = Growth(spec, actors, in_effect, session, look=lambda: tuple(nodes))
    growth.begin_pass()
    return growth, nodes, in_effect, actors


def sizes(in_effect):
    room = in_effect.room
    return room.sizes["decode_stage"], room.sizes["DetectStage"]


def test_a_node_that_joins_gets_its_detector_at_once_and_real_work_when_it_is_ready(job):
    growth, nodes, in_effect, actors = job
    assert growth.follow() == {}
    assert sizes(in_effect) == (1, 1)
    nodes.append(node("second"))
    assert growth.follow() == {}
    assert actors.hosts.welcomed == [("second", 1)]
    assert (sizes(in_effect), actors.opened) == ((1, 2), [])
    actors.hosts.ready = ["second"]
    assert growth.follow() == {"second": 500.0}
    assert (sizes(in_effect), actors.opened) == ((2, 2), ["second"])
    # Welcomed once.
    growth.follow()
    assert len(actors.hosts.welcomed) == 1


def test_what_lies_in_stores_goes_by_the_nodes_there_are_and_workers_wait_for_nodes_to_come_back(
    job,
):
    growth, nodes, in_effect, _ = job
    nodes.append(node("second"))
    growth.follow()
    growth._ready.add("second")
    growth.follow()
    assert in_effect.room.in_flight_bytes == 300
    nodes.pop()
    growth.follow()
    assert in_effect.room.in_flight_bytes == 200
    assert sizes(in_effect) == (2, 2)
    # The next dataset is made for what there is.
    assert growth.begin_pass().detect.size == 1


def test_an_autoscaler_is_asked_for_one_node_more_at_a_time(job):
    growth, nodes, in_effect, _ = job
    assert in_effect.room.sought["DetectStage"] == 2
    nodes.append(node("second"))
    growth._ready.add("second")
    growth.follow()
    assert in_effect.room.sought["DetectStage"] == 3


def test_a_detector_that_was_given_up_is_replaced(job):
    growth, _, in_effect, _ = job
    growth.gave_up(1)
    growth.follow()
    assert sizes(in_effect) == (1, 2)
    assert growth.begin_pass().detect.size == 1
