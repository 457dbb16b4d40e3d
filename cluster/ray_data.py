"""What we have of Ray Data beyond its defaults: our memory plan, a row a block, no actors of its own.

This is the one place that edits Ray Data's context or, with `waiting`, reaches into it. With a version
of Ray that has nothing there to reach, a job runs all the same, only slower; a test tells.

Ray Data keeps three actors of its own: for the dashboard's statistics, for what each of several jobs
may have of a cluster, and for where its other actors are. In a local session nobody asks them anything
that this process does not know, and each takes a second of a core and 70 MB.
"""

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import ray

from cluster.live import Queues
from cluster.waiting import keep_up

_MOST_BLOCKS_REMEMBERED = 200
# What runs as a step, by the function or class that Ray Data calls.
_STEPS = {"decode_stage": "decode", "DetectStage": "detect"}


@dataclass(slots=True)
class InEffect:
    """What Ray Data keeps to, as it says itself while it runs; None before that.

    Attributes:
        queues: What it holds between the steps.
        error: Ends the dataset that runs, or the next.
        room: What the dataset may have, as long as that is not what it was built with.
    """

    in_flight_bytes: float | None = None
    queues: Queues = field(default_factory=Queues)
    error: Exception | None = None
    room: "Room | None" = None

    def note(self, limit_bytes: float) -> None:
        """Take the limit of the moment; the least one counts."""
        self.in_flight_bytes = min(self.in_flight_bytes or math.inf, limit_bytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """What a dataset may have of a cluster whose nodes come and go.

    Attributes:
        sizes: Workers of each step, by the name of what it runs.
        sought: Workers that an autoscaler may be asked to make room for.
        in_flight_bytes: Blocks in the store, over all nodes.
    """

    sizes: Mapping[str, int]
    sought: Mapping[str, int]
    in_flight_bytes: int


def _give_room(executor: Any, room: Room) -> None:  # noqa: ANN401 -- Ray's own
    """Have a dataset that runs keep to other numbers than it was built with."""
    from ray.data import ExecutionResources

    executor._options.resource_limits = ExecutionResources.for_limits(
        object_store_memory=room.in_flight_bytes
    )
    for operator in executor._topology:
        size = _size_of(operator, room.sizes)
        if size is None:
            continue
        for pool in operator.get_autoscaling_actor_pools():
            how = {"min_size": size, "max_size": size, "initial_size": size}
            pool._config = replace(pool._config, **how)
        if getattr(operator, "_max_concurrency", None) is not None:
            operator._max_concurrency = size
        for policy in executor._backpressure_policies:
            caps = getattr(policy, "_concurrency_caps", {})
            if math.isfinite(caps.get(operator, math.inf)):
                caps[operator] = size
    # An autoscaler is asked for no more than what these allow.
    executor._cluster_autoscaler._compute_concurrency_limits = lambda: {
        operator: _size_of(operator, room.sought) for operator in executor._topology
    }


def _size_of(operator: Any, sizes: Mapping[str, int]) -> int | None:  # noqa: ANN401 -- Ray's own
    """Return the workers of a step; None for what is no step of ours."""
    found = [size for stage, size in sizes.items() if stage in operator.name]
    return min(found) if found else None


def tell_of_nodes() -> None:
    """Have what shares a cluster out among jobs look at its nodes, as it does every 20 s by itself."""
    from ray.data._internal.cluster_autoscaler import default_autoscaling_coordinator as coordinator

    find: Any = coordinator.get_or_create_autoscaling_coordinator
    find().get_reserved_resources.remote("footfall", recompute=True)


def forget_blocks(operator: Any) -> None:  # noqa: ANN401 -- Ray's own
    """Have an operator of Ray Data keep statistics of its last blocks only.

    It keeps some KB of every block there ever was, for a summary that nobody prints: in days of
    footage that is gigabytes.
    """
    statistics = getattr(operator, "_output_blocks_stats", [])
    if len(statistics) > _MOST_BLOCKS_REMEMBERED:
        del statistics[:-_MOST_BLOCKS_REMEMBERED]


def waiting_rows(topology: Mapping[Any, Any]) -> dict[str, int]:
    """Return how many rows wait before each step, of Ray Data's operators and their states."""
    return {
        step: state.total_enqueued_input_blocks()
        for operator, state in topology.items()
        for function, step in _STEPS.items()
        if f"({function})" in operator.name
    }


def _keep_off_the_console() -> None:
    """Leave what Ray Data says to its log files: it sets up both when it is imported."""
    logger = logging.getLogger("ray.data")
    logger.setLevel(logging.ERROR)
    logger.propagate = False
    for handler in list(logger.handlers):
        if isinstance(handler, logging.StreamHandler) and not isinstance(
            handler, logging.FileHandler
        ):
            logger.removeHandler(handler)


class _NoActor:
    """Stands for the handle of an actor that is told much and asked nothing."""

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 -- a method of it
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def remote(self, *_: object) -> None:
        """Do nothing."""


class _WholeCluster:
    """Stands for what shares a cluster out among jobs: all of it is this one's."""

    def __init__(self, *_: object, **__: object) -> None:
        nodes = ray.nodes()  # type: ignore[no-untyped-call]
        self._resources = {n["NodeID"]: n["Resources"] for n in nodes if n["Alive"]}

    def request_resources(self, *_: object, **__: object) -> None:
        """Do nothing: there is no more to have."""

    def cancel_request(self) -> None:
        """Do nothing."""

    def get_reserved_resources(self) -> dict[str, dict[str, float]]:
        """Return the resources of each node."""
        return self._resources


def _no_locations(_: tuple[str, ...]) -> dict[str, str]:
    """Stand for the question where actors are now: where they were when they began."""
    return {}


_usual: dict[tuple[Any, str], Any] = {}


def _without_actors(*, is_ours: bool) -> None:
    """Have Ray Data run without actors of its own, or again with them in a cluster that we join."""
    from ray.data._internal import stats
    from ray.data._internal.cluster_autoscaler import rate_based_cluster_autoscaler as autoscaler
    from ray.data._internal.execution.operators import actor_pool_map_operator as pool

    for module, name, ours in (
        (stats, "get_or_create_stats_actor", _NoActor),
        (autoscaler, "DefaultAutoscalingCoordinator", _WholeCluster),
        (pool, "get_or_create_actor_location_tracker", _NoActor),
        (pool, "get_actor_locations", _no_locations),
    ):
        usual = _usual.setdefault((module, name), getattr(module, name, None))
        if usual is not None:
            setattr(module, name, ours if is_ours else usual)


def apply_to_ray_data(in_flight_bytes: int, *, is_ours: bool) -> InEffect:
    """Set up this process's Ray Data: one row a block, the plan's memory, no chatter.

    Ray's own limit is silently the lesser of ours and half the store, unless the fraction is raised.

    Args:
        in_flight_bytes: What may lie in the store of all nodes together.
        is_ours: We started this Ray, and nobody looks at its dashboard.

    Returns:
        What takes effect, once a dataset runs.
    """
    # Imported here: Ray Data costs a second and 100 MB, and whoever only plans needs none of it.
    from ray.data import DataContext, ExecutionResources
    from ray.data._internal.execution.execution_callback import ExecutionCallback
    from ray.data._internal.execution.streaming_executor import StreamingExecutor

    _keep_off_the_console()
    in_effect = InEffect()

    class Look(ExecutionCallback):
        room: Room | None = None

        def on_execution_step(self, executor: Any) -> None:  # noqa: ANN401 -- Ray's own
            if in_effect.error is not None:
                error, in_effect.error = in_effect.error, None
                raise error
            if in_effect.room is not None and in_effect.room != self.room:
                self.room = in_effect.room
                _give_room(executor, self.room)
            manager = executor._resource_manager
            limit_bytes = manager.get_global_limits().object_store_memory
            in_effect.note(limit_bytes)
            in_effect.queues = Queues(
                rows=waiting_rows(executor._topology),
                held_bytes=manager.get_global_usage().object_store_memory,
                limit_bytes=limit_bytes,
            )
            for operator in executor._topology:
                forget_blocks(operator)

    context = DataContext.get_current()
    # A block is closed at the first row that reaches this size: each row is a block of its own.
    context.target_max_block_size = 1
    context.target_min_block_size = 1
    context.execution_options.resource_limits = ExecutionResources.for_limits(
        object_store_memory=in_flight_bytes
    )
    context.execution_options.preserve_order = False
    # Wrapped in an error of Ray Data's, an error loses its cause on the way to the driver.
    context.raise_original_map_exception = True
    context.override_object_store_memory_limit_fraction = 1.0
    context.custom_execution_callback_classes = [Look]
    if is_ours:
        # Nobody looks at these.
        StreamingExecutor.UPDATE_METRICS_INTERVAL_S = math.inf
    # A thread in each task that measures what our own sampler does.
    context.memory_usage_poll_interval_s = None
    context.enable_progress_bars = False
    context.enable_operator_progress_bars = False
    context.print_on_execution_start = False
    keep_up()
    _without_actors(is_ours=is_ours)
    return in_effect
