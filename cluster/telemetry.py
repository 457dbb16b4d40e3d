"""How much memory a job takes on each node, sampled while it runs; and the end of workers that leak."""

import logging
import math
import os
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import ray

from cluster.live import NodeGauges
from cluster.meter import MIB, MemoryMeter, MemorySample, Trimmer, Usage, family, gpu_bytes
from pipeline.cache import forget_recordings

log = logging.getLogger(__name__)
SAMPLE_EVERY_S = 1.0
# What the raylet has put on a disk is asked of it, which costs both of them.
_ASK_RAYLET_EVERY_S = 5.0
_STOPS_WITHIN_S = 5.0
# Until a process has loaded what it loads.
_SETTLES_S = 10.0
# So many samples in a row above the bound: memory that is on its way out does not count.
_PATIENCE = 5
# A process is looked at anew when what it shares has changed by so much.
_TOLERANCE_BYTES = 4 * MIB
# Of Ray's titles of processes: those that may be ended at any time, for others make their work anew.
_IDLE = "ray::IDLE"
_RECYCLABLE = ("decode_stage", "DetectStage", _IDLE)


@dataclass(frozen=True, slots=True)
class Forgive:
    """Tells the supervisor that a process of a node is ended through no fault of its work."""

    supervisor: Any
    node_id: str

    def __call__(self, pid: int, text: str) -> None:
        """Tell it, and why, before the process ends."""
        ray.get(self.supervisor.forgive.remote(self.node_id, pid, text))


class Leaks:
    """Finds processes that keep growing beyond what their work explains."""

    def __init__(self, bound_bytes: int, now: Callable[[], float] = time.monotonic) -> None:
        """Take `bound_bytes` as the growth that is explained."""
        self._bound_bytes, self._now = bound_bytes, now
        self._seen_at: dict[int, float] = {}
        self._level: dict[int, int] = {}
        self._streak: dict[int, int] = {}

    @property
    def growing(self) -> list[int]:
        """The processes that were above the bound at the last look."""
        return [pid for pid, streak in self._streak.items() if streak]

    def settle(self, uss_bytes: dict[int, int]) -> None:
        """Take what each process has to itself as its level: all of them have loaded what they load."""
        self._seen_at |= dict.fromkeys(uss_bytes, -math.inf)
        self._level |= uss_bytes
        self._streak.clear()

    def find(self, uss_bytes: dict[int, int]) -> list[tuple[int, int]]:
        """Take what each process has to itself; return (process, growth in bytes) of those to end."""
        for gone in self._seen_at.keys() - uss_bytes.keys():
            for known in (self._seen_at, self._level, self._streak):
                known.pop(gone, None)
        found = []
        for pid, size in uss_bytes.items():
            if self._now() - self._seen_at.setdefault(pid, self._now()) < _SETTLES_S:
                continue
            growth = size - self._level.setdefault(pid, size)
            self._streak[pid] = self._streak.get(pid, 0) + 1 if growth > self._bound_bytes else 0
            if self._streak[pid] >= _PATIENCE:
                found.append((pid, growth))
        return found


@dataclass(frozen=True, slots=True)
class BesideRaylet:
    """The job's processes on a node, for an actor there.

    A worker's parent is the node's raylet, so the raylet's descendants are all the workers there.

    Attributes:
        driver_pid: The driver's process, if it runs on this node.
    """

    driver_pid: int | None

    def __call__(self) -> Iterable[psutil.Process]:
        """Return them, Ray's own included."""
        roots = [os.getppid(), *([self.driver_pid] if self.driver_pid else [])]
        found = {p.pid: p for root in roots for p in family(root)}
        for process in _rays_own(roots[0]):
            found.setdefault(process.pid, process)
        return found.values()


def all_of_driver() -> Iterable[psutil.Process]:
    """Return the job's processes, for the driver of a local Ray: all of them descend from it."""
    return family(os.getpid())


