"""One camera's log: its detections, in any order, become its tables.

    arrivals ──> reorder ──> track ──> refine ──> movement ──> sink

The steps know nothing of each other; this is where they meet. A camera's footage goes on from one
recording to the next: the tracker stays, and a short gap between two recordings does not end a track.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa

from pipeline.movement import MovementLog, MovementSettings
from pipeline.records import (
    Detections,
    Failure,
    Footage,
    FootageEnd,
    Gap,
    Observation,
    TrackedFrame,
)
from pipeline.refine import Refiner
from pipeline.reorder import ReorderBuffer, WholeSegment
from pipeline.sink import PartWriter, part_name, write_table
from pipeline.tables import Provenance, date_of, rows_table, table, timestamp
from pipeline.timing import Span, Stopwatch
from pipeline.track import TRACKERS, UNTRACKED, TrackSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSettings:
    """What every camera's log needs to know."""

    output: Path
    track: TrackSettings
    class_names: tuple[str, ...]
    provenance: Provenance
    attempt_id: str


@dataclass(slots=True, kw_only=True)
class FootageResult:
    """What became of one video track of one recording."""

    footage: Footage
    status: str = "running"
    frames: int = 0
    frames_failed: int = 0
    tracks: int = 0
    movements: int = 0
    detections: int = 0
    failures: list[Failure] = field(default_factory=list)
    step_s: dict[str, float] = field(default_factory=dict)


class _OpenFootage:
    """The footage that is being logged: its part, and its rows so far."""

    def __init__(self, footage: Footage, settings: LogSettings) -> None:
        self.footage = footage
        self.buffer = ReorderBuffer(footage.key)
        self.waiting: deque[WholeSegment] = deque()
        self.result = FootageResult(footage=footage)
        self.track_ids: set[int] = set()
        self.metrics: list[dict[str, object]] = []
        name = part_name(footage.source_uri, footage.track.video_track)
        self.part = PartWriter(
            settings.output,
            footage.key.camera_id,
            name,
            settings.provenance,
            date=date_of(footage.start_time),
        )


