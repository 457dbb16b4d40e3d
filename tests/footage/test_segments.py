"""Segments tile a video track, decode by themselves, and are cut no sooner than they are wanted."""

import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import psutil
import pytest

from pipeline.decode import DecodeSettings, decode, suits_decord
from pipeline.demux import DemuxSettings, cut
from pipeline.records import FootageEnd, Segment
from pipeline.window import FootageWindow
from tests.footage.clips import (
    FRAMES,
    ClipFolder,
    Frames,
    assert_same,
    cut_one,
    decoded,
    footages_of,
    plain_decode,
    run_ffmpeg,
)

TRACKS = ["h264_open_gop", "mpeg4", "hevc_open_gop"]
START = datetime(2024, 5, 1, 12, 0, tzinfo=UTC)


@pytest.fixture(scope="module")
def three_tracks(clips: ClipFolder, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return a recording whose video tracks are three clips with different codecs."""
    path = tmp_path_factory.mktemp("tracks") / "three.mkv"
    inputs = [argument for name in TRACKS for argument in ("-i", clips[name])]
    maps = [argument for number in range(len(TRACKS)) for argument in ("-map", f"{number}:v")]
    run_ffmpeg(*inputs, *maps, "-c", "copy", path)
    return str(path)


@pytest.mark.parametrize("number", range(len(TRACKS)))
def test_a_video_track_among_others_is_cut_as_if_it_were_alone(
    clips: ClipFolder, three_tracks: str, number: int
) -> None:
    (alone,) = footages_of(clips[TRACKS[number]])
    together = footages_of(three_tracks)
    settings = DemuxSettings(segment_frames=20)

    expected, _ = cut_one(alone, settings)
    items = list(cut(together, settings))
    got = [item for item in segments_of(items) if item.footage is together[number]]

    assert [s.footage.track.codec for s in got] == [s.footage.track.codec for s in expected]
    assert [s.index for s in got] == list(range(len(expected)))
    for ours, theirs in zip(got, expected, strict=True):
        assert ours.positions.tolist() == theirs.positions.tolist()
        assert ours.frame_index.tolist() == theirs.frame_index.tolist()
        assert ours.pts_s.tolist() == theirs.pts_s.tolist()
        assert ours.packets == theirs.packets
    assert_same(decoded(got, DecodeSettings()), plain_decode(clips[TRACKS[number]], alone))


def test_every_video_track_ends_with_the_number_of_its_segments(three_tracks: str) -> None:
    footages = footages_of(three_tracks)

    items = list(cut(footages, DemuxSettings(segment_frames=20)))

    ends = [item for item in items if isinstance(item, FootageEnd)]
    assert [end.footage for end in ends] == [footage.key for footage in footages]
    for end in ends:
        own = [s.index for s in segments_of(items) if s.footage.key == end.footage]
        assert own == list(range(end.segments))
        assert end.segments >= 2
        assert end.failures == ()


def test_one_of_several_video_tracks_can_be_cut_alone(clips: ClipFolder, three_tracks: str) -> None:
    middle = footages_of(three_tracks)[1]

    segments, _ = cut_one(middle, DemuxSettings(segment_frames=20))

    (alone,) = footages_of(clips[TRACKS[1]])
    assert_same(decoded(segments, DecodeSettings()), plain_decode(clips[TRACKS[1]], alone))


def test_segments_tile_the_video_track(clip: str) -> None:
    (footage,) = footages_of(clip)

    segments, _ = cut_one(footage, DemuxSettings(segment_frames=1))

    numbers = np.concatenate([segment.frame_index for segment in segments])
    times = np.concatenate([segment.pts_s for segment in segments])
    assert numbers.tolist() == list(range(len(plain_decode(clip, footage))))
    assert (np.diff(times) > 0).all()
    for segment in segments:
        assert (np.diff(segment.positions) > 0).all()
        assert 0 <= segment.positions[0] <= segment.positions[-1] < segment.packets


def test_a_segment_ends_at_the_first_keyframe_after_enough_frames(clips: ClipFolder) -> None:
    (footage,) = footages_of(clips["h264"])

    lengths = {
        wanted: [s.wanted for s in cut_one(footage, DemuxSettings(segment_frames=wanted))[0]]
        for wanted in (1, 40, 41, 80, 1000)
    }

    assert lengths[1] == lengths[40] == [40, 40, 40, FRAMES - 120]
    assert lengths[41] == lengths[80] == [80, FRAMES - 80]
    assert lengths[1000] == [FRAMES]


def test_a_segment_of_an_open_group_of_pictures_holds_the_next_keyframe_unwanted(
    clips: ClipFolder,
) -> None:
    (footage,) = footages_of(clips["hevc_open_gop"])

    *closed, last = cut_one(footage, DemuxSettings(segment_frames=20))[0]

    assert closed
    for segment in closed:
        assert segment.packets == segment.wanted + 1
        left_out = set(range(segment.packets)) - set(segment.positions.tolist())
        # Shown behind the pictures that need it, so it is the last of them.
        assert left_out == {segment.packets - 1}
    assert last.packets == last.wanted


@pytest.mark.parametrize(
    ("name", "carried_bytes"),
    [
        ("h264_long_gop", 20_000),
        ("h264", 20_000),
        ("h264", 0),
        ("vp9", 20_000),
        ("turned_90", 0),
        ("hevc_open_gop", 0),
        ("mpeg2", 0),
        ("h264_open_gop", 5_000),
    ],
)
def test_a_run_too_long_to_carry_is_read_from_the_recording_itself(
    clips: ClipFolder, name: str, carried_bytes: int
) -> None:
    (footage,) = footages_of(clips[name])

    segments, _ = cut_one(footage, DemuxSettings(segment_frames=20, carried_bytes=carried_bytes))
    got = decoded(segments, DecodeSettings())

    assert all(segment.in_place and segment.data == b"" for segment in segments[:-1])
    assert segments[0].in_place
    assert not any(suits_decord(s, DecodeSettings()) for s in segments if s.in_place)
    assert_same(got, plain_decode(clips[name], footage))
    assert got.failures == ()


def test_a_run_is_carried_up_to_the_limit_to_the_byte(clips: ClipFolder) -> None:
    (footage,) = footages_of(clips["h264_long_gop"])
    size = sum(packet_sizes(clips["h264_long_gop"]))

    ((carried,), _) = cut_one(footage, DemuxSettings(carried_bytes=size))
    ((in_place,), _) = cut_one(footage, DemuxSettings(carried_bytes=size - 1))

    assert not carried.in_place
    assert len(carried.data) > size
    assert in_place.in_place


def test_a_video_track_of_several_is_read_in_place_by_its_own_number(
    clips: ClipFolder, three_tracks: str
) -> None:
    footage = footages_of(three_tracks)[0]
    # A segment without leading pictures behind it: the whole video track.
    settings = DemuxSettings(segment_frames=1000, carried_bytes=10_000)

    segments, _ = cut_one(footage, settings)

    assert [segment.in_place for segment in segments] == [True]
    (alone,) = footages_of(clips[TRACKS[0]])
    assert_same(decoded(segments, DecodeSettings()), plain_decode(clips[TRACKS[0]], alone))


@pytest.mark.parametrize("stride", [2, 7, 50])
@pytest.mark.parametrize(
    "name",
    ["h264", "h264_open_gop", "hevc_open_gop", "mpeg4", "vp9", "av1", "turned_90", "edit_list"],
)
def test_stride_takes_every_nth_frame_and_keeps_its_number(
    clips: ClipFolder, name: str, stride: int
) -> None:
    (footage,) = footages_of(clips[name])
    everything = plain_decode(clips[name], footage)

    strided = replace(footage, stride=stride)
    segments, _ = cut_one(strided, DemuxSettings(segment_frames=20))
    got = decoded(segments, DecodeSettings())

    assert not any(suits_decord(segment, DecodeSettings()) for segment in segments)
    assert_same(got, chosen(everything, [i for i in everything.frame_index if i % stride == 0]))


def test_a_segment_without_a_wanted_frame_is_left_out_and_not_numbered(clips: ClipFolder) -> None:
    (footage,) = footages_of(clips["h264"])

    segments, end = cut_one(replace(footage, stride=90), DemuxSettings(segment_frames=20))

    assert [segment.frame_index.tolist() for segment in segments] == [[0], [90]]
    assert [segment.index for segment in segments] == [0, 1]
    assert end.segments == 2


@pytest.mark.parametrize("stride", [1, 3])
@pytest.mark.parametrize("name", ["h264", "h264_ts", "h264_late_start", "hevc_open_gop"])
def test_a_window_takes_the_frames_between_two_moments_and_keeps_their_numbers(
    clips: ClipFolder, name: str, stride: int
) -> None:
    """Moments count from the recording's first frame, whatever time its container begins with."""
    (whole,) = footages_of(clips[name])
    footage = replace(
        whole,
        start_time=START,
        window=FootageWindow(
            since=START + timedelta(seconds=1.5), until=START + timedelta(seconds=3.5)
        ),
    )
    everything = plain_decode(clips[name], whole)
    wanted = [
        number
        for number, pts_s in zip(everything.frame_index, everything.pts_s, strict=True)
        if 1.5 <= round(pts_s - everything.pts_s[0], 6) < 3.5 and number % stride == 0
    ]

    strided = replace(footage, stride=stride)
    segments, _ = cut_one(strided, DemuxSettings(segment_frames=20))

    assert len(wanted) == len(range(38 + -38 % stride, 88, stride))
    assert_same(decoded(segments, DecodeSettings()), chosen(everything, wanted))


def test_a_window_that_the_recording_misses_leaves_no_segment(clips: ClipFolder) -> None:
    (whole,) = footages_of(clips["h264"])
    window = FootageWindow(since=START + timedelta(hours=1))

    segments, end = cut_one(replace(whole, start_time=START, window=window), DemuxSettings())

    assert segments == []
    assert end.segments == 0
    assert end.failures == ()


def test_frames_before_an_edit_list_are_decoded_but_neither_numbered_nor_given(
    clips: ClipFolder,
) -> None:
    (footage,) = footages_of(clips["edit_list"])

    first = cut_one(footage, DemuxSettings(segment_frames=20))[0][0]

    assert first.frame_index[0] == 0
    assert first.positions[0] > 0
    assert first.pts_s[0] >= 0


def test_ffmpeg_waits_while_no_segment_is_asked_for(long_clip: str) -> None:
    segments = cut(footages_of(long_clip), DemuxSettings(segment_frames=20))
    next(segments)
    (process,) = own_ffmpegs()

    read = settled_read_bytes(process)

    assert process.is_running()
    assert process.status() == psutil.STATUS_SLEEPING
    # The rest of some 30 MB stays where it is.
    assert read < 2_000_000
    segments.close()


def test_ffmpeg_reads_on_when_segments_are_asked_for(long_clip: str) -> None:
    segments = cut(footages_of(long_clip), DemuxSettings(segment_frames=20))
    next(segments)
    (process,) = own_ffmpegs()
    before = settled_read_bytes(process)

    for _ in range(20):
        next(segments)

    assert settled_read_bytes(process) > before + 500_000
    segments.close()


def test_closing_a_cut_before_its_end_leaves_no_process(long_clip: str) -> None:
    segments = cut(footages_of(long_clip), DemuxSettings(segment_frames=20))
    next(segments)
    (process,) = own_ffmpegs()

    segments.close()

    assert not psutil.pid_exists(process.pid)
    assert own_ffmpegs() == []


def test_a_cut_to_its_end_leaves_no_process(clips: ClipFolder) -> None:
    list(cut(footages_of(clips["h264"]), DemuxSettings()))

    assert own_ffmpegs() == []


def test_closing_a_decode_in_place_before_its_end_leaves_no_process(clips: ClipFolder) -> None:
    (footage,) = footages_of(clips["h264_long_gop"])
    ((segment,), _) = cut_one(footage, DemuxSettings(carried_bytes=0))

    batches: Iterator[object] = decode(segment, DecodeSettings())
    next(batches)
    assert len(own_ffmpegs()) == 1
    del batches

    assert own_ffmpegs() == []


def segments_of(items: list[Segment | FootageEnd]) -> list[Segment]:
    return [item for item in items if isinstance(item, Segment)]


def chosen(frames: Frames, numbers: list[int]) -> Frames:
    return Frames(
        frame_index=numbers,
        pts_s=[frames.pts_s[number] for number in numbers],
        pixels=frames.pixels[numbers],
    )


def packet_sizes(path: str) -> list[int]:
    lines = run_ffmpeg("-i", path, "-c", "copy", "-f", "framemd5", "pipe:1").decode().splitlines()
    return [int(line.split(",")[4]) for line in lines if not line.startswith("#")]


def own_ffmpegs() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if "ffmpeg" in child.name()]


def settled_read_bytes(process: psutil.Process) -> int:
    """Return what a process has read once it reads no more."""
    read = -1
    for _ in range(100):
        time.sleep(0.1)
        before, read = read, process.io_counters().read_chars
        if read == before:
            return read
    raise AssertionError("the process never paused")
