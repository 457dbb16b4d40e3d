"""A run that is started again goes on: nothing twice, nothing lost, equal to one undisturbed."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import duckdb
import psutil
import pytest

from jobs.soak import compare_tables
from jobs.soak_footage import film
from jobs.status import survey_output
from pipeline.track import TrackSettings
from pipeline.verify import verify

pytestmark = [pytest.mark.ray, pytest.mark.faults, pytest.mark.timeout(900)]

TABLES = ("detections", "movements", "tracks", "failures")


def footfall(verb: str, *arguments: Path | str, **environment: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", f"jobs.{verb}", *map(str, arguments)]
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
        env={**os.environ, **environment},
    )


def backfill(clip: Path, output: Path, *more: str) -> list[str]:
    """Return the command of a backfill with the stand-in for a detector, and small parts."""
    return [
        sys.executable, "-m", "jobs.backfill", "--input", str(clip), "--output", str(output),
        "--model", "stand-in", "--image-size", "320", "--part-mb", "0.02", *more,
    ]  # fmt: skip


def detected(output: Path) -> list[tuple[Any, ...]]:
    """Return frames detected by attempt; each counts once, by the one whose result was kept."""
    sql = "select attempt_id, sum(frames) from read_parquet(?) where step = 'detect' group by 1"
    return duckdb.execute(sql, [f"{output}/metrics/*.parquet"]).fetchall()


def assert_equal(expected: Path, found: Path) -> None:
    for table in TABLES:
        assert compare_tables(expected, found, table) == (0, 0, 0), table
    assert verify(found).problems == []
    assert not list(found.rglob("*.partial"))
    assert not list(found.glob("staging/*/*"))


@pytest.fixture(scope="module")
def long_walk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a recording that takes long enough to be killed in: 2 video tracks, 800 frames each."""
    path = tmp_path_factory.mktemp("long") / "long.mkv"
    film(path, [1, 2], first=0, frames=800)
    return path


