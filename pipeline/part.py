"""The part of a camera's log that is being written: its tables, and what the ledger is to know of it.

It knows nothing of order or of tracking: `camera_log` says what belongs into it and when it is full.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.atomic import FileEntry
from pipeline.aws import AwsSettings
from pipeline.identity import to_plain
from pipeline.ledger import CameraLedger, Covered, Part, camera_tag
from pipeline.records import Detections, Failure, Footage, TrackedFrame, WholeSegment
from pipeline.sink import HELD_BYTES, MOST_DATES, PartWriter, write_table
from pipeline.tables import (
    Provenance,
    date_of,
    failures_table,
    rows_table,
    table,
    timestamp,
)
from pipeline.timing import Span
from pipeline.track import TrackSettings

# The first part comes soon, so that there is something to query; each next one is twice as long, until
# their size is what ends them.
FIRST_PART_FRAMES = 75
_DOUBLINGS = 64
# Rows of metrics that become a table at once.
_MOST_MEASURED = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSettings:
    """What every camera's log needs to know.

    Attributes:
        track_hash: Of the settings that turn detections into tracks.
        attempt_id: This start of the run.
        aws: How an output in S3 is reached.
        part_bytes: A part is committed when its largest table comes to this size.
        held_bytes: What each table of a camera may hold back in memory.
    """

    output: Path
    track: TrackSettings
    class_names: tuple[str, ...]
    provenance: Provenance
    track_hash: str
    attempt_id: str
    part_bytes: float
    aws: AwsSettings = field(default_factory=AwsSettings)
    held_bytes: int = HELD_BYTES


class OpenPart:
    """Collects a part, and commits it."""

    def __init__(self, settings: LogSettings, footage: Footage, number: int, tag: str) -> None:
        """Begin part `number` of a camera with `footage`.

        Args:
            settings: Of the log.
            footage: The first that is in it.
            number: Its place in the chain.
            tag: Makes its files' names its own: a dead writer may have left some of this number.
        """
        self._settings = settings
        self._camera_id = footage.key.camera_id
        self._number = number
        self._name = f"part-{number:06}-{number:06}-{tag}"
        self._own = f"{camera_tag(self._camera_id)}-{self._name}.parquet"
        ledger = CameraLedger(settings.output, self._camera_id).folder
        self._writer = PartWriter(
            settings.output,
            self._camera_id,
            self._name,
            settings.provenance,
            date=date_of(footage.start_time),
            paths={
                "frames": ledger / f"frames-{self._name.removeprefix('part-')}.parquet",
                "metrics": settings.output / "metrics" / self._own,
            },
        )
        self._writer.held_bytes = settings.held_bytes
        self._covers: dict[tuple[str, int], Covered] = {}
        self._footages: dict[tuple[str, int], Footage] = {}
        self._measured: list[dict[str, Any]] = []

    @property
    def is_full(self) -> bool:
        """Whether it has come to the size of a part; the first ones are full sooner."""
        frames = sum(cover.frames for cover in self._covers.values())
        soon = FIRST_PART_FRAMES * 2.0 ** min(self._number, _DOUBLINGS)
        is_large = self._writer.size_bytes() >= self._settings.part_bytes
        return frames >= soon or is_large or self._writer.dates >= MOST_DATES

    @property
    def covers(self) -> list[tuple[Footage, int, bool]]:
        """Its footages, each with the segment behind its last, and whether its end is here."""
        return [
            (self._footages[key], each.stop, each.is_ended) for key, each in self._covers.items()
        ]

    def add_segment(self, footage: Footage, segment: WholeSegment) -> None:
        """Take the detections of the footage's next segment, or that it was set aside.

        Raises:
            OutputError: The tables cannot be written.
        """
        cover = self._cover(footage, first=segment.index)
        cover.stop = segment.index + 1
        if segment.parts:
            self._writer.write("detections", self._detection_rows(footage, segment.parts))
            self._writer.write("frames", _frame_rows(footage, segment))
        for part in segment.parts:
            cover.frames += len(part.frame_index)
            cover.detections += len(part.frame_row)
        for failure in segment.failures:
            self._fail(cover, segment.index, failure)

    def add_end(self, footage: Footage, segments: int, failures: Iterable[Failure]) -> None:
        """Note that a footage has ended behind `segments` segments, and what it lacks as a whole."""
        cover = self._cover(footage, first=segments)
        cover.is_ended = True
        for failure in failures:
            self._fail(cover, None, failure)

    def add_movements(
        self, frames: Sequence[TrackedFrame], movements: pa.Table, tracks: pa.Table
    ) -> None:
        """Take rows of the movement log, of frames of this part's or of earlier ones' footage.

        Raises:
            OutputError: The tables cannot be written.
        """
        self._writer.write("movements", movements)
        self._writer.write("tracks", tracks)
        for frame in frames:
            if frame.observations:
                self._cover(frame.footage).movements += len(frame.observations)

    def count_track(self, footage: Footage) -> None:
        """Count a track that begins in a footage."""
        self._cover(footage).tracks += 1

    def measure(
        self, footage: Footage, segment: int | None, spans: Sequence[Span], attempt_id: str = ""
    ) -> None:
        """Take spans of work, a row of `metrics` for each process that a step ran in."""
        by_process: dict[tuple[str, str, int], list[Span]] = {}
        for span in spans:
            by_process.setdefault((span.step, span.node, span.pid), []).append(span)
        for (step, node, pid), same in by_process.items():
            self._measured.append(
                {
                    "attempt_id": attempt_id or self._settings.attempt_id,
                    "time": datetime.now(UTC),
                    "step": step,
                    "pid": pid,
                    "node": node or None,
                    "source_uri": footage.source_uri,
                    "camera_id": self._camera_id,
                    "video_track": footage.track.video_track,
                    "segment": segment,
                    "wall_s": sum(span.wall_s for span in same),
                    "cpu_s": sum(span.cpu_s for span in same),
                    "frames": sum(span.frames for span in same),
                    "bytes": sum(span.bytes for span in same),
                    "wait_s": sum(span.wait_s for span in same),
                    "crossed_bytes": sum(span.crossed_bytes for span in same),
                    "retries": sum(span.retries for span in same),
                }
            )
        if len(self._measured) >= _MOST_MEASURED:
            self._write_measured()

    def _write_measured(self) -> None:
        self._writer.write("metrics", rows_table("metrics", self._measured))
        self._measured = []

    def commit(self, ledger: CameraLedger, state: dict[str, Any], *, is_final: bool) -> None:
        """Publish the tables, then enter the part.

        Args:
            ledger: Of the camera.
            state: Of tracking, behind this part.
            is_final: Nothing is held back.

        Raises:
            OutputError: Something cannot be written.
        """
        self._write_measured()
        files = [*self._writer.publish(), *self._publish_failures()]
        ledger.commit(
            Part(
                camera_id=self._camera_id,
                first=self._number,
                last=self._number,
                track_hash=self._settings.track_hash,
                config_hash=self._settings.provenance.config_hash,
                is_final=is_final,
                covered=tuple(self._covers.values()),
                files=tuple(files),
                state=state,
            )
        )

    def _publish_failures(self) -> Iterable[FileEntry]:
        """Write the failures, if there are any."""
        output, made_by = self._settings.output, self._settings.provenance
        failures = [failure for cover in self._covers.values() for _, failure in cover.failures]
        if failures:
            rows = failures_table(failures)
            yield write_table(output, output / "failures" / self._own, rows, made_by)

    def _cover(self, footage: Footage, first: int = 0) -> Covered:
        key = footage.source_uri, footage.track.video_track
        if key not in self._covers:
            self._footages[key] = footage
            self._covers[key] = Covered(footage=to_plain(footage), first=first, stop=first)
        return self._covers[key]

    def _fail(self, cover: Covered, segment: int | None, failure: Failure) -> None:
        cover.failures.append((segment, failure))
        cover.frames_failed += failure.frames

    def _detection_rows(self, footage: Footage, parts: Sequence[Detections]) -> pa.Table:
        names = self._settings.class_names
        pts_s = np.concatenate([part.pts_s[part.frame_row] for part in parts])
        frame_index = np.concatenate([part.frame_index[part.frame_row] for part in parts])
        class_id = np.concatenate([part.class_id for part in parts])
        boxes = np.concatenate([part.boxes for part in parts])
        return table(
            "detections",
            {
                "source_uri": [footage.source_uri] * len(boxes),
                "video_track": [footage.track.video_track] * len(boxes),
                "frame_index": frame_index,
                "pts_s": pts_s,
                "timestamp": [
                    timestamp(footage.start_time, float(t) - footage.origin_s) for t in pts_s
                ],
                "class_id": class_id.astype(np.int32),
                "class_name": [names[number] for number in class_id],
                "confidence": np.concatenate([part.confidence for part in parts]),
                **{
                    edge: np.ascontiguousarray(boxes[:, i])
                    for i, edge in enumerate(("x_min", "y_min", "x_max", "y_max"))
                },
            },
        )


def _frame_rows(footage: Footage, segment: WholeSegment) -> pa.Table:
    frame_index = np.concatenate([part.frame_index for part in segment.parts])
    count = len(frame_index)
    return table(
        "frames",
        {
            "source_uri": [footage.source_uri] * count,
            "video_track": [footage.track.video_track] * count,
            "segment": [segment.index] * count,
            "frame_index": frame_index,
            "pts_s": np.concatenate([part.pts_s for part in segment.parts]),
        },
    )
