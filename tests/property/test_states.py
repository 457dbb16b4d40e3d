"""What lasts of a step's memory is all of it: behind a night on disk it goes on exactly."""

from datetime import timedelta

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.clock import CameraClock
from pipeline.fill import Filler
from pipeline.movement import MovementLog, MovementSettings
from pipeline.records import Observation, TrackedFrame
from pipeline.track import UNTRACKED, ByteTracker, TrackSettings
from tests.property import archive as a

EACH = settings(max_examples=15, deadline=None)
SEEDS = st.integers(0, 2**32)
CUTS = st.floats(0, 1)
FOOTAGES = (a.recording("a", 0), a.recording("b", 20), a.recording("c"))


def scene(seed, frames=80):
    """Return for each frame its time, boxes, scores and classes; people flicker, time jumps once."""
    random = np.random.default_rng(seed)
    at = random.uniform(100, 1100, (5, 2))
    step = random.normal(0, 8, (5, 2))
    time_s, seen = 0.0, []
    for number in range(frames):
        time_s += 0.04 + random.exponential(0.01) + 10 * (number == frames // 3)
        there = np.flatnonzero(random.random(5) < 0.75)
        feet = (at + number * step + random.normal(0, 2, (5, 2)))[there].astype(np.float32)
        boxes = np.hstack([feet - np.float32([30, 150]), feet + np.float32([30, 0])])
        scores = random.uniform(0.05, 1, len(there)).astype(np.float32)
        seen.append((time_s, boxes, scores, there % 2))
    return seen


def cut(frames, share):
    at = round(share * len(frames))
    return frames[:at], frames[at:]


def updates(tracker, frames):
    return [tracker.update(*frame).tolist() for frame in frames]


@EACH
@given(SEEDS, CUTS, st.booleans())
def test_a_tracker_goes_on_exactly(seed, share, forgets):
    before, after = cut(scene(seed), share)
    tracker = ByteTracker(TrackSettings())
    updates(tracker, before)
    if forgets:
        tracker.forget()
    state = a.as_json(tracker.state())
    again = ByteTracker(TrackSettings())
    again.restore(state)
    assert a.as_json(again.state()) == state
    assert updates(again, after) == updates(tracker, after)
    assert again.state() == tracker.state()


def tracked(seed):
    """Return the frames of a scene as tracks, in two recordings of which one follows the other."""
    tracker, frames = ByteTracker(TrackSettings()), []
    for number, (time_s, boxes, scores, kinds) in enumerate(scene(seed)):
        ids = tracker.update(time_s, boxes, scores, kinds)
        seen = [
            Observation(
                track_id=int(i), class_id=int(k), box=box.astype(float), confidence=float(score)
            )
            for i, k, box, score in zip(ids, kinds, boxes, scores, strict=True)
            if i != UNTRACKED
        ]
        frames.append(
            TrackedFrame(
                footage=FOOTAGES[number // 27],
                frame_index=number,
                pts_s=time_s / 3,
                time_s=time_s,
                observations=seen,
            )
        )
    return frames


def told(frames):
    """Return all that frames tell."""
    return [
        (
            frame.footage.source_uri, frame.footage.start_time, frame.footage.track,
            frame.footage.evidence_id, frame.footage.origin_s, frame.frame_index, frame.pts_s,
            frame.time_s,
            [(o.track_id, o.class_id, o.box.tolist(), o.confidence) for o in frame.observations],
        )
        for frame in frames
    ]  # fmt: skip


def refined(refiner, frames):
    return [out for frame in frames for out in refiner.push(frame)]


@EACH
@given(SEEDS, CUTS)
def test_a_refiner_goes_on_exactly_with_the_frames_that_it_holds_back(seed, share):
    whole = Filler(1.2)
    expected = told([*refined(whole, tracked(seed)), *whole.flush()])
    before, after = cut(tracked(seed), share)
    first, second = Filler(1.2), Filler(1.2)
    given_on = refined(first, before)
    second.restore(a.as_json(first.state()))
    assert second.state() == first.state()
    given_on += [*refined(second, after), *second.flush()]
    assert told(given_on) == expected


def movements(log, frames):
    """Return the rows that frames make, one call a frame, and the tracks that end with them."""
    made = [(log.rows([frame]).to_pylist(), log.ended().to_pylist()) for frame in frames]
    return made, [footage.source_uri for footage in log.born()]


@EACH
@given(SEEDS, CUTS)
def test_a_movement_log_goes_on_exactly_with_speeds_paths_and_ends(seed, share):
    frames = tracked(seed)
    before, after = cut(frames, share)
    told_by = MovementSettings(class_names=("person", "dog"), end_s=1.2)
    log, again = MovementLog(told_by), MovementLog(told_by)
    movements(log, before)
    again.restore(a.as_json(log.state()))
    assert a.as_json(again.state()) == a.as_json(log.state())
    assert movements(again, after) == movements(log, after)
    assert again.ended(all_of_them=True).equals(log.ended(all_of_them=True))


@EACH
@given(SEEDS, CUTS)
def test_a_camera_clock_goes_on_exactly(seed, share):
    random = np.random.default_rng(seed)
    begins = np.cumsum(random.uniform(0, 12, 8))
    footages = [
        a.recording(str(i), float(start) if random.random() < 0.8 else None)
        for i, start in enumerate(begins)
    ]
    before, after = cut(footages, share)

    def read(clock, some):
        return [(clock.begin(each), [clock.read(each, n / 5) for n in range(15)]) for each in some]

    clock, again = CameraClock(2.0), CameraClock(2.0)
    read(clock, before)
    again.restore(a.as_json(clock.state()))
    assert read(again, after) == read(clock, after)
    assert again.state() == clock.state()


def test_a_state_is_plain_json_even_before_the_first_frame():
    tracker, clock = ByteTracker(TrackSettings()), CameraClock(2.0)
    for step in (tracker, clock, Filler(1.2)):
        assert a.as_json(step.state()) == step.state()
    assert FOOTAGES[1].start_time - FOOTAGES[0].start_time == timedelta(seconds=20)
