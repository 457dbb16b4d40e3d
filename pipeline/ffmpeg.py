"""The ffmpeg process: which one, how it is started, what its death means.

It copies video tracks, never re-encoded, into one NUT stream on a pipe:

    recording ──> ffmpeg -c copy ──> pipe (64 KiB) ──> packets

NUT keeps every time base exactly (Matroska rounds to a millisecond) and carries every codec. A pipe
blocks: when the reader pauses, ffmpeg does too, and nothing lies on a disk. The process ends with
the one that started it, even if that one is killed.
"""

import ctypes
import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO, TYPE_CHECKING, TypeAlias

import av
import imageio_ffmpeg

from pipeline.errors import ConfigError, FfmpegError
from pipeline.records import VideoTrack

# PyAV's packets are generic for type checkers alone.
if TYPE_CHECKING:
    VideoPacket: TypeAlias = av.Packet[av.VideoStream]
else:
    VideoPacket = av.Packet

# Demuxers of footage. A playlist, concat list or SDP is not among them: it would name other files.
FORMATS = (
    "asf,avi,dhav,dv,flv,gxf,h264,hevc,ivf,m4v,matroska,mjpeg,mov,mp4,mpeg,mpegts,mpegvideo,mxf,"
    "nut,obu,ogg,rm,webm,wtv"
)
# Output timestamps are moved by this much, so that negative ones survive; `seconds` takes it back.
TIME_SHIFT_S = 1000

_SIGNAL_MEANING: dict[int, str] = {
    signal.SIGKILL: "FFmpeg process was killed due to memory issues",
    signal.SIGSEGV: "FFmpeg process crashed due to segmentation fault",
    signal.SIGABRT: "FFmpeg process aborted",
}
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True)
_STDERR_TAIL_LINES = 5


def seconds(pts: int, stream: av.VideoStream) -> float:
    """Return the container's own time of a time stamp from ffmpeg's pipe, rounded once."""
    assert stream.time_base is not None
    return float(pts * stream.time_base - TIME_SHIFT_S)


