"""A server that speaks S3, in a process of its own, and one of Rekognition; both over HTTP."""

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
from pipeline.standin_rekognition import StandInRekognition, serving
from tests.conftest import free_port, wait_for
from tests.credentials import ENVIRONMENT


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


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_PROFILE", raising=False)


@pytest.fixture
def bucket(s3_server: str) -> Iterator[Bucket]:
    """Give a bucket of the test's own."""
    s3 = boto3.client("s3", endpoint_url=s3_server)
    made = Bucket(f"archive-{uuid.uuid4().hex[:12]}", s3_server, s3)
    s3.create_bucket(Bucket=made.name)
    store.reach_s3(made.settings)
    yield made
    store.reach_s3(AwsSettings())


@pytest.fixture
def rekognition() -> Iterator[StandInRekognition]:
    """Serve; it answers at once, until it is told otherwise."""
    server = StandInRekognition()
    with serving(server):
        yield server
