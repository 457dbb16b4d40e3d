"""Parts of a camera's log, written anew as one without what a purge is about.

parts      [A A][A B][B C]          A goes, and the beginning of B
one part         [- B  B C]         with their frames, detections, movements, metrics, filtered;
                                    tracks that went over the cut are told anew, from the rows that stay
"""

import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.atomic import FileEntry
from pipeline.compact import merge
from pipeline.doomed import Doomed, by_footage, stay
from pipeline.ledger import Covered, Part, camera_tag
from pipeline.movement import MovementLog, MovementSettings
from pipeline.online import OnlineLog
from pipeline.purged import FootageName
from pipeline.records import TrackedFrame
from pipeline.sink import PartWriter, made_by, write_table
from pipeline.store import fetched
from pipeline.tables import Provenance, failures_table
from pipeline.track import TrackSettings

# Frames that are told anew at once.
_FRAMES_AT_ONCE = 256
_COUNTED = ("ledger", "detections", "movements")


@dataclass(frozen=True, slots=True, kw_only=True)
class CutPart:
    """A part that was written anew; it has still to be entered.

    Attributes:
        next_id: Behind the greatest track_id of a row that went; 1 if none went.
    """

    part: Part
    next_id: int


def cut_parts(
    output: Path,
    group: Sequence[Part],
    numbers: tuple[int, int],
    doomed: Doomed,
    before: datetime,
    track: TrackSettings,
) -> CutPart:
    """Write parts of which something stays as one.

    Args:
        output: Root of the tables.
        group: The parts; those between them go as a whole.
        numbers: The first and last number of the new part.
        doomed: What goes.
        before: The moment.
        track: As the tracks were made with.

    Raises:
        OutputError: Something cannot be read or written.
    """
    rows = _Rows(doomed, before)
    merged = merge(
        output, [_without(part, "tracks", "failures") for part in group], rows.keep, numbers[0]
    )
    files = list(_needed(merged.files))
    covered = [rows.counted(each) for each in merged.covered if each.key not in doomed.whole]
    part = replace(merged, last=numbers[1], covered=tuple(covered), files=tuple(files))
    name = f"{numbers[0]:06}-{numbers[1]:06}-{uuid.uuid4().hex[:8]}"
    footer = _footer(output, files)
    again = _Again(output, part, track)
    tracks = PartWriter(output, part.camera_id, f"part-{name}", footer)
    tracks.tables = ("tracks",)
    for some in _tracks(output, group, before, again):
        tracks.write("tracks", some)
    failures = [failure for each in covered for _, failure in each.failures]
    files += tracks.publish()
    if failures:
        path = output / "failures" / f"{camera_tag(part.camera_id)}-part-{name}.parquet"
        files.append(write_table(output, path, failures_table(failures), footer))
    for each in covered:
        each.tracks = again.born[each.key]
    return CutPart(part=replace(part, files=tuple(files)), next_id=rows.last_id + 1)


def _table_of(file: FileEntry) -> str:
    return file.path.split("/")[0]


def _without(part: Part, *tables: str) -> Part:
    return replace(part, files=tuple(f for f in part.files if _table_of(f) not in tables))


def _needed(files: Iterable[FileEntry]) -> Iterator[FileEntry]:
    """Yield the files with rows, and of a table without any the last one."""
    by_table: dict[str, list[FileEntry]] = {}
    for file in sorted(files, key=lambda file: file.path):
        by_table.setdefault(_table_of(file), []).append(file)
    for same in by_table.values():
        yield from [file for file in same if file.rows] or same[-1:]


def _footer(output: Path, files: Iterable[FileEntry]) -> Provenance:
    path = next(output / file.path for file in files if _table_of(file) == "movements")
    with fetched(path) as (there,):
        return made_by(there)


