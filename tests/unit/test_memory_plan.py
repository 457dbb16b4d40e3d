"""The plan that divides a cap: whatever the footage, its parts stay under it or the cap is refused."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.memory import MIB, MOST_AUTO_BATCH, Workers, check_store, plan_memory
from cluster.nodes import Node
from pipeline.cutter import DemuxSettings
from pipeline.errors import ConfigError
from pipeline.footprint import FFMPEG_BYTES, S3_BYTES, Footprint, footprint_of
from pipeline.letterbox import fit
from pipeline.records import Footage, FootageKey, VideoTrack

DEMUX = DemuxSettings()


def sizes(least, most):
    """Return integers of any order of magnitude between two bounds."""
    orders = st.integers(least.bit_length(), most.bit_length())
    return orders.flatmap(
        lambda bits: st.integers(max(least, 1 << bits >> 1), min(most, (1 << bits) - 1))
    )


def footprint(frame_bytes, segment_frames, segment_bytes, pictures_bytes, runs_bytes):
    return Footprint(
        frame_bytes=frame_bytes,
        segment_frames=segment_frames,
        segment_bytes=segment_bytes,
        pictures_bytes=pictures_bytes,
        cutting_bytes=FFMPEG_BYTES + runs_bytes,
        runs_bytes=runs_bytes,
    )


FOOTAGES = st.builds(
    footprint,
    frame_bytes=sizes(32 * 32 * 3, 4096 * 4096 * 3),
    segment_frames=sizes(1, 25_000),
    segment_bytes=sizes(0, 256 * MIB),
    pictures_bytes=sizes(0, 2048 * MIB),
    runs_bytes=sizes(0, 512 * MIB),
)
# The usual: cameras of some megapixels, frames at inference size.
CAMERAS = st.builds(
    footprint,
    frame_bytes=st.integers(320 * 192 * 3, 640 * 640 * 3),
    segment_frames=st.integers(100, 300),
    segment_bytes=st.integers(0, 8 * MIB),
    pictures_bytes=st.integers(0, 64 * MIB),
    runs_bytes=st.integers(0, 16 * MIB),
)
CAPS_MB = st.one_of(st.integers(100, 65_536), st.integers(200, 2048))
BATCHES = st.one_of(st.none(), st.integers(1, 256))
DECODERS = st.integers(1, 256)
DETECTORS = st.integers(1, 8)
ROW_FRAMES = st.integers(0, 256)


def plan(limit_mb, need, *, batch_size, **workers):
    """Return the plan, or the smallest cap that the refusal names."""
    try:
        return plan_memory(limit_mb, need, batch_size=batch_size, workers=Workers(**workers))
    except ConfigError as error:
        assert f"memory_limit_mb = {limit_mb} " in str(error)
        return int(re.search(r"(\d+) MB would do", str(error)).group(1))


def check(made, limit_mb, *, batch_size, decoders):
    assert made.limit_mb == limit_mb
    assert sum(made.parts.values()) <= limit_mb * MIB
    assert made.in_flight_bytes + made.slack_bytes <= made.store_bytes
    assert 1 <= made.decoders <= decoders
    if batch_size is None:
        assert 1 <= made.batch_size <= MOST_AUTO_BATCH
    else:
        assert made.batch_size == batch_size


@settings(deadline=None)
@given(CAPS_MB, st.one_of(CAMERAS, FOOTAGES), BATCHES, DECODERS, DETECTORS, ROW_FRAMES)
def test_the_parts_of_a_plan_stay_under_the_cap_or_the_refusal_names_one_that_does(
    limit_mb, need, batch_size, decoders, detectors, row_frames
):
    workers = {"decoders": decoders, "detectors": detectors, "row_frames": row_frames}
    made = plan(limit_mb, need, batch_size=batch_size, **workers)
    if isinstance(made, int):
        assert made > limit_mb
        assert plan(made - 1, need, batch_size=batch_size, **workers) == made
        limit_mb, made = made, plan(made, need, batch_size=batch_size, **workers)
    check(made, limit_mb, batch_size=batch_size, decoders=decoders)
    # What the store holds beyond its limit, and what has to fit for the job to move.
    row, batch = made.row_bytes, made.batch_size * need.frame_bytes
    assert row % batch == 0
    assert batch <= row <= max(batch, row_frames * need.frame_bytes)
    assert made.slack_bytes >= (1 + made.decoders) * row >= 2 * row
    packets = made.decoders * made.row_packets_bytes + made.packets_ahead_bytes
    assert made.in_flight_bytes >= 3 * detectors * row + packets
    assert made.packets_ahead_bytes >= made.row_packets_bytes >= need.packets_bytes
    assert made.decoder_bytes == need.decoding_bytes(
        row // need.frame_bytes, made.row_packets_bytes
    )
    assert 0 <= made.ahead_bytes <= need.ahead_bytes
    assert made.cutting_bytes == need.cutting_bytes


@settings(deadline=None)
@given(CAPS_MB, st.one_of(CAMERAS, FOOTAGES), st.integers(2, 256), DECODERS, DETECTORS)
def test_where_a_batch_size_is_refused_the_cap_that_auto_needs_is_named_too_if_it_is_less(
    limit_mb, need, batch_size, decoders, detectors
):
    workers = {"decoders": decoders, "detectors": detectors}
    # Not even Ray and the cutting of nothing fit into the smallest cap.
    for_auto = plan(100, need, batch_size=None, **workers)
    try:
        plan_memory(limit_mb, need, batch_size=batch_size, workers=Workers(**workers))
    except ConfigError as error:
        named = [int(number) for number in re.findall(r"(\d+) MB", str(error))]
        assert named[1:] == ([for_auto] if for_auto < named[0] else [])


@settings(deadline=None)
@given(CAPS_MB, CAPS_MB, st.one_of(CAMERAS, FOOTAGES), BATCHES, DECODERS, DETECTORS)
def test_a_larger_cap_than_one_that_does_does_too(
    one_mb, other_mb, need, batch_size, decoders, detectors
):
    workers = {"decoders": decoders, "detectors": detectors}
    less, more = sorted((one_mb, other_mb))
    smaller = plan(less, need, batch_size=batch_size, **workers)
    larger = plan(more, need, batch_size=batch_size, **workers)
    if not isinstance(smaller, int):
        check(larger, more, batch_size=batch_size, decoders=decoders)
        # Beyond a sensible size, decoders are worth more than batches.
        assert larger.batch_size >= min(smaller.batch_size, 8)
    elif isinstance(larger, int):
        assert smaller == larger


@settings(deadline=None)
@given(CAPS_MB, CAPS_MB, st.one_of(CAMERAS, FOOTAGES), st.integers(1, 256), DECODERS, DETECTORS)
def test_with_batches_of_one_size_more_memory_never_gives_fewer_decoders(
    one_mb, other_mb, need, batch_size, decoders, detectors
):
    workers = {"batch_size": batch_size, "decoders": decoders, "detectors": detectors}
    made = [plan(limit_mb, need, **workers) for limit_mb in sorted((one_mb, other_mb))]
    fewer, more = (0 if isinstance(each, int) else each.decoders for each in made)
    assert fewer <= more


@settings(deadline=None)
@given(CAPS_MB, st.one_of(CAMERAS, FOOTAGES), DECODERS, DETECTORS)
def test_auto_refuses_a_cap_only_where_single_frames_do_not_fit_either(
    limit_mb, need, decoders, detectors
):
    workers = {"decoders": decoders, "detectors": detectors}
    auto = plan(limit_mb, need, batch_size=None, **workers)
    single = plan(limit_mb, need, batch_size=1, **workers)
    assert isinstance(auto, int) == isinstance(single, int)
    if isinstance(auto, int):
        assert auto == single


@settings(deadline=None)
@given(CAPS_MB, CAMERAS, BATCHES, DECODERS, DETECTORS, st.integers(0, 1000))
def test_the_cameras_logs_hold_back_a_quarter_of_the_heap_at_most_unless_a_row_group_is_more(
    limit_mb, need, batch_size, decoders, detectors, cameras
):
    made = plan(limit_mb, need, batch_size=batch_size, decoders=decoders, detectors=detectors)
    if not isinstance(made, int):
        held = made.held_bytes(cameras)
        assert 64 * 1024 <= held <= 4 * MIB
        assert held == 64 * 1024 or 4 * cameras * held <= made.heap_bytes // 4


def test_in_a_store_that_is_there_already_less_waits():
    need = footprint(2**20, 250, 2**22, 2**25, 2**24)
    how = {"batch_size": 10, "workers": Workers(decoders=1, detectors=2, row_frames=40)}
    free, tight = (plan_memory(2048, need, **how, store_bytes=size * MIB) for size in (4096, 120))
    assert tight.in_flight_bytes + tight.slack_bytes <= 120 * MIB
    assert free.in_flight_bytes > tight.in_flight_bytes
    least = plan_memory(2048, need, **how, store_bytes=1)
    assert least.in_flight_bytes + least.slack_bytes > 1
    with pytest.raises(ConfigError, match="object-store-memory"):
        check_store(least, [Node(node_id="n", cpus=2, gpus=0, store_bytes=1)])


@settings(deadline=None)
@given(CAPS_MB, st.one_of(CAMERAS, FOOTAGES), BATCHES, DECODERS, DETECTORS)
def test_what_its_work_takes_never_makes_a_worker_look_like_a_leak(
    limit_mb, need, batch_size, decoders, detectors
):
    made = plan(limit_mb, need, batch_size=batch_size, decoders=decoders, detectors=detectors)
    if not isinstance(made, int):
        assert made.leak_bytes > made.worker_bytes
        assert made.leak_bytes > made.cutting_bytes


def camera(segment_bytes=MIB):
    """Return what an ordinary camera of 1080p takes."""
    return footprint(640 * 384 * 3, 100, segment_bytes, 8 * 1920 * 1080 * 3 // 2, 4 * MIB)


def test_a_small_limit_has_fewer_decoders_and_a_large_one_all_of_them():
    small, larger, large = (
        plan_memory(limit_mb, camera(), batch_size=10, workers=Workers(decoders=16))
        for limit_mb in (300, 600, 8192)
    )
    assert 1 <= small.decoders < larger.decoders < large.decoders == 16
    assert small.ahead_bytes == 0
    assert large.ahead_bytes == camera().ahead_bytes


def test_a_plan_is_saved_with_the_size_of_its_store():
    made = plan_memory(1024, camera(), batch_size=10, workers=Workers(decoders=2))
    assert made.plain()["store_bytes"] == made.store_bytes >= 76 * MIB
    assert made.plain()["limit_mb"] == 1024


def node(store_bytes, node_id="0123456789abcdef"):
    return Node(node_id=node_id, cpus=2.0, gpus=0.0, store_bytes=store_bytes)


def test_a_node_whose_store_does_not_hold_the_plan_is_refused_with_what_to_do():
    made = plan_memory(1024, camera(), batch_size=10, workers=Workers(decoders=2))
    needed_bytes = made.in_flight_bytes + made.slack_bytes
    enough = node(needed_bytes)
    check_store(made, [enough, node(10 * needed_bytes)])
    with pytest.raises(ConfigError, match="--object-store-memory") as raised:
        check_store(made, [enough, node(needed_bytes - 1, "feedbeef00000000")])
    assert "node feedbeef " in str(raised.value)
    assert f"{-(-needed_bytes // MIB)} MB" in str(raised.value)


def footage(uri="/a.mkv", number=0, **track):
    """Return a footage of 1080p with a keyframe each 50 frames and megabyte."""
    told = {
        "codec": "h264",
        "width": 1920,
        "height": 1080,
        "gop_frames": 50,
        "gop_bytes": MIB,
        **track,
    }
    return Footage(
        key=FootageKey(camera_id=f"{uri}-{number}", sequence=0),
        source_uri=uri,
        track=VideoTrack(video_track=number, **told),
        letterbox=fit(told["width"], told["height"], 640),
    )


def references(**track):
    """Return how many pictures a decoder is reckoned to keep to refer to, beside four others."""
    one = footage(picture_bytes=1000, **track)
    return footprint_of([one], DEMUX).pictures_bytes // 1000 - 4


@pytest.mark.parametrize(
    ("track", "kept"),
    [
        ({"codec": "h264", "level": 40}, 4),
        ({"codec": "h264", "level": 42}, 4),
        ({"codec": "h264", "level": 50}, 13),
        ({"codec": "h264", "level": 51}, 16),
        ({"codec": "h264", "level": 31, "width": 1280, "height": 720}, 5),
        ({"codec": "h264", "level": 10}, 1),
        ({"codec": "h264", "level": -99}, 16),
        ({"codec": "h264", "level": 99}, 16),
        ({"codec": "hevc", "level": 120}, 6),
        ({"codec": "hevc", "level": 120, "width": 1600, "height": 900}, 8),
        ({"codec": "hevc", "level": 120, "width": 1280, "height": 720}, 12),
        ({"codec": "hevc", "level": 120, "width": 640, "height": 360}, 16),
        ({"codec": "hevc", "level": 150}, 16),
        ({"codec": "hevc", "level": 150, "width": 4096, "height": 2176}, 6),
        ({"codec": "hevc", "level": -99}, 16),
        ({"codec": "vp9"}, 8),
        ({"codec": "av1"}, 8),
        ({"codec": "mpeg4"}, 2),
        ({"codec": "mjpeg"}, 0),
        ({"codec": "something new"}, 16),
    ],
)
def test_a_decoder_keeps_as_many_pictures_as_its_codec_may_refer_to(track, kept):
    assert references(**track) == kept


def test_a_picture_of_unknown_format_is_taken_for_one_of_twelve_bits_a_pixel():
    told = footprint_of([footage(level=40, picture_bytes=1920 * 1080 * 3)], DEMUX)
    untold = footprint_of([footage(level=40)], DEMUX)
    assert untold.pictures_bytes * 2 == told.pictures_bytes


def test_video_tracks_of_one_recording_are_cut_together_and_two_recordings_one_by_one():
    single = footprint_of([footage()], DEMUX)
    one_file = footprint_of([footage(number=0), footage(number=1)], DEMUX)
    two_files = footprint_of([footage("/a.mkv"), footage("/b.mkv")], DEMUX)
    assert two_files == single
    assert one_file.cutting_bytes > single.cutting_bytes
    # A second open run of two groups, and ffmpeg's queue of one.
    assert one_file.runs_bytes - single.runs_bytes == 3 * MIB
    assert one_file.cutting_bytes == FFMPEG_BYTES + one_file.runs_bytes
    assert one_file.pictures_bytes == single.pictures_bytes


def test_what_fetches_a_recording_from_s3_is_counted_beside_ffmpeg():
    local = footprint_of([footage("/a.mkv")], DEMUX)
    remote = footprint_of([footage("/a.mkv"), footage("s3://archive/b.mkv")], DEMUX)
    assert remote.cutting_bytes == local.cutting_bytes + S3_BYTES
    assert remote.runs_bytes == local.runs_bytes


def test_of_several_footages_the_most_demanding_one_counts_in_each_respect():
    wide = footage("/a.mkv", width=3840, height=2160, level=51)
    long = footage("/b.mkv", width=640, height=480, gop_frames=1000, gop_bytes=8 * MIB)
    both = footprint_of([wide, long], DEMUX)
    assert both.pictures_bytes == footprint_of([wide], DEMUX).pictures_bytes
    assert both.segment_bytes == footprint_of([long], DEMUX).segment_bytes == 8 * MIB
    assert both.segment_frames == 1000
    assert both.cutting_bytes == footprint_of([long], DEMUX).cutting_bytes
    assert both.frame_bytes == max(wide.letterbox.frame_bytes, long.letterbox.frame_bytes)


@pytest.mark.parametrize(
    ("gop_frames", "frames", "size_mib"), [(50, 100, 2), (30, 120, 4), (100, 100, 1), (250, 250, 1)]
)
def test_a_segment_is_whole_groups_of_pictures(gop_frames, frames, size_mib):
    need = footprint_of([footage(gop_frames=gop_frames)], DEMUX)
    assert (need.segment_frames, need.segment_bytes) == (frames, size_mib * MIB)


def test_a_group_of_pictures_that_nobody_saw_is_taken_for_one_of_ten_seconds():
    need = footprint_of([footage(gop_frames=0, gop_bytes=0, rate_fps=25.0)], DEMUX)
    assert need.segment_frames == 250


@settings(deadline=None)
@given(FOOTAGES)
def test_a_segment_may_be_carried_with_twice_what_was_seen_within_bounds(need):
    most = DEMUX.carried_bytes
    assert most // 8 <= need.carried_bytes <= most
    assert need.carried_bytes >= min(2 * need.segment_bytes, most)


@settings(deadline=None)
@given(FOOTAGES, st.integers(1, 256))
def test_decoding_larger_batches_takes_more_by_the_batches_alone(need, batch_size):
    less, more = (need.decoding_bytes(size, 0) for size in (batch_size, batch_size + 1))
    assert more - less == 2 * need.frame_bytes
