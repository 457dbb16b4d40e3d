"""Write rows to Parquet so that a file is either whole or not there.

A part's files are written under temporary names and get their own by a rename when the part is
published. Which parts count, and what made them, is for `ledger`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.atomic import (
    FileEntry,
    entry_of,
    new_partial,
    partial_of,
    publish,
    sha256_of,
    writing,
)
from pipeline.tables import NO_DATE, SCHEMAS, Provenance, partition

ROW_GROUP_ROWS = 128 * 1024
# What a table may hold back in memory before it is written as a row group.
HELD_BYTES = 4 << 20
# A table takes some 10 KB beside its rows.
_MOST_PIECES = 32
_DATED_BY = {"tracks": "first_timestamp", "counts": "interval_start"}
# A part ends when it comes to so many: each is a file a table.
MOST_DATES = 16
# Until a table has written some: a row of `movements` takes about as much.
_GUESSED_ROW_BYTES = 32.0


@dataclass(slots=True)
class _File:
    """A Parquet file that is being written: rows held back, and those already in it."""

    path: Path
    held: list[pa.Table] = field(default_factory=list)
    writer: pq.ParquetWriter | None = None
    rows: int = 0
    bytes: int = 0

    held_rows: int = 0
    held_bytes: int = 0
    is_closed: bool = False

    def hold(self, rows: pa.Table) -> None:
        self.held.append(rows)
        if len(self.held) > _MOST_PIECES:
            self.held = [pa.concat_tables(self.held).combine_chunks()]
        self.held_rows += len(rows)
        self.held_bytes += rows.nbytes


class PartWriter:
    """Writes one part of one camera: rows of the partitioned tables, filed by their date.

    Tables that are for the ledger and for metrics have one file a part, whose path is given.

    Attributes:
        held_bytes: What each table may hold back in memory.
        tables: Those that are there even without a row, besides the ones whose path is given.
    """

    held_bytes = HELD_BYTES
    tables: Sequence[str] = ("detections", "movements", "tracks")

    def __init__(
        self,
        output: Path,
        camera_id: str,
        name: str,
        provenance: Provenance,
        *,
        date: str = NO_DATE,
        paths: Mapping[str, Path] = MappingProxyType({}),
    ) -> None:
        """Begin a part.

        Args:
            output: Root of the tables.
            camera_id: Whose rows.
            name: File name without suffix; no other part's.
            provenance: What goes into the footers.
            date: What a table without any row is filed under.
            paths: Of the tables that are not partitioned.
        """
        self.name = name
        self._output, self._camera_id = output, camera_id
        self._paths = paths
        self._footer, self._date = provenance.footer(), date
        self._files: dict[tuple[str, str], _File] = {}

    def write(self, name: str, rows: pa.Table) -> None:
        """Add rows of the table `name`.

        Raises:
            OutputError: They cannot be written.
        """
        if name in self._paths:
            dated: Mapping[str, pa.Table] = {self._date: rows}
        else:
            dated = _by_date(rows, _DATED_BY.get(name, "timestamp")) if len(rows) else {}
        for date, some in dated.items():
            file = self._file(name, date)
            file.hold(some)
            if file.held_rows >= ROW_GROUP_ROWS or file.held_bytes >= self.held_bytes:
                self._flush(name, file)

    def _file(self, name: str, date: str) -> _File:
        folder = self._output / name / partition(self._camera_id, date)
        path = self._paths.get(name, folder / f"{self.name}.parquet")
        return self._files.setdefault((name, date), _File(path))

    def size_bytes(self) -> float:
        """Return about how large the largest of the tables will be, over all its dates."""
        sizes: dict[str, float] = {}
        for (name, _), file in self._files.items():
            if name in self._paths:
                continue
            a_row = file.bytes / file.rows if file.rows else _GUESSED_ROW_BYTES
            sizes[name] = sizes.get(name, 0.0) + file.bytes + a_row * file.held_rows
        return max(sizes.values(), default=0.0)

    def _flush(self, name: str, file: _File) -> None:
        rows = pa.concat_tables([SCHEMAS[name].empty_table(), *file.held])
        file.held, file.held_rows, file.held_bytes = [], 0, 0
        with writing(self._output):
            if file.writer is None:
                schema = SCHEMAS[name].with_metadata(self._footer)
                partial = new_partial(file.path)
                file.writer = pq.ParquetWriter(partial, schema, compression="zstd")
            file.writer.write_table(rows, row_group_size=ROW_GROUP_ROWS)
            file.rows += len(rows)
            file.bytes = partial_of(file.path).stat().st_size

    @property
    def dates(self) -> int:
        """How many dates it holds rows of: each has files of its own."""
        return len({date for _, date in self._files})

    def finish(self) -> None:
        """Write what is held back; the files are whole then, but have no names yet.

        A table of which the part has no row is there nevertheless, empty.

        Raises:
            OutputError: They cannot be written.
        """
        for name in (*self.tables, *self._paths):
            if not any(table == name for table, _ in self._files):
                self._file(name, self._date)
        for (name, _), file in self._files.items():
            if file.is_closed:
                continue
            if file.held or file.writer is None:
                self._flush(name, file)
            with writing(self._output):
                # One at a time: there may be more than a process can have open.
                assert file.writer is not None
                file.writer.close()
                file.is_closed = True

    def publish(self) -> list[FileEntry]:
        """Finish the files, give them their names, and return what the ledger is to know of them.

        Raises:
            OutputError: They cannot be written.
        """
        self.finish()
        files = self._files.values()
        with writing(self._output):
            entries = [entry_of(self._output, file.path, file.rows) for file in files]
            publish(*(file.path for file in files))
            return entries


def _by_date(rows: pa.Table, column: str) -> Mapping[str, pa.Table]:
    """Split rows by the UTC date of a time column; in order of the dates, unknown ones first."""
    moments = rows.column(column)
    dates = pc.fill_null(pc.strftime(moments, format="%Y-%m-%d"), NO_DATE)
    return {
        date: rows.filter(pc.equal(dates, date)) for date in sorted(pc.unique(dates).to_pylist())
    }


def write_table(output: Path, path: Path, rows: pa.Table, made_by: Provenance) -> FileEntry:
    """Write a whole table as one file, and return what the ledger is to know of it.

    Raises:
        OutputError: It cannot be written.
    """
    with writing(output):
        _write_partial(path, rows, made_by)
        entry = entry_of(output, path, len(rows))
        publish(path)
        return entry


def _write_partial(path: Path, rows: pa.Table, made_by: Provenance) -> Path:
    footed, partial = rows.replace_schema_metadata(made_by.footer()), new_partial(path)
    pq.write_table(footed, partial, compression="zstd")
    return partial


def made_by(path: Path) -> Provenance:
    """Return what the footer of a file of a table says.

    Raises:
        OSError: It cannot be read.
        ValueError: It is no table of ours.
    """
    footer = pq.read_metadata(path).metadata or {}
    try:
        return Provenance(
            **{
                name: footer[f"footfall.{name}".encode()].decode()
                for name in ("run_id", "config_hash", "model_hash")
            }
        )
    except KeyError as error:
        raise ValueError(f"{path.name!r} does not say what made it") from error


def write_hashed(
    output: Path, table_name: str, stem: str, rows: pa.Table, made_by: Provenance
) -> Path:
    """Write a table that no part has, under a name that ends in the hash of its content.

    Raises:
        OutputError: It cannot be written.
    """
    path = output / table_name / f"{stem}.parquet"
    with writing(output):
        partial = _write_partial(path, rows, made_by)
        named = path.with_name(f"{stem}-{sha256_of(partial)[:16]}.parquet")
        partial.replace(partial_of(named))
        publish(named)
    return named