class CameraLog:
    """Writes the tables of one camera."""

    def __init__(self, footages: Sequence[Footage], settings: LogSettings) -> None:
        """Begin the log of a camera whose footage is `footages`, oldest first."""
        self._settings = settings
        self._open = [_OpenFootage(footage, settings) for footage in footages]
        self._current = 0
        self._tracker = TRACKERS[settings.track.tracker](settings.track, footages[0].track.rate_fps)
        self._refiner = Refiner(settings.track.buffer_s)
        self._movement = MovementLog(
            MovementSettings(class_names=settings.class_names, end_s=settings.track.buffer_s)
        )
        self._track_watch, self._write_watch = Stopwatch("track"), Stopwatch("write")

    def push(self, arrival: Detections | Gap | FootageEnd) -> int:
        """Take an arrival; return how many more frames are logged, with those set aside.

        Raises:
            OutputError: The tables cannot be written.
        """
        key = arrival.footage if isinstance(arrival, FootageEnd) else arrival.stretch.footage
        target = self._open[key.sequence]
        before = self._frames_done()
        target.waiting.extend(target.buffer.push(arrival))
        self._advance()
        return self._frames_done() - before

    @property
    def finished(self) -> int:
        """How many footages are finished."""
        return self._current

    def _frames_done(self) -> int:
        return sum(o.result.frames + o.result.frames_failed for o in self._open)

    def _advance(self) -> None:
        """Log what is next in order, as far as it has come."""
        while self._current < len(self._open):
            current = self._open[self._current]
            while current.waiting:
                self._log(current, current.waiting.popleft())
            if not current.buffer.is_done:
                return
            self._finish(current)

    def _log(self, current: _OpenFootage, segment: WholeSegment) -> None:
        """Track the frames of a segment and write their rows."""
        result = current.result
        frames: list[TrackedFrame] = []
        spans: list[Span] = []
        for part in segment.parts:
            result.frames += len(part.frame_index)
            spans += part.spans
            with self._track_watch.running():
                for frame in self._tracked(current.footage, part):
                    frames.extend(self._refiner.push(frame))
            with self._write_watch.running():
                rows = self._detection_rows(current.footage, part)
                current.part.write("detections", rows)
        self._fail(result, segment.failures)
        self._write_movements(current, frames)
        count = sum(len(part.frame_index) for part in segment.parts)
        spans += [watch.span(frames=count) for watch in (self._track_watch, self._write_watch)]
        self._measure(current, segment.index, spans)

    def _measure(self, current: _OpenFootage, segment: int | None, spans: Sequence[Span]) -> None:
        """Add spans to the footage's metrics, a row for each process that a step ran in."""
        for step, pid in dict.fromkeys((span.step, span.pid) for span in spans):
            same = [span for span in spans if (span.step, span.pid) == (step, pid)]
            wall_s = sum(span.wall_s for span in same)
            current.result.step_s[step] = current.result.step_s.get(step, 0.0) + wall_s
            current.metrics.append(
                {
                    "attempt_id": self._settings.attempt_id,
                    "time": datetime.now(UTC),
                    "step": step,
                    "pid": pid,
                    "source_uri": current.footage.source_uri,
                    "camera_id": current.footage.key.camera_id,
                    "video_track": current.footage.track.video_track,
                    "segment": segment,
                    "wall_s": wall_s,
                    "cpu_s": sum(span.cpu_s for span in same),
                    "frames": sum(span.frames for span in same),
                }
            )

    def _clock_s(self, footage: Footage, pts_s: float) -> float:
        """Return the camera's own time: since its first recording began, if starts are known."""
        first = self._open[0].footage.start_time
        since = 0.0
        if first is not None and footage.start_time is not None:
            since = (footage.start_time - first).total_seconds()
        return since + pts_s - footage.origin_s

    def _tracked(self, footage: Footage, part: Detections) -> list[TrackedFrame]:
        frames = []
        bounds = np.searchsorted(part.frame_row, np.arange(len(part.frame_index) + 1))
        for row, (number, pts_s) in enumerate(zip(part.frame_index, part.pts_s, strict=True)):
            here = slice(bounds[row], bounds[row + 1])
            time_s = self._clock_s(footage, float(pts_s))
            boxes, confidence = part.boxes[here], part.confidence[here]
            ids = self._tracker.update(time_s, boxes, confidence, part.class_id[here])
            seen = [
                Observation(
                    track_id=int(track_id),
                    class_id=int(part.class_id[here][i]),
                    box=boxes[i].astype(np.float64),
                    confidence=float(confidence[i]),
                )
                for i, track_id in enumerate(ids)
                if track_id != UNTRACKED
            ]
            frames.append(
                TrackedFrame(
                    frame_index=int(number), pts_s=float(pts_s), time_s=time_s, observations=seen
                )
            )
        return frames

    def _detection_rows(self, footage: Footage, part: Detections) -> pa.Table:
        rows, names = part.frame_row, self._settings.class_names
        pts_s = part.pts_s[rows]
        return table(
            "detections",
            {
                "source_uri": [footage.source_uri] * len(rows),
                "video_track": [footage.track.video_track] * len(rows),
                "frame_index": part.frame_index[rows],
                "pts_s": pts_s,
                "timestamp": [
                    timestamp(footage.start_time, float(t) - footage.origin_s) for t in pts_s
                ],
                "class_id": part.class_id.astype(np.int32),
                "class_name": [names[number] for number in part.class_id],
                "confidence": part.confidence,
                **{
                    edge: np.ascontiguousarray(part.boxes[:, i])
                    for i, edge in enumerate(("x_min", "y_min", "x_max", "y_max"))
                },
            },
        )

    def _write_movements(self, current: _OpenFootage, frames: Sequence[TrackedFrame]) -> None:
        with self._write_watch.running():
            current.track_ids.update(o.track_id for f in frames for o in f.observations)
            current.part.write("movements", self._movement.rows(current.footage, frames))
            current.part.write("tracks", self._movement.ended())

    def _fail(self, result: FootageResult, failures: Sequence[Failure]) -> None:
        result.failures += failures
        result.frames_failed += sum(failure.frames for failure in failures)

    def _finish(self, current: _OpenFootage) -> None:
        """End a footage whose segments were all logged: commit its part, and go to the next."""
        end, result = current.buffer.end, current.result
        if end is not None:
            self._fail(result, end.failures)
            self._measure(current, None, end.spans)
        self._current += 1
        self._write_movements(current, list(self._refiner.flush()))
        if not self._goes_on(current.footage):
            self._tracker.forget()
            current.part.write("tracks", self._movement.ended(all_of_them=True))
        with self._write_watch.running():
            current.part.commit()
        self._measure(current, None, [self._write_watch.span(frames=0)])
        write_table(
            self._settings.output,
            "metrics",
            rows_table("metrics", current.metrics),
            f"{self._settings.attempt_id}-{current.part.name}",
            self._settings.provenance,
        )
        result.tracks = len(current.track_ids)
        result.movements = current.part.rows.get("movements", 0)
        result.detections = current.part.rows.get("detections", 0)
        result.status = _status(result)

    def _goes_on(self, footage: Footage) -> bool:
        """Say whether the next recording follows closely enough for tracks to go on into it."""
        if self._current >= len(self._open):
            return False
        following = self._open[self._current].footage
        duration_s = footage.track.duration_s
        if footage.start_time is None or following.start_time is None or duration_s is None:
            return False
        gap_s = (following.start_time - footage.start_time).total_seconds() - duration_s
        return abs(gap_s) <= self._settings.track.carry_over_s

    def close(self) -> list[FootageResult]:
        """End the log, and return what became of each footage.

        Segments that never came are failures: a run that ends early says what is missing.

        Raises:
            OutputError: The tables cannot be written.
        """
        while self._current < len(self._open):
            current = self._open[self._current]
            lost = _lost(current.footage)
            for segment in (*current.waiting, *current.buffer.drain(lost)):
                self._log(current, segment)
            current.waiting.clear()
            if current.buffer.end is None:
                self._fail(current.result, [lost])
            self._finish(current)
        return [opened.result for opened in self._open]


def _status(result: FootageResult) -> str:
    if not result.failures:
        return "completed"
    return "partial" if result.frames else "failed"


def _lost(footage: Footage) -> Failure:
    return Failure(
        source_uri=footage.source_uri,
        video_track=footage.track.video_track,
        camera_id=footage.key.camera_id,
        step="track",
        error_class="StepError",
        message="its end never came",
    )
