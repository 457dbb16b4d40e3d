"""What is drawn onto a still: lines, zones, masks, the floor, boxes and tracks, each with its name.

How large the still is, and what is written around it, is for `preview_picture`.
"""

from collections.abc import Sequence
from itertools import cycle
from typing import Any

import numpy as np
import shapely
from matplotlib.axes import Axes
from matplotlib.patches import Polygon, Rectangle
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from jobs.console import printable
from jobs.preview_people import Seen, Way
from pipeline.areas import Areas
from pipeline.floor import Floor, Points
from pipeline.scene import Calibration, Scene

Float64s = NDArray[np.float64]

# A box below it is one that trackers want and people do not.
SURE = 0.25
_LONGEST_NAME, _MOST_FLOOR_LINES = 40, 60
# About how wide a bold character is, as a share of its height.
_CHARACTER_EM = 0.65
_SEEN, _LINE, _CALIBRATION, _FLOOR, _MASK = "#7CFC00", "#FFD400", "#FF5AD9", "#FFFFFF", "#404040"
_ZONES = ("#56B4E9", "#FF8C1A", "#C79BFF", "#3DDC97")
_WAYS = ("#FF6B6B", "#4DD0E1", "#FFB74D", "#BA68C8", "#AED581", "#F06292", "#64B5F6", "#FFF176")


class Pen:
    """Draws on axes in source pixels; its sizes are those of the type."""

    def __init__(self, axes: Axes, size: float, zoom: float) -> None:
        """Draw with type of `size` pixels of the picture, `size / zoom` of the still."""
        self.axes, self.size = axes, size
        self.em = size / zoom
        self.width, self.height = axes.get_xlim()[1], axes.get_ylim()[0]

    def write(self, at: tuple[float, float], text: str, colour: str, **more: Any) -> None:  # noqa: ANN401
        """Write a name, readable on any ground; what is outside the still is cut off."""
        name = shortened(printable(text), _LONGEST_NAME)
        is_outside = at[0] + _CHARACTER_EM * len(name) * self.em > self.width
        more.setdefault("ha", "right" if is_outside else "left")
        if more.setdefault("va", "bottom") == "bottom" and at[1] < self.em:
            more["va"] = "top"
        self.axes.text(
            *at,
            name,
            color=colour,
            fontsize=self.size,
            fontweight="bold",
            # Names are no formulas.
            parse_math=False,
            clip_on=True,
            path_effects=[withStroke(linewidth=self.size / 4, foreground="black")],
            **more,
        )

    def line(self, points: Float64s, colour: str, width: float = 0.2, **more: Any) -> None:  # noqa: ANN401
        """Draw (n, 2) points as a line; its width is in heights of type."""
        self.axes.plot(*points.T, color=colour, linewidth=width * self.size, **more)

    def area(self, points: Points, **more: Any) -> None:  # noqa: ANN401
        """Draw a polygon."""
        self.axes.add_patch(Polygon(points, closed=True, linewidth=0.15 * self.size, **more))

    def box(self, box: NDArray[np.floating], colour: str, *, is_sure: bool = True) -> None:
        """Draw x_min, y_min, x_max, y_max; what is not sure is thin and dotted."""
        x_min, y_min, x_max, y_max = box.tolist()
        self.axes.add_patch(
            Rectangle(
                (x_min, y_min),
                x_max - x_min,
                y_max - y_min,
                fill=False,
                edgecolor=colour,
                linewidth=self.size * (0.15 if is_sure else 0.1),
                linestyle="-" if is_sure else ":",
            )
        )


def shortened(text: str, longest: int) -> str:
    """Return a text of at most so many characters."""
    return text if len(text) <= longest else text[: longest - 1] + "…"


def draw_scene(pen: Pen, scene: Scene, areas: Areas) -> None:
    """Draw what a cameras file says.

    Args:
        pen: To draw with.
        scene: As it is written there.
        areas: The same in the picture's pixels.
    """
    for mask in areas.masks:
        pen.area(mask.polygon, fill=False, edgecolor=_MASK, hatch="///")
        pen.write(_middle(mask.polygon), mask.name or "mask", "0.9", ha="center", va="center")
    for zone, colour in zip(areas.zones, cycle(_ZONES), strict=False):
        pen.area(zone.polygon, facecolor=colour, alpha=0.25)
        pen.area(zone.polygon, fill=False, edgecolor=colour)
        pen.write(_middle(zone.polygon), zone.name, colour, ha="center", va="center")
    if areas.floor is not None and scene.calibration is not None:
        is_shares = scene.units == "normalised"
        scale = (pen.width, pen.height) if is_shares else (1.0, 1.0)
        _draw_floor(pen, areas.floor, scene.calibration, scale)
    for line in areas.lines:
        _draw_line(pen, line.points, line.name)


def _middle(polygon: Points) -> tuple[float, float]:
    """Return a point that is inside a polygon, and far from its edges if that can be."""
    point = shapely.Polygon(polygon).representative_point()
    return point.x, point.y


