"""Follow people through a camera's footage: boxes in, track ids out.

ByteTrack (Zhang et al. 2022, arXiv 2110.06864): strong boxes are matched first, weak ones then get a
chance to continue a track. All is over time, not over frames: a skipped frame or a variable rate is a
longer step, after which a walker of unknown pace may be farther.

A tracker belongs to one camera, and all its state lives in the instance. What its tracks amount to
is for `refine` and `movement`.
"""

import math
from dataclasses import dataclass, fields
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.boxes import assign, intersection_over_union
from pipeline.errors import ConfigError
from pipeline.motion import Motion, first_steps, measure
from pipeline.records import ROUNDING_S

Float32s = NDArray[np.float32]
Float64s = NDArray[np.float64]
Int64s = NDArray[np.int64]
Bools = NDArray[np.bool]

UNTRACKED = -1
TRACKER_NAMES = ("botsort", "bytetrack", "ocsort", "tracktrack")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackSettings:
    """How tracks are made; the costs are those of ultralytics' ByteTrack.

    A track that is lost ends soon, for `refine` joins what belongs together, knowing what comes.

    Attributes:
        tracker: One of `TRACKER_NAMES`.
        strong: Boxes of at least this score are matched first.
        weak: Boxes from this score up may continue a track.
        birth: A track begins with a box of at least this score.
        strong_cost: Greatest 1 - IoU * score of a match with a strong box.
        weak_cost: Greatest 1 - IoU of a match with a weak box.
        birth_cost: As `strong_cost`, for the second box of a new track.
        lost_after_s: A track that is not seen for longer has ended.
        carry_over_s: Tracks go on over a gap in the footage, or between recordings, that is no
            longer.
    """

    tracker: str = "bytetrack"
    strong: float = 0.35
    weak: float = 0.1
    birth: float = 0.35
    strong_cost: float = 0.8
    weak_cost: float = 0.5
    birth_cost: float = 0.7
    lost_after_s: float = 0.1
    carry_over_s: float = 2.0

    def __post_init__(self) -> None:
        if self.tracker not in TRACKER_NAMES:
            raise ConfigError(f"tracker {self.tracker!r}: known are {', '.join(TRACKER_NAMES)}")
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name != "tracker" and not 0 <= value < math.inf:
                raise ConfigError(f"track.{field.name} = {value!r} is no number from 0 up")


class Tracker(Protocol):
    """Gives track ids to the boxes of one camera, frame after frame."""

    def update(
        self, time_s: float, boxes: Float32s, confidence: Float32s, class_id: Int64s
    ) -> Int64s:
        """Take the next frame.

        Args:
            time_s: Seconds on the camera's own clock, rising.
            boxes: (n, 4) float32, x_min, y_min, x_max, y_max in source pixels.
            confidence: (n,) float32.
            class_id: (n,) int64.

        Returns:
            (n,) int64, each box's track id (from 1, never given twice), or `UNTRACKED`.
        """
        ...

    def forget(self) -> None:
        """End all tracks, for the next frame has nothing to do with the last; ids go on."""
        ...

    def state(self) -> dict[str, Any]:
        """Return all that `restore` needs to go on exactly, as JSON takes it."""
        ...

    def restore(self, state: dict[str, Any]) -> None:
        """Go on where `state` was taken."""
        ...


