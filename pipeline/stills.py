"""Single frames of footage, from here and there: to calibrate on, or to look at.

A short recording is decoded through. In a long one each time is sought, and what is given is the
keyframe before it: to decode on from there could take as long as a minute of footage.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import av
import numpy as np
from numpy.typing import NDArray

from pipeline.decoders import Scaler
from pipeline.errors import SourceError
from pipeline.ffmpeg import DECODER_LIMITS
from pipeline.masks import paint_masks
from pipeline.probe import open_recording, video_streams
from pipeline.records import Footage

# A still by seeking costs about as much as decoding so many frames.
_FRAMES_OF_A_SEEK = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where stills are taken in one footage.

    Attributes:
        times_s: Seconds from its beginning, rising.
    """

    footage: Footage
    times_s: tuple[float, ...]


def spread(footages: Sequence[Footage], stills: int) -> list[Places]:
    """Return where to take stills, evenly over footage: over recordings first, then over time."""
    if len(footages) > stills:
        step = len(footages) / stills
        footages = [footages[int((number + 0.5) * step)] for number in range(stills)]
    each, more = divmod(stills, max(1, len(footages)))
    return [
        Places(footage=footage, times_s=_evenly(footage, each + (number < more)))
        for number, footage in enumerate(footages)
    ]


def _evenly(footage: Footage, stills: int) -> tuple[float, ...]:
    track = footage.track
    length_s = track.duration_s or track.expected_frames / (track.rate_fps or 1.0)
    return tuple((number + 0.5) * length_s / stills for number in range(stills))


def stills(places: Places) -> Iterator[NDArray[np.uint8]]:
    """Yield frames from near some times of a footage, letterboxed; what does not decode is left out.

    Yields:
        (padded_height, padded_width, 3) uint8 RGB.

    Raises:
        SourceError: The recording cannot be read.
    """
    footage = places.footage
    box, scale = footage.letterbox, Scaler(footage)
    try:
        with open_recording(footage.source_uri) as container:
            stream = video_streams(container)[footage.track.video_track]
            stream.codec_context.options = DECODER_LIMITS
            frames = footage.track.expected_frames
            is_short = 0 < frames <= _FRAMES_OF_A_SEEK * len(places.times_s)
            taken = _decoded_through if is_short else _sought
            for frame in taken(container, stream, places.times_s):
                pixels = np.empty((1, box.padded_height, box.padded_width, 3), np.uint8)
                box.paint_border(pixels)
                box.put(scale(frame), pixels[0])
                paint_masks(pixels, box, footage.masks)
                yield pixels[0]
    except (av.error.FFmpegError, OSError, ValueError, IndexError) as error:
        raise SourceError(f"gives no stills: {error}", source_uri=footage.source_uri) from error


def _decoded_through(
    container: av.container.InputContainer, stream: av.VideoStream, times_s: Sequence[float]
) -> Iterator[av.VideoFrame]:
    wanted = iter(times_s)
    next_s = next(wanted, None)
    begin_s: float | None = None
    for frame in container.decode(stream):
        if next_s is None:
            return
        begin_s = frame.time if begin_s is None else begin_s
        if frame.time is not None and frame.time - (begin_s or 0.0) >= next_s:
            yield frame
            next_s = next(wanted, None)


def _sought(
    container: av.container.InputContainer, stream: av.VideoStream, times_s: Sequence[float]
) -> Iterator[av.VideoFrame]:
    begin = container.start_time or 0
    for time_s in times_s:
        container.seek(begin + int(time_s * av.time_base))
        frame = next(container.decode(stream), None)
        if frame is not None:
            yield frame
