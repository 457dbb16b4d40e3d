"""`footfall benchmark speed`: footfall beside what people use today, and beside the hardware's limits.

Machines are shared and noisy, so all run in turn (A B C A B C), each in a process of its own, and what
is told is each one's median, its spread, and the median of the ratios within a round. A contender's
time is wall time from outside, of 2 N frames less that of N: what is left is its steady rate, and what
was taken off is its start-up. footfall's N is the larger one: see `Contender.longer`.
"""

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path

from jobs.benchmark_footage import film, find_clips, make_loops
from jobs.commands import said_by
from jobs.contenders import FOOTFALL, OPENVINO_TRACK, PLAIN_RAY, TORCH_TRACK, Contender, contenders
from jobs.exits import EXIT_OK, ending
from jobs.limits import STEPS, Cost, cost_alone, limit_fps
from jobs.machine import machine_line
from jobs.settings import JobSettings
from jobs.survey import survey
from pipeline.backend import DetectSettings
from pipeline.quantize import quantized
from pipeline.records import Footage
from pipeline.weights import find_weights

_NAMES = {"footfall": FOOTFALL, "torch": TORCH_TRACK, "openvino": OPENVINO_TRACK, "ray": PLAIN_RAY}
_KINDS = ("real", "1080p")
_VERSIONS = ("ray", "torch", "ultralytics", "openvino")
_EXPORT = """
import sys
from ultralytics import YOLO
weights, *size = sys.argv[1:]
YOLO(weights).export(format="openvino", imgsz=[int(side) for side in size])
"""
_HOUR_S, _DAY_S, _ARCHIVE_FPS = 3600, 86_400, 25


@dataclass(slots=True, kw_only=True)
class Figures:
    """What was measured of one contender, a figure a round.

    Attributes:
        fps: Steady frames a second.
        startup_s: Seconds besides those of its frames.
    """

    name: str
    precision: str
    fps: list[float] = field(default_factory=list)
    startup_s: list[float] = field(default_factory=list)

    def ratio_to(self, other: "Figures") -> float:
        """Return the median over the rounds of how many times faster this is."""
        return statistics.median(a / b for a, b in zip(self.fps, other.fps, strict=True))


