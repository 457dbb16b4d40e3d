"""The old service's call keeps its parameters, its results and its words."""

import logging
import re
from pathlib import Path
from typing import Any

import duckdb
import pytest

from jobs.process import (
    Camera,
    check_memory_limit,
    cleanup_memory,
    get_memory_usage,
    start_process,
    validate_processing_parameters,
)
from pipeline.errors import ConfigError, SourceError


@pytest.mark.ray
@pytest.mark.footage
def test_start_process_runs_one_video_track_and_returns_the_old_fields(
    ray_head: Any, three_tracks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = start_process(
        {"id": "door"}, str(three_tracks), 0, memory_limit_mb=9000, address=ray_head.address,
        tables=str(tmp_path / "tables"),
    )  # fmt: skip
    assert result["status"] == "completed"
    assert result["frames"] == 179
    assert result["tracks"] > 5
    assert result["failures"] == 0
    assert set(result["memory_usage"]) == {
        "initial_mb", "final_mb", "peak_increase_mb", "batch_size", "memory_limit_mb",
        "spilled_mb", "status",
    }  # fmt: skip
    assert result["memory_usage"]["memory_limit_mb"] == 8192
    assert result["memory_usage"]["status"] == "held"
    assert set(result["performance_timings"]) == {
        "aws_detection", "yolo_detection", "tracking_update", "movement_logging",
        "frame_processing", "memory_management",
    }  # fmt: skip
    sql = "select distinct camera_id, video_track from read_parquet(?, hive_partitioning=true)"
    movements = f"{result['tables']}/movements/**/*.parquet"
    assert duckdb.execute(sql, [movements]).fetchall() == [("door", 0)]
    said = capsys.readouterr().out
    for line in (
        r"WARNING - Memory limit too high, using maximum 8192 MB",
        r"INFO - Processing parameters: batch_size=10, memory_limit=8192 MB",
        r"INFO - Initial memory usage: \d+\.\d MB",
        r"INFO - Progress: \d+\.\d% \(\d+/179\) - Speed: \d+\.\d fps - "
        r"ETA: \d\d:\d\d - Memory: \d+\.\d MB",
        r"INFO - Video processing completed successfully",
    ):
        assert re.search(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d - " + line, said, re.MULTILINE), (
            line,
            said,
        )


def test_a_limit_below_what_the_footage_takes_is_refused_with_one_that_would_do(
    three_tracks: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"memory_limit_mb = 100 is too little .* MB would do"):
        start_process({"id": "door"}, str(three_tracks), 0, 10, 50, tables=str(tmp_path / "t"))


def test_a_track_index_that_is_not_there_lists_those_that_are(
    three_tracks: Path,
) -> None:
    with pytest.raises(ConfigError, match=r"its video tracks are: 0, 1, 2"):
        start_process(Camera(id="door"), str(three_tracks), track_index=3)


def test_a_video_that_is_not_there_and_a_camera_without_id_are_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"no\.mkv"):
        start_process(Camera(id="door"), str(tmp_path / "no.mkv"))
    with pytest.raises(SourceError, match="cannot be read"):
        (tmp_path / "text.mkv").write_text("text")
        start_process(Camera(id="door"), str(tmp_path / "text.mkv"))


def test_parameters_out_of_bounds_are_warned_of_in_the_old_words(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING):
        assert validate_processing_parameters(0, 99) == (10, 100)
        assert validate_processing_parameters(5, 9000) == (5, 8192)
        assert validate_processing_parameters(1, 100) == (1, 100)
    assert [record.message for record in caplog.records] == [
        "Invalid batch_size, using default 10",
        "Memory limit too low, using minimum 100 MB",
        "Memory limit too high, using maximum 8192 MB",
    ]


def test_the_memory_functions_of_old_measure_and_judge() -> None:
    before = get_memory_usage()
    ballast = bytearray(64 << 20)
    ballast[::4096] = b"x" * len(ballast[::4096])
    assert get_memory_usage() - before > 50
    del ballast
    assert cleanup_memory() >= 0
    assert get_memory_usage() - before < 30
    assert check_memory_limit(100.0, 100)
    assert not check_memory_limit(100.1, 100)
