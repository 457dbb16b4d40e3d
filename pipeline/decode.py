"""Decode a segment into frame batches at inference size.

Two decoders, with the same pixels (both scale with FFmpeg's bicubic filter):

- decord, for the ordinary segment. It decodes ahead without bound and names no frame's time, so it
  gets only whole, undamaged segments whose frames fit the memory it may run ahead in.
- PyAV, for the rest: it decodes when asked, and tells each frame by its own presentation time. So it
  takes rotated, damaged and very long segments, and goes on where decord gives up.

Batch i always covers positions [i * batch_size, (i + 1) * batch_size), whatever fails: a segment that
is decoded again is split as it was before.
"""

import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from itertools import islice
from types import ModuleType
from typing import Protocol

import av
import av.filter
import numpy as np
from numpy.typing import NDArray

from pipeline.errors import SourceError
from pipeline.faults import Fault
from pipeline.ffmpeg import VideoPacket, copy_video_tracks, seconds
from pipeline.letterbox import PAD_GREY
from pipeline.records import Failure, FrameBatch, Segment, Stretch
from pipeline.timing import Stopwatch

# Frame of a segment: its row among the wanted ones, and (scaled_height, scaled_width, 3) uint8 RGB.
Frame = tuple[int, NDArray[np.uint8]]

# decord finds no duration in a container of one or two frames.
_DECORD_MIN_PACKETS = 8
_TURN = {0: [], 90: ["clock"], 180: ["clock", "clock"], 270: ["cclock"]}


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeSettings:
    """How segments are decoded.

    Attributes:
        batch_size: Frames of a batch.
        ahead_bytes: Decoded frames that decord may hold, since it decodes ahead without bound.
        fault: A fault to be struck by, for tests.
    """

    batch_size: int = 10
    ahead_bytes: int = 160 << 20
    fault: Fault | None = None


class Decoder(Protocol):
    """Gives the wanted frames of a segment in presentation order, each with its row."""

    def frames(self, segment: Segment) -> Iterator[Frame]:
        """Yield the frames.

        Raises:
            SourceError: A stretch does not decode. Frames yielded before are good.
        """
        ...


@cache
def import_decord() -> ModuleType:
    """Import decord without the CUDA libraries that it would load for the whole process.

    At import decord2 loads every library below `site-packages/nvidia`: 671 MB a process instead of
    44, and NVBLAS then takes over torch's matrix product. It must find no such package.
    """
    hidden = sys.modules.get("nvidia")
    sys.modules["nvidia"] = None  # type: ignore[assignment]
    try:
        import decord
    finally:
        del sys.modules["nvidia"]
        if hidden is not None:
            sys.modules["nvidia"] = hidden
    module: ModuleType = decord
    module.logging.set_level(module.logging.QUIET)
    return module


class DecordDecoder:
    """decord: fast, frames told by their count alone."""

    def frames(self, segment: Segment) -> Iterator[Frame]:
        """Yield the frames; raises `SourceError` as soon as one is missing."""
        decord = import_decord()
        box = segment.footage.letterbox
        try:
            reader = decord.VideoReader(
                io.BytesIO(segment.data),
                width=box.scaled_width,
                height=box.scaled_height,
                num_threads=1,
            )
            if len(reader) != segment.packets:
                raise SourceError(f"decord sees {len(reader)} of {segment.packets} frames")
            at = 0
            for row, position in enumerate(segment.positions):
                for _ in range(at, int(position)):
                    reader.next()
                at = int(position) + 1
                yield row, reader.next().asnumpy()
        except (decord.DECORDError, StopIteration, RuntimeError) as error:
            raise SourceError(f"decord: {str(error).splitlines()[0]}") from error


class PyavDecoder:
    """PyAV: decodes when asked, frames told by their presentation times."""

    def __init__(self) -> None:
        self.first_error = ""

    def frames(self, segment: Segment) -> Iterator[Frame]:
        """Yield the frames that decode; `first_error` then tells what was wrong with the others."""
        rows = {pts_s: row for row, pts_s in enumerate(segment.pts_s.tolist())}
        with _packets(segment) as (stream, packets):
            stream.codec_context.thread_count = 1
            scale = _Scaler(segment)
            for packet in packets:
                for frame in self._decode(stream, packet):
                    row = rows.get(seconds(frame.pts or 0, stream), -1)
                    if row >= 0:
                        yield row, scale(frame)

    def _decode(self, stream: av.VideoStream, packet: VideoPacket | None) -> list[av.VideoFrame]:
        try:
            frames = stream.codec_context.decode(packet)
        except av.error.FFmpegError as error:
            self.first_error = self.first_error or str(error.strerror)
            return []
        return [frame for frame in frames if frame.pts is not None]


