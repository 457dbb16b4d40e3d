"""Merging small parts changes how many files there are, and nothing else."""

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipeline import part
from pipeline.camera_log import CameraLog
from pipeline.compact import compact
from pipeline.holdings import add_up
from pipeline.ledger import CameraLedger
from pipeline.records import Footage
from pipeline.resume import Plan, prepare
from pipeline.verify import verify
from tests.property import archive as a
from tests.property.deaths import death, no_flushing

DOOR = [a.recording("a", 0), a.recording("b", 3), a.recording("c", 20), a.recording("d", 23)]


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Commit a part every second segment, and merge none at the end."""
    monkeypatch.setattr(part, "FIRST_PART_FRAMES", 8)
    monkeypatch.setattr(part, "_DOUBLINGS", 0)
    with no_flushing():
        yield


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """Return an output of many small parts."""
    output = tmp_path / "small"
    a.run(output, DOOR, part_bytes=1)
    return output


def content(output: Path) -> tuple[object, ...]:
    """Return all that a merge leaves as it is."""
    parts = CameraLedger(output, "door").parts()
    return (
        a.tables(output),
        a.frames(output),
        a.rows(output, "metrics"),
        add_up(parts),
        parts[-1].state,
    )


def largest_bytes(output: Path) -> int:
    return max(file.bytes for each in CameraLedger(output, "door").parts() for file in each.files)


@pytest.mark.parametrize("part_bytes", [1, 15_000, 20_000, 1e9])
def test_a_merge_leaves_every_row_and_makes_no_table_larger_than_it_may_be(
    small: Path, part_bytes: float
) -> None:
    before, count = content(small), len(CameraLedger(small, "door").parts())
    limit = max(largest_bytes(small), part_bytes)
    files = len(a.files(small))
    fewer = compact(small, "door", part_bytes)
    assert content(small) == before
    assert largest_bytes(small) <= limit
    parts = CameraLedger(small, "door").parts()
    assert len(parts) == count - fewer
    assert [each.first for each in parts] == [0, *(each.last + 1 for each in parts[:-1])]
    assert (fewer > 0) == (part_bytes > 1) == (len(a.files(small)) < files)
    assert verify(small).problems == []
    a.check_tidy(small)
    assert compact(small, "door", 1) == 0


def test_merged_files_say_what_made_them_and_are_in_order(small: Path) -> None:
    before = {
        name: set(pq.read_metadata(small / name).metadata) for name in a.files(small, "*.parquet")
    }
    compact(small, "door", 1e9)
    for name in a.files(small / "detections"):
        read = pq.ParquetFile(small / "detections" / name)
        assert read.schema_arrow.metadata[b"footfall.config_hash"] == b"c"
        assert set(read.metadata.metadata) in before.values()
        moments = read.read().column("timestamp").to_pylist()
        assert moments == sorted(moments)


def test_a_run_goes_on_behind_merged_parts(small: Path, tmp_path: Path) -> None:
    compact(small, "door", 1e9)
    assert prepare(small, "door", DOOR, a.TRACK_HASH) == Plan(tail=None)
    more, between = a.recording("e", 26), a.recording("bb", 10)
    a.run(small, [*DOOR, more], part_bytes=1)
    compact(small, "door", 12_000)
    a.run(small, [*DOOR, between, more], part_bytes=1)
    a.run(tmp_path / "at once", [*DOOR[:2], between, *DOOR[2:], more], part_bytes=1)
    assert a.tables(small) == a.tables(tmp_path / "at once")
    assert a.frames(small) == a.frames(tmp_path / "at once")


def test_parts_of_other_settings_are_not_merged(small: Path) -> None:
    ledger = CameraLedger(small, "door")
    parts = ledger.parts()
    for each in parts[3:]:
        ledger.commit(replace(each, config_hash="other"))
    compact(small, "door", 1e9)
    merged = [(each.first, each.last, each.config_hash) for each in ledger.parts()]
    assert merged == [(0, 2, "c"), (3, parts[-1].last, "other")]


def test_a_merge_that_is_killed_wherever_it_touches_files_leaves_equal_tables(
    small: Path, tmp_path: Path
) -> None:
    before = content(small)
    calm = tmp_path / "calm"
    shutil.copytree(small, calm)
    with death(None) as reaper:
        compact(calm, "door", 12_000)
    for at in range(0, len(reaper.done), 2):
        output = tmp_path / str(at)
        shutil.copytree(small, output)
        with death(at):
            compact(output, "door", 12_000)
        CameraLedger(output, "door").sweep()
        assert content(output) == before, f"died at {at}, after {reaper.done[:at][-3:]}"
        a.check_tidy(output)
        shutil.rmtree(output)


def one_stands(footage: Footage, number: int) -> list[tuple[float, float, float, int]]:  # noqa: ARG001
    return [(200, 300, 0.9, 0)]


def test_a_thousand_short_clips_of_a_camera_are_few_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    clips = [a.recording(f"{n:04}", 2.0 * n, segments=1) for n in range(1000)]
    with no_flushing():
        log = CameraLog(a.tail_of(clips), a.log_settings(tmp_path, part_bytes=128e6))
        most = 0
        for number, clip in enumerate(a.tail_of(clips).footages):
            log.push(a.detect(clip, 0, seen=one_stands))
            log.push(a.end_of(clip))
            if number % 100 == 99:
                most = max(most, len(a.files(tmp_path, "*.parquet")))
        log.close()
    assert most < 50
    assert len(a.files(tmp_path)) < 50
    assert len(a.frames(tmp_path)) == len(a.frames_there(clips))
    results = add_up(CameraLedger(tmp_path, "door").parts())
    assert len(results) == 1000
    assert {result.frames for result in results.values()} == {5}
    assert prepare(tmp_path, "door", clips, a.TRACK_HASH) == Plan(tail=None)


def test_staged_clips_are_found_without_a_look_at_the_folder_for_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clips = [a.recording(f"{n:04}", 2.0 * n, segments=1) for n in range(500)]
    monkeypatch.undo()
    a.run(tmp_path, clips[:100])
    plan = prepare(tmp_path, "door", clips, a.TRACK_HASH)
    looks = []
    for name in ("scandir", "listdir"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *at, real=real: looks.append(at) or real(*at))
    log = CameraLog(plan.tail, a.log_settings(tmp_path, part_bytes=128e6))
    assert len(log.missing()) == 400
    assert len(looks) < 60


def test_a_camera_of_one_clip_is_few_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    cameras = [f"camera {n}" for n in range(50)]
    with no_flushing():
        for camera in cameras:
            clip = a.recording("a", 100, segments=1, camera_id=camera)
            a.run(tmp_path, [clip], part_bytes=128e6)
    assert len(a.files(tmp_path)) < 8 * len(cameras)
    assert len({row["camera_id"] for row in a.rows(tmp_path, "detections")}) == len(cameras)
