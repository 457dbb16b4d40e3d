"""Where detections become movement logs: stateful actors, and the sink that pushes to them.

An actor pool would hand a camera's batches to any of its actors. So each camera has its own, chosen
by the driver before the run; where there are more cameras than actors, several share one, and each
keeps a log of its own in it.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import ray
from ray.data import Datasink
from ray.data.block import Block, BlockAccessor

from cluster.rows import from_rows
from pipeline.camera_log import CameraLog, FootageResult, LogSettings
from pipeline.records import Detections, Footage, FootageEnd, Gap
from pipeline.warmup import WARM_UP_KEY

Arrival = Detections | Gap | FootageEnd


class CameraLogs:
    """The domain class of the tracking actor: the logs of some cameras."""

    def __init__(
        self,
        cameras: Mapping[str, Sequence[Footage]],
        settings: LogSettings,
        supervisor: Any,  # noqa: ANN401 -- an actor handle
    ) -> None:
        """Begin a log for each camera's footage, given oldest first."""
        self._logs = {
            camera_id: CameraLog(footages, settings) for camera_id, footages in cameras.items()
        }
        self._supervisor = supervisor

    def ready(self) -> bool:
        """Answer, once the actor runs."""
        return True

    def push(self, arrivals: Sequence[Arrival]) -> None:
        """Take what came of any footage of these cameras, in any order.

        Raises:
            OutputError: The tables cannot be written.
        """
        frames = finished = 0
        for arrival in arrivals:
            log = self._logs[_camera_of(arrival)]
            before = log.finished
            frames += log.push(arrival)
            finished += log.finished - before
        if frames or finished:
            self._supervisor.logged.remote(frames, finished)

    def close(self) -> list[FootageResult]:
        """End the logs; return what became of each footage."""
        return [result for log in self._logs.values() for result in log.close()]


def _camera_of(arrival: Arrival) -> str:
    key = arrival.footage if isinstance(arrival, FootageEnd) else arrival.stretch.footage
    return key.camera_id


class TrackingSink(Datasink[None]):
    """The end of the dataset: pushes each record to the actor of its camera."""

    def __init__(self, actor_of: Mapping[str, Any], supervisor: Any) -> None:  # noqa: ANN401
        """Push to `actor_of[camera_id]`; warm-up batches are told to the supervisor."""
        self._actor_of = dict(actor_of)
        self._supervisor = supervisor

    def write(self, blocks: Iterable[Block], ctx: Any) -> None:  # noqa: ANN401, ARG002
        """Push the records of blocks; return when every actor has taken its own."""
        by_camera: dict[str, list[Arrival]] = {}
        waits = []
        for block in blocks:
            for arrival in from_rows(BlockAccessor.for_block(block).to_arrow()):
                camera_id = _camera_of(arrival)
                if camera_id == WARM_UP_KEY.camera_id:
                    waits.append(self._supervisor.warmed_up.remote())
                else:
                    by_camera.setdefault(camera_id, []).append(arrival)
        waits += [
            self._actor_of[camera_id].push.remote(arrivals)
            for camera_id, arrivals in by_camera.items()
        ]
        ray.get(waits)
