"""The Ray session of a job: a local one is started, or a cluster is joined; either keeps quiet."""

import importlib
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import ray
import ray.exceptions

from cluster.meter import family, keep_heaps_few
from cluster.nodes import Node, alive_nodes
from cluster.stall import StalledError
from pipeline.errors import ConfigError, FootfallError

# Ray Data shares a cluster out among its executions, and a killed driver's keeps its share until it has
# not been asked for again for so long. By default that is three minutes in which the next start waits.
os.environ.setdefault("RAY_DATA_MIN_GAP_BETWEEN_AUTOSCALING_REQUESTS", "2")
os.environ.setdefault("RAY_DATA_AUTOSCALING_REQUEST_EXPIRE_TIME_S", "8")
# What is told of a block goes on with it, and not a round of the driver's loop later: whoever sees that
# a row is there hands it on.
os.environ.setdefault("RAY_DATA_METADATA_PREFETCH_ON_THREAD", "0")

NAMESPACE = "footfall"
_KEEP_IDLE_WORKERS_MS = 600_000
_EXIT_S = 5.0
_DEATHS = (
    ray.exceptions.RayActorError,
    ray.exceptions.WorkerCrashedError,
    ray.exceptions.NodeDiedError,
    ray.exceptions.ObjectLostError,
    ray.exceptions.LocalRayletDiedError,
    ray.exceptions.OutOfMemoryError,
    ray.exceptions.RaySystemError,
    StalledError,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A connection to Ray.

    Attributes:
        nodes: The nodes that are alive.
        is_local: We started it, for this job alone.
    """

    nodes: tuple[Node, ...]
    is_local: bool


def own_error(error: BaseException) -> FootfallError | None:
    """Return footfall's own error that an error of Ray carries from a worker, if any.

    Ray hands it over inside errors of its own, whose text is a traceback of every process on the way.
    """
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, FootfallError) and not isinstance(seen, ray.exceptions.RayError):
            return seen
        seen = getattr(seen, "cause", None) or seen.__cause__
    return None


def is_fault_of_cluster(error: BaseException) -> bool:
    """Say whether an error of Ray tells of a process or a node that died, not of code that failed."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, _DEATHS):
            return True
        seen = getattr(seen, "cause", None) or seen.__cause__
    return False


def under_ray_job() -> bool:
    """Say whether this process is the entrypoint of a job submitted to a Ray cluster."""
    return "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ


def local_cpus() -> int:
    """Return the cores that this process may use."""
    return len(os.sched_getaffinity(0))


@contextmanager
def open_session(object_store_bytes: int, address: str | None) -> Iterator[Session]:
    """Start a local Ray, or join the cluster at `address`, and leave it at the end.

    Args:
        object_store_bytes: Size of the object store of a local Ray.
        address: Of a cluster; None means the one whose job this is, or else a local one.

    Raises:
        ConfigError: There is no cluster at the address.
    """
    _be_quiet()
    if ray.is_initialized():
        # Whoever initialised it, a test suite for one, also ends it.
        yield Session(nodes=alive_nodes(), is_local=False)
        return
    address = address or ("auto" if under_ray_job() else None)
    try:
        if address is None:
            _start_local(object_store_bytes)
        else:
            ray.init(address, namespace=NAMESPACE, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"address {address!r}: no Ray cluster answers there: {reason}") from error
    try:
        with _native_lines_in_a_file():
            yield Session(nodes=alive_nodes(), is_local=address is None)
    finally:
        processes = _processes_of_ray() if address is None else []
        ray.shutdown()
        # Some hang in what they do at their exit.
        _, alive = psutil.wait_procs(processes, timeout=_EXIT_S)
        for process in alive:
            with suppress(psutil.NoSuchProcess):
                process.kill()


def _processes_of_ray() -> list[psutil.Process]:
    """Return what `ray.init` started, and all that descends from it: the workers are the raylet's."""
    node: Any = ray._private.worker._global_node
    roots = [info.process.pid for some in node.all_processes.values() for info in some]
    return [process for root in roots for process in family(root)]


@contextmanager
def _native_lines_in_a_file() -> Iterator[None]:
    """Keep what Ray's C++ side writes to the error stream beside Ray's other log files.

    It writes to the file descriptor, past Python; `sys.stderr` goes on to the user meanwhile.
    """
    node: Any = ray._private.worker._global_node
    folder = Path(node.get_logs_dir_path())
    python_stream = sys.stderr
    python_stream.flush()
    kept = os.dup(2)
    try:
        with (folder / f"footfall-driver-{os.getpid()}.err").open("ab") as log:
            os.dup2(log.fileno(), 2)
        if python_stream is sys.__stderr__:
            sys.stderr = os.fdopen(os.dup(kept), "w", buffering=1)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        sys.stderr = python_stream


def _start_local(object_store_bytes: int) -> None:
    # Whoever reaches a port of Ray's runs code: all of them listen where the node's address is.
    # `_node_ip_address` does not do it: Ray turns a loopback address into the outside one.
    ray._private.ray_constants.ENABLE_RAY_CLUSTER = False
    # Ray's workers step back behind every other process (nice 15), and so would a whole job.
    os.environ.setdefault("RAY_worker_niceness", "0")
    # Frames go back to the system when they are freed, and not into a heap that stays large.
    os.environ.setdefault("MALLOC_MMAP_THRESHOLD_", str(128 * 1024))
    # Each of a process's many threads would have a heap of its own, and keep what it frees there.
    os.environ.setdefault("MALLOC_ARENA_MAX", "2")
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    keep_heaps_few()
    _measure_seldom()
    with _few_processes(), _imported_meanwhile("ray.data"):
        ray.init(
            address="local",
            namespace=NAMESPACE,
            object_store_memory=object_store_bytes,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            _system_config={
                # Spilling would hide that the cap does not hold, and fill a disk.
                "automatic_object_spilling_enabled": False,
                # By default workers beyond the number of cores end after a second without a task, and
                # the next task pays a second of both cores to start another.
                "idle_worker_killing_time_threshold_ms": _KEEP_IDLE_WORKERS_MS,
                # Ray's control service would keep a record of each of the last 100,000 tasks.
                "task_events_report_interval_ms": 0,
            },
        )


def _measure_seldom() -> None:
    """Have Ray measure less: its event loops, and the machine for pages that a local session lacks."""
    os.environ.setdefault("RAY_event_stats", "0")
    os.environ.setdefault("REPORTER_UPDATE_INTERVAL_MS", "60000")


@contextmanager
def _imported_meanwhile(module: str) -> Iterator[None]:
    """Import a module that is needed soon, while the `with` block waits for Ray's raylet to come up.

    Not before that is started: two threads of Python would only slow each other down.
    """
    thread = threading.Thread(target=importlib.import_module, args=(module,))

    def start_raylet(*given: object, **named: object) -> None:
        usual(*given, **named)
        thread.start()

    with _replaced(ray._private.node.Node, start_raylet=start_raylet) as replaced:
        usual: Any = replaced.get("start_raylet")
        yield
    if thread.ident is None:
        # The Ray that is installed starts it in another way.
        thread.start()
    thread.join()


@contextmanager
def _few_processes() -> Iterator[None]:
    """Have Ray start no process that a local session has no use for: seconds, and 60 MB each.

    They forward logs, add nodes, and serve pages: nobody reads the logs, there are no nodes to add, and
    the pages are switched off. Whether pages could be shown Ray finds out by importing all that they
    need, for half a second: they could.
    """
    names = ("start_monitor", "start_log_monitor", "start_api_server")
    with (
        _replaced(ray._private.node.Node, **dict.fromkeys(names, lambda *_, **__: None)),
        _replaced(ray._private.utils, get_dashboard_dependency_error=lambda: None),
    ):
        yield


@contextmanager
def _replaced(owner: Any, **names: Callable[..., None]) -> Iterator[dict[str, Any]]:  # noqa: ANN401
    """Replace functions of Ray's, as far as it has them; give what they were."""
    kept = {name: getattr(owner, name) for name in names if hasattr(owner, name)}
    try:
        for name in kept:
            setattr(owner, name, names[name])
        yield kept
    finally:
        for name, usual in kept.items():
            setattr(owner, name, usual)


def _be_quiet() -> None:
    """Keep Ray's own lines in its log files; RAY_ variables count for the workers too."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("YOLO_AUTOINSTALL", "False")
    logging.getLogger("ray").setLevel(logging.ERROR)
    # Deaths of workers, which Ray would print: they are in the raylet's log, and what they cost is in
    # the `failures` table.
    worker: Any = ray._private.worker
    worker._worker_logs_enabled = False
