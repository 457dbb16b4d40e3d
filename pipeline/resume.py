"""What a run that is started again has still to do, camera by camera; and what it must do anew.

The chain of a camera's parts is right as far as it tells of the very footage that is wanted, in its
order, made in the same way. Behind that, parts are taken back: their detections become staged again,
as far as they hold, so that only tracking is repeated.

    wanted     A  B  C  D         E was changed since, or a recording X came late, between B and C
    parts     [A  B][C  D][E]     changed E:  [A B][C D] stay, E is detected again
                                  late X:     [A B] stays, C, D, E are tracked again behind X
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.evidence import Evidence
from pipeline.identity import age, from_plain
from pipeline.ledger import CameraLedger, Covered, Part
from pipeline.records import Footage, FootageEnd, FootageKey
from pipeline.staging import Staging, last_sound_segment
from pipeline.tail import Tail, progress

# A segment has about as many.
SEGMENT_FRAMES = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is left of a camera.

    Attributes:
        tail: None if all of it is done.
        taken_back: Parts that had to be taken back.
        changed: Recordings that changed, or whose settings did, since they were done.
        frames_left: Frames to look at, as far as the containers tell.
    """

    tail: Tail | None
    frames_left: int = 0
    taken_back: int = 0
    changed: tuple[str, ...] = ()


def prepare(
    output: Path,
    camera_id: str,
    wanted: Sequence[Footage],
    track_hash: str,
    *,
    moved: Collection[tuple[str, int]] = (),
    retry: bool = False,
) -> Plan:
    """Bring what is on disk of one camera into order, and return what is left to do.

    The camera's lease must be held.

    Args:
        output: Root of the tables.
        camera_id: The camera.
        wanted: Its footage, with evidence ids.
        track_hash: Of the settings that turn detections into tracks.
        moved: Video tracks that were this camera's, and are another's now.
        retry: Do again what has failed.

    Raises:
        OutputError: The ledger is damaged, or the output cannot be written.
    """
    ledger, staging = CameraLedger(output, camera_id), Staging(output, camera_id)
    # First of all: entries that were merged would count again if the merged one were taken back.
    ledger.sweep()
    parts = ledger.parts()
    order = _Order([*staging.noted(), *_footages_of(parts)], wanted, moved)
    again = _cut_offs(parts, wanted, staging) if retry else {}
    sound = order.count_sound(parts, track_hash, again)
    is_complete = not order.left(parts[:sound])
    if is_complete and parts and sound == len(parts) and parts[-1].is_final:
        staging.sweep({})
        return Plan(tail=None)
    if sound and (is_complete or parts[sound - 1].is_final):
        # More comes behind a log that was closed, or one was not closed that should have been.
        sound -= 1
    for part in reversed(parts[sound:]):
        _stage_again(output, staging, part, order)
        ledger.take_back(part)
    if retry:
        for footage in wanted:
            staging.forget_failures(footage)
    if not order.footages:
        staging.sweep({})
        return Plan(tail=None, taken_back=len(parts) - sound)
    tail = order.tail(parts[:sound], staging)
    firsts, _ = progress(tail, parts[:sound])
    staging.sweep({f.evidence_id: first for f, first in zip(tail.footages, firsts, strict=True)})
    return Plan(
        tail=tail,
        taken_back=len(parts) - sound,
        changed=order.changed,
        frames_left=_frames_left(tail, firsts, staging),
    )


def _frames_left(tail: Tail, firsts: Sequence[int], staging: Staging) -> int:
    left = 0
    for footage, stop, first in zip(tail.footages, tail.stops, firsts, strict=True):
        if stop is None and staging.end_of(footage) is None:
            have = SEGMENT_FRAMES * (first + len(staging.segments_of(footage)))
            left += max(0, footage.track.expected_frames - have) // footage.stride
    return left


def _key(footage: Footage) -> tuple[str, int]:
    return footage.source_uri, footage.track.video_track


def _footages_of(parts: Sequence[Part]) -> list[Footage]:
    return [from_plain(each.footage) for part in parts for each in part.covered]


def _cut_offs(
    parts: Sequence[Part], wanted: Sequence[Footage], staging: Staging
) -> dict[tuple[str, int], float]:
    """Return for each wanted footage the segment from which on its cut is in doubt, if one is."""
    ends = {
        each.key: end
        for part in parts
        for each in part.covered
        if (end := _end(each, from_plain(each.footage)))
    }
    ends |= {_key(footage): end for footage in wanted if (end := staging.end_of(footage))}
    cuts = {key: last_sound_segment(end) for key, end in ends.items()}
    return {
        _key(footage): math.inf if (cut := cuts.get(_key(footage))) is None else cut
        for footage in wanted
    }


