"""Recordings in S3: listed, probed by their headers alone, and on a disk only while they are read."""

import errno
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipeline.aws import FIRST_LOOK_TRIES, AwsSettings, client, explained, retries
from pipeline.cache import CacheSettings, forget_recordings, let_go, on_disk
from pipeline.cutter import DemuxSettings
from pipeline.demux import cut
from pipeline.discover import find_recordings, find_starts
from pipeline.errors import ConfigError, OutputError, SourceError
from pipeline.letterbox import fit
from pipeline.probe import probe
from pipeline.probe_pool import Probed, probe_all
from pipeline.records import Footage, FootageEnd, FootageKey, Listed, Recording, Segment, VideoTrack
from pipeline.s3 import check_recordings
from tests.aws.conftest import Bucket
from tests.aws.proxy import BadDays, flaky_proxy


def names(bucket: Bucket, *inputs: str) -> list[str]:
    """Return the keys that inputs name, written below the bucket."""
    found = find_recordings([f"s3://{bucket.name}/{each}" for each in inputs], bucket.settings)
    return [each.source_uri.removeprefix(f"s3://{bucket.name}/") for each in found]


@pytest.fixture
def archive(bucket: Bucket) -> Bucket:
    for key in (
        "north/a.mkv",
        "north/day/b.MP4",
        "north/notes.txt",
        "northern/c.mkv",
        "south/[1].ts",
        "hall [2]/x?.mkv",
    ):
        bucket.put(key)
    bucket.put("north/empty.mkv", b"")
    return bucket


def test_a_prefix_gives_its_video_files_at_any_depth(archive: Bucket) -> None:
    assert names(archive, "north/") == ["north/a.mkv", "north/day/b.MP4"]
    assert names(archive, "north") == ["north/a.mkv", "north/day/b.MP4"]
    assert names(archive, "north/", "north/a.mkv", "northern/") == [
        "north/a.mkv", "north/day/b.MP4", "northern/c.mkv",
    ]  # fmt: skip
    assert len(names(archive, "")) == 5


def test_who_may_read_a_key_needs_not_be_let_list_the_bucket(archive: Bucket) -> None:
    archive.put("list.csv", b"north/a.mkv\n")
    days = BadDays(
        archive.endpoint_url,
        refusal=(403, "AccessDenied"),
        refuses=lambda _, path: "list-type" in path,
    )
    with flaky_proxy(days) as endpoint_url:
        aws = AwsSettings(endpoint_url=endpoint_url)
        for given in ("north/a.mkv", "list.csv"):
            (found,) = find_recordings([f"s3://{archive.name}/{given}"], aws)
            assert found.source_uri == f"s3://{archive.name}/north/a.mkv"
        check_recordings([found], aws)
        with pytest.raises(ConfigError, match=r"north/': access is denied"):
            find_recordings([f"s3://{archive.name}/north/"], aws)


def test_a_key_is_taken_whatever_its_suffix(archive: Bucket) -> None:
    assert names(archive, "north/notes.txt") == ["north/notes.txt"]


@pytest.mark.parametrize(
    ("pattern", "keys"),
    [
        ("north/*.mkv", ["north/a.mkv", "north/empty.mkv"]),
        ("north*/?.mkv", ["north/a.mkv", "northern/c.mkv"]),
        ("**/*.MP4", ["north/day/b.MP4"]),
        ("north/**", ["north/a.mkv", "north/day/b.MP4", "north/empty.mkv", "north/notes.txt"]),
        ("north/[!a]*.mkv", ["north/empty.mkv"]),
        ("south/[[]1].ts", ["south/[1].ts"]),
        # What has the very name counts first, as on a disk.
        ("south/[1].ts", ["south/[1].ts"]),
        ("hall [2]", ["hall [2]/x?.mkv"]),
        ("hall [2]/", ["hall [2]/x?.mkv"]),
        ("hall [2]/x?.mkv", ["hall [2]/x?.mkv"]),
    ],
)
def test_a_glob_gives_the_keys_that_match(archive: Bucket, pattern: str, keys: list[str]) -> None:
    assert names(archive, pattern) == keys


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ("nowhere/", "no key begins so"),
        ("north/*.avi", "matches no object"),
        ("north/notes", "no key begins so"),
        ("texts/", "of 1 objects none is a video file"),
        ("empty.csv", "names no recording"),
        ("north/[z-a]*.mkv", "is no pattern of keys: bad character range z-a"),
    ],
)
def test_an_input_that_gives_nothing_is_named_with_the_reason(
    archive: Bucket, given: str, reason: str
) -> None:
    archive.put("texts/a.txt")
    archive.put("empty.csv", b"source_uri\n")
    with pytest.raises(ConfigError) as raised:
        names(archive, given)
    assert given in str(raised.value)
    assert reason in str(raised.value)


