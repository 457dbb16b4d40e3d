"""A dataset that waits for what was lost with a node, and never comes: seen, so that it can be ended.

Ray makes lost blocks anew, by running the tasks again that made them. Ray 2.60 loses such a task that
asks for a worker while the death of the node is being noticed: whoever waits for the block waits for
ever. Another pass over what is missing needs none of those blocks.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

STALLED_AFTER_S = 60.0


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
    """Says when a pass has stalled: once for each loss, for what else rests may have its reasons.

    Attributes:
        lost_nodes: Tells how many nodes the cluster has lost so far.
    """

    lost_nodes: Callable[[], int]
    _known: int = 0

    def begin(self) -> None:
        """Begin a pass: what was lost before is none of its matters."""
        self._known = self.lost_nodes()

    def has_stalled(self, idle_s: float) -> bool:
        """Say whether nothing has been done for `idle_s` seconds because a node was lost."""
        if idle_s < STALLED_AFTER_S or self.lost_nodes() <= self._known:
            return False
        self.begin()
        return True
