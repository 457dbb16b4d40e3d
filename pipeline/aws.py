"""AWS as boto3 speaks it: whose account, which region, which server; and its errors in one line each.

Credentials are never settings of ours. Each process finds its own by boto3's usual means (environment,
profile, role), which renew them when they expire; what travels are names: profile, region, server.
"""

import os
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

from pipeline.errors import ConfigError, FootfallError

SCHEME = "s3://"
# A server that does not answer is waited for so long; one that is slow, so long for each read.
_CONNECT_S, READ_S, FIRST_LOOK_READ_S = 5, 30, 5
# A first look shall fail soon; work that is under way waits out what passes: some minutes.
ONE_TRY, FIRST_LOOK_TRIES, WORK_TRIES = 1, 2, 10
_POOL = 32
_LEAST_BUCKET, _MOST_BUCKET = 3, 63

_AFTER_AUTHORITY = re.compile(r"[/?#\\]")
_USER_OF_URL = re.compile(r"://[^/\s]*@")
# What would be wrong is a secret, perhaps: it is not repeated.
_NO_SECRETS = (
    "holds no user, key or password (they come from AWS_PROFILE, the AWS_ variables or a role)"
)
_SECRETS = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_SECURITY_TOKEN",
)
_VISIBLE = re.compile(r"[!-~]*")

