"""S3's few verbs: list keys by prefix or glob, read an object or a range of it.

A body that breaks off is asked for again from where it broke: botocore tries again only until a
response begins. First looks fail soon; work waits out what passes.
"""

import random
import re
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from pipeline.aws import (
    FIRST_LOOK_READ_S,
    FIRST_LOOK_TRIES,
    AwsSettings,
    S3Address,
    client,
    explained,
    is_busy,
    is_gone,
    is_refused,
    is_s3,
    is_taken,
    parse_address,
    retries,
)
from pipeline.errors import ConfigError, FootfallError, SourceError
from pipeline.records import Listed

# A manifest of a million lines has some 100 MB.
_MOST_WHOLE_BYTES = 1 << 30
_CHUNK_BYTES = 256 << 10
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.2, 10.0
# What passes is waited for so long since something came; each request may be silent for so long.
_PATIENCE_S, _SILENCE_S = 300.0, 30.0
# No object's ETag.
_NO_VERSION = '"none"'
_WILD = re.compile(r"(\*\*/|\*\*|\*|\?|\[!?[^\]]+\])")


def check_bucket(
    address: S3Address, settings: AwsSettings, what: str, *, must_list: bool = True
) -> None:
    """Make sure that a bucket answers: what is wrong with it, or with us, shall be known soon.

    Args:
        address: In the bucket.
        settings: Where and as whom.
        what: What it is to us, as an error begins.
        must_list: Its keys will be listed: it is wrong if that is not allowed.

    Raises:
        ConfigError: It does not.
    """
    from botocore.exceptions import ClientError

    with explained(f"{what} '{address}'", ConfigError):
        try:
            _impatient(settings).list_objects_v2(
                Bucket=address.bucket, Prefix=address.key, MaxKeys=1
            )
        except ClientError as error:
            # One that is busy is there: work has more patience.
            if not is_busy(error) and (must_list or not is_refused(error)):
                raise


def check_recordings(listed: Iterable[Listed], settings: AwsSettings) -> None:
    """Make sure, soon, that each bucket answers that recordings lie in and that nobody has listed.

    Raises:
        ConfigError: One does not.
    """
    unseen: dict[str, S3Address] = {}
    for each in listed:
        if is_s3(each.source_uri) and not each.version:
            address = parse_address(each.source_uri)
            unseen.setdefault(address.bucket, address)
    for address in unseen.values():
        check_bucket(address, settings, "recording", must_list=False)


def check_may_write(address: S3Address, settings: AwsSettings, what: str, **more: str) -> None:
    """Make sure, soon, that an object may be written, without writing any: not this version of it.

    Args:
        address: A key that nothing is kept under.
        settings: Where and as whom.
        what: What it is to us, as an error begins.
        more: How it would be written.

    Raises:
        ConfigError: It may not, or the server does not know conditional writes.
    """
    from botocore.exceptions import ClientError

    where = {"Bucket": address.bucket, "Key": address.key}
    with explained(f"{what} '{address}' cannot be written", ConfigError):
        try:
            _impatient(settings).put_object(**where, Body=b"", IfMatch=_NO_VERSION, **more)
        except ClientError as error:
            if is_taken(error) or is_gone(error) or is_busy(error):
                return
            raise
        _impatient(settings).delete_object(**where)
    raise ConfigError(
        f"{what} '{address}': the server does not know conditional writes, by which runs keep out of "
        "each other's way"
    )


def _impatient(settings: AwsSettings) -> Any:  # noqa: ANN401 -- made at run time
    return client("s3", settings, FIRST_LOOK_TRIES, FIRST_LOOK_READ_S)


def list_objects(address: S3Address, settings: AwsSettings) -> Iterator[Listed]:
    """Yield the objects whose keys begin with an address's, sorted by key, a thousand a request.

    Raises:
        ConfigError: They cannot be listed.
    """
    token = ""
    while True:
        with explained(f"'{address}'", ConfigError):
            page: dict[str, Any] = client("s3", settings).list_objects_v2(
                Bucket=address.bucket,
                Prefix=address.key,
                **({"ContinuationToken": token} if token else {}),
            )
        for entry in page.get("Contents", ()):
            yield Listed(
                source_uri=str(S3Address(address.bucket, entry["Key"])),
                size_bytes=entry["Size"],
                version=entry["ETag"].strip('"'),
                storage_class=entry.get("StorageClass", "STANDARD"),
            )
        token = page.get("NextContinuationToken", "")
        if not token:
            return


def is_pattern(address: S3Address) -> bool:
    """Say whether a key is a glob."""
    return _WILD.search(address.key) is not None


def glob_objects(pattern: S3Address, settings: AwsSettings) -> Iterator[Listed]:
    """Yield the objects whose keys fit a glob: `*` stays between two "/", `**` does not.

    Raises:
        ConfigError: It is no glob, or they cannot be listed.
    """
    try:
        fits = re.compile(_regex(pattern.key)).fullmatch
    except re.error as error:
        raise ConfigError(f"'{pattern}' is no pattern of keys: {error}") from error
    beginning = _WILD.split(pattern.key, maxsplit=1)[0]
    for listed in list_objects(S3Address(pattern.bucket, beginning), settings):
        if fits(parse_address(listed.source_uri).key):
            yield listed


