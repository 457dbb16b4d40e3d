"""What tests of whole runs share: running a job on the suite's Ray, reading its tables."""

import json
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pytest
from rich.console import Console

from jobs.backfill import run_job
from jobs.results import RunEnd
from jobs.settings import JobSettings
from pipeline.ffmpeg import find_ffmpeg

THREE_CLIPS = ("TUD-Stadtmitte.mp4", "TUD-Campus.mp4", "intel_one-by-one-person-detection.mp4")
# Which run wrote a row, and from which file, may differ between runs that are to be equal.
ROWS = (
    "select * exclude (source_uri, camera_id, video_track) "
    "from read_parquet(?, hive_partitioning=true)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A finished job: its exit code, its summary and its tables."""

    output: Path
    exit_code: int
    summary: dict[str, Any]

    def glob(self, table: str) -> str:
        return f"{self.output}/{table}/**/*.parquet"

    def query(self, table: str, select: str = "select *", where: str = "") -> list[tuple[Any, ...]]:
        sql = f"{select} from read_parquet(?, hive_partitioning=true) {where}"
        return duckdb.execute(sql, [self.glob(table)]).fetchall()

    def rows(self, table: str, camera_id: str | None = None) -> list[tuple[Any, ...]]:
        """Return a table's rows, sorted, of one camera or of all."""
        where = "" if camera_id is None else f" where camera_id = '{camera_id}'"
        return sorted(map(repr, duckdb.execute(ROWS + where, [self.glob(table)]).fetchall()))

    def tracks(self) -> dict[int, dict[str, Any]]:
        """Return the summary of the only recording, by video track."""
        (recording,) = self.summary["recordings"]
        return {track["video_track"]: track for track in recording["video_tracks"]}


@pytest.fixture
def run(ray_head: Any, tmp_path: Path) -> Callable[..., Job]:
    """Run a job in this process, on the suite's Ray."""

    def run_one(*inputs: Path | str, **settings: Any) -> Job:
        output = tmp_path / settings.pop("name", "out")
        end: RunEnd = run_job(
            JobSettings(
                input=tuple(map(str, inputs)),
                output=str(output),
                address=ray_head.address,
                **settings,
            ),
            Console(quiet=True),
        )
        summary = json.loads((output / "summary.json").read_text())
        return Job(output=output, exit_code=end.exit_code, summary=summary)

    return run_one


@pytest.fixture(scope="session")
def three_tracks(footage: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an MKV of three clips as three video tracks, copied and not encoded again."""
    path = tmp_path_factory.mktemp("mkv") / "three.mkv"
    inputs = [arg for clip in THREE_CLIPS for arg in ("-i", footage / clip)]
    maps = [arg for number in range(len(THREE_CLIPS)) for arg in ("-map", f"{number}:v")]
    command = [find_ffmpeg(), "-v", "error", *inputs, *maps, "-c", "copy", path]
    subprocess.run(list(map(str, command)), check=True)
    return path


@pytest.fixture(scope="session")
def eight_segments(footage: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a clip of 795 frames that is cut into 8 segments."""
    path = tmp_path_factory.mktemp("eight") / "eight.mp4"
    clip = footage / THREE_CLIPS[2]
    command = [find_ffmpeg(), "-v", "error", "-i", clip, "-t", "79.4", "-c", "copy", path]
    subprocess.run(list(map(str, command)), check=True)
    return path
