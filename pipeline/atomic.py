"""Files that are either whole or not there: written under another name, flushed, then renamed.

NAME.partial ── fsync, rename ──> NAME        a run that dies leaves NAME.partial: nobody reads it
NAME.partial ── one PUT ────────> NAME        in S3: it lies in the process's scratch folder
"""

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pyarrow as pa
from filelock import FileLock

from pipeline.errors import OutputError
from pipeline.store import (
    Seen,
    delete,
    in_s3,
    look,
    put,
    put_if,
    shown,
    write_object,
    written_at,
)

PARTIAL_SUFFIX = ".partial"
# Held for moments, on a disk, by whoever creates a run or takes a lease.
LOCK = ".footfall.lock"
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
        raise OutputError(f"output {shown(output)!r} cannot be written: {reason}") from error


def partial_of(path: Path) -> Path:
    """Return the file that is written until it is whole."""
    partial = path.with_name(path.name + PARTIAL_SUFFIX)
    return written_at(partial) if in_s3(path) else partial


def new_partial(path: Path) -> Path:
    """Return the same for who begins to write it: its folder is made if it is not there."""
    partial = partial_of(path)
    partial.parent.mkdir(parents=True, exist_ok=True)
    return partial


def publish(*paths: Path) -> None:
    """Give finished files their names; after a crash of the machine each is whole or not there.

    All are flushed at once: a disk's journal, or a server, has many done as soon as one.
    """
    if any(map(in_s3, paths)):
        _all_at_once(lambda path: put(path, partial_of(path)), paths)
        return
    _flush(map(partial_of, paths))
    for path in paths:
        partial_of(path).replace(path)
    _flush({path.parent for path in paths})


def write_whole(path: Path, content: bytes) -> None:
    """Write a small file, whole or not at all; its folder is made if it is not there."""
    if in_s3(path):
        write_object(path, content)
        return
    new_partial(path).write_bytes(content)
    publish(path)


def swap(root: Path, path: Path, content: bytes, seen: Seen | None) -> bool:
    """Write a small file if it still is what was seen, None being none; return whether it was.

    Args:
        root: Of the output.
        path: Of the file.
        content: What it is to be.
        seen: What it was.
    """
    if in_s3(path):
        return put_if(path, content, seen)
    with FileLock(root / LOCK):
        if look_if_there(path) != seen:
            return False
        write_whole(path, content)
        return True


def look_if_there(path: Path) -> Seen | None:
    """Return a file's content and version; None if it is not there."""
    try:
        return look(path)
    except FileNotFoundError:
        return None


def _flush(paths: Iterable[Path]) -> None:
    _all_at_once(_flush_one, paths)


def _all_at_once(do: Callable[[Path], None], paths: Iterable[Path]) -> None:
    first, *others = paths
    if not others:
        do(first)
        return
    for _ in _threads().map(do, (first, *others)):
        # To have it raise what went wrong.
        pass


@cache
def _threads() -> ThreadPoolExecutor:
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
    """Return what the ledger is to know of a file that is finished, and not yet published."""
    partial = partial_of(path)
    return FileEntry(
        path=path.relative_to(output).as_posix(),
        bytes=partial.stat().st_size,
        sha256=sha256_of(partial),
        rows=rows,
    )


def remove(path: Path) -> None:
    """Remove a file, if it is there, and the partitions (`camera_id=...`) that it leaves empty.

    Folders above them stay: another camera's writer may be about to make its own in there.
    """
    delete(path)
    if in_s3(path):
        return
    with suppress(OSError):
        for folder in (path.parent, path.parent.parent):
            if "=" in folder.name:
                # Not empty, most often; `rmdir` knows it without a race.
                folder.rmdir()
