"""Where on the floor and in which zones people were, how far they went, and how often that is told."""

import json
import math

import numpy as np
import pytest

from pipeline.areas import NOWHERE, areas_of
from pipeline.letterbox import fit
from pipeline.movement import MovementLog, MovementSettings
from pipeline.records import Footage, FootageKey, Observation, TrackedFrame, VideoTrack
from pipeline.scene import Calibration, Scene, Zone

WIDTH, HEIGHT = 1280, 720
RATE_FPS = 25.0
PACE_M_S = 1.3
FOOTAGE = Footage(
    key=FootageKey(camera_id="door", sequence=0),
    source_uri="/archive/door.mkv",
    track=VideoTrack(video_track=0, codec="h264", width=WIDTH, height=HEIGHT, rate_fps=RATE_FPS),
    letterbox=fit(WIDTH, HEIGHT, 640),
)
# A pinhole camera 6 m above the floor, which looks down by 35 degrees: its picture of a floor point.
FOCAL_PX, HEIGHT_M, TILT = 800.0, 6.0, math.radians(35)
KNOWN_M = ((-4.0, 5.0), (4.0, 5.0), (5.0, 14.0), (-5.0, 14.0), (0.0, 9.0))
QUEUE = Zone(name="queue", polygon=((100, 300), (700, 300), (700, 600), (100, 600)))
AISLE = Zone(name="aisle", polygon=((500, 200), (1100, 200), (1100, 700), (500, 700)))


def picture(floor_m):
    """Return (n, 2) pixels of (n, 2) metres on the floor."""
    x, y = np.asarray(floor_m, float).T
    ahead = y * math.cos(TILT) + HEIGHT_M * math.sin(TILT)
    down = HEIGHT_M * math.cos(TILT) - y * math.sin(TILT)
    return np.column_stack([640 + FOCAL_PX * x / ahead, 360 + FOCAL_PX * down / ahead])


def calibration(*, clicked=False):
    """Return the exact one, or one whose points were clicked: at whole pixels."""
    image = picture(KNOWN_M).round() if clicked else picture(KNOWN_M)
    return Calibration(image=tuple(map(tuple, image.tolist())), floor_m=KNOWN_M)


def scene(*zones, floor=None):
    return areas_of(Scene(zones=zones, calibration=floor), WIDTH, HEIGHT, "door")


def film(steps, track_id=1, fps=RATE_FPS):
    """Return frames of one whose feet are at pixels."""
    return [
        TrackedFrame(
            footage=FOOTAGE,
            frame_index=number,
            pts_s=number / fps,
            time_s=number / fps,
            observations=[
                Observation(
                    track_id=track_id,
                    class_id=0,
                    box=np.array([x - 20, y - 100, x + 20, y], float),
                    confidence=0.9,
                )
            ],
        )
        for number, (x, y) in enumerate(np.asarray(steps, float).tolist())
    ]


def log_of(frames, areas=NOWHERE, hz=0.0):
    """Return the rows of `movements` and of `tracks`, once all has ended."""
    log = MovementLog(MovementSettings(class_names=("person",), end_s=1.2, hz=hz))
    rows = log.rows(frames, areas).to_pylist()
    return rows, log.ended(all_of_them=True).to_pylist()


def line_m():
    """Return where on the floor one is in each frame who walks straight on, and how far that is."""
    start, end = np.array([-3.0, 6.0]), np.array([3.0, 13.0])
    length = np.linalg.norm(end - start)
    gone = np.arange(0, length, PACE_M_S / RATE_FPS)
    return start + np.outer(gone / length, end - start), gone[-1]


def circle_m():
    """Return the same of one who walks once around a circle with a radius of 3 m."""
    gone = np.arange(0, 2 * math.pi * 3, PACE_M_S / RATE_FPS)
    turn = gone / 3
    return np.column_stack([3 * np.cos(turn), 9.5 + 3 * np.sin(turn)]), gone[-1]


WALKS = pytest.mark.parametrize("walk", [line_m, circle_m])


@WALKS
def test_the_walks_of_these_tests_are_inside_of_the_picture(walk):
    pixels = picture(walk()[0])
    assert (pixels > 0).all()
    assert (pixels < [WIDTH, HEIGHT]).all()


