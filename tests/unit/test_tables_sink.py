"""Rows become Parquet files that are whole or not there, filed by camera and date."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest

from pipeline import sink
from pipeline.errors import OutputError
from pipeline.records import Failure
from pipeline.sink import PartWriter, part_name, write_table
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
    part.commit()


def files(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def by_duckdb(folder):
    pattern = str(folder / "**" / "*.parquet")
    query = "select camera_id, frame_index from read_parquet($1, hive_partitioning = true)"
    with duckdb.connect() as connection:
        return connection.execute(query, [pattern]).fetchall()


def test_rows_are_filed_by_the_utc_date_of_their_own_moment(tmp_path):
    write(tmp_path, "door", around_midnight())
    assert files(tmp_path) == [
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
    assert files(tmp_path) == ["tracks/camera_id=door/date=2026-01-15/part-0.parquet"]


def test_a_file_says_what_made_it_and_holds_the_table_s_columns(tmp_path):
    write(tmp_path, "door", around_midnight())
    for name in files(tmp_path):
        schema = pq.read_schema(tmp_path / name)
        assert schema.remove_metadata() == SCHEMAS["detections"]
        footer = {key.decode(): value.decode() for key, value in schema.metadata.items()}
        assert (
            footer.items()
            >= {
                "footfall.run_id": "run-1",
                "footfall.config_hash": "c0ffee",
                "footfall.model_hash": "f59b",
                "footfall.schema_version": "1",
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
    assert all(name.startswith("deep/output/detections/camera_id=") for name in files(tmp_path))
    folders = [Path(name).parts for name in files(output)]
    assert {len(parts) for parts in folders} == {4}
    assert len(folders) == 4


def test_nothing_is_visible_before_the_commit_and_no_partial_file_after_it(tmp_path, monkeypatch):
    monkeypatch.setattr(sink, "ROW_GROUP_ROWS", 2)
    part = PartWriter(tmp_path, "door", "part-0", PROVENANCE)
    for _ in range(5):
        part.write("detections", around_midnight())
    begun = files(tmp_path)
    assert begun
    assert {Path(name).suffix for name in begun} == {".partial"}
    part.commit()
    assert {Path(name).suffix for name in files(tmp_path)} == {".parquet"}
    read = pq.read_table(tmp_path / "detections").column("frame_index").to_pylist()
    assert read == [0, 1] * 5 + [2, 3] * 5
    assert part.rows == {"detections": 20}


def test_writing_a_part_again_replaces_it(tmp_path):
    write(tmp_path, "door", around_midnight())
    write(tmp_path, "door", detections(MIDNIGHT, MIDNIGHT))
    read = pq.read_table(tmp_path / "detections" / "camera_id=door" / "date=2026-01-16")
    assert read.column("frame_index").to_pylist() == [0, 1]


def test_a_part_s_name_tells_recordings_and_video_tracks_apart_and_nothing_else():
    assert part_name("/a.mkv", 0) == part_name("/a.mkv", 0)
    names = {part_name(uri, number) for uri in ("/a.mkv", "/b.mkv") for number in (0, 1)}
    assert len(names) == 4
    assert not any("/" in name for name in {part_name("/a/../b.mkv", 0), *names})


def test_an_output_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "detections").write_text("in the way")
    with pytest.raises(OutputError, match=re.escape(str(tmp_path))):
        write(tmp_path, "door", around_midnight())
    (tmp_path / "failures").write_text("in the way")
    with pytest.raises(OutputError, match=re.escape(str(tmp_path))):
        write_table(tmp_path, "failures", failures_table([]), "a", PROVENANCE)


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
    write_table(tmp_path, "failures", failures_table([failure]), "a", PROVENANCE)
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
