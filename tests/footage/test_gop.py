"""The probe's look at keyframes: how far apart they lie, whatever the container tells."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from pipeline.probe import probe

GOP = 40


def film(path: Path, frames: int, tracks: int = 1, gop: int = GOP) -> Path:
    """Write H.264 with a keyframe every `gop` frames."""
    random = np.random.default_rng(1)
    with av.open(path, "w") as container:
        streams = []
        for _ in range(tracks):
            options = {"x264-params": f"keyint={gop}:min-keyint={gop}:scenecut=0"}
            stream = container.add_stream("libx264", rate=25, options=options)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            streams.append(stream)
        for number in range(frames):
            for stream in streams:
                picture = random.integers(0, 255, (48, 64, 3), np.uint8)
                frame = av.VideoFrame.from_ndarray(picture, "rgb24")
                frame.pts, frame.time_base = number, Fraction(1, 25)
                container.mux(stream.encode(frame))
        for stream in streams:
            container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
def test_the_longest_run_between_keyframes_is_found(tmp_path: Path, suffix: str) -> None:
    path = film(tmp_path / f"clip{suffix}", 3 * GOP + 5)
    (track,) = probe(str(path)).video_tracks
    assert track.gop_frames == GOP
    assert 0 < track.gop_bytes < path.stat().st_size / 2
    assert track.picture_bytes == 64 * 48 * 3 // 2
    assert track.level > 0


def test_each_video_track_has_its_own(tmp_path: Path) -> None:
    tracks = probe(str(film(tmp_path / "two.mkv", 3 * GOP, tracks=2))).video_tracks
    assert [track.gop_frames for track in tracks] == [GOP, GOP]


def test_footage_with_one_keyframe_counts_as_far_as_it_goes(tmp_path: Path) -> None:
    (track,) = probe(str(film(tmp_path / "one.mkv", 90, gop=1000))).video_tracks
    assert track.gop_frames == 90


def test_damage_ends_the_look_and_not_the_probe(tmp_path: Path) -> None:
    path = film(tmp_path / "clip.mkv", 3 * GOP)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    (track,) = probe(str(path)).video_tracks
    assert track.gop_frames == GOP
