"""The steps as Ray Data runs them: a block of one record in, blocks of one record out.

What fails in a step leaves it in band, as a gap, so that nothing vanishes and nobody waits. Each try
is announced to the supervisor first: a try that killed its process is known, although nothing of the
process is left to tell.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from os import getpid
from typing import Any

import pyarrow as pa
import ray

from cluster.attempts import MOST_ATTEMPTS, AttemptKey
from cluster.meter import Trimmer
from cluster.pace import Turn
from cluster.pools import PUSH_ROWS
from cluster.rows import from_rows, to_row
from cluster.upkeep import Upkeep
from pipeline.backend import DetectSettings
from pipeline.decode import DecodeSettings, decode, segment_failure
from pipeline.decoders import import_decord
from pipeline.demux import DemuxSettings, cut
from pipeline.detect import Detector
from pipeline.errors import StepError
from pipeline.isolate import isolated
from pipeline.letterbox import Letterbox
from pipeline.records import (
    Detections,
    Failure,
    Footage,
    FootageEnd,
    FootageKey,
    FrameBatch,
    Gap,
    Segment,
    Stretch,
)
from pipeline.warmup import WARM_UP_KEY, warm_up_segment
from pipeline.weights import install


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmUp:
    """Work without footage: one full-size batch through every step."""

    letterbox: Letterbox
    frames: int
    number: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """Video tracks of one recording, and the segments of them that need not be made again."""

    footages: tuple[Footage, ...]
    have: Mapping[FootageKey, frozenset[int]]


Work = WarmUp | Cut


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where frame batches come from: the functions behind the first two steps.

    Another decoder finds its door here; both are found by name in the workers.

    Attributes:
        cut: As `pipeline.demux.cut`.
        decode: As `pipeline.decode.decode`.
    """

    cut: Callable[..., Iterator[Segment | FootageEnd]] = cut
    decode: Callable[..., Iterator[FrameBatch]] = decode


# One a process: tasks come and go in it.
_upkeep = Upkeep()
_trimmer = Trimmer(every_s=1.0)


def demux_stage(
    rows: pa.Table,
    settings: DemuxSettings,
    source: Source,
    supervisor: Any,  # noqa: ANN401 -- an actor handle
) -> Iterator[pa.Table]:
    """Cut the wanted video tracks of one recording; real footage waits until the job is warm."""
    for work in from_rows(rows):
        if isinstance(work, WarmUp):
            yield to_row(warm_up_segment(work.letterbox, work.frames, work.number))
            # A push waits until it is full.
            for _ in range(PUSH_ROWS - 1):
                yield to_row(FootageEnd(footage=WARM_UP_KEY, segments=0))
        else:
            ray.get(supervisor.wait_for_gate.remote())
            for item in source.cut(work.footages, settings, work.have):
                if isinstance(item, Segment):
                    ray.get(supervisor.cut.remote(_decoding_of(item), len(item.data)))
                yield to_row(item)


def decode_stage(
    rows: pa.Table,
    settings: DecodeSettings,
    source: Source,
    supervisor: Any,  # noqa: ANN401 -- an actor handle
) -> Iterator[pa.Table]:
    """Decode one segment; marks of a footage's end pass through."""
    for item in from_rows(rows):
        if isinstance(item, Segment):
            how = decode if item.footage.key == WARM_UP_KEY else source.decode
            for part in decode_with_retries(item, settings, RemoteTries(supervisor), how):
                yield to_row(part)
        else:
            yield to_row(item)
    # The next segment may be another process's.
    _trimmer.trim()


@dataclass(frozen=True, slots=True)
class RemoteTries:
    """The supervisor's counting of tries, as seen from a worker."""

    supervisor: Any

    def begin(self, key: AttemptKey) -> Turn:
        """Announce a try; return once there is room for it, with how it is to be done."""
        node_id = ray.get_runtime_context().get_node_id()
        turn: Turn = ray.get(self.supervisor.begin.remote(key, node_id, getpid()))
        return turn

    def end(self, key: AttemptKey) -> None:
        """Say that the work is done; nobody waits for the answer."""
        self.supervisor.end.remote(key)


