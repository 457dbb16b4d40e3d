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
from dataclasses import dataclass, replace
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

    The kernel walks all pages of a process to tell its PSS, some milliseconds for a large one; how
    many pages are its own, it tells at once. So a process has what was read last, and what its own
    have changed by since. It is read again when those that it may share have changed by more than
    `tolerance_bytes`; otherwise only every `READ_AGAIN` calls if it has changed at all, and every
    `READ_STILL` if it has not, for its share of common pages may have. Where one has come to or left
    pages of the object store, all that have some are read again: the others' shares are smaller, or
    larger, at that moment.
    """

    READ_AGAIN, READ_STILL = 10, 30

    def __init__(self, tolerance_bytes: int = MIB) -> None:
        self._tolerance_bytes = tolerance_bytes
        self._known: dict[int, _Known] = {}

    def measure(self, processes: Iterable[psutil.Process], *, anew: bool = False) -> Usage:
        """Return the sum over processes, all read `anew` or not; one that has ended counts nothing."""
        known: dict[int, _Known] = {} if anew else self._known
        self._known = {}
        residents: dict[int, _Resident] = {}
        for process in processes:
            # OSError: it has ended, or may not be looked at.
            with suppress(OSError):
                residents[process.pid] = _read_resident(process.pid)
        is_shared_anew = self._has_store_moved(known, residents)
        for pid, now in residents.items():
            with suppress(OSError):
                last = known.get(pid)
                is_shared = is_shared_anew and now.store_bytes > 0
                if last is None or is_shared or self._is_stale(last, now):
                    last = _Known(now, now, 0, _read_usage(pid))
                self._known[pid] = replace(last, now=now, age=last.age + 1)
        return sum(self.by_process.values(), Usage())

    def _has_store_moved(
        self, known: Mapping[int, "_Known"], residents: Mapping[int, "_Resident"]
    ) -> bool:
        """Say whether a process has more or less of the object store than when it was read."""
        before = {pid: last.read.store_bytes for pid, last in known.items()}
        now = {pid: resident.store_bytes for pid, resident in residents.items()}
        return any(
            abs(now.get(pid, 0) - before.get(pid, 0)) > self._tolerance_bytes
            for pid in before.keys() | now.keys()
        )

    def _is_stale(self, last: "_Known", now: "_Resident") -> bool:
        moved = abs(now.shared_bytes - last.read.shared_bytes) > self._tolerance_bytes
        return moved or last.age >= (self.READ_STILL if now == last.read else self.READ_AGAIN)

    @property
    def by_process(self) -> Mapping[int, Usage]:
        """What each process had at the last measurement, by its id."""
        return MappingProxyType({pid: known.usage_now for pid, known in self._known.items()})


@dataclass(frozen=True, slots=True)
class _Resident:
    """What a process has resident: pages of its own, and pages that it may share.

    Attributes:
        store_bytes: What of `shared_bytes` is shared memory: the object store.
    """

    own_bytes: int
    shared_bytes: int
    store_bytes: int = 0


@dataclass(frozen=True, slots=True)
class _Known:
    """What is known of a process: its usage as it was read, and what was resident then and now."""

    read: _Resident
    now: _Resident
    age: int
    usage: Usage

    @property
    def usage_now(self) -> Usage:
        more = self.now.own_bytes - self.read.own_bytes
        return self.usage + Usage(rss_bytes=more, pss_bytes=more, uss_bytes=more)


def _read_resident(pid: int) -> _Resident:
    """Read what a process has resident; see proc(5) for what counts as shared."""
    lines = Path(f"/proc/{pid}/status").read_bytes().splitlines()
    kib = {line.split(b":")[0]: int(line.split()[1]) for line in lines if line.startswith(b"Rss")}
    own, files, store = (kib.get(name, 0) * 1024 for name in (b"RssAnon", b"RssFile", b"RssShmem"))
    return _Resident(own, files + store, store)


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
