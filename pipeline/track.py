"""Follow people through a camera's footage: boxes in, track ids out.

ByteTrack (Zhang et al. 2022, arXiv 2110.06864): strong boxes are matched first, weak ones then get a
chance to continue a track. Motion is a Kalman filter as in SORT and DeepSORT (Bewley et al. 2016,
Wojke et al. 2017), but over time, not over frames: a skipped frame or a variable rate is a longer step.

A tracker belongs to one camera, and all its state lives in the instance. What its tracks amount to
is for `refine` and `movement`.
"""

import math
from dataclasses import dataclass, fields
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from pipeline.boxes import assign, intersection_over_union
from pipeline.errors import ConfigError

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


@dataclass(slots=True, eq=False)
class _Motion:
    """Kalman filters of n boxes: centre x, centre y, aspect, height, each with its velocity.

    Noise is independent for each of the four, so each is a filter of two states, and all 4n are
    computed at once. Velocities are per frame interval of the camera.
    """

    mean: Float64s  # (n, 4)
    velocity: Float64s  # (n, 4)
    var: Float64s  # (n, 4), of the mean
    cov: Float64s  # (n, 4), of mean and velocity
    velocity_var: Float64s  # (n, 4)

    @classmethod
    def start(cls, measured: Float64s) -> Self:
        """Begin filters at (n, 4) measurements, at rest."""
        position, velocity = _process_noise(measured[:, 3])
        # DeepSORT's starting uncertainty: twice and ten times the process noise.
        factor = np.array([2.0, 2.0, 1.0, 2.0])
        return cls(
            measured.copy(),
            np.zeros_like(measured),
            (factor * position) ** 2,
            np.zeros_like(measured),
            (np.array([10.0, 10.0, 1.0, 10.0]) * velocity) ** 2,
        )

    def predict(self, intervals: float) -> None:
        """Move on by a number of frame intervals."""
        position, velocity = _process_noise(self.mean[:, 3])
        self.mean = self.mean + intervals * self.velocity
        self.var = self.var + intervals * (2 * self.cov + intervals * self.velocity_var)
        self.var += intervals * position**2
        self.cov = self.cov + intervals * self.velocity_var
        self.velocity_var = self.velocity_var + intervals * velocity**2

    def correct(self, rows: Int64s, measured: Float64s) -> None:
        """Take (k, 4) measurements of the filters `rows`."""
        noise = measured[:, 3:4] / 20 * np.array([1.0, 1.0, 0.0, 1.0])
        noise[:, 2] = 0.1
        total = self.var[rows] + noise**2
        gain, velocity_gain = self.var[rows] / total, self.cov[rows] / total
        error = measured - self.mean[rows]
        self.mean[rows] += gain * error
        self.velocity[rows] += velocity_gain * error
        self.velocity_var[rows] -= velocity_gain * self.cov[rows]
        self.cov[rows] *= 1 - gain
        self.var[rows] *= 1 - gain

    def boxes(self) -> Float64s:
        """Return (n, 4) boxes, corner to corner."""
        width = self.mean[:, 2] * self.mean[:, 3]
        half = np.stack([width, self.mean[:, 3]], axis=1) / 2
        return np.hstack([self.mean[:, :2] - half, self.mean[:, :2] + half])


def _process_noise(height: Float64s) -> tuple[Float64s, Float64s]:
    """Return the deviations (n, 4) of position and velocity for a frame interval (DeepSORT's)."""
    size = np.repeat(np.maximum(height, 1.0)[:, None], 4, axis=1)
    position, velocity = size / 20, size / 160
    position[:, 2], velocity[:, 2] = 1e-2, 1e-5
    return position, velocity


def _measure(boxes: Float32s) -> Float64s:
    """Return (n, 4) centre x, centre y, aspect and height of boxes."""
    size = np.maximum((boxes[:, 2:] - boxes[:, :2]).astype(np.float64), 1e-3)
    centre = boxes[:, :2] + size / 2
    return np.column_stack([centre, size[:, 0] / size[:, 1], size[:, 1]])


