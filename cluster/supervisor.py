"""What must be known outside the workers: readiness, attempts, progress. One light actor a job.

Ray does not set poison aside: a task whose process dies is started again for ever. So each try is
counted here, before it begins, by segment and step; a worker that dies leaves its try open.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace

MOST_ATTEMPTS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptKey:
    """A piece of work: a step on a stretch of a segment, or on all of it."""

    camera_id: str
    sequence: int
    segment: int
    step: str
    start: int = 0


@dataclass(slots=True)
class Attempts:
    """Counts tries that began and did not end; those lost with their node do not count.

    A segment that was given up for one of its batches is given up for all: it is set aside whole.
    """

    is_alive: Callable[[str], bool]
    _open: dict[AttemptKey, list[str]] = field(default_factory=dict)
    _given_up: set[AttemptKey] = field(default_factory=set)

    def begin(self, key: AttemptKey, node_id: str) -> int:
        """Note that a try begins on a node; return how many before it did not end."""
        if replace(key, start=0) in self._given_up:
            return MOST_ATTEMPTS
        lost = [node for node in self._open.get(key, []) if self.is_alive(node)]
        self._open[key] = [*lost, node_id]
        if len(lost) >= MOST_ATTEMPTS:
            self._given_up.add(replace(key, start=0))
        return len(lost)

    def end(self, key: AttemptKey) -> None:
        """Note that the work is done, by whichever try."""
        self._open.pop(key, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a job is: frames that are logged, and footages that are finished."""

    is_warm: bool
    frames: int
    finished: int


class Supervisor:
    """The domain class of the actor; its methods run on one event loop, so none needs a lock."""

    def __init__(self, warm_ups: int, weights: bytes, is_alive: Callable[[str], bool]) -> None:
        """Expect `warm_ups` arrivals before the job is warm; keep the model's file for the nodes."""
        self._weights = weights
        self._warm_ups = warm_ups
        self._attempts = Attempts(is_alive)
        self._gate = asyncio.Event()
        self._frames = 0
        self._finished = 0

    async def weights(self) -> bytes:
        """Return the file of the weights: nodes need not share a disk for them."""
        return self._weights

    async def warmed_up(self) -> None:
        """Note that something of the warm-up has gone through every step."""
        self._warm_ups -= 1

    async def open_gate(self) -> None:
        """Let the real footage in."""
        self._gate.set()

    async def wait_for_gate(self) -> None:
        """Return once the real footage is let in."""
        await self._gate.wait()

    async def begin(self, key: AttemptKey, node_id: str) -> int:
        """See `Attempts.begin`."""
        return self._attempts.begin(key, node_id)

    async def end(self, key: AttemptKey) -> None:
        """See `Attempts.end`."""
        self._attempts.end(key)

    async def logged(self, frames: int, finished: int) -> None:
        """Note that frames, and whole footages, were logged."""
        self._frames += frames
        self._finished += finished

    async def progress(self) -> Progress:
        """Return how far the job is."""
        return Progress(is_warm=self._warm_ups <= 0, frames=self._frames, finished=self._finished)
