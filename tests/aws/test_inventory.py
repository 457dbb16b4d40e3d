"""Inventories of S3: read in any form, chosen from by names; what a run does not reach stays shut."""

import gzip
import tracemalloc
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from jobs import benchmark_keys, plan
from jobs.benchmark_keys import line
from jobs.exits import EXIT_PARTIAL
from jobs.reach import reach_of
from jobs.settings import JobSettings
from jobs.survey import survey
from jobs.told import gather
from pipeline.errors import ConfigError
from pipeline.inventory import read_inventory
from tests.aws.conftest import Bucket
from tests.aws.proxy import BadDays, flaky_proxy

FORMS = ("CSV", "Parquet", "ORC")
BEGAN = datetime(2026, 3, 1, tzinfo=UTC)
CAMERAS = """\
[[camera]]
id = "north"
recording = "north/*.mkv"
start_time = "%Y%m%d_%H%M%S"
[[camera]]
id = "south"
recording = "south/*.mkv"
start_time = "%Y%m%d_%H%M%S"
"""


def put_inventory(
    bucket: Bucket, form: str, *files: Sequence[dict[str, Any]], **more: object
) -> str:
    """Store an inventory as S3 does; return its manifest's address."""
    return benchmark_keys.put_inventory(bucket.s3, bucket.name, form, iter(files), **more)


def settings_of(bucket: Bucket, manifest: str, **more: Any) -> JobSettings:
    return JobSettings(
        input=(manifest,), output="/tmp/unused", endpoint_url=bucket.endpoint_url, **more
    )


def reached(settings: JobSettings) -> list[str]:
    """Return the keys that would be opened."""
    reach = reach_of(settings, gather(settings, None))
    assert reach is not None
    keys = [each.source_uri.split("/", 3)[3] for each in reach.recordings()]
    assert len(keys) == len(set(keys))
    return keys


@pytest.fixture
def cameras(tmp_path: Path) -> str:
    path = tmp_path / "cameras.toml"
    path.write_text(CAMERAS)
    return str(path)


def days_of(camera: str, count: int) -> list[str]:
    return [f"{camera}/{BEGAN + timedelta(days=day):%Y%m%d_%H%M%S}.mkv" for day in range(count)]


@pytest.mark.parametrize("form", FORMS)
def test_every_form_tells_the_objects_that_are_there(bucket: Bucket, form: str) -> None:
    odd = "hall 1/ä+b%20&c,'d\".mkv"
    manifest = put_inventory(
        bucket,
        form,
        [line("archive", odd, size=7, storage_class="GLACIER"), line("archive", "a.mkv")],
        [
            line("archive", "old.mkv", is_latest=False),
            line("archive", "gone.mkv", is_delete_marker=True),
            line("archive", "notes.txt"),
        ],
    )
    found = list(read_inventory(manifest, bucket.settings))
    assert [(each.source_uri, each.size_bytes, each.storage_class) for each in found] == [
        (f"s3://archive/{odd}", 7, "GLACIER"),
        ("s3://archive/a.mkv", 100_000_000, "STANDARD"),
        ("s3://archive/notes.txt", 100_000_000, "STANDARD"),
    ]
    assert reached(settings_of(bucket, manifest)) == ["a.mkv", odd]


