"""A camera's online log, read back: its frames in order, each with the tracks that were in it.

The frames that were looked at are beside the ledger; rows of tracks are in `movements`, in the part of
their frame or, held back by then, in one of the next. Files are read a row group at a time, so that
memory does not grow with the footage.

    part 0   frames 0 ... 74     movements 0 ... 70
    part 1   frames 75 ... 224   movements 71 ... 220      one file for each date: merged by the frames
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.clock import CameraClock
from pipeline.errors import OutputError
from pipeline.identity import from_plain
from pipeline.ledger import Part
from pipeline.records import Footage, Observation, TrackedFrame
from pipeline.store import fetched, shown

# The rows of a frame may be in its own part or, held back, in one behind it: in the next, or some
# seconds of footage later, as frame rates tell, which may be wrong.
_PARTS_BEHIND = 1
_WRONG_BY = 4
_BATCH_ROWS = 8192
_COLUMNS = ("x_min", "y_min", "x_max", "y_max")
_ROW_COLUMNS = (
    "source_uri", "video_track", "frame_index", "class_id", "class_name", "confidence", *_COLUMNS,
    "track_id",
)  # fmt: skip

Key = tuple[str, int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class OnlineFrame:
    """A frame of a camera's log.

    Attributes:
        is_cut: Nothing tells how much later than the frame before it was: every track has ended.
    """

    frame: TrackedFrame
    is_cut: bool


class OnlineLog:
    """The online log of one camera.

    Attributes:
        class_names: By class_id, of the rows that have been read so far.
    """

    def __init__(
        self, output: Path, parts: Sequence[Part], carry_over_s: float, held_back_s: float
    ) -> None:
        """Read a log.

        Args:
            output: Root of the tables.
            parts: Of the camera, in order.
            carry_over_s: As it was made with.
            held_back_s: How long rows may have been held back.
        """
        self.class_names: dict[int, str] = {}
        self._output, self._parts = output, parts
        self._held_back_s = held_back_s
        self._opened = 0
        self._clock = CameraClock(carry_over_s)
        self._readers: list[_Reader] = []

    def frames(self) -> Iterator[OnlineFrame]:
        """Yield all frames, those that a stride has left out among them.

        Raises:
            OutputError: A file is damaged, or rows are of no frame.
        """
        before: TrackedFrame | None = None
        for frame in self._looked_at():
            is_same = before is not None and before.footage is frame.footage
            is_cut = not is_same and not self._clock.begin(frame.footage)
            time_s = self._clock.read(frame.footage, frame.pts_s)
            now = TrackedFrame(
                footage=frame.footage,
                frame_index=frame.frame_index,
                pts_s=frame.pts_s,
                time_s=time_s,
                observations=frame.observations,
            )
            if before is not None and is_same:
                for between in _left_out(before, now):
                    yield OnlineFrame(frame=between, is_cut=False)
            yield OnlineFrame(frame=now, is_cut=is_cut and before is not None)
            before = now
        for reader in self._readers:
            if reader.head is not None:
                raise OutputError(f"{reader.path.name!r} has rows of frames that nobody looked at")

    def _looked_at(self) -> Iterator[TrackedFrame]:
        """Yield the frames that were looked at, not yet on the camera's clock."""
        footages: dict[tuple[str, int], Footage] = {}
        for number, part in enumerate(self._parts):
            for covered in part.covered:
                if covered.key not in footages:
                    footages[covered.key] = from_plain(covered.footage, len(footages))
            self._open(number)
            for uri, video_track, index, pts_s in _frame_rows(self._output, part):
                yield TrackedFrame(
                    footage=footages[uri, video_track],
                    frame_index=index,
                    pts_s=pts_s,
                    time_s=0.0,
                    observations=self._take((uri, video_track, index)),
                )

    def _open(self, number: int) -> None:
        """Have the files open that may have rows of the frames of a part."""
        self._readers = [reader for reader in self._readers if reader.head is not None]
        behind_s, newest = 0.0, number
        while newest + 1 < len(self._parts) and (
            newest < number + _PARTS_BEHIND or behind_s < _WRONG_BY * self._held_back_s
        ):
            newest += 1
            behind_s += _seconds(self._parts[newest])
        for part in self._parts[self._opened : newest + 1]:
            self._readers += [
                _Reader(self._output / file.path, self.class_names)
                for file in part.files
                if file.path.startswith("movements/") and file.rows
            ]

        self._opened = max(self._opened, newest + 1)

    def _take(self, key: Key) -> list[Observation]:
        for reader in self._readers:
            if reader.head == key:
                return reader.take()
        return []


