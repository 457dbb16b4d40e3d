"""The files of an output, on a disk or in S3: listed, read, written whole, removed.

A path says which: `Path("s3:/bucket/prefix/run.json")` is the object s3://bucket/prefix/run.json, and
never a file. What is written for S3 is first a file of this process, in its scratch folder; one PUT
makes it an object, whole or not at all. What is read from S3 as a file is fetched there.

How S3 is reached is told to each process once: `reach_s3`.
"""

import atexit
import fcntl
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock

from pipeline.aws import (
    AwsSettings,
    S3Address,
    client,
    explained,
    is_gone,
    is_s3,
    is_taken,
    parse_address,
)
from pipeline.errors import OutputError
from pipeline.s3 import check_bucket, check_may_write, list_objects, read_range

_ROOT = "s3:"
_KEYS_A_REQUEST = 1000
_AT_ONCE = 16
# What S3 takes in one PUT.
MOST_PUT_BYTES = 5 << 30


_Item = TypeVar("_Item")
_Made = TypeVar("_Made")


class _Reach:
    """How this process reaches S3."""

    settings = AwsSettings()


@dataclass(frozen=True, slots=True)
class Seen:
    """A file as it was looked at: its content, and what tells this version from another."""

    content: bytes
    version: str


def reach_s3(settings: AwsSettings) -> None:
    """Say how this process reaches outputs in S3."""
    # An output is a few small files at a time, each waited for.
    _Reach.settings = replace(settings, is_paced=False)


def s3_reach() -> AwsSettings:
    """Return how this process reaches outputs in S3, to tell another one."""
    return _Reach.settings


def output_root(given: str) -> Path:
    """Return the root of an output: an absolute path, or one that stands for a prefix in S3.

    Raises:
        ConfigError: It names no bucket.
    """
    if not is_s3(given):
        return Path(given).absolute()
    address = parse_address(given)
    return Path(_ROOT, address.bucket, address.key)


def shown(path: Path) -> str:
    """Return a path as users write it."""
    address = _address(path)
    return str(address) if address else str(path)


def check_writable(root: Path) -> None:
    """Make sure, soon, that an output in S3 may be written.

    Raises:
        ConfigError: It may not.
    """
    if address := _address(root / "may-write"):
        check_may_write(address, _Reach.settings, "output", **_encryption())


def check_reach(root: Path) -> None:
    """Make sure that an output's bucket answers, soon.

    Raises:
        ConfigError: It does not.
    """
    if address := _address(root):
        check_bucket(address, _Reach.settings, "output")


def _address(path: Path) -> S3Address | None:
    """Return the object that a path stands for; None for one on a disk."""
    if path.parts[:1] != (_ROOT,):
        return None
    _, bucket, *rest = path.parts
    return S3Address(bucket, "/".join(rest))


def _s3() -> Any:  # noqa: ANN401 -- made at run time
    return client("s3", _Reach.settings)


def _refused(path: Path) -> Any:  # noqa: ANN401 -- a context manager
    return explained(f"'{shown(path)}'", OutputError)


def walk(folder: Path) -> list[Path]:
    """Return all files below a folder, sorted; none if it is not there."""
    address = _address(folder)
    if address is None:
        return sorted(path for path in folder.rglob("*") if path.is_file())
    # What ends in "/" is how consoles show an empty folder.
    keys = [key for key in _keys_below(address) if not key.endswith("/")]
    return sorted(Path(_ROOT, address.bucket, key) for key in keys)


def _beginning(address: S3Address) -> str:
    """Return how the keys of what lies in a folder begin; those of a whole bucket begin anyhow."""
    return address.key.rstrip("/") + "/" if address.key else ""


def _keys_below(address: S3Address) -> list[str]:
    below = S3Address(address.bucket, _beginning(address))
    return [parse_address(each.source_uri).key for each in list_objects(below, _Reach.settings)]


def files(folder: Path, pattern: str = "*") -> list[Path]:
    """Return the files in a folder whose names fit a glob, sorted; none if it is not there."""
    if _address(folder) is None:
        return [folder / name for name in sorted(_names(folder, pattern))]
    return [path for path in walk(folder) if path.parent == folder and path.match(pattern)]


def _names(folder: Path, pattern: str) -> list[str]:
    """Return the names of files in a folder; as `Path.glob`, but fast where most others do not fit."""
    beginning = re.split(r"[*?[]", pattern, maxsplit=1)[0]
    try:
        with os.scandir(folder) as entries:
            return [
                entry.name
                for entry in entries
                if entry.name.startswith(beginning)
                and fnmatchcase(entry.name, pattern)
                and entry.is_file()
            ]
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return []


