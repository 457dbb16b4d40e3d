"""What the labels benchmark makes of its figures."""

from jobs.benchmark_labels import Pair, table


def test_what_is_left_of_the_speed_is_the_median_of_the_rounds_own_shares() -> None:
    pairs = [
        Pair(without_fps=40.0, with_fps=38.0, calls=25),
        Pair(without_fps=20.0, with_fps=20.0, calls=25),
        Pair(without_fps=50.0, with_fps=40.0, calls=25),
    ]
    lines = table("clip.mp4", pairs).splitlines()
    assert lines[2] == "| 40.0 | 38.0 | 25 | 95.0% |"
    assert lines[-1] == "clip.mp4: 95.0% of the speed is left, median of rounds"
