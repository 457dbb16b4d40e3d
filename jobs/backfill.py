"""`footfall backfill`: recordings in, movement logs out. The main job."""

import argparse
import logging
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from rich.console import Console

from cluster.dataflow import Outcome, run
from cluster.dataflow_spec import DataflowSpec
from cluster.memory import MemoryPlan
from cluster.pace import Notice
from cluster.refining import refine_on_cluster
from cluster.session import Session, open_session
from cluster.supervisor import Progress
from cluster.watcher import Readiness, Watch
from jobs.announce import say_end, say_found, say_plan
from jobs.console import ProgressReport, open_console
from jobs.exits import ending
from jobs.found import Survey, only_failed
from jobs.hardware import choose_hardware, known_hardware, with_enough_nodes
from jobs.labelling import begin_labels, cost_line, failed_tracks, frames_to_ask, make_up, tidy_all
from jobs.memory_log import MemoryLog
from jobs.options import add_options, resolve
from jobs.progress import moved_footage, prepare_all
from jobs.purging import finish_purges
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
from jobs.spec import Model, Start, describe, find_model, plan_here, provenance, with_precision
from jobs.survey import survey
from pipeline.derive import DeriveSettings, check_scenes
from pipeline.errors import ConfigError
from pipeline.ffmpeg import find_ffmpeg
from pipeline.holdings import committed_cameras, committed_failures
from pipeline.lease import Leases, workers
from pipeline.purged import NOTHING_PURGED, marked, read_purges
from pipeline.refined import left_over
from pipeline.run_folder import MadeWith, RunFolder, open_run
from pipeline.store import check_reach, check_writable, reach_s3

# By its name: under `python -m` this module is `__main__`.
log = logging.getLogger("jobs.backfill")


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
    _check(settings)
    committed = committed_cameras(settings.output_path)
    purges = NOTHING_PURGED if settings.overwrite else read_purges(settings.output_path)
    found = survey(settings, committed, purges)
    wanted = _only_failed(settings, found) if retry else found
    model = find_model(settings)
    say_found(settings, wanted)
    _refuse_to_overwrite_work(settings)
    folder = open_run(settings.output, overwrite=settings.overwrite)
    hardware = known_hardware(settings, folder.made_with)
    footages = [each.footage for each in wanted.wanted]
    model = with_precision(model, settings, hardware, footages, folder)
    start = _start(settings, model, folder)
    is_first_shard = settings.shard_of[0] == 0
    moved = moved_footage(start.folder.path, wanted, is_first_shard=is_first_shard)
    gone = left_over(folder.path) if is_first_shard else ()
    purging = marked(folder.path) if is_first_shard else ()
    cameras = sorted({*wanted.cameras, *moved, *gone, *purging})
    refining = derive_settings(settings, cameras, scenes_of(settings.cameras))
    with Leases(start.folder.path, start.attempt_id).held(cameras):
        finish_purges(folder.path, cameras, purges, settings.track, start.attempt_id)
        check_scenes(folder.path, {camera_id: how.scene for camera_id, how in refining.items()})
        if is_first_shard:
            keep_cameras(folder, settings.cameras)
        worked = _work_and_label(start, wanted, refining, _Show(console, every_frames), retry=retry)
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
    say_end(end, console)
    return end


def _check(settings: JobSettings) -> None:
    """Say what a job is about to work with; refuse what cannot be."""
    if not settings.output:
        raise ConfigError("no output: give --output a folder")
    log.info(
        "Processing parameters: batch_size=%s, memory_limit=%d MB",
        settings.plain()["batch_size"],
        settings.memory_limit_mb,
    )
    find_ffmpeg()
    reach_s3(settings.aws)
    check_reach(settings.output_path)
    check_writable(settings.output_path)


def _start(settings: JobSettings, model: Model, folder: RunFolder) -> Start:
    """Return a start of a run, which asks for labels if the settings say so.

    Raises:
        ConfigError: It is not clear whom to ask.
    """
    attempt_id = uuid.uuid4().hex[:12]
    made_by = provenance(settings, model, known_hardware(settings, folder.made_with), folder.run_id)
    labels = begin_labels(settings, folder.path, made_by, attempt_id)
    return Start(
        settings=settings, model=model, folder=folder, attempt_id=attempt_id, labels=labels
    )


def _only_failed(settings: JobSettings, found: Survey) -> Survey:
    unread = {row["source_uri"] for row in read_survey_failures(settings.output_path)}
    failed = committed_failures(settings.output_path)
    if settings.aws_labels:
        failed |= failed_tracks(settings.output_path)
    return only_failed(found, failed, unread)


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
    """What was worked with, and what came of it; see `RunEnd`.

    Attributes:
        asked_about: Pictures (see `identity`) whose labels were asked for on the way.
    """

    hardware: MadeWith | None
    refined: RefinedTotals
    plan: MemoryPlan | None = None
    outcome: Outcome | None = None
    asked_about: frozenset[str] = frozenset()


def _work_and_label(
    start: Start,
    found: Survey,
    refining: Mapping[str, DeriveSettings],
    show: _Show,
    *,
    retry: bool,
) -> _Worked:
    """Do what is left, and see to it that no frame lacks the labels that it should have."""
    settings, labels = start.settings, start.labels
    if labels is None:
        return _work(start, found, refining, show, retry=retry)
    log.info("%s", _sentence(cost_line(settings, frames_to_ask(settings, found))))
    tidy_all(labels, found, refining)
    worked = _work(start, found, refining, show, retry=retry)
    # What failed again a moment ago has had its try.
    make_up(labels, found, settings.cache, tried=worked.asked_about, retry=retry)
    return worked


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


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
        refined = totals(refine_here(folder.path, refining, start.attempt_id))
        return _Worked(hardware=hardware, refined=refined)
    here = plan_here(settings, [each.footage for each in found.wanted], folder.made_with)
    log.info("Starting Ray and loading %s", settings.model)
    with open_session(here.store_bytes, settings.address or None) as ray:
        ray = with_enough_nodes(settings, ray, folder.made_with)
        hardware = choose_hardware(settings, ray, folder.made_with)
        folder.note_made_with(hardware)
        if standing is None:
            standing = prepare_all(start, found, hardware, retry=retry)
        spec = replace(describe(start, hardware, standing.tails, ray), is_retry=retry)
        say_plan(spec.memory)
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
        refined = totals(refine_on_cluster(folder.path, refining, start.attempt_id, settings.aws))
    return _Worked(
        hardware=hardware,
        refined=refined,
        plan=spec.memory,
        outcome=outcome,
        asked_about=spec.pictures,
    )


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

    def joined(baseline_mb: Mapping[str, float]) -> None:
        memory_log.joined(baseline_mb)
        for node, level_mb in baseline_mb.items():
            log.info("Node %s is ready: %.1f MB", node[:8], level_mb)

    try:
        return run(spec, session, Watch(ready, progress, notice, joined, memory_log.samples))
    finally:
        report.stop()


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