def folders(folder: Path) -> list[str]:
    """Return the names of the folders in a folder, sorted."""
    address = _address(folder)
    if address is None:
        return sorted(p.name for p in folder.iterdir() if p.is_dir()) if folder.is_dir() else []
    beginning, names = _beginning(address), []
    with _refused(folder):
        pages = (
            _s3()
            .get_paginator("list_objects_v2")
            .paginate(Bucket=address.bucket, Prefix=beginning, Delimiter="/")
        )
        for page in pages:
            for each in page.get("CommonPrefixes", ()):
                names.append(each["Prefix"].removeprefix(beginning).rstrip("/"))
    return sorted(names)


def size_of(path: Path) -> int:
    """Return a file's size in bytes.

    Raises:
        FileNotFoundError: It is not there.
    """
    address = _address(path)
    if address is None:
        return path.stat().st_size
    return int(_head(path, address)["ContentLength"])


def _head(path: Path, address: S3Address) -> dict[str, Any]:
    with _refused(path), _missing(path):
        head: dict[str, Any] = _s3().head_object(Bucket=address.bucket, Key=address.key)
        return head


@contextmanager
def _missing(path: Path) -> Iterator[None]:
    from botocore.exceptions import ClientError

    try:
        yield
    except ClientError as error:
        if is_gone(error):
            raise FileNotFoundError(2, "No such object", shown(path)) from error
        raise


def exists(path: Path) -> bool:
    """Say whether a file is there."""
    try:
        size_of(path)
    except FileNotFoundError:
        return False
    return True


def read(path: Path) -> bytes:
    """Return a file's content.

    Raises:
        FileNotFoundError: It is not there.
        OutputError: S3 does not give it.
    """
    return path.read_bytes() if _address(path) is None else look(path).content


def look(path: Path) -> Seen:
    """Return a file's content, and its version.

    Raises:
        FileNotFoundError: It is not there.
        OutputError: S3 does not give it.
    """
    address = _address(path)
    if address is None:
        content = path.read_bytes()
        return Seen(content, hashlib.sha256(content).hexdigest())
    pieces: list[bytes] = []
    with _refused(path), _missing(path):
        what = read_range(
            address, _Reach.settings, lambda _, piece: pieces.append(piece), stop=MOST_PUT_BYTES
        )
    return Seen(b"".join(pieces), what.version)


def put_if(path: Path, content: bytes, seen: Seen | None) -> bool:
    """Write a small object if it still is what was seen, None being none; return whether it was.

    Raises:
        OutputError: S3 does not take it.
    """
    from botocore.exceptions import ClientError

    address = _address(path)
    assert address is not None
    condition = {"IfMatch": f'"{seen.version}"'} if seen else {"IfNoneMatch": "*"}
    with _refused(path):
        try:
            _s3().put_object(
                Bucket=address.bucket, Key=address.key, Body=content, **condition, **_encryption()
            )
        except ClientError as error:
            if not is_taken(error) and not (seen and is_gone(error)):
                raise
            # Of a request whose answer was lost, the second one finds what the first one wrote.
            return _is_now(path, content)
    return True


def _is_now(path: Path, content: bytes) -> bool:
    try:
        return read(path) == content
    except FileNotFoundError:
        return False


