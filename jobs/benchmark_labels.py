"""`footfall benchmark labels`: what labels cost the run that they are made beside.

The same footage with labels and without, in turn (A B A B), each in a process of its own; a server on
this machine stands in for Rekognition and takes its time over each answer. What is told are frames a
second from the moment of readiness to the end of the command, labels that are waited for included.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jobs.benchmark_footage import film, find_clips
from jobs.exits import EXIT_OK, ending
from jobs.machine import machine_line
from pipeline.errors import StepError
from pipeline.standin_rekognition import StandInRekognition, serving

# The server looks at no credentials, but nothing is sent without.
_NOBODY = {"AWS_ACCESS_KEY_ID": "nobody", "AWS_SECRET_ACCESS_KEY": "nothing"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A round: frames a second without labels and with them, and how many calls those took."""

    without_fps: float
    with_fps: float
    calls: int

    @property
    def share(self) -> float:
        """What is left of the speed."""
        return self.with_fps / self.without_fps


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what labels cost the run that they are made beside."""
    parser = argparse.ArgumentParser(prog="footfall benchmark labels", description=main.__doc__)
    parser.add_argument("--footage", default="", metavar="PATH", help="a clip or a folder of them")
    parser.add_argument("--rounds", type=int, default=2, help="how often both run (default: 2)")
    parser.add_argument("--seconds", type=int, default=60, help="of footage (default: 60)")
    parser.add_argument("--model", default="yolov8n.pt", help="(default: %(default)s)")
    parser.add_argument("--frame-skip", type=int, default=60, help="(default: %(default)s)")
    parser.add_argument("--answer-ms", type=int, default=300, help="(default: %(default)s)")
    options = parser.parse_args(arguments)
    return ending("benchmark labels", lambda: _measure(options))


def _measure(options: argparse.Namespace) -> int:
    with tempfile.TemporaryDirectory(prefix="footfall-labels-") as name:
        folder = Path(name)
        clip = find_clips(options.footage, folder)[0]
        recording = film([clip], options.seconds, folder / "footage.mkv")
        pairs = []
        for _ in range(options.rounds):
            without, _ = _run(recording, options, None)
            server = StandInRekognition(delay_s=options.answer_ms / 1000)
            with serving(server):
                beside, calls = _run(recording, options, server)
            pairs.append(Pair(without_fps=without, with_fps=beside, calls=calls))
            print(f"{without:.1f} frames/s without labels, {beside:.1f} with", file=sys.stderr)
    print(table(clip.name, pairs))
    print(f"{machine_line()}; {options.model}, every {options.frame_skip} frames, ", end="")
    print(f"{options.answer_ms} ms an answer")
    return EXIT_OK


def _run(
    recording: Path, options: argparse.Namespace, server: StandInRekognition | None
) -> tuple[float, int]:
    """Return frames a second, and the calls that were made."""
    with tempfile.TemporaryDirectory(dir=recording.parent) as folder:
        output = Path(folder) / "out"
        command = [sys.executable, "-m", "jobs.backfill", "--input", recording, "--output", output]
        command += ["--model", options.model]
        if server:
            command += ["--aws-labels", "--aws-frame-skip", options.frame_skip]
            command += ["--region", "us-east-1", "--aws-endpoint-url", server.url]
        done = subprocess.run(
            list(map(str, command)),
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, **_NOBODY},
        )
        ended_at = time.time()
        if done.returncode:
            raise StepError(f"the run ended with exit code {done.returncode}: {done.stdout[-500:]}")
        summary = json.loads((output / "summary.json").read_text())
        calls = int(summary["labels"]["calls"]) if server else 0
        return summary["frames"] / (ended_at - summary["ready_at"]), calls


def table(footage: str, pairs: Sequence[Pair]) -> str:
    """Return the rounds as Markdown, and what is left of the speed."""
    lines = ["| frames/s without labels | with labels | calls | left |", "|---|---|---|---|"]
    lines += [
        f"| {each.without_fps:.1f} | {each.with_fps:.1f} | {each.calls} | {each.share:.1%} |"
        for each in pairs
    ]
    left = statistics.median(each.share for each in pairs)
    return "\n".join([*lines, "", f"{footage}: {left:.1%} of the speed is left, median of rounds"])


if __name__ == "__main__":
    sys.exit(main())
