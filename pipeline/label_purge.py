"""Labels of what was purged: rows, answers and failures of it go; calls that were made stay counted."""

import uuid
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.atomic import FileEntry
from pipeline.aws import AwsSettings
from pipeline.doomed import Doomed
from pipeline.label_ledger import LabelEntry, LabelLedger
from pipeline.label_log import LabelLog
from pipeline.label_tidy import recordings_told, written_labels
from pipeline.labels import LabelSettings
from pipeline.ledger import camera_tag
from pipeline.purged import FootageName
from pipeline.sink import made_by, write_table
from pipeline.store import fetched, s3_reach
from pipeline.tables import Provenance

# Of a frame, and when it was, if its rows tell.
_Moments = dict[tuple[FootageName, int], datetime | None]


def purge_labels(
    output: Path, camera_id: str, doomed: Doomed, before: datetime | None, attempt_id: str
) -> None:
    """Take labels of what a purge is about out of a camera's tables.

    Args:
        output: Root of the tables.
        camera_id: Its lease must be held.
        doomed: What the purge is about.
        before: The moment; None if all of the camera goes.
        attempt_id: Who holds the lease.

    Raises:
        OutputError: What is on disk is damaged, or cannot be written.
    """
    ledger = LabelLedger(output, camera_id)
    if not recordings_told(ledger):
        return
    keeps = _Keeps(doomed, before)
    settings = _settings(output, attempt_id, _footer(output, ledger))
    log = LabelLog(settings, camera_id)
    log.forget_failures(lambda track, key: not keeps(track, key[1], None))
    # What is only noted becomes an entry, too.
    log.close()
    for entry in ledger.entries():
        _shorten(settings, ledger, entry, keeps)
    ledger.sweep()


class _Keeps:
    """Says whether the labels of a frame stay."""

    def __init__(self, doomed: Doomed, before: datetime | None) -> None:
        self._doomed, self._before = doomed, before

    def __call__(self, track: FootageName, frame_index: int, moment: datetime | None) -> bool:
        if self._before is None or track in self._doomed.whole:
            return False
        share = self._doomed.shares.get(track)
        if share is not None:
            return share.first_frame is not None and frame_index >= share.first_frame
        return moment is None or moment >= self._before


def _settings(output: Path, attempt_id: str, provenance: Provenance) -> LabelSettings:
    """Return settings of labels that nobody asks for."""
    return LabelSettings(
        output=output,
        aws=AwsSettings(),
        every=1,
        max_tps=1.0,
        provenance=provenance,
        attempt_id=attempt_id,
        store=s3_reach(),
    )


def _footer(output: Path, ledger: LabelLedger) -> Provenance:
    """Return what a footer of the labels says; there may be none yet."""
    for file in ledger.files():
        with fetched(output / file.path) as (there,):
            return made_by(there)
    return Provenance(run_id="", config_hash="", model_hash="")


def _shorten(
    settings: LabelSettings, ledger: LabelLedger, entry: LabelEntry, keeps: _Keeps
) -> None:
    """Write an entry anew without frames, if it has any that go."""
    moments: _Moments = {}
    for rows in _tables(settings.output, entry):
        columns = (rows.column(name).to_pylist() for name in _COLUMNS)
        for uri, track, number, moment in zip(*columns, strict=True):
            moments[(uri, track), number] = moment
    answered = {
        picture_id: tuple(
            number for number in numbers if keeps(track, number, moments.get((track, number)))
        )
        for picture_id, numbers in entry.answered.items()
        for track in [entry.recordings[picture_id]]
    }
    if answered == entry.answered:
        return
    answered = {picture_id: numbers for picture_id, numbers in answered.items() if numbers}
    left = {(entry.recordings[each], n) for each, numbers in answered.items() for n in numbers}
    kept = replace(
        entry,
        recordings={each: entry.recordings[each] for each in answered},
        answered=answered,
        files=(),
    )
    if answered:
        rows = pa.concat_tables([_only(rows, left) for rows in _tables(settings.output, entry)])
        measured = _measured(settings, entry, set(kept.recordings.values()))
        kept = replace(kept, files=(*written_labels(settings, kept, rows), *measured))
    ledger.commit(kept)


_COLUMNS = ("source_uri", "video_track", "frame_index", "timestamp")


def _measured(
    settings: LabelSettings, entry: LabelEntry, tracks: set[FootageName]
) -> Iterator[FileEntry]:
    """Write anew what an entry has in `metrics`, of some video tracks alone."""
    for rows in _tables(settings.output, entry, "metrics"):
        uris, numbers = (rows.column(name).to_pylist() for name in _COLUMNS[:2])
        stay = [track in tracks for track in zip(uris, numbers, strict=True)]
        name = f"{camera_tag(entry.camera_id)}-labels-{entry.number:06}-{uuid.uuid4().hex[:8]}"
        path = settings.output / "metrics" / f"{name}.parquet"
        kept = rows.filter(pa.array(stay, pa.bool_()))
        yield write_table(settings.output, path, kept, settings.provenance)


def _tables(output: Path, entry: LabelEntry, table: str = "labels") -> Iterator[pa.Table]:
    for file in entry.files:
        if file.path.startswith(f"{table}/"):
            with fetched(output / file.path) as (there,):
                yield pq.ParquetFile(there).read().replace_schema_metadata(None)


def _only(rows: pa.Table, left: set[tuple[FootageName, int]]) -> pa.Table:
    uris, tracks, numbers = (rows.column(name).to_pylist() for name in _COLUMNS[:3])
    stay = [((u, t), n) in left for u, t, n in zip(uris, tracks, numbers, strict=True)]
    return rows.filter(pa.array(stay, pa.bool_()))
