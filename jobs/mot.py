"""Tracks of one video track in MOTChallenge's form: read, written, and taken from an output.

A line is `frame, id, left, top, width, height, confidence, class, visibility, ...`, frames from 1. In
truth the seventh is 0 for a box that is to be ignored; what is behind it is not looked at.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ConfigError

_LEAST_FIELDS = 6
# As far as a float64 counts.
_LAST_FRAME_NUMBER = 2**53
_ROWS = """
select frame_index, track_id, x_min, y_min, x_max, y_max, confidence
from movements where source_uri = $source_uri and video_track = $video_track
order by frame_index, track_id
"""
_FOOTAGES = "select distinct source_uri, video_track from movements order by all"
_LABELS = """
select track_id, any_value(class_name)
from movements where source_uri = $source_uri and video_track = $video_track group by track_id
"""
_LAST_FRAME = """
select max(frame_index) from frames where source_uri = $source_uri and video_track = $video_track
"""


@dataclass(frozen=True, slots=True, eq=False)
class Tracks:
    """Boxes of tracked people, in order of their frames.

    Attributes:
        frame: (n,) int64, from 0.
        track_id: (n,) int64.
        boxes: (n, 4) float64, x_min, y_min, x_max, y_max in pixels.
        confidence: (n,) float64; in truth 0 for what is to be ignored, else 1.
    """

    frame: NDArray[np.int64]
    track_id: NDArray[np.int64]
    boxes: NDArray[np.float64]
    confidence: NDArray[np.float64]

    def where(self, kept: NDArray[np.bool]) -> "Tracks":
        """Return the boxes of `kept` (n,)."""
        return Tracks(*(getattr(self, field.name)[kept] for field in fields(self)))


def read_mot(path: Path) -> Tracks:
    """Read a file of MOTChallenge's form.

    Raises:
        ConfigError: It is not there, or is none.
    """
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"truth {str(path)!r} cannot be read: {error}") from error
    rows = [_parse(path, n, line) for n, line in enumerate(lines, 1) if line.strip()]
    if not any(row[6] for row in rows):
        raise ConfigError(f"truth {str(path)!r} has no box in it that counts")
    return _tracks_of(
        (row[0] - 1, *row[1:4], row[2] + row[4], row[3] + row[5], row[6]) for row in rows
    )


def _parse(path: Path, number: int, line: str) -> list[float]:
    try:
        row = [float(word) for word in line.split(",")]
    except ValueError:
        row = []
    is_box = len(row) >= _LEAST_FIELDS and all(map(math.isfinite, row[:7]))
    if not is_box or not 1 <= row[0] <= _LAST_FRAME_NUMBER or min(row[4:6]) < 0:
        raise ConfigError(
            f"truth {str(path)!r}, line {number}: not `frame, id, left, top, width, height, ...`, "
            f"frames from 1: {line[:80]!r}"
        )
    return [*row, 1.0][:7] if len(row) == _LEAST_FIELDS else row[:7]


def _tracks_of(rows: Iterable[tuple[float, ...]]) -> Tracks:
    """Return the tracks of rows of frame from 0, id, x_min, y_min, x_max, y_max, confidence."""
    table = np.array(sorted(rows), np.float64).reshape(-1, 7)
    frame, track_id = (table[:, column].astype(np.int64) for column in (0, 1))
    return Tracks(frame, track_id, table[:, 2:6], table[:, 6])


def footages_of(output: Path) -> list[tuple[str, int]]:
    """Return the recordings and video tracks that an output has movements of, sorted."""
    with _opened(output) as connection:
        return [(uri, number) for uri, number in connection.execute(_FOOTAGES).fetchall()]


def read_movements(output: Path, source_uri: str, video_track: int) -> Tracks:
    """Return the movement log of one video track of a recording."""
    return _tracks_of(_about(output, source_uri, video_track, _ROWS))


def read_labels(output: Path, source_uri: str, video_track: int) -> dict[int, str]:
    """Return the class of each track, by name."""
    return dict(_about(output, source_uri, video_track, _LABELS))


def last_frame(output: Path, source_uri: str, video_track: int) -> int:
    """Return the last frame of a video track that was looked at, from 0."""
    ((number,),) = _about(output, source_uri, video_track, _LAST_FRAME)
    return int(number)


def _about(output: Path, source_uri: str, video_track: int, query: str) -> list[Any]:
    given = {"source_uri": source_uri, "video_track": video_track}
    with _opened(output) as connection:
        return connection.execute(query, given).fetchall()


def _opened(output: Path) -> duckdb.DuckDBPyConnection:
    """Return a database of an output: `movements`, and the `frames` that were looked at.

    Raises:
        ConfigError: It has no movement log yet.
    """
    connection = duckdb.connect()
    for view, folder, pattern in (
        ("movements", "movements", "*.parquet"),
        ("frames", "ledger", "frames-*.parquet"),
    ):
        files = [str(path) for path in sorted((output / folder).rglob(pattern))]
        if not files:
            raise ConfigError(f"output {str(output)!r} has no {view} yet")
        connection.read_parquet(files, hive_partitioning=False).create_view(view)
    return connection


def write_mot(tracks: Tracks) -> Iterable[str]:
    """Yield the lines of tracks in MOTChallenge's form, a line's end behind each."""
    for frame, track_id, (left, top, right, bottom), confidence in zip(
        tracks.frame, tracks.track_id, tracks.boxes, tracks.confidence, strict=True
    ):
        yield (
            f"{frame + 1},{track_id},{left:.2f},{top:.2f},{right - left:.2f},{bottom - top:.2f},"
            f"{confidence:.4f},-1,-1,-1\n"
        )
