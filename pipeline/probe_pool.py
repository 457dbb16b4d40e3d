"""Probe many recordings in child processes: a header that kills a library, or hangs it, costs a child.

    a thread of ours   ── address, JSON ──>   its child: `probe`, in bounded memory and time
                       <── recording, or what is wrong with it, JSON ──

    of one in S3       <── which bytes it needs, JSON ──
                       ── the bytes ──>

JSON and not pickle: a child that a header took over shall not run code here. For the same reason a
child gets none of our environment: what lies in S3 is read for it. What is found out
about a recording is for `probe`.
"""

import json
import logging
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from itertools import repeat
from multiprocessing.connection import Connection, Pipe
from queue import SimpleQueue
from typing import Any, TypeAlias

from pipeline.aws import AwsSettings, is_s3
from pipeline.complaints import StderrLog
from pipeline.errors import FfmpegError, SourceError
from pipeline.ffmpeg import MAX_MEMORY_BYTES, confine, signal_name
from pipeline.isolate import bare_environment
from pipeline.probe import RemoteFile, probe
from pipeline.ranges import RangeReader
from pipeline.records import Listed, Recording, VideoTrack

Probed: TypeAlias = Recording | SourceError

# A child costs a quarter of a second of a core to start, a recording a few milliseconds.
_RECORDINGS_A_CHILD = 32
_MOST_CHILDREN = 4
# Beginnings of recordings in S3 that are fetched for each child while it is at another's.
_FETCHED_AHEAD = 4
_MOST_ANSWER_BYTES = 1 << 20
_TELL_EVERY_S = 10.0
# S3's ETags: of a PUT, and of a multipart upload. Other servers may write there what they like.
_MD5 = re.compile(r"[0-9a-f]{32}(-\d+)?")

log = logging.getLogger(__name__)


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


def probe_all(
    listed: Sequence[Listed],
    limits: ProbeLimits | None = None,
    aws: AwsSettings | None = None,
) -> list[Probed]:
    """Return what each recording holds, or the error that says why it is not known, in their order.

    Of objects of S3 with the same content, as their ETags tell, one is looked into.

    Args:
        listed: The recordings.
        limits: What a child may take.
        aws: How S3 is read.
    """
    how = limits or ProbeLimits(), aws or AwsSettings()
    contents = [_content_of(each) for each in listed]
    firsts = {content: number for number, content in reversed(list(enumerate(contents)))}
    known: dict[int, Probed] = {}

    def look(numbers: Sequence[int]) -> None:
        found = _probe_each([listed[number] for number in numbers], *how)
        known.update(zip(numbers, found, strict=True))

    look(sorted(firsts.values()))
    for number, content in enumerate(contents):
        first = known[firsts[content]]
        if number not in known and isinstance(first, Recording):
            known[number] = replace(first, source_uri=listed[number].source_uri)
    # What was wrong with one may not be wrong with its copies.
    look([number for number in range(len(listed)) if number not in known])
    return [known[number] for number in range(len(listed))]


def _content_of(listed: Listed) -> tuple[str, ...]:
    """Return what is equal of recordings with equal content, as far as a listing tells."""
    if not _MD5.fullmatch(listed.version):
        return (listed.source_uri,)
    # A suffix tells the format where the beginning does not.
    suffix = listed.source_uri.rpartition(".")[2]
    return listed.version, str(listed.size_bytes), suffix


