"""The frames that reach the detector are those of the recording: all of them, bit for bit."""

import io
import re
from pathlib import Path

import numpy as np
import pytest

from pipeline.decode import DecodeSettings, decode, suits_decord
from pipeline.decoders import DecordDecoder, PyavDecoder
from pipeline.demux import DemuxSettings
from pipeline.letterbox import PAD_GREY
from pipeline.probe import probe
from pipeline.records import Segment
from pipeline.warmup import warm_up_segment
from tests.footage.clips import (
    FRAMES,
    ClipFolder,
    assert_same,
    cut_one,
    decoded,
    footages_of,
    picture,
    plain_decode,
    run_ffmpeg,
)

# PyAV takes what decord may not run ahead in.
PYAV_ALONE = DecodeSettings(ahead_bytes=0)


@pytest.mark.parametrize("segment_frames", [20, 100])
def test_frames_equal_a_plain_decode_of_the_whole_file(clip: str, segment_frames: int) -> None:
    (footage,) = footages_of(clip)

    segments, end = cut_one(footage, DemuxSettings(segment_frames=segment_frames))
    got = decoded(segments, DecodeSettings())

    assert_same(got, plain_decode(clip, footage))
    assert got.failures == end.failures == ()


def test_pyav_alone_gives_the_frames_of_a_plain_decode(clip: str) -> None:
    (footage,) = footages_of(clip)

    segments, _ = cut_one(footage, DemuxSettings(segment_frames=20))
    got = decoded(segments, PYAV_ALONE)

    assert not any(suits_decord(segment, PYAV_ALONE) for segment in segments)
    assert_same(got, plain_decode(clip, footage))


@pytest.mark.parametrize(
    "name",
    ["h264", "h264_open_gop", "hevc_open_gop", "hevc_10_bit", "mpeg4", "mpeg2", "vp9", "av1"],
)
def test_decord_alone_gives_the_frames_of_pyav(clips: ClipFolder, name: str) -> None:
    (footage,) = footages_of(clips[name])
    segments, _ = cut_one(footage, DemuxSettings(segment_frames=20))
    both = [segment for segment in segments if suits_decord(segment, DecodeSettings())]

    assert len(both) >= 2
    for segment in both:
        by_decord = list(DecordDecoder().frames(segment))
        by_pyav = list(PyavDecoder().frames(segment))
        assert [row for row, _ in by_decord] == [row for row, _ in by_pyav]
        assert [row for row, _ in by_decord] == list(range(segment.wanted))
        assert all(np.array_equal(a, b) for (_, a), (_, b) in zip(by_decord, by_pyav, strict=True))


@pytest.mark.parametrize("segment_frames", [20, 100])
@pytest.mark.parametrize("batch_size", [1, 7, 10, 32])
@pytest.mark.parametrize("name", ["hevc_open_gop", "turned_90"])
def test_batch_size_changes_no_frame(
    clips: ClipFolder, name: str, batch_size: int, segment_frames: int
) -> None:
    (footage,) = footages_of(clips[name])

    segments, _ = cut_one(footage, DemuxSettings(segment_frames=segment_frames))
    got = decoded(segments, DecodeSettings(batch_size=batch_size))

    assert_same(got, plain_decode(clips[name], footage))


def test_batches_cover_a_segment_in_order_and_are_full_but_the_last(clips: ClipFolder) -> None:
    segment = first_segment(clips["mpeg4"])

    batches = list(decode(segment, DecodeSettings(batch_size=7)))

    stretches = [(batch.stretch.start, batch.stretch.stop) for batch in batches]
    starts = range(0, segment.wanted, 7)
    assert stretches == [(start, min(start + 7, segment.wanted)) for start in starts]
    assert {batch.stretch.wanted for batch in batches} == {segment.wanted}
    assert np.concatenate([batch.positions for batch in batches]).tolist() == list(
        range(segment.wanted)
    )


def test_no_two_frames_of_a_clip_are_alike(clip: str) -> None:
    (footage,) = footages_of(clip)
    frames = plain_decode(clip, footage)

    assert len({frame.tobytes() for frame in frames.pixels}) == len(frames)


@pytest.mark.parametrize(
    ("name", "top_px", "left_px"), [("h264", 11, 0), ("turned_90", 0, 11), ("odd_size", 11, 0)]
)
@pytest.mark.parametrize("settings", [DecodeSettings(), PYAV_ALONE], ids=["decord", "pyav"])
def test_padding_is_grey_and_only_around_the_picture(
    clips: ClipFolder, name: str, top_px: int, left_px: int, settings: DecodeSettings
) -> None:
    (footage,) = footages_of(clips[name])
    box = footage.letterbox
    segments, _ = cut_one(footage, DemuxSettings())

    frames = np.concatenate([batch.pixels for batch in decode(segments[0], settings)])
    outside = np.ones(frames.shape[1:3], bool)
    picture(outside, box)[:] = False

    assert (box.top_px, box.left_px) == (top_px, left_px)
    assert outside.any()
    assert (frames[:, outside] == PAD_GREY).all()
    assert all(picture(frame, box).std() > 10 for frame in frames)


