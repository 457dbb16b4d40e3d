"""`footfall evaluate OUTPUT --truth GT.txt`: a movement log beside what people saw who drew it by hand.

HOTA, DetA, AssA (Luiten et al. 2020), MOTA and switches (CLEAR), IDF1, by `trackeval`, on all frames
from the first to the last that the truth has a box in.
"""

import argparse
import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from jobs.console import printable, wide_console
from jobs.exits import EXIT_OK, ending
from jobs.mot import Tracks, read_mot
from jobs.one_track import ask, find
from pipeline.boxes import assign, intersection_over_union

# What MOTChallenge calls a match.
_LEAST_OVERLAP = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """How near tracks come to the truth; shares of 1.

    Attributes:
        switches: How often a person's track_id changed.
        people: In the truth.
        tracks: In the log.
    """

    hota: float
    det_a: float
    ass_a: float
    mota: float
    idf1: float
    switches: int
    people: int
    tracks: int


def quality(truth: Tracks, found: Tracks) -> Quality:
    """Hold tracks against the truth of the same frames.

    As MOTChallenge does, boxes of a track on what the truth says to ignore are not counted.
    """
    from trackeval.metrics import CLEAR, HOTA, Identity

    ignored = truth.confidence == 0
    found = found.where(~_on_ignored(truth, ignored, found))
    data = _as_trackeval(truth.where(~ignored), found)
    hota = HOTA().eval_sequence(data)
    clear = CLEAR({"PRINT_CONFIG": False}).eval_sequence(data)
    identity = Identity({"PRINT_CONFIG": False}).eval_sequence(data)
    return Quality(
        hota=float(np.mean(hota["HOTA"])),
        det_a=float(np.mean(hota["DetA"])),
        ass_a=float(np.mean(hota["AssA"])),
        mota=float(clear["MOTA"]),
        idf1=float(identity["IDF1"]),
        switches=int(clear["IDSW"]),
        people=data["num_gt_ids"],
        tracks=data["num_tracker_ids"],
    )


def _on_ignored(truth: Tracks, ignored: NDArray[np.bool], found: Tracks) -> NDArray[np.bool]:
    """Return (n,): the boxes that fit best to one of the truth's that is to be ignored."""
    on = np.zeros(len(found.frame), bool)
    for frame in np.unique(truth.frame[ignored]):
        there, here = np.flatnonzero(truth.frame == frame), np.flatnonzero(found.frame == frame)
        overlap = intersection_over_union(truth.boxes[there], found.boxes[here])
        rows, columns = assign(1 - overlap, _LEAST_OVERLAP)
        on[here[columns]] = ignored[there[rows]]
    return on


def _as_trackeval(truth: Tracks, found: Tracks) -> dict[str, Any]:
    """Return what `trackeval` calls a sequence: ids from 0, and how alike boxes are, frame by frame."""
    # Frames without any box change no measure.
    frames = np.unique(np.concatenate([truth.frame, found.frame]))
    sides = []
    for side in (truth, found):
        ids, numbers = np.unique(side.track_id, return_inverse=True)
        bounds = [*np.searchsorted(side.frame, frames), len(side.frame)]
        places = [slice(a, b) for a, b in pairwise(bounds)]
        sides.append((len(ids), [numbers[place] for place in places], places))
    (people, seen, there), (tracks, given, here) = sides
    return {
        "num_timesteps": len(frames),
        "num_gt_ids": people,
        "num_tracker_ids": tracks,
        "num_gt_dets": len(truth.frame),
        "num_tracker_dets": len(found.frame),
        "gt_ids": seen,
        "tracker_ids": given,
        "similarity_scores": [
            intersection_over_union(truth.boxes[a], found.boxes[b])
            for a, b in zip(there, here, strict=True)
        ],
    }


def within(truth: Tracks, found: Tracks) -> Tracks:
    """Return the tracks in the frames that the truth is of; the log says if there are others."""
    first, last = int(truth.frame.min()), int(truth.frame.max())
    inside = (first <= found.frame) & (found.frame <= last)
    if not inside.all():
        logging.getLogger("jobs.evaluate").warning(
            "The truth is of frames %d to %d: %d of %d boxes of the log are in others and left out",
            first + 1,
            last + 1,
            int((~inside).sum()),
            len(inside),
        )
    return found.where(inside)


def main(arguments: Sequence[str] | None = None) -> int:
    """Hold the movement log of a video track against truth in MOTChallenge's form."""
    parser = argparse.ArgumentParser(prog="footfall evaluate", description=main.__doc__)
    ask(parser)
    parser.add_argument("--truth", required=True, metavar="GT.txt", help="frames from 1")
    options = parser.parse_args(arguments)
    return ending("evaluate", lambda: _evaluate(options))


def _evaluate(options: argparse.Namespace) -> int:
    log, truth = find(options), read_mot(Path(options.truth))
    found = quality(truth, within(truth, log.tracks()))
    table = Table(box=None, pad_edge=False)
    for column in ("HOTA", "DetA", "AssA", "MOTA", "IDF1", "switches", "people", "tracks"):
        table.add_column(column, justify="right")
    shares = (found.hota, found.det_a, found.ass_a, found.mota, found.idf1)
    counts = (found.switches, found.people, found.tracks)
    table.add_row(*(f"{100 * share:.1f}" for share in shares), *map(str, counts))
    console = wide_console()
    console.print(f"{printable(log.source_uri)}, video track {log.video_track}", soft_wrap=True)
    console.print(table)
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
