"""How much memory a job may take on a node: the plan, what enforces it, and the measurement.

    memory_limit_mb ─┬─ object store   frame batches between decode and detect      40 %
                     ├─ decoders       frames that decord has run ahead             35 %
                     └─ heap           growth of every process                      25 %

The cap bounds what a job adds above its ready state. This is the one place that edits Ray Data's
context, and the one that reads how much memory processes have.
"""

import gc
import math
import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

MIB = 1 << 20
# Ray refuses a smaller store.
_LEAST_STORE_BYTES = 80 * MIB
_LEAST_AHEAD_BYTES = 8 * MIB
_MOST_AHEAD_BYTES = 160 * MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryPlan:
    """What each part of a job may take on a node, so that all of it stays under the cap.

    Attributes:
        limit_mb: The cap, in MiB.
        in_flight_bytes: Ray Data's limit on blocks in the store, per node.
        ahead_bytes: Decoded frames that one decoder may hold.
        decoders: Decoders at once on a node.
    """

    limit_mb: int
    in_flight_bytes: int
    ahead_bytes: int
    decoders: int


def plan_memory(limit_mb: int, decoders: int) -> MemoryPlan:
    """Divide a cap among the parts of a job on a node.

    Args:
        limit_mb: The cap in MiB.
        decoders: Decoders that the node's cores could feed; fewer are used under a small cap.
    """
    limit = limit_mb * MIB
    share = limit * 35 // 100
    decoders = max(1, min(decoders, share // (2 * _LEAST_AHEAD_BYTES)))
    return MemoryPlan(
        limit_mb=limit_mb,
        in_flight_bytes=limit * 40 // 100 * 3 // 4,
        ahead_bytes=min(_MOST_AHEAD_BYTES, share // decoders),
        decoders=decoders,
    )


def store_bytes(limit_mb: int) -> int:
    """Return the size of the object store of a node that we start, for a cap in MiB."""
    return max(limit_mb * MIB * 40 // 100, _LEAST_STORE_BYTES)


def apply_to_ray_data(plan: MemoryPlan, nodes: int) -> None:
    """Set up this process's Ray Data: one row a block, the plan's memory, no chatter.

    Ray's own limit is silently the lesser of ours and half the store, unless the fraction is raised.
    """
    # Imported here: Ray Data costs a second and 100 MB, and whoever only measures needs none of it.
    from ray.data import DataContext, ExecutionResources

    context = DataContext.get_current()
    # A block is closed at the first row that reaches this size: each row is a block of its own.
    context.target_max_block_size = 1
    context.target_min_block_size = 1
    context.execution_options.resource_limits = ExecutionResources.for_limits(
        object_store_memory=plan.in_flight_bytes * nodes
    )
    context.execution_options.preserve_order = False
    context.override_object_store_memory_limit_fraction = 1.0
    context.enable_progress_bars = False
    context.enable_operator_progress_bars = False
    context.print_on_execution_start = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Memory of processes, each shared page counted once.

    Attributes:
        total_bytes: All of it (PSS).
        shared_bytes: What of it is shared memory: the object store's pages.
    """

    total_bytes: int
    shared_bytes: int


class MemoryMeter:
    """Measures the memory of processes as their PSS.

    The kernel walks all pages of a process to tell its PSS, some milliseconds for a large one. So a
    process is read again when its resident size has changed by more than `tolerance_bytes`, and
    otherwise only every `READ_AGAIN` calls, for its share of common pages may have.
    """

    READ_AGAIN = 10

    def __init__(self, tolerance_bytes: int = MIB) -> None:
        self._tolerance_bytes = tolerance_bytes
        self._known: dict[int, tuple[int, int, Usage]] = {}

    def measure(self, processes: Iterable[psutil.Process]) -> Usage:
        """Return the sum over processes; one that has just ended counts nothing."""
        known, self._known = self._known, {}
        for process in processes:
            with suppress(psutil.NoSuchProcess, psutil.AccessDenied, OSError):
                rss = process.memory_info().rss
                last_rss, age, usage = known.get(process.pid, (-1, self.READ_AGAIN, None))
                moved = abs(rss - last_rss) > self._tolerance_bytes
                if usage is None or moved or age >= self.READ_AGAIN:
                    last_rss, age, usage = rss, 0, _read_usage(process.pid)
                self._known[process.pid] = last_rss, age + 1, usage
        usages = [usage for _, _, usage in self._known.values()]
        return Usage(
            total_bytes=sum(usage.total_bytes for usage in usages),
            shared_bytes=sum(usage.shared_bytes for usage in usages),
        )


def _read_usage(pid: int) -> Usage:
    """Read a process's usage from the kernel.

    Raises:
        OSError: It has ended, or may not be looked at.
    """
    words = [line.split() for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()]
    kib = {line[0]: int(line[1]) for line in words if line[0].startswith("Pss")}
    return Usage(
        total_bytes=kib.get("Pss:", 0) * 1024, shared_bytes=kib.get("Pss_Shmem:", 0) * 1024
    )


def family(pid: int) -> list[psutil.Process]:
    """Return a process and all its descendants; [] if it is gone."""
    try:
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def get_memory_usage() -> float:
    """Return the memory of this process and all its descendants, in MiB."""
    return MemoryMeter(tolerance_bytes=0).measure(family(os.getpid())).total_bytes / MIB


def cleanup_memory() -> int:
    """Collect garbage; return the number of objects that were freed."""
    return gc.collect()


def check_memory_limit(current_usage_mb: float, limit_mb: float) -> bool:
    """Say whether a usage is within a limit; both in MiB."""
    return math.isfinite(current_usage_mb) and current_usage_mb <= limit_mb
