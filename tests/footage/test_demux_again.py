"""A cut whose ffmpeg is killed is tried again, and what was given or done is not given again."""

import os
import signal
from collections.abc import Container, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from types import SimpleNamespace

import av
import psutil
import pytest

from pipeline import demux
from pipeline.decode import DecodeSettings
from pipeline.demux import MOST_ATTEMPTS, DemuxSettings, cut
from pipeline.ffmpeg import Stream, copy_video_tracks
from pipeline.records import Footage, FootageEnd, Segment
from tests.footage.clips import ClipFolder, cut_one, decoded, footages_of, run_ffmpeg

SETTINGS = DemuxSettings(segment_frames=40)
Items = list[Segment | FootageEnd]


@pytest.fixture(scope="module")
def two_tracks(long_clip: str, clips: ClipFolder, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return a long recording of two video tracks with keyframes at other places."""
    path = tmp_path_factory.mktemp("again") / "two.mkv"
    other = ("-stream_loop", "49", "-i", clips["mpeg4_mp4"])
    maps = ("-map", "0:v", "-map", "1:v")
    run_ffmpeg("-i", long_clip, *other, *maps, "-c", "copy", path)
    return str(path)


@pytest.fixture(params=[1, 2])
def footages(request: pytest.FixtureRequest, long_clip: str, two_tracks: str) -> list[Footage]:
    return footages_of(long_clip if request.param == 1 else two_tracks)


def own_ffmpegs() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if "ffmpeg" in child.name()]


def kill_own_ffmpeg(name: str = "SIGKILL") -> int:
    """End the only ffmpeg of this process by a signal and return its process id."""
    (process,) = own_ffmpegs()
    os.kill(process.pid, signal.Signals[name])
    return process.pid


def killed_often(items: Iterator[Segment | FootageEnd], kills: int, pause: int) -> Items:
    """Take all items; kill ffmpeg each time `pause` items came from it."""
    got: Items = []
    killed: set[int] = set()
    since = 0
    for item in items:
        got.append(item)
        # One that was killed lives on in the packets that it had written.
        fresh = [process.pid for process in own_ffmpegs() if process.pid not in killed]
        since += bool(fresh)
        if fresh and since >= pause and len(killed) < kills:
            killed.add(kill_own_ffmpeg())
            since = 0
    assert len(killed) == kills
    return got


def assert_equal_items(got: Items, expected: Items) -> None:
    """Assert that two cuts gave the same, bit for bit, each video track in its order."""
    for key in {end.footage for end in ends_of(expected)}:
        pairs = zip(segments_of(got, key), segments_of(expected, key), strict=True)
        for ours, theirs in pairs:
            assert_equal_segment(ours, theirs)
    assert [(e.footage, e.segments) for e in ends_of(got)] == [
        (e.footage, e.segments) for e in ends_of(expected)
    ]


def assert_equal_segment(ours: Segment, theirs: Segment) -> None:
    assert ours.index == theirs.index
    assert ours.positions.tolist() == theirs.positions.tolist()
    assert ours.frame_index.tolist() == theirs.frame_index.tolist()
    assert ours.pts_s.tolist() == theirs.pts_s.tolist()
    assert (ours.first_packet, ours.stop_packet) == (theirs.first_packet, theirs.stop_packet)
    assert ours.packets == theirs.packets
    assert ours.damaged is theirs.damaged is False
    assert ours.data == theirs.data


def segments_of(items: Items, key: object) -> list[Segment]:
    return [item for item in items if isinstance(item, Segment) and item.footage.key == key]


def ends_of(items: Items) -> list[FootageEnd]:
    return [item for item in items if isinstance(item, FootageEnd)]


@pytest.mark.timeout(60)
@pytest.mark.parametrize("kills", [1, 2])
def test_a_cut_whose_ffmpeg_was_killed_gives_what_an_undisturbed_one_gives(
    footages: list[Footage], kills: int
) -> None:
    undisturbed = list(cut(footages, SETTINGS))

    got = killed_often(cut(footages, SETTINGS), kills, pause=5)

    assert_equal_items(got, undisturbed)
    assert all(end.failures == () for end in ends_of(got))
    assert own_ffmpegs() == []


@pytest.mark.timeout(60)
def test_after_the_last_attempt_the_rest_is_one_failure_a_video_track(
    footages: list[Footage],
) -> None:
    undisturbed = list(cut(footages, SETTINGS))

    got = killed_often(cut(footages, SETTINGS), MOST_ATTEMPTS, pause=5)

    for footage, end in zip(footages, ends_of(got), strict=True):
        own = segments_of(got, footage.key)
        numbers = [number for segment in own for number in segment.frame_index.tolist()]
        assert [segment.index for segment in own] == list(range(end.segments))
        assert numbers == list(range(len(numbers)))
        (failure,) = end.failures
        assert (failure.signal, failure.attempts) == ("SIGKILL", MOST_ATTEMPTS)
        assert failure.frames == footage.track.expected_frames - len(numbers) > 1000
        whole = segments_of(undisturbed, footage.key)
        # All but what was left over when the last ffmpeg died.
        for ours, theirs in zip(own[:-2], whole, strict=False):
            assert_equal_segment(ours, theirs)
        rest = decoded(own[-2:], DecodeSettings())
        assert len(rest) + rest.failed == sum(segment.wanted for segment in own[-2:])
    assert own_ffmpegs() == []


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", ["SIGKILL", "SIGSEGV", "SIGABRT"])
def test_any_signal_is_a_reason_to_try_again(long_clip: str, name: str) -> None:
    (footage,) = footages_of(long_clip)
    items = cut([footage], SETTINGS)
    first = next(items)

    kill_own_ffmpeg(name)
    segments = [first, *items]

    end = segments.pop()
    assert isinstance(end, FootageEnd)
    assert end.failures == ()
    assert sum(s.wanted for s in segments if isinstance(s, Segment)) == footage.track.frames


def test_a_worse_last_attempt_unsays_nothing(
    long_clip: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (footage,) = footages_of(long_clip)
    items = cut([footage], SETTINGS)
    got: Items = [next(items) for _ in range(5)]
    kill_own_ffmpeg()
    starts: list[object] = []

    def gone(*arguments: object) -> object:
        # What was read by then has been given; now nothing can be read any more.
        starts.append(arguments)
        return copy_video_tracks("/nowhere.mp4", [footage.track])

    monkeypatch.setattr(demux, "copy_video_tracks", gone)
    got += list(items)

    (end,) = ends_of(got)
    own = segments_of(got, footage.key)
    assert len(starts) == 1
    assert end.segments == len(own) >= 5
    (failure,) = end.failures
    assert (failure.signal, failure.attempts) == ("", 2)
    assert "No such file or directory" in failure.message
    assert failure.frames == footage.track.expected_frames - sum(s.wanted for s in own)


def test_bad_data_is_not_tried_again(clips: ClipFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    (footage,) = footages_of(clips["h264"])
    starts: list[object] = []

    def counted(*arguments: object) -> object:
        starts.append(arguments)
        return copy_video_tracks("/nowhere.mp4", [footage.track])

    monkeypatch.setattr(demux, "copy_video_tracks", counted)
    (end,) = cut([footage], SETTINGS)

    assert len(starts) == 1
    assert isinstance(end, FootageEnd)
    assert [(f.attempts, f.frames) for f in end.failures] == [(1, footage.track.expected_frames)]


def test_an_ffmpeg_that_dies_at_its_start_is_tried_three_times(
    clips: ClipFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    (footage,) = footages_of(clips["h264"])
    starts: list[object] = []

    def dying(source_uri: str, tracks: list[object]) -> object:
        starts.append(source_uri)
        return copy_video_tracks(
            source_uri,
            [footage.track for _ in tracks],
            before_start=lambda: os.kill(os.getpid(), signal.SIGKILL),
        )

    monkeypatch.setattr(demux, "copy_video_tracks", dying)
    (end,) = cut([footage], SETTINGS)

    assert len(starts) == MOST_ATTEMPTS
    assert isinstance(end, FootageEnd)
    (failure,) = end.failures
    assert (failure.signal, failure.attempts) == ("SIGKILL", MOST_ATTEMPTS)
    assert failure.frames == footage.track.expected_frames


@pytest.mark.parametrize("done", [{0}, {1, 3}, range(2), range(1000), ()])
def test_segments_that_are_done_are_counted_but_not_given(
    clips: ClipFolder, done: Container[int]
) -> None:
    (footage,) = footages_of(clips["h264_open_gop"])
    whole, whole_end = cut_one(footage, DemuxSettings(segment_frames=20))
    assert len(whole) == 4

    *rest, end = cut([footage], DemuxSettings(segment_frames=20), {footage.key: done})

    expected = [segment for segment in whole if segment.index not in done]
    for ours, theirs in zip(rest, expected, strict=True):
        assert isinstance(ours, Segment)
        assert_equal_segment(ours, theirs)
    assert isinstance(end, FootageEnd)
    assert (end.segments, end.failures) == (whole_end.segments, ())


def test_what_is_done_of_one_video_track_says_nothing_of_another(two_tracks: str) -> None:
    footages = footages_of(two_tracks)
    settings = DemuxSettings(segment_frames=1000)
    whole = list(cut(footages, settings))

    got = list(cut(footages, settings, {footages[1].key: range(3)}))

    first, second = (segments_of(got, footage.key) for footage in footages)
    assert [s.index for s in first] == [s.index for s in segments_of(whole, footages[0].key)]
    assert [s.index for s in second] == [s.index for s in segments_of(whole, footages[1].key)][3:]


@pytest.mark.timeout(60)
def test_a_killed_cut_gives_nothing_that_was_done(long_clip: str) -> None:
    (footage,) = footages_of(long_clip)
    undisturbed = list(cut([footage], SETTINGS))
    done = {1, 2, 7, 20}

    got = killed_often(cut([footage], SETTINGS, {footage.key: done}), 1, pause=4)

    kept = [item for item in undisturbed if not (isinstance(item, Segment) and item.index in done)]
    assert_equal_items(got, kept)


@pytest.mark.timeout(60)
def test_an_ffmpeg_whose_packets_cannot_be_read_is_not_waited_for(
    long_clip: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (footage,) = footages_of(long_clip)

    @contextmanager
    def unreadable(*arguments: object) -> Iterator[Stream]:
        with copy_video_tracks(*arguments) as stream:  # type: ignore[arg-type]

            def packets(video: tuple[int, ...]) -> Iterator[object]:
                yield from islice(stream.container.demux(video=video), 100)
                raise av.error.InvalidDataError(1, "Invalid data")

            container = SimpleNamespace(streams=stream.container.streams, demux=packets)
            yield replace(stream, container=container)

    monkeypatch.setattr(demux, "copy_video_tracks", unreadable)
    monkeypatch.setattr(demux, "_DYING_S", 0.5)
    *segments, end = cut([footage], SETTINGS)

    assert isinstance(end, FootageEnd)
    (failure,) = end.failures
    assert failure.message == "the packets break off: Invalid data"
    assert (failure.signal, failure.attempts) == ("", 1)
    assert sum(s.wanted for s in segments if isinstance(s, Segment)) == 100
    assert failure.frames == footage.track.expected_frames - 100
    assert own_ffmpegs() == []


def test_packets_before_the_first_keyframe_are_a_failure(
    clips: ClipFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    (footage,) = footages_of(clips["h264"])

    @contextmanager
    def headless(*arguments: object) -> Iterator[Stream]:
        with copy_video_tracks(*arguments) as stream:  # type: ignore[arg-type]

            def packets(video: tuple[int, ...]) -> Iterator[object]:
                return islice(stream.container.demux(video=video), 30, None)

            container = SimpleNamespace(streams=stream.container.streams, demux=packets)
            yield replace(stream, container=container)

    monkeypatch.setattr(demux, "copy_video_tracks", headless)
    uncounted = replace(footage, track=replace(footage.track, frames=None, duration_s=None))
    *segments, end = cut([uncounted], SETTINGS)

    assert isinstance(end, FootageEnd)
    (failure,) = end.failures
    assert failure.message == "10 packets come before the first keyframe"
    assert failure.frames == 10
    assert segments[0].frame_index[0] == 0
