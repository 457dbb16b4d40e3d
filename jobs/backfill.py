"""`footfall backfill`: recordings in, movement logs out. The main job."""

import argparse
import logging
import sys
import time
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from cluster.actors import DataflowSpec
from cluster.dataflow import Outcome, run
from cluster.memory import MemoryPlan
from cluster.meter import MIB
from cluster.pace import Notice
from cluster.refining import refine_on_cluster
from cluster.session import Session, open_session
from cluster.supervisor import Progress
from cluster.watcher import Readiness, Watch
from jobs.console import ProgressReport, open_console, show_failures
from jobs.exits import ending
from jobs.memory_log import MemoryLog
from jobs.options import add_options, resolve
from jobs.progress import moved_footage, prepare_all
from jobs.refining import (
    RefinedTotals,
    derive_settings,
    keep_cameras,
    refine_here,
    scenes_of,
    totals,
)
from jobs.results import RunEnd, read_survey_failures
from jobs.settings import JobSettings
from jobs.spec import (
    Start,
    choose_hardware,
    describe,
    find_model,
    known_hardware,
    plan_here,
    provenance,
    with_precision,
)
from jobs.survey import Survey, only_failed, survey
from pipeline.derive import DeriveSettings
from pipeline.errors import ConfigError
from pipeline.ffmpeg import find_ffmpeg
from pipeline.holdings import committed_cameras, committed_failures
from pipeline.lease import Leases, workers
from pipeline.run_folder import MadeWith, open_run

# By its name: under `python -m` this module is `__main__`.
log = logging.getLogger("jobs.backfill")
_MOST_TRACKS_NAMED = 40


def run_job(
    settings: JobSettings, console: Console, *, every_frames: int = 0, retry: bool = False
) -> RunEnd:
    """Run a job from its settings to its summary; one that was begun in the output goes on.

    Args:
        settings: Of the job.
        console: Where it reports.
        every_frames: Frames between progress lines; by default a line comes every 10 s.
        retry: Do again what failed in an earlier start.

    Raises:
        ConfigError: A setting cannot be right.
        OutputError: The results cannot be written, or another run works on them.
    """
    began = time.monotonic()
    if not settings.output:
        raise ConfigError("no output: give --output a folder")
    log.info(
        "Processing parameters: batch_size=%s, memory_limit=%d MB",
        settings.plain()["batch_size"],
        settings.memory_limit_mb,
    )
    find_ffmpeg()
    committed = committed_cameras(settings.output_path)
    found = survey(settings, committed)
    wanted = found
    if retry:
        unread = {row["source_uri"] for row in read_survey_failures(settings.output_path)}
        wanted = only_failed(found, committed_failures(settings.output_path), unread)
    model = find_model(settings)
    _say_found(wanted)
    _refuse_to_overwrite_work(settings)
    folder = open_run(settings.output, overwrite=settings.overwrite)
    hardware = known_hardware(settings, folder.made_with)
    footages = [each.footage for each in wanted.wanted]
    model = with_precision(model, settings, hardware, footages, folder)
    start = Start(settings=settings, model=model, folder=folder, attempt_id=uuid.uuid4().hex[:12])
    is_first_shard = settings.shard_of[0] == 0
    moved = moved_footage(start.folder.path, wanted, is_first_shard=is_first_shard)
    cameras = sorted({*wanted.cameras, *moved})
    refining = derive_settings(settings, cameras, scenes_of(settings.cameras))
    keep_cameras(folder, settings.cameras)
    with Leases(start.folder.path, start.attempt_id).held(cameras):
        worked = _work(start, wanted, refining, _Show(console, every_frames), retry=retry)
        end = RunEnd(
            start=start,
            found=found,
            provenance=provenance(settings, model, worked.hardware, start.folder.run_id),
            outcome=worked.outcome,
            refined=worked.refined,
            wall_s=time.monotonic() - began,
            plan=worked.plan,
        )
        end.write()
    _say_end(end, console)
    return end


def _refuse_to_overwrite_work(settings: JobSettings) -> None:
    if settings.overwrite and (others := workers(settings.output_path)):
        raise ConfigError(
            f"output {settings.output!r} cannot be replaced: {others[0]} is at work on it"
        )


@dataclass(frozen=True, slots=True)
class _Show:
    """Where a run reports, and every how many frames."""

    console: Console
    every_frames: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Worked:
    """What was worked with, and what came of it; see `RunEnd`."""

    hardware: MadeWith | None
    refined: RefinedTotals
    plan: MemoryPlan | None = None
    outcome: Outcome | None = None


