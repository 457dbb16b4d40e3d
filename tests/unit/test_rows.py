"""Rows of records: what crosses Ray Data, and what it costs."""

import numpy as np
import pyarrow as pa
import pytest

from cluster.rows import SCHEMA, RowFiller, from_rows, to_row
from pipeline.letterbox import fit
from pipeline.records import Failure, FootageEnd, FootageKey, FrameBatch, Gap, Stretch

KEY = FootageKey(camera_id="door", sequence=0)


def frame_batch(frames):
    """Return a batch whose pixels are all different from frame to frame."""
    box = fit(320, 240, 320)
    shape = (frames, box.padded_height, box.padded_width, 3)
    pixels = np.random.default_rng(1).integers(0, 256, shape, np.uint8)
    return FrameBatch(
        stretch=Stretch(footage=KEY, segment=3, start=10, stop=14, wanted=40),
        source_uri="/a.mkv",
        video_track=2,
        letterbox=box,
        positions=np.arange(10, 10 + frames),
        frame_index=np.arange(50, 50 + frames),
        pts_s=np.arange(frames) / 25,
        pixels=pixels,
    )


def test_writing_a_row_does_not_copy_the_pixels():
    sent = frame_batch(4)
    memory = np.frombuffer(to_row(sent).column("pixels").chunk(0).values.buffers()[2], np.uint8)
    assert np.shares_memory(sent.pixels, memory)


def test_a_record_comes_back_from_its_row_with_all_its_fields():
    sent = frame_batch(4)
    (got,) = from_rows(to_row(sent))
    assert (got.stretch, got.letterbox) == (sent.stretch, sent.letterbox)
    assert (got.source_uri, got.video_track) == ("/a.mkv", 2)
    for name in ("positions", "frame_index", "pts_s", "pixels"):
        assert np.array_equal(getattr(got, name), getattr(sent, name))


@pytest.mark.parametrize(
    "record",
    [
        FootageEnd(footage=KEY, segments=3),
        Gap(
            stretch=Stretch(footage=KEY, segment=3, start=0, stop=4, wanted=4),
            failure=Failure(source_uri="/a", step="decode", error_class="E", message="m", frames=4),
        ),
    ],
    ids=["end", "gap"],
)
def test_a_record_without_pixels_comes_back_equal(record):
    assert list(from_rows(to_row(record))) == [record]


def test_rows_of_any_records_have_the_same_columns_and_can_lie_in_one_table():
    records = [frame_batch(4), FootageEnd(footage=KEY, segments=3), frame_batch(0), frame_batch(1)]
    rows = pa.concat_tables([to_row(record) for record in records])
    assert rows.schema == SCHEMA
    back = list(from_rows(rows))
    assert [type(record) for record in back] == [type(record) for record in records]
    assert back[1] == records[1]
    for i in (0, 2, 3):
        assert np.array_equal(back[i].pixels, records[i].pixels)


def test_pixels_are_read_as_a_view_of_the_row():
    row = to_row(frame_batch(10))
    (read,) = from_rows(row)
    content = np.frombuffer(row.column("pixels").chunk(0).values.buffers()[2], np.uint8)
    assert np.shares_memory(read.pixels, content)
    assert not read.pixels.flags.writeable
    (sliced,) = from_rows(pa.concat_tables([to_row("first"), row]).combine_chunks().slice(1))
    assert np.array_equal(sliced.pixels, read.pixels)


def test_a_record_may_have_several_large_arrays():
    arrays = tuple(np.arange(20_000) + i for i in range(3))
    (read,) = from_rows(to_row(arrays))
    assert all(np.array_equal(a, b) for a, b in zip(arrays, read, strict=True))


def test_arrays_that_lie_side_by_side_travel_in_one_row_without_a_copy():
    tray = np.arange(300_000).reshape(3, -1)
    row = to_row(tray[0], "between", tray[1], tray[2])
    content = np.frombuffer(row.column("pixels").chunk(0).values.buffers()[2], tray.dtype)
    assert np.shares_memory(tray, content)
    first, word, second, third = from_rows(row)
    assert word == "between"
    assert np.array_equal([first, second, third], tray)


def test_arrays_with_a_hole_between_them_are_copied_and_come_back():
    tray = np.arange(300_000).reshape(3, -1)
    row = to_row(tray[0], tray[2])
    content = np.frombuffer(row.column("pixels").chunk(0).values.buffers()[2], tray.dtype)
    assert not np.shares_memory(tray, content)
    assert np.array_equal(list(from_rows(row)), tray[[0, 2]])


def test_rows_of_several_records_can_lie_in_one_table():
    arrays = [np.arange(20_000) + i for i in range(5)]
    rows = pa.concat_tables([to_row(*arrays[:2]), to_row("none"), to_row(*arrays[2:])])
    for table in (rows, rows.combine_chunks()):
        *front, middle, third, fourth, fifth = from_rows(table)
        assert middle == "none"
        assert np.array_equal([*front, third, fourth, fifth], arrays)
        (*_, last) = from_rows(table.slice(2))
        assert np.array_equal(last, arrays[4])


def filled(filler, *sizes):
    """Return the records of each row that comes of records 0, 1, 2 ... of some sizes."""
    rows = [row for number, size in enumerate(sizes) for row in filler.add(number, size)]
    return [list(from_rows(row)) for row in [*rows, *filler.flush()]]


def test_a_row_is_filled_up_and_what_is_too_large_shares_one_only_with_what_has_no_size():
    assert filled(RowFiller(10), 4, 4, 4, 30, 0, 1) == [[0, 1], [2], [3, 4], [5]]
    assert filled(RowFiller(0), 1, 1, 0) == [[0], [1, 2]]
    assert list(RowFiller(10).flush()) == []


def test_room_is_made_for_what_shall_lie_in_one_row():
    filler = RowFiller(10)
    assert list(filler.add("first", 4)) == []
    assert list(filler.make_room(6)) == []
    (row,) = filler.make_room(7)
    assert list(from_rows(row)) == ["first"]
    assert list(filler.make_room(70)) == []
