"""One camera's log: its detections, in any order, become its tables.

    arrivals ──> reorder ──> track ──> fill ──> movement ──> part ──> ledger
                    └──> stage, what no part has taken yet    on disk
                         on disk

The steps know nothing of each other; this is where they meet. A camera's footage goes on from one
recording to the next: the tracker stays, and a short gap between two recordings does not end a track.

All that lasts is on disk. A log that is made again, after whatever death, reads the ledger and what is
staged, and goes on behind the last part as if nothing had been.
"""

import uuid
from collections.abc import Sequence
from dataclasses import replace

from pipeline.aws import retries
from pipeline.clock import CameraClock
from pipeline.compact import compact
from pipeline.fill import Filler
from pipeline.gain import Gain, gain_of_spans
from pipeline.lease import check_held
from pipeline.ledger import CameraLedger, Part
from pipeline.movement import MovementLog, MovementSettings
from pipeline.part import LogSettings, OpenPart
from pipeline.purged import read_begin
from pipeline.records import (
    Detections,
    Failure,
    Footage,
    FootageEnd,
    Gap,
    TrackedFrame,
    WholeSegment,
)
from pipeline.reorder import ReorderBuffer
from pipeline.staging import Staging
from pipeline.tail import Missing, Tail, progress
from pipeline.timing import Span, Stopwatch
from pipeline.trackers import make_tracker, tracked


class _OpenFootage:
    """A footage that is being logged: its buffer, filled with what is on disk."""

    def __init__(
        self, footage: Footage, stop: int | None, staging: Staging, first: int, attempt_id: str
    ) -> None:
        self.footage = footage
        self.is_cut_short = stop is not None
        # What nothing on disk tells of yet.
        self._whole: list[WholeSegment] = []
        self._end: FootageEnd | None = None
        self.buffer = ReorderBuffer(footage.key, first=first, keep=self._whole.append)
        self.has_begun = first > 0
        self._staging = staging
        self._attempt_id = attempt_id
        for number, read in staging.segments_of(footage).items():
            self.buffer.put(number, read)
        end = staging.end_of(footage)
        if stop is not None:
            end = FootageEnd(footage=footage.key, segments=stop)
        if end is not None:
            self.buffer.take(end)

    def take(self, arrival: Detections | Gap | FootageEnd) -> None:
        """Take an arrival into the buffer."""
        if isinstance(arrival, FootageEnd) and self.buffer.end is None:
            self._end = arrival
        self.buffer.take(arrival)

    @property
    def gain(self) -> Gain:
        """What has become whole, and is not on disk yet."""
        return sum((_gain_of(self.footage, segment) for segment in self._whole), Gain())

    def committed(self, stop: int, *, is_ended: bool) -> None:
        """Note that a part has taken the segments before `stop`, and perhaps the end."""
        # In place: the buffer adds to it.
        self._whole[:] = [segment for segment in self._whole if segment.index >= stop]
        self._end = None if is_ended else self._end
        self._staging.drop(self.footage, stop, is_ended=is_ended)

    def stage(self) -> None:
        """Put what has become whole on disk, in one file, and the end.

        Raises:
            OutputError: It cannot be written.
        """
        whole = sorted(self._whole, key=lambda segment: segment.index)
        self._staging.keep(
            self.footage, [replace(segment, attempt_id=self._attempt_id) for segment in whole]
        )
        self._whole.clear()
        if self._end is not None:
            self._staging.keep_end(self.footage, self._end)
            self._end = None


def _gain_of(footage: Footage, segment: WholeSegment) -> Gain:
    frames = sum(len(part.frame_index) for part in segment.parts)
    return Gain(
        frames=frames,
        segments=1,
        failed=int(not segment.parts),
        lost=sum(failure.frames for failure in segment.failures),
        video_s=footage.seconds_of(frames),
    )


