"""A picture of the paths: one panel a camera, each track a line on the floor."""

from collections.abc import Sequence
from pathlib import Path

import duckdb
import matplotlib as mpl

from jobs.demo_footage import Truth

_PATHS = """
select camera_id, video_track, track_id, path
from read_parquet(?, hive_partitioning = true) order by camera_id, track_id
"""
_MOST_PANELS = 12


def draw_paths(tables: Path, truth: Sequence[Sequence[Truth]], picture: Path) -> Path:
    """Draw the refined `tracks` table to a PNG; truth, by video track, is dotted beneath.

    Args:
        tables: Output of a run.
        truth: By video track, or empty.
        picture: The file to write.
    """
    mpl.use("Agg")
    import matplotlib.pyplot as plt

    files = list(tables.glob("refined/tracks/**/*.parquet"))
    rows = (
        duckdb.execute(_PATHS, [f"{tables}/refined/tracks/**/*.parquet"]).fetchall()
        if files
        else []
    )
    cameras = sorted({(str(row[0]), row[1]) for row in rows})[:_MOST_PANELS]
    figure, panels = plt.subplots(
        1, max(1, len(cameras)), figsize=(5.5 * max(1, len(cameras)), 4.6), squeeze=False
    )
    for axes, (camera, video_track) in zip(panels[0], cameras, strict=False):
        for person in truth[video_track] if truth else ():
            feet = [((b[0] + b[2]) / 2, b[3]) for b in person.boxes.values()]
            axes.plot(*zip(*feet, strict=True), ":", color="0.5", linewidth=4, label=None)
        for _, _, track_id, path in (row for row in rows if str(row[0]) == camera):
            x, y = [p["x"] for p in path], [p["y"] for p in path]
            (line,) = axes.plot(x, y, "-", linewidth=2, label=f"track {track_id}")
            axes.plot(x[-1], y[-1], "o", color=line.get_color())
        axes.set_title(f"{camera}" + (" (dotted: truth)" if truth else ""))
        axes.set(xlabel="x, pixels", ylabel="y of the feet, pixels")
        axes.invert_yaxis()
        if 0 < len(axes.get_legend_handles_labels()[1]) <= 10:  # noqa: PLR2004 -- as many as fit
            axes.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(picture, dpi=100)
    plt.close(figure)
    return picture