def test_a_manifest_object_gives_its_recordings_relative_to_itself(archive: Bucket) -> None:
    lines = [
        "source_uri,start_time",
        "day/b.MP4,2026-01-15T09:00:00",
        f"s3://{archive.name}/northern/c.mkv,",
        "/local/d.mkv,",
        "../south/[1].ts,",
    ]
    uri = archive.put("north/list.csv", "\n".join(lines).encode())
    found = find_recordings([uri], archive.settings)
    assert [each.source_uri for each in found] == [
        "/local/d.mkv",
        f"s3://{archive.name}/north/day/b.MP4",
        f"s3://{archive.name}/northern/c.mkv",
        f"s3://{archive.name}/south/[1].ts",
    ]
    starts = find_starts([uri], archive.settings)
    assert {key.rpartition("/")[2]: str(at) for key, at in starts.items()} == {
        "b.MP4": "2026-01-15 09:00:00"
    }


def test_what_a_listing_tells_is_kept_beside_a_manifests_bare_name(archive: Bucket) -> None:
    manifest = archive.put("list.csv", b"north/a.mkv\n")
    for inputs in (
        [manifest, f"s3://{archive.name}/north/"],
        [f"s3://{archive.name}/north/", manifest],
    ):
        (listed,) = [
            each for each in find_recordings(inputs, archive.settings)
            if each.source_uri.endswith("a.mkv")
        ]  # fmt: skip
        assert listed.size_bytes == 1
        assert listed.version


def test_thousands_of_keys_are_listed_page_by_page(bucket: Bucket) -> None:
    keys = [f"many/{number:05}.mkv" for number in range(1005)]
    for key in keys:
        bucket.put(key)
    assert names(bucket, "many/") == keys


def probed(bucket: Bucket, *uris: str) -> list[Probed]:
    return probe_all([Listed(source_uri=uri) for uri in uris], aws=bucket.settings)


def test_what_is_found_is_what_is_found_on_a_disk(bucket: Bucket, footage: Path) -> None:
    clips = sorted(footage.glob("*.mp4"))
    uris = [bucket.upload(f"clips/{clip.name}", clip) for clip in clips]
    for clip, uri, found in zip(clips, uris, probed(bucket, *uris), strict=True):
        there = probe(str(clip))
        assert isinstance(found, Recording)
        assert found.source_uri == uri
        assert (found.size_bytes, found.container, found.created) == (
            there.size_bytes, there.container, there.created,
        )  # fmt: skip
        assert found.video_tracks == there.video_tracks
        assert found.version == bucket.s3.head_object(Bucket=bucket.name, Key=f"clips/{clip.name}")[
            "ETag"
        ].strip('"')


def test_of_a_large_recording_only_the_header_is_read(bucket: Bucket, footage: Path) -> None:
    # Its index lies behind what nobody needs to see.
    clip = (footage / "TUD-Campus.mp4").read_bytes()
    index = clip.index(b"moov") - 4
    assert index > clip.index(b"mdat")
    free = (40 << 20).to_bytes(4, "big") + b"free" + bytes((40 << 20) - 8)
    days = BadDays(bucket.endpoint_url)
    bucket.put("large.mp4", clip[:index] + free + clip[index:])
    with flaky_proxy(days) as endpoint_url:
        (found,) = probe_all(
            [Listed(source_uri=f"s3://{bucket.name}/large.mp4")],
            aws=AwsSettings(endpoint_url=endpoint_url),
        )
    assert isinstance(found, Recording)
    # The beginning, what is behind the frames, and the index.
    assert len(days.requests) == 3


