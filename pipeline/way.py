"""How far somebody went: a length that trembling boxes do not add to, and that turns do not shorten.

A box trembles by a few hundredths of its height. So a step counts only if it leads further than that,
the slack, from where the person was last known to be, twice in a row:

    A ---- all places within the slack of the straight line ---- far      a leg, from A to the furthest;
                                                                    next    behind it another begins

A leg is as long as an arc that bulges as its places do: its chord c, and 6 m^2 / c, for the places of a
flat arc (a parabola) are beside its chord by m on average. How much a box trembles is seen of itself: a
place is off the middle between its neighbours by more than any walk bends.
"""

import math
from dataclasses import dataclass
from typing import Any

# A place: x and y in pixels, and in metres on the floor, where that is known.
Place = tuple[float, float, float | None, float | None]

# Of a box's height, by which it may be off: beyond it, somebody has moved.
SLACK_SHARE, MOST_SLACK_SHARE = 0.06, 0.12
LEAST_SLACK_PX = 1.0
# Of how far a place is off its neighbours, on average over so many: about 3.5 deviations of trembling.
_TREMBLES, _TREMBLE_PLACES = 1.75, 50
# Who has stayed for so long is where they were on average.
_SETTLED_S = 1.0


@dataclass(slots=True)
class Way:
    """The way of a track so far; all of it is plain numbers.

    Attributes:
        start: Where the leg began.
        since_s: When.
        length_px: Of all legs before it.
        length_m: The same in metres; None if a place of it is on no known floor.
        far: Its furthest place; None while nobody has moved.
        bearing: Its direction, and `spread` by how much that may be off: all places are near it.
        count: Number of its places, and `total` their sum.
        stray: When and where somebody was off it last: the next place tells whether that counts.
        trembling_px: How far a place is off the line through the two before it, on average.
        before: The last two places.
        is_settled: The start is where somebody has stayed on average.
    """

    start: Place
    since_s: float
    length_px: float = 0.0
    length_m: float | None = 0.0
    far: Place | None = None
    bearing: float = 0.0
    spread: float = 0.0
    count: int = 0
    total: Place = (0.0, 0.0, 0.0, 0.0)
    stray: tuple[float, Place] | None = None
    is_settled: bool = False
    trembling_px: float = 0.0
    before: tuple[tuple[float, float], ...] = ()

    def go(self, time_s: float, place: Place, height_px: float) -> None:
        """Go on to the next place; `height_px` is that of the box."""
        self._look(place)
        own = min(_TREMBLES * self.trembling_px, MOST_SLACK_SHARE * height_px)
        self._go(time_s, place, max(LEAST_SLACK_PX, SLACK_SHARE * height_px, own))

    def _look(self, place: Place) -> None:
        """See how much the boxes tremble."""
        here = place[:2]
        if len(self.before) > 1:
            a, b = self.before
            off_px = max(abs(a[axis] - 2 * b[axis] + here[axis]) for axis in (0, 1))
            self.trembling_px += (off_px - self.trembling_px) / _TREMBLE_PLACES
        self.before = (*self.before[-1:], here)

    def _go(self, time_s: float, place: Place, slack: float) -> None:
        if self.far is None:
            self._leave(time_s, place, slack)
        elif self._is_on_leg(place, slack):
            if self.stray is not None:
                self._count(self.stray[1])
                self.stray = None
            self._extend(place, slack)
        elif self.stray is None:
            self.stray = time_s, place
        else:
            stray = self.stray
            self._end_leg(time_s)
            self._go(*stray, slack)
            self._go(time_s, place, slack)

    def lengths(self) -> tuple[float, float | None]:
        """Return how long it is by now, in pixels and in metres."""
        px, m = self._leg()
        return (
            self.length_px + px,
            None if self.length_m is None or m is None else self.length_m + m,
        )

    def _leave(self, time_s: float, place: Place, slack: float) -> None:
        """Begin a leg with the second place that is off where somebody was."""
        if math.dist(self.start[:2], place[:2]) <= slack:
            self._count(place)
            self.stray = None
            if not self.is_settled and time_s - self.since_s >= _SETTLED_S:
                self._settle()
            return
        if self.stray is None:
            self.stray = time_s, place
            return
        first, self.stray = self.stray[1], None
        self.far, self.count, self.total = first, 0, (0.0, 0.0, 0.0, 0.0)
        self.bearing, self.spread = self._direction(first), math.pi
        self._extend(first, slack)
        self._go(time_s, place, slack)

    def _settle(self) -> None:
        """Be where somebody who stays was on average: the first place trembled like all others."""
        x, y, x_m, y_m = self.total
        mean = (
            x / self.count,
            y / self.count,
            None if x_m is None else x_m / self.count,
            None if y_m is None else y_m / self.count,
        )
        self._add(math.dist(self.start[:2], mean[:2]), _metres(self.start, mean))
        self.start, self.is_settled = mean, True

    def _direction(self, place: Place) -> float:
        return math.atan2(place[1] - self.start[1], place[0] - self.start[0])

    def _off_bearing(self, place: Place) -> float:
        return (self._direction(place) - self.bearing + math.pi) % math.tau - math.pi

    def _is_on_leg(self, place: Place, slack: float) -> bool:
        assert self.far is not None
        went, at = math.dist(self.start[:2], self.far[:2]), math.dist(self.start[:2], place[:2])
        return abs(self._off_bearing(place)) <= self.spread and at >= went - slack

    def _extend(self, place: Place, slack: float) -> None:
        """Put a place onto the leg; where all of them are near it, it is further on."""
        assert self.far is not None
        off, at = self._off_bearing(place), math.dist(self.start[:2], place[:2])
        reach = math.asin(slack / at) if at > slack else math.pi / 2
        low, high = max(-self.spread, off - reach), min(self.spread, off + reach)
        self.bearing, self.spread = self.bearing + (low + high) / 2, (high - low) / 2
        if at > math.dist(self.start[:2], self.far[:2]):
            self.far = place
        self._count(place)

    def _count(self, place: Place) -> None:
        self.count += 1
        x, y, x_m, y_m = self.total
        has_floor = None not in (x_m, y_m, place[2], place[3])
        self.total = (
            x + place[0],
            y + place[1],
            (x_m or 0.0) + (place[2] or 0.0) if has_floor else None,
            (y_m or 0.0) + (place[3] or 0.0) if has_floor else None,
        )

    def _end_leg(self, time_s: float) -> None:
        assert self.far is not None
        self._add(*self._leg())
        self.start, self.since_s, self.far = self.far, time_s, None
        self.count, self.total = 0, (0.0, 0.0, 0.0, 0.0)
        self.stray, self.is_settled = None, False

    def _add(self, px: float, m: float | None) -> None:
        self.length_px += px
        self.length_m = None if self.length_m is None or m is None else self.length_m + m

    def _leg(self) -> tuple[float, float | None]:
        """Return the length of the leg that is not ended, in pixels and in metres."""
        if self.far is None:
            # Nobody has moved; where the floor is not known, that is not known of metres.
            return 0.0, None if self.start[2] is None else 0.0
        x, y, x_m, y_m = self.total
        mean = x / self.count, y / self.count
        px = _arc(self.start[:2], self.far[:2], mean)
        if x_m is None or y_m is None or _metres(self.start, self.far) is None:
            return px, None
        return px, _arc(self.start[2:], self.far[2:], (x_m / self.count, y_m / self.count))


def way_of(plain: dict[str, Any]) -> Way:
    """Return the way that `asdict` was taken of, and JSON made lists of its tuples."""
    far, stray = plain["far"], plain["stray"]
    read = {
        "start": tuple(plain["start"]),
        "far": tuple(far) if far else None,
        "total": tuple(plain["total"]),
        "stray": (stray[0], tuple(stray[1])) if stray else None,
        "before": tuple(map(tuple, plain["before"])),
    }
    return Way(**{**plain, **read})


def _metres(a: Place, b: Place) -> float | None:
    if a[2] is None or a[3] is None or b[2] is None or b[3] is None:
        return None
    return math.dist((a[2], a[3]), (b[2], b[3]))


def _arc(
    start: tuple[float | None, ...], end: tuple[float | None, ...], mean: tuple[float, float]
) -> float:
    """Return the length of an arc whose places are at `mean` on average."""
    (ax, ay), (bx, by) = ((x or 0.0, y or 0.0) for x, y in (start, end))
    chord = math.dist((ax, ay), (bx, by))
    if not chord:
        return 0.0
    beside = ((bx - ax) * (mean[1] - ay) - (by - ay) * (mean[0] - ax)) / chord
    return chord + 6 * beside**2 / chord
