"""How far people went is right for those who turn, and next to nothing for those who stand."""

import json
import math
from dataclasses import asdict
from itertools import pairwise

import numpy as np
import pytest

from pipeline.areas import areas_of
from pipeline.clock import CameraClock
from pipeline.letterbox import fit
from pipeline.movement import MOST_POINTS, MovementLog, MovementSettings
from pipeline.records import (
    Detections,
    Footage,
    FootageKey,
    Observation,
    Stretch,
    TrackedFrame,
    VideoTrack,
)
from pipeline.refine import Refiner, RefineSettings
from pipeline.scene import Calibration, Scene
from pipeline.track import TrackSettings
from pipeline.trackers import make_tracker, tracked
from pipeline.way import Way, way_of

FPS, WIDTH, HEIGHT = 25.0, 1280, 720
FOOTAGE = Footage(
    key=FootageKey(camera_id="door", sequence=0),
    source_uri="/door.mkv",
    track=VideoTrack(video_track=0, codec="h264", width=WIDTH, height=HEIGHT, rate_fps=FPS),
    letterbox=fit(WIDTH, HEIGHT, 640),
)
# The floor 2 m to 8 m away from a camera that looks down: 300 to 100 px a metre across.
IMAGE = ((40.0, 700.0), (1240.0, 700.0), (840.0, 250.0), (440.0, 250.0))
FLOOR_M = ((-2.0, 2.0), (2.0, 2.0), (2.0, 8.0), (-2.0, 8.0))
AREAS = areas_of(
    Scene(calibration=Calibration(image=IMAGE, floor_m=FLOOR_M)), WIDTH, HEIGHT, "door"
)
TO_PICTURE = np.linalg.inv(AREAS.floor.matrix)
# Seconds, and where somebody is on the floor after some of them; all walk 1.2 to 1.5 m/s.
WALKS = {
    "straight": (3.0, lambda t: (-1.8 + 1.2 * t, 4.0)),
    "to and fro": (10.0, lambda t: (-1.5 + abs((1.5 * t) % 6 - 3), 4.0)),
    "to and fro, away": (10.0, lambda t: (0.0, 3.0 + abs((1.5 * t) % 6 - 3))),
    "circle": (9.0, lambda t: (math.cos(1.3 * t), 4.5 + math.sin(1.3 * t))),
    "slalom": (3.0, lambda t: (-1.8 + 1.2 * t, 3.5 + 0.4 * math.sin(math.pi * t))),
}


def to_picture(place_m):
    x, y, w = TO_PICTURE @ np.array([*place_m, 1.0])
    return x / w, y / w


def boxes(walk, seconds, noise_px):
    """Yield the box of each frame: one of 1.7 m, whose edges tremble."""
    random = np.random.default_rng(5)
    for number in range(int(seconds * FPS) + 1):
        place_m = walk(number / FPS)
        x, y = to_picture(place_m)
        metre_px = to_picture((place_m[0] + 1, place_m[1]))[0] - x
        box = np.array([x - 0.25 * metre_px, y - 1.7 * metre_px, x + 0.25 * metre_px, y])
        yield box + random.normal(scale=noise_px, size=4)


def length(walk, seconds, to=lambda place: place):
    """Return the truth, of the places in the frames."""
    places = [to(walk(number / FPS)) for number in range(int(seconds * FPS) + 1)]
    return sum(math.dist(a, b) for a, b in pairwise(places))


def detections(number, box):
    return Detections(
        stretch=Stretch(footage=FOOTAGE.key, segment=number, start=0, stop=1, wanted=1),
        positions=np.zeros(1, np.int64),
        frame_index=np.array([number]),
        pts_s=np.array([number / FPS]),
        frame_row=np.zeros(1, np.int64),
        boxes=box[None].astype(np.float32),
        confidence=np.array([0.9], np.float32),
        class_id=np.zeros(1, np.int64),
    )


