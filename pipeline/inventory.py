"""S3 Inventory: the list of a bucket's objects that AWS writes each day, read piece by piece.

    s3://lists/BUCKET/CONFIG/2026-11-01T01-00Z/manifest.json     which files, of which form
    s3://lists/BUCKET/CONFIG/data/....csv.gz (.parquet, .orc)    a line an object

Memory does not grow with the number of objects: a data file is on disk while it is read, and some
thousand lines of it in memory. What it lists was there a day ago: sizes are for planning, and ETags are
not taken from it.
"""

import csv
import gzip
import hashlib
import json
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import unquote_plus

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import orc

from pipeline.aws import AwsSettings, S3Address, explained, is_s3
from pipeline.errors import ConfigError
from pipeline.records import Listed
from pipeline.s3 import find_object, read_list, read_range
from pipeline.store import scratch

_ROWS_AT_ONCE = 8192
_MOST_FILE_BYTES = 64 << 30
# Columns, as Parquet and ORC call them, and as the manifest's `fileSchema` calls those of CSV.
_CSV_COLUMNS = {
    "bucket": "Bucket",
    "key": "Key",
    "size": "Size",
    "storage_class": "StorageClass",
    "is_latest": "IsLatest",
    "is_delete_marker": "IsDeleteMarker",
}
_NEEDED = ("bucket", "key", "size")
_FORMS = ("CSV", "Parquet", "ORC")
_UNREADABLE = (OSError, EOFError, ValueError, KeyError, zlib.error, csv.Error, pa.ArrowException)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Inventory:
    """What a manifest tells.

    Attributes:
        form: "CSV", "Parquet" or "ORC".
        columns: Of a CSV's lines, in their order.
        files: Address and MD5 of each data file.
    """

    uri: str
    form: str
    columns: tuple[str, ...]
    files: tuple[tuple[S3Address, str], ...]


def is_inventory(given: str) -> bool:
    """Say whether an input is the manifest of an S3 Inventory."""
    return given.lower().endswith(".json") and (is_s3(given) or Path(given).is_file())


def read_inventory(given: str, aws: AwsSettings) -> Iterator[Listed]:
    """Yield the objects of an inventory, in its order; deleted and older versions are left out.

    Args:
        given: Its manifest.json, on a disk or in S3; the data files are where it says.
        aws: How S3 is read.

    Raises:
        ConfigError: It cannot be read, or is no inventory.
    """
    inventory = _parse(given, aws)
    if inventory.files and not is_s3(given):
        find_object(inventory.files[0][0], aws, f"inventory {given!r}:")
    for address, md5 in inventory.files:
        with tempfile.TemporaryFile(dir=scratch()) as file:
            _fetch(address, aws, file, md5)
            try:
                for row in _rows(inventory, file):
                    if listed := _listed(row):
                        yield listed
            except _UNREADABLE as error:
                raise ConfigError(f"inventory {given!r}: '{address}': {error}") from error


def _parse(given: str, aws: AwsSettings) -> _Inventory:
    try:
        content = read_list(given, aws, "inventory") if is_s3(given) else Path(given).read_bytes()
        plain = json.loads(content)
        bucket = plain["destinationBucket"].rpartition(":")[2]
        form, schema = plain["fileFormat"], plain["fileSchema"]
        files = tuple(
            (S3Address(bucket, each["key"]), str(each.get("MD5checksum", "")))
            for each in plain["files"]
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
        raise ConfigError(f"input {given!r} is no manifest of an S3 Inventory: {reason}") from error
    if form not in _FORMS:
        raise ConfigError(
            f"inventory {given!r}: its form is {form!r}; known are {', '.join(_FORMS)}"
        )
    columns = tuple(name.strip() for name in str(schema).split(","))
    if form == "CSV" and not {_CSV_COLUMNS[name] for name in _NEEDED} <= set(columns):
        raise ConfigError(
            f"inventory {given!r}: its lines tell no Bucket, Key and Size: {schema!r}"
        )
    return _Inventory(uri=given, form=form, columns=columns, files=files)


def _fetch(address: S3Address, aws: AwsSettings, file: IO[bytes], md5: str) -> None:
    """Fill a file with an object, and go to its beginning.

    Raises:
        ConfigError: It cannot be read, or is not what the manifest says.
    """
    digest = hashlib.md5(usedforsecurity=False)

    def take(_: int, piece: bytes) -> None:
        digest.update(piece)
        file.write(piece)

    with explained(f"inventory: '{address}'", ConfigError):
        read_range(address, aws, take, stop=_MOST_FILE_BYTES)
    if md5 and digest.hexdigest() != md5:
        raise ConfigError(
            f"inventory: '{address}' is not what the manifest says: its MD5 is another"
        )
    file.seek(0)


def _rows(inventory: _Inventory, file: IO[bytes]) -> Iterator[dict[str, Any]]:
    if inventory.form == "CSV":
        return _csv_rows(inventory.columns, file)
    batches = _parquet_batches(file) if inventory.form == "Parquet" else _orc_batches(file)
    return (row for batch in batches for row in batch.to_pylist())


def _csv_rows(columns: tuple[str, ...], file: IO[bytes]) -> Iterator[dict[str, Any]]:
    places = {name: columns.index(told) for name, told in _CSV_COLUMNS.items() if told in columns}
    with gzip.open(file, "rt", encoding="utf-8", newline="") as text:
        lines = csv.reader(text)
        for line in lines:
            if not line:
                continue
            if len(line) <= max(places.values()):
                raise ValueError(
                    f"line {lines.line_num} has {len(line)} fields, not {len(columns)}: {line}"
                )
            row: dict[str, Any] = {name: line[place] for name, place in places.items()}
            # In CSV, and there alone, keys are encoded as in an address.
            row["key"] = unquote_plus(row["key"])
            for name in ("is_latest", "is_delete_marker"):
                if name in row:
                    row[name] = row[name] == "true"
            yield row


def _parquet_batches(file: IO[bytes]) -> Iterator[pa.RecordBatch]:
    with pq.ParquetFile(file) as table:
        columns = _there(table.schema_arrow.names)
        yield from table.iter_batches(_ROWS_AT_ONCE, columns=columns)


def _orc_batches(file: IO[bytes]) -> Iterator[pa.RecordBatch]:
    table = orc.ORCFile(file)
    columns = _there(table.schema.names)
    for number in range(table.nstripes):
        stripe = table.read_stripe(number, columns)
        for start in range(0, len(stripe), _ROWS_AT_ONCE):
            yield stripe.slice(start, _ROWS_AT_ONCE)


def _there(names: Iterable[str]) -> list[str]:
    there = set(names)
    if lacking := [name for name in _NEEDED if name not in there]:
        raise ValueError(f"it has no column {lacking[0]!r}")
    return [name for name in _CSV_COLUMNS if name in there]


def _listed(row: dict[str, Any]) -> Listed | None:
    """Return the object that a line tells of; None if it is there no more."""
    if row.get("is_latest") is False or row.get("is_delete_marker"):
        return None
    return Listed(
        source_uri=str(S3Address(row["bucket"], row["key"])),
        size_bytes=int(row["size"] or 0),
        storage_class=row.get("storage_class") or "",
    )
