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


class MemoryMeter:
    """Measures the memory of processes as their PSS: each shared page is counted once.

    The kernel walks all pages of a process to tell its PSS, some milliseconds for a large one. So a
    process is read again when its resident size has changed by more than `tolerance_bytes`, and
    otherwise only every `READ_AGAIN` calls, for its share of common pages may have.
    """

    READ_AGAIN = 10

    def __init__(self, tolerance_bytes: int = MIB) -> None:
        self._tolerance_bytes = tolerance_bytes
        self._known: dict[int, tuple[int, int, int]] = {}

    def total_mb(self, processes: Iterable[psutil.Process]) -> float:
        """Return the sum over processes, in MiB; one that has just ended counts nothing."""
        known, self._known = self._known, {}
        for process in processes:
            with suppress(psutil.NoSuchProcess, psutil.AccessDenied, ProcessLookupError):
                rss = process.memory_info().rss
                before_rss, pss, age = known.get(process.pid, (-1, 0, self.READ_AGAIN))
                if age >= self.READ_AGAIN or abs(rss - before_rss) > self._tolerance_bytes:
                    before_rss, pss, age = rss, _pss_bytes(process.pid), 0
                self._known[process.pid] = before_rss, pss, age + 1
        return sum(pss for _, pss, _ in self._known.values()) / MIB


def _pss_bytes(pid: int) -> int:
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return 0
    lines = (line.split() for line in text.splitlines())
    return next((int(words[1]) * 1024 for words in lines if words[0] == "Pss:"), 0)


def family(pid: int) -> list[psutil.Process]:
    """Return a process and all its descendants; [] if it is gone."""
    try:
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def get_memory_usage() -> float:
    """Return the memory of this process and all its descendants, in MiB."""
    return MemoryMeter(tolerance_bytes=0).total_mb(family(os.getpid()))


def cleanup_memory() -> int:
    """Collect garbage; return the number of objects that were freed."""
    return gc.collect()


def check_memory_limit(current_usage_mb: float, limit_mb: float) -> bool:
    """Say whether a usage is within a limit; both in MiB."""
    return math.isfinite(current_usage_mb) and current_usage_mb <= limit_mb
