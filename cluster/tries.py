"""Work in a worker, try by try: each is announced to the supervisor first.

A try that killed its process is known that way, although nothing of the process is left to tell. What
fails leaves its step in band, as a gap, so that nothing vanishes and nobody waits.

Segments and batches travel several in a row, and a row is announced once. Only when it has failed is
each piece of it announced, and tried, by itself: then it is known which one does it.

    row a b c      announced: a b c            died
    row a b c      announced: a b c, 1 lost    a alone, done    b alone, died
    row a b c      announced: a b c, 2 lost    a alone, done    b alone, set aside    c alone, done
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from os import getpid
from time import sleep
from typing import Any

import ray

from cluster.attempts import MOST_ATTEMPTS, AttemptKey
from cluster.pace import Turn
from cluster.under_way import UnderWay
from cluster.upkeep import Upkeep
from pipeline.decode import DecodeSettings, decode, segment_failure
from pipeline.detect import Detector
from pipeline.errors import StepError
from pipeline.isolate import isolated
from pipeline.records import Detections, Failure, FootageKey, FrameBatch, Gap, Segment, Stretch
from pipeline.warmup import WARM_UP_KEY

# Who has to wait asks again, after twice as long each time: an answer costs a millisecond.
_ASK_AGAIN_S, _MOST_ASLEEP_S = 0.02, 0.5
# One a process: tasks come and go in it.
_upkeep = Upkeep()


@dataclass(frozen=True, slots=True)
class RemoteTries:
    """The supervisor's counting of tries, as seen from a worker."""

    supervisor: Any

    def admit(self, first: FootageKey) -> int:
        """Return once the real footage is let in: how many segments its first row is to have."""
        size: int = _answer_to(lambda: self.supervisor.admit.remote(first, here()))
        return size

    def cut(self, key: AttemptKey, size: int) -> int:
        """Announce a row of packets; return once it may go, with the size of the next."""
        most: int = _answer_to(lambda: self.supervisor.cut.remote(key, size))
        return most

    def begin(self, key: AttemptKey, pieces: int = 1) -> Turn:
        """Announce a try; return once there is room for it, with how it is to be done."""
        turn: Turn = _answer_to(lambda: self.supervisor.begin.remote(key, here(), getpid(), pieces))
        return turn

    def end(self, key: AttemptKey) -> None:
        """Say that the work is done; nobody waits for the answer."""
        self.supervisor.end.remote(key)

    def decoded(self, key: AttemptKey, segments: int, wall_s: float) -> None:
        """Say that a row is done, and how long it took; others may wait for its room."""
        ray.get(self.supervisor.decoded.remote(key, segments, wall_s))

    def detected(
        self, key: AttemptKey, took: Sequence[tuple[int, int, float]], notices: Sequence[str]
    ) -> None:
        """Say that a row is done, how long each batch took, and what a user should know."""
        self.supervisor.detected.remote(key, took, notices)


@cache
def here() -> str:
    """Return the node that this worker runs on."""
    node_id: str = ray.get_runtime_context().get_node_id()
    return node_id


def _answer_to(ask: Callable[[], Any]) -> Any:  # noqa: ANN401 -- whatever is answered
    asleep_s = _ASK_AGAIN_S
    while (answer := ray.get(ask())) is None:
        sleep(asleep_s)
        asleep_s = min(2 * asleep_s, _MOST_ASLEEP_S)
    return answer


def decoding_of(segment: Segment) -> AttemptKey:
    """Return what decoding a segment, or a row that begins with it, is called."""
    footage = segment.footage.key
    return AttemptKey(
        camera_id=footage.camera_id,
        sequence=footage.sequence,
        segment=segment.index,
        step="decode",
    )


def detecting_in(batch: FrameBatch) -> AttemptKey:
    """Return what detecting in a batch, or in a row that begins with it, is called."""
    place = batch.stretch
    return AttemptKey(
        camera_id=place.footage.camera_id,
        sequence=place.footage.sequence,
        segment=place.segment,
        step="detect",
        start=place.start,
    )


