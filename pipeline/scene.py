"""What a camera's owner has drawn into its picture: lines, zones, masks, and where the floor is.

    [[camera]]
    id = "north-door"
    units = "normalised"                       # shares of width and height; or "pixel"
    [[camera.line]]
    name = "door"
    points = [[0.1, 0.8], [0.4, 0.8]]          # looking along it: who crosses to the right goes "in"
    [[camera.zone]]
    name = "queue"
    polygon = [[0.5, 0.5], [0.9, 0.5], [0.9, 0.9], [0.5, 0.9]]
    min_dwell_s = 5
    [[camera.mask]]
    polygon = [[0, 0], [0.2, 0], [0.2, 0.3]]   # is never looked at
    [camera.calibration]
    image = [[...], [...], [...], [...]]       # four points or more
    floor_m = [[0, 0], [4, 0], [4, 3], [0, 3]] # where these lie on the floor, in metres

Points are of the upright picture, from its upper left corner. Nothing here knows footage: `areas` puts
a scene into a picture of some size.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import shapely

from pipeline.errors import ConfigError
from pipeline.floor import Points, calibrate

UNITS = ("pixel", "normalised")
_LEAST_CORNERS = 3
# Of a polygon, beside the square of its length: one that is thinner is a line to whoever looks at it.
_LEAST_AREA = 5e-4
_MOST = 1e9


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A line that people cross.

    Attributes:
        points: Two or more; one who crosses from the left to the right, looking along it, goes "in".
        debounce_s: Who comes back sooner has not crossed.
    """

    name: str
    points: Points
    debounce_s: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Zone:
    """An area that people are in.

    Attributes:
        debounce_s: Who comes back sooner has not left.
        min_dwell_s: Who leaves sooner has not been in it.
    """

    name: str
    polygon: Points
    debounce_s: float = 1.0
    min_dwell_s: float = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Mask:
    """An area that must not be looked at."""

    polygon: Points
    name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """Points of the picture, and where they lie on the floor, in metres."""

    image: Points
    floor_m: Points


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """All of a camera's."""

    units: str = "pixel"
    lines: tuple[Line, ...] = ()
    zones: tuple[Zone, ...] = ()
    masks: tuple[Mask, ...] = ()
    calibration: Calibration | None = None


NOTHING = Scene()
KEYS = ("units", "line", "zone", "mask", "calibration")


def parse_scene(entry: Mapping[str, Any], camera_id: str) -> Scene:
    """Return the scene in a `[[camera]]` of a cameras file.

    Args:
        entry: Its keys, of which only those of a scene are looked at.
        camera_id: To be named by errors.

    Raises:
        ConfigError: A key or a value is wrong; it names the camera and what of it.
    """
    where = f"camera {camera_id!r}"
    units = entry.get("units", "pixel")
    if units not in UNITS:
        raise ConfigError(f"{where}: units = {units!r}: known are {', '.join(UNITS)}")
    scene = Scene(
        units=units,
        lines=tuple(_parse(Line, each, where, "line") for each in _tables(entry, "line", where)),
        zones=tuple(_parse(Zone, each, where, "zone") for each in _tables(entry, "zone", where)),
        masks=tuple(_parse(Mask, each, where, "mask") for each in _tables(entry, "mask", where)),
        calibration=_calibration(entry, where),
    )
    _check_names(scene, where)
    if units == "pixel":
        _check_pixels(scene, where)
    return scene


def _check_pixels(scene: Scene, where: str) -> None:
    """Refuse what lies in one pixel: its points are shares, and nobody has said so."""
    drawn = [(f"line {each.name!r}", each.points) for each in scene.lines]
    drawn += [(f"zone {each.name!r}", each.polygon) for each in scene.zones]
    drawn += [(f"mask {each.name!r}", each.polygon) for each in scene.masks]
    if scene.calibration is not None:
        drawn.append(("calibration", scene.calibration.image))
    for what, points in drawn:
        if all(0 <= x <= 1 and 0 <= y <= 1 for x, y in points):
            raise ConfigError(
                f"{where}, {what}: all its points lie in one pixel: if they are shares of the "
                'picture, write units = "normalised" into its [[camera]]'
            )


