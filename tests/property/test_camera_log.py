"""A camera's tables are the same, row for row, whatever batches its detections come in."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import part
from pipeline.camera_log import CameraLog
from pipeline.gain import Gain
from pipeline.holdings import add_up
from pipeline.ledger import CameraLedger
from pipeline.letterbox import fit
from pipeline.part import LogSettings
from pipeline.records import (
    Detections,
    Failure,
    Footage,
    FootageEnd,
    FootageKey,
    Gap,
    Stretch,
    VideoTrack,
)
from pipeline.tables import Provenance
from pipeline.tail import Tail
from pipeline.track import TrackSettings
from tests.property.deaths import death

RATE_FPS = 25
SEGMENT_FRAMES = 25
SEGMENTS = 3
FRAMES = SEGMENTS * SEGMENT_FRAMES
DURATION_S = FRAMES / RATE_FPS
BEGAN = datetime(2026, 1, 15, 9, tzinfo=UTC)
TABLES = ("detections", "movements", "tracks")


def footage(camera_id="door", sequence=0, *, start_time=None):
    return Footage(
        key=FootageKey(camera_id=camera_id, sequence=sequence),
        source_uri=f"/archive/{camera_id}-{sequence}.mkv",
        track=VideoTrack(
            video_track=0,
            codec="h264",
            width=1280,
            height=720,
            rate_fps=RATE_FPS,
            duration_s=DURATION_S,
        ),
        letterbox=fit(1280, 720, 640),
        start_time=start_time,
        evidence_id=f"{camera_id}{sequence}",
    )


def camera_log(output, *footages):
    tail = Tail(
        camera_id=footages[0].key.camera_id, footages=footages, stops=(None,) * len(footages)
    )
    return CameraLog(
        tail,
        LogSettings(
            output=output,
            track=TrackSettings(lost_after_s=1.2, carry_over_s=2.0),
            class_names=("person",),
            provenance=Provenance(run_id="r", config_hash="c", model_hash="m"),
            track_hash="t",
            attempt_id="a",
            part_bytes=1e9,
        ),
    )


def results_of(output, camera_id="door"):
    """Return what the ledger has of each of a camera's footages, in their order."""
    return list(add_up(CameraLedger(output, camera_id).parts()).values())


def closed(log, output):
    """Close a log, and return what it came to."""
    log.close()
    return results_of(output)


def walkers(time_s):
    """Return where people are: two cross, one stands and is hidden for a while, one leaves."""
    people = [(200 + 100 * time_s, 300), (700 - 100 * time_s, 310)]
    if not 1.2 <= time_s < 1.8:
        people.append((1000, 500))
    if time_s < 1.0:
        people.append((1150 + 60 * time_s, 300))
    return people


def standers(time_s):  # noqa: ARG001 -- they stand
    """Return where three people stand."""
    return [(200, 300), (600, 400), (1000, 500)]


def detect(footage, segment, start, stop, people=walkers):
    """Return the detections of positions [start, stop) of a segment."""
    numbers = np.arange(segment * SEGMENT_FRAMES + start, segment * SEGMENT_FRAMES + stop)
    seen = [people(number / RATE_FPS) for number in numbers]
    feet = np.array([at for here in seen for at in here], np.float32).reshape(-1, 2)
    return Detections(
        stretch=stretch(footage, segment, start, stop),
        positions=np.arange(start, stop),
        frame_index=numbers,
        pts_s=numbers / RATE_FPS,
        frame_row=np.repeat(np.arange(len(seen)), [len(here) for here in seen]),
        boxes=np.hstack([feet - np.float32([30, 150]), feet + np.float32([30, 0])]),
        confidence=np.full(len(feet), 0.9, np.float32),
        class_id=np.zeros(len(feet), np.int64),
    )


def stretch(footage, segment, start, stop):
    return Stretch(
        footage=footage.key, segment=segment, start=start, stop=stop, wanted=SEGMENT_FRAMES
    )


def whole(footage, people=walkers, segments=range(SEGMENTS)):
    """Return a footage's segments in one batch each, and its end."""
    batches = [detect(footage, segment, 0, SEGMENT_FRAMES, people) for segment in segments]
    return [*batches, FootageEnd(footage=footage.key, segments=SEGMENTS)]


def rows(output, table, *columns):
    read = pq.read_table(output / table)
    return (read.select(columns) if columns else read).to_pylist()


def files(output, pattern="*"):
    return sorted(str(p.relative_to(output)) for p in output.rglob(pattern) if p.is_file())


def track_ids(output, source_uri):
    pairs = rows(output, "movements", "source_uri", "track_id")
    return {row["track_id"] for row in pairs if row["source_uri"] == source_uri}


