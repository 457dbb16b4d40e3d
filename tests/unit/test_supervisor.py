"""What keeps a job within its bounds: counted tries, turns to decode, how fast a job goes."""

import asyncio

import pytest

from cluster.ahead import Ahead
from cluster.attempts import MOST_ATTEMPTS, AttemptKey, Attempts
from cluster.pace import Pace
from cluster.stranded import STRANDED_AFTER_S, Stranded
from cluster.supervisor import FailureLimit, Supervisor
from pipeline.errors import StepError
from pipeline.gain import Gain
from pipeline.records import (
    FootageKey,
)

KEY = FootageKey(camera_id="door", sequence=0)
LIMIT_MB = 1000


def work(segment=0, step="decode", start=0, *, is_alone=False):
    return AttemptKey(
        camera_id="door", sequence=0, segment=segment, step=step, start=start, is_alone=is_alone
    )


def new_supervisor(*, warm_ups=0, weights=b"", limit=None, ahead_bytes=0, **pace):
    """Return a supervisor of nodes that live for ever, in no hurry unless `pace` says so."""
    usual = {"limit_mb": LIMIT_MB, "batch_size": 10, "decoders": 64, "ahead": Ahead(ahead_bytes)}
    told = Pace(**(usual | pace))
    return Supervisor(
        warm_ups=warm_ups,
        weights=weights,
        is_alive=lambda _: True,
        pace=told,
        limit=limit,
    )


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


def test_a_process_that_we_ended_ourselves_does_not_count_as_a_try():
    attempts = Attempts(lambda _: True)
    assert [attempts.begin(work(), "a", pid) for pid in (1, 2)] == [0, 1]
    attempts.forgive("a", 1)
    assert attempts.begin(work(), "a", 3) == 1
    # Neither another process of the node nor one of the same number elsewhere is meant.
    attempts.forgive("a", 9)
    attempts.forgive("b", 2)
    assert attempts.begin(work(), "a", 4) == 2


def test_work_whose_processes_we_end_each_time_is_never_given_up():
    attempts = Attempts(lambda _: True)
    for pid in range(2 * MOST_ATTEMPTS):
        assert attempts.begin(work(), "a", pid) == 0
        attempts.forgive("a", pid)


def test_a_supervisor_that_forgives_a_process_says_why_and_tells_its_work_no_failure():
    async def job():
        supervisor = new_supervisor()
        await supervisor.begin(work(), "a", 1)
        await supervisor.forgive("a", 1, "it kept growing")
        return await supervisor.begin(work(), "a", 2), (await supervisor.progress()).notices

    turn, (notice,) = asyncio.run(job())
    assert turn.failed == 0
    assert (notice.text, notice.node) == ("it kept growing", "a")


def test_a_supervisor_tells_a_worker_its_turn():
    async def job():
        supervisor = new_supervisor()
        await supervisor.observe({"a": 600.0})
        first = await supervisor.begin(work(), "a", 1)
        return first, await supervisor.begin(work(), "a", 2)

    first, second = asyncio.run(job())
    assert (first.failed, first.batch_size) == (0, 10)
    assert (first.increase_mb, first.limit_mb) == (600.0, LIMIT_MB)
    assert second.failed == 1


def test_a_job_is_warm_after_its_warm_ups_and_adds_up_what_is_logged():
    async def job():
        supervisor = new_supervisor(warm_ups=2)
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
        supervisor = new_supervisor(limit=limit)
        for _ in range(3):
            await supervisor.logged(Gain(frames=10, segments=1, failed=1))

    asyncio.run(job(None))
    asyncio.run(job(FailureLimit(most=3)))
    with pytest.raises(StepError, match="3 of 3 segments"):
        asyncio.run(job(FailureLimit(most=2)))


def test_footage_waits_at_the_gate_until_it_is_opened():
    async def job():
        supervisor = new_supervisor()
        waiting = asyncio.create_task(supervisor.admit(KEY, "node"))
        await asyncio.sleep(0)
        before = waiting.done()
        await supervisor.open_gate()
        await asyncio.wait_for(waiting, timeout=5)
        return before

    assert asyncio.run(job()) is False