class DecodeTries:
    """Decodes the segments of a row, each in a child process once the row has failed.

    Whatever happens, item i of a segment is about positions [i * batch_size, (i + 1) * batch_size),
    with the batch size that the row's first try was told. Ray hands on the rows of a task that died
    once only, told by their number: so those of its next try must be about the same frames.
    """

    def __init__(
        self,
        segments: Sequence[Segment],
        settings: DecodeSettings,
        tries: RemoteTries,
        decode: Callable[..., Iterator[FrameBatch]] = decode,
        run_isolated: Callable[..., Iterator[Any]] = isolated,
    ) -> None:
        """Announce the row; return once there is room for it."""
        self._tries, self._decode, self._run_isolated = tries, decode, run_isolated
        self._key = decoding_of(segments[0])
        self._turn = tries.begin(self._key, len(segments))
        self._segments = len(segments)
        self._wall_s = 0.0
        self.settings = settings
        if segments[0].footage.key != WARM_UP_KEY:
            self.settings = replace(settings, batch_size=self._turn.batch_size)

    def decode(self, segment: Segment) -> Iterator[FrameBatch | Gap]:
        """Decode a segment, or set it aside."""
        upkeep = _upkeep.check(segment.wanted, self._turn)
        error: Exception = StepError("its process died each time")
        alone = replace(decoding_of(segment), is_alone=True)
        given = 0
        for run in self._ways(alone):
            try:
                for number, batch in enumerate(run(segment, self.settings)):
                    if number == given:
                        given += 1
                        self._wall_s += batch.spans[-1].wall_s if batch.spans else 0.0
                        yield replace(batch, spans=(*upkeep, *batch.spans)) if not number else batch
            except Exception as raised:  # noqa: BLE001 -- whatever it was, it is recorded in the gap
                error = raised
            else:
                if run != self._decode:
                    self._tries.end(alone)
                return
        self._tries.end(alone)
        yield from self._gaps(segment, error)[given:]

    def _ways(self, alone: AttemptKey) -> Iterator[Callable[..., Iterator[Any]]]:
        """Yield how to try next, for as long as it fails: first as part of the row, then alone."""
        if self._turn.failed == 0:
            yield self._decode
        while self._tries.begin(alone).failed < MOST_ATTEMPTS:
            yield partial(self._run_isolated, self._decode)

    def _gaps(self, segment: Segment, error: Exception) -> list[Gap]:
        failure = replace(
            segment_failure(
                segment,
                error,
                first=int(segment.frame_index[0]),
                last=int(segment.frame_index[-1]),
                frames=segment.wanted,
            ),
            attempts=MOST_ATTEMPTS,
        )
        size = self.settings.batch_size
        stretches = [
            Stretch(
                footage=segment.footage.key,
                segment=segment.index,
                start=start,
                stop=min(start + size, segment.wanted),
                wanted=segment.wanted,
            )
            for start in range(0, segment.wanted, size)
        ]
        return [
            Gap(stretch=stretch, failure=failure, spans=segment.spans * (stretch.start == 0))
            for stretch in stretches
        ]

    def end(self) -> None:
        """Say that the row is done."""
        self._tries.decoded(self._key, self._segments, self._wall_s)


class DetectTries:
    """Detects in the batches of a row.

    Rows may be detected in beside each other. While something is tried alone nothing else is under way:
    what kills the process then, is that.
    """

    def __init__(
        self, first: FrameBatch, detector: Detector, tries: RemoteTries, under_way: UnderWay
    ) -> None:
        """Announce the row that begins with a batch."""
        self._detector, self._tries, self._under_way = detector, tries, under_way
        self._key = detecting_in(first)
        self._turn = tries.begin(self._key)
        self._took: list[tuple[int, int, float]] = []

    def begin(self, batch: FrameBatch) -> Callable[[], Detections | Gap]:
        """Begin with a batch of the row; return what waits until it is detected, or set aside.

        The next one may be begun before it is called, for as long as all goes well.
        """
        if self._turn.failed:
            return lambda: self._alone(batch, StepError("its process died each time"))
        try:
            wait = self._under_way.begin(lambda: self._detector.begin(batch))
        except Exception as raised:  # noqa: BLE001 -- whatever it was, it is recorded in the gap
            error = raised
            return lambda: self._alone(batch, error)
        return lambda: self._finish(batch, wait)

    def _finish(self, batch: FrameBatch, wait: Callable[[], Detections]) -> Detections | Gap:
        try:
            found = wait()
        except Exception as error:  # noqa: BLE001 -- whatever it was, it is recorded in the gap
            return self._alone(batch, error)
        return self._done(batch, found)

    def _alone(self, batch: FrameBatch, error: Exception) -> Detections | Gap:
        """Detect in a batch by itself, or set it aside."""
        with self._under_way.alone():
            return self._try_alone(batch, error)

    def _try_alone(self, batch: FrameBatch, error: Exception) -> Detections | Gap:
        key = replace(detecting_in(batch), is_alone=True)
        while self._tries.begin(key).failed < MOST_ATTEMPTS:
            try:
                found = self._detector.begin(batch)()
            except Exception as raised:  # noqa: BLE001 -- whatever it was, it is recorded in the gap
                error = raised
            else:
                self._tries.end(key)
                return self._done(batch, found)
        self._tries.end(key)
        return Gap(stretch=batch.stretch, failure=_detect_failure(batch, error), spans=batch.spans)

    def _done(self, batch: FrameBatch, found: Detections) -> Detections:
        upkeep = _upkeep.check(len(batch.frame_index), self._turn)
        place, wall_s = batch.stretch, found.spans[-1].wall_s
        self._took.append((place.stop - place.start, len(batch.frame_index), wall_s))
        return replace(found, spans=(*found.spans, *upkeep))

    def end(self) -> None:
        """Say that the row is done, and what had to be done about memory."""
        self._tries.detected(self._key, self._took, self._detector.take_notices())


def _detect_failure(batch: FrameBatch, error: Exception) -> Failure:
    numbers = batch.frame_index
    return Failure(
        source_uri=batch.source_uri,
        video_track=batch.video_track,
        camera_id=batch.stretch.footage.camera_id,
        step="detect",
        error_class=type(error).__name__,
        message=str(error),
        first_frame=int(numbers[0]) if len(numbers) else None,
        last_frame=int(numbers[-1]) if len(numbers) else None,
        frames=batch.stretch.stop - batch.stretch.start,
        attempts=MOST_ATTEMPTS,
    )
