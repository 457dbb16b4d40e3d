"""One still as a picture to draw by: what is in it and on it, with a ruler in pixels at its edges.

    ┌──────────────────────────────┐   when, what, whose
    │ title                        │   what the calibration is worth
    │    ┌───────────────────────┐ │
    │ 100┤  zone  line ──> in    │ │   the still, at its own size or a little larger
    │ 200┤  ░mask░   [box 0.87]  │ │
    │    └─┬─────┬─────┬─────┬───┘ │
    │     100   200   300   400    │   pixels of the upright source, as cameras files have them
    └──────────────────────────────┘

Where things lie is known before; nothing here reads footage or blurs a head.
"""

import io
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import AutoMinorLocator, MultipleLocator
from numpy.typing import NDArray

from jobs.console import printable
from jobs.preview_marks import (
    SURE,
    Pen,
    draw_scene,
    draw_seen,
    draw_ways,
    floor_step,
    shortened,
)
from jobs.preview_people import AROUND_S, Seen, Way
from pipeline.areas import Areas
from pipeline.floor import LEAST_POINTS
from pipeline.scene import Scene

# A dot is a pixel, a point of type as well.
_DPI = 72
# With its margins the picture is at most so many times as wide and as high as the still.
_MOST_SCALE, _MOST_ZOOM, _ZOOMED_PX = 1.5, 1.25, 1200
_LEAST_TYPE_PX, _MOST_TYPE_PX, _LINES_OF_TYPE = 6.0, 44.0, 46


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sketch:
    """All that is to be drawn, in source pixels.

    Attributes:
        picture: (height, width, 3) uint8 RGB.
        title: What the picture is of.
        scene: As the cameras file has it; its units are those of the second ruler.
        areas: The same in the picture.
        seen: Boxes of the detector; None if none are to be drawn.
        heads: How many regions are blurred; None if heads are shown.
        ways: Of tracks.
        is_told_of: Whether there is an output that tells of tracks, even if of none here.
        pts_s: When the still is shown.
    """

    picture: NDArray[np.uint8]
    title: str
    scene: Scene
    areas: Areas
    seen: Seen | None = None
    heads: int | None = None
    ways: tuple[Way, ...] = ()
    is_told_of: bool = False
    pts_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Paper:
    """The sizes of the picture, in its own pixels.

    Attributes:
        zoom: Of the still.
        type: Height of type.
        left: Margin; so are `right`, `top`, `bottom`.
    """

    still_width: int
    still_height: int
    zoom: float
    type: float
    left: float
    right: float
    top: float
    bottom: float

    @property
    def width(self) -> int:
        return int(self.left + self.still_width * self.zoom + self.right)

    @property
    def height(self) -> int:
        return int(self.top + self.still_height * self.zoom + self.bottom)


def draw(sketch: Sketch) -> bytes:
    """Return a PNG, at most 1.5 times as wide and as high as the still."""
    paper = _paper(sketch)
    figure = Figure(figsize=(paper.width / _DPI, paper.height / _DPI), dpi=_DPI)
    pen = Pen(_axes(figure, sketch, paper), paper.type, paper.zoom)
    draw_scene(pen, sketch.scene, sketch.areas)
    if sketch.seen is not None:
        draw_seen(pen, sketch.seen)
    draw_ways(pen, sketch.ways, sketch.pts_s)
    _write_around(figure, sketch, paper)
    content = io.BytesIO()
    with warnings.catch_warnings():
        # A name may be in a script that the font has not.
        warnings.filterwarnings("ignore", "Glyph .* missing")
        figure.savefig(content, format="png", dpi=_DPI)
    return content.getvalue()


def _paper(sketch: Sketch) -> _Paper:
    height, width = sketch.picture.shape[:2]
    zoom = min(_MOST_ZOOM, max(1.0, _ZOOMED_PX / width))
    size = min(width, height) * zoom / _LINES_OF_TYPE
    size = min(_MOST_TYPE_PX, max(_LEAST_TYPE_PX, size))
    above = 5.3 if sketch.scene.units == "normalised" else 3.9
    left, right, top, bottom = (ems * size for ems in (3.8, 3.0, above, 3.8))
    across = min(1.0, (_MOST_SCALE - zoom) * width / (left + right))
    down = min(1.0, (_MOST_SCALE - zoom) * height / (top + bottom))
    return _Paper(
        still_width=width,
        still_height=height,
        zoom=zoom,
        type=size,
        left=left * across,
        right=right * across,
        top=top * down,
        bottom=bottom * down,
    )


