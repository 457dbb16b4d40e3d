"""Recordings of S3 on a node's disk, for as long as they are read: demuxers seek, and read for minutes.

    FOLDER/room.lock              held while room is looked for
           NAME.partial           is being fetched; as large as it will be, and locked
           NAME                   whole; locked, shared, by whoever reads it

NAME is a hash of address and ETag, so that an object that changes is another, and the address's suffix,
which tells ffmpeg the format where the beginning does not. All processes of a node share the folder.
What nobody reads gives way when there is no room, and so does what the dead left.
"""

import errno
import fcntl
import hashlib
import os
import re
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from filelock import FileLock

from pipeline.aws import AwsSettings, explained, is_s3, parse_address
from pipeline.errors import SourceError
from pipeline.records import Footage
from pipeline.s3 import read_range, source_error

DEFAULT_CACHE_GB = 20.0
_RANGE_BYTES = 16 << 20
# A connection gives some 50 MB/s of S3; each holds a piece of it.
_CONNECTIONS = 8
_LOOK_AGAIN_S = 0.5
_PARTIAL = ".partial"
_RECORDINGS = "[0-9a-f]*"
_FULL = (errno.ENOSPC, errno.EDQUOT)
_SUFFIX = re.compile(r"\.[A-Za-z0-9]{1,8}")


def default_folder() -> Path:
    """Return where recordings lie while they are read: of each user of a machine one folder."""
    return Path(tempfile.gettempdir(), f"footfall-{os.getuid()}", "recordings")


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheSettings:
    """How recordings of S3 come to a node's disk.

    Attributes:
        aws: Where and as whom.
        most_bytes: What they may take there.
        folder: Where; the same on every node.
    """

    aws: AwsSettings = field(default_factory=AwsSettings)
    most_bytes: float = DEFAULT_CACHE_GB * 1e9
    folder: Path = field(default_factory=default_folder)


def check_fits(source_uri: str, size_bytes: int, settings: CacheSettings) -> None:
    """Make sure that a recording of S3 is not larger than all that may lie on a disk.

    Raises:
        SourceError: It is.
    """
    if is_s3(source_uri) and size_bytes > settings.most_bytes:
        raise SourceError(
            f"cannot be read: it has {size_bytes / 1e9:.3g} GB, and recordings of S3 may take "
            f"{settings.most_bytes / 1e9:.3g} GB of a node's disk: raise --cache-gb",
            source_uri=source_uri,
        )


@contextmanager
def on_disk(footage: Footage, settings: CacheSettings) -> Iterator[str]:
    """Give the path of a footage's recording for as long as the `with` block runs.

    It stays there, for another try or another step, until `let_go`, or until there is no room.

    Raises:
        SourceError: It is gone, another by now, archived, cannot be read, or is larger than the cache.
    """
    if not is_s3(footage.source_uri):
        yield footage.source_uri
        return
    with _Cache(settings).reading(footage) as path:
        yield str(path)


def let_go(footage: Footage, settings: CacheSettings) -> None:
    """Remove a recording that came from S3, unless somebody reads it just now."""
    if is_s3(footage.source_uri):
        _give_way(_Cache(settings).path_of(footage))


def forget_recordings(folder: Path) -> int:
    """Remove what nobody reads any more; return how many bytes that were."""
    if not folder.is_dir():
        return 0
    # A file that is new is nobody's until it is locked.
    with _room(folder):
        return sum(map(_give_way, sorted(folder.glob(_RECORDINGS))))


def _room(folder: Path) -> FileLock:
    return FileLock(folder / "room.lock")


