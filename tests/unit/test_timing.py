"""Spans of work that overlaps add up to the time that passed, and to no more."""

import pytest

from pipeline.timing import Moment, OverlappingWork


def test_each_gets_what_passed_since_the_one_in_front_was_done(monkeypatch):
    # Begun at 10 and 11, done at 14 and 15; then nothing until 20, done at 22.
    clock = iter([10.0, 11.0, 14.0, 15.0, 20.0, 22.0])

    def now(_):
        wall_s = next(clock)
        return Moment(wall_s, 2 * wall_s, 1e9 + wall_s)

    monkeypatch.setattr(OverlappingWork, "begin", now)
    work = OverlappingWork("detect")
    first, second = work.begin(), work.begin()
    spans = [work.span(first, frames=10), work.span(second, frames=10, ready_at=1e9 + 8)]
    spans.append(work.span(work.begin(), frames=5))
    assert [span.wall_s for span in spans] == pytest.approx([4, 1, 2])
    assert [span.cpu_s for span in spans] == pytest.approx([8, 2, 4])
    assert [span.wait_s for span in spans] == pytest.approx([0, 3, 0])
    assert [span.ended_at for span in spans] == [1e9 + 14, 1e9 + 15, 1e9 + 22]
