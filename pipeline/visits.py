"""Who was in a zone, from when to when.

    in   ████▁████████▁▁▁▁▁▁       ▁█▁▁▁▁▁
         ^   ^        ^            too short: none
     entry   short:   exit: the first frame outside, told once the person has been
             still in               out for `debounce_s`

Who appears in a zone has entered it there, and who vanishes in it has left it there.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from pipeline.moment import Moment
from pipeline.records import ROUNDING_S
from pipeline.scene import Zone


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """A stay in a zone.

    Attributes:
        zone: Its name.
        entry: The first frame inside.
        last: The last one inside so far.
        exit: The first frame outside, or the last one of the person; None while inside.
        is_over: The person will not come back in time.
    """

    zone: Zone
    entry: Moment
    last: Moment
    exit: Moment | None = None
    is_over: bool = False

    @property
    def dwell_s(self) -> float:
        """Seconds from the entry to the exit, or till now."""
        return (self.exit or self.last).time_s - self.entry.time_s

    @property
    def is_long_enough(self) -> bool:
        """Whether it is a visit at all."""
        return self.dwell_s >= self.zone.min_dwell_s - ROUNDING_S


class Visits:
    """The stays of one camera's people that go on."""

    def __init__(self) -> None:
        self._open: dict[int, dict[str, Visit]] = {}

    def move(self, moment: Moment, zone: Zone, *, is_inside: bool) -> Iterator[Visit]:
        """Take whether a person is in a zone in the next frame.

        Yields:
            A visit when it has become one, and again, with its exit, when it is over.
        """
        before = self._open.get(moment.track_id, {}).get(zone.name)
        if before is None and not is_inside:
            return
        if before is None:
            now = Visit(zone=zone, entry=moment, last=moment)
        elif is_inside:
            now = replace(before, last=moment, exit=None)
        else:
            now = replace(before, exit=before.exit or moment)
        yield from self._follow(before, now, moment)

    def _follow(self, before: Visit | None, now: Visit, moment: Moment) -> Iterator[Visit]:
        visits = self._open.setdefault(moment.track_id, {})
        visits[now.zone.name] = now
        was_told = before is not None and before.is_long_enough
        if now.is_long_enough and not was_told:
            yield now
        away_s = 0.0 if now.exit is None else moment.time_s - now.exit.time_s
        if now.exit is not None and away_s >= now.zone.debounce_s - ROUNDING_S:
            del visits[now.zone.name]
            if now.is_long_enough:
                yield replace(now, is_over=True)

    def end(self, track_id: int) -> Iterator[Visit]:
        """Yield the visits of a person who is gone."""
        for visit in self._open.pop(track_id, {}).values():
            if visit.is_long_enough:
                yield replace(visit, exit=visit.exit or visit.last, is_over=True)
