"""What a run says of itself before and behind the work, in the old service's words where it had any."""

import logging
from collections import Counter
from typing import Any

from rich.console import Console

from cluster.memory import MemoryPlan
from cluster.meter import MIB
from jobs.console import show_failures
from jobs.found import Survey, disk_bytes
from jobs.results import RunEnd
from jobs.settings import JobSettings
from pipeline.store import shown

log = logging.getLogger(__name__)
_MOST_TRACKS_NAMED = 40


def say_plan(plan: MemoryPlan) -> None:
    """Say how memory is divided on a node."""
    parts = ", ".join(f"{name} {size // MIB}" for name, size in plan.parts.items())
    log.info(
        "Memory plan of a node, of %d MB: %s; batches of %d, %d decoder(s)",
        plan.limit_mb,
        parts,
        plan.batch_size,
        plan.decoders,
    )


def say_found(settings: JobSettings, found: Survey) -> None:
    """Say what will be worked on, what cannot be, and what is skipped."""
    for each in found.wanted[:_MOST_TRACKS_NAMED]:
        footage, track = each.footage, each.footage.track
        width, height = track.upright_size
        log.info(
            "Found video track %d of %s: %s %dx%d, %.6g fps, about %d frames, camera %s",
            track.video_track,
            footage.source_uri,
            track.codec,
            width,
            height,
            track.rate_fps,
            track.expected_frames,
            footage.key.camera_id,
        )
    for failure in found.failures:
        log.error("Cannot process %s: %s", failure.source_uri, failure.message)
    more = len(found.wanted) - _MOST_TRACKS_NAMED
    if more > 0:
        log.info("... and %d video track(s) more; `footfall plan` lists all", more)
    strides = Counter(each.footage.stride for each in found.wanted)
    for stride, count in sorted(strides.items()):
        if stride > 1:
            log.info("Looking at one frame in %d of %d video track(s)", stride, count)
    if disk := disk_bytes(settings, found):
        log.info("Recordings of S3 take at most %.3g GB of a node's disk at once", disk / 1e9)
    _say_left_out(found)


def _say_left_out(found: Survey) -> None:
    if found.unopened:
        log.info("Not opened, by their names alone: %d recording(s)", found.unopened)
    reasons = Counter(each.skipped for each in found.skipped)
    for reason, count in reasons.most_common():
        log.info("Skipped %d video track(s): %s", count, reason)


def say_end(end: RunEnd, console: Console) -> None:
    """Say what came of a run."""
    summary = end.summary()
    memory = summary["memory_usage"]
    if end.outcome is None:
        log.info("Nothing was left to do: %d frames are in the tables", summary["frames"])
    else:
        log.info(
            "Processed %d frames in %.1f s (%.1f fps once ready), peak memory %.1f MB above the start",
            summary["frames_now"],
            summary["wall_s"],
            summary["fps"],
            memory["peak_increase_mb"],
        )
        if summary["frames_now"] < summary["frames"]:
            log.info("With earlier starts, %d frames are in the tables", summary["frames"])
    if end.refined.cameras:
        log.info("%s", end.refined)
    if labels := summary["labels"]:
        log.info(
            "Labels: %d calls of Rekognition so far, %.3f USD; %d frames have none",
            labels["calls"],
            labels["usd"],
            labels["frames_failed"],
        )
    if memory["status"] != "held":
        log.error(
            "The memory limit did not hold: %.1f MB added of %d MB, %.1f MB spilled to a disk",
            memory["peak_increase_mb"],
            memory["memory_limit_mb"],
            memory["spilled_mb"],
        )
    _say_effect(summary["memory_plan"])
    if end.failures:
        log.warning("Video processing completed, %d failure(s) recorded", len(end.failures))
        show_failures(console, end.failures)
    else:
        log.info("Video processing completed successfully")
    log.info("Tables are in %s", shown(end.path))


def _say_effect(plan: dict[str, Any] | None) -> None:
    """Say it if Ray Data kept to less than was planned: it had to share the cluster."""
    effect = plan["in_flight_bytes_in_effect"] if plan else None
    if plan and effect is not None and effect < plan["in_flight_bytes"]:
        log.warning(
            "Ray Data held %d MB of frame batches at most, not the %d MB planned for a node",
            effect // MIB,
            plan["in_flight_bytes"] // MIB,
        )
