"""`footfall metrics`: where the time of a run went, and how its memory stood to the cap."""

import argparse
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from jobs.console import wide_console
from jobs.exits import EXIT_OK, ending
from jobs.measured import Measured, read_measured
from jobs.outputs import add_output, find_output

# Waiting for its neighbours is not in a step's time; sampling memory is nobody's neighbour.
_WORK = ("demux", "decode", "detect", "track", "write")


def main(arguments: Sequence[str] | None = None) -> int:
    """Show time per step, its share, frames/s, the step that limits, and memory against the cap."""
    parser = argparse.ArgumentParser(prog="footfall metrics", description=main.__doc__)
    add_output(parser)
    parser.add_argument(
        "--attempt", default="", metavar="ID", help="one start of the run (default: all)"
    )
    options = parser.parse_args(arguments)
    return ending("metrics", lambda: _metrics(options))


def _metrics(options: argparse.Namespace) -> int:
    output, console = find_output(options).path, wide_console()
    measured = read_measured(output, options.attempt)
    show_steps(console, measured)
    show_memory(console, measured)
    return EXIT_OK


def show_steps(console: Console, measured: Measured) -> None:
    """Print a row a step, and which of them limits."""
    total_s = sum(step.wall_s for step in measured.steps)
    table = Table(box=None, pad_edge=False)
    table.add_column("step")
    for column in (
        "time s",
        "share",
        "CPU s",
        "frames",
        "MB out",
        "MB from other nodes",
        "waited s",
        "retries",
        "workers",
        "frames/s",
    ):
        table.add_column(column, justify="right")
    for step in measured.steps:
        table.add_row(
            step.step,
            f"{step.wall_s:.1f}",
            f"{step.wall_s / total_s:.0%}" if total_s else "",
            f"{step.cpu_s:.1f}",
            str(step.frames or ""),
            f"{step.bytes / 1e6:.1f}" if step.bytes else "",
            f"{step.crossed_bytes / 1e6:.1f}" if step.crossed_bytes else "",
            f"{step.wait_s:.1f}" if step.wait_s else "",
            str(step.retries or ""),
            str(step.workers or ""),
            f"{step.fps:.1f}" if step.frames else "",
        )
    console.print(table)
    work = [step for step in measured.steps if step.step in _WORK and step.frames]
    if work:
        slowest = min(work, key=lambda step: step.fps)
        console.print(
            f"{slowest.step} limits: its {slowest.workers} worker(s) do "
            f"{slowest.fps:.1f} frames/s at most"
        )


def show_memory(console: Console, measured: Measured) -> None:
    """Print a row a node and start of the run."""
    table = Table(box=None, pad_edge=False)
    for column in ("attempt", "node"):
        table.add_column(column)
    for column in (
        "ready at MB",
        "added MB",
        "cap MB",
        "share",
        "store MB",
        "spilled MB",
        "GPU MB",
    ):
        table.add_column(column, justify="right")
    table.add_column("cap")
    for node in measured.memory:
        table.add_row(
            node.attempt_id,
            node.node[:8],
            f"{node.baseline_mb:.0f}",
            f"{node.peak_increase_mb:.0f}",
            f"{node.limit_mb:.0f}",
            f"{node.peak_increase_mb / node.limit_mb:.0%}",
            f"{node.object_store_mb:.0f}",
            f"{node.spilled_mb:.0f}",
            "" if node.gpu_mem_mb is None else f"{node.gpu_mem_mb:.0f}",
            node.status,
        )
    console.print()
    console.print(table)
    console.print(f"{measured.alerts} alert(s) about memory")


if __name__ == "__main__":
    sys.exit(main())
