"""Tracks are made whole with the future at hand; what is not sure stays apart."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import ConfigError
from pipeline.letterbox import fit
from pipeline.records import Footage, FootageKey, Observation, TrackedFrame, VideoTrack
from pipeline.refine import STEP_S, Refiner, RefineSettings

RATE_FPS = 25.0
FOOTAGE = Footage(
    key=FootageKey(camera_id="door", sequence=0),
    source_uri="/archive/door.mkv",
    track=VideoTrack(video_track=0, codec="h264", width=1280, height=720, rate_fps=RATE_FPS),
    letterbox=fit(1280, 720, 640),
)
HEIGHT = 150.0


def box(x, y=400.0, height=HEIGHT):
    """Return a person's box whose feet are at (x, y)."""
    return np.array([x - 0.2 * height, y - height, x + 0.2 * height, y])


def seen(raw_id, x, y=400.0, *, height=HEIGHT, score=0.9):
    return Observation(track_id=raw_id, class_id=0, box=box(x, y, height), confidence=score)


def film(people, seconds=8.0, rate_fps=RATE_FPS):
    """Return frames of `people`: each a function of time that returns an observation, or None."""
    frames = []
    for number in range(round(seconds * rate_fps)):
        time_s = number / rate_fps
        here = [found for found in (person(time_s) for person in people) if found is not None]
        frames.append(
            TrackedFrame(
                footage=FOOTAGE,
                frame_index=number,
                pts_s=time_s,
                time_s=time_s,
                observations=here,
            )
        )
    return frames


def refine(frames, **changes):
    refiner = Refiner(RefineSettings(**changes))
    return [out for frame in frames for out in refiner.push(frame)] + list(refiner.flush())


def ids_of(frames):
    """Return the raw ids that each refined track was made of."""
    made_of: dict[int, list[int]] = {}
    for frame in frames:
        for each in frame.observations:
            raw = made_of.setdefault(each.track_id, [])
            if each.raw_id is not None and each.raw_id not in raw:
                raw.append(each.raw_id)
    return made_of


def walker(raw_ids, speed=100.0, x=200.0, hidden=(), **more):
    """Return a person who walks, whose raw id changes behind each time out of sight."""

    def at(time_s):
        if any(begin <= time_s < end for begin, end in hidden):
            return None
        number = sum(time_s >= end for _, end in hidden)
        return seen(raw_ids[min(number, len(raw_ids) - 1)], x + speed * time_s, **more)

    return at


def test_a_walk_behind_an_obstacle_is_one_track_filled_on_the_straight_line():
    frames = refine(film([walker([1, 2], hidden=[(3.0, 4.4)])]))
    assert ids_of(frames) == {1: [1, 2]}
    assert [len(frame.observations) for frame in frames] == [1] * len(frames)
    for frame in frames:
        (one,) = frame.observations
        assert one.is_interpolated == (3.0 <= frame.time_s < 4.4)
        assert one.box == pytest.approx(box(200 + 100 * frame.time_s), abs=1.0)


@pytest.mark.parametrize("hidden_s", [0.2, 0.4, 0.8])
def test_who_is_seen_less_and_less_of_behind_another_is_the_same_when_whole_again(hidden_s):
    def in_front(time_s):
        return seen(1, 400 + 50 * time_s, 500, height=260)

    def behind(time_s):
        # They pass each other at 4 s; of who goes behind, the head is seen last.
        x, away_s = 800 - 50 * time_s, abs(time_s - 4.0)
        if away_s < hidden_s / 2:
            return None
        whole = seen(2 if time_s < 4 else 3, x)
        if time_s > 4 or away_s > hidden_s / 2 + 0.2:
            return whole
        x_min, y_min, x_max, y_max = whole.box
        left = np.array(
            [x_min, y_min, x_min + 0.8 * (x_max - x_min), y_min + 0.4 * (y_max - y_min)]
        )
        return replace(whole, box=left, confidence=0.6)

    assert ids_of(refine(film([in_front, behind]))) == {1: [1], 2: [2, 3]}


def test_who_is_out_of_sight_for_longer_than_is_looked_ahead_is_another_track():
    frames = refine(film([walker([1, 2], speed=20.0, hidden=[(3.0, 5.5)])]))
    assert ids_of(frames) == {1: [1], 2: [2]}
    longer = refine(film([walker([1, 2], speed=20.0, hidden=[(3.0, 5.5)])]), link_within_s=3.0)
    assert ids_of(longer) == {1: [1, 2]}


