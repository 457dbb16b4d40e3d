"""One camera's labels: which frames need not be asked about again, and how answers become tables.

    asked ──> answered ──> gathered into tables, every 1,000 answers and at the end
       └────> failed   ──> a row of `failures`, at the end

A frame that was asked about is never asked about again by itself: what was paid for once, perhaps, is
asked again by `footfall retry` alone.
"""

import threading
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import groupby
from typing import Any

from pipeline.atomic import FileEntry
from pipeline.label_ledger import (
    FrameKey,
    LabelEntry,
    LabelLedger,
    LabelState,
    Unanswered,
    keys_of,
    told_of,
)
from pipeline.labels import METRICS_STEP, STEP, LabelSettings, rows_of
from pipeline.lease import check_held
from pipeline.ledger import camera_tag
from pipeline.records import Failure, Footage, LabelFrame
from pipeline.sink import PartWriter, write_table
from pipeline.tables import date_of, failures_table, rows_table, timestamp
from pipeline.timing import Span

# Of the failures of frames that more money would do something for.
OVER_LIMIT = "LimitError"
_LOST = (
    "its answer was lost with the process that asked, and may have been paid for: "
    "`footfall retry` asks again"
)
_MOST_NOTED = 1000
_ROWS_AT_ONCE = 4096


@dataclass(frozen=True, slots=True)
class _Failed:
    """Why a frame has no labels, and in which start of the run that turned out."""

    attempt_id: str
    failure: Failure


