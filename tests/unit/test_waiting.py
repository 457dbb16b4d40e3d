"""How the driver's Ray Data waits, without a Ray."""

from types import SimpleNamespace

import pytest

from cluster import waiting


class Tasks:
    """Stands for `ray`: what is ready, and what it was asked to wait for."""

    def __init__(self, ready):
        self.ready, self.asked = ready, []

    def wait(self, refs, num_returns, fetch_local, timeout):
        self.asked.append((list(refs), num_returns, timeout))
        assert fetch_local is False
        ready = [ref for ref in refs if ref in self.ready]
        return ready, [ref for ref in refs if ref not in ready]


@pytest.fixture
def wait(monkeypatch):
    """Return what waits, and the tasks it waits for: a and b are ready."""
    tasks = Tasks(ready={"a", "b"})
    monkeypatch.setattr(waiting, "ray", tasks)
    return waiting.Promptly(), tasks


def ask(promptly, *refs):
    return promptly.wait(list(refs), num_returns=len(refs), fetch_local=False, timeout=0.1)


def test_waiting_ends_with_the_first_that_is_ready_and_gathers_for_a_moment(wait):
    promptly, tasks = wait
    assert ask(promptly, "a", "b", "c") == (["a", "b"], ["c"])
    first, gathered = tasks.asked
    assert first == (["a", "b", "c"], 1, 1.0)
    assert gathered[:2] == (["a", "b", "c"], 3)
    assert 0 < gathered[2] <= 0.02


def test_a_task_whose_output_may_not_be_taken_wakes_nobody_but_is_told_with_the_others(wait):
    promptly, tasks = wait
    promptly.held_up.add("a")
    assert ask(promptly, "a", "b", "c") == (["a", "b"], ["c"])
    assert tasks.asked[0] == (["b", "c"], 1, 1.0)


def test_whoever_waits_for_output_asks_twenty_times_a_second_and_not_a_hundred(monkeypatch):
    slept = []
    monkeypatch.setattr(waiting, "time", SimpleNamespace(sleep=slept.append))
    for seconds in (0.01, 0.2):
        waiting.Patiently().sleep(seconds)
    assert slept == [0.05, 0.2]


def test_where_all_are_held_up_the_time_out_passes_once(wait):
    promptly, tasks = wait
    promptly.held_up.update("ab")
    assert ask(promptly, "a", "b") == (["a", "b"], [])
    assert tasks.asked == [(["a", "b"], 2, 0.1)]


def test_tasks_that_are_gone_are_forgotten(wait):
    promptly, _ = wait
    promptly.held_up.update("axyz")
    ask(promptly, "a", "b")
    assert promptly.held_up == {"a"}
