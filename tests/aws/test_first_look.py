"""What is wrong with S3, or with how it is asked, is one line, soon, before any work; in it, later."""

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from botocore.exceptions import BotoCoreError

from jobs import backfill, plan, status
from jobs.exits import EXIT_WRONG_SETTING
from pipeline import s3
from pipeline.aws import AwsSettings, S3Address
from tests.aws.conftest import Bucket
from tests.aws.proxy import BadDays, flaky_proxy

DOWN = "http://127.0.0.1:9"
SOON_S = 20.0
VERBS = {"plan": plan.main, "backfill": backfill.main, "status": status.main}


@pytest.fixture
def hung() -> Iterator[str]:
    """Give the address of a server that takes connections and never says anything."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        kept = []

        def take() -> None:
            while True:
                try:
                    kept.append(server.accept()[0])
                except OSError:
                    return

        threading.Thread(target=take, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)
        for each in kept:
            each.close()


@pytest.fixture
def manifest(tmp_path: Path) -> str:
    """Return a manifest on a disk, of recordings in a bucket that is not there."""
    path = tmp_path / "list.csv"
    path.write_text("".join(f"s3://no-such-bucket/{n:02}.mkv\n" for n in range(40)))
    return str(path)


def refused_line(
    capsys: pytest.CaptureFixture[str], verb: str, *arguments: str, endpoint_url: str
) -> str:
    """Run a verb that has to refuse what it is given, soon; return what it says."""
    began = time.monotonic()
    code = VERBS[verb]([*arguments, "--endpoint-url", endpoint_url])
    took_s = time.monotonic() - began
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("footfall ")]
    assert code == EXIT_WRONG_SETTING, said
    assert took_s < SOON_S
    (line,) = said
    return line


@pytest.mark.parametrize(
    "arguments",
    [
        ("plan", "--input", "s3://archive/films/"),
        ("plan", "--input", "s3://archive/films/a.mkv"),
        ("plan", "--input", "s3://archive/list.csv"),
        ("plan", "--input", "s3://archive/daily/manifest.json"),
        ("plan", "--input", "MANIFEST"),
        ("backfill", "--input", "MANIFEST", "--output", "s3://logs/out"),
        ("backfill", "--input", "MANIFEST", "--output", "OUTPUT"),
        ("status", "s3://logs/out"),
    ],
)
def test_a_server_that_is_down_or_silent_is_one_line_soon(
    arguments: tuple[str, ...],
    manifest: str,
    hung: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    places = {"MANIFEST": manifest, "OUTPUT": str(tmp_path / "out")}
    given = [places.get(each, each) for each in arguments]
    down = refused_line(capsys, *given, endpoint_url=DOWN)
    assert "the server does not answer" in down
    if arguments[0] != "status":
        # Of the real five seconds one verb is enough.
        monkeypatch.setattr(s3, "FIRST_LOOK_READ_S", 0.3)
    assert hung in refused_line(capsys, *given, endpoint_url=hung)
    assert not (tmp_path / "out").exists()


def test_a_bucket_that_is_not_there_and_credentials_that_are_old_are_one_line(
    bucket: Bucket, manifest: str, capsys: pytest.CaptureFixture[str]
) -> None:
    url = bucket.endpoint_url
    line = refused_line(capsys, "plan", "--input", manifest, endpoint_url=url)
    assert "recording 's3://no-such-bucket/00.mkv': there is no such bucket" in line
    line = refused_line(
        capsys, "backfill", "--input", manifest, "--output", "s3://no-such-bucket/o",
        endpoint_url=url,
    )  # fmt: skip
    assert "output 's3://no-such-bucket/o': there is no such bucket" in line
    days = BadDays(url, refusal=(400, "ExpiredToken"))
    with flaky_proxy(days) as endpoint_url:
        line = refused_line(capsys, "plan", "--input", manifest, endpoint_url=endpoint_url)
    assert "the credentials have expired" in line
    assert len(days.requests) == 1


def test_an_output_that_must_not_be_written_is_refused_before_anything_is_read(
    bucket: Bucket, capsys: pytest.CaptureFixture[str]
) -> None:
    given = "--input", bucket.put("films/a.mkv"), "--output", f"s3://{bucket.name}/out"
    days = BadDays(
        bucket.endpoint_url,
        refusal=(403, "AccessDenied"),
        refuses=lambda method, _: method == "PUT",
    )
    with flaky_proxy(days) as endpoint_url:
        line = refused_line(capsys, "backfill", *given, endpoint_url=endpoint_url)
    assert "cannot be written: access is denied" in line
    assert not [path for _, path in days.requests if "films" in path]


def test_a_server_that_falls_silent_during_work_is_waited_for_once_not_ten_times_ten(
    hung: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A hundredth of what they are.
    monkeypatch.setattr(s3, "_PATIENCE_S", 3.0)
    monkeypatch.setattr(s3, "_SILENCE_S", 0.3)
    began = time.monotonic()
    with pytest.raises(BotoCoreError, match="timeout"):
        s3.read_range(
            S3Address("archive", "a.mkv"), AwsSettings(endpoint_url=hung), lambda *_: None, stop=9
        )
    assert 1.0 < time.monotonic() - began < 10.0
