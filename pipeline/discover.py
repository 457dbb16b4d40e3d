"""Which recordings are meant: files, folders, globs and manifests become a list of paths.

Nothing is opened here but folders and manifests; what the recordings hold is for `probe`.
"""

import csv
import os
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from glob import glob, has_magic
from pathlib import Path

from pipeline.errors import ConfigError

VIDEO_SUFFIXES = frozenset(
    {
        ".3gp", ".asf", ".avi", ".dav", ".dv", ".flv", ".h264", ".h265", ".hevc", ".ivf", ".m2ts",
        ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".mxf", ".nut", ".ogv", ".ts",
        ".vob", ".webm", ".wmv",
    }
)  # fmt: skip
MANIFEST_COLUMN = "source_uri"
START_COLUMN = "start_time"


def find_recordings(inputs: Sequence[str]) -> list[str]:
    """Return the absolute paths of the recordings that `inputs` name, each once, sorted by path.

    Args:
        inputs: Paths of files, folders (searched for video files), globs, and manifests: `.csv`
            files with a column `source_uri`, and perhaps `start_time`, or with one path a line.

    Raises:
        ConfigError: An input does not exist, or names no recording.
    """
    if not inputs:
        raise ConfigError("no input: give --input a file, a folder, a glob or a manifest .csv")
    # Not resolved: a link's own name tells the camera and the time.
    found = {os.path.abspath(path) for given in inputs for path in _expand(given)}  # noqa: PTH100
    return sorted(found)


def find_starts(inputs: Sequence[str]) -> dict[str, datetime]:
    """Return when recordings began, by path, as manifests among `inputs` tell it.

    Raises:
        ConfigError: A manifest cannot be read, or a time in it is none.
    """
    starts = {}
    for given in inputs:
        path = Path(given)
        if path.suffix.lower() == ".csv" and path.is_file():
            for recording, told in _read_manifest(path):
                if told:
                    own = os.path.abspath(path.parent / recording)  # noqa: PTH100
                    starts[own] = _moment(path, recording, told)
    return starts


def _moment(manifest: Path, recording: str, told: str) -> datetime:
    try:
        moment = datetime.fromisoformat(told)
    except ValueError as error:
        raise ConfigError(
            f"manifest {str(manifest)!r}: {START_COLUMN} {told!r} of {recording!r}: write it as "
            "2026-01-15T09:00:00, or with its zone as 2026-01-15T09:00:00+01:00"
        ) from error
    return moment


def _expand(given: str) -> Iterable[str]:
    if "://" in given:
        raise ConfigError(f"input {given!r}: only local paths are read so far, no addresses")
    path = Path(given)
    if path.is_dir():
        return _search(path)
    if path.exists():
        return _manifest(path) if path.suffix.lower() == ".csv" else [given]
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


def _manifest(path: Path) -> list[str]:
    """Read the recordings of a manifest; relative paths in it start at its folder."""
    # A recording that a manifest names and that is not there is a failure of that recording.
    return [str(path.parent / recording) for recording, _ in _read_manifest(path)]


def _read_manifest(path: Path) -> list[tuple[str, str]]:
    """Return the recordings of a manifest, each with its start time, or ""."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as lines:
            recordings = list(_rows(csv.reader(lines)))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"manifest {str(path)!r}: {error}") from error
    if not recordings:
        raise ConfigError(f"manifest {str(path)!r} names no recording")
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
