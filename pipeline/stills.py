"""Single frames of footage, from here and there: to calibrate on, or to look at.

Of several, in a short recording, all frames are decoded. In a long one each time is sought, and what is
given is the keyframe before it: to decode on from there could take as long as a minute of footage.

One is exact: what is shown at a time.

    keyframe ── decode ──> frame, frame, ... [frame at or before the time], the next one: stop
       ^
       └── sought; where it turns out to be shown later than the time, sought again, further back
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeAlias

import av
import numpy as np
from numpy.typing import NDArray

from pipeline.decoders import Scaler
from pipeline.errors import ConfigError, SourceError, StepError
from pipeline.ffmpeg import DECODER_LIMITS, LONGEST_S, VideoPacket
from pipeline.isolate import isolated
from pipeline.masks import paint_masks
from pipeline.pictures import SourcePicture
from pipeline.probe import open_recording, video_streams
from pipeline.records import Footage

# A frame, and when it is shown: the container's own time, in seconds.
_Shown: TypeAlias = tuple[float, av.VideoFrame]

# A still by seeking costs about as much as decoding so many frames.
_FRAMES_OF_A_SEEK = 30
# How far before the time a keyframe is sought, if need be; the last stands for the beginning.
_BACK_S = (0.0, 2.0, 10.0, 60.0, 600.0, math.inf)
# Times of containers are rounded, to a millisecond most often.
_ROUNDING_S = 1e-6
# The last frame is shown as long as the others are; or longer, if the container says so, but no more
# than this: what it says of a recording that was cut off is not true any more.
_LAST_SHOWN_S = 1.0
# Of the process that decodes a still: from a keyframe on that may be far away.
_MOST_SILENCE_S = 120.0


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


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Still:
    """A frame, upright, its masks painted.

    Attributes:
        pts_s: Its presentation time: the container's own.
        picture: (height, width, 3) uint8 RGB, in source pixels.
        pixels: (padded_height, padded_width, 3) uint8 RGB, as the detector gets it.
    """

    pts_s: float
    picture: NDArray[np.uint8]
    pixels: NDArray[np.uint8]


def stills(places: Places) -> Iterator[NDArray[np.uint8]]:
    """Yield frames from near some times of a footage, letterboxed; what does not decode is left out.

    Yields:
        (padded_height, padded_width, 3) uint8 RGB.

    Raises:
        SourceError: The recording cannot be read.
    """
    footage = places.footage
    scale = Scaler(footage)
    with _opened(footage) as (container, stream):
        frames = footage.track.expected_frames
        is_short = 0 < frames <= _FRAMES_OF_A_SEEK * len(places.times_s)
        taken = _decoded_through if is_short else _sought
        for frame in taken(container, stream, places.times_s):
            yield _fitted(scale(frame), footage)


@contextmanager
def _opened(
    footage: Footage, path: str = ""
) -> Iterator[tuple[av.container.InputContainer, av.VideoStream]]:
    """Open a footage's recording; what goes wrong in the `with` block is a SourceError."""
    try:
        with open_recording(path or footage.source_uri) as container:
            stream = video_streams(container)[footage.track.video_track]
            stream.codec_context.options = DECODER_LIMITS
            yield container, stream
    except (av.error.FFmpegError, OSError, ValueError, IndexError) as error:
        raise SourceError(f"gives no stills: {error}", source_uri=footage.source_uri) from error


def _fitted(picture: NDArray[np.uint8], footage: Footage) -> NDArray[np.uint8]:
    """Return (scaled_height, scaled_width, 3) in its letterbox, masks painted."""
    box = footage.letterbox
    pixels = np.empty((1, box.padded_height, box.padded_width, 3), np.uint8)
    box.paint_border(pixels)
    box.put(picture, pixels[0])
    paint_masks(pixels, box, footage.masks)
    only: NDArray[np.uint8] = pixels[0]
    return only


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


