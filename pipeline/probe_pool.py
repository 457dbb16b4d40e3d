"""Probe many recordings in child processes: a header that kills a library, or hangs it, costs a child.

    a thread of ours   ── path, JSON ──>   its child: `probe`, in bounded memory and time
                       <── recording, or what is wrong with it, JSON ──

JSON and not pickle: a child that a header took over shall not run code here. For the same reason a
child gets none of our environment. What is found out about a recording is for `probe`.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import repeat
from multiprocessing.connection import Connection, Pipe
from queue import SimpleQueue
from typing import TypeAlias

from pipeline.complaints import StderrLog
from pipeline.errors import FfmpegError, SourceError
from pipeline.ffmpeg import MAX_MEMORY_BYTES, confine, signal_name
from pipeline.isolate import bare_environment
from pipeline.probe import probe
from pipeline.records import Recording, VideoTrack

Probed: TypeAlias = Recording | SourceError

# A child costs a quarter of a second of a core to start, a recording a few milliseconds.
_RECORDINGS_A_CHILD = 32
_MOST_CHILDREN = 8
_MOST_ANSWER_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeLimits:
    """What probing may take.

    Attributes:
        recording_s: Seconds for one recording.
        memory_bytes: Memory of a child.
        script: The Python that a child runs; tests give another.
    """

    recording_s: float = 60.0
    memory_bytes: int = MAX_MEMORY_BYTES
    script: str = f"from {__name__} import serve; serve()"


def probe_all(source_uris: Sequence[str], limits: ProbeLimits | None = None) -> list[Probed]:
    """Return what each recording holds, or the error that says why it is not known, in their order.

    Args:
        source_uris: Paths of recordings.
        limits: What a child may take.
    """
    count = min(_MOST_CHILDREN, 1 + len(source_uris) // _RECORDINGS_A_CHILD)
    # Children are started when one is needed; None stands for one that is not running.
    idle: SimpleQueue[_Child | None] = SimpleQueue()
    for _ in range(count):
        idle.put(None)
    with ThreadPoolExecutor(count) as threads:
        try:
            given = repeat(limits or ProbeLimits()), repeat(idle)
            return list(threads.map(_probe_one, source_uris, *given))
        finally:
            threads.shutdown()
            for child in (idle.get() for _ in range(count)):
                if child is not None:
                    child.end()


def _probe_one(source_uri: str, limits: ProbeLimits, idle: "SimpleQueue[_Child | None]") -> Probed:
    child = idle.get()
    try:
        child = child or _Child(limits)
        probed = child.ask(source_uri)
    except _ChildLostError as lost:
        child, probed = None, lost.error
    finally:
        idle.put(child)
    return probed


class _ChildLostError(Exception):
    """The child did not answer; `error` says what became of it."""

    def __init__(self, error: SourceError) -> None:
        super().__init__(str(error))
        self.error = error


class _Child:
    """A process that probes one recording after the other."""

    def __init__(self, limits: ProbeLimits) -> None:
        self._limits = limits
        self._pipe, theirs = Pipe()
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 -- closed by `end`
        with theirs:
            given = str(theirs.fileno()), str(limits.memory_bytes)
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", limits.script, *given],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._stderr,
                env=bare_environment(),
                pass_fds=[theirs.fileno()],
            )

    def ask(self, source_uri: str) -> Probed:
        """Return what the child finds out.

        Raises:
            _ChildLostError: It died, or took too long; it is gone.
        """
        try:
            self._pipe.send_bytes(json.dumps(source_uri).encode())
            if not self._pipe.poll(self._limits.recording_s):
                self.end()
                reason = f"cannot be read as footage within {self._limits.recording_s:g} s"
                raise _ChildLostError(SourceError(reason, source_uri=source_uri))
            answer = json.loads(self._pipe.recv_bytes(_MOST_ANSWER_BYTES))
        except (EOFError, OSError, ValueError) as error:
            raise _ChildLostError(self._death(source_uri)) from error
        if "error" in answer:
            return SourceError(answer["error"], source_uri=source_uri)
        tracks = tuple(VideoTrack(**track) for track in answer.pop("video_tracks"))
        bad = tuple((int(number), str(why)) for number, why in answer.pop("bad_video_tracks"))
        return Recording(**answer, video_tracks=tracks, bad_video_tracks=bad)

    def _death(self, source_uri: str) -> SourceError:
        # It closed its end, or wrote nonsense: of itself it ends within moments, if at all.
        try:
            exit_code = self._process.wait(5)
        except subprocess.TimeoutExpired:
            exit_code = 0
        last_words = StderrLog(self._stderr).tail()
        self.end()
        if exit_code < 0:
            name = signal_name(-exit_code)
            reason = f"cannot be read as footage: its reader was ended by {name}"
            return FfmpegError(reason, source_uri=source_uri, signal=name, exit_code=exit_code)
        reason = f"cannot be read as footage: its reader ended with exit code {exit_code}"
        return SourceError(
            f"{reason}: {last_words}" if last_words else reason, source_uri=source_uri
        )

    def end(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        self._pipe.close()
        self._stderr.close()


def serve(probe_one: Callable[[str], Recording] = probe) -> None:
    """Be the child: probe the recordings that come, until the pipe is closed."""
    confine(int(sys.argv[2]))
    pipe = Connection(int(sys.argv[1]))
    while True:
        try:
            source_uri = json.loads(pipe.recv_bytes())
        except EOFError:
            return
        try:
            answer = asdict(probe_one(source_uri))
        except SourceError as error:
            answer = {"error": str(error)}
        except Exception as error:  # noqa: BLE001 -- one bad recording stops nothing
            answer = {"error": f"cannot be read as footage: {type(error).__name__}: {error}"}
        pipe.send_bytes(json.dumps(answer).encode())
