"""An output that fills up in the middle of a run."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from jobs.backfill import run_job
from jobs.settings import JobSettings
from pipeline.errors import OutputError

pytestmark = [pytest.mark.ray, pytest.mark.faults, pytest.mark.footage]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a disk of 60 kB; skip where one may not mount."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=60k", "tmpfs", str(disk)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"cannot mount a disk here: {done.stderr.strip()}")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def test_a_full_disk_stops_the_run_with_an_error_that_names_the_output(
    small_disk: Path, footage: Path, ray_head: Any
) -> None:
    settings = JobSettings(
        input=(str(footage / "TUD-Campus.mp4"),),
        output=str(small_disk / "out"),
        address=ray_head.address,
    )
    with pytest.raises(
        OutputError, match=r"disk/out.* cannot be written: .*No space left"
    ) as caught:
        run_job(settings, Console(quiet=True))
    assert "\n" not in str(caught.value)
    assert not (small_disk / "out" / "summary.json").exists()
