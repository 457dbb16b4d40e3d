"""`footfall soak`: kill whatever runs, at random moments, and see whether anything is lost.

A small backfill on a cluster of two nodes is run undisturbed once. Then, for each seed, it is run
while a schedule kills a detector, a decoder, a tracking actor, a node and the driver; started again
until it is done; and its tables are compared with the undisturbed run's, row for row.
"""

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import duckdb

from cluster.testbed import Testbed, open_testbed
from jobs.exits import EXIT_BROKE, EXIT_OK, EXIT_PARTIAL, ending
from jobs.soak_footage import make_soak_footage
from pipeline.errors import StepError
from pipeline.ledger import table_files
from pipeline.standin_backend import STAND_IN
from pipeline.verify import verify

KINDS = ("detector", "decoder", "tracker", "node", "driver")
TABLES = ("detections", "movements", "tracks", "failures")
_WORKER_NODES = 1
_KILLS_A_SEED = 6
_LONGEST_PAUSE_S = 1.5
# A victim of the kind that is due may not be there just now.
_PATIENCE_S = 4.0
_MOST_STARTS = 12
_LONGEST_RUN_S = 300.0


@dataclass(slots=True)
class Tally:
    """What the soak has seen."""

    kills: Counter[str] = field(default_factory=Counter)
    runs: int = 0
    lost: int = 0
    doubled: int = 0
    differ: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def is_clean(self) -> bool:
        """Whether nothing was lost, doubled or different."""
        return not (self.lost or self.doubled or self.differ or self.problems)

    def show(self) -> str:
        """Return it as text."""
        kinds = ", ".join(f"{kind} {self.kills[kind]}" for kind in KINDS)
        lines = [
            f"kills that hit: {self.kills.total()} ({kinds})",
            f"runs: {self.runs}",
            f"rows lost: {self.lost}",
            f"rows doubled: {self.doubled}",
            f"tables that differ: {len(self.differ)}",
            f"problems that verify found: {len(self.problems)}",
        ]
        return "\n".join([*lines, *self.differ, *self.problems])


@dataclass(slots=True)
class Driver:
    """A backfill as a process of its own, joined to the testbed."""

    command: list[str]
    log: Path
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, once more perhaps."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self.command, stdout=log, stderr=log)

    @property
    def exit_code(self) -> int | None:
        """Its exit code, None while it runs."""
        return self.process.poll() if self.process else None

    def kill(self) -> bool:
        """Kill it; False if it had ended."""
        if self.process is None or self.exit_code is not None:
            return False
        self.process.kill()
        self.process.wait()
        return True


def main(arguments: Sequence[str] | None = None) -> int:
    """Kill whatever runs, at random moments, and see whether a row is lost, doubled or different."""
    parser = argparse.ArgumentParser(prog="footfall soak", description=main.__doc__)
    parser.add_argument("--seeds", type=int, default=30, metavar="N", help="(default: %(default)s)")
    parser.add_argument(
        "--first-seed", type=int, default=0, metavar="N", help="to go on behind others"
    )
    parser.add_argument("--real", action="store_true", help="the real detector, on people")
    parser.add_argument("--keep", metavar="DIR", help="keep footage, tables and logs there")
    options = parser.parse_args(arguments)
    return ending("soak", lambda: _soak(options))


def _soak(options: argparse.Namespace) -> int:
    folder = Path(options.keep or tempfile.mkdtemp(prefix="footfall-soak-")).absolute()
    cameras = make_soak_footage(folder / "footage", real=options.real)
    tally = Tally()
    try:
        with open_testbed(_WORKER_NODES) as testbed:
            print("soak: the undisturbed run", flush=True)
            calm = _driver(testbed, cameras, folder / "calm", real=options.real)
            _finish(calm, tally)
            for seed in range(options.first_seed, options.first_seed + options.seeds):
                output = folder / f"seed-{seed}"
                driver = _driver(testbed, cameras, output, real=options.real)
                began = time.monotonic()
                hits = disturb(testbed, driver, output, random.Random(seed), tally)
                _compare(folder / "calm", output, seed, tally)
                took_s = time.monotonic() - began
                print(f"soak: seed {seed}: {took_s:.0f} s, {' '.join(hits)}", flush=True)
                if tally.is_clean:
                    shutil.rmtree(output)
    finally:
        print(tally.show(), flush=True)
        if tally.is_clean and not options.keep:
            shutil.rmtree(folder)
        else:
            print(f"soak: all is in {folder}")
    return EXIT_OK if tally.is_clean else EXIT_BROKE


