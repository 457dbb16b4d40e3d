"""Scripted walkers, seen by a detector that trembles and misses: what they did is told exactly.

The whole way behind detection: tracker, refining, events and counts.
"""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from pipeline.areas import areas_of
from pipeline.clock import CameraClock
from pipeline.events import EventLog
from pipeline.letterbox import fit
from pipeline.records import Detections, Footage, FootageKey, Stretch, VideoTrack
from pipeline.refine import Refiner, RefineSettings
from pipeline.scene import Line, Scene, Zone
from pipeline.track import TRACKER_NAMES, TrackSettings
from pipeline.trackers import make_tracker, tracked

WIDTH, HEIGHT, RATE_FPS = 1280, 720, 25.0
TALL = 160.0
SCENE = Scene(
    lines=(Line(name="gate", points=((640.0, 720.0), (640.0, 0.0))),),
    zones=(Zone(name="hall", polygon=((800, 0), (1100, 0), (1100, 720), (800, 720))),),
)


def way(*points):
    """Return a walker: (second, x) and straight on between; out of the picture before and behind."""
    times, places = zip(*points, strict=True)

    def at(time_s):
        if not times[0] <= time_s <= times[-1]:
            return None
        return float(np.interp(time_s, times, places))

    return at


def film(walkers, seconds, *, rate_fps=RATE_FPS, tremble=0.0, hidden=(), seed=0):
    """Yield the detections of each frame; `hidden` (walker, from, to) are missed."""
    random = np.random.default_rng(seed)
    for number in range(round(seconds * rate_fps)):
        time_s = number / rate_fps
        boxes = []
        for who, (walker, feet) in enumerate(walkers):
            x = walker(time_s)
            is_hidden = any(w == who and a <= time_s < b for w, a, b in hidden)
            if x is not None and not is_hidden:
                box = np.array([x - 32, feet - TALL, x + 32, feet])
                boxes.append(box + random.normal(scale=tremble * TALL, size=4))
        yield Detections(
            stretch=Stretch(
                footage=FootageKey(camera_id="c", sequence=0),
                segment=number,
                start=0,
                stop=1,
                wanted=1,
            ),
            positions=np.zeros(1, np.int64),
            frame_index=np.array([number]),
            pts_s=np.array([time_s]),
            frame_row=np.zeros(len(boxes), np.int64),
            boxes=np.array(boxes, np.float32).reshape(-1, 4),
            confidence=np.full(len(boxes), 0.9, np.float32),
            class_id=np.zeros(len(boxes), np.int64),
        )


def told(detections, *, rate_fps=RATE_FPS, tracker="bytetrack"):
    """Return the rows of events and counts, and how many tracks there were."""
    footage = Footage(
        key=FootageKey(camera_id="c", sequence=0),
        source_uri="/c.mkv",
        track=VideoTrack(
            video_track=0, codec="h264", width=WIDTH, height=HEIGHT, rate_fps=rate_fps
        ),
        letterbox=fit(WIDTH, HEIGHT, 640),
    )
    settings, clock = TrackSettings(tracker=tracker), CameraClock(2.0)
    clock.begin(footage)
    seer, refiner = make_tracker(settings), Refiner(RefineSettings())
    log, areas = EventLog(("person",), 5.0), areas_of(SCENE, WIDTH, HEIGHT, "c")
    frames = [
        out
        for each in detections
        for frame in tracked(seer, clock, footage, each)
        for out in refiner.push(frame)
    ]
    frames += refiner.flush()
    for frame in frames:
        log.push(frame, areas)
    log.flush()
    tracks = {seen.track_id for frame in frames for seen in frame.observations}
    return log.events().to_pylist(), log.counts().to_pylist(), len(tracks)


def crossings(events):
    return Counter(row["direction"] for row in events if row["event_type"] == "crossing")