def _work(
    start: Start,
    found: Survey,
    refining: Mapping[str, DeriveSettings],
    show: _Show,
    *,
    retry: bool,
) -> _Worked:
    """Do what is left, if anything is; Ray is started only for that."""
    settings, folder = start.settings, start.folder
    hardware = known_hardware(settings, folder.made_with)
    standing = None
    if hardware is not None and found.wanted:
        standing = prepare_all(start, found, hardware, retry=retry)
    if not found.wanted or (standing is not None and not standing.tails):
        return _Worked(hardware=hardware, refined=totals(refine_here(folder.path, refining)))
    here = plan_here(settings, [each.footage for each in found.wanted], folder.made_with)
    log.info("Starting Ray and loading %s", settings.model)
    with open_session(here.store_bytes, settings.address or None) as ray:
        hardware = choose_hardware(settings, ray, folder.made_with)
        folder.note_made_with(hardware)
        if standing is None:
            standing = prepare_all(start, found, hardware, retry=retry)
        spec = describe(start, hardware, standing.tails, ray)
        _say_plan(spec.memory)
        memory_log = MemoryLog(
            folder,
            spec.log.provenance,
            attempt_id=start.attempt_id,
            limit_mb=settings.memory_limit_mb,
        )
        report = ProgressReport(show.console, standing.frames_left, every_frames=show.every_frames)
        try:
            outcome = _run(spec, ray, memory_log, report)
        finally:
            memory_log.flush()
        refined = totals(refine_on_cluster(folder.path, refining))
    return _Worked(hardware=hardware, refined=refined, plan=spec.memory, outcome=outcome)


def _run(
    spec: DataflowSpec, session: Session, memory_log: MemoryLog, report: ProgressReport
) -> Outcome:
    def ready(readiness: Readiness) -> None:
        memory_log.ready(readiness)
        baseline_mb = max(readiness.baseline_mb.values(), default=0.0)
        log.info("Initial memory usage: %.1f MB", baseline_mb)
        log.info(
            "Ready: %d decoder(s), %d detector(s) on %s (%s %s), %d tracking actor(s)",
            spec.pools.decode.size,
            spec.pools.detect.size,
            spec.detect.device,
            spec.detect.backend,
            spec.detect.precision,
            spec.pools.track.size,
        )
        report.start()

    def progress(now: Progress, memory_mb: float) -> None:
        report.show(now.frames + now.lost, memory_mb, log.info)

    def notice(said: Notice) -> None:
        memory_log.notice(said)
        log.warning("%s", said.text)

    try:
        return run(spec, session, Watch(ready, progress, notice, memory_log.samples))
    finally:
        report.stop()


def _say_plan(plan: MemoryPlan) -> None:
    parts = ", ".join(f"{name} {size // MIB}" for name, size in plan.parts.items())
    log.info(
        "Memory plan of a node, of %d MB: %s; batches of %d, %d decoder(s)",
        plan.limit_mb,
        parts,
        plan.batch_size,
        plan.decoders,
    )


def _say_found(found: Survey) -> None:
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
            log.info("Looking at every %d. frame of %d video track(s)", stride, count)
    reasons = Counter(each.skipped for each in found.skipped)
    for reason, count in reasons.most_common():
        log.info("Skipped %d video track(s): %s", count, reason)


def _say_end(end: RunEnd, console: Console) -> None:
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
    log.info("Tables are in %s", end.path)


def _say_effect(plan: dict[str, Any] | None) -> None:
    """Say it if Ray Data kept to less than was planned: it had to share the cluster."""
    effect = plan["in_flight_bytes_in_effect"] if plan else None
    if plan and effect is not None and effect < plan["in_flight_bytes"]:
        log.warning(
            "Ray Data held %d MB of frame batches at most, not the %d MB planned for a node",
            effect // MIB,
            plan["in_flight_bytes"] // MIB,
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Turn recordings into movement logs."""
    parser = argparse.ArgumentParser(
        prog="footfall backfill",
        description=main.__doc__,
        epilog="Exit codes: 0 everything, 3 some of it failed, 2 a wrong setting, 1 it broke.",
    )
    add_options(parser)
    options = parser.parse_args(arguments)
    console = open_console()
    return ending("backfill", lambda: run_job(resolve(options), console).exit_code)


if __name__ == "__main__":
    sys.exit(main())