def _driver(testbed: Testbed, cameras: Path, output: Path, *, real: bool) -> Driver:
    command = [
        sys.executable, "-m", "jobs.backfill", "--input", str(cameras.parent),
        "--cameras", str(cameras), "--output", str(output), "--address", testbed.address,
        # Many small parts, so that kills fall between them too.
        "--part-mb", "0.02", "--batch-size", "16", "--device", "cpu",
    ]  # fmt: skip
    if not real:
        command += ["--model", STAND_IN, "--image-size", "320"]
    os.environ["RAY_AUTH_MODE"] = "disabled"
    return Driver(command, output.parent / f"{output.name}.log")


def disturb(
    testbed: Testbed, driver: Driver, output: Path, chance: random.Random, tally: Tally
) -> list[str]:
    """Run a backfill to its end while its processes are killed; return what was hit."""
    kinds = [*chance.sample(KINDS, len(KINDS)), *chance.choices(KINDS, k=_KILLS_A_SEED)]
    hits = []
    tally.runs += 1
    driver.start()
    for kind in kinds[:_KILLS_A_SEED]:
        if not _wait_for_work(driver, output):
            break
        time.sleep(chance.uniform(0, _LONGEST_PAUSE_S))
        if _kill(kind, testbed, driver, chance):
            hits.append(kind)
            tally.kills[kind] += 1
        if driver.exit_code is not None:
            tally.runs += 1
            driver.start()
        while testbed.worker_nodes < _WORKER_NODES:
            time.sleep(chance.uniform(0, _LONGEST_PAUSE_S))
            testbed.add_node()
    _finish(driver, tally)
    return hits


def _wait_for_work(driver: Driver, output: Path) -> bool:
    """Wait until detections come on disk; False if the run ends before."""

    def on_disk() -> set[str]:
        # A walk, for it does not mind folders that are removed meanwhile.
        return {
            str(Path(folder, name))
            for kind, beginning in (("staging", ""), ("ledger", "part-"))
            for folder, _, names in os.walk(output / kind)
            for name in names
            if name.startswith(beginning)
        }

    before, end = on_disk(), time.monotonic() + _LONGEST_RUN_S
    while driver.exit_code is None:
        if on_disk() - before:
            return True
        if time.monotonic() > end:
            raise StepError(f"nothing came on disk within {_LONGEST_RUN_S:.0f} s: see {driver.log}")
        time.sleep(0.05)
    return False


def _kill(kind: str, testbed: Testbed, driver: Driver, chance: random.Random) -> bool:
    """Kill something of a kind, as soon as there is one; False if there is none in time."""
    end = time.monotonic() + _PATIENCE_S
    while time.monotonic() < end and driver.exit_code is None:
        if kind == "driver":
            return driver.kill()
        if kind == "node":
            return testbed.kill_node(chance.choice)
        if testbed.kill_worker(kind, chance.choice):
            return True
        time.sleep(0.01)
    return False


def _finish(driver: Driver, tally: Tally) -> None:
    """Let a run come to its end, started again as often as it needs."""
    for _ in range(_MOST_STARTS):
        if driver.process is None:
            tally.runs += 1
            driver.start()
        assert driver.process is not None
        try:
            driver.process.wait(_LONGEST_RUN_S)
        except subprocess.TimeoutExpired as error:
            driver.kill()
            raise StepError(f"a run did not end: see {driver.log}") from error
        # One recording is corrupt.
        if driver.exit_code == EXIT_PARTIAL:
            return
        driver.process = None
    raise StepError(f"the run did not end in {_MOST_STARTS} starts: see {driver.log}")


def _compare(calm: Path, output: Path, seed: int, tally: Tally) -> None:
    """Hold the tables of a disturbed run against those of the undisturbed one."""
    for table in TABLES:
        lost, doubled, other = compare_tables(calm, output, table)
        tally.lost += lost
        tally.doubled += doubled
        if lost or doubled or other:
            tally.differ.append(
                f"seed {seed}: {table}: {lost} lost, {doubled} doubled, {other} other"
            )
    for problem in verify(output).problems:
        tally.problems.append(f"seed {seed}: {problem.where}: {problem.what}")
    for path in (p for p in table_files(output) if p.suffix != ".parquet"):
        tally.problems.append(f"seed {seed}: left over: {path}")


def compare_tables(expected: Path, found: Path, table: str) -> tuple[int, int, int]:
    """Return how many rows are lost, are there too often, and are none of the expected ones."""
    rows = "select * from read_parquet('{}/**/*.parquet', hive_partitioning = true)"
    one, two = (rows.format(folder / table) for folder in (expected, found))
    with duckdb.connect() as database:
        missing = f"select count(*) from (({one}) except all ({two}))"
        (lost,) = database.execute(missing).fetchall()[0]
        more = f"select count(*) from (({two}) except all ({one}))"
        (extra,) = database.execute(more).fetchall()[0]
        (foreign,) = database.execute(f"select count(*) from (({two}) except ({one}))").fetchall()[
            0
        ]
    return lost, extra - foreign, foreign


if __name__ == "__main__":
    sys.exit(main())
