"""Credentials and servers are found as the AWS tools find them, and outputs read as their users do."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from pyarrow.fs import S3FileSystem

from pipeline import aws
from pipeline.aws import AwsSettings, parse_address
from pipeline.s3 import list_objects
from tests.aws.conftest import Bucket
from tests.credentials import ENVIRONMENT


@pytest.fixture(autouse=True)
def fresh_clients() -> Iterator[None]:
    aws._client.cache_clear()
    yield
    aws._client.cache_clear()


def test_a_server_and_credentials_come_from_a_profile_and_are_renewed_when_they_expire(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = tmp_path / "asked"
    # Within the time before their end in which they are renewed at each request.
    given = {
        "Version": 1,
        "AccessKeyId": "AKIAEXAMPLE",
        "SecretAccessKey": "secret",
        "SessionToken": "token",
        "Expiration": (datetime.now(UTC) + timedelta(seconds=300)).isoformat(),
    }
    (tmp_path / "given.json").write_text(json.dumps(given))
    (tmp_path / "give").write_text(f"#!/bin/sh\necho x >> {asked}\ncat {tmp_path}/given.json\n")
    (tmp_path / "give").chmod(0o700)
    (tmp_path / "config").write_text(
        f"[profile archive]\ncredential_process = {tmp_path}/give\n"
        f"endpoint_url = {bucket.endpoint_url}\nregion = us-east-1\n"
    )
    for name in ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    address = parse_address(bucket.put("a.mkv"))
    for _ in range(3):
        assert len(list(list_objects(address, AwsSettings(profile="archive")))) == 1
    assert len(asked.read_text().split()) >= 3


def test_a_server_of_the_environment_is_asked(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", bucket.endpoint_url)
    address = parse_address(bucket.put("a.mkv"))
    assert len(list(list_objects(address, AwsSettings()))) == 1


def test_tables_in_s3_are_read_by_a_tool_that_is_not_ours(bucket: Bucket, tmp_path: Path) -> None:
    pq.write_table(pa.table({"frame_index": [1, 2]}), tmp_path / "rows.parquet")
    for camera in ("a", "b"):
        bucket.upload(
            f"logs/movements/camera_id={camera}/date=2026-01-15/rows.parquet",
            tmp_path / "rows.parquet",
        )
    s3 = S3FileSystem(
        endpoint_override=bucket.endpoint_url.removeprefix("http://"), scheme="http",
        access_key=ENVIRONMENT["AWS_ACCESS_KEY_ID"],
        secret_key=ENVIRONMENT["AWS_SECRET_ACCESS_KEY"], region="us-east-1",
    )  # fmt: skip
    table = ds.dataset(f"{bucket.name}/logs/movements", filesystem=s3, partitioning="hive")
    rows = table.to_table().to_pydict()
    assert sorted(zip(rows["camera_id"], rows["frame_index"], strict=True)) == [
        ("a", 1), ("a", 2), ("b", 1), ("b", 2),
    ]  # fmt: skip
