"""A head without CPUs, as clusters have it: it hosts no worker, and nothing is planned by it."""

import pytest

from cluster.pools import decoders_for, plan_pools
from cluster.session import Node, Session
from jobs.nodes import parse_wanted
from jobs.settings import JobSettings
from jobs.spec import _plan_for
from pipeline.errors import ConfigError
from pipeline.letterbox import fit
from pipeline.records import Footage, FootageKey, VideoTrack
from pipeline.run_folder import MadeWith
from pipeline.tail import Tail

HEAD = Node(node_id="head", cpus=0.0, gpus=0.0, store_bytes=80 << 20)
WORKER = Node(node_id="worker", cpus=16.0, gpus=1.0, store_bytes=600 << 20)
ON_CUDA = MadeWith(device="cuda", backend="torch", precision="fp16")


def tails():
    footage = Footage(
        key=FootageKey(camera_id="door", sequence=0),
        source_uri="/a.mkv",
        track=VideoTrack(video_track=0, codec="h264", width=1920, height=1080, gop_frames=50),
        letterbox=fit(1920, 1080, 640),
    )
    return [Tail(camera_id="door", footages=(footage,), stops=(None,))]


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_head_without_cpus_changes_no_plan(device):
    alone = Session(nodes=(WORKER,), is_local=False)
    with_head = Session(nodes=(HEAD, WORKER), is_local=False)
    pools = [plan_pools(list(s.hosts), device, cameras=4, decoders=3) for s in (alone, with_head)]
    assert pools[0] == pools[1]
    assert pools[0].threads == 16 if device == "cpu" else pools[0].detect.gpus == 1
    plans = [_plan_for(JobSettings(), tails(), ON_CUDA, s) for s in (alone, with_head)]
    assert plans[0] == plans[1]
    assert 1 < plans[0].decoders <= decoders_for(16, "cuda")


def test_a_cluster_without_any_cpus_is_refused_with_what_brings_nodes():
    with pytest.raises(ConfigError, match="footfall nodes"):
        _plan_for(JobSettings(), tails(), ON_CUDA, Session(nodes=(HEAD,), is_local=False))


def test_wanted_nodes_are_read_from_words():
    assert parse_wanted(["gpu-node=2", "cpu-node=16"]) == {"gpu-node": 2, "cpu-node": 16}


@pytest.mark.parametrize(
    "words", [["gpu-node"], ["=2"], ["gpu-node=0"], ["gpu-node=-1"], ["gpu-node=x"], ["a=1", "a=2"]]
)
def test_words_that_say_no_number_of_a_resource_are_refused(words):
    with pytest.raises(ConfigError, match="want ="):
        parse_wanted(words)