def _tables(entry: Mapping[str, Any], key: str, where: str) -> list[dict[str, Any]]:
    tables = entry.get(key, [])
    if not isinstance(tables, list) or not all(isinstance(each, dict) for each in tables):
        raise ConfigError(f"{where}: {key} is no list of tables; write [[camera.{key}]]")
    return tables


def _parse(kind: Any, entry: dict[str, Any], where: str, what: str) -> Any:  # noqa: ANN401
    """Return a line, a zone or a mask."""
    name = entry.get("name", "")
    where = f"{where}, {what} {name!r}"
    known = [each.name for each in fields(kind)]
    if unknown := set(entry) - set(known):
        raise ConfigError(
            f"{where}: unknown key {min(unknown)!r}; known are {', '.join(sorted(known))}"
        )
    shape = "points" if kind is Line else "polygon"
    if not isinstance(name, str) or (kind is not Mask and not name):
        raise ConfigError(f"{where}: its name is no text, or it has none")
    if name != name.strip():
        raise ConfigError(f"{where}: its name begins or ends with a blank")
    if shape not in entry:
        raise ConfigError(f"{where}: it has no {shape}")
    values: dict[str, Any] = {shape: _points(entry[shape], where, shape)}
    for key in set(entry) - {shape}:
        values[key] = name if key == "name" else _seconds(entry[key], where, key)
    made = kind(**values)
    (_check_line if kind is Line else _check_polygon)(values[shape], where)
    return made


def _calibration(entry: Mapping[str, Any], where: str) -> Calibration | None:
    told = entry.get("calibration")
    if told is None:
        return None
    where = f"{where}, calibration"
    if not isinstance(told, dict) or set(told) != {"image", "floor_m"}:
        raise ConfigError(f"{where}: it has two keys, image and floor_m")
    image, floor_m = (_points(told[key], where, key) for key in ("image", "floor_m"))
    try:
        calibrate(image, floor_m)
    except ConfigError as error:
        raise ConfigError(f"{where.removesuffix('calibration')}{error}") from error
    return Calibration(image=image, floor_m=floor_m)


def _points(value: object, where: str, key: str) -> Points:
    is_list = isinstance(value, list) and all(
        isinstance(point, list) and len(point) == 2 and all(map(_is_number, point))  # noqa: PLR2004
        for point in value
    )
    if not isinstance(value, list) or not is_list:
        raise ConfigError(f"{where}: {key} is no list of points; write [[10, 20], [30, 40]]")
    return tuple((float(x), float(y)) for x, y in value)


def _is_number(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    # NaN is not within, either.
    return -_MOST < value < _MOST


def _seconds(value: Any, where: str, key: str) -> float:  # noqa: ANN401
    if not _is_number(value) or value < 0:
        raise ConfigError(f"{where}: {key} = {value!r} is no number of seconds from 0 up")
    return float(value)


def _check_line(points: Points, where: str) -> None:
    if len(points) < 2 or len(set(points)) < len(points):  # noqa: PLR2004
        raise ConfigError(f"{where}: it takes two different points or more")
    if not shapely.LineString(points).is_simple:
        raise ConfigError(f"{where}: it crosses itself")


def _check_polygon(points: Points, where: str) -> None:
    if len(set(points)) < _LEAST_CORNERS:
        raise ConfigError(f"{where}: it takes three different corners or more")
    polygon = shapely.Polygon(points)
    if not polygon.is_valid:
        raise ConfigError(f"{where}: its edges cross: {shapely.is_valid_reason(polygon)}")
    left, top, right, bottom = polygon.bounds
    if polygon.area < _LEAST_AREA * ((right - left) ** 2 + (bottom - top) ** 2):
        raise ConfigError(f"{where}: its corners lie on a line, or as good as: it has no area")


def _check_names(scene: Scene, where: str) -> None:
    """Refuse two lines or zones of one name: rows would not tell them apart."""
    for kind, areas in (("line", scene.lines), ("zone", scene.zones)):
        names = [area.name for area in areas]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ConfigError(f"{where}: two {kind}s have the name {min(twice)!r}")