def _axes(figure: Figure, sketch: Sketch, paper: _Paper) -> Axes:
    """Return axes in source pixels, with the still in them, its rulers, and a grid to draw by."""
    width, height, size = paper.still_width, paper.still_height, paper.type
    axes = figure.add_axes(
        (
            paper.left / paper.width,
            paper.bottom / paper.height,
            width * paper.zoom / paper.width,
            height * paper.zoom / paper.height,
        )
    )
    # A pixel's upper left corner has its number, as in the tables.
    axes.imshow(sketch.picture, extent=(0, width, height, 0), interpolation="antialiased")
    axes.set(xlim=(0, width), ylim=(height, 0), autoscale_on=False)
    step = _nice(4.0 * size / paper.zoom)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MultipleLocator(step))
        axis.set_minor_locator(AutoMinorLocator(5))
    axes.tick_params(labelsize=size, length=size * 0.6, width=1)
    axes.tick_params(which="minor", length=size * 0.3)
    if sketch.scene.units == "normalised":
        _add_shares(axes, size)
    if not (sketch.areas.lines or sketch.areas.zones or sketch.areas.floor):
        axes.grid(color="white", alpha=0.3, linewidth=0.8)
    return axes


def _add_shares(axes: Axes, size: float) -> None:
    """Add a ruler in shares of the picture to its upper and right edge."""
    width, height = axes.get_xlim()[1], axes.get_ylim()[0]
    above = axes.secondary_xaxis("top", functions=_shares_of(width))
    beside = axes.secondary_yaxis("right", functions=_shares_of(height))
    for ruler in (above, beside):
        ruler.tick_params(labelsize=size, length=size * 0.6)
    above.xaxis.set_major_locator(MultipleLocator(0.1))
    beside.yaxis.set_major_locator(MultipleLocator(0.1))


def _shares_of(length: float) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    """Return the ways from pixels to shares of a length, and back."""
    return lambda pixels: pixels / length, lambda shares: shares * length


def _nice(least: float) -> float:
    """Return the least of 1, 2, 5, 10, 20, 50 ... that is no less."""
    ten = 10.0 ** math.floor(math.log10(least))
    return next(each * ten for each in (1, 2, 5, 10) if each * ten >= least * (1 - 1e-9))


def _write_around(figure: Figure, sketch: Sketch, paper: _Paper) -> None:
    """Write what the picture is of above it, and what its marks mean below."""
    size, height = paper.type, paper.height
    rows = [
        (1 - 0.4 * size / height, "top", 1.15, sketch.title),
        (1 - 2.0 * size / height, "top", 1.0, _measures(sketch)),
        (0.4 * size / height, "bottom", 1.0, _legend(sketch)),
    ]
    for y, side, scale, text in rows:
        # A character is about half as wide as high.
        most = int(0.98 * paper.width / (0.53 * scale * size))
        shown = figure.text(0.01, y, shortened(printable(text), most), fontsize=scale * size)
        shown.set(va=side, parse_math=False)


def _measures(sketch: Sketch) -> str:
    """Return how much is drawn, and what the calibration is worth."""
    parts = []
    if sketch.seen is not None:
        parts.append(f"boxes: {len(sketch.seen.labels)}")
    if sketch.heads is not None:
        parts.append("heads blurred" if sketch.heads else "no heads found")
    if sketch.ways:
        parts.append(f"tracks within {AROUND_S:g} s: {len(sketch.ways)}")
    elif not sketch.is_told_of:
        parts.append("paths of people: with --tables OUTPUT")
    told, floor = sketch.scene.calibration, sketch.areas.floor
    if told is not None and floor is not None:
        fit = f"calibration: off by {floor.residual_m:.2f} m, at worst {floor.worst_m:.2f} m"
        if len(told.image) == LEAST_POINTS:
            fit = "calibration: four points, which fit whatever they are"
        parts.append(f"{fit}; squares of {floor_step(told.floor_m):g} m")
    return "; ".join(parts)


def _legend(sketch: Sketch) -> str:
    parts = ["rulers: pixels from the upper left corner"]
    if sketch.scene.units == "normalised":
        parts[0] += ", and shares of the picture"
    if sketch.seen is not None:
        parts.append(f"boxes: confidence, dotted below {SURE:g}")
    if sketch.ways:
        parts.append("#: tracks, dotted: still to come")
    return " · ".join(parts)