class _Order:
    """All footage of a camera, that of the ledger and that is wanted now, oldest first."""

    def __init__(
        self,
        committed: Sequence[Footage],
        wanted: Sequence[Footage],
        moved: Collection[tuple[str, int]],
    ) -> None:
        known = {_key(footage): footage for footage in committed if _key(footage) not in moved}
        self._wanted = {_key(footage) for footage in wanted}
        both = {**known, **{_key(footage): footage for footage in wanted}}
        self.footages = sorted(both.values(), key=age)
        self._place = {_key(footage): place for place, footage in enumerate(self.footages)}
        self.changed = tuple(
            sorted(
                {
                    footage.source_uri
                    for footage in wanted
                    if (before := known.get(_key(footage)))
                    and before.evidence_id != footage.evidence_id
                }
            )
        )

    def holds(self, covered: Covered) -> bool:
        """Say whether detections that a part has are what would be made today."""
        place = self._place.get(covered.key)
        return place is not None and self.footages[place].evidence_id == covered.evidence_id

    def count_sound(
        self, parts: Sequence[Part], track_hash: str, again: Mapping[tuple[str, int], float]
    ) -> int:
        """Return how many parts, from the first on, are what this run would make.

        Args:
            parts: The chain.
            track_hash: Of this run's settings.
            again: The footage of which another try is made of what failed, and of what lies behind
                the segment that is named here.
        """
        place, has_ended = 0, False
        for number, part in enumerate(parts):
            if part.track_hash != track_hash:
                return number
            for covered in part.covered:
                if not covered.stop and not covered.is_ended:
                    continue
                if not self.holds(covered):
                    return number
                there = self._place[covered.key]
                between = self.footages[place + has_ended : there]
                passed_over = any(_key(footage) in self._wanted for footage in between)
                failed = covered.key in again and (
                    covered.failures or covered.stop > again[covered.key]
                )
                if there < place or passed_over or failed:
                    return number
                if there > place:
                    has_ended = False
                place, has_ended = there, has_ended or covered.is_ended
        return len(parts)

    def left(self, parts: Sequence[Part]) -> bool:
        """Say whether wanted footage has not come to its end in `parts`."""
        ended = {each.key for part in parts for each in part.covered if each.is_ended}
        return bool(self._wanted - ended)

    def tail(self, kept: Sequence[Part], staging: Staging) -> Tail:
        """Return the footage behind the kept parts."""
        covers = [each for part in kept for each in part.covered]
        ended = {each.key for each in covers if each.is_ended}
        reached = max(
            (self._place[each.key] for each in covers if each.stop and each.key in self._place),
            default=0,
        )
        footages: list[Footage] = []
        stops: list[int | None] = []
        for place, footage in enumerate(self.footages):
            key = _key(footage)
            is_wanted = key in self._wanted
            if key in ended or (not is_wanted and place < reached):
                continue
            first = max((each.stop for each in covers if each.key == key), default=0)
            sequence = FootageKey(camera_id=footage.key.camera_id, sequence=len(footages))
            footages.append(replace(footage, key=sequence))
            stops.append(None if is_wanted else _stop(footage, first, staging))
        return Tail(
            camera_id=footages[0].key.camera_id, footages=tuple(footages), stops=tuple(stops)
        )


def _stop(footage: Footage, first: int, staging: Staging) -> int | None:
    """Return how far footage goes that is not to be read any more; None if to its end."""
    staged, stop = staging.segments_of(footage), first
    while stop in staged:
        stop += 1
    end = staging.end_of(footage)
    return None if end and stop >= end.segments else stop


def _stage_again(output: Path, staging: Staging, part: Part, order: _Order) -> None:
    """Stage the detections of a part that is taken back, as far as they still hold."""
    evidence = Evidence(output, part)
    for covered in part.covered:
        if not order.holds(covered) or not (covered.stop or covered.is_ended):
            continue
        footage = from_plain(covered.footage)
        staging.note(footage)
        staging.keep(footage, list(evidence.segments(covered, footage)))
        if end := _end(covered, footage):
            staging.keep_end(footage, end)


def _end(covered: Covered, footage: Footage) -> FootageEnd | None:
    if not covered.is_ended:
        return None
    failures = tuple(failure for segment, failure in covered.failures if segment is None)
    return FootageEnd(footage=footage.key, segments=covered.stop, failures=failures)
