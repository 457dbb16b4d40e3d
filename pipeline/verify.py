"""Is an output what its ledger says? Every file is read, every row is accounted for.

ledger entry   its own hash; the chain of parts has no hole
files          each is there, with its size, hash and rows; none is there that no entry names
refined        the files of each camera's manifest likewise
labels         the files of each camera's entries likewise; a frame is answered once
frames         each frame of a video track once, segments without a hole, as many as the entry says
rows           detections lie on frames that were looked at; a track is in a frame once, and has
one row in `tracks` (unless it may still go on)
"""

import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import duckdb
import pyarrow.parquet as pq

from pipeline.atomic import PARTIAL_SUFFIX, FileEntry, sha256_of
from pipeline.errors import OutputError
from pipeline.label_ledger import JOURNAL, LabelLedger, is_of_labels
from pipeline.ledger import CameraLedger, Part, cameras_of, parse_part, table_files
from pipeline.purged import BEGIN, BEGIN_REFINED, MARK
from pipeline.refined import FOLDER as REFINED
from pipeline.refined import MANIFEST, read_refined
from pipeline.store import fetched, files, read, shown

# What a camera has beside its entries.
_OTHERS = {"lease.json", MANIFEST, BEGIN, BEGIN_REFINED}
_HASHED = re.compile(r".*-([0-9a-f]{16})\.parquet")


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Something that is not as the ledger says: which file or camera, and what."""

    where: str
    what: str


@dataclass(slots=True, kw_only=True)
class Report:
    """What a verification found."""

    problems: list[Problem] = field(default_factory=list)
    cameras: int = 0
    files: int = 0
    frames: int = 0
    rows: int = 0

    def note(self, where: object, what: str) -> None:
        """Add a problem."""
        where = shown(where) if isinstance(where, Path) else str(where)
        self.problems.append(Problem(where=where, what=what))


def verify(output: Path) -> Report:
    """Check all of an output that no run is at work on."""
    report = Report()
    known: set[str] = set()
    for camera_id in cameras_of(output):
        parts = list(_readable_parts(output, camera_id, report))
        report.cameras += bool(parts)
        sound = [file for part in parts for file in part.files if _check_file(output, file, report)]
        known |= {file.path for part in parts for file in part.files}
        if len(sound) == sum(len(part.files) for part in parts):
            _check_segments(camera_id, parts, report)
            _check_rows(output, camera_id, parts, report)
        known |= _check_refined(output, camera_id, report)
        known |= _check_labels(output, camera_id, report)
    for path in (*table_files(output), *table_files(output / REFINED)):
        _check_stray(output, path, known, report)
    return report


def _check_refined(output: Path, camera_id: str, report: Report) -> set[str]:
    """Check the files of a camera's refined tables; return their paths."""
    try:
        refined = read_refined(output, camera_id)
    except OutputError as error:
        report.note(output, str(error))
        return set()
    files = refined.files if refined else ()
    for file in files:
        _check_file(output, file, report)
    return {file.path for file in files}


def _check_labels(output: Path, camera_id: str, report: Report) -> set[str]:
    """Check the files of a camera's labels; return their paths."""
    ledger = LabelLedger(output, camera_id)
    try:
        files = list(ledger.files())
        twice = ledger.answered_twice()
    except OutputError as error:
        report.note(output, str(error))
        return set()
    for file in files:
        _check_file(output, file, report)
    if twice:
        report.note(f"camera {camera_id!r}", f"frames with labels that are there twice: {twice}")
    if left := len(ledger.answers()) + len(ledger.asked()):
        report.note(
            ledger.folder / JOURNAL, f"{left} answer(s) in no table: the next start does it"
        )
    return {file.path for file in files}


def _readable_parts(output: Path, camera_id: str, report: Report) -> Iterator[Part]:
    ledger = CameraLedger(output, camera_id)
    following = 0
    for path, first, last in ledger.entries():
        if first != following:
            report.note(path, f"no part {following} before it")
        following = last + 1
        try:
            yield parse_part(read(path))
        except (OSError, ValueError, KeyError, TypeError) as error:
            report.note(path, f"the ledger entry is damaged: {error}")
    kept = {path.name for path, _, _ in ledger.entries()}
    named = {Path(file.path).name for part in _undamaged(ledger, kept) for file in part.files}
    for path in files(ledger.folder):
        if path.name == MARK:
            report.note(path, "a purge was not finished: the next start of the run does it")
        elif path.name not in kept | named | _OTHERS and not is_of_labels(path.name):
            report.note(path, "no entry names it: the next start of the run sweeps it")


def _undamaged(ledger: CameraLedger, names: set[str]) -> Iterator[Part]:
    for name in sorted(names):
        try:
            yield parse_part(read(ledger.folder / name))
        except (OSError, ValueError, KeyError, TypeError):
            # It has been reported by now.
            continue


