"""What people did, as rows: crossings, entries, exits and stays; and the counts of them.

A row is told some seconds behind its frame, when it is certain (see `crossings` and `visits`). `counts`
are made of the same events, so that the two never differ.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.areas import Areas
from pipeline.counts import Counts
from pipeline.crossings import Crossing, Crossings
from pipeline.moment import Moment, clock_time, moment_of
from pipeline.records import TrackedFrame
from pipeline.tables import rows_table
from pipeline.visits import Visit, Visits


class EventLog:
    """The events and counts of one camera, frame after frame."""

    def __init__(self, class_names: Sequence[str] | Mapping[int, str], interval_s: float) -> None:
        """Begin with nobody.

        Args:
            class_names: Names by class_id.
            interval_s: Length of an interval of `counts`.
        """
        self._class_names = class_names
        self._crossings, self._visits = Crossings(), Visits()
        self._counts = Counts(interval_s)
        self._present: set[int] = set()
        self._rows: list[dict[str, Any]] = []
        self._lag_s = 0.0

    def push(self, frame: TrackedFrame, areas: Areas) -> None:
        """Take the next frame, and what is drawn into its picture."""
        if not (areas.lines or areas.zones):
            return
        here = {seen.track_id for seen in frame.observations}
        for track_id in sorted(self._present - here):
            self._end(track_id)
        self._present = here
        self._counts.frame(frame, areas)
        moments = [moment_of(frame, seen) for seen in frame.observations]
        for crossing in self._crossings.move(moments, areas):
            self._tell_crossing(crossing)
        if areas.zones and moments:
            inside = areas.inside(np.array([(m.x, m.y) for m in moments]))
            for moment, row in zip(moments, inside.tolist(), strict=True):
                for zone, is_inside in zip(areas.zones, row, strict=True):
                    for visit in self._visits.move(moment, zone, is_inside=is_inside):
                        self._tell_visit(visit)
        self._lag_s = max(
            [self._lag_s, *(zone.min_dwell_s + zone.debounce_s for zone in areas.zones)]
        )
        self._counts.settle(min(frame.time_s - self._lag_s, self._crossings.oldest_s))

    def cut(self) -> None:
        """End all that people are up to: nobody goes on into what comes."""
        for track_id in sorted(self._present):
            self._end(track_id)
        self._present = set()

    def flush(self) -> None:
        """End all that goes on: nothing more will come."""
        self.cut()
        self._counts.settle(math.inf)

    def _end(self, track_id: int) -> None:
        for crossing in self._crossings.end(track_id):
            self._tell_crossing(crossing)
        for visit in self._visits.end(track_id):
            self._tell_visit(visit)

    def _tell_crossing(self, crossing: Crossing) -> None:
        way = "in" if crossing.is_in else "out"
        self._tell("crossing", crossing.line, crossing.moment, direction=way)
        self._counts.note("line", crossing.line, crossing.moment.frame, is_in=crossing.is_in)

    def _tell_visit(self, visit: Visit) -> None:
        """Tell the entry of a visit, or the rest of it once it has ended."""
        if visit.is_over:
            assert visit.exit is not None
            self._tell("exit", visit.zone.name, visit.exit, dwell_s=visit.dwell_s)
            self._tell("stay", visit.zone.name, visit.entry, dwell_s=visit.dwell_s)
            self._counts.note("zone", visit.zone.name, visit.exit.frame, is_in=False)
        else:
            self._tell("entry", visit.zone.name, visit.entry)
            self._counts.note("zone", visit.zone.name, visit.entry.frame, is_in=True)

    def _tell(self, event_type: str, name: str, moment: Moment, **more: object) -> None:
        frame = moment.frame
        self._rows.append(
            {
                "source_uri": frame.footage.source_uri,
                "video_track": frame.footage.track.video_track,
                "frame_index": frame.frame_index,
                "pts_s": frame.pts_s,
                "timestamp": clock_time(frame),
                "event_type": event_type,
                "name": name,
                "track_id": moment.track_id,
                "class_id": moment.class_id,
                "class_name": self._class_names[moment.class_id],
                "x": moment.x,
                "y": moment.y,
                **more,
            }
        )

    def events(self) -> pa.Table:
        """Return the rows of `events` since the last call."""
        rows, self._rows = self._rows, []
        return rows_table("events", rows)

    def counts(self) -> pa.Table:
        """Return the rows of `counts` since the last call."""
        return rows_table("counts", self._counts.rows())
