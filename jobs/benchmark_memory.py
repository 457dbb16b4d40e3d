"""`footfall benchmark memory`: does the cap hold? Measured from outside, on footage made for it.

    rows        footage                                             what is shown
    caps        four 1080p video tracks in one file, GOPs of 10 s   peak, spilled, frames/s for each cap
    length      one such video track, short (thrice) and long       the peak does not grow with length
    slow        four, a detector that is slowed to 2 frames/s       back-pressure holds
    smallest    four, under the least cap of `start_process`        it runs, or says what would do

The increase is the peak of the job's memory after `ready_at` less its level there: the sum of PSS over
all of its processes, Ray's included.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from jobs.benchmark_footage import film, find_clips, make_loops
from jobs.console import wide_console
from jobs.exits import EXIT_BROKE, EXIT_OK, EXIT_WRONG_SETTING, ending
from jobs.machine import machine_line
from jobs.outside import OutsideMeter
from jobs.settings import LEAST_MEMORY_MB
from pipeline.errors import StepError
from pipeline.faults import VARIABLE

CAPS_MB = (256, 512, 1024, 4096)
PARTS = ("caps", "length", "slow", "smallest")
_TRACKS = 4
_CAPS_ROW, _LENGTH_ROW = "4 video tracks", "1 video track,"
_SHORT_RUNS = 3
_SLOW_FPS = 2
_SLOW_S = 5
_LENGTH_CAP_MB = 512
_LONGEST_RUN_S = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One run, measured.

    Attributes:
        spilled_mb: What the product says that Ray spilled.
        disk_backed_mb: What of the store lay on a disk, seen from outside.
        own_mb: The increase that the product's own sampler tells.
    """

    name: str
    cap_mb: int
    frames: int
    fps: float
    baseline_mb: float
    increase_mb: float
    own_mb: float
    spilled_mb: float
    disk_backed_mb: float

    @property
    def holds(self) -> bool:
        """Whether the cap held, with nothing on a disk."""
        return self.increase_mb <= self.cap_mb and not (self.spilled_mb or self.disk_backed_mb)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure from outside what the main job adds under several caps."""
    parser = argparse.ArgumentParser(prog="footfall benchmark memory", description=main.__doc__)
    parser.add_argument("--footage", default="", metavar="PATH", help="a clip or a folder of them")
    parser.add_argument(
        "--caps", default=",".join(map(str, CAPS_MB)), help="(default: %(default)s)"
    )
    parser.add_argument("--seconds", type=int, default=60, help="of footage (default: 60)")
    parser.add_argument("--long-seconds", type=int, default=600, help="(default: 600)")
    parser.add_argument("--model", default="yolov8n.pt", help="(default: %(default)s)")
    parser.add_argument("--only", default=",".join(PARTS), help="(default: %(default)s)")
    parser.add_argument("--json", default="", metavar="FILE", help="write the rows there too")
    options = parser.parse_args(arguments)
    return ending("benchmark memory", lambda: _measure(options))


def _measure(options: argparse.Namespace) -> int:
    console, rows = wide_console(), []
    with tempfile.TemporaryDirectory(prefix="footfall-memory-") as folder:
        bench = _Bench(Path(folder), options)
        for row in bench.rows():
            rows.append(row)
            print(
                f"{row.name}, cap {row.cap_mb} MB: {row.increase_mb:.0f} MB added, "
                f"{row.fps:.1f} frames/s",
                file=sys.stderr,
            )
    _show(console, rows)
    for line in _verdicts(rows):
        console.print(line)
    console.print(f"{machine_line()}, {options.model}")
    if options.json:
        Path(options.json).write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")
    return EXIT_OK if all(row.holds for row in rows) else EXIT_BROKE


class _Bench:
    """The runs, and the footage that they share."""

    def __init__(self, folder: Path, options: argparse.Namespace) -> None:
        self._folder, self._options = folder, options
        self._loops = make_loops(find_clips(options.footage, folder), _TRACKS, folder)

    def rows(self) -> Iterator[Row]:
        """Run what was asked for, one after the other."""
        wanted, seconds = self._options.only.split(","), self._options.seconds
        if "caps" in wanted:
            four = film(self._loops, seconds, self._folder / "four.mkv")
            for cap_mb in map(int, self._options.caps.split(",")):
                yield self._run(_CAPS_ROW, four, cap_mb)
        if "length" in wanted:
            # A peak is the largest of many samples: the shorter footage may have as many.
            for length_s in (*[seconds] * _SHORT_RUNS, self._options.long_seconds):
                one = film(self._loops[:1], length_s, self._folder / f"one-{length_s}.mkv")
                yield self._run(f"{_LENGTH_ROW} {length_s} s", one, _LENGTH_CAP_MB)
        if "slow" in wanted:
            slow = film(self._loops, _SLOW_S, self._folder / "slow.mkv")
            fault = f"detect:*:*:SLOW={1000 // _SLOW_FPS}"
            name = f"detector slowed to {_SLOW_FPS} frames/s"
            yield self._run(name, slow, _LENGTH_CAP_MB, fault=fault)
        if "smallest" in wanted:
            four = film(self._loops, seconds, self._folder / "four.mkv")
            yield self._smallest(four)

    def _smallest(self, recording: Path) -> Row:
        """Run under the least cap; if it is refused, under the one that is said to do."""
        name = "4 video tracks, the least cap"
        done = self._backfill(recording, LEAST_MEMORY_MB, "")
        if done.exit_code != EXIT_WRONG_SETTING:
            return self._row(name, LEAST_MEMORY_MB, done)
        told = re.search(r"(\d+) MB would do", done.said)
        if told is None:
            raise StepError(f"refused without a cap that would do: {done.said.strip()[-300:]}")
        return self._run(name, recording, int(told[1]))

    def _run(self, name: str, recording: Path, cap_mb: int, fault: str = "") -> Row:
        return self._row(name, cap_mb, self._backfill(recording, cap_mb, fault))

    def _backfill(self, recording: Path, cap_mb: int, fault: str) -> "_Done":
        with tempfile.TemporaryDirectory(dir=self._folder) as folder:
            log, output = Path(folder) / "log", Path(folder) / "out"
            command = [
                sys.executable, "-m", "jobs.backfill", "--input", str(recording), "--output",
                str(output), "--memory-limit-mb", str(cap_mb), "--model", self._options.model,
            ]  # fmt: skip
            with log.open("wb") as stream:
                process = subprocess.Popen(
                    command, stdout=stream, stderr=stream, env=_environment(fault)
                )
                meter = OutsideMeter(process.pid)
                if not meter.watch(process, _LONGEST_RUN_S):
                    raise StepError(f"a backfill took more than {_LONGEST_RUN_S:g} s")
            summary = output / "summary.json"
            return _Done(
                exit_code=process.returncode,
                said=log.read_text(errors="replace"),
                meter=meter,
                summary=json.loads(summary.read_text()) if summary.is_file() else {},
            )

    def _row(self, name: str, cap_mb: int, done: "_Done") -> Row:
        if done.exit_code != EXIT_OK:
            raise StepError(
                f"{name}, cap {cap_mb} MB: exit code {done.exit_code}: {done.said[-500:]}"
            )
        level_mb = done.meter.level_at(done.summary["ready_at"])
        memory = done.summary["memory_usage"]
        return Row(
            name=name,
            cap_mb=cap_mb,
            frames=done.summary["frames"],
            fps=done.summary["fps"],
            baseline_mb=level_mb,
            increase_mb=done.meter.peak_after(done.summary["ready_at"]) - level_mb,
            own_mb=memory["peak_increase_mb"],
            spilled_mb=memory["spilled_mb"],
            disk_backed_mb=done.meter.disk_backed_mb,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Done:
    """A backfill that ended: what it said, what was measured, what it wrote."""

    exit_code: int
    said: str
    meter: OutsideMeter
    summary: dict[str, Any]


def _environment(fault: str) -> dict[str, str]:
    return {**os.environ, VARIABLE: fault}


def _verdicts(rows: Sequence[Row]) -> Iterator[str]:
    """Say how rows stand to each other."""
    differences = [row.own_mb / row.increase_mb - 1 for row in rows]
    if differences:
        yield f"the product's own sampler differs by {max(differences, key=abs):+.1%} at most"
    caps = {row.cap_mb: row for row in rows if row.name == _CAPS_ROW}
    if caps and _LENGTH_CAP_MB in caps:
        ratio = caps[_LENGTH_CAP_MB].fps / caps[max(caps)].fps
        yield f"frames/s under {_LENGTH_CAP_MB} MB: {ratio:.0%} of those under {max(caps)} MB"
    peaks: dict[str, float] = {}
    for row in rows:
        if row.name.startswith(_LENGTH_ROW):
            peaks[row.name] = max(peaks.get(row.name, 0.0), row.increase_mb)
    for short_mb, longer_mb in pairwise(peaks.values()):
        yield f"what the longer footage adds: {longer_mb / short_mb:.0%} of what the shorter does"


def _show(console: Console, rows: Sequence[Row]) -> None:
    table = Table(
        "run", "cap MB", "frames", "frames/s", "ready at MB", "added MB", "own MB", "spilled MB", ""
    )
    for row in rows:
        table.add_row(
            row.name,
            str(row.cap_mb),
            str(row.frames),
            f"{row.fps:.1f}",
            f"{row.baseline_mb:.0f}",
            f"{row.increase_mb:.0f}",
            f"{row.own_mb:.0f}",
            f"{row.spilled_mb + row.disk_backed_mb:.0f}",
            "holds" if row.holds else "EXCEEDED",
        )
    console.print(table)


if __name__ == "__main__":
    sys.exit(main())
