"""Which nodes are waited for, for how long, and what the autoscaler is asked."""

import logging

import pytest

from cluster import nodes as module
from cluster.nodes import Node, await_nodes
from cluster.pools import places_on
from cluster.session import Session
from jobs.hardware import choose_hardware, with_enough_nodes
from jobs.settings import JobSettings
from pipeline.errors import ConfigError
from pipeline.run_folder import MadeWith

HEAD = Node(node_id="head", cpus=0, gpus=0)
WORKER = Node(node_id="worker", cpus=4, gpus=0)
BOX = Node(node_id="box", cpus=4, gpus=2, resources={"gpu_box": 1.0})
FP16 = MadeWith(device="cuda", backend="torch", precision="fp16")


@pytest.fixture
def asked(monkeypatch):
    """Return what the autoscaler is asked for; time passes at once."""
    seen = []
    monkeypatch.setattr(module, "ask_autoscaler", seen.append)
    monkeypatch.setattr(module, "_LOOK_EVERY_S", 0.001)
    return seen


def test_nodes_that_are_enough_are_not_waited_for(asked):
    found = await_nodes(bool, {"CPU": 1.0}, why="none", most_s=9, look=lambda: (HEAD,))
    assert (found, asked) == ((HEAD,), [])


def test_nodes_are_waited_for_with_one_line_and_the_autoscaler_is_asked_until_they_come(
    asked, caplog
):
    looks = iter([(HEAD,), (HEAD,), (HEAD, WORKER)])
    with caplog.at_level(logging.INFO):
        found = await_nodes(
            lambda nodes: len(nodes) > 1,
            {"CPU": 1.0},
            why="none has CPUs",
            most_s=60,
            look=lambda: next(looks),
        )
    assert found == (HEAD, WORKER)
    assert caplog.messages == ["Waiting for nodes: none has CPUs; for 60 s at most"]
    assert asked == [[{"CPU": 1.0}], []]


def test_who_waits_in_vain_gets_the_nodes_as_they_are(asked):
    found = await_nodes(
        lambda _: False, {"GPU": 1.0}, why="none", most_s=0.05, look=lambda: (HEAD,)
    )
    assert (found, asked) == ((HEAD,), [[{"GPU": 1.0}], []])


def hardware(*nodes, made_with=None, **settings):
    session = Session(nodes=nodes, is_local=False)
    return choose_hardware(JobSettings(input=("a",), **settings), session, made_with)


def test_a_gpu_counts_only_where_detectors_may_be():
    assert hardware(HEAD, WORKER, BOX).device == "cuda"
    assert hardware(HEAD, WORKER).device == "cpu"
    assert hardware(HEAD, WORKER, BOX, detect_resource="gpu_box").device == "cuda"
    assert hardware(WORKER, BOX, device="cpu").device == "cpu"
    other = Node(node_id="other", cpus=4, gpus=0, resources={"gpu_box": 1.0})
    assert hardware(WORKER, other, detect_resource="gpu_box").device == "cpu"


@pytest.mark.parametrize(
    ("nodes", "settings", "made_with", "words"),
    [
        ((HEAD,), {}, None, "no node of the cluster has CPUs"),
        ((HEAD, WORKER), {"device": "cuda"}, None, "no node of the cluster has a GPU"),
        ((HEAD, WORKER), {}, FP16, "were made with"),
        ((WORKER,), {"detect_resource": "gpu_box"}, None, "detect_resource = 'gpu_box'"),
    ],
)
def test_without_a_place_for_a_detector_the_error_says_what_lacks(
    nodes, settings, made_with, words
):
    with pytest.raises(ConfigError, match=words):
        hardware(*nodes, made_with=made_with, **settings)


def test_an_explicit_cuda_waits_for_a_gpu_and_auto_for_whatever_comes(monkeypatch):
    looks = []

    def fake(are_enough, wanted, *, why, most_s):
        looks.append((are_enough((HEAD, WORKER)), are_enough((BOX,)), wanted, why, most_s))
        return (BOX,)

    monkeypatch.setattr("jobs.hardware.await_nodes", fake)
    session = Session(nodes=(HEAD,), is_local=False)
    for settings in ({"device": "cuda"}, {"wait_for_nodes_s": 5.0}):
        found = with_enough_nodes(JobSettings(input=("a",), **settings), session, None)
        assert found.nodes == (BOX,)
    assert looks == [
        (False, True, {"GPU": 1.0}, "none has a GPU", 600.0),
        (True, True, {"CPU": 1.0}, "none has CPUs; --device cuda would wait for a GPU", 5.0),
    ]
    local = Session(nodes=(HEAD,), is_local=True)
    assert with_enough_nodes(JobSettings(input=("a",)), local, None) is local


def test_a_head_without_cpus_hosts_nothing_and_splits_no_cluster():
    places = places_on([HEAD, WORKER], "cpu")
    assert not places.are_apart
    assert (places.detectors(HEAD), places.decoders(HEAD)) == (0, 0)
    assert (places.detectors(WORKER), places.decoders(WORKER)) == (1, 1)