@WALKS
def test_places_on_the_floor_are_where_the_feet_are(walk):
    where, _ = walk()
    frames = film(picture(where))
    rows, _ = log_of(frames, scene(floor=calibration()))
    found = np.array([(row["world_x_m"], row["world_y_m"]) for row in rows])
    assert found == pytest.approx(where, abs=1e-6)
    rows, _ = log_of(frames, scene(floor=calibration(clicked=True)))
    found = np.array([(row["world_x_m"], row["world_y_m"]) for row in rows])
    assert np.linalg.norm(found - where, axis=1).max() < 0.1


@WALKS
@pytest.mark.parametrize("clicked", [False, True])
def test_the_way_on_the_floor_is_as_long_as_it_was_within_two_per_cent(walk, clicked):
    where, length_m = walk()
    _, (track,) = log_of(film(picture(where)), scene(floor=calibration(clicked=clicked)))
    assert track["distance_m"] == pytest.approx(length_m, rel=0.02)
    assert track["duration_s"] == pytest.approx(length_m / PACE_M_S)


@WALKS
def test_the_speed_on_the_floor_is_that_of_the_walk_wherever_in_the_picture_it_is(walk):
    rows, _ = log_of(film(picture(walk()[0])), scene(floor=calibration()))
    assert rows[0]["speed_m_s"] is None
    assert [row["speed_m_s"] for row in rows[1:]] == pytest.approx(
        [PACE_M_S] * (len(rows) - 1), rel=0.02
    )
    # In pixels it is not.
    speeds = [row["speed_px_s"] for row in rows[1:]]
    assert max(speeds) > 1.3 * min(speeds)


def test_one_who_stands_goes_nowhere():
    rows, (track,) = log_of(film(picture([(1.0, 8.0)] * 60)), scene(floor=calibration()))
    assert track["distance_m"] == pytest.approx(0, abs=1e-9)
    assert {row["speed_m_s"] for row in rows[1:]} == {0.0}


def test_points_of_a_path_have_their_places_on_the_floor():
    where, _ = line_m()
    _, (track,) = log_of(film(picture(where)), scene(floor=calibration()))
    for point in track["path"]:
        at = where[round(point["pts_s"] * RATE_FPS)]
        assert (point["x_m"], point["y_m"]) == pytest.approx(tuple(at), abs=1e-6)
        assert (point["x"], point["y"]) == pytest.approx(tuple(picture([at])[0]), rel=1e-6)
    steps = np.diff([(point["x_m"], point["y_m"]) for point in track["path"]], axis=0)
    assert track["distance_m"] == pytest.approx(np.linalg.norm(steps, axis=1).sum())


def test_without_a_calibration_nothing_is_told_in_metres_and_everything_in_pixels():
    frames = film(picture(line_m()[0]))
    rows, (track,) = log_of(frames, scene(QUEUE))
    for row in rows:
        assert (row["world_x_m"], row["world_y_m"], row["speed_m_s"]) == (None, None, None)
    assert track["distance_m"] is None
    assert track["distance_px"] > 100
    assert {(point["x_m"], point["y_m"]) for point in track["path"]} == {(None, None)}
    assert log_of(frames)[1] == [track]


def test_who_is_seen_above_the_horizon_is_nowhere_on_the_floor_and_went_no_known_way():
    # With the camera of these tests it is above the picture: another one.
    image = ((100.0, 700.0), (1180.0, 700.0), (740.0, 350.0), (540.0, 350.0))
    floor = Calibration(image=image, floor_m=((0.0, 0.0), (4.0, 0.0), (4.0, 20.0), (0.0, 20.0)))
    steps = [(640, 500 - 10 * i) for i in range(50)]
    rows, (track,) = log_of(film(steps), scene(floor=floor))
    known = [row["world_x_m"] is not None for row in rows]
    assert known == [row["world_y_m"] is not None for row in rows]
    horizon = known.index(False)
    assert 0 < horizon < 50
    assert not any(known[horizon:])
    assert all(row["speed_m_s"] is None for row in rows[horizon:])
    assert all(row["speed_px_s"] is not None for row in rows[1:])
    assert track["distance_m"] is None
    assert track["distance_px"] == pytest.approx(490)


