"""The log of the one video track of an output that a verb is about: asked for, found, and read."""

import argparse
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from jobs.mot import Tracks, tracks_of
from jobs.outputs import add_output, find_output
from pipeline.errors import ConfigError
from pipeline.holdings import committed_cameras
from pipeline.ledger import cameras_of
from pipeline.refined import read_refined
from pipeline.run_folder import RunFolder
from pipeline.store import copies, shown, walk

_OF_FOOTAGE = "source_uri = $source_uri and video_track = $video_track"
_ROWS = f"""
select frame_index, track_id, x_min, y_min, x_max, y_max, confidence
from movements where {_OF_FOOTAGE} order by frame_index, track_id
"""
_LABELS = f"""
select track_id, any_value(class_name) from movements where {_OF_FOOTAGE} group by track_id
"""
_NEAR = f"""
select track_id, pts_s, anchor_x, anchor_y, x_min, y_min, x_max, y_max
from movements where {_OF_FOOTAGE} and pts_s between $since_s and $until_s order by track_id, pts_s
"""
_LAST_FRAME = f"select max(frame_index) from frames where {_OF_FOOTAGE}"
_FOOTAGES = "select distinct source_uri, video_track from frames order by all"


@dataclass(frozen=True, slots=True, kw_only=True)
class FootageLog:
    """The movement log of one video track of a recording.

    Attributes:
        files: By view, `movements` and `frames`.
    """

    source_uri: str
    video_track: int
    files: dict[str, list[str]]

    def tracks(self) -> Tracks:
        """Return its tracks; boxes that are interpolated have no confidence."""
        return tracks_of(self._ask(_ROWS))

    def labels(self) -> dict[int, str]:
        """Return the class of each track, by name."""
        return dict(self._ask(_LABELS))

    def last_frame(self) -> int:
        """Return the last frame that was looked at, from 0."""
        ((number,),) = self._ask(_LAST_FRAME)
        return int(number)

    def near(self, pts_s: float, within_s: float) -> list[tuple[float, ...]]:
        """Return the rows around a moment, by track and then by time.

        Each is track_id, pts_s, x and y of the feet, x_min, y_min, x_max, y_max, in pixels.
        """
        return self._ask(_NEAR, since_s=pts_s - within_s, until_s=pts_s + within_s)

    def _ask(self, query: str, **more: float) -> list[Any]:
        given = {"source_uri": self.source_uri, "video_track": self.video_track, **more}
        return _ask(self.files, query, given)


def ask(parser: argparse.ArgumentParser) -> None:
    """Add the options that name an output, and a video track and a log in it."""
    add_output(parser)
    parser.add_argument("--recording", default="", help="name or path of it, if there are several")
    parser.add_argument("--video-track", type=int, help="of it, if there are several")
    parser.add_argument(
        "--online",
        action="store_true",
        help="tracks as the tracker made them, not the refined ones",
    )


def find(options: argparse.Namespace) -> FootageLog:
    """Return the log that is meant.

    Raises:
        ConfigError: There is none such, there are several, or it lacks rows.
    """
    run = find_output(options)
    if not options.online:
        _check_whole(run)
    return log_of(run, options.recording, options.video_track, is_online=options.online)


def _check_whole(run: RunFolder) -> None:
    """Refuse a refined log that was thinned: whoever looks at all frames would miss people in most."""
    hz = tomllib.loads(run.read_text("config.toml") or "").get("movement_hz", 0)
    if hz:
        raise ConfigError(
            f"the refined log of {shown(run.path)!r} has {hz:g} rows a second of each track, not one a "
            "frame (movement_hz): add --online, or make it whole by `footfall refine OUTPUT "
            "--movement-hz 0`"
        )


def log_of(
    run: RunFolder, recording: str, video_track: int | None, *, is_online: bool
) -> FootageLog:
    """Return the log of a video track of a run.

    Args:
        run: Whose output.
        recording: Name or path of it; "" if there is only one.
        video_track: Its number; None if there is only one.
        is_online: As the tracker made it, not the refined one.

    Raises:
        ConfigError: There is none such, or there are several.
    """
    output = run.path
    files = _log_files(output, is_online=is_online)
    footages = [(uri, number) for uri, number in _ask(files, _FOOTAGES, {})]
    uri, number = choose(footages, recording, video_track)
    camera_id = committed_cameras(output)[uri, number]
    if not is_online and read_refined(output, camera_id) is None:
        raise ConfigError(
            f"camera {camera_id!r} has no refined log yet: run `footfall refine`, or add --online"
        )
    return FootageLog(source_uri=uri, video_track=number, files=files)


def _log_files(output: Path, *, is_online: bool) -> dict[str, list[str]]:
    """Return the files of the refined log, or of the online one.

    Raises:
        ConfigError: They are not there yet.
    """
    movements = walk(output / "movements")
    if not is_online:
        refined = [read_refined(output, camera_id) for camera_id in cameras_of(output)]
        movements = [
            output / file.path
            for each in refined
            if each is not None
            for file in each.files
            if file.path.startswith("refined/movements/")
        ]
    frames = [path for path in walk(output / "ledger") if path.name.startswith("frames-")]
    if not frames:
        raise ConfigError(f"output {shown(output)!r} has no movement log yet")
    if not movements:
        raise ConfigError(
            f"output {shown(output)!r} has no refined log yet: run `footfall refine`, or add --online"
        )
    there = {"movements": copies(movements), "frames": copies(frames)}
    return {name: list(map(str, paths)) for name, paths in there.items()}


def _ask(files: dict[str, list[str]], query: str, given: dict[str, Any]) -> list[Any]:
    with duckdb.connect() as connection:
        for view, paths in files.items():
            connection.read_parquet(paths, hive_partitioning=False).create_view(view)
        return connection.execute(query, given).fetchall()


def choose(
    footages: Sequence[tuple[str, int]], recording: str, video_track: int | None
) -> tuple[str, int]:
    """Return the one video track that is meant.

    Raises:
        ConfigError: None is, or several may be.
    """
    meant = [
        (uri, number)
        for uri, number in footages
        if (not recording or uri == recording or Path(uri).name == recording)
        and video_track in (None, number)
    ]
    if len(meant) == 1:
        return meant[0]
    there = ", ".join(f"{uri} (video track {number})" for uri, number in footages[:10])
    what = "several video tracks are" if meant else "no such video track is"
    raise ConfigError(
        f"{what} in the output: say which by --recording and --video-track; there are {there}"
    )
