"""The decoders: a segment in, its wanted frames out, scaled, each with its row.

Another one (NVDEC, say: at 1080p decord gives about 80 frames/s a core) finds its door here. Both have
the same pixels, for both scale with FFmpeg's bicubic filter. Which one a segment gets, and how frames
become batches, is for `decode`.
"""

import ctypes
import io
import sys
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from functools import cache
from itertools import islice
from types import ModuleType
from typing import Any, Protocol

import av
import av.filter
import numpy as np
from numpy.typing import NDArray

from pipeline.cache import CacheSettings, on_disk
from pipeline.errors import SourceError
from pipeline.ffmpeg import DECODER_LIMITS, VideoPacket, copy_video_tracks, seconds
from pipeline.records import Footage, Segment
from pipeline.rising import rising
from pipeline.watchdog import alive

# Frame of a segment: its row among the wanted ones, and (scaled_height, scaled_width, 3) uint8 RGB.
Frame = tuple[int, NDArray[np.uint8]]

# Share of frames that decord may make up; 0 would mean any.
_NO_FAULT = 1e-9
_AV_LOG_ERROR = 16
# Of av_log: the context, which begins with a pointer to its class, which begins with its name.
_LogCallback = ctypes.CFUNCTYPE(
    None,
    ctypes.POINTER(ctypes.POINTER(ctypes.c_char_p)),
    ctypes.c_int,
    ctypes.c_char_p,
    ctypes.c_void_p,
)
_TURN = {0: [], 90: ["clock"], 180: ["clock", "clock"], 270: ["cclock"]}


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


class _CodecErrors:
    """Counts the errors that decord's FFmpeg logs while it decodes.

    A picture that is damaged is patched up from its neighbours and given as if it were good: decord
    has no word for it, but its log has.
    """

    def __init__(self, decord: ModuleType) -> None:
        self._library = decord._ffi.base._LIB
        # Kept for good: a thread of decord's may be in it still when nobody listens any more.
        self._callback = _LogCallback(self._listen)
        self.count = 0

    def _listen(self, context: Any, level: int, _text: bytes, _arguments: object) -> None:  # noqa: ANN401 -- a ctypes pointer
        # What demuxers and filters complain of is no matter of pixels.
        if level & 0xFF <= _AV_LOG_ERROR and context and context[0]:
            self.count += context[0][0] == b"AVCodecContext"

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Count from 0 in the `with` block."""
        self.count = 0
        self._library.av_log_set_callback(self._callback)
        try:
            yield
        finally:
            self._library.av_log_set_callback(self._library.av_log_default_callback)


@cache
def _codec_errors() -> _CodecErrors:
    return _CodecErrors(import_decord())


class DecordDecoder:
    """decord: fast, frames told by their count alone.

    A packet that gives no frame moves all frames behind it, and the last is given twice; decord tells
    of it at the end, if it is asked to tolerate none. So nothing is given on before the end. It holds
    the frames that it has run ahead for anyway.
    """

    def frames(self, segment: Segment) -> Iterator[Frame]:
        """Yield the frames; raises `SourceError` before the first one if any is missing or damaged."""
        with _codec_errors().counted():
            kept = self._decode(segment)
        if errors := _codec_errors().count:
            raise SourceError(f"decord: {errors} errors while it decoded")
        for row in range(len(kept)):
            yield row, kept.popleft().asnumpy()

    def _decode(self, segment: Segment) -> deque[Any]:
        """Return decord's arrays of the wanted frames."""
        decord = import_decord()
        box = segment.footage.letterbox
        try:
            reader = decord.VideoReader(
                io.BytesIO(segment.data),
                width=box.scaled_width,
                height=box.scaled_height,
                num_threads=1,
                fault_tol=_NO_FAULT,
            )
            if len(reader) != segment.packets:
                raise SourceError(f"decord sees {len(reader)} of {segment.packets} frames")
            wanted = set(segment.positions.tolist())
            decoded = ((place, _next(reader)) for place in range(segment.packets))
            kept = deque(frame for place, frame in decoded if place in wanted)
            shape = box.scaled_height, box.scaled_width, 3
            if any(frame.shape != shape for frame in kept):
                raise SourceError(f"decord gives frames of {kept[0].shape}, not {shape}")
        except (decord.DECORDError, decord.DECORDLimitReachedError, RuntimeError) as error:
            raise SourceError(f"decord: {str(error).splitlines()[0]}") from error
        return kept