def test_a_manifest_may_lie_on_a_disk(bucket: Bucket, tmp_path: Path) -> None:
    put_inventory(bucket, "CSV", [line("archive", "a.mkv")])
    manifest = tmp_path / "manifest.json"
    bucket.s3.download_file(bucket.name, "lists/CSV/manifest.json", str(manifest))
    assert reached(settings_of(bucket, str(manifest))) == ["a.mkv"]


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"fileFormat": "XML"}, "its form is 'XML'; known are CSV, Parquet, ORC"),
        ({"fileSchema": "Bucket, Key"}, "tell no Bucket, Key and Size"),
        ({"files": [{"size": 1}]}, "it lacks 'key'"),
        ({"files": [{"key": "lists/CSV/data/0", "MD5checksum": "0"}]}, "its MD5 is another"),
        ({"files": [{"key": "lists/CSV/data/9"}]}, "there is no such object"),
        ({"files": [{"key": "lists/CSV/manifest.json"}]}, "Not a gzipped file"),
        ({"destinationBucket": 5}, "is no manifest of an S3 Inventory"),
    ],
)
def test_a_bad_inventory_is_refused_in_one_line(
    bucket: Bucket, more: dict[str, object], reason: str
) -> None:
    manifest = put_inventory(bucket, "CSV", [line("archive", "a.mkv")], **more)
    with pytest.raises(ConfigError, match=r"inventory|manifest") as raised:
        list(read_inventory(manifest, bucket.settings))
    assert reason in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (gzip.compress(b'"b","a.mkv","5"\n"b"\n'), "line 2 has 1 fields, not 3: ['b']"),
        (gzip.compress(b"")[:10] + b"\xff" * 40, "decompressing"),
    ],
    ids=["a short line", "bytes that are no gzip's"],
)
def test_a_damaged_data_file_is_named_with_what_is_wrong(
    bucket: Bucket, content: bytes, reason: str
) -> None:
    file = {"key": bucket.put("data.gz", content).rpartition("/")[2]}
    manifest = put_inventory(bucket, "CSV", files=[file], fileSchema="Bucket, Key, Size")
    with pytest.raises(ConfigError, match=r"data\.gz") as raised:
        list(read_inventory(manifest, bucket.settings))
    assert reason in str(raised.value)


def test_blank_lines_of_an_inventory_are_nothing(bucket: Bucket) -> None:
    bucket.put("data.gz", gzip.compress(b'\n"b","a.mkv","5"\n\n'))
    manifest = put_inventory(
        bucket, "CSV", files=[{"key": "data.gz"}], fileSchema="Bucket, Key, Size"
    )
    (found,) = read_inventory(manifest, bucket.settings)
    assert found.source_uri == "s3://b/a.mkv"


def test_other_json_is_no_inventory(bucket: Bucket) -> None:
    uri = bucket.put("lists/other.json", b"[1, 2]")
    with pytest.raises(ConfigError, match="is no manifest of an S3 Inventory"):
        list(read_inventory(uri, bucket.settings))


def test_each_recording_is_reached_by_one_shard_whatever_the_others_do(bucket: Bucket) -> None:
    keys = [f"cam{n % 7}/{n:04}.mkv" for n in range(500)]
    manifest = put_inventory(bucket, "CSV", [line("archive", key) for key in keys])
    shards = [reached(settings_of(bucket, manifest, shard=f"{i}/4")) for i in range(4)]
    assert sorted(key for shard in shards for key in shard) == sorted(keys)
    assert all(80 <= len(shard) <= 170 for shard in shards)


def test_a_camera_is_in_one_shard_and_shards_are_about_as_large(
    bucket: Bucket, cameras: str
) -> None:
    lines = [line("archive", key, size=1000) for key in days_of("north", 20)]
    lines += [line("archive", key, size=900) for key in days_of("south", 20)]
    manifest = put_inventory(bucket, "Parquet", lines)
    shards = [
        reached(settings_of(bucket, manifest, shard=f"{i}/3", cameras=cameras)) for i in range(3)
    ]
    assert [sorted({key.split("/")[0] for key in shard}) for shard in shards] == [
        ["north"], ["south"], [],
    ]  # fmt: skip
    assert [len(shard) for shard in shards] == [20, 20, 0]


def test_what_a_limit_or_a_window_leaves_out_is_not_opened(bucket: Bucket, cameras: str) -> None:
    keys = [*days_of("north", 30), *days_of("south", 30)]
    manifest = put_inventory(bucket, "CSV", [line("archive", key) for key in reversed(keys)])
    oldest = reached(settings_of(bucket, manifest, cameras=cameras, limit=3))
    assert oldest == [*days_of("north", 2), *days_of("south", 1)]
    # A recording may have begun days before what is wanted of it, and not after it.
    within = settings_of(
        bucket, manifest, cameras=cameras, since="2026-03-20T00:00:00", until="2026-03-22T00:00:00"
    )
    assert reached(within) == [*days_of("north", 21)[12:], *days_of("south", 21)[12:]]


