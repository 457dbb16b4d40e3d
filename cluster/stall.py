"""A dataset that waits for what was lost with a node, and never comes: seen, so that it can be ended.

Ray makes lost blocks anew, by running the tasks again that made them. Ray 2.60 loses such a task that
asks for a worker while the death of the node is being noticed: whoever waits for the block waits for
ever. Another pass over what is missing needs none of those blocks.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

STALLED_AFTER_S = 60.0
_MOST_DOUBLINGS = 4


class StalledError(Exception):
    """Nothing comes any more since a node was lost."""


@dataclass(slots=True)
class Activity:
    """When something was last heard of a job's steps."""

    now: Callable[[], float] = time.monotonic
    _heard_at: float = field(init=False)

    def __post_init__(self) -> None:
        self.heard()

    def heard(self) -> None:
        """Note that a step does something."""
        self._heard_at = self.now()

    def idle_s(self, is_busy: Callable[[], bool]) -> float:
        """Return for how many seconds nothing was heard; 0 if not long, or while one is busy."""
        idle_s = self.now() - self._heard_at
        return 0.0 if idle_s < STALLED_AFTER_S or is_busy() else idle_s


@dataclass(slots=True)
class StallWatch:
    """Says when a pass has stalled: what rests though no node was lost may have its reasons.

    One that follows a stalled pass may be short of nodes, until others come: each waits twice as long
    as the one before it.

    Attributes:
        lost_nodes: Tells how many nodes the cluster has lost so far.
        is_stalled: This pass has.
    """

    lost_nodes: Callable[[], int]
    is_stalled: bool = False
    _known: int = 0
    _in_a_row: int = 0

    def begin(self) -> None:
        """Begin a pass: what was lost before is none of its matters, unless the last one stalled."""
        if self.is_stalled:
            self._in_a_row += 1
        else:
            self._in_a_row, self._known = 0, self.lost_nodes()
        self.is_stalled = False

    def has_stalled(self, idle_s: float) -> bool:
        """Say, once, whether nothing has been done for `idle_s` seconds because a node was lost."""
        patience_s = STALLED_AFTER_S * 2 ** min(self._in_a_row, _MOST_DOUBLINGS)
        if self.is_stalled or idle_s < patience_s or self.lost_nodes() <= self._known:
            return False
        self.is_stalled = True
        return True
