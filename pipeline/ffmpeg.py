"""The ffmpeg process: which one, how it is started, what its death means.

It copies video tracks, never re-encoded, into one NUT stream on a pipe:

    recording ──> ffmpeg -c copy ──> pipe (64 KiB) ──> packets

NUT keeps every time base exactly (Matroska rounds to a millisecond) and carries every codec. A pipe
blocks: when the reader pauses, ffmpeg does too, and nothing lies on a disk. The process ends with
the one that started it, even if that one is killed; it has a bounded memory, no environment, and ends
when it hangs.
"""

import ctypes
import re
import resource
import select
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import av
import imageio_ffmpeg

from pipeline.complaints import MOST_LOG_BYTES, StderrLog
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
# 8192 x 8192: twice what cameras have; each frame in flight then takes 100 MB.
MAX_PIXELS = 8192 * 8192
MAX_STREAMS = 128
# For PyAV, of a file and of a decoder: the one does not hand them on to the other.
DECODER_LIMITS = {"max_pixels": str(MAX_PIXELS)}
# An MP4's index takes 48 bytes a frame: an MP4 of a day of 8 cameras 0.8 GB. Who asks for more is
# not given it.
MAX_MEMORY_BYTES = 2 << 30
# A file system may be slow, and a video track may rest; an ffmpeg that gives nothing for so long hangs.
MAX_SILENCE_S = 300.0
# No recording is longer: what claims to be is not believed.
LONGEST_S = 366 * 86_400
# Output timestamps are moved by this much, so that negative ones survive, and decoding times that are
# `LONGEST_S` before them; `seconds` takes it back.
TIME_SHIFT_S = LONGEST_S + 1000

_SIGNAL_MEANING: dict[int, str] = {
    signal.SIGKILL: "FFmpeg process was killed due to memory issues",
    signal.SIGSEGV: "FFmpeg process crashed due to segmentation fault",
    signal.SIGABRT: "FFmpeg process aborted",
}
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True)
# ffmpeg handles SIGTERM and SIGINT, and then ends with this. So it does on EPERM, which is -1.
_EXIT_AFTER_SIGNAL = 255


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
    if exit_code == _EXIT_AFTER_SIGNAL and "Operation not permitted" not in stderr_tail:
        name = "SIGTERM"
        message = f"FFmpeg process ended by SIGTERM or SIGINT (exit code {exit_code})"
    elif exit_code < 0:
        name = signal_name(-exit_code)
        meaning = _SIGNAL_MEANING.get(-exit_code, f"FFmpeg process ended by {name}")
        message = f"{meaning} ({name})"
    else:
        name, message = "", f"FFmpeg failed with exit code {exit_code}"
    if stderr_tail:
        message += f": {stderr_tail}"
    return FfmpegError(message, source_uri=source_uri, signal=name, exit_code=exit_code)


def _broken_off(error: av.error.FFmpegError, source_uri: str, stderr_tail: str) -> FfmpegError:
    """Return what it amounts to that packets cannot be read of an ffmpeg that ended well."""
    message = f"the packets break off: {error.strerror}"
    return FfmpegError(
        f"{message}: {stderr_tail}" if stderr_tail else message, source_uri=source_uri
    )


def _packet_filters(track: VideoTrack) -> str:
    """Return what packets go through.

    A packet without any time cannot be placed, and would end the copy: it belongs to the pictures
    before a cut, which do not decode. Old MPEG-4 files pack two frames into a packet. ffmpeg wants
    decoding times to rise, and moves presentation times along with them: behind a jump back it would
    press all frames into one moment. NUT keeps presentation times alone, so that decoding times may
    be what ffmpeg wants, as long as they are earlier.
    """
    timed = r"noise=amount=0:drop=eq(pts\,nopts)"
    rising = rf"setts=pts=PTS:dts=max(DTS-{LONGEST_S}/TB\,PREV_OUTDTS+1)"
    unpacked = ("mpeg4_unpack_bframes",) if track.packs_b_frames else ()
    return ",".join([*unpacked, timed, rising])