def test_a_run_whose_driver_and_ray_are_killed_goes_on_and_equals_an_undisturbed_one(
    fast_run: Callable, long_walk: Path, tmp_path: Path
) -> None:
    calm = fast_run(long_walk, name="calm")
    output = tmp_path / "killed"
    driver = subprocess.Popen(backfill(long_walk, output), stdout=subprocess.DEVNULL)
    end = time.monotonic() + 120
    while not list(output.glob("ledger/*/part-*.json")):
        assert driver.poll() is None, "it ended before it was killed"
        assert time.monotonic() < end
        time.sleep(0.05)
    family = [*psutil.Process(driver.pid).children(recursive=True), psutil.Process(driver.pid)]
    for process in reversed(family):
        with suppress(psutil.NoSuchProcess):
            process.kill()
    driver.wait()
    kept = sum(line.frames for line in survey_output(output))
    assert 0 < kept < 1600

    done = subprocess.run(
        backfill(long_walk, output), capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Going on with run" in done.stdout
    assert_equal(calm.output, output)
    # Two starts, and each frame's detection counts once; what was on disk was not made again.
    by_attempt = [int(frames) for _, frames in detected(output)]
    assert len(by_attempt) == 2
    assert sum(by_attempt) == 1600
    assert kept in by_attempt


def test_a_run_that_is_done_starts_no_ray_and_changes_nothing(
    fast_run: Callable, walkers: Path, tmp_path: Path
) -> None:
    job = fast_run(walkers)
    before = {path: path.stat().st_mtime_ns for path in job.output.rglob("part-*")}
    # No cluster answers at this address: whoever tried to join it would fail.
    done = subprocess.run(
        backfill(walkers, tmp_path / "out", "--address", "127.0.0.1:1"),
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "2 of 2 video track(s) are done" in done.stdout
    assert {path: path.stat().st_mtime_ns for path in job.output.rglob("part-*")} == before


@pytest.mark.long
def test_only_a_changed_recording_is_done_again(
    fast_run: Callable, walkers: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "archive"
    folder.mkdir()
    shutil.copy(walkers, folder / "a.mkv")
    shutil.copy(walkers, folder / "b.mkv")
    first = fast_run(folder)
    film(folder / "b.mkv", [4], first=0, frames=120)
    second = fast_run(folder)
    assert (first.summary["frames"], second.summary["frames_now"]) == (1200, 120)
    assert first.summary["run_id"] == second.summary["run_id"]
    alone = fast_run(folder, name="anew")
    for table in TABLES[:3]:
        # The second video track of the recording that changed is not there any more, and its
        # earlier rows stay: nobody asked for them to go.
        now = [row for row in second.rows(table) if "b-1" not in row]
        assert set(alone.rows(table)) <= set(now), table


@pytest.mark.long
def test_changed_thresholds_of_the_tracker_need_no_detection_again(
    fast_run: Callable, walkers: Path
) -> None:
    fast_run(walkers)
    other = TrackSettings(birth=0.95, lost_after_s=0.4)
    again = fast_run(walkers, track=other)
    assert again.summary["frames_now"] == 0
    anew = fast_run(walkers, track=other, name="anew")
    for table in TABLES:
        assert compare_tables(anew.output, again.output, table) == (0, 0, 0), table
    assert verify(again.output).problems == []


@pytest.mark.long
def test_recordings_that_come_later_go_on_behind_those_that_are_done(
    fast_run: Callable, tmp_path: Path
) -> None:
    folder, cameras = tmp_path / "archive", tmp_path / "cameras.toml"
    folder.mkdir()
    cameras.write_text(
        '[[camera]]\nid = "door"\nrecording = "d_*"\nstart_time = "d_%Y%m%d_%H%M%S"\n'
    )
    film(folder / "d_20260115_090000.mkv", [1], first=0, frames=200)
    first = fast_run(folder, cameras=str(cameras))
    film(folder / "d_20260115_090008.mkv", [1], first=200, frames=200)
    second = fast_run(folder, cameras=str(cameras))
    assert (first.summary["frames_now"], second.summary["frames_now"]) == (200, 200)
    at_once = fast_run(folder, cameras=str(cameras), name="at_once")
    for table in TABLES:
        assert compare_tables(at_once.output, second.output, table) == (0, 0, 0), table
    crossing = second.query(
        "movements",
        "select track_id",
        "group by track_id having count(distinct source_uri) = 2",
    )
    assert crossing, "nobody walks on from one recording into the next"


@pytest.mark.long
def test_footage_that_gets_another_camera_leaves_no_row_under_the_first(
    fast_run: Callable, walkers: Path, tmp_path: Path
) -> None:
    fast_run(walkers)
    cameras = tmp_path / "cameras.toml"
    cameras.write_text('[[camera]]\nid = "gate"\nrecording = "walkers.mkv"\nvideo_track = 1\n')
    job = fast_run(walkers, cameras=str(cameras))
    cameras_now = {row[0] for row in job.query("detections", "select distinct camera_id")}
    assert cameras_now == {"walkers-0", "gate"}
    assert verify(job.output).problems == []


def test_a_second_run_on_a_camera_that_is_worked_on_is_refused(
    long_walk: Path, tmp_path: Path, ray_head: Any
) -> None:
    output = tmp_path / "out"
    command = backfill(long_walk, output, "--address", ray_head.address)
    first = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        end = time.monotonic() + 60
        while not list(output.glob("ledger/*/lease.json")):
            assert time.monotonic() < end
            time.sleep(0.05)
        second = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert second.returncode == 1
        assert f"is worked on by process {first.pid}" in second.stderr
        assert "Traceback" not in second.stderr
        said, _ = first.communicate(timeout=120)
        assert first.returncode == 0, said
    finally:
        first.kill()
    assert verify(output).problems == []
    assert not list(output.glob("ledger/*/lease.json"))


def test_retry_does_again_what_failed_and_nothing_else(
    fast_run: Callable, walkers: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calm = fast_run(walkers, name="calm")
    monkeypatch.setenv("FOOTFALL_FAULT", "decode:0:1:SIGSEGV")
    failed = fast_run(walkers)
    ((message, signal_name, attempts, frames, first, last),) = failed.query(
        "failures", "select message, signal, attempts, frames, first_frame, last_frame"
    )
    assert "SIGSEGV" in message
    assert (signal_name, attempts, last - first + 1) == ("SIGSEGV", 3, frames)
    assert 100 <= frames < 200
    assert (failed.exit_code, failed.summary["frames"]) == (3, 600 - frames)
    monkeypatch.delenv("FOOTFALL_FAULT")
    again = footfall("retry", failed.output)
    assert again.returncode == 0, again.stdout + again.stderr
    assert_equal(calm.output, failed.output)
    assert sum(int(frames) for _, frames in detected(failed.output)) == 600
    status = footfall("status", failed.output).stdout
    assert "2 of 2 video track(s) done, 600 frames looked at, 0 failed, about 0 left" in status


@pytest.mark.long
def test_a_run_that_fails_everywhere_stops_and_keeps_what_was_committed(
    walkers: Path, tmp_path: Path, ray_head: Any
) -> None:
    output = tmp_path / "out"
    limit = ("--address", ray_head.address, "--max-failed-segments", "2")
    done = subprocess.run(
        backfill(walkers, output, *limit),
        capture_output=True, text=True, timeout=200, check=False,
        env={**os.environ, "FOOTFALL_FAULT": "decode:*:*:SIGSEGV"},
    )  # fmt: skip
    assert done.returncode == 1, done.stdout + done.stderr
    assert "3 of 3 segments failed, more than max_failed_segments = 2 allows" in done.stderr
    assert "Traceback" not in done.stderr
    # Nothing of it is taken for done: without the fault, the same command does the rest.
    again = subprocess.run(
        backfill(walkers, output, *limit), capture_output=True, text=True, timeout=200, check=False
    )
    assert again.returncode == 3, again.stdout + again.stderr
    assert footfall("retry", output).returncode == 0
    assert verify(output).frames == 600


@pytest.mark.long
def test_partial_ok_ends_with_0_when_only_some_recordings_failed(
    fast_run: Callable, walkers: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "archive"
    folder.mkdir()
    shutil.copy(walkers, folder / "good.mkv")
    (folder / "bad.mp4").write_text("no video")
    job = fast_run(folder, partial_ok=True)
    assert (job.exit_code, job.summary["status"]) == (0, "partial")
    assert len(job.query("failures")) == 1
    (folder / "good.mkv").unlink()
    nothing = fast_run(folder, partial_ok=True, name="nothing")
    assert (nothing.exit_code, nothing.summary["status"]) == (3, "failed")


@pytest.mark.long
def test_shards_share_one_output_and_their_tables_equal_one_drivers(
    fast_run: Callable, walkers: Path, tmp_path: Path, ray_head: Any
) -> None:
    folder = tmp_path / "archive"
    folder.mkdir()
    shutil.copy(walkers, folder / "a.mkv")
    film(folder / "b.mkv", [5], first=0, frames=150)
    (folder / "bad.mp4").write_text("no video")
    calm = fast_run(folder, name="calm")
    output = tmp_path / "shared"
    drivers = [
        subprocess.Popen(
            backfill(folder, output, "--address", ray_head.address, "--shard", f"{index}/2"),
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for index in range(2)
    ]  # fmt: skip
    said = [driver.communicate(timeout=200)[0] for driver in drivers]
    # The first shard tells of what could not be read.
    assert [driver.returncode for driver in drivers] == [3, 0], said
    assert_equal(calm.output, output)
    runs = {
        duckdb.execute(f"select run_id from read_json_auto('{path}')").fetchall()[0][0]
        for path in output.glob("summary-*-of-2.json")
    }
    assert len(runs) == 1
