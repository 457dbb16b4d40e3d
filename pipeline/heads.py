"""Where the heads of people are, from their boxes, and how they are made unrecognisable.

    x_min        x_max
  ┌─┬──────────────┬─┐ y_min      upper 22 % of the box, but at least half its width down, for the box
  │ │     head     │ │              of one who sits is short; 15 % of its width more on both sides
  └─┼──────────────┼─┘
    │              │            all of a box that is squat, or that an edge of the picture cuts so that
    └──────────────┘ y_max        its proportions tell nothing: head and shoulders, or nothing else

Who is in a picture is for `detect`: a head that no box is of is not found here either.
"""

import math
from collections.abc import Iterable
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
# left, top, right, bottom in whole pixels; the last two are the first beyond it.
Region: TypeAlias = tuple[int, int, int, int]

HEAD_SHARE = 0.22
# A head is half as high as shoulders are wide.
_WIDTHS = 0.5
# One who stands is twice as high as wide, or more. Below this, all of a box may be head.
_SQUAT = 1.3
# Where the lower edge of the picture cuts a box, as much of it is head as its width says.
_CUT_WIDTHS = 1.0
# A box so near to an edge is cut by it.
_EDGE_PX = 2.0
_BESIDE_SHARE = 0.15
# A head is left as so many colours across its shorter side, each of at least so many pixels.
_CELLS, _LEAST_CELL_PX = 3, 4


def head_regions(boxes: NDArray[np.floating], width: int, height: int) -> list[Region]:
    """Return where the heads are, rounded outwards; boxes without one in the picture give none.

    Args:
        boxes: (n, 4) x_min, y_min, x_max, y_max of people, in pixels.
        width: Of the picture, in pixels.
        height: Of it.
    """
    regions = []
    for x_min, y_min, x_max, y_max in boxes.tolist():
        beside = _BESIDE_SHARE * (x_max - x_min)
        left, right = max(0, math.floor(x_min - beside)), min(width, math.ceil(x_max + beside))
        top = max(0, math.floor(y_min))
        bottom = min(height, math.ceil(y_min + _head_px((x_min, y_min, x_max, y_max), height)))
        if left < right and top < bottom:
            regions.append((left, top, right, bottom))
    return regions


def _head_px(box: tuple[float, float, float, float], picture_height: int) -> float:
    """Return how far down a head may reach in a box: rather too far than not far enough."""
    x_min, y_min, x_max, y_max = box
    wide, high = x_max - x_min, y_max - y_min
    if high <= _SQUAT * wide or y_min <= _EDGE_PX:
        return high
    is_cut = y_max >= picture_height - _EDGE_PX
    return min(high, max(HEAD_SHARE * high, (_CUT_WIDTHS if is_cut else _WIDTHS) * wide))


def blur_heads(picture: Image, regions: Iterable[Region]) -> None:
    """Make regions of (height, width, 3) uint8 unrecognisable, in place; nothing else changes."""
    for left, top, right, bottom in regions:
        picture[top:bottom, left:right] = _blurred(picture[top:bottom, left:right])


def _blurred(region: Image) -> Image:
    """Return a region as a few cells of one colour each, whose edges are blurred.

    A blur alone can be undone in part. The mean of a cell cannot.
    """
    height, width = region.shape[:2]
    cell_px = max(_LEAST_CELL_PX, min(height, width) / _CELLS)
    cells = max(1, round(width / cell_px)), max(1, round(height / cell_px))
    few = cv2.resize(region, cells, interpolation=cv2.INTER_AREA)
    coarse = cv2.resize(few, (width, height), interpolation=cv2.INTER_NEAREST)
    return np.asarray(cv2.GaussianBlur(coarse, (0, 0), cell_px / 2), np.uint8)