def test_two_who_may_be_each_other_are_not_joined():
    # One vanishes, and two appear, as far to its left as to its right.
    def one(time_s):
        return seen(1, 600) if time_s < 3 else None

    def left(time_s):
        return seen(2, 570) if time_s >= 3.6 else None

    def right(time_s):
        return seen(3, 630) if time_s >= 3.6 else None

    assert sorted(ids_of(refine(film([one, left, right]))).values()) == [[1], [2], [3]]
    assert sorted(ids_of(refine(film([one, left]))).values()) == [[1, 2]]


def test_another_size_or_a_place_too_far_away_is_another_person():
    def one(time_s):
        return seen(1, 600) if time_s < 3 else None

    def child(time_s):
        return seen(2, 600, height=80) if time_s >= 3.2 else None

    def far(time_s):
        return seen(2, 1000) if time_s >= 3.2 else None

    for other in (child, far):
        assert sorted(ids_of(refine(film([one, other]))).values()) == [[1], [2]]


@pytest.mark.parametrize("gap_s", [0.5, 1.0, 1.5, 1.9])
@pytest.mark.parametrize("speed", [75.0, 120.0])
def test_who_comes_out_of_a_door_in_mid_picture_is_not_who_went_in(gap_s, speed):
    def goes_in(time_s):
        return seen(1, 600 + speed * (time_s - 4)) if time_s < 4 else None

    def comes_out(time_s, *, way=1, height=HEIGHT):
        x = 600 + way * speed * (time_s - 4 - gap_s)
        return seen(2, x, height=height) if time_s >= 4 + gap_s else None

    def back(time_s):
        return comes_out(time_s, way=-1)

    def smaller(time_s):
        return comes_out(time_s, height=0.7 * HEIGHT)

    for other in (back, smaller):
        assert sorted(ids_of(refine(film([goes_in, other]))).values()) == [[1], [2]]


def test_who_leaves_at_the_edge_of_the_picture_is_not_who_comes_there_next():
    def leaves(time_s):
        return seen(1, 1252 + 30 * (time_s - 3)) if time_s < 3 else None

    def comes(time_s):
        return seen(2, 1252 - 60 * (time_s - 4.5)) if time_s >= 4.5 else None

    assert sorted(ids_of(refine(film([leaves, comes]))).values()) == [[1], [2]]


def test_ids_that_the_tracker_swapped_where_two_met_are_put_right():
    # They cross at 4 s, and the tracker mixes them up in the middle of it.
    def right(time_s):
        return seen(1 if time_s < 4 else 2, 200 + 100 * time_s)

    def left(time_s):
        return seen(2 if time_s < 4 else 1, 1000 - 100 * time_s)

    frames = refine(film([right, left]))
    tracks: dict[int, list[float]] = {}
    for frame in frames:
        for each in frame.observations:
            tracks.setdefault(each.track_id, []).append(each.box[0])
    ways = [np.diff(xs) for xs in tracks.values()]
    assert len(ways) == 2
    assert all((way > 0).all() or (way < 0).all() for way in ways)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("apart", [20, 30])
@pytest.mark.parametrize("lower", [0, 10, 40])
def test_two_who_meet_and_turn_back_are_not_mixed_up_where_the_tracker_was_not(seed, apart, lower):
    random = np.random.default_rng(seed)

    def person(raw_id, side, y):
        def at(time_s):
            x = 600 + side * (apart / 2 + 90 * abs(time_s - 4))
            found = seen(raw_id, x, y)
            return replace(found, box=found.box + random.normal(scale=0.02 * HEIGHT, size=4))

        return at

    raw = ids_of(refine(film([person(1, -1, 400), person(2, 1, 400 + lower)])))
    assert all(len(each) == 1 for each in raw.values())
    # Where they come no nearer than a step's doubt, nobody is torn either.
    assert apart < 30 or sorted(raw.values()) == [[1], [2]]


def test_flicker_is_dropped_and_so_is_what_was_never_sure():
    def person(time_s):
        return seen(1, 300 + 50 * time_s)

    def flash(time_s):
        return seen(2, 900) if 2 <= time_s < 2.2 else None

    def shadow(_):
        return seen(3, 1100, score=0.5)

    frames = film([person, flash, shadow])
    assert ids_of(refine(frames)) == {1: [1]}
    assert len(ids_of(refine(frames, min_track_s=0.1, certain=0.3))) == 3


