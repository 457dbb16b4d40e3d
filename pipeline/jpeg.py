"""A picture as a JPEG of bounded size."""

from fractions import Fraction

import av
import numpy as np
from numpy.typing import NDArray

# FFmpeg's scale of quantizers: 2 is its best, 31 its worst.
_QUANTIZERS = (3, 6, 12, 24)
_SMALLER = 0.7
_LEAST_SIDE_PX = 16


def to_jpeg(picture: NDArray[np.uint8], most_bytes: int) -> bytes:
    """Return a picture as a JPEG of at most so many bytes.

    The quality is lowered first, the size only if that does not do.

    Args:
        picture: (height, width, 3) uint8 RGB.
        most_bytes: What it may come to.
    """
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), "rgb24")
    width, height = frame.width, frame.height
    while True:
        frame = frame.reformat(width=width, height=height, format="yuvj420p")
        for quantizer in _QUANTIZERS:
            data = _encoded(frame, quantizer)
            if len(data) <= most_bytes or max(width, height) <= _LEAST_SIDE_PX:
                return data
        width, height = (max(1, int(side * _SMALLER)) for side in (width, height))


def _encoded(frame: av.VideoFrame, quantizer: int) -> bytes:
    codec = av.CodecContext.create("mjpeg", "w")
    assert isinstance(codec, av.VideoCodecContext)
    codec.width, codec.height, codec.pix_fmt = frame.width, frame.height, "yuvj420p"
    codec.time_base = Fraction(1, 1)
    codec.thread_count = 1
    codec.options = {"qmin": str(quantizer), "qmax": str(quantizer)}
    frame.pts = 0
    return b"".join(bytes(packet) for packet in [*codec.encode(frame), *codec.encode(None)])
