"""How fast a job may go: less where memory runs short, again more where there is room."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.ahead import Ahead
from cluster.pace import GROW_EVERY_S, SAY_EVERY_S, SHRINK_EVERY_S, BatchPilot, Pace

LIMIT_MB = 1024


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self, now_s=0.0):
        self.now_s = now_s

    def __call__(self):
        return self.now_s


def new_pace(clock=None, *, batch_size=10, decoders=3, **more):
    return Pace(
        limit_mb=LIMIT_MB,
        batch_size=batch_size,
        decoders=decoders,
        ahead=Ahead(0),
        now=clock or Clock(1000.0),
        **more,
    )


def state(pace, node="a"):
    return pace.batch_size_on(node), pace.decoders_on(node)


def observe(pace, share, node="a"):
    """Have a share of the cap measured on a node; return the texts of what is to be said."""
    return [notice.text for notice in pace.observe({node: share * LIMIT_MB})]


def test_where_there_is_room_a_node_goes_at_full_speed_and_nothing_is_said():
    pace = new_pace()
    assert state(pace) == (10, 3)
    assert observe(pace, 0.5) == observe(pace, 0.79) == []
    assert state(pace) == (10, 3)


def test_near_the_limit_a_node_slows_down_and_says_so_once():
    clock = Clock()
    pace = new_pace(clock)
    (text,) = observe(pace, 0.8)
    assert re.fullmatch(
        r"Memory is near its limit \(819\.2 of 1024 MB\): going on with batches of 5 and 2 "
        r"decoder\(s\) there",
        text,
    )
    assert state(pace) == (5, 2)
    clock.now_s += SHRINK_EVERY_S
    assert observe(pace, 0.9) == []


def test_a_node_slows_down_step_by_step_and_not_below_one_frame_and_one_decoder():
    clock = Clock()
    pace = new_pace(clock)
    states = []
    for _ in range(12):
        observe(pace, 0.95)
        states.append(state(pace))
        clock.now_s += SHRINK_EVERY_S / 2
    assert states == [(5, 2)] * 2 + [(2, 1)] * 2 + [(1, 1)] * 8


def test_between_calm_and_near_a_node_stays_as_it_is_however_long():
    clock = Clock()
    pace = new_pace(clock)
    observe(pace, 0.85)
    for _ in range(10):
        clock.now_s += GROW_EVERY_S
        assert observe(pace, 0.7) == observe(pace, 0.6) == []
        assert state(pace) == (5, 2)


def test_a_calm_node_recovers_step_by_step_to_full_speed():
    clock = Clock()
    pace = new_pace(clock)
    for _ in range(4):
        observe(pace, 0.95)
        clock.now_s += SHRINK_EVERY_S
    assert state(pace) == (1, 1)
    # Not at once: it has just slowed down.
    assert observe(pace, 0.1) == []
    assert state(pace) == (1, 1)
    states = []
    for _ in range(6):
        clock.now_s += GROW_EVERY_S
        observe(pace, 0.1)
        observe(pace, 0.1)
        states.append(state(pace))
    assert states == [(2, 2), (4, 3), (8, 3), (10, 3), (10, 3), (10, 3)]


def test_who_was_calm_in_between_is_alerted_anew():
    clock = Clock()
    pace = new_pace(clock)
    alerts = []
    for share in (0.85, 0.7, 0.85, 0.5, 0.85):
        clock.now_s += SHRINK_EVERY_S
        alerts.append(len(observe(pace, share)))
    assert alerts == [1, 0, 0, 0, 1]


def test_above_the_limit_the_old_service_s_words_are_said():
    first, second = new_pace().observe({"a": 1100.3})
    assert first.text == "Memory limit exceeded (1100.3 MB > 1024 MB). Forcing cleanup."
    assert (first.node, first.increase_mb) == ("a", 1100.3)
    assert "near its limit" in second.text


def test_at_the_limit_it_is_not_said_that_it_was_exceeded():
    assert not any("exceeded" in text for text in observe(new_pace(), 1.0))


def test_while_memory_stays_above_the_limit_it_is_said_again_now_and_then():
    clock = Clock()
    pace = new_pace(clock)
    said = []
    for second in range(25):
        clock.now_s = float(second)
        if any("exceeded" in text for text in observe(pace, 1.1)):
            said.append(second)
    assert said == [0, SAY_EVERY_S, 2 * SAY_EVERY_S]


def test_each_node_has_its_own_pace():
    pace = new_pace()
    notices = pace.observe({"a": 0.9 * LIMIT_MB, "b": 0.1 * LIMIT_MB})
    assert [notice.node for notice in notices] == ["a"]
    assert (state(pace, "a"), state(pace, "b"), state(pace, "c")) == ((5, 2), (10, 3), (10, 3))
    assert len(observe(pace, 0.9, "b")) == 1


def test_a_turn_tells_what_was_last_measured_on_its_node():
    pace = new_pace()
    pace.observe({"a": 100.0, "b": 7.0})
    pace.observe({"a": 200.0})
    turn = pace.turn("a", failed=2, batch_size=4)
    assert (turn.failed, turn.batch_size) == (2, 4)
    assert (turn.increase_mb, turn.limit_mb) == (200.0, LIMIT_MB)
    assert pace.turn("b", 0, 4).increase_mb == 7.0
    assert pace.turn("c", 0, 4).increase_mb == 0.0


MEASURED = st.lists(
    st.tuples(st.floats(0, 20), st.sampled_from("ab"), st.floats(-1, 2)), max_size=60
)


@settings(deadline=None)
@given(MEASURED, st.integers(1, 64), st.integers(1, 16))
def test_whatever_is_measured_a_node_keeps_going_within_its_bounds_and_says_only_what_is_so(
    measured, batch_size, decoders
):
    clock = Clock()
    pace = new_pace(clock, batch_size=batch_size, decoders=decoders)
    said_at = {}
    for after_s, node, share in measured:
        clock.now_s += after_s
        before = state(pace, node)
        texts = observe(pace, share, node)
        now = state(pace, node)
        assert 1 <= now[0] <= batch_size
        assert 1 <= now[1] <= decoders
        if share >= 0.8:
            assert now <= before
        elif share >= 0.6:
            assert now == before
        else:
            assert now >= before
        exceeded = [text for text in texts if "exceeded" in text]
        if exceeded:
            assert share > 1
            assert clock.now_s - said_at.get(node, -SAY_EVERY_S) >= SAY_EVERY_S
            said_at[node] = clock.now_s
        assert share >= 0.8 or texts == []


def feed(pilot, cost_s, judgements):
    """Let a pilot judge so often, batches taking what `cost_s` tells a frame; return its sizes."""
    sizes = []
    for _ in range(judgements):
        sizes.append(pilot.size)
        for _ in range(0, 256, pilot.size):
            pilot.learn(pilot.size, pilot.size, cost_s(pilot.size) * pilot.size)
            if pilot.size != sizes[-1]:
                break
    return sizes


@pytest.mark.parametrize("cheapest", [1, 2, 4, 8, 16, 32])
def test_a_pilot_finds_the_batch_size_with_the_least_time_a_frame_and_rests_there(cheapest):
    # A cost a batch, and one that grows with the batch.
    sizes = feed(BatchPilot(32), lambda size: cheapest / size + size / cheapest, 200)
    assert sizes[0] == 8
    late = sizes[50:]
    assert late.count(cheapest) > 0.9 * len(late)


def test_a_pilot_follows_when_another_size_becomes_the_cheapest():
    pilot = BatchPilot(32)
    feed(pilot, lambda size: 32 / size + size / 32, 100)
    late = feed(pilot, lambda size: 2 / size + size / 2, 200)[100:]
    assert late.count(2) > 0.9 * len(late)


@settings(deadline=None)
@given(st.data())
def test_differences_below_three_percent_do_not_move_a_pilot(data):
    pilot = BatchPilot(32)
    noise = st.floats(1.0, 1.029)
    sizes = feed(pilot, lambda _: 1.0, 1)
    for _ in range(60):
        noisy = data.draw(noise)
        sizes += feed(pilot, lambda _, noisy=noisy: noisy, 1)
    assert set(sizes) <= {4, 8, 16}
    assert sizes.count(8) >= 0.9 * len(sizes)


def test_batches_of_another_size_than_the_one_that_is_tried_say_nothing():
    pilot = BatchPilot(32)
    for _ in range(100):
        pilot.learn(4, 256, 1e-9)
        pilot.learn(16, 256, 1e9)
    assert pilot.size == 8
    pilot.learn(8, 256, 1.0)
    assert pilot.size == 16


def test_a_size_that_segments_are_too_short_for_is_not_waited_for_for_ever():
    pilot = BatchPilot(32)
    pilot.learn(8, 256, 1.0)
    assert pilot.size == 16
    for _ in range(20):
        pilot.learn(10, 256, 1.0)
    assert pilot.size == 8


LEARNED = st.lists(
    st.tuples(st.booleans(), st.integers(1, 64), st.integers(0, 600), st.floats(0, 1e3)),
    max_size=200,
)


@settings(deadline=None)
@given(LEARNED, st.integers(0, 8), st.integers(1, 300))
def test_a_pilot_s_size_is_a_step_of_two_from_the_one_before_within_its_bounds(
    learned, exponent, odd
):
    power, any_bound = BatchPilot(2**exponent), BatchPilot(odd)
    for is_own, size, frames, wall_s in learned:
        before = power.size, any_bound.size
        for pilot in (power, any_bound):
            pilot.learn(pilot.size if is_own else size, frames, wall_s)
        assert 1 <= power.size <= 2**exponent
        assert power.size.bit_count() == 1
        assert 1 <= any_bound.size <= odd
        neighbours = (before[0] // 2, before[0], before[0] * 2)
        # What it tries and gives up leads back to where it came from.
        assert power.size in neighbours


def test_a_pace_that_finds_its_batch_size_begins_with_a_middling_one_and_learns():
    pace = new_pace(batch_size=32, is_auto=True)
    assert pace.batch_size_on("a") == 8
    pace.detected(8, 256, 1.0)
    assert pace.batch_size_on("a") == 16


def test_where_memory_runs_short_a_batch_is_no_larger_than_the_node_may_have():
    clock = Clock()
    pace = new_pace(clock, batch_size=32, is_auto=True)
    for _ in range(3):
        observe(pace, 0.9)
        clock.now_s += SHRINK_EVERY_S
    assert (pace.batch_size_on("a"), pace.batch_size_on("b")) == (4, 8)


def test_a_batch_size_that_was_given_is_not_changed_by_how_long_detectors_take():
    pace = new_pace()
    for size in (10, 8, 4):
        pace.detected(size, 10_000, 100.0 * size)
    assert state(pace) == (10, 3)


def test_a_row_has_as_many_segments_as_a_decoder_takes_a_second_for():
    pace = Pace(limit_mb=1000, batch_size=10, decoders=2, ahead=Ahead(0))
    assert pace.segments_of_a_row == 1
    pace.decoded(1, 0.2)
    assert pace.segments_of_a_row == 5
    for _ in range(50):
        pace.decoded(5, 10.0)
    assert pace.segments_of_a_row == 1
    for _ in range(50):
        pace.decoded(4, 0.0)
    assert pace.segments_of_a_row == 32
