"""What we have of Ray Data beyond its defaults, without a Ray."""

import importlib
import inspect
import logging
import math
import pickle
from dataclasses import dataclass
from types import SimpleNamespace

from cluster import ray_data


def test_what_is_told_of_a_block_is_not_waited_for_in_a_later_round():
    importlib.import_module("cluster.session")
    fetcher = importlib.import_module("ray.data._internal.execution.metadata_fetcher")
    assert type(fetcher.make_metadata_fetcher()) is fetcher.InlineMetadataFetcher


def test_this_version_of_ray_has_what_is_reached_into():
    state = importlib.import_module("ray.data._internal.execution.streaming_executor_state")
    operator = importlib.import_module("ray.data._internal.execution.interfaces.physical_operator")
    assert callable(state.ray.wait)
    assert "time.sleep(" in inspect.getsource(state.OpState.get_output_blocking)
    assert callable(state.time.sleep)
    assert callable(operator.DataOpTask.on_data_ready)
    assert callable(operator.DataOpTask.get_waitable)

    for name in (
        "stats.get_or_create_stats_actor",
        "cluster_autoscaler.rate_based_cluster_autoscaler.DefaultAutoscalingCoordinator",
        "execution.operators.actor_pool_map_operator.get_or_create_actor_location_tracker",
        "execution.operators.actor_pool_map_operator.get_actor_locations",
    ):
        module, attribute = f"ray.data._internal.{name}".rsplit(".", 1)
        assert callable(getattr(importlib.import_module(module), attribute)), name
    node = importlib.import_module("ray._private.node").Node
    for name in ("start_monitor", "start_log_monitor", "start_api_server", "start_raylet"):
        assert callable(getattr(node, name)), name
    assert importlib.import_module("ray._private.utils").get_dashboard_dependency_error() is None


def test_ray_data_has_no_actors_of_its_own_where_the_cluster_is_ours_and_has_them_elsewhere():
    stats = importlib.import_module("ray.data._internal.stats")
    usual = stats.get_or_create_stats_actor
    try:
        for is_ours in (True, False, True):
            ray_data._without_actors(is_ours=is_ours)
            assert (stats.get_or_create_stats_actor is usual) == (not is_ours)
        handle = pickle.loads(pickle.dumps(stats.get_or_create_stats_actor()))
        assert handle.register_dataset.remote("a", 1) is None
    finally:
        ray_data._without_actors(is_ours=False)
    assert stats.get_or_create_stats_actor is usual


def test_ray_data_says_nothing_on_the_console_and_all_in_its_files():
    importlib.import_module("ray.data")
    logger = logging.getLogger("ray.data")
    before = list(logger.handlers)
    console = logging.StreamHandler()
    logger.addHandler(console)
    try:
        ray_data._keep_off_the_console()
        assert console not in logger.handlers
        assert any(type(handler).__name__ == "SessionFileHandler" for handler in logger.handlers)
    finally:
        logger.handlers = before


def test_an_operator_remembers_its_last_blocks_only():
    operator = SimpleNamespace(_output_blocks_stats=list(range(1200)))
    for _ in range(2):
        ray_data.forget_blocks(operator)
        assert operator._output_blocks_stats == list(range(1000, 1200))
    ray_data.forget_blocks(SimpleNamespace())


@dataclass(frozen=True)
class PoolSize:
    """Stands for the size of an actor pool."""

    min_size: int
    max_size: int
    initial_size: int


@dataclass(eq=False)
class Operator:
    """Stands for a step of a dataset that runs."""

    name: str
    _max_concurrency: int | None = None
    pools: tuple[SimpleNamespace, ...] = ()

    def get_autoscaling_actor_pools(self):
        return self.pools


def test_a_dataset_that_runs_gets_as_many_workers_as_its_nodes_have_places_for():
    pool = SimpleNamespace(_config=PoolSize(1, 1, 1))
    decode = Operator("MapBatches(decode_stage)", 2)
    detect, source = Operator("MapBatches(DetectStage)", pools=(pool,)), Operator("Input")
    policy = SimpleNamespace(_concurrency_caps={decode: 2, detect: math.inf, source: math.inf})
    executor = SimpleNamespace(
        _topology=[source, decode, detect],
        _backpressure_policies=[policy, SimpleNamespace()],
        _options=SimpleNamespace(),
        _cluster_autoscaler=SimpleNamespace(),
    )
    room = ray_data.Room(
        sizes={"decode_stage": 6, "DetectStage": 3},
        sought={"decode_stage": 8, "DetectStage": 4},
        in_flight_bytes=1000,
    )
    ray_data._give_room(executor, room)
    assert pool._config == PoolSize(3, 3, 3)
    assert decode._max_concurrency == 6
    assert policy._concurrency_caps == {decode: 6, detect: math.inf, source: math.inf}
    sought = executor._cluster_autoscaler._compute_concurrency_limits()
    assert sought == {decode: 8, detect: 4, source: None}
    assert executor._options.resource_limits.object_store_memory == 1000
