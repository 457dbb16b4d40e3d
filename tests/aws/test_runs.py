"""Whole runs from one bucket into another: equal to those on a disk, whatever happens between."""

import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import duckdb
import psutil
import pytest

from jobs.soak_footage import film
from pipeline.standin_rekognition import StandInRekognition
from pipeline.verify import verify
from tests.aws.conftest import Bucket
from tests.aws.proxy import BadDays, flaky_proxy
from tests.credentials import ENVIRONMENT, SECRET

pytestmark = [pytest.mark.ray, pytest.mark.faults, pytest.mark.timeout(600)]

TABLES = (
    "detections",
    "movements",
    "tracks",
    "refined/movements",
    "refined/tracks",
    "refined/events",
)
CAMERAS = """\
[[camera]]
id = "hall"
recording = "[ab].mkv"
video_track = 0
lines = [{ name = "door", points = [[0.5, 0.0], [0.5, 1.0]], normalised = true }]
"""


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return three recordings, four video tracks."""
    folder = tmp_path_factory.mktemp("films")
    film(folder / "a.mkv", [1, 2], first=0, frames=400)
    film(folder / "b.mkv", [1], first=400, frames=300)
    film(folder / "c.mp4", [3], first=0, frames=300)
    return folder


def command(verb: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", f"jobs.{verb}", *arguments]


def backfill(given: str, output: str, *more: str) -> list[str]:
    return command(
        "backfill", "--input", given, "--output", output, "--model", "stand-in",
        "--image-size", "320", "--part-mb", "0.02", *more,
    )  # fmt: skip


def done(arguments: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        arguments, capture_output=True, text=True, timeout=300, check=False,
        env={**os.environ, **environment},
    )  # fmt: skip


@pytest.fixture(scope="module")
def local(films: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the output of a run from a disk to a disk."""
    output = tmp_path_factory.mktemp("local") / "out"
    run = done(backfill(str(films), str(output)))
    assert run.returncode == 0, run.stderr
    return output


@pytest.fixture
def archive(bucket: Bucket, films: Path) -> str:
    """Return the prefix that the recordings lie below in a bucket."""
    for path in films.iterdir():
        bucket.upload(f"films/{path.name}", path)
    return f"s3://{bucket.name}/films/"


def rows(output: Path, table: str) -> list[tuple[object, ...]]:
    """Return a table's rows, whatever files they are in and wherever the recordings lie."""
    sql = (
        "select * replace (parse_filename(source_uri) as source_uri) "
        f"from read_parquet('{output}/{table}/*/*/*.parquet', hive_partitioning = true) order by all"
    )
    return duckdb.execute(sql).fetchall()


def assert_equal(local: Path, found: Path) -> None:
    for table in TABLES:
        assert rows(found, table) == rows(local, table), table
    assert len(rows(local, "movements")) > 500
    assert verify(found).problems == []


def assert_has_no_secret(*folders: Path) -> None:
    for path in (path for folder in folders for path in folder.rglob("*") if path.is_file()):
        content = path.read_bytes()
        for name in ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
            assert ENVIRONMENT[name].encode() not in content, path


