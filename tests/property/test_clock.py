"""One time for all recordings of a camera: without false gaps, with the real ones, never back."""

from dataclasses import replace
from datetime import timedelta
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.clock import CameraClock
from tests.property import archive as a

EACH = settings(max_examples=60, deadline=None)
RATES = st.sampled_from([5.0, 12.5, 25.0, 30000 / 1001])
CARRY_OVER_S = 2.0


def footage(begin_s, frames, rate_fps, *, resolution_s=1.0):
    """Return a recording whose name tells its start, rounded down to `resolution_s`."""
    told_s = begin_s - begin_s % resolution_s if resolution_s else begin_s
    made = a.recording(f"{begin_s:f}", told_s, rate_fps=rate_fps)
    track = replace(made.track, frames=frames, duration_s=frames / rate_fps)
    return replace(made, track=track, start_resolution_s=resolution_s)


def read(footages):
    """Return the times of all frames, footage by footage."""
    clock, times = CameraClock(CARRY_OVER_S), []
    for each in footages:
        clock.begin(each)
        rate = each.track.rate_fps
        times.append([clock.read(each, each.origin_s + n / rate) for n in range(each.track.frames)])
    return times


def steps(times):
    """Return the steps from the last frame of each footage to the first of the next."""
    return [after[0] - before[-1] for before, after in pairwise(times)]


@EACH
@given(
    begin_s=st.floats(0, 5),
    lengths=st.lists(st.integers(1, 400), min_size=6, max_size=6),
    rate_fps=RATES,
)
def test_recordings_cut_from_one_sequence_anywhere_go_on_without_a_gap(begin_s, lengths, rate_fps):
    footages = []
    for frames in lengths:
        footages.append(footage(begin_s, frames, rate_fps))
        begin_s += frames / rate_fps
    times = read(footages)
    assert steps(times) == pytest.approx([1 / rate_fps] * 5, abs=1e-6)
    whole = [time_s for some in times for time_s in some]
    assert whole == pytest.approx([n / rate_fps for n in range(len(whole))], abs=1e-6)


@EACH
@given(
    gaps=st.lists(st.floats(2.01, 5000), min_size=1, max_size=5),
    offset_s=st.floats(0, 1),
    rate_fps=RATES,
)
def test_a_gap_that_no_rounding_explains_is_kept_to_within_the_rounding(gaps, offset_s, rate_fps):
    footages = [footage(offset_s, 50, rate_fps)]
    for gap_s in gaps:
        offset_s += 50 / rate_fps + gap_s
        footages.append(footage(offset_s, 50, rate_fps))
    for step, gap_s in zip(steps(read(footages)), gaps, strict=True):
        assert step == pytest.approx(gap_s + 1 / rate_fps, abs=1.0 + 1e-6)
        assert step > 1


@pytest.mark.parametrize(("gap_s", "is_kept"), [(0.05, False), (0.3, True), (1.5, True)])
def test_a_start_that_is_told_exactly_is_believed_beyond_two_frames(gap_s, is_kept):
    first = footage(0.0, 50, 25.0, resolution_s=0.0)
    second = footage(2.0 + gap_s, 50, 25.0, resolution_s=0.0)
    (step,) = steps(read([first, second]))
    assert step == pytest.approx(0.04 + gap_s * is_kept)


def test_a_coarse_start_does_not_hide_a_gap_longer_than_tracks_go_on_over():
    first = footage(0.0, 50, 25.0, resolution_s=60.0)
    (step,) = steps(read([first, footage(60.0, 50, 25.0, resolution_s=60.0)]))
    assert step == pytest.approx(60.0 - 2.0 + 0.04)


@EACH
@given(
    starts=st.lists(st.none() | st.floats(0, 30), min_size=2, max_size=8),
    lengths=st.lists(st.integers(1, 60), min_size=8, max_size=8),
    rate_fps=RATES,
)
def test_time_never_goes_back_however_recordings_overlap(starts, lengths, rate_fps):
    known = sorted(s for s in starts if s is not None)
    footages = [footage(s, n, rate_fps) for s, n in zip(known, lengths, strict=False)]
    footages += [replace(footages[0], start_time=None)] if known and None in starts else []
    times = [time_s for some in read(footages) for time_s in some]
    assert all(before < after for before, after in pairwise(times))


def test_only_recordings_of_known_times_are_told_in_relation_to_each_other():
    clock, nobody_knows = CameraClock(CARRY_OVER_S), a.recording("x")
    said = [clock.begin(each) for each in (a.recording("a", 0), a.recording("b", 3), nobody_knows)]
    said += [clock.begin(each) for each in (nobody_knows, a.recording("c", 9))]
    assert said == [False, True, False, False, False]
    assert a.BEGAN + timedelta(seconds=3) == a.recording("b", 3).start_time
