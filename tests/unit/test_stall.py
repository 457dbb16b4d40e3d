"""A pass that waits for what went with a node is ended, and nothing else is."""

from cluster.attempts import AttemptKey, Attempts
from cluster.session import is_fault_of_cluster
from cluster.stall import STALLED_AFTER_S, Activity, StalledError, StallWatch

LONG_S = STALLED_AFTER_S + 1


def test_steps_are_idle_once_nothing_was_heard_for_long_and_none_is_at_work() -> None:
    now, busy = [0.0], [True]
    activity = Activity(now=lambda: now[0])
    now[0] = STALLED_AFTER_S - 1
    assert activity.idle_s(lambda: False) == 0
    now[0] = LONG_S
    assert activity.idle_s(lambda: busy[0]) == 0
    busy[0] = False
    assert activity.idle_s(lambda: busy[0]) == LONG_S
    activity.heard()
    assert activity.idle_s(lambda: busy[0]) == 0


def test_a_try_is_under_way_until_it_ends_or_its_node_dies() -> None:
    alive = {"a", "b"}
    attempts = Attempts(lambda node: node in alive)
    keys = [AttemptKey(camera_id="hall", sequence=0, segment=n, step="decode") for n in range(2)]
    for key, node in zip(keys, ("a", "b"), strict=True):
        attempts.begin(key, node, 1)
    assert attempts.is_any_open()
    attempts.end(keys[0])
    assert attempts.is_any_open()
    alive.discard("b")
    assert not attempts.is_any_open()


def test_a_pass_has_stalled_once_if_a_node_was_lost_in_it() -> None:
    lost = [1]
    watch = StallWatch(lambda: lost[0])
    watch.begin()
    assert not watch.has_stalled(LONG_S), "a node that was lost before the pass"
    lost[0] = 2
    assert not watch.has_stalled(0.0), "the rest goes on"
    assert watch.has_stalled(LONG_S)
    assert not watch.has_stalled(LONG_S), "once"


def test_a_pass_behind_a_stalled_one_may_stall_too_and_has_more_patience() -> None:
    lost = [0]
    watch = StallWatch(lambda: lost[0])
    watch.begin()
    lost[0] = 1
    assert watch.has_stalled(LONG_S)
    watch.begin()
    assert not watch.is_stalled
    assert not watch.has_stalled(LONG_S)
    assert watch.has_stalled(2 * LONG_S)
    watch.begin()
    assert not watch.has_stalled(2 * LONG_S)
    # It came to its end, one way or the other: the next knows nothing of it.
    watch.begin()
    assert not watch.has_stalled(100 * LONG_S)


def test_a_stalled_pass_is_the_clusters_fault() -> None:
    error = RuntimeError("of Ray Data")
    error.__cause__ = StalledError("nothing comes")
    assert is_fault_of_cluster(error)
    assert not is_fault_of_cluster(RuntimeError("of code"))
