"""What keeps a job within its bounds: counted tries, divided memory, rows of one record."""

import asyncio

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.memory import MIB, check_memory_limit, plan_memory
from cluster.rows import SCHEMA, from_rows, to_row
from cluster.supervisor import (
    STRANDED_AFTER_S,
    AttemptKey,
    Attempts,
    FailureLimit,
    Stranded,
    Supervisor,
)
from pipeline.camera_log import Gain
from pipeline.errors import StepError
from pipeline.letterbox import fit
from pipeline.records import Failure, FootageEnd, FootageKey, FrameBatch, Gap, Stretch

KEY = FootageKey(camera_id="door", sequence=0)


def work(segment=0, step="decode", start=0):
    return AttemptKey(camera_id="door", sequence=0, segment=segment, step=step, start=start)


def test_each_try_is_told_how_many_before_it_did_not_end():
    attempts = Attempts(lambda _: True)
    assert [attempts.begin(work(), "node") for _ in range(4)] == [0, 1, 2, 3]


def test_tries_lost_with_their_node_do_not_count_however_late_it_dies():
    dead = set()
    attempts = Attempts(lambda node: node not in dead)
    assert [attempts.begin(work(), node) for node in ("a", "b", "a")] == [0, 1, 2]
    dead.add("a")
    assert attempts.begin(work(), "b") == 1
    assert attempts.begin(work(), "b") == 2


def test_work_that_is_done_is_forgotten():
    attempts = Attempts(lambda _: True)
    attempts.begin(work(), "node")
    attempts.begin(work(), "node")
    attempts.end(work())
    assert attempts.begin(work(), "node") == 0
    attempts.end(work(segment=9))


def test_tries_are_counted_for_each_piece_of_work_by_itself():
    attempts = Attempts(lambda _: True)
    pieces = [work(), work(segment=1), work(step="detect"), work(step="detect", start=10)]
    assert [attempts.begin(piece, "node") for piece in pieces] == [0, 0, 0, 0]
    attempts.end(pieces[0])
    assert [attempts.begin(piece, "node") for piece in pieces] == [0, 1, 1, 1]


def test_a_job_is_warm_after_its_warm_ups_and_adds_up_what_is_logged():
    async def job():
        supervisor = Supervisor(warm_ups=2, weights=b"w", is_alive=lambda _: True)
        await supervisor.warmed_up()
        await supervisor.logged(Gain(frames=10, segments=1))
        before = await supervisor.progress()
        await supervisor.warmed_up()
        await supervisor.logged(Gain(frames=15, segments=2))
        return before, await supervisor.progress()

    before, after = asyncio.run(job())
    assert (before.is_warm, before.frames) == (False, 10)
    assert (after.is_warm, after.frames) == (True, 25)


@pytest.mark.parametrize(
    ("limit", "gain", "stops"),
    [
        (FailureLimit(most=3), Gain(segments=3, failed=3), False),
        (FailureLimit(most=3), Gain(segments=4, failed=4), True),
        (FailureLimit(most=0), Gain(segments=1, failed=1), True),
        (FailureLimit(most=0), Gain(segments=1000, failed=0), False),
        (FailureLimit(most=0.5, is_share=True), Gain(segments=9, failed=9), False),
        (FailureLimit(most=0.5, is_share=True), Gain(segments=10, failed=6), True),
        (FailureLimit(most=0.5, is_share=True), Gain(segments=10, failed=5), False),
        (FailureLimit(most=0.01, is_share=True), Gain(segments=1000, failed=10), False),
        (FailureLimit(most=0.01, is_share=True), Gain(segments=1000, failed=11), True),
    ],
)
def test_a_job_stops_when_more_segments_failed_than_allowed_and_a_share_needs_ten(
    limit, gain, stops
):
    if stops:
        with pytest.raises(StepError, match=f"{gain.failed} of {gain.segments} segments"):
            limit.check(gain)
    else:
        limit.check(gain)


