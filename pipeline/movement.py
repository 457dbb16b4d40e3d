"""Turn tracks in frames into the movement log: anchors, speeds, directions, and a row a track.

The anchor of a box is the middle of its lower edge: where a person stands. Speed is the way of the
anchor over the last half second, for a box trembles by a pixel or two from frame to frame, which at
25 frames/s would be a walk of its own.
"""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from itertools import pairwise
from typing import Any

import pyarrow as pa

from pipeline.records import Footage, Observation, TrackedFrame
from pipeline.tables import rows_table, table, timestamp

SPEED_WINDOW_S = 0.5
PATH_STEP_S = 0.5


@dataclass(slots=True)
class _Track:
    """A track so far: what its row in `tracks` needs, and its last half second."""

    track_id: int
    class_id: int
    source_uri: str
    video_track: int
    first_frame: int
    first_pts_s: float
    first_moment: datetime | None
    begin_s: float
    last_frame: int = 0
    last_pts_s: float = 0.0
    last_time_s: float = 0.0
    last_moment: datetime | None = None
    observations: int = 0
    path: list[dict[str, float]] = field(default_factory=list)
    path_time_s: float = -math.inf
    recent: deque[tuple[float, float, float]] = field(default_factory=deque)
    tip: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class MovementSettings:
    """How movement is told.

    Attributes:
        class_names: Names by class_id.
        end_s: A track that is not seen for longer has ended.
    """

    class_names: Sequence[str]
    end_s: float


