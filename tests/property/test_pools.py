"""Workers for any cluster: who may not share a process asks for another share, and all find room."""

import itertools

from hypothesis import assume, given
from hypothesis import strategies as st

from cluster.nodes import Node
from cluster.pools import Pool, places_on, plan_pools

nodes = st.lists(
    st.builds(
        Node,
        node_id=st.uuids().map(str),
        # A head node may have none.
        cpus=st.integers(0, 192).map(float),
        gpus=st.integers(0, 8).map(float),
        resources=st.sampled_from([{}, {"box": 1.0}]),
    ),
    min_size=1,
    max_size=5,
)


def room_on(node: Node, pool: Pool, taken_cpus: float = 0.0) -> int:
    """Return how many workers of a pool Ray's scheduler puts on a node."""
    return int((node.cpus - taken_cpus + 1e-6) / pool.cpus)


@given(
    nodes=nodes,
    cameras=st.integers(1, 1000),
    decoders=st.integers(1, 64),
    detectors=st.none() | st.integers(1, 16),
    drivers=st.integers(1, 16),
)
def test_no_two_steps_ask_for_the_same_share_so_that_ray_fuses_none(
    nodes: list[Node], cameras: int, decoders: int, detectors: int | None, drivers: int
) -> None:
    for device, resource in itertools.product(("cpu", "cuda"), ("", "box")):
        places = places_on(nodes, device, resource)
        if not any(places.detectors(node) for node in nodes):
            continue
        pools = plan_pools(
            nodes, places, cameras=cameras, decoders=decoders, detectors=detectors, drivers=drivers
        )
        shares = [pools.demux.cpus, pools.decode.cpus, pools.detect.cpus]
        assert len(set(shares)) == 3
        assert all(share > 0 for share in shares)
        assert 1 <= pools.track.size <= cameras
        assert pools.detect.size == (detectors or pools.detect.size) >= 1
        assert pools.threads >= 1
        assert pools.decode.size >= 1
        assert pools.demux.size == sum(node.cpus >= 1 for node in nodes)
        if device == "cuda":
            assert pools.detect.size * pools.detect.gpus <= sum(node.gpus for node in nodes) + 1e-6


@given(nodes=nodes, decoders=st.integers(1, 64), device=st.sampled_from(["cpu", "cuda"]))
def test_where_some_nodes_have_no_place_for_a_detector_they_decode_and_keep_detectors_free_of_it(
    nodes: list[Node], decoders: int, device: str
) -> None:
    places = places_on(nodes, device, "box")
    assume(places.are_apart and any(places.detectors(node) for node in nodes))
    pools = plan_pools(nodes, places, cameras=1, decoders=decoders)
    assert pools.detect.resources == {"box": 1e-4}
    for node in (node for node in nodes if node.cpus >= 1):
        detectors = pools.detectors_on(node)
        assert detectors == places.detectors(node)
        assert detectors * pools.detect.cpus <= node.cpus
        room = room_on(node, pools.decode, detectors * pools.detect.cpus)
        if not detectors:
            assert room >= pools.decoders_on(node) >= 1
        # A detector on a CPU has all the cores of the least of its kind.
        least = min(each.cpus for each in nodes if places.detectors(each))
        if detectors and device == "cpu" and node.cpus == least:
            assert room == pools.decoders_on(node) == 0


@given(nodes=nodes, joins=nodes, device=st.sampled_from(["cpu", "cuda"]))
def test_whoever_joins_gets_workers_that_ask_for_what_the_others_do_and_nobody_is_sent_away(
    nodes: list[Node], joins: list[Node], device: str
) -> None:
    places = places_on(nodes, device)
    assume(any(places.detectors(node) for node in nodes))
    pools = plan_pools(nodes, places, cameras=1, decoders=4)
    assert pools.sized_for(nodes).detect == pools.detect
    more = pools.sized_for([*nodes, *joins])
    for step in ("demux", "decode", "detect"):
        before, now = getattr(pools, step), getattr(more, step)
        assert now.size >= before.size
        assert (now.cpus, now.gpus) == (before.cpus, before.gpus)
    added = sum(pools.detectors_on(node) for node in joins)
    assert more.detect.size == pools.detect.size + added
    # All nodes are gone, or some: a dataset that runs keeps its places for them.
    for left in ([], nodes[:1]):
        assert pools.sized_for(left).at_least(pools).detect.size >= pools.detect.size
    told = plan_pools(nodes, places, cameras=1, decoders=4, detectors=3)
    assert told.sized_for([*nodes, *joins]).detect.size == 3
