"""Rows become Parquet files that are whole or not there, filed by camera and date."""

import hashlib
import os
import re
import weakref
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest

from pipeline import sink
from pipeline.atomic import entry_of, remove, sha256_of, write_whole
from pipeline.errors import OutputError
from pipeline.records import Failure
from pipeline.sink import PartWriter, write_hashed, write_table
from pipeline.tables import SCHEMAS, Provenance, failures_table, rows_table, timestamp

PROVENANCE = Provenance(run_id="run-1", config_hash="c0ffee", model_hash="f59b")
MIDNIGHT = datetime(2026, 1, 16, tzinfo=UTC)
CAMERAS = ["north door", "a/b", "50%25=x", "../../x", "..", "Türe 1", "cam'1\"", "b=c?d#e&f+g"]


def detections(*moments):
    """Return a row for each moment; None where no start time is known."""
    return rows_table(
        "detections",
        [
            {"source_uri": "/a.mkv", "frame_index": number, "timestamp": moment}
            for number, moment in enumerate(moments)
        ],
    )


def around_midnight():
    return detections(*(MIDNIGHT + timedelta(seconds=offset) for offset in (-2, -1, 0, 1)))


def write(output, camera_id, rows, name="part-0", table="detections"):
    part = PartWriter(output, camera_id, name, PROVENANCE)
    part.write(table, rows)
    return part.publish()


def files(folder, table=None):
    """Return the files below a folder; those of one table, if it is named."""
    found = sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())
    return [name for name in found if table is None or name.startswith(f"{table}/")]


def by_duckdb(folder):
    pattern = str(folder / "**" / "*.parquet")
    query = "select camera_id, frame_index from read_parquet($1, hive_partitioning = true)"
    with duckdb.connect() as connection:
        return connection.execute(query, [pattern]).fetchall()


def test_rows_are_filed_by_the_utc_date_of_their_own_moment(tmp_path):
    write(tmp_path, "door", around_midnight())
    assert files(tmp_path, "detections") == [
        "detections/camera_id=door/date=2026-01-15/part-0.parquet",
        "detections/camera_id=door/date=2026-01-16/part-0.parquet",
    ]
    read = pq.read_table(tmp_path / "detections").to_pylist()
    dated = [(row["frame_index"], str(row["date"]), row["camera_id"]) for row in read]
    assert dated == [
        (0, "2026-01-15", "door"),
        (1, "2026-01-15", "door"),
        (2, "2026-01-16", "door"),
        (3, "2026-01-16", "door"),
    ]
    assert [row["timestamp"] for row in read] == around_midnight()["timestamp"].to_pylist()


def test_a_track_is_filed_by_the_date_on_which_it_began(tmp_path):
    track = {
        "track_id": 1,
        "first_timestamp": MIDNIGHT - timedelta(seconds=1),
        "last_timestamp": MIDNIGHT + timedelta(seconds=1),
    }
    write(tmp_path, "door", rows_table("tracks", [track]), table="tracks")
    assert files(tmp_path, "tracks") == ["tracks/camera_id=door/date=2026-01-15/part-0.parquet"]


def test_a_file_says_what_made_it_and_holds_the_table_s_columns(tmp_path):
    write(tmp_path, "door", around_midnight())
    for name in files(tmp_path, "detections"):
        schema = pq.read_schema(tmp_path / name)
        assert schema.remove_metadata() == SCHEMAS["detections"]
        footer = {key.decode(): value.decode() for key, value in schema.metadata.items()}
        assert (
            footer.items()
            >= {
                "footfall.run_id": "run-1",
                "footfall.config_hash": "c0ffee",
                "footfall.model_hash": "f59b",
                "footfall.schema_version": "4",
            }.items()
        )


