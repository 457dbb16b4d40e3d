"""The job as the README submits it: `ray job submit` to a running cluster."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.ray, pytest.mark.footage]

ROOT = Path(__file__).parent.parent.parent
LINE = r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d - INFO - "


def submit(ray_head: Any, *arguments: str) -> subprocess.CompletedProcess[str]:
    ray = Path(sys.executable).with_name("ray")
    command = [ray, "job", "submit", "--address", ray_head.dashboard, "--working-dir", ".", "--"]
    entrypoint = ["python", "-m", "jobs.backfill", *arguments]
    return subprocess.run(
        [str(word) for word in (*command, *entrypoint)],
        cwd=ROOT, capture_output=True, text=True, timeout=200, check=False, env={**os.environ},
    )  # fmt: skip


def test_a_submitted_job_does_what_the_command_does_and_says_so(
    ray_head: Any, three_tracks: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    done = submit(
        ray_head, "--input", str(three_tracks), "--output", str(out), "--video-tracks", "0,1"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    summary = json.loads((out / "summary.json").read_text())
    assert summary["status"] == "completed"
    (recording,) = summary["recordings"]
    assert [track["frames"] for track in recording["video_tracks"]] == [179, 71]
    # Its lines are those of the old service, and reach who submitted it.
    for words in (
        r"Processing parameters: batch_size=10, memory_limit=1024 MB$",
        r"Found video track 1 of .*three\.mkv: mpeg4 640x480, 25 fps",
        r"Initial memory usage: \d+\.\d MB$",
        r"Video processing completed successfully$",
    ):
        assert re.search(LINE + words, done.stdout, re.MULTILINE), (words, done.stdout)


def test_relative_paths_are_refused_with_the_absolute_form(ray_head: Any, tmp_path: Path) -> None:
    done = submit(ray_head, "--input", "clips/a.mkv", "--output", str(tmp_path / "out"))
    assert done.returncode == 1
    assert '--input "$PWD/clips/a.mkv"' in done.stdout + done.stderr
    assert "exit code 2" in done.stdout + done.stderr


def test_the_upload_is_small() -> None:
    """What `ray job submit` would upload: the folder without what git ignores."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    files = [ROOT / name for name in listed.stdout.split("\0") if name]
    assert sum(path.stat().st_size for path in files if path.is_file()) < 5_000_000