class ByteTracker:
    """ByteTrack for one camera."""

    def __init__(self, settings: TrackSettings, rate_fps: float) -> None:
        """Begin with no track.

        Args:
            settings: Thresholds.
            rate_fps: The camera's frame rate: the unit of the motion model's steps.
        """
        self._settings = settings
        self._rate_fps = rate_fps if rate_fps > 0 else 25.0
        self._next_id = 1
        self.forget()

    def forget(self) -> None:
        """End all tracks; ids go on."""
        self._motion = _Motion.start(np.zeros((0, 4)))
        self._ids = np.zeros(0, np.int64)  # UNTRACKED until the second box
        self._class = np.zeros(0, np.int64)
        self._seen_s = np.zeros(0)
        self._time_s: float | None = None
        self._step_s = math.inf

    def state(self) -> dict[str, Any]:
        """Return all that makes it go on exactly; see `Tracker.state`."""
        motion = {f.name: getattr(self._motion, f.name).tolist() for f in fields(self._motion)}
        return {
            "rate_fps": self._rate_fps,
            "next_id": self._next_id,
            "motion": motion,
            "ids": self._ids.tolist(),
            "class": self._class.tolist(),
            "seen_s": self._seen_s.tolist(),
            "time_s": self._time_s,
            "step_s": self._step_s,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on where `state` was taken; see `Tracker.restore`."""
        # The rate of the camera's first footage, whatever it is that the tracker goes on with.
        self._rate_fps = state["rate_fps"]
        self._next_id = state["next_id"]
        self._motion = _Motion(
            **{name: np.array(rows, float).reshape(-1, 4) for name, rows in state["motion"].items()}
        )
        self._ids = np.array(state["ids"], np.int64)
        self._class = np.array(state["class"], np.int64)
        self._seen_s = np.array(state["seen_s"], float)
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
        jump = step_s > self._settings.carry_over_s and step_s > 2 * self._step_s
        recent = time_s - self._seen_s <= self._settings.lost_after_s
        self._keep((recent | (self._seen_s == previous_s)) & (not jump))
        self._motion.predict(step_s * self._rate_fps)
        self._step_s = step_s or self._step_s
        return jump

    def _cost(
        self, rows: Int64s, boxes: Float32s, confidence: Float32s | None, class_id: Int64s
    ) -> Float64s:
        overlap = intersection_over_union(self._motion.boxes()[rows], boxes)
        if confidence is not None:
            overlap = overlap * confidence[None]
        overlap[self._class[rows][:, None] != class_id[None]] = -1
        return 1 - overlap

    def _continue(self, rows: Int64s, time_s: float, boxes: Float32s) -> None:
        self._motion.correct(rows, _measure(boxes))
        self._seen_s[rows] = time_s
        for row in rows[self._ids[rows] == UNTRACKED]:
            self._ids[row] = self._take_id()

    def _take_id(self) -> int:
        self._next_id += 1
        return self._next_id - 1

    def _end_lost(self, time_s: float, matched: Bools) -> None:
        """Drop tracks out of sight for too long, and new ones that did not show a second time."""
        recent = time_s - self._seen_s <= self._settings.lost_after_s
        self._keep((self._ids != UNTRACKED) & recent | matched)
        # A person who is out of sight does not keep growing.
        self._motion.velocity[self._seen_s < time_s, 3] = 0.0

    def _keep(self, kept: Bools) -> None:
        motion = self._motion
        self._motion = _Motion(*(getattr(motion, field.name)[kept] for field in fields(motion)))
        self._ids, self._class = self._ids[kept], self._class[kept]
        self._seen_s = self._seen_s[kept]

    def _begin(self, time_s: float, boxes: Float32s, class_id: Int64s, *, confirm: bool) -> Int64s:
        ids = np.array([self._take_id() if confirm else UNTRACKED for _ in boxes], np.int64)
        born, motion = _Motion.start(_measure(boxes)), self._motion
        self._motion = _Motion(
            *(np.vstack([getattr(motion, f.name), getattr(born, f.name)]) for f in fields(motion))
        )
        self._ids = np.concatenate([self._ids, ids])
        self._class = np.concatenate([self._class, class_id])
        self._seen_s = np.concatenate([self._seen_s, np.full(len(boxes), time_s)])
        return ids
