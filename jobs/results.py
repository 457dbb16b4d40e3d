"""What a run leaves beside its movement logs: `summary.json`, `failures`, `metrics`, an exit code."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from cluster.dataflow import Outcome
from jobs.exits import EXIT_OK, EXIT_PARTIAL
from jobs.settings import JobSettings
from pipeline.camera_log import FootageResult
from pipeline.ledger import RunFolder
from pipeline.records import Failure
from pipeline.sink import write_table
from pipeline.tables import Provenance, failures_table, rows_table

# The old service's names for where the time went, and the steps that they sum up.
_TIMINGS = {
    "aws_detection": (),
    "yolo_detection": ("detect",),
    "tracking_update": ("track",),
    "movement_logging": ("write",),
    "frame_processing": ("demux", "decode"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEnd:
    """A finished run: what it did, and what it could not do.

    Attributes:
        outcome: None if there was nothing that could be worked on.
        failures: All of them: of the survey, and of the run.
        wall_s: Seconds from the start of the command.
    """

    settings: JobSettings
    run: RunFolder
    provenance: Provenance
    attempt_id: str
    outcome: Outcome | None
    failures: tuple[Failure, ...]
    wall_s: float

    @property
    def results(self) -> list[FootageResult]:
        """What became of each footage."""
        return self.outcome.results if self.outcome else []

    @property
    def status(self) -> str:
        """Return "completed", "partial" or "failed"."""
        if not self.failures:
            return "completed"
        return "partial" if any(result.frames for result in self.results) else "failed"

    @property
    def exit_code(self) -> int:
        """Return 0 if everything was processed, 3 if not."""
        return EXIT_PARTIAL if self.failures else EXIT_OK

    def summary(self) -> dict[str, Any]:
        """Return what `summary.json` says."""
        frames = sum(result.frames for result in self.results)
        outcome = self.outcome
        counted_s = outcome.ended_at - outcome.readiness.ready_at if outcome else 0.0
        return {
            "status": self.status,
            "exit_code": self.exit_code,
            "run_id": self.run.run_id,
            "frames": frames,
            "wall_s": round(self.wall_s, 3),
            "fps": round(frames / counted_s, 2) if counted_s > 0 else 0.0,
            "config": self.settings.plain(),
            "recordings": _by_recording(self.results, self.failures),
            "memory_usage": self.memory_usage(),
            "ready_at": outcome.readiness.ready_at if outcome else None,
            "baseline_mb": self.memory_usage()["initial_mb"],
            "performance_timings": self.timings(),
        }

    def memory_usage(self) -> dict[str, Any]:
        """Return the memory of the fullest node, in MiB."""
        usage = {"initial_mb": 0.0, "final_mb": 0.0, "peak_increase_mb": 0.0}
        if self.outcome:
            ready = self.outcome.readiness
            nodes = [
                {
                    "initial_mb": base,
                    "final_mb": node.samples[-1].used_mb,
                    "peak_increase_mb": max(
                        (s.used_mb - base for s in node.samples if s.time >= ready.ready_at),
                        default=0.0,
                    ),
                }
                for node in self.outcome.memory
                if node.samples and (base := ready.baseline_mb.get(node.node)) is not None
            ]
            usage = max(nodes, key=lambda node: node["peak_increase_mb"], default=usage)
        return {
            **{name: round(max(0.0, value), 1) for name, value in usage.items()},
            "batch_size": self.settings.batch_size,
            "memory_limit_mb": self.settings.memory_limit_mb,
        }

    def timings(self) -> dict[str, float]:
        """Return seconds summed over workers, under the old service's names."""
        seconds = {
            name: sum(r.step_s.get(step, 0.0) for r in self.results for step in steps)
            for name, steps in _TIMINGS.items()
        }
        sampling_s = sum(node.sampling_s for node in self.outcome.memory) if self.outcome else 0.0
        return {
            name: round(s, 3) for name, s in {**seconds, "memory_management": sampling_s}.items()
        }

    def write(self) -> None:
        """Write `failures`, the memory rows of `metrics`, and last `summary.json`.

        Raises:
            OutputError: They cannot be written.
        """
        path, made_by = self.run.path, self.provenance
        write_table(path, "failures", failures_table(self.failures), self.attempt_id, made_by)
        rows = rows_table("metrics", self._memory_rows())
        write_table(path, "metrics", rows, f"{self.attempt_id}-memory", made_by)
        self.run.write_summary(self.summary())

    def _memory_rows(self) -> list[dict[str, object]]:
        nodes = self.outcome.memory if self.outcome else []
        return [
            {
                "attempt_id": self.attempt_id,
                "time": datetime.fromtimestamp(sample.time, UTC),
                "step": "memory",
                "node": node.node,
                "rss_mb": sample.used_mb,
                "object_store_mb": sample.object_store_mb,
                "limit_mb": float(self.settings.memory_limit_mb),
            }
            for node in nodes
            for sample in node.samples
        ]


def _by_recording(
    results: Sequence[FootageResult], failures: Sequence[Failure]
) -> list[dict[str, Any]]:
    """List recordings, each with its video tracks; one that could not be read has none."""
    tracks: dict[str, list[dict[str, Any]]] = {f.source_uri: [] for f in failures}
    for result in results:
        tracks.setdefault(result.footage.source_uri, []).append(
            {
                "video_track": result.footage.track.video_track,
                "camera_id": result.footage.key.camera_id,
                "status": result.status,
                "frames": result.frames,
                "frames_failed": result.frames_failed,
                "tracks": result.tracks,
                "movements": result.movements,
            }
        )
    return [
        {"source_uri": uri, "video_tracks": sorted(tracks[uri], key=lambda t: t["video_track"])}
        for uri in sorted(tracks)
    ]
