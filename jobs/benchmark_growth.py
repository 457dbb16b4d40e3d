"""`footfall benchmark growth`: does a frame cost the same, however much footage there is?

    rows         footage                                          what is shown
    length       one recording, short and long                    what a frame costs does not grow
    recordings   as long, in a hundred of them                    nor with their number
    overhead     many short recordings, and one as long as all    what one costs besides its frames
    stride       every third frame of the short one               what is saved by looking at fewer

CPU seconds are those that the whole machine was busy for, so nothing else should run on it. Length and
recordings run the real detector; overhead runs the stand-in, which leaves the rest to be seen.
"""

import argparse
import json
import shutil
import sys
import tempfile
import threading
import time
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psutil

from jobs.benchmark_footage import film, find_clips
from jobs.commands import said_by
from jobs.exits import EXIT_OK, ending
from jobs.machine import machine_line
from jobs.measured import read_measured
from pipeline.standin_backend import STAND_IN

PARTS = ("length", "recordings", "overhead", "stride")
_SHORT_S, _STRIDE, _SAMPLE_S = 60, 3, 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Growth:
    """One run, measured from outside.

    Attributes:
        frames: Of the footage, looked at or not.
        startup_s: From the command's start to readiness.
        wall_s, cpu_s: From readiness to the last committed part; the CPU seconds are the machine's.
        whole_cpu_s: The machine's from the command's start to its end.
        steps_cpu_s: What the product's own spans tell of each step.
    """

    name: str
    recordings: int
    frames: int
    startup_s: float
    wall_s: float
    cpu_s: float
    whole_cpu_s: float
    steps_cpu_s: dict[str, float]

    @property
    def fps(self) -> float:
        """Frames of footage a second, once ready."""
        return self.frames / self.wall_s

    @property
    def cpu_ms(self) -> float:
        """CPU milliseconds of a frame, once ready."""
        return 1000 * self.cpu_s / self.frames


