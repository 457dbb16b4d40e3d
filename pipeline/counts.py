"""How many crossed a line or were in a zone, interval by interval.

Intervals lie on the clock where it is known (every full minute, say), and on the camera's own time
where it is not. One in which nobody came has a row of zeros; one without a frame has none. What is not
certain yet, a visit too short so far, say, holds its interval back.
"""

import math
from bisect import insort
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from pipeline.areas import Areas
from pipeline.moment import clock_time
from pipeline.records import FootageKey, TrackedFrame

# Of an interval: so far a time may be off for being a float.
_ROUNDING = 1e-6
_FrameKey = tuple[FootageKey, int]


@dataclass(slots=True)
class _Tally:
    """What happened at one line or zone in one interval; `total` is over `frames`."""

    came: int = 0
    went: int = 0
    frames: int = 0
    least: int = 0
    most: int = 0
    total: int = 0

    def occupy(self, present: int) -> None:
        self.least = min(self.least, present) if self.frames else present
        self.most = max(self.most, present)
        self.frames += 1
        self.total += present


@dataclass(slots=True)
class _Interval:
    """An interval that is not told yet.

    Attributes:
        start: Its beginning on the clock, if that is known.
        start_s: And on the camera's own time.
        frames: How many were in it.
    """

    start: datetime | None
    start_s: float
    frames: int = 0
    tallies: dict[tuple[str, str], _Tally] = field(default_factory=dict)


def _key(frame: TrackedFrame) -> _FrameKey:
    return frame.footage.key, frame.frame_index


class Counts:
    """The counts of one camera."""

    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s
        # In the order of their time.
        self._intervals: dict[tuple[bool, int], _Interval] = {}
        # Two frames may have one time.
        self._frames: deque[tuple[float, _FrameKey, _Interval]] = deque()
        self._of_frame: dict[_FrameKey, _Interval] = {}
        self._newest: dict[bool, int] = {}
        self._steps: dict[str, list[tuple[float, int]]] = {}
        self._present: dict[str, int] = {}
        self._rows: list[dict[str, Any]] = []

    def frame(self, frame: TrackedFrame, areas: Areas) -> None:
        """Take the next frame, and what is drawn into its picture."""
        interval = self._of(frame)
        interval.frames += 1
        for kind, drawn in (("line", areas.lines), ("zone", areas.zones)):
            for each in drawn:
                interval.tallies.setdefault((kind, each.name), _Tally())
        self._frames.append((frame.time_s, _key(frame), interval))
        self._of_frame[_key(frame)] = interval

    def _of(self, frame: TrackedFrame) -> _Interval:
        moment = clock_time(frame)
        at_s = frame.time_s if moment is None else moment.timestamp()
        number = math.floor(at_s / self._interval_s + _ROUNDING)
        # Where recordings overlap the clock goes back, and intervals never do.
        number = max(number, self._newest.get(moment is not None, number))
        key = moment is not None, number
        self._newest[key[0]] = number
        if key not in self._intervals:
            begin_s = number * self._interval_s
            self._intervals[key] = _Interval(
                start=None if moment is None else datetime.fromtimestamp(begin_s, UTC),
                start_s=frame.time_s - (at_s - begin_s),
            )
        return self._intervals[key]

    def note(self, kind: str, name: str, frame: TrackedFrame, *, is_in: bool) -> None:
        """Count one who crossed a line, or came to a zone or left it, in a frame that was taken."""
        tally = self._of_frame[_key(frame)].tallies.setdefault((kind, name), _Tally())
        tally.came += is_in
        tally.went += not is_in
        if kind == "zone":
            insort(self._steps.setdefault(name, []), (frame.time_s, 1 if is_in else -1))

    def settle(self, until_s: float) -> None:
        """Take it that nothing more will be noted of frames before `until_s`."""
        while self._frames and self._frames[0][0] < until_s:
            time_s, frame, interval = self._frames.popleft()
            del self._of_frame[frame]
            for (kind, name), tally in interval.tallies.items():
                if kind == "zone":
                    tally.occupy(self._occupancy(name, time_s))
        is_over = until_s == math.inf
        current = None if is_over else self._frames[0][2] if self._frames else self._latest()
        for key, interval in list(self._intervals.items()):
            if interval is current:
                return
            del self._intervals[key]
            self._rows += self._told(interval)

    def _latest(self) -> _Interval | None:
        return next(reversed(self._intervals.values()), None)

    def _occupancy(self, name: str, time_s: float) -> int:
        steps = self._steps.get(name, [])
        while steps and steps[0][0] <= time_s:
            self._present[name] = self._present.get(name, 0) + steps.pop(0)[1]
        return self._present.get(name, 0)

    def _told(self, interval: _Interval) -> Iterator[dict[str, Any]]:
        for (kind, name), tally in interval.tallies.items():
            yield {
                "kind": kind,
                "name": name,
                "interval_start": interval.start,
                "start_s": interval.start_s,
                "interval_s": self._interval_s,
                "frames": interval.frames,
                "in": tally.came,
                "out": tally.went,
                "occupancy_min": tally.least if kind == "zone" else None,
                "occupancy_mean": tally.total / tally.frames if tally.frames else None,
                "occupancy_max": tally.most if kind == "zone" else None,
            }

    def rows(self) -> list[dict[str, Any]]:
        """Return the rows of the intervals that are certain since the last call."""
        rows, self._rows = self._rows, []
        return rows
