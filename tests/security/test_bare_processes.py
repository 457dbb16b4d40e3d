"""ffmpeg runs with nothing that it does not need: no keys, little memory, no endless time."""

import os
import resource
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from pipeline.complaints import MOST_LOG_BYTES
from pipeline.demux import DemuxSettings, cut
from pipeline.errors import FfmpegError
from pipeline.ffmpeg import MAX_MEMORY_BYTES, copy_video_tracks, find_ffmpeg
from pipeline.isolate import isolated
from pipeline.records import VideoTrack
from tests.footage.clips import footages_of, run_ffmpeg

TRACK = VideoTrack(video_track=0, codec="h264", width=176, height=144)
SECRETS = (
    "AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID", "AWS_SESSION_TOKEN", "RAY_AUTH_TOKEN",
    "DATABASE_URL", "HTTPS_PROXY",
)  # fmt: skip


@pytest.fixture
def secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SECRETS:
        monkeypatch.setenv(name, "a secret of ours")


@pytest.fixture(scope="session")
def long_mp4(mp4: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a recording that does not fit the buffers between ffmpeg and its reader."""
    path = tmp_path_factory.mktemp("long") / "long.mp4"
    run_ffmpeg("-stream_loop", "49", "-i", mp4, "-c", "copy", path)
    return path


@pytest.fixture
def program(tmp_path: Path) -> Callable[[str], str]:
    """Return a maker of programs that stand in for ffmpeg."""

    def make(script: str) -> str:
        path = tmp_path / "stand-in"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return str(path)

    return make


def running_ffmpeg() -> psutil.Process:
    (process,) = [each for each in psutil.Process().children() if "ffmpeg" in each.name()]
    return process


@pytest.mark.usefixtures("secrets")
def test_a_running_ffmpeg_has_no_environment_at_all(long_mp4: Path) -> None:
    (footage,) = footages_of(str(long_mp4))
    items = cut([footage], DemuxSettings(segment_frames=10))
    next(items)

    environment = Path(f"/proc/{running_ffmpeg().pid}/environ").read_bytes()
    items.close()

    assert environment == b""


@pytest.mark.usefixtures("secrets")
def test_an_isolated_step_gets_none_of_our_secrets() -> None:
    (names,) = isolated(own_environment)

    assert not set(names) & set(SECRETS)


def test_an_isolated_step_takes_no_module_that_lies_beside_the_footage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("pickle", "struct", "av"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('taken from the footage')")
    monkeypatch.chdir(tmp_path)

    assert len(list(isolated(own_environment))) == 1


def test_a_running_ffmpeg_has_a_limit_of_memory_and_leaves_no_core(long_mp4: Path) -> None:
    with copy_video_tracks(str(long_mp4), [TRACK]) as stream:
        process = psutil.Process(stream.process.pid)
        data = process.rlimit(resource.RLIMIT_DATA)
        core = process.rlimit(resource.RLIMIT_CORE)
        file = process.rlimit(resource.RLIMIT_FSIZE)

    assert data == (MAX_MEMORY_BYTES, MAX_MEMORY_BYTES)
    assert core == (0, 0)
    # Of complaints; it writes no other file.
    assert file == (MOST_LOG_BYTES, MOST_LOG_BYTES)


@pytest.mark.timeout(30)
def test_an_ffmpeg_that_wants_more_than_its_limit_fails_and_does_not_grow(
    program: Callable[[str], str],
) -> None:
    """A picture of 16,000 x 16,000 pixels takes 3 GB as floats."""
    executable = program(
        f"exec {find_ffmpeg()} -v error -filter_threads 1 -f lavfi "
        "-i color=size=16000x16000:rate=1,format=gbrpf32le -frames:v 1 "
        "-c:v rawvideo -f nut pipe:1"
    )

    with (
        pytest.raises(FfmpegError, match="Cannot allocate memory"),
        copy_video_tracks("clip.mp4", [TRACK], executable=executable) as stream,
    ):
        stream.end()


@pytest.mark.timeout(30)
def test_an_ffmpeg_that_says_nothing_is_ended_and_named(program: Callable[[str], str]) -> None:
    began = time.monotonic()

    with (
        pytest.raises(FfmpegError, match=r"wrote nothing for 0\.5 s and was ended") as caught,
        copy_video_tracks("a.mp4", [TRACK], executable=program("exec sleep 60"), silence_s=0.5),
    ):
        pass

    assert time.monotonic() - began < 10
    # No signal of somebody else's: another try would end in the same way.
    assert caught.value.signal == ""


@pytest.mark.timeout(30)
def test_an_ffmpeg_that_falls_silent_is_ended_and_named(
    mp4: Path, tmp_path: Path, program: Callable[[str], str]
) -> None:
    run_ffmpeg("-i", mp4, "-c", "copy", "-f", "nut", tmp_path / "begin.nut")
    executable = program(f"/bin/cat {tmp_path}/begin.nut; exec /bin/sleep 60")

    with copy_video_tracks("a.mp4", [TRACK], executable=executable, silence_s=0.5) as stream:
        packets = [packet for packet in stream.container.demux(video=0) if packet.size]
        with pytest.raises(FfmpegError, match="wrote nothing"):
            stream.end()

    assert len(packets) == 50


@pytest.mark.timeout(30)
def test_an_ffmpeg_whose_reader_pauses_is_not_taken_for_a_silent_one(long_mp4: Path) -> None:
    with copy_video_tracks(str(long_mp4), [TRACK], silence_s=0.5) as stream:
        packets = stream.container.demux(video=0)
        next(packets)
        time.sleep(1.5)
        rest = sum(1 for packet in packets if packet.size)
        stream.end()

    assert rest == 50 * 50 - 1


def test_an_option_in_a_recordings_name_is_none(mp4: Path) -> None:
    (footage,) = footages_of(str(mp4))

    (end,) = cut([replace(footage, source_uri="-version")], DemuxSettings())

    assert "No such file" in end.failures[0].message


def own_environment() -> Iterator[list[str]]:
    yield sorted(os.environ)
