"""Make tracks whole, with what an archive has and a live tracker lacks: the future.

    online     ●1●1●1        ●2●2●2●2         a track is cut where it may be two people's: where it was
    pieces     └─ a ─┘       └── b ──┘        out of sight, and where two people meet. What belongs
    linked     └──────── 1 ──────────┘        together is joined, short gaps before long ones; what is
    filled     ●1●1●1 ○1 ○1  ●1●1●1●1         between is filled, flicker dropped, trembling smoothed

It goes over a camera's frames once, some seconds behind the newest: a link is decided when all that
could rival it has been seen. So memory is bounded by `link_within_s`, whatever the footage's length.

    ──────── told ────────┤──── decided now ────┤── looked ahead at ──>
                        told_s               until_s             until_s + ahead
"""

import math
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import compress, pairwise
from operator import not_

import numpy as np
from numpy.typing import NDArray

from pipeline.boxes import intersection_over_smaller
from pipeline.chains import Chain, Joiner, settle
from pipeline.errors import ConfigError
from pipeline.link import LinkSettings
from pipeline.looks import is_sure
from pipeline.meeting import kept_odds
from pipeline.pieces import NEAR_S, Piece
from pipeline.records import ROUNDING_S, Observation, TrackedFrame
from pipeline.smooth import between, smoothed

Float64s = NDArray[np.float64]
Int64s = NDArray[np.int64]

STEP_S = 4.0
# A track that is out of sight for longer, or hidden by more, may go on as another's.
CUT_GAP_S = 0.15
CUT_HIDDEN = 0.5
# In half of `link_within_s` a share of 1 - 1/e of those who are out of sight in mid-picture is gone.
GONE = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RefineSettings:
    """How tracks are made whole.

    Attributes:
        link_within_s: Longest time out of sight that a track is joined over.
        min_track_s: A track that is in sight for less is flicker.
        certain: And so is one that was never as sure as a box of this score is; see `looks`.
        smooth_s: Boxes are averaged over about so long; 0 leaves them as they are.
        least_odds: Least log odds of a link: a false join costs as much as ten splits.
        margin: By how much those of every rival must be less.
        same_raw_odds: What it adds to the log odds that the tracker gave both pieces one id.
    """

    link_within_s: float = 2.0
    min_track_s: float = 0.3
    certain: float = 0.6
    smooth_s: float = 0.25
    least_odds: float = 2.3
    margin: float = 1.0
    same_raw_odds: float = 3.0

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if not 0 <= value < math.inf:
                raise ConfigError(f"refine.{each.name} = {value!r} is no number from 0 up")


