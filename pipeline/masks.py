"""Paint out what must not be looked at, in frames at inference size, before anybody sees them."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from pipeline.letterbox import PAD_GREY, Letterbox

Shares = tuple[tuple[float, float], ...]
# The bicubic filter mixes pixels that are so far apart, in the source or, scaled down, in the result.
_SPILL_PX = 2.0


def paint_masks(pixels: NDArray[np.uint8], letterbox: Letterbox, masks: tuple[Shares, ...]) -> None:
    """Make masked areas grey.

    Args:
        pixels: (k, padded_height, padded_width, 3) uint8, changed in place.
        letterbox: How the frames lie in them.
        masks: Polygons, as shares of the frame's width and height.
    """
    if masks:
        pixels[:, _covered(letterbox, masks)] = PAD_GREY


@lru_cache(maxsize=64)
def _covered(box: Letterbox, masks: tuple[Shares, ...]) -> NDArray[np.bool]:
    """Return (padded_height, padded_width) where a mask is, or is near."""
    # Decoders without masks need not have it in memory.
    import shapely

    x, y = np.meshgrid(
        np.arange(box.padded_width) + 0.5 - box.left_px,
        np.arange(box.padded_height) + 0.5 - box.top_px,
    )
    covered = np.zeros(x.shape, bool)
    spill = _SPILL_PX * max(1.0, box.scaled_width / box.source_width)
    for mask in masks:
        corners = [(u * box.scaled_width, v * box.scaled_height) for u, v in mask]
        area = shapely.Polygon(corners).buffer(spill, join_style="mitre")
        covered |= shapely.contains_xy(area, x, y)
    return covered
