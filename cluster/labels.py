"""Where labels are asked for on the cluster: one actor a job, and how pictures come to it.

Decoding never waits for Rekognition, and hardly for this actor: it hands a batch's pictures over and
goes on, with one such message under way a decoder. If the actor does not take it, since it is being
started again, say, the next pictures are let go: at the end of the run they are decoded again
(`label_fill`).
"""

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

import ray

from pipeline.labeller import Labeller, LabelTotals
from pipeline.labels import LabelSettings
from pipeline.light import keep_out
from pipeline.records import Footage, FrameBatch, LabelFrame
from pipeline.store import reach_s3
from pipeline.timing import run_on
from pipeline.warmup import WARM_UP_KEY

# The actor takes pictures in milliseconds.
_PATIENCE_S = 1.0
# Methods that run at once: those that wait must not keep pictures out.
THREADS = 16


class LabelActor:
    """The domain class of the actor; each of its methods may run beside the others."""

    def __init__(
        self, settings: LabelSettings, camera_ids: Sequence[str], retry: Collection[str]
    ) -> None:
        """Go on with what is on disk: see `Labeller`."""
        keep_out("pandas")
        run_on(ray.get_runtime_context().get_node_id())
        reach_s3(settings.store)
        self._labeller = Labeller(settings, camera_ids, retry=retry)

    def ready(self) -> bool:
        """Answer, once the actor runs and knows whom to ask."""
        return True

    def take(self, footage: Footage, frames: Sequence[LabelFrame]) -> int:
        """See `Labeller.take`."""
        return self._labeller.take(footage, frames)

    def end(self) -> int:
        """Say that no more pictures come; return how many wait."""
        self._labeller.end()
        return self._labeller.waiting

    def wait(self, seconds: float) -> int:
        """Return how many pictures wait: as soon as none does, or when time is up."""
        self._labeller.wait(below=1, seconds=seconds)
        return self._labeller.waiting

    def close(self) -> LabelTotals:
        """See `Labeller.close`."""
        return self._labeller.close()


class Outbox:
    """Hands pictures from a decoder to the actor."""

    def __init__(self, labeller: Any) -> None:  # noqa: ANN401 -- an actor handle, or None
        self._labeller = labeller
        self._under_way: list[Any] = []

    def part(self, footage: Footage, batch: FrameBatch) -> FrameBatch:
        """Send the pictures of a batch; return the batch without them."""
        if not batch.label_frames:
            return batch
        if self._labeller is not None and footage.key != WARM_UP_KEY and self._has_room():
            self._under_way.append(self._labeller.take.remote(footage, batch.label_frames))
        return replace(batch, label_frames=())

    def _has_room(self) -> bool:
        self.flush()
        return not self._under_way

    def flush(self) -> None:
        """Wait a little until what is under way has come."""
        if self._under_way:
            _, self._under_way = ray.wait(self._under_way, timeout=_PATIENCE_S)
