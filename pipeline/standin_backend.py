"""A stand-in for a model, for soaks and tests of the machinery: it finds bright things, fast.

Its boxes depend on nothing but the pixels of a frame: the same on every machine, in every batch.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.atomic import sha256_of
from pipeline.backend import Boxes, DetectSettings, no_boxes
from pipeline.weights import Weights

STAND_IN = "stand-in"
CLASS_NAMES: tuple[str, ...] = ("person",)
_BRIGHT = 170
_LEAST_AREA_PX = 40


def stand_in_weights() -> Weights:
    """Return this module as the file of weights: its hash changes when its boxes might."""
    return Weights(path=__file__, sha256=sha256_of(Path(__file__)))


class StandInBackend:
    """Finds connected bright regions; see `Backend`."""

    def __init__(self, settings: DetectSettings) -> None:
        import cv2

        self.class_names = CLASS_NAMES
        self._confidence = settings.confidence
        self._in_range, self._regions = cv2.inRange, cv2.connectedComponentsWithStats

    def begin(
        self,
        pixels: NDArray[np.uint8],
        rows: int,  # noqa: ARG002 -- frame by frame
    ) -> Callable[[], Boxes]:
        """Leave it all for later."""
        return lambda: self._boxes(pixels)

    def _boxes(self, pixels: NDArray[np.uint8]) -> Boxes:
        in_frames, found = [], []
        for row, frame in enumerate(pixels):
            # numpy takes thirty times as long for the least of three channels.
            bright = self._in_range(frame, (_BRIGHT,) * 3, (255,) * 3)
            count, _, stats, _ = self._regions(bright)
            # The first is the background.
            for left, top, width, height, area in stats[1:count]:
                if area >= _LEAST_AREA_PX:
                    in_frames.append(row)
                    filled = area / (width * height)
                    found.append((left, top, left + width, top + height, filled))
        if not found:
            return no_boxes()
        boxes = np.array(found, np.float32)
        kept = boxes[:, 4] >= self._confidence
        return Boxes(
            np.array(in_frames, np.int64)[kept],
            boxes[kept, :4],
            boxes[kept, 4],
            np.zeros(int(kept.sum()), np.int64),
        )
