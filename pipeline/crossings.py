"""Who crossed a line, and which way.

Nobody stands still to a detector, so a passage is told when the person has left the line behind: to and
fro over a line is one crossing, its last passage; back where it began, it is none.

            ┌─┐    ┌─── away for `debounce_s`, and by a tenth of the person's height: told
    ────────┼─┼────┼───
            ┘ └────┘    the passage back takes back the one before
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.areas import Areas
from pipeline.moment import Moment
from pipeline.records import ROUNDING_S
from pipeline.scene import Line

# Nearer to a line than this share of the person's height, nobody has left it.
MARGIN = 0.1
# But who stays there for so long without a passage back has crossed.
_LONGEST_S = 60.0
# In pixels: who is so near stands on it, and on no side.
_ON = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Crossing:
    """A passage over a line.

    Attributes:
        line: Its name.
        is_in: From the left to the right, looking along the line.
        moment: The first frame behind it.
    """

    line: str
    is_in: bool
    moment: Moment


class Crossings:
    """The passages of one camera's people that are not told yet."""

    def __init__(self) -> None:
        # Where people were last beside each line, not on it.
        self._last: dict[tuple[int, str], tuple[float, float]] = {}
        self._pending: dict[tuple[int, str], Crossing] = {}

    @property
    def oldest_s(self) -> float:
        """When the oldest passage was that is not told yet; infinity if there is none."""
        return min((each.moment.time_s for each in self._pending.values()), default=np.inf)

    def move(self, moments: Sequence[Moment], areas: Areas) -> Iterator[Crossing]:
        """Take where people are in the next frame; yield the crossings that are certain by now."""
        if not (areas.lines and moments):
            return
        after = np.array([(m.x, m.y) for m in moments])
        for number, line in enumerate(areas.lines):
            keys = [(moment.track_id, line.name) for moment in moments]
            places = zip(keys, moments, strict=True)
            before = np.array([self._last.get(key, (m.x, m.y)) for key, m in places])
            away = areas.distance(after, number)
            ways = np.where(away > _ON, areas.crossed(before, after, number), 0)
            for row in np.flatnonzero(ways).tolist():
                yield from self._pass(moments[row], line.name, is_in=ways[row] > 0)
            for row in np.flatnonzero(away > _ON).tolist():
                self._last[keys[row]] = moments[row].x, moments[row].y
            yield from self._settle(moments, away, line)

    def _pass(self, moment: Moment, line: str, *, is_in: bool) -> Iterator[Crossing]:
        before = self._pending.pop((moment.track_id, line), None)
        if before is None or before.is_in == is_in:
            if before is not None:
                # Around the line's end and over it again.
                yield before
            passage = Crossing(line=line, is_in=is_in, moment=moment)
            self._pending[moment.track_id, line] = passage

    def _settle(
        self, moments: Sequence[Moment], away: NDArray[np.float64], line: Line
    ) -> Iterator[Crossing]:
        """Yield the passages of those who have left a line behind; `away` is how far they are."""
        if not self._pending:
            return
        for moment, distance in zip(moments, away.tolist(), strict=True):
            passage = self._pending.get((moment.track_id, line.name))
            if passage is None:
                continue
            since_s = moment.time_s - passage.moment.time_s + ROUNDING_S
            is_away = since_s >= line.debounce_s and distance > MARGIN * moment.height_px
            if is_away or since_s > max(_LONGEST_S, line.debounce_s):
                yield self._pending.pop((moment.track_id, line.name))

    def end(self, track_id: int) -> Iterator[Crossing]:
        """Yield what a person did who is gone."""
        for key in [key for key in self._last if key[0] == track_id]:
            del self._last[key]
        for key in [key for key in self._pending if key[0] == track_id]:
            yield self._pending.pop(key)