@pytest.fixture(scope="module")
def in_order(tmp_path_factory):
    """Return the tables of two recordings, 1 s apart, that came in order and whole segments."""
    output = tmp_path_factory.mktemp("in_order")
    log = camera_log(output, *two_recordings())
    for arrival in [a for each in two_recordings() for a in whole(each)]:
        log.push(arrival)
    assert [result.status for result in closed(log, output)] == ["completed", "completed"]
    return {table: rows(output, table) for table in TABLES}


def two_recordings():
    following = BEGAN + timedelta(seconds=DURATION_S + 1)
    return footage(start_time=BEGAN), footage(sequence=1, start_time=following)


@st.composite
def arrivals(draw):
    """Split every segment of both recordings anyhow, repeat some batches, and mix all."""
    items = [FootageEnd(footage=each.key, segments=SEGMENTS) for each in two_recordings()]
    for each in two_recordings():
        for segment in range(SEGMENTS):
            cuts = draw(st.sets(st.integers(1, SEGMENT_FRAMES - 1), max_size=4))
            edges = [0, *sorted(cuts), SEGMENT_FRAMES]
            items += [detect(each, segment, a, b) for a, b in pairwise(edges)]
            if draw(st.booleans()):
                items.append(detect(each, segment, 3, 17))
    return draw(st.permutations(items))


@settings(max_examples=12, deadline=None)
@given(arrivals())
def test_tables_are_equal_row_for_row_whatever_the_split_and_the_order(
    tmp_path_factory, in_order, arrivals
):
    output = tmp_path_factory.mktemp("mixed")
    log = camera_log(output, *two_recordings())
    gain = sum((log.push(arrival) for arrival in arrivals), Gain())
    video_s = pytest.approx(2 * DURATION_S)
    assert gain == Gain(frames=2 * FRAMES, segments=2 * SEGMENTS, video_s=video_s)
    # The last part is written when the log ends.
    assert {step: took.frames for step, took in gain.steps.items()} == {
        "track": 2 * FRAMES, "write": 2 * FRAMES,
    }  # fmt: skip
    assert gain.steps["track"].wall_s > 0
    assert [result.status for result in closed(log, output)] == ["completed", "completed"]
    for table in TABLES:
        assert rows(output, table) == in_order[table]


def test_the_tables_hold_every_box_and_every_person(in_order):
    there = 2 * sum(len(walkers(i / RATE_FPS)) for i in range(FRAMES))
    assert len(in_order["detections"]) == there
    first = [r for r in in_order["movements"] if r["source_uri"].endswith("door-0.mkv")]
    assert {row["track_id"] for row in first} == {1, 2, 3, 4}
    hidden = [row for row in first if row["is_interpolated"]]
    assert [(row["frame_index"], row["track_id"]) for row in hidden] == [
        (i, 3) for i in range(30, 45)
    ]
    assert {(row["anchor_x"], row["anchor_y"]) for row in hidden} == {(1000, 500)}
    assert {row["camera_id"] for row in first} == {"door"}


def test_two_cameras_in_one_process_count_their_tracks_from_1_each(tmp_path):
    door, yard = footage("door"), footage("yard")
    logs = [(camera_log(tmp_path, door), whole(door)), (camera_log(tmp_path, yard), whole(yard))]
    for pair in zip(*(arrivals for _, arrivals in logs), strict=True):
        for (log, _), arrival in zip(logs, pair, strict=True):
            log.push(arrival)
    for log, _ in logs:
        log.close()
    for camera in (door, yard):
        assert track_ids(tmp_path, camera.source_uri) == {1, 2, 3, 4}


def run_two(output, pause_s, *, starts_known=True):
    """Log two recordings of people who stand, the second `pause_s` after the first."""
    following = BEGAN + timedelta(seconds=DURATION_S + pause_s)
    first = footage(start_time=BEGAN if starts_known else None)
    second = footage(sequence=1, start_time=following if starts_known else None)
    log = camera_log(output, first, second)
    for arrival in [*whole(first, standers), *whole(second, standers)]:
        log.push(arrival)
    log.close()
    return track_ids(output, first.source_uri), track_ids(output, second.source_uri)


def test_tracks_go_on_into_a_recording_that_follows_within_the_carry_over(tmp_path):
    first, second = run_two(tmp_path, pause_s=1.0)
    assert first == second == {1, 2, 3}
    tracks = rows(tmp_path, "tracks", "track_id", "n_observations", "duration_s")
    assert [(row["track_id"], row["n_observations"]) for row in tracks] == [
        (i, 2 * FRAMES) for i in (1, 2, 3)
    ]
    assert tracks[0]["duration_s"] == pytest.approx(2 * DURATION_S + 1.0 - 1 / RATE_FPS)


@pytest.mark.parametrize(("pause_s", "starts_known"), [(2.5, True), (1.0, False)])
def test_tracks_end_with_a_recording_that_no_other_is_known_to_follow_closely(
    tmp_path, pause_s, starts_known
):
    first, second = run_two(tmp_path, pause_s, starts_known=starts_known)
    assert (first, second) == ({1, 2, 3}, {4, 5, 6})
    tracks = rows(tmp_path, "tracks", "n_observations")
    assert [row["n_observations"] for row in tracks] == [FRAMES] * 6