@contextmanager
def _packets(
    segment: Segment,
) -> Iterator[tuple[av.VideoStream, Iterator[VideoPacket | None]]]:
    """Open a segment: its stream, and its packets with a None behind them to flush the decoder."""
    if not segment.in_place:
        with av.open(io.BytesIO(segment.data), "r", format="nut") as container:
            stream = container.streams.video[0]
            yield stream, _until_flush(container.demux(stream), 0, segment.packets)
        return
    with copy_video_tracks(segment.footage.source_uri, [segment.footage.track]) as copy:
        stream = copy.container.streams.video[0]
        first = segment.first_packet
        yield stream, _until_flush(copy.container.demux(stream), first, first + segment.packets)


def _until_flush(
    packets: Iterator[VideoPacket], start: int, stop: int
) -> Iterator[VideoPacket | None]:
    """Yield packets [start, stop) and then None."""
    yield from islice((packet for packet in packets if packet.size), start, stop)
    yield None


class _Scaler:
    """Turns a frame upright and scales it to the letterbox, as decord does: by FFmpeg's filters."""

    def __init__(self, segment: Segment) -> None:
        self._box = segment.footage.letterbox
        self._turns = _TURN[segment.footage.track.rotation_deg]
        self._graph: av.filter.Graph | None = None
        self._shape: tuple[int, int, str] | None = None

    def __call__(self, frame: av.VideoFrame) -> NDArray[np.uint8]:
        shape = frame.width, frame.height, frame.format.name
        if self._graph is None or self._shape != shape:
            self._graph, self._shape = self._build(frame), shape
        self._graph.push(frame)
        scaled = self._graph.pull()
        assert isinstance(scaled, av.VideoFrame)
        pixels: NDArray[np.uint8] = np.asarray(scaled.to_ndarray(), np.uint8)
        return pixels

    def _build(self, frame: av.VideoFrame) -> av.filter.Graph:
        graph = av.filter.Graph()
        last = graph.add_buffer(
            width=frame.width,
            height=frame.height,
            format=frame.format,
            time_base=Fraction(1, 1),
        )
        size = f"{self._box.scaled_width}:{self._box.scaled_height}"
        chain = [("transpose", turn) for turn in self._turns]
        chain += [("scale", size), ("format", "rgb24"), ("buffersink", "")]
        for name, arguments in chain:
            step = graph.add(name, arguments) if arguments else graph.add(name)
            last.link_to(step)
            last = step
        graph.configure()
        return graph


def suits_decord(segment: Segment, settings: DecodeSettings) -> bool:
    """Say whether decord may have this segment; PyAV takes the others."""
    plain = not (segment.damaged or segment.in_place or segment.footage.track.rotation_deg)
    ahead = segment.packets * segment.footage.letterbox.frame_bytes
    return plain and segment.packets >= _DECORD_MIN_PACKETS and ahead <= settings.ahead_bytes


def decode(segment: Segment, settings: DecodeSettings) -> Iterator[FrameBatch]:
    """Decode a segment into batches of `batch_size` frames at inference size.

    Args:
        segment: What to decode.
        settings: Batch size and memory to run ahead in.

    Yields:
        One batch for every `batch_size` wanted frames, the last one shorter. A frame that does not
        decode is missing from its batch and counted in the batch's failures.
    """
    if settings.fault:
        settings.fault.strike("decode", segment.footage.track.video_track, segment.index)
    pyav = PyavDecoder()
    decoders: list[Decoder] = [pyav]
    if suits_decord(segment, settings):
        decoders.insert(0, DecordDecoder())
    watch = Stopwatch("decode")
    frames = _each_once(decoders, segment)
    ahead: Frame | None = None
    for start in range(0, segment.wanted, settings.batch_size):
        stop = min(start + settings.batch_size, segment.wanted)
        with watch.running():
            builder = _BatchBuilder(segment, start, stop)
            while ahead or (ahead := next(frames, None)):
                if ahead[0] >= stop:
                    break
                builder.put(*ahead)
                ahead = None
            batch = builder.build(watch, pyav)
        yield batch


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


class _BatchBuilder:
    """Collects the frames of one batch into letterboxed pixels."""

    def __init__(self, segment: Segment, start: int, stop: int) -> None:
        box = segment.footage.letterbox
        self._segment, self._start, self._stop = segment, start, stop
        self._pixels = np.full(
            (stop - start, box.padded_height, box.padded_width, 3), PAD_GREY, np.uint8
        )
        self._rows: list[int] = []

    def put(self, row: int, pixels: NDArray[np.uint8]) -> None:
        """Copy one frame in."""
        box = self._segment.footage.letterbox
        top, left = box.top_px, box.left_px
        target = self._pixels[len(self._rows)]
        target[top : top + box.scaled_height, left : left + box.scaled_width] = pixels
        self._rows.append(row)

    def build(self, watch: Stopwatch, pyav: PyavDecoder) -> FrameBatch:
        """Return the batch; frames that did not come are its failures."""
        segment = self._segment
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
            pixels=self._pixels[: len(self._rows)],
            failures=failures,
            spans=(*segment.spans * (self._start == 0), watch.span(frames=len(self._rows))),
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