def _version(executable: str) -> tuple[int, ...]:
    """Return the version of an ffmpeg as numbers; () where it does not run or does not say."""
    try:
        banner = subprocess.run(
            [executable, "-version"], capture_output=True, text=True, timeout=20, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return ()
    found = re.match(r"ffmpeg version n?(\d+(?:\.\d+)*)", banner)
    return tuple(map(int, found[1].split("."))) if found else ()


@cache
def find_ffmpeg() -> str:
    """Return the ffmpeg to use: the one of imageio-ffmpeg, or the one on PATH if that is newer.

    Raises:
        ConfigError: Neither runs.
    """
    candidates = [
        path for path in (imageio_ffmpeg.get_ffmpeg_exe(), shutil.which("ffmpeg")) if path
    ]
    versions = [(_version(path), path) for path in candidates]
    best = max(versions, key=lambda pair: pair[0], default=((), ""))
    if not best[0]:
        raise ConfigError("no ffmpeg runs here: install the package imageio-ffmpeg, or ffmpeg")
    return best[1]


def signal_name(number: int) -> str:
    """Return the name of a signal; real-time signals have none but their number."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def explain_exit(exit_code: int, source_uri: str, stderr_tail: str) -> FfmpegError:
    """Return the error that a failed ffmpeg amounts to, in the words of the old service.

    Args:
        exit_code: As `subprocess` gives it: negative for a signal.
        source_uri: The recording that it read.
        stderr_tail: The last lines that it wrote.
    """
    if exit_code < 0:
        name = signal_name(-exit_code)
        meaning = _SIGNAL_MEANING.get(-exit_code, f"FFmpeg process ended by {name}")
        message = f"{meaning} ({name})"
    else:
        name, message = "", f"FFmpeg failed with exit code {exit_code}"
    if stderr_tail:
        message += f": {stderr_tail}"
    return FfmpegError(message, source_uri=source_uri, signal=name, exit_code=exit_code)


def _packet_filters(track: VideoTrack) -> str:
    """Return what packets go through.

    A packet without any time cannot be placed, and would end the copy: it belongs to the pictures
    before a cut, which do not decode. Old MPEG-4 files pack two frames into a packet.
    """
    timed = r"noise=amount=0:drop=eq(pts\,nopts)"
    return f"mpeg4_unpack_bframes,{timed}" if track.packs_b_frames else timed


def die_with_parent() -> None:
    """Ask the kernel to kill this process when the thread that started it ends (Linux)."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


@dataclass(frozen=True, slots=True)
class StderrLog:
    """What ffmpeg has complained of so far, without the path of the recording."""

    file: IO[bytes]

    def size(self) -> int:
        """Bytes written so far: grows with each complaint."""
        return os.fstat(self.file.fileno()).st_size

    def demuxer_lines(self) -> list[str]:
        """Complaints about the recording; those about our own remuxing are left out."""
        lines = os.pread(self.file.fileno(), 1 << 20, 0).decode(errors="replace").splitlines()
        own = re.compile(r"\[(nut|out#|vost#|aost#)")
        return [_printable(line) for line in lines if line.strip() and not own.match(line)]

    def tail(self) -> str:
        """Return the last lines, as one."""
        return " | ".join(self.demuxer_lines()[-_STDERR_TAIL_LINES:])


def _printable(line: str) -> str:
    """Drop pointers and control characters: nothing a file says shall steer a terminal."""
    line = re.sub(r" @ 0x[0-9a-f]+", "", line.strip())
    return "".join(char if char.isprintable() else "?" for char in line)


@dataclass(frozen=True, slots=True)
class Stream:
    """A running copy of video tracks: `container` gives their packets, `stderr` the complaints."""

    container: av.container.InputContainer
    stderr: StderrLog
    process: subprocess.Popen[bytes]
    source_uri: str

    def end(self) -> None:
        """Wait for the process, after its last packet.

        Raises:
            FfmpegError: It failed, or a signal ended it.
        """
        exit_code = self.process.wait()
        if exit_code != 0:
            raise explain_exit(exit_code, self.source_uri, self.stderr.tail())


@contextmanager
def copy_video_tracks(
    source_uri: str,
    video_tracks: Sequence[VideoTrack],
    *,
    executable: str | None = None,
    before_start: Callable[[], None] = die_with_parent,
) -> Iterator[Stream]:
    """Run ffmpeg over a recording and give the packets of some of its video tracks.

    Args:
        source_uri: Path of the recording.
        video_tracks: They become the streams 0, 1, ... of the result.
        executable: The ffmpeg to run; `find_ffmpeg()` by default.
        before_start: Runs in the child before ffmpeg does.

    Yields:
        The running copy. The process is reaped when the block is left, however it is left.

    Raises:
        FfmpegError: ffmpeg gave nothing at all.
    """
    maps = [arg for track in video_tracks for arg in ("-map", f"0:V:{track.video_track}")]
    filters = [
        argument
        for number, track in enumerate(video_tracks)
        for argument in (f"-bsf:v:{number}", _packet_filters(track))
    ]
    command = [
        executable or find_ffmpeg(), "-nostdin", "-hide_banner", "-v", "error",
        "-protocol_whitelist", "file", "-format_whitelist", FORMATS, "-fflags", "+genpts",
        "-copyts", "-i", f"file:{Path(source_uri).absolute()}", *maps, "-c", "copy", *filters,
        "-output_ts_offset", str(TIME_SHIFT_S), "-avoid_negative_ts", "disabled",
        "-max_interleave_delta", "2000000", "-f", "nut", "-flush_packets", "1", "pipe:1",
    ]  # fmt: skip
    with tempfile.TemporaryFile() as stderr:
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=stderr,
            stdin=subprocess.DEVNULL,
            env={},
            preexec_fn=before_start,
        )
        assert process.stdout is not None
        log = StderrLog(stderr)
        try:
            try:
                container = av.open(process.stdout, format="nut")
            except av.error.FFmpegError as error:
                process.stdout.close()
                raise explain_exit(process.wait(), source_uri, log.tail()) from error
            with container:
                assert isinstance(container, av.container.InputContainer)
                yield Stream(container, log, process, source_uri)
        finally:
            process.kill()
            process.stdout.close()
            process.wait()
