"""Workers for any cluster: steps that must not share a process ask for different shares."""

from hypothesis import given
from hypothesis import strategies as st

from cluster.pools import plan_pools
from cluster.session import Node

nodes = st.lists(
    st.builds(
        Node,
        node_id=st.uuids().map(str),
        cpus=st.integers(1, 192).map(float),
        gpus=st.integers(0, 8).map(float),
    ),
    min_size=1,
    max_size=5,
)


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
    for device in ("cpu", "cuda"):
        if device == "cuda" and not any(node.gpus for node in nodes):
            continue
        pools = plan_pools(
            nodes, device, cameras=cameras, decoders=decoders, detectors=detectors, drivers=drivers
        )
        shares = [pools.demux.cpus, pools.decode.cpus, pools.detect.cpus]
        assert len(set(shares)) == 3
        assert all(share > 0 for share in shares)
        assert 1 <= pools.track.size <= cameras
        assert pools.detect.size == (detectors or pools.detect.size) >= 1
        assert pools.threads >= 1
        if device == "cuda":
            assert pools.detect.size * pools.detect.gpus <= sum(node.gpus for node in nodes) + 1e-6
