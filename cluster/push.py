"""The end of the way: the driver pushes what came of each row to the actors of its cameras.

A step of Ray Data for it would cost a task a row, and on each node a process: a second of two cores to
start, 70 MB, and a hundredth of a core even if it does nothing.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import ray

from pipeline.records import Detections, FootageEnd, Gap
from pipeline.warmup import WARM_UP_KEY

Arrival = Detections | Gap | FootageEnd
# Rows under way to each actor, all in all: while they wait, Ray Data holds back what is behind them.
_ROWS_UNDER_WAY = 8


def camera_of(arrival: Arrival) -> str:
    """Return whose an arrival is."""
    key = arrival.footage if isinstance(arrival, FootageEnd) else arrival.stretch.footage
    return key.camera_id


class Pushes:
    """Pushes records to the tracking actors, a bounded number of rows ahead of their answers."""

    def __init__(self, actor_of: Mapping[str, Any], supervisor: Any) -> None:  # noqa: ANN401
        """Push to `actor_of[camera_id]`; what belongs to the warm-up is told to the supervisor."""
        self._actor_of, self._supervisor = actor_of, supervisor
        self._most = _ROWS_UNDER_WAY * max(1, len(set(actor_of.values())))
        self._under_way: deque[list[Any]] = deque()

    def push(self, arrivals: Sequence[Arrival]) -> None:
        """Push what came of a row; return when not too many rows are under way.

        Raises:
            OutputError: The tables cannot be written.
            StepError: More segments failed than the job allows.
        """
        by_camera: dict[str, list[Arrival]] = {}
        waits = []
        for arrival in arrivals:
            camera_id = camera_of(arrival)
            if camera_id == WARM_UP_KEY.camera_id:
                waits.append(self._supervisor.warmed_up.remote())
            else:
                by_camera.setdefault(camera_id, []).append(arrival)
        waits += [self._actor_of[key].push.remote(some) for key, some in by_camera.items()]
        self._under_way.append(waits)
        if len(self._under_way) > self._most:
            ray.get(self._under_way.popleft())

    def flush(self) -> None:
        """Return once every actor has taken its own.

        Raises:
            OutputError: The tables cannot be written.
            StepError: More segments failed than the job allows.
        """
        while self._under_way:
            ray.get(self._under_way.popleft())
