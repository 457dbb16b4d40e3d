"""Put batches back in order, each frame once, whatever order, splits and repeats they come in.

The unit that is given on is a whole segment, since a segment whose decoding killed a process is set
aside whole: what part of it had been seen by then is chance.

    arrives     seg 1 [0,10)   seg 0 [10,16)   seg 1 [10,20)   seg 0 [0,10)   seg 0 [0,10)
    whole                                      segment 1       segment 0      (seen)
    given on                                                   0, then 1

It holds boxes, never pixels. Arrivals are cut at what is there already, so that nothing counts twice.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from pipeline.records import Detections, Failure, FootageEnd, FootageKey, Gap, WholeSegment


@dataclass(slots=True)
class _Arriving:
    """What has come of a segment so far: disjoint parts, by their first position."""

    wanted: int
    parts: dict[int, Detections | Gap] = field(default_factory=dict)

    def covered(self) -> int:
        return sum(part.stretch.stop - part.stretch.start for part in self.parts.values())

    def add(self, arrival: Detections | Gap) -> None:
        """Take what is new of an arrival."""
        start, stop = arrival.stretch.start, arrival.stretch.stop
        taken = sorted(
            (p.stretch.start, p.stretch.stop)
            for p in self.parts.values()
            if p.stretch.start < stop and p.stretch.stop > start
        )
        for begin, end in [*taken, (stop, stop)]:
            if start < begin:
                self.parts[start] = _slice(arrival, start, begin)
            start = max(start, end)


def _slice(part: Detections | Gap, start: int, stop: int) -> Detections | Gap:
    """Return positions [start, stop) of a part; what failed in it goes with its first frame."""
    stretch = replace(part.stretch, start=start, stop=stop)
    if stretch == part.stretch:
        return part
    if isinstance(part, Gap):
        return replace(part, stretch=stretch)
    frames = np.flatnonzero((part.positions >= start) & (part.positions < stop))
    boxes = np.flatnonzero(np.isin(part.frame_row, frames))
    has_first = start == part.stretch.start
    return replace(
        part,
        stretch=stretch,
        positions=part.positions[frames],
        frame_index=part.frame_index[frames],
        pts_s=part.pts_s[frames],
        frame_row=np.searchsorted(frames, part.frame_row[boxes]),
        boxes=part.boxes[boxes],
        confidence=part.confidence[boxes],
        class_id=part.class_id[boxes],
        failures=part.failures if has_first else (),
        spans=part.spans if has_first else (),
    )


def _range(parts: Sequence[Detections], gaps: Sequence[Gap]) -> tuple[int | None, int | None]:
    """Return the first and the last frame_index of a segment, as far as its parts tell."""
    numbers = [int(number) for part in parts for number in part.frame_index]
    for gap in gaps:
        ends = gap.failure.first_frame, gap.failure.last_frame
        numbers += [number for number in ends if number is not None]
    return min(numbers, default=None), max(numbers, default=None)


class ReorderBuffer:
    """Gives on the segments of one footage in order."""

    def __init__(
        self,
        footage: FootageKey,
        *,
        first: int = 0,
        keep: Callable[[WholeSegment], None] = lambda _: None,
    ) -> None:
        """Begin with nothing.

        Args:
            footage: Whose segments.
            first: Segments before it were given on in an earlier life.
            keep: Called with each segment that has become whole, in whatever order, before it is
                given on.
        """
        self._footage = footage
        self._next = first
        self._keep = keep
        self._arriving: dict[int, _Arriving] = {}
        self._whole: dict[int, Callable[[], WholeSegment]] = {}
        self._end: FootageEnd | None = None

    @property
    def is_done(self) -> bool:
        """Whether the footage's end is known and every segment was given on."""
        return self._end is not None and self._next >= self._end.segments

    @property
    def end(self) -> FootageEnd | None:
        """The mark of the footage's end, once it came."""
        return self._end

    @property
    def have(self) -> frozenset[int]:
        """The segments that are whole or were given on: they need not be made again."""
        return frozenset(range(self._next)) | frozenset(self._whole)

    @property
    def next(self) -> int:
        """The segment that is given on next."""
        return self._next

    def push(self, arrival: Detections | Gap | FootageEnd) -> Iterator[WholeSegment]:
        """Take an arrival; yield the segments that are now whole and next in order."""
        self.take(arrival)
        yield from self.in_order()

    def take(self, arrival: Detections | Gap | FootageEnd) -> None:
        """Take an arrival, which may make a segment whole."""
        if isinstance(arrival, FootageEnd):
            self._end = arrival
            return
        segment = arrival.stretch.segment
        if segment < self._next or segment in self._whole:
            return
        waiting = self._arriving.setdefault(segment, _Arriving(arrival.stretch.wanted))
        waiting.add(arrival)
        if waiting.covered() == waiting.wanted:
            whole = self._assemble(segment, self._arriving.pop(segment))
            self._keep(whole)
            self._whole[segment] = lambda: whole

    def put(self, segment: int, read: Callable[[], WholeSegment]) -> None:
        """Take a segment that became whole in an earlier life; it is read when its turn comes."""
        if segment >= self._next:
            self._whole.setdefault(segment, read)

    def in_order(self) -> Iterator[WholeSegment]:
        """Yield the segments that are whole and next in order."""
        while self._next in self._whole:
            read = self._whole.pop(self._next)
            self._next += 1
            yield read()

    def missing(self) -> list[int]:
        """Return the segments that have not come whole; complete only once the end is known."""
        known = [*self._arriving, *self._whole]
        stop = self._end.segments if self._end else max(known, default=self._next - 1) + 1
        return [index for index in range(self._next, stop) if index not in self._whole]

    def drain(self, lost: Failure) -> Iterator[WholeSegment]:
        """Yield all that is left, in order: nothing more will come.

        Args:
            lost: What is recorded for each segment that has not come whole.
        """
        missing = set(self.missing())
        for index in sorted(missing | set(self._whole)):
            self._next = index + 1
            if index in missing:
                frames = self._arriving[index].wanted if index in self._arriving else 0
                failure = replace(lost, message=f"segment {index} never came", frames=frames)
                yield WholeSegment(
                    footage=self._footage, index=index, parts=(), failures=(failure,)
                )
            else:
                yield self._whole.pop(index)()
        self._arriving.clear()

    def _assemble(self, index: int, segment: _Arriving) -> WholeSegment:
        parts = [segment.parts[start] for start in sorted(segment.parts)]
        failures: tuple[Failure, ...]
        detections = tuple(part for part in parts if isinstance(part, Detections))
        gaps = [part for part in parts if isinstance(part, Gap)]
        if gaps:
            first, last = _range(detections, gaps)
            failure = replace(
                gaps[0].failure, frames=segment.wanted, first_frame=first, last_frame=last
            )
            detections, failures = (), (failure,)
        else:
            failures = tuple(failure for part in detections for failure in part.failures)
        return WholeSegment(footage=self._footage, index=index, parts=detections, failures=failures)
