"""The thread that opens the gate when every step is warm, and then tells how far the job is."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import ray

from cluster.actors import Actors
from cluster.growth import Growth
from cluster.live import Queues
from cluster.meter import MemorySample, Trimmer, cleanup_memory
from cluster.pace import Notice
from cluster.stall import StallWatch
from cluster.supervisor import Progress

POLL_S = 0.2
REPORT_EVERY_S = 1.0
TAKE_SAMPLES_EVERY_S = 10.0
_TIDY_EVERY_S = 5.0
_FOLLOW_EVERY_S = 1.0
# Around the moment of readiness nothing happens, so that its level is one whoever measures it.
_QUIET_S = 0.3


@dataclass(frozen=True, slots=True, kw_only=True)
class Readiness:
    """The moment from which speed and memory are counted.

    Attributes:
        ready_at: Unix time.
        baseline_mb: Memory of the job on each node then, by node.
    """

    ready_at: float
    baseline_mb: Mapping[str, float]

    def increase_mb(self, latest: Mapping[str, MemorySample]) -> dict[str, float]:
        """Return what the job has added on each node that was there from the beginning."""
        return {
            node: sample.pss_mb - self.baseline_mb[node]
            for node, sample in latest.items()
            if node in self.baseline_mb
        }


@dataclass(frozen=True, slots=True)
class Watch:
    """What a run tells while it goes on, from a thread of its own.

    Attributes:
        ready: Called once, when the job is ready.
        progress: Called often, with the memory of the fullest node in MiB.
        notice: Called with what a user should know.
        joined: Called with the memory in MiB of nodes that have become ready later, by node.
        samples: Called now and then, with the memory of each node since it was last called.
    """

    ready: Callable[[Readiness], None]
    progress: Callable[[Progress, float], None]
    notice: Callable[[Notice], None]
    joined: Callable[[Mapping[str, float]], None]
    samples: Callable[[Mapping[str, Sequence[MemorySample]]], None]


@dataclass(frozen=True, slots=True)
class Rescue:
    """What is known of a dataset, and done about one that waits for what was lost.

    Attributes:
        watch: Says whether it does.
        end: Ends it.
        queues: Says what it holds between its steps.
    """

    watch: StallWatch
    end: Callable[[], None]
    queues: Callable[[], Queues]


class Watcher:
    """Opens the gate when every step is warm, then tells how far the job is."""

    def __init__(
        self, actors: Actors, growth: Growth, watch: Watch, rescue: Rescue, limit_mb: int
    ) -> None:
        self._actors, self._growth, self._watch, self._rescue = actors, growth, watch, rescue
        self._limit_mb = limit_mb
        self._readiness: Readiness | None = None
        self._trimmer = Trimmer()
        self._taken_at = self._tidied_at = self._followed_at = time.monotonic()
        self._error: Exception | None = None
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def stop(self, *, quietly: bool = False) -> None:
        """Look once more and end the watching; raise what went wrong in it, unless `quietly`."""
        self._done.set()
        if self._thread.is_alive():
            self._thread.join()
        if quietly:
            return
        if self._error is not None:
            raise self._error
        self._actors.hosts.sample()
        self._look()
        self._watch.samples(self._actors.hosts.take_samples())

    def readiness(self) -> Readiness:
        """Return the moment from which the job counts."""
        if self._readiness is None:
            raise RuntimeError("the job ended before it was ready")
        return self._readiness

    def _run(self) -> None:
        try:
            self._actors.ready()
            while not self._done.wait(POLL_S if self._readiness is None else REPORT_EVERY_S):
                self._look()
        except Exception as error:  # noqa: BLE001 -- kept for `stop`, which raises it
            self._error = error
            # Nobody shall wait for a gate that nobody will open.
            self._actors.supervisor.open_gate.remote()

    def _look(self) -> None:
        progress = ray.get(self._actors.supervisor.progress.remote())
        for notice in progress.notices:
            self._watch.notice(notice)
        if self._readiness is None:
            if progress.is_warm:
                self._readiness = self._measure()
                self._watch.ready(self._readiness)
                self._actors.open_gate()
            return
        self._trimmer.trim()
        self._growth.gave_up(self._actors.give_up_stranded())
        self._follow()
        if self._rescue.watch.has_stalled(progress.idle_s):
            self._rescue.end()
        latest = self._actors.hosts.latest()
        increase_mb = self._readiness.increase_mb(latest)
        self._actors.supervisor.observe.remote(increase_mb, self._rescue.queues())
        most_mb = max(increase_mb.values(), default=0.0)
        if most_mb > self._limit_mb and time.monotonic() - self._tidied_at > _TIDY_EVERY_S:
            self._tidied_at = time.monotonic()
            cleanup_memory()
            self._actors.tidy()
        used_mb = max((sample.pss_mb for sample in latest.values()), default=0.0)
        self._watch.progress(progress, used_mb)
        if time.monotonic() - self._taken_at > TAKE_SAMPLES_EVERY_S:
            self._taken_at = time.monotonic()
            self._watch.samples(self._actors.hosts.take_samples())

    def _follow(self) -> None:
        """See to nodes that joined; the level of each counts from when it is ready."""
        if time.monotonic() - self._followed_at < _FOLLOW_EVERY_S:
            return
        self._followed_at = time.monotonic()
        assert self._readiness is not None
        if levels := self._growth.follow():
            self._readiness = replace(
                self._readiness, baseline_mb={**self._readiness.baseline_mb, **levels}
            )
            self._watch.joined(levels)

    def _measure(self) -> Readiness:
        self._actors.hosts.wait_for_workers()
        cleanup_memory()
        time.sleep(_QUIET_S)
        samples = self._actors.hosts.settle()
        readiness = Readiness(
            ready_at=time.time(),
            baseline_mb={node: sample.pss_mb for node, sample in samples.items()},
        )
        time.sleep(_QUIET_S)
        return readiness
