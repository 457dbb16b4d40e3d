"""What a run leaves beside its movement logs: `summary.json`, `failures`, `metrics`, an exit code."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cluster.dataflow import Outcome
from cluster.memory import MemoryPlan
from jobs.exits import EXIT_OK, EXIT_PARTIAL
from jobs.found import Survey
from jobs.labelling import label_failures, label_totals
from jobs.measured import Measured, read_measured
from jobs.refining import RefinedTotals
from jobs.spec import Start
from jobs.survey import printable_uri
from pipeline.atomic import remove
from pipeline.holdings import FootageResult, add_up
from pipeline.ledger import CameraLedger
from pipeline.records import Failure
from pipeline.sink import write_hashed
from pipeline.store import files, read
from pipeline.tables import Provenance, failures_table, rows_table

# The old service's names for where the time went, and the steps that they sum up.
_TIMINGS: Mapping[str, tuple[str, ...]] = {
    "aws_detection": ("aws_detection",),
    "yolo_detection": ("detect",),
    "tracking_update": ("track",),
    "movement_logging": ("write",),
    "frame_processing": ("demux", "decode"),
    "memory_management": ("memory",),
}


@dataclass(frozen=True, kw_only=True)
class RunEnd:
    """A finished start of a run: what is done of what it was asked for, and what could not be.

    Attributes:
        outcome: None if there was nothing left to work on.
        refined: What the refined tables of the wanted cameras hold.
        wall_s: Seconds from the start of the command.
        plan: How memory was divided on a node; None if nothing was left to work on.
    """

    start: Start
    found: Survey
    provenance: Provenance
    outcome: Outcome | None
    refined: RefinedTotals
    wall_s: float
    plan: MemoryPlan | None = None

    @cached_property
    def measured(self) -> Measured:
        """What `metrics` says of all starts of the run."""
        return read_measured(self.path)

    @cached_property
    def results(self) -> list[FootageResult]:
        """What is committed of each wanted video track, by this start or by earlier ones."""
        results = []
        for camera_id, footages in self.found.by_camera.items():
            committed = add_up(CameraLedger(self.path, camera_id).parts())
            for footage in footages:
                key = footage.source_uri, footage.track.video_track
                nothing = FootageResult(camera_id=camera_id, source_uri=key[0], video_track=key[1])
                results.append(committed.get(key, nothing))
        return results

    @property
    def path(self) -> Path:
        """Root of the tables."""
        return self.start.folder.path

    @property
    def failures(self) -> list[Failure]:
        """All of them: of the survey, of what is committed, and of labels."""
        return [
            *self.found.failures,
            *(f for result in self.results for f in result.failures),
            *self.label_failures,
        ]

    @cached_property
    def label_failures(self) -> list[Failure]:
        """Frames of the wanted cameras that have no labels, if labels are wanted."""
        cameras = self.found.cameras if self.start.labels else ()
        return label_failures(self.path, cameras)

    @property
    def status(self) -> str:
        """Return "completed", "partial" or "failed"."""
        if all(result.status == "completed" for result in self.results) and not self.failures:
            return "completed"
        return "partial" if any(result.frames for result in self.results) else "failed"

    @property
    def exit_code(self) -> int:
        """Return 0 if everything was processed, 3 if not; with `partial_ok` 0 if anything was."""
        is_enough = self.status == "partial" and self.start.settings.partial_ok
        return EXIT_OK if self.status == "completed" or is_enough else EXIT_PARTIAL

    def summary(self) -> dict[str, Any]:
        """Return what `summary.json` says."""
        outcome = self.outcome
        counted_s = outcome.ended_at - outcome.readiness.ready_at if outcome else 0.0
        frames_now = outcome.frames if outcome else 0
        return {
            "status": self.status,
            "exit_code": self.exit_code,
            "run_id": self.start.folder.run_id,
            "attempt_id": self.start.attempt_id,
            "frames": sum(result.frames for result in self.results),
            "frames_now": frames_now,
            "wall_s": round(self.wall_s, 3),
            "fps": round(frames_now / counted_s, 2) if counted_s > 0 else 0.0,
            "config": self.start.settings.plain(),
            "refined": asdict(self.refined),
            "labels": self._labels(),
            "recordings": _by_recording(self.results, self.failures),
            "memory_usage": self.memory_usage(),
            "memory_plan": self._plan(),
            "quantization": asdict(cost) if (cost := self.start.model.cost) else None,
            "ready_at": outcome.readiness.ready_at if outcome else None,
            "baseline_mb": self.memory_usage()["initial_mb"],
            "performance_timings": self.timings(),
        }

    def memory_usage(self) -> dict[str, Any]:
        """Return the memory of the fullest node in this start, in MiB."""
        here = [n for n in self.measured.memory if n.attempt_id == self.start.attempt_id]
        fullest = max(here, key=lambda node: node.peak_increase_mb, default=None)
        statuses = {node.status for node in here}
        worst = next((s for s in ("spilled", "exceeded") if s in statuses), "held")
        return {
            "initial_mb": round(fullest.baseline_mb, 1) if fullest else 0.0,
            "final_mb": round(fullest.final_mb, 1) if fullest else 0.0,
            "peak_increase_mb": round(max(0.0, fullest.peak_increase_mb), 1) if fullest else 0.0,
            "spilled_mb": round(max((node.spilled_mb for node in here), default=0.0), 1),
            "status": worst,
            "batch_size": self.start.settings.plain()["batch_size"],
            "memory_limit_mb": self.start.settings.memory_limit_mb,
        }

    def _labels(self) -> Mapping[str, float] | None:
        if self.start.labels is None:
            return None
        return label_totals(self.start.settings, self.path, self.label_failures)

    def _plan(self) -> dict[str, Any] | None:
        """Return how memory was divided, and what of it Ray Data kept to."""
        if self.plan is None or self.outcome is None:
            return None
        return {**self.plan.plain(), "in_flight_bytes_in_effect": self.outcome.in_flight_bytes}

    def timings(self) -> dict[str, float]:
        """Return seconds summed over workers and starts, under the old service's names."""
        return {name: round(self.measured.seconds(*steps), 3) for name, steps in _TIMINGS.items()}

    def write(self) -> None:
        """Write the survey's failures, and last the summary.

        Raises:
            OutputError: They cannot be written.
        """
        index, count = self.start.settings.shard_of
        if index == 0:
            write_survey_failures(self.path, self.found.uris, self.found.failures, self.provenance)
        name = "summary.json" if count == 1 else f"summary-{index}-of-{count}.json"
        self.start.folder.write_text(name, json.dumps(self.summary(), indent=2) + "\n")


