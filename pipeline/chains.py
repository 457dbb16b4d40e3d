"""Chains of pieces: who goes on as whom, as far as is known by now.

pieces    a ───   b ──   c ────        chains may still be joined by what comes later;
groups    [a ─────── b]  [c]           those that end before a decision are joined for good
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pipeline.link import LinkSettings, Stretch, sure_links
from pipeline.looks import Look, add_look
from pipeline.pieces import NEAR_S, End, Piece, ends_of, log_odds

Float64s = NDArray[np.float64]
Int64s = NDArray[np.int64]

# The shorter a gap, the less can be wrong: short ones are joined first.
STAGES_S = (0.2, 0.5, 1.0)


@dataclass(slots=True, eq=False)
class Chain:
    """Pieces that follow one another: one person, as far as is known.

    Attributes:
        pieces: Oldest first; those that are long past are gone.
        gone: The looks of those that are gone.
        track_id: None until it is told.
    """

    pieces: list[Piece]
    first_s: float
    gone: list[Look] = field(default_factory=list)
    track_id: int | None = None

    @property
    def last_s(self) -> float:
        """When it was seen last."""
        return self.pieces[-1].last_s

    def forget_before(self, time_s: float) -> None:
        """Drop what is before `time_s`, but not the last box."""
        kept = [p for p in self.pieces[:-1] if p.last_s >= time_s] + self.pieces[-1:]
        for piece in self.pieces[: len(self.pieces) - len(kept)]:
            for look in piece.looks:
                add_look(self.gone, look)
        self.pieces = kept
        for piece in self.pieces:
            piece.forget_before(time_s)

    def looks(self) -> Iterator[Look]:
        """Yield what is known of the scores of all its boxes."""
        yield from self.gone
        for piece in self.pieces:
            yield from piece.looks


class Joiner:
    """Finds which chains of one camera follow which."""

    def __init__(self, within_s: float, link: LinkSettings) -> None:
        """Join over gaps of at most `within_s`, where a link is sure."""
        self._link = link
        self._stages_s = (*(s for s in STAGES_S if s < within_s), within_s)
        self._ends = _Ends()

    def join(
        self, chains: Sequence[Chain], since_s: float, picture_px: tuple[int, int]
    ) -> list[list[Chain]]:
        """Return the chains, those that follow one another together.

        Args:
            chains: All that may matter.
            since_s: What ended, or began, before is decided.
            picture_px: Width and height of the frames.
        """
        groups = [[chain] for chain in chains]
        for within_s in self._stages_s:
            stretches = [_stretch(group) for group in groups]
            odds = _Odds(self._ends, groups, picture_px)
            follows = sure_links(stretches, since_s, within_s, odds, self._link)
            groups = _chained(groups, follows)
        self._ends.forget()
        return groups


def settle(group: list[Chain], until_s: float) -> list[Chain]:
    """Join for good the chains of a group that follow an end before `until_s`; return its chains."""
    settled = [group[0]]
    for chain in group[1:]:
        if settled[-1].last_s <= until_s:
            settled[-1].pieces += chain.pieces
        else:
            settled.append(chain)
    group[:] = settled
    return settled


class _Odds:
    """The log odds that groups of chains go on as others, by their places."""

    def __init__(
        self, ends: "_Ends", groups: Sequence[Sequence[Chain]], picture_px: tuple[int, int]
    ) -> None:
        self._ends, self._groups, self._picture_px = ends, groups, picture_px

    def __call__(self, before: Int64s, behind: Int64s) -> Float64s:
        first, places = np.unique(before, return_inverse=True)
        second, others = np.unique(behind, return_inverse=True)
        ends = self._ends.of([self._groups[i] for i in first.tolist()], is_last=True)
        beginnings = self._ends.of([self._groups[i] for i in second.tolist()], is_last=False)
        return log_odds(ends, beginnings, (places, others), self._picture_px)


class _Ends:
    """The ends of groups of chains, each worked out once as long as it does not change."""

    def __init__(self) -> None:
        # The pieces are kept with their end, so that no others take their places, and their ids.
        self._known: dict[tuple[float, ...], tuple[End, Sequence[Piece]]] = {}
        self._asked: dict[tuple[float, ...], tuple[End, Sequence[Piece]]] = {}

    def of(self, groups: Sequence[Sequence[Chain]], *, is_last: bool) -> list[End]:
        """Return how groups end, or how they begin."""
        people = [_near(group, is_last=is_last) for group in groups]
        keys = [(is_last, each[-1].last_s, *map(id, each)) for each in people]
        new = {key: each for key, each in zip(keys, people, strict=True) if key not in self._known}
        for (key, each), end in zip(
            new.items(), ends_of(list(new.values()), is_last=is_last), strict=True
        ):
            self._known[key] = end, each
        self._asked |= {key: self._known[key] for key in keys}
        return [self._known[key][0] for key in keys]

    def forget(self) -> None:
        """Forget what was not asked for since the last time."""
        self._known, self._asked = self._asked, {}


def _near(group: Sequence[Chain], *, is_last: bool) -> list[Piece]:
    """Return the pieces of a group that are near its end, or its beginning."""
    pieces = [piece for chain in group for piece in chain.pieces]
    if is_last:
        return [p for p in pieces if p.last_s >= pieces[-1].last_s - NEAR_S]
    return [p for p in pieces if p.times_s[0] <= pieces[0].times_s[0] + NEAR_S]


def _stretch(group: Sequence[Chain]) -> Stretch:
    first, last = group[0].pieces[0], group[-1].pieces[-1]
    return Stretch(
        class_id=first.class_id,
        first_s=group[0].first_s,
        last_s=last.last_s,
        first_raw=first.raw_id,
        last_raw=last.raw_id,
        follows_s=math.nan if first.follows_s is None else first.follows_s,
        first_kept=first.kept,
        last_kept=last.kept,
        first_box=tuple(first.boxes[0].tolist()),
        last_box=tuple(last.boxes[-1].tolist()),
    )


def _chained(groups: list[list[Chain]], follows: Mapping[int, int]) -> list[list[Chain]]:
    """Return groups, each with those that follow it."""
    behind = set(follows.values())
    chained = []
    for number in range(len(groups)):
        if number not in behind:
            whole = list(groups[number])
            while number in follows:
                number = follows[number]
                whole += groups[number]
            chained.append(whole)
    return chained
