"""Whole runs that ask for labels, over real HTTP, of a server that answers as Rekognition does."""

import hashlib
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import duckdb
import psutil
import pytest

from jobs.soak import compare_tables
from jobs.soak_footage import film
from pipeline.label_ledger import calls_made
from pipeline.standin_rekognition import StandInRekognition, answer_to, serving
from pipeline.verify import verify
from tests.credentials import SECRET

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]

LABELS = {"aws_labels": True, "aws_max_tps": 100.0, "region": "eu-central-1"}
# What makes rows equal, whoever wrote them.
TABLES = ("detections", "movements", "tracks")
CALLS = 2 * 5


def footfall(verb: str, *arguments: Path | str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", f"jobs.{verb}", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)


def labels(output: Path) -> list[dict]:
    sql = f"select * from read_parquet('{output}/labels/**/*.parquet', hive_partitioning=true)"
    return duckdb.sql(sql).to_arrow_table().to_pylist()


def failed(job) -> list[tuple]:
    select = "select camera_id, first_frame, last_frame, frames, step, message"
    return sorted(job.query("failures", select))


def asked_twice(rekognition: StandInRekognition) -> list[str]:
    counts = Counter(hashlib.sha256(each).hexdigest() for each in rekognition.pictures)
    return [picture for picture, count in counts.items() if count > 1]


def assert_are_the_answers(rows: list[dict], rekognition: StandInRekognition) -> None:
    """Assert that each frame has what the server said about its picture, and no picture is left."""
    told = {
        answer["Labels"][0]["Name"]: answer["Labels"]
        for answer in map(answer_to, rekognition.pictures)
    }
    for key in {(row["camera_id"], row["frame_index"]) for row in rows}:
        own = [row for row in rows if (row["camera_id"], row["frame_index"]) == key]
        ((place,), people) = [
            [row for row in own if (row["x_min"] is None) == is_place] for is_place in (True, False)
        ]
        street, person = told.pop(place["name"])
        assert place["confidence"] == pytest.approx(street["Confidence"] / 100)
        assert place["parents"] == ["City"]
        assert place["pts_s"] == pytest.approx(key[1] / 25)
        box = person["Instances"][0]["BoundingBox"]
        assert len(people) == 2
        for each in people:
            assert each["x_min"] == pytest.approx(box["Left"] * 320, rel=1e-5)
            assert each["y_max"] == pytest.approx((box["Top"] + box["Height"]) * 240, rel=1e-5)
            assert each["model_version"] == "3.0"
    assert told == {}


def test_every_60th_frame_of_each_video_track_is_asked_about_once_and_the_table_has_the_answers(
    fast_run: Callable, walkers: Path, rekognition: StandInRekognition
) -> None:
    rekognition.delay_s = 0.3
    calm = fast_run(walkers, name="calm")
    job = fast_run(walkers, **LABELS, aws_endpoint_url=rekognition.url)
    assert (job.exit_code, job.summary["status"]) == (0, "completed")
    assert rekognition.requests == CALLS
    assert asked_twice(rekognition) == []
    # Detection knows nothing of it.
    for table in TABLES:
        assert compare_tables(calm.output, job.output, table) == (0, 0, 0), table

    rows = labels(job.output)
    frames = {(row["camera_id"], row["video_track"], row["frame_index"]) for row in rows}
    assert frames == {
        (f"walkers-{track}", track, number) for track in (0, 1) for number in range(0, 300, 60)
    }
    assert_are_the_answers(rows, rekognition)

    assert job.summary["labels"] == {"calls": CALLS, "usd": 0.01, "frames_failed": 0}
    assert job.summary["performance_timings"]["aws_detection"] > CALLS * 0.3
    measured = job.query("metrics", "select sum(frames)", "where step = 'aws_detection'")
    assert measured == [(CALLS,)]
    assert verify(job.output).problems == []
    status = footfall("status", job.output).stdout
    assert f"Labels: {CALLS} calls made, 0 frames without an answer" in status
    for path in job.output.rglob("*"):
        assert not path.is_file() or SECRET.encode() not in path.read_bytes(), path

    # Started again, nothing is left to ask.
    again = fast_run(walkers, **LABELS, aws_endpoint_url=rekognition.url)
    assert (again.exit_code, rekognition.requests) == (0, CALLS)


@pytest.mark.long
def test_no_call_is_made_unless_somebody_wants_labels(
    fast_run: Callable, walkers: Path, rekognition: StandInRekognition
) -> None:
    job = fast_run(walkers, aws_endpoint_url=rekognition.url, region="eu-central-1")
    assert rekognition.requests == 0
    assert not (job.output / "labels").exists()
    assert job.summary["labels"] is None
    # Wanted later, they are made for what is done: nothing is detected again.
    later = fast_run(walkers, **LABELS, aws_endpoint_url=rekognition.url)
    assert (later.exit_code, later.summary["frames_now"]) == (0, 0)
    assert rekognition.requests == CALLS
    assert len({(r["camera_id"], r["frame_index"]) for r in labels(later.output)}) == CALLS
    assert verify(later.output).problems == []


def test_a_service_that_is_away_costs_labels_and_nothing_else_and_retry_gets_them(
    fast_run: Callable, walkers: Path
) -> None:
    server = StandInRekognition()
    with serving(server):
        url, port = server.url, int(server.url.rsplit(":", 1)[1])
    job = fast_run(walkers, **LABELS, aws_endpoint_url=url)
    assert (job.exit_code, job.summary["status"]) == (3, "partial")
    assert job.summary["frames"] == 600
    first, second = failed(job)
    assert first[:5] == ("walkers-0", 0, 240, 5, "labels")
    assert second[:5] == ("walkers-1", 0, 240, 5, "labels")
    assert "the server does not answer" in first[5]
    assert job.summary["labels"]["calls"] == 0
    assert verify(job.output).problems == []
    assert fast_run(walkers, **LABELS, aws_endpoint_url=url, partial_ok=True).exit_code == 0
    status = footfall("status", job.output).stdout
    assert "Labels: 0 calls made, 10 frames without an answer" in status

    with serving(server, port):
        again = footfall("retry", job.output)
    assert again.returncode == 0, again.stdout + again.stderr
    assert (server.requests, asked_twice(server)) == (CALLS, [])
    assert failed(job) == []
    assert len({(r["camera_id"], r["frame_index"]) for r in labels(job.output)}) == CALLS
    assert verify(job.output).problems == []
    # It was none of the detector's business.
    sql = "select count(distinct attempt_id) from read_parquet(?) where step = 'detect'"
    assert duckdb.execute(sql, [job.glob("metrics")]).fetchall() == [(1,)]


@pytest.mark.long
def test_a_server_that_is_too_busy_is_asked_again_and_no_label_is_missing(
    fast_run: Callable, walkers: Path, rekognition: StandInRekognition
) -> None:
    rekognition.throttled = 6
    job = fast_run(walkers, **LABELS, aws_endpoint_url=rekognition.url)
    assert (job.exit_code, failed(job)) == (0, [])
    assert rekognition.requests == CALLS + 6
    assert len(rekognition.pictures) == CALLS
    assert job.summary["labels"]["calls"] == CALLS


@pytest.mark.long
def test_a_refusal_names_what_is_wrong(
    fast_run: Callable, walkers: Path, rekognition: StandInRekognition
) -> None:
    rekognition.refusal = "AccessDeniedException"
    job = fast_run(walkers, **LABELS, aws_endpoint_url=rekognition.url, video_tracks="0")
    assert job.exit_code == 3
    ((*_, message),) = failed(job)
    assert "AccessDeniedException" in message
    assert job.summary["labels"]["calls"] == 0
    # Nobody went on asking who is not let in.
    assert rekognition.requests < 5 * 5


@pytest.mark.long
def test_the_limit_on_cost_holds_over_all_starts(
    fast_run: Callable, walkers: Path, rekognition: StandInRekognition
) -> None:
    how = {**LABELS, "aws_endpoint_url": rekognition.url}
    job = fast_run(walkers, **how, aws_max_cost="0.004")
    assert (job.exit_code, rekognition.requests) == (3, 4)
    assert all("beyond aws_max_cost = 0.004 USD" in row[5] for row in failed(job))
    assert sum(row[3] for row in failed(job)) == CALLS - 4
    assert footfall("retry", job.output).returncode == 3
    assert rekognition.requests == 4
    more = fast_run(walkers, **how, aws_max_cost="0.009")
    assert (more.exit_code, rekognition.requests) == (3, 9)
    done = fast_run(walkers, **how)
    assert (done.exit_code, rekognition.requests) == (0, CALLS)
    assert asked_twice(rekognition) == []


def backfill(clip: Path, output: Path, rekognition: StandInRekognition) -> list[str]:
    """Return the command of a backfill that asks about 160 frames of a clip of 2 x 800."""
    return [
        sys.executable, "-m", "jobs.backfill", "--input", str(clip), "--output", str(output),
        "--model", "stand-in", "--image-size", "320", "--part-mb", "0.02", "--aws-labels",
        "--aws-frame-skip", "10", "--aws-max-tps", "20", "--region", "eu-central-1",
        "--aws-endpoint-url", rekognition.url,
    ]  # fmt: skip


def kill_midway(command: list[str], is_midway: Callable[[], bool]) -> None:
    """Run a command and kill it, with all that it started, once it is midway."""
    driver = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    end = time.monotonic() + 120
    while not is_midway():
        assert driver.poll() is None, "it ended before it was killed"
        assert time.monotonic() < end
        time.sleep(0.02)
    family = [*psutil.Process(driver.pid).children(recursive=True), psutil.Process(driver.pid)]
    for process in reversed(family):
        with suppress(psutil.NoSuchProcess):
            process.kill()
    driver.wait()


@pytest.mark.long
def test_a_run_whose_driver_is_killed_asks_about_no_frame_twice(
    tmp_path: Path, rekognition: StandInRekognition
) -> None:
    clip, output = tmp_path / "long.mkv", tmp_path / "out"
    film(clip, [1, 2], first=0, frames=800)
    rekognition.delay_s = 0.3
    command = backfill(clip, output, rekognition)
    kill_midway(command, lambda: len(rekognition.pictures) >= 20)
    # What it was asking about is answered, and nobody is there to hear it.
    time.sleep(1)
    before = len(rekognition.pictures)
    assert 20 <= before < 160

    again = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert asked_twice(rekognition) == []
    sql = f"select sum(frames) from read_parquet('{output}/failures/*.parquet')"
    ((lost,),) = duckdb.sql(sql).fetchall()
    asked = len({(r["camera_id"], r["frame_index"]) for r in labels(output)})
    assert asked + (lost or 0) == 160
    # Some were under way when it was killed, and none but those is missing.
    assert 0 < lost <= rekognition.most_at_once
    assert again.returncode == 3, again.stdout + again.stderr
    assert len(rekognition.pictures) == calls_made(output) <= 160
    assert verify(output).problems == []

    retried = footfall("retry", output)
    assert retried.returncode == 0, retried.stdout + retried.stderr
    assert len({(r["camera_id"], r["frame_index"]) for r in labels(output)}) == 160
    assert len(asked_twice(rekognition)) <= lost
    assert verify(output).problems == []


@pytest.mark.long
def test_the_death_of_the_one_who_asks_costs_what_was_under_way_and_no_more(
    tmp_path: Path, rekognition: StandInRekognition
) -> None:
    clip, output = tmp_path / "long.mkv", tmp_path / "out"
    film(clip, [1, 2], first=0, frames=800)
    rekognition.delay_s = 0.3
    driver = subprocess.Popen(
        backfill(clip, output, rekognition), stdout=subprocess.PIPE, text=True
    )
    end = time.monotonic() + 120
    while len(rekognition.pictures) < 20:
        assert driver.poll() is None, "it ended before anybody was killed"
        assert time.monotonic() < end
        time.sleep(0.02)
    for process in psutil.Process(driver.pid).children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if process.cmdline()[:1] and process.cmdline()[0].startswith("ray::LabelActor"):
                process.kill()
                break
    else:
        pytest.fail("nobody asks for labels")
    said, _ = driver.communicate(timeout=300)
    assert driver.returncode == 3, said
    ((lost,),) = duckdb.sql(
        f"select sum(frames) from read_parquet('{output}/failures/*.parquet')"
    ).fetchall()
    assert 0 < lost <= rekognition.most_at_once
    assert len({(r["camera_id"], r["frame_index"]) for r in labels(output)}) == 160 - lost
    assert asked_twice(rekognition) == []
    assert verify(output).problems == []


def test_a_plan_tells_calls_and_price_and_asks_nobody(
    walkers: Path, rekognition: StandInRekognition
) -> None:
    plan = footfall(
        "plan", "--input", walkers, "--aws-labels", "--aws-frame-skip", "30",
        "--aws-price", "0.8", "--aws-max-cost", "5", "--aws-endpoint-url", rekognition.url,
    )  # fmt: skip
    assert plan.returncode == 0, plan.stderr
    assert "labels: about 20 calls of Rekognition in all" in plan.stdout
    assert "0.016 USD at 0.8 USD per 1,000 calls" in plan.stdout
    assert "it stops at 5 USD, over all starts" in plan.stdout
    assert rekognition.requests == 0
    assert "Rekognition" not in footfall("plan", "--input", walkers).stdout


def test_a_region_that_nobody_names_is_told_before_the_work_begins(
    walkers: Path, tmp_path: Path
) -> None:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("AWS_")}
    done = subprocess.run(
        [sys.executable, "-m", "jobs.backfill", "--input", walkers, "--output", tmp_path / "out",
         "--model", "stand-in", "--aws-labels"],
        capture_output=True, text=True, timeout=100, check=False,
        env={**environment, "AWS_CONFIG_FILE": os.devnull},
    )  # fmt: skip
    assert done.returncode == 2, done.stdout
    assert "region" in done.stderr
    assert "Starting Ray" not in done.stdout
