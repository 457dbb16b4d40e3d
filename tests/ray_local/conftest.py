"""The footage that tests of whole runs share."""

import subprocess
from pathlib import Path

import pytest

from pipeline.ffmpeg import find_ffmpeg

THREE_CLIPS = ("TUD-Stadtmitte.mp4", "TUD-Campus.mp4", "intel_one-by-one-person-detection.mp4")


@pytest.fixture(scope="session")
def three_tracks(footage: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an MKV of three clips as three video tracks, copied and not encoded again."""
    path = tmp_path_factory.mktemp("mkv") / "three.mkv"
    inputs = [arg for clip in THREE_CLIPS for arg in ("-i", footage / clip)]
    maps = [arg for number in range(len(THREE_CLIPS)) for arg in ("-map", f"{number}:v")]
    command = [find_ffmpeg(), "-v", "error", *inputs, *maps, "-c", "copy", path]
    subprocess.run(list(map(str, command)), check=True)
    return path


@pytest.fixture(scope="session")
def eight_segments(footage: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a clip of 795 frames that is cut into 8 segments."""
    path = tmp_path_factory.mktemp("eight") / "eight.mp4"
    clip = footage / THREE_CLIPS[2]
    command = [find_ffmpeg(), "-v", "error", "-i", clip, "-t", "79.4", "-c", "copy", path]
    subprocess.run(list(map(str, command)), check=True)
    return path