def _survey_files(output: Path) -> list[Path]:
    return files(output / "failures", "survey-*.parquet")


def read_survey_failures(output: Path) -> list[dict[str, Any]]:
    """Return the rows of `failures` about recordings that could not be read at all."""
    return [
        row
        for path in _survey_files(output)
        for row in pq.ParquetFile(pa.BufferReader(read(path))).read().to_pylist()
    ]


def write_survey_failures(
    output: Path, uris: Sequence[str], failures: Sequence[Failure], made_by: Provenance
) -> None:
    """Bring the failures of recordings that cannot be read up to date.

    Those that an earlier start found in recordings that are not looked at now stay.

    Raises:
        OutputError: They cannot be written.
    """
    before = _survey_files(output)
    looked_at = {printable_uri(uri) for uri in uris}
    kept: list[dict[str, Any]] = []
    for row in read_survey_failures(output):
        # A kill may have left the last file and the one before it.
        if row["source_uri"] not in looked_at and row not in kept:
            kept.append(row)
    # The first table that has no row must be there too, for readers.
    rows_now = pa.concat_tables([failures_table(failures), rows_table("failures", kept)])
    written = write_hashed(output, "failures", "survey", rows_now, made_by)
    for path in before:
        if path != written:
            remove(path)


def _by_recording(
    results: Sequence[FootageResult], failures: Sequence[Failure]
) -> list[dict[str, Any]]:
    """List recordings, each with its video tracks; one that could not be read has none."""
    tracks: dict[str, list[dict[str, Any]]] = {f.source_uri: [] for f in failures}
    for result in results:
        tracks.setdefault(result.source_uri, []).append(
            {
                "video_track": result.video_track,
                "camera_id": result.camera_id,
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
