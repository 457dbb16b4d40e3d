"""What must be known outside the workers: readiness, attempts, progress. One light actor a job.

Ray does not set poison aside: a task whose process dies is started again for ever. So each try is
counted here, before it begins, by segment and step; a worker that dies leaves its try open.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from pipeline.camera_log import Gain
from pipeline.errors import StepError

MOST_ATTEMPTS = 3
STRANDED_AFTER_S = 60.0
_SEGMENTS_FOR_A_SHARE = 10


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


@dataclass(slots=True)
class Stranded:
    """Finds detectors that died with their node and found no place on another.

    What was handed to one of them waits for ever; a node that comes in its place may be minutes away.
    """

    is_alive: Callable[[str], bool]
    now: Callable[[], float] = time.monotonic
    _places: dict[str, tuple[Any, str]] = field(default_factory=dict)
    _since: dict[str, float] = field(default_factory=dict)

    def enlist(self, name: str, actor: object, node_id: str) -> None:
        """Note that an actor runs on a node, for the first time or again."""
        self._places[name] = actor, node_id
        self._since.pop(name, None)

    def given_up(self) -> list[Any]:
        """Return the actors that have been without a node for too long; each once."""
        lost = [name for name, (_, node) in self._places.items() if not self.is_alive(node)]
        late = [
            name
            for name in lost
            if self.now() - self._since.setdefault(name, self.now()) > STRANDED_AFTER_S
        ]
        return [self._places.pop(name)[0] for name in late]


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a job is.

    Attributes:
        is_warm: The warm-up has gone through every step.
        frames: Frames that were looked at since it began, and are on disk.
        lost: Frames that were set aside.
    """

    is_warm: bool
    frames: int
    lost: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureLimit:
    """How many segments may be set aside before a job stops: it would fail everywhere.

    Attributes:
        most: Their number, or their share of all segments so far.
        is_share: Which of the two.
    """

    most: float
    is_share: bool = False

    def check(self, gain: Gain) -> None:
        """Stop if too much has failed.

        Raises:
            StepError: It has.
        """
        few = self.is_share and gain.segments < _SEGMENTS_FOR_A_SHARE
        allowed = self.most * gain.segments if self.is_share else self.most
        if gain.failed > allowed and not few:
            raise StepError(
                f"stopped: {gain.failed} of {gain.segments} segments failed, more than "
                f"max_failed_segments = {self.most:g} allows; what was committed is whole"
            )


class Supervisor:
    """The domain class of the actor; its methods run on one event loop, so none needs a lock."""

    def __init__(
        self,
        warm_ups: int,
        weights: bytes,
        is_alive: Callable[[str], bool],
        limit: FailureLimit | None = None,
    ) -> None:
        """Expect `warm_ups` arrivals before the job is warm; keep the model's file for the nodes."""
        self._limit = limit
        self._weights = weights
        self._warm_ups = warm_ups
        self._attempts = Attempts(is_alive)
        self._stranded = Stranded(is_alive)
        self._gate = asyncio.Event()
        self._gain = Gain()

    async def weights(self) -> bytes:
        """Return the file of the weights: nodes need not share a disk for them."""
        return self._weights

    async def warmed_up(self) -> None:
        """Note that something of the warm-up has gone through every step."""
        self._warm_ups -= 1

    async def skip_warm_up(self) -> None:
        """Expect no warm-up: nothing will be decoded."""
        self._warm_ups = 0

    async def open_gate(self) -> None:
        """Let the real footage in."""
        self._gate.set()

    async def wait_for_gate(self) -> None:
        """Return once the real footage is let in."""
        await self._gate.wait()

    async def enlist(self, name: str, actor: object, node_id: str) -> None:
        """See `Stranded.enlist`."""
        self._stranded.enlist(name, actor, node_id)

    async def given_up(self) -> list[Any]:
        """See `Stranded.given_up`."""
        return self._stranded.given_up()

    async def begin(self, key: AttemptKey, node_id: str) -> int:
        """See `Attempts.begin`."""
        return self._attempts.begin(key, node_id)

    async def end(self, key: AttemptKey) -> None:
        """See `Attempts.end`."""
        self._attempts.end(key)

    async def logged(self, gain: Gain) -> None:
        """Note what is on disk now.

        Raises:
            StepError: More segments failed than the job allows.
        """
        self._gain += gain
        if self._limit:
            self._limit.check(self._gain)

    async def progress(self) -> Progress:
        """Return how far the job is."""
        return Progress(is_warm=self._warm_ups <= 0, frames=self._gain.frames, lost=self._gain.lost)
