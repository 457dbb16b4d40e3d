"""How boxes lie to each other, and which belong together: arithmetic on corners, nothing more."""

import lap
import numpy as np
from numpy.typing import NDArray

Float64s = NDArray[np.float64]
Int64s = NDArray[np.int64]
Boxes = NDArray[np.floating]


def intersection_over_union(a: Boxes, b: Boxes) -> Float64s:
    """Return the (n, m) overlaps of (n, 4) with (m, 4) boxes, as shares of what both cover."""
    common, area_a, area_b = _common(a, b)
    overlap: Float64s = common / np.maximum(area_a[:, None] + area_b[None] - common, 1e-9)
    return overlap


def intersection_over_smaller(a: Boxes, b: Boxes) -> Float64s:
    """Return the (n, m) overlaps of (n, 4) with (m, 4) boxes, as shares of the smaller one.

    A person who stands behind another is hidden by this much, whoever is the larger.
    """
    common, area_a, area_b = _common(a, b)
    overlap: Float64s = common / np.maximum(np.minimum(area_a[:, None], area_b[None]), 1e-9)
    return overlap


def _common(a: Boxes, b: Boxes) -> tuple[Float64s, Float64s, Float64s]:
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    common = np.clip(high - low, 0, None).prod(axis=2)
    area_a, area_b = (np.clip(x[:, 2:] - x[:, :2], 0, None).prod(axis=1) for x in (a, b))
    return common, area_a, area_b


def assign(cost: Float64s, limit: float) -> tuple[Int64s, Int64s]:
    """Return the rows and columns of the cheapest matching with no cost above `limit`."""
    if not cost.size:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    _, column_of, _ = lap.lapjv(cost, extend_cost=True, cost_limit=limit)
    rows = np.flatnonzero(column_of >= 0)
    return rows, np.asarray(column_of[rows], np.int64)
