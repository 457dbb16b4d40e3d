"""How long a step took: spans that travel with the work, so that a retry is counted once."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """One step's work on one stretch of footage.

    Attributes:
        step: The step's name: "fetch", "demux", "decode", "detect", "track", "write".
        wall_s: Elapsed seconds, waiting for neighbours not included.
        cpu_s: CPU seconds of the process while the span was open, all threads.
        frames: Frames that the step handled.
        pid: The process that did it.
        bytes: What the step gave on: packets, pixels, boxes, rows.
        wait_s: Seconds that the work lay ready before this step began, as far as clocks agree.
        ended_at: Unix time; 0 where it is not known any more.
        node: Where that process runs; "" where nobody said.
        crossed_bytes: Pixels that came to it from another node.
        retries: Requests to S3 that had to be made again.
    """

    step: str
    wall_s: float
    cpu_s: float
    frames: int
    pid: int
    bytes: int = 0
    wait_s: float = 0.0
    ended_at: float = 0.0
    node: str = ""
    crossed_bytes: int = 0
    retries: int = 0

    def crossed(self, before: "Span", pixels: int) -> "Span":
        """Return it as of work that came with so many bytes of pixels from the step before."""
        return self if before.node == self.node else replace(self, crossed_bytes=pixels)


class _Here:
    """Where this process runs."""

    node = ""


def run_on(node: str) -> None:
    """Say which node this process runs on: its spans tell of it from now on."""
    _Here.node = node


class Stopwatch:
    """Adds up the time of one step over pieces of work; `span` reads it out and starts afresh."""

    def __init__(self, step: str) -> None:
        self._step = step
        self._wall_s = 0.0
        self._cpu_s = 0.0
        self._began_at = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Count the time spent in the `with` block."""
        wall, cpu = time.perf_counter(), time.process_time()
        self._began_at = self._began_at or time.time()
        try:
            yield
        finally:
            self._wall_s += time.perf_counter() - wall
            self._cpu_s += time.process_time() - cpu

    def span(
        self, *, frames: int, bytes_: int = 0, ready_at: float = 0.0, retries: int = 0
    ) -> Span:
        """Return what was counted since the last call, as a span.

        Args:
            frames: How many it is about.
            bytes_: What the step gave on.
            ready_at: Unix time since when the work lay ready; 0 means that it never lay.
            retries: Requests that had to be made again.
        """
        span = Span(
            step=self._step,
            wall_s=self._wall_s,
            cpu_s=self._cpu_s,
            frames=frames,
            pid=os.getpid(),
            bytes=bytes_,
            wait_s=_waited_s(ready_at, self._began_at),
            ended_at=time.time(),
            node=_Here.node,
            retries=retries,
        )
        self._wall_s = self._cpu_s = self._began_at = 0.0
        return span


def _waited_s(ready_at: float, began_at: float) -> float:
    return max(0.0, began_at - ready_at) if ready_at and began_at else 0.0


@dataclass(frozen=True, slots=True, order=True)
class Moment:
    """A moment by a clock that only rises, with the CPU seconds of the process until then."""

    wall_s: float = 0.0
    cpu_s: float = 0.0
    unix_s: float = 0.0


class OverlappingWork:
    """Times work of one step that is begun before the work in front of it is done.

    begun    1     2     3
    done           1     2     3      each gets what passed since the one in front was done, or,
    is timed 11111122222233333        if it was begun later, since then
    """

    def __init__(self, step: str) -> None:
        self._step = step
        self._last = Moment()

    def begin(self) -> Moment:
        """Note that a piece of work begins now."""
        return Moment(time.perf_counter(), time.process_time(), time.time())

    def span(self, begun: Moment, *, frames: int, bytes_: int = 0, ready_at: float = 0.0) -> Span:
        """Return the span of a piece of work that is done now; see `Stopwatch.span`."""
        since, now = max(begun, self._last), self.begin()
        self._last = now
        return Span(
            step=self._step,
            wall_s=now.wall_s - since.wall_s,
            cpu_s=now.cpu_s - since.cpu_s,
            frames=frames,
            pid=os.getpid(),
            bytes=bytes_,
            wait_s=_waited_s(ready_at, begun.unix_s),
            ended_at=now.unix_s,
            node=_Here.node,
        )
