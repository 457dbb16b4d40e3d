"""Credentials are in no error, table or log, whatever is wrong with them."""

import json
import os
import subprocess
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs.settings import JobSettings
from pipeline import aws
from pipeline.aws import AwsSettings, parse_address
from pipeline.cache import CacheSettings, on_disk
from pipeline.errors import ConfigError, SourceError
from pipeline.letterbox import fit
from pipeline.records import Footage, FootageKey, VideoTrack
from tests.aws.conftest import Bucket
from tests.credentials import ENVIRONMENT, SECRET


@pytest.fixture
def odd_credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have a process give credentials with a line break at their end."""
    given = {
        "Version": 1,
        "AccessKeyId": f"AKIA{SECRET}",
        "SecretAccessKey": SECRET,
        "SessionToken": f"token-{SECRET}\n",
    }
    (tmp_path / "given.json").write_text(json.dumps(given))
    (tmp_path / "config").write_text(f"[default]\ncredential_process = cat {tmp_path}/given.json\n")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    aws._client.cache_clear()
    yield
    aws._client.cache_clear()


def plan(*arguments: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "jobs.plan", *arguments],
        capture_output=True, text=True, timeout=120, check=False,
        env={**os.environ, **environment},
    )  # fmt: skip


@pytest.mark.parametrize("name", ["AWS_SESSION_TOKEN", "AWS_ACCESS_KEY_ID"])
def test_a_credential_with_a_line_break_is_refused_by_its_name(bucket: Bucket, name: str) -> None:
    uri = bucket.put("a.mkv")
    done = plan(
        "--input", uri, "--endpoint-url", bucket.endpoint_url,
        **{name: ENVIRONMENT[name] + SECRET + "\n"},
    )  # fmt: skip
    assert done.returncode == 2
    assert f"{name} holds a space, a line break" in done.stderr
    assert SECRET not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.usefixtures("odd_credentials")
def test_what_cannot_be_sent_is_told_without_the_headers_that_it_would_have(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.s3.time.sleep", lambda _: None)
    done = plan("--input", f"s3://{bucket.name}/", "--endpoint-url", bucket.endpoint_url)
    assert done.returncode == 2
    assert "the request cannot be sent (ValueError)" in done.stderr
    assert SECRET not in done.stdout + done.stderr

    footage = Footage(
        key=FootageKey(camera_id="door", sequence=0),
        source_uri=f"s3://{bucket.name}/a.mkv",
        track=VideoTrack(video_track=0, codec="h264", width=64, height=64),
        letterbox=fit(64, 64, 64),
        size_bytes=1,
    )
    cache = CacheSettings(aws=bucket.settings, folder=tmp_path / "cache")
    # It is a row of `failures`, and what a worker's log shows of it.
    with pytest.raises(SourceError) as raised, on_disk(footage, cache):
        pass
    assert SECRET not in "".join(traceback.format_exception(raised.value))


@pytest.mark.parametrize(
    "wrong",
    [
        {"endpoint_url": f"http://user:{SECRET}@host:9000"},
        {"aws_endpoint_url": f"https://{SECRET}@host"},
        {"input": (f"s3://AKIA:{SECRET}@bucket/a/",)},
        {"input": (f"s3://AKIA:abc/{SECRET}@bucket/a/",)},
        {"output": f"s3://AKIA:{SECRET}@bucket/a/"},
    ],
)
def test_an_address_with_a_password_is_refused_before_anything_keeps_it(
    wrong: dict[str, str],
) -> None:
    with pytest.raises(ConfigError, match="holds no user, key or password") as raised:
        JobSettings(**{"input": ("a.mkv",), "output": "/tmp/out", **wrong})
    assert SECRET not in "".join(traceback.format_exception(raised.value))


def test_an_address_with_an_at_in_its_path_is_one() -> None:
    assert parse_address("s3://bucket/user@host/a:b").key == "user@host/a:b"
    assert AwsSettings(endpoint_url="https://host:9000/a@b").endpoint_url


def test_errors_that_name_a_server_of_the_environment_leave_its_password_out() -> None:
    from botocore.exceptions import EndpointConnectionError

    error = EndpointConnectionError(endpoint_url=f"http://user:{SECRET}@host:9000/a")
    assert aws.explain(error).endswith('"http://host:9000/a"')
