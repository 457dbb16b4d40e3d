"""An output that fills up, or may not be written any more, in the middle of a run."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from jobs.soak import compare_tables
from jobs.soak_footage import film
from pipeline.verify import verify

pytestmark = [pytest.mark.long, pytest.mark.ray, pytest.mark.faults, pytest.mark.timeout(900)]

TABLES = ("detections", "movements", "tracks", "failures")


def mount(*arguments: str | Path) -> None:
    done = subprocess.run(
        ["mount", *map(str, arguments)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"cannot mount a disk here: {done.stderr.strip()}")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a disk of 20 MB; skip where one may not mount."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount("-t", "tmpfs", "-o", "size=20m", "tmpfs", folder)
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextmanager
def full(disk: Path) -> Iterator[None]:
    ballast = disk / "ballast"
    # Unbuffered: what a buffer holds back would be written, and fail, when it is closed.
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(b"\0" * 4096):
            pass
    yield
    ballast.unlink()


@contextmanager
def read_only(disk: Path) -> Iterator[None]:
    mount("-o", "remount,ro", disk)
    yield
    mount("-o", "remount,rw", disk)


@pytest.mark.parametrize(
    ("fault", "reason"), [(full, "No space left"), (read_only, "Read-only file system")]
)
def test_an_output_that_cannot_be_written_stops_the_run_and_what_was_committed_is_whole(
    fault: Callable[[Path], Any],
    reason: str,
    disk: Path,
    tmp_path: Path,
    fast_run: Callable,
    ray_head: Any,
) -> None:
    clip = tmp_path / "long.mkv"
    film(clip, [1, 2], first=0, frames=800)
    calm = fast_run(clip, name="calm")
    output = disk / "out"
    command = [
        sys.executable, "-m", "jobs.backfill", "--input", str(clip), "--output", str(output),
        "--model", "stand-in", "--image-size", "320", "--part-mb", "0.02",
        "--address", ray_head.address,
    ]  # fmt: skip
    driver = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + 90
    while not list(output.glob("ledger/*/part-*.json")):
        assert driver.poll() is None
        assert time.monotonic() < end
        time.sleep(0.02)
    with fault(disk):
        _, said = driver.communicate(timeout=90)
        assert driver.returncode == 1, said
        assert "disk/out' cannot be written: " in said
        assert reason in said
        assert "Traceback" not in said
        committed = verify(output)
        # What is not whole was not committed, and is swept by the next start.
        assert all("half written" in p.what or "no entry" in p.what for p in committed.problems)
        assert committed.frames > 0
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    for table in TABLES:
        assert compare_tables(calm.output, output, table) == (0, 0, 0), table
    assert verify(output).problems == []
