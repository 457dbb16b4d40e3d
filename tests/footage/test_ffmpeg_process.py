"""What a process that dies leaves behind: an error that names the signal, and nothing else."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import av
import psutil
import pytest

from pipeline.decode import DecodeSettings, decode
from pipeline.demux import MOST_ATTEMPTS, DemuxSettings, cut
from pipeline.errors import FfmpegError, SourceError, StepError
from pipeline.faults import parse_fault
from pipeline.ffmpeg import copy_video_tracks, explain_exit, find_ffmpeg
from pipeline.isolate import isolated
from pipeline.records import Segment, VideoTrack
from tests.footage.clips import ClipFolder, assert_same, cut_one, decoded, footages_of, run_ffmpeg

TRACK = VideoTrack(video_track=0, codec="h264", width=176, height=144)
# The words by which the old service told one death from another.
WORDS = {
    "SIGKILL": "FFmpeg process was killed due to memory issues",
    "SIGSEGV": "FFmpeg process crashed due to segmentation fault",
    "SIGABRT": "FFmpeg process aborted",
    "SIGTERM": "FFmpeg process ended by SIGTERM",
}


@pytest.fixture
def program(tmp_path: Path) -> Callable[[str], str]:
    """Return a maker of programs that stand in for ffmpeg."""

    def make(script: str) -> str:
        path = tmp_path / "stand-in"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return str(path)

    return make


@pytest.mark.parametrize("name", WORDS)
def test_a_signal_before_the_first_packet_is_named(
    program: Callable[[str], str], name: str
) -> None:
    executable = program(f"kill -{name.removeprefix('SIG')} $$")

    with (
        pytest.raises(FfmpegError) as caught,
        copy_video_tracks("clip.mp4", [TRACK], executable=executable),
    ):
        pass

    assert caught.value.signal == name
    assert caught.value.exit_code == -signal.Signals[name]
    assert str(caught.value) == f"{WORDS[name]} ({name})"
    assert caught.value.source_uri == "clip.mp4"


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", ["SIGKILL", "SIGSEGV", "SIGABRT"])
def test_a_signal_in_the_middle_of_the_packets_is_named(long_clip: str, name: str) -> None:
    with copy_video_tracks(long_clip, [TRACK]) as stream:
        packets = stream.container.demux(video=0)
        for _ in range(50):
            next(packets)
        os.kill(stream.process.pid, signal.Signals[name])
        drain(packets)
        with pytest.raises(FfmpegError) as caught:
            stream.end()

    assert caught.value.signal == name
    assert caught.value.exit_code == -signal.Signals[name]
    assert str(caught.value).startswith(f"{WORDS[name]} ({name})")


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", ["SIGKILL", "SIGSEGV"])
def test_segments_before_the_last_death_of_ffmpeg_are_kept_and_the_rest_is_one_failure(
    long_clip: str, name: str
) -> None:
    (footage,) = footages_of(long_clip)
    items = cut([footage], DemuxSettings(segment_frames=40))
    segments, killed = [], set()
    for item in items:
        segments.append(item)
        for process in own_ffmpegs():
            if process.pid not in killed:
                killed.add(process.pid)
                process.send_signal(signal.Signals[name])

    end = segments.pop()
    assert len(killed) == MOST_ATTEMPTS
    assert all(isinstance(segment, Segment) for segment in segments)
    numbers = [n for segment in segments for n in segment.frame_index.tolist()]
    assert numbers == list(range(len(numbers)))
    (failure,) = end.failures
    assert failure.error_class == "FfmpegError"
    assert failure.signal == name
    assert WORDS[name] in failure.message
    assert failure.frames == footage.track.expected_frames - len(numbers) > 1000
    # The last packet may be cut off where the process died; those before it decode.
    got = decoded(segments, DecodeSettings())
    assert got.frame_index[: len(numbers) - 1] == numbers[:-1]
    assert own_ffmpegs() == []


def test_a_failure_keeps_the_exit_code_and_the_last_lines(program: Callable[[str], str]) -> None:
    executable = program('for i in 1 2 3 4 5 6 7 8 9; do echo "line $i" >&2; done; exit 7')

    with (
        pytest.raises(FfmpegError) as caught,
        copy_video_tracks("clip.mp4", [TRACK], executable=executable),
    ):
        pass

    assert caught.value.exit_code == 7
    assert caught.value.signal == ""
    assert str(caught.value) == (
        "FFmpeg failed with exit code 7: line 5 | line 6 | line 7 | line 8 | line 9"
    )


def test_lines_lose_pointers_and_whatever_steers_a_terminal(program: Callable[[str], str]) -> None:
    executable = program(r"printf '[mov @ 0x55aa] moov\033[31m\a lost\n' >&2; exit 1")

    with (
        pytest.raises(FfmpegError) as caught,
        copy_video_tracks("clip.mp4", [TRACK], executable=executable),
    ):
        pass

    assert str(caught.value).endswith(": [mov] moov?[31m? lost")


def test_an_end_without_a_failure_raises_nothing(clips: ClipFolder) -> None:
    with copy_video_tracks(clips["h264"], [TRACK]) as stream:
        drain(stream.container.demux(video=0))
        stream.end()

    assert stream.process.returncode == 0


def test_a_block_that_is_left_early_leaves_no_process(long_clip: str) -> None:
    with copy_video_tracks(long_clip, [TRACK]) as stream:
        pid = stream.process.pid
        assert psutil.pid_exists(pid)

    assert not psutil.pid_exists(pid)


def test_a_block_that_raises_leaves_no_process(long_clip: str) -> None:
    with (
        pytest.raises(KeyError, match="mine"),
        copy_video_tracks(long_clip, [TRACK]) as stream,
    ):
        raise KeyError("mine")

    assert not psutil.pid_exists(stream.process.pid)


def test_ffmpeg_gets_no_environment(long_clip: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not for ffmpeg")

    with copy_video_tracks(long_clip, [TRACK]) as stream:
        environment = Path(f"/proc/{stream.process.pid}/environ").read_bytes()

    assert environment == b""


def test_a_program_in_ffmpegs_place_sees_no_secret(
    program: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not for ffmpeg")
    seen = tmp_path / "seen"

    with (
        pytest.raises(FfmpegError),
        copy_video_tracks("clip.mp4", [TRACK], executable=program(f"/usr/bin/env > {seen}")),
    ):
        pass

    # What the shell itself sets.
    assert {line.split("=")[0] for line in seen.read_text().splitlines()} <= {
        "PWD", "OLDPWD", "SHLVL", "_",
    }  # fmt: skip


@pytest.mark.timeout(60)
def test_an_ffmpeg_that_writes_nothing_more_is_not_waited_for(
    long_clip: str, tmp_path: Path, program: Callable[[str], str]
) -> None:
    run_ffmpeg("-t", "40", "-i", long_clip, "-c", "copy", "-f", "nut", tmp_path / "begin.nut")
    executable = program(f"/bin/cat {tmp_path}/begin.nut; exec /bin/sleep 60")
    start = time.monotonic()

    with copy_video_tracks(long_clip, [TRACK], executable=executable) as stream:
        packets = stream.container.demux(video=0)
        for _ in range(800):
            next(packets)
        assert stream.process.poll() is None

    assert time.monotonic() - start < 20
    assert stream.process.returncode == -signal.SIGKILL


@pytest.mark.timeout(60)
def test_an_ffmpeg_that_writes_nothing_dies_with_the_process_that_started_it(
    tmp_path: Path, program: Callable[[str], str]
) -> None:
    """A process that writes would notice that nobody reads; this one cannot."""
    pid = tmp_path / "pid"
    executable = program(f"echo $$ > {pid}.new; /bin/mv {pid}.new {pid}; exec /bin/sleep 60")
    script = (
        "import sys\n"
        "from pipeline.ffmpeg import copy_video_tracks\n"
        "from pipeline.records import VideoTrack\n"
        "track = VideoTrack(video_track=0, codec='h264', width=176, height=144)\n"
        "with copy_video_tracks('clip.mp4', [track], executable=sys.argv[1]):\n"
        "    pass\n"
    )
    with started(script, executable) as parent:
        while not pid.exists():
            assert parent.poll() is None
            time.sleep(0.05)
        ffmpeg = psutil.Process(int(pid.read_text()))
        assert lives(ffmpeg)

        parent.kill()
        parent.wait()

        assert gone_within(ffmpeg, 3)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", ["SIGKILL", "SIGTERM"])
def test_ffmpeg_dies_with_the_process_that_started_it(long_clip: str, name: str) -> None:
    script = (
        "import sys, time\n"
        "from pipeline.ffmpeg import copy_video_tracks\n"
        "from pipeline.records import VideoTrack\n"
        "track = VideoTrack(video_track=0, codec='h264', width=176, height=144)\n"
        "with copy_video_tracks(sys.argv[1], [track]) as stream:\n"
        "    print(stream.process.pid, flush=True)\n"
        "    time.sleep(60)\n"
    )
    with started(script, long_clip) as parent:
        assert parent.stdout is not None
        ffmpeg = psutil.Process(int(parent.stdout.readline()))
        assert lives(ffmpeg)

        parent.send_signal(signal.Signals[name])
        parent.wait()

        assert gone_within(ffmpeg, 3)


def test_the_ffmpeg_that_is_used_runs_and_says_so() -> None:
    banner = subprocess.run([find_ffmpeg(), "-version"], capture_output=True, check=True).stdout

    assert banner.startswith(b"ffmpeg version")


@pytest.mark.parametrize("name", WORDS)
def test_an_exit_is_explained_with_and_without_last_words(name: str) -> None:
    code = -signal.Signals[name]

    assert str(explain_exit(code, "a.mp4", "")) == f"{WORDS[name]} ({name})"
    assert str(explain_exit(code, "a.mp4", "oh")) == f"{WORDS[name]} ({name}): oh"
    assert str(explain_exit(3, "a.mp4", "oh")) == "FFmpeg failed with exit code 3: oh"


@pytest.mark.parametrize("name", ["SIGSEGV", "SIGKILL", "SIGABRT"])
def test_the_death_of_an_isolated_step_names_the_signal(name: str) -> None:
    items = isolated(numbers_then_die, 3, signal.Signals[name])

    got = [next(items) for _ in range(3)]
    with pytest.raises(StepError, match=f"its process ended by {name}") as caught:
        next(items)

    assert got == [0, 1, 2]
    assert caught.value.signal == name


def test_an_isolated_step_that_exits_names_its_exit_code() -> None:
    with pytest.raises(StepError, match="its process ended with exit code 5") as caught:
        list(isolated(leave, 5))
    assert caught.value.signal == ""


def test_isolated_items_come_in_order_and_whole() -> None:
    got = list(isolated(blocks, 40))

    assert got == list(blocks(40))


def test_what_an_isolated_step_prints_does_not_get_between_its_items(
    capfd: pytest.CaptureFixture[str],
) -> None:
    got = list(isolated(chatter, 20))

    out, err = capfd.readouterr()
    assert got == list(range(20))
    assert out == ""
    assert err.count("python says") == 20
    assert err.count("a library says") == 20


@pytest.mark.parametrize(
    "error",
    [
        SourceError("lost", source_uri="a.mp4"),
        FfmpegError("killed", source_uri="a.mp4", signal="SIGKILL", exit_code=-9),
        StepError("broke", signal="SIGSEGV"),
        ValueError("odd"),
    ],
)
def test_an_exception_of_an_isolated_step_is_passed_on_behind_its_items(error: Exception) -> None:
    items = isolated(numbers_then_raise, 2, error)

    got = [next(items), next(items)]
    with pytest.raises(type(error)) as caught:
        next(items)

    assert got == [0, 1]
    assert type(caught.value) is type(error)
    assert caught.value.args == error.args
    assert vars(caught.value) == vars(error)


def test_an_isolated_step_that_is_left_early_leaves_no_process() -> None:
    items = isolated(own_pid_for_ever)
    pid = next(items)
    assert psutil.pid_exists(pid)

    items.close()

    assert not psutil.pid_exists(pid)


@pytest.mark.timeout(60)
def test_an_isolated_step_dies_with_the_process_that_started_it() -> None:
    script = (
        "from pipeline.isolate import isolated\n"
        "from tests.footage.test_ffmpeg_process import own_pid_for_ever\n"
        "items = isolated(own_pid_for_ever)\n"
        "print(next(items), flush=True)\n"
        "next(items)\n"
    )
    with started(script) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        assert lives(child)

        parent.kill()
        parent.wait()

        assert gone_within(child, 3)


def test_isolated_decode_gives_the_frames_of_decode(clips: ClipFolder) -> None:
    segment = first_segment(clips["h264"])

    batches = list(isolated(decode, segment, DecodeSettings()))

    assert [batch.stretch.start for batch in batches] == list(range(0, segment.wanted, 10))
    expected = list(decode(segment, DecodeSettings()))
    for batch, other in zip(batches, expected, strict=True):
        assert batch.frame_index.tolist() == other.frame_index.tolist()
        assert batch.pts_s.tolist() == other.pts_s.tolist()
        assert batch.pixels.tobytes() == other.pixels.tobytes()


@pytest.mark.parametrize("name", ["SIGSEGV", "SIGKILL"])
def test_a_decoder_that_crashes_in_isolation_is_a_step_error(clips: ClipFolder, name: str) -> None:
    settings = DecodeSettings(fault=parse_fault(f"decode:0:0:{name}"))

    with pytest.raises(StepError) as caught:
        list(isolated(decode, first_segment(clips["h264"]), settings))

    assert caught.value.signal == name


def test_a_fault_strikes_no_other_segment(clips: ClipFolder) -> None:
    first = first_segment(clips["h264"])
    settings = DecodeSettings(fault=parse_fault("decode:0:0:SIGSEGV"))

    got = decoded(isolated(renumbered, first, 1), DecodeSettings())
    other = list(isolated(decode, replace(first, index=1), settings))

    assert [n for batch in other for n in batch.frame_index.tolist()] == got.frame_index
    assert_same(got, decoded([first], DecodeSettings()))


MAPS = "print(open('/proc/self/maps').read())"


@pytest.fixture
def fake_nvidia(tmp_path: Path) -> Path:
    """Return a folder with a package `nvidia` that holds a library, as CUDA's packages do."""
    folder = tmp_path / "nvidia" / "cuda_runtime" / "lib"
    folder.mkdir(parents=True)
    library = next(Path(av.__file__).parent.with_name("av.libs").glob("libz*"), None)
    library = library or next(Path("/lib").rglob("libz.so.1"))
    (folder / "libcudart.so.13").write_bytes(library.read_bytes())
    return tmp_path