@dataclass(slots=True, kw_only=True)
class Report:
    """What was measured on one footage.

    Attributes:
        costs: By step and precision, two costs a round: before footfall's runs and behind them.
    """

    footage: str
    frames: int
    cores: int
    figures: list[Figures]
    costs: dict[str, list[Cost]] = field(default_factory=dict)

    def ours(self, precision: str) -> Figures:
        """Return footfall's figures with a precision."""
        return next(f for f in self.figures if (f.name, f.precision) == (FOOTFALL, precision))

    @property
    def precisions(self) -> list[str]:
        """Those that footfall ran with."""
        return [each.precision for each in self.figures if each.name == FOOTFALL]

    def limits(self, precision: str) -> list[float]:
        """Return each round's frames a second of cores that detect, decode and do nothing else."""
        pairs = zip(self.costs[f"detector {precision}"], self.costs["decode"], strict=True)
        every = [limit_fps(self.cores, *pair) for pair in pairs]
        return [statistics.mean(both) for both in zip(every[::2], every[1::2], strict=True)]

    def share(self, precision: str) -> float:
        """Return how much of the limit footfall comes to: the median of the rounds' shares."""
        both = zip(self.ours(precision).fps, self.limits(precision), strict=True)
        return statistics.median(fps / limit for fps, limit in both)

    def limiting_step(self, precision: str) -> str:
        """Return the step that costs the most."""
        steps = {"detector": self.costs[f"detector {precision}"], "decode": self.costs["decode"]}
        return max(steps, key=lambda name: statistics.median(c.cpu_s_a_frame for c in steps[name]))


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure the main job beside ultralytics, plain Ray Data and the limits, in turn."""
    parser = argparse.ArgumentParser(prog="footfall benchmark speed", description=main.__doc__)
    parser.add_argument("--footage", default="", metavar="PATH", help="a clip or a folder of them")
    parser.add_argument("--kinds", default=",".join(_KINDS), help="(default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="how often all run (default: 3)")
    parser.add_argument("--seconds", type=int, default=20, help="of footage: N (default: 20)")
    parser.add_argument("--model", default="yolov8n.pt", help="(default: %(default)s)")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--precisions", default="", help="footfall's (default: fp32; fp16 on cuda)")
    parser.add_argument("--only", default=",".join(_NAMES), help="(default: %(default)s)")
    parser.add_argument("--json", default="", metavar="FILE", help="write all figures there too")
    parser.add_argument("--markdown", default="", metavar="FILE", help="write the tables there too")
    options = parser.parse_args(arguments)
    return ending("benchmark speed", lambda: _measure(options))


def _measure(options: argparse.Namespace) -> int:
    with tempfile.TemporaryDirectory(prefix="footfall-speed-") as folder:
        bench = _Bench(Path(folder), options)
        reports = [bench.report(kind) for kind in options.kinds.split(",")]
    text = "\n".join(
        [*(line for report in reports for line in _markdown(report)), _made_with(options)]
    )
    print(text)
    if options.markdown:
        Path(options.markdown).write_text(text + "\n")
    if options.json:
        every = {
            "made_with": _made_with(options),
            "reports": [asdict(report) for report in reports],
        }
        Path(options.json).write_text(json.dumps(every, indent=2) + "\n")
    return EXIT_OK


class _Bench:
    """The runs on one machine, and the footage that they share."""

    def __init__(self, folder: Path, options: argparse.Namespace) -> None:
        self._folder, self._options, self._now = folder, options, ""
        self._clip = find_clips(options.footage, folder)[0]
        usual = "fp32" if options.device == "cpu" else "fp16"
        self._precisions = (options.precisions or usual).split(",")
        shutil.copy(find_weights(options.model).path, folder / "weights.pt")

    def report(self, kind: str) -> Report:
        """Measure on the clip as it is ("real"), or as cameras film today ("1080p")."""
        folder = self._folder / kind
        folder.mkdir()
        loop = make_loops([self._clip], 1, folder)[0] if kind == "1080p" else self._clip
        once = film([loop], self._options.seconds, folder / "1.mkv")
        footage = _footage(once)
        running = self._contenders(footage, folder)
        width, height = footage.track.upright_size
        report = Report(
            footage=f"{self._clip.name} ({footage.track.codec}, {width}x{height})",
            frames=footage.track.expected_frames,
            cores=len(os.sched_getaffinity(0)),
            figures=[Figures(name=one.name, precision=one.precision) for one in running],
        )
        for number in range(self._options.rounds):
            self._now = f"{kind} {number + 1}"
            # The limits of this hour stand before footfall's runs and behind them.
            self._measure_costs(report, once)
            for one, figures in zip(running, report.figures, strict=True):
                if one.name == FOOTFALL:
                    self._measure_speed(one, figures, loop, folder)
            self._measure_costs(report, once)
            for one, figures in zip(running, report.figures, strict=True):
                if one.name != FOOTFALL:
                    self._measure_speed(one, figures, loop, folder)
        return report

    def _measure_costs(self, report: Report, recording: Path) -> None:
        for name, cost in self._costs(recording):
            report.costs.setdefault(name, []).append(cost)
            self._say(f"{name} alone", cost.fps)

    def _measure_speed(self, one: Contender, figures: Figures, loop: Path, folder: Path) -> None:
        lengths = [self._film(loop, times * one.longer, folder) for times in (1, 2)]
        counted = [_footage(length).track.expected_frames for length in lengths]
        took = [self._timed(one, length) for length in lengths]
        figures.fps.append((counted[1] - counted[0]) / max(took[1] - took[0], 1e-3))
        figures.startup_s.append(took[0] - counted[0] / figures.fps[-1])
        self._say(f"{one.name} {one.precision}", figures.fps[-1])

    def _film(self, loop: Path, times: int, folder: Path) -> Path:
        """Return a recording that is so many times as long as was asked for."""
        path = folder / f"{times}.mkv"
        return path if path.exists() else film([loop], times * self._options.seconds, path)

    def _say(self, what: str, fps: float) -> None:
        print(f"{self._now}: {what}: {fps:.1f} frames/s", file=sys.stderr)

    def _contenders(self, footage: Footage, folder: Path) -> list[Contender]:
        names = [_NAMES[name] for name in self._options.only.split(",")]
        shutil.copy(self._folder / "weights.pt", folder / "weights.pt")
        box = footage.letterbox
        if OPENVINO_TRACK in names and self._options.device == "cpu":
            shape = str(box.padded_height), str(box.padded_width)
            said_by([sys.executable, "-c", _EXPORT, str(folder / "weights.pt"), *shape])
        return contenders(
            names, box, device=self._options.device, precisions=self._precisions, folder=folder
        )

    def _timed(self, contender: Contender, recording: Path) -> float:
        with tempfile.TemporaryDirectory(dir=self._folder) as output:
            command = contender.command(recording, Path(output) / "out")
            if contender.precision == "int8":
                # Made once, as for an archive: it is no part of any frame's cost.
                shutil.copytree(self._int8(recording), Path(output) / "out" / "model")
            began = time.perf_counter()
            said_by(command)
            return time.perf_counter() - began

    def _int8(self, recording: Path) -> Path:
        """Return the folder of the quantized model of a recording's clip."""
        made = recording.parent / "int8"
        if not made.exists():
            made.mkdir()
            weights = find_weights(self._options.model)
            quantized(DetectSettings(weights=weights), [_footage(recording)], made)
        return made / "model"

    def _costs(self, recording: Path) -> Iterator[tuple[str, Cost]]:
        how = {"model": self._options.model, "device": self._options.device}
        for step in STEPS:
            for precision in self._precisions if step == "detector" else ("",):
                name = f"{step} {precision}".strip()
                yield name, cost_alone(step, recording, precision=precision, **how)


