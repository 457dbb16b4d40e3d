"""The memory of a run, as rows of `metrics`: written while it runs, so that a long one stays small."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from cluster.meter import MemorySample
from cluster.pace import Notice
from cluster.watcher import Readiness
from pipeline.run_folder import RunFolder
from pipeline.sink import write_hashed
from pipeline.tables import Provenance, rows_table

# A node has a row a second: two hours of one, minutes of a hundred.
_ROWS_A_FILE = 7200


class MemoryLog:
    """Collects rows of one start of a run, and writes them to files of their own.

    A row's `step` says what it is: "ready" (the level that the cap counts from), "memory" (a sample)
    or "alert" (what the log said then, in `message`).
    """

    def __init__(
        self, folder: RunFolder, provenance: Provenance, *, attempt_id: str, limit_mb: int
    ) -> None:
        self._folder, self._provenance = folder, provenance
        self._common = {"attempt_id": attempt_id, "limit_mb": float(limit_mb)}
        self._attempt_id = attempt_id
        self._baseline_mb: Mapping[str, float] = {}
        self._rows: list[dict[str, object]] = []
        self._files = 0

    def ready(self, readiness: Readiness) -> None:
        """Note the level of each node from which the cap counts."""
        self._levels(readiness.ready_at, readiness.baseline_mb)

    def joined(self, baseline_mb: Mapping[str, float]) -> None:
        """Note the level of nodes that have joined since."""
        self._levels(datetime.now(UTC).timestamp(), baseline_mb)

    def _levels(self, moment: float, baseline_mb: Mapping[str, float]) -> None:
        self._baseline_mb = {**self._baseline_mb, **baseline_mb}
        for node, level_mb in baseline_mb.items():
            self._add(moment, "ready", node=node, pss_mb=level_mb, increase_mb=0.0)

    def notice(self, notice: Notice) -> None:
        """Take what was said about memory."""
        now = datetime.now(UTC).timestamp()
        node, increase_mb = notice.node or None, notice.increase_mb or None
        self._add(now, "alert", node=node, increase_mb=increase_mb, message=notice.text)

    def samples(self, by_node: Mapping[str, Sequence[MemorySample]]) -> None:
        """Take samples; write a file when there are many.

        Raises:
            OutputError: It cannot be written.
        """
        for node, samples in by_node.items():
            level_mb = self._baseline_mb.get(node)
            for sample in samples:
                self._add(
                    sample.time,
                    "memory",
                    node=node,
                    pss_mb=sample.pss_mb,
                    rss_mb=sample.rss_mb,
                    uss_mb=sample.uss_mb,
                    object_store_mb=sample.object_store_mb,
                    spilled_mb=sample.spilled_mb,
                    gpu_mem_mb=sample.gpu_mem_mb,
                    increase_mb=None if level_mb is None else sample.pss_mb - level_mb,
                    wall_s=sample.sampling_s,
                    cpu_s=sample.sampling_s,
                )
        if len(self._rows) >= _ROWS_A_FILE:
            self.flush()

    def flush(self) -> None:
        """Write what there is.

        Raises:
            OutputError: It cannot be written.
        """
        if self._rows:
            stem = f"attempt-{self._attempt_id}-{self._files:04}"
            rows = rows_table("metrics", self._rows)
            write_hashed(self._folder.path, "metrics", stem, rows, self._provenance)
            self._files, self._rows = self._files + 1, []

    def _add(self, moment: float, step: str, **values: object) -> None:
        time = datetime.fromtimestamp(moment, UTC)
        self._rows.append({**self._common, "time": time, "step": step, **values})
