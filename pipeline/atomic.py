"""Files that are either whole or not there: written under another name, flushed, then renamed.

NAME.partial ── fsync, rename ──> NAME        a run that dies leaves NAME.partial: nobody reads it
"""

import hashlib
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pyarrow as pa

from pipeline.errors import OutputError

PARTIAL_SUFFIX = ".partial"
_MOST_FLUSHED_AT_ONCE = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class FileEntry:
    """A committed file, as the ledger knows it.

    Attributes:
        path: Relative to the output.
        rows: Of a table; 0 for other files.
    """

    path: str
    bytes: int
    sha256: str
    rows: int = 0


@contextmanager
def writing(output: Path) -> Iterator[None]:
    """Turn what the file system refuses into an error that names the output.

    Raises:
        OutputError: Something could not be written.
    """
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise OutputError(f"output {str(output)!r} cannot be written: {reason}") from error


def partial_of(path: Path) -> Path:
    """Return the name that a file has until it is whole."""
    return path.with_name(path.name + PARTIAL_SUFFIX)


def publish(*paths: Path) -> None:
    """Give finished files their names; after a crash of the machine each is whole or not there.

    All are flushed at once: a disk's journal, or a server, has many done as soon as one.
    """
    _flush(map(partial_of, paths))
    for path in paths:
        partial_of(path).replace(path)
    _flush({path.parent for path in paths})


def write_whole(path: Path, content: bytes) -> None:
    """Write a small file, whole or not at all; its folder is made if it is not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial_of(path).write_bytes(content)
    publish(path)


def _flush(paths: Iterable[Path]) -> None:
    first, *others = paths
    if not others:
        _flush_one(first)
        return
    for _ in _flushers().map(_flush_one, (first, *others)):
        # To have it raise what went wrong.
        pass


@cache
def _flushers() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_MOST_FLUSHED_AT_ONCE, thread_name_prefix="flush")


def _flush_one(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sha256_of(path: Path) -> str:
    """Return the hash of a file's bytes, as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def entry_of(output: Path, path: Path, rows: int = 0) -> FileEntry:
    """Return what the ledger is to know of a finished file."""
    size = path.stat().st_size
    return FileEntry(
        path=path.relative_to(output).as_posix(), bytes=size, sha256=sha256_of(path), rows=rows
    )


def remove(path: Path) -> None:
    """Remove a file, if it is there, and the partitions (`camera_id=...`) that it leaves empty.

    Folders above them stay: another camera's writer may be about to make its own in there.
    """
    path.unlink(missing_ok=True)
    with suppress(OSError):
        for folder in (path.parent, path.parent.parent):
            if "=" in folder.name:
                # Not empty, most often; `rmdir` knows it without a race.
                folder.rmdir()
