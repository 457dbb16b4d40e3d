"""Nodes are awaited, get lost and join while a job runs: it goes on, and whoever joins gets work."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pytest

from cluster.testbed import Testbed, open_testbed
from jobs.soak import compare_tables
from jobs.soak_footage import film
from pipeline.verify import verify

pytestmark = [pytest.mark.ray, pytest.mark.faults, pytest.mark.timeout(600)]

TABLES = ("detections", "movements", "tracks", "failures")


@pytest.fixture(scope="module")
def testbed() -> Iterator[Testbed]:
    """Return a cluster with a head node without CPUs, and no other yet."""
    with open_testbed(0, head_cpus=0) as testbed:
        yield testbed


@pytest.fixture(scope="module")
def long_walk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("long") / "long.mkv"
    film(path, [1, 2], first=0, frames=800)
    return path


def backfill(clip: Path, output: Path, address: str, *more: str) -> list[str]:
    return [
        sys.executable, "-m", "jobs.backfill", "--input", str(clip), "--output", str(output),
        "--model", "stand-in", "--image-size", "320", "--part-mb", "0.02", "--address", address,
        "--device", "cpu", *more,
    ]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Driver:
    """A backfill that runs, and what it says."""

    process: subprocess.Popen[bytes]
    log: Path

    def await_that(self, is_so: Callable[[], bool], what: str) -> None:
        end = time.monotonic() + 150
        while not is_so():
            assert self.process.poll() is None, f"ended before {what}:\n{self.log.read_text()}"
            assert time.monotonic() < end, f"not in time: {what}:\n{self.log.read_text()}"
            time.sleep(0.1)

    def await_line(self, words: str) -> None:
        self.await_that(lambda: words in self.log.read_text(), words)


@contextmanager
def run_slowly(command: list[str], log: Path) -> Iterator[Driver]:
    """Run a command whose detectors take their time."""
    slowed = {**os.environ, "FOOTFALL_FAULT": "detect:*:*:SLOW=20"}
    with log.open("wb") as said:
        process = subprocess.Popen(command, stdout=said, stderr=said, env=slowed)
    try:
        yield Driver(process, log)
    finally:
        process.kill()
        process.wait()


def test_a_job_on_a_cluster_without_workers_waits_as_long_as_it_may_and_says_what_is_missing(
    testbed: Testbed, long_walk: Path, tmp_path: Path
) -> None:
    waits = ("--wait-for-nodes-s", "3", "--detect-resource", "gpu_box")
    done = subprocess.run(
        backfill(long_walk, tmp_path / "out", testbed.address, *waits),
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Waiting for nodes: none has CPUs and 'gpu_box'; for 3 s at most" in done.stdout
    assert "no node that has it has CPUs: start one with `ray start --resources" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.long
def test_a_job_waits_for_its_first_node_outlives_it_and_gives_work_to_those_that_join(
    testbed: Testbed, fast_run: Callable, long_walk: Path, tmp_path: Path
) -> None:
    calm = fast_run(long_walk, name="calm")
    output = tmp_path / "out"
    with run_slowly(backfill(long_walk, output, testbed.address), tmp_path / "log") as driver:
        driver.await_line("Waiting for nodes: none has CPUs")
        testbed.add_node()
        driver.await_that(lambda: any(output.glob("staging/*/*")), "something is on disk")
        testbed.add_node()
        first, second = testbed.nodes
        driver.await_line(f"Node {second[:8]} is ready")
        assert testbed.kill_node(lambda nodes: nodes[0])
        testbed.add_node()
        third = testbed.nodes[1]
        driver.await_line(f"Node {third[:8]} is ready")
        assert driver.process.wait(300) == 0, driver.log.read_text()
    for table in TABLES:
        assert compare_tables(calm.output, output, table) == (0, 0, 0), table
    assert verify(output).problems == []
    sql = "select node, step, sum(frames)::int, max(increase_mb) from read_parquet(?) group by all"
    rows = duckdb.execute(sql, [f"{output}/metrics/*.parquet"]).fetchall()
    frames = {(node, step): frames for node, step, frames, _ in rows}
    increase_mb = {node: most for node, step, _, most in rows if step == "memory"}
    for node in (first, second, third):
        assert frames[node, "decode"] > 0, (first, second, third, frames)
        assert frames[node, "detect"] > 0, (first, second, third, frames)
        # Its memory counts from when it was ready.
        assert increase_mb[node] < 1024