def test_a_short_recording_that_was_listed_is_one_request(bucket: Bucket, footage: Path) -> None:
    clip = (footage / "TUD-Campus.mp4").read_bytes()
    for number in range(4):
        bucket.put(f"a/{number}.mp4", clip + bytes([number]))
    listed = find_recordings([f"s3://{bucket.name}/a/"], bucket.settings)
    days = BadDays(bucket.endpoint_url)
    with flaky_proxy(days) as endpoint_url:
        found = probe_all(listed, aws=AwsSettings(endpoint_url=endpoint_url))
    assert all(isinstance(each, Recording) for each in found)
    assert [method for method, _ in days.requests] == ["GET"] * 4


def test_equal_content_is_looked_into_once_and_what_fails_in_one_is_tried_in_the_others(
    bucket: Bucket, footage: Path
) -> None:
    clip = (footage / "TUD-Campus.mp4").read_bytes()
    bucket.put("a/0.mp4", clip, StorageClass="DEEP_ARCHIVE")
    for number in range(1, 6):
        bucket.put(f"a/{number}.mp4", clip)
    bucket.put("a/other.mp4", clip + b"other")
    days = BadDays(bucket.endpoint_url)
    with flaky_proxy(days) as endpoint_url:
        aws = AwsSettings(endpoint_url=endpoint_url)
        listed = find_recordings([f"s3://{bucket.name}/a/"], aws)
        days.requests.clear()
        found = probe_all(listed[1:], aws=aws)
        assert {path.partition("?")[0].rpartition("/")[2] for _, path in days.requests} == {
            "1.mp4",
            "other.mp4",
        }
        archived, *others = probe_all(listed, aws=aws)
    assert [each.source_uri for each in found] == [each.source_uri for each in listed[1:]]
    assert [each.size_bytes for each in found] == [len(clip)] * 5 + [len(clip) + 5]
    assert [each.version for each in found] == [each.version for each in listed[1:]]
    assert isinstance(archived, SourceError)
    assert others == found


def test_an_archived_recording_is_a_failure_that_names_the_restore(bucket: Bucket) -> None:
    uri = bucket.put("old.mkv", b"x" * 1000, StorageClass="DEEP_ARCHIVE")
    (error,) = probed(bucket, uri)
    assert isinstance(error, SourceError)
    assert "it is archived (DEEP_ARCHIVE): restore it in S3" in str(error)


def test_what_is_no_footage_or_not_there_is_that_recordings_failure(
    bucket: Bucket, footage: Path
) -> None:
    good = bucket.upload("good.mp4", footage / "TUD-Campus.mp4")
    bad = bucket.put("bad.mp4", b"no footage at all" * 1000)
    empty = bucket.put("empty.mp4", b"")
    found = probed(
        bucket, bad, good, f"s3://{bucket.name}/gone.mp4", empty, "s3://no-such-bucket/a.mkv"
    )
    assert [isinstance(each, Recording) for each in found] == [False, True, False, False, False]
    assert "Invalid data" in str(found[0])
    assert "there is no such object" in str(found[2])
    assert "is empty: 0 bytes" in str(found[3])
    assert "there is no such bucket" in str(found[4])


def footage_of(bucket: Bucket, key: str, content: bytes, version: str = "") -> Footage:
    """Store a recording; return its footage."""
    uri = bucket.put(key, content)
    head = bucket.s3.head_object(Bucket=bucket.name, Key=key)
    return Footage(
        key=FootageKey(camera_id="door", sequence=0),
        source_uri=uri,
        track=VideoTrack(video_track=0, codec="h264", width=64, height=64),
        letterbox=fit(64, 64, 64),
        version=version or head["ETag"].strip('"'),
        size_bytes=len(content),
    )


@pytest.fixture
def cache(bucket: Bucket, tmp_path: Path) -> CacheSettings:
    return CacheSettings(aws=bucket.settings, most_bytes=50e6, folder=tmp_path / "recordings")


def held(cache: CacheSettings) -> int:
    return sum(path.stat().st_size for path in cache.folder.iterdir())


