"""Cut each video track of a recording into segments that decode by themselves.

A segment runs from a keyframe to the first keyframe after about 100 frames. What "runs to" means is
decided in presentation order, since that is the order of the frames that reach the log:

    decode order        K0 . . . . . . K1 l l . . . . . K2 . .        l: shown before K1,
    presentation        K0 . . . . . . l l K1 . . . . . K2 . .           decoded after it
    segment 0           |------ frames ------|K1                      closed by what it must decode:
    its packets         K0 . . . . . . K1 l l                         K1 itself is decoded, not kept
    segment 1                                K1 . . . . .             its own leading pictures left out

That is what an open group of pictures needs (HEVC's default, MPEG-4's and MPEG-2's too), and what
ffmpeg's own segment muxer does not give. Packets are copied, never re-encoded. Reading pauses when
the consumer does: nothing is cut ahead.

How ffmpeg is run and what its death means is in `ffmpeg`; decoding is in `decode`.
"""

import io
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import av
import numpy as np

from pipeline.errors import SourceError
from pipeline.ffmpeg import Stream, VideoPacket, copy_video_tracks, seconds
from pipeline.keyframes import decodes_alone, nal_length_size
from pipeline.records import Failure, Footage, FootageEnd, Segment
from pipeline.timing import Stopwatch


@dataclass(frozen=True, slots=True, kw_only=True)
class DemuxSettings:
    """How footage is cut, and how many frames of it are wanted.

    Attributes:
        segment_frames: A segment ends at the first keyframe after so many frames.
        carried_bytes: A longer run is not carried; decode reads it from the recording itself.
        stride: Every how many frames one is looked at, counted in the video track.
    """

    segment_frames: int = 100
    carried_bytes: int = 32 << 20
    stride: int = 1


@dataclass(slots=True)
class _Run:
    """Packets from a keyframe on; they are let go when they become too many to carry."""

    first_packet: int
    pts: list[int] = field(default_factory=list)
    packets: list[VideoPacket] | None = field(default_factory=list)
    size_bytes: int = 0
    stop_packet: int = 0

    def add(self, packet: VideoPacket, pts: int, number: int, carried_bytes: int) -> None:
        self.pts.append(pts)
        self.stop_packet = number + 1
        self.size_bytes += packet.size
        if self.size_bytes > carried_bytes:
            self.packets = None
        if self.packets is not None:
            self.packets.append(packet)


def presentation_time(packet: VideoPacket) -> int:
    """Return a packet's presentation time in its stream's units; its decoding time if it has none.

    Raises:
        SourceError: The container gives it no time at all.
    """
    time = packet.pts if packet.pts is not None else packet.dts
    if time is None:
        raise SourceError("a packet has neither a presentation nor a decoding time")
    return time