@pytest.mark.parametrize("is_dated", [True, False], ids=["dated", "no date known"])
def test_every_camera_id_comes_back_equal_by_pyarrow_and_by_duckdb(tmp_path, is_dated):
    for camera_id in CAMERAS:
        write(tmp_path, camera_id, around_midnight() if is_dated else detections(None))
    rows = 4 if is_dated else 1
    expected = sorted(camera_id for camera_id in CAMERAS for _ in range(rows))
    read = pq.read_table(tmp_path / "detections")
    assert sorted(read.column("camera_id").to_pylist()) == expected
    assert set(map(str, read.column("date").to_pylist())) == (
        {"2026-01-15", "2026-01-16"} if is_dated else {"unknown"}
    )
    assert sorted(row[0] for row in by_duckdb(tmp_path / "detections")) == expected


def test_a_camera_id_cannot_lead_out_of_its_table(tmp_path):
    output = tmp_path / "deep" / "output"
    for camera_id in ("../../x", "/x", "..", "a/../../../x"):
        write(output, camera_id, detections(None))
    assert all(
        re.match("deep/output/(detections|movements|tracks)/camera_id=", name)
        for name in files(tmp_path)
    )
    folders = [Path(name).parts for name in files(output, "detections")]
    assert {len(parts) for parts in folders} == {4}
    assert len(folders) == 4