def _probe_each(listed: Sequence[Listed], limits: ProbeLimits, aws: AwsSettings) -> list[Probed]:
    count = min(_MOST_CHILDREN, 1 + len(listed) // _RECORDINGS_A_CHILD)
    ahead = _FETCHED_AHEAD if any(is_s3(each.source_uri) for each in listed) else 1
    # Children are started when one is needed; None stands for one that is not running.
    idle: SimpleQueue[_Child | None] = SimpleQueue()
    for _ in range(count):
        idle.put(None)
    with ThreadPoolExecutor(count * ahead) as threads:
        try:
            given = repeat(limits), repeat(idle), repeat(aws)
            probed, told_at = [], time.monotonic()
            for each in threads.map(_probe_one, listed, *given):
                probed.append(each)
                if time.monotonic() - told_at > _TELL_EVERY_S:
                    log.info("Looked into %d of %d recordings", len(probed), len(listed))
                    told_at = time.monotonic()
            return probed
        finally:
            threads.shutdown()
            for child in (idle.get() for _ in range(count)):
                if child is not None:
                    child.end()


def _probe_one(
    listed: Listed, limits: ProbeLimits, idle: "SimpleQueue[_Child | None]", aws: AwsSettings
) -> Probed:
    reader = RangeReader(listed, aws) if is_s3(listed.source_uri) else None
    try:
        if reader:
            reader.open()
    except SourceError as error:
        return error
    child = idle.get()
    try:
        child = child or _Child(limits)
        probed = child.ask(listed.source_uri, reader)
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

    def ask(self, source_uri: str, reader: RangeReader | None = None) -> Probed:
        """Return what the child finds out.

        Args:
            source_uri: The recording.
            reader: Reads it, if it lies in S3.

        Raises:
            _ChildLostError: It died, or took too long; it is gone.
            SourceError: It cannot be read.
        """
        size_bytes = reader.listed.size_bytes if reader else None
        try:
            self._pipe.send_bytes(json.dumps([source_uri, size_bytes]).encode())
            answer = self._answer(source_uri)
            while "read" in answer and reader:
                offset, length = answer["read"]
                self._pipe.send_bytes(reader.read(int(offset), int(length)))
                answer = self._answer(source_uri)
        except SourceError as error:
            # The child waits for bytes that do not come.
            self.end()
            raise _ChildLostError(error) from error
        except (EOFError, OSError, ValueError) as error:
            raise _ChildLostError(self._death(source_uri)) from error
        if "error" in answer:
            return SourceError(answer["error"], source_uri=source_uri)
        tracks = tuple(VideoTrack(**track) for track in answer.pop("video_tracks"))
        bad = tuple((int(number), str(why)) for number, why in answer.pop("bad_video_tracks"))
        found = Recording(**answer, video_tracks=tracks, bad_video_tracks=bad)
        if reader is None:
            return found
        told = reader.listed
        return replace(found, version=told.version, storage_class=told.storage_class)

    def _answer(self, source_uri: str) -> dict[str, Any]:
        if not self._pipe.poll(self._limits.recording_s):
            self.end()
            reason = f"cannot be read as footage within {self._limits.recording_s:g} s"
            raise _ChildLostError(SourceError(reason, source_uri=source_uri))
        answer: dict[str, Any] = json.loads(self._pipe.recv_bytes(_MOST_ANSWER_BYTES))
        return answer

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


class _FileOfParent:
    """A recording that the parent reads, as PyAV reads it.

    Attributes:
        name: Its suffix tells the format where the beginning does not.
    """

    def __init__(self, pipe: Connection, source_uri: str, size_bytes: int) -> None:
        self._pipe, self._at = pipe, 0
        self.name = source_uri.rpartition("/")[2]
        self.size_bytes = size_bytes

    def read(self, size: int) -> bytes:
        """Return up to `size` bytes from where it stands; b"" at the end."""
        self._pipe.send_bytes(json.dumps({"read": [self._at, size]}).encode())
        block = self._pipe.recv_bytes()
        self._at += len(block)
        return block

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go somewhere; return where it stands."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self.size_bytes}[whence]
        self._at = max(0, base + offset)
        return self._at

    def tell(self) -> int:
        """Return where it stands."""
        return self._at


def serve(probe_one: Callable[[str, RemoteFile | None], Recording] = probe) -> None:
    """Be the child: probe the recordings that come, until the pipe is closed."""
    confine(int(sys.argv[2]))
    pipe = Connection(int(sys.argv[1]))
    while True:
        try:
            source_uri, size_bytes = json.loads(pipe.recv_bytes())
        except EOFError:
            return
        remote = None if size_bytes is None else _FileOfParent(pipe, source_uri, size_bytes)
        try:
            answer = asdict(probe_one(source_uri, remote))
        except SourceError as error:
            answer = {"error": str(error)}
        except Exception as error:  # noqa: BLE001 -- one bad recording stops nothing
            answer = {"error": f"cannot be read as footage: {type(error).__name__}: {error}"}
        pipe.send_bytes(json.dumps(answer).encode())
