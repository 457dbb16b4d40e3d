"""How sure it is that a track is a person: what the detector's scores amount to, look by look.

A score is taken for the probability that there is a person. Looks at one who walks are independent once
the picture is another, so their log odds add up; who stands still looks the same again, error and all:

    score   .55  .57      .55  .58         .56                 .58 .57 .59 .58 .58 .58
             ●────●  ····  ●────●  ····     ●                   ●●●●●● stands
            one look      another          a third             one look, the best: .59
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Float64s = NDArray[np.float64]

# In heights of a person: so far from the last look the next one is another.
APART = 0.5
# So many of a track are remembered.
MOST_LOOKS = 64
_NEARLY = 1e-6


@dataclass(slots=True, eq=False)
class Look:
    """A person in one place.

    Attributes:
        at: (2,) middle of the box, in pixels.
        height_px: Of the box.
        score: The best there.
    """

    at: Float64s
    height_px: float
    score: float

    @classmethod
    def of(cls, box: Float64s, score: float) -> "Look":
        """Return what a (4,) box tells, corner to corner."""
        return cls((box[:2] + box[2:]) / 2, float(box[3] - box[1]), score)


def add_look(looks: list[Look], look: Look) -> None:
    """Put a look behind those of the same track: to the last one, where it is no other."""
    if looks:
        last = looks[-1]
        away_px = float(np.hypot(*(look.at - last.at)))
        # Of several that do not speak for a person, one is enough.
        is_idle = max(last.score, look.score) < 0.5  # noqa: PLR2004
        if is_idle or away_px < APART * max(last.height_px, look.height_px):
            last.score = max(last.score, look.score)
            return
        if len(looks) == MOST_LOOKS:
            looks.remove(min(looks, key=lambda each: each.score))
    looks.append(look)


def is_sure(looks: Iterable[Look], certain: float) -> bool:
    """Say whether looks, in order, are as sure as a single one of the score `certain` is."""
    apart: list[Look] = []
    for look in looks:
        add_look(apart, replace(look))
    if max(look.score for look in apart) >= certain:
        return True
    total = sum(max(0.0, _log_odds(look.score)) for look in apart)
    return total >= _log_odds(certain) > 0


def _log_odds(probability: float) -> float:
    within = min(max(probability, _NEARLY), 1 - _NEARLY)
    return math.log(within / (1 - within))
