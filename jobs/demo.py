"""`footfall demo`: the main job, end to end, on footage whose truth is known, or on yours.

It runs the job that `footfall backfill` runs, then shows what came out: found beside true, memory
beside the cap, an answer from DuckDB, and a picture of the paths.
"""

import argparse
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb
from rich.console import Console
from rich.table import Table
from rich.text import Text

from jobs.backfill import run_job
from jobs.console import open_console, printable
from jobs.demo_footage import HEIGHT, WIDTH, Truth, make_footage, true_frames
from jobs.exits import ending
from jobs.paths_picture import draw_paths
from jobs.results import RunEnd
from jobs.settings import JobSettings
from pipeline.areas import areas_of
from pipeline.cameras import CameraRule, read_cameras
from pipeline.events import EventLog
from pipeline.tables import REFINED_TABLES, TABLES

CAMERAS = """\
[[camera]]
id = "entrance-left"
recording = "entrance_*.mkv"
video_track = 0
start_time = "entrance_%Y%m%d_%H%M%S"
[[camera.line]]
name = "middle"
points = [[320, 170], [320, 480]]

[[camera]]
id = "entrance-right"
recording = "entrance_*.mkv"
video_track = 1
start_time = "entrance_%Y%m%d_%H%M%S"
[[camera.zone]]
name = "bench"
polygon = [[200, 290], [290, 290], [290, 350], [200, 350]]
"""

WHAT_THEY_DID = """
select camera_id, event_type, name, direction, count(*), round(max(dwell_s), 1)
from read_parquet(?, hive_partitioning = true) group by all order by all
"""

WHO_WALKED = """
select camera_id, track_id,
       coalesce(strftime(first_timestamp, '%H:%M:%S'), printf('%.1f s', first_pts_s)) as since,
       coalesce(strftime(last_timestamp, '%H:%M:%S'), printf('%.1f s', last_pts_s)) as until,
       round(distance_px)::int as walked_px
from read_parquet(?, hive_partitioning = true)
where distance_px > 100
order by camera_id, first_pts_s limit 20
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the main job on footage with known truth, or on yours, and show what came out."""
    parser = argparse.ArgumentParser(prog="footfall demo", description=main.__doc__)
    parser.add_argument("--footage", metavar="PATH", help="a file, a folder or a glob of your own")
    parser.add_argument(
        "--output", metavar="DIR", default="demo-output", help="(default: %(default)s)"
    )
    options = parser.parse_args(arguments)
    console = open_console()
    return ending("demo", lambda: _demo(console, Path(options.output), options.footage))


def _demo(console: Console, output: Path, footage: str | None) -> int:
    truth: list[list[Truth]] = []
    cameras = ""
    if footage is None:
        recording, truth = make_footage(output / "footage")
        footage, cameras = str(recording), str(output / "footage" / "cameras.toml")
        Path(cameras).write_text(CAMERAS)
        people = sum(map(len, truth))
        console.print(f"demo: {recording} shows {people} people on known paths", soft_wrap=True)
    tables = output / "tables"
    settings = JobSettings(input=(footage,), output=str(tables), cameras=cameras, overwrite=True)
    end = run_job(settings, console)
    console.print()
    if truth:
        _show_truth(console, tables, truth)
        _show_events(console, tables, truth)
    _show_memory(console, end)
    _show_answer(console, tables)
    picture = draw_paths(tables, truth, output / "paths.png")
    console.print(f"Picture of the paths: {picture}", soft_wrap=True)
    console.print(
        f"Tables: {tables}/{{{','.join(TABLES)}}} and {tables}/refined/{{{','.join(REFINED_TABLES)}}}",
        soft_wrap=True,
    )
    return end.exit_code


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """The track that followed a person longest.

    Attributes:
        frames: Frames in which the track was on the person.
        error_px: Mean distance of the track's feet from the true ones.
    """

    track_id: int | None
    frames: int
    error_px: float


