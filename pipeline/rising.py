"""Times that jump back in the middle of a video track go on rising, and the jump is noted.

Recordings that were glued together, and recorders whose clock was set back, begin again:

    the container's times     0 1 2 3 4 5 6 7 8 9 | 0 1 2 3 4 ...
    given on                  0 1 2 3 4 5 6 7 8 9 | 26 27 28 29 30 ...

A time may well be earlier than that of the packet before: a picture is decoded before those that refer
to it, which may be shown earlier. But no more than 16 are held back for that (ITU-T H.264, A.3.1, and
H.265, A.4.1: the decoded picture buffer), and nothing is shown behind a keyframe that was decoded
before it. What is earlier still is a jump. Room for so many pictures is left behind the last time: they
may be shown before the first packet behind the jump.

Two frames never share a time: it is what tells them apart.
"""

from collections import deque
from collections.abc import Iterator
from itertools import pairwise

from pipeline.errors import SourceError
from pipeline.ffmpeg import VideoPacket

MOST_HELD_BACK = 16


class RisingTimes:
    """The times of one video track's packets, in decode order, all in units of its time base.

    Attributes:
        jumped_back: How far each jump went back.
    """

    def __init__(self, *, reorders: bool) -> None:
        """Begin a video track; `reorders` says whether it has pictures that are held back."""
        self.jumped_back: list[int] = []
        self._held_back = MOST_HELD_BACK if reorders else 0
        self._ahead = 0
        self._last: deque[int] = deque(maxlen=MOST_HELD_BACK + 1)
        self._latest = 0
        self._dts: int | None = None

    def move(self, packet: VideoPacket) -> int:
        """Give a packet the times that it goes on with; return its presentation time.

        Raises:
            SourceError: The container gives it no time at all.
        """
        told = packet.pts if packet.pts is not None else packet.dts
        if told is None:
            raise SourceError("a packet has neither a presentation nor a decoding time")
        time = self._onward(told, is_keyframe=packet.is_keyframe) if self._last else told
        if time != told:
            packet.pts = time
        # Decoding times are guessed from the container's; a muxer wants them to rise, and no more.
        if self._dts is not None and (self._ahead or (packet.dts or self._dts) <= self._dts):
            packet.dts = self._dts + 1
        self._dts = packet.dts
        self._latest = max(self._latest, time) if self._last else time
        self._last.append(time)
        return time

    def _onward(self, told: int, *, is_keyframe: bool) -> int:
        time, last = told + self._ahead, self._last
        back = self._latest - time
        is_early = len(last) > MOST_HELD_BACK and time < min(last)
        if (is_early or is_keyframe) and back >= (usual := self._usual_step()):
            self.jumped_back.append(back)
            self._ahead += back + (self._held_back + 1) * usual
            return told + self._ahead
        if back >= 0 and not self._held_back:
            # A clock that trembles, or was set back by a moment: it will catch up.
            return self._latest + 1
        while time in last:
            time += 1
        return time

    def _usual_step(self) -> int:
        steps = sorted(b - a for a, b in pairwise(sorted(self._last)))
        return steps[len(steps) // 2] if steps else 1


def rising(packets: Iterator[VideoPacket], *, reorders: bool) -> Iterator[VideoPacket]:
    """Yield the packets of one video track, with times that do not jump back."""
    times = RisingTimes(reorders=reorders)
    for packet in packets:
        if packet.size:
            times.move(packet)
        yield packet