def test_nothing_is_visible_before_it_is_published_and_no_partial_file_after_it(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(sink, "ROW_GROUP_ROWS", 2)
    part = PartWriter(tmp_path, "door", "part-0", PROVENANCE)
    for _ in range(5):
        part.write("detections", around_midnight())
    begun = files(tmp_path)
    assert begun
    assert {Path(name).suffix for name in begun} == {".partial"}
    entries = part.publish()
    assert {Path(name).suffix for name in files(tmp_path)} == {".parquet"}
    read = pq.read_table(tmp_path / "detections").column("frame_index").to_pylist()
    assert read == [0, 1] * 5 + [2, 3] * 5
    rows = {path: count for path, count in rows_of(entries) if path.startswith("detections/")}
    assert rows == {
        "detections/camera_id=door/date=2026-01-15/part-0.parquet": 10,
        "detections/camera_id=door/date=2026-01-16/part-0.parquet": 10,
    }


def rows_of(entries):
    return [(entry.path, entry.rows) for entry in entries]


def test_a_part_tells_of_each_of_its_files_what_is_in_it(tmp_path):
    entries = write(tmp_path, "../x y", around_midnight())
    assert sorted(entry.path for entry in entries) == files(tmp_path)
    for entry in entries:
        path = tmp_path / entry.path
        assert entry.bytes == path.stat().st_size
        assert entry.sha256 == sha256_of(path) == hashlib.sha256(path.read_bytes()).hexdigest()
        assert entry.rows == pq.read_metadata(path).num_rows


def test_a_table_without_rows_is_there_for_readers_under_the_part_s_own_date(tmp_path):
    part = PartWriter(tmp_path, "door", "part-0", PROVENANCE, date="2026-01-15")
    part.write("detections", around_midnight())
    rows = dict(rows_of(part.publish()))
    empty = [path for path, count in rows.items() if not count]
    assert empty == [
        f"{table}/camera_id=door/date=2026-01-15/part-0.parquet"
        for table in ("movements", "tracks")
    ]


def test_a_part_s_size_is_about_known_while_it_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(sink, "ROW_GROUP_ROWS", 500)
    part = PartWriter(tmp_path, "door", "part-0", PROVENANCE)
    assert part.size_bytes() == 0
    sizes = []
    for number in range(40):
        moments = [MIDNIGHT + timedelta(seconds=100 * number + i) for i in range(100)]
        part.write("detections", detections(*moments))
        sizes.append(part.size_bytes())
    assert sizes[0] > 100
    (entry,) = [e for e in part.publish() if e.path.startswith("detections")]
    assert sizes[-1] == pytest.approx(entry.bytes, rel=0.5)


def frames(first, count):
    """Return rows of the table that lies beside the ledger."""
    return rows_table(
        "frames",
        [
            {"source_uri": "/a.mkv", "frame_index": i, "pts_s": i / 25}
            for i in range(first, first + count)
        ],
    )


def test_a_table_whose_path_is_given_is_one_file_there_whatever_the_dates(tmp_path):
    paths = {name: tmp_path / "beside" / name / "part-0.parquet" for name in ("frames", "metrics")}
    part = PartWriter(tmp_path, "door", "part-0", PROVENANCE, date="2026-01-15", paths=paths)
    part.write("detections", around_midnight())
    for first in (0, 10):
        part.write("frames", frames(first, 10))
    moments = [{"step": "memory", "time": MIDNIGHT + timedelta(days=day)} for day in (0, 1)]
    part.write("metrics", rows_table("metrics", moments))
    rows = dict(rows_of(part.publish()))
    assert rows["beside/frames/part-0.parquet"] == 20
    assert rows["beside/metrics/part-0.parquet"] == 2
    assert files(tmp_path, "beside") == sorted(name for name in rows if name.startswith("beside"))
    assert not (tmp_path / "frames").exists()
    read = pq.read_table(paths["frames"], partitioning=None)
    assert read.column("frame_index").to_pylist() == list(range(20))
    assert read.schema.metadata[b"footfall.run_id"] == b"run-1"


def test_a_table_whose_path_is_given_is_there_even_if_it_is_empty(tmp_path):
    paths = {name: tmp_path / "beside" / f"{name}.parquet" for name in ("frames", "metrics")}
    part = PartWriter(tmp_path, "door", "part-0", PROVENANCE, paths=paths)
    part.write("frames", frames(0, 0))
    rows = dict(rows_of(part.publish()))
    for name, path in paths.items():
        assert rows[f"beside/{name}.parquet"] == 0
        read = pq.read_table(path, partitioning=None)
        assert (len(read), read.schema.remove_metadata()) == (0, SCHEMAS[name])


def test_a_table_whose_path_is_given_does_not_count_in_a_part_s_size(tmp_path):
    paths = {"frames": tmp_path / "frames.parquet"}
    part = PartWriter(tmp_path, "door", "part-0", PROVENANCE, paths=paths)
    part.write("frames", frames(0, 1000))
    assert part.size_bytes() == 0


def test_a_table_is_written_on_when_it_holds_as_much_as_it_may(tmp_path):
    paths = {"frames": tmp_path / "frames.parquet"}
    part = PartWriter(tmp_path, "door", "part-0", PROVENANCE, paths=paths)
    part.held_bytes = 2 * frames(0, 100).nbytes
    part.write("frames", frames(0, 100))
    assert files(tmp_path) == []
    part.write("frames", frames(100, 100))
    assert files(tmp_path) == ["frames.parquet.partial"]
    for first in (200, 300, 400):
        part.write("frames", frames(first, 100))
    part.publish()
    read = pq.ParquetFile(paths["frames"])
    groups = [read.metadata.row_group(i).num_rows for i in range(read.num_row_groups)]
    assert groups == [200, 200, 100]
    assert read.read().column("frame_index").to_pylist() == list(range(500))


def test_many_small_tables_become_one_while_they_are_held_back_and_no_row_is_lost(tmp_path):
    paths = {"frames": tmp_path / "frames.parquet"}
    part = PartWriter(tmp_path, "door", "part-0", PROVENANCE, paths=paths)
    pieces = []
    for first in range(0, 300, 3):
        rows = frames(first, 3)
        pieces.append(weakref.ref(rows))
        part.write("frames", rows)
        del rows
        assert sum(piece() is not None for piece in pieces) <= 32
    assert files(tmp_path) == []
    part.publish()
    read = pq.ParquetFile(paths["frames"])
    assert read.num_row_groups == 1
    assert read.read().column("frame_index").to_pylist() == list(range(300))


def test_writing_a_part_again_replaces_its_files(tmp_path):
    write(tmp_path, "door", around_midnight())
    write(tmp_path, "door", detections(MIDNIGHT, MIDNIGHT))
    read = pq.read_table(tmp_path / "detections" / "camera_id=door" / "date=2026-01-16")
    assert read.column("frame_index").to_pylist() == [0, 1]


def test_a_file_that_is_named_after_its_content_tells_if_it_was_changed(tmp_path):
    path = write_hashed(tmp_path, "failures", "survey", failures_table([]), PROVENANCE)
    assert files(tmp_path) == [f"failures/{path.name}"]
    stem, digest = path.stem.split("-")
    assert (stem, sha256_of(path)[:16]) == ("survey", digest)


def test_a_small_file_is_whole_or_not_there(tmp_path, monkeypatch):
    path = tmp_path / "deep" / "a.json"
    write_whole(path, b"first")
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        write_whole(path, b"second")
    assert path.read_bytes() == b"first"
    assert entry_of(tmp_path, path).path == "deep/a.json"


def test_a_removed_file_takes_the_partitions_along_that_it_leaves_empty_and_no_other(tmp_path):
    for name in ("t/c=1/d=1/a", "t/c=1/d=1/b", "t/c=2/d=1/a"):
        write_whole(tmp_path / name, b"")
    remove(tmp_path / "t/c=1/d=1/a")
    assert (tmp_path / "t/c=1/d=1").is_dir()
    remove(tmp_path / "t/c=1/d=1/b")
    remove(tmp_path / "t/c=1/d=1/b")
    assert not (tmp_path / "t/c=1").exists()
    assert files(tmp_path) == ["t/c=2/d=1/a"]


def test_cameras_that_come_and_go_side_by_side_do_not_take_each_other_s_folders(
    tmp_path, monkeypatch
):
    """What one camera removes last, another writes first: the folder that they share stays."""
    monkeypatch.setattr(os, "fsync", lambda _: None)

    def come_and_go(camera):
        for _ in range(500):
            path = tmp_path / "staging" / f"camera_id={camera}" / "a.json"
            write_whole(path, b"{}")
            remove(path)

    with ThreadPoolExecutor(3) as cameras:
        list(cameras.map(come_and_go, range(3)))
    assert files(tmp_path) == []


def test_an_output_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "detections").write_text("in the way")
    with pytest.raises(OutputError, match=re.escape(str(tmp_path))):
        write(tmp_path, "door", around_midnight())
    (tmp_path / "failures").write_text("in the way")
    with pytest.raises(OutputError, match=re.escape(str(tmp_path))):
        write_table(tmp_path, tmp_path / "failures" / "a.parquet", failures_table([]), PROVENANCE)


