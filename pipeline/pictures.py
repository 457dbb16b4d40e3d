"""A frame as a person would look at it: upright, in source pixels, its masks painted."""

from dataclasses import replace

import av
import numpy as np
from numpy.typing import NDArray

from pipeline.decoders import Scaler
from pipeline.letterbox import fit
from pipeline.masks import paint_masks
from pipeline.records import Footage


class SourcePicture:
    """Turns frames of one footage into pictures of the source's size."""

    def __init__(self, footage: Footage) -> None:
        width, height = footage.track.upright_size
        self._footage = replace(footage, letterbox=fit(width, height, max(width, height)))
        self._scale = Scaler(self._footage)

    def __call__(self, frame: av.VideoFrame) -> NDArray[np.uint8]:
        """Return (height, width, 3) uint8 RGB, as large as the tables say the source is."""
        box = self._footage.letterbox
        pixels = np.empty((1, box.padded_height, box.padded_width, 3), np.uint8)
        box.put(self._scale(frame), pixels[0])
        paint_masks(pixels, box, self._footage.masks)
        rows = slice(box.top_px, box.top_px + box.scaled_height)
        columns = slice(box.left_px, box.left_px + box.scaled_width)
        return np.ascontiguousarray(pixels[0, rows, columns])
