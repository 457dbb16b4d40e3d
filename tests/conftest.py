"""One Ray for the whole suite, joined by every test that needs one, and the footage they share."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

os.environ.setdefault("RAY_AUTH_MODE", "disabled")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("YOLO_AUTOINSTALL", "False")

ROOT = Path(__file__).parent.parent
FOOTAGE = ROOT.parent / "shared" / "footage"


@dataclass(frozen=True, slots=True, kw_only=True)
class RayHead:
    """A running head node: where drivers join it, and where jobs are submitted."""

    address: str
    dashboard: str


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="session")
def ray_head() -> Iterator[RayHead]:
    """Start a head node with a dashboard, as a user of `ray job submit` would."""
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
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
    )  # fmt: skip
    try:
        _wait_for(lambda: _answers(dashboard) and _answers(port), 90, "Ray's head node")
        yield RayHead(address=f"127.0.0.1:{port}", dashboard=f"http://127.0.0.1:{dashboard}")
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


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _wait_for(done: Callable[[], bool], seconds: float, what: str) -> None:
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
