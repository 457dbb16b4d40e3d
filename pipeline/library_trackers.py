"""Trackers of ultralytics behind our own protocol: BoT-SORT, OC-SORT and TrackTrack, by boxes alone.

They count in frames, and we in seconds. So a lost track is ended here, by its time; a step that is
several usual ones long is predicted as so many; and a jump ends all tracks. They know no
classes: each class has a tracker of its own. Their appearance models and camera motion are off: pixels
do not come this far.

Importing ultralytics loads torch, hundreds of MB: it is done when such a tracker is made.
"""

import math
from collections import deque
from importlib import import_module
from typing import Any

import numpy as np

from pipeline.records import ROUNDING_S
from pipeline.track import UNTRACKED, Float32s, Int64s, TrackSettings
from pipeline.weights import be_quiet

# Module, tracker and track of each, in ultralytics.
_KINDS = {
    "botsort": ("bot_sort", "BOTSORT", "BOTrack"),
    "ocsort": ("oc_sort", "OCSORT", "OCSortTrack"),
    "tracktrack": ("track_tracker", "TRACKTRACK", "TTSTrack"),
}
# More steps than that are not predicted one by one: nothing is known after them.
_MOST_STEPS = 100
_NEVER = 10**9
# The middle one of so many steps is their unit.
_RECENT_STEPS = 8


class _Boxes:
    """Detections as ultralytics' trackers take them."""

    def __init__(self, boxes: Float32s, conf: Float32s) -> None:
        self.xyxy, self.conf = boxes, conf
        self.cls = np.zeros(len(boxes), np.float32)

    @property
    def xywh(self) -> Float32s:
        """(n, 4) middle x, middle y, width, height."""
        size = self.xyxy[:, 2:] - self.xyxy[:, :2]
        return np.concatenate([self.xyxy[:, :2] + size / 2, size], axis=1)

    def __getitem__(self, rows: Any) -> "_Boxes":  # noqa: ANN401 -- any index of numpy's
        return _Boxes(self.xyxy[rows], self.conf[rows])

    def __len__(self) -> int:
        return len(self.xyxy)