class CameraLog:
    """Writes the tables of one camera."""

    def __init__(self, tail: Tail, settings: LogSettings) -> None:
        """Go on behind the camera's last part with the footage of `tail`.

        Raises:
            OutputError: The ledger is damaged.
        """
        self._settings, self._tail = settings, tail
        self._tag = uuid.uuid4().hex[:8]
        self._ledger = CameraLedger(settings.output, tail.camera_id)
        self._staging = Staging(settings.output, tail.camera_id)
        parts = self._ledger.parts()
        firsts, self._current = progress(tail, parts)
        self._open = [
            _OpenFootage(footage, stop, self._staging, first, settings.attempt_id)
            for footage, stop, first in zip(tail.footages, tail.stops, firsts, strict=True)
        ]
        self._number = parts[-1].last + 1 if parts else 0
        self._is_final = bool(parts) and parts[-1].is_final
        self._part: OpenPart | None = None
        self._tracker = make_tracker(settings.track)
        self._filler = Filler(settings.track.lost_after_s)
        self._movement = MovementLog(
            MovementSettings(class_names=settings.class_names, end_s=settings.track.lost_after_s)
        )
        self._clock = CameraClock(settings.track.carry_over_s)
        if parts:
            self._restore(parts[-1])
        elif begin := read_begin(settings.output, tail.camera_id, settings.track_hash):
            self._tracker.restore(begin.tracker)
            self._clock.restore(begin.clock)
        self._track_watch, self._write_watch = Stopwatch("track"), Stopwatch("write")
        # What the steps took, that nobody was told of yet.
        self._took = Gain()

    def _restore(self, last: Part) -> None:
        self._tracker.restore(last.state["tracker"])
        self._filler.restore(last.state["filler"])
        self._movement.restore(last.state["movement"])
        self._clock.restore(last.state["clock"])

    def _state(self) -> dict[str, object]:
        return {
            "tracker": self._tracker.state(),
            "filler": self._filler.state(),
            "movement": self._movement.state(),
            "clock": self._clock.state(),
        }

    def push(self, *arrivals: Detections | Gap | FootageEnd) -> Gain:
        """Take what arrives; return what is safe on disk now that was not before.

        Raises:
            OutputError: Something cannot be written.
        """
        targets: dict[int, _OpenFootage] = {}
        for arrival in arrivals:
            key = arrival.footage if isinstance(arrival, FootageEnd) else arrival.stretch.footage
            target = targets.setdefault(key.sequence, self._open[key.sequence])
            target.take(arrival)
        gain = sum((target.gain for target in targets.values()), Gain())
        self._advance()
        for target in targets.values():
            target.stage()
        return gain + self._take_took()

    def _take_took(self) -> Gain:
        took, self._took = self._took, Gain()
        return took

    @property
    def finished(self) -> int:
        """How many footages are logged to their end."""
        return self._current

    def missing(self) -> list[Missing]:
        """Return the footages that are not whole: work for another pass."""
        self._advance()
        return [
            Missing(footage=opened.footage.key, have=opened.buffer.have)
            for opened in self._open[self._current :]
            if opened.buffer.end is None or opened.buffer.missing()
        ]

    def _advance(self) -> None:
        """Log what is next in order, as far as it has come."""
        while self._current < len(self._open):
            current = self._open[self._current]
            for segment in current.buffer.in_order():
                self._log(current, segment)
            if not current.buffer.is_done:
                return
            self._finish(current)
        if not self._is_final:
            self._commit(is_final=True)

    def _begin(self, current: _OpenFootage) -> None:
        """Go on to a footage: tracks go on into it only if its time is known."""
        if current.has_begun:
            return
        current.has_begun = True
        if not self._clock.begin(current.footage):
            frames = list(self._filler.flush())
            self._tracker.forget()
            self._write_movements(current.footage, frames, all_ended=True)

    def _log(self, current: _OpenFootage, segment: WholeSegment) -> None:
        """Track the frames of a segment and write their rows."""
        self._begin(current)
        footage, part = current.footage, self._part_for(current.footage)
        part.add_segment(footage, segment)
        frames: list[TrackedFrame] = []
        with self._track_watch.running():
            for detections in segment.parts:
                for frame in tracked(self._tracker, self._clock, footage, detections):
                    frames.extend(self._filler.push(frame))
        self._write_movements(footage, frames)
        spans = [span for detections in segment.parts for span in detections.spans]
        self._measure(part, footage, segment.index, spans, segment.attempt_id)
        count = sum(len(detections.frame_index) for detections in segment.parts)
        # What an earlier start of the run has left on disk lay there for reasons of its own.
        ready_at = 0.0 if segment.attempt_id else max((s.ended_at for s in spans), default=0.0)
        self._measure(part, footage, segment.index, self._own_spans(count, ready_at))
        if part.is_full:
            self._commit(is_final=False)

    def _measure(
        self,
        part: OpenPart,
        footage: Footage,
        segment: int | None,
        spans: Sequence[Span],
        attempt_id: str = "",
    ) -> None:
        """Write down what work took; that of an earlier start of the run was told by it."""
        part.measure(footage, segment, spans, attempt_id)
        if not attempt_id:
            self._took += gain_of_spans(spans)

    def _own_spans(self, frames: int, ready_at: float) -> list[Span]:
        return [
            self._track_watch.span(frames=frames, ready_at=ready_at),
            self._write_watch.span(frames=frames, retries=retries.take()),
        ]

    def _part_for(self, footage: Footage) -> OpenPart:
        if self._part is None:
            self._part = OpenPart(self._settings, footage, self._number, self._tag)
            self._is_final = False
        return self._part

    def _write_movements(
        self, footage: Footage, frames: Sequence[TrackedFrame], *, all_ended: bool = False
    ) -> None:
        with self._write_watch.running():
            part = self._part_for(footage)
            rows = self._movement.rows(frames)
            for born in self._movement.born():
                part.count_track(born)
            part.add_movements(frames, rows, self._movement.ended(all_of_them=all_ended))

    def _finish(self, current: _OpenFootage) -> None:
        """End a footage whose segments were all logged, and go to the next."""
        end, footage = current.buffer.end, current.footage
        self._begin(current)
        if end is not None and not current.is_cut_short:
            part = self._part_for(footage)
            part.add_end(footage, end.segments, end.failures)
            self._measure(part, footage, None, end.spans)
        self._current += 1

    def _check_ours(self) -> None:
        """Make sure that no other run has the camera, or has had it meanwhile.

        Raises:
            OutputError: One has.
        """
        check_held(self._settings.output, self._tail.camera_id, self._settings.attempt_id)
        self._ledger.check_next(self._number)

    def _commit(self, *, is_final: bool) -> None:
        """Commit the open part; what it holds need not be staged any longer."""
        self._check_ours()
        last = self._tail.footages[min(self._current, len(self._open) - 1)]
        if is_final:
            self._write_movements(last, list(self._filler.flush()), all_ended=True)
            self._tracker.forget()
        part = self._part_for(last)
        part.commit(self._ledger, self._state(), is_final=is_final)
        taken = {footage.evidence_id: (stop, is_ended) for footage, stop, is_ended in part.covers}
        for opened in self._open:
            if opened.footage.evidence_id in taken:
                stop, is_ended = taken[opened.footage.evidence_id]
                opened.committed(stop, is_ended=is_ended)
        self._part, self._is_final = None, is_final
        self._number += 1

    def close(self) -> Gain:
        """End the log; return what its last work took.

        Segments that never came are failures: a run that ends early says what is missing.

        Raises:
            OutputError: Something cannot be written.
        """
        self._advance()
        while self._current < len(self._open):
            current = self._open[self._current]
            lost = _lost(current.footage)
            for segment in current.buffer.drain(lost):
                self._log(current, segment)
            if current.buffer.end is None:
                end = FootageEnd(
                    footage=current.footage.key, segments=current.buffer.next, failures=(lost,)
                )
                current.buffer.take(end)
            self._finish(current)
            self._advance()
        self._check_ours()
        self._staging.sweep({})
        self._ledger.sweep()
        compact(self._settings.output, self._tail.camera_id, self._settings.part_bytes)
        return self._take_took()


def _lost(footage: Footage) -> Failure:
    return Failure(
        source_uri=footage.source_uri,
        video_track=footage.track.video_track,
        camera_id=footage.key.camera_id,
        step="track",
        error_class="StepError",
        message="its end never came",
    )