def test_only_what_a_run_reaches_is_opened_and_told_of(bucket: Bucket, footage: Path) -> None:
    clip = footage / "TUD-Campus.mp4"
    keys = [f"clips/{n:02}.mp4" for n in range(12)]
    for key in keys:
        bucket.upload(key, clip)
    missing = [f"gone/{n:02}.mp4" for n in range(12)]
    lines = [line(bucket.name, key, size=clip.stat().st_size) for key in [*keys, *missing]]
    put_inventory(bucket, "Parquet", lines)
    found, failed = [], []
    for index in range(3):
        days = BadDays(bucket.endpoint_url)
        with flaky_proxy(days) as endpoint_url:
            there = survey(
                JobSettings(
                    input=(f"s3://{bucket.name}/lists/Parquet/manifest.json",),
                    output="/tmp/unused",
                    endpoint_url=endpoint_url,
                    shard=f"{index}/3",
                )
            )
        opened = {path for _, path in days.requests if "clips/" in path or "gone/" in path}
        assert len(opened) == len(there.uris)
        assert there.unopened == 24 - len(there.uris)
        found += [each.footage for each in there.wanted]
        failed += [failure.source_uri for failure in there.failures]
    assert sorted(each.source_uri for each in found) == [f"s3://{bucket.name}/{k}" for k in keys]
    assert sorted(failed) == [f"s3://{bucket.name}/{key}" for key in missing]
    # A name does not depend on what else there is.
    assert {each.key.camera_id for each in found} == {f"{bucket.name}/{key}-0" for key in keys}


def test_a_manifests_recordings_have_their_storage_classes_told_once_they_are_read(
    bucket: Bucket, footage: Path
) -> None:
    clip = (footage / "TUD-Campus.mp4").read_bytes()
    bucket.put("a.mp4", clip)
    bucket.put("b.mp4", clip, StorageClass="STANDARD_IA")
    bucket.put("old.mp4", clip, StorageClass="DEEP_ARCHIVE")
    manifest = bucket.put("list.csv", b"a.mp4\nb.mp4\nold.mp4\n")
    found = survey(settings_of(bucket, manifest))
    assert found.storage_classes == {"STANDARD": 1, "STANDARD_IA": 1, "DEEP_ARCHIVE": 1}
    (failure,) = found.failures
    assert "it is archived (DEEP_ARCHIVE): restore it in S3" in failure.message


def test_what_no_nodes_disk_may_hold_is_a_failure_before_any_work(
    bucket: Bucket, footage: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    large = bucket.upload("large.mp4", footage / "TUD-Campus.mp4")
    reach = "--endpoint-url", bucket.endpoint_url, "--model", "stand-in"
    assert plan.main(["--input", large, *reach, "--cache-gb", "0.0001"]) == EXIT_PARTIAL
    said = " ".join(capsys.readouterr().out.split())
    assert "1 recording(s) are larger than --cache-gb and will fail" in said
    assert "raise --cache-gb" in said
    found = survey(settings_of(bucket, large, cache_gb=0.0001))
    assert [each.source_uri for each in found.failures] == [large]
    assert found.wanted == []
    assert survey(settings_of(bucket, large)).failures == ()


@pytest.mark.parametrize("form", ["CSV", pytest.param("Parquet", marks=pytest.mark.long)])
def test_memory_does_not_grow_with_the_inventory(bucket: Bucket, form: str) -> None:
    def peak(files: int) -> int:
        some = [
            [line("archive", f"site/cam{n % 9}/{f}-{n:06}.mkv") for n in range(10_000)]
            for f in range(files)
        ]
        manifest = put_inventory(bucket, form, *some)
        settings = settings_of(bucket, manifest, shard="0/10000")
        reached(settings)
        tracemalloc.start()
        pa_before = pa.total_allocated_bytes()
        reached(settings)
        grown = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert pa.total_allocated_bytes() <= pa_before + (1 << 20)
        return grown

    small, large = peak(1), peak(8)
    assert large < small * 1.2 + (1 << 20)
