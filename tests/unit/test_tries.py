"""Work in a worker: in a row as long as it goes well, piece by piece once it does not."""

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Event, RLock

import numpy as np
import pytest

from cluster.attempts import MOST_ATTEMPTS, Attempts
from cluster.pace import Turn
from cluster.stages import _one_ahead
from cluster.tries import DecodeTries, DetectTries, decoding_of, detecting_in
from cluster.under_way import UnderWay
from pipeline.cutter import DemuxSettings
from pipeline.decode import DecodeSettings
from pipeline.errors import SourceError
from pipeline.records import Detections, FrameBatch, Gap
from pipeline.standin_source import blank_footage, cut_blank, decode_blank
from pipeline.timing import Stopwatch

CUT = DemuxSettings(segment_frames=20)
SETTINGS = DecodeSettings(batch_size=5)


class Tries:
    """Counts as the supervisor does; remembers what was said."""

    def __init__(self):
        self.attempts, self.said = Attempts(lambda _: True), []

    def begin(self, key, pieces=1):
        self.said.append(("alone" if key.is_alone else "row", key.segment, key.start, pieces))
        failed = self.attempts.begin(key, "node")
        return Turn(failed=failed, batch_size=5, limit_mb=1000)

    def end(self, key):
        self.attempts.end(key)

    def decoded(self, key, segments, wall_s):
        self.end(key)
        self.said.append(("decoded", segments, wall_s))

    def detected(self, key, took, notices):
        self.end(key)
        self.said.append(("detected", took, notices))


def segments(number):
    footage = blank_footage("door", number, CUT)
    return list(cut_blank([footage], CUT, {}))[:number]


def broken(segment, settings):
    """Decode all but segment 1, which breaks off after two batches."""
    for number, batch in enumerate(decode_blank(segment, settings)):
        if segment.index == 1 and number == 2:
            raise SourceError("broken")
        yield batch


def dies_in_the_second(segment, settings):
    for batch in decode_blank(segment, settings):
        if segment.index == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        yield batch


def here(function, *arguments):
    """Stand for a child process."""
    return function(*arguments)


def decoded(row, tries, decode=decode_blank, run_isolated=here):
    """Return what came of each segment of a row."""
    work = DecodeTries(row, SETTINGS, tries, decode, run_isolated)
    parts = [list(work.decode(segment)) for segment in row]
    work.end()
    return parts


def test_a_row_that_goes_well_is_announced_once():
    tries = Tries()
    parts = decoded(segments(3), tries)
    assert [len(some) for some in parts] == [4, 4, 4]
    assert tries.said == [("row", 0, 0, 3), ("decoded", 3, 0.0)]


def test_a_segment_that_fails_is_tried_alone_and_set_aside_and_gives_each_batch_once():
    tries = Tries()
    first, second, third = decoded(segments(3), tries, broken)
    assert [type(part) for part in second] == [FrameBatch, FrameBatch, Gap, Gap]
    assert [part.stretch.start for part in second] == [0, 5, 10, 15]
    assert second[-1].failure.attempts == MOST_ATTEMPTS
    assert "broken" in second[-1].failure.message
    assert all(isinstance(part, FrameBatch) for part in (*first, *third))
    # Once in the row, twice alone, and then it is known.
    assert [said[:2] for said in tries.said[:-1]] == [("row", 0)] + 3 * [("alone", 1)]


def test_of_a_row_that_killed_its_process_each_segment_is_tried_alone_in_another_process():
    tries, row = Tries(), segments(3)
    # The process died with the row announced, and nothing of it is left.
    tries.begin(decoding_of(row[0]))
    first, second, third = decoded(row, tries, dies_in_the_second, run_isolated=isolated_or_killed)
    assert [type(part) for part in second] == [Gap] * 4
    assert second[0].failure.attempts == MOST_ATTEMPTS
    assert all(isinstance(part, FrameBatch) for part in (*first, *third))


def isolated_or_killed(function, segment, settings):
    """Stand for a child process whose death is an error of its parent's."""
    if function is dies_in_the_second and segment.index == 1:
        raise SourceError("its process ended by SIGKILL")
    return decode_blank(segment, settings)


def test_a_segment_that_was_given_up_is_set_aside_in_the_batches_that_its_first_try_was_told():
    tries, (segment,) = Tries(), segments(1)
    for _ in range(MOST_ATTEMPTS):
        tries.begin(replace(decoding_of(segment), is_alone=True))
    work = DecodeTries([segment], DecodeSettings(batch_size=10), tries, decode_blank, here)
    gaps = list(work.decode(segment))
    assert [gap.stretch.start for gap in gaps] == [0, 5, 10, 15]
    assert all(isinstance(gap, Gap) for gap in gaps)


class Detector:
    """Finds nothing, and fails on some batches for so often."""

    def __init__(self, fails):
        self.fails, self.calls = dict(fails), 0

    def begin(self, batch):
        return lambda: self._detect(batch)

    def _detect(self, batch):
        self.calls += 1
        start = batch.stretch.start
        if self.fails.get(start, 0):
            self.fails[start] -= 1
            raise RuntimeError("no")
        watch = Stopwatch("detect")
        with watch.running():
            pass
        return Detections(
            stretch=batch.stretch,
            positions=batch.positions,
            frame_index=batch.frame_index,
            pts_s=batch.pts_s,
            frame_row=np.zeros(0, np.int64),
            boxes=np.zeros((0, 4), np.float32),
            confidence=np.zeros(0, np.float32),
            class_id=np.zeros(0, np.int64),
            spans=(watch.span(frames=len(batch.frame_index)),),
        )

    def take_notices(self):
        return ["it was full"]


