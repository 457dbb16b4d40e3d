"""Where boxes go on to: Kalman filters over time.

As in SORT and DeepSORT (Bewley et al. 2016, Wojke et al. 2017), but their frame is a span of time here:
a camera of 5 frames a second sees people that walk as fast as one of 25 does.
"""

from dataclasses import dataclass, fields
from typing import Self

import numpy as np
from numpy.typing import NDArray

from pipeline.pieces import SPEED

Float32s = NDArray[np.float32]
Float64s = NDArray[np.float64]
Int64s = NDArray[np.int64]
Bools = NDArray[np.bool]

# The frame that DeepSORT's noise is of: that of usual video.
INTERVAL_S = 0.04
# In heights of a person: what a box is off (DeepSORT's), and how far a first step leads at most: who is
# farther away may as well be another.
NOISE, BESIDE = 0.05, 0.5


@dataclass(slots=True, eq=False)
class Motion:
    """Kalman filters of n boxes: centre x, centre y, aspect, height, each with its velocity.

    Noise is independent for each of the four, so each is a filter of two states, and all 4n are
    computed at once. Velocities are per `INTERVAL_S`.
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

    def predict(self, step_s: float) -> None:
        """Move on by a number of seconds."""
        intervals = step_s / INTERVAL_S
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

    def keep(self, kept: Bools) -> "Motion":
        """Return the filters at (n,) kept."""
        return Motion(*(getattr(self, field.name)[kept] for field in fields(self)))

    def join(self, other: "Motion") -> "Motion":
        """Return these filters, and others behind them."""
        return Motion(
            *(np.vstack([getattr(self, f.name), getattr(other, f.name)]) for f in fields(self))
        )

    def boxes(self) -> Float64s:
        """Return (n, 4) boxes, corner to corner."""
        width = self.mean[:, 2] * self.mean[:, 3]
        half = np.stack([width, self.mean[:, 3]], axis=1) / 2
        return np.hstack([self.mean[:, :2] - half, self.mean[:, :2] + half])


def _process_noise(height: Float64s) -> tuple[Float64s, Float64s]:
    """Return the deviations (n, 4) of position and velocity for an interval (DeepSORT's)."""
    size = np.repeat(np.maximum(height, 1.0)[:, None], 4, axis=1)
    position, velocity = size / 20, size / 160
    position[:, 2], velocity[:, 2] = 1e-2, 1e-5
    return position, velocity


def measure(boxes: Float32s) -> Float64s:
    """Return (n, 4) centre x, centre y, aspect and height of boxes."""
    size = np.maximum((boxes[:, 2:] - boxes[:, :2]).astype(np.float64), 1e-3)
    centre = boxes[:, :2] + size / 2
    return np.column_stack([centre, size[:, 0] / size[:, 1], size[:, 1]])


def first_steps(before: Float64s, boxes: Float32s, step_s: float) -> Float64s:
    """Return how far people who were seen once have walked, if boxes are theirs.

    Nothing is known of their velocity but a walking pace: the longer it took, the more of the way to a
    box may be a step. It is the gain of a Kalman filter of that uncertainty.

        seen once ●─────▷┄┄● the box that may be theirs     ▷ taken for a step: most of it after
                                                              0.2 s, a sixth after 0.04 s

    Args:
        before: (4,) the box when they were seen, corner to corner.
        boxes: (m, 4) that may be theirs now.
        step_s: Seconds in between.

    Returns:
        (m, 2) pixels, x and y.
    """
    height = max(before[3] - before[1], 1.0)
    off = (boxes[:, :2] + boxes[:, 2:] - before[:2] - before[2:]) / 2
    walked = (SPEED * step_s) ** 2
    step = off * walked / (walked + 2 * NOISE**2)
    length = np.maximum(np.hypot(step[:, 0], step[:, 1]), 1e-9)
    return np.asarray(step * np.minimum(1.0, BESIDE * height / length)[:, None])
