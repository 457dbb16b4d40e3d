"""How the driver's Ray Data waits: until something is ready, and not ten times a second.

    Ray Data      wait for all of 30 tasks, a tenth of a second at most     look at all     wait ...
    here          wait for the first of them, and a hundredth for more      look at all     wait ...

A row that is ready is handed on at once, and a driver whose workers are busy does nothing.
"""

import time
from typing import Any

import ray

# After the first piece of work is ready, so long is waited for more: each look at all of them costs
# the driver some milliseconds.
_GATHER_S = 0.01
# Ray Data looks around after a tenth of a second, which costs as much, and has nothing to see then.
_LONGEST_WAIT_S = 1.0
# Whoever takes what comes out asks for it a hundred times a second, a hundredth of a core.
_ASK_AGAIN_S = 0.05


class Promptly:
    """Stands for the module `ray` where Ray Data waits for its tasks: returns when the first is ready.

    Ray Data waits for all of them, which never comes, and so for a tenth of a second each time: no
    step handed on more than a few batches in that time. A task whose output may not be taken now, for
    want of room, is ready all the time: it does not count as the first.
    """

    def __init__(self) -> None:
        self.held_up: set[Any] = set()

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 -- whatever the module has
        return getattr(ray, name)

    def wait(self, refs: list[Any], **how: Any) -> tuple[list[Any], list[Any]]:  # noqa: ANN401
        """Return (ready, not ready) once any that is not held up is ready, or at the time-out."""
        self.held_up.intersection_update(refs)
        if news := [ref for ref in refs if ref not in self.held_up]:
            ray.wait(news, **(how | {"num_returns": 1, "timeout": _LONGEST_WAIT_S}))
            how["timeout"] = _GATHER_S
        found: tuple[list[Any], list[Any]] = ray.wait(refs, **how)
        return found


class Patiently:
    """Stands for the module `time` where whoever takes Ray Data's output waits for some."""

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 -- whatever the module has
        return getattr(time, name)

    def sleep(self, seconds: float) -> None:
        """Sleep for so long, or a little longer."""
        time.sleep(max(seconds, _ASK_AGAIN_S))


def keep_up() -> None:
    """Have this process's Ray Data look at its tasks when one is ready, not ten times a second.

    And whoever takes its output at leisure.
    """
    from ray.data._internal.execution import streaming_executor_state
    from ray.data._internal.execution.interfaces.physical_operator import DataOpTask

    state: Any = streaming_executor_state
    task: Any = DataOpTask
    take = getattr(task, "on_data_ready", None)
    if take is None or isinstance(getattr(state, "ray", None), Promptly):
        return
    promptly = state.ray = Promptly()
    state.time = Patiently()

    def on_data_ready(self: Any, most_bytes: int | None, fetcher: Any) -> int:  # noqa: ANN401
        if most_bytes == 0:
            promptly.held_up.add(self.get_waitable())
        else:
            promptly.held_up.discard(self.get_waitable())
        read: int = take(self, most_bytes, fetcher)
        return read

    task.on_data_ready = on_data_ready
