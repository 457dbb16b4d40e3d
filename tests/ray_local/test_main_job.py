"""The main job on real footage: what comes out, and that it does not depend on how it was run."""

import json
from collections.abc import Callable
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest

from jobs import spec
from pipeline import quantize
from pipeline.atomic import sha256_of

pytestmark = [pytest.mark.ray, pytest.mark.footage]

FRAMES = {0: 179, 1: 71, 2: 1394}


def test_three_video_tracks_are_three_cameras_and_equal_the_clips_alone(
    run: Callable, three_tracks: Path, footage: Path
) -> None:
    small = {"image_size": 320}
    job = run(three_tracks, **small)

    assert job.exit_code == 0
    assert job.summary["status"] == "completed"
    assert {n: t["frames"] for n, t in job.tracks().items()} == FRAMES
    assert job.summary["frames"] == sum(FRAMES.values())
    cameras = {track["camera_id"] for track in job.tracks().values()}
    assert cameras == {"three-0", "three-1", "three-2"}
    for table in ("detections", "movements", "tracks"):
        people = dict(job.query(table, "select camera_id, count(*)", "group by camera_id"))
        assert set(people) == cameras
        assert all(count > 0 for count in people.values())
        assert {p.name for p in (job.output / table).iterdir()} == {
            f"camera_id={c}" for c in cameras
        }

    # Alone, and with another batch size and another number of detectors each.
    ways = {"TUD-Stadtmitte": {"batch_size": 1}, "TUD-Campus": {"batch_size": 32, "detectors": 2}}
    for number, clip in enumerate(("TUD-Stadtmitte", "TUD-Campus")):
        alone = run(footage / f"{clip}.mp4", name=clip, **small, **ways[clip])
        for table in ("detections", "movements", "tracks"):
            assert alone.rows(table) == job.rows(table, f"three-{number}"), (clip, table)

    memory = job.summary["memory_usage"]
    assert 0 < memory["peak_increase_mb"] < memory["memory_limit_mb"] == 1024
    assert job.summary["baseline_mb"] > 100
    counted_s = job.summary["frames"] / job.summary["fps"]
    assert counted_s < job.summary["wall_s"]
    timings = job.summary["performance_timings"]
    assert timings["yolo_detection"] > timings["tracking_update"] > 0
    assert timings["frame_processing"] > 0
    assert timings["movement_logging"] > 0


@pytest.mark.long
def test_boxes_are_in_source_pixels_whatever_the_inference_size(
    run: Callable, footage: Path
) -> None:
    clip = footage / "TUD-Campus.mp4"
    jobs = [run(clip, image_size=size, name=str(size), confidence=0.5) for size in (640, 448)]
    # The largest box of the first frame is the same person, seen at two inference sizes.
    boxes = [
        job.query(
            "detections",
            "select x_min, y_min, x_max, y_max",
            "where frame_index = 0 order by (x_max - x_min) * (y_max - y_min) desc limit 1",
        )[0]
        for job in jobs
    ]
    assert boxes[0] != boxes[1]
    assert all(abs(a - b) < 20 for a, b in zip(*boxes, strict=True))
    assert max(boxes[0]) > 200


def test_frames_that_are_not_wanted_are_neither_decoded_nor_counted(
    run: Callable, footage: Path, tmp_path: Path
) -> None:
    clip = tmp_path / "door_20260115_103000.mp4"
    clip.write_bytes((footage / "TUD-Stadtmitte.mp4").read_bytes())
    cameras = tmp_path / "cameras.toml"
    cameras.write_text(
        '[[camera]]\nid = "../../door"\nrecording = "door_*"\nstart_time = "door_%Y%m%d_%H%M%S"\n'
    )
    job = run(
        clip,
        cameras=str(cameras),
        since="2026-01-15T10:30:02",
        until="2026-01-15T10:30:04",
        stride=5,
    )
    numbers = [row[0] for row in job.query("detections", "select distinct frame_index")]
    assert sorted(numbers) == list(range(50, 100, 5))
    assert job.summary["frames"] == 10
    moments = job.query("movements", "select min(timestamp)::varchar, any_value(date)::varchar")
    assert moments[0][0].startswith("2026-01-15 10:30:02")
    assert moments[0][1] == "2026-01-15"
    # A camera's id cannot lead out of the table.
    assert {p.name for p in (job.output / "movements").iterdir()} == {"camera_id=..%2F..%2Fdoor"}
    assert job.query("movements", "select distinct camera_id") == [("../../door",)]


@pytest.mark.long
def test_int8_says_what_it_costs_and_an_output_goes_on_with_the_model_it_has(
    run: Callable, footage: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Few frames, so that it takes seconds.
    usual = quantize.quantized
    monkeypatch.setattr(
        spec, "quantized", lambda *known: usual(*known, most_stills=24), raising=True
    )
    clips = [footage / f"{name}.mp4" for name in ("TUD-Campus", "TUD-Stadtmitte")]
    job = run(clips[0], precision="int8", image_size=320)
    assert job.exit_code == 0
    cost = job.summary["quantization"]
    assert cost["judged"] == 8
    assert 0.7 * cost["boxes"] < cost["found"] <= cost["boxes"]
    assert json.loads((job.output / "run.json").read_text())["made_with"]["precision"] == "int8"
    (model,) = (job.output / "model").glob("*.zip")
    before = model.stat().st_mtime_ns, job.rows("detections")

    # What it was begun with holds for what comes later too, without being asked for.
    more = run(*clips, image_size=320)
    assert more.summary["quantization"] == cost
    assert (model.stat().st_mtime_ns, more.rows("detections", "TUD-Campus-0")) == before
    (file, *_) = (job.output / "movements").rglob("*.parquet")
    footer = pq.read_schema(file).metadata
    assert footer[b"footfall.model_hash"].decode() == sha256_of(model)


def test_files_say_what_made_them_and_the_settings_can_be_used_again(
    run: Callable, footage: Path
) -> None:
    job = run(footage / "TUD-Campus.mp4")
    (file,) = (job.output / "movements").rglob("*.parquet")
    footer = {k.decode(): v.decode() for k, v in pq.read_schema(file).metadata.items()}
    assert footer["footfall.run_id"] == job.summary["run_id"]
    assert footer["footfall.schema_version"] == "4"
    assert len(footer["footfall.config_hash"]) == len(footer["footfall.model_hash"]) == 64
    assert not list(job.output.rglob("*.partial"))
    steps = duckdb.execute("select distinct step from read_parquet(?)", [job.glob("metrics")])
    assert {row[0] for row in steps.fetchall()} == {
        "demux", "decode", "detect", "track", "write", "memory", "ready",
    }  # fmt: skip
    import argparse

    from jobs.options import add_options, resolve

    parser = argparse.ArgumentParser()
    add_options(parser)
    again = resolve(parser.parse_args(["--config", str(job.output / "config.toml")]))
    assert again.plain() == job.summary["config"] | {
        "input": again.input, "classes": again.classes,
    }  # fmt: skip
