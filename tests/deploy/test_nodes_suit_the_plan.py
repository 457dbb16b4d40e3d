"""What a node is given is what the run's memory plan reckons with: none changes without the other.

The footage that the files name: four video tracks of 1080p in one recording in S3, H.264 of 4 Mbit/s, a
keyframe each 10 s.
"""

import argparse
import inspect
import math
import re
import shlex
from dataclasses import replace
from pathlib import Path

import click
import pytest
import ray
from ray.scripts.scripts import start

from cluster import session
from cluster.memory import check_store
from cluster.meter import MIB
from cluster.nodes import Node
from cluster.pools import places_on
from jobs.nodes import command_line
from jobs.options import add_options, resolve
from jobs.spec import plan_of
from pipeline.letterbox import fit
from pipeline.records import Footage, FootageKey, VideoTrack
from tests.deploy.files import cluster_spec, container, documents, entrypoint, groups, pod

(AWS,) = documents("aws.yaml")
GROUPS = groups(cluster_spec("rayjob.yaml"))
WORKERS = ("gpu", "cpu")
_KEYFRAME_S, _FPS, _BYTES_S = 10, 25, 500_000
# A store has what the plan wants, in steps of 16 MiB; beside it in /dev/shm others may have 64 MiB.
_STEP, _BESIDE_STORE = 16 * MIB, 64 * MIB
# Before there is work: a whole local Ray with a detector takes 1,325 MB (measured), a process 150,
# one that decodes and room for one more for each decoder. What torch takes with CUDA is an estimate.
_RAY_MB, _WORKER_MB, _CUDA_MB = 1325, 150, 3072
# Logs, Ray's own files, what a cut recording's neighbours take.
_DISK_BESIDE_CACHE_GB = 10


def settings():
    """Return the settings of the entrypoint, as the job itself reads them."""
    own = command_line().parse_args(entrypoint()[3:])
    assert entrypoint()[:3] == ["python", "-m", "jobs.nodes"]
    assert own.verb == "backfill"
    parser = argparse.ArgumentParser(allow_abbrev=False)
    add_options(parser)
    return resolve(parser.parse_args(own.rest))


def footage(number):
    track = VideoTrack(
        video_track=number, codec="h264", width=1920, height=1080, rate_fps=_FPS, level=40,
        gop_frames=_KEYFRAME_S * _FPS, gop_bytes=_KEYFRAME_S * _BYTES_S,
    )  # fmt: skip
    return Footage(
        key=FootageKey(camera_id=str(number), sequence=0),
        source_uri=settings().input[0] + "four.mkv",
        track=track,
        letterbox=fit(1920, 1080, settings().image_size),
    )


def plan(cpus, store_bytes=0):
    node = Node(node_id="n", cpus=cpus, gpus=1, store_bytes=store_bytes)
    footages = [footage(number) for number in range(4)]
    made = plan_of(settings(), footages, places_on([node], settings().device), [node])
    if store_bytes:
        check_store(made, [node])
    return made


def in_bytes(quantity):
    number, unit = re.fullmatch(r"(\d+)(Gi|Mi|m)", quantity).groups()
    return int(number) * {"Gi": 1024 * MIB, "Mi": MIB, "m": MIB}[unit]


def option(command, name):
    (value,) = re.findall(rf"--{name}=(\S+)", command)
    return value


def store_for(made):
    return math.ceil(made.store_bytes / _STEP) * _STEP


def shared_memory(group):
    (volume,) = pod(group)["volumes"]
    (mount,) = container(group)["volumeMounts"]
    assert mount == {"name": volume["name"], "mountPath": "/dev/shm"}
    assert volume["emptyDir"]["medium"] == "Memory"
    return in_bytes(volume["emptyDir"]["sizeLimit"])


@pytest.mark.parametrize("name", WORKERS)
def test_a_workers_store_is_the_plans_and_shared_memory_holds_it(name):
    group = GROUPS[name]
    cpus = int(container(group)["resources"]["limits"]["cpu"])
    store_bytes = int(group["rayStartParams"]["object-store-memory"])
    assert store_bytes == store_for(plan(cpus))
    assert shared_memory(group) == store_bytes + _BESIDE_STORE
    # In that store, nothing of the plan changes.
    assert plan(cpus, store_bytes) == plan(cpus)