@pytest.mark.parametrize(("score", "is_told"), [(0.59, True), (0.55, True), (0.45, False)])
def test_a_long_walk_that_is_never_seen_clearly_is_told_from_its_beginning(score, is_told):
    frames = refine(film([walker([1], speed=60.0, score=score)], seconds=15))
    assert [len(frame.observations) for frame in frames] == [1 * is_told] * len(frames)


def test_who_walks_at_a_doubtful_score_and_comes_near_later_is_told_whole():
    def nearing(time_s):
        return seen(1, 200 + 60 * time_s, score=0.55 if time_s < 10 else 0.65)

    frames = refine(film([nearing], seconds=15))
    assert all(frame.observations for frame in frames)


def test_what_stands_still_is_as_sure_as_its_best_look_and_what_is_left_out_is_counted():
    def shadow(time_s):
        # One raw track after another, in one place.
        return seen(int(time_s), 600 + 10 * (time_s % 2), score=0.59) if time_s % 1 < 0.8 else None

    def flash(time_s):
        return seen(50, 900, score=0.5) if 2 <= time_s < 2.2 else None

    refiner = Refiner(RefineSettings())
    for frame in film([shadow, flash, walker([99], speed=60.0)], seconds=40):
        assert all(each.raw_id != 50 for out in refiner.push(frame) for each in out.observations)
    assert ids_of(refiner.flush()) == {1: [99]}
    assert refiner.unsure == 1


@pytest.mark.parametrize("rate_fps", [10, 20, 30])
@pytest.mark.parametrize("base_s", [0.0, 2.0, 1234.5, 1e6 + 1 / 3])
def test_the_least_length_of_a_track_is_the_same_whatever_the_clock(rate_fps, base_s):
    def told(count):
        frames = film(
            [lambda t: seen(1, 300) if t < (count - 0.5) / rate_fps else None], 4, rate_fps
        )
        later = [replace(frame, time_s=frame.time_s + base_s) for frame in frames]
        return bool(ids_of(refine(later)))

    least = round(0.3 * rate_fps) + 1
    assert (told(least - 1), told(least)) == (False, True)


def test_what_becomes_sure_only_late_is_told_from_then_on():
    def shadow(time_s):
        return seen(1, 600, score=0.9 if time_s > 20 else 0.5)

    frames = refine(film([shadow], seconds=30))
    told = [frame.time_s for frame in frames if frame.observations]
    assert told[-1] == frames[-1].time_s
    assert 20 - 2 * STEP_S < told[0] < 20


def test_trembling_boxes_are_smoothed_and_steady_ones_stay():
    random = np.random.default_rng(1)

    def trembling(time_s):
        return seen(1, 200 + 100 * time_s + random.normal(scale=4))

    def off(frames):
        return np.std(
            [f.observations[0].box[0] - box(200 + 100 * f.time_s)[0] for f in frames[10:-10]]
        )

    frames = film([trembling])
    assert off(refine(frames)) < 0.6 * off(frames)
    assert off(refine(frames, smooth_s=0.0)) == pytest.approx(off(frames))
    steady = refine(film([walker([1])]))
    assert off(steady) < 1e-6


def test_frames_that_a_stride_left_out_are_filled():
    every = film([walker([1])])
    frames = [
        frame if frame.frame_index % 3 == 0 else replace(frame, observations=[], is_looked_at=False)
        for frame in every
    ]
    refined = refine(frames)
    for frame in refined[:-2]:
        (one,) = frame.observations
        assert one.is_interpolated == (frame.frame_index % 3 > 0)
        assert one.box == pytest.approx(box(200 + 100 * frame.time_s), abs=1.0)


@pytest.mark.parametrize("rate_fps", [5.0, 12.5, 30.0])
def test_the_same_walk_is_one_track_at_any_rate(rate_fps):
    frames = film([walker([1, 2], hidden=[(3.0, 4.0)])], rate_fps=rate_fps)
    assert ids_of(refine(frames)) == {1: [1, 2]}


