"""Which recordings are meant: files, folders, globs, manifests and inventories become addresses.

Each may lie on a disk or in S3. Nothing is opened here but folders and manifests; what the recordings
hold is for `probe`.
"""

import csv
import io
import os
import posixpath
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import date, datetime
from glob import glob, has_magic
from pathlib import Path

from pipeline.aws import AwsSettings, S3Address, is_s3, parse_address
from pipeline.errors import ConfigError
from pipeline.inventory import is_inventory, read_inventory
from pipeline.records import Listed
from pipeline.s3 import (
    check_bucket,
    find_object,
    glob_objects,
    is_pattern,
    list_objects,
    read_list,
)

VIDEO_SUFFIXES = frozenset(
    {
        ".3gp", ".asf", ".avi", ".dav", ".dv", ".flv", ".h264", ".h265", ".hevc", ".ivf", ".m2ts",
        ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".mxf", ".nut", ".ogv", ".ts",
        ".vob", ".webm", ".wmv",
    }
)  # fmt: skip
MANIFEST_COLUMN = "source_uri"
START_COLUMN = "start_time"


def find_recordings(inputs: Sequence[str], aws: AwsSettings | None = None) -> list[Listed]:
    """Return the recordings that `inputs` name, each once, sorted by address.

    Args and errors are those of `each_recording`.
    """
    return each_once(each_recording(inputs, aws))


def each_once(listed: Iterable[Listed]) -> list[Listed]:
    """Return recordings sorted by address, each once."""
    found: dict[str, Listed] = {}
    for each in listed:
        # What a listing tells counts more than a manifest's bare name.
        if not found.get(each.source_uri, each).version:
            found[each.source_uri] = each
        found.setdefault(each.source_uri, each)
    return [found[uri] for uri in sorted(found)]


def each_recording(inputs: Sequence[str], aws: AwsSettings | None = None) -> Iterator[Listed]:
    """Yield the recordings that `inputs` name, as they come; paths are absolute.

    Args:
        inputs: Files, folders (searched for video files), globs, manifests (`.csv` files with a column
            `source_uri`, and perhaps `start_time`, or with one path a line), and the manifest.json of
            an S3 Inventory. Each is a path, or in S3: s3://bucket/prefix/.
        aws: How S3 is read.

    Raises:
        ConfigError: An input does not exist, or names no recording.
    """
    if not inputs:
        raise ConfigError("no input: give --input a file, a folder, a glob or a manifest .csv")
    for given in inputs:
        yield from _expand(given, aws or AwsSettings())


def find_starts(inputs: Sequence[str], aws: AwsSettings | None = None) -> dict[str, datetime]:
    """Return when recordings began, by address, as manifests among `inputs` tell it.

    Raises:
        ConfigError: A manifest cannot be read, or a time in it is none.
    """
    how = aws or AwsSettings()
    return {
        _named_in(given, recording): _moment(given, recording, told)
        for given in inputs
        if _is_manifest(given)
        for recording, told in _read_manifest(given, how)
        if told
    }


def _is_manifest(given: str) -> bool:
    return given.lower().endswith(".csv") and (is_s3(given) or Path(given).is_file())


def _named_in(manifest: str, recording: str) -> str:
    """Return the address of what a manifest names: relative to where it lies itself."""
    if is_s3(recording):
        return recording
    if is_s3(manifest) and not recording.startswith("/"):
        address = parse_address(manifest)
        key = posixpath.join(posixpath.dirname(address.key), recording)
        return str(S3Address(address.bucket, posixpath.normpath(key)))
    # Not resolved: a link's own name tells the camera and the time.
    return os.path.abspath(Path(manifest).parent / recording)  # noqa: PTH100


def _moment(manifest: str, recording: str, told: str) -> datetime:
    right = "write it as 2026-01-15T09:00:00, or with its zone as 2026-01-15T09:00:00+01:00"
    where = f"manifest {manifest!r}: {START_COLUMN} {told!r} of {recording!r}"
    try:
        moment = datetime.fromisoformat(told)
    except ValueError as error:
        raise ConfigError(f"{where}: {right}") from error
    with suppress(ValueError):
        date.fromisoformat(told)
        raise ConfigError(f"{where} is a day without a time: {right}")
    return moment


