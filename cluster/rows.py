"""How records cross Ray Data: a row carries one or several, and a block is one row.

    header   binary               the records, pickled (protocol 5), without their pixels
    pixels   list<large_binary>   what pickle hands over out of band: no copy on either side

So every block has the same two columns, whatever travels in it, and a reader's pixels are a view of
the object store. A row costs the machinery some milliseconds, whatever it carries: what is small
travels together.
"""

import pickle
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa

SCHEMA = pa.schema(
    [pa.field("header", pa.binary()), pa.field("pixels", pa.list_(pa.large_binary()))]
)
# Smaller buffers go into the header.
_OUT_OF_BAND_BYTES = 64 * 1024


def to_row(*records: object) -> pa.Table:
    """Return a table of one row that holds records.

    Large buffers are not copied, if there is one only or if they lie side by side in memory.
    """
    large: list[pa.Buffer] = []

    def keep_in_band(buffer: pickle.PickleBuffer) -> bool:
        if buffer.raw().nbytes < _OUT_OF_BAND_BYTES:
            return True
        large.append(pa.py_buffer(buffer.raw()))
        return False

    header = pickle.dumps(records, protocol=5, buffer_callback=keep_in_band)
    bounds = np.cumsum([0, *(buffer.size for buffer in large)], dtype=np.int64)
    values = pa.LargeBinaryArray.from_buffers(
        pa.large_binary(), len(large), [None, pa.py_buffer(bounds), _side_by_side(large)]
    )
    pixels = pa.ListArray.from_arrays(pa.array([0, len(large)], pa.int32()), values)
    return pa.table([pa.array([header], pa.binary()), pixels], schema=SCHEMA)


def _side_by_side(buffers: Sequence[pa.Buffer]) -> pa.Buffer:
    """Return one buffer of all; a view, if they follow one another in memory."""
    if not buffers:
        return pa.py_buffer(b"")
    if all(before.address + before.size == after.address for before, after in pairwise(buffers)):
        size = sum(buffer.size for buffer in buffers)
        return pa.foreign_buffer(buffers[0].address, size, base=tuple(buffers))
    return pa.py_buffer(b"".join(buffers))


def from_rows(rows: pa.Table) -> Iterator[Any]:
    """Yield the records of rows; their pixels are read-only views of the table's memory."""
    headers = rows.column("header").to_pylist()
    for header, buffers in zip(headers, _pixels(rows.column("pixels")), strict=True):
        yield from pickle.loads(header, buffers=buffers)


def _pixels(column: pa.ChunkedArray) -> Iterator[list[pa.Buffer]]:
    """Yield the buffers of each row as views: a scalar's own buffer would be a copy."""
    for chunk in column.chunks:
        values = chunk.values
        _, offsets, content = values.buffers()
        bounds = np.frombuffer(offsets, np.int64)[values.offset :] if len(values) else np.zeros(1)
        for start, stop in pairwise(chunk.offsets.to_pylist()):
            edges = bounds[start : stop + 1].tolist()
            yield [content.slice(low, high - low) for low, high in pairwise(edges)]


@dataclass(slots=True)
class RowFiller:
    """Puts records into rows, as many as go into one.

    Attributes:
        row_bytes: What a row may carry; one record it always may.
    """

    row_bytes: int
    _records: list[object] = field(default_factory=list)
    _bytes: int = 0

    def add(self, record: object, size: int) -> Iterator[pa.Table]:
        """Take a record of so many bytes; yield the row that it had no more room in, if any."""
        yield from self.make_room(size)
        self._records.append(record)
        self._bytes += size

    def make_room(self, size: int) -> Iterator[pa.Table]:
        """Yield the row that has no more room for so many bytes, if any: the next one begins."""
        if size and self._bytes + size > self.row_bytes:
            yield from self.flush()

    def flush(self) -> Iterator[pa.Table]:
        """Yield what is left as a row."""
        if self._records:
            yield to_row(*self._records)
        self._records, self._bytes = [], 0