class NodeMonitor:
    """Samples the memory of the job's processes on a node; each node has one."""

    def __init__(
        self,
        run_id: str,
        node: str,
        processes: Callable[[], Iterable[psutil.Process]],
        leak_bytes: int,
        forgive: Callable[[int, str], None],
        spilled_bytes: Callable[[], int],
    ) -> None:
        """Begin to sample.

        Args:
            run_id: Of the job.
            node: Its id.
            processes: Tells which they are.
            leak_bytes: Growth of a worker beyond which it is ended.
            forgive: Called before one is ended, with its process and why.
            spilled_bytes: What the node's Ray has put on a disk so far.
        """
        self._processes = processes
        self._meter, self._leaks = MemoryMeter(_TOLERANCE_BYTES), Leaks(leak_bytes)
        self._forgive, self._spilled_bytes = forgive, spilled_bytes
        self._spilled_before = self._spilled = spilled_bytes()
        self._asked_at = time.monotonic()
        self._titles: dict[int, str] = {}
        self._samples: list[MemorySample] = []
        self._latest: MemorySample | None = None
        self._gauges = NodeGauges(run_id, node)
        self._trimmer = Trimmer()
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            while not self._stopped.is_set():
                self.sample()
                self._trimmer.trim()
                self._stopped.wait(SAMPLE_EVERY_S)
        except Exception as error:  # noqa: BLE001 -- it is said, and whoever works on Ray will say more
            log.warning("Memory is not watched any more: %s", str(error).partition("\n")[0])

    def stop(self) -> None:
        """End the sampling."""
        self._stopped.set()
        self._thread.join(_STOPS_WITHIN_S)

    def sample(self, *, anew: bool = False) -> MemorySample:
        """Measure now; `anew` takes nothing over from before."""
        with self._lock:
            began = time.thread_time()
            usage = self._measure(anew=anew)
            if anew or time.monotonic() - self._asked_at >= _ASK_RAYLET_EVERY_S:
                self._spilled, self._asked_at = self._spilled_bytes(), time.monotonic()
            self._latest = MemorySample(
                time=time.time(),
                pss_mb=usage.pss_bytes / MIB,
                rss_mb=usage.rss_bytes / MIB,
                uss_mb=usage.uss_bytes / MIB,
                object_store_mb=usage.shared_bytes / MIB,
                spilled_mb=(self._spilled - self._spilled_before) / MIB,
                gpu_mem_mb=_in_mib(gpu_bytes(self._meter.by_process)),
                sampling_s=time.thread_time() - began,
            )
            self._samples.append(self._latest)
            self._gauges.show(self._latest)
            self._end_leaks()
            return self._latest

    def sample_anew(self) -> MemorySample:
        """Measure now, all of it."""
        return self.sample(anew=True)

    def settle(self) -> MemorySample:
        """Measure at readiness: from now on every process there is, is judged by what it grows."""
        sample = self.sample_anew()
        with self._lock:
            self._leaks.settle(self._uss_bytes())
        return sample

    def _uss_bytes(self) -> dict[int, int]:
        return {pid: usage.uss_bytes for pid, usage in self._meter.by_process.items()}

    def _measure(self, *, anew: bool) -> Usage:
        return self._meter.measure(self._processes(), anew=anew)

    def _end_leaks(self) -> None:
        found = self._leaks.find(self._uss_bytes())
        self._titles = {p: _work_of(p, self._titles.get(p, "")) for p in self._leaks.growing}
        for pid, growth in found:
            if title := self._titles[pid]:
                text = f"Ended a worker that kept growing: {title}, by {growth / MIB:.0f} MB"
                self._forgive(pid, text)
                with suppress(psutil.NoSuchProcess):
                    psutil.Process(pid).kill()

    def latest(self) -> MemorySample | None:
        """Return the last sample, if there is one."""
        return self._latest

    def forget_recordings(self, folder: Path) -> int:
        """Remove recordings of S3 that nobody reads any more from the node's disk; return the bytes."""
        return forget_recordings(folder)

    def take(self) -> list[MemorySample]:
        """Return the samples since this was last asked."""
        with self._lock:
            samples, self._samples = self._samples, []
            return samples


def _work_of(pid: int, known: str) -> str:
    """Return what a process does, or did when it was `known`; "" if it may not be ended at any time."""
    with suppress(psutil.Error, IndexError):
        title = psutil.Process(pid).cmdline()[0]
        if any(name in title for name in _RECYCLABLE):
            return known or title if title == _IDLE else title
    return known


def _in_mib(size: int | None) -> float | None:
    return None if size is None else size / MIB


def spilled_by(address: str, port: int) -> Callable[[], int]:
    """Return what asks a node's raylet how many bytes it has put on a disk, by spilling or without.

    A raylet that may not spill allocates in files, when the store is full and work has to go on.
    """

    def ask() -> int:
        from ray._private.internal_api import get_memory_info_reply

        asked: Any = get_memory_info_reply
        stats = asked(None, address, port).store_stats
        return int(stats.spilled_bytes_total + stats.object_store_bytes_fallback)

    return ask


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
