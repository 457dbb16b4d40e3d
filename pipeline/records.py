"""The nouns: what travels between the steps. No step's logic lives here.

A camera's footage is a sequence of `Footage` (one video track of one recording each), each cut into
segments, each decoded into frame batches, each turned into detections:

    Recording ── Footage ──┬── Segment 0 ──┬── FrameBatch [0, 10)  ──> Detections [0, 10)
                           │               └── FrameBatch [10, 16) ──> Gap        [10, 16)
                           ├── Segment 1 ...
                           └── FootageEnd(segments=2)

Stretches are half-open intervals of *positions*: a segment's wanted frames, counted from 0. A
position says nothing about the frame's number in the video track; `frame_index` does.
"""

from dataclasses import dataclass, field, replace
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from pipeline.letterbox import Letterbox
from pipeline.timing import Span
from pipeline.window import FootageWindow

Int64s = NDArray[np.int64]
Float64s = NDArray[np.float64]
_USUAL_FPS = 25.0

# The difference of two times may be off by so much: Matroska tells whole milliseconds, and a tenth of a
# second is none as a float.
ROUNDING_S = 0.002


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoTrack:
    """A video stream of a recording, as the container describes it.

    Attributes:
        video_track: Its number among the recording's video streams, from 0.
        codec: FFmpeg's name of the codec, for example "h264".
        width: Coded width in pixels, before rotation.
        height: Coded height in pixels, before rotation.
        rotation_deg: Clockwise turn that makes a frame upright: 0, 90, 180 or 270.
        packs_b_frames: Its packets may hold two frames each (DivX and Xvid in AVI).
        rate_fps: Average frame rate, 0 where the container does not say.
        duration_s: Seconds, or None where the container does not say.
        frames: The container's own count, or None.
        level: The codec's number for what a decoder must be able to hold; -99 where nothing says.
        picture_bytes: Bytes of a decoded picture at coded size, before it is scaled.
        gop_frames: Longest run from keyframe to keyframe that the probe saw, in frames.
        gop_bytes: The same in bytes.
    """

    video_track: int
    codec: str
    width: int
    height: int
    rotation_deg: int = 0
    packs_b_frames: bool = False
    rate_fps: float = 0.0
    duration_s: float | None = None
    frames: int | None = None
    level: int = -99
    picture_bytes: int = 0
    gop_frames: int = 0
    gop_bytes: int = 0

    def __post_init__(self) -> None:
        if self.width <= 0 or self.height <= 0:
            raise ValueError(f"a frame of {self.width}x{self.height} pixels has no area")
        if self.rotation_deg not in (0, 90, 180, 270):
            raise ValueError(f"rotation_deg is 0, 90, 180 or 270, not {self.rotation_deg}")

    @property
    def upright_size(self) -> tuple[int, int]:
        """(width, height) of a frame once it is turned upright: the source pixels of the tables."""
        if self.rotation_deg in (90, 270):
            return self.height, self.width
        return self.width, self.height

    @property
    def usual_fps(self) -> float:
        """Average frame rate; what cameras have most often where the container does not say."""
        return self.rate_fps or _USUAL_FPS

    @property
    def expected_frames(self) -> int:
        """Frames that the container leads one to expect; 0 where it gives no hint."""
        if self.frames is not None:
            return self.frames
        return round((self.duration_s or 0.0) * self.rate_fps)


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """A recording that was named: its address, and what a listing of S3 tells of it already.

    Attributes:
        size_bytes: 0 if it is not known yet.
        version: Its ETag; "" if it is not known yet, or not in S3.
        storage_class: S3's name of it; "" elsewhere.
    """

    source_uri: str
    size_bytes: int = 0
    version: str = ""
    storage_class: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """A file of footage that was probed: its address, size and video tracks.

    Attributes:
        version: What tells that it has changed: when it was written, in ns, or its ETag in S3.
        video_tracks: Those that can be read; their numbers have gaps where others cannot.
        origin_s: The container's time at which it begins.
        created: When it was made, as the container says, in ISO 8601 with its zone; "" if not.
        bad_video_tracks: (number, what is wrong with it) of those that cannot.
        storage_class: S3's name of it; "" elsewhere.
    """

    source_uri: str
    container: str
    size_bytes: int
    version: str
    video_tracks: tuple[VideoTrack, ...]
    origin_s: float = 0.0
    created: str = ""
    bad_video_tracks: tuple[tuple[int, str], ...] = ()
    storage_class: str = ""

    @property
    def identity(self) -> str:
        """What tells that it has changed, size and all."""
        return f"{self.size_bytes}-{self.version}"


