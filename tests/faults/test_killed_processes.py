"""Processes that are killed: none of theirs stays behind, and the run loses nothing that it had."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import duckdb
import psutil
import pytest

from pipeline.faults import VARIABLE
from pipeline.standin_backend import STAND_IN

pytestmark = [pytest.mark.ray, pytest.mark.faults, pytest.mark.footage]

GONE_WITHIN_S = 5


@pytest.fixture
def long_clip(footage: Path, tmp_path: Path) -> Path:
    """Return footage under a name of its own, by which its ffmpeg processes are told."""
    clip = tmp_path / "long-and-unlike-others.mp4"
    clip.write_bytes((footage / "intel_one-by-one-person-detection.mp4").read_bytes())
    return clip


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start a backfill as a command; whatever becomes of the test, it is gone afterwards."""
    started: list[subprocess.Popen[str]] = []

    def start_one(clip: Path, *arguments: str) -> subprocess.Popen[str]:
        # A small cap, and a detector that needs 10 ms: segments wait, so that ffmpeg is still there.
        command = [sys.executable, "-m", "jobs.backfill", "--input", str(clip), "--output"]
        command += [
            str(tmp_path / "out"),
            "--memory-limit-mb",
            "256",
            "--model",
            STAND_IN,
            *arguments,
        ]
        child = subprocess.Popen(
            command,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, VARIABLE: "detect:*:*:SLOW=10"},
        )
        started.append(child)
        return child

    yield start_one
    for child in started:
        child.kill()
        child.communicate()


def ffmpegs_of(clip: Path) -> list[psutil.Process]:
    """Return the ffmpeg processes that read a clip."""
    found = []
    for process in psutil.process_iter(["name", "cmdline"]):
        line = process.info["cmdline"] or []
        if "ffmpeg" in (process.info["name"] or "") and any(clip.name in word for word in line):
            found.append(process)
    return found


def runs(process: psutil.Process) -> bool:
    """Say whether a process does anything still.

    One that nobody has reaped does not. Ray's own agents look for their node every now and then, and
    take most of a minute to go.
    """
    try:
        return process.status() != psutil.STATUS_ZOMBIE and "Agent" not in process.name()
    except psutil.NoSuchProcess:
        return False


def wait_until(done: Callable[[], object], seconds: float, what: str) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(0.1)


@pytest.mark.long
def test_no_ffmpeg_outlives_a_killed_driver(
    start: Callable[..., subprocess.Popen[str]], long_clip: Path
) -> None:
    driver = start(long_clip)
    wait_until(lambda: ffmpegs_of(long_clip), 90, "an ffmpeg reads the clip")
    family = psutil.Process(driver.pid).children(recursive=True)
    os.kill(driver.pid, signal.SIGKILL)
    wait_until(lambda: not ffmpegs_of(long_clip), GONE_WITHIN_S, "its ffmpeg is gone")
    # Nor does the local Ray that it started.
    wait_until(lambda: not any(runs(process) for process in family), 30, "its Ray is gone")


def test_no_ffmpeg_outlives_a_killed_worker_and_no_frame_is_lost(
    start: Callable[..., subprocess.Popen[str]], long_clip: Path, tmp_path: Path, ray_head: object
) -> None:
    driver = start(long_clip, "--address", ray_head.address)  # type: ignore[attr-defined]
    wait_until(lambda: ffmpegs_of(long_clip), 90, "an ffmpeg reads the clip")
    (ffmpeg,) = ffmpegs_of(long_clip)
    worker = ffmpeg.parent()
    assert worker is not None
    os.kill(worker.pid, signal.SIGKILL)
    wait_until(lambda: not ffmpeg.is_running(), GONE_WITHIN_S, "its ffmpeg is gone")
    output, _ = driver.communicate(timeout=200)
    assert driver.returncode == 0, output
    frames = duckdb.execute(
        "select sum(frames), count(distinct segment) from read_parquet(?) where step = 'detect'",
        [f"{tmp_path}/out/metrics/*.parquet"],
    ).fetchall()
    assert frames == [(1394, 14)]
    assert "1394 frames" in output
