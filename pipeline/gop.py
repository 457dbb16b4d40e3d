"""How far apart a video track's keyframes lie, as far as a quick look tells.

Between two keyframes lies a group of pictures (GOP), which nothing can begin to decode in its middle.
So the longest one says how long a segment becomes, and how much memory it takes. The index of an MP4
tells all of it; of other containers the first packets are read. It is an estimate, to plan with:
nothing relies on it, for decoding is bounded whatever comes.
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

import av

# Of a recording: a minute of most cameras, or some seconds of very good ones.
MOST_BYTES = 24 << 20
_MOST_PACKETS = 4000


@dataclass(frozen=True, slots=True, kw_only=True)
class Gop:
    """The longest group of pictures that was seen.

    Attributes:
        frames: Its frames; 0 if none was seen.
        bytes: Its packets' size, of the largest one.
    """

    frames: int = 0
    bytes: int = 0


def longest_gops(
    container: av.container.InputContainer,
    streams: Sequence[av.VideoStream],
    most_bytes: int = MOST_BYTES,
) -> list[Gop]:
    """Return the longest group of pictures of each stream, in their order.

    Args:
        container: The recording.
        streams: Of it.
        most_bytes: What may be read, where no index tells.
    """
    indexed = [_of_index(stream) for stream in streams]
    if all(gop.frames for gop in indexed):
        return indexed
    counters = {stream.index: _Counter() for stream in streams}
    # What is damaged is for decoding to say; what came before it counts.
    with suppress(av.error.FFmpegError):
        container.seek(0)
        for packet in _first_packets(container, streams, most_bytes):
            counters[packet.stream.index].add(is_keyframe=packet.is_keyframe, size=packet.size)
    return [counters[stream.index].longest() for stream in streams]


def _of_index(stream: av.VideoStream) -> Gop:
    """Return what an index of all frames tells; that of Matroska has keyframes alone, and no sizes."""
    counter, is_whole = _Counter(), len(stream.index_entries) == stream.frames > 0
    for entry in stream.index_entries if is_whole else ():
        counter.add(is_keyframe=entry.is_keyframe, size=entry.size)
    return counter.longest()


def _first_packets(
    container: av.container.InputContainer,
    streams: Sequence[av.VideoStream],
    most_bytes: int,
) -> Iterator["av.Packet[av.stream.Stream]"]:
    read_bytes = 0
    for count, packet in enumerate(container.demux(*streams)):
        if packet.size:
            yield packet
        read_bytes += packet.size
        if read_bytes > most_bytes or count > _MOST_PACKETS:
            return


class _Counter:
    """Counts packets from keyframe to keyframe."""

    def __init__(self) -> None:
        self._frames = self._bytes = 0
        self._most_frames = self._most_bytes = 0

    def add(self, *, is_keyframe: bool, size: int) -> None:
        if is_keyframe:
            self._close()
        self._frames += 1
        self._bytes += size

    def _close(self) -> None:
        self._most_frames = max(self._most_frames, self._frames)
        self._most_bytes = max(self._most_bytes, self._bytes)
        self._frames = self._bytes = 0

    def longest(self) -> Gop:
        """Return the longest; one that has not ended counts as far as it came."""
        self._close()
        return Gop(frames=self._most_frames, bytes=self._most_bytes)
