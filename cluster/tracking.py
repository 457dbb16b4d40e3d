"""Where detections become movement logs: one stateful actor a camera.

An actor pool would hand a camera's batches to any of its actors. So each camera has its own, chosen
by the driver before the run; where there are more cameras than actors, several share one, and each
keeps a log of its own in it. An actor is light: it loads neither torch nor Ray Data. It may die at any
time: the one that Ray starts in its place reads from disk what the dead one had, and what of it was
not on disk yet is asked for again (`missing`).
"""

from collections.abc import Sequence
from typing import Any

import ray

from cluster.meter import Trimmer, cleanup_memory
from cluster.push import Arrival, camera_of
from pipeline.camera_log import CameraLog
from pipeline.gain import Gain
from pipeline.light import keep_out
from pipeline.part import LogSettings
from pipeline.store import reach_s3
from pipeline.tail import Missing, Tail
from pipeline.timing import run_on
from pipeline.warmup_log import warm_up_log


class CameraLogs:
    """The domain class of the tracking actor: the logs of some cameras."""

    def __init__(
        self,
        tails: Sequence[Tail],
        settings: LogSettings,
        supervisor: Any,  # noqa: ANN401 -- an actor handle
    ) -> None:
        """Go on with the log of each camera.

        Raises:
            OutputError: A ledger is damaged.
        """
        keep_out("pandas")
        run_on(ray.get_runtime_context().get_node_id())
        reach_s3(settings.aws)
        self._settings = settings
        self._logs = {tail.camera_id: CameraLog(tail, settings) for tail in tails}
        self._supervisor = supervisor
        self._trimmer = Trimmer()

    def tidy(self) -> int:
        """Give memory back that is not needed; see `cleanup_memory`."""
        return cleanup_memory()

    def ready(self) -> bool:
        """Answer, once the actor runs and has what it needs."""
        warm_up_log(self._settings)
        return True

    def push(self, arrivals: Sequence[Arrival]) -> None:
        """Take what came of any footage of these cameras, in any order.

        Raises:
            OutputError: The tables cannot be written.
            StepError: More segments failed than the job allows.
        """
        gain = Gain()
        self._trimmer.trim()
        by_camera: dict[str, list[Arrival]] = {}
        for arrival in arrivals:
            by_camera.setdefault(camera_of(arrival), []).append(arrival)
        for camera_id, some in by_camera.items():
            gain += self._logs[camera_id].push(*some)
        if gain.segments or gain.steps:
            told = self._supervisor.logged.remote(gain)
            if gain.failed:
                ray.get(told)

    def missing(self) -> list[Missing]:
        """Return the footages that have not come whole."""
        return [missing for log in self._logs.values() for missing in log.missing()]

    def close(self) -> None:
        """End the logs; what has not come is recorded as lost.

        Raises:
            OutputError: The tables cannot be written.
        """
        gain = sum((log.close() for log in self._logs.values()), Gain())
        # Behind all that was told before: the last progress is that of the end.
        ray.get(self._supervisor.logged.remote(gain))