def _check_file(output: Path, file: FileEntry, report: Report) -> bool:
    path = output / file.path
    report.files += 1
    report.rows += file.rows
    try:
        with fetched(path) as (there,):
            wrong = _wrong_with(there, file)
        if not wrong:
            return True
        report.note(path, wrong)
    except FileNotFoundError:
        report.note(path, "is missing")
    except OSError as error:
        report.note(path, f"cannot be read: {error}")
    return False


def _wrong_with(path: Path, file: FileEntry) -> str:
    """Return what is not as the ledger says; "" if all is."""
    size = path.stat().st_size
    if size != file.bytes:
        return f"has {size} bytes, not {file.bytes}"
    if sha256_of(path) != file.sha256:
        return "its content has changed: its hash is another"
    if pq.read_metadata(path).num_rows != file.rows:
        return f"has not the {file.rows} rows that it had"
    return ""


def _check_stray(output: Path, path: Path, known: set[str], report: Report) -> None:
    """Report a file below the tables that belongs to nothing."""
    if path.relative_to(output).as_posix() in known:
        return
    hashed = _HASHED.fullmatch(path.name)
    if path.name.endswith(PARTIAL_SUFFIX):
        report.note(path, "half written by a run that died: the next start of the run sweeps it")
    elif not hashed:
        report.note(path, "no entry of the ledger names it")
    else:
        with fetched(path) as (there,):
            is_same = sha256_of(there).startswith(hashed[1])
        if not is_same:
            report.note(path, "its content has changed: its hash is not that of its name")


def _check_segments(camera_id: str, parts: Sequence[Part], report: Report) -> None:
    """Check that each footage's segments follow one another, up to one end."""
    stops: dict[tuple[str, int], int] = {}
    ended: set[tuple[str, int]] = set()
    for each in (covered for part in parts for covered in part.covered):
        if not each.stop and not each.is_ended:
            continue
        uri, number = each.key
        where = f"camera {camera_id!r}, video track {number} of {uri}"
        if each.first != stops.get(each.key, 0):
            report.note(where, f"segment {stops.get(each.key, 0)} is in no part, or in two")
        if each.is_ended and each.key in ended:
            report.note(where, "it ends twice")
        stops[each.key] = each.stop
        if each.is_ended:
            ended.add(each.key)


def _check_rows(output: Path, camera_id: str, parts: Sequence[Part], report: Report) -> None:
    by_table: dict[str, list[Path]] = {}
    for file in (file for part in parts for file in part.files):
        table = file.path.split("/")[0]
        by_table.setdefault(table, []).append(output / file.path)
    if not parts:
        return
    # What does not fit into memory goes there, and not into the working folder.
    with ExitStack() as stack:
        database = stack.enter_context(
            duckdb.connect(config={"temp_directory": tempfile.gettempdir()})
        )
        for table, paths in by_table.items():
            name = "frames" if table == "ledger" else table
            there = list(map(str, stack.enter_context(fetched(*paths))))
            database.from_parquet(there, hive_partitioning=False).create_view(name)
        counted = sum(covered.frames for part in parts for covered in part.covered)
        checks = [*_CHECKS, *([_ENDED] if parts[-1].is_final else [])]
        (looked_at,) = database.execute("select count(*) from frames").fetchall()[0]
        report.frames += looked_at
        if looked_at != counted:
            report.note(f"camera {camera_id!r}", f"{looked_at} frames, the ledger has {counted}")
        for what, sql in checks:
            (count,) = database.execute(f"select count(*) from ({sql})").fetchall()[0]
            if count:
                report.note(f"camera {camera_id!r}", f"{what}: {count}")


_CHECKS = (
    (
        "frames that are there twice",
        "select 1 from frames group by source_uri, video_track, frame_index having count(*) > 1",
    ),
    (
        "detections on frames that were not looked at",
        "select 1 from detections anti join frames using (source_uri, video_track, frame_index)",
    ),
    (
        "movements on frames that were not looked at",
        "select 1 from movements anti join frames using (source_uri, video_track, frame_index)",
    ),
    (
        "detections that are there twice",
        "select 1 from detections group by source_uri, video_track, frame_index, class_id, "
        "confidence, x_min, y_min, x_max, y_max having count(*) > 1",
    ),
    (
        "tracks that are twice in a frame",
        "select 1 from movements group by source_uri, video_track, frame_index, track_id "
        "having count(*) > 1",
    ),
    (
        "tracks with two rows",
        "select 1 from tracks group by track_id having count(*) > 1",
    ),
)
_ENDED = (
    "tracks of the movement log without a row of their own",
    "select distinct track_id from movements anti join tracks using (track_id)",
)
