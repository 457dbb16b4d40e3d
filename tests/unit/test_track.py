"""Track ids: who keeps one, who gets a new one, and that no two trackers share any."""

import numpy as np
import pytest

from pipeline.boxes import intersection_over_union
from pipeline.errors import ConfigError
from pipeline.track import UNTRACKED, ByteTracker, TrackSettings

RATE_FPS = 25.0
SETTINGS = TrackSettings()


def person(x, y=200.0, width=60.0, height=150.0, score=0.9, kind=0):
    """Return a person's (box, score, class) with the feet's middle at (x, y + height)."""
    return (x - width / 2, y, x + width / 2, y + height), score, kind


def see(tracker, time_s, people):
    """Show a frame to a tracker; return the ids in the order of `people`."""
    boxes = np.array([box for box, _, _ in people], np.float32).reshape(-1, 4)
    scores = np.array([score for _, score, _ in people], np.float32)
    kinds = np.array([kind for _, _, kind in people], np.int64)
    return tracker.update(time_s, boxes, scores, kinds).tolist()


def at_rate(begin_s, end_s):
    """Return the frame times of [begin_s, end_s) at 25 frames/s."""
    return [i / RATE_FPS for i in range(round(begin_s * RATE_FPS), round(end_s * RATE_FPS))]


def new_tracker(**changes):
    return ByteTracker(TrackSettings(**changes))


def test_two_people_who_cross_keep_their_ids():
    tracker = new_tracker()
    seen = [
        see(tracker, t, [person(100 + 100 * t), person(500 - 100 * t, y=206)])
        for t in at_rate(0, 4)
    ]
    assert seen == [[1, 2]] * 100


@pytest.mark.parametrize(
    ("hidden_s", "same"), [(1.0, True), (1.16, True), (1.4, False), (5.0, False)]
)
def test_a_person_keeps_the_id_if_out_of_sight_for_no_longer_than_the_buffer(hidden_s, same):
    tracker = new_tracker(lost_after_s=1.2)
    last = at_rate(0, 1)[-1]
    for t in at_rate(0, 1):
        see(tracker, t, [person(300)])
    back = last + hidden_s
    for t in at_rate(1, back):
        see(tracker, t, [])
    ids = [see(tracker, back + i / RATE_FPS, [person(300)]) for i in range(3)]
    assert ids[-1] == [1 if same else 2]


