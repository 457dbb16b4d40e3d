"""What the profile makes of processes and spans."""

import pytest

from jobs.benchmark_profile import Profile, Share, Work, _markdown, share_out
from jobs.limits import Cost
from jobs.watched import Watched
from pipeline.errors import StepError

ROOT, DETECTOR, DECODER, TRACKER, SUPERVISOR, FFMPEG, RAYLET = range(1, 8)
TITLES = {
    ROOT: "python",
    DETECTOR: "ray::MapWorker(MapBatches(DetectStage))",
    DECODER: "ray::IDLE",
    TRACKER: "ray::CameraLogs",
    SUPERVISOR: "ray::Supervisor.begin",
    FFMPEG: "/usr/bin/ffmpeg",
    RAYLET: "raylet",
}


def steady(title, cores, until=120.0):
    """Return a process that takes so much of a core from the moment 0 on."""
    return Watched({title}, [(t, cores * t) for t in range(0, int(until) + 1, 10)])


def processes(**cores):
    """Return all processes, at rest but for those that are named."""
    return {pid: steady(title, cores.get(title[:6], 0.0)) for pid, title in TITLES.items()}


def spans(moments, frames=100):
    """Return what was logged at each moment."""
    return [
        Work(step, pid, moment, frames * (step != "memory"), cpu_s)
        for moment in moments
        for step, pid, cpu_s in (
            ("decode", DECODER, 0.5), ("detect", DETECTOR, 14.0), ("track", TRACKER, 0.3),
            ("write", TRACKER, 0.1), ("memory", None, 0.2),
        )
    ]  # fmt: skip


def test_counted_is_from_the_first_segment_that_is_logged_to_the_last():
    frames, wall_s, shares = share_out(processes(python=0.1), spans([20, 30, 45]), ROOT, 2)
    assert (frames, wall_s) == (200, 25)
    took = {share.name: share for share in shares}
    # 2.5 s of the driver, 0.4 of which were spent on memory.
    assert took["driver"].cpu_s == pytest.approx(2.1)
    assert took["watching memory, in the driver"].cpu_s == pytest.approx(0.4)
    assert took["nobody, or others"].cpu_s == pytest.approx(50 - 2.5)
    assert took["detector"].own_s == pytest.approx(28.0)
    assert took["tracking actor"].own_s == pytest.approx(0.8)


def test_a_process_is_what_its_spans_tell_or_else_what_it_is_called():
    seen = {pid: steady(title, 0.1 * pid) for pid, title in TITLES.items()}
    _, _, shares = share_out(seen, spans([0, 100]), ROOT, 4)
    took = {share.name: round(share.cpu_s, 6) for share in shares}
    assert took == {
        "driver": 10 - 0.2,
        "watching memory, in the driver": 0.2,
        "detector": 20,
        "decoder": 30,
        "tracking actor": 40,
        "supervisor": 50,
        "cutter and ffmpeg": 60,
        "Ray: raylet, control service, agents": 70,
        "nobody, or others": 400 - 280,
    }
    assert [share.cpu_s for share in shares] == sorted((s.cpu_s for s in shares), reverse=True)


def test_a_process_that_comes_or_goes_counts_for_as_long_as_it_is_there():
    late = Watched({"x"}, [(50.0, 0.0), (60.0, 5.0), (70.0, 6.0)])
    assert late.cpu_s(0, 55) == pytest.approx(2.5)
    assert late.cpu_s(55, 65) == pytest.approx(3.0)
    assert late.cpu_s(65, 500) == pytest.approx(0.5)
    assert late.cpu_s(100, 200) == 0


def test_footage_of_one_segment_has_no_steady_state():
    with pytest.raises(StepError, match="too little footage"):
        share_out(processes(), spans([20]), ROOT, 2)


def test_the_table_tells_milliseconds_and_the_share_of_the_limit():
    alone = Cost(frames=100, wall_s=4, cpu_s=8), Cost(frames=100, wall_s=1, cpu_s=1)
    slower = Cost(frames=100, wall_s=8, cpu_s=18), Cost(frames=100, wall_s=2, cpu_s=2)
    profile = Profile(
        footage="a clip",
        precision="fp32",
        cores=2,
        first_part_s=11.5,
        frames=1000,
        wall_s=80.0,
        shares=(Share(name="detector", cpu_s=120.0, own_s=118.0), Share(name="driver", cpu_s=4.0)),
        costs=(alone, slower),
    )
    lines = _markdown(profile).splitlines()
    assert "| detector | 120.00 | 118.00 | 75.0% |" in lines
    assert "| driver | 4.00 |  | 2.5% |" in lines
    # (2 / 0.09 + 2 / 0.20) / 2 = 16.11 frames/s.
    assert lines[-1].startswith(
        "12.5 frames/s, 77.6% of the limit of 16.1: alone the detector takes"
    )
    assert "130.0 CPU ms a frame, decoding 15.0" in lines[-1]
    assert lines[-1].endswith("First rows committed 11.5 s after the command began")