class Cutter:
    """Cuts the packets of one video track; holds at most the open segment and the one before."""

    def __init__(
        self, footage: Footage, stream: Stream, number: int, settings: DemuxSettings
    ) -> None:
        self._footage = footage
        self._stream = stream.container.streams.video[number]
        self._nal_length_size = nal_length_size(self._stream.codec_context.extradata)
        self._stderr = stream.stderr
        self._settings = settings
        self._watch = Stopwatch("demux")
        self._packets = 0
        self._segments = 0
        self._frames = 0
        # The run that waits for the leading pictures of the next, and those pictures.
        self._closing: _Run | None = None
        self._leading = _Run(0)
        self._open: _Run | None = None

    def push(self, packet: VideoPacket) -> Iterator[Segment]:
        """Take the next packet in decode order; yield the segment that it completes, if any."""
        with self._watch.running():
            done = self._take(packet)
        if done is not None:
            yield done

    def _take(self, packet: VideoPacket) -> Segment | None:
        pts, number = presentation_time(packet), self._packets
        carried = self._settings.carried_bytes
        self._packets += 1
        if self._open is None:
            if packet.is_keyframe:
                self._begin(packet, pts, number)
            return None
        if self._leading.pts and pts < self._open.pts[0]:
            self._leading.add(packet, pts, number, carried)
            return None
        done = self._close()
        full = len(self._open.pts) >= self._settings.segment_frames
        if full and packet.is_keyframe and self._decodes_alone(packet):
            self._closing = self._open
            self._begin(packet, pts, number)
        else:
            self._open.add(packet, pts, number, carried)
        return done

    def _decodes_alone(self, packet: VideoPacket) -> bool:
        codec = self._footage.track.codec
        return decodes_alone(codec, bytes(packet), length_size=self._nal_length_size)

    def _begin(self, packet: VideoPacket, pts: int, number: int) -> None:
        """Open a run at a keyframe. `_leading` starts with that keyframe, for it decodes it."""
        self._open, self._leading = _Run(number), _Run(number)
        for run in (self._open, self._leading):
            run.add(packet, pts, number, self._settings.carried_bytes)

    def _close(self) -> Segment | None:
        """Build the segment that waits, now that its leading pictures are known."""
        run, tail = self._closing, self._leading
        self._closing, self._leading = None, _Run(0)
        return self._segment(run, tail) if run is not None else None

    def finish(self) -> Iterator[Segment]:
        """Yield what is left, at the end of the video track."""
        for run, tail in ((self._closing, self._leading), (self._open, _Run(0))):
            if run is not None:
                with self._watch.running():
                    done = self._segment(run, tail)
                if done is not None:
                    yield done

    def _segment(self, run: _Run, tail: _Run) -> Segment | None:
        """Build a segment of `run` and the leading pictures behind it; None if none is wanted."""
        tail_pts = tail.pts if len(tail.pts) > 1 else []
        codec_pts = sorted(run.pts + tail_pts)
        positions = list(range(len(codec_pts)))
        if tail_pts:
            del positions[bisect_left(codec_pts, tail_pts[0])]
        pts_s = np.array([seconds(codec_pts[i], self._stream) for i in positions])
        # An MP4's edit list hides what lies before time 0; a player does not show it.
        shown = pts_s >= 0 if self._footage.container_hides_negative else pts_s >= -np.inf
        kept, pts_s = np.array(positions, np.int64)[shown], pts_s[shown]
        frame_index = np.arange(self._frames, self._frames + len(kept))
        self._frames += len(kept)
        wanted = (frame_index % self._settings.stride == 0) & self._footage.window.holds(
            self._footage.start_time, pts_s - self._footage.origin_s
        )
        if not wanted.any():
            return None
        data = self._carried(run, tail if tail_pts else _Run(0))
        segment = Segment(
            footage=self._footage,
            index=self._segments,
            packets=len(codec_pts),
            positions=kept[wanted],
            frame_index=frame_index[wanted],
            pts_s=pts_s[wanted],
            data=data,
            in_place=not data,
            first_packet=run.first_packet,
            stop_packet=max(run.stop_packet, tail.stop_packet if tail_pts else 0),
            damaged=self._stderr.size() > 0,
            spans=(self._watch.span(frames=int(wanted.sum())),),
        )
        self._segments += 1
        return segment

    def _carried(self, run: _Run, tail: _Run) -> bytes:
        """Return the packets of a segment as a file, or nothing: decode then reads the recording."""
        if run.packets is None or tail.packets is None:
            return b""
        try:
            return self._mux([*run.packets, *tail.packets])
        except (av.error.FFmpegError, ValueError):
            # A codec or a time that a new container does not take; the recording's own has it.
            return b""

    def _mux(self, packets: Sequence[VideoPacket]) -> bytes:
        """Write packets, as they are, into a NUT container in memory."""
        buffer = io.BytesIO()
        with av.open(buffer, "w", format="nut") as container:
            stream = container.add_stream_from_template(self._stream, opaque=True)
            for packet in packets:
                packet.stream = stream
                container.mux(packet)
        return buffer.getvalue()

    def end(self, failures: tuple[Failure, ...]) -> FootageEnd:
        """Return the mark that says how many segments there were, and what the demuxer missed."""
        expected = self._footage.track.expected_frames
        # A rate and a duration are rounded: one frame more or less says nothing.
        missing = expected - self._frames if expected - self._frames > 1 else 0
        counted = self._footage.track.frames
        if self._packets == 0 and not failures:
            failures = (failure(self._footage, "SourceError", "the video track holds no frame"),)
        elif counted is not None and counted - self._packets > 1 and not failures:
            lost = f"the container counts {counted} frames, and {self._packets} came"
            failures = (failure(self._footage, "SourceError", lost),)
        return FootageEnd(
            footage=self._footage.key,
            segments=self._segments,
            failures=tuple(
                failure(self._footage, f.error_class, f.message, signal=f.signal, frames=missing)
                for f in failures
            ),
            spans=(self._watch.span(frames=0),),
        )


def failure(
    footage: Footage, error_class: str, message: str, *, signal: str = "", frames: int = 0
) -> Failure:
    """Return a row of `failures` about the cutting of one video track."""
    return Failure(
        source_uri=footage.source_uri,
        video_track=footage.track.video_track,
        camera_id=footage.key.camera_id,
        step="demux",
        error_class=error_class,
        message=message,
        signal=signal,
        frames=frames,
    )


def cut(footages: Sequence[Footage], settings: DemuxSettings) -> Iterator[Segment | FootageEnd]:
    """Cut video tracks of one recording into segments, as far as it can be read.

    Args:
        footages: The wanted video tracks of one recording.
        settings: Where to cut, and what is wanted.

    Yields:
        The segments, those of one video track in order, and one `FootageEnd` for each video track.
        What cannot be read is in its failures; nothing is raised for bad footage.
    """
    source_uri = footages[0].source_uri
    tracks = [footage.track for footage in footages]
    cutters: list[Cutter] = []
    failures: tuple[Failure, ...] = ()
    try:
        with copy_video_tracks(source_uri, tracks) as stream:
            cutters = [Cutter(f, stream, i, settings) for i, f in enumerate(footages)]
            yield from _read(stream, cutters)
            stream.end()
            if complaints := stream.stderr.tail():
                failures = (failure(footages[0], "SourceError", f"damaged: {complaints}"),)
    except (SourceError, av.error.FFmpegError, ValueError) as error:
        signal = getattr(error, "signal", "")
        failures = (failure(footages[0], type(error).__name__, str(error), signal=signal),)
    for cutter in cutters:
        yield cutter.end(failures)
    for footage in footages[len(cutters) :]:
        lost = (
            failure(footage, f.error_class, f.message, frames=footage.track.expected_frames)
            for f in failures
        )
        yield FootageEnd(footage=footage.key, segments=0, failures=tuple(lost))


def _read(stream: Stream, cutters: Sequence[Cutter]) -> Iterator[Segment]:
    """Hand each packet to the cutter of its video track, to the end of the stream."""
    packets = stream.container.demux(video=tuple(range(len(cutters))))
    while True:
        try:
            packet = next(packets, None)
        except av.error.FFmpegError:
            # The pipe broke off in the middle of a packet: `Stream.end` says why.
            break
        if packet is None:
            break
        if packet.size:
            yield from cutters[packet.stream.index].push(packet)
    for cutter in cutters:
        yield from cutter.finish()
