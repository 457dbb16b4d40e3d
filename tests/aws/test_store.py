"""An output in S3: written whole or not at all, one request a file; nobody is first beside another."""

import hashlib
import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import asdict, replace
from pathlib import Path

import pyarrow as pa
import pytest
from botocore.exceptions import ClientError

from pipeline import store
from pipeline.atomic import (
    look_if_there,
    new_partial,
    partial_of,
    publish,
    remove,
    swap,
    write_whole,
)
from pipeline.aws import AwsSettings, explain
from pipeline.errors import ConfigError, OutputError
from pipeline.lease import Leases, lease_of, workers
from pipeline.records import Failure
from pipeline.run_folder import find_run, open_run
from pipeline.sink import write_hashed
from pipeline.tables import Provenance, failures_table
from tests.aws.conftest import Bucket
from tests.aws.proxy import BadDays, flaky_proxy


@pytest.fixture
def root(bucket: Bucket) -> Path:
    return store.output_root(f"s3://{bucket.name}/logs/")


def test_a_path_of_s3_is_shown_as_users_write_it(bucket: Bucket, root: Path) -> None:
    assert store.shown(root / "a b" / "run.json") == f"s3://{bucket.name}/logs/a b/run.json"
    assert store.shown(Path("/tmp/out")) == "/tmp/out"


def test_what_is_written_is_read_listed_and_removed(bucket: Bucket, root: Path) -> None:
    write_whole(root / "run.json", b"one")
    write_whole(root / "ledger" / "camera_id=a" / "part-000000-000000.json", b"two")
    write_whole(root / "ledger" / "wanted.parquet", b"three")

    assert bucket.keys() == [
        "logs/ledger/camera_id=a/part-000000-000000.json",
        "logs/ledger/wanted.parquet",
        "logs/run.json",
    ]
    assert store.read(root / "run.json") == b"one"
    assert store.size_of(root / "run.json") == 3
    assert store.folders(root / "ledger") == ["camera_id=a"]
    assert store.files(root / "ledger", "*.parquet") == [root / "ledger" / "wanted.parquet"]
    assert store.walk(root / "ledger") == [
        root / "ledger" / "camera_id=a" / "part-000000-000000.json",
        root / "ledger" / "wanted.parquet",
    ]
    remove(root / "run.json")
    assert not store.exists(root / "run.json")
    with pytest.raises(FileNotFoundError):
        store.read(root / "run.json")
    store.delete_folder(root / "ledger")
    assert bucket.keys() == []


def test_nothing_is_there_before_it_is_published_and_nothing_stays_behind(
    bucket: Bucket, root: Path
) -> None:
    paths = [root / "movements" / f"{n}.parquet" for n in range(3)]
    for path in paths:
        new_partial(path).write_bytes(path.name.encode() * 1000)
    assert bucket.keys() == []

    publish(*paths)

    assert len(bucket.keys("logs/movements/")) == 3
    assert not any(partial_of(path).exists() for path in paths)
    with store.fetched(*paths) as there:
        assert [path.read_bytes()[:9] for path in there] == [
            b"0.parquet",
            b"1.parquet",
            b"2.parquet",
        ]
    assert not any(path.exists() for path in there)


def test_a_file_is_one_request_and_no_upload_is_left_unfinished(bucket: Bucket, root: Path) -> None:
    days = BadDays(bucket.endpoint_url)
    with flaky_proxy(days) as endpoint_url:
        store.reach_s3(AwsSettings(endpoint_url=endpoint_url))
        # Larger than what the AWS tools cut into several requests.
        new_partial(root / "large.parquet").write_bytes(bytes(20 << 20))
        publish(root / "large.parquet")
    assert [method for method, _ in days.requests] == ["PUT"]
    assert not bucket.s3.list_multipart_uploads(Bucket=bucket.name).get("Uploads")