class MovementLog:
    """The movement log of one camera, frame after frame."""

    def __init__(self, settings: MovementSettings) -> None:
        self._settings = settings
        self._tracks: dict[int, _Track] = {}
        self._ended: list[_Track] = []
        self._born: list[Footage] = []

    def rows(self, frames: Sequence[TrackedFrame]) -> pa.Table:
        """Return the `movements` rows of frames, in their order."""
        columns: dict[str, list[object]] = {name: [] for name in _MOVEMENT_COLUMNS}
        for frame in frames:
            footage = frame.footage
            moment = timestamp(footage.start_time, frame.pts_s - footage.origin_s)
            for seen in sorted(frame.observations, key=lambda o: o.track_id):
                track = self._track(frame, seen, moment)
                speed, direction = _move(track, frame, seen, moment)
                values = _row(frame, seen, moment, self._settings.class_names)
                values += (speed, direction)
                for name, value in zip(_MOVEMENT_COLUMNS, values, strict=True):
                    columns[name].append(value)
            self._end_old(frame.time_s)
        count = len(columns["frame_index"])
        return table("movements", {**columns, "zones": [[] for _ in range(count)]})

    def _track(self, frame: TrackedFrame, seen: Observation, moment: datetime | None) -> _Track:
        if seen.track_id not in self._tracks:
            self._tracks[seen.track_id] = _Track(
                seen.track_id,
                seen.class_id,
                frame.footage.source_uri,
                frame.footage.track.video_track,
                frame.frame_index,
                frame.pts_s,
                moment,
                frame.time_s,
            )
            self._born.append(frame.footage)
        return self._tracks[seen.track_id]

    def born(self) -> list[Footage]:
        """Return the footage of each track that began since the last call."""
        born, self._born = self._born, []
        return born

    def state(self) -> dict[str, Any]:
        """Return the tracks that go on, as JSON takes it; `ended` has been read out before."""
        return {"tracks": [_to_plain(track) for track in self._tracks.values()]}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on with the tracks that `state` tells of."""
        self._tracks = {plain["track_id"]: _from_plain(plain) for plain in state["tracks"]}

    def _end_old(self, time_s: float) -> None:
        old = [k for k, t in self._tracks.items() if time_s - t.last_time_s > self._settings.end_s]
        self._ended += [self._tracks.pop(track_id) for track_id in old]

    def ended(self, *, all_of_them: bool = False) -> pa.Table:
        """Return the `tracks` rows of tracks that ended since the last call, by track_id.

        Args:
            all_of_them: End every track now.
        """
        if all_of_them:
            self._end_old(math.inf)
        ended, self._ended = sorted(self._ended, key=lambda t: t.track_id), []
        return rows_table("tracks", [self._track_row(track) for track in ended])

    def _track_row(self, track: _Track) -> dict[str, object]:
        tip = _point(track.last_pts_s, track.tip)
        path = track.path if track.path[-1] == tip else [*track.path, tip]
        steps = pairwise(path)
        return {
            "source_uri": track.source_uri,
            "video_track": track.video_track,
            "track_id": track.track_id,
            "class_id": track.class_id,
            "class_name": self._settings.class_names[track.class_id],
            "first_frame_index": track.first_frame,
            "last_frame_index": track.last_frame,
            "first_pts_s": track.first_pts_s,
            "last_pts_s": track.last_pts_s,
            "first_timestamp": track.first_moment,
            "last_timestamp": track.last_moment,
            "duration_s": track.last_time_s - track.begin_s,
            "n_observations": track.observations,
            "distance_px": sum(math.dist((a["x"], a["y"]), (b["x"], b["y"])) for a, b in steps),
            "path": path,
            "merged_from": [],
        }


_MOVEMENT_COLUMNS = (
    "source_uri", "video_track", "frame_index", "pts_s", "timestamp", "class_id", "class_name",
    "confidence", "x_min", "y_min", "x_max", "y_max", "track_id", "is_interpolated", "anchor_x",
    "anchor_y", "speed_px_s", "direction_deg",
)  # fmt: skip


def _to_plain(track: _Track) -> dict[str, Any]:
    plain = asdict(track)
    for name in ("first_moment", "last_moment"):
        plain[name] = plain[name].isoformat() if plain[name] else None
    return {**plain, "recent": list(track.recent)}


def _from_plain(plain: dict[str, Any]) -> _Track:
    moments = {
        name: datetime.fromisoformat(plain[name]) if plain[name] else None
        for name in ("first_moment", "last_moment")
    }
    recent = deque((time_s, x, y) for time_s, x, y in plain["recent"])
    x, y = plain["tip"]
    return _Track(**{**plain, **moments, "recent": recent, "tip": (x, y)})


def _row(
    frame: TrackedFrame,
    seen: Observation,
    moment: datetime | None,
    class_names: Sequence[str],
) -> tuple[object, ...]:
    """Return the values of a row up to its anchor, in the order of `_MOVEMENT_COLUMNS`."""
    return (
        frame.footage.source_uri,
        frame.footage.track.video_track,
        frame.frame_index,
        frame.pts_s,
        moment,
        seen.class_id,
        class_names[seen.class_id],
        seen.confidence,
        *(float(edge) for edge in seen.box),
        seen.track_id,
        seen.is_interpolated,
        *anchor(seen),
    )


def anchor(seen: Observation) -> tuple[float, float]:
    """Return (x, y) of the middle of the box's lower edge."""
    return float(seen.box[0] + seen.box[2]) / 2, float(seen.box[3])


def _point(pts_s: float, at: tuple[float, float]) -> dict[str, float]:
    return {"pts_s": pts_s, "x": at[0], "y": at[1]}


def _move(
    track: _Track, frame: TrackedFrame, seen: Observation, moment: datetime | None
) -> tuple[float | None, float | None]:
    """Move a track on; return its speed (px/s) and direction, None where it has not moved yet.

    Directions are degrees clockwise as seen in the picture: 0 is to the right, 90 down.
    """
    x, y = track.tip = anchor(seen)
    track.last_frame, track.last_pts_s = frame.frame_index, frame.pts_s
    track.last_time_s, track.last_moment = frame.time_s, moment
    track.observations += not seen.is_interpolated
    if frame.time_s - track.path_time_s >= PATH_STEP_S:
        track.path.append(_point(frame.pts_s, track.tip))
        track.path_time_s = frame.time_s
    track.recent.append((frame.time_s, x, y))
    while len(track.recent) > 2 and frame.time_s - track.recent[1][0] >= SPEED_WINDOW_S:  # noqa: PLR2004 -- the oldest must stay
        track.recent.popleft()
    then_s, then_x, then_y = track.recent[0]
    if frame.time_s <= then_s:
        return None, None
    way = math.dist((then_x, then_y), (x, y))
    direction = math.degrees(math.atan2(y - then_y, x - then_x)) % 360 if way else None
    return way / (frame.time_s - then_s), direction
