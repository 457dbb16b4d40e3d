"""Cuts the packets of one video track into segments.

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

Where the packets come from, and what happens when ffmpeg dies, is in `demux`; what was missed is told
in `cut_progress`.
"""

import io
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import av
import numpy as np

from pipeline.cache import CacheSettings
from pipeline.cut_progress import Progress
from pipeline.ffmpeg import LONGEST_S, Stream, VideoPacket, seconds
from pipeline.keyframes import decodes_alone, nal_length_size
from pipeline.records import Segment
from pipeline.rising import RisingTimes

_LONGEST_FRAME_S = 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class DemuxSettings:
    """How footage is cut.

    Attributes:
        segment_frames: A segment ends at the first keyframe after so many frames.
        carried_bytes: A longer run is not carried; decode reads it from the recording itself.
        cache: How recordings of S3 come to this node.
    """

    segment_frames: int = 100
    carried_bytes: int = 32 << 20
    cache: CacheSettings = field(default_factory=CacheSettings)


@dataclass(slots=True)
class _Run:
    """Packets from a keyframe on; they are let go when they become too many to carry."""

    first_packet: int
    pts: list[int] = field(default_factory=list)
    packets: list[VideoPacket] | None = field(default_factory=list)
    size_bytes: int = 0
    stop_packet: int = 0
    jumps: bool = False

    def add(self, packet: VideoPacket, pts: int, number: int, carried_bytes: int) -> None:
        self.pts.append(pts)
        self.stop_packet = number + 1
        self.size_bytes += packet.size
        if self.size_bytes > carried_bytes:
            self.packets = None
        if self.packets is not None:
            self.packets.append(packet)


class Cutter:
    """Cuts the packets of one video track; holds at most the open segment and the one before."""

    def __init__(
        self, progress: Progress, stream: Stream, number: int, settings: DemuxSettings
    ) -> None:
        self._progress = progress
        self._footage = progress.footage
        self._stream = stream.container.streams.video[number]
        self._nal_length_size = nal_length_size(self._stream.codec_context.extradata)
        self._stderr = stream.stderr
        self._settings = settings
        self._watch = progress.watch
        self._times = RisingTimes(reorders=self._stream.codec_context.has_b_frames)
        self._packets = 0
        self._far = 0
        self._first_jump = ""
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
        pts, number = self._time(packet), self._packets
        carried = self._settings.carried_bytes
        self._packets += 1
        self._progress.packets = max(self._progress.packets, self._packets)
        if abs(seconds(pts, self._stream) - self._footage.origin_s) > LONGEST_S:
            self._far += 1
            self._progress.far = max(self._progress.far, self._far)
            return None
        if self._open is None:
            if packet.is_keyframe:
                self._begin(packet, pts, number)
            else:
                self._progress.headless = max(self._progress.headless, self._packets - self._far)
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

    def _time(self, packet: VideoPacket) -> int:
        """Return when a packet is shown; no time is earlier than those before a jump back."""
        if (packet.duration or 0) * (self._stream.time_base or 0) > _LONGEST_FRAME_S:
            # Times are guessed from it when the packet is muxed.
            packet.duration = 0
        jumps = len(self._times.jumped_back)
        pts = self._times.move(packet)
        if len(self._times.jumped_back) > jumps:
            self._note_jump(self._packets)
        return pts

    def _note_jump(self, number: int) -> None:
        """Tell of the first jump back, and of how many there are."""
        for run in filter(None, (self._closing, self._open)):
            run.jumps = True
        back_s = self._times.jumped_back[0] * float(self._stream.time_base or 0)
        count = len(self._times.jumped_back)
        self._first_jump = self._first_jump or f"by {back_s:.3f} s at packet {number}"
        often = f" and {count - 1} more times" if count > 1 else ""
        self._progress.jumps = (
            f"the times jump back {self._first_jump}{often}; from there on they are counted on"
        )

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
        """Yield what is left, at the end of the video track; it may end in half a packet."""
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
        wanted = (frame_index % self._footage.stride == 0) & self._footage.window.holds(
            self._footage.start_time, pts_s - self._footage.origin_s
        )
        index = self._segments
        self._segments += bool(wanted.any())
        build = wanted.any() and self._progress.wants(index)
        self._progress.reach(segments=self._segments, frames=self._frames)
        if not build:
            return None
        data = self._carried(run, tail if tail_pts else _Run(0))
        self._progress.is_read_again |= not data
        return Segment(
            footage=self._footage,
            index=index,
            packets=len(codec_pts),
            positions=kept[wanted],
            frame_index=frame_index[wanted],
            pts_s=pts_s[wanted],
            data=data,
            in_place=not data,
            first_packet=run.first_packet,
            stop_packet=max(run.stop_packet, tail.stop_packet if tail_pts else 0),
            damaged=self._stderr.tells_of_damage() or run.jumps,
            spans=(self._watch.span(frames=int(wanted.sum()), bytes_=len(data)),),
        )

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
