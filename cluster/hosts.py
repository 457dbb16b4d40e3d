"""What runs on each node beside the dataset: its monitor, and processes that stand by.

The monitor is an actor; that of a local Ray is a thread of the driver, for a process more takes a
second of a core to start, 70 MB, and a hundredth of a core even if it does nothing.

A node that joins while the job runs is made ready as the others were before it began: its processes
start, its detector loads the model, and only then is its level of memory taken and real work let in.
"""

import logging
import os
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import ray
import ray.exceptions
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cluster.dataflow_spec import DataflowSpec
from cluster.meter import MemorySample
from cluster.nodes import Node, is_node_alive
from cluster.pools import works
from cluster.session import Session
from cluster.stages import stand_by
from cluster.telemetry import BesideRaylet, Forgive, NodeMonitor, all_of_driver, spilled_by

log = logging.getLogger(__name__)
# A node on which no detector begins, or loads its model, within so long works without one until one
# does: what waits there may be what keeps it out.
_BEGINS_WITHIN_S, _LOADS_WITHIN_S = 20.0, 120.0


@dataclass(frozen=True, slots=True)
class _Apart:
    """A monitor in an actor on its node."""

    actor: Any

    def ask(self, method: str, *given: object) -> Callable[[], Any]:
        """Ask; return what waits for the answer."""
        answer = getattr(self.actor, method).remote(*given)
        return lambda: ray.get(answer)

    def end(self) -> None:
        """End it."""
        ray.kill(self.actor)


@dataclass(frozen=True, slots=True)
class _InDriver:
    """A monitor in this process."""

    monitor: NodeMonitor

    def ask(self, method: str, *given: object) -> Callable[[], Any]:
        """Return what asks, and gives the answer."""
        return partial(getattr(self.monitor, method), *given)

    def end(self) -> None:
        """End it."""
        self.monitor.stop()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Newcomer:
    """A node that joined, and is not ready yet.

    Attributes:
        starting: What it is waited for, beside its detectors.
    """

    monitor: _Apart
    starting: list[Any]
    detectors: int
    since: float