def _encryption() -> dict[str, str]:
    key = _Reach.settings.kms_key_id
    return {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": key} if key else {}


def beat(path: Path) -> None:
    """Have a file look as written just now; whoever reads `pulse` sees it."""
    address = _address(path)
    if address is None:
        os.utime(path)
    else:
        write_object(path, read(path))


def pulse(path: Path) -> float:
    """Return when a file was written, as its server's clock says, in Unix time.

    Raises:
        FileNotFoundError: It is not there.
    """
    address = _address(path)
    if address is None:
        return path.stat().st_mtime
    moment: float = _head(path, address)["LastModified"].timestamp()
    return moment


def quiet_s(path: Path) -> float | None:
    """Return how long ago an object was written, by S3's clock alone; None of a file on a disk.

    Raises:
        FileNotFoundError: It is not there.
    """
    address = _address(path)
    if address is None:
        return None
    head = _head(path, address)
    now = parsedate_to_datetime(head["ResponseMetadata"]["HTTPHeaders"]["date"])
    age_s: float = (now - head["LastModified"]).total_seconds()
    return age_s


def write_object(path: Path, content: bytes) -> None:
    """Write a small object."""
    address = _address(path)
    assert address is not None
    with _refused(path):
        _s3().put_object(Bucket=address.bucket, Key=address.key, Body=content, **_encryption())


def in_s3(path: Path) -> bool:
    """Say whether a path stands for an object."""
    return _address(path) is not None


def put(path: Path, source: Path) -> None:
    """Make an object of a file of ours, in one request, and remove the file.

    Raises:
        OutputError: S3 does not take it.
    """
    address = _address(path)
    assert address is not None
    with _refused(path), source.open("rb") as body:
        _s3().put_object(Bucket=address.bucket, Key=address.key, Body=body, **_encryption())
    source.unlink()


def delete(path: Path) -> None:
    """Remove a file, if it is there; its folder stays."""
    address = _address(path)
    if address is None:
        path.unlink(missing_ok=True)
        return
    with _refused(path):
        _s3().delete_object(Bucket=address.bucket, Key=address.key)


def delete_folder(folder: Path) -> None:
    """Remove a folder and all in it, if it is there.

    Raises:
        OutputError: S3 does not remove something.
    """
    address = _address(folder)
    if address is None:
        if folder.is_dir():
            shutil.rmtree(folder)
        return
    keys = _keys_below(address)
    for start in range(0, len(keys), _KEYS_A_REQUEST):
        with _refused(folder):
            some = [{"Key": key} for key in keys[start : start + _KEYS_A_REQUEST]]
            answer = _s3().delete_objects(
                Bucket=address.bucket, Delete={"Objects": some, "Quiet": True}
            )
        _check_deleted(address.bucket, answer)


def _check_deleted(bucket: str, answer: dict[str, Any]) -> None:
    """Make sure that nothing was refused: the answer to many at once is 200 all the same."""
    from botocore.exceptions import ClientError

    if refused := answer.get("Errors"):
        first = refused[0]
        with explained(f"'{S3Address(bucket, first['Key'])}' cannot be removed", OutputError):
            raise ClientError({"Error": first}, "DeleteObjects")


def side_by_side(root: Path, do: Callable[[_Item], _Made], items: Iterable[_Item]) -> list[_Made]:
    """Return what `do` makes of each, in their order; in S3 many are done at once.

    Args:
        root: Of the output that they are about: S3 takes a while to answer, and a disk does not.
        do: What is done; threads must be able to share it.
        items: Of what.
    """
    if not in_s3(root):
        return [do(item) for item in items]
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        return list(threads.map(do, items))


@contextmanager
def fetched(*paths: Path) -> Iterator[list[Path]]:
    """Give files with the content of `paths` for as long as the `with` block runs.

    Raises:
        FileNotFoundError: One is not there.
        OutputError: S3 does not give one.
    """
    if not any(map(in_s3, paths)):
        yield list(paths)
        return
    with tempfile.TemporaryDirectory(dir=scratch()) as folder:
        yield [_fetch(path, Path(folder, f"{n:06}-{path.name}")) for n, path in enumerate(paths)]


def _fetch(path: Path, to: Path) -> Path:
    address = _address(path)
    if address is None:
        return path
    with to.open("wb") as file, _refused(path), _missing(path):
        read_range(
            address, _Reach.settings, lambda _, piece: file.write(piece), stop=MOST_PUT_BYTES
        )
    return to


def copies(paths: Sequence[Path]) -> list[Path]:
    """Return files with the content of `paths`, for as long as this process lives.

    Raises:
        FileNotFoundError: One is not there.
        OutputError: S3 does not give one.
    """
    if not any(map(in_s3, paths)):
        return list(paths)
    folder = tempfile.mkdtemp(dir=scratch())
    return [_fetch(path, Path(folder, f"{n:06}-{path.name}")) for n, path in enumerate(paths)]


def written_at(path: Path) -> Path:
    """Return where the bytes of an object are collected before they are one."""
    return Path(scratch(), *path.parts[1:])


@cache
def scratch() -> Path:
    """Return this process's folder for what comes from S3 or goes there; it goes with the process."""
    base = Path(tempfile.gettempdir(), f"footfall-{os.getuid()}", "outputs")
    base.mkdir(parents=True, exist_ok=True, mode=0o700)
    # A folder that is new is nobody's until it is locked: no other process may sweep meanwhile.
    with FileLock(base.with_name("outputs.lock")):
        for folder in base.iterdir():
            if (handle := _locked(folder)) is not None:
                shutil.rmtree(folder, ignore_errors=True)
                os.close(handle)
        own = Path(tempfile.mkdtemp(dir=base))
        # Held for as long as this process lives.
        if _locked(own) is None:
            raise OutputError(f"{str(own)!r} cannot be locked: another process took it")
    atexit.register(shutil.rmtree, own, ignore_errors=True)
    return own


def _locked(folder: Path) -> int | None:
    """Lock a folder; None if a living process has it, or if it is gone."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    return handle
