"""Trackers by their names, and the way of detections through one."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from pipeline.clock import CameraClock
from pipeline.library_trackers import LibraryTracker
from pipeline.records import Detections, Footage, Observation, TrackedFrame
from pipeline.track import UNTRACKED, ByteTracker, Tracker, TrackSettings


def make_tracker(settings: TrackSettings) -> Tracker:
    """Return the tracker that the settings name, for one camera."""
    return ByteTracker(settings) if settings.tracker == "bytetrack" else LibraryTracker(settings)


def forgotten(state: dict[str, Any], next_id: int) -> dict[str, Any]:
    """Return a tracker's state without anybody in it; the next track is `next_id`.

    It is what `forget` would leave, whichever tracker it is of, without having to load that.
    """
    nobody = {"next_id": next_id, "time_s": None, "step_s": math.inf}
    if "classes" in state:
        return {**state, **nobody, "classes": {}}
    empty: dict[str, Any] = {name: [] for name in ("ids", "class", "seen_s")}
    return {**state, **nobody, **empty, "motion": {name: [] for name in state["motion"]}}


def tracked(
    tracker: Tracker, clock: CameraClock, footage: Footage, part: Detections
) -> Iterator[TrackedFrame]:
    """Yield the frames of a stretch of detections, with the tracks that were seen in them.

    Args:
        tracker: The camera's.
        clock: The camera's, begun with `footage`.
        footage: Where the detections are from.
        part: The next of them.
    """
    bounds = np.searchsorted(part.frame_row, np.arange(len(part.frame_index) + 1))
    for row, (number, pts_s) in enumerate(zip(part.frame_index, part.pts_s, strict=True)):
        here = slice(bounds[row], bounds[row + 1])
        time_s = clock.read(footage, float(pts_s))
        boxes, confidence, class_id = part.boxes[here], part.confidence[here], part.class_id[here]
        ids = tracker.update(time_s, boxes, confidence, class_id)
        yield TrackedFrame(
            footage=footage,
            frame_index=int(number),
            pts_s=float(pts_s),
            time_s=time_s,
            observations=[
                Observation(
                    track_id=int(track_id),
                    class_id=int(class_id[i]),
                    box=boxes[i].astype(np.float64),
                    confidence=float(confidence[i]),
                )
                for i, track_id in enumerate(ids)
                if track_id != UNTRACKED
            ],
        )