def die_with_parent() -> None:
    """Ask the kernel to kill this process when the thread that started it ends (Linux)."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def confine(memory_bytes: int = MAX_MEMORY_BYTES) -> None:
    """Limit what this process, which will read footage, can take: memory, disk, life without parent."""
    die_with_parent()
    resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # It writes its complaints into a file, and nothing else; those beyond the limit go nowhere.
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (MOST_LOG_BYTES, MOST_LOG_BYTES))


class _Output:
    """What ffmpeg writes. One that writes nothing while we wait for it is ended."""

    def __init__(self, process: subprocess.Popen[bytes], silence_s: float) -> None:
        assert process.stdout is not None
        self._process, self._pipe, self._silence_s = process, process.stdout, silence_s
        self._poll = select.poll()
        self._poll.register(self._pipe, select.POLLIN)
        self.is_silent = False

    def read(self, size: int) -> bytes:
        """Return `size` bytes, fewer at the end."""
        data = bytearray()
        while len(data) < size:
            if not self._poll.poll(self._silence_s * 1000):
                self.is_silent = True
                self._process.kill()
            more = self._pipe.read(size - len(data))
            if not more:
                break
            data += more
        return bytes(data)

    def error(self, source_uri: str, stderr_tail: str) -> FfmpegError | None:
        """Wait for the process; return what its end amounts to, if it is no good one."""
        exit_code = self._process.wait()
        if self.is_silent:
            message = f"FFmpeg wrote nothing for {self._silence_s:g} s and was ended"
            return FfmpegError(message, source_uri=source_uri, exit_code=exit_code)
        return explain_exit(exit_code, source_uri, stderr_tail) if exit_code else None


@dataclass(frozen=True, slots=True)
class Stream:
    """A running copy of video tracks: `container` gives their packets, `stderr` the complaints."""

    container: av.container.InputContainer
    stderr: StderrLog
    process: subprocess.Popen[bytes]
    source_uri: str
    output: _Output

    def end(self) -> None:
        """Wait for the process, after its last packet.

        Raises:
            FfmpegError: It failed, a signal ended it, or it hung.
        """
        if error := self.output.error(self.source_uri, self.stderr.tail()):
            raise error


@contextmanager
def copy_video_tracks(
    source_uri: str,
    video_tracks: Sequence[VideoTrack],
    *,
    executable: str | None = None,
    before_start: Callable[[], None] = confine,
    silence_s: float = MAX_SILENCE_S,
) -> Iterator[Stream]:
    """Run ffmpeg over a recording and give the packets of some of its video tracks.

    Args:
        source_uri: Path of the recording.
        video_tracks: They become the streams 0, 1, ... of the result.
        executable: The ffmpeg to run; `find_ffmpeg()` by default.
        before_start: Runs in the child before ffmpeg does.
        silence_s: An ffmpeg that writes nothing for so long, while it is read from, is ended.

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
        executable or find_ffmpeg(), "-nostdin", "-hide_banner", "-v", "level+warning",
        "-protocol_whitelist", "file", "-format_whitelist", FORMATS, "-fflags", "+genpts",
        "-max_streams", str(MAX_STREAMS), "-max_pixels", str(MAX_PIXELS), "-copyts",
        "-i", f"file:{Path(source_uri).absolute()}", *maps, "-c", "copy", "-copyinkf", *filters,
        "-output_ts_offset", str(TIME_SHIFT_S), "-avoid_negative_ts", "disabled",
        "-max_interleave_delta", "2000000", "-f", "nut", "-write_index", "0",
        "-flush_packets", "1", "pipe:1",
    ]  # fmt: skip
    with tempfile.TemporaryFile() as stderr:
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=stderr,
            stdin=subprocess.DEVNULL,
            env={},
            preexec_fn=before_start,
            bufsize=0,
        )
        assert process.stdout is not None
        log, output = StderrLog(stderr), _Output(process, silence_s)
        try:
            try:
                container = av.open(output, format="nut", options=DECODER_LIMITS)
            except av.error.FFmpegError as error:
                process.stdout.close()
                died = output.error(source_uri, log.tail())
                raise died or _broken_off(error, source_uri, log.tail()) from error
            with container:
                assert isinstance(container, av.container.InputContainer)
                yield Stream(container, log, process, source_uri, output)
        finally:
            process.kill()
            process.stdout.close()
            process.wait()
