"""Which pieces of tracks follow which: only where nothing else comes near being as likely.

    a ●───┐              b ●┄┄┄┐┄┄┄┄┐        a goes on as c: nobody else could.
          v                    v    v        b goes on as d or as e: it could be either, for they are
        c ●────              d ●─── e ●──    there at the same time. So it ends, and both begin.

A false join makes one person of two, and no later step can tell; a split is a second row.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.records import ROUNDING_S

Float64s = NDArray[np.float64]
Int64s = NDArray[np.int64]

# In heights of a person: what a box may be off, and what a runner makes in a second.
NEAR, FASTEST = 0.5, 3.0
# By how much a person's box may grow or shrink out of sight.
LARGEST = 3.0
# Who is in sight all the time may turn on the spot, against all that the walk before tells: 1 in 20.
TURN = -3.0
_MOST = 1000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """When a piece, or what was made of several, is in sight.

    Attributes:
        first_raw: The tracker's id where it begins.
        last_raw: And where it ends.
        follows_s: Where it was cut from another, which was in sight all the time: the other's end.
        first_kept: Least log odds that the tracker has mixed up nobody where it begins.
        last_kept: And where it ends.
        first_box: Corner to corner, in pixels.
        last_box: The same.
    """

    class_id: int
    first_s: float
    last_s: float
    first_raw: int
    last_raw: int
    follows_s: float
    first_kept: float
    last_kept: float
    first_box: tuple[float, ...]
    last_box: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkSettings:
    """When a link is sure.

    Attributes:
        least: Least log odds of a link.
        margin: By how much those of every rival must be less.
        gone: By how much a second out of sight lessens the log odds: who does not come back soon has
            gone, through a door, say.
        same_raw: What it adds to the log odds that the tracker gave both one id.
    """

    least: float
    margin: float
    gone: float
    same_raw: float


def sure_links(
    stretches: Sequence[Stretch],
    since_s: float,
    within_s: float,
    odds: Callable[[Int64s, Int64s], Float64s],
    settings: LinkSettings,
) -> dict[int, int]:
    """Return which stretch is followed by which, by their places.

    Args:
        stretches: Of one camera.
        since_s: Only what ends, and what begins, behind it is linked; who ended before is a rival.
        within_s: Longest time between an end and a beginning.
        odds: Returns the (n,) log odds that stretches at n places go on as those at n others.
        settings: When a link is sure.
    """
    if not stretches:
        return {}
    columns_of = (np.array(each) for each in zip(*map(_told, stretches), strict=True))
    kind, first_s, last_s, first_raw, last_raw, *cuts, first_box, last_box = columns_of
    follows_s, first_kept, last_kept = cuts
    gap_s = first_s[None] - last_s[:, None]
    is_open = (gap_s > 0) & (gap_s <= within_s + ROUNDING_S) & (kind[:, None] == kind)
    is_open &= first_s > since_s
    rows, columns = np.nonzero(is_open)
    is_near = _is_in_reach(last_box[rows], first_box[columns], gap_s[rows, columns])
    rows, columns = rows[is_near], columns[is_near]
    table = np.full(gap_s.shape, -np.inf)
    if len(rows):
        is_same = last_raw[rows] == first_raw[columns]
        is_in_sight = is_same & (follows_s[columns] == last_s[rows])
        kept = np.maximum(np.minimum(last_kept[rows], first_kept[columns]), 0.0)
        walk = odds(rows, columns) - settings.gone * gap_s[rows, columns]
        walk = np.where(is_in_sight, np.maximum(walk, TURN) + np.minimum(kept, _MOST), walk)
        table[rows, columns] = walk + settings.same_raw * is_same
    together = (first_s[:, None] <= last_s) & (first_s <= last_s[:, None])
    np.fill_diagonal(together, val=False)
    sure = [
        (gap_s[i, j], i, j)
        for i, j in zip(
            *(each.tolist() for each in np.nonzero(table >= settings.least)), strict=True
        )
        if last_s[i] > since_s
        # A rival is another link of either, with one who is there at the same time.
        if table[i, j]
        - max(
            table[i, together[j]].max(initial=-np.inf), table[together[i], j].max(initial=-np.inf)
        )
        >= settings.margin
    ]
    follows: dict[int, int] = {}
    # Of several that follow one another, the next one.
    for _, i, j in sorted(sure):
        if i not in follows and j not in follows.values():
            follows[i] = j
    return follows


def _told(stretch: Stretch) -> tuple[object, ...]:
    return tuple(getattr(stretch, name) for name in Stretch.__slots__)


def _is_in_reach(before: Float64s, behind: Float64s, gap_s: Float64s) -> NDArray[np.bool]:
    """Return (n,) whether anybody could have come from one box to the other: no need to reckon else.

    Args:
        before: (n, 4) corner to corner.
        behind: (n, 4)
        gap_s: (n,) meanwhile.
    """
    heights = [box[:, 3] - box[:, 1] for box in (before, behind)]
    less, more = np.minimum(*heights), np.maximum(*heights)
    way = np.abs(before[:, :2] + before[:, 2:] - behind[:, :2] - behind[:, 2:]).max(axis=1) / 2
    return np.asarray((way <= (NEAR + FASTEST * gap_s) * more) & (more <= LARGEST * less))
