"""Watch the processes of a run from outside: what the kernel says they took of the CPU, and when."""

import math
import threading
import time
from bisect import bisect_right
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from cluster.meter import family

_SAMPLE_S = 0.5


@dataclass(slots=True)
class Watched:
    """A process as it was seen from outside.

    Attributes:
        titles: What it was called.
        samples: Unix time, and the CPU seconds that it had taken until then.
    """

    titles: set[str] = field(default_factory=set)
    samples: list[tuple[float, float]] = field(default_factory=list)

    def cpu_s(self, begin: float, end: float) -> float:
        """Return the CPU seconds between two moments."""
        return self._until(end) - self._until(begin)

    def _until(self, moment: float) -> float:
        place = bisect_right(self.samples, (moment, float("inf")))
        if place in (0, len(self.samples)):
            # Not there yet, or gone.
            return self.samples[-1][1] if place else 0.0
        (before, less), (behind, more) = self.samples[place - 1 : place + 1]
        return less + (more - less) * (moment - before) / (behind - before)


class Watch:
    """Watches a process and all that descends from it.

    Attributes:
        first_part_at: Unix time when rows of movements could be read first.
    """

    def __init__(self, root: int, output: Path) -> None:
        self.processes: dict[int, Watched] = {}
        self.first_part_at = math.inf
        self._root, self._movements = root, output / "movements"
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._done.wait(_SAMPLE_S):
            if math.isinf(self.first_part_at) and any(self._movements.rglob("*.parquet")):
                self.first_part_at = time.time()
            for process in family(self._root):
                try:
                    title, times = process.cmdline()[:1] or [process.name()], process.cpu_times()
                except psutil.Error:
                    # It has ended.
                    continue
                watched = self.processes.setdefault(process.pid, Watched())
                watched.titles.add(title[0])
                watched.samples.append((time.time(), times.user + times.system))
