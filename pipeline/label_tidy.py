"""Labels whose pictures are not today's: of a recording that changed, or that another camera has.

    camera A   [pictures 1][pictures 2][pictures 3]
    now        [pictures 1]                             2 changed: its rows go
    camera B   [pictures 3]                             3 is B's now: its rows go there

Nothing is paid for a second time, unless it has changed; and what was paid once stays counted.
"""

import uuid
from collections.abc import Collection, Mapping
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.atomic import FileEntry
from pipeline.label_ledger import LabelEntry, LabelLedger
from pipeline.label_log import LabelLog, label_writer
from pipeline.labels import LabelSettings
from pipeline.store import fetched

# A recording and a video track; and whose that is now, with its `picture_id`.
_Track = tuple[str, int]
Present = Mapping[_Track, tuple[str, str]]


def tidy_labels(settings: LabelSettings, camera_id: str, present: Present) -> None:
    """Take rows that no longer hold out of a camera's tables; those of its other footage stay.

    The leases of the camera, and of those that footage of it has gone to, must be held. Calls that were
    made stay counted.

    Raises:
        OutputError: What is on disk is damaged, or cannot be written.
    """
    ledger = LabelLedger(settings.output, camera_id)

    def holds(track: _Track, picture_id: str) -> bool:
        return present.get(track, (camera_id, picture_id)) == (camera_id, picture_id)

    if all(holds(*told) for told in recordings_told(ledger)):
        return
    log = LabelLog(settings, camera_id)
    log.forget_failures(lambda track, key: not holds(track, key[0]))
    # What is only noted becomes an entry, too.
    log.close()
    for entry in ledger.entries():
        gone = {key: track for key, track in entry.recordings.items() if not holds(track, key)}
        for picture_id, track in gone.items():
            if track in present and present[track][1] == picture_id:
                _give(settings, entry, picture_id, present[track][0])
        if gone:
            _drop(settings, ledger, entry, gone)
    ledger.sweep()


def recordings_told(ledger: LabelLedger) -> set[tuple[_Track, str]]:
    """Return what a camera's files are about: video tracks and pictures.

    Raises:
        OutputError: One is damaged.
    """
    told = {
        (track, picture_id)
        for entry in ledger.entries()
        for picture_id, track in entry.recordings.items()
    }
    for each in ledger.state().unanswered:
        told.add(((each.failure.source_uri, each.failure.video_track or 0), each.picture_id))
    notes = {**{key: ledger.answer(key) for key in ledger.answers()}, **ledger.asked()}
    for key, note in notes.items():
        told.add(((note["source_uri"], note["video_track"]), key[0]))
    return told


def _give(settings: LabelSettings, entry: LabelEntry, picture_id: str, other: str) -> None:
    """Enter a footage's answers into the camera that has it now, unless they are there."""
    ledger = LabelLedger(settings.output, other)
    entries = ledger.entries()
    if any(picture_id in each.answered for each in entries):
        return
    given = replace(
        entry,
        camera_id=other,
        number=max((each.number for each in entries), default=-1) + 1,
        calls={},
        recordings={picture_id: entry.recordings[picture_id]},
        answered={picture_id: entry.answered[picture_id]},
    )
    rows = _rows(settings, entry, {entry.recordings[picture_id]}, wanted=True)
    ledger.commit(replace(given, files=written_labels(settings, given, rows)))


def _drop(
    settings: LabelSettings, ledger: LabelLedger, entry: LabelEntry, gone: Mapping[str, _Track]
) -> None:
    """Write an entry anew without some footage."""
    kept = replace(
        entry,
        recordings={key: each for key, each in entry.recordings.items() if key not in gone},
        answered={key: each for key, each in entry.answered.items() if key not in gone},
    )
    rows = _rows(settings, entry, set(gone.values()), wanted=False)
    measured = tuple(file for file in entry.files if file.path.startswith("metrics/"))
    ledger.commit(replace(kept, files=(*written_labels(settings, kept, rows), *measured)))


def _rows(
    settings: LabelSettings, entry: LabelEntry, tracks: Collection[_Track], *, wanted: bool
) -> pa.Table:
    """Return the rows of an entry that are, or are not, of some video tracks."""
    paths = [settings.output / file.path for file in entry.files if file.path.startswith("labels/")]
    with fetched(*paths) as local:
        tables = [pq.ParquetFile(path).read() for path in local]
    rows = pa.concat_tables([table.replace_schema_metadata(None) for table in tables])
    keys = zip(
        rows.column("source_uri").to_pylist(), rows.column("video_track").to_pylist(), strict=True
    )
    return rows.filter(pa.array([(key in tracks) == wanted for key in keys], pa.bool_()))


def written_labels(
    settings: LabelSettings, entry: LabelEntry, rows: pa.Table
) -> tuple[FileEntry, ...]:
    """Write the rows of an entry, and return its files.

    Raises:
        OutputError: They cannot be written.
    """
    name = f"labels-{entry.number:06}-{uuid.uuid4().hex[:8]}"
    writer = label_writer(settings, entry.camera_id, name)
    writer.write("labels", rows)
    return tuple(writer.publish())