class LabelLog:
    """Knows what is on disk of a camera's labels, and adds to it; threads may share it."""

    def __init__(
        self,
        settings: LabelSettings,
        camera_id: str,
        *,
        retry: Collection[str] = (),
        has_room: bool = False,
    ) -> None:
        """Read what earlier starts of the run have left.

        Args:
            settings: Of the labels.
            camera_id: Whose.
            retry: Pictures of which what failed in earlier starts is forgotten, to be asked again.
            has_room: More may be spent: forget what failed because it might not.

        Raises:
            OutputError: An entry is damaged.
        """
        self._settings = settings
        self._ledger = LabelLedger(settings.output, camera_id)
        self._lock, self._gathering = threading.Lock(), threading.Lock()
        self._answered: dict[str, set[int]] = {}
        self._pending: set[FrameKey] = set()
        self._spans: list[tuple[Footage, Span]] = []
        self._entries = 0
        for entry in self._ledger.entries():
            self._entries = max(self._entries, entry.number + 1)
            for picture_id, numbers in entry.answered.items():
                self._answered.setdefault(picture_id, set()).update(numbers)
        noted = self._ledger.answers()
        # A process died between its entry and these.
        self._ledger.forget_answers([key for key in noted if self._is_answered(key)])
        noted = [key for key in noted if not self._is_answered(key)]
        for picture_id, number in noted:
            self._answered.setdefault(picture_id, set()).add(number)
        self._noted = len(noted)
        state = self._ledger.state()
        self._lost_calls = dict(state.lost_calls)
        self._failed = self._failures_of(state, retry, has_room=has_room)
        self._recover(state, retry)

    def _failures_of(
        self, state: LabelState, retry: Collection[str], *, has_room: bool
    ) -> dict[FrameKey, _Failed]:
        return {
            key: _Failed(each.attempt_id, _of_frame(each.failure, key[1]))
            for each in state.unanswered
            for key in keys_of(each)
            if key[0] not in retry
            and not self._is_answered(key)
            and not (has_room and each.failure.error_class == OVER_LIMIT)
        }

    def _recover(self, state: LabelState, retry: Collection[str]) -> None:
        """Take note of the calls that a process was in when it died."""
        told = told_of(state)
        for key, asked in self._ledger.asked().items():
            who = asked["attempt_id"]
            if (key, who) in told:
                continue
            self._lost_calls[who] = self._lost_calls.get(who, 0) + 1
            if key[0] not in retry or who == self._settings.attempt_id:
                self._failed[key] = _Failed(who, self._failure(asked, key[1], "StepError", _LOST))

    def _is_answered(self, key: FrameKey) -> bool:
        return key[1] in self._answered.get(key[0], ())

    def knows(self, key: FrameKey) -> bool:
        """Say whether nothing is to be done about a frame any more, or somebody is at it."""
        with self._lock:
            return self._is_answered(key) or key in self._failed or key in self._pending

    def claim(self, key: FrameKey) -> bool:
        """Take a frame on, if nobody has: it is the caller's to ask about."""
        with self._lock:
            if self._is_answered(key) or key in self._failed or key in self._pending:
                return False
            self._pending.add(key)
            return True

    def let_go(self, key: FrameKey) -> None:
        """Give a claimed frame back: nothing is known of it."""
        with self._lock:
            self._pending.discard(key)

    def ask(self, footage: Footage, frame: LabelFrame) -> None:
        """Note that a frame is about to be asked about.

        Raises:
            OutputError: It cannot be written.
        """
        self._ledger.note_asked(
            _key(footage, frame),
            {
                "attempt_id": self._settings.attempt_id,
                "source_uri": footage.source_uri,
                "video_track": footage.track.video_track,
            },
        )

    def unasked(self, footage: Footage, frame: LabelFrame) -> None:
        """Note that the call that was announced has cost nothing.

        Raises:
            OutputError: It cannot be written.
        """
        self._ledger.forget_asked(_key(footage, frame))

    def answer(
        self, footage: Footage, frame: LabelFrame, answer: dict[str, Any], span: Span
    ) -> None:
        """Take an answer: it is on disk then.

        Raises:
            OutputError: It cannot be written.
        """
        key = _key(footage, frame)
        moment = timestamp(footage.start_time, frame.pts_s - footage.origin_s)
        self._ledger.note_answer(
            key,
            {
                "attempt_id": self._settings.attempt_id,
                "source_uri": footage.source_uri,
                "video_track": footage.track.video_track,
                "pts_s": frame.pts_s,
                "timestamp": moment.isoformat() if moment else None,
                "rows": list(rows_of(answer, *footage.track.upright_size)),
            },
        )
        with self._lock:
            self._pending.discard(key)
            self._answered.setdefault(key[0], set()).add(key[1])
            self._spans.append((footage, span))
            self._noted += 1
            is_full = self._noted >= _MOST_NOTED
        if is_full:
            self.gather()

    def fail(
        self, footage: Footage, frame_index: int, error_class: str, message: str, *, paid: bool
    ) -> None:
        """Take note that a frame has no labels, and why.

        Args:
            footage: Whose frame.
            frame_index: Its number in the video track.
            error_class: The kind of the error.
            message: What it was.
            paid: A call may have been paid for.
        """
        key, who = (footage.picture_id, frame_index), self._settings.attempt_id
        about = {
            "source_uri": footage.source_uri,
            "video_track": footage.track.video_track,
        }
        failed = _Failed(who, self._failure(about, frame_index, error_class, message))
        with self._lock:
            self._pending.discard(key)
            self._failed[key] = failed
            if paid:
                self._lost_calls[who] = self._lost_calls.get(who, 0) + 1

    def forget_failures(self, is_outdated: Callable[[tuple[str, int], FrameKey], bool]) -> None:
        """Forget what failed in frames that are told by recording and video track, and their key."""
        with self._lock:
            self._failed = {
                key: failed
                for key, failed in self._failed.items()
                if not is_outdated(
                    (failed.failure.source_uri, failed.failure.video_track or 0), key
                )
            }

    def measure(self, footage: Footage, span: Span) -> None:
        """Take the time of a call that gave nothing."""
        with self._lock:
            self._spans.append((footage, span))

    def _failure(
        self, about: dict[str, Any], frame_index: int, error_class: str, message: str
    ) -> Failure:
        return Failure(
            source_uri=about["source_uri"],
            video_track=about["video_track"],
            camera_id=self._ledger.camera_id,
            step=STEP,
            error_class=error_class,
            message=message,
            first_frame=frame_index,
            last_frame=frame_index,
            frames=1,
        )

    def gather(self) -> None:
        """Put the answers that are noted into tables.

        Raises:
            OutputError: They cannot be written.
        """
        with self._gathering:
            keys = self._ledger.answers()
            with self._lock:
                spans, self._spans, self._noted = self._spans, [], 0
            if keys or spans:
                self._commit(keys, spans)
                self._ledger.forget_answers(keys)

    def _commit(self, keys: Sequence[FrameKey], spans: Sequence[tuple[Footage, Span]]) -> None:
        output, camera_id = self._settings.output, self._ledger.camera_id
        check_held(output, camera_id, self._settings.attempt_id)
        name = f"labels-{self._entries:06}-{uuid.uuid4().hex[:8]}"
        metrics = output / "metrics" / f"{camera_tag(camera_id)}-{name}.parquet"
        writer = label_writer(self._settings, camera_id, name)
        calls: dict[str, int] = {}
        recordings: dict[str, tuple[str, int]] = {}
        answered: dict[str, list[int]] = {}
        rows: list[dict[str, Any]] = []
        for key in keys:
            answer = self._ledger.answer(key)
            calls[answer["attempt_id"]] = calls.get(answer["attempt_id"], 0) + 1
            recordings[key[0]] = answer["source_uri"], answer["video_track"]
            answered.setdefault(key[0], []).append(key[1])
            rows += _table_rows(key, answer)
            if len(rows) >= _ROWS_AT_ONCE:
                writer.write("labels", rows_table("labels", rows))
                rows = []
        writer.write("labels", rows_table("labels", rows))
        files = writer.publish()
        if spans:
            measured = rows_table("metrics", list(self._measured(spans)))
            files.append(write_table(output, metrics, measured, self._settings.provenance))
        entry = LabelEntry(
            camera_id=camera_id,
            number=self._entries,
            calls=calls,
            recordings=recordings,
            answered={key: tuple(numbers) for key, numbers in answered.items()},
            files=tuple(files),
        )
        self._ledger.commit(entry)
        self._entries += 1

    def _measured(self, spans: Sequence[tuple[Footage, Span]]) -> Iterator[dict[str, Any]]:
        """Yield a row of `metrics` for each video track, of all calls together."""
        by_footage: dict[tuple[str, int], list[Span]] = {}
        for footage, span in spans:
            key = footage.source_uri, footage.track.video_track
            by_footage.setdefault(key, []).append(span)
        for (uri, number), same in by_footage.items():
            yield {
                "attempt_id": self._settings.attempt_id,
                "time": datetime.now(UTC),
                "step": METRICS_STEP,
                "pid": same[0].pid,
                "node": same[0].node or None,
                "source_uri": uri,
                "camera_id": self._ledger.camera_id,
                "video_track": number,
                "wall_s": sum(span.wall_s for span in same),
                "cpu_s": sum(span.cpu_s for span in same),
                "frames": sum(span.frames for span in same),
                "bytes": sum(span.bytes for span in same),
                "wait_s": sum(span.wait_s for span in same),
                "crossed_bytes": 0,
                "retries": sum(span.retries for span in same),
            }

    def close(self) -> None:
        """Put everything into tables, failures too, and remove what nobody needs; nothing may be open.

        Raises:
            OutputError: Something cannot be written.
        """
        self.gather()
        before = self._ledger.state()
        unanswered = tuple(self._unanswered())
        if (before.unanswered, before.lost_calls) != (unanswered, self._lost_calls):
            check_held(self._settings.output, self._ledger.camera_id, self._settings.attempt_id)
            self._ledger.commit(
                LabelState(
                    camera_id=self._ledger.camera_id,
                    lost_calls=self._lost_calls,
                    unanswered=unanswered,
                    files=tuple(self._publish_failures(unanswered)),
                )
            )
        for key in self._ledger.asked():
            self._ledger.forget_asked(key)
        self._ledger.sweep()

    def _unanswered(self) -> Iterator[Unanswered]:
        """Yield what failed, neighbours that failed alike together."""

        def alike(item: tuple[FrameKey, _Failed]) -> tuple[str, str, str, str]:
            (picture_id, _), failed = item
            failure = failed.failure
            return picture_id, failed.attempt_id, failure.error_class, failure.message

        items = sorted(self._failed.items(), key=lambda item: item[0])
        for (picture_id, attempt_id, *_), group in groupby(items, key=alike):
            same = list(group)
            first = same[0][1].failure
            numbers = tuple(number for (_, number), _ in same)
            yield Unanswered(
                picture_id=picture_id,
                attempt_id=attempt_id,
                frames=numbers,
                failure=replace(first, last_frame=numbers[-1], frames=len(numbers)),
            )

    def _publish_failures(self, unanswered: Iterable[Unanswered]) -> Iterator[FileEntry]:
        output, camera_id = self._settings.output, self._ledger.camera_id
        rows = failures_table([each.failure for each in unanswered])
        if len(rows):
            name = f"{camera_tag(camera_id)}-labels-{uuid.uuid4().hex[:8]}.parquet"
            yield write_table(output, output / "failures" / name, rows, self._settings.provenance)


def _key(footage: Footage, frame: LabelFrame) -> FrameKey:
    return footage.picture_id, frame.frame_index


def _of_frame(failure: Failure, number: int) -> Failure:
    return replace(failure, first_frame=number, last_frame=number, frames=1)


def label_writer(settings: LabelSettings, camera_id: str, name: str) -> PartWriter:
    """Return what writes a camera's table of labels, which is there even if it has no row."""
    writer = PartWriter(settings.output, camera_id, name, settings.provenance, date=date_of(None))
    writer.tables = ("labels",)
    return writer


def _table_rows(key: FrameKey, answer: dict[str, Any]) -> Iterator[dict[str, Any]]:
    moment = answer["timestamp"]
    for row in answer["rows"]:
        yield {
            **row,
            "source_uri": answer["source_uri"],
            "video_track": answer["video_track"],
            "frame_index": key[1],
            "pts_s": answer["pts_s"],
            "timestamp": datetime.fromisoformat(moment) if moment else None,
        }
