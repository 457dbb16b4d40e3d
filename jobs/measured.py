"""What the `metrics` table says of a run: where the time went, and how much memory it took.

`summary.json` and `footfall metrics` both read it here.
"""

from dataclasses import dataclass
from pathlib import Path

import duckdb

from pipeline.store import fetched, files

_MOST_READS = 5
# Of one step on one segment there is a row for each process that had a part in it.
_STEPS = """
select step, sum(wall_s), sum(cpu_s), sum(frames), sum(bytes), sum(wait_s),
    sum(crossed_bytes), sum(retries), count(distinct (node, pid))
from metrics where wall_s is not null and ($attempt = '' or attempt_id = $attempt)
group by step order by 2 desc
"""
_MEMORY = """
with ready as (
    select attempt_id, node, min(time) as ready_at, min(pss_mb) as level_mb
    from metrics where step = 'ready' group by attempt_id, node
)
select ready.attempt_id, ready.node, epoch(ready_at), level_mb, max(limit_mb),
    arg_max(pss_mb, time), max(increase_mb), max(object_store_mb), max(spilled_mb), max(gpu_mem_mb)
from ready join metrics using (attempt_id, node)
where step = 'memory' and time >= ready_at and ($attempt = '' or attempt_id = $attempt)
group by all order by 3, 2
"""
_ALERTS = """
select count(*) from metrics
where step = 'alert' and ($attempt = '' or attempt_id = $attempt)
"""


@dataclass(frozen=True, slots=True)
class StepTime:
    """What a step took, summed over its workers.

    Attributes:
        bytes: What it gave on.
        wait_s: How long work lay ready before it.
        crossed_bytes: Pixels that came to it from other nodes.
        retries: Requests to S3 that had to be made again.
        workers: Processes that did it.
    """

    step: str
    wall_s: float
    cpu_s: float
    frames: int
    bytes: int
    wait_s: float
    crossed_bytes: int
    retries: int
    workers: int

    @property
    def worker_fps(self) -> float:
        """Frames a second of one worker."""
        return self.frames / self.wall_s if self.wall_s and self.frames else 0.0

    @property
    def fps(self) -> float:
        """Frames a second of all its workers, if they did nothing else."""
        return self.worker_fps * self.workers


@dataclass(frozen=True, slots=True)
class NodeMemory:
    """The memory of one start of a run on one node, in MiB.

    Attributes:
        baseline_mb: The level when it was ready.
        final_mb: The last sample.
        peak_increase_mb: The most that was added since ready.
    """

    attempt_id: str
    node: str
    ready_at: float
    baseline_mb: float
    limit_mb: float
    final_mb: float
    peak_increase_mb: float
    object_store_mb: float
    spilled_mb: float
    gpu_mem_mb: float | None

    @property
    def status(self) -> str:
        """Return "held", "exceeded", or "spilled": the cap held, if at all, because of a disk."""
        if self.spilled_mb > 0:
            return "spilled"
        return "held" if self.peak_increase_mb <= self.limit_mb else "exceeded"


@dataclass(frozen=True, slots=True)
class Measured:
    """All of it, of one start of a run or of all."""

    steps: list[StepTime]
    memory: list[NodeMemory]
    alerts: int

    @property
    def fullest(self) -> NodeMemory | None:
        """The node that came nearest to its cap, the last start's where there are several."""
        last = [node for node in self.memory if node.attempt_id == self.memory[-1].attempt_id]
        return max(last, key=lambda node: node.peak_increase_mb, default=None)

    def seconds(self, *steps: str) -> float:
        """Return the seconds of some steps."""
        return sum(each.wall_s for each in self.steps if each.step in steps)


def read_measured(output: Path, attempt_id: str = "") -> Measured:
    """Read the `metrics` table of an output.

    Args:
        output: Root of the tables.
        attempt_id: One start of the run; "" means all.
    """
    for _ in range(_MOST_READS):
        try:
            return _read(output, attempt_id)
        except (duckdb.IOException, FileNotFoundError):
            # Another shard may have merged files that were listed a moment ago.
            continue
    return _read(output, attempt_id)


def _read(output: Path, attempt_id: str) -> Measured:
    paths = files(output / "metrics", "*.parquet")
    if not paths:
        return Measured([], [], 0)
    with fetched(*paths) as there, duckdb.connect() as connection:
        connection.read_parquet(list(map(str, there)), union_by_name=True).create_view("metrics")
        given = {"attempt": attempt_id}
        steps = connection.execute(_STEPS, given).fetchall()
        memory = connection.execute(_MEMORY, given).fetchall()
        alerts = connection.execute(_ALERTS, given).fetchone()
    return Measured(
        [
            StepTime(s, w, c, int(f or 0), int(b or 0), q or 0.0, int(x or 0), int(r or 0), n)
            for s, w, c, f, b, q, x, r, n in steps
        ],
        [NodeMemory(*row) for row in memory],
        int(alerts[0]) if alerts else 0,
    )
