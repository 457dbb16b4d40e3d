"""The old service's call: one video track of one recording, with its parameters and its words.

`start_process` is what the single-process service had, run by the engine of today. The functions
beside it are those that callers of the old module used.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.meter import check_memory_limit, cleanup_memory, get_memory_usage
from jobs.backfill import run_job
from jobs.console import open_console
from jobs.settings import (
    DEFAULT_BATCH_SIZE,
    DEFAULT_MEMORY_MB,
    LEAST_MEMORY_MB,
    MOST_MEMORY_MB,
    JobSettings,
)
from pipeline.aws import AwsSettings, is_s3, parse_address
from pipeline.errors import ConfigError, SourceError
from pipeline.probe_pool import probe_all
from pipeline.records import Listed
from pipeline.s3 import find_object
from pipeline.store import shown

__all__ = [
    "Camera",
    "check_memory_limit",
    "cleanup_memory",
    "get_memory_usage",
    "start_process",
    "validate_processing_parameters",
]

log = logging.getLogger(__name__)
PROGRESS_EVERY_FRAMES = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Camera:
    """A camera, as the old service knew it."""

    id: str


def validate_processing_parameters(batch_size: int, memory_limit_mb: int) -> tuple[int, int]:
    """Return parameters within their bounds; what was out of them is warned of.

    Args:
        batch_size: Below 1 it becomes 10.
        memory_limit_mb: Below 100 it becomes 100, above 8192 it becomes 8192.
    """
    if batch_size < 1:
        log.warning("Invalid batch_size, using default %d", DEFAULT_BATCH_SIZE)
        batch_size = DEFAULT_BATCH_SIZE
    if memory_limit_mb < LEAST_MEMORY_MB:
        log.warning("Memory limit too low, using minimum %d MB", LEAST_MEMORY_MB)
        memory_limit_mb = LEAST_MEMORY_MB
    elif memory_limit_mb > MOST_MEMORY_MB:
        log.warning("Memory limit too high, using maximum %d MB", MOST_MEMORY_MB)
        memory_limit_mb = MOST_MEMORY_MB
    return batch_size, memory_limit_mb


def start_process(
    camera: Camera | Mapping[str, Any],
    output_path: str,
    track_index: int | None = None,
    batch_size: int = DEFAULT_BATCH_SIZE,
    memory_limit_mb: int = DEFAULT_MEMORY_MB,
    *,
    tables: str | None = None,
    **more: Any,  # noqa: ANN401 -- any field of `JobSettings`
) -> dict[str, Any]:
    """Process one video track of a video and return what was found.

    Args:
        camera: Whose footage it is: a `Camera`, or a mapping or an object with an `id`.
        output_path: Path of the *video*, as of old, or its address in S3.
        track_index: Which video track; the first by default.
        batch_size: Frames of a batch.
        memory_limit_mb: Memory that the job may add once it is ready.
        tables: Folder for the tables; `<output_path>.footfall` by default. Results of an earlier
            call in it are replaced.
        more: Further settings of the job, by their names in `JobSettings`.

    Returns:
        `status`, `run_id`, `frames`, `tracks`, `movements`, `failures`, `tables`, and the blocks
        `memory_usage` and `performance_timings` of `summary.json`.

    Raises:
        ConfigError: A parameter cannot be right; a `track_index` that is not there lists those
            that are.
        SourceError: The video cannot be read at all.
        OutputError: The tables cannot be written.
    """
    console = open_console()
    batch_size, memory_limit_mb = validate_processing_parameters(batch_size, memory_limit_mb)
    aws = AwsSettings(
        profile=more.get("profile", ""),
        region=more.get("region", ""),
        endpoint_url=more.get("endpoint_url", ""),
    )
    video_track = _existing_track(output_path, track_index, aws)
    settings = JobSettings(
        **{
            "input": (output_path,),
            "output": tables or f"{output_path}.footfall",
            "video_tracks": str(video_track),
            "camera_id": _camera_id(camera),
            "batch_size": batch_size,
            "memory_limit_mb": memory_limit_mb,
            "overwrite": True,
            **more,
        }
    )
    end = run_job(settings, console, every_frames=PROGRESS_EVERY_FRAMES)
    summary = end.summary()
    return {
        **{name: summary[name] for name in ("status", "run_id", "frames", "fps")},
        "tracks": sum(result.tracks for result in end.results),
        "movements": sum(result.movements for result in end.results),
        "failures": len(end.failures),
        "tables": shown(end.path),
        "memory_usage": summary["memory_usage"],
        "performance_timings": summary["performance_timings"],
    }


def _existing_track(video: str, track_index: int | None, aws: AwsSettings) -> int:
    """Return the video track to process.

    Raises:
        ConfigError: There is none of that number, or S3 does not answer.
        SourceError: The video cannot be read.
    """
    listed = _listed(video, aws)
    if listed is None:
        raise SourceError(f"{video!r}: there is no such video", source_uri=video)
    (found,) = probe_all([listed], aws=aws)
    if isinstance(found, SourceError):
        raise SourceError(f"{video!r} {found}", source_uri=video) from found
    numbers = [track.video_track for track in found.video_tracks]
    wanted = 0 if track_index is None else track_index
    if wanted not in numbers:
        raise ConfigError(
            f"track_index {wanted} is not in {video!r}; its video tracks are: "
            + ", ".join(map(str, numbers))
        )
    return wanted


def _listed(video: str, aws: AwsSettings) -> Listed | None:
    """Return a video as it is named to be probed; None if it is not there."""
    if is_s3(video):
        return find_object(parse_address(video), aws, "video")
    path = Path(video).absolute()
    return Listed(source_uri=str(path)) if path.exists() else None


def _camera_id(camera: Any) -> str:  # noqa: ANN401 -- whatever callers of old pass
    found = camera.get("id") if isinstance(camera, Mapping) else getattr(camera, "id", None)
    if found is None or str(found) == "":
        raise ConfigError(f"camera {camera!r} has no id: pass Camera(id=...) or {{'id': ...}}")
    return str(found)
