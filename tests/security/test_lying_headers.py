"""A header that claims what cannot be is refused, or the frames that are there come through."""

import math
import resource
import struct
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from jobs.console import clock
from pipeline.decode import DecodeSettings
from pipeline.demux import DemuxSettings
from pipeline.errors import SourceError
from pipeline.ffmpeg import DECODER_LIMITS, LONGEST_S, MAX_STREAMS
from pipeline.probe import FASTEST_FPS, probe
from pipeline.records import Recording
from tests.footage.clips import cut_one, decoded, footages_of, run_ffmpeg
from tests.probing import probe_paths
from tests.security.hostile import (
    FRAMES,
    make_clip,
    with_duration,
    with_field,
    with_mjpeg_size,
    with_tagged_duration,
)

MAX_U32 = struct.pack(">I", 0xFFFFFFFF)
MAX_I32 = struct.pack(">I", 0x7FFFFFFF)
# Claims about time and number, each made by a change of a sound file.
MKV_CLAIMS: dict[str, Callable[[bytes], bytes]] = {
    "endless": lambda data: with_duration(data, 1e300),
    "infinite": lambda data: with_duration(data, math.inf),
    "no number": lambda data: with_duration(data, math.nan),
    "negative": lambda data: with_duration(data, -5000.0),
    "31,000 years": lambda data: with_duration(data, 1e15),
    "tagged endless": lambda data: with_tagged_duration(data, b"99999999999:59:59.0"),
}
MP4_CLAIMS: dict[str, Callable[[bytes], bytes]] = {
    "endless": lambda data: with_field(data, b"mvhd", 16, MAX_U32),
    "negative": lambda data: with_field(data, b"mdhd", 16, struct.pack(">i", -5)),
    "two billion frames": lambda data: with_field(data, b"stts", 8, MAX_I32),
    "60,000 pixels wide": lambda data: data.replace(
        struct.pack(">HH", 176, 144), struct.pack(">HH", 60_000, 60_000)
    ),
}


@pytest.mark.timeout(30)
@pytest.mark.parametrize("claim", MKV_CLAIMS)
def test_a_duration_that_cannot_be_counts_as_not_said(
    mkv: Path, tmp_path: Path, claim: str
) -> None:
    path = tmp_path / "clip.mkv"
    path.write_bytes(MKV_CLAIMS[claim](mkv.read_bytes()))

    (found,) = probe_paths([str(path)])

    assert_sane(found)
    assert frames_that_decode(path) == FRAMES


@pytest.mark.timeout(30)
@pytest.mark.parametrize("claim", MP4_CLAIMS)
def test_an_index_that_claims_too_much_gives_the_frames_that_are_there(
    mp4: Path, tmp_path: Path, claim: str
) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(MP4_CLAIMS[claim](mp4.read_bytes()))

    (found,) = probe_paths([str(path)])

    assert_sane(found)
    assert frames_that_decode(path) == FRAMES


@pytest.mark.timeout(30)
def test_frames_that_claim_to_last_for_days_come_or_are_counted_as_lost(
    mp4: Path, tmp_path: Path
) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(with_field(mp4.read_bytes(), b"stts", 12, MAX_I32))

    (found,) = probe_paths([str(path)])
    segments, end = cut_one(footages_of(str(path))[0], DemuxSettings())

    assert_sane(found)
    wanted = sum(segment.wanted for segment in segments)
    assert wanted + sum(failure.frames for failure in end.failures) == FRAMES


@pytest.mark.timeout(30)
@pytest.mark.parametrize("size_px", [60_000, 16_000])
def test_a_picture_of_too_many_pixels_is_refused_by_name_of_the_limit(
    mjpeg: Path, tmp_path: Path, size_px: int
) -> None:
    path = tmp_path / "huge.avi"
    path.write_bytes(with_mjpeg_size(mjpeg.read_bytes(), size_px, in_header=True))

    with pytest.raises(SourceError, match=r"video track 0 claims no size .* 67108864 pixels"):
        probe(str(path))


@pytest.mark.timeout(30)
def test_pictures_that_grow_in_the_middle_of_a_recording_cost_themselves_alone(
    mjpeg: Path, tmp_path: Path
) -> None:
    path = tmp_path / "grows.avi"
    path.write_bytes(with_mjpeg_size(mjpeg.read_bytes(), 60_000, in_header=False, after=20))
    before = peak_mb()

    (footage,) = footages_of(str(path))
    segments, _ = cut_one(footage, DemuxSettings())
    got = decoded(segments, DecodeSettings())

    assert got.frame_index == list(range(20))
    assert got.failed == FRAMES - 20
    assert peak_mb() - before < 200


@pytest.mark.timeout(60)
@pytest.mark.parametrize("carried_bytes", [1, 32 << 20])
def test_a_decoder_allocates_no_frame_beyond_the_limit(
    tmp_path: Path, carried_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """H.264 tells its size in the stream, so that it may grow after the probe."""
    path = make_clip(tmp_path / "clip.mp4")
    (footage,) = footages_of(str(path))
    segments, _ = cut_one(footage, DemuxSettings(carried_bytes=carried_bytes))
    monkeypatch.setitem(DECODER_LIMITS, "max_pixels", str(100 * 100))

    # As PyAV gets it: decord takes no limit.
    got = decoded([replace(segment, damaged=True) for segment in segments], DecodeSettings())

    assert len(got.frame_index) == 0
    assert got.failed == FRAMES


def test_a_probe_decodes_no_frame_beyond_the_limit(
    mp4: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(DECODER_LIMITS, "max_pixels", str(100 * 100))

    with pytest.raises(SourceError, match="claims no size"):
        probe(str(mp4))


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", ["many.mp4", "many.nut"])
def test_500_video_tracks_are_refused_in_little_time_and_memory(
    mp4: Path, tmp_path: Path, name: str
) -> None:
    path = tmp_path / name
    run_ffmpeg("-i", mp4, *["-map", "0:v"] * 500, "-c", "copy", "-t", "0.2", path)
    began, before = time.monotonic(), peak_mb()

    with pytest.raises(SourceError, match="cannot be read as footage"):
        probe(str(path))

    assert time.monotonic() - began < 10
    assert peak_mb() - before < 500


def test_too_many_streams_are_named_as_such(mp4: Path, tmp_path: Path) -> None:
    path = tmp_path / "many.mp4"
    run_ffmpeg("-i", mp4, *["-map", "0:v"] * 200, "-c", "copy", "-t", "0.2", path)

    with pytest.raises(SourceError, match=f"more than {MAX_STREAMS} streams"):
        probe(str(path))


def assert_sane(found: Recording | SourceError) -> None:
    assert isinstance(found, Recording)
    (track,) = found.video_tracks
    assert 0 <= track.rate_fps <= FASTEST_FPS
    assert track.duration_s is None or 0 < track.duration_s <= LONGEST_S
    assert 0 <= track.expected_frames <= found.size_bytes
    assert len(clock(track.duration_s or 0.0)) < 12


def frames_that_decode(path: Path) -> int:
    (footage,) = footages_of(str(path))
    segments, _ = cut_one(footage, DemuxSettings())
    return len(decoded(segments, DecodeSettings()).frame_index)


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
