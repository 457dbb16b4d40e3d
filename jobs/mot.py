"""Tracks of one video track in MOTChallenge's form: read and written.

A line is `frame, id, left, top, width, height, confidence, class, visibility, ...`, frames from 1. In
truth the seventh is 0 for a box that is to be ignored; what is behind it is not looked at.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ConfigError

_LEAST_FIELDS = 6
# As far as a float64 counts.
_LAST_FRAME_NUMBER = 2**53


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
    return tracks_of(
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


def tracks_of(rows: Iterable[tuple[float, ...]]) -> Tracks:
    """Return the tracks of rows of frame from 0, id, x_min, y_min, x_max, y_max, confidence."""
    table = np.array(sorted(rows), np.float64).reshape(-1, 7)
    frame, track_id = (table[:, column].astype(np.int64) for column in (0, 1))
    return Tracks(frame, track_id, table[:, 2:6], table[:, 6])


def write_mot(tracks: Tracks) -> Iterable[str]:
    """Yield the lines of tracks in MOTChallenge's form, a line's end behind each.

    A box that is interpolated counts as one that is sure: 0 would be one to ignore.
    """
    sure = np.where(np.isnan(tracks.confidence), 1.0, tracks.confidence)
    for frame, track_id, (left, top, right, bottom), confidence in zip(
        tracks.frame, tracks.track_id, tracks.boxes, sure, strict=True
    ):
        yield (
            f"{frame + 1},{track_id},{left:.2f},{top:.2f},{right - left:.2f},{bottom - top:.2f},"
            f"{confidence:.4f},-1,-1,-1\n"
        )
