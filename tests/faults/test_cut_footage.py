"""A camera's footage is one video track in time, however its recorder cut it into files."""

import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import av
import pytest

from jobs.soak_footage import RATE_FPS, film
from pipeline.ffmpeg import find_ffmpeg

pytestmark = [pytest.mark.long, pytest.mark.ray]

FRAMES = 900
BEGAN = datetime(2026, 1, 15, 9, 0, 0, 700_000, tzinfo=UTC)


def tracked(job: Any, first_frames: dict[str, int]) -> dict[tuple[int, float, float], int]:
    """Return the track of each box, told by its frame in the whole and its anchor."""
    columns = "select parse_filename(source_uri), frame_index, anchor_x, anchor_y, track_id"
    return {
        (first_frames[name] + frame, round(x, 1), round(y, 1)): track_id
        for name, frame, x, y, track_id in job.query("movements", columns)
    }


def test_six_recordings_give_the_tracks_of_the_uncut_one(
    fast_run: Callable, tmp_path: Path
) -> None:
    whole = tmp_path / "whole.mkv"
    film(whole, [7], first=0, frames=FRAMES)
    # Cut where keyframes are, and not at whole seconds; names tell whole seconds, rounded down.
    folder = tmp_path / "cut"
    folder.mkdir()
    command = [
        find_ffmpeg(), "-v", "error", "-i", whole, "-c", "copy", "-f", "segment",
        "-segment_frames", "140,240,430,590,740", "-reset_timestamps", "1",
        folder / "%d.mkv",
    ]  # fmt: skip
    subprocess.run(list(map(str, command)), check=True)
    first_frames = {"whole.mkv": 0}
    first = 0
    for number in range(6):
        with av.open(folder / f"{number}.mkv") as container:
            frames = sum(packet.size > 0 for packet in container.demux(video=0))
        began = BEGAN + timedelta(seconds=first / RATE_FPS)
        name = f"door_{began:%Y%m%d_%H%M%S}.mkv"
        (folder / f"{number}.mkv").rename(folder / name)
        first_frames[name] = first
        first += frames
    assert (first, len(first_frames)) == (FRAMES, 7)
    cameras = tmp_path / "cameras.toml"
    cameras.write_text(
        '[[camera]]\nid = "door"\nrecording = "door_*"\nstart_time = "door_%Y%m%d_%H%M%S"\n'
    )
    uncut = tracked(fast_run(whole, name="uncut"), first_frames)
    cut = tracked(fast_run(folder, cameras=str(cameras), name="cut"), first_frames)
    # What is interpolated across a cut may lie elsewhere by a hair; all else is the same boxes.
    common = uncut.keys() & cut.keys()
    assert len(common) >= 0.995 * len(uncut)
    ids = {(uncut[at], cut[at]) for at in common}
    assert len({one for one, _ in ids}) == len(ids) == len({other for _, other in ids})
