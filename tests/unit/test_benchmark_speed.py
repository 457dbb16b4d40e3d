"""What the speed benchmark makes of its figures."""

import pytest

from jobs.benchmark_speed import Figures, Report, _markdown
from jobs.contenders import FOOTFALL, OPENVINO_TRACK, PLAIN_RAY, TORCH_TRACK, contenders
from jobs.limits import Cost, limit_fps
from pipeline.letterbox import fit


def cost(ms, frames=100):
    """Return a cost of so many CPU milliseconds a frame, on one core."""
    return Cost(frames=frames, wall_s=frames * ms / 1000, cpu_s=frames * ms / 1000)


def report(**fps):
    """Return a report of rounds, by "name precision"."""
    figures = [
        Figures(name=name, precision=precision, fps=rounds, startup_s=[9.0] * len(rounds))
        for (name, precision), rounds in fps["fps"].items()
    ]
    rounds = len(figures[0].fps)
    costs = {
        "detector fp32": [cost(40)] * 2 * rounds,
        "detector bf16": [cost(20)] * 2 * rounds,
        "decode": [cost(10)] * 2 * rounds,
    }
    return Report(footage="a clip", frames=500, cores=2, figures=figures, costs=costs)


def test_the_limit_is_that_of_cores_that_only_detect_and_decode():
    assert limit_fps(2, cost(40), cost(10)) == pytest.approx(40)
    assert cost(20).fps == pytest.approx(50)
    both = report(fps={(FOOTFALL, "fp32"): [30.0], (FOOTFALL, "bf16"): [50.0]})
    assert both.limits("fp32") == [pytest.approx(40)]
    assert both.limits("bf16") == [pytest.approx(2000 / 30)]
    assert both.limiting_step("fp32") == "detector"


def test_a_round_is_held_against_the_limits_before_it_and_behind_it():
    hours = report(fps={(FOOTFALL, "fp32"): [36.0, 18.0, 30.0]})
    # The machine is slow in the second round, and becomes slower in the third.
    hours.costs["detector fp32"] = [cost(ms) for ms in (40, 40, 90, 90, 40, 90)]
    assert hours.limits("fp32") == pytest.approx([40, 20, 30])
    assert hours.share("fp32") == pytest.approx(0.9)


def test_ratios_are_those_within_a_round_so_that_a_slow_minute_takes_nobody_s_side():
    ours = Figures(name=FOOTFALL, precision="fp32", fps=[40.0, 20.0, 44.0])
    theirs = Figures(name=TORCH_TRACK, precision="fp32", fps=[10.0, 5.0, 10.0])
    assert ours.ratio_to(theirs) == pytest.approx(4.0)


def test_the_table_heads_with_hours_of_video_and_compares_like_with_like():
    measured = report(
        fps={
            (FOOTFALL, "fp32"): [36.0, 36.0],
            (FOOTFALL, "bf16"): [50.0, 50.0],
            (TORCH_TRACK, "fp32"): [9.0, 9.0],
            (OPENVINO_TRACK, "bf16"): [25.0, 25.0],
            (PLAIN_RAY, "fp16"): [6.0, 6.0],
        }
    )
    lines = list(_markdown(measured))
    # 36 frames/s of 25 fps video are 1.44 hours an hour: 34.56 a day, on two cores.
    assert lines[2].startswith("**17.3 hours of 25 fps video a day and core** (fp32)")
    assert "90% of the limit of 40.0 frames/s" in lines[2]
    assert "detector limits" in lines[2]
    rows = {tuple(c.strip() for c in line.split("|")[1:3]): line for line in lines if "|" in line}
    assert "| 4.00x |" in rows[TORCH_TRACK, "fp32"]
    assert "| 2.00x |" in rows[OPENVINO_TRACK, "bf16"]
    # Where footfall did not run with the same precision, with its first.
    assert "| 6.00x |" in rows[PLAIN_RAY, "fp16"]
    assert rows[FOOTFALL, "bf16"].endswith("|  |")


@pytest.mark.parametrize(
    ("device", "peers"),
    [
        ("cpu", {(TORCH_TRACK, "fp32"), (OPENVINO_TRACK, "fp32"), (OPENVINO_TRACK, "bf16")}),
        ("cuda", {(TORCH_TRACK, "fp16")}),
    ],
)
def test_all_get_the_same_weights_size_confidence_and_device(tmp_path, device, peers):
    names = (FOOTFALL, TORCH_TRACK, OPENVINO_TRACK)
    precisions = ("fp32", "bf16") if device == "cpu" else ("fp16",)
    running = contenders(
        names, fit(1920, 1080, 640), device=device, precisions=precisions, folder=tmp_path
    )
    others = [one for one in running if one.name != FOOTFALL]
    assert {(one.name, one.precision) for one in others} == peers
    for one in running:
        words = one.command(tmp_path / "a.mkv", tmp_path / "out")
        assert str(tmp_path / "a.mkv") in words
        assert words[words.index("--device") + 1] == device
        assert words[words.index("--precision") + 1] == one.precision
        if one.name != FOOTFALL:
            where = words.index("--size")
            assert words[where + 1 : where + 3] == ["384", "640"]
