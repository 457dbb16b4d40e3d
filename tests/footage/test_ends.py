"""How a process may end, besides by a signal that kills it: stopped, silent, hung, or for no reason."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.decode import DecodeSettings, suits_decord
from pipeline.demux import DemuxSettings, cut
from pipeline.errors import FfmpegError, StepError
from pipeline.ffmpeg import copy_video_tracks, explain_exit
from pipeline.isolate import isolated
from pipeline.records import FootageEnd, Segment, VideoTrack
from tests.footage.clips import ClipFolder, cut_one, footages_of
from tests.footage.test_demux_again import kill_own_ffmpeg

TRACK = VideoTrack(video_track=0, codec="h264", width=176, height=144)


def stand_in(folder: Path, script: str) -> str:
    path = folder / "stand-in"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_an_ffmpeg_that_was_told_to_stop_is_tried_again(long_clip: str, name: str) -> None:
    (footage,) = footages_of(long_clip)
    items = cut([footage], DemuxSettings(segment_frames=40))
    first = next(items)

    kill_own_ffmpeg(name)
    *segments, end = [first, *items]

    assert isinstance(end, FootageEnd)
    assert end.failures == ()
    assert sum(s.wanted for s in segments if isinstance(s, Segment)) == footage.track.frames


def test_an_exit_after_a_handled_signal_is_told_from_a_refusal() -> None:
    stopped, refused = (explain_exit(255, "a", last) for last in ("", "Operation not permitted"))

    assert stopped.signal == "SIGTERM"
    assert str(stopped) == "FFmpeg process ended by SIGTERM or SIGINT (exit code 255)"
    assert refused.signal == ""
    assert str(refused) == "FFmpeg failed with exit code 255: Operation not permitted"


@pytest.mark.parametrize("script", ["exit 0", "echo this is no footage"])
def test_an_ffmpeg_that_ends_well_and_gives_nothing_is_told_as_what_happened(
    tmp_path: Path, script: str
) -> None:
    with (
        pytest.raises(FfmpegError) as caught,
        copy_video_tracks("a.mp4", [TRACK], executable=stand_in(tmp_path, script)),
    ):
        pass

    assert str(caught.value).startswith("the packets break off: ")
    assert "exit code" not in str(caught.value)


@pytest.mark.timeout(30)
def test_an_isolated_step_that_falls_silent_is_ended_and_named() -> None:
    began = time.monotonic()
    items = isolated(one_then_silence, silence_s=2.0)

    assert next(items) == 1
    with pytest.raises(StepError, match="its process gave nothing for 2 s"):
        next(items)
    assert time.monotonic() - began < 20


@pytest.mark.timeout(30)
def test_an_isolated_step_whose_reader_pauses_is_not_taken_for_a_silent_one() -> None:
    items = isolated(numbers, 1000, silence_s=2.0)
    next(items)

    time.sleep(3)

    assert sum(1 for _ in items) == 999


@pytest.mark.timeout(60)
def test_an_isolated_step_gets_no_memory_without_end() -> None:
    with pytest.raises(MemoryError):
        list(isolated(grows))


def test_decord_is_not_used_where_memory_is_limited(clips: ClipFolder) -> None:
    segment = cut_one(footages_of(clips["h264"])[0], DemuxSettings(segment_frames=20))[0][0]

    assert suits_decord(segment, DecodeSettings())
    assert list(isolated(suits, segment)) == [False]


HANGS = """
import sys, time
from pipeline import watchdog
from pipeline.decode import DecodeSettings, decode
from pipeline.decoders import PyavDecoder
from pipeline.demux import DemuxSettings
from tests.footage.clips import cut_one, footages_of
watchdog.HANGS_AFTER_S = 1.0
segment = cut_one(footages_of(sys.argv[1])[0], DemuxSettings(carried_bytes=1))[0][0]
batches = decode(segment, DecodeSettings())
next(batches)
time.sleep(2)
next(batches)
print("a pause of the reader is no hang", flush=True)
PyavDecoder._decode = lambda *_: time.sleep(60)
next(batches)
"""


@pytest.mark.timeout(60)
def test_a_decoder_that_hangs_ends_its_process_and_says_where(clips: ClipFolder) -> None:
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", HANGS, clips["h264"]],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
        env={"PYTHONPATH": ":".join(filter(None, sys.path))},
    )

    assert done.stdout == "a pause of the reader is no hang\n"
    assert done.returncode == 1
    assert "Timeout" in done.stderr
    assert "in _each_once" in done.stderr
    assert time.monotonic() - began < 40


def one_then_silence() -> Iterator[int]:
    yield 1
    signal.pause()


def numbers(count: int) -> Iterator[bytes]:
    for number in range(count):
        yield bytes([number % 256]) * 1000


def grows() -> Iterator[int]:
    yield len(bytearray(5 << 30))


def suits(segment: Segment) -> Iterator[bool]:
    yield suits_decord(segment, DecodeSettings())