class LibraryTracker:
    """One of ultralytics' trackers for one camera; see `Tracker`."""

    def __init__(self, settings: TrackSettings) -> None:
        """Begin with no track."""
        self._settings = settings
        self._next_id = 1
        self.forget()

    def forget(self) -> None:
        """End all tracks; ids go on."""
        self._of_class: dict[int, _OfClass] = {}
        self._time_s: float | None = None
        self._steps_s: deque[float] = deque(maxlen=_RECENT_STEPS)

    def update(
        self, time_s: float, boxes: Float32s, confidence: Float32s, class_id: Int64s
    ) -> Int64s:
        """Take the next frame; see `Tracker.update`."""
        steps = 1
        if self._time_s is not None:
            step_s = max(time_s - self._time_s, 0.0)
            last_s = self._steps_s[-1] if self._steps_s else math.inf
            if step_s > self._settings.carry_over_s + ROUNDING_S and step_s > 2 * last_s:
                self.forget()
            elif step_s:
                self._steps_s.append(step_s)
                # A stride's steps are all alike, and those of a variable rate are on the whole.
                steps = round(step_s / float(np.median(self._steps_s)))
        self._time_s = time_s
        ids = np.full(len(boxes), UNTRACKED, np.int64)
        for kind in sorted({*self._of_class, *class_id.tolist()}):
            if kind not in self._of_class:
                self._of_class[kind] = _OfClass(self._settings)
            rows = np.flatnonzero(class_id == kind)
            found = _Boxes(boxes[rows], confidence[rows])
            for row, track in self._of_class[kind].update(time_s, steps, found):
                ids[rows[row]] = self._id_of(self._of_class[kind], track)
        return ids

    def _id_of(self, of_class: "_OfClass", track: int) -> int:
        if track not in of_class.ids:
            of_class.ids[track] = self._next_id
            self._next_id += 1
        return of_class.ids[track]

    def state(self) -> dict[str, Any]:
        """Return all that makes it go on exactly; see `Tracker.state`."""
        return {
            "next_id": self._next_id,
            "time_s": self._time_s,
            "steps_s": list(self._steps_s),
            "classes": {str(kind): each.state() for kind, each in self._of_class.items()},
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on where `state` was taken; see `Tracker.restore`."""
        self._next_id, self._time_s = state["next_id"], state["time_s"]
        self._steps_s = deque(state["steps_s"], maxlen=_RECENT_STEPS)
        self._of_class = {}
        for kind, told in state["classes"].items():
            self._of_class[int(kind)] = _OfClass(self._settings)
            self._of_class[int(kind)].restore(told)


class _OfClass:
    """A library's tracker for the boxes of one class.

    Attributes:
        ids: Our track id by the library's, of tracks that may go on.
    """

    def __init__(self, settings: TrackSettings) -> None:
        self._settings = settings
        self._tracker, self._track_class = _make(settings)
        self._seen_s: dict[int, float] = {}
        self.ids: dict[int, int] = {}

    def update(self, time_s: float, steps: int, found: _Boxes) -> list[tuple[int, int]]:
        """Take the next frame; return each tracked box's row and the library's id of its track."""
        tracker = self._tracker
        tracker.lost_stracks = [t for t in tracker.lost_stracks if self._may_go_on(t, time_s)]
        live = [*tracker.tracked_stracks, *tracker.lost_stracks]
        for _ in range(min(steps, _MOST_STEPS) - 1):
            if live:
                type(live[0]).multi_predict(live)
        rows = tracker.update(found)
        tracked = [(int(row[7]), int(row[4])) for row in rows]
        self._seen_s |= dict.fromkeys((track for _, track in tracked), time_s)
        known = {t.track_id for t in (*tracker.tracked_stracks, *tracker.lost_stracks)}
        self._seen_s = {i: s for i, s in self._seen_s.items() if i in known}
        self.ids = {i: own for i, own in self.ids.items() if i in known}
        # It keeps them for nothing but telling them apart from new ones, which have other numbers.
        tracker.removed_stracks = []
        return tracked

    def _may_go_on(self, track: Any, time_s: float) -> bool:  # noqa: ANN401
        # One that was lost in the last frame is not lost for longer than a step.
        is_new = track.end_frame >= self._tracker.frame_id - 1
        lost_s = time_s - self._seen_s.get(track.track_id, -math.inf)
        return is_new or lost_s <= self._settings.lost_after_s + ROUNDING_S

    def state(self) -> dict[str, Any]:
        """Return the tracks and counters, as JSON takes them."""
        tracker = self._tracker
        following = next(tracker._ids)
        tracker._ids = iter(range(following, _NEVER))
        return {
            "frame_id": tracker.frame_id,
            "following": following,
            "tracked": [_plain_track(track) for track in tracker.tracked_stracks],
            "lost": [_plain_track(track) for track in tracker.lost_stracks],
            "seen_s": list(self._seen_s.items()),
            "ids": list(self.ids.items()),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on where `state` was taken."""
        tracker = self._tracker
        tracker.frame_id = state["frame_id"]
        tracker._ids = iter(range(state["following"], _NEVER))
        tracker.tracked_stracks = [self._track(plain) for plain in state["tracked"]]
        tracker.lost_stracks = [self._track(plain) for plain in state["lost"]]
        self._seen_s = {track: seen_s for track, seen_s in state["seen_s"]}
        self.ids = {track: own for track, own in state["ids"]}

    def _track(self, plain: dict[str, Any]) -> Any:  # noqa: ANN401
        """Return the track that `_plain_track` told of."""
        track = self._track_class.__new__(self._track_class)
        track.__dict__.update({name: _from_json(value) for name, value in plain.items()})
        track.kalman_filter = self._tracker.kalman_filter
        track.next_id = self._tracker._ids.__next__
        return track


def _make(settings: TrackSettings) -> tuple[Any, Any]:
    """Return the library's tracker, and the class of its tracks."""
    be_quiet()
    from ultralytics.utils import YAML, IterableSimpleNamespace
    from ultralytics.utils.checks import check_yaml

    module_name, tracker_name, track_name = _KINDS[settings.tracker]
    module = import_module(f"ultralytics.trackers.{module_name}")
    configured = YAML.load(check_yaml(f"{settings.tracker}.yaml")) | {
        "track_high_thresh": settings.strong,
        "track_low_thresh": settings.weak,
        "new_track_thresh": settings.birth,
        "track_buffer": _NEVER,
        "gmc_method": "none",
        "with_reid": False,
    }
    tracker = getattr(module, tracker_name)(IterableSimpleNamespace(**configured))
    return tracker, getattr(module, track_name)


# What the tracker has for all its tracks.
_SHARED = ("kalman_filter", "next_id")


def _plain_track(track: Any) -> dict[str, Any]:  # noqa: ANN401
    return {name: _to_json(v) for name, v in vars(track).items() if name not in _SHARED}


def _to_json(value: Any) -> Any:  # noqa: ANN401
    """Return what a track holds as JSON takes it: no class is named, so none is ever loaded."""
    if isinstance(value, np.ndarray):
        return {"array": value.tolist(), "dtype": value.dtype.str}
    if isinstance(value, np.generic):
        return {"number": value.item(), "dtype": value.dtype.str}
    if isinstance(value, dict):
        return {"items": [[_to_json(key), _to_json(each)] for key, each in value.items()]}
    if isinstance(value, (deque, tuple, list)):
        most = value.maxlen if isinstance(value, deque) else None
        return {
            "row": [_to_json(each) for each in value],
            "kind": type(value).__name__,
            "most": most,
        }
    return value


def _from_json(plain: Any) -> Any:  # noqa: ANN401
    """Return what `_to_json` was given."""
    if not isinstance(plain, dict):
        return plain
    if "array" in plain:
        return np.array(plain["array"], np.dtype(plain["dtype"]))
    if "number" in plain:
        return np.dtype(plain["dtype"]).type(plain["number"])
    if "items" in plain:
        return {_from_json(key): _from_json(value) for key, value in plain["items"]}
    row = [_from_json(each) for each in plain["row"]]
    if plain["kind"] == "deque":
        return deque(row, maxlen=plain["most"])
    return tuple(row) if plain["kind"] == "tuple" else row