def test_the_heads_shared_memory_holds_its_store():
    head = GROUPS["head"]
    store_bytes = int(head["rayStartParams"]["object-store-memory"])
    assert shared_memory(head) == store_bytes + _BESIDE_STORE


@pytest.mark.parametrize("name", WORKERS)
def test_a_workers_memory_is_its_level_and_the_cap(name):
    resources = container(GROUPS[name])["resources"]
    assert resources["requests"] == resources["limits"]
    decoders = plan(int(resources["limits"]["cpu"])).decoders
    level_mb = _RAY_MB + 2 * decoders * _WORKER_MB + (_CUDA_MB if name == "gpu" else 0)
    needed_mb = level_mb + settings().memory_limit_mb
    assert in_bytes(resources["limits"]["memory"]) == math.ceil(needed_mb / 1024) * 1024 * MIB


@pytest.mark.parametrize("name", WORKERS)
def test_a_workers_disk_holds_the_recordings_that_are_cut(name):
    disk = in_bytes(container(GROUPS[name])["resources"]["limits"]["ephemeral-storage"])
    assert disk >= (settings().cache_gb + _DISK_BESIDE_CACHE_GB) * 1e9


def test_on_ec2_a_workers_store_is_the_plans_and_shared_memory_holds_it():
    cpus = {t["resources"]["CPU"] for t in AWS["available_node_types"].values()} - {0}
    (worker,) = (line for line in AWS["worker_start_ray_commands"] if "ray start" in line)
    store_bytes = int(option(worker, "object-store-memory"))
    assert {store_for(plan(each)) for each in cpus} == {store_bytes}
    assert plan(min(cpus), store_bytes) == plan(min(cpus))
    (shared,) = (o for o in AWS["docker"]["run_options"] if o.startswith("--shm-size"))
    assert in_bytes(option(shared, "shm-size")) == store_bytes + _BESIDE_STORE


def test_another_cap_another_store():
    """What the tests above hold together moves."""
    more = replace(settings(), memory_limit_mb=settings().memory_limit_mb + 256)
    node = Node(node_id="n", cpus=7, gpus=1)
    larger = plan_of(more, [footage(0)], places_on([node], "cuda"), [node])
    assert store_for(larger) != store_for(plan(7))


def environment_of_a_local_ray():
    """Return the variables that footfall starts a Ray of its own with."""
    found = re.findall(r'setdefault\("(\w+)", (.+)\)$', inspect.getsource(session), re.MULTILINE)
    own = inspect.getsource(session._start_local)
    variables = {name: str(eval(text)) for name, text in found if f'"{name}"' in own}
    kept = {"RAY_idle_worker_killing_time_threshold_ms": str(session._KEEP_IDLE_WORKERS_MS)}
    return variables | kept


@pytest.mark.parametrize("name", list(GROUPS))
def test_pods_have_the_environment_of_a_ray_of_ours(name):
    given = {each["name"]: each["value"] for each in container(GROUPS[name])["env"]}
    assert given == environment_of_a_local_ray()


def test_nodes_on_ec2_have_the_environment_of_a_ray_of_ours():
    options = AWS["docker"]["run_options"]
    given = dict(o.removeprefix("--env=").split("=", 1) for o in options if o.startswith("--env="))
    assert given == environment_of_a_local_ray() | {"RAY_AUTH_MODE": "token"}
    assert {o.split("=")[0] for o in options} == {"--ulimit", "--shm-size", "--env"}


def test_ray_knows_the_settings_that_its_variables_are_for():
    raylet = (Path(ray.__file__).parent / "core/src/ray/raylet/raylet").read_bytes()
    for name in environment_of_a_local_ray():
        if name.startswith("RAY_"):
            assert name.removeprefix("RAY_").encode() in raylet


@pytest.mark.parametrize("which", ["head_start_ray_commands", "worker_start_ray_commands"])
def test_ray_start_knows_its_options(which):
    for line in AWS[which]:
        words = shlex.split(line)
        if words[:2] == ["ray", "start"]:
            context = click.Context(start)
            start.parse_args(context, words[2:])
            assert context.params["object_store_memory"]


def test_a_job_does_not_fail_for_one_recording_and_goes_nowhere_without_a_gpu():
    assert settings().partial_ok
    assert settings().device == "cuda"
