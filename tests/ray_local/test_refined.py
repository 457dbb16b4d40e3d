"""Refined tables of real runs: as good as is asked of them, and made again without footage."""

import argparse
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest

from jobs import one_track, refine
from jobs.evaluate import Quality, quality
from jobs.exits import EXIT_OK
from jobs.mot import read_mot
from pipeline.verify import verify

pytestmark = [pytest.mark.ray, pytest.mark.footage]

CAMERAS = """
[[camera]]
id = "street"
recording = "TUD-Stadtmitte.mp4"
units = "normalised"
[[camera.line]]
name = "middle"
points = [[0.5, 0.0], [0.5, 1.0]]
[[camera.zone]]
name = "left"
polygon = [[0.0, 0.0], [0.5, 0.0], [0.5, 1.0], [0.0, 1.0]]
"""


def held(output: Path, footage: Path, clip: str, **of: str) -> Quality:
    """Hold the refined log of a clip's video track against its truth."""
    parser = argparse.ArgumentParser()
    one_track.ask(parser)
    options = argparse.Namespace(**{**vars(parser.parse_args([str(output)])), **of})
    return quality(read_mot(footage / f"{clip}.gt.txt"), one_track.find(options).tracks())


def count(output: Path, table: str, where: str = "true") -> int:
    files = f"{output}/refined/{table}/**/*.parquet"
    ((number,),) = duckdb.execute(
        f"select count(*) from read_parquet(?, hive_partitioning = true) where {where}", [files]
    ).fetchall()
    return int(number)


@pytest.mark.parametrize(
    ("stride", "least"),
    # HOTA and IDF1. With a stride, no worse than the best of today's online trackers at every frame.
    [
        (1, {"TUD-Stadtmitte": (0.70, 0.88), "TUD-Campus": (0.60, 0.80)}),
        pytest.param(
            3,
            {"TUD-Stadtmitte": (0.605, 0.0), "TUD-Campus": (0.51, 0.0)},
            marks=pytest.mark.long,
        ),
    ],
)
def test_tracks_are_as_good_as_is_asked_of_them(
    run: Callable, footage: Path, stride: int, least: dict[str, tuple[float, float]]
) -> None:
    job = run(*(footage / f"{clip}.mp4" for clip in least), stride=stride)
    found = {clip: held(job.output, footage, clip, recording=f"{clip}.mp4") for clip in least}
    for clip, (hota, idf1) in least.items():
        assert found[clip].hota >= hota, clip
        assert found[clip].idf1 >= idf1, clip
    assert job.summary["refined"]["tracks"] == sum(each.tracks for each in found.values())
    assert verify(job.output).problems == []


def test_zones_are_edited_and_tables_made_again_without_footage(
    run: Callable, footage: Path, tmp_path: Path
) -> None:
    clip = tmp_path / "TUD-Stadtmitte.mp4"
    clip.write_bytes((footage / "TUD-Stadtmitte.mp4").read_bytes())
    cameras = tmp_path / "cameras.toml"
    cameras.write_text(CAMERAS)
    job = run(clip, cameras=str(cameras))
    clip.unlink()
    before = count(job.output, "events"), count(job.output, "movements")
    assert before[0] > 0
    assert count(job.output, "movements", "zones = ['left']") > 0
    online = job.rows("movements"), job.rows("tracks")

    assert refine.main([str(job.output)]) == EXIT_OK
    assert (count(job.output, "events"), count(job.output, "movements")) == before

    moved = tmp_path / "moved.toml"
    moved.write_text(CAMERAS.replace("0.5", "0.7").replace('"left"', '"most"'))
    assert refine.main([str(job.output), "--cameras", str(moved), "--movement-hz", "5"]) == EXIT_OK
    assert count(job.output, "movements", "zones = ['left']") == 0
    assert count(job.output, "movements", "zones = ['most']") > 0
    assert count(job.output, "movements") < before[1] / 3
    # What was given last is kept, and the online tables are as they were.
    assert refine.main([str(job.output)]) == EXIT_OK
    assert count(job.output, "movements", "zones = ['most']") > 0
    assert (job.rows("movements"), job.rows("tracks")) == online
    assert verify(job.output).problems == []

    assert refine.main([str(job.output), "--no-refine", "--movement-hz", "0"]) == EXIT_OK
    assert count(job.output, "movements") == len(online[0])


@pytest.mark.long
def test_a_mask_takes_away_what_is_behind_it(run: Callable, footage: Path, tmp_path: Path) -> None:
    cameras = tmp_path / "cameras.toml"
    mask = "[[camera.mask]]\npolygon = [[0.5, 0.0], [1.0, 0.0], [1.0, 1.0], [0.5, 1.0]]\n"
    cameras.write_text(CAMERAS.replace("TUD-Stadtmitte", "TUD-Campus") + mask)
    job = run(footage / "TUD-Campus.mp4", cameras=str(cameras))
    behind = "where x_min > 330"
    assert job.query("detections", "select count(*)", behind) == [(0,)]
    assert job.query("detections", "select count(*) > 0") == [(True,)]