async def is_still_waiting(task):
    """Say whether a task waits for what does not come by itself: it may look often meanwhile."""
    await asyncio.sleep(0.02)
    return not task.done()


def test_a_decoder_waits_while_its_node_has_no_room_and_goes_on_when_another_ends():
    async def job():
        supervisor = new_supervisor(decoders=2)
        for segment in (0, 1):
            await supervisor.begin(work(segment), "a", segment)
        assert await supervisor.begin(work(2), "a", 2) is None
        assert (await supervisor.progress()).decoding == 2
        await supervisor.end(work(1))
        turn = await supervisor.begin(work(2), "a", 2)
        return turn, (await supervisor.progress()).decoding

    turn, decoding = asyncio.run(job())
    assert turn.failed == 0
    assert decoding == 2


def test_decoders_of_another_node_and_other_steps_do_not_wait_for_a_full_node():
    async def job():
        supervisor = new_supervisor(decoders=1)
        await supervisor.begin(work(0), "a", 1)
        assert await supervisor.begin(work(1), "b", 2)
        for start in (0, 10, 20):
            assert await supervisor.begin(work(0, step="detect", start=start), "a", 3)
        return (await supervisor.progress()).decoding

    assert asyncio.run(job()) == 2


def test_the_next_try_of_a_decoder_that_died_takes_its_place_on_whichever_node():
    async def job():
        supervisor = new_supervisor(decoders=1)
        await supervisor.begin(work(0), "a", 1)
        again = await supervisor.begin(work(0), "a", 2)
        elsewhere = await supervisor.begin(work(0), "b", 3)
        # It left room behind.
        assert await supervisor.begin(work(1), "a", 4)
        return again.failed, elsewhere.failed

    assert asyncio.run(job()) == (1, 2)


def test_where_memory_runs_short_a_decoder_fewer_may_begin():
    async def job():
        supervisor = new_supervisor(decoders=2)
        await supervisor.observe({"a": 0.9 * LIMIT_MB})
        await supervisor.begin(work(0), "a", 1)
        return await supervisor.begin(work(1), "a", 2), await supervisor.begin(work(1), "b", 2)

    here, elsewhere = asyncio.run(job())
    assert here is None
    assert elsewhere


def test_in_a_new_pass_nothing_of_the_one_before_takes_room():
    async def job():
        supervisor = new_supervisor(decoders=1)
        await supervisor.begin(work(0), "a", 1)
        await supervisor.new_pass()
        assert await supervisor.begin(work(1), "a", 2)
        return (await supervisor.progress()).decoding

    assert asyncio.run(job()) == 1


def test_decoders_that_died_and_changed_nodes_do_not_wait_for_each_other():
    async def job():
        supervisor = new_supervisor(decoders=1)
        await supervisor.begin(work(0), "a", 1)
        await supervisor.begin(work(1), "b", 2)
        asked = [await supervisor.begin(work(0), "b", 3), await supervisor.begin(work(1), "a", 4)]
        asked.append(await supervisor.begin(work(0), "b", 3))
        return asked

    asked = asyncio.run(job())
    assert asked[0] is None
    assert [turn.failed for turn in asked[1:]] == [1, 1]


def test_a_decoder_that_died_while_it_waited_takes_no_room_later():
    async def job():
        supervisor = new_supervisor(decoders=1)
        await supervisor.begin(work(0), "a", 1)
        # It asks, and dies; what it was to decode is decoded on another node.
        assert await supervisor.begin(work(1), "a", 2) is None
        await supervisor.begin(work(1), "b", 3)
        await supervisor.decoded(work(1), 1, 0.1)
        await supervisor.decoded(work(0), 1, 0.1)
        return await supervisor.begin(work(2), "a", 4), (await supervisor.progress()).decoding

    turn, decoding = asyncio.run(job())
    assert turn.failed == 0
    assert decoding == 1