@pytest.mark.parametrize(
    ("failures", "kinds"),
    [
        ({}, [Detections] * 4),
        ({5: 2}, [Detections] * 4),
        ({5: 9}, [Detections, Gap, Detections, Detections]),
    ],
    ids=["none", "twice", "always"],
)
def test_a_batch_that_fails_is_tried_alone_and_set_aside(failures, kinds):
    tries, detector = Tries(), Detector(failures)
    batches = list(decode_blank(segments(1)[0], SETTINGS))
    row = DetectTries(batches[0], detector, tries, UnderWay())
    found = [row.begin(batch)() for batch in batches]
    row.end()
    assert [type(each) for each in found] == kinds
    assert detector.calls == 4 + min(sum(failures.values()), MOST_ATTEMPTS - (Gap in kinds))
    assert tries.said[0] == ("row", 0, 0, 1)
    told, took, notices = tries.said[-1]
    assert (told, notices) == ("detected", ["it was full"])
    assert [(size, frames) for size, frames, _ in took] == [(5, 5)] * kinds.count(Detections)


def test_batches_of_a_segment_that_was_given_up_are_set_aside_without_a_try():
    tries, detector = Tries(), Detector({5: 9})
    batches = list(decode_blank(segments(1)[0], SETTINGS))
    first = DetectTries(batches[0], detector, tries, UnderWay())
    assert isinstance(first.begin(batches[1])(), Gap)
    calls = detector.calls
    second = DetectTries(batches[2], detector, tries, UnderWay())
    assert isinstance(second.begin(batches[2])(), Gap)
    assert detector.calls == calls


def test_a_batch_of_a_row_is_begun_before_the_one_in_front_is_done_and_all_come_in_order():
    said, mark = [], object()

    class Begins:
        def begin(self, batch):
            said.append(("begin", batch.stretch.start))
            return lambda: said.append(("done", batch.stretch.start)) or batch.stretch.start

    batches = list(decode_blank(segments(1)[0], SETTINGS))
    assert _one_ahead(Begins(), [*batches[:3], mark], RLock()) == [0, 5, 10, mark]
    assert [what for what, _ in said] == ["begin", "begin", "done", "begin", "done", "done"]
    assert [start for what, start in said if what == "done"] == [0, 5, 10]


def test_another_row_may_begin_while_the_last_batch_of_this_one_is_waited_for():
    turn, begun, may_end = RLock(), Event(), Event()

    class Begins:
        def begin(self, _):
            begun.set()
            return lambda: may_end.wait(5)

    batches = list(decode_blank(segments(1)[0], SETTINGS))
    with ThreadPoolExecutor(1) as threads:
        row = threads.submit(_one_ahead, Begins(), batches[:1], turn)
        assert begun.wait(5)
        assert turn.acquire(timeout=5)
        assert not row.done()
        may_end.set()
        assert row.result(5) == [True]


def test_what_is_tried_alone_is_tried_while_nobody_begins_with_anything_else():
    under_way, tries, detector = UnderWay(), Tries(), Detector({5: 1})
    batches = list(decode_blank(segments(1)[0], SETTINGS))
    row = DetectTries(batches[0], detector, tries, under_way)
    wait = row.begin(batches[1])
    with ThreadPoolExecutor(1) as threads:
        with under_way.turn:
            found = threads.submit(wait)
            with pytest.raises(TimeoutError):
                found.result(0.2)
            assert detector.calls == 1
        assert isinstance(found.result(5), Detections)
    assert detector.calls == 2


def test_what_is_tried_alone_waits_until_what_others_have_begun_with_is_done():
    under_way, tries, detector = UnderWay(), Tries(), Detector({5: 1, 10: 1})
    done = []
    detect = detector._detect

    def detected(batch):
        try:
            return detect(batch)
        finally:
            done.append(batch.stretch.start)

    detector._detect = detected
    batches = list(decode_blank(segments(1)[0], SETTINGS))
    row, other = (DetectTries(batches[i], detector, tries, under_way) for i in (0, 2))
    waits = [row.begin(batches[1]), other.begin(batches[2]), other.begin(batches[3])]
    assert isinstance(waits[0](), Detections)
    # Behind its failure all else was done before it was begun with again.
    assert done[0] == done[-1] == 5
    assert sorted(done[1:-1]) == [10, 15]
    # Others have what was found, and what failed: each of that once.
    assert isinstance(waits[2](), Detections)
    assert isinstance(waits[1](), Detections)
    assert done[4:] == [10]


def test_rows_that_fail_at_the_same_time_do_not_wait_for_each_other_for_ever():
    under_way, tries, detector = UnderWay(), Tries(), Detector({0: 1, 5: 1, 10: 1, 15: 1})
    batches = list(decode_blank(segments(1)[0], SETTINGS))
    rows = [DetectTries(batches[i], detector, tries, under_way) for i in (0, 2)]
    with ThreadPoolExecutor(2) as threads:
        found = [
            threads.submit(_one_ahead, row, some, under_way.turn)
            for row, some in zip(rows, (batches[:2], batches[2:]), strict=True)
        ]
        kinds = [type(each) for row in found for each in row.result(5)]
    assert kinds == [Detections] * 4
    assert detector.calls == 8


def test_of_a_row_that_failed_no_batch_is_begun_while_another_is_tried():
    tries, detector = Tries(), Detector({})
    batches = list(decode_blank(segments(1)[0], SETTINGS))
    tries.begin(detecting_in(batches[0]))
    row = DetectTries(batches[0], detector, tries, UnderWay())
    waits = [row.begin(batch) for batch in batches]
    assert detector.calls == 0
    assert [type(wait()) for wait in waits] == [Detections] * 4