def test_a_segment_that_never_came_is_a_failure_and_what_came_before_it_is_kept(tmp_path):
    door = footage()
    log = camera_log(tmp_path, door)
    for arrival in whole(door, segments=[0, 1]):
        log.push(arrival)
    (result,) = closed(log, tmp_path)
    assert (result.status, result.frames) == ("partial", 2 * SEGMENT_FRAMES)
    (failure,) = result.failures
    assert "segment 2" in failure.message
    assert (failure.source_uri, failure.camera_id) == (door.source_uri, "door")
    assert {row["frame_index"] for row in rows(tmp_path, "detections")} == set(range(50))


def test_a_footage_of_which_nothing_came_has_failed(tmp_path):
    log = camera_log(tmp_path, footage())
    (result,) = closed(log, tmp_path)
    assert (result.status, result.frames, len(result.failures)) == ("failed", 0, 1)
    assert "end never came" in result.failures[0].message


def test_a_segment_that_was_set_aside_is_counted_and_the_rest_is_logged(tmp_path):
    door = footage()
    why = Failure(
        source_uri=door.source_uri, step="decode", error_class="StepError", message="it died"
    )
    gap = Gap(stretch=stretch(door, 1, 10, SEGMENT_FRAMES), failure=why)
    log = camera_log(tmp_path, door)
    arrivals = [detect(door, 1, 0, 10), gap, *whole(door, segments=[0, 2])]
    gain = sum((log.push(arrival) for arrival in arrivals), Gain())
    assert gain == Gain(
        frames=FRAMES - SEGMENT_FRAMES,
        segments=SEGMENTS,
        failed=1,
        lost=SEGMENT_FRAMES,
        video_s=pytest.approx(DURATION_S * (1 - 1 / SEGMENTS)),
    )
    (result,) = closed(log, tmp_path)
    assert (result.status, result.frames) == ("partial", 2 * SEGMENT_FRAMES)
    assert (result.frames_failed, [f.message for f in result.failures]) == (25, ["it died"])
    numbers = {row["frame_index"] for row in rows(tmp_path, "detections")}
    assert numbers == {*range(25), *range(50, 75)}


def test_a_footage_is_visible_only_once_its_part_is_whole_and_leaves_no_partial_file(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(part, "FIRST_PART_FRAMES", 10 * FRAMES)
    door, later = footage(), footage(sequence=1)
    log = camera_log(tmp_path, door, later)
    *segments, end = whole(door)
    for arrival in [*segments, *whole(later)[:-1]]:
        log.push(arrival)
    assert files(tmp_path, "*.parquet") == []
    assert log.finished == 0
    log.push(end)
    assert log.finished == 1
    assert files(tmp_path, "*.parquet") == []
    log.push(whole(later)[-1])
    assert log.finished == 2
    assert {row["source_uri"] for row in rows(tmp_path, "detections")} == {
        door.source_uri,
        later.source_uri,
    }
    log.close()
    assert files(tmp_path, "*.partial") == []
    assert {name.split("/")[0] for name in files(tmp_path)} == {*TABLES, "metrics", "ledger"}


def test_what_came_whole_behind_a_lost_segment_is_logged_when_the_log_is_closed(tmp_path):
    first, second = footage(), footage(sequence=1)
    log = camera_log(tmp_path, first, second)
    for arrival in (*whole(first, segments=[1, 2]), *whole(second)):
        log.push(arrival)
    lost, kept = closed(log, tmp_path)
    assert (lost.status, lost.frames) == ("partial", 2 * SEGMENT_FRAMES)
    assert [failure.message for failure in lost.failures] == ["segment 0 never came"]
    assert (kept.status, kept.frames, kept.failures) == ("completed", FRAMES, [])


def test_what_a_part_takes_as_it_comes_is_not_staged_before(tmp_path):
    only = footage()
    log = camera_log(tmp_path, only)
    *first, last = whole(only)
    with death(None) as counted:
        log.push(first[0])
        assert counted.done.count("new_file") == 1
        log.push(*first[1:], last)
    assert counted.done.count("new_file") == 1
    (result,) = closed(log, tmp_path)
    assert result.frames == FRAMES


def test_an_empty_table_is_filed_under_the_date_on_which_its_footage_began(tmp_path):
    door = footage(start_time=BEGAN)
    log = camera_log(tmp_path, door)
    for arrival in whole(door, people=lambda time_s: []):  # noqa: ARG005
        log.push(arrival)
    (result,) = closed(log, tmp_path)
    assert (result.status, result.movements) == ("completed", 0)
    for table in TABLES:
        assert {path.split("/")[1] for path in files(tmp_path / table)} == {"date=2026-01-15"}