def _next(reader: Any) -> Any:  # noqa: ANN401 -- decord has no types
    alive()
    return reader.next()


class PyavDecoder:
    """PyAV: decodes when asked, frames told by their presentation times.

    Of a picture that is not wanted it decodes what others refer to, and scales nothing.
    """

    def __init__(
        self,
        cache: CacheSettings | None = None,
        tap: Callable[[int, av.VideoFrame], None] | None = None,
    ) -> None:
        """Begin.

        Args:
            cache: Where recordings of S3 are, for segments that are not carried.
            tap: Is shown each wanted frame and its row, before it is scaled.
        """
        self.first_error = ""
        self._cache = cache or CacheSettings()
        self._tap = tap

    def frames(self, segment: Segment) -> Iterator[Frame]:
        """Yield the frames that decode; `first_error` then tells what was wrong with the others."""
        rows = {pts_s: row for row, pts_s in enumerate(segment.pts_s.tolist())}
        with _packets(segment, self._cache) as (stream, packets):
            stream.codec_context.thread_count = 1
            stream.codec_context.options = DECODER_LIMITS
            if not self._opened(stream):
                return
            scale = Scaler(segment.footage)
            for packet in packets:
                is_wanted = packet is None or _time(packet, stream) in rows
                stream.codec_context.skip_frame = "DEFAULT" if is_wanted else "NONREF"
                for frame in self._decode(stream, packet):
                    row = rows.get(seconds(frame.pts or 0, stream), -1)
                    if row >= 0:
                        if self._tap:
                            self._tap(row, frame)
                        yield row, scale(frame)

    def _opened(self, stream: av.VideoStream) -> bool:
        # Before the first packet: some codecs (dav1d's AV1) would keep for good what that one skips.
        try:
            stream.codec_context.open()
        except av.error.FFmpegError as error:
            self.first_error = str(error.strerror)
            return False
        return True

    def _decode(self, stream: av.VideoStream, packet: VideoPacket | None) -> list[av.VideoFrame]:
        try:
            frames = stream.codec_context.decode(packet)
        except av.error.FFmpegError as error:
            self.first_error = self.first_error or str(error.strerror)
            return []
        whole = [frame for frame in frames if not frame.is_corrupt]
        if len(whole) < len(frames):
            self.first_error = self.first_error or "the picture is corrupt"
        return [frame for frame in whole if frame.pts is not None]


def _time(packet: VideoPacket, stream: av.VideoStream) -> float:
    """Return a packet's presentation time in seconds; the cutter gave it one."""
    return seconds(packet.pts or 0, stream)


@contextmanager
def _packets(
    segment: Segment, cache: CacheSettings
) -> Iterator[tuple[av.VideoStream, Iterator[VideoPacket | None]]]:
    """Open a segment: its stream, and its packets with a None behind them to flush the decoder."""
    if not segment.in_place:
        with av.open(io.BytesIO(segment.data), "r", format="nut") as container:
            stream = container.streams.video[0]
            yield stream, _until_flush(container.demux(stream), 0, segment.packets)
        return
    with (
        on_disk(segment.footage, cache) as path,
        copy_video_tracks(path, [segment.footage.track]) as copy,
    ):
        stream = copy.container.streams.video[0]
        first = segment.first_packet
        reorders = stream.codec_context.has_b_frames
        packets = rising(copy.container.demux(stream), reorders=reorders)
        yield stream, _until_flush(packets, first, segment.stop_packet)


def _until_flush(
    packets: Iterator[VideoPacket], start: int, stop: int
) -> Iterator[VideoPacket | None]:
    """Yield packets [start, stop) and then None."""
    yield from islice(_of_some_size(packets), start, stop)
    yield None


def _of_some_size(packets: Iterator[VideoPacket]) -> Iterator[VideoPacket]:
    for packet in packets:
        alive()
        if packet.size:
            yield packet


class Scaler:
    """Turns a frame upright and scales it to the letterbox, as decord does: by FFmpeg's filters."""

    def __init__(self, footage: Footage) -> None:
        self._box = footage.letterbox
        self._turns = _TURN[footage.track.rotation_deg]
        self._graph: av.filter.Graph | None = None
        self._shape: tuple[int, int, str] | None = None

    def __call__(self, frame: av.VideoFrame) -> NDArray[np.uint8]:
        """Return (scaled_height, scaled_width, 3) uint8 RGB."""
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