@pytest.mark.parametrize(
    "name",
    [
        "h264", "h264_open_gop", "hevc_open_gop_ts", "mpeg4_avi", "mpeg2_ps", "vp9", "av1",
        "odd_size", "varying_rate", "edit_list", "turned_90", "turned_180", "turned_270",
    ],
)  # fmt: skip
def test_frames_equal_those_of_the_ffmpeg_program(clips: ClipFolder, name: str) -> None:
    """ffmpeg itself turns frames upright and leaves out what an edit list hides."""
    width, height = probe(clips[name]).video_tracks[0].upright_size
    (footage,) = footages_of(clips[name], max(width, height))
    assert (footage.letterbox.scaled_width, footage.letterbox.scaled_height) == (width, height)

    raw = run_ffmpeg(
        *("-i", clips[name], "-fps_mode", "passthrough"),
        *("-f", "rawvideo", "-pix_fmt", "rgb24", "pipe:1"),
    )
    by_ffmpeg = np.frombuffer(raw, np.uint8).reshape(-1, height, width, 3)
    segments, _ = cut_one(footage, DemuxSettings(segment_frames=20))
    got = decoded(segments, DecodeSettings())

    assert len(got) == len(by_ffmpeg)
    # Other builds of FFmpeg may round a colour otherwise; another frame would differ by far more.
    difference = np.abs(got.pixels.astype(np.int16) - by_ffmpeg)
    assert difference.reshape(len(got), -1).mean(1).max() < 1


@pytest.mark.parametrize("name", ["h264", "hevc_open_gop", "mpeg4", "mjpeg", "varying_rate"])
def test_times_are_those_that_the_ffmpeg_program_counts(clips: ClipFolder, name: str) -> None:
    (footage,) = footages_of(clips[name])
    lines = run_ffmpeg(
        *("-i", clips[name], "-fps_mode", "passthrough", "-enc_time_base", "1:1000000"),
        *("-copyts", "-f", "framemd5", "pipe:1"),
    ).decode()
    by_ffmpeg = [int(line.split(",")[2]) / 1e6 for line in re.findall(r"^0,.*", lines, re.M)]

    segments, _ = cut_one(footage, DemuxSettings(segment_frames=20))
    got = decoded(segments, DecodeSettings())

    assert got.pts_s == pytest.approx(by_ffmpeg, abs=1e-6)


@pytest.mark.parametrize(
    ("name", "rotation_deg", "upright_size"),
    [
        ("h264", 0, (176, 144)),
        ("turned_90", 90, (144, 176)),
        ("turned_180", 180, (176, 144)),
        ("turned_270", 270, (144, 176)),
    ],
)
def test_probe_tells_how_frames_are_turned(
    clips: ClipFolder, name: str, rotation_deg: int, upright_size: tuple[int, int]
) -> None:
    (track,) = probe(clips[name]).video_tracks

    assert track.rotation_deg == rotation_deg
    assert (track.width, track.height) == (176, 144)
    assert track.upright_size == upright_size


def test_probe_tells_what_the_container_says(clips: ClipFolder) -> None:
    recording = probe(clips["h264"])
    (track,) = recording.video_tracks

    assert recording.source_uri == clips["h264"]
    assert recording.size_bytes == Path(clips["h264"]).stat().st_size
    assert "mp4" in recording.container
    assert (track.codec, track.frames, track.rate_fps) == ("h264", FRAMES, 25.0)
    assert track.duration_s == pytest.approx(FRAMES / 25)
    assert track.expected_frames == FRAMES


def test_a_warm_up_segment_decodes_to_grey_by_decord(clips: ClipFolder) -> None:
    (footage,) = footages_of(clips["h264"], 320)

    segment = warm_up_segment(footage.letterbox, 10)
    (batch,) = decode(segment, DecodeSettings(batch_size=10))

    assert suits_decord(segment, DecodeSettings())
    assert batch.frame_index.tolist() == list(range(10))
    assert batch.failures == ()
    assert np.abs(batch.pixels.astype(int) - PAD_GREY).max() <= 2


def test_a_segment_carries_its_packets_and_no_recording(clips: ClipFolder) -> None:
    segment = first_segment(clips["h264"])
    Path(clips["h264"]).rename(moved := f"{clips['h264']}.moved")
    try:
        got = decoded([segment], DecodeSettings())
    finally:
        Path(moved).rename(segment.footage.source_uri)

    assert io.BytesIO(segment.data).read(4) == b"nut/"
    assert got.frame_index == segment.frame_index.tolist()


def first_segment(path: str) -> Segment:
    (footage,) = footages_of(path)
    segments, _ = cut_one(footage, DemuxSettings(segment_frames=20))
    return segments[0]
