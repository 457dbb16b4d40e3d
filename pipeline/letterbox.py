"""How a frame is fitted to the detector's input, and how boxes find the way back.

The geometry is the one that YOLO models of ultralytics are trained and run with: scale the longer
side to the image size, pad the shorter to a multiple of the network's stride with grey, half on
each side.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NETWORK_STRIDE_PX = 32
PAD_GREY = 114


@dataclass(frozen=True, slots=True, kw_only=True)
class Letterbox:
    """The fit of an upright source frame into the detector's input, all sizes in pixels."""

    source_width: int
    source_height: int
    scaled_width: int
    scaled_height: int
    padded_width: int
    padded_height: int

    @property
    def left_px(self) -> int:
        """Grey columns to the left of the picture."""
        return (self.padded_width - self.scaled_width) // 2

    @property
    def top_px(self) -> int:
        """Grey rows above the picture."""
        return (self.padded_height - self.scaled_height) // 2

    @property
    def frame_bytes(self) -> int:
        """Bytes of one frame at inference size, uint8 RGB."""
        return self.padded_width * self.padded_height * 3

    def paint_border(self, pixels: NDArray[np.uint8]) -> None:
        """Make everything beside the picture grey, in (k, padded_height, padded_width, 3) uint8."""
        pixels[:, : self.top_px] = PAD_GREY
        pixels[:, self.top_px + self.scaled_height :] = PAD_GREY
        pixels[:, :, : self.left_px] = PAD_GREY
        pixels[:, :, self.left_px + self.scaled_width :] = PAD_GREY

    def put(self, picture: NDArray[np.uint8], pixels: NDArray[np.uint8]) -> None:
        """Copy (scaled_height, scaled_width, 3) uint8 to its place in (padded_height, ...)."""
        bottom, right = self.top_px + self.scaled_height, self.left_px + self.scaled_width
        pixels[self.top_px : bottom, self.left_px : right] = picture

    def to_source(self, boxes: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map boxes from the detector's input to the source frame, clipped to it.

        Args:
            boxes: (n, 4) float32, x_min, y_min, x_max, y_max in pixels of the padded input.

        Returns:
            A new (n, 4) float32 array in pixels of the source frame.
        """
        scale_x = self.source_width / self.scaled_width
        scale_y = self.source_height / self.scaled_height
        offset = np.array([self.left_px, self.top_px] * 2, np.float32)
        scale = np.array([scale_x, scale_y] * 2, np.float32)
        limit = np.array([self.source_width, self.source_height] * 2, np.float32)
        inside: NDArray[np.float32] = np.clip((boxes - offset) * scale, np.float32(0), limit)
        return inside


def fit(source_width: int, source_height: int, image_size: int) -> Letterbox:
    """Return the letterbox of a source frame for a detector of `image_size` pixels."""
    ratio = min(image_size / source_width, image_size / source_height)
    scaled_width = max(1, round(source_width * ratio))
    scaled_height = max(1, round(source_height * ratio))
    return Letterbox(
        source_width=source_width,
        source_height=source_height,
        scaled_width=scaled_width,
        scaled_height=scaled_height,
        padded_width=-(-scaled_width // NETWORK_STRIDE_PX) * NETWORK_STRIDE_PX,
        padded_height=-(-scaled_height // NETWORK_STRIDE_PX) * NETWORK_STRIDE_PX,
    )
