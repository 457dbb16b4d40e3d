"""`footfall benchmark speed`: footfall and `ultralytics track`, in turn, on the same clips.

Machines are shared and noisy, so the two run in pairs (A B A B), each in a process of its own, and what
is reported is each one's median and the median of the pairs' ratios. Both are timed from the moment
that they are ready: models are loaded, and the first batch or frame is through.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from jobs.exits import EXIT_OK, ending
from jobs.machine import machine_line
from pipeline.errors import StepError
from pipeline.weights import find_weights

_ULTRALYTICS = """
import sys, time
from ultralytics import YOLO
weights, tracker, *clips = sys.argv[1:]
frames, seconds = 0, 0.0
for clip in clips:
    model, began = YOLO(weights), None
    for _ in model.track(clip, stream=True, verbose=False, classes=[0], tracker=tracker):
        frames += began is not None
        began = began or time.perf_counter()
    seconds += time.perf_counter() - began
print(frames / seconds)
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure the main job against `ultralytics track` (PyTorch), in turn, on the same clips."""
    parser = argparse.ArgumentParser(prog="footfall benchmark speed", description=main.__doc__)
    parser.add_argument(
        "--input", action="append", required=True, metavar="CLIP", help="repeatable"
    )
    parser.add_argument("--pairs", type=int, default=3, help="how often each runs (default: 3)")
    parser.add_argument("--model", default="yolov8n.pt", help="(default: %(default)s)")
    parser.add_argument("--tracker", default="botsort.yaml", help="ultralytics' (default: its own)")
    parser.add_argument("--precision", default="auto", help="footfall's (default: auto)")
    options = parser.parse_args(arguments)
    return ending("benchmark speed", lambda: _measure(options))


def _measure(options: argparse.Namespace) -> int:
    weights = find_weights(options.model).path
    console, ours, theirs = Console(highlight=False), [], []
    for pair in range(options.pairs):
        ours.append(_footfall(options))
        theirs.append(_ultralytics(weights, options))
        console.print(f"pair {pair + 1}: footfall {ours[-1]:.1f}, ultralytics {theirs[-1]:.1f} fps")
    ratios = [mine / other for mine, other in zip(ours, theirs, strict=True)]
    table = Table("", "median fps", "all")
    for name, figures in (("footfall", ours), ("ultralytics track", theirs), ("ratio", ratios)):
        every = " ".join(f"{figure:.2f}" for figure in figures)
        table.add_row(name, f"{statistics.median(figures):.2f}", every)
    console.print(table)
    console.print(f"{machine_line()}, precision {options.precision}")
    return EXIT_OK


def _footfall(options: argparse.Namespace) -> float:
    """Return the frames a second of a backfill, once it was ready."""
    with tempfile.TemporaryDirectory() as folder:
        inputs = [word for clip in options.input for word in ("--input", clip)]
        _run(
            [
                sys.executable, "-m", "jobs.backfill", *inputs, "--output", folder + "/out",
                "--model", options.model, "--precision", options.precision,
            ]
        )  # fmt: skip
        summary = json.loads((Path(folder) / "out" / "summary.json").read_text())
        return float(summary["fps"])


def _ultralytics(weights: str, options: argparse.Namespace) -> float:
    clips = [str(Path(clip).absolute()) for clip in options.input]
    code = [sys.executable, "-c", _ULTRALYTICS, weights, options.tracker, *clips]
    return float(_run(code).split()[-1])


def _run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip() or done.stdout.strip() or "it said nothing").splitlines()[-1]
        raise StepError(f"{command[1:3]} ended with exit code {done.returncode}: {reason}")
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
