"""Short gaps are filled on the straight line, and what moved is told in px/s, degrees and paths."""

import math
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from pipeline.fill import Filler
from pipeline.letterbox import fit
from pipeline.moment import anchor
from pipeline.movement import MovementLog, MovementSettings
from pipeline.records import Footage, FootageKey, Observation, TrackedFrame, VideoTrack

RATE_FPS = 25.0
HORIZON_S = 1.2
BEGAN = datetime(2026, 1, 15, 9, tzinfo=UTC)
FOOTAGE = Footage(
    key=FootageKey(camera_id="door", sequence=0),
    source_uri="/archive/door.mkv",
    track=VideoTrack(video_track=1, codec="h264", width=1280, height=720, rate_fps=RATE_FPS),
    letterbox=fit(1280, 720, 640),
    start_time=BEGAN,
    origin_s=10.0,
)


def person(x, y, *, track_id=1, class_id=0):
    """Return a person whose feet are at (x, y)."""
    box = np.array([x - 20, y - 100, x + 20, y], float)
    return Observation(track_id=track_id, class_id=class_id, box=box, confidence=0.9)


def frame(number, *seen, time_s=None):
    time_s = number / RATE_FPS if time_s is None else time_s
    return TrackedFrame(
        footage=FOOTAGE,
        frame_index=number,
        pts_s=10.0 + time_s,
        time_s=time_s,
        observations=list(seen),
    )


def refine(frames):
    refiner = Filler(HORIZON_S)
    pushed = [out for each in frames for out in refiner.push(each)]
    return [*pushed, *refiner.flush()]


def log_of(frames, end_s=HORIZON_S):
    """Return the rows of `movements` and of `tracks`, once all has ended."""
    log = MovementLog(MovementSettings(class_names=("person", "dog"), end_s=end_s))
    rows = log.rows(frames)
    return rows.to_pylist(), log.ended(all_of_them=True).to_pylist()


def walk(speed, direction_deg, seconds=2.0):
    """Return frames of a person who walks straight on from (400, 400)."""
    way = [speed * i / RATE_FPS for i in range(round(seconds * RATE_FPS) + 1)]
    angle = math.radians(direction_deg)
    return [
        frame(i, person(400 + math.cos(angle) * w, 400 + math.sin(angle) * w))
        for i, w in enumerate(way)
    ]


def test_a_gap_is_filled_on_the_straight_line_by_time_and_marked():
    seen = refine(
        [
            frame(0, person(100, 300), time_s=0.0),
            frame(1, time_s=0.1),
            frame(2, person(900, 300, track_id=2), time_s=0.3),
            frame(3, person(180, 340), time_s=0.4),
        ]
    )
    (first,), (second,) = seen[1].observations, [o for o in seen[2].observations if o.track_id == 1]
    assert first.box == pytest.approx([100, 210, 140, 310])
    assert second.box == pytest.approx([140, 230, 180, 330])
    for filled in (first, second):
        assert filled.is_interpolated
        assert filled.confidence is None
        assert filled.class_id == 0
    assert [[o.track_id for o in f.observations] for f in seen] == [[1], [1], [2, 1], [1]]
    assert not any(o.is_interpolated for f in (seen[0], seen[3]) for o in f.observations)


def test_frames_come_out_in_order_and_each_once_whether_or_not_anyone_is_in_them():
    frames = [frame(i, *([person(100 + i, 300)] if i % 7 else [])) for i in range(90)]
    assert [f.frame_index for f in refine(frames)] == list(range(90))


def test_a_frame_is_held_back_for_the_horizon_and_no_longer():
    refiner = Filler(1.22)
    for number in range(90):
        given_on = [f.frame_index for f in refiner.push(frame(number))]
        # Frame n may still change when frame n + 30 comes, 1.2 s later; not 1.24 s later.
        assert given_on == ([number - 31] if number >= 31 else [])


@pytest.mark.parametrize(("hidden", "filled"), [(28, 28), (40, 0)])
def test_a_gap_longer_than_the_horizon_stays_open(hidden, filled):
    frames = [frame(0, person(100, 300)), *(frame(i) for i in range(1, hidden + 1))]
    frames.append(frame(hidden + 1, person(200, 300)))
    seen = refine(frames)
    assert sum(o.is_interpolated for f in seen for o in f.observations) == filled


def test_each_track_is_filled_from_its_own_boxes():
    frames = [
        frame(0, person(100, 300, track_id=1), person(500, 300, track_id=2, class_id=1)),
        frame(1),
        frame(2, person(120, 300, track_id=1), person(480, 300, track_id=2, class_id=1)),
    ]
    filled = {o.track_id: o for o in refine(frames)[1].observations}
    assert anchor(filled[1]) == pytest.approx((110, 300))
    assert anchor(filled[2]) == pytest.approx((490, 300))
    assert (filled[1].class_id, filled[2].class_id) == (0, 1)


@pytest.mark.parametrize("direction", [0, 90, 180, 270, 315])
def test_a_walk_of_100_px_a_second_is_told_with_its_direction(direction):
    rows, _ = log_of(walk(100, direction))
    assert (rows[0]["speed_px_s"], rows[0]["direction_deg"]) == (None, None)
    for row in rows[1:]:
        assert row["speed_px_s"] == pytest.approx(100, rel=0.01)
        off = (row["direction_deg"] - direction + 180) % 360 - 180
        assert abs(off) < 0.5
        assert 0 <= row["direction_deg"] < 360


