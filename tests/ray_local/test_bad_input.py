"""Mistakes of a user, each a clear line that names the thing; bad recordings beside good ones."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.ffmpeg import find_ffmpeg
from pipeline.weights import cache_folder


def backfill(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "jobs.backfill", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    source = "testsrc2=size=160x128:rate=25:duration=2"
    command = [find_ffmpeg(), "-v", "error", "-f", "lavfi", "-i", source, "-c:v", "mpeg4", path]
    subprocess.run(list(map(str, command)), check=True)
    return path


def wrong(tmp_path: Path, clip: Path) -> dict[str, tuple[list[object], str]]:
    """Return command lines that cannot be right, each with what its message must name."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "wrong.toml").write_text("batch_sise = 3\n")
    weights = (cache_folder() / "weights" / "yolov8n.pt").read_bytes()
    (tmp_path / "yolov8n.pt").write_bytes(weights[:-1] + b"x")
    (tmp_path / "mine.pt").write_bytes(b"not known")
    good = ["--input", clip, "--output", tmp_path / "out"]
    return {
        "missing path": (["--input", tmp_path / "no.mkv", "--output", tmp_path / "o"], "no.mkv"),
        "empty folder": (["--input", tmp_path / "empty", "--output", tmp_path / "o"], "no video"),
        "no input": (["--output", tmp_path / "o"], "--input"),
        "no output": (["--input", clip], "--output"),
        "no such video track": ([*good, "--video-tracks", "4"], "there are: 0"),
        "unknown model": ([*good, "--model", "yolov99.pt"], "yolov8n.pt"),
        "wrong hash": ([*good, "--model", tmp_path / "yolov8n.pt"], "SHA-256"),
        "unknown hash": ([*good, "--model", tmp_path / "mine.pt"], "--trust-weights"),
        "unknown class": ([*good, "--classes", "ghost"], "ghost"),
        "output in the way": (["--input", clip, "--output", tmp_path / "file" / "x"], "file"),
        "unknown key": ([*good, "--config", tmp_path / "wrong.toml"], "batch_sise"),
        "impossible value": ([*good, "--stride", "0"], "stride"),
        "no cluster": ([*good, "--address", "127.0.0.1:1"], "127.0.0.1:1"),
        "no CUDA": ([*good, "--device", "cuda"], "GPU"),
    }


@pytest.mark.parametrize(
    "mistake",
    [
        "missing path", "empty folder", "no input", "no output", "no such video track",
        "unknown model", "wrong hash", "unknown hash", "unknown class", "output in the way",
        "unknown key", "impossible value",
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_that_names_it_and_exit_code_2(
    mistake: str, tmp_path: Path, clip: Path
) -> None:
    arguments, named = wrong(tmp_path, clip)[mistake]
    done = backfill(*arguments)
    assert done.returncode == 2
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("footfall backfill: ")
    assert named in lines[0]
    assert not (tmp_path / "out" / "summary.json").exists()


@pytest.mark.ray
def test_a_device_that_is_not_there_is_a_wrong_setting(
    tmp_path: Path, clip: Path, ray_head: object
) -> None:
    arguments, named = wrong(tmp_path, clip)["no CUDA"]
    where = ["--address", ray_head.address, "--wait-for-nodes-s", "1"]  # type: ignore[attr-defined]
    done = backfill(*arguments, *where)
    assert "Waiting for nodes: none has a GPU; for 1 s at most" in done.stdout
    assert done.returncode == 2, done.stdout + done.stderr
    assert named in done.stderr
    assert "Traceback" not in done.stderr


def test_an_earlier_runs_results_are_kept_unless_told_otherwise(tmp_path: Path, clip: Path) -> None:
    (tmp_path / "run.json").write_text('{"run_id": "x"}')
    (tmp_path / "summary.json").write_text("{}")
    done = backfill("--input", clip, "--output", tmp_path)
    assert done.returncode == 2
    assert "--overwrite" in done.stderr
    assert (tmp_path / "summary.json").read_text() == "{}"


@pytest.mark.ray
def test_bad_recordings_are_recorded_and_the_good_ones_finish(
    run: Callable, tmp_path: Path, clip: Path
) -> None:
    folder = tmp_path / "archive"
    folder.mkdir()
    good = clip.read_bytes()
    (folder / "good.mp4").write_bytes(good)
    (folder / "text.mp4").write_text("this is no video\n" * 100)
    (folder / "zero.mp4").write_bytes(b"")
    sine = ["-f", "lavfi", "-i", "sine=duration=1", "-c:a", "aac"]
    audio = [find_ffmpeg(), "-v", "error", *sine, folder / "audio.mp4"]
    subprocess.run(list(map(str, audio)), check=True)
    faststart = ["-c", "copy", "-movflags", "+faststart", folder / "cut.mp4"]
    moved = [find_ffmpeg(), "-v", "error", "-i", clip, *faststart]
    subprocess.run(list(map(str, moved)), check=True)
    half = (folder / "cut.mp4").read_bytes()
    (folder / "cut.mp4").write_bytes(half[: len(half) * 6 // 10])

    job = run(folder)
    assert job.exit_code == 3
    assert job.summary["status"] == "partial"
    failed = dict(
        job.query("failures", "select parse_filename(source_uri), any_value(message)", "group by 1")
    )
    assert set(failed) == {"text.mp4", "zero.mp4", "audio.mp4", "cut.mp4"}
    assert "0 bytes" in failed["zero.mp4"]
    assert "no video track" in failed["audio.mp4"]
    tracks = {
        Path(recording["source_uri"]).name: recording["video_tracks"]
        for recording in job.summary["recordings"]
    }
    assert tracks["good.mp4"][0]["status"] == "completed"
    assert tracks["good.mp4"][0]["frames"] == 50
    assert tracks["cut.mp4"][0]["status"] == "partial"
    assert 0 < tracks["cut.mp4"][0]["frames"] < 50
    assert tracks["cut.mp4"][0]["frames"] + tracks["cut.mp4"][0]["frames_failed"] == 50
    assert tracks["text.mp4"] == []


def test_a_run_without_anything_readable_needs_no_ray_and_says_why(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_text("no video")
    done = backfill("--input", tmp_path / "a.mp4", "--output", tmp_path / "out")
    assert done.returncode == 3
    assert "a.mp4" in done.stdout
    assert "cannot be read as footage" in done.stdout
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["status"] == "failed"
