"""Asks for labels beside everything else: pictures in, rows on disk, nobody waits.

    take ──> backlog ──> threads, so many a second ──> log
             bounded     └── away: all wait, and one looks again, ever later

Whoever hands pictures over goes on at once. One that there is no room for is let go: nothing is known
of it then, and it is made and asked about again when there is time (`label_fill`). As long as pictures
may still come, the service may be away: it will be back. At the end it is asked some times more, and
then what waits has failed.
"""

import math
import threading
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from pipeline.aws import retries
from pipeline.backlog import Backlog, Waiting
from pipeline.label_budget import Budget
from pipeline.label_ledger import calls_made
from pipeline.label_log import OVER_LIMIT, LabelLog
from pipeline.labels import METRICS_STEP, LabelSettings, RateLimit
from pipeline.records import Footage, LabelFrame
from pipeline.rekognition import LabelsError, Rekognition
from pipeline.timing import Span, Stopwatch

# Pauses while the service gives no answer: twice as long each time.
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 20.0
# At the end, one that has answered is looked for so often, some minutes; one that never has, twice.
_LAST_LOOKS, _FIRST_LOOKS = 10, 2
# A frame that is refused as too fast so often, each time after ever longer waits, has failed.
_MOST_ROUNDS = 10
_MOST_THREADS = 16


