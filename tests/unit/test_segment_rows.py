"""Which segments travel to a decoder together."""

from dataclasses import replace

import pytest

from cluster.rows import from_rows
from cluster.stages import _SegmentRows
from pipeline.cutter import DemuxSettings
from pipeline.records import FootageEnd
from pipeline.standin_source import blank_footage, cut_blank

CUT = DemuxSettings(segment_frames=20)


class Tries:
    """Says how many segments the next row is to have, one after the other."""

    def __init__(self, sizes):
        self.sizes, self.announced = list(sizes), []

    def cut(self, key, size):
        self.announced.append((key.camera_id, key.segment, size))
        return self.sizes.pop(0)


def cut(*recordings):
    """Return what is cut of some recordings, each (camera, segments)."""
    items = []
    for camera, segments in recordings:
        items += cut_blank([blank_footage(camera, segments, CUT)], CUT, {})
    return items


def rows(items, tries, *, most=1, row_bytes=1 << 20):
    """Return the rows that come of it: a segment is its camera and number, an end its camera."""
    outgoing = _SegmentRows(tries, row_bytes, most)
    tables = [table for item in items for table in outgoing.add(item)] + list(outgoing.flush())
    return [[_told(record) for record in from_rows(table)] for table in tables]


def _told(record):
    if isinstance(record, FootageEnd):
        return record.footage.camera_id
    return record.footage.key.camera_id, record.index


def test_a_footage_s_end_goes_with_its_last_segment():
    tries = Tries([1, 1])
    assert rows(cut(("a", 1), ("b", 1)), tries) == [[("a", 0), "a"], [("b", 0), "b"]]
    assert [told[:2] for told in tries.announced] == [("a", 0), ("b", 0)]


@pytest.mark.parametrize(
    ("sizes", "lengths"), [([1, 1, 1, 1, 1], [1, 1, 1, 1, 1]), ([3, 1], [1, 3, 1]), ([9], [1, 4])]
)
def test_a_row_has_as_many_segments_as_is_said_when_the_one_before_goes(sizes, lengths):
    found = rows(cut(("a", 5)), Tries([*sizes, 1]))
    assert [sum(type(told) is tuple for told in row) for row in found] == lengths
    assert [told for row in found for told in row] == [*(("a", i) for i in range(5)), "a"]


def test_a_row_has_no_more_bytes_than_a_row_may_have_but_one_segment_at_least():
    *segments, end = cut(("a", 4))
    items = [*(replace(segment, data=bytes(100)) for segment in segments), end]
    for row_bytes, lengths in ((200, [2, 2]), (1, [1, 1, 1, 1])):
        found = rows(items, Tries([9] * 4), most=9, row_bytes=row_bytes)
        assert [sum(type(told) is tuple for told in row) for row in found] == lengths


def test_ends_without_a_segment_go_with_what_comes_and_are_announced_by_nobody():
    tries = Tries([1])
    assert rows(cut(("a", 0), ("b", 1), ("c", 0)), tries) == [["a", ("b", 0), "b", "c"]]
    assert len(tries.announced) == 1
    assert rows(cut(("a", 0)), tries) == [["a"]]
    assert len(tries.announced) == 1