@dataclass(slots=True)
class BusyMeter:
    """Samples how many CPU seconds the machine has been busy for."""

    samples: list[tuple[float, float]] = field(default_factory=list)
    _done: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> "BusyMeter":
        self._sample()
        threading.Thread(target=self._run, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._sample()

    def _run(self) -> None:
        while not self._done.wait(_SAMPLE_S):
            self._sample()

    def _sample(self) -> None:
        times = psutil.cpu_times()
        self.samples.append((time.time(), sum(times) - times.idle - times.iowait - times.guest))

    def between(self, begin: float, end: float) -> float:
        """Return the busy seconds between two moments of unix time, to a sample's exactness."""
        moments = [when for when, _ in self.samples]
        places = (min(bisect_left(moments, moment), len(moments) - 1) for moment in (begin, end))
        first, last = (self.samples[place][1] for place in places)
        return last - first


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what a frame costs as footage grows longer and recordings more."""
    parser = argparse.ArgumentParser(prog="footfall benchmark growth", description=main.__doc__)
    parser.add_argument("--footage", default="", metavar="PATH", help="a clip or a folder of them")
    parser.add_argument("--minutes", type=int, default=20, help="of the long footage (default: 20)")
    parser.add_argument("--many", type=int, default=100, help="recordings of it (default: 100)")
    parser.add_argument(
        "--recordings", type=int, default=1000, help="for the overhead (default: 1000)"
    )
    parser.add_argument("--recording-s", type=int, default=5, help="length of each (default: 5)")
    parser.add_argument("--model", default="yolov8n.pt", help="(default: %(default)s)")
    parser.add_argument("--only", default=",".join(PARTS), help="(default: %(default)s)")
    parser.add_argument("--json", default="", metavar="FILE", help="write the rows there too")
    options = parser.parse_args(arguments)
    return ending("benchmark growth", lambda: _measure(options))


def _measure(options: argparse.Namespace) -> int:
    rows = []
    with tempfile.TemporaryDirectory(prefix="footfall-growth-") as folder:
        for row in _Bench(Path(folder), options).rows():
            rows.append(row)
            print(f"{row.name}: {row.fps:.1f} frames/s", file=sys.stderr)
    print(_markdown(rows), *_verdicts(rows), f"{machine_line()}, {options.model}", sep="\n")
    if options.json:
        Path(options.json).write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")
    return EXIT_OK


class _Bench:
    """The runs, and the clip that they loop."""

    def __init__(self, folder: Path, options: argparse.Namespace) -> None:
        self._folder, self._options = folder, options
        self._clip = find_clips(options.footage, folder)[0]

    def rows(self) -> Iterator[Growth]:
        """Run what was asked for, one after the other."""
        wanted, model = self._options.only.split(","), self._options.model
        long_s = 60 * self._options.minutes
        if "length" in wanted or "stride" in wanted:
            yield self._run("length", self._footage(1, _SHORT_S), model)
        if "length" in wanted or "recordings" in wanted:
            yield self._run("length", self._footage(1, long_s), model)
        if "recordings" in wanted:
            many = self._options.many
            yield self._run("recordings", self._footage(many, long_s // many), model)
        if "overhead" in wanted:
            many, each_s = self._options.recordings, self._options.recording_s
            yield self._run("overhead", self._footage(1, many * each_s), STAND_IN)
            yield self._run("overhead", self._footage(many, each_s), STAND_IN)
        if "stride" in wanted:
            yield self._run("stride", self._footage(1, _SHORT_S), model, "--stride", str(_STRIDE))

    def _footage(self, recordings: int, seconds: int) -> Path:
        """Return a folder of recordings of so many seconds each, all of one camera's footage."""
        folder = self._folder / f"{recordings}x{seconds}"
        if not folder.exists():
            folder.mkdir()
            first = film([self._clip], seconds, folder / "00000.mkv")
            for number in range(1, recordings):
                shutil.copy(first, folder / f"{number:05}.mkv")
        return folder

    def _run(self, name: str, footage: Path, model: str, *more: str) -> Growth:
        with tempfile.TemporaryDirectory(dir=self._folder) as temporary:
            output = Path(temporary) / "out"
            command = [
                sys.executable, "-m", "jobs.backfill", "--input", str(footage), "--output",
                str(output), "--model", model, *more,
            ]  # fmt: skip
            began = time.time()
            with BusyMeter() as meter:
                said_by(command)
            summary = json.loads((output / "summary.json").read_text())
            steps = {each.step: each.cpu_s for each in read_measured(output).steps}
        ready_at, wall_s = summary["ready_at"], summary["frames"] / summary["fps"]
        return Growth(
            name=name,
            recordings=len(list(footage.iterdir())),
            frames=summary["frames"] * (_STRIDE if more else 1),
            startup_s=ready_at - began,
            wall_s=wall_s,
            cpu_s=meter.between(ready_at, ready_at + wall_s),
            whole_cpu_s=meter.between(began, time.time()),
            steps_cpu_s=steps,
        )


def _markdown(rows: Sequence[Growth]) -> str:
    lines = [
        "| | recordings | frames | ready after s | frames/s | CPU ms a frame | CPU s in all |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row.name} | {row.recordings} | {row.frames} | {row.startup_s:.1f} | {row.fps:.1f} "
        f"| {row.cpu_ms:.1f} | {row.whole_cpu_s:.0f} |"
        for row in rows
    ]
    return "\n".join(lines)


def _verdicts(rows: Sequence[Growth]) -> Iterator[str]:
    """Say where a frame's time goes, and how rows stand to each other."""
    longest = max(rows, key=lambda row: row.frames)
    rest_s = longest.cpu_s - sum(longest.steps_cpu_s.values())
    each = {**longest.steps_cpu_s, "Ray, its store and the rest": rest_s}
    parts = (f"{step} {1000 * cpu_s / longest.frames:.2f}" for step, cpu_s in each.items())
    yield f"CPU ms of a frame ({longest.name}, {longest.frames} frames): {', '.join(parts)}"
    lengths = [row for row in rows if row.name == "length"]
    if len(lengths) > 1:
        ratio = lengths[1].cpu_ms / lengths[0].cpu_ms
        yield f"a frame of the longer footage costs {ratio:.1%} of one of the shorter"
    for many in (row for row in rows if row.name == "recordings"):
        ratio = many.cpu_ms / lengths[-1].cpu_ms
        yield f"a frame in {many.recordings} recordings costs {ratio:.1%} of one in a single one"
    overheads = [row for row in rows if row.name == "overhead"]
    if overheads:
        one, many = overheads
        each_s = (many.whole_cpu_s - one.whole_cpu_s) / (many.recordings - one.recordings)
        yield f"a recording costs {each_s:.2f} s of one core besides its frames"
    for stride in (row for row in rows if row.name == "stride"):
        share = stride.cpu_ms / lengths[0].cpu_ms
        yield f"every {_STRIDE}rd frame costs {share:.0%} of all of them, decoding included"


if __name__ == "__main__":
    sys.exit(main())
