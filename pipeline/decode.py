"""Decode a segment into frame batches at inference size.

Two decoders, with the same pixels (both scale with FFmpeg's bicubic filter):

- decord, for the ordinary segment. It decodes ahead without bound and names no frame's time, so it
  gets only whole, undamaged segments whose frames fit the memory it may run ahead in.
- PyAV, for the rest: it decodes when asked, and tells each frame by its own presentation time. So it
  takes rotated, damaged and very long segments, and goes on where decord gives up. It skips what is not
  wanted, which decord scales and throws away: it takes those of which at most every other frame is. And
  it takes those that labels are asked of: their pictures are wanted before they are scaled.

Batch i always covers positions [i * batch_size, (i + 1) * batch_size), whatever fails: a segment that
is decoded again is split as it was before.
"""

import resource
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from pipeline.cache import CacheSettings
from pipeline.decoders import Decoder, DecordDecoder, Frame, PyavDecoder
from pipeline.errors import SourceError
from pipeline.faults import Fault
from pipeline.label_frames import LabelTap
from pipeline.masks import paint_masks
from pipeline.records import Failure, FrameBatch, Segment, Stretch
from pipeline.timing import Stopwatch
from pipeline.watchdog import watched

# decord finds no duration in a container of one or two frames.
_DECORD_MIN_PACKETS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeSettings:
    """How segments are decoded.

    Attributes:
        batch_size: Frames of a batch.
        ahead_bytes: Decoded frames that decord may hold, since it decodes ahead without bound.
        row_bytes: Pixels of a segment's batches lie side by side in memory up to this size, so that
            they may travel together without being copied; those of one batch always do.
        cache: How recordings of S3 come to this node.
        label_every: Of how many frames one has labels asked of it; 0 means of none.
        fault: A fault to be struck by, for tests.
    """

    batch_size: int = 10
    ahead_bytes: int = 160 << 20
    row_bytes: int = 0
    cache: CacheSettings = field(default_factory=CacheSettings)
    label_every: int = 0
    fault: Fault | None = None


def suits_decord(segment: Segment, settings: DecodeSettings) -> bool:
    """Say whether decord may have this segment; PyAV takes the others."""
    if resource.getrlimit(resource.RLIMIT_DATA)[0] != resource.RLIM_INFINITY:
        # decord asks for 18 GB of addresses, and uses 100 MB of them: it cannot live in a limit.
        return False
    plain = not (segment.damaged or segment.in_place or segment.footage.track.rotation_deg)
    ahead = segment.packets * segment.footage.letterbox.frame_bytes
    return (
        plain
        and segment.packets >= _DECORD_MIN_PACKETS
        and 2 * segment.wanted > segment.packets
        and ahead <= settings.ahead_bytes
    )


def decode(segment: Segment, settings: DecodeSettings) -> Iterator[FrameBatch]:
    """Decode a segment into batches of `batch_size` frames at inference size.

    A decoder that hangs in it ends this process: see `watchdog`.

    Args:
        segment: What to decode.
        settings: Batch size and memory to run ahead in.

    Yields:
        One batch for every `batch_size` wanted frames, the last one shorter. A frame that does not
        decode is missing from its batch and counted in the batch's failures.
    """
    if settings.fault:
        settings.fault.strike("decode", segment.footage.track.video_track, segment.index)
    tap = LabelTap(segment, settings.label_every)
    pyav = PyavDecoder(settings.cache, tap)
    decoders: list[Decoder] = [pyav]
    if not tap and suits_decord(segment, settings):
        decoders.insert(0, DecordDecoder())
    watch = Stopwatch("decode")
    frames = _each_once(decoders, segment)
    trays = _Trays(segment, settings)
    ahead: Frame | None = None
    for start in range(0, segment.wanted, settings.batch_size):
        stop = min(start + settings.batch_size, segment.wanted)
        with watch.running(), watched():
            builder = _BatchBuilder(segment, start, stop, trays.take(start, stop))
            while ahead or (ahead := next(frames, None)):
                if ahead[0] >= stop:
                    break
                builder.put(*ahead)
                ahead = None
            batch = builder.build(watch, pyav)
        yield replace(batch, label_frames=tap.take(start, stop)) if tap else batch