def match(truth: Truth, rows: Sequence[tuple[int, int, float, float]]) -> Match:
    """Find the track of a person among (track_id, frame_index, anchor_x, anchor_y) rows.

    A track is on a person where its feet are within half the person's width of the true ones.
    """
    near: dict[int, list[float]] = {}
    for track_id, frame, x, y in rows:
        box = truth.boxes.get(frame)
        if box is not None:
            distance = math.dist(((box[0] + box[2]) / 2, box[3]), (x, y))
            if distance <= (box[2] - box[0]) / 2:
                near.setdefault(track_id, []).append(distance)
    if not near:
        return Match(track_id=None, frames=0, error_px=math.nan)
    best = max(near, key=lambda track_id: len(near[track_id]))
    return Match(track_id=best, frames=len(near[best]), error_px=sum(near[best]) / len(near[best]))


def _show_truth(console: Console, tables: Path, truth: Sequence[Sequence[Truth]]) -> None:
    table = Table("video track", "person", "frames: true", "followed", "by track", "feet off by")
    counts = []
    for number, people in enumerate(truth):
        rows = duckdb.execute(
            "select track_id, frame_index, anchor_x, anchor_y from "
            "read_parquet(?, hive_partitioning = true) where video_track = ?",
            [f"{tables}/refined/movements/**/*.parquet", number],
        ).fetchall()
        for person in people:
            found = match(person, rows)
            by = "none" if found.track_id is None else str(found.track_id)
            off = "" if found.track_id is None else f"{found.error_px:.1f} px"
            cells = (str(number), person.who, str(len(person.boxes)), str(found.frames), by, off)
            table.add_row(*cells)
        tracks = len({row[0] for row in rows})
        counts.append(f"video track {number}: {len(people)} people walked, {tracks} tracks found")
    console.print(table)
    console.print("\n".join(counts))


def _show_events(console: Console, tables: Path, truth: Sequence[Sequence[Truth]]) -> None:
    """Show the events of the log beside those of the true paths."""
    rules = read_cameras(str(tables / "cameras.toml"))
    true = {
        (rule.id, *key): value
        for rule in rules
        for key, value in _true_events(truth[rule.video_track], rule).items()
    }
    rows = duckdb.execute(WHAT_THEY_DID, [f"{tables}/refined/events/**/*.parquet"]).fetchall()
    found = {row[:4]: row[4:] for row in rows}
    table = Table("camera", "event", "where", "direction", "true", "told", "stay, s: true", "told")
    for key in sorted({*true, *found}, key=str):
        (count, dwell_s), (told, told_s) = (each.get(key, (0, None)) for each in (true, found))
        cells = (
            *key[:3],
            key[3] or "",
            count,
            told,
            "" if dwell_s is None else dwell_s,
            told_s or "",
        )
        table.add_row(*(Text(printable(str(cell))) for cell in cells))
    console.print(table)


def _true_events(
    people: Sequence[Truth], rule: CameraRule
) -> dict[tuple[str, str, str | None], tuple[int, float | None]]:
    """Return how many events of each kind the true paths amount to, and the longest stay."""
    log, areas = EventLog({0: "person"}, 60.0), areas_of(rule.scene, WIDTH, HEIGHT, rule.id)
    for frame in true_frames(people):
        log.push(frame, areas)
    log.flush()
    events: dict[tuple[str, str, str | None], list[float | None]] = {}
    for row in log.events().to_pylist():
        key = row["event_type"], row["name"], row["direction"]
        events.setdefault(key, []).append(row["dwell_s"])
    return {
        key: (len(stays), round(max(s), 1) if (s := [x for x in stays if x is not None]) else None)
        for key, stays in events.items()
    }


def _show_memory(console: Console, end: RunEnd) -> None:
    usage = end.memory_usage()
    console.print(
        f"Memory: at most {usage['peak_increase_mb']:.0f} MB above the ready state, "
        f"the cap is {usage['memory_limit_mb']} MB"
    )


def _show_answer(console: Console, tables: Path) -> None:
    """Answer a question with DuckDB: who walked, and when."""
    if not list(tables.glob("refined/tracks/**/*.parquet")):
        console.print("No table of tracks: nothing could be processed")
        return
    answer = duckdb.execute(WHO_WALKED, [f"{tables}/refined/tracks/**/*.parquet"])
    columns = [column[0] for column in answer.description or []]
    table = Table(*columns, title="Who walked, and when (DuckDB)", title_justify="left")
    for row in answer.fetchall():
        table.add_row(*(Text(printable(str(cell))) for cell in row))
    console.print(table)


if __name__ == "__main__":
    sys.exit(main())