def test_a_row_names_the_zones_that_the_feet_are_in():
    steps = [(x, 450) for x in (50, 100, 300, 500, 600, 700, 701, 1100, 1101)]
    rows, _ = log_of(film(steps), scene(QUEUE, AISLE))
    both = ["queue", "aisle"]
    assert [row["zones"] for row in rows] == [
        [], ["queue"], ["queue"], both, both, both, ["aisle"], ["aisle"], [],
    ]  # fmt: skip
    # The box is in it, the feet are not.
    assert log_of(film([(300, 620)]), scene(QUEUE))[0][0]["zones"] == []


def test_zones_are_an_empty_list_where_none_are_drawn():
    for areas in (NOWHERE, scene(floor=calibration())):
        assert log_of(film([(300, 450)]), areas)[0][0]["zones"] == []


def test_each_of_several_people_has_its_own_places_and_zones():
    one, two = film([(300, 450)] * 3, track_id=1), film([(900, 600)] * 3, track_id=2)
    for frame, other in zip(one, two, strict=True):
        frame.observations.insert(0, other.observations[0])
    rows, _ = log_of(one, scene(QUEUE, AISLE, floor=calibration()))
    assert [(row["track_id"], row["zones"]) for row in rows] == [(1, ["queue"]), (2, ["aisle"])] * 3
    back = picture([(row["world_x_m"], row["world_y_m"]) for row in rows])
    assert back == pytest.approx(np.array([(300, 450), (900, 600)] * 3), abs=1e-6)


@pytest.mark.parametrize(("hz", "every"), [(5.0, 5), (1.0, 25), (12.5, 2), (2.5, 10)])
def test_fewer_rows_a_second_are_some_of_all_rows_and_the_tracks_stay_as_they_are(hz, every):
    frames, areas = film(picture(circle_m()[0])), scene(QUEUE, AISLE, floor=calibration())
    all_rows, tracks = log_of(frames, areas)
    rows, thinned_tracks = log_of(frames, areas, hz=hz)
    assert rows == all_rows[::every]
    assert thinned_tracks == tracks


@pytest.mark.parametrize("hz", [25.0, 30.0, 1000.0])
def test_as_many_rows_as_frames_or_more_are_one_for_each_frame(hz):
    frames = film(picture(line_m()[0]))
    assert log_of(frames, hz=hz) == log_of(frames)


@pytest.mark.parametrize("fps", [10.0, 12.5, 15.0, 24.0, 30.0, 30000 / 1001, 50.0])
def test_a_second_has_as_many_rows_as_were_asked_for_at_every_frame_rate(fps):
    rows, _ = log_of(film([(640, 400)] * round(20 * fps), fps=fps), hz=5.0)
    assert len(rows) == pytest.approx(100, abs=1)
    gaps = np.diff([row["pts_s"] for row in rows])
    assert gaps.max() < 0.2 + 1.5 / fps


def test_each_track_has_a_row_in_the_frame_in_which_it_begins():
    late = film([(300, 450)] * 40, track_id=2)[3:]
    frames = film([(640, 400)] * 40)
    for frame, other in zip(frames[3:], late, strict=True):
        frame.observations.append(other.observations[0])
    rows, _ = log_of(frames, hz=5.0)
    told = {i: [r["frame_index"] for r in rows if r["track_id"] == i] for i in (1, 2)}
    assert told == {1: list(range(0, 40, 5)), 2: [3, *range(5, 40, 5)]}


@pytest.mark.parametrize("cut", [1, 7, 60])
def test_rows_and_ways_on_the_floor_go_on_where_a_log_was_left(cut):
    frames, areas = film(picture(line_m()[0])), scene(QUEUE, floor=calibration())
    settings = MovementSettings(class_names=("person",), end_s=1.2, hz=5.0)
    before, behind = MovementLog(settings), MovementLog(settings)
    rows = before.rows(frames[:cut], areas).to_pylist()
    behind.restore(json.loads(json.dumps(before.state())))
    rows += behind.rows(frames[cut:], areas).to_pylist()
    assert (rows, behind.ended(all_of_them=True).to_pylist()) == log_of(frames, areas, hz=5.0)