@dataclass(frozen=True, slots=True, kw_only=True)
class FootageKey:
    """Which stretch of a camera's footage: the camera, and the recording's turn in it, from 0."""

    camera_id: str
    sequence: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Footage:
    """One video track of one recording, as a stretch of its camera's footage.

    Attributes:
        key: Camera and turn.
        source_uri: The recording.
        track: The video track.
        letterbox: The fit of its upright frames to the detector's input.
        start_time: When the recording began, time zone aware, or None if nothing tells.
        start_resolution_s: How coarsely `start_time` was told: 1 if in whole seconds.
        origin_s: The container's time at which the recording begins.
        window: Which of its times are wanted.
        container_hides_negative: Frames before time 0 are not shown (the edit list of an MP4).
        stride: Every how many frames one is looked at, counted in the video track.
        masks: Areas that are painted out, as shares of the upright frame's width and height.
        version: Of its recording.
        size_bytes: Of its recording.
        evidence_id: Hash of all that its detections are made from: see `identity`.
        picture_id: Hash of all that its pictures are made from, whatever detects in them.
    """

    key: FootageKey
    source_uri: str
    track: VideoTrack
    letterbox: Letterbox
    start_time: datetime | None = None
    start_resolution_s: float = 0.0
    origin_s: float = 0.0
    window: FootageWindow = field(default_factory=FootageWindow)
    container_hides_negative: bool = False
    stride: int = 1
    masks: tuple[tuple[tuple[float, float], ...], ...] = ()
    version: str = ""
    size_bytes: int = 0
    evidence_id: str = ""
    picture_id: str = ""

    def seconds_of(self, frames: int) -> float:
        """Return about how much footage so many frames stand for that were looked at."""
        return frames * self.stride / self.track.usual_fps


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Something that was not processed, and why: a row of the `failures` table.

    Attributes:
        first_frame: First frame_index that is missing, or None where it is not known.
        last_frame: Last frame_index that is missing, or None.
        frames: Frames known to be missing.
    """

    source_uri: str
    step: str
    error_class: str
    message: str
    video_track: int | None = None
    camera_id: str | None = None
    first_frame: int | None = None
    last_frame: int | None = None
    frames: int = 0
    signal: str = ""
    attempts: int = 1


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Segment:
    """A keyframe-aligned run of a video track that decodes by itself.

    Attributes:
        footage: The footage it was cut from.
        index: Its number in the footage, from 0.
        packets: How many packets it is made of, each one frame. It may be more than its frames:
            an open group of pictures needs the next keyframe to decode its end.
        positions: (n,) int64, which of the decoded frames, in presentation order, are wanted
            (stride, window, borders).
        frame_index: (n,) int64, their numbers in the video track.
        pts_s: (n,) float64, their presentation times in seconds.
        data: The packets in a NUT container. Empty if `in_place`.
        in_place: The run is too long to be carried: decode reads it from the recording itself.
        first_packet: Number of its first packet in the video track, for `in_place`.
        stop_packet: Number behind its last packet, for `in_place`.
        damaged: The demuxer complained while these packets were read, so that a packet without a
            frame is likely: decode must identify frames by their own times.
        spans: Time spent on it so far.
    """

    footage: Footage
    index: int
    packets: int
    positions: Int64s
    frame_index: Int64s
    pts_s: Float64s
    data: bytes = field(repr=False, default=b"")
    in_place: bool = False
    first_packet: int = 0
    stop_packet: int = 0
    damaged: bool = False
    spans: tuple[Span, ...] = ()

    def __post_init__(self) -> None:
        if not len(self.positions) == len(self.frame_index) == len(self.pts_s):
            raise ValueError("positions, frame_index and pts_s name the same frames: equal lengths")

    @property
    def wanted(self) -> int:
        """Number of frames that are wanted of it."""
        return len(self.positions)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """Where a batch lies: positions [start, stop) of the `wanted` frames of a segment."""

    footage: FootageKey
    segment: int
    start: int
    stop: int
    wanted: int

    def __post_init__(self) -> None:
        if not 0 <= self.start < self.stop <= self.wanted:
            raise ValueError(f"[{self.start}, {self.stop}) is no stretch of {self.wanted} frames")


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelFrame:
    """A frame that labels are asked of.

    Attributes:
        frame_index: Its number in the video track.
        pts_s: Its presentation time in seconds.
        jpeg: Upright, its masks painted; no box in it is told in its pixels, so it may be smaller.
        reason: Why there is no JPEG, if there is none.
    """

    frame_index: int
    pts_s: float
    jpeg: bytes = field(repr=False)
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FrameBatch:
    """Consecutive frames of one segment at inference size.

    Attributes:
        stretch: Where it lies in its segment.
        source_uri: The recording.
        video_track: The video track's number in it.
        letterbox: The fit, and so the shape of `pixels`.
        positions: (k,) int64, positions of the frames that decoded; k may be less than the
            stretch's length, and `failures` says why.
        frame_index: (k,) int64, their numbers in the video track.
        pts_s: (k,) float64, presentation times in seconds.
        pixels: (k, padded_height, padded_width, 3) uint8 RGB; may be a read-only view of memory
            that the runner owns.
        failures: Frames of the stretch that did not decode.
        spans: Time spent on it so far.
        label_frames: Those that labels are asked of; they part from the batch behind the decoder.
    """

    stretch: Stretch
    source_uri: str
    video_track: int
    letterbox: Letterbox
    positions: Int64s
    frame_index: Int64s
    pts_s: Float64s
    pixels: NDArray[np.uint8] = field(repr=False)
    failures: tuple[Failure, ...] = ()
    spans: tuple[Span, ...] = ()
    label_frames: tuple[LabelFrame, ...] = ()

    def __post_init__(self) -> None:
        box = self.letterbox
        shape = (len(self.frame_index), box.padded_height, box.padded_width, 3)
        if self.pixels.shape != shape or self.pixels.dtype != np.uint8:
            raise ValueError(f"pixels are {self.pixels.dtype}{self.pixels.shape}, not uint8{shape}")

    def first_frame(self) -> "FrameBatch":
        """Return a batch of its first frame alone."""
        arrays = ("positions", "frame_index", "pts_s", "pixels")
        return replace(self, **{name: getattr(self, name)[:1] for name in arrays})


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Detections:
    """The boxes of a stretch of frames, in pixels of the source frame.

    Attributes:
        stretch: Where the frames lie.
        positions: (k,) int64, of every frame that was looked at, with or without a box.
        frame_index: (k,) int64, their numbers in the video track.
        pts_s: (k,) float64, their presentation times.
        frame_row: (n,) int64, for each box the row of its frame in `frame_index`, ascending.
        boxes: (n, 4) float32, x_min, y_min, x_max, y_max.
        confidence: (n,) float32.
        class_id: (n,) int64.
        failures: Frames of the stretch that were not looked at.
        spans: Time spent on it so far.
    """

    stretch: Stretch
    positions: Int64s
    frame_index: Int64s
    pts_s: Float64s
    frame_row: Int64s
    boxes: NDArray[np.float32]
    confidence: NDArray[np.float32]
    class_id: Int64s
    failures: tuple[Failure, ...] = ()
    spans: tuple[Span, ...] = ()

    def __post_init__(self) -> None:
        n = len(self.frame_row)
        if self.boxes.shape != (n, 4) or len(self.confidence) != n or len(self.class_id) != n:
            raise ValueError("frame_row, boxes, confidence and class_id name the same boxes")


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """A stretch that was set aside: nobody shall wait for it."""

    stretch: Stretch
    failure: Failure
    spans: tuple[Span, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WholeSegment:
    """A segment's detections in order, or the failure that it was set aside for.

    Attributes:
        parts: In order and without holes; empty if the segment was set aside.
        attempt_id: The start of the run that made it; "" for the present one.
    """

    footage: FootageKey
    index: int
    parts: tuple[Detections, ...]
    failures: tuple[Failure, ...]
    attempt_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FootageEnd:
    """The footage was cut to its end, into `segments` segments; `failures` are the demuxer's."""

    footage: FootageKey
    segments: int
    failures: tuple[Failure, ...] = ()
    spans: tuple[Span, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """A track in a frame.

    Attributes:
        box: (4,) float64, x_min, y_min, x_max, y_max in source pixels.
        confidence: Score of the box, or None where it is interpolated.
        raw_id: The tracker's id of the box, where `track_id` is a refined one.
        seen_box: The box as it was seen, where `box` is a smoothed one.
    """

    track_id: int
    class_id: int
    box: Float64s
    confidence: float | None
    raw_id: int | None = None
    seen_box: Float64s | None = None

    @property
    def is_interpolated(self) -> bool:
        """Whether the track was not seen in this frame."""
        return self.confidence is None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackedFrame:
    """A frame, and the tracks in it.

    Attributes:
        footage: Where it is from; frames of two recordings of a camera may be held at once.
        time_s: Seconds on the camera's own clock.
        is_looked_at: False for one that a stride has left out.
    """

    footage: Footage
    frame_index: int
    pts_s: float
    time_s: float
    observations: list[Observation] = field(default_factory=list)
    is_looked_at: bool = True
