"""What is left of a camera's footage: told by `resume`, worked off by `camera_log`."""

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.ledger import Part
from pipeline.records import Footage, FootageKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Tail:
    """The footage behind what is committed: what a camera's log has still to do.

    Attributes:
        footages: Oldest first; each one's `sequence` is its place here.
        stops: For each, None; or the number of segments after which the log goes on without the
            footage's end, for the footage is not to be read any more.
    """

    camera_id: str
    footages: tuple[Footage, ...]
    stops: tuple[int | None, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """A footage that is not whole yet.

    Attributes:
        have: Segments that need not be made again.
    """

    footage: FootageKey
    have: frozenset[int]


def progress(tail: Tail, parts: Sequence[Part]) -> tuple[list[int], int]:
    """Return for each footage the segment that is next, and which footage is current."""
    places = {(f.source_uri, f.track.video_track): i for i, f in enumerate(tail.footages)}
    firsts, current = [0] * len(tail.footages), 0
    for covered in (each for part in parts for each in part.covered):
        place = places.get(covered.key)
        if place is not None:
            firsts[place] = max(firsts[place], covered.stop)
            # Whatever comes before footage that something is known of has been dealt with.
            current = max(
                current, place + covered.is_ended if covered.stop or covered.is_ended else 0
            )
    return firsts, current