def test_failures_are_written_whole_with_all_that_is_known_of_them(tmp_path):
    failure = Failure(
        source_uri="/a.mkv",
        step="decode",
        error_class="FfmpegError",
        message="killed",
        video_track=2,
        camera_id="../x",
        first_frame=100,
        last_frame=199,
        frames=100,
        signal="SIGSEGV",
        attempts=3,
    )
    path = tmp_path / "failures" / "a.parquet"
    assert write_table(tmp_path, path, failures_table([failure]), PROVENANCE).rows == 1
    assert files(tmp_path) == ["failures/a.parquet"]
    (row,) = pq.read_table(tmp_path / "failures").to_pylist()
    assert row == {
        "source_uri": "/a.mkv",
        "camera_id": "../x",
        "video_track": 2,
        "first_frame": 100,
        "last_frame": 199,
        "frames": 100,
        "step": "decode",
        "error_class": "FfmpegError",
        "message": "killed",
        "signal": "SIGSEGV",
        "attempts": 3,
    }
    assert pq.read_schema(tmp_path / "failures/a.parquet").metadata[b"footfall.run_id"] == b"run-1"


def test_a_moment_is_known_only_if_the_start_is():
    assert timestamp(MIDNIGHT, 90.5) == datetime(2026, 1, 16, 0, 1, 30, 500_000, tzinfo=UTC)
    assert timestamp(None, 90.5) is None