def track_row(seen, *, refine):
    """Return the one row of `tracks` of somebody who is tracked, refined and told."""
    clock, tracker = CameraClock(2.0), make_tracker(TrackSettings())
    clock.begin(FOOTAGE)
    frames = [
        frame
        for number, box in enumerate(seen)
        for frame in tracked(tracker, clock, FOOTAGE, detections(number, box))
    ]
    if refine:
        refiner = Refiner(RefineSettings())
        frames = [out for frame in frames for out in refiner.push(frame)] + [*refiner.flush()]
    log = MovementLog(MovementSettings(class_names=("person",), end_s=1.0))
    log.rows(frames, AREAS)
    (row,) = log.ended(all_of_them=True).to_pylist()
    return row


@pytest.mark.parametrize("refine", [False, True])
@pytest.mark.parametrize("noise_px", [0.0, 2.0])
@pytest.mark.parametrize("name", list(WALKS))
def test_who_turns_has_gone_as_far_as_who_goes_straight(name, noise_px, refine):
    seconds, walk = WALKS[name]
    row = track_row(boxes(walk, seconds, noise_px), refine=refine)
    assert row["distance_m"] == pytest.approx(length(walk, seconds), rel=0.02)
    assert row["distance_px"] == pytest.approx(length(walk, seconds, to_picture), rel=0.02)


@pytest.mark.parametrize("refine", [False, True])
@pytest.mark.parametrize("noise_px", [3.0])
def test_who_stands_goes_nowhere_however_the_boxes_tremble(noise_px, refine):
    row = track_row(boxes(lambda _: (0.5, 4.0), 60.0, noise_px), refine=refine)
    assert row["distance_m"] < 0.1
    assert row["distance_px"] < 0.05 * 1.7 * 180


def test_a_single_box_that_is_off_is_no_way():
    seen = list(boxes(lambda _: (0.5, 4.0), 4.0, 0.0))
    for number in (20, 50, 70):
        seen[number] = seen[number] - [0, 0, 0, 60]
    assert track_row(seen, refine=False)["distance_px"] == 0


def test_a_way_goes_on_where_json_has_kept_it():
    _, walk = WALKS["circle"]
    whole, kept = (Way(start=(*to_picture(walk(0)), *walk(0)), since_s=0.0) for _ in range(2))
    for number, box in enumerate(boxes(walk, 9.0, 2.0)):
        place = ((box[0] + box[2]) / 2, box[3], None, None)
        for way in (whole, kept):
            way.go(number / FPS, tuple(map(lambda n: n and float(n), place)), 300.0)
        kept = way_of(json.loads(json.dumps(asdict(kept))))
        assert kept == whole


def stand(log, first, last):
    box = np.array([100.0, 100.0, 150.0, 250.0])
    for number in range(first, last):
        seen = Observation(track_id=1, class_id=0, box=box, confidence=0.9)
        frame = TrackedFrame(
            footage=FOOTAGE,
            frame_index=number,
            pts_s=number / 2,
            time_s=number / 2,
            observations=[seen],
        )
        log.rows([frame])


def test_a_long_stay_takes_no_more_memory_than_a_short_one():
    def new():
        return MovementLog(MovementSettings(class_names=("person",), end_s=1.0))

    log, resumed = new(), new()
    hour = 2 * 3600
    sizes = []
    for part in range(4):
        stand(log, part * hour, (part + 1) * hour)
        stand(resumed, part * hour, (part + 1) * hour)
        plain = json.dumps(resumed.state())
        sizes.append(len(plain))
        resumed = new()
        resumed.restore(json.loads(plain))
    assert max(sizes) < 100 * MOST_POINTS
    (row,) = log.ended(all_of_them=True).to_pylist()
    (same,) = resumed.ended(all_of_them=True).to_pylist()
    assert row == same
    assert MOST_POINTS // 2 <= len(row["path"]) <= MOST_POINTS
    times = [point["pts_s"] for point in row["path"]]
    assert (times[0], times[-1]) == (0.0, (4 * hour - 1) / 2)
    # All of it is there, evenly.
    assert max(b - a for a, b in pairwise(times)) <= 32