class Service(Protocol):
    """Whoever gives labels."""

    def detect_labels(self, jpeg: bytes) -> dict[str, Any]:
        """Return the answer to DetectLabels; raises `LabelsError` if there is none."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelTotals:
    """What a labeller has come to.

    Attributes:
        calls: Of this start of the run.
        away: Why nobody could be asked, at the end; "" if somebody could.
    """

    calls: int
    away: str = ""


class Labeller:
    """Asks for the labels of pictures of some cameras, in threads of its own."""

    def __init__(
        self,
        settings: LabelSettings,
        camera_ids: Iterable[str],
        *,
        retry: Collection[str] = (),
        service: Callable[[LabelSettings], Service] = lambda settings: Rekognition(settings.aws),
    ) -> None:
        """Go on with what is on disk; the cameras' leases must be held.

        Args:
            settings: Of the labels.
            camera_ids: Whose pictures will come.
            retry: Pictures of which what failed in earlier starts may be asked about again.
            service: Finds whom to ask.

        Raises:
            ConfigError: It is not clear whom to ask.
            OutputError: What is on disk is damaged.
        """
        self._settings = settings
        self._service = service(settings)
        self._budget = Budget(settings.output, settings.attempt_id, settings.most_calls)
        has_room = not self._budget.is_spent
        self.logs = {
            each: LabelLog(settings, each, retry=retry, has_room=has_room) for each in camera_ids
        }
        self._rate = RateLimit(settings.max_tps)
        self._changed = threading.Condition()
        self._backlog = Backlog()
        self._busy = 0
        self._is_last = self._is_closing = False
        self._look_at = -math.inf
        self._in_vain = 0
        self._has_answered = False
        self._away = ""
        self._error: Exception | None = None
        size = min(_MOST_THREADS, max(2, math.ceil(2 * settings.max_tps)))
        self._threads = [
            threading.Thread(target=self._run, name=f"labels-{number}", daemon=True)
            for number in range(size)
        ]
        for thread in self._threads:
            thread.start()

    def take(self, footage: Footage, frames: Sequence[LabelFrame]) -> int:
        """Take pictures that nobody has taken on yet; return how many there was no room for."""
        log, let_go = self.logs[footage.key.camera_id], 0
        for frame in frames:
            key = footage.picture_id, frame.frame_index
            if not log.claim(key):
                continue
            if frame.reason:
                log.fail(footage, frame.frame_index, "SourceError", frame.reason, paid=False)
                continue
            with self._changed:
                has_room = self._backlog.put(
                    Waiting(footage=footage, frame=frame, since=time.time())
                )
                self._changed.notify()
            if not has_room:
                log.let_go(key)
                let_go += 1
        return let_go

    @property
    def waiting(self) -> int:
        """How many pictures wait, or are being asked about."""
        with self._changed:
            return 0 if self._error else len(self._backlog) + self._busy

    @property
    def hopeless(self) -> tuple[str, str] | None:
        """Why no more pictures need to come, as an error's kind and text; None if they may."""
        if self._is_given_up:
            return "SourceError", self._away
        return (OVER_LIMIT, self._over_limit) if self._budget.is_spent else None

    @property
    def _over_limit(self) -> str:
        return f"beyond {self._settings.limit}: raise it and start again"

    @property
    def _is_given_up(self) -> bool:
        """Whether who is away now is so for good."""
        most = _LAST_LOOKS if self._has_answered else _FIRST_LOOKS
        return self._is_last and bool(self._away) and self._in_vain >= most

    def end(self) -> None:
        """Say that the end is near: who is asked and is away from now on is so for good."""
        with self._changed:
            if not self._is_last:
                # Who was away a moment ago is asked once more.
                self._is_last, self._look_at, self._in_vain = True, -math.inf, 0
            self._changed.notify_all()

    def wait(self, *, below: int, seconds: float) -> bool:
        """Return whether fewer than so many pictures wait, as soon as that is so or time is up."""
        with self._changed:
            return self._changed.wait_for(
                lambda: self._error is not None or len(self._backlog) + self._busy < below, seconds
            )

    def close(self) -> LabelTotals:
        """Wait for what waits, put all into tables, and end.

        Raises:
            OutputError: Something cannot be written.
        """
        self.end()
        with self._changed:
            self._is_closing = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()
        if self._error is not None:
            raise self._error
        for log in self.logs.values():
            log.close()
        self._budget.end()
        calls = calls_made(self._settings.output, self._settings.attempt_id)
        return LabelTotals(calls=calls, away=self._away)

    def _run(self) -> None:
        while (waiting := self._next()) is not None:
            try:
                self._label(waiting)
            except Exception as error:  # noqa: BLE001 -- kept for `close`, which raises it
                self._error = error
            finally:
                with self._changed:
                    self._busy -= 1
                    self._changed.notify_all()

    def _next(self) -> Waiting | None:
        """Return a picture to ask about, as soon as there is one; None at the end."""
        with self._changed:
            while self._error is None:
                rest_s = 0.0 if self._is_given_up else self._look_at - time.monotonic()
                # Until somebody answers again, one at a time asks.
                is_open = rest_s <= 0 and not (self._in_vain and self._busy)
                waiting = self._backlog.take() if is_open or self._is_given_up else None
                if waiting:
                    self._busy += 1
                    return waiting
                if self._is_closing and not self._busy and not len(self._backlog):
                    self._changed.notify_all()
                    return None
                self._changed.wait(rest_s if rest_s > 0 else None)
            return None

    def _label(self, waiting: Waiting) -> None:
        footage, frame = waiting.footage, waiting.frame
        log = self.logs[footage.key.camera_id]
        if self._is_given_up:
            self._fail(waiting, "SourceError", self._away)
            return
        if not self._budget.take():
            self._fail(waiting, OVER_LIMIT, self._over_limit)
            return
        self._rate.wait()
        log.ask(footage, frame)
        watch = _CallWatch(waiting)
        try:
            answer = self._service.detect_labels(frame.jpeg)
        except LabelsError as error:
            log.measure(footage, watch.span())
            self._sort(waiting, error)
        else:
            self._note_answer()
            log.answer(footage, frame, answer, watch.span())

    def _sort(self, waiting: Waiting, error: LabelsError) -> None:
        """Deal with a call that gave no labels."""
        if error.kind == "refused":
            self._note_answer()
        else:
            self._note_in_vain(error)
        if error.kind == "lost":
            self._fail(waiting, type(error).__name__, str(error), paid=True)
            return
        self._budget.give_back()
        self.logs[waiting.footage.key.camera_id].unasked(waiting.footage, waiting.frame)
        if error.kind == "away":
            with self._changed:
                self._backlog.put_back(waiting)
        elif error.kind == "throttled" and waiting.rounds < _MOST_ROUNDS:
            with self._changed:
                self._backlog.put_back(replace(waiting, rounds=waiting.rounds + 1))
        else:
            self._fail(waiting, type(error).__name__, str(error))

    def _note_answer(self) -> None:
        with self._changed:
            self._away, self._in_vain, self._has_answered = "", 0, True

    def _note_in_vain(self, error: LabelsError) -> None:
        with self._changed:
            if error.kind != "throttled":
                self._away = str(error)
            # Of several that fail together the first one counts.
            if time.monotonic() >= self._look_at:
                doublings = min(self._in_vain, _MOST_ROUNDS)
                pause_s = min(_FIRST_PAUSE_S * 2**doublings, _LONGEST_PAUSE_S)
                self._in_vain += 1
                self._look_at = time.monotonic() + pause_s

    def _fail(
        self, waiting: Waiting, error_class: str, message: str, *, paid: bool = False
    ) -> None:
        log, number = self.logs[waiting.footage.key.camera_id], waiting.frame.frame_index
        log.fail(waiting.footage, number, error_class, message, paid=paid)


class _CallWatch:
    """Times one call; CPU is this thread's alone."""

    def __init__(self, waiting: Waiting) -> None:
        self._waiting = waiting
        self._waited_s = max(0.0, time.time() - waiting.since)
        self._wall, self._cpu = time.perf_counter(), time.thread_time()

    def span(self) -> Span:
        """Return the span until now."""
        span = Stopwatch(METRICS_STEP).span(frames=1, bytes_=len(self._waiting.frame.jpeg))
        return replace(
            span,
            retries=retries.take(),
            wall_s=time.perf_counter() - self._wall,
            cpu_s=time.thread_time() - self._cpu,
            wait_s=self._waited_s,
        )
