"""The end of the dataset: each record is pushed to the actor of its camera.

A step and not a `Datasink`, for what that one's tasks return is kept until all are through, and with
it the description of every task that led there: kilobytes a batch, in the driver.
"""

from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import ray

from cluster.rows import SCHEMA, from_rows
from cluster.tracking import Arrival, camera_of
from pipeline.warmup import WARM_UP_KEY


def push_stage(rows: pa.Table, actor_of: Mapping[str, Any], supervisor: Any) -> pa.Table:  # noqa: ANN401
    """Push records to `actor_of[camera_id]`; return no rows once every actor has taken its own.

    Warm-up batches are told to the supervisor.
    """
    by_camera: dict[str, list[Arrival]] = {}
    waits = []
    for arrival in from_rows(rows):
        camera_id = camera_of(arrival)
        if camera_id == WARM_UP_KEY.camera_id:
            waits.append(supervisor.warmed_up.remote())
        else:
            by_camera.setdefault(camera_id, []).append(arrival)
    waits += [
        actor_of[camera_id].push.remote(arrivals) for camera_id, arrivals in by_camera.items()
    ]
    ray.get(waits)
    return SCHEMA.empty_table()
