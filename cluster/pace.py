"""How fast a job may go on each node: smaller batches and fewer decoders where memory runs short.

    share of the cap    below 60 %      60 to 80 %     80 to 100 %       above
    batch, decoders     grow again      stay           shrink, alert     shrink, and everyone cleans up

Pure: it is told what was measured, and asked by whoever begins a piece of work. Batches of another size
change no table, for a frame's boxes do not depend on its neighbours.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from cluster.ahead import Ahead

NEAR, CALM = 0.8, 0.6
# Between two steps down, and two up: memory follows what is decided after a batch or two.
SHRINK_EVERY_S = 2.0
GROW_EVERY_S = 10.0
# While memory stays above the cap it is said again so often.
SAY_EVERY_S = 10.0
_FRAMES_TO_JUDGE = 256
_JUDGEMENTS_TO_REST = 16
_PATIENCE_FRAMES = 2048
# A difference of less says nothing on a machine that others share.
_WORTH_IT = 0.03
_FIRST_AUTO_BATCH = 8
# A task costs the cluster some hundredths of a second: it is to have work for so long.
_WORTH_A_TASK_S = 1.0
_MOST_SEGMENTS_A_ROW = 32
_SHARE_OF_NEWS = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """Something that a user should know, for the log and the `metrics` table.

    Attributes:
        node: Where, or "".
        increase_mb: What the job had added there.
    """

    text: str
    node: str = ""
    increase_mb: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """What a worker is told when it begins a piece of work.

    Attributes:
        failed: How many tries of it did not end.
        batch_size: Frames of a batch to make.
        increase_mb: What the job has added on the worker's node, as last measured.
        limit_mb: The cap.
    """

    failed: int
    batch_size: int
    increase_mb: float = 0.0
    limit_mb: int = 0


@dataclass(slots=True)
class _NodePace:
    batch_size: int
    decoders: int
    increase_mb: float = 0.0
    is_alerted: bool = False
    shrunk_at: float = -SHRINK_EVERY_S
    grown_at: float = 0.0
    said_at: float = -SAY_EVERY_S


@dataclass(slots=True)
class Pace:
    """Decides on batch size and decoders of each node.

    Attributes:
        limit_mb: The cap.
        batch_size: Frames of a batch where there is room.
        decoders: Decoders at once on a node where there is room.
        ahead: How far cutting may run ahead of them.
        is_auto: The batch size is found by trying what is fastest, up to `batch_size`.
    """

    limit_mb: int
    batch_size: int
    decoders: int
    ahead: Ahead
    is_auto: bool = False
    now: Callable[[], float] = time.monotonic
    _nodes: dict[str, _NodePace] = field(default_factory=dict)
    _segment_s: float | None = None
    _pilot: "BatchPilot | None" = None

    def __post_init__(self) -> None:
        if self.is_auto:
            self._pilot = BatchPilot(self.batch_size)

    def batch_size_on(self, node_id: str) -> int:
        """Return the frames of a batch that a node's decoders shall make."""
        most = self._on(node_id).batch_size
        return min(most, self._pilot.size) if self._pilot else most

    def decoders_on(self, node_id: str) -> int:
        """Return how many decoders a node may run at once."""
        return self._on(node_id).decoders

    def turn(self, node_id: str, failed: int, batch_size: int) -> Turn:
        """Return what a worker of a node is told."""
        increase_mb = self._on(node_id).increase_mb
        return Turn(
            failed=failed, batch_size=batch_size, increase_mb=increase_mb, limit_mb=self.limit_mb
        )

    @property
    def segments_of_a_row(self) -> int:
        """How many segments are worth a decoder's task; one until it is known what they take."""
        if self._segment_s is None:
            return 1
        worth = _WORTH_A_TASK_S / max(self._segment_s, _WORTH_A_TASK_S / _MOST_SEGMENTS_A_ROW)
        return max(1, int(worth))

    def decoded(self, segments: int, wall_s: float) -> None:
        """Learn how long a decoder took for some segments."""
        each_s = wall_s / segments
        before_s = each_s if self._segment_s is None else self._segment_s
        self._segment_s = before_s + _SHARE_OF_NEWS * (each_s - before_s)

    def detected(self, batch_size: int, frames: int, wall_s: float) -> None:
        """Learn how long a detector took for a batch."""
        if self._pilot:
            self._pilot.learn(batch_size, frames, wall_s)

    def observe(self, increase_mb: Mapping[str, float]) -> list[Notice]:
        """Take what was measured on each node; return what is to be said."""
        return [
            notice
            for node_id, increase in increase_mb.items()
            for notice in self._observe(node_id, self._on(node_id), increase)
        ]

    def _observe(self, node_id: str, node: _NodePace, increase_mb: float) -> list[Notice]:
        node.increase_mb, share, now = increase_mb, increase_mb / self.limit_mb, self.now()
        notices = []
        if round(increase_mb, 1) > self.limit_mb and now - node.said_at >= SAY_EVERY_S:
            node.said_at = now
            # The old service's words.
            compared = f"{increase_mb:.1f} MB > {self.limit_mb} MB"
            text = f"Memory limit exceeded ({compared}). Forcing cleanup."
            notices.append(Notice(text=text, node=node_id, increase_mb=increase_mb))
        if share >= NEAR and now - node.shrunk_at >= SHRINK_EVERY_S:
            node.shrunk_at = node.grown_at = now
            node.batch_size = max(1, node.batch_size // 2)
            node.decoders = max(1, node.decoders - 1)
        if share >= NEAR and not node.is_alerted:
            node.is_alerted = True
            text = (
                f"Memory is near its limit ({increase_mb:.1f} of {self.limit_mb} MB): going on with "
                f"batches of {node.batch_size} and {node.decoders} decoder(s) there"
            )
            notices.append(Notice(text=text, node=node_id, increase_mb=increase_mb))
        if share < CALM:
            node.is_alerted = False
            if now - node.grown_at >= GROW_EVERY_S:
                node.grown_at = now
                node.batch_size = min(self.batch_size, node.batch_size * 2)
                node.decoders = min(self.decoders, node.decoders + 1)
        return notices

    def _on(self, node_id: str) -> _NodePace:
        if node_id not in self._nodes:
            self._nodes[node_id] = _NodePace(batch_size=self.batch_size, decoders=self.decoders)
        return self._nodes[node_id]


class BatchPilot:
    """Finds the batch size with the least time a frame, by climbing: powers of two up to a bound.

    It tries the next size up or down, keeps it if frames come faster by enough, and otherwise goes
    back; then it rests for a while, for the footage may change.
    """

    def __init__(self, most: int) -> None:
        """Begin with a middling size of at most `most` frames."""
        self._most = most
        self.size = min(most, _FIRST_AUTO_BATCH)
        self._best = self.size
        self._cost_s: dict[int, float] = {}
        self._up, self._rest = True, 0
        self._frames, self._wall_s = 0, 0.0
        self._others = 0

    def learn(self, batch_size: int, frames: int, wall_s: float) -> None:
        """Take what a batch took; those of other sizes say nothing of the one that is tried."""
        if batch_size != self.size:
            self._others += frames
            if self.size != self._best and self._others > _PATIENCE_FRAMES:
                # Segments are too short for it.
                self.size, self._others, self._rest = self._best, 0, _JUDGEMENTS_TO_REST
            return
        self._others = 0
        self._frames += frames
        self._wall_s += wall_s
        if self._frames >= _FRAMES_TO_JUDGE:
            self._cost_s[self.size] = self._wall_s / self._frames
            self._frames, self._wall_s = 0, 0.0
            self._judge()

    def _judge(self) -> None:
        if self.size != self._best:
            better = self._cost_s[self.size] < self._cost_s[self._best] * (1 - _WORTH_IT)
            if not better:
                self.size, self._up, self._rest = self._best, not self._up, _JUDGEMENTS_TO_REST
                return
            self._best = self.size
        elif self._rest > 0:
            self._rest -= 1
            return
        self.size = self._next()

    def _next(self) -> int:
        """Return the neighbour to try; at the end of the scale it turns round."""
        wanted = self.size * 2 if self._up else self.size // 2
        if not 1 <= wanted <= self._most:
            self._up, self._rest = not self._up, _JUDGEMENTS_TO_REST
            return self.size
        return wanted
