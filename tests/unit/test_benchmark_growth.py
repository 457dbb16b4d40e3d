"""What the growth benchmark makes of its figures."""

import pytest

from jobs.benchmark_growth import BusyMeter, Growth, _markdown, _verdicts


def growth(name, *, recordings=1, frames=1000, cpu_s=50.0, whole_cpu_s=80.0):
    """Return a run in which detecting takes 80 % of the machine's time."""
    return Growth(
        name=name, recordings=recordings, frames=frames, startup_s=9.0, wall_s=25.0, cpu_s=cpu_s,
        whole_cpu_s=whole_cpu_s, steps_cpu_s={"detect": 0.8 * cpu_s},
    )  # fmt: skip


def test_busy_seconds_are_those_between_the_samples_nearest_behind_two_moments():
    meter = BusyMeter(samples=[(10.0, 100.0), (11.0, 101.5), (12.0, 103.0), (13.0, 103.5)])
    assert meter.between(10.5, 12.0) == pytest.approx(1.5)
    assert meter.between(9.0, 99.0) == pytest.approx(3.5)


def test_the_verdicts_compare_what_a_frame_costs():
    rows = [
        growth("length"),
        growth("length", frames=20_000, cpu_s=1010.0),
        growth("recordings", recordings=100, frames=20_000, cpu_s=1030.2),
        growth("overhead", frames=5000, whole_cpu_s=100.0),
        growth("overhead", recordings=1001, frames=5000, whole_cpu_s=400.0),
        growth("stride", frames=1000, cpu_s=18.0),
    ]
    assert list(_verdicts(rows)) == [
        "CPU ms of a frame (length, 20000 frames): detect 40.40, Ray, its store and the rest 10.10",
        "a frame of the longer footage costs 101.0% of one of the shorter",
        "a frame in 100 recordings costs 102.0% of one in a single one",
        "a recording costs 0.30 s of one core besides its frames",
        "every 3rd frame costs 36% of all of them, decoding included",
    ]


def test_the_table_tells_frames_a_second_and_what_a_frame_costs():
    assert _markdown([growth("length")]).splitlines()[-1] == (
        "| length | 1 | 1000 | 9.0 | 40.0 | 50.0 | 80 |"
    )
