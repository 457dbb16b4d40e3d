"""Measure a job's memory from outside: what the kernel says of its processes, and nothing of its own.

The product measures itself with `cluster.telemetry`; this is what holds it to account. It shares no
code with it on purpose.
"""

import subprocess
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

_EVERY_S = 0.5
_MIB = 1 << 20


@dataclass(slots=True)
class OutsideMeter:
    """Samples the sum of PSS of a process and all that descends from it.

    Attributes:
        root: The process.
        samples: (unix time, MiB).
        disk_backed_mb: Most of the object store that lay in files on a disk: what Ray falls back to
            when it may neither refuse nor spill.
    """

    root: int
    samples: list[tuple[float, float]] = field(default_factory=list)
    disk_backed_mb: float = 0.0

    def watch(self, process: "subprocess.Popen[bytes]", limit_s: float) -> bool:
        """Sample until the process ends; False if it has not within `limit_s` and was killed."""
        done = threading.Event()
        thread = threading.Thread(target=self._run, args=(done,), daemon=True)
        thread.start()
        try:
            process.wait(limit_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            return False
        finally:
            done.set()
            thread.join()
        return True

    def _run(self, done: threading.Event) -> None:
        while not done.wait(_EVERY_S):
            pids = _family(self.root)
            self.samples.append((time.time(), sum(map(_pss_bytes, pids)) / _MIB))
            self.disk_backed_mb = max(self.disk_backed_mb, *map(_fallen_back_mb, pids), 0.0)

    def level_at(self, moment: float) -> float:
        """Return the sample nearest to a moment, in MiB."""
        return min(self.samples, key=lambda sample: abs(sample[0] - moment))[1]

    def peak_after(self, moment: float) -> float:
        """Return the largest sample since a moment, in MiB."""
        return max((mb for when, mb in self.samples if when >= moment), default=0.0)


def _family(root: int) -> list[int]:
    """Return a process and its descendants, from the parents that /proc tells."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                stat = (entry / "stat").read_text()
            except OSError:
                continue
            parent = int(stat[stat.rindex(")") + 2 :].split()[1])
            children.setdefault(parent, []).append(int(entry.name))
    found, todo = [], [root]
    while todo:
        pid = todo.pop()
        found.append(pid)
        todo += children.get(pid, [])
    return found


def _pss_bytes(pid: int) -> int:
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:
        # It has ended.
        return 0
    return 0


def _fallen_back_mb(pid: int) -> float:
    """Return how much of the object store a process maps from files outside of shared memory."""
    total = 0
    try:
        lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
    except OSError:
        return 0.0
    for line in lines:
        bounds, *_, path = line.split(maxsplit=5)
        if "/plasma" in path and not path.startswith("/dev/shm"):
            begin, end = (int(word, 16) for word in bounds.split("-"))
            total += end - begin
    return total / _MIB
