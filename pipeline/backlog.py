"""Pictures that wait to be asked about: a few in memory, more in a file, and no more than that.

The file has no name, so it is gone with the process, whatever ends that. It is written on and on, and
begins anew whenever nothing of it is left to read.
"""

import os
import tempfile
from collections import deque
from dataclasses import dataclass, field, replace
from typing import IO

from pipeline.records import Footage, LabelFrame

MEMORY_BYTES = 16 << 20
SPOOL_BYTES = 1 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A picture that waits.

    Attributes:
        since: Unix time.
        rounds: How often it was asked about, too fast.
    """

    footage: Footage
    frame: LabelFrame
    since: float
    rounds: int = 0


@dataclass(slots=True)
class _Spool:
    most_bytes: int
    end: int = 0
    left: int = 0
    file: IO[bytes] | None = None

    def write(self, data: bytes) -> int | None:
        """Write at the end; return where; None if there is no room."""
        if self.file is None:
            self.end = 0
        if self.end + len(data) > self.most_bytes:
            return None
        if self.file is None:
            self.file = tempfile.TemporaryFile(prefix="footfall-labels-")  # noqa: SIM115 -- it stays open
        try:
            os.pwrite(self.file.fileno(), data, self.end)
        except OSError:
            # The disk is full: there is no room either.
            return None
        at = self.end
        self.end += len(data)
        self.left += 1
        return at

    def read(self, at: int, size: int) -> bytes:
        assert self.file is not None
        data = os.pread(self.file.fileno(), size, at)
        self.left -= 1
        if not self.left:
            self.file.close()
            self.file = None
        return data


@dataclass(slots=True)
class Backlog:
    """What waits, first come, first served. Not for several threads at once.

    Attributes:
        memory_bytes: Pictures that may wait in memory.
        spool_bytes: Size that the file may come to.
    """

    memory_bytes: int = MEMORY_BYTES
    spool_bytes: int = SPOOL_BYTES
    _queue: deque[tuple[Waiting, tuple[int, int] | None]] = field(default_factory=deque)
    _held_bytes: int = 0
    _spool: _Spool | None = None

    def __len__(self) -> int:
        return len(self._queue)

    def put(self, waiting: Waiting) -> bool:
        """Take a picture; return whether there was room."""
        size = len(waiting.frame.jpeg)
        if self._held_bytes + size <= self.memory_bytes:
            self._held_bytes += size
            self._queue.append((waiting, None))
            return True
        self._spool = self._spool or _Spool(self.spool_bytes)
        at = self._spool.write(waiting.frame.jpeg)
        if at is None:
            return False
        bare = replace(waiting, frame=replace(waiting.frame, jpeg=b""))
        self._queue.append((bare, (at, size)))
        return True

    def put_back(self, waiting: Waiting) -> None:
        """Take back what was taken: it is next."""
        self._held_bytes += len(waiting.frame.jpeg)
        self._queue.appendleft((waiting, None))

    def take(self) -> Waiting | None:
        """Return what is next; None if nothing waits."""
        if not self._queue:
            return None
        waiting, place = self._queue.popleft()
        if place is None:
            self._held_bytes -= len(waiting.frame.jpeg)
            return waiting
        assert self._spool is not None
        return replace(waiting, frame=replace(waiting.frame, jpeg=self._spool.read(*place)))
