"""A camera's refined tables are its online ones made whole: the same whatever happened on the way."""

from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.compact import compact
from pipeline.derive import DeriveSettings, derive
from pipeline.errors import ConfigError, OutputError
from pipeline.ledger import CameraLedger
from pipeline.online import OnlineLog
from pipeline.records import Detections
from pipeline.refine import RefineSettings
from pipeline.refined import MANIFEST, read_refined
from pipeline.scene import Line, Scene, Zone
from pipeline.sink import PartWriter
from pipeline.verify import verify
from tests.property import archive

RECORDINGS = [
    archive.recording("a", 0.0),
    archive.recording("b", 3.0, segments=4),
    archive.recording("c", 4000.0),
]
SCENE = Scene(
    lines=(Line(name="gate", points=((400.0, 0.0), (400.0, 700.0))),),
    zones=(Zone(name="floor", polygon=((0.0, 0.0), (1280.0, 0.0), (1280.0, 720.0), (0.0, 720.0))),),
)
# The small archive's people flicker: what counts as sure there is less than elsewhere.
SETTINGS = DeriveSettings(
    refine=RefineSettings(min_track_s=0.0, certain=0.0, least_odds=0.0), scene=SCENE, end_s=1.2
)
TABLES = ("movements", "tracks", "events", "counts")


def refined_tables(output):
    return {name: archive.rows(output / "refined", name) for name in TABLES}


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """Return an output of the archive, refined, that nothing disturbed."""
    output = tmp_path_factory.mktemp("plain")
    archive.run(output, RECORDINGS)
    derive(output, "door", SETTINGS)
    return output


def test_every_frame_comes_back_in_order_with_the_rows_of_its_tracks(plain):
    parts = CameraLedger(plain, "door").parts()
    read = [each.frame for each in OnlineLog(plain, parts, 2.0, 1.2).frames()]
    assert [(f.footage.source_uri, f.frame_index) for f in read] == archive.frames_there(RECORDINGS)
    times = [frame.time_s for frame in read]
    assert times == sorted(times)
    told = sorted(
        (f.footage.source_uri, f.frame_index, o.track_id) for f in read for o in f.observations
    )
    rows = archive.rows(plain, "movements")
    assert told == sorted((r["source_uri"], r["frame_index"], r["track_id"]) for r in rows)


def test_every_box_that_was_tracked_is_in_a_refined_track_that_names_its_own(plain):
    tables = refined_tables(plain)
    online = archive.rows(plain, "movements")
    seen = [row for row in tables["movements"] if not row["is_interpolated"]]
    assert len(seen) == sum(not row["is_interpolated"] for row in online)
    merged = [raw for row in tables["tracks"] for raw in row["merged_from"]]
    assert set(merged) == {row["track_id"] for row in online if not row["is_interpolated"]}
    ids = sorted(row["track_id"] for row in tables["tracks"])
    assert ids == list(range(1, len(ids) + 1))
    assert len(ids) < len({row["track_id"] for row in online})


def test_how_many_were_never_sure_is_in_the_manifest(tmp_path):
    archive.run(tmp_path, RECORDINGS[:1])
    doubtful = replace(SETTINGS, refine=RefineSettings(min_track_s=0.0, certain=1.0))
    refined = derive(tmp_path, "door", doubtful)
    assert (refined.tracks, refined.unsure > 0) == (0, True)
    assert read_refined(tmp_path, "door").unsure == refined.unsure


def test_every_row_says_which_online_track_it_was_in_that_frame(plain):
    tables, online = refined_tables(plain), archive.rows(plain, "movements")
    there = {(r["source_uri"], r["frame_index"], r["track_id"]): r for r in online}
    merged = {row["track_id"]: set(row["merged_from"]) for row in tables["tracks"]}
    for row in tables["movements"]:
        assert (row["raw_track_id"] is None) == row["is_interpolated"]
        if not row["is_interpolated"]:
            assert (row["source_uri"], row["frame_index"], row["raw_track_id"]) in there
            merged[row["track_id"]].discard(row["raw_track_id"])
    assert not any(merged.values())
    # The online log has the column too, and no other id.
    for row in online:
        assert row["raw_track_id"] == (None if row["is_interpolated"] else row["track_id"])


def test_events_and_counts_tell_of_the_same(plain):
    tables = refined_tables(plain)
    crossings = [row for row in tables["events"] if row["event_type"] == "crossing"]
    counted = [row for row in tables["counts"] if row["name"] == "gate"]
    assert len(crossings) > 0
    for way in ("in", "out"):
        assert sum(row[way] for row in counted) == sum(row["direction"] == way for row in crossings)
    assert {row["zones"][0] for row in tables["movements"] if row["zones"]} == {"floor"}


