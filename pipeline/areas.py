"""A scene in the pixels of one picture: who is where, who crosses what, and where on the floor."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import shapely
from numpy.typing import NDArray

from pipeline.errors import ConfigError
from pipeline.floor import Floor, Points, calibrate
from pipeline.scene import Line, Mask, Scene, Zone

Float64s = NDArray[np.float64]
Bools = NDArray[np.bool]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Areas:
    """The lines, zones, masks and floor of a scene, in pixels of a picture."""

    lines: tuple[Line, ...]
    zones: tuple[Zone, ...]
    masks: tuple[Mask, ...]
    floor: Floor | None
    _shapes: tuple[shapely.Polygon, ...]

    def inside(self, points: Float64s) -> Bools:
        """Return (n, zones) whether (n, 2) points are in zones; those on an edge are."""
        x, y = points.T
        return np.array(
            [shapely.intersects_xy(shape, x, y) for shape in self._shapes], bool
        ).T.reshape(len(points), len(self._shapes))

    def crossed(self, before: Float64s, after: Float64s, line: int) -> NDArray[np.int8]:
        """Return (n,) above 0 where a step from one point to another goes in, below where out, else 0.

        Right of a piece of the line is where the cross product is positive, for y goes down.

        Args:
            before: (n, 2)
            after: (n, 2)
            line: Which, by its place.
        """
        corners = np.array(self.lines[line].points)
        step = after - before
        beside = _cross(step[:, None], corners[None] - before[:, None])
        is_ahead = beside >= 0
        # One who passes through an end of the line exactly has crossed it, whichever way.
        for end, next_one in ((0, 1), (-1, -2)):
            at_end = beside[:, end] == 0
            is_ahead[at_end, end] = ~is_ahead[at_end, next_one]
        along = np.diff(corners, axis=0)
        was_right, is_right = (
            _cross(along[None], point[:, None] - corners[None, :-1]) >= 0
            for point in (before, after)
        )
        ways = np.where(is_ahead[:, 1:] == is_ahead[:, :-1], 0, is_right * 1 - was_right)
        return np.asarray(ways.sum(axis=1), np.int8)

    def distance(self, points: Float64s, line: int) -> Float64s:
        """Return (n,) pixels from (n, 2) points to a line."""
        shape = shapely.LineString(self.lines[line].points)
        return np.asarray(shapely.distance(shapely.points(points), shape))


NOWHERE = Areas(lines=(), zones=(), masks=(), floor=None, _shapes=())


def _cross(a: Float64s, b: Float64s) -> Float64s:
    return np.asarray(a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0])


def areas_of(scene: Scene, width: int, height: int, camera_id: str) -> Areas:
    """Put a scene into a picture.

    Args:
        scene: Of a camera.
        width: Of the upright picture, in pixels.
        height: Of it.
        camera_id: To be named by errors.

    Raises:
        ConfigError: A point lies outside the picture.
    """
    scale = (float(width), float(height)) if scene.units == "normalised" else (1.0, 1.0)

    def placed(points: Points, what: str) -> Points:
        for x, y in points:
            if not (0 <= x * scale[0] <= width and 0 <= y * scale[1] <= height):
                raise ConfigError(
                    f"camera {camera_id!r}, {what}: the point [{x:g}, {y:g}] is outside its picture of "
                    f"{width}x{height} pixels (units = {scene.units!r})"
                )
        return tuple((x * scale[0], y * scale[1]) for x, y in points)

    lines = tuple(replace(e, points=placed(e.points, f"line {e.name!r}")) for e in scene.lines)
    zones = tuple(replace(e, polygon=placed(e.polygon, f"zone {e.name!r}")) for e in scene.zones)
    masks = tuple(replace(e, polygon=placed(e.polygon, f"mask {e.name!r}")) for e in scene.masks)
    return Areas(
        lines=lines,
        zones=zones,
        masks=masks,
        floor=_floor(scene, placed, camera_id),
        _shapes=tuple(shapely.Polygon(zone.polygon) for zone in zones),
    )


def _floor(scene: Scene, placed: Callable[[Points, str], Points], camera_id: str) -> Floor | None:
    if scene.calibration is None:
        return None
    image = placed(scene.calibration.image, "calibration")
    try:
        return calibrate(image, scene.calibration.floor_m)
    except ConfigError as error:
        raise ConfigError(f"camera {camera_id!r}, {error}") from error
