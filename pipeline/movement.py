"""Turn tracks in frames into the movement log: anchors, speeds, directions, and a row a track.

The anchor of a box is the middle of its lower edge: where a person stands. Speed is the way of the
anchor over the last half second, for a box trembles by a pixel or two from frame to frame, which at
25 frames/s would be a walk of its own. How far somebody went is for `way`: it goes by the boxes as they
were seen, for smoothing cuts corners.
"""

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.areas import NOWHERE, Areas
from pipeline.moment import anchor, clock_time
from pipeline.records import Footage, Observation, TrackedFrame
from pipeline.tables import rows_table, table
from pipeline.way import Place, Way, way_of

SPEED_WINDOW_S = 0.5
PATH_STEP_S = 0.5
# Points of a path: with more, it goes on with every second one, and at twice the step.
MOST_POINTS = 1001
# Of a step of `hz`: so far a time may be off for being a float.
_ROUNDING = 1e-6

# A point of a path: pts_s, and the place.
Point = tuple[float, float, float, float | None, float | None]


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
    path: list[Point] = field(default_factory=list)
    path_time_s: float = -math.inf
    path_step_s: float = PATH_STEP_S
    way: Way | None = None
    recent: deque[tuple[float, Place]] = field(default_factory=deque)
    tip: Place = (0.0, 0.0, None, None)
    raw_ids: dict[int, None] = field(default_factory=dict)
    row_step: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MovementSettings:
    """How movement is told.

    Attributes:
        class_names: Names by class_id.
        end_s: A track that is not seen for longer has ended.
        hz: Rows a second of each track; 0 means every frame.
    """

    class_names: Sequence[str] | Mapping[int, str]
    end_s: float
    hz: float = 0.0


class MovementLog:
    """The movement log of one camera, frame after frame."""

    def __init__(self, settings: MovementSettings) -> None:
        self._settings = settings
        self._tracks: dict[int, _Track] = {}
        self._ended: list[_Track] = []
        self._born: list[Footage] = []

    def rows(self, frames: Sequence[TrackedFrame], areas: Areas = NOWHERE) -> pa.Table:
        """Return the `movements` rows of frames, in their order.

        Args:
            frames: The next ones.
            areas: What is drawn into their picture.
        """
        columns: dict[str, list[object]] = {name: [] for name in _MOVEMENT_COLUMNS}
        for frame in frames:
            moment = clock_time(frame)
            seen_here = sorted(frame.observations, key=lambda o: o.track_id)
            places, zones = _places(seen_here, areas)
            seen_places = _seen_places(seen_here, areas)
            for seen, place, inside in zip(seen_here, places, zones, strict=True):
                track = self._track(frame, seen, moment)
                way = _move(track, frame, seen, place, moment)
                if seen_at := seen_places.get(seen.track_id):
                    _go(track, frame.time_s, seen_at, seen)
                if not self._is_due(track, frame.time_s):
                    continue
                values = _row(frame, seen, moment, self._settings.class_names)
                values += (*place, *way, inside, _raw_id(seen))
                for name, value in zip(_MOVEMENT_COLUMNS, values, strict=True):
                    columns[name].append(value)
            self._end_old(frame.time_s)
        return table("movements", columns)

    def _is_due(self, track: _Track, time_s: float) -> bool:
        """Say whether a track is to have a row: the first frame at or behind each step."""
        hz = self._settings.hz
        step = math.floor(time_s * hz + _ROUNDING) if hz else None
        if hz and step == track.row_step:
            return False
        track.row_step = step
        return True

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
        tip = (track.last_pts_s, *track.tip)
        path = track.path if track.path[-1] == tip else [*track.path, tip]
        distance_px, distance_m = track.way.lengths() if track.way else (0.0, None)
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
            "distance_px": distance_px,
            "distance_m": distance_m,
            "path": [dict(zip(_POINT, point, strict=True)) for point in path],
            "merged_from": sorted(track.raw_ids),
        }


_POINT = ("pts_s", "x", "y", "x_m", "y_m")
_MOVEMENT_COLUMNS = (
    "source_uri", "video_track", "frame_index", "pts_s", "timestamp", "class_id", "class_name",
    "confidence", "x_min", "y_min", "x_max", "y_max", "track_id", "is_interpolated", "anchor_x",
    "anchor_y", "world_x_m", "world_y_m", "speed_px_s", "direction_deg", "speed_m_s", "zones",
    "raw_track_id",
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
    recent = deque((time_s, tuple(place)) for time_s, place in plain["recent"])
    read = {
        "recent": recent,
        "tip": tuple(plain["tip"]),
        "path": [tuple(point) for point in plain["path"]],
        "way": way_of(plain["way"]) if plain["way"] else None,
    }
    return _Track(**{**plain, **moments, **read})


def _row(
    frame: TrackedFrame,
    seen: Observation,
    moment: datetime | None,
    class_names: Sequence[str] | Mapping[int, str],
) -> tuple[object, ...]:
    """Return the values of a row before its anchor, in the order of `_MOVEMENT_COLUMNS`."""
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
    )