# Each: walkers (way, feet), when who is hidden, crossings in and out, tracks. "In" is to the right.
SCRIPTS = {
    "two cross on the line": (
        [(way((0, 240), (8, 1040)), 500.0), (way((0, 1040), (8, 240)), 540.0)],
        [], (1, 1), 2,
    ),
    "a turn behind the line": (
        [(way((0, 400), (3, 700), (5, 800), (8, 400)), 500.0)], [], (1, 1), 1,
    ),
    "a turn before the line": ([(way((0, 300), (4, 600), (8, 300)), 500.0)], [], (0, 0), 1),
    "standing on the line, then on": (
        [(way((0, 440), (2, 640), (9, 640), (12, 940)), 500.0)], [], (1, 0), 1,
    ),
    "standing on the line, then back": (
        [(way((0, 440), (2, 640), (9, 640), (12, 340)), 500.0)], [], (0, 0), 1,
    ),
    "swaying over the line, then on": (
        [(way((0, 440), (2, 645), (3, 635), (4, 645), (5, 635), (6, 645), (9, 940)), 500.0)],
        [], (1, 0), 1,
    ),
    "hidden while crossing": ([(way((0, 240), (8, 1040)), 500.0)], [(0, 3.4, 4.6)], (1, 0), 1),
    "leaving and coming back": (
        [(way((0, 440), (8, 1240)), 500.0), (way((14, 1240), (22, 440)), 500.0)], [], (1, 1), 2,
    ),
    "vanishing behind the line": ([(way((0, 440), (2.4, 680)), 500.0)], [], (1, 0), 1),
    "three in a row": (
        [(way((k, 300), (k + 8, 1000)), 480.0 + 20 * k) for k in range(3)], [], (3, 0), 3,
    ),
}  # fmt: skip


@pytest.mark.parametrize("tremble", [0.0, 0.02])
@pytest.mark.parametrize("name", SCRIPTS)
def test_crossings_are_told_exactly(name, tremble):
    walkers, hidden, (came, went), people = SCRIPTS[name]
    events, counts, tracks = told(film(walkers, 24.0, tremble=tremble, hidden=hidden))
    assert crossings(events) == Counter({"in": came, "out": went})
    assert tracks == people
    gate = [row for row in counts if row["name"] == "gate"]
    assert (sum(r["in"] for r in gate), sum(r["out"] for r in gate)) == (came, went)


@pytest.mark.parametrize("rate_fps", [25.0, 12.5, 25 / 3])
@pytest.mark.parametrize("name", SCRIPTS)
def test_a_half_and_a_third_of_the_rate_tell_the_same(name, rate_fps):
    walkers, hidden, (came, went), people = SCRIPTS[name]
    events, _, tracks = told(
        film(walkers, 24.0, rate_fps=rate_fps, hidden=hidden), rate_fps=rate_fps
    )
    assert (crossings(events), tracks) == (Counter({"in": came, "out": went}), people)


@pytest.mark.parametrize("rate_fps", [25.0, 7.5, 6.25, 5.0])
@pytest.mark.parametrize("heights_s", [0.5, 0.8, 1.2])
def test_who_comes_in_later_is_told_at_every_rate_that_a_stride_may_leave(rate_fps, heights_s):
    walker = way((2, 200), (2 + 800 / (TALL * heights_s), 1000))
    seen = film([(walker, 500.0)], 3 + 800 / (TALL * heights_s), rate_fps=rate_fps)
    sparse = (replace(each, confidence=each.confidence * 0 + 0.65) for each in seen)
    events, _, tracks = told(sparse, rate_fps=rate_fps)
    assert (crossings(events), tracks) == (Counter({"in": 1}), 1)


@pytest.mark.parametrize("tracker", TRACKER_NAMES)
def test_every_tracker_tells_the_crossing_of_two_who_meet_on_the_line(tracker):
    walkers, hidden, (came, went), _ = SCRIPTS["two cross on the line"]
    events, _, _ = told(film(walkers, 10.0, hidden=hidden), tracker=tracker)
    assert crossings(events) == Counter({"in": came, "out": went})


@pytest.mark.parametrize("speed", [50, 120, 200])
def test_a_stay_is_told_within_a_frame_of_its_length(speed):
    into_s, through_s = 400 / speed, 300 / speed
    walker = way((0, 400), (into_s + through_s + 1, 400 + speed * (into_s + through_s + 1)))
    events, counts, _ = told(film([(walker, 500.0)], into_s + through_s + 4))
    (stay,) = [row for row in events if row["event_type"] == "stay"]
    assert stay["dwell_s"] == pytest.approx(through_s, abs=1 / RATE_FPS + 1e-6)
    assert stay["pts_s"] == pytest.approx(into_s, abs=1 / RATE_FPS + 1e-6)
    assert max(row["occupancy_max"] or 0 for row in counts) == 1
    kinds = Counter(row["event_type"] for row in events)
    assert kinds == Counter(crossing=1, entry=1, exit=1, stay=1)


def test_a_stay_hidden_in_the_middle_is_one():
    walker = way((0, 500), (4, 900), (10, 900), (14, 1250))
    events, _, tracks = told(film([(walker, 500.0)], 16.0, hidden=[(0, 6.0, 7.6)]))
    stays = [row for row in events if row["event_type"] == "stay"]
    assert (len(stays), tracks) == (1, 1)
    assert stays[0]["dwell_s"] == pytest.approx(3.0 + 6 + (1100 - 900) / 87.5 - 2.0, abs=0.1)
