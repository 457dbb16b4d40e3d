"""Take away from a camera what was purged: its rows, and all that its rows were made from or have made.

    mark, rule ──> refined tables ──> parts ──> staged segments ──> labels ──> no mark
    `purged`        a generation       one entry: all of it at once

What stays keeps its track_ids and is not looked at again. The parts that something goes from, and those
behind them whose state of tracking still remembers it, are written anew as one; its entry takes their
place, by a rename. Whoever dies on the way leaves the mark: it is done again, and comes out equal.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.atomic import remove, writing
from pipeline.clock import CameraClock
from pipeline.cut_part import cut_parts
from pipeline.doomed import Doomed, Share, look
from pipeline.identity import from_plain
from pipeline.label_purge import purge_labels
from pipeline.lease import check_held
from pipeline.ledger import CameraLedger, Part
from pipeline.purged import (
    Begin,
    Purge,
    Purges,
    marked,
    read_begin,
    unmark,
    write_begin,
    write_refined_id,
)
from pipeline.records import Footage
from pipeline.refined import FOLDER as REFINED
from pipeline.refined import MANIFEST, read_refined, sweep_refined
from pipeline.staging import Staging
from pipeline.store import fetched
from pipeline.tables import timestamp
from pipeline.track import TrackSettings
from pipeline.trackers import forgotten


def finish_purge(
    output: Path, camera_id: str, purges: Purges, track: TrackSettings, attempt_id: str
) -> bool:
    """Take away what is marked to go from a camera; return whether there was anything.

    Args:
        output: Root of the tables.
        camera_id: Its lease must be held.
        purges: All that was purged.
        track: As the tracks were made with.
        attempt_id: Who holds the lease.

    Raises:
        OutputError: Something is damaged, or cannot be written, or another run has the camera.
    """
    name = marked(output, [camera_id]).get(camera_id)
    if name is None:
        return False
    for purge in purges.each:
        if purge.name == name:
            _Taking(output, camera_id, purge, attempt_id).take(track)
    unmark(output, camera_id)
    return True


class _Taking:
    """What is being taken away from a camera."""

    def __init__(self, output: Path, camera_id: str, purge: Purge, attempt_id: str) -> None:
        self._output, self._camera_id = output, camera_id
        self._purge, self._attempt_id = purge, attempt_id
        self._ledger = CameraLedger(output, camera_id)
        self._staging = Staging(output, camera_id)

    def take(self, track: TrackSettings) -> None:
        """Take it."""
        check_held(self._output, self._camera_id, self._attempt_id)
        before = self._purge.before
        # Entries that were merged would count again if the merged one were taken back.
        self._ledger.sweep()
        doomed = look(self._output, self._camera_id, before, self._purge.footage_names)
        parts = self._ledger.parts()
        if before is None or doomed.touched:
            self._note_refined_ids(before)
            with writing(self._output):
                remove(self._ledger.folder / MANIFEST)
        sweep_refined(self._output, self._camera_id)
        if before is None:
            self._take_all(parts)
        elif doomed.touched:
            self._cut(parts, doomed, before, track)
        self._ledger.sweep()
        self._sweep_staged(before)
        purge_labels(self._output, self._camera_id, doomed, before, self._attempt_id)

    def _note_refined_ids(self, before: datetime | None) -> None:
        """Write down which refined track_id comes behind those of tracks that go as a whole."""
        refined = read_refined(self._output, self._camera_id)
        greatest = 0
        for file in refined.files if refined else ():
            if file.path.startswith(f"{REFINED}/tracks/"):
                with fetched(self._output / file.path) as (there,):
                    rows = pq.ParquetFile(there).read(columns=["track_id", "last_timestamp"])
                if before is not None:
                    rows = rows.filter(pc.less(rows.column("last_timestamp"), pa.scalar(before)))
                greatest = max(greatest, pc.max(rows.column("track_id")).as_py() or 0)
        if greatest:
            write_refined_id(self._output, self._camera_id, greatest + 1)

    def _take_all(self, parts: Sequence[Part]) -> None:
        """Take all parts away, the last first; ids go on behind them."""
        if parts:
            state = parts[-1].state
            self._begin_behind(parts[-1], state["tracker"]["next_id"], state["clock"])
        for part in reversed(parts):
            self._ledger.take_back(part)

    def _begin_behind(self, last: Part, next_id: int, clock: dict[str, Any]) -> None:
        # Of one that is to be tracked again it has been told.
        if last.track_hash:
            begin = Begin(tracker=forgotten(last.state["tracker"], next_id), clock=clock)
            write_begin(self._output, self._camera_id, last.track_hash, begin)

    def _clock_behind(
        self, past: Sequence[Share], track_hash: str, carry_over_s: float
    ) -> dict[str, Any]:
        """Return the state of the camera's clock behind footage that goes."""
        clock, start = CameraClock(carry_over_s), ""
        if begin := read_begin(self._output, self._camera_id, track_hash):
            clock.restore(begin.clock)
            start = begin.clock["start"] or ""
        for share in past:
            began = share.footage.start_time
            if began is None or (start and began <= datetime.fromisoformat(start)):
                # It has been there before, with an earlier purge or a try that died.
                continue
            clock.begin(share.footage)
            if share.last_pts_s is not None:
                clock.read(share.footage, share.last_pts_s)
        return clock.state()

    def _cut(
        self, parts: Sequence[Part], doomed: Doomed, before: datetime, track: TrackSettings
    ) -> None:
        """Write the parts that have something of what goes anew, as one."""
        clean = (n for n in range(doomed.touched[-1], len(parts)) if is_clean(parts[n], before))
        last = next(clean, None)
        group = list(parts if last is None else parts[: last + 1])
        staying = [p for p in group if any(each.key not in doomed.whole for each in p.covered)]
        if not staying and len(group) < len(parts):
            # Somebody has to take the numbers of those that go.
            staying = [parts[len(group)]]
            group += staying
        if not staying:
            self._take_all(parts)
            return
        numbers = {part.first for part in staying}
        gone = [part for part in group if part.first not in numbers]
        next_id = max((part.state["tracker"]["next_id"] for part in gone), default=1)
        span = group[0].first, group[-1].last
        cut = cut_parts(self._output, staying, span, doomed, before, track)
        if not doomed.undated:
            clock = self._clock_behind(doomed.past, group[-1].track_hash, track.carry_over_s)
            self._begin_behind(group[-1], max(next_id, cut.next_id), clock)
        part = cut.part
        if last is None:
            part = self._to_be_tracked_again(part)
        check_held(self._output, self._camera_id, self._attempt_id)
        self._ledger.commit(part)

    def _to_be_tracked_again(self, part: Part) -> Part:
        """Return a part, the last of a log that goes on, without what tracking remembers.

        No settings are such that its tracks would be theirs, so the next start tracks it again.
        """
        tracker = part.state["tracker"]
        nobody = {
            "tracker": forgotten(tracker, tracker["next_id"]),
            "filler": {"footages": [], "frames": []},
            "movement": {"tracks": []},
            "clock": part.state["clock"],
        }
        return replace(part, track_hash="", is_final=False, state=nobody)

    def _sweep_staged(self, before: datetime | None) -> None:
        """Remove staged segments, but those of footage that is known to stay as a whole."""

        def stays(footage: Footage) -> bool:
            is_late = footage.start_time is None or before is None or footage.start_time >= before
            return before is not None and is_late

        covered = (each for part in self._ledger.parts() for each in part.covered)
        known = [*self._staging.noted(), *(from_plain(each.footage) for each in covered)]
        self._staging.sweep({each.evidence_id: 0 for each in known if stays(each)})


def is_clean(part: Part, before: datetime) -> bool:
    """Say whether the state of tracking behind a part has nothing of before a moment."""
    filler: Mapping[str, Any] = part.state["filler"]
    footages = [from_plain(plain) for plain in filler["footages"]]
    held = [
        timestamp(footages[f["footage"]].start_time, f["pts_s"] - footages[f["footage"]].origin_s)
        for f in filler["frames"]
    ]
    told = [each["first_moment"] for each in part.state["movement"]["tracks"]]
    began = [datetime.fromisoformat(moment) for moment in told if moment]
    return all(moment >= before for moment in (*began, *filter(None, held)))