def still_at(footage: Footage, time_s: float, path: str = "") -> Still:
    """Return what is shown at a time: the last frame at or before it; before all frames, the first.

    It is decoded in a child process: footage may crash a decoder.

    Args:
        footage: With the letterbox and the masks that the detector is to have.
        time_s: Seconds from the recording's beginning.
        path: Where the recording is; "" means that its address is a path.

    Raises:
        ConfigError: The footage ends before it.
        SourceError: The recording cannot be read, or nothing of it decodes.
    """
    try:
        (still,) = isolated(take_still, footage, time_s, path, silence_s=_MOST_SILENCE_S)
    except StepError as error:
        raise SourceError(f"gives no stills: {error}", source_uri=footage.source_uri) from error
    assert isinstance(still, Still)
    return still


def take_still(footage: Footage, time_s: float, path: str = "") -> Iterator[Still]:
    """Yield the one still of `still_at`; to be run in a process of its own."""
    target_s = footage.origin_s + time_s
    for back_s in _BACK_S:
        with _opened(footage, path) as (container, stream):
            from_s = min(target_s, _told_end_s(footage)) - back_s
            from_begin = from_s <= footage.origin_s or not _seek(container, stream, from_s)
            frames = _whole_frames(container, stream, from_begin=from_begin)
            shown, is_last = _last_before(frames, target_s)
            if shown is not None and (from_begin or shown[0] <= target_s + _ROUNDING_S):
                if is_last:
                    _check_end(footage, shown[0], time_s)
                yield _still(footage, *shown)
                return
        if from_begin:
            break
    raise SourceError(
        "gives no stills: no frame decodes that has a time", source_uri=footage.source_uri
    )


def _told_end_s(footage: Footage) -> float:
    """Return the container's time of its end, as far as it says; a place to seek, and no more."""
    return footage.origin_s + (footage.track.duration_s or LONGEST_S)


def _seek(container: av.container.InputContainer, stream: av.VideoStream, time_s: float) -> bool:
    """Go to the keyframe before a time; where that cannot be, stay at the beginning."""
    assert stream.time_base is not None
    try:
        container.seek(math.floor(time_s / stream.time_base), stream=stream)
    except (av.error.FFmpegError, OverflowError):
        with suppress(av.error.FFmpegError):
            container.seek(0)
        return False
    return True


def _whole_frames(
    container: av.container.InputContainer, stream: av.VideoStream, *, from_begin: bool
) -> Iterator[_Shown]:
    """Yield the frames that decode, in order; behind a seek, those that need nothing before it.

    What is decoded after a keyframe and shown before it may refer to frames that were not decoded.
    """
    assert stream.time_base is not None
    first_pts = None
    for packet in container.demux(stream):
        if first_pts is None and not from_begin:
            if not packet.is_keyframe or packet.pts is None:
                continue
            first_pts = packet.pts
        for frame in _decoded(stream, packet):
            if frame.pts is not None and (first_pts is None or frame.pts >= first_pts):
                yield float(frame.pts * stream.time_base), frame


def _decoded(stream: av.VideoStream, packet: VideoPacket) -> list[av.VideoFrame]:
    try:
        frames = stream.codec_context.decode(packet if packet.size else None)
    except av.error.FFmpegError:
        # One that is damaged costs itself, as in a run.
        return []
    return [frame for frame in frames if not frame.is_corrupt]


def _last_before(frames: Iterator[_Shown], target_s: float) -> tuple[_Shown | None, bool]:
    """Return the last frame at or before a time, else the first; and whether none is behind it."""
    last = None
    for shown in frames:
        if last is not None and shown[0] > target_s + _ROUNDING_S:
            return last, False
        last = shown
    return last, True


def _check_end(footage: Footage, last_s: float, time_s: float) -> None:
    """Refuse a time at which the last frame is no longer shown."""
    begin_s = last_s - footage.origin_s
    told_s = min((footage.track.duration_s or 0.0) - begin_s, _LAST_SHOWN_S)
    length_s = begin_s + max(1 / footage.track.usual_fps, told_s)
    if time_s >= length_s:
        raise ConfigError(
            f"there is no frame at {time_s:g} s: video track {footage.track.video_track} of "
            f"{footage.source_uri!r} is {length_s:.2f} s long ({timedelta(seconds=int(length_s))})"
        )


def _still(footage: Footage, time_s: float, frame: av.VideoFrame) -> Still:
    return Still(
        pts_s=time_s,
        picture=SourcePicture(footage)(frame),
        pixels=_fitted(Scaler(footage)(frame), footage),
    )
