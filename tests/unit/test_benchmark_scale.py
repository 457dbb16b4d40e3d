"""Footage that costs nothing, and what the scale benchmark makes of its figures."""

from jobs.benchmark_scale import Scale, _Levels, _markdown
from pipeline.cutter import DemuxSettings
from pipeline.decode import DecodeSettings
from pipeline.records import FootageEnd, Segment
from pipeline.standin_source import blank_footage, cut_blank, decode_blank


def test_blank_footage_is_cut_and_decoded_as_real_footage_is():
    settings = DemuxSettings(segment_frames=7)
    footage = blank_footage("door", 3, settings)
    *segments, end = cut_blank([footage], settings, {footage.key: {1}})
    assert isinstance(end, FootageEnd)
    assert end.segments == 3
    assert [segment.index for segment in segments if isinstance(segment, Segment)] == [0, 2]
    batches = list(decode_blank(segments[1], DecodeSettings(batch_size=3)))
    assert [(b.stretch.start, b.stretch.stop) for b in batches] == [(0, 3), (3, 6), (6, 7)]
    assert [list(b.frame_index) for b in batches] == [[14, 15, 16], [17, 18, 19], [20]]
    box = footage.letterbox
    assert batches[0].pixels.shape == (3, box.padded_height, box.padded_width, 3)


def test_levels_are_those_at_shares_of_the_work():
    levels = _Levels(levels=[(0, 90.0), (5, 100.0), (50, 120.0), (100, 130.0), (100, 131.0)])
    assert [levels.at(share) for share in (0.1, 0.5, 1.0)] == [120.0, 120.0, 130.0]


def test_the_table_tells_what_a_segment_costs_the_driver():
    scale = Scale(
        segments=1000, video_tracks=100, batches=1, wall_s=5.0, driver_cpu_s=3.0,
        driver_mb=(200.0, 201.4, 203.0),
    )  # fmt: skip
    assert _markdown([scale]).splitlines()[-1] == "| 1000 | 100 | 1 | 200.0 | 3.0 | 200, 201, 203 |"
