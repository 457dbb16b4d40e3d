"""Where detections become movement logs: one stateful actor a camera.

An actor pool would hand a camera's batches to any of its actors. So each camera has its own, chosen
by the driver before the run; where there are more cameras than actors, several share one, and each
keeps a log of its own in it. An actor is light: it loads neither torch nor Ray Data.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import ray

from pipeline.camera_log import CameraLog, FootageResult, LogSettings
from pipeline.records import Detections, Footage, FootageEnd, Gap

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
            log = self._logs[camera_of(arrival)]
            before = log.finished
            frames += log.push(arrival)
            finished += log.finished - before
        if frames or finished:
            self._supervisor.logged.remote(frames, finished)

    def close(self) -> list[FootageResult]:
        """End the logs; return what became of each footage."""
        # Behind all that was told before: the last progress is that of the end.
        ray.get(self._supervisor.logged.remote(0, 0))
        return [result for log in self._logs.values() for result in log.close()]


def camera_of(arrival: Arrival) -> str:
    """Return whose an arrival is."""
    key = arrival.footage if isinstance(arrival, FootageEnd) else arrival.stretch.footage
    return key.camera_id
