"""How much memory a job takes on each node, sampled while it runs."""

import os
import threading
import time
from dataclasses import dataclass

import psutil

from cluster.memory import MIB, MemoryMeter, family

SAMPLE_EVERY_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class MemorySample:
    """The memory of a job on a node at a moment, in MiB.

    Attributes:
        time: Unix time.
        used_mb: Sum of the PSS of the job's processes, Ray's included.
        object_store_mb: What of it is shared memory: the object store.
    """

    time: float
    used_mb: float
    object_store_mb: float


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeMemory:
    """The memory of a job on one node.

    Attributes:
        sampling_s: Seconds that the measurement itself took.
    """

    node: str
    samples: tuple[MemorySample, ...]
    sampling_s: float


class NodeMonitor:
    """Samples the memory of the job's processes on its node; one on each node.

    A worker's parent is the node's raylet, so the raylet's descendants are all the workers there.
    """

    def __init__(self, node: str, driver_pid: int | None) -> None:
        """Begin to sample; `driver_pid` is the driver's if it runs on this node."""
        self._node = node
        self._roots = [os.getppid(), *([driver_pid] if driver_pid else [])]
        self._meter = MemoryMeter()
        self._samples: list[MemorySample] = []
        self._sampling_s = 0.0
        self._lock = threading.Lock()
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while True:
            self.sample()
            time.sleep(SAMPLE_EVERY_S)

    def sample(self) -> MemorySample:
        """Measure now."""
        began = time.thread_time()
        processes = {p.pid: p for root in self._roots for p in family(root)}
        for process in _rays_own(self._roots[0]):
            processes.setdefault(process.pid, process)
        usage = self._meter.measure(processes.values())
        sample = MemorySample(
            time=time.time(),
            used_mb=usage.total_bytes / MIB,
            object_store_mb=usage.shared_bytes / MIB,
        )
        with self._lock:
            self._samples.append(sample)
            self._sampling_s += time.thread_time() - began
        return sample

    def latest_mb(self) -> float:
        """Return the memory of the job on this node at the last sample, in MiB."""
        with self._lock:
            return self._samples[-1].used_mb if self._samples else 0.0

    def report(self) -> NodeMemory:
        """Return all samples so far."""
        with self._lock:
            return NodeMemory(
                node=self._node, samples=tuple(self._samples), sampling_s=self._sampling_s
            )


def _rays_own(raylet: int) -> list[psutil.Process]:
    """Return the processes of Ray itself beside a raylet: on a head node its control service."""
    try:
        parent = psutil.Process(raylet).parent()
        siblings = parent.children() if parent and parent.pid > 1 else []
        if parent and parent.pid == 1:
            siblings = [p for p in parent.children() if p.name() in ("gcs_server", "raylet")]
    except psutil.Error:
        return []
    return siblings
