"""How records cross Ray Data: one record a row, one row a block.

    header   binary         the record, pickled (protocol 5), without its pixels
    payload  large_binary   the pixels, which pickle hands over out of band: no copy on either side

So every block has the same two columns, whatever travels in it, and a reader's pixels are a view of
the object store.
"""

import pickle
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa

SCHEMA = pa.schema([pa.field("header", pa.binary()), pa.field("payload", pa.large_binary())])
# Smaller buffers go into the header, and so do all but the first large one: that is the pixels.
_OUT_OF_BAND_BYTES = 64 * 1024


def to_row(record: object) -> pa.Table:
    """Return a table of one row that holds a record; its first large buffer is not copied."""
    large: list[pickle.PickleBuffer] = []

    def keep_in_band(buffer: pickle.PickleBuffer) -> bool:
        if large or buffer.raw().nbytes < _OUT_OF_BAND_BYTES:
            return True
        large.append(buffer)
        return False

    header = pickle.dumps(record, protocol=5, buffer_callback=keep_in_band)
    content = pa.py_buffer(large[0].raw() if large else b"")
    offsets = pa.py_buffer(np.array([0, content.size], np.int64))
    payload = pa.LargeBinaryArray.from_buffers(pa.large_binary(), 1, [None, offsets, content])
    return pa.table([pa.array([header], pa.binary()), payload], schema=SCHEMA)


def from_rows(rows: pa.Table) -> Iterator[Any]:
    """Yield the records of rows; their pixels are read-only views of the table's memory."""
    headers = rows.column("header").to_pylist()
    for header, payload in zip(headers, _values(rows.column("payload")), strict=True):
        yield pickle.loads(header, buffers=[payload] if payload.size else [])


def _values(column: pa.ChunkedArray) -> Iterator[pa.Buffer]:
    """Yield the values of a large_binary column as views: a scalar's own buffer would be a copy."""
    for chunk in column.chunks:
        _, offsets, content = chunk.buffers()
        bounds = np.frombuffer(offsets, np.int64)[chunk.offset : chunk.offset + len(chunk) + 1]
        for start, stop in pairwise(bounds.tolist()):
            yield content.slice(start, stop - start) if content else pa.py_buffer(b"")