def _footage(recording: Path) -> Footage:
    return survey(JobSettings(input=(str(recording),))).wanted[0].footage


def _markdown(report: Report) -> Iterator[str]:
    """Yield the lines of a report: what a buyer asks first, then who was how fast, then the limits."""
    yield f"### {report.footage}, {report.frames} frames"
    yield ""
    for precision in report.precisions:
        fps = statistics.median(report.ours(precision).fps)
        hours = fps * _DAY_S / _ARCHIVE_FPS / _HOUR_S / report.cores
        limit = statistics.median(report.limits(precision))
        yield (
            f"**{hours:.1f} hours of {_ARCHIVE_FPS} fps video a day and core** ({precision}); "
            f"{report.limiting_step(precision)} limits; {report.share(precision):.0%} of the limit of "
            f"{limit:.1f} frames/s"
        )
    yield ""
    yield "| | precision | frames/s | of each round | start-up s | footfall is faster |"
    yield "|---|---|---|---|---|---|"
    for each in report.figures:
        every = " ".join(f"{fps:.1f}" for fps in each.fps)
        startup = statistics.median(each.startup_s)
        yield (
            f"| {each.name} | {each.precision} | {statistics.median(each.fps):.1f} | {every} "
            f"| {startup:.1f} | {_faster(report, each)} |"
        )
    for name, costs in report.costs.items():
        fps = statistics.median(cost.fps for cost in costs)
        every = " ".join(f"{cost.fps:.1f}" for cost in costs)
        cpu_ms = 1000 * statistics.median(cost.cpu_s_a_frame for cost in costs)
        yield f"| {name} alone ({cpu_ms:.1f} CPU ms a frame) | | {fps:.1f} | {every} | | |"
    yield ""


def _faster(report: Report, other: Figures) -> str:
    """Return how many times faster footfall is with the same precision, or with its nearest."""
    if other.name == FOOTFALL or not report.precisions:
        return ""
    same = other.precision if other.precision in report.precisions else report.precisions[0]
    return f"{report.ours(same).ratio_to(other):.2f}x"


def _made_with(options: argparse.Namespace) -> str:
    versions = ", ".join(f"{name} {version(name)}" for name in _VERSIONS)
    return (
        f"{machine_line()}; {versions}; {options.model}, longer side 640, people, on "
        f"{options.device}; wall time of 2 N frames less that of N, medians of {options.rounds}"
    )


if __name__ == "__main__":
    sys.exit(main())
