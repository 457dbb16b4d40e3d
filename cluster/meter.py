"""Measure memory: how much processes have, and the functions of the old service that ask.

What a job may have is for `memory`; who is measured, and when, for `telemetry`.
"""

import ctypes
import gc
import math
import os
import time
from collections.abc import Container, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import psutil

MIB = 1 << 20
_LIBC = ctypes.CDLL(None)
# From malloc.h.
_M_ARENA_MAX = -8


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Memory of a process, or of several.

    Attributes:
        rss_bytes: Resident, a shared page counted in each process that has it.
        pss_bytes: Resident, each shared page counted once, divided among those that have it.
        uss_bytes: What would come free if they ended.
        shared_bytes: What of `pss_bytes` is shared memory: the object store's pages.
    """

    rss_bytes: int = 0
    pss_bytes: int = 0
    uss_bytes: int = 0
    shared_bytes: int = 0

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            rss_bytes=self.rss_bytes + other.rss_bytes,
            pss_bytes=self.pss_bytes + other.pss_bytes,
            uss_bytes=self.uss_bytes + other.uss_bytes,
            shared_bytes=self.shared_bytes + other.shared_bytes,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class MemorySample:
    """The memory of a job on a node at a moment, in MiB.

    Attributes:
        time: Unix time.
        pss_mb: Sum over the job's processes, Ray's included, each shared page counted once.
        rss_mb: The same, a shared page counted in each process.
        uss_mb: What would come free if they ended.
        object_store_mb: What of `pss_mb` is shared memory: the object store.
        spilled_mb: What Ray put on a disk for want of memory since sampling began.
        gpu_mem_mb: Memory of the node's GPUs that these processes have; None without a GPU.
        sampling_s: CPU seconds that the measurement itself took.
    """

    time: float
    pss_mb: float
    rss_mb: float
    uss_mb: float
    object_store_mb: float
    spilled_mb: float
    gpu_mem_mb: float | None
    sampling_s: float


class MemoryMeter:
    """Measures the memory of processes.

    The kernel walks all pages of a process to tell its PSS, some milliseconds for a large one. So a
    process is read again when its resident size has changed by more than `tolerance_bytes`; otherwise
    only every `READ_AGAIN` calls if it has changed at all, and every `READ_STILL` if it has not, for
    its share of common pages may have.
    """

    READ_AGAIN, READ_STILL = 3, 12

    def __init__(self, tolerance_bytes: int = MIB) -> None:
        self._tolerance_bytes = tolerance_bytes
        self._known: dict[int, tuple[int, int, Usage]] = {}

    def measure(self, processes: Iterable[psutil.Process], *, anew: bool = False) -> Usage:
        """Return the sum over processes, all read `anew` or not; one that has ended counts nothing."""
        known: dict[int, tuple[int, int, Usage]] = {} if anew else self._known
        self._known = {}
        for process in processes:
            with suppress(psutil.NoSuchProcess, psutil.AccessDenied, OSError):
                rss = process.memory_info().rss
                last_rss, age, usage = known.get(process.pid, (-1, 0, None))
                moved = abs(rss - last_rss) > self._tolerance_bytes
                good_for = self.READ_STILL if rss == last_rss else self.READ_AGAIN
                if usage is None or moved or age >= good_for:
                    last_rss, age, usage = rss, 0, _read_usage(process.pid)
                self._known[process.pid] = last_rss, age + 1, usage
        return sum(self.by_process.values(), Usage())

    @property
    def by_process(self) -> Mapping[int, Usage]:
        """What each process had at the last measurement, by its id."""
        return MappingProxyType({pid: usage for pid, (_, _, usage) in self._known.items()})


def _read_usage(pid: int) -> Usage:
    """Read a process's usage from the kernel.

    Raises:
        OSError: It has ended, or may not be looked at.
    """
    words = [line.split() for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()]
    kib = {line[0]: int(line[1]) for line in words if line[-1] == "kB"}
    private = kib.get("Private_Clean:", 0) + kib.get("Private_Dirty:", 0)
    return Usage(
        rss_bytes=kib.get("Rss:", 0) * 1024,
        pss_bytes=kib.get("Pss:", 0) * 1024,
        uss_bytes=private * 1024,
        shared_bytes=kib.get("Pss_Shmem:", 0) * 1024,
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
    return MemoryMeter(tolerance_bytes=0).measure(family(os.getpid())).pss_bytes / MIB


def cleanup_memory() -> int:
    """Collect garbage and give free memory back to the system; return the number of objects freed."""
    freed = gc.collect()
    trim_heap()
    return freed


def trim_heap() -> None:
    """Give the free parts of this process's heap back to the system: a millisecond or a few."""
    if trim := getattr(_LIBC, "malloc_trim", None):
        trim(0)


def keep_heaps_few() -> None:
    """Have the threads that this process will start share two heaps, not keep one each.

    For those that we start the environment says so (MALLOC_ARENA_MAX); this is for one that runs.
    """
    if mallopt := getattr(_LIBC, "mallopt", None):
        mallopt(_M_ARENA_MAX, 2)


class Trimmer:
    """Trims this process's heap now and then: what is free between two living objects adds up."""

    def __init__(self, every_s: float = 5.0) -> None:
        """Trim every `every_s` seconds at most."""
        self._every_s = every_s
        self._trimmed_at = time.monotonic()

    def trim(self) -> None:
        """Trim if it is time."""
        now = time.monotonic()
        if now - self._trimmed_at >= self._every_s:
            self._trimmed_at = now
            trim_heap()


def check_memory_limit(current_usage_mb: float, limit_mb: float) -> bool:
    """Say whether a usage is within a limit; both in MiB."""
    return math.isfinite(current_usage_mb) and current_usage_mb <= limit_mb


def gpus_here() -> int:
    """Return how many NVIDIA GPUs this machine has; 0 where there is no driver."""
    import pynvml  # type: ignore[import-untyped]

    try:
        pynvml.nvmlInit()
        return int(pynvml.nvmlDeviceGetCount())
    except pynvml.NVMLError:
        return 0


def gpu_bytes(processes: Container[int]) -> int | None:
    """Return the memory of this machine's GPUs that processes have; None where there is no GPU.

    In a container the driver may not know our processes' ids; then it is that of all processes.
    """
    import pynvml

    try:
        pynvml.nvmlInit()
        gpus = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]
        every = [one for gpu in gpus for one in pynvml.nvmlDeviceGetComputeRunningProcesses(gpu)]
    except pynvml.NVMLError:
        return None
    ours = [one for one in every if one.pid in processes]
    return sum(one.usedGpuMemory or 0 for one in ours or every) if gpus else None
