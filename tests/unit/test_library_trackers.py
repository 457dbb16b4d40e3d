"""Trackers of a library keep to our own rules: seconds, ids of their own, exact resume."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from pipeline.track import TRACKER_NAMES, UNTRACKED, TrackSettings
from pipeline.trackers import make_tracker

RATE_FPS = 25.0
LIBRARY = [name for name in TRACKER_NAMES if name != "bytetrack"]


def new_tracker(name, **changes):
    return make_tracker(TrackSettings(tracker=name, **changes))


def see(tracker, time_s, *people):
    """Show a frame with (x, score, class) people; return their ids."""
    boxes = np.array([[x - 30, 200, x + 30, 350] for x, _, _ in people], np.float32).reshape(-1, 4)
    scores = np.array([score for _, score, _ in people], np.float32)
    kinds = np.array([kind for _, _, kind in people], np.int64)
    return tracker.update(time_s, boxes, scores, kinds).tolist()


def person(x, score=0.9, kind=0):
    return x, score, kind


def walk(tracker, begin_s, seconds, rate_fps=RATE_FPS):
    """Show two who walk apart; return the ids of each frame."""
    times = [begin_s + n / rate_fps for n in range(round(seconds * rate_fps))]
    return [see(tracker, t, person(400 - 60 * t), person(600 + 60 * t)) for t in times]


@pytest.mark.parametrize("name", TRACKER_NAMES)
@pytest.mark.parametrize("rate_fps", [5.0, 25.0])
def test_two_who_walk_apart_keep_their_ids(name, rate_fps):
    seen = walk(new_tracker(name), 0.0, 3.0, rate_fps)
    assert seen[4:] == [[1, 2]] * len(seen[4:])


@pytest.mark.parametrize("name", TRACKER_NAMES)
@pytest.mark.parametrize("steps_s", [(0.001, 0.079), (0.002, 0.06, 0.078, 0.02)])
def test_a_walk_at_a_variable_rate_is_one_track(name, steps_s):
    tracker = new_tracker(name)
    times = np.cumsum(np.tile(steps_s, 300 // len(steps_s)))
    ids = [see(tracker, t, person(100 + 100 * t)) for t in times.tolist()]
    assert ids[6:] == [[1]] * len(ids[6:])


def test_a_library_is_kept_from_installing_and_from_writing_into_the_home(tmp_path):
    code = (
        "from pipeline.track import TrackSettings\n"
        "from pipeline.trackers import make_tracker\n"
        "import numpy as np\n"
        "tracker = make_tracker(TrackSettings(tracker='ocsort'))\n"
        "none = np.zeros((1, 4), np.float32), np.ones(1, np.float32), np.zeros(1, np.int64)\n"
        "tracker.update(0.0, *none)\n"
        "from ultralytics.utils.checks import AUTOINSTALL\n"
        "assert AUTOINSTALL is False\n"
    )
    kept = {name: value for name, value in os.environ.items() if not name.startswith("YOLO_")}
    home, cache = tmp_path / "home", tmp_path / "cache"
    home.mkdir()
    env = {**kept, "HOME": str(home), "FOOTFALL_CACHE": str(cache), "XDG_CONFIG_HOME": str(home)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert not list(home.rglob("*ltralytics*"))


@pytest.mark.parametrize("name", LIBRARY)
def test_classes_are_never_mixed(name):
    tracker = new_tracker(name)
    for n in range(10):
        first = see(tracker, n / RATE_FPS, person(300), person(310, kind=1))
    assert sorted(first) == [1, 2]
    for n in range(10, 20):
        later = see(tracker, n / RATE_FPS, person(300, kind=1))
    assert later == [first[1]]


@pytest.mark.parametrize("name", LIBRARY)
@pytest.mark.parametrize(("hidden_s", "same"), [(0.6, True), (2.0, False)])
@pytest.mark.parametrize("rate_fps", [10.0, 25.0])
def test_a_lost_track_ends_by_the_clock_whatever_the_rate(name, hidden_s, same, rate_fps):
    tracker = new_tracker(name, lost_after_s=1.0, carry_over_s=10.0)

    def stand(begin_s, seconds):
        times = [begin_s + n / rate_fps for n in range(round(seconds * rate_fps))]
        return [see(tracker, t, person(500)) for t in times][-1]

    before = stand(0.0, 2.0)
    for n in range(round(hidden_s * rate_fps)):
        see(tracker, 2.0 + n / rate_fps)
    assert (stand(2.0 + hidden_s, 1.0) == before) == same


@pytest.mark.parametrize("name", LIBRARY)
def test_a_jump_in_time_ends_all_tracks_and_ids_go_on(name):
    tracker = new_tracker(name, lost_after_s=100.0)
    before = walk(tracker, 0.0, 1.0)[-1]
    behind = walk(tracker, 60.0, 1.0)[-1]
    assert not {*before} & {*behind}
    assert min(behind) > max(before)


@pytest.mark.parametrize("name", LIBRARY)
@pytest.mark.parametrize("cut", [1, 7, 13])
def test_it_goes_on_exactly_where_its_state_was_taken(name, cut):
    random = np.random.default_rng(3)
    frames = [
        [
            person(300 + 5 * n + random.normal(), random.uniform(0.2, 0.95)),
            person(700 - 5 * n + random.normal(), random.uniform(0.2, 0.95), kind=n % 2),
        ][: 1 + (n % 5 > 0)]
        for n in range(40)
    ]
    whole, first, second = (new_tracker(name, lost_after_s=0.3) for _ in range(3))
    expected = [see(whole, n / RATE_FPS, *people) for n, people in enumerate(frames)]
    got = [see(first, n / RATE_FPS, *people) for n, people in enumerate(frames[:cut])]
    second.restore(json.loads(json.dumps(first.state())))
    got += [see(second, n / RATE_FPS, *people) for n, people in enumerate(frames[cut:], cut)]
    assert got == expected
    assert json.dumps(second.state()) == json.dumps(whole.state())


@pytest.mark.parametrize("name", LIBRARY)
def test_taking_the_state_changes_nothing(name):
    watched, plain = new_tracker(name), new_tracker(name)
    for n in range(20):
        assert see(watched, n / RATE_FPS, person(400 + n)) == see(
            plain, n / RATE_FPS, person(400 + n)
        )
        watched.state()


@pytest.mark.parametrize("name", LIBRARY)
def test_two_trackers_share_no_id_counter_and_weak_boxes_begin_nothing(name):
    one, other = new_tracker(name), new_tracker(name)
    assert walk(one, 0.0, 1.0)[-1] == walk(other, 0.0, 1.0)[-1] == [1, 2]
    weak = new_tracker(name)
    seen = [see(weak, n / RATE_FPS, person(300, score=0.2)) for n in range(10)]
    assert seen == [[UNTRACKED]] * 10
