"""The end of the dataset: a sink that pushes each record to the actor of its camera."""

from collections.abc import Iterable, Mapping
from typing import Any

import ray
from ray.data import Datasink
from ray.data.block import Block, BlockAccessor

from cluster.pools import PUSH_ROWS
from cluster.rows import from_rows
from cluster.tracking import Arrival, camera_of
from pipeline.warmup import WARM_UP_KEY


class TrackingSink(Datasink[None]):
    """The end of the dataset: pushes each record to the actor of its camera."""

    def __init__(self, actor_of: Mapping[str, Any], supervisor: Any) -> None:  # noqa: ANN401
        """Push to `actor_of[camera_id]`; warm-up batches are told to the supervisor."""
        self._actor_of = dict(actor_of)
        self._supervisor = supervisor

    @property
    def min_rows_per_write(self) -> int:
        """Rows of a push: a task for each alone would cost more than all that it does."""
        return PUSH_ROWS

    def write(self, blocks: Iterable[Block], ctx: Any) -> None:  # noqa: ANN401, ARG002
        """Push the records of blocks; return when every actor has taken its own."""
        by_camera: dict[str, list[Arrival]] = {}
        waits = []
        for block in blocks:
            for arrival in from_rows(BlockAccessor.for_block(block).to_arrow()):
                camera_id = camera_of(arrival)
                if camera_id == WARM_UP_KEY.camera_id:
                    waits.append(self._supervisor.warmed_up.remote())
                else:
                    by_camera.setdefault(camera_id, []).append(arrival)
        waits += [
            self._actor_of[camera_id].push.remote(arrivals)
            for camera_id, arrivals in by_camera.items()
        ]
        ray.get(waits)
