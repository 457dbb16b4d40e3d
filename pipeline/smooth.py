"""Boxes between boxes, and boxes that tremble less."""

import numpy as np
from numpy.typing import NDArray

Float64s = NDArray[np.float64]

# Beyond three deviations nothing counts.
_REACH = 3.0


def between(times_s: Float64s, boxes: Float64s, at_s: Float64s) -> Float64s:
    """Return boxes on the straight lines between others.

    Args:
        times_s: (n,) rising.
        boxes: (n, k) at these times.
        at_s: (m,) where they are wanted, none outside `times_s`.

    Returns:
        (m, k).
    """
    return np.column_stack([np.interp(at_s, times_s, edge) for edge in boxes.T])


def smoothed(times_s: Float64s, boxes: Float64s, at_s: Float64s, width_s: float) -> Float64s:
    """Return boxes averaged over their neighbours in time.

    A straight line through each one's surroundings, by least squares with Gaussian weights (Cleveland
    1979, locally weighted regression): steady motion stays as it is, at both ends too.

    Args:
        times_s: (n,) rising.
        boxes: (n, k) at these times.
        at_s: (m,) where they are wanted.
        width_s: Deviation of the weights.

    Returns:
        (m, k).
    """
    ages = times_s[None] - at_s[:, None]
    weights = np.exp(-0.5 * (ages / width_s) ** 2) * (np.abs(ages) <= _REACH * width_s)
    weights += 1e-12  # Far from any other, the line through the nearest two.
    total, first, second = ((weights * ages**power).sum(axis=1) for power in range(3))
    spread = total * second - first**2
    is_line = spread > 1e-9 * total**2 * width_s**2
    lines = (
        weights
        * (second[:, None] - first[:, None] * ages)
        / np.where(is_line, spread, 1.0)[:, None]
    )
    shares = np.where(is_line[:, None], lines, weights / total[:, None])
    return np.asarray(shares @ boxes)