def _raw_id(seen: Observation) -> int | None:
    """Return the tracker's id of a box; the online log has no other."""
    if seen.is_interpolated:
        return None
    return seen.track_id if seen.raw_id is None else seen.raw_id


def _places(seen: Sequence[Observation], areas: Areas) -> tuple[list[Place], list[list[str]]]:
    """Return where tracks are, and the names of the zones that they are in."""
    points = [anchor(each) for each in seen]
    zones: list[list[str]] = [[] for _ in points]
    if areas.zones and points:
        names = [zone.name for zone in areas.zones]
        for inside, row in zip(zones, areas.inside(np.array(points)).tolist(), strict=True):
            inside += [name for name, is_in in zip(names, row, strict=True) if is_in]
    return _on_floor(points, areas), zones


def _seen_places(seen: Sequence[Observation], areas: Areas) -> dict[int, Place]:
    """Return by track where the tracker saw it, not smoothed; without those that it did not see."""
    there = [each for each in seen if not each.is_interpolated]
    boxes = [each.box if each.seen_box is None else each.seen_box for each in there]
    points = [(float(box[0] + box[2]) / 2, float(box[3])) for box in boxes]
    return dict(zip([each.track_id for each in there], _on_floor(points, areas), strict=True))


def _on_floor(points: Sequence[tuple[float, float]], areas: Areas) -> list[Place]:
    """Return points with where they lie on the floor, where that is known."""
    if areas.floor is None or not points:
        return [(x, y, None, None) for x, y in points]
    metres = areas.floor.to_metres(np.array(points)).tolist()
    return [
        (*point, None, None) if math.isnan(x_m) else (*point, x_m, y_m)
        for point, (x_m, y_m) in zip(points, metres, strict=True)
    ]


def _go(track: _Track, time_s: float, place: Place, seen: Observation) -> None:
    if track.way is None:
        track.way = Way(start=place, since_s=time_s)
    track.way.go(time_s, place, float(seen.box[3] - seen.box[1]))


def _move(
    track: _Track, frame: TrackedFrame, seen: Observation, place: Place, moment: datetime | None
) -> tuple[float | None, float | None, float | None]:
    """Move a track on; return its speed in px/s, its direction and its speed in m/s, if it has any.

    Directions are degrees clockwise as seen in the picture: 0 is to the right, 90 down.
    """
    track.tip = place
    track.last_frame, track.last_pts_s = frame.frame_index, frame.pts_s
    track.last_time_s, track.last_moment = frame.time_s, moment
    track.observations += not seen.is_interpolated
    if seen.raw_id is not None:
        track.raw_ids[seen.raw_id] = None
    _lengthen(track, frame, place)
    track.recent.append((frame.time_s, place))
    while len(track.recent) > 2 and frame.time_s - track.recent[1][0] >= SPEED_WINDOW_S:  # noqa: PLR2004 -- the oldest must stay
        track.recent.popleft()
    return _speeds(frame.time_s - track.recent[0][0], track.recent[0][1], place)


def _lengthen(track: _Track, frame: TrackedFrame, place: Place) -> None:
    """Put a point onto a track's path, if one is due; a long path becomes a coarser one."""
    if frame.time_s - track.path_time_s < track.path_step_s:
        return
    track.path.append((frame.pts_s, *place))
    track.path_time_s = frame.time_s
    if len(track.path) >= MOST_POINTS:
        # The first and the last one stay.
        track.path, track.path_step_s = track.path[::2], 2 * track.path_step_s


def _speeds(
    seconds: float, before: Place, now: Place
) -> tuple[float | None, float | None, float | None]:
    if seconds <= 0:
        return None, None, None
    x, y = now[0] - before[0], now[1] - before[1]
    direction = math.degrees(math.atan2(y, x)) % 360 if x or y else None
    metres_a_second = None
    if (
        before[2] is not None
        and before[3] is not None
        and now[2] is not None
        and now[3] is not None
    ):
        metres_a_second = math.dist((before[2], before[3]), (now[2], now[3])) / seconds
    return math.hypot(x, y) / seconds, direction, metres_a_second
