"""The frames that labels are asked of: which they are, and how their pictures leave a decoder.

    frame_index   0 . . . . 5 . . . . 10 . .      every 5th: 0, 5, 10
    stride 3      0 . . 3 . . 6 . . 9 .  . 12     the first one looked at from there on: 0, 6, 12

Their pictures have the source's size, so they are taken where frames still have it: beside the decoder,
before it scales.
"""

import av
import numpy as np
from numpy.typing import NDArray

from pipeline.jpeg import to_jpeg
from pipeline.pictures import SourcePicture
from pipeline.records import Int64s, LabelFrame, Segment

# Rekognition takes pictures of 5 MB.
MOST_JPEG_BYTES = 5_000_000


def are_label_frames(frame_index: Int64s, every: int, stride: int) -> NDArray[np.bool]:
    """Say of frames that are looked at whether labels are asked of them.

    Args:
        frame_index: (n,) int64, in the video track; multiples of `stride`.
        every: Of how many frames one is asked about; 0 means of none.
        stride: Every how many frames one is looked at.
    """
    if not every:
        return np.zeros(len(frame_index), bool)
    chosen: NDArray[np.bool] = frame_index % every < stride
    return chosen


def label_calls(frames: int, every: int, stride: int) -> int:
    """Return how many frames of a video track of so many frames labels are asked of."""
    return -(-frames // max(every, stride)) if every else 0


class LabelTap:
    """Takes the pictures of label frames out of a decoder that goes through a segment."""

    def __init__(self, segment: Segment, every: int) -> None:
        self._segment = segment
        chosen = are_label_frames(segment.frame_index, every, segment.footage.stride)
        self._rows = set(np.flatnonzero(chosen).tolist())
        self._taken: dict[int, LabelFrame] = {}
        self._picture = SourcePicture(segment.footage)

    def __bool__(self) -> bool:
        """Whether the segment has a label frame at all."""
        return bool(self._rows)

    def __call__(self, row: int, frame: av.VideoFrame) -> None:
        """Look at a wanted frame as it is decoded, before it is scaled."""
        if row not in self._rows:
            return
        jpeg, reason = b"", ""
        try:
            jpeg = to_jpeg(self._picture(frame), MOST_JPEG_BYTES)
        except (av.error.FFmpegError, ValueError) as error:
            # It costs its labels, and not its detections.
            reason = f"cannot be made a JPEG: {error}"
        self._taken[row] = LabelFrame(
            frame_index=int(self._segment.frame_index[row]),
            pts_s=float(self._segment.pts_s[row]),
            jpeg=jpeg,
            reason=reason,
        )

    def take(self, start: int, stop: int) -> tuple[LabelFrame, ...]:
        """Return what was taken of rows [start, stop)."""
        rows = sorted(row for row in self._taken if start <= row < stop)
        return tuple(self._taken.pop(row) for row in rows)
