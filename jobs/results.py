"""What a run leaves beside its movement logs: `summary.json`, `failures`, `metrics`, an exit code."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cluster.dataflow import Outcome
from jobs.exits import EXIT_OK, EXIT_PARTIAL
from jobs.spec import Start
from jobs.survey import Survey, printable_uri
from pipeline.atomic import remove
from pipeline.holdings import FootageResult, add_up
from pipeline.ledger import CameraLedger
from pipeline.records import Failure
from pipeline.sink import write_hashed
from pipeline.tables import Provenance, failures_table, rows_table

# The old service's names for where the time went, and the steps that they sum up.
_TIMINGS = {
    "aws_detection": (),
    "yolo_detection": ("detect",),
    "tracking_update": ("track",),
    "movement_logging": ("write",),
    "frame_processing": ("demux", "decode"),
}


@dataclass(frozen=True, kw_only=True)
class RunEnd:
    """A finished start of a run: what is done of what it was asked for, and what could not be.

    Attributes:
        outcome: None if there was nothing left to work on.
        wall_s: Seconds from the start of the command.
    """

    start: Start
    found: Survey
    provenance: Provenance
    outcome: Outcome | None
    wall_s: float

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
        """All of them: of the survey, and of what is committed."""
        return [*self.found.failures, *(f for result in self.results for f in result.failures)]

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
            "batch_size": self.start.settings.batch_size,
            "memory_limit_mb": self.start.settings.memory_limit_mb,
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
        """Write the survey's failures, the memory rows of `metrics`, and last the summary.

        Raises:
            OutputError: They cannot be written.
        """
        index, count = self.start.settings.shard_of
        if index == 0:
            write_survey_failures(self.path, self.found.uris, self.found.failures, self.provenance)
        if self.outcome:
            rows = rows_table("metrics", list(self._memory_rows(self.outcome)))
            stem = f"attempt-{self.start.attempt_id}"
            write_hashed(self.path, "metrics", stem, rows, self.provenance)
        name = "summary.json" if count == 1 else f"summary-{index}-of-{count}.json"
        self.start.folder.write_text(name, json.dumps(self.summary(), indent=2) + "\n")

    def _memory_rows(self, outcome: Outcome) -> Iterator[dict[str, object]]:
        for node in outcome.memory:
            for sample in node.samples:
                yield {
                    "attempt_id": self.start.attempt_id,
                    "time": datetime.fromtimestamp(sample.time, UTC),
                    "step": "memory",
                    "node": node.node,
                    "rss_mb": sample.used_mb,
                    "object_store_mb": sample.object_store_mb,
                    "limit_mb": float(self.start.settings.memory_limit_mb),
                }


def _survey_files(output: Path) -> list[Path]:
    return sorted((output / "failures").glob("survey-*.parquet"))


def read_survey_failures(output: Path) -> list[dict[str, Any]]:
    """Return the rows of `failures` about recordings that could not be read at all."""
    return [
        row for path in _survey_files(output) for row in pq.ParquetFile(path).read().to_pylist()
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
