"""A cluster whose nodes have nothing of us but the packages; and which of them decode, which detect."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import psutil
import pytest

from jobs.soak import compare_tables
from pipeline.verify import verify
from pipeline.weights import cache_folder
from tests.conftest import answers, free_port, wait_for

pytestmark = [pytest.mark.long, pytest.mark.ray, pytest.mark.footage, pytest.mark.timeout(600)]

ROOT = Path(__file__).parent.parent.parent
RESOURCE = "gpu_box"


@pytest.fixture(scope="module")
def bare_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the Python of an environment that has our packages, and not us."""
    venv = tmp_path_factory.mktemp("bare")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    ours = Path(psutil.__file__).parent.parent
    (theirs,) = venv.glob("lib/python*/site-packages")
    for each in ours.iterdir():
        if "footfall" not in each.name:
            (theirs / each.name).symlink_to(each)
    return venv / "bin" / "python"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """A head without CPUs, a node that has only CPUs, and one that stands for a GPU's.

    Attributes:
        nodes: Their ids.
        folders: What each has for itself.
        without_us: What a process says there that asks for one of our modules.
    """

    dashboard: str
    nodes: dict[str, str]
    folders: dict[str, Path]
    without_us: str


@contextmanager
def node(python: Path, folder: Path, *arguments: str, **environment: str) -> Iterator[None]:
    """Run a node of a cluster that has no checkout, no home, and an empty folder of its own."""
    folder.mkdir()
    (folder / "tmp").mkdir()
    log = (folder / "log").open("wb")
    started = subprocess.Popen(
        [
            str(python), "-m", "ray.scripts.scripts", "start", "--block",
            "--node-ip-address=127.0.0.1", "--object-store-memory=300000000",
            f"--dashboard-agent-listen-port={free_port()}", *arguments,
        ],
        stdout=log, stderr=log, cwd=folder, env=bare_environment(python, folder) | environment,
    )  # fmt: skip
    try:
        # Two that start at once come in each other's way, for they are on one machine.
        wait_for(lambda: b"Ray runtime started" in (folder / "log").read_bytes(), 120, folder.name)
        yield
    finally:
        own = psutil.Process(started.pid).children(recursive=True)
        for process in own:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        started.kill()
        started.wait(10)
        psutil.wait_procs(own, timeout=10)
        log.close()


def bare_environment(python: Path, folder: Path) -> dict[str, str]:
    return {
        "PATH": f"{python.parent}:/usr/bin:/bin",
        "HOME": "/dev/null/nobody",
        "TMPDIR": str(folder / "tmp"),
        "LANG": "C.UTF-8",
        "RAY_AUTH_MODE": "disabled",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_idle_worker_killing_time_threshold_ms": "600000",
    }


# Joins, waits for all nodes, and says which they are, and why it cannot import ours.
LOOK = """
import json, sys, time, ray
ray.init(sys.argv[1], log_to_driver=False)
while sum(node["Alive"] for node in ray.nodes()) < 3:
    time.sleep(0.2)
try:
    import jobs
except ImportError as error:
    print(json.dumps([str(error), [[n["NodeID"], n["Resources"]] for n in ray.nodes()]]))
"""


@pytest.fixture(scope="module")
def cluster(bare_python: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    port, dashboard = free_port(), free_port()
    folder = tmp_path_factory.mktemp("nodes")
    folders = {name: folder / name for name in ("head", "cpus", "box")}
    # Sockets have short paths.
    with ExitStack() as nodes, tempfile.TemporaryDirectory(prefix="ff-", dir="/tmp") as temporary:
        head = (
            "--head", "--num-cpus=0", f"--port={port}", f"--dashboard-port={dashboard}",
            "--include-dashboard=true", f"--temp-dir={temporary}",
            f"--ray-client-server-port={free_port()}",
        )  # fmt: skip
        # The weights are on the head node alone.
        cache = {"FOOTFALL_CACHE": str(cache_folder())}
        nodes.enter_context(node(bare_python, folders["head"], *head, **cache))
        wait_for(lambda: answers(dashboard), 120, "the head node's dashboard")
        join = f"--address=127.0.0.1:{port}", "--num-cpus=2"
        nodes.enter_context(node(bare_python, folders["cpus"], *join))
        marked = f'--resources={{"{RESOURCE}": 1}}'
        nodes.enter_context(node(bare_python, folders["box"], *join, marked))
        looked = subprocess.run(
            [bare_python, "-c", LOOK, f"127.0.0.1:{port}"],
            cwd=folder, env=bare_environment(bare_python, folders["head"]),
            capture_output=True, text=True, timeout=120, check=True,
        )  # fmt: skip
        without_us, found = json.loads(looked.stdout.splitlines()[-1])
        yield Cluster(
            dashboard=f"http://127.0.0.1:{dashboard}",
            nodes={_name(resources): node_id for node_id, resources in found},
            folders=folders,
            without_us=without_us,
        )


def _name(resources: dict[str, Any]) -> str:
    if RESOURCE in resources:
        return "box"
    return "cpus" if "CPU" in resources else "head"


def test_nodes_with_only_the_packages_decode_on_cpus_detect_on_the_box_and_equal_a_local_run(
    cluster: Cluster, footage: Path, tmp_path: Path
) -> None:
    assert "No module named 'jobs'" in cluster.without_us
    clip = footage / "TUD-Campus.mp4"
    job = ["-m", "jobs.backfill", "--input", clip, "--device", "cpu", "--output"]
    local = subprocess.run(
        [sys.executable, *job, tmp_path / "local"],
        cwd=ROOT, capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert local.returncode == 0, local.stdout + local.stderr
    ray = Path(sys.executable).with_name("ray")
    submit = [ray, "job", "submit", "--address", cluster.dashboard, "--working-dir", "."]
    there = tmp_path / "there"
    done = subprocess.run(
        [str(w) for w in (*submit, "--", "python", *job, there, "--detect-resource", RESOURCE)],
        cwd=ROOT, capture_output=True, text=True, timeout=300, check=False, env={**os.environ},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    for table in ("detections", "movements", "tracks", "failures", "refined/movements"):
        assert compare_tables(tmp_path / "local", there, table) == (0, 0, 0), table
    assert verify(there).problems == []

    sql = "select node, sum(frames)::int from read_parquet(?) where step = ? group by all"
    metrics = f"{there}/metrics/*.parquet"
    where = {step: dict(duckdb.execute(sql, [metrics, step]).fetchall()) for step in
             ("decode", "detect", "memory")}  # fmt: skip
    assert where["decode"] == {cluster.nodes["cpus"]: 71}
    assert where["detect"] == {cluster.nodes["box"]: 71}
    # The head node hosts no worker; its memory is watched all the same.
    assert set(where["memory"]) == set(cluster.nodes.values())
    # Where there is no home, the weights that came over the network lie among temporary files.
    installed = {
        name: [path.suffix for path in folder.glob("tmp/footfall-*/*/*/model.xml")]
        for name, folder in cluster.folders.items()
    }
    assert installed == {"head": [], "cpus": [], "box": [".xml"]}