def _expand(given: str, aws: AwsSettings) -> Iterable[Listed]:
    if _is_manifest(given):
        # A recording that a manifest names and that is not there is a failure of that recording.
        return [Listed(source_uri=_named_in(given, name)) for name, _ in _read_manifest(given, aws)]
    if is_inventory(given):
        return _in_inventory(given, aws)
    if is_s3(given):
        return _in_s3(given, aws)
    # Not resolved: a link's own name tells the camera and the time.
    return [Listed(source_uri=os.path.abspath(path)) for path in _on_disk(given)]  # noqa: PTH100


def _in_s3(given: str, aws: AwsSettings) -> list[Listed]:
    """Return what a key, a prefix or a glob of keys names."""
    address = parse_address(given)
    if address.key and not address.key.endswith("/"):
        if exact := find_object(address, aws, "input"):
            return [exact]
    else:
        check_bucket(address, aws, "input")
    # As with folders, the last "/" may be left out.
    below = address.key and address.key.rstrip("/") + "/"
    found = list(list_objects(S3Address(address.bucket, below), aws))
    # As on a disk, what has the very name counts before what fits it as a pattern.
    if not found and is_pattern(address):
        if matches := list(glob_objects(address, aws)):
            return matches
        raise ConfigError(f"input {given!r}: the pattern matches no object")
    if not found:
        raise ConfigError(f"input {given!r}: there is no such object, and no key begins so")
    named = [each for each in found if _is_footage(each)]
    if not named:
        raise ConfigError(
            f"input {given!r}: of {len(found)} objects none is a video file "
            f"({' '.join(sorted(VIDEO_SUFFIXES))})"
        )
    return named


def _in_inventory(given: str, aws: AwsSettings) -> Iterator[Listed]:
    """Yield the video files of an inventory."""
    objects = videos = 0
    for listed in read_inventory(given, aws):
        objects += 1
        if _is_footage(listed):
            videos += 1
            yield listed
    if not videos:
        raise ConfigError(
            f"inventory {given!r}: of {objects} objects none is a video file "
            f"({' '.join(sorted(VIDEO_SUFFIXES))})"
        )


def _is_footage(listed: Listed) -> bool:
    suffix = posixpath.splitext(listed.source_uri)[1].lower()
    return suffix in VIDEO_SUFFIXES and listed.size_bytes > 0


def _on_disk(given: str) -> Iterable[str]:
    if "://" in given:
        raise ConfigError(f"input {given!r}: only paths and s3:// addresses are read")
    path = Path(given)
    if path.is_dir():
        return _search(path)
    if path.exists():
        return [given]
    if has_magic(given):
        matches = [match for match in glob(given, recursive=True) if not Path(match).is_dir()]  # noqa: PTH207 -- a pattern may be absolute
        if matches:
            return matches
        raise ConfigError(f"input {given!r}: the pattern matches no file")
    raise ConfigError(f"input {given!r}: there is no such file or folder")


def _search(folder: Path) -> list[str]:
    try:
        named = (path for path in folder.rglob("*") if path.suffix.lower() in VIDEO_SUFFIXES)
        files = [str(path) for path in named if not path.is_dir()]
    except OSError as error:
        raise ConfigError(f"input {str(folder)!r}: {error.strerror}") from error
    if not files:
        raise ConfigError(
            f"input {str(folder)!r}: the folder holds no video file "
            f"({' '.join(sorted(VIDEO_SUFFIXES))})"
        )
    return files


def _read_manifest(given: str, aws: AwsSettings) -> list[tuple[str, str]]:
    """Return the recordings of a manifest, each with its start time, or ""."""
    try:
        content = read_list(given, aws, "manifest") if is_s3(given) else Path(given).read_bytes()
        with io.StringIO(content.decode("utf-8-sig"), newline="") as lines:
            recordings = list(_rows(csv.reader(lines)))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"manifest {given!r}: {error}") from error
    if not recordings:
        raise ConfigError(f"manifest {given!r} names no recording")
    return recordings


def _rows(rows: Iterator[list[str]]) -> Iterator[tuple[str, str]]:
    column, start = 0, None
    for number, row in enumerate(rows):
        if number == 0 and MANIFEST_COLUMN in row:
            column = row.index(MANIFEST_COLUMN)
            start = row.index(START_COLUMN) if START_COLUMN in row else None
        elif len(row) > column and row[column].strip():
            told = row[start].strip() if start is not None and len(row) > start else ""
            yield row[column].strip(), told