@pytest.mark.parametrize("step_s", [1.0, 2.5, 4.0])
def test_footage_of_a_frame_now_and_then_keeps_its_tracks(step_s):
    frames = film([lambda _: seen(1, 600)], seconds=40 * step_s, rate_fps=1 / step_s)
    refined = refine(frames)
    assert ids_of(refined) == {1: [1]}
    assert [len(frame.observations) for frame in refined] == [1] * 40


def test_frames_come_out_in_order_and_once_and_soon():
    refiner = Refiner(RefineSettings())
    frames = film([walker([1])], seconds=60)
    given, latest = [], 0.0
    for frame in frames:
        for out in refiner.push(frame):
            given.append(out.frame_index)
            latest = max(latest, frame.time_s - out.time_s)
    given += [out.frame_index for out in refiner.flush()]
    assert given == [frame.frame_index for frame in frames]
    assert latest < 2.0 + 1.0 + STEP_S + 0.2


def test_behind_a_gap_in_the_footage_tracks_are_others_and_ids_go_on():
    before = film([walker([1])], seconds=5)
    behind = [
        replace(f, time_s=f.time_s + 3600, observations=[seen(9, 300)]) for f in film([], seconds=5)
    ]
    frames = refine([*before, *behind])
    assert ids_of(frames) == {1: [1], 2: [9]}
    assert len(frames) == len(before) + len(behind)


def test_the_look_back_is_bounded_however_long_the_footage():
    refiner = Refiner(RefineSettings())
    held = []
    for frame in film([walker([1], speed=0.0), walker([2], x=900.0, speed=0.0)], seconds=120):
        list(refiner.push(frame))
        held.append(sum(len(p.boxes) for c in refiner._chains for p in c.pieces))
    assert max(held[1000:]) <= max(held[:1000])


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_no_track_is_twice_in_a_frame_and_every_box_is_accounted_for(seed):
    random = np.random.default_rng(seed)
    people = [
        walker(
            [10 * n + k for k in range(1, 9)],
            x=random.uniform(100, 1100),
            speed=random.uniform(-80, 80),
            hidden=[(t, t + random.uniform(0.1, 1.5)) for t in np.sort(random.uniform(0, 10, 3))],
        )
        for n in range(5)
    ]
    raw = film(people, seconds=12)
    refined = refine(raw, min_track_s=0.0, certain=0.0)
    assert [frame.frame_index for frame in refined] == [frame.frame_index for frame in raw]
    for before, after in zip(raw, refined, strict=True):
        ids = [each.track_id for each in after.observations]
        assert len(set(ids)) == len(ids)
        real = sorted(each.raw_id for each in after.observations if each.raw_id is not None)
        assert real == sorted(each.track_id for each in before.observations)


def test_settings_that_are_no_numbers_from_0_up_are_named():
    with pytest.raises(ConfigError, match=r"refine\.certain"):
        RefineSettings(certain=-1)


@pytest.mark.parametrize("shift_s", [0.0, 0.5, 1.0, 2.0, 3.0])
def test_a_rival_who_vanished_before_a_decision_is_still_one(shift_s):
    # Two vanish, one just before and one just behind a decision; one appears between them.
    def first(time_s):
        return seen(1, 570) if time_s < 3.94 + shift_s else None

    def second(time_s):
        return seen(2, 630) if time_s < 4.10 + shift_s else None

    def between(time_s):
        return seen(3, 600) if time_s >= 4.6 + shift_s else None

    raw = sorted(ids_of(refine(film([first, second, between], seconds=14))).values())
    assert raw == [[1], [2], [3]]


def test_a_camera_s_clock_may_be_years_old():
    frames = [replace(frame, time_s=frame.time_s + 1e9) for frame in film([walker([1])])]
    assert [len(frame.observations) for frame in refine(frames)] == [1] * len(frames)


@pytest.mark.parametrize("begin_s", [2.0, 3.0, 3.5, 4.0])
def test_a_long_gap_is_filled_on_the_straight_line_wherever_it_begins(begin_s):
    walk = walker([1, 2], speed=20.0, hidden=[(begin_s, begin_s + 3.5)])
    frames = refine(film([walk], seconds=16), link_within_s=4.0)
    assert ids_of(frames) == {1: [1, 2]}
    for frame in frames:
        (one,) = frame.observations
        assert one.box == pytest.approx(box(200 + 20 * frame.time_s), abs=1.0)