class Hosts:
    """The nodes of a job, as the driver has them watched."""

    def __init__(
        self,
        spec: DataflowSpec,
        session: Session,
        supervisor: Any,  # noqa: ANN401 -- an actor handle
    ) -> None:
        """Begin to watch every node."""
        self._spec, self._supervisor = spec, supervisor
        self._here = ray.get_runtime_context().get_node_id()
        self._monitors: dict[str, _Apart | _InDriver] = {
            node.node_id: (self._in_driver if session.is_local else self._apart)(node)
            for node in session.nodes
        }
        self._newcomers: dict[str, _Newcomer] = {}
        self._late: dict[str, _Newcomer] = {}
        self._nodes, self._starting = session.nodes, list[Any]()

    def _in_driver(self, node: Node) -> _InDriver:
        return _InDriver(NodeMonitor(*self._given(node, all_of_driver)))

    def _apart(self, node: Node) -> _Apart:
        processes = BesideRaylet(os.getpid() if node.node_id == self._here else None)
        actor = ray.remote(NodeMonitor).options(num_cpus=0, **on(node.node_id))
        return _Apart(actor.remote(*self._given(node, processes)))

    def _given(
        self, node: Node, processes: Callable[[], Iterable[psutil.Process]]
    ) -> tuple[Any, ...]:
        """Return what a monitor is made with."""
        return (
            self._spec.log.provenance.run_id,
            node.node_id,
            processes,
            self._spec.memory.leak_bytes,
            Forgive(self._supervisor, node.node_id),
            spilled_by(node.address, node.port),
        )

    def _stand_by(self, node: Node) -> list[Any]:
        """Start as many processes on a node as decode at once there.

        They load what they need while detectors load their models. What cuts starts its own.
        """
        if not works(node):
            return []
        parties = self._spec.pools.decoders_on(node)
        task = ray.remote(stand_by).options(num_cpus=0, max_retries=0, **on(node.node_id))
        given = self._supervisor, node.node_id, parties, self._spec.warm_up, self._spec.decode
        return [task.remote(*given) for _ in range(parties)]

    @property
    def ready(self) -> list[str]:
        """The nodes that are watched, by their ids."""
        return list(self._monitors)

    def start_workers(self) -> None:
        """Start the processes that decode; see `wait_for_workers`."""
        self._starting = [each for node in self._nodes for each in self._stand_by(node)]

    def wait_for_workers(self) -> None:
        """Return once every node has the processes that it will use."""
        for each in self._starting:
            with suppress(ray.exceptions.RayError):
                # A node that dies just now is for others to notice.
                ray.get(each)

    def welcome(self, node: Node, detectors: int) -> None:
        """Make a node ready that joined; `detectors` are expected there."""
        monitor = self._apart(node)
        self._newcomers[node.node_id] = _Newcomer(
            monitor=monitor,
            starting=[monitor.actor.latest.remote(), *self._stand_by(node)],
            detectors=detectors,
            since=time.monotonic(),
        )

    def settled(self) -> dict[str, MemorySample]:
        """Return the level of each newcomer that has become ready since this was last asked.

        One whose detectors come late is told a second time, with their models.
        """
        levels = {}
        for node_id, new in [*self._newcomers.items(), *self._late.items()]:
            if not is_node_alive(node_id):
                self._newcomers.pop(node_id, None)
                self._late.pop(node_id, None)
            elif self._is_ready(node_id, new):
                with suppress(ray.exceptions.RayActorError):
                    # One that dies just now is seen to at the next look.
                    levels[node_id] = new.monitor.ask("settle")()
                    self._monitors[node_id] = new.monitor
        return levels

    def _is_ready(self, node_id: str, new: _Newcomer) -> bool:
        """Say whether a node has become ready; one that cannot wait any longer counts as late."""
        _, starting = ray.wait(new.starting, num_returns=len(new.starting), timeout=0)
        if starting:
            return False
        begun, loaded = ray.get(self._supervisor.detectors_on.remote(node_id))
        if loaded >= new.detectors:
            self._newcomers.pop(node_id, None)
            self._late.pop(node_id, None)
            return True
        patience_s = _LOADS_WITHIN_S if begun >= new.detectors else _BEGINS_WITHIN_S
        if node_id in self._late or time.monotonic() - new.since < patience_s:
            return False
        log.warning("No detector has come up yet on node %s, which joined", node_id[:8])
        self._late[node_id] = self._newcomers.pop(node_id)
        return True

    def settle(self) -> dict[str, MemorySample]:
        """Measure the memory of every node that is alive, now; it is the level to judge by."""
        return self._ask("settle")

    def sample(self) -> dict[str, MemorySample]:
        """Measure the memory of every node that is alive, now."""
        return self._ask("sample_anew")

    def latest(self) -> dict[str, MemorySample]:
        """Return the last sample of every node that is alive."""
        return {node: last for node, last in self._ask("latest").items() if last}

    def take_samples(self) -> dict[str, list[MemorySample]]:
        """Return the samples of every node since this was last asked."""
        return self._ask("take")

    def forget_recordings(self, folder: Path) -> None:
        """Remove recordings that came from S3 from the nodes' disks."""
        self._ask("forget_recordings", folder)

    def _ask(self, method: str, *given: object) -> dict[str, Any]:
        asked = {node: monitor.ask(method, *given) for node, monitor in self._monitors.items()}
        answers = {}
        for node, answer in asked.items():
            try:
                answers[node] = answer()
            except ray.exceptions.RayActorError:
                # It is gone with its node.
                del self._monitors[node]
        return answers

    def end(self) -> None:
        """End the monitors."""
        for monitor in (*self._monitors.values(), *(n.monitor for n in self._newcomers.values())):
            monitor.end()


def on(node_id: str) -> dict[str, Any]:
    """Return the options of what shall run on a node, and nowhere else."""
    return {"scheduling_strategy": NodeAffinitySchedulingStrategy(node_id, soft=False)}