def test_speed_is_that_of_the_last_half_second_not_of_a_trembling_box():
    trembling = [
        frame(i, person(400 + (-1) ** i, 400 + (-1) ** (i // 2)))
        for i in range(round(RATE_FPS * 2))
    ]
    rows, _ = log_of(trembling)
    # From frame to frame it is 2 px in 40 ms: 50 px/s and more.
    assert max(row["speed_px_s"] for row in rows[13:]) < 6


def test_a_stop_after_a_walk_is_told_half_a_second_later():
    walking = walk(100, 0, seconds=1.0)
    standing = [frame(26 + i, person(500, 400)) for i in range(25)]
    rows, _ = log_of([*walking, *standing])
    assert rows[25]["speed_px_s"] == pytest.approx(100, rel=0.01)
    assert [row["speed_px_s"] for row in rows[39:]] == [0.0] * 12
    assert {row["direction_deg"] for row in rows[39:]} == {None}


def test_a_row_has_the_anchor_at_the_middle_of_the_lower_edge_and_the_moment_of_its_frame():
    rows, _ = log_of([frame(5, person(321, 456, track_id=9, class_id=1))])
    (row,) = rows
    assert (row["anchor_x"], row["anchor_y"]) == (321, 456)
    assert [row[edge] for edge in ("x_min", "y_min", "x_max", "y_max")] == [301, 356, 341, 456]
    assert row["timestamp"] == BEGAN + timedelta(seconds=0.2)
    assert (row["pts_s"], row["frame_index"], row["video_track"]) == (10.2, 5, 1)
    assert (row["track_id"], row["class_id"], row["class_name"]) == (9, 1, "dog")
    assert row["source_uri"] == "/archive/door.mkv"


def test_rows_are_in_the_order_of_frames_and_track_ids_and_say_what_is_interpolated():
    frames = refine(
        [
            frame(0, person(500, 300, track_id=2), person(100, 300, track_id=1)),
            frame(1, person(500, 300, track_id=2)),
            frame(2, person(500, 300, track_id=2), person(100, 300, track_id=1)),
        ]
    )
    rows, _ = log_of(frames)
    order = [(r["frame_index"], r["track_id"], r["is_interpolated"]) for r in rows]
    assert order == [
        (0, 1, False), (0, 2, False), (1, 1, True), (1, 2, False), (2, 1, False), (2, 2, False),
    ]  # fmt: skip
    assert [r["confidence"] is None for r in rows] == [r["is_interpolated"] for r in rows]


def test_a_track_row_sums_up_the_walk():
    # A point of the path comes every half second, at 25 frames/s every 13th frame: the corner is one.
    right = [frame(i, person(400 + 4 * i, 400)) for i in range(53)]
    down = [frame(53 + i, person(608, 404 + 4 * i)) for i in range(26)]
    frames = refine([*right, *down[:9], frame(62), *down[10:]])
    _, tracks = log_of(frames)
    (track,) = tracks
    assert (track["first_frame_index"], track["last_frame_index"]) == (0, 78)
    assert (track["first_pts_s"], track["last_pts_s"]) == pytest.approx((10.0, 13.12))
    assert track["first_timestamp"] == BEGAN
    assert track["last_timestamp"] == BEGAN + timedelta(seconds=3.12)
    assert track["duration_s"] == pytest.approx(3.12)
    assert track["n_observations"] == 78
    assert track["distance_px"] == pytest.approx(208 + 104, rel=0.02)
    path = [(round(p["pts_s"], 6), p["x"], p["y"]) for p in track["path"]]
    assert path == [
        (10.0, 400, 400), (10.52, 452, 400), (11.04, 504, 400), (11.56, 556, 400),
        (12.08, 608, 400), (12.6, 608, 452), (13.12, 608, 504),
    ]  # fmt: skip


def test_a_path_ends_where_the_track_was_seen_last():
    _, tracks = log_of(walk(100, 0, seconds=0.2))
    assert [p["x"] for p in tracks[0]["path"]] == [400, 420]
    _, tracks = log_of([frame(0, person(400, 400))])
    assert [p["x"] for p in tracks[0]["path"]] == [400]


def test_a_track_ends_once_it_was_not_seen_for_longer_than_the_buffer_and_is_told_once():
    log = MovementLog(MovementSettings(class_names=("person",), end_s=HORIZON_S))
    log.rows([frame(0, person(100, 300, track_id=1), person(500, 300, track_id=2))])
    log.rows([frame(i, person(500, 300, track_id=2)) for i in range(1, 31)])
    assert log.ended().num_rows == 0
    log.rows([frame(31, person(500, 300, track_id=2))])
    assert log.ended().column("track_id").to_pylist() == [1]
    assert log.ended(all_of_them=True).column("track_id").to_pylist() == [2]
    assert log.ended(all_of_them=True).num_rows == 0


def test_frames_from_before_a_jump_in_time_are_not_filled_from_behind_it():
    before = [frame(0, person(100, 200)), *(frame(number) for number in range(1, 5))]
    refined = refine([*before, frame(5, person(100, 200), time_s=3600.0)])
    assert [len(each.observations) for each in refined] == [1, 0, 0, 0, 0, 1]
