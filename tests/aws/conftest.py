"""A server that speaks S3, in a process of its own; everything reaches it over HTTP."""

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest

from pipeline import store
from pipeline.aws import AwsSettings
from tests.conftest import free_port, wait_for

SECRET = "wJalrXUtnFEMIsecretK7MDENGbPxRfiCYsecretKEY"
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7FOOTFAL",
    "AWS_SECRET_ACCESS_KEY": SECRET,
    "AWS_SESSION_TOKEN": f"token-{SECRET}",
    "AWS_DEFAULT_REGION": "us-east-1",
    # No machine's own files or role.
    "AWS_CONFIG_FILE": "/dev/null",
    "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
    "AWS_EC2_METADATA_DISABLED": "true",
}


@dataclass(frozen=True)
class Bucket:
    """A fresh bucket of the server."""

    name: str
    endpoint_url: str
    s3: Any

    @property
    def settings(self) -> AwsSettings:
        return AwsSettings(endpoint_url=self.endpoint_url)

    def put(self, key: str, content: bytes = b"x", **more: Any) -> str:
        """Store an object; return its address."""
        self.s3.put_object(Bucket=self.name, Key=key, Body=content, **more)
        return f"s3://{self.name}/{key}"

    def upload(self, key: str, path: Path) -> str:
        """Store a file; return its address."""
        return self.put(key, path.read_bytes())

    def keys(self, prefix: str = "") -> list[str]:
        """Return the keys that begin so."""
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=prefix)
        return [entry["Key"] for page in pages for entry in page.get("Contents", ())]

    def download(self, prefix: str, folder: Path) -> Path:
        """Bring all objects below a prefix to a folder; return it."""
        for key in self.keys(prefix):
            path = folder / key.removeprefix(prefix).lstrip("/")
            path.parent.mkdir(parents=True, exist_ok=True)
            self.s3.download_file(self.name, key, str(path))
        return folder


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run the server; give its address."""
    port = free_port()
    log = tmp_path_factory.mktemp("s3") / "server.log"
    with log.open("wb") as output:
        server = subprocess.Popen(
            [Path(sys.executable).with_name("moto_server"), "-H", "127.0.0.1", "-p", str(port)],
            stdout=output,
            stderr=output,
            env={**os.environ, **ENVIRONMENT},
        )
    try:
        wait_for(lambda: b"Running on" in log.read_bytes(), 60, "the server that speaks S3")
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait()


@pytest.fixture
def bucket(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    """Give a bucket of the test's own, and credentials in the environment."""
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    s3 = boto3.client("s3", endpoint_url=s3_server)
    made = Bucket(f"archive-{uuid.uuid4().hex[:12]}", s3_server, s3)
    s3.create_bucket(Bucket=made.name)
    store.reach_s3(made.settings)
    yield made
    store.reach_s3(AwsSettings())
