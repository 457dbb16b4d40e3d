"""A cluster whose nodes come from zero, by Ray's own autoscaler: they come, and a run is theirs."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from pipeline.standin_backend import STAND_IN
from tests.conftest import free_port, wait_for

pytestmark = [pytest.mark.long, pytest.mark.ray, pytest.mark.timeout(600)]

# Ray's stand-in for a cloud: its nodes are processes of this machine. It knows the head by these names.
_HEAD, _HEAD_ID = "ray.head.default", "f" * 51 + "00000"
_PROVIDER = "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider"
_LISTS = (
    "rsync_exclude", "rsync_filter", "cluster_synced_files", "initialization_commands",
    "setup_commands", "head_setup_commands", "worker_setup_commands", "head_start_ray_commands",
    "worker_start_ray_commands",
)  # fmt: skip


def launcher(port: int) -> dict[str, object]:
    """Return a file for the autoscaler: a head, and a group of nodes of which there are none."""
    nodes = {"CPU": 2, "cpu-node": 1, "object_store_memory": 150 << 20}
    return {
        "cluster_name": "from-zero",
        "max_workers": 2,
        "idle_timeout_minutes": 1,
        "upscaling_speed": 1.0,
        "docker": {},
        "provider": {
            "type": "external",
            "module": _PROVIDER,
            "launch_multiple": True,
            "head_node_id": _HEAD_ID,
            "gcs_address": f"127.0.0.1:{port}",
        },
        "auth": {"ssh_user": "nobody"},
        "head_node_type": _HEAD,
        "available_node_types": {
            _HEAD: {"resources": {}, "node_config": {}, "max_workers": 0},
            "cpu": {"resources": nodes, "node_config": {}, "min_workers": 0, "max_workers": 2},
        },
        "file_mounts": {},
        "file_mounts_sync_continuously": False,
        **{name: [] for name in _LISTS},
    }


@pytest.fixture
def from_zero(tmp_path: Path) -> Iterator[str]:
    """Start a head without CPUs, and an autoscaler; return the address."""
    port = free_port()
    folder = tempfile.mkdtemp(prefix="ff-", dir="/tmp")
    (tmp_path / "launcher.json").write_text(json.dumps(launcher(port)))
    with (tmp_path / "head.log").open("w") as log:
        head = subprocess.Popen(
            [
                sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block",
                f"--port={port}", "--node-ip-address=127.0.0.1", f"--temp-dir={folder}",
                "--num-cpus=0", "--object-store-memory=80000000", "--include-dashboard=false",
                f"--autoscaling-config={tmp_path / 'launcher.json'}",
            ],
            stdout=log,
            stderr=log,
            cwd="/",
            env={
                **os.environ,
                "AUTOSCALER_UPDATE_INTERVAL_S": "1",
                "RAY_FAKE_CLUSTER": "1",
                "RAY_enable_autoscaler_v2": "1",
                "RAY_CLOUD_INSTANCE_ID": _HEAD_ID,
                "RAY_OVERRIDE_NODE_ID_FOR_TESTING": _HEAD_ID,
                "RAY_worker_niceness": "0",
                "RAY_idle_worker_killing_time_threshold_ms": "600000",
            },
        )  # fmt: skip
    try:
        logged = tmp_path / "head.log"
        wait_for(lambda: "will now block" in logged.read_text(), 120, "Ray's head node")
        yield f"127.0.0.1:{port}"
    finally:
        own = psutil.Process(head.pid).children(recursive=True)
        for process in [*own, psutil.Process(head.pid)]:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        head.wait(10)
        psutil.wait_procs(own, timeout=10)
        shutil.rmtree(folder, ignore_errors=True)


def footfall(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "jobs.main", *arguments],
        capture_output=True, text=True, timeout=400, check=False,
    )  # fmt: skip


def test_nodes_are_asked_for_before_a_run_is_planned_and_a_head_without_cpus_hosts_nothing(
    from_zero: str, walkers: Path, tmp_path: Path
) -> None:
    run = (
        "backfill", "--address", from_zero, "--input", str(walkers), "--model", STAND_IN,
        "--image-size", "320", "--output", str(tmp_path / "out"),
    )  # fmt: skip
    refused = footfall(*run, "--wait-for-nodes-s", "0")
    assert refused.returncode == 2
    assert "no node of the cluster has CPUs" in refused.stderr

    asking = ("nodes", "--address", from_zero, "--want")
    none = footfall(*asking, "tpu-node=1", "--wait-s", "1", *run)
    assert none.returncode == 2
    assert "after 1 s the cluster has 0 of 1 tpu-node" in none.stderr

    done = footfall(*asking, "cpu-node=1", "--wait-s", "120", *run)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "The cluster has 1 of 1 cpu-node" in done.stdout
    assert "1 detector(s)" in done.stdout
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["frames"] == 600
