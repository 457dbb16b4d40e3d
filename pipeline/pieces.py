"""Pieces of tracks that are surely one person each, and how likely two of them are the same one.

A walker's box is a point in four dimensions: the middle's x, the upper edge, the width, the height. All
lengths are in heights of the person, so that near and far people are alike. A place moves as a Wiener
process in velocity does (Bar-Shalom et al. 2001, 6.2.2: white noise acceleration), a size drifts, and
both are seen through noise:

        piece a                    piece b
    ● ●  ●  ●●                    ●  ● ●  ●●           is it one walk, or two?
    ─────────────────────────────────────────> time
         ^ the last second        ^ the first second

The log odds are those of one process for both against one for each: a Bayes factor of Gaussian
processes. It sees all at once: place, velocity before and behind, size, and how sure each of these is
after so much time. Of a piece's last second no more matters to it than two numbers for each state, its
information: `End`.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pipeline.looks import Look, add_look

Float64s = NDArray[np.float64]
Int64s = NDArray[np.int64]

# Of all that follows the unit is the person's height.
# A walker's velocity changes by the square root of this in a second.
ACCELERATION = 0.05
# How far a box is off where its score is 1. Seen on footage with truth: 0.03 of the height for its
# middle, 0.02 for its upper edge and its height, 0.05 to 0.1 for its width, for legs swing. Errors of
# neighbouring frames are alike, so that each counts for less.
PLACE_NOISE, WIDTH_NOISE, HEIGHT_NOISE = 0.04, 0.1, 0.04
# Where the score is 0, it is so many times as far off (seen: 2 to 4 times below 0.4).
UNSURE = 4.0
# Where nothing is known: a walking pace; and people at about the same place look about as large.
SPEED = 0.8
SIZE = 0.2
# Who is hidden by another has a box of what is left to see: it may be half as high, or as wide.
HIDDEN_NOISE = 0.2
# A person's size in the picture changes so much in a second.
SIZE_DRIFT = 0.1
# Who vanishes at the edge of the picture has most likely left, who appears there has most likely
# come: 20 to 1.
AT_EDGE = 3.0
EDGE = 0.02

# What a link needs of either side.
NEAR_S = 1.0
_MOST_ROWS = 12
# The noise of a row that is none: a variance beside which everything else counts.
_NOTHING = 1e12


@dataclass(slots=True, eq=False)
class Piece:
    """Consecutive boxes of one person.

    Attributes:
        raw_id: The tracker's id.
        is_meeting: Another hides the person by much, or is hidden.
        follows_s: When the one was seen last that it was cut from, in sight all the time; else None.
        kept: Least log odds, of all its looks, that the tracker has not mixed it up with another.
        kept_now: The same, of the last look alone.
        times_s: Rising; what is long past may be gone.
        boxes: (4,) each, corner to corner in pixels.
        hidden: Whether another stood in front of it.
        looks: What is to be known of all its boxes' scores.
    """

    raw_id: int
    class_id: int
    is_meeting: bool
    first_s: float
    follows_s: float | None = None
    kept: float = np.inf
    kept_now: float = np.inf
    times_s: list[float] = field(default_factory=list)
    boxes: list[Float64s] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    hidden: list[bool] = field(default_factory=list)
    looks: list[Look] = field(default_factory=list)

    @property
    def last_s(self) -> float:
        """When it was seen last."""
        return self.times_s[-1]

    def append(self, time_s: float, box: Float64s, score: float, *, is_hidden: bool) -> None:
        """Take the next box."""
        self.times_s.append(time_s)
        self.boxes.append(box)
        self.scores.append(score)
        self.hidden.append(is_hidden)
        add_look(self.looks, Look.of(box, score))

    def weigh(self, kept: float) -> None:
        """Take the log odds that the tracker was right to go on with it, one look more."""
        self.kept, self.kept_now = min(self.kept, kept), kept

    def forget_before(self, time_s: float) -> None:
        """Drop the boxes before `time_s`, but not the last one."""
        kept = min(bisect_left(self.times_s, time_s), len(self.times_s) - 1)
        del self.times_s[:kept], self.boxes[:kept], self.scores[:kept], self.hidden[:kept]


@dataclass(frozen=True, slots=True, eq=False)
class End:
    """What the last second of a piece, or the first one, tells of the person at its very end.

    As information: a matrix L and a vector e of each state, so that its likelihood is
    exp(-s'Ls/2 + e's), in heights from `at`.

    Attributes:
        time_s: When that is.
        at: (4,) middle x, upper edge, width, height of the last box, in pixels.
        height_px: The median: the unit.
        walk: (2, 2) of place and velocity, the same for x and y.
        walk_e: (2, 2) x and y, each of place and velocity.
        size: (2,) of width and height.
        size_e: (2,)
    """

    time_s: float
    at: Float64s
    height_px: float
    walk: Float64s
    walk_e: Float64s
    size: Float64s
    size_e: Float64s


def ends_of(people: Sequence[Sequence[Piece]], *, is_last: bool) -> list[End]:
    """Return how each of several people ends, or begins: the pieces of one follow one another."""
    if not people:
        return []
    rows = [_nearest(pieces, is_last=is_last) for pieces in people]
    times, corners, scores, hidden, given = (np.array(each) for each in zip(*rows, strict=True))
    ages = np.abs(times - times[:, :1])
    points = np.concatenate(
        [(corners[..., :1] + corners[..., 2:3]) / 2, corners[..., 1:2], corners[..., 2:]], axis=2
    )
    points[..., 2:] -= corners[..., :2]
    units = np.maximum(np.median(points[..., 3], axis=1), 1.0)
    off = (points - points[:, :1]) / units[:, None, None]
    noise = (1 + (UNSURE - 1) * (1 - scores) ** 2) ** 2
    # What only fills a row up tells nothing.
    noise[np.arange(_MOST_ROWS) >= given[:, None]] = _NOTHING
    noise = noise[..., None] * np.eye(_MOST_ROWS)
    near = np.minimum(ages[:, :, None], ages[:, None])
    far = np.maximum(ages[:, :, None], ages[:, None])
    walk = ACCELERATION * near**2 * (3 * far - near) / 6 + PLACE_NOISE**2 * noise
    drift = SIZE_DRIFT**2 * near + (HIDDEN_NOISE * hidden)[..., None] ** 2 * np.eye(_MOST_ROWS)
    one = np.ones_like(ages)
    seen = np.stack([one, -ages if is_last else ages], axis=2)
    weights = np.linalg.solve(walk, seen)
    walks, walk_es = seen.transpose(0, 2, 1) @ weights, off[..., :2].transpose(0, 2, 1) @ weights
    sizes = np.stack(
        [
            np.linalg.solve(drift + deviation**2 * noise, one[..., None])[..., 0]
            for deviation in (WIDTH_NOISE, HEIGHT_NOISE)
        ],
        axis=2,
    )
    size_es = (sizes * off[..., 2:]).sum(axis=1)
    told = zip(times[:, 0].tolist(), points[:, 0], units.tolist(), walks, walk_es, strict=True)
    return [
        End(*each, size, size_e)
        for each, size, size_e in zip(told, sizes.sum(axis=1), size_es, strict=True)
    ]


def _nearest(
    pieces: Sequence[Piece], *, is_last: bool
) -> tuple[list[float], list[Float64s], list[float], list[bool], int]:
    """Return times, boxes, scores, and whether hidden, of the rows nearest to an end.

    They are so many that they tell the rest. Where there are fewer, the last one fills up; the number
    behind is that of the real ones.
    """
    rows: list[tuple[float, Float64s, float, bool]] = []
    for piece in reversed(pieces) if is_last else pieces:
        count = len(piece.times_s)
        for i in range(count - 1, -1, -1) if is_last else range(count):
            row = piece.times_s[i], piece.boxes[i], piece.scores[i], piece.hidden[i]
            if rows and abs(row[0] - rows[0][0]) > NEAR_S:
                break
            rows.append(row)
        else:
            continue
        break
    step = (len(rows) - 1) / (_MOST_ROWS - 1)
    chosen = rows if step <= 1 else [rows[round(i * step)] for i in range(_MOST_ROWS)]
    filled = chosen + chosen[-1:] * (_MOST_ROWS - len(chosen))
    times, boxes, scores, hidden = zip(*filled, strict=True)
    return list(times), list(boxes), list(scores), list(hidden), len(chosen)


def log_odds(
    ends: Sequence[End],
    beginnings: Sequence[End],
    pairs: tuple[Int64s, Int64s],
    picture_px: tuple[int, int],
) -> Float64s:
    """Return the log odds that pieces go on as others: that both are one person's.

    Before anything else is known, that is as likely as not, and another person may be anywhere.

    Args:
        ends: How pieces end.
        beginnings: How others begin.
        pairs: (n,) places in `ends`, and (n,) in `beginnings` of one that begins behind it.
        picture_px: Width and height of the frames.

    Returns:
        (n,)
    """
    a, b = _Stack.of(ends).take(pairs[0]), _Stack.of(beginnings).take(pairs[1])
    gaps = b.time_s - a.time_s
    unit = a.height_px[:, None]
    # The Gaussian whose peak is as high as the density of a place anywhere in the picture.
    place = (picture_px[0] * picture_px[1] / (2 * np.pi)) ** 0.5 / a.height_px
    total = -AT_EDGE * (_is_at_edge(a.at, picture_px) * 1.0 + _is_at_edge(b.at, picture_px))
    # In heights of the first, from where it ends.
    scale = a.height_px / b.height_px
    moved = (b.at - a.at) / unit
    known = np.zeros((len(gaps), 2, 2))
    known[:, 0, 0], known[:, 1, 1] = place**2, SPEED**2
    before = np.linalg.inv(a.walk + np.linalg.inv(known))
    step = np.zeros_like(known)
    step[:, 0, 0] = step[:, 1, 1] = 1.0
    step[:, 0, 1] = gaps
    then = step @ before @ step.transpose(0, 2, 1) + ACCELERATION * _spread(gaps)
    walk = b.walk * (scale**2)[:, None, None]
    for axis in range(2):
        mean = (step @ before @ a.walk_e[:, axis, :, None])[..., 0]
        mean[:, 0] -= moved[:, axis]
        e = b.walk_e[:, axis] * scale[:, None]
        total += _evidence(mean, then, walk, e) - _evidence(np.zeros_like(mean), known, walk, e)
    for axis in range(2):
        before_size = 1 / (a.size[:, axis] + SIZE**-2)
        mean = (before_size * a.size_e[:, axis] - moved[:, 2 + axis])[:, None]
        then_size = (before_size + SIZE_DRIFT**2 * gaps)[:, None, None]
        size = (b.size[:, axis] * scale**2)[:, None, None]
        e = (b.size_e[:, axis] * scale)[:, None]
        alone = np.full_like(then_size, SIZE**2)
        total += _evidence(mean, then_size, size, e) - _evidence(0 * mean, alone, size, e)
    return np.asarray(total)


@dataclass(frozen=True, slots=True)
class _Stack:
    """Ends on top of one another."""

    time_s: Float64s
    at: Float64s
    height_px: Float64s
    walk: Float64s
    walk_e: Float64s
    size: Float64s
    size_e: Float64s

    @classmethod
    def of(cls, ends: Sequence[End]) -> "_Stack":
        return cls(*(np.array([getattr(end, name) for end in ends]) for name in cls.__slots__))

    def take(self, places: Int64s) -> "_Stack":
        """Return those at (n,) places."""
        return _Stack(*(getattr(self, name)[places] for name in self.__slots__))


def _spread(gaps: Float64s) -> Float64s:
    """Return (n, 2, 2): what white acceleration of density 1 does to place and velocity meanwhile."""
    third, half = gaps**3 / 3, gaps**2 / 2
    return np.stack([np.stack([third, half], axis=-1), np.stack([half, gaps], axis=-1)], axis=-2)


def _evidence(mean: Float64s, covariance: Float64s, known: Float64s, e: Float64s) -> Float64s:
    """Return the log of the integral of N(s; mean, covariance) exp(-s'Ls/2 + e's), L = `known`.

    Args:
        mean: (n, k)
        covariance: (n, k, k)
        known: (n, k, k)
        e: (n, k)

    Returns:
        (n,)
    """
    one = np.eye(mean.shape[1])
    left = e - (known @ mean[..., None])[..., 0]
    mixed = one + known @ covariance
    pulled = (covariance @ np.linalg.solve(mixed, left[..., None]))[..., 0]
    told = 0.5 * (mean * (left + e)).sum(axis=1) + 0.5 * (left * pulled).sum(axis=1)
    return np.asarray(told - 0.5 * np.log(np.linalg.det(mixed)))


def _is_at_edge(at: Float64s, picture_px: tuple[int, int]) -> NDArray[np.bool]:
    """Return (n,) whether (n, 4) boxes touch the left, the right or the upper edge of the picture.

    Below, a camera that looks down often cuts people's feet off, wherever they are.
    """
    x, top, width, height = at.T
    near = EDGE * height
    left, right = x - width / 2, x + width / 2
    return np.asarray((left <= near) | (right >= picture_px[0] - near) | (top <= near))