def test_of_many_who_write_at_once_one_is_first(root: Path) -> None:
    won: list[int] = []
    start = threading.Barrier(8)

    def take(number: int) -> None:
        start.wait()
        if swap(root, root / "lease.json", f"{number}".encode(), None):
            won.append(number)

    threads = [threading.Thread(target=take, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(won) == 1
    assert store.read(root / "lease.json") == f"{won[0]}".encode()


def test_what_has_changed_since_it_was_seen_is_not_replaced(root: Path) -> None:
    path = root / "lease.json"
    assert swap(root, path, b"first", None)
    seen = look_if_there(path)
    assert not swap(root, path, b"second", None)
    assert swap(root, path, b"second", seen)
    assert not swap(root, path, b"third", seen)
    assert store.read(path) == b"second"
    remove(path)
    assert not swap(root, path, b"fourth", seen)


def test_one_whose_answer_was_lost_knows_that_it_was_first(bucket: Bucket, root: Path) -> None:
    # The second request finds what the first one has written.
    days = BadDays(bucket.endpoint_url, cut_first=1)
    with flaky_proxy(days) as endpoint_url:
        store.reach_s3(AwsSettings(endpoint_url=endpoint_url))
        assert swap(root, root / "run.json", b"ours alone", None)
    assert days.cut == 1


def test_two_runs_never_have_a_camera_at_once(root: Path) -> None:
    open_run(store.shown(root))
    with Leases(root, "one").held(["door"]):
        assert lease_of(root, "door") == "one"
        assert [holder.attempt_id for holder in workers(root)] == ["one"]
        with (
            pytest.raises(OutputError, match=r"camera 'door' of output 's3://.* is worked on by"),
            Leases(root, "two").held(["door"]),
        ):
            pytest.fail("it was given")
    assert lease_of(root, "door") is None
    assert workers(root) == []


def test_who_is_at_work_is_told_by_the_clock_of_s3_alone(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_run(store.shown(root))
    with Leases(root, "one").held(["door"]):
        holder = replace(workers(root)[0], attempt_id="far", machine="elsewhere")
        write_whole(root / "ledger" / "attempts" / "far.json", json.dumps(asdict(holder)).encode())
        here = time.time
        # By our clock, it was written an hour ago.
        monkeypatch.setattr("pipeline.lease.time.time", lambda: here() + 3600)
        assert [holder.attempt_id for holder in workers(root)] == ["far", "one"]
        monkeypatch.setattr("pipeline.lease.DEAD_AFTER_S", 1.0)
        time.sleep(2.5)
        assert [holder.attempt_id for holder in workers(root)] == ["one"]


def test_a_run_is_made_once_and_found_again(bucket: Bucket, root: Path) -> None:
    made = open_run(store.shown(root))
    assert made.is_new
    again = open_run(store.shown(root))
    assert (again.run_id, again.is_new) == (made.run_id, False)
    assert find_run(f"s3://{bucket.name}/logs").run_id == made.run_id
    made.write_text("config.toml", "output = 'x'")
    bucket.put("logs/notes.txt", b"not ours")
    assert open_run(store.shown(root), overwrite=True).run_id != made.run_id
    assert bucket.keys() == ["logs/notes.txt", "logs/run.json"]


def test_many_are_done_at_once_in_s3_and_told_in_their_order(root: Path) -> None:
    meeting = threading.Barrier(4, timeout=60)

    def meet(number: int) -> int:
        meeting.wait()
        return -number

    assert store.side_by_side(root, meet, range(8)) == [-number for number in range(8)]
    cameras = [f"cam{number}" for number in range(20)]
    with Leases(root, "one").held(cameras):
        assert [lease_of(root, camera) for camera in cameras] == ["one"] * 20
    assert [lease_of(root, camera) for camera in cameras] == [None] * 20


def test_a_denial_is_told_in_the_servers_words_too() -> None:
    said = (
        "User: arn:aws:iam::123456789012:user/a is not authorized to perform: kms:GenerateDataKey\n"
        "on resource: arn:aws:kms:us-east-1:123456789012:key/k"
    )
    told = explain(ClientError({"Error": {"Code": "AccessDenied", "Message": said}}, "PutObject"))
    assert "access is denied" in told
    assert told.endswith(f"(AccessDenied: {' '.join(said.split())})")
    plain = {"Error": {"Code": "AccessDenied", "Message": "Access Denied"}}
    assert explain(ClientError(plain, "PutObject")).endswith("(AccessDenied)")


def test_a_whole_bucket_may_be_an_output(bucket: Bucket) -> None:
    root = store.output_root(f"s3://{bucket.name}/")
    made = open_run(store.shown(root))
    write_whole(root / "ledger" / "wanted.parquet", b"x")
    assert store.files(root) == [root / "run.json"]
    assert store.folders(root) == ["ledger"]
    assert store.walk(root) == [root / "ledger" / "wanted.parquet", root / "run.json"]
    assert open_run(store.shown(root), overwrite=True).run_id != made.run_id
    assert bucket.keys() == ["run.json"]


def test_what_consoles_show_as_a_folder_is_no_file_and_goes_with_it(
    bucket: Bucket, root: Path
) -> None:
    bucket.put("logs/movements/", b"")
    bucket.put("logs/movements/a.parquet")
    assert store.walk(root / "movements") == [root / "movements" / "a.parquet"]
    store.delete_folder(root / "movements")
    assert bucket.keys() == []


def test_what_s3_does_not_remove_is_named(bucket: Bucket, root: Path) -> None:
    bucket.put("logs/movements/a.parquet")
    # AWS answers so, with 200.
    content = (
        b'<?xml version="1.0" encoding="UTF-8"?><DeleteResult><Error>'
        b"<Key>logs/movements/a.parquet</Key><Code>AccessDenied</Code><Message>Access Denied</Message>"
        b"</Error></DeleteResult>"
    )
    days = BadDays(
        bucket.endpoint_url,
        refusal=(200, "AccessDenied"),
        refuses=lambda method, _: method == "POST",
    )
    days.refused = content
    with flaky_proxy(days) as endpoint_url:
        store.reach_s3(AwsSettings(endpoint_url=endpoint_url))
        with pytest.raises(OutputError, match=r"a\.parquet' cannot be removed: access is denied"):
            store.delete_folder(root / "movements")


def test_a_name_ends_in_the_hash_of_the_content(root: Path) -> None:
    failure = Failure(source_uri="a", step="probe", error_class="E", message="m")
    made_by = Provenance(run_id="r", config_hash="c", model_hash="m")
    path = write_hashed(root, "failures", "survey", failures_table([failure]), made_by)
    content = store.read(path)
    assert path.name == f"survey-{hashlib.sha256(content).hexdigest()[:16]}.parquet"
    assert pa.BufferReader(content).size() == len(content)


def test_a_key_encrypts_what_is_written(bucket: Bucket, root: Path) -> None:
    key = "arn:aws:kms:us-east-1:123456789012:key/footage"
    store.reach_s3(AwsSettings(endpoint_url=bucket.endpoint_url, kms_key_id=key))
    new_partial(root / "a.parquet").write_bytes(b"rows")
    publish(root / "a.parquet")
    write_whole(root / "run.json", b"{}")
    assert swap(root, root / "lease.json", b"{}", None)
    for name in ("a.parquet", "run.json", "lease.json"):
        head = bucket.s3.head_object(Bucket=bucket.name, Key=f"logs/{name}")
        assert (head["ServerSideEncryption"], head["SSEKMSKeyId"]) == ("aws:kms", key)


def test_whether_one_may_write_is_found_out_without_writing(bucket: Bucket, root: Path) -> None:
    store.check_writable(root)
    run = open_run(store.shown(root))
    store.check_writable(root)
    assert bucket.keys() == ["logs/run.json"]
    assert find_run(store.shown(root)).run_id == run.run_id


def test_an_output_without_a_bucket_is_refused(bucket: Bucket) -> None:
    with pytest.raises(ConfigError, match="names no bucket"):
        store.output_root("s3:///logs")
    with pytest.raises(
        ConfigError, match=r"output 's3://no-such-bucket/a': there is no such bucket"
    ):
        open_run("s3://no-such-bucket/a")
    with pytest.raises(ConfigError, match="holds no results"):
        find_run(f"s3://{bucket.name}/nothing")


def test_scratch_of_the_dead_is_swept_and_that_of_the_living_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store.tempfile, "tempdir", str(tmp_path))
    store.scratch.cache_clear()
    try:
        own = store.scratch()
        (own.parent / "left").mkdir()
        (own.parent / "left" / "rows").write_bytes(b"x")
        store.scratch.cache_clear()
        other = store.scratch()
        assert sorted(own.parent.iterdir()) == sorted([own, other])
    finally:
        store.scratch.cache_clear()


_STARTS_AT_ONCE = """
import sys, time
from pathlib import Path
from pipeline import store

store.tempfile.tempdir, gate = sys.argv[1], Path(sys.argv[2])
print("here", flush=True)
while not gate.exists():
    pass
own = store.scratch()
print("own" if own.is_dir() else "gone", flush=True)
sys.stdin.read()
print("own" if own.is_dir() else "gone", flush=True)
"""


def test_processes_that_start_at_once_leave_each_other_their_scratch(tmp_path: Path) -> None:
    # What the last run left when it was killed: sweeping it takes a moment.
    for dead in range(40):
        folder = tmp_path / f"footfall-{os.getuid()}" / "outputs" / f"dead{dead}"
        folder.mkdir(parents=True)
        for number in range(50):
            (folder / f"rows{number}").write_bytes(b"x")
    gate = tmp_path / "gate"
    starts = [
        subprocess.Popen(
            [sys.executable, "-c", _STARTS_AT_ONCE, tmp_path, gate],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for _ in range(6)
    ]  # fmt: skip
    said = [start.stdout.readline().strip() for start in starts if start.stdout]
    gate.touch()
    said += [start.stdout.readline().strip() for start in starts if start.stdout]
    # Now that all have one, nobody has taken another's.
    said += [start.communicate(timeout=60)[0].strip() for start in starts]
    assert said == ["here"] * 6 + ["own"] * 12
    assert not list(gate.parent.glob("footfall-*/outputs/dead*"))
