"""A scene in the pixels of one picture: who is where, who crosses what, and where on the floor."""

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

    def crossed(self, before: Float64s, after: Float64s) -> NDArray[np.int8]:
        """Return (n, lines) 1 where a step from one point to the next goes in, -1 out, 0 neither.

        Args:
            before: (n, 2)
            after: (n, 2)
        """
        ways = np.zeros((len(before), len(self.lines)), np.int8)
        for column, line in enumerate(self.lines):
            for start, end in zip(line.points, line.points[1:], strict=False):
                ways[:, column] += _crossed(before, after, np.array(start), np.array(end))
        # Two of a line's own pieces, across a corner and back: it was not crossed.
        return ways

    def distance(self, points: Float64s, line: int) -> Float64s:
        """Return (n,) pixels from (n, 2) points to a line."""
        shape = shapely.LineString(self.lines[line].points)
        return np.asarray(shapely.distance(shapely.points(points), shape))


NOWHERE = Areas(lines=(), zones=(), masks=(), floor=None, _shapes=())


def _crossed(before: Float64s, after: Float64s, start: Float64s, end: Float64s) -> NDArray[np.int8]:
    """Return (n,) 1, -1 or 0 for steps across one straight piece.

    Right of it is where the cross product is positive, for y goes down. A point on it counts as
    right of it, so that a step that ends there and the next one cross it once.
    """
    along = end - start
    was_right, is_right = (_cross(along, p - start) >= 0 for p in (before, after))
    step = after - before
    start_side, end_side = _cross(step, start - before) >= 0, _cross(step, end - before) >= 0
    return np.where(start_side == end_side, 0, is_right * 1 - was_right).astype(np.int8)


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
    told = scene.calibration
    return Areas(
        lines=lines,
        zones=zones,
        masks=masks,
        floor=calibrate(placed(told.image, "calibration"), told.floor_m) if told else None,
        _shapes=tuple(shapely.Polygon(zone.polygon) for zone in zones),
    )