def decode_with_retries(
    segment: Segment,
    settings: DecodeSettings,
    tries: RemoteTries,
    decode: Callable[..., Iterator[FrameBatch]] = decode,
    run_isolated: Callable[..., Iterator[Any]] = isolated,
) -> Iterator[FrameBatch | Gap]:
    """Decode a segment, in a child process once it has killed or failed one try, or set it aside.

    Whatever happens, item i is about positions [i * batch_size, (i + 1) * batch_size), with the
    batch size that the first try was told. Ray hands on the items of a task that died once only, told
    by their number: so those of its next try must be about the same frames.
    """
    key = _decoding_of(segment)
    error: Exception = StepError("its process died each time")
    given = 0
    turn = tries.begin(key)
    if segment.footage.key != WARM_UP_KEY:
        settings = replace(settings, batch_size=turn.batch_size)
    while turn.failed < MOST_ATTEMPTS:
        upkeep = _upkeep.check(segment.wanted, turn) if given == 0 else ()
        source = decode if turn.failed == 0 else run_isolated
        arguments = (segment, settings) if turn.failed == 0 else (decode, segment, settings)
        try:
            for number, batch in enumerate(source(*arguments)):
                if number == given:
                    given += 1
                    yield replace(batch, spans=(*upkeep, *batch.spans)) if number == 0 else batch
        except Exception as raised:  # noqa: BLE001 -- whatever it was, it is recorded in the gap
            error = raised
        else:
            tries.end(key)
            return
        turn = tries.begin(key)
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
    for stretch in _stretches(segment, settings.batch_size)[given:]:
        yield Gap(stretch=stretch, failure=failure, spans=segment.spans * (stretch.start == 0))
    tries.end(key)


def _decoding_of(segment: Segment) -> AttemptKey:
    footage = segment.footage.key
    return AttemptKey(
        camera_id=footage.camera_id,
        sequence=footage.sequence,
        segment=segment.index,
        step="decode",
    )


def _stretches(segment: Segment, batch_size: int) -> list[Stretch]:
    return [
        Stretch(
            footage=segment.footage.key,
            segment=segment.index,
            start=start,
            stop=min(start + batch_size, segment.wanted),
            wanted=segment.wanted,
        )
        for start in range(0, segment.wanted, batch_size)
    ]


def stand_by(
    supervisor: Any,  # noqa: ANN401 -- an actor handle
    node_id: str,
    parties: int,
    first: WarmUp,
    settings: DecodeSettings,
) -> None:
    """Be a worker process among `parties` of a node that has done what it will do.

    Ray starts a process when a task finds none that is free. So that none is started later, as many
    of these tasks as ever run at once wait for each other.
    """
    import ray.data

    for batch in decode(warm_up_segment(first.letterbox, first.frames), settings):
        to_row(batch)
    import_decord()
    ray.get(supervisor.meet.remote(node_id, parties))


class DetectStage:
    """A detector in an actor: the model is loaded once, each call gets one frame batch."""

    def __init__(
        self,
        settings: DetectSettings,
        shapes: list[tuple[int, int]],
        supervisor: Any,  # noqa: ANN401
    ) -> None:
        """Load the model and run a full batch of each input size.

        Args:
            settings: Of the detector.
            shapes: (height, width) of the inputs that will come.
            supervisor: Has the weights, if they are not on this node, and counts the tries.
        """
        here = ray.get_runtime_context()
        supervisor.enlist.remote(here.get_actor_id(), here.current_actor, here.get_node_id())
        weights = install(settings.weights, lambda: bytes(ray.get(supervisor.weights.remote())))
        self._settings = replace(settings, weights=weights)
        self._detector = Detector(self._settings)
        self._tries = RemoteTries(supervisor)
        for height, width in shapes:
            self._detector.warm_up(height, width)

    def __call__(self, rows: pa.Table) -> Iterator[pa.Table]:
        """Detect in the frame batch of one row; everything else passes through."""
        for item in from_rows(rows):
            yield to_row(self._detect(item) if isinstance(item, FrameBatch) else item)

    def _detect(self, batch: FrameBatch) -> object:
        place = batch.stretch
        if place.footage == WARM_UP_KEY:
            return self._detector.detect(batch)
        key = AttemptKey(
            camera_id=place.footage.camera_id,
            sequence=place.footage.sequence,
            segment=place.segment,
            step="detect",
            start=place.start,
        )
        error: Exception = StepError("its process died each time")
        while (turn := self._tries.begin(key)).failed < MOST_ATTEMPTS:
            upkeep = _upkeep.check(len(batch.frame_index), turn)
            try:
                found = self._detector.detect(batch)
            except Exception as raised:  # noqa: BLE001 -- whatever it was, it is recorded in the gap
                error = raised
            else:
                self._tries.end(key)
                self._tell(batch, found)
                return replace(found, spans=(*found.spans, *upkeep))
        self._tries.end(key)
        return Gap(stretch=place, failure=_detect_failure(batch, error), spans=batch.spans)

    def _tell(self, batch: FrameBatch, found: Detections) -> None:
        """Let the supervisor know how long it took, and what had to be done about memory."""
        supervisor, place = self._tries.supervisor, batch.stretch
        size, wall_s = place.stop - place.start, found.spans[-1].wall_s
        supervisor.detected.remote(size, len(batch.frame_index), wall_s)
        if notices := self._detector.take_notices():
            supervisor.notice.remote(notices)


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
