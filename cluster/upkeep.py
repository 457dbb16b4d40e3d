"""The check of the old service, in every worker: is the memory of my node within its limit?

Every 50 frames it looks at what was last measured there. Near the limit it cleans up after itself, and
now and then it gives back what its heap holds free.
"""

from cluster.meter import Trimmer, check_memory_limit, cleanup_memory
from cluster.pace import NEAR, Turn
from pipeline.timing import Span, Stopwatch

CHECK_EVERY_FRAMES = 50


class Upkeep:
    """Counts the frames of this process, and checks every `CHECK_EVERY_FRAMES`."""

    def __init__(self) -> None:
        self._frames = 0
        self._watch = Stopwatch("memory")
        self._trimmer = Trimmer()

    def check(self, frames: int, turn: Turn) -> tuple[Span, ...]:
        """Count frames; return what the check took, if it was due."""
        self._frames += frames
        if self._frames < CHECK_EVERY_FRAMES:
            return ()
        self._frames = 0
        with self._watch.running():
            if not check_memory_limit(turn.increase_mb, turn.limit_mb * NEAR):
                cleanup_memory()
            self._trimmer.trim()
        return (self._watch.span(frames=0),)
