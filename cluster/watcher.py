"""The thread that opens the gate when every step is warm, and then tells how far the job is."""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import ray

from cluster.actors import Actors
from cluster.supervisor import Progress

POLL_S = 0.2
REPORT_EVERY_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Readiness:
    """The moment from which speed and memory are counted.

    Attributes:
        ready_at: Unix time.
        baseline_mb: Memory of the job on each node then, by node.
    """

    ready_at: float
    baseline_mb: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Watch:
    """What a run tells while it goes on, from a thread of its own.

    Attributes:
        ready: Called once, when the job is ready.
        progress: Called often, with the memory of the fullest node in MiB.
    """

    ready: Callable[[Readiness], None]
    progress: Callable[[Progress, float], None]


class Watcher:
    """Opens the gate when every step is warm, then tells how far the job is."""

    def __init__(self, actors: Actors, watch: Watch) -> None:
        self._actors, self._watch = actors, watch
        self._readiness: Readiness | None = None
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
        self._look()

    def readiness(self) -> Readiness:
        """Return the moment from which the job counts."""
        if self._readiness is None:
            raise RuntimeError("the job ended before it was ready")
        return self._readiness

    def _run(self) -> None:
        try:
            ray.get([actor.ready.remote() for actor in self._actors.tracking])
            while not self._done.wait(POLL_S if self._readiness is None else REPORT_EVERY_S):
                self._look()
        except Exception as error:  # noqa: BLE001 -- kept for `stop`, which raises it
            self._error = error
            # Nobody shall wait for a gate that nobody will open.
            self._actors.supervisor.open_gate.remote()

    def _look(self) -> None:
        progress = ray.get(self._actors.supervisor.progress.remote())
        if self._readiness is None:
            if progress.is_warm:
                self._readiness = self._measure()
                self._watch.ready(self._readiness)
                ray.get(self._actors.supervisor.open_gate.remote())
        else:
            self._actors.give_up_stranded()
            latest_mb = self._actors.ask_monitors("latest_mb")
            self._watch.progress(progress, max(latest_mb, default=0.0))

    def _measure(self) -> Readiness:
        self._actors.ask_monitors("sample")
        return Readiness(
            ready_at=time.time(),
            baseline_mb={
                report.node: report.samples[-1].used_mb
                for report in self._actors.ask_monitors("report")
            },
        )