def test_each_try_of_a_work_makes_batches_of_the_first_try_s_size():
    async def job():
        supervisor = new_supervisor()
        first = await supervisor.begin(work(0), "a", 1)
        await supervisor.observe({"a": 0.9 * LIMIT_MB})
        again = await supervisor.begin(work(0), "a", 2)
        elsewhere = await supervisor.begin(work(0), "b", 3)
        other = await supervisor.begin(work(1), "a", 4)
        await supervisor.end(work(0))
        return [turn.batch_size for turn in (first, again, elsewhere, other)], (
            await supervisor.begin(work(0), "a", 5)
        ).batch_size

    sizes, anew = asyncio.run(job())
    assert sizes == [10, 10, 10, 5]
    assert anew == 5


def test_what_is_to_be_said_is_told_once():
    async def job():
        supervisor = new_supervisor()
        await supervisor.notice(["the GPU is full", "of frames"])
        await supervisor.observe({"a": 0.9 * LIMIT_MB, "b": 0.1 * LIMIT_MB})
        return [(await supervisor.progress()).notices for _ in range(3)]

    told, *more = asyncio.run(job())
    assert [notice.node for notice in told] == ["", "", "a"]
    assert [notice.text for notice in told[:2]] == ["the GPU is full", "of frames"]
    assert "near its limit" in told[2].text
    assert more == [(), ()]


def test_those_who_meet_on_a_node_go_on_together():
    async def job():
        supervisor = new_supervisor()
        early = [asyncio.create_task(supervisor.meet("a", 3)) for _ in range(2)]
        elsewhere = asyncio.create_task(supervisor.meet("b", 2))
        waits = [await is_still_waiting(task) for task in (*early, elsewhere)]
        last = await supervisor.meet("a", 3)
        met = await asyncio.wait_for(asyncio.gather(*early), timeout=5)
        waits.append(await is_still_waiting(elsewhere))
        elsewhere.cancel()
        return waits, [last, *met]

    waits, met = asyncio.run(job())
    assert waits == [True] * 4
    assert met == [True] * 3


def test_who_waits_for_others_that_do_not_come_goes_on_alone(monkeypatch):
    monkeypatch.setattr("cluster.supervisor._MEETING_S", 0.02)

    async def job():
        supervisor = new_supervisor()
        return await asyncio.gather(*(supervisor.meet("a", 3) for _ in range(2)))

    assert asyncio.run(job()) == [False, False]


def test_a_segment_given_up_for_one_batch_is_given_up_for_all():
    attempts = Attempts(lambda _: True)
    counts = [
        attempts.begin(work(step="detect", start=10, is_alone=True), "node") for _ in range(3)
    ]
    # Among others it has failed once before.
    assert counts == [1, 2, 3]
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


def test_a_segment_that_was_cut_waits_until_a_decoder_has_begun_with_one_before_it():
    async def job():
        watched = new_supervisor(ahead_bytes=10)
        assert await watched.cut(work(segment=0), 10) == 1
        assert await watched.cut(work(segment=1), 10) is None
        await watched.begin(work(segment=0), "node", 1)
        assert await watched.cut(work(segment=1), 10) == 1
        assert await watched.cut(work(segment=2), 1) is None
        # What was on its way when a pass ended will not come.
        await watched.new_pass()
        assert await watched.cut(work(segment=2), 1) == 1

    asyncio.run(job())


def test_a_node_that_joins_gets_no_real_work_before_it_is_ready():
    async def job():
        supervisor = new_supervisor()
        await supervisor.open_gate(["old"])
        admitted = [await supervisor.admit(KEY, node) for node in ("old", "new")]
        steps = [await supervisor.begin(work(step=step), "new", 1) for step in ("decode", "detect")]
        await supervisor.enlist("detector", None, "new")
        begun = await supervisor.detectors_on("new")
        await supervisor.loaded("new")
        await supervisor.open_nodes(["new"])
        later = await supervisor.begin(work(), "new", 1), await supervisor.admit(KEY, "new")
        return admitted, steps, later, (begun, await supervisor.detectors_on("new"))

    admitted, steps, later, detectors = asyncio.run(job())
    assert admitted == [1, None]
    assert steps == [None, None]
    assert later[0].failed == 0
    assert later[1] == 1
    assert detectors == ((1, 0), (1, 1))