class ByteTracker:
    """ByteTrack for one camera."""

    def __init__(self, settings: TrackSettings) -> None:
        """Begin with no track."""
        self._settings = settings
        self._next_id = 1
        self.forget()

    def forget(self) -> None:
        """End all tracks; ids go on."""
        self._motion = Motion.start(np.zeros((0, 4)))
        self._ids = np.zeros(0, np.int64)  # UNTRACKED until the second box
        self._class = np.zeros(0, np.int64)
        self._seen_s = np.zeros(0)
        self._is_new = np.zeros(0, np.bool)  # Seen once: nothing is known of the velocity.
        self._time_s: float | None = None
        self._step_s = math.inf

    def state(self) -> dict[str, Any]:
        """Return all that makes it go on exactly; see `Tracker.state`."""
        motion = {f.name: getattr(self._motion, f.name).tolist() for f in fields(self._motion)}
        return {
            "next_id": self._next_id,
            "motion": motion,
            "ids": self._ids.tolist(),
            "class": self._class.tolist(),
            "seen_s": self._seen_s.tolist(),
            "is_new": self._is_new.tolist(),
            "time_s": self._time_s,
            "step_s": self._step_s,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on where `state` was taken; see `Tracker.restore`."""
        self._next_id = state["next_id"]
        self._motion = Motion(
            **{name: np.array(rows, float).reshape(-1, 4) for name, rows in state["motion"].items()}
        )
        self._ids = np.array(state["ids"], np.int64)
        self._class = np.array(state["class"], np.int64)
        self._seen_s = np.array(state["seen_s"], float)
        self._is_new = np.array(state["is_new"], np.bool)
        self._time_s, self._step_s = state["time_s"], state["step_s"]

    def update(
        self, time_s: float, boxes: Float32s, confidence: Float32s, class_id: Int64s
    ) -> Int64s:
        """Take the next frame; see `Tracker.update`."""
        previous_s = time_s if self._time_s is None else self._time_s
        # Behind a jump, as in the very first frame, boxes are tracks at once.
        is_first = self._pass_time(time_s, previous_s) or self._time_s is None
        self._time_s = time_s
        given = np.full(len(boxes), UNTRACKED, np.int64)
        if not len(boxes) and not len(self._ids):
            return given
        strong = np.flatnonzero(confidence >= self._settings.strong)
        weak = np.flatnonzero(
            (confidence >= self._settings.weak) & (confidence < self._settings.strong)
        )
        seen_before = self._seen_s >= previous_s
        confirmed = self._ids != UNTRACKED
        matched = np.zeros(len(self._ids), bool)

        def match(tracks: Bools, found: Int64s, limit: float, *, use_score: bool) -> None:
            rows, columns = np.flatnonzero(tracks & ~matched), found[given[found] == UNTRACKED]
            if not len(rows) or not len(columns):
                return
            cost = self._cost(rows, boxes[columns], confidence[columns], class_id[columns])
            cost = cost if use_score else self._cost(rows, boxes[columns], None, class_id[columns])
            r, c = assign(cost, limit)
            rows, columns = rows[r], columns[c]
            matched[rows] = True
            self._continue(rows, time_s, boxes[columns])
            given[columns] = self._ids[rows]

        match(confirmed, strong, self._settings.strong_cost, use_score=True)
        match(confirmed & seen_before, weak, self._settings.weak_cost, use_score=False)
        match(~confirmed, strong, self._settings.birth_cost, use_score=True)
        self._end_lost(time_s, matched)
        births = strong[(given[strong] == UNTRACKED) & (confidence[strong] >= self._settings.birth)]
        given[births] = self._begin(time_s, boxes[births], class_id[births], confirm=is_first)
        return given

    def _pass_time(self, time_s: float, previous_s: float) -> bool:
        """Move the tracks on to `time_s`, without those that were out of sight for too long.

        Returns:
            Whether time jumped, so that none is left.

        A long stride is no jump: steps that are all alike are the footage's own.
        """
        step_s = max(time_s - previous_s, 0.0)
        jump = step_s > self._settings.carry_over_s + ROUNDING_S and step_s > 2 * self._step_s
        self._keep((self._is_recent(time_s) | (self._seen_s == previous_s)) & (not jump))
        self._motion.predict(step_s)
        self._step_s = step_s or self._step_s
        return jump

    def _is_recent(self, time_s: float) -> Bools:
        return time_s - self._seen_s <= self._settings.lost_after_s + ROUNDING_S

    def _cost(
        self, rows: Int64s, boxes: Float32s, confidence: Float32s | None, class_id: Int64s
    ) -> Float64s:
        overlap = self._overlap(rows, boxes)
        if confidence is not None:
            overlap = overlap * confidence[None]
        overlap[self._class[rows][:, None] != class_id[None]] = -1
        return 1 - overlap

    def _overlap(self, rows: Int64s, boxes: Float32s) -> Float64s:
        """Return the (n, m) overlaps of tracks with boxes: of new ones, where a step leads them."""
        there = self._motion.boxes()[rows]
        overlap = intersection_over_union(there, boxes)
        assert self._time_s is not None
        for i in np.flatnonzero(self._is_new[rows]).tolist():
            step = first_steps(there[i], boxes, self._time_s - self._seen_s[rows[i]])
            overlap[i] = intersection_over_union(there[i : i + 1], boxes - np.tile(step, 2))[0]
        return overlap

    def _continue(self, rows: Int64s, time_s: float, boxes: Float32s) -> None:
        self._motion.correct(rows, measure(boxes))
        self._seen_s[rows] = time_s
        self._is_new[rows] = False
        for row in rows[self._ids[rows] == UNTRACKED]:
            self._ids[row] = self._take_id()

    def _take_id(self) -> int:
        self._next_id += 1
        return self._next_id - 1

    def _end_lost(self, time_s: float, matched: Bools) -> None:
        """Drop tracks out of sight for too long, and new ones that did not show a second time."""
        self._keep((self._ids != UNTRACKED) & self._is_recent(time_s) | matched)
        # A person who is out of sight does not keep growing.
        self._motion.velocity[self._seen_s < time_s, 3] = 0.0

    def _keep(self, kept: Bools) -> None:
        self._motion = self._motion.keep(kept)
        self._ids, self._class = self._ids[kept], self._class[kept]
        self._seen_s, self._is_new = self._seen_s[kept], self._is_new[kept]

    def _begin(self, time_s: float, boxes: Float32s, class_id: Int64s, *, confirm: bool) -> Int64s:
        ids = np.array([self._take_id() if confirm else UNTRACKED for _ in boxes], np.int64)
        self._motion = self._motion.join(Motion.start(measure(boxes)))
        self._ids = np.concatenate([self._ids, ids])
        self._class = np.concatenate([self._class, class_id])
        self._seen_s = np.concatenate([self._seen_s, np.full(len(boxes), time_s)])
        self._is_new = np.concatenate([self._is_new, np.ones(len(boxes), np.bool)])
        return ids