def _regex(pattern: str) -> str:
    said = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}

    def one(piece: str) -> str:
        if piece in said:
            return said[piece]
        if _WILD.fullmatch(piece):
            inside = re.sub(r"([\\\[^&~|])", r"\\\1", piece[1:-1])
            return f"[^{inside[1:]}]" if inside.startswith("!") else f"[{inside}]"
        return re.escape(piece)

    return "".join(map(one, _WILD.split(pattern)))


def find_object(address: S3Address, settings: AwsSettings, what: str) -> Listed | None:
    """Return an object by its whole key, soon; None if there is none.

    Args:
        address: The object.
        settings: Where and as whom.
        what: What it is to us, as an error begins.

    Raises:
        ConfigError: It cannot be asked for.
    """
    from botocore.exceptions import ClientError

    with explained(f"{what} '{address}'", ConfigError):
        try:
            # Who may read an object may not always list the bucket.
            head = _impatient(settings).head_object(Bucket=address.bucket, Key=address.key)
            return _described(address, head)
        except ClientError as error:
            # Its answer has no body: what is wrong, if anything is, the next one tells.
            is_there = not is_gone(error)
    check_bucket(address, settings, what)
    listed = next(list_objects(address, settings), None) if is_there else None
    # The key itself comes before all that begin with it.
    return listed if listed and listed.source_uri == str(address) else None


def read_list(uri: str, settings: AwsSettings, what: str) -> bytes:
    """Return the content of an object that tells of others; soon, if nobody answers.

    Args:
        uri: The object.
        settings: Where and as whom.
        what: What it is to us, as an error begins.

    Raises:
        ConfigError: It is not there, cannot be read, or is too large for a list.
    """
    address = parse_address(uri)
    if find_object(address, settings, what) is None:
        raise ConfigError(f"{what} {uri!r}: there is no such object")
    chunks: list[bytes] = []
    with explained(f"{what} {uri!r}", ConfigError):
        total = read_range(
            address,
            settings,
            lambda _, chunk: chunks.append(chunk),
            stop=_MOST_WHOLE_BYTES,
        ).size_bytes
    if total > _MOST_WHOLE_BYTES:
        raise ConfigError(f"{what} {uri!r} has {total} bytes: too many for a list")
    return b"".join(chunks)


def read_range(
    address: S3Address,
    settings: AwsSettings,
    take: Callable[[int, bytes], object],
    *,
    first: int = 0,
    stop: int,
    version: str = "",
) -> Listed:
    """Read bytes [first, stop) of an object, as far as it goes; return what it is.

    Args:
        address: The object.
        settings: Where and as whom.
        take: Gets each piece, with its place in the object, in order.
        first: Where to begin.
        stop: Where to end.
        version: The ETag that it must have; "" means any.

    Raises:
        BotoCoreError: It cannot be reached.
        ClientError: It is refused, gone, or another by now.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    at, pause_s, heard_at = first, _FIRST_PAUSE_S, time.monotonic()
    while True:
        try:
            answer = _get(address, settings, at, stop, version)
            for chunk in answer["Body"].iter_chunks(_CHUNK_BYTES):
                take(at, chunk)
                at += len(chunk)
                heard_at, pause_s = time.monotonic(), _FIRST_PAUSE_S
            return _described(address, answer)
        except (BotoCoreError, ClientError) as error:
            if not _may_pass(error) or time.monotonic() + pause_s > heard_at + _PATIENCE_S:
                raise
            retries.add(1)
            # Those who were turned away together shall not come back together.
            time.sleep(pause_s * random.uniform(0.5, 1.0))
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)


def _may_pass(error: Exception) -> bool:
    from botocore.exceptions import ConnectionError, HTTPClientError, IncompleteReadError

    # A request that cannot be put into words, for want of right credentials, never will be.
    is_unsendable = isinstance(getattr(error, "kwargs", {}).get("error"), ValueError)
    passing = ConnectionError | HTTPClientError | IncompleteReadError
    return is_busy(error) or (isinstance(error, passing) and not is_unsendable)


def _get(
    address: S3Address, settings: AwsSettings, first: int, stop: int, version: str
) -> dict[str, Any]:
    from botocore.exceptions import ClientError

    conditions = {"IfMatch": f'"{version}"'} if version else {}
    where = {"Bucket": address.bucket, "Key": address.key}
    # Patience is `read_range`'s alone: two loops within each other would multiply theirs.
    s3 = client("s3", settings, 1, _SILENCE_S)
    try:
        answer: dict[str, Any] = s3.get_object(
            **where, **conditions, Range=f"bytes={first}-{stop - 1}"
        )
    except ClientError as error:
        if first or error.response.get("Error", {}).get("Code") not in ("InvalidRange", "416"):
            raise
        # An empty object has no range.
        answer = s3.get_object(**where, **conditions)
    return answer


def _described(address: S3Address, answer: dict[str, Any]) -> Listed:
    total = answer.get("ContentRange", "").rpartition("/")[2]
    return Listed(
        source_uri=str(address),
        size_bytes=int(total) if total.isdecimal() else answer["ContentLength"],
        version=answer["ETag"].strip('"'),
        storage_class=answer.get("StorageClass", "STANDARD"),
    )


def source_error(uri: str) -> Callable[[str], FootfallError]:
    """Return what makes a recording's error of a line."""
    return lambda line: SourceError(line, source_uri=uri)