@pytest.mark.parametrize("rate_fps", [10, 20, 30])
@pytest.mark.parametrize("base_s", [0.0, 7.0, 1234.5, 86400.0, 1e6 + 1 / 3])
@pytest.mark.parametrize("digits", [3, 9])
def test_who_is_out_of_sight_for_just_the_limit_keeps_the_id_whatever_the_clock(
    rate_fps, base_s, digits
):
    tracker, lost = new_tracker(), range(20, 20 + rate_fps // 10 - 1)
    times = [round(base_s + n / rate_fps, digits) for n in range(40)]
    ids = [see(tracker, t, [person(300)] if n not in lost else []) for n, t in enumerate(times)]
    assert {each for row in ids for each in row} == {1}


def test_a_walking_person_is_found_again_where_the_walk_would_have_led():
    tracker = new_tracker(lost_after_s=1.2)
    for t in at_rate(0, 2):
        see(tracker, t, [person(100 + 120 * t)])
    for t in at_rate(2, 3):
        see(tracker, t, [])
    assert see(tracker, 3.0, [person(100 + 120 * 3.0)]) == [1]


def test_a_skipped_frame_is_a_longer_step_of_the_walk():
    tracker = new_tracker()
    times = [*at_rate(0, 1), 2.0, 2.04, 3.0, 4.0, 4.08, 5.0]
    # 90 px in a second are more than the person is wide: without the walk, no box overlaps the last.
    assert [see(tracker, t, [person(100 + 90 * t)]) for t in times] == [[1]] * len(times)


@pytest.mark.parametrize("stride", [1, 5, 10])
def test_a_stride_does_not_lose_a_steadily_walking_person(stride):
    tracker = new_tracker()
    times = at_rate(0, 8)[::stride]
    assert [see(tracker, t, [person(50 + 60 * t)]) for t in times] == [[1]] * len(times)


def test_boxes_of_two_classes_in_one_place_are_two_tracks():
    tracker = new_tracker()
    both = [person(300, kind=0), person(300, kind=2)]
    assert [see(tracker, t, both) for t in at_rate(0, 0.4)] == [[1, 2]] * 10
    # Of the two, only one is seen: it is not taken for the other.
    assert see(tracker, 0.4, [person(300, kind=2)]) == [2]


def test_a_track_is_not_continued_by_a_box_of_another_class():
    tracker = new_tracker()
    for t in at_rate(0, 1):
        see(tracker, t, [person(300, kind=0)])
    ids = [see(tracker, 1 + t, [person(300, kind=2)]) for t in at_rate(0, 0.2)]
    assert [1] not in ids
    assert ids[-1] == [2]


def test_ids_count_from_1_and_are_never_given_twice_not_even_after_forgetting():
    random = np.random.default_rng(7)
    tracker, given, ever = new_tracker(), [], set()
    for scene in range(4):
        before = set(ever)
        for t in at_rate(0, 3):
            there = [person(x) for x in range(100, 1500, 200) if random.random() < 0.8]
            if random.random() < 0.1:
                there = []
            ids = [i for i in see(tracker, 10 * scene + t, there) if i != UNTRACKED]
            assert len(ids) == len(set(ids))
            assert not before & set(ids)
            given += [i for i in ids if i not in ever]
            ever.update(ids)
        tracker.forget()
    assert sorted(given) == list(range(1, len(given) + 1))
    assert len(given) >= 4 * 7


def test_two_trackers_in_one_process_know_nothing_of_each_other():
    alone = [see(new_tracker(), t, [person(300)]) for t in at_rate(0, 0.04)]
    first, second = new_tracker(), new_tracker()
    ids = []
    for t in at_rate(0, 1):
        ids.append(see(first, t, [person(300), person(600)]))
        ids.append(see(second, t, [person(300)]))
    assert alone == [[1]]
    assert ids == [[1, 2], [1]] * 25


def test_a_box_that_is_seen_once_gets_no_id():
    tracker = new_tracker()
    see(tracker, 0.0, [person(300)])
    assert see(tracker, 0.04, [person(300), person(700)]) == [1, UNTRACKED]
    see(tracker, 0.08, [person(300)])
    assert see(tracker, 0.12, [person(300), person(1100)]) == [1, UNTRACKED]
    assert see(tracker, 0.16, [person(300), person(1100)]) == [1, 2]


@pytest.mark.parametrize("step_s", [1 / 30, 0.04, 0.1, 0.12, 2 / 15, 0.16, 0.2])
@pytest.mark.parametrize("heights_s", [0.3, 0.8, 1.2])
@pytest.mark.parametrize("score", [0.5, 0.9])
def test_who_comes_later_at_a_walk_is_one_track_from_the_second_look_on(step_s, heights_s, score):
    tracker = new_tracker()
    see(tracker, 0.0, [])
    ids = [
        see(
            tracker, n * step_s, [person(100 + 150 * heights_s * n * step_s, width=45, score=score)]
        )
        for n in range(1, 40)
    ]
    assert ids == [[UNTRACKED], *[[1]] * 38]


@pytest.mark.parametrize("step_s", [0.04, 0.16, 0.2, 1.0])
def test_who_appears_a_height_from_where_another_was_seen_once_is_not_that_one(step_s):
    tracker = new_tracker()
    for n in range(10):
        see(tracker, n * step_s, [])
    assert see(tracker, 10 * step_s, [person(300)]) == [UNTRACKED]
    assert see(tracker, 11 * step_s, [person(450)]) == [UNTRACKED]
    # And of two the nearer one is.
    assert see(tracker, 12 * step_s, [person(480), person(450)]) == [UNTRACKED, 1]


def test_a_weak_box_continues_a_track_but_begins_none():
    tracker = new_tracker(strong=0.5, weak=0.1, birth=0.5)
    for t in at_rate(0, 1):
        see(tracker, t, [person(300, score=0.9)])
    weak = [person(300, score=0.2), person(700, score=0.2)]
    assert [see(tracker, 1 + t, weak) for t in at_rate(0, 0.4)] == [[1, UNTRACKED]] * 10


def test_a_box_below_the_weak_score_is_nobody():
    tracker = new_tracker(weak=0.1)
    for t in at_rate(0, 1):
        see(tracker, t, [person(300)])
    assert see(tracker, 1.0, [person(300, score=0.05)]) == [UNTRACKED]


def test_overlap_of_boxes_as_computed_by_hand():
    a = np.array([[0, 0, 2, 2], [0, 0, 4, 4]], np.float32)
    b = np.array(
        [[0, 0, 2, 2], [1, 0, 3, 2], [2, 0, 4, 2], [9, 9, 10, 10], [1, 1, 1, 1]], np.float32
    )
    assert intersection_over_union(a, b) == pytest.approx(
        np.array([[1, 1 / 3, 0, 0, 0], [1 / 4, 1 / 4, 1 / 4, 0, 0]])
    )
    assert intersection_over_union(a[:0], b).shape == (0, 5)


@pytest.mark.parametrize(
    ("key", "value"), [("lost_after_s", -1.0), ("strong", float("nan")), ("tracker", "sort")]
)
def test_an_impossible_threshold_is_named(key, value):
    with pytest.raises(ConfigError, match=f"{key}.*{value}"):
        TrackSettings(**{key: value})


def test_tracks_end_at_a_jump_in_time_and_not_at_long_strides():
    tracker = new_tracker()
    for t in at_rate(0, 1):
        see(tracker, t, [person(300)])
    # Behind it, as at the very beginning, whoever is there has a track at once.
    assert see(tracker, 82_800.0, [person(300)]) == [2]

    strided = new_tracker()
    seen = [see(strided, 3.0 * i, [person(300)]) for i in range(5)]
    assert seen == [[1]] * 5
