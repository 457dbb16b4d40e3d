"""The detections of a committed part, as they were before they became rows."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.ledger import Covered, Part
from pipeline.records import Footage, WholeSegment
from pipeline.staging import detections_of
from pipeline.store import fetched
from pipeline.timing import Span

_BOX_COLUMNS = ("x_min", "y_min", "x_max", "y_max")
_SPAN_COLUMNS = (
    "step", "wall_s", "cpu_s", "frames", "pid", "bytes", "wait_s", "crossed_bytes", "retries",
)  # fmt: skip
_DERIVED_STEPS = ("track", "write")


class Evidence:
    """The detections of a committed part, as they were before they became rows."""

    def __init__(self, output: Path, part: Part) -> None:
        paths = [(output / file.path, file.path.split("/")) for file in part.files]
        self._frames = self._read(
            [path for path, names in paths if names[-1].startswith("frames-")], None
        )
        self._boxes = self._read(
            [path for path, names in paths if names[0] == "detections"],
            ["source_uri", "video_track", "frame_index", "class_id", "confidence", *_BOX_COLUMNS],
        )
        self._spans = self._read([path for path, names in paths if names[0] == "metrics"], None)

    @staticmethod
    def _read(paths: Sequence[Path], columns: list[str] | None) -> pa.Table:
        # One by one: a folder would be taken for a data set, with partitions as columns.
        with fetched(*sorted(paths)) as files:
            return pa.concat_tables([pq.ParquetFile(path).read(columns=columns) for path in files])

    def segments(self, covered: Covered, footage: Footage) -> Iterator[WholeSegment]:
        """Yield a footage's segments, in order."""
        frames, boxes, metrics = (
            table.filter(_is_of(table, covered.key))
            for table in (self._frames, self._boxes, self._spans)
        )
        # Rows of two dates may be in any order; those of a frame are together, and keep theirs.
        boxes = boxes.take(np.argsort(boxes.column("frame_index").to_numpy(), kind="stable"))
        numbers = frames.column("segment").to_numpy()
        box_frame = boxes.column("frame_index").to_numpy()
        made = _made(metrics)
        for segment in range(covered.first, covered.stop):
            rows = slice(*np.searchsorted(numbers, [segment, segment + 1]))
            own = frames.column("frame_index").to_numpy()[rows]
            first, stop = np.searchsorted(box_frame, [own[0], own[-1] + 1]) if len(own) else (0, 0)
            some = boxes.slice(first, stop - first)
            attempt_id, spans = made.get(segment, ("", ()))
            detections = detections_of(
                footage.key,
                segment,
                frame_index=own,
                pts_s=frames.column("pts_s").to_numpy()[rows],
                frame_row=np.searchsorted(own, box_frame[first:stop]),
                boxes=np.stack([some.column(c).to_numpy() for c in _BOX_COLUMNS], axis=1),
                confidence=some.column("confidence").to_numpy(),
                class_id=some.column("class_id").to_numpy().astype(np.int64),
                spans=spans,
            )
            yield WholeSegment(
                footage=footage.key,
                index=segment,
                parts=(detections,) if len(own) else (),
                failures=tuple(f for number, f in covered.failures if number == segment),
                attempt_id=attempt_id,
            )


def _is_of(table: pa.Table, key: tuple[str, int]) -> pa.Array:
    return pc.and_(
        pc.equal(table.column("source_uri"), key[0]), pc.equal(table.column("video_track"), key[1])
    )


def _made(metrics: pa.Table) -> dict[int | None, tuple[str, tuple[Span, ...]]]:
    """Return by segment who made it, and the spans of the work that is not repeated."""
    made: dict[int | None, tuple[str, tuple[Span, ...]]] = {}
    for row in metrics.to_pylist():
        if row["step"] not in _DERIVED_STEPS:
            span = Span(**{name: row[name] for name in _SPAN_COLUMNS}, node=row["node"] or "")
            _, spans = made.get(row["segment"], ("", ()))
            made[row["segment"]] = row["attempt_id"], (*spans, span)
    return made
