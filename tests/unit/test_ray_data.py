"""What we have of Ray Data beyond its defaults, without a Ray."""

import importlib
from types import SimpleNamespace

import pytest

from cluster import ray_data


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
    monkeypatch.setattr(ray_data, "ray", tasks)
    return ray_data._Promptly(), tasks


def ask(promptly, *refs):
    return promptly.wait(list(refs), num_returns=len(refs), fetch_local=False, timeout=0.1)


def test_waiting_ends_with_the_first_that_is_ready_and_gathers_for_a_moment(wait):
    promptly, tasks = wait
    assert ask(promptly, "a", "b", "c") == (["a", "b"], ["c"])
    first, gathered = tasks.asked
    assert first == (["a", "b", "c"], 1, 0.1)
    assert gathered[:2] == (["a", "b", "c"], 3)
    assert 0 < gathered[2] <= 0.02


def test_a_task_whose_output_may_not_be_taken_wakes_nobody_but_is_told_with_the_others(wait):
    promptly, tasks = wait
    promptly.held_up.add("a")
    assert ask(promptly, "a", "b", "c") == (["a", "b"], ["c"])
    assert tasks.asked[0] == (["b", "c"], 1, 0.1)


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


def test_this_version_of_ray_has_what_is_reached_into():
    state = importlib.import_module("ray.data._internal.execution.streaming_executor_state")
    operator = importlib.import_module("ray.data._internal.execution.interfaces.physical_operator")
    assert callable(state.ray.wait)
    assert callable(operator.DataOpTask.on_data_ready)
    assert callable(operator.DataOpTask.get_waitable)


def test_an_operator_remembers_its_last_blocks_only():
    operator = SimpleNamespace(_output_blocks_stats=list(range(1200)))
    for _ in range(2):
        ray_data.forget_blocks(operator)
        assert operator._output_blocks_stats == list(range(1000, 1200))
    ray_data.forget_blocks(SimpleNamespace())
