"""`footfall status`: what of an output is done, what failed, what is left."""

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from jobs.console import printable, wide_console
from jobs.exits import EXIT_OK, ending
from jobs.labelling import label_failures
from jobs.outputs import add_output, find_output
from jobs.results import read_survey_failures
from pipeline.holdings import FootageResult, add_up, chains_of, read_wanted
from pipeline.label_ledger import calls_made
from pipeline.lease import workers
from pipeline.ledger import CameraLedger, cameras_of
from pipeline.purged import marked, read_purges
from pipeline.refined import read_refined
from pipeline.staging import staged_frames
from pipeline.store import side_by_side

_COLUMNS = ("recording", "track", "camera", "state", "frames", "failed", "left")


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """Where one video track of one recording stands.

    Attributes:
        state: "done", "partial", "failed", "begun", "waiting", or "unreadable".
        left: Frames to look at, as far as the container told.
    """

    source_uri: str
    video_track: int | None
    camera_id: str
    state: str
    frames: int = 0
    failed: int = 0
    left: int = 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Say what of an output is done, what failed and what is left, by recording and video track."""
    parser = argparse.ArgumentParser(prog="footfall status", description=main.__doc__)
    add_output(parser)
    options = parser.parse_args(arguments)
    return ending("status", lambda: _status(options))


def _status(options: argparse.Namespace) -> int:
    run = find_output(options)
    lines = sorted(
        survey_output(run.path), key=lambda line: (line.source_uri, line.video_track or 0)
    )
    console = wide_console()
    show(console, lines)
    for worker in workers(run.path):
        console.print(f"At work: {printable(str(worker))}", soft_wrap=True)
    console.print(f"Run {run.run_id[:12]}: " + _sum_up(lines), soft_wrap=True)
    cameras = cameras_of(run.path)
    unrefined = side_by_side(run.path, lambda each: _lacks_refined(run.path, each), cameras)
    waiting = [each for each, lacks in zip(cameras, unrefined, strict=True) if lacks]
    if line := _purged_line(run.path):
        console.print(printable(line), soft_wrap=True)
    if line := _labels_line(run.path, cameras):
        console.print(line, soft_wrap=True)
    if waiting:
        console.print(f"{len(waiting)} camera(s) have no refined tables yet", soft_wrap=True)
    return EXIT_OK


def _lacks_refined(output: Path, camera_id: str) -> bool:
    """Say whether a camera has footage, and no refined tables of it."""
    return read_refined(output, camera_id) is None and bool(CameraLedger(output, camera_id).parts())


def _purged_line(output: Path) -> str:
    """Return what was purged; "" if nothing was."""
    purges = read_purges(output)
    if not purges.each:
        return ""
    told = (
        f"before {p.before.isoformat()}: {', '.join(p.cameras)}" for p in purges.each if p.before
    )
    unfinished = marked(output)
    return (
        f"Purged: {len(purges.footage)} video track(s), {purges.frames} frames in all"
        + "".join(f"; {each}" for each in dict.fromkeys(told))
        + (f"; not finished for {len(unfinished)} camera(s)" if unfinished else "")
    )


def _labels_line(output: Path, cameras: Sequence[str]) -> str:
    """Return how far the labels are; "" if there are none."""
    calls = calls_made(output)
    failures = label_failures(output, cameras)
    if not calls and not failures:
        return ""
    missing = sum(failure.frames for failure in failures)
    again = "; `footfall retry` asks again" if missing else ""
    return f"Labels: {calls} calls made, {missing} frames without an answer{again}"


def survey_output(output: Path) -> Iterator[Line]:
    """Yield where each video track stands that was asked for, or is in the ledger."""
    committed = {
        key: result for chain in chains_of(output) for key, result in add_up(chain).items()
    }
    gone = read_purges(output).footage
    wanted = {
        name: row
        for row in read_wanted(output)
        if (name := (row["source_uri"], row["video_track"])) not in gone
    }
    staged = staged_frames(output, {key: r.segments for key, r in committed.items()})
    for key in {**wanted, **committed}:
        row = wanted.get(key)
        camera_id = row["camera_id"] if row else committed[key].camera_id
        nothing = FootageResult(camera_id=camera_id, source_uri=key[0], video_track=key[1])
        yield _line(
            committed.get(key, nothing),
            staged.get((camera_id, *key), 0),
            row["expected_frames"] if row else 0,
        )
    for failure in read_survey_failures(output):
        yield Line(
            source_uri=failure["source_uri"],
            video_track=failure["video_track"],
            camera_id="",
            state="unreadable",
        )


def _line(result: FootageResult, staged: int, expected: int) -> Line:
    frames = result.frames + staged
    states = {"completed": "done", "unfinished": "begun" if frames else "waiting"}
    left = 0 if result.is_ended else max(0, expected - frames - result.frames_failed)
    return Line(
        source_uri=result.source_uri,
        video_track=result.video_track,
        camera_id=result.camera_id,
        state=states.get(result.status, result.status),
        frames=frames,
        failed=result.frames_failed,
        left=left,
    )


def show(console: Console, lines: Sequence[Line]) -> None:
    """Print a table of where the video tracks stand."""
    table = Table(box=None, pad_edge=False)
    for column in _COLUMNS:
        right = column in ("track", "frames", "failed", "left")
        table.add_column(column, justify="right" if right else "left", overflow="fold")
    for line in lines:
        track = "" if line.video_track is None else str(line.video_track)
        cells = (
            line.source_uri, track, line.camera_id, line.state,
            str(line.frames), str(line.failed), str(line.left),
        )  # fmt: skip
        table.add_row(*(Text(printable(cell)) for cell in cells))
    console.print(table)


def _sum_up(lines: Sequence[Line]) -> str:
    tracks = [line for line in lines if line.state != "unreadable"]
    done = sum(line.state == "done" for line in tracks)
    parts = [
        f"{done} of {len(tracks)} video track(s) done",
        f"{sum(line.frames for line in lines)} frames looked at",
        f"{sum(line.failed for line in lines)} failed",
        f"about {sum(line.left for line in lines)} left",
    ]
    for state in ("partial", "failed", "begun", "waiting", "unreadable"):
        if count := sum(line.state == state for line in lines):
            parts.append(f"{count} {state}")
    return ", ".join(parts)


if __name__ == "__main__":
    sys.exit(main())
