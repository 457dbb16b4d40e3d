"""Touch what writing a camera's log needs before the first frame comes: libraries, pools, buffers."""

import tempfile
from pathlib import Path

import numpy as np

from pipeline.part import LogSettings
from pipeline.sink import PartWriter
from pipeline.tables import rows_table
from pipeline.trackers import make_tracker

_RATE_FPS = 25.0
_TABLES = ("detections", "movements", "tracks")


def warm_up_log(settings: LogSettings) -> None:
    """Track two frames and write a part of one row a table, to a folder that is thrown away."""
    tracker = make_tracker(settings.track)
    boxes = np.array([[10, 10, 50, 90], [60, 10, 90, 90]], np.float32)
    for number in range(2):
        confidence = np.array([0.9, 0.8], np.float32)
        tracker.update(number / _RATE_FPS, boxes, confidence, np.zeros(2, np.int64))
    with tempfile.TemporaryDirectory() as folder:
        part = PartWriter(Path(folder), "warm-up", "part", settings.provenance)
        for name in _TABLES:
            part.write(name, rows_table(name, [{"source_uri": "warm-up", "frame_index": 0}]))
        part.publish()
