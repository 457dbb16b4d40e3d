"""A Ray cluster of several nodes on this one machine, and ways to kill what runs on it.

For soaks and tests. Its processes are its owner's children, and end with it.
"""

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import psutil

from cluster.meter import family

_CPUS = 2
_STORE_BYTES = 150 << 20
# What Ray calls a worker while it does something of ours.
_TITLES = {
    "detector": "DetectStage",
    "decoder": "decode_stage",
    "tracker": "CameraLogs",
}


@dataclass(slots=True)
class Testbed:
    """A running cluster.

    Attributes:
        address: Where drivers join it.
    """

    # pytest takes a class of this name for tests.
    __test__ = False

    address: str
    _cluster: Any
    _nodes: list[Any] = field(default_factory=list)
    _left: list[psutil.Process] = field(default_factory=list)

    def add_node(self) -> None:
        """Add a worker node."""
        self._nodes.append(self._cluster.add_node(num_cpus=_CPUS, object_store_memory=_STORE_BYTES))

    @property
    def nodes(self) -> list[str]:
        """The ids of the worker nodes, the oldest first."""
        return [node.node_id for node in self._nodes]

    @property
    def worker_nodes(self) -> int:
        """Number of worker nodes."""
        return len(self._nodes)

    def kill_node(self, choose: Callable[[list[Any]], Any]) -> bool:
        """Kill the raylet of a worker node, and so its workers; False if there is no such node."""
        if not self._nodes:
            return False
        node = choose(self._nodes)
        self._left += _family(node)
        raylet = node.all_processes["raylet"][0].process
        raylet.kill()
        raylet.wait()
        self._nodes.remove(node)
        with suppress(AssertionError, OSError):
            # What is left of it: log monitors and agents, which may be gone by now.
            self._cluster.remove_node(node, allow_graceful=False)
        return True

    def processes(self) -> list[psutil.Process]:
        """Return the processes of all nodes there are, and what may be left of those there were."""
        nodes = [self._cluster.head_node, *self._nodes]
        return [*self._left, *(process for node in nodes for process in _family(node))]

    def kill_worker(self, kind: str, choose: Callable[[list[Any]], Any]) -> bool:
        """Kill a worker that is a "detector", "decoder" or "tracker"; False if there is none."""
        at_work = sorted(self._workers(_TITLES[kind]), key=lambda process: process.pid)
        if not at_work:
            return False
        with suppress(psutil.NoSuchProcess):
            choose(at_work).kill()
            return True
        return False

    def _workers(self, title: str) -> Iterator[psutil.Process]:
        for process in psutil.Process().children(recursive=True):
            with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                line = process.cmdline()
                if line and line[0].startswith("ray::") and title in line[0]:
                    yield process


def _family(node: Any) -> list[psutil.Process]:  # noqa: ANN401 -- Ray's own
    """Return the processes of a node, and all that descends from them."""
    roots = [info.process.pid for some in node.all_processes.values() for info in some]
    return [process for root in roots for process in family(root)]


@contextmanager
def open_testbed(worker_nodes: int, *, head_cpus: int = _CPUS) -> Iterator[Testbed]:
    """Run a cluster of a head node and some worker nodes for as long as the `with` block runs."""
    from ray.cluster_utils import Cluster

    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_worker_niceness", "0")
    # As in a local Ray of ours: a worker that has nothing to do just now is not started anew later.
    os.environ.setdefault("RAY_idle_worker_killing_time_threshold_ms", "600000")
    # A node that is killed is missed sooner than after the usual half a minute.
    os.environ.setdefault("RAY_health_check_failure_threshold", "3")
    os.environ.setdefault("RAY_health_check_period_ms", "1000")
    with tempfile.TemporaryDirectory(prefix="ff-", dir="/tmp") as folder:
        head = {
            "num_cpus": head_cpus,
            "object_store_memory": _STORE_BYTES,
            "include_dashboard": False,
            "temp_dir": folder,
        }
        cluster = Cluster(initialize_head=True, head_node_args=head)
        testbed = Testbed(cluster.address, cluster)
        try:
            for _ in range(worker_nodes):
                testbed.add_node()
            yield testbed
        finally:
            own = testbed.processes()
            with suppress(AssertionError, OSError):
                cluster.shutdown()  # type: ignore[no-untyped-call]
            for process in own:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            psutil.wait_procs(own, timeout=5)
            time.sleep(0.2)