def _seconds(part: Part) -> float:
    """Return about how long the footage of a part is."""
    footages = [(covered.frames, from_plain(covered.footage)) for covered in part.covered]
    return sum(footage.seconds_of(frames) for frames, footage in footages)


def _left_out(before: TrackedFrame, now: TrackedFrame) -> Iterator[TrackedFrame]:
    """Yield the frames between two, if a stride has left them out; their times are evenly between."""
    step = now.frame_index - before.frame_index
    if step != now.footage.stride:
        return
    for number in range(1, step):
        share = number / step
        yield TrackedFrame(
            footage=now.footage,
            frame_index=before.frame_index + number,
            pts_s=before.pts_s + share * (now.pts_s - before.pts_s),
            time_s=before.time_s + share * (now.time_s - before.time_s),
            is_looked_at=False,
        )


def _frame_rows(output: Path, part: Part) -> Iterator[tuple[str, int, int, float]]:
    for file in part.files:
        if file.path.split("/")[-1].startswith("frames-"):
            columns = ["source_uri", "video_track", "frame_index", "pts_s"]
            for batch in _batches(output / file.path, columns):
                yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)


def _batches(path: Path, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    try:
        with fetched(path) as (there,), pq.ParquetFile(there) as file:
            # Given in the file's order, whatever the order asked for.
            for batch in file.iter_batches(_BATCH_ROWS, columns=list(columns)):
                yield batch.select(list(columns))
    except (OSError, pa.ArrowException) as error:
        raise OutputError(f"{shown(path)!r} cannot be read: {error}") from error


class _Reader:
    """A file of `movements`, frame after frame.

    Attributes:
        head: Which frame's rows are next: recording, video track, frame_index; None at the end.
    """

    def __init__(self, path: Path, class_names: dict[int, str]) -> None:
        self.path = path
        self.head: Key | None = None
        self._class_names = class_names
        self._groups = self._grouped()
        self._rows: list[Observation] = []
        self._next()

    def take(self) -> list[Observation]:
        """Return the rows of the frame that is next, and go on."""
        rows = self._rows
        self._next()
        return rows

    def _next(self) -> None:
        self.head, self._rows = next(self._groups, (None, []))

    def _grouped(self) -> Iterator[tuple[Key, list[Observation]]]:
        """Yield frames with their rows; a frame's may lie in two batches."""
        key: Key | None = None
        rows: list[Observation] = []
        for row_key, seen in self._observations():
            if key is not None and row_key != key:
                yield key, rows
                rows = []
            key = row_key
            rows.append(seen)
        if key is not None:
            yield key, rows

    def _observations(self) -> Iterator[tuple[Key, Observation]]:
        for batch in _batches(self.path, _ROW_COLUMNS):
            columns = {name: batch.column(name) for name in _ROW_COLUMNS}
            boxes = np.stack([columns[name].to_numpy() for name in _COLUMNS], axis=1)
            lists = [columns[name].to_pylist() for name in _ROW_COLUMNS if name not in _COLUMNS]
            for uri, video_track, index, class_id, class_name, score, track_id, box in zip(
                *lists, boxes.astype(np.float64), strict=True
            ):
                self._class_names[class_id] = class_name
                yield (
                    (uri, video_track, index),
                    Observation(track_id=track_id, class_id=class_id, box=box, confidence=score),
                )