@settings(max_examples=8, deadline=None)
@given(part_bytes=st.sampled_from([1.0, 3000.0, 1e9]), merge=st.booleans())
def test_how_the_online_log_is_cut_into_parts_changes_nothing(
    plain, tmp_path_factory, part_bytes, merge
):
    output = tmp_path_factory.mktemp("cut")
    archive.run(output, RECORDINGS, part_bytes=part_bytes)
    if merge:
        compact(output, "door", 1e9)
    derive(output, "door", SETTINGS)
    assert refined_tables(output) == refined_tables(plain)
    assert verify(output).problems == []


def test_what_has_not_changed_is_not_made_again_and_what_has_takes_its_place(tmp_path):
    archive.run(tmp_path, RECORDINGS[:2], part_bytes=3000.0)
    first = derive(tmp_path, "door", SETTINGS)
    assert derive(tmp_path, "door", SETTINGS) == first
    compact(tmp_path, "door", 1e9)
    assert derive(tmp_path, "door", SETTINGS) == first
    without = derive(tmp_path, "door", DeriveSettings(end_s=1.2, refine=SETTINGS.refine))
    assert without != first
    assert {f.path for f in without.files} == set(archive.files(tmp_path, "refined-*.parquet"))
    archive.run(tmp_path, RECORDINGS)
    more = derive(tmp_path, "door", SETTINGS)
    assert more.frames > first.frames
    assert verify(tmp_path).problems == []


def test_a_generation_that_was_not_finished_is_swept_and_never_read(tmp_path, monkeypatch):
    archive.run(tmp_path, RECORDINGS[:2])
    whole = derive(tmp_path, "door", SETTINGS)

    def died(*_):
        raise OSError("killed")

    with monkeypatch.context() as patch:
        patch.setattr("pipeline.derive.write_whole", died)
        with pytest.raises(OutputError, match="killed"):
            derive(tmp_path, "door", DeriveSettings(refine=None))
    assert read_refined(tmp_path, "door") == whole
    assert verify(tmp_path).problems != []
    derive(tmp_path, "door", DeriveSettings(refine=None))
    assert verify(tmp_path).problems == []


def test_without_refining_the_tables_are_the_online_ones(tmp_path):
    archive.run(tmp_path, RECORDINGS)
    derive(tmp_path, "door", DeriveSettings(refine=None, end_s=1.2))
    names = ("source_uri", "frame_index", "track_id", "is_interpolated", "x_min", "y_max")
    told, online = (
        sorted(tuple(row[name] for name in names) for row in archive.rows(folder, "movements"))
        for folder in (tmp_path / "refined", tmp_path)
    )
    assert told == online
    there, before = archive.rows(tmp_path / "refined", "tracks"), archive.rows(tmp_path, "tracks")
    assert [row["track_id"] for row in there] == [row["track_id"] for row in before]
    # Boxes have been in float32 on the way.
    distances = [row["distance_px"] for row in before]
    assert [row["distance_px"] for row in there] == pytest.approx(distances, abs=0.1)


def test_files_are_cut_at_their_size_and_hold_the_same(plain, tmp_path):
    archive.run(tmp_path, RECORDINGS)
    small = derive(
        tmp_path,
        "door",
        DeriveSettings(refine=SETTINGS.refine, scene=SCENE, end_s=1.2, part_bytes=1),
    )
    assert len(small.files) >= len(read_refined(plain, "door").files)
    assert refined_tables(tmp_path) == refined_tables(plain)


def test_a_camera_without_a_log_has_none_and_loses_what_it_had(tmp_path):
    assert derive(tmp_path, "door", SETTINGS) is None
    archive.run(tmp_path, RECORDINGS[:1])
    derive(tmp_path, "door", SETTINGS)
    ledger = CameraLedger(tmp_path, "door")
    for part in reversed(ledger.parts()):
        ledger.take_back(part)
    assert derive(tmp_path, "door", SETTINGS) is None
    assert archive.files(tmp_path, "refined*") == []


def test_a_scene_outside_the_picture_is_named(tmp_path):
    archive.run(tmp_path, RECORDINGS[:1])
    scene = Scene(lines=(Line(name="far", points=((0.0, 0.0), (5000.0, 0.0))),))
    with pytest.raises(ConfigError, match="'door', line 'far'"):
        derive(tmp_path, "door", DeriveSettings(scene=scene))


def test_a_damaged_manifest_or_log_is_named(tmp_path):
    archive.run(tmp_path, RECORDINGS[:1])
    derive(tmp_path, "door", SETTINGS)
    manifest = CameraLedger(tmp_path, "door").folder / MANIFEST
    manifest.write_text("{")
    with pytest.raises(OutputError, match="damaged"):
        read_refined(tmp_path, "door")
    manifest.unlink()
    (path,) = (tmp_path / "movements").rglob("*.parquet")
    path.write_bytes(b"PAR1 and nothing else")
    with pytest.raises(OutputError, match="cannot be read"):
        derive(tmp_path, "door", SETTINGS)


def test_refined_files_say_what_made_their_rows(plain):
    for file in read_refined(plain, "door").files:
        footer = pq.read_metadata(plain / file.path).metadata
        assert footer[b"footfall.run_id"] == b"r"
        assert footer[b"footfall.schema_version"] == b"4"


