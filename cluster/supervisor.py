"""What must be known outside the workers: readiness, attempts, pace, progress. One actor a job."""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from cluster.ahead import RowSizes
from cluster.attempts import AttemptKey, Attempts
from cluster.live import JobMetrics, Queues
from cluster.meter import Trimmer
from cluster.pace import Notice, Pace, Turn
from cluster.stall import Activity
from cluster.stranded import Stranded
from pipeline.errors import StepError
from pipeline.gain import Gain
from pipeline.records import FootageKey

_SEGMENTS_FOR_A_SHARE = 10
# A node that cannot start so many processes shall not hold up the job.
_MEETING_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a job is.

    Attributes:
        is_warm: The warm-up has gone through every step.
        frames: Frames that were looked at since it began, and are on disk.
        lost: Frames that were set aside.
        failed: Segments that were set aside.
        decoding: Segments that are being decoded.
        idle_s: Seconds since something was announced, once that is long and nothing is under way.
        notices: What is to be said, since it was last asked.
    """

    is_warm: bool
    frames: int
    lost: int
    failed: int = 0
    decoding: int = 0
    idle_s: float = 0.0
    notices: tuple[Notice, ...] = ()


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
        pace: Pace,
        limit: FailureLimit | None = None,
        live: Callable[[int], JobMetrics] | None = None,
    ) -> None:
        """Begin.

        Args:
            warm_ups: Arrivals before the job is warm.
            weights: The model's file, kept for the nodes.
            is_alive: Says whether a node is.
            pace: Of the job.
            limit: When to give up; None means never.
            live: Makes what shows the job's state to others, given the cap in MiB.
        """
        self._activity = Activity()
        self._limit, self._pace = limit, pace
        self._live = live(pace.limit_mb) if live else None
        self._begun = 0
        self._waiting: dict[str, int] = {}
        self._met: dict[str, asyncio.Event] = {}
        self._decoding: dict[AttemptKey, tuple[str, int]] = {}
        self._row_sizes = RowSizes()
        self._batch_sizes: dict[AttemptKey, int] = {}
        self._notices: list[Notice] = []
        self._weights = weights
        self._warm_ups = warm_ups
        self._attempts = Attempts(is_alive)
        self._stranded = Stranded(is_alive)
        self._gate = asyncio.Event()
        self._open: set[str] | None = None
        self._detectors: Counter[str] = Counter()
        self._trimmer = Trimmer()
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

    async def open_gate(self, node_ids: Sequence[str] | None = None) -> None:
        """Let the real footage in: on some nodes, or on all there will ever be."""
        self._open = None if node_ids is None else set(node_ids)
        self._gate.set()

    async def open_nodes(self, node_ids: Sequence[str]) -> None:
        """Let the real footage in on more nodes, which joined and have become ready."""
        if self._open is not None:
            self._open.update(node_ids)

    def _is_open(self, node_id: str) -> bool:
        return self._open is None or node_id in self._open

    async def loaded(self, node_id: str) -> None:
        """Note that a detector of a node has its model, and is warm."""
        self._detectors[node_id] += 1

    async def detectors_on(self, node_id: str) -> tuple[int, int]:
        """Return how many detectors a node has, and how many have come up there."""
        return self._stranded.count_on(node_id), self._detectors[node_id]

    async def widen(self, ahead_bytes: int) -> None:
        """Let so many bytes of packets wait for decoders from now on."""
        self._pace.ahead.most_bytes = ahead_bytes

    async def admit(self, first: FootageKey, node_id: str) -> int | None:
        """Return once the real footage is let in: how many segments its first row is to have.

        None: the node is not ready yet, ask again.
        """
        await self._gate.wait()
        if not self._is_open(node_id):
            return None
        size = self._pace.segments_of_a_row
        return self._row_sizes.behind(first.camera_id, first.sequence, -1, size)

    async def meet(self, node_id: str, parties: int) -> bool:
        """Return once `parties` callers of a node wait here; False if they do not come in time."""
        self._waiting[node_id] = self._waiting.get(node_id, 0) + 1
        if self._waiting[node_id] >= parties:
            self._met.setdefault(node_id, asyncio.Event()).set()
        try:
            await asyncio.wait_for(
                self._met.setdefault(node_id, asyncio.Event()).wait(), _MEETING_S
            )
        except TimeoutError:
            return False
        return True

    async def enlist(self, name: str, actor: object, node_id: str) -> None:
        """See `Stranded.enlist`."""
        self._stranded.enlist(name, actor, node_id)

    async def given_up(self) -> list[Any]:
        """See `Stranded.given_up`."""
        return self._stranded.given_up()

    async def cut(self, key: AttemptKey, size: int) -> int | None:
        """Note that a row of so many bytes was cut, if it may wait for a decoder.

        Returns:
            How many segments the next row is to have; None: not now, ask again.
        """
        if not self._pace.ahead.has_room(key, size):
            return None
        self._activity.heard()
        self._pace.ahead.cut(key, size)
        most = self._pace.segments_of_a_row
        return self._row_sizes.behind(key.camera_id, key.sequence, key.segment, most)

    async def begin(self, key: AttemptKey, node_id: str, pid: int, pieces: int = 1) -> Turn | None:
        """Note that a try begins, as `Attempts.begin`, if the node has room for it.

        Who has to wait asks again, and is not kept waiting here: its process may die meanwhile, and
        would be given a turn that nobody ends.

        Args:
            key: The work: a row, by its first piece, or a piece alone.
            node_id: Where it is done.
            pid: By which process.
            pieces: How many are in the row.

        Returns:
            How it is to be done; None: not now, ask again.
        """
        if key.sequence >= 0 and not self._is_open(node_id):
            return None
        takes_room = key.step == "decode" and not key.is_alone
        if takes_room:
            # Who asks for it anew has taken it over from a process that died. Its room is free, before
            # there is room for this: two that change places would wait for each other.
            self._decoding.pop(key, None)
            if not self._has_room(node_id):
                return None
            self._decoding[key] = node_id, pieces
            self._pace.ahead.begun(key)
        self._activity.heard()
        # What a task handed on before it died is known by its number: its next try must not make
        # batches of another size.
        is_new = key not in self._batch_sizes
        batch_size = self._batch_sizes.setdefault(key, self._pace.batch_size_on(node_id))
        failed = self._attempts.begin(key, node_id, pid)
        self._begun += pieces * (is_new and takes_room and key.sequence >= 0)
        return self._pace.turn(node_id, failed, batch_size)

    def _has_room(self, node_id: str) -> bool:
        """Say whether one decoder more may run."""
        here = sum(node == node_id for node, _ in self._decoding.values())
        return here < self._pace.decoders_on(node_id)

    async def end(self, key: AttemptKey) -> None:
        """See `Attempts.end`."""
        self._activity.heard()
        self._attempts.end(key)
        self._decoding.pop(key, None)
        self._batch_sizes.pop(key, None)

    async def new_pass(self) -> None:
        """Note that nothing of an earlier pass runs any more."""
        self._activity.heard()
        self._decoding.clear()
        self._pace.ahead.clear()
        self._row_sizes.clear()

    async def decoded(self, key: AttemptKey, segments: int, wall_s: float) -> None:
        """Note that a row was decoded: see `end` and `Pace.decoded`."""
        await self.end(key)
        if key.sequence >= 0:
            self._pace.decoded(segments, wall_s)

    async def detected(
        self, key: AttemptKey, took: Sequence[tuple[int, int, float]], notices: Sequence[str]
    ) -> None:
        """Note that a row was looked at: see `end`, `Pace.detected` of each batch, and `notice`."""
        await self.end(key)
        for batch_size, frames, wall_s in took:
            self._pace.detected(batch_size, frames, wall_s)
        await self.notice(notices)

    async def observe(self, increase_mb: dict[str, float], queues: Queues | None = None) -> None:
        """See `Pace.observe`; what waits is shown to others."""
        self._trimmer.trim()
        self._notices += self._pace.observe(increase_mb)
        if self._live:
            in_flight = max(0, self._begun - self._gain.segments)
            self._live.tick(in_flight, increase_mb, queues or Queues())

    async def notice(self, texts: Sequence[str]) -> None:
        """Have something said."""
        self._notices += [Notice(text=text) for text in texts]

    async def forgive(self, node_id: str, pid: int, text: str) -> None:
        """See `Attempts.forgive`; `text` says why."""
        self._attempts.forgive(node_id, pid)
        self._notices.append(Notice(text=text, node=node_id))

    async def logged(self, gain: Gain) -> None:
        """Note what is on disk now.

        Raises:
            StepError: More segments failed than the job allows.
        """
        self._activity.heard()
        self._gain += gain
        if self._live:
            self._live.gained(gain)
        if self._limit:
            self._limit.check(self._gain)

    async def progress(self) -> Progress:
        """Return how far the job is."""
        notices, self._notices = tuple(self._notices), []
        return Progress(
            is_warm=self._warm_ups <= 0,
            frames=self._gain.frames,
            lost=self._gain.lost,
            failed=self._gain.failed,
            decoding=sum(pieces for _, pieces in self._decoding.values()),
            idle_s=self._activity.idle_s(self._attempts.is_any_open),
            notices=notices,
        )