_MEANINGS = {
    "NoSuchBucket": "there is no such bucket",
    "NoSuchKey": "there is no such object",
    "404": "there is no such object",
    "NotFound": "there is no such object",
    "AccessDenied": "access is denied: what these credentials may do does not include it",
    "AllAccessDisabled": "access is denied: all access to it is disabled",
    "403": "access is denied: what these credentials may do does not include it",
    "Forbidden": "access is denied: what these credentials may do does not include it",
    "ExpiredToken": "the credentials have expired: renew them",
    "ExpiredTokenException": "the credentials have expired: renew them",
    "RequestExpired": "the credentials have expired: renew them, or set the clock right",
    "RequestTimeTooSkewed": "this machine's clock is wrong by more than the server takes",
    "InvalidAccessKeyId": "the access key is unknown there",
    "InvalidClientTokenId": "the access key is unknown there",
    "UnrecognizedClientException": "the access key is unknown there",
    "InvalidToken": "the session token is not valid",
    "SignatureDoesNotMatch": "the secret key does not belong to the access key",
    "InvalidSignatureException": "the secret key does not belong to the access key",
    "PreconditionFailed": "it has changed meanwhile",
    "412": "it has changed meanwhile",
    "SlowDown": "the server is too busy, and stayed so",
    "KMS.NotFoundException": "there is no such KMS key",
    "KMS.DisabledException": "the KMS key is disabled",
}
# Storage classes whose objects must be restored before they are read.
ARCHIVED = ("GLACIER", "DEEP_ARCHIVE")
_BUSY = (429, 500, 502, 503, 504)
_ELSEWHERE = (
    "PermanentRedirect",
    "301",
    "AuthorizationHeaderMalformed",
    "IllegalLocationConstraintException",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AwsSettings:
    """Where and as whom AWS is asked: names alone, no secrets.

    Attributes:
        profile: Of the files that the AWS tools share; "" means the usual one.
        region: "" means that of the environment or profile.
        endpoint_url: Another server that speaks S3 (MinIO, a gateway); "" means AWS.
        kms_key_id: Key that S3 encrypts what is written with; "" means the bucket's own way.
        is_paced: All requests of a process go slower once one was asked to: right for what is read in
            bulk. Otherwise each waits for itself: right where one needs the answer of the one before.
    """

    profile: str = ""
    region: str = ""
    endpoint_url: str = ""
    kms_key_id: str = ""
    is_paced: bool = True

    def __post_init__(self) -> None:
        authority = _AFTER_AUTHORITY.split(self.endpoint_url.rpartition("://")[2], maxsplit=1)[0]
        if "@" in authority:
            raise ConfigError(f"a server's address {_NO_SECRETS}: write it as https://host:port")


@dataclass(frozen=True, slots=True)
class S3Address:
    """A bucket, and a key or the beginning of keys in it."""

    bucket: str
    key: str = ""

    def __str__(self) -> str:
        return f"{SCHEME}{self.bucket}/{self.key}"


def is_s3(text: str) -> bool:
    """Say whether an input, output or recording lies in S3."""
    return text.startswith(SCHEME)


def parse_address(text: str) -> S3Address:
    """Return the bucket and key of "s3://bucket/key".

    Raises:
        ConfigError: It names no bucket.
    """
    bucket, _, key = text.removeprefix(SCHEME).partition("/")
    if set(bucket) & set(":@"):
        raise ConfigError(f"an address in S3 {_NO_SECRETS}: write it as s3://bucket/prefix/")
    if not is_s3(text) or not _LEAST_BUCKET <= len(bucket) <= _MOST_BUCKET:
        raise ConfigError(f"{text!r} names no bucket: write it as s3://bucket/prefix/")
    return S3Address(bucket, key)


class Counter:
    """Counts how often a request of this process was made again."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._count = 0

    def add(self, count: int) -> None:
        """Note that something was asked for `count` times more."""
        with self._lock:
            self._count += count

    def take(self) -> int:
        """Return the count since this was last asked."""
        with self._lock:
            count, self._count = self._count, 0
        return count


retries = Counter()


_one_at_a_time = threading.Lock()


def client(
    service: str, settings: AwsSettings, tries: int = WORK_TRIES, read_s: float = READ_S
) -> Any:  # noqa: ANN401 -- made at run time
    """Return this process's client of a service ("s3", "rekognition").

    Requests that are throttled, time out or lose their connection are made again, ever later; and
    paced ones slower where the server asks for it (botocore's adaptive mode).

    Args:
        service: AWS's name of it.
        settings: Where and as whom.
        tries: Of each request, the first one included.
        read_s: How long a server may be silent in each.

    Raises:
        ConfigError: There is no such profile, no region, or no such address; or the environment has a
            credential that cannot be one.
    """
    # Threads may share one. Each takes a fifth of a second and megabytes to make, so that of threads
    # that begin together one makes it.
    with _one_at_a_time:
        return _client(service, settings, tries, read_s)


@cache
def _client(service: str, settings: AwsSettings, tries: int, read_s: float) -> Any:  # noqa: ANN401
    _check_secrets()
    # It takes a fifth of a second, and most runs need none of it.
    import boto3
    import botocore.config
    import botocore.exceptions

    config = botocore.config.Config(
        retries={
            "mode": "adaptive" if settings.is_paced else "standard",
            "total_max_attempts": tries,
        },
        connect_timeout=_CONNECT_S,
        read_timeout=read_s,
        max_pool_connections=_POOL,
        # Its own one, of which it thinks anew for each request, is a tenth of what a request costs us.
        user_agent=f"footfall Boto3/{boto3.__version__}",
        # Servers that only speak S3 may not know newer checksums.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    try:
        session = boto3.Session(
            profile_name=settings.profile or None, region_name=settings.region or None
        )
        region = session.region_name or ("us-east-1" if service == "s3" else None)
        made = session.client(
            service, region_name=region, endpoint_url=settings.endpoint_url or None, config=config
        )
    except (botocore.exceptions.BotoCoreError, ValueError) as error:
        raise ConfigError(f"AWS: {explain(error)}") from None
    made.meta.events.register("request-created", _count_retry)
    return made


def _check_secrets() -> None:
    """Make sure that credentials can be sent: who cannot send one repeats it in an error."""
    for name in _SECRETS:
        if not _VISIBLE.fullmatch(os.environ.get(name, "")):
            raise ConfigError(
                f"{name} holds a space, a line break or another character that no credential has: "
                "set it again, without a line break at its end"
            )


def _count_retry(request: Any, **_: object) -> None:  # noqa: ANN401 -- boto3's
    # Also those of a call that fails in the end, of which no answer tells.
    if request.context.get("retries", {}).get("attempt", 1) > 1:
        retries.add(1)


@contextmanager
def explained(what: str, raised: Callable[[str], FootfallError]) -> Iterator[None]:
    """Turn what AWS refuses in the `with` block into an error of one clear line.

    Args:
        what: What was asked for, as the line begins.
        raised: Makes the error of it.
    """
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except (BotoCoreError, ClientError, Boto3Error) as error:
        # The error itself goes no further: it may quote headers, and those hold credentials.
        # What a server answered holds no secret; what could not be sent may name the request's headers.
        raise raised(f"{what}: {explain(error)}") from (error if _has_answer(error) else None)


def explain(error: Exception) -> str:
    """Return what an error of boto3 means, in one line."""
    response: dict[str, Any] = getattr(error, "response", None) or {}
    code = str(response.get("Error", {}).get("Code", ""))
    if code in _ELSEWHERE:
        headers = response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
        region = headers.get("x-amz-bucket-region") or response["Error"].get("Region")
        there = f"it is in {region}" if region else "it is in another region"
        return f"{there}: give that one with --region"
    if code == "InvalidObjectState":
        storage_class = response["Error"].get("StorageClass", "an archive class")
        return f"it is archived ({storage_class}): restore it in S3, then `footfall retry`"
    if code in _MEANINGS:
        return f"{_MEANINGS[code]} ({code}{_own_words(response['Error'])})"
    return _explain_unsent(error)


def _explain_unsent(error: Exception) -> str:
    name = type(error).__name__
    if name == "NoCredentialsError":
        return "no credentials: set AWS_PROFILE or the AWS_ variables, or give the machine a role"
    if name in ("EndpointConnectionError", "ConnectTimeoutError", "ConnectionClosedError"):
        return f"the server does not answer: {_one_line(error)}"
    if name == "HTTPClientError":
        cause = type(getattr(error, "kwargs", {}).get("error", error)).__name__
        return (
            f"the request cannot be sent ({cause}); credentials, profile or region hold characters "
            "that no request takes, perhaps"
        )
    return _one_line(error)


def _own_words(told: dict[str, Any]) -> str:
    """Return what a server says of its own about a denial: whom, what and which key it is about."""
    words = " ".join(str(told.get("Message", "")).split())
    is_denial = "denied" in _MEANINGS[told["Code"]] or "KMS" in told["Code"]
    is_news = words.strip(".").lower() not in ("", "access denied", "forbidden")
    return f": {words}" if is_denial and is_news else ""


def _has_answer(error: Exception) -> bool:
    """Say whether an error of boto3 is what a server answered."""
    # botocore's errors of sending have an empty one.
    return isinstance(getattr(error, "response", None), dict)


def archive_of(error: Exception) -> str:
    """Return the storage class of an object that cannot be read since it is archived; "" otherwise.

    Args:
        error: An error of boto3, or one that was made of it.
    """
    cause = error if _has_answer(error) else error.__cause__
    response: dict[str, Any] = getattr(cause, "response", None) or {}
    told = response.get("Error", {})
    is_archived = told.get("Code") == "InvalidObjectState"
    return str(told.get("StorageClass", "archive class unknown")) if is_archived else ""


def is_gone(error: Exception) -> bool:
    """Say whether an error of boto3 means that there is no such object."""
    return _code(error) in ("NoSuchKey", "404", "NotFound")


def is_busy(error: Exception) -> bool:
    """Say whether a server refused a request because it has too much to do."""
    response: dict[str, Any] = getattr(error, "response", None) or {}
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return status in _BUSY


def is_refused(error: Exception) -> bool:
    """Say whether these credentials, known as they are, may not do something."""
    return _code(error) in ("AccessDenied", "403", "Forbidden", "AllAccessDisabled")


def is_taken(error: Exception) -> bool:
    """Say whether a write was refused because the object is there, or another than it named."""
    return _code(error) in ("PreconditionFailed", "412", "ConditionalRequestConflict", "409")


def _code(error: Exception) -> str:
    response: dict[str, Any] = getattr(error, "response", None) or {}
    return str(response.get("Error", {}).get("Code", ""))


def _one_line(error: Exception) -> str:
    # AWS_ENDPOINT_URL may have a password, and errors name addresses.
    text = _USER_OF_URL.sub("://", str(error))
    return " ".join(text.split()) or type(error).__name__