def test_a_recording_is_brought_once_whole_and_let_go(bucket: Bucket, cache: CacheSettings) -> None:
    content = bytes(range(256)) * 150_000
    footage = footage_of(bucket, "a.mkv", content)
    days = BadDays(bucket.endpoint_url)
    with flaky_proxy(days) as endpoint_url:
        through = CacheSettings(
            aws=AwsSettings(endpoint_url=endpoint_url), most_bytes=50e6, folder=cache.folder
        )
        for _ in range(3):
            with on_disk(footage, through) as path:
                assert Path(path).read_bytes() == content
    # By ranges of 16 MiB, side by side, once.
    assert len(days.requests) == 3
    let_go(footage, cache)
    assert held(cache) == 0


def test_a_recording_on_a_disk_stays_where_it_is(cache: CacheSettings, tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    path.write_bytes(b"x")
    footage = Footage(
        key=FootageKey(camera_id="door", sequence=0),
        source_uri=str(path),
        track=VideoTrack(video_track=0, codec="h264", width=64, height=64),
        letterbox=fit(64, 64, 64),
    )
    with on_disk(footage, cache) as there:
        assert there == str(path)
    let_go(footage, cache)
    assert path.exists()
    assert not cache.folder.exists()


def test_what_nobody_reads_gives_way_and_what_is_read_does_not(
    bucket: Bucket, cache: CacheSettings
) -> None:
    first, second, third = (
        footage_of(bucket, f"{name}.mkv", name.encode() * 20_000_000) for name in "abc"
    )
    with on_disk(first, cache) as one:
        with on_disk(second, cache):
            assert held(cache) == 40_000_000
        with on_disk(third, cache) as three:
            # The second has gone, for nobody reads it; the first has not.
            assert held(cache) == 40_000_000
            assert Path(one).read_bytes()[:2] == b"aa"
            assert Path(three).read_bytes()[:2] == b"cc"
    assert forget_recordings(cache.folder) == 40_000_000


def test_on_a_full_disk_what_nobody_reads_gives_way_and_what_is_read_is_waited_for(
    bucket: Bucket, cache: CacheSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, third = (
        footage_of(bucket, f"{name}.mkv", name.encode() * 1_000_000) for name in "abc"
    )

    def allocate(handle: int, _: int, size: int) -> None:
        """Take room on a disk of 2.5 MB."""
        if held(cache) - os.fstat(handle).st_size + size > 2_500_000:
            raise OSError(errno.ENOSPC, "No space left on device")
        os.ftruncate(handle, size)

    monkeypatch.setattr(os, "posix_fallocate", allocate)

    def read(footage: Footage = first) -> None:
        with on_disk(footage, cache):
            pass

    read()
    read(second)
    with on_disk(second, cache), on_disk(third, cache):
        # The first has gone.
        assert held(cache) == 2_000_000
        reader = threading.Thread(target=read)
        reader.start()
        time.sleep(0.3)
        assert reader.is_alive()
    reader.join(30)
    assert not reader.is_alive()
    full = footage_of(bucket, "d.mkv", b"d" * 3_000_000)
    with pytest.raises(SourceError, match="No space left"):
        read(full)


def test_who_finds_no_room_waits_until_there_is(bucket: Bucket, cache: CacheSettings) -> None:
    footages = [footage_of(bucket, f"{n}.mkv", bytes([n]) * 30_000_000) for n in range(4)]
    most, done = [0], []

    def read(footage: Footage) -> None:
        with on_disk(footage, cache) as path:
            most[0] = max(most[0], held(cache))
            time.sleep(0.2)
            done.append(Path(path).read_bytes()[:1])
        let_go(footage, cache)

    threads = [threading.Thread(target=read, args=(footage,)) for footage in footages]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(done) == [bytes([n]) for n in range(4)]
    assert most[0] <= 50e6


def test_of_many_who_want_one_recording_one_brings_it(bucket: Bucket, cache: CacheSettings) -> None:
    footage = footage_of(bucket, "a.mkv", b"a" * 10_000_000)
    days, sizes = BadDays(bucket.endpoint_url), []
    with flaky_proxy(days) as endpoint_url:
        through = CacheSettings(aws=AwsSettings(endpoint_url=endpoint_url), folder=cache.folder)

        def read() -> None:
            with on_disk(footage, through) as path:
                sizes.append(Path(path).stat().st_size)

        threads = [threading.Thread(target=read) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert sizes == [10_000_000] * 6
    assert len(days.requests) == 1


@contextmanager
def left_clean(cache: CacheSettings) -> Iterator[None]:
    yield
    assert held(cache) == 0


def test_one_that_is_larger_than_the_cache_says_what_to_raise(
    bucket: Bucket, cache: CacheSettings
) -> None:
    footage = footage_of(bucket, "a.mkv", b"a" * 51_000_000)
    with (
        left_clean(cache),
        pytest.raises(SourceError, match="raise --cache-gb"),
        on_disk(footage, cache),
    ):
        pass


def test_one_that_has_changed_or_gone_since_is_a_failure(
    bucket: Bucket, cache: CacheSettings
) -> None:
    footage = footage_of(bucket, "a.mkv", b"a" * 1000)
    bucket.put("a.mkv", b"b" * 1000)
    with (
        left_clean(cache),
        pytest.raises(SourceError, match="it has changed meanwhile"),
        on_disk(footage, cache),
    ):
        pass
    bucket.s3.delete_object(Bucket=bucket.name, Key="a.mkv")
    with (
        left_clean(cache),
        pytest.raises(SourceError, match="no such object"),
        on_disk(footage, cache),
    ):
        pass


def test_bad_days_are_waited_out_and_counted(bucket: Bucket, cache: CacheSettings) -> None:
    content = bytes(range(256)) * 180_000
    footage = footage_of(bucket, "a.mkv", content)
    days = BadDays(bucket.endpoint_url, slow_every=3, cut_every=2)
    retries.take()
    with flaky_proxy(days) as endpoint_url:
        through = CacheSettings(aws=AwsSettings(endpoint_url=endpoint_url), folder=cache.folder)
        with on_disk(footage, through) as path:
            assert Path(path).read_bytes() == content
    assert days.cut >= 1
    assert days.slowed >= 1
    assert retries.take() >= days.cut + days.slowed


def test_cutting_reads_it_from_the_cache_and_frees_it(
    bucket: Bucket, cache: CacheSettings, footage: Path
) -> None:
    clip = footage / "TUD-Campus.mp4"
    uri = bucket.upload("clip.mp4", clip)
    (found,) = probed(bucket, uri)
    assert isinstance(found, Recording)

    def cut_one(source_uri: str) -> list[Segment | FootageEnd]:
        whole = Footage(
            key=FootageKey(camera_id="door", sequence=0),
            source_uri=source_uri,
            track=found.video_tracks[0],
            letterbox=fit(640, 480, 320),
            version=found.version,
            size_bytes=found.size_bytes,
        )
        return list(cut([whole], DemuxSettings(cache=cache)))

    there, here = cut_one(uri), cut_one(str(clip))
    assert [each.data for each in there if isinstance(each, Segment)] == [
        each.data for each in here if isinstance(each, Segment)
    ]
    assert isinstance(there[-1], FootageEnd)
    assert there[-1].failures == ()
    assert held(cache) == 0


def test_cutting_one_that_has_gone_ends_with_its_failure(
    bucket: Bucket, cache: CacheSettings
) -> None:
    lost = footage_of(bucket, "a.mkv", b"a" * 1000)
    bucket.s3.delete_object(Bucket=bucket.name, Key="a.mkv")
    (end,) = cut([lost], DemuxSettings(cache=cache))
    assert isinstance(end, FootageEnd)
    (failure,) = end.failures
    assert failure.source_uri == lost.source_uri
    assert "cannot be read: there is no such object" in failure.message


@pytest.mark.parametrize("bad", [{"slow_every": 1}, {"cut_first": 99}])
def test_retries_of_a_request_that_fails_in_the_end_are_counted_too(
    bucket: Bucket, bad: dict[str, int]
) -> None:
    with flaky_proxy(BadDays(bucket.endpoint_url, **bad)) as endpoint_url:
        s3 = client("s3", AwsSettings(endpoint_url=endpoint_url), FIRST_LOOK_TRIES)
        retries.take()
        with pytest.raises(OutputError), explained("it", OutputError):
            s3.list_objects_v2(Bucket=bucket.name)
    assert retries.take() == FIRST_LOOK_TRIES - 1