def test_a_run_from_bucket_to_bucket_equals_one_from_disk_to_disk_and_keeps_its_secrets(
    bucket: Bucket, archive: str, local: Path, tmp_path: Path
) -> None:
    output = f"s3://{bucket.name}/logs/hall"
    sessions = Path(tempfile.mkdtemp(prefix="ff-", dir="/tmp"))
    own = {"RAY_TMPDIR": str(sessions), "TMPDIR": str(tmp_path)}
    run = done(backfill(archive, output, "--endpoint-url", bucket.endpoint_url), **own)
    assert run.returncode == 0, run.stderr
    assert f"Tables are in {output}" in run.stderr + run.stdout
    assert_equal(local, bucket.download("logs/hall/", tmp_path / "found"))
    # Nor are they in what Ray writes.
    assert any(path.is_file() for path in sessions.rglob("*"))
    assert SECRET not in run.stdout + run.stderr
    assert_has_no_secret(tmp_path, sessions)
    assert bucket.keys("logs/hall/staging") == []

    reach = ("--endpoint-url", bucket.endpoint_url)
    status = done(command("status", output, *reach))
    assert "4 of 4 video track(s) done, 1400 frames looked at" in status.stdout
    verified = done(command("verify", output, *reach))
    assert verified.returncode == 0, verified.stdout
    assert "all is as the ledger says" in verified.stdout
    again = done(command("retry", output, *reach))
    assert again.returncode == 0, again.stderr
    assert "Nothing was left to do" in again.stderr + again.stdout

    # A byte that has changed in the bucket is found there.
    (victim, *_) = bucket.keys("logs/hall/movements/")
    content = bytearray(bucket.s3.get_object(Bucket=bucket.name, Key=victim)["Body"].read())
    content[len(content) // 2] ^= 1
    bucket.put(victim, bytes(content))
    verified = done(command("verify", output, *reach))
    assert verified.returncode == 1
    assert f"s3://{bucket.name}/{victim}: its content has changed" in verified.stdout


@pytest.mark.long
def test_a_run_that_is_killed_goes_on_from_what_is_in_the_bucket(
    bucket: Bucket, archive: str, local: Path, tmp_path: Path
) -> None:
    order = backfill(archive, f"s3://{bucket.name}/logs", "--endpoint-url", bucket.endpoint_url)
    with (tmp_path / "log").open("wb") as log:
        driver = subprocess.Popen(order, stdout=log, stderr=log)
    end = time.monotonic() + 200
    while not [key for key in bucket.keys("logs/ledger/") if "/part-" in key]:
        assert driver.poll() is None, (tmp_path / "log").read_text()
        assert time.monotonic() < end
        time.sleep(0.05)
    for process in [
        *psutil.Process(driver.pid).children(recursive=True),
        psutil.Process(driver.pid),
    ]:
        process.kill()
    driver.wait()

    run = done(order)
    assert run.returncode == 0, run.stderr
    assert "Going on with run" in run.stderr + run.stdout
    assert_equal(local, bucket.download("logs/", tmp_path / "found"))
    assert not bucket.s3.list_multipart_uploads(Bucket=bucket.name).get("Uploads")


@pytest.mark.long
def test_bad_days_of_the_server_change_nothing_and_are_counted(
    bucket: Bucket, archive: str, local: Path, tmp_path: Path
) -> None:
    days = BadDays(bucket.endpoint_url, slow_every=5, cut_every=20)
    with flaky_proxy(days) as endpoint_url:
        run = done(backfill(archive, f"s3://{bucket.name}/logs", "--endpoint-url", endpoint_url))
    assert run.returncode == 0, run.stderr
    assert days.slowed >= 10
    assert days.cut >= 2
    found = bucket.download("logs/", tmp_path / "found")
    assert_equal(local, found)
    sql = f"select sum(retries) from read_parquet('{found}/metrics/*.parquet')"
    ((retries,),) = duckdb.execute(sql).fetchall()
    assert retries > 0


@pytest.mark.long
def test_labels_of_recordings_in_a_bucket_are_in_a_bucket_and_no_recording_stays_on_the_disk(
    bucket: Bucket, archive: str, tmp_path: Path, rekognition: StandInRekognition
) -> None:
    own = {"RAY_TMPDIR": "/tmp", "TMPDIR": str(tmp_path)}
    order = backfill(
        archive, f"s3://{bucket.name}/logs", "--endpoint-url", bucket.endpoint_url,
        "--aws-endpoint-url", rekognition.url, "--aws-max-tps", "100",
    )  # fmt: skip
    run = done([*order, "--aws-labels", "--video-tracks", "0"], **own)
    # Only one of the recordings has a second video track.
    assert run.returncode == 0, run.stderr
    # 400, 300 and 300 frames.
    assert rekognition.requests == 7 + 5 + 5
    # Wanted later, labels are made for what is done.
    assert done(order, **own).returncode == 0
    run = done([*order, "--aws-labels"], **own)
    assert run.returncode == 0, run.stderr
    assert rekognition.requests == 17 + 7
    found = bucket.download("logs/", tmp_path / "found")
    sql = (
        "select count(distinct (source_uri, video_track, frame_index)) "
        f"from read_parquet('{found}/labels/*/*/*.parquet')"
    )
    assert duckdb.execute(sql).fetchall() == [(24,)]
    assert verify(found).problems == []
    assert not [key for key in bucket.keys("logs/ledger/") if "/labels/" in key]
    kept = [path for path in tmp_path.rglob("recordings/*") if path.suffix != ".lock"]
    assert (tmp_path / f"footfall-{os.getuid()}" / "recordings").is_dir()
    assert kept == []


BAD = {
    "no such bucket": ("s3://no-such-bucket-anywhere/a/", {}, "there is no such bucket"),
    "no credentials": (
        None,
        {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""},
        "no credentials",
    ),
    "no profile": (None, {"AWS_PROFILE": "nobody"}, "profile (nobody) could not be found"),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_input_is_one_clear_line_and_soon(bucket: Bucket, archive: str, what: str) -> None:
    given, environment, reason = BAD[what]
    began = time.monotonic()
    run = done(
        command("plan", "--input", given or archive, "--endpoint-url", bucket.endpoint_url),
        **environment,
    )
    assert run.returncode == 2, run.stderr
    assert reason in run.stderr
    assert len(run.stderr.strip().splitlines()) == 1, run.stderr
    assert time.monotonic() - began < 20


@pytest.mark.parametrize(
    ("status", "code", "reason"),
    [
        (403, "AccessDenied", "access is denied"),
        (400, "ExpiredToken", "the credentials have expired: renew them"),
        (403, "InvalidAccessKeyId", "the access key is unknown there"),
        (403, "SignatureDoesNotMatch", "the secret key does not belong to the access key"),
        (301, "PermanentRedirect", "it is in eu-central-1: give that one with --region"),
    ],
)
@pytest.mark.parametrize("verb", ["plan", "status"])
def test_a_refusal_says_what_is_wrong_in_one_line(
    bucket: Bucket, verb: str, status: int, code: str, reason: str
) -> None:
    days = BadDays(bucket.endpoint_url, refusal=(status, code))
    address = f"s3://{bucket.name}/some"
    with flaky_proxy(days) as endpoint_url:
        given = ("--input", address) if verb == "plan" else (address,)
        run = done(command(verb, *given, "--endpoint-url", endpoint_url))
    assert run.returncode == 2, run.stderr
    assert f"'{address}': {reason}" in run.stderr
    assert len(run.stderr.strip().splitlines()) == 1, run.stderr


def test_a_plan_tells_what_is_archived_and_what_disk_it_takes(bucket: Bucket, films: Path) -> None:
    for path in films.iterdir():
        bucket.upload(f"films/{path.name}", path)
    bucket.put("films/old.mkv", b"x" * 1000, StorageClass="DEEP_ARCHIVE")
    given = ("--input", f"s3://{bucket.name}/films/", "--endpoint-url", bucket.endpoint_url)
    run = done(command("plan", *given))
    assert run.returncode == 3, run.stderr
    assert "in S3: 1 DEEP_ARCHIVE, 3 STANDARD" in run.stdout
    assert "1 recording(s) are archived" in run.stdout
    size = sum(path.stat().st_size for path in films.iterdir())
    assert f"at most {size / 1e9:.3g} GB of temporary disk" in run.stdout


def test_a_server_that_is_down_is_named_soon(archive: str) -> None:
    began = time.monotonic()
    run = done(command("plan", "--input", archive, "--endpoint-url", "http://127.0.0.1:9"))
    assert run.returncode == 2
    assert re.search(r"the server does not answer: .*127\.0\.0\.1:9", run.stderr), run.stderr
    assert time.monotonic() - began < 20