def test_decord_alone_would_load_the_libraries_of_the_nvidia_packages(fake_nvidia: Path) -> None:
    maps = run_python(f"import decord\n{MAPS}", fake_nvidia)

    assert "libdecord" in maps
    assert f"{fake_nvidia}/nvidia/" in maps


def test_import_decord_loads_no_library_of_the_nvidia_packages(fake_nvidia: Path) -> None:
    maps = run_python(
        f"from pipeline.decoders import import_decord\nimport_decord().VideoReader\n{MAPS}",
        fake_nvidia,
    )

    assert "libdecord" in maps
    assert "/nvidia/" not in maps


def test_import_decord_hides_the_nvidia_packages_from_nobody_else(fake_nvidia: Path) -> None:
    printed = run_python(
        "from pipeline.decoders import import_decord\nimport_decord()\n"
        "import nvidia.cuda_runtime\nprint(nvidia.__path__)",
        fake_nvidia,
    )

    assert str(fake_nvidia) in printed


def numbers_then_die(count: int, number: signal.Signals) -> Iterator[int]:
    yield from range(count)
    os.kill(os.getpid(), number)


def numbers_then_raise(count: int, error: Exception) -> Iterator[int]:
    yield from range(count)
    raise error


def leave(exit_code: int) -> Iterator[int]:
    yield 0
    os._exit(exit_code)


