"""The cap, on whole runs: it holds when a step is slow, and what runs short goes on with less."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jobs import metrics
from jobs.measured import read_measured
from jobs.soak_footage import film
from pipeline.errors import ConfigError
from pipeline.faults import VARIABLE
from tests.conftest import RayHead

pytestmark = [pytest.mark.ray, pytest.mark.footage]

TABLES = ("detections", "movements", "tracks")


@pytest.fixture(scope="module")
def joined(ray_head: RayHead) -> RayHead:
    """Join Ray for each job anew: one's workers are no other's memory."""
    return ray_head


def alerts(job: Any) -> list[str]:
    """Return what was said about memory."""
    said = job.query("metrics", "select message", "where step = 'alert' order by time")
    return [message for (message,) in said]


@pytest.mark.long
def test_smaller_batches_for_want_of_memory_or_for_speed_give_the_same_tables(
    fast_run: Callable, walkers: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = fast_run(walkers, name="undisturbed")
    auto = fast_run(walkers, name="auto", batch_size=-1)
    assert auto.summary["config"]["batch_size"] == "auto"
    assert auto.summary["memory_plan"]["batch_size"] == 32
    monkeypatch.setenv(VARIABLE, "detect:*:*:NOMEM=3")
    poor = fast_run(walkers, name="poor")
    first, second = alerts(poor)
    assert "10 frames do not fit" in first
    assert "5 frame(s) at once" in first
    assert "2 frame(s) at once" in second
    for job in (auto, poor):
        assert job.exit_code == 0
        for table in TABLES:
            assert job.rows(table) == undisturbed.rows(table), table


def test_a_slow_detector_holds_up_the_steps_before_it_and_not_the_memory(
    fast_run: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    film(tmp_path / "long.mkv", [1, 2], first=0, frames=900)
    monkeypatch.setenv(VARIABLE, "detect:*:*:SLOW=10")
    job = fast_run(tmp_path / "long.mkv", memory_limit_mb=300, image_size=640)
    assert job.exit_code == 0
    memory, plan = job.summary["memory_usage"], job.summary["memory_plan"]
    assert memory["status"] == "held"
    assert memory["spilled_mb"] == 0
    stored = job.query("metrics", "select max(object_store_mb)", "where step = 'memory'")[0][0]
    # 1,800 frames of 1.2 MB went through a store that held a part of them at any time.
    assert stored * (1 << 20) < plan["in_flight_bytes"] * 4 < 1800 * 640 * 640 * 3 / 4


@pytest.mark.long
def test_a_worker_that_keeps_growing_is_replaced_and_its_segment_is_not_held_against_it(
    fast_run: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    film(tmp_path / "long.mkv", [1, 2], first=0, frames=900)
    expected = fast_run(tmp_path / "long.mkv", name="expected")
    monkeypatch.setenv(VARIABLE, "decode:*:*:LEAK=100,detect:*:*:SLOW=20")
    job = fast_run(tmp_path / "long.mkv", memory_limit_mb=512)
    assert job.exit_code == 0
    assert [job.rows(table) for table in TABLES] == [expected.rows(table) for table in TABLES]
    assert any("Ended a worker that kept growing" in said for said in alerts(job))
    assert job.query("failures", "select count(*)") == [(0,)]


def test_a_store_that_is_too_small_for_the_plan_is_refused_and_not_left_to_spill(
    fast_run: Callable, walkers: Path
) -> None:
    with pytest.raises(ConfigError, match=r"object store .* has 4\d\d MB.*--object-store-memory"):
        fast_run(walkers, memory_limit_mb=8192, batch_size=600, image_size=640)


def test_every_second_and_every_step_of_every_segment_has_a_row(
    fast_run: Callable, walkers: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = fast_run(walkers)
    measured = read_measured(job.output)
    by_step = {step.step: step for step in measured.steps}
    for step in ("demux", "decode", "detect", "track", "write"):
        assert by_step[step].frames == 600
    assert by_step["decode"].bytes == 600 * 320 * 256 * 3
    assert by_step["demux"].bytes > 10_000
    assert by_step["detect"].wait_s > 0
    timings = job.summary["performance_timings"]
    assert timings["yolo_detection"] == pytest.approx(by_step["detect"].wall_s, abs=1e-3)
    assert timings["memory_management"] == pytest.approx(by_step["memory"].wall_s, abs=1e-3)
    (node,) = measured.memory
    assert node.baseline_mb == pytest.approx(job.summary["baseline_mb"], abs=0.1)
    assert node.peak_increase_mb <= node.limit_mb
    assert job.summary["memory_plan"]["in_flight_bytes_in_effect"] == pytest.approx(
        job.summary["memory_plan"]["in_flight_bytes"]
    )
    sql = "select max(rss_mb >= pss_mb and pss_mb >= uss_mb)", "where step = 'memory'"
    assert job.query("metrics", *sql) == [(True,)]
    capsys.readouterr()
    assert metrics.main([str(job.output)]) == 0
    said = capsys.readouterr().out
    assert "limits: its" in said
    assert "held" in said
    assert metrics.main([str(job.output / "nothing")]) == 2