class Refiner:
    """Makes the tracks of one camera whole.

    Attributes:
        unsure: Tracks that lasted long enough and are left out all the same: it was never certain
            that they are people.
    """

    def __init__(self, settings: RefineSettings, first_id: int = 1) -> None:
        """Begin with no track; the first is `first_id`."""
        self.unsure = 0
        self._settings = settings
        self._ahead_s = settings.link_within_s + NEAR_S
        # So far back a rival of a link may have ended, and a gap that is filled may have begun.
        self._back_s = max(self._ahead_s, 2 * settings.smooth_s) + NEAR_S
        self._next_id = first_id
        self._forget()

    def _forget(self) -> None:
        self._frames: deque[TrackedFrame] = deque()
        self._open: dict[int, Piece] = {}
        self._chains: list[Chain] = []
        self._told_s = -math.inf
        self._until_s: float | None = None
        self._looked_s: deque[float] = deque(maxlen=3)
        self._picture_px = (1, 1)
        link = LinkSettings(
            least=self._settings.least_odds,
            margin=self._settings.margin,
            gone=GONE / max(self._settings.link_within_s, ROUNDING_S),
            same_raw=self._settings.same_raw_odds,
        )
        self._joiner = Joiner(self._settings.link_within_s, link)

    def push(self, frame: TrackedFrame) -> Iterator[TrackedFrame]:
        """Take the next frame; yield those that cannot change any more, in order."""
        if self._until_s is None:
            self._until_s = frame.time_s + STEP_S
        while frame.time_s > self._until_s + self._ahead_s:
            yield from self._decide(self._until_s)
            # Nothing happens in a gap of the footage.
            idle_s = -math.inf if self._frames else frame.time_s - self._ahead_s
            self._until_s = max(self._until_s + STEP_S, idle_s)
        self._frames.append(frame)
        self._picture_px = frame.footage.track.upright_size
        if frame.is_looked_at:
            self._looked_s.append(frame.time_s)
            self._take(frame)

    def flush(self) -> Iterator[TrackedFrame]:
        """Yield what is held back, and end all tracks; ids go on."""
        yield from self._decide(math.inf)
        self._count_unsure(self._chains)
        self._forget()

    def _take(self, frame: TrackedFrame) -> None:
        """Put the boxes of a frame to their pieces, or begin new ones."""
        seen = [each for each in frame.observations if not each.is_interpolated]
        if not seen:
            return
        boxes = np.array([each.box for each in seen])
        is_near = intersection_over_smaller(boxes, boxes) > CUT_HIDDEN
        np.fill_diagonal(is_near, val=False)
        # Whose feet are lower in the picture stands in front.
        is_in_front = is_near & (boxes[:, 3] > boxes[:, None, 3])
        meeting, hidden = np.any(is_near, axis=1).tolist(), np.any(is_in_front, axis=1).tolist()
        since_s = frame.time_s - self._cut_gap_s() - ROUNDING_S
        before = {raw_id: p for raw_id, p in self._open.items() if p.last_s >= since_s}
        self._weigh(before, {each.track_id: each.box for each in seen}, frame.time_s)
        for each, is_meeting, is_hidden in zip(seen, meeting, hidden, strict=True):
            piece = before.get(each.track_id)
            if piece is None or piece.is_meeting != is_meeting:
                cut = piece
                piece = Piece(each.track_id, each.class_id, is_meeting, frame.time_s)
                if cut is not None:
                    piece.follows_s, piece.kept = cut.last_s, cut.kept_now
                self._open[each.track_id] = piece
                self._chains.append(Chain([piece], frame.time_s))
            assert each.confidence is not None
            piece.append(frame.time_s, each.box, each.confidence, is_hidden=is_hidden)

    def _weigh(
        self, before: Mapping[int, Piece], behind: Mapping[int, Float64s], time_s: float
    ) -> None:
        """Note how sure it is that those in sight are not mixed up in this step."""
        both = [raw_id for raw_id in before if raw_id in behind]
        if not both:
            return
        places, others = list(before), list(behind)
        odds = kept_odds(
            np.array([piece.boxes[-1] for piece in before.values()]),
            np.array(list(behind.values())),
            [(places.index(raw_id), others.index(raw_id)) for raw_id in both],
            time_s - min(before[raw_id].last_s for raw_id in both),
        )
        for raw_id, kept in zip(both, odds.tolist(), strict=True):
            before[raw_id].weigh(kept)

    def _cut_gap_s(self) -> float:
        """Return for how long a piece may be out of sight: steps that are all alike are no gap."""
        steps = [b - a for a, b in pairwise(self._looked_s)]
        return max(CUT_GAP_S, 1.5 * min(steps, default=0.0))

    def _decide(self, until_s: float) -> Iterator[TrackedFrame]:
        """Link for good what ends before `until_s`, and yield the frames before it."""
        groups = self._joiner.join(self._chains, self._told_s, self._picture_px)
        self._chains = [chain for group in groups for chain in settle(group, until_s)]
        frames = []
        while self._frames and self._frames[0].time_s <= until_s:
            frames.append(self._frames.popleft())
        yield from self._told(frames, groups)
        self._told_s = until_s
        self._forget_old(until_s)

    def _forget_old(self, until_s: float) -> None:
        """Forget what neither goes on nor is near enough to matter."""
        # What something follows does not go on, whatever the tracker says.
        lasts = {id(chain.pieces[-1]) for chain in self._chains}
        since_s = (
            self._looked_s[-1] - self._cut_gap_s() - ROUNDING_S if self._looked_s else -math.inf
        )
        self._open = {
            raw_id: piece
            for raw_id, piece in self._open.items()
            if id(piece) in lasts and piece.last_s >= since_s
        }
        going_on = {id(piece) for piece in self._open.values()}
        is_kept = [
            chain.last_s > until_s - self._ahead_s or id(chain.pieces[-1]) in going_on
            for chain in self._chains
        ]
        self._count_unsure(list(compress(self._chains, map(not_, is_kept))))
        self._chains = list(compress(self._chains, is_kept))
        for chain in self._chains:
            chain.forget_before(until_s - self._back_s)

    def _count_unsure(self, ended: Iterable[Chain]) -> None:
        self.unsure += sum(
            chain.track_id is None and self._lasts(chain.first_s, chain.last_s) for chain in ended
        )

    def _told(
        self, frames: Sequence[TrackedFrame], groups: Sequence[Sequence[Chain]]
    ) -> list[TrackedFrame]:
        """Return frames with the tracks that are in them."""
        times = np.array([frame.time_s for frame in frames])
        told = [replace(frame, observations=[]) for frame in frames]
        for group in sorted(groups, key=lambda group: group[0].first_s):
            if not self._is_person(group):
                continue
            first = np.searchsorted(times, group[0].first_s, side="left")
            stop = np.searchsorted(times, group[-1].last_s, side="right")
            self._tell(group, told[first:stop], times[first:stop])
        return told

    def _is_person(self, group: Sequence[Chain]) -> bool:
        """Say whether a chain is more than flicker; once told, it is."""
        first, settings = group[0], self._settings
        if first.track_id is not None:
            return True
        if not self._lasts(first.first_s, group[-1].last_s):
            return False
        return is_sure((look for chain in group for look in chain.looks()), settings.certain)

    def _lasts(self, first_s: float, last_s: float) -> bool:
        return last_s - first_s >= self._settings.min_track_s - ROUNDING_S

    def _tell(self, group: Sequence[Chain], frames: Sequence[TrackedFrame], at_s: Float64s) -> None:
        """Put a track into the frames that it is in."""
        if not frames:
            return
        if group[0].track_id is None:
            group[0].track_id = self._next_id
            self._next_id += 1
        pieces = [piece for chain in group for piece in chain.pieces]
        times = np.array([t for piece in pieces for t in piece.times_s])
        boxes = np.array([box for piece in pieces for box in piece.boxes])
        seen = {
            t: (score, piece.raw_id, seen_box)
            for piece in pieces
            for t, score, seen_box in zip(piece.times_s, piece.scores, piece.boxes, strict=True)
        }
        placed = self._placed(times, boxes, at_s)
        for frame, time_s, box in zip(frames, at_s.tolist(), placed, strict=True):
            score, raw_id, seen_box = seen.get(time_s, (None, None, None))
            frame.observations.append(
                Observation(
                    track_id=group[0].track_id,
                    class_id=pieces[0].class_id,
                    box=box,
                    confidence=score,
                    raw_id=raw_id,
                    seen_box=seen_box,
                )
            )

    def _placed(self, times: Float64s, boxes: Float64s, at_s: Float64s) -> Float64s:
        """Return (m, 4) boxes at the times of frames."""
        if not self._settings.smooth_s:
            return between(times, boxes, at_s)
        missing = np.setdiff1d(at_s, times)
        order = np.argsort(all_times := np.concatenate([times, missing]), kind="stable")
        all_boxes = np.concatenate([boxes, between(times, boxes, missing)])
        return smoothed(all_times[order], all_boxes[order], at_s, self._settings.smooth_s / 2)