def test_a_start_that_died_before_it_had_swept_leaves_nothing_for_the_next(tmp_path, monkeypatch):
    archive.run(tmp_path, RECORDINGS[:2])
    derive(tmp_path, "door", SETTINGS)
    with monkeypatch.context() as patch:
        patch.setattr("pipeline.derive.sweep_refined", lambda *_: None)
        other = derive(tmp_path, "door", DeriveSettings(refine=None))
    assert verify(tmp_path).problems != []
    assert derive(tmp_path, "door", DeriveSettings(refine=None)) == other
    assert verify(tmp_path).problems == []


@pytest.mark.parametrize("harm", ["gone", "cut", "manifest"])
def test_what_is_lost_or_damaged_of_a_generation_is_made_again(tmp_path, harm):
    archive.run(tmp_path, RECORDINGS)
    first = derive(tmp_path, "door", SETTINGS)
    before, path = refined_tables(tmp_path), tmp_path / first.files[0].path
    if harm == "gone":
        path.unlink()
    elif harm == "cut":
        path.write_bytes(path.read_bytes()[:-1])
    else:
        (CameraLedger(tmp_path, "door").folder / MANIFEST).write_text("{")
    derive(tmp_path, "door", SETTINGS)
    assert refined_tables(tmp_path) == before
    assert verify(tmp_path).problems == []


def test_no_file_of_a_generation_has_its_name_before_all_are_whole(tmp_path, monkeypatch):
    archive.run(tmp_path, RECORDINGS)
    small = DeriveSettings(refine=SETTINGS.refine, scene=SCENE, end_s=1.2, part_bytes=1)
    monkeypatch.setattr("pipeline.derive._FRAMES_AT_ONCE", 5)
    seen = []
    usual = PartWriter.finish

    def finish(self):
        usual(self)
        seen.append(len(archive.files(tmp_path / "refined", "*.parquet")))

    with monkeypatch.context() as patch:
        patch.setattr(PartWriter, "finish", finish)
        made = derive(tmp_path, "door", small)
    # The first writer is published when all have finished.
    assert len(made.files) > 8
    assert set(seen[: len(made.files) // 4 - 1]) == {0}


def test_footage_with_and_without_a_known_start_is_one_log(tmp_path):
    archive.run(tmp_path, [archive.recording("a"), archive.recording("b", 3.0, segments=4)])
    derive(tmp_path, "door", SETTINGS)
    dates = {row["date"] for row in archive.rows(tmp_path / "refined", "counts")}
    assert len(dates) > 1
    assert "unknown" in dates
    assert verify(tmp_path).problems == []


def test_a_part_of_many_days_ends_before_it_has_too_many_files(tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.derive._FRAMES_AT_ONCE", 5)
    monkeypatch.setattr("pipeline.derive.MOST_DATES", 3)
    monkeypatch.setattr("pipeline.part.MOST_DATES", 3)
    days = [archive.recording(f"d{n}", 86400.0 * n) for n in range(12)]
    archive.run(tmp_path, days)
    refined = derive(tmp_path, "door", SETTINGS)
    assert refined.frames == len(archive.frames_there(days))
    per_writer = {}
    for file in refined.files:
        per_writer.setdefault(file.path.split("/")[-1], set()).add(file.path.split("/")[-2])
    assert max(map(len, per_writer.values())) <= 5
    assert verify(tmp_path).problems == []


def test_a_stride_without_refining_does_not_end_everybody_in_between(tmp_path):
    strided = [replace(each, stride=2) for each in RECORDINGS]

    def every_second(footage, have):
        return [
            thinned(each) if isinstance(each, Detections) else each
            for each in archive.whole(footage, have)
        ]

    archive.run(tmp_path, strided, every_second)
    derive(tmp_path, "door", DeriveSettings(refine=None, scene=SCENE, end_s=1.2))
    ids = [row["track_id"] for row in archive.rows(tmp_path / "refined", "tracks")]
    assert len(ids) == len(set(ids))
    kinds = {row["event_type"] for row in archive.rows(tmp_path / "refined", "events")}
    assert "crossing" in kinds


def thinned(detections):
    """Return what a stride of 2 leaves of detections."""
    kept = np.flatnonzero(detections.frame_index % 2 == 0)
    rows = np.flatnonzero(np.isin(detections.frame_row, kept))
    return replace(
        detections,
        positions=np.arange(len(kept)),
        stretch=replace(
            detections.stretch, start=0, stop=max(1, len(kept)), wanted=max(1, len(kept))
        ),
        frame_index=detections.frame_index[kept],
        pts_s=detections.pts_s[kept],
        frame_row=np.searchsorted(kept, detections.frame_row[rows]),
        boxes=detections.boxes[rows],
        confidence=detections.confidence[rows],
        class_id=detections.class_id[rows],
        failures=(),
    )
