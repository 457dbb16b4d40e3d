"""The steps as Ray Data runs them: a row of records in, rows of records out.

How a piece of work is tried, and what becomes of one that fails, is in `tries`.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import pyarrow as pa
import ray

from cluster.labels import Outbox
from cluster.meter import Trimmer
from cluster.rows import RowFiller, from_rows, to_row
from cluster.tries import DecodeTries, DetectTries, RemoteTries, decoding_of, here
from cluster.under_way import UnderWay
from pipeline.backend import DetectSettings
from pipeline.decode import DecodeSettings, decode
from pipeline.decoders import import_decord
from pipeline.demux import DemuxSettings, cut
from pipeline.detect import Detector
from pipeline.letterbox import Letterbox
from pipeline.records import Footage, FootageEnd, FootageKey, FrameBatch, Segment
from pipeline.timing import run_on
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where frame batches come from: the functions behind the first two steps.

    Another decoder finds its door here; both are found by name in the workers.

    Attributes:
        cut: As `pipeline.demux.cut`.
        decode: As `pipeline.decode.decode`.
        row_bytes: Packets that travel to a decoder at once, if they are of several segments.
    """

    cut: Callable[..., Iterator[Segment | FootageEnd]] = cut
    decode: Callable[..., Iterator[FrameBatch]] = decode
    row_bytes: int = 0


_trimmer = Trimmer(every_s=1.0)


def demux_stage(
    rows: pa.Table,
    settings: DemuxSettings,
    source: Source,
    supervisor: Any,  # noqa: ANN401 -- an actor handle
) -> Iterator[pa.Table]:
    """Cut the wanted video tracks of recordings; real footage waits until the job is warm."""
    run_on(here())
    works = list(from_rows(rows))
    for work in works:
        if isinstance(work, WarmUp):
            yield to_row(warm_up_segment(work.letterbox, work.frames, work.number))
    if cuts := [work for work in works if isinstance(work, Cut)]:
        tries = RemoteTries(supervisor)
        most = tries.admit(cuts[0].footages[0].key)
        outgoing = _SegmentRows(tries, source.row_bytes, most)
        for each in cuts:
            for item in source.cut(each.footages, settings, each.have):
                yield from outgoing.add(item)
        yield from outgoing.flush()


@dataclass(slots=True)
class _SegmentRows:
    """Puts segments into rows, as many as the supervisor says are worth a decoder's while.

    Whoever cuts the same anew makes the same rows: the supervisor remembers what it said.

    Attributes:
        most: Segments of the next row.
    """

    tries: RemoteTries
    row_bytes: int
    most: int
    _items: list[Segment | FootageEnd] = field(default_factory=list)
    _first: Segment | None = None
    _segments: int = 0
    _bytes: int = 0

    def add(self, item: Segment | FootageEnd) -> Iterator[pa.Table]:
        """Take what was cut; yield the row that is full, once it is known what goes with it.

        A footage's end goes with its last segment: so a short recording's log is told of it at once.
        """
        if isinstance(item, Segment):
            size = len(item.data)
            is_full = self._segments >= self.most or self._bytes + size > self.row_bytes
            if self._segments and is_full:
                yield from self.flush()
            self._first = self._first or item
            self._segments += 1
            self._bytes += size
        self._items.append(item)

    def flush(self) -> Iterator[pa.Table]:
        """Yield what there is as a row, once it may wait for a decoder."""
        if self._first:
            self.most = self.tries.cut(decoding_of(self._first), self._bytes)
        if self._items:
            yield to_row(*self._items)
        self._items, self._first, self._segments, self._bytes = [], None, 0, 0


def decode_stage(
    rows: pa.Table,
    settings: DecodeSettings,
    source: Source,
    supervisor: Any,  # noqa: ANN401 -- an actor handle
    labeller: Any = None,  # noqa: ANN401 -- an actor handle, or None
) -> Iterator[pa.Table]:
    """Decode the segments of a row; marks of a footage's end pass through.

    Pictures that labels are asked of go to the `labeller`.
    """
    run_on(here())
    outbox = Outbox(labeller)
    items = list(from_rows(rows))
    segments = [item for item in items if isinstance(item, Segment)]
    filler = RowFiller(settings.row_bytes)
    if segments:
        is_warm_up = segments[0].footage.key == WARM_UP_KEY
        how = decode if is_warm_up else source.decode
        tries = DecodeTries(segments, settings, RemoteTries(supervisor), how)
    for item in items:
        if isinstance(item, Segment):
            frame_bytes = item.footage.letterbox.frame_bytes
            yield from filler.make_room(item.wanted * frame_bytes)
            for part in tries.decode(item):
                frames = part.stretch.stop - part.stretch.start
                if isinstance(part, FrameBatch):
                    part = outbox.part(item.footage, part)
                yield from filler.add(part, frames * frame_bytes)
        else:
            yield from filler.add(item, 0)
    yield from filler.flush()
    outbox.flush()
    if segments:
        tries.end()
    # The next row may be another process's.
    _trimmer.trim()


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

    to_row(*decode(warm_up_segment(first.letterbox, first.frames), settings))
    import_decord()
    ray.get(supervisor.meet.remote(node_id, parties))


class DetectStage:
    """A detector in an actor: the model is loaded once, each call of it gets the batches of a row.

    Two rows are called for at once: the batches of one are begun as soon as all of the one before
    are begun, so that the detector need not wait for Ray between them.
    """

    ROWS_AT_ONCE = 2

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
        context = ray.get_runtime_context()
        supervisor.enlist.remote(context.get_actor_id(), context.current_actor, here())
        run_on(here())
        weights = install(settings.weights, lambda: bytes(ray.get(supervisor.weights.remote())))
        self._detector = Detector(replace(settings, weights=weights))
        self._tries = RemoteTries(supervisor)
        self._under_way = UnderWay()
        for height, width in shapes:
            self._detector.warm_up(height, width)
        supervisor.loaded.remote(here())

    def __call__(self, rows: pa.Table) -> Iterator[pa.Table]:
        """Detect in the frame batches of a row; everything else passes through."""
        items = list(from_rows(rows))
        batches = [item for item in items if isinstance(item, FrameBatch)]
        if not batches:
            yield to_row(*items)
        elif batches[0].stretch.footage == WARM_UP_KEY:
            # The model is warm: one frame shows that the way is open.
            yield to_row(*(self._detector.detect(batch.first_frame()) for batch in batches))
        else:
            tries = DetectTries(batches[0], self._detector, self._tries, self._under_way)
            found = _one_ahead(tries, items, self._under_way.turn)
            tries.end()
            yield to_row(*found)


def _one_ahead(
    tries: DetectTries, items: Sequence[Any], turn: AbstractContextManager[object]
) -> list[Any]:
    """Return what becomes of each item of a row; a batch is begun before the one in front is done.

    Nobody else begins with a batch before the last of these is begun.
    """
    found: list[Any] = []
    begun: deque[Callable[[], Any]] = deque()
    with turn:
        for item in items:
            begun.append(
                tries.begin(item) if isinstance(item, FrameBatch) else partial(_same, item)
            )
            if len(begun) > 1:
                found.append(begun.popleft()())
    return found + [wait() for wait in begun]


def _same(item: object) -> object:
    return item
