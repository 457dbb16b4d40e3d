"""One Ray for the whole suite, the runs that tests start on it, and the footage they share."""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import psutil
import pytest
from rich.console import Console

from cluster.session import open_session
from jobs.backfill import run_job
from jobs.results import RunEnd
from jobs.settings import JobSettings
from jobs.soak_footage import film
from pipeline.standin_backend import STAND_IN
from tests.credentials import ENVIRONMENT

os.environ.setdefault("RAY_AUTH_MODE", "disabled")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("YOLO_AUTOINSTALL", "False")

ROOT = Path(__file__).parent.parent
FOOTAGE = ROOT.parent / "shared" / "footage"


@dataclass(frozen=True, slots=True, kw_only=True)
class RayHead:
    """A running head node: where drivers join it, where jobs are submitted, and its folder."""

    address: str
    dashboard: str
    folder: Path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="session")
def ray_head() -> Iterator[RayHead]:
    """Run one head node for the whole suite."""
    with running_head() as head:
        yield head


@pytest.fixture(scope="module")
def joined(ray_head: RayHead) -> Iterator[RayHead]:
    """Stay on the suite's Ray from one job to the next: its workers do too, with all they imported."""
    with open_session(0, ray_head.address):
        yield ray_head


@contextmanager
def running_head() -> Iterator[RayHead]:
    """Run a head node with a dashboard, as a user of `ray job submit` would start it."""
    port, dashboard = free_port(), free_port()
    # Sockets have short paths.
    folder = tempfile.mkdtemp(prefix="ff-", dir="/tmp")
    head = subprocess.Popen(
        [
            Path(sys.executable).with_name("ray"), "start", "--head", "--block",
            f"--port={port}", f"--dashboard-port={dashboard}", "--include-dashboard=true",
            "--node-ip-address=127.0.0.1", f"--temp-dir={folder}", "--num-cpus=2",
            "--object-store-memory=500000000", f"--dashboard-agent-listen-port={free_port()}",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
        env={
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "RAY_idle_worker_killing_time_threshold_ms": "600000",
            # By default processes tell their metrics every 10 s.
            "RAY_metrics_report_interval_ms": "2000",
            # Actors find credentials where they run.
            **ENVIRONMENT,
        },
    )  # fmt: skip
    try:
        wait_for(lambda: answers(dashboard) and answers(port), 90, "Ray's head node")
        yield RayHead(
            address=f"127.0.0.1:{port}",
            dashboard=f"http://127.0.0.1:{dashboard}",
            folder=Path(folder),
        )
    finally:
        # Its own way to stop takes longer than all it does. Agents and workers hide their command.
        own = psutil.Process(head.pid).children(recursive=True)
        for process in own:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        head.kill()
        head.wait(10)
        psutil.wait_procs(own, timeout=10)
        shutil.rmtree(folder, ignore_errors=True)


def answers(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def wait_for(done: Callable[[], bool], seconds: float, what: str) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, f"{what} did not come up within {seconds} s"
        time.sleep(0.2)


@pytest.fixture(scope="session")
def footage() -> Path:
    """Return the folder of real footage; skip without it, unless that is forbidden."""
    if not FOOTAGE.is_dir():
        if os.environ.get("FAIL_WITHOUT_FOOTAGE") == "1":
            pytest.fail(f"no footage in {FOOTAGE}, and FAIL_WITHOUT_FOOTAGE=1")
        pytest.skip(f"no footage in {FOOTAGE}")
    return FOOTAGE


# Which run wrote a row, and from which file, may differ between runs that are to be equal.
ROWS = (
    "select * exclude (source_uri, camera_id, video_track) "
    "from read_parquet(?, hive_partitioning=true)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A finished job: its exit code, its summary and its tables."""

    output: Path
    exit_code: int
    summary: dict[str, Any]

    def glob(self, table: str) -> str:
        return f"{self.output}/{table}/**/*.parquet"

    def query(self, table: str, select: str = "select *", where: str = "") -> list[tuple[Any, ...]]:
        sql = f"{select} from read_parquet(?, hive_partitioning=true) {where}"
        return duckdb.execute(sql, [self.glob(table)]).fetchall()

    def rows(self, table: str, camera_id: str | None = None) -> list[tuple[Any, ...]]:
        """Return a table's rows, sorted, of one camera or of all."""
        where = "" if camera_id is None else f" where camera_id = '{camera_id}'"
        return sorted(map(repr, duckdb.execute(ROWS + where, [self.glob(table)]).fetchall()))

    def tracks(self) -> dict[int, dict[str, Any]]:
        """Return the summary of the only recording, by video track."""
        (recording,) = self.summary["recordings"]
        return {track["video_track"]: track for track in recording["video_tracks"]}


@pytest.fixture
def run(joined: RayHead, tmp_path: Path) -> Callable[..., Job]:
    """Run a job in this process, on the suite's Ray."""

    def run_one(*inputs: Path | str, **settings: Any) -> Job:
        output = tmp_path / settings.pop("name", "out")
        end: RunEnd = run_job(
            JobSettings(
                input=tuple(map(str, inputs)),
                output=str(output),
                address=joined.address,
                **settings,
            ),
            Console(quiet=True),
        )
        summary = json.loads((output / "summary.json").read_text())
        return Job(output=output, exit_code=end.exit_code, summary=summary)

    return run_one


@pytest.fixture
def fast_run(run: Callable[..., Job]) -> Callable[..., Job]:
    """Run a job with the stand-in for a detector, and small parts."""

    def run_one(*inputs: Path | str, **settings: Any) -> Job:
        return run(*inputs, **{"model": STAND_IN, "image_size": 320, "part_mb": 0.02, **settings})

    return run_one


@pytest.fixture(scope="session")
def walkers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a recording of two video tracks, 300 frames each, of bright things that walk."""
    path = tmp_path_factory.mktemp("walkers") / "walkers.mkv"
    film(path, [1, 2], first=0, frames=300)
    return path