class _Cache:
    """A node's folder of recordings."""

    def __init__(self, settings: CacheSettings) -> None:
        self._settings = settings
        self._folder = settings.folder
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def path_of(self, footage: Footage) -> Path:
        """Return where a recording lies, if it is there."""
        about = f"{footage.source_uri} {footage.version}"
        suffix = PurePosixPath(footage.source_uri).suffix
        digest = hashlib.sha256(about.encode()).hexdigest()[:32]
        return self._folder / f"{digest}{suffix if _SUFFIX.fullmatch(suffix) else ''}"

    @contextmanager
    def reading(self, footage: Footage) -> Iterator[Path]:
        """Give the path of a recording, fetched if it is not there; nobody removes it meanwhile."""
        path = self.path_of(footage)
        while (handle := _shared(path) or self._bring(footage, path)) is None:
            # There is no room yet, or somebody else is fetching it.
            time.sleep(_LOOK_AGAIN_S)
        try:
            yield path
        finally:
            os.close(handle)

    def _bring(self, footage: Footage, path: Path) -> int | None:
        """Fetch a recording and return a handle that keeps it; None if it has to wait."""
        partial_path = path.with_name(path.name + _PARTIAL)
        handle = self._take_room(footage, partial_path)
        if handle is None:
            return None
        try:
            _fetch(footage, self._settings.aws, handle)
            partial_path.replace(path)
            # One lock is given up before the other is had: it may have given way in between.
            fcntl.flock(handle, fcntl.LOCK_SH)
        except BaseException:
            partial_path.unlink(missing_ok=True)
            os.close(handle)
            raise
        return _if_there(handle)

    def _take_room(self, footage: Footage, path: Path) -> int | None:
        """Make the file of a recording, as large as it will be; None if it has to wait.

        On a disk that is full, what nobody reads gives way too.

        Raises:
            SourceError: It is larger than all of the cache, or the disk has no room.
        """
        with _room(self._folder):
            if self._has_to_wait(footage, path):
                return None
            while True:
                try:
                    return _allocated(path, footage.size_bytes)
                except OSError as error:
                    is_full = error.errno in _FULL
                    if is_full and any(map(_give_way, self._oldest_first())):
                        continue
                    if is_full and self._oldest_first():
                        # Whoever reads those will be done with them.
                        return None
                    raise SourceError(
                        f"cannot be read: its {footage.size_bytes / 1e9:.1f} GB find no room in "
                        f"{str(self._folder)!r}: {error.strerror}",
                        source_uri=footage.source_uri,
                    ) from error

    def _oldest_first(self) -> list[Path]:
        return sorted(self._folder.glob(_RECORDINGS), key=_age)

    def _has_to_wait(self, footage: Footage, own: Path) -> bool:
        """Say whether a recording must wait; what nobody reads gives way to it.

        Raises:
            SourceError: It is larger than all of the cache.
        """
        check_fits(footage.source_uri, footage.size_bytes, self._settings)
        if own.exists() and not _give_way(own):
            return True
        if self.path_of(footage).exists():
            # Somebody has brought it just now.
            return True
        there = self._oldest_first()
        over = sum(map(_size, there)) + footage.size_bytes - self._settings.most_bytes
        for path in there:
            if over <= 0:
                break
            over -= _give_way(path)
        return over > 0


def _allocated(path: Path, size_bytes: int) -> int:
    """Make a file that is ours alone, of its full size; return its handle."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.posix_fallocate(handle, 0, size_bytes)
    except OSError:
        os.close(handle)
        path.unlink(missing_ok=True)
        raise
    return handle


def _shared(path: Path) -> int | None:
    """Return a handle that keeps a file, None if it is not there, or no longer."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    fcntl.flock(handle, fcntl.LOCK_SH)
    if _if_there(handle) is not None:
        os.utime(handle)
        return handle
    return None


def _if_there(handle: int) -> int | None:
    """Return the handle of a file that is still in its folder; otherwise None, and it is closed."""
    if os.fstat(handle).st_nlink:
        return handle
    os.close(handle)
    return None


def _give_way(path: Path) -> int:
    """Remove a file that nobody keeps; return its size, 0 if somebody does."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return 0
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Under its name there may be another by now, which somebody has brought.
        about = os.fstat(handle)
        size = about.st_size if about.st_nlink else 0
        if about.st_nlink:
            path.unlink(missing_ok=True)
    except BlockingIOError:
        size = 0
    finally:
        os.close(handle)
    return size


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _age(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _fetch(footage: Footage, aws: AwsSettings, handle: int) -> None:
    """Fill a file with an object, by ranges side by side."""
    address, uri = parse_address(footage.source_uri), footage.source_uri
    starts = range(0, footage.size_bytes, _RANGE_BYTES)

    def fetch_range(first: int) -> None:
        read_range(
            address,
            aws,
            lambda at, piece: os.pwrite(handle, piece, at),
            first=first,
            stop=min(first + _RANGE_BYTES, footage.size_bytes),
            version=footage.version,
        )

    with ThreadPoolExecutor(min(_CONNECTIONS, len(starts))) as threads:
        pending = [threads.submit(fetch_range, first) for first in starts]
        try:
            with explained("cannot be read", source_error(uri)):
                for each in pending:
                    each.result()
        finally:
            threads.shutdown(wait=False, cancel_futures=True)