def _each_once(decoders: list[Decoder], segment: Segment) -> Iterator[Frame]:
    """Yield each wanted frame once, from the first decoder that gives it."""
    given = -1
    for number, decoder in enumerate(decoders):
        try:
            for row, pixels in decoder.frames(segment):
                if row > given:
                    given = row
                    yield row, pixels
        except SourceError:
            if number == len(decoders) - 1:
                raise
        else:
            return


def batches_of_a_row(settings: DecodeSettings, frame_bytes: int) -> int:
    """Return how many full batches lie side by side, of frames of so many bytes."""
    return max(1, settings.row_bytes // (settings.batch_size * frame_bytes))


class _Trays:
    """Memory for the pixels of a segment's batches, several side by side."""

    def __init__(self, segment: Segment, settings: DecodeSettings) -> None:
        box = segment.footage.letterbox
        self._wanted, self._shape = segment.wanted, (box.padded_height, box.padded_width, 3)
        self._frames = settings.batch_size * batches_of_a_row(settings, box.frame_bytes)
        self._tray = np.empty((0, *self._shape), np.uint8)

    def take(self, start: int, stop: int) -> NDArray[np.uint8]:
        """Return room for positions [start, stop), the next ones."""
        if start % self._frames == 0:
            frames = min(self._frames, self._wanted - start)
            self._tray = np.empty((frames, *self._shape), np.uint8)
        room = self._tray[: stop - start]
        self._tray = self._tray[stop - start :]
        return room


class _BatchBuilder:
    """Collects the frames of one batch into letterboxed pixels."""

    def __init__(self, segment: Segment, start: int, stop: int, pixels: NDArray[np.uint8]) -> None:
        """Begin with positions [start, stop) of a segment; `pixels` is room for them."""
        self._segment, self._start, self._stop = segment, start, stop
        self._pixels = pixels
        segment.footage.letterbox.paint_border(pixels)
        self._rows: list[int] = []

    def put(self, row: int, pixels: NDArray[np.uint8]) -> None:
        """Copy one frame in."""
        self._segment.footage.letterbox.put(pixels, self._pixels[len(self._rows)])
        self._rows.append(row)

    def build(self, watch: Stopwatch, pyav: PyavDecoder) -> FrameBatch:
        """Return the batch; frames that did not come are its failures."""
        segment = self._segment
        cut_spans = segment.spans * (self._start == 0)
        pixels = self._pixels[: len(self._rows)]
        paint_masks(pixels, segment.footage.letterbox, segment.footage.masks)
        ready_at = cut_spans[-1].ended_at if cut_spans else 0.0
        span = watch.span(frames=len(pixels), bytes_=pixels.nbytes, ready_at=ready_at)
        missing = sorted(set(range(self._start, self._stop)) - set(self._rows))
        failures: tuple[Failure, ...] = ()
        if missing:
            numbers = segment.frame_index[missing]
            reason = pyav.first_error or "the decoder gave no frame for its packet"
            failures = (
                segment_failure(
                    segment,
                    SourceError(f"does not decode: {reason}"),
                    first=int(numbers[0]),
                    last=int(numbers[-1]),
                    frames=len(missing),
                ),
            )
        return FrameBatch(
            stretch=Stretch(
                footage=segment.footage.key,
                segment=segment.index,
                start=self._start,
                stop=self._stop,
                wanted=segment.wanted,
            ),
            source_uri=segment.footage.source_uri,
            video_track=segment.footage.track.video_track,
            letterbox=segment.footage.letterbox,
            positions=np.array(self._rows, np.int64),
            frame_index=segment.frame_index[self._rows],
            pts_s=segment.pts_s[self._rows],
            pixels=pixels,
            failures=failures,
            spans=(*cut_spans, span),
        )


def segment_failure(
    segment: Segment, error: Exception, *, first: int, last: int, frames: int
) -> Failure:
    """Return the `failures` row of frames of a segment that did not decode."""
    return Failure(
        source_uri=segment.footage.source_uri,
        video_track=segment.footage.track.video_track,
        camera_id=segment.footage.key.camera_id,
        step="decode",
        error_class=type(error).__name__,
        message=str(error),
        signal=getattr(error, "signal", ""),
        first_frame=first,
        last_frame=last,
        frames=frames,
    )