def test_failures_add_up_over_all_that_is_logged_until_the_job_stops():
    async def job(limit):
        supervisor = Supervisor(warm_ups=0, weights=b"", is_alive=lambda _: True, limit=limit)
        for _ in range(3):
            await supervisor.logged(Gain(frames=10, segments=1, failed=1))

    asyncio.run(job(None))
    asyncio.run(job(FailureLimit(most=3)))
    with pytest.raises(StepError, match="3 of 3 segments"):
        asyncio.run(job(FailureLimit(most=2)))


def test_footage_waits_at_the_gate_until_it_is_opened():
    async def job():
        supervisor = Supervisor(warm_ups=0, weights=b"", is_alive=lambda _: True)
        waiting = asyncio.create_task(supervisor.wait_for_gate())
        await asyncio.sleep(0)
        before = waiting.done()
        await supervisor.open_gate()
        await asyncio.wait_for(waiting, timeout=5)
        return before

    assert asyncio.run(job()) is False


@settings(deadline=None)
@given(st.integers(100, 8192), st.integers(1, 64))
def test_whatever_the_limit_the_parts_of_the_plan_stay_under_it(limit_mb, decoders):
    plan = plan_memory(limit_mb, decoders)
    assert plan.in_flight_bytes + plan.decoders * plan.ahead_bytes <= limit_mb * MIB
    assert 1 <= plan.decoders <= decoders
    # Not by giving nothing: a decoder has room for a few frames, the store for a few batches.
    assert plan.ahead_bytes >= 8 * MIB
    assert plan.in_flight_bytes >= limit_mb * MIB // 4


def test_a_small_limit_has_fewer_decoders_and_a_large_one_all_of_them():
    assert plan_memory(100, 16).decoders < plan_memory(400, 16).decoders <= 16
    assert plan_memory(8192, 16).decoders == 16


@pytest.mark.parametrize(
    ("usage_mb", "is_within"),
    [(0.0, True), (100.0, True), (100.1, False), (float("nan"), False), (float("inf"), False)],
)
def test_a_usage_is_within_a_limit_up_to_the_limit(usage_mb, is_within):
    assert check_memory_limit(usage_mb, 100) is is_within


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
    memory = np.frombuffer(to_row(sent).column("payload").chunk(0).buffers()[2], np.uint8)
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
    content = np.frombuffer(row.column("payload").chunk(0).buffers()[2], np.uint8)
    assert np.shares_memory(read.pixels, content)
    assert not read.pixels.flags.writeable
    (sliced,) = from_rows(pa.concat_tables([to_row("first"), row]).combine_chunks().slice(1))
    assert np.array_equal(sliced.pixels, read.pixels)


def test_a_record_may_have_several_large_arrays():
    arrays = tuple(np.arange(20_000) + i for i in range(3))
    (read,) = from_rows(to_row(arrays))
    assert all(np.array_equal(a, b) for a, b in zip(arrays, read, strict=True))


def test_a_segment_given_up_for_one_batch_is_given_up_for_all():
    attempts = Attempts(lambda _: True)
    counts = [attempts.begin(work(step="detect", start=10), "node") for _ in range(4)]
    assert counts == [0, 1, 2, 3]
    assert attempts.begin(work(step="detect", start=20), "node") == 3
    assert attempts.begin(work(segment=1, step="detect", start=20), "node") == 0


def test_a_detector_without_a_node_is_given_up_once_and_only_when_it_found_no_other_in_time():
    alive, now = {"a", "b"}, [0.0]
    stranded = Stranded(lambda node: node in alive, lambda: now[0])
    for name, node in (("one", "a"), ("two", "a"), ("three", "b")):
        stranded.enlist(name, f"handle of {name}", node)
    assert stranded.given_up() == []
    alive.discard("a")
    assert stranded.given_up() == []
    # One of them finds a place on the other node; the second waits in vain.
    now[0] = STRANDED_AFTER_S - 1
    stranded.enlist("one", "handle of one", "b")
    assert stranded.given_up() == []
    now[0] = STRANDED_AFTER_S + 1
    assert stranded.given_up() == ["handle of two"]
    assert stranded.given_up() == []
