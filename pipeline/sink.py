"""Write rows to Parquet so that a file is either whole or not there.

A part's files are written under temporary names and get their own by a rename when the part is
committed. Which parts there are, and what made them, is for `ledger`.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.errors import OutputError
from pipeline.tables import NO_DATE, SCHEMAS, Provenance, partition

ROW_GROUP_ROWS = 128 * 1024
PARTIAL_SUFFIX = ".partial"
_DATED_BY = {"tracks": "first_timestamp"}


class PartWriter:
    """Writes one part of one camera: rows of the partitioned tables, filed by their date."""

    def __init__(
        self,
        output: Path,
        camera_id: str,
        name: str,
        provenance: Provenance,
        *,
        date: str = NO_DATE,
    ) -> None:
        """Begin a part.

        Args:
            output: Root of the tables.
            camera_id: Whose rows.
            name: File name without suffix; the same for the same footage, whatever run writes it.
            provenance: What goes into the footers.
            date: What a table without any row is filed under.
        """
        self.name = name
        self._output, self._camera_id = output, camera_id
        self._footer, self._date = provenance.footer(), date
        self._held: dict[tuple[str, str], list[pa.Table]] = {}
        self._files: dict[tuple[str, str], pq.ParquetWriter] = {}
        self._paths: dict[tuple[str, str], Path] = {}
        self.rows: dict[str, int] = {}

    def write(self, name: str, rows: pa.Table) -> None:
        """Add rows of the table `name`.

        Raises:
            OutputError: They cannot be written.
        """
        self.rows[name] = self.rows.get(name, 0) + len(rows)
        if not len(rows):
            # The table is there, although it is empty; rows that come later may open other dates.
            if (name, self._date) not in self._files:
                self._held.setdefault((name, self._date), [rows])
            return
        for date, dated in _by_date(rows, _DATED_BY.get(name, "timestamp")).items():
            held = self._held.setdefault((name, date), [])
            held.append(dated)
            if sum(map(len, held)) >= ROW_GROUP_ROWS:
                self._flush(name, date)

    def _flush(self, name: str, date: str) -> None:
        rows = pa.concat_tables(self._held.pop((name, date)))
        key = name, date
        try:
            if key not in self._files:
                folder = self._output / name / partition(self._camera_id, date)
                folder.mkdir(parents=True, exist_ok=True)
                self._paths[key] = folder / f"{self.name}.parquet"
                self._files[key] = pq.ParquetWriter(
                    self._partial(key),
                    SCHEMAS[name].with_metadata(self._footer),
                    compression="zstd",
                )
            self._files[key].write_table(rows, row_group_size=ROW_GROUP_ROWS)
        except (OSError, pa.ArrowException) as error:
            raise OutputError(f"output {str(self._output)!r} cannot be written: {error}") from error

    def _partial(self, key: tuple[str, str]) -> Path:
        return self._paths[key].with_suffix(PARTIAL_SUFFIX)

    def commit(self) -> None:
        """Finish the files and give them their names.

        Raises:
            OutputError: They cannot be written.
        """
        for name, date in list(self._held):
            self._flush(name, date)
        try:
            for key, file in self._files.items():
                file.close()
                self._partial(key).replace(self._paths[key])
        except (OSError, pa.ArrowException) as error:
            raise OutputError(f"output {str(self._output)!r} cannot be written: {error}") from error


def _by_date(rows: pa.Table, column: str) -> Mapping[str, pa.Table]:
    """Split rows by the UTC date of a time column; in order of the dates."""
    moments = rows.column(column)
    if moments.null_count == len(rows):
        return {NO_DATE: rows}
    dates = pc.strftime(moments, format="%Y-%m-%d")
    return {
        date: rows.filter(pc.equal(dates, date)) for date in sorted(pc.unique(dates).to_pylist())
    }


def part_name(source_uri: str, video_track: int) -> str:
    """Return the file name of a part, without suffix: the same for the same footage."""
    return f"{hashlib.sha256(source_uri.encode()).hexdigest()[:16]}-{video_track}"


def write_table(output: Path, name: str, rows: pa.Table, file: str, made_by: Provenance) -> None:
    """Write a whole table that is not partitioned (`metrics`, `failures`) as one file.

    Raises:
        OutputError: It cannot be written.
    """
    path = output / name / f"{file}.parquet"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(PARTIAL_SUFFIX)
        footed = rows.replace_schema_metadata(made_by.footer())
        pq.write_table(footed, partial, compression="zstd")
        partial.replace(path)
    except (OSError, pa.ArrowException) as error:
        raise OutputError(f"output {str(output)!r} cannot be written: {error}") from error
