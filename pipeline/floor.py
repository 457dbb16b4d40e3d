"""Where on the floor a point of the picture lies: a homography from calibration points.

picture, px                    floor, m
a ─── b                     a ───────── b
│       │          ──>       │           │       four points, or more; those that are more
d ───────── c                  d ───────── c       than needed tell how well the rest fits
"""

from dataclasses import dataclass, field
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ConfigError

Float64s = NDArray[np.float64]
Points = tuple[tuple[float, float], ...]

LEAST_POINTS = 4
# Points are measured and clicked to a hundredth of the floor: who is off by more has mistaken one.
_MOST_RESIDUAL_SHARE = 0.05
# Of the largest triangle of four points, the smallest one: below it, three are as good as on a line.
_LEAST_TRIANGLE = 0.02
# In one of picture and floor it may be less, for far away all is narrow; but no less than this.
_LEAST_FAR_TRIANGLE = 0.01
# Of the normalised system's singular values: below it, other floors fit as well.
_LEAST_CONDITION = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Floor:
    """The map from a camera's picture to the floor that it sees.

    Attributes:
        matrix: (3, 3) homography, positive behind the third row on the floor's side of the horizon.
        residual_m: Root mean square of how far the calibration points are off.
        worst_m: How far the worst one is.
    """

    matrix: Float64s = field(repr=False)
    residual_m: float
    worst_m: float

    def to_metres(self, points: Float64s) -> Float64s:
        """Return (n, 2) metres on the floor of (n, 2) pixels; NaN above the horizon."""
        mapped = np.column_stack([points, np.ones(len(points))]) @ self.matrix.T
        depth = np.where(mapped[:, 2:] > 0, mapped[:, 2:], np.nan)
        return np.asarray(mapped[:, :2] / depth)


def calibrate(image_px: Points, floor_m: Points) -> Floor:
    """Return the floor that fits calibration points best.

    The direct linear transformation on normalised points (Hartley 1997).

    Args:
        image_px: Where in the picture, four points or more.
        floor_m: Where those lie on the floor.

    Raises:
        ConfigError: They fix no floor: too few, on a line, on both sides of the horizon, or far off it.
    """
    if len(image_px) != len(floor_m) or len(image_px) < LEAST_POINTS:
        raise ConfigError(
            f"calibration: {len(image_px)} image and {len(floor_m)} floor points; it takes four or "
            "more, and as many of one as of the other"
        )
    image, floor = np.array(image_px, float), np.array(floor_m, float)
    (a, from_image), (b, from_floor) = _normalised(image), _normalised(floor)
    ones, zeros = np.ones(len(a)), np.zeros((len(a), 3))
    p = np.column_stack([a, ones])
    rows = np.vstack([np.hstack([p, zeros, -b[:, :1] * p]), np.hstack([zeros, p, -b[:, 1:] * p])])
    _, strengths, directions = np.linalg.svd(rows, full_matrices=True)
    found = directions[-1].reshape(3, 3)
    sizes = np.linalg.svd(found, compute_uv=False)
    # A map that is no map: points of a line become one, or one point a line.
    is_map = sizes[2] >= _LEAST_CONDITION * sizes[0]
    is_flat = _is_flat(a) or _is_flat(b) or _are_nearly_flat(a, b)
    if strengths[7] < _LEAST_CONDITION * strengths[0] or not is_map or is_flat:
        raise ConfigError(
            "calibration: the points fix no floor: no three of four may lie on a line, or nearly, in "
            "the picture or on the floor"
        )
    matrix = np.linalg.inv(from_floor) @ found @ from_image
    depths = np.column_stack([image, ones]) @ matrix[2]
    if depths.min() * depths.max() <= 0:
        raise ConfigError(
            "calibration: the points lie on both sides of the horizon: is their order the same?"
        )
    matrix = matrix / depths.mean()
    mapped = np.column_stack([image, ones]) @ matrix.T
    off = np.linalg.norm(mapped[:, :2] / mapped[:, 2:] - floor, axis=1)
    residual_m, extent_m = float(np.sqrt((off**2).mean())), float(np.ptp(floor, axis=0).max())
    if residual_m > _MOST_RESIDUAL_SHARE * extent_m:
        raise ConfigError(
            f"calibration: its {len(image)} points are off by {residual_m:.2f} m on a floor of "
            f"{extent_m:.1f} m, the worst, number {off.argmax() + 1}, by {off.max():.2f} m: is one of "
            "them somewhere else, or is their order not the same?"
        )
    return Floor(matrix=matrix, residual_m=residual_m, worst_m=float(off.max()))


def _is_flat(points: Float64s) -> bool:
    """Say whether of four points three lie on a line; (n, 2), of unit size."""
    return len(points) == LEAST_POINTS and bool(_triangles(points).min() < _LEAST_CONDITION)


def _are_nearly_flat(image: Float64s, floor: Float64s) -> bool:
    """Say whether of four points three are as good as on a line, in the picture and on the floor.

    In one of them alone they may be nearer to it.
    """
    if len(image) > LEAST_POINTS:
        return False
    shares = [(each := _triangles(points)).min() / each.max() for points in (image, floor)]
    return bool(max(shares) < _LEAST_TRIANGLE or min(shares) < _LEAST_FAR_TRIANGLE)


def _triangles(points: Float64s) -> Float64s:
    """Return twice the area of each triangle of (4, 2) points."""
    triples = points[list(combinations(range(LEAST_POINTS), 3))]
    return np.asarray(np.abs(np.linalg.det(triples[:, 1:] - triples[:, :1])))


def _normalised(points: Float64s) -> tuple[Float64s, Float64s]:
    """Return points about the origin at a mean distance of root two, and the matrix that does it."""
    centre = points.mean(axis=0)
    spread = np.linalg.norm(points - centre, axis=1).mean()
    if spread <= 0:
        raise ConfigError("calibration: all its points are one")
    scale = np.sqrt(2) / spread
    matrix = np.array([[scale, 0, -scale * centre[0]], [0, scale, -scale * centre[1]], [0, 0, 1]])
    return (points - centre) * scale, matrix
