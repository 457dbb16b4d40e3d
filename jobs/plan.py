"""`footfall plan`: what a backfill would do, without doing any of it."""

import argparse
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from cluster.memory import MemoryPlan
from cluster.meter import MIB
from jobs.console import clock, printable, show_failures, wide_console
from jobs.exits import EXIT_OK, EXIT_PARTIAL, ending
from jobs.found import Found, Survey, disk_bytes, within
from jobs.labelling import cost_line, frames_to_ask
from jobs.options import add_options, resolve
from jobs.settings import JobSettings
from jobs.spec import plan_here
from jobs.survey import TOO_LARGE, survey
from pipeline.aws import ARCHIVED
from pipeline.store import check_reach, reach_s3

_COLUMNS = ("recording", "track", "camera", "codec", "size", "fps", "length", "frames", "skipped")


def main(arguments: Sequence[str] | None = None) -> int:
    """List every video track with its camera and its work, and what would be skipped and why."""
    parser = argparse.ArgumentParser(prog="footfall plan", description=main.__doc__)
    add_options(parser)
    options = parser.parse_args(arguments)
    return ending("plan", lambda: _plan(resolve(options)))


def _plan(settings: JobSettings) -> int:
    if settings.output:
        reach_s3(settings.aws)
        check_reach(settings.output_path)
    found, console = survey(settings), wide_console()
    show(console, found)
    if found.wanted:
        plan = plan_here(settings, [each.footage for each in found.wanted], None)
        show_memory(console, plan, disk_bytes(settings, found))
    if settings.aws_labels:
        console.print(cost_line(settings, frames_to_ask(settings, found)))
    return EXIT_PARTIAL if found.failures else EXIT_OK


def show(console: Console, found: Survey) -> None:
    """Print the plan: a table, what cannot be read, and the work to come."""
    table = Table(box=None, pad_edge=False)
    for column in _COLUMNS:
        right = column in ("track", "fps", "length", "frames")
        table.add_column(column, justify="right" if right else "left", overflow="fold")
    for each in found.found:
        table.add_row(*(Text(printable(cell)) for cell in _cells(each)))
    console.print(table)
    if found.failures:
        show_failures(console, found.failures)
    wanted = found.wanted
    sizes = {each.recording.source_uri: each.recording.size_bytes for each in wanted}
    frames = sum(
        within(e.footage, -(-e.footage.track.expected_frames // e.footage.stride)) for e in wanted
    )
    console.print(
        f"{len(wanted)} video track(s) of {len(sizes)} recording(s), "
        f"{len({each.footage.key.camera_id for each in wanted})} camera(s): about {frames} frames "
        f"to look at, {sum(sizes.values()) / 1e6:.1f} MB to read"
    )
    if found.unopened:
        console.print(f"{found.unopened} recording(s) more were told apart by name and not opened")
    _show_storage(console, found)


def _show_storage(console: Console, found: Survey) -> None:
    """Print where S3 keeps the recordings: what is archived cannot be read as it is."""
    classes = sorted(found.storage_classes.items())
    if classes:
        console.print("in S3: " + ", ".join(f"{count} {name}" for name, count in classes))
    if archived := sum(count for name, count in classes if name in ARCHIVED):
        console.print(
            f"{archived} recording(s) are archived: what is not restored in S3 first will fail"
        )
    if too_large := {e.footage.source_uri for e in found.found if e.skipped == TOO_LARGE}:
        console.print(f"{len(too_large)} recording(s) are larger than --cache-gb and will fail")


def show_memory(console: Console, plan: MemoryPlan, disk: float) -> None:
    """Print what a node like this one needs: the parts of the cap, the machine's share, and disk."""
    temporary = f"at most {disk / 1e9:.3g} GB of temporary disk" if disk else "no temporary disk"
    parts = ", ".join(f"{name} {size // MIB} MB" for name, size in plan.parts.items())
    console.print(
        f"memory that a node like this one adds once it is ready: at most {plan.limit_mb} MB, of "
        f"which {parts}; batches of {plan.batch_size} frames, {plan.decoders} decoder(s); "
        f"{plan.smallest_mb} MB would do; {temporary}"
    )


def _cells(found: Found) -> tuple[str, ...]:
    track = found.footage.track
    width, height = track.upright_size
    return (
        found.footage.source_uri,
        str(track.video_track),
        found.footage.key.camera_id,
        track.codec,
        f"{width}x{height}",
        f"{track.rate_fps:.5g}" if track.rate_fps else "?",
        clock(track.duration_s) if track.duration_s is not None else "?",
        str(track.expected_frames or "?"),
        found.skipped,
    )


if __name__ == "__main__":
    sys.exit(main())