def blocks(count: int) -> Iterator[tuple[int, bytes]]:
    """Yield items of very different sizes, some larger than a pipe holds."""
    for number in range(count):
        yield number, bytes([number]) * (number % 5) ** 8


def chatter(count: int) -> Iterator[int]:
    for number in range(count):
        print("python says", flush=True)  # noqa: T201
        os.write(1, b"a library says\n")
        yield number


def own_pid_for_ever() -> Iterator[int]:
    yield os.getpid()
    time.sleep(60)


def renumbered(segment: Segment, index: int) -> Iterator[Segment]:
    yield replace(segment, index=index)


def first_segment(path: str) -> Segment:
    (footage,) = footages_of(path)
    return cut_one(footage, DemuxSettings(segment_frames=20))[0][0]


def drain(packets: Iterator[object]) -> None:
    """Read on to where the pipe ends or breaks off."""
    while True:
        try:
            if next(packets, None) is None:
                return
        except av.error.FFmpegError:
            return


def own_ffmpegs() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if "ffmpeg" in child.name()]


def started(script: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )


def run_python(script: str, first_folder: Path) -> str:
    path = os.pathsep.join([str(first_folder), *sys.path])
    return subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": path},
    ).stdout


def lives(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def gone_within(process: psutil.Process, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if not lives(process):
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.05)
    return False
