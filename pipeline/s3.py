"""S3's few verbs: list keys by prefix or glob, read an object or a range of it.

A body that breaks off is asked for again from where it broke: botocore tries again only until a
response begins.
"""

import re
import time
from collections.abc import Callable, Iterator
from typing import Any

from pipeline.aws import (
    FIRST_LOOK_TRIES,
    WORK_TRIES,
    AwsSettings,
    S3Address,
    client,
    explained,
    is_busy,
    parse_address,
    retries,
)
from pipeline.errors import ConfigError, FootfallError, SourceError
from pipeline.records import Listed

# A manifest of a million lines has some 100 MB.
_MOST_WHOLE_BYTES = 1 << 30
_CHUNK_BYTES = 256 << 10
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.2, 10.0
_WILD = re.compile(r"(\*\*/|\*\*|\*|\?|\[!?[^\]]+\])")


def check_bucket(address: S3Address, settings: AwsSettings, what: str) -> None:
    """Make sure that a bucket answers: what is wrong with it, or with us, shall be known soon.

    Args:
        address: In the bucket.
        settings: Where and as whom.
        what: What it is to us, as an error begins.

    Raises:
        ConfigError: It does not.
    """
    from botocore.exceptions import ClientError

    with explained(f"{what} '{address}'", ConfigError):
        try:
            client("s3", settings, FIRST_LOOK_TRIES).list_objects_v2(
                Bucket=address.bucket, Prefix=address.key, MaxKeys=1
            )
        except ClientError as error:
            # One that is busy is there: work has more patience.
            if not is_busy(error):
                raise


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
        ConfigError: They cannot be listed.
    """
    fits = re.compile(_regex(pattern.key)).fullmatch
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


def find_object(address: S3Address, settings: AwsSettings) -> Listed | None:
    """Return an object by its whole key; None if there is none.

    Raises:
        ConfigError: It cannot be asked for.
    """
    listed = next(list_objects(address, settings), None)
    # The key itself comes before all that begin with it.
    return listed if listed and listed.source_uri == str(address) else None


def read_object(uri: str, settings: AwsSettings) -> bytes:
    """Return the content of a small object.

    Raises:
        ConfigError: It cannot be read, or is not small.
    """
    chunks: list[bytes] = []
    with explained(repr(uri), ConfigError):
        total = read_range(
            parse_address(uri),
            settings,
            lambda _, chunk: chunks.append(chunk),
            stop=_MOST_WHOLE_BYTES,
        ).size_bytes
    if total > _MOST_WHOLE_BYTES:
        raise ConfigError(f"{uri!r} has {total} bytes: too many for a list")
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
    from botocore.exceptions import HTTPClientError, IncompleteReadError

    at, pause_s = first, _FIRST_PAUSE_S
    for left in range(WORK_TRIES - 1, -1, -1):
        try:
            answer = _get(address, settings, at, stop, version)
            for chunk in answer["Body"].iter_chunks(_CHUNK_BYTES):
                take(at, chunk)
                at += len(chunk)
            return _described(address, answer)
        except (HTTPClientError, IncompleteReadError):
            if not left:
                raise
            retries.add(1)
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
    raise AssertionError("the last try returns or raises")


def _get(
    address: S3Address, settings: AwsSettings, first: int, stop: int, version: str
) -> dict[str, Any]:
    from botocore.exceptions import ClientError

    conditions = {"IfMatch": f'"{version}"'} if version else {}
    where = {"Bucket": address.bucket, "Key": address.key}
    s3 = client("s3", settings)
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
