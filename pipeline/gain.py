"""What became whole on disk: the count that progress, limits of failure and live metrics go by."""

import operator
from dataclasses import astuple, dataclass


@dataclass(frozen=True, slots=True)
class Gain:
    """What became whole.

    Attributes:
        frames: Frames that were looked at.
        segments: Segments, with those set aside.
        failed: Segments that were set aside.
        lost: Frames that were set aside.
    """

    frames: int = 0
    segments: int = 0
    failed: int = 0
    lost: int = 0

    def __add__(self, other: "Gain") -> "Gain":
        return Gain(*map(operator.add, astuple(self), astuple(other)))