def _draw_line(pen: Pen, points: Points, name: str) -> None:
    pen.line(np.array(points), _LINE, marker="o", markersize=0.4 * pen.size)
    middle, way = way_in(points)
    tip, beyond = middle + way * 3.5 * pen.em, middle + way * 4.2 * pen.em
    arrow = {"arrowstyle": "-|>", "color": _LINE, "linewidth": 0.2 * pen.size, "shrinkA": 0}
    arrow |= {"shrinkB": 0, "mutation_scale": 1.4 * pen.size}
    ends = (tip[0], tip[1]), (middle[0], middle[1])
    pen.axes.annotate("", *ends, arrowprops=arrow, annotation_clip=False)
    pen.write((beyond[0], beyond[1]), "in", _LINE, ha="center", va="center")
    pen.write(points[0], name, _LINE)


def way_in(points: Points) -> tuple[Float64s, Float64s]:
    """Return the middle of the longest piece of a line, and the direction that crosses it "in".

    Looking along the points that is to the right. As y goes down, the right of (dx, dy) is (-dy, dx).

    Returns:
        (2,) pixels, and a (2,) vector of length 1.
    """
    corners = np.array(points, np.float64)
    steps = np.diff(corners, axis=0)
    longest = int(np.argmax(np.linalg.norm(steps, axis=1)))
    dx, dy = steps[longest] / np.linalg.norm(steps[longest])
    return corners[longest] + steps[longest] / 2, np.array([-dy, dx])


def _draw_floor(pen: Pen, floor: Floor, told: Calibration, scale: tuple[float, float]) -> None:
    for piece in floor_lines(floor, told.floor_m):
        pen.line(piece, _FLOOR, 0.08, alpha=0.8)
    for number, ((x, y), metres) in enumerate(zip(told.image, told.floor_m, strict=True), 1):
        at = x * scale[0], y * scale[1]
        pen.line(np.array([at]), _CALIBRATION, marker="+", markersize=1.2 * pen.size)
        pen.write(at, f" {number} ({metres[0]:g}, {metres[1]:g}) m ", _CALIBRATION)


def floor_step(floor_m: Points) -> float:
    """Return the sides of the floor's squares in metres: 1, or 10 and so on, where it is large."""
    step = 1.0
    longest = float(np.ptp(np.array(floor_m), axis=0).max())
    while longest > _MOST_FLOOR_LINES * step:
        step *= 10
    return step


def floor_lines(floor: Floor, floor_m: Points) -> list[Float64s]:
    """Return the lines of squares on the floor, each (2, 2) in pixels.

    They end where the calibration points do: what the map says beyond, nobody has measured.
    """
    hull, step = shapely.MultiPoint(floor_m).convex_hull, floor_step(floor_m)
    x_min, y_min, x_max, y_max = hull.bounds
    across = [[(x, y_min), (x, y_max)] for x in _multiples(x_min, x_max, step)]
    along = [[(x_min, y), (x_max, y)] for y in _multiples(y_min, y_max, step)]
    pieces = [shapely.LineString(ends).intersection(hull) for ends in (*across, *along)]
    back = np.linalg.inv(floor.matrix)
    lines = []
    for piece in pieces:
        if piece.geom_type == "LineString" and piece.length:
            mapped = np.column_stack([np.array(piece.coords), np.ones(2)]) @ back.T
            lines.append(mapped[:, :2] / mapped[:, 2:])
    return lines


def _multiples(least: float, most: float, step: float) -> Float64s:
    return np.arange(np.ceil(least / step - 1e-9), np.floor(most / step + 1e-9) + 1) * step


def draw_ways(pen: Pen, ways: Sequence[Way], pts_s: float) -> None:
    """Draw tracks: where each has been, where it will be, and its box at a moment."""
    for way, colour in zip(ways, cycle(_WAYS), strict=False):
        pen.line(way.feet[way.pts_s <= pts_s], colour)
        pen.line(way.feet[way.pts_s >= pts_s], colour, 0.15, linestyle=":")
        if way.box is not None:
            pen.box(way.box, colour)
        x, y = _tag(way, pts_s)
        pen.write((x, y), f"#{way.track_id}", colour)


def _tag(way: Way, pts_s: float) -> tuple[float, float]:
    """Return where a track's number goes: above its box, or where it is nearest in time."""
    nearest = way.feet[np.argmin(np.abs(way.pts_s - pts_s))]
    x, y = (nearest if way.box is None else way.box[:2]).tolist()
    return x, y


def draw_seen(pen: Pen, seen: Seen) -> None:
    """Draw what the detector found, each with its confidence."""
    is_one_class = len(set(seen.labels)) <= 1
    for box, confidence, label in zip(seen.boxes, seen.confidence, seen.labels, strict=True):
        pen.box(box, _SEEN, is_sure=confidence >= SURE)
        text = f"{confidence:.2f}" if is_one_class else f"{label} {confidence:.2f}"
        x_min, _, _, y_max = box.tolist()
        pen.write((x_min, y_max), text, _SEEN)