class _Rows:
    """Tells which rows stay, and counts them.

    Attributes:
        last_id: The greatest track_id of a row that went.
    """

    def __init__(self, doomed: Doomed, before: datetime) -> None:
        self._doomed, self._before = doomed, before
        self._counts: dict[str, Counter[FootageName]] = {name: Counter() for name in _COUNTED}
        self.last_id = 0

    def keep(self, table: str, rows: pa.Table) -> pa.Table:
        """Return the rows of a table that stay."""
        mask = np.ones(len(rows), bool)
        for name, own in by_footage(rows):
            mask[own] = self._stay(table, name, rows.filter(pa.array(own)))
            if table in _COUNTED:
                self._counts[table][name] += int(mask[own].sum())
        if table == "movements" and not mask.all():
            gone = rows.column("track_id").filter(pa.array(~mask))
            self.last_id = max(self.last_id, pc.max(gone).as_py())
        return rows.filter(pa.array(mask))

    def _stay(self, table: str, name: FootageName, rows: pa.Table) -> NDArray[np.bool]:
        share = self._doomed.shares.get(name)
        if name in self._doomed.whole or share is None:
            return np.full(len(rows), name not in self._doomed.whole, bool)
        if table == "metrics":
            first = np.inf if share.first_kept is None else share.first_kept
            segments: NDArray[np.float64] = rows.column("segment").to_numpy().astype(float)
            return np.isnan(segments) | (segments >= first)
        return stay(share.footage, rows.column("pts_s").to_numpy(), self._before)

    def counted(self, covered: Covered) -> Covered:
        """Return what a part has of a footage once rows have gone."""
        share = self._doomed.cut.get(covered.key)
        # What failed between the last frame that goes and the first that stays may be of either.
        last_gone = share.last_gone if share else -1
        failures = [
            (segment, failure)
            for segment, failure in covered.failures
            if segment is None or segment >= last_gone
        ]
        counts = {name: self._counts[name][covered.key] for name in _COUNTED}
        return replace(
            covered,
            failures=failures,
            frames_failed=sum(failure.frames for _, failure in failures),
            frames=counts["ledger"],
            detections=counts["detections"],
            movements=counts["movements"],
        )


class _Again:
    """The tracks of a part, told anew from its movements.

    Attributes:
        born: How many tracks begin in each footage.
        rows: Those of the tracks that have ended.
    """

    def __init__(self, output: Path, part: Part, track: TrackSettings) -> None:
        log = OnlineLog(output, [part], track.carry_over_s, track.lost_after_s)
        movement = MovementLog(
            MovementSettings(class_names=log.class_names, end_s=track.lost_after_s)
        )
        tables: list[pa.Table] = []
        frames: list[TrackedFrame] = []
        for online in log.frames():
            if online.is_cut or len(frames) >= _FRAMES_AT_ONCE:
                movement.rows(frames)
                tables.append(movement.ended(all_of_them=online.is_cut))
                frames = []
            if online.frame.is_looked_at:
                frames.append(online.frame)
        movement.rows(frames)
        tables.append(movement.ended(all_of_them=True))
        self.rows = pa.concat_tables(tables)
        self.born = Counter(
            (footage.source_uri, footage.track.video_track) for footage in movement.born()
        )


def _tracks(
    output: Path, group: Sequence[Part], before: datetime, again: _Again
) -> Iterator[pa.Table]:
    """Yield the rows of `tracks` that stay, and those of the tracks that began before the moment."""
    paths = [output / f.path for part in group for f in part.files if _table_of(f) == "tracks"]
    over: list[int] = []
    with fetched(*paths) as there:
        for path in there:
            rows = pq.ParquetFile(path).read().replace_schema_metadata(None)
            is_behind, is_over = (_is_not_before(rows, c, before) for c in _TIMES)
            yield rows.filter(is_behind)
            over += rows.filter(pc.and_not(is_over, is_behind)).column("track_id").to_pylist()
    yield again.rows.filter(pc.is_in(again.rows.column("track_id"), pa.array(over, pa.int64())))


_TIMES = ("first_timestamp", "last_timestamp")


def _is_not_before(rows: pa.Table, column: str, before: datetime) -> pa.ChunkedArray:
    moment = pa.scalar(before, rows.schema.field(column).type)
    return pc.fill_null(pc.greater_equal(rows.column(column), moment), True)
