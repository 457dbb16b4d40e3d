"""`footfall backfill`: recordings in, movement logs out. The main job."""

import argparse
import logging
import sys
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from rich.console import Console

from cluster.dataflow import DataflowSpec, Outcome, Readiness, Watch, run
from cluster.memory import check_memory_limit, plan_memory, store_bytes
from cluster.pools import decoders_for, plan_pools
from cluster.session import Session, open_session
from cluster.supervisor import Progress
from jobs.console import ProgressReport, open_console, show_failures
from jobs.exits import ending
from jobs.results import RunEnd
from jobs.settings import JobSettings, add_options, resolve
from jobs.survey import Survey, survey
from pipeline.backend import DetectSettings
from pipeline.camera_log import LogSettings
from pipeline.decode import DecodeSettings
from pipeline.demux import DemuxSettings
from pipeline.errors import ConfigError
from pipeline.ffmpeg import find_ffmpeg
from pipeline.ledger import RunFolder, open_run
from pipeline.tables import Provenance
from pipeline.weights import Weights, class_ids, convert, find_weights

# By its name: under `python -m` this module is `__main__`.
log = logging.getLogger("jobs.backfill")


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """The weights, and the names of their classes."""

    weights: Weights
    class_names: tuple[str, ...]


def find_model(settings: JobSettings) -> Model:
    """Return the model that the settings name.

    Raises:
        ConfigError: It is not there or not trusted, or lacks a wanted class.
    """
    weights = find_weights(settings.model, trust=settings.trust_weights)
    class_names = convert(weights).class_names
    class_ids(class_names, settings.classes)
    return Model(weights=weights, class_names=class_names)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """What the detectors run on, now that the cluster is known."""

    device: str
    backend: str
    precision: str


def choose_hardware(settings: JobSettings, session: Session) -> Hardware:
    """Turn "auto" into what is there; never into something else than was asked for.

    Raises:
        ConfigError: CUDA is asked for, and no node has it.
    """
    gpus = sum(node.gpus for node in session.nodes)
    device = settings.device
    if device == "auto":
        device = "cuda" if gpus else "cpu"
    if device == "cuda" and not gpus:
        raise ConfigError("device = 'cuda': no node of the cluster has a GPU; use --device cpu")
    backend, precision = ("torch", "fp16") if device == "cuda" else ("openvino", "fp32")
    if settings.precision != "auto":
        precision = settings.precision
    return Hardware(device=device, backend=backend, precision=precision)


def describe(
    settings: JobSettings, found: Survey, model: Model, session: Session, folder: RunFolder
) -> DataflowSpec:
    """Put together what runs: the settings of each step, and the workers."""
    hardware = choose_hardware(settings, session)
    least_cpus = min(node.cpus for node in session.nodes)
    memory = plan_memory(settings.memory_limit_mb, decoders_for(least_cpus, hardware.device))
    pools = plan_pools(
        list(session.nodes),
        hardware.device,
        cameras=len({found.footage.key.camera_id for found in found.wanted}),
        decoders=memory.decoders,
        detectors=settings.detectors or None,
    )
    made_by = Provenance(
        run_id=folder.run_id,
        config_hash=settings.result_hash(
            model=model.weights.sha256, backend=hardware.backend, precision=hardware.precision
        ),
        model_hash=model.weights.sha256,
    )
    detect = DetectSettings(
        weights=model.weights,
        classes=settings.classes,
        confidence=settings.confidence,
        backend=hardware.backend,
        device=hardware.device,
        precision=hardware.precision,
        threads=pools.threads,
        batch_size=settings.batch_size,
        fault=settings.fault,
    )
    return DataflowSpec(
        recordings=found.recordings,
        demux=DemuxSettings(stride=settings.stride),
        decode=DecodeSettings(
            batch_size=settings.batch_size, ahead_bytes=memory.ahead_bytes, fault=settings.fault
        ),
        detect=detect,
        log=LogSettings(
            output=folder.path,
            track=replace(settings.track, tracker=settings.tracker),
            class_names=model.class_names,
            provenance=made_by,
            attempt_id=uuid.uuid4().hex[:12],
        ),
        pools=pools,
        memory=memory,
    )


def run_job(settings: JobSettings, console: Console, *, every_frames: int = 0) -> RunEnd:
    """Run a job from its settings to its summary.

    Args:
        settings: Of the job.
        console: Where it reports.
        every_frames: Frames between progress lines; by default a line comes every 10 s.

    Raises:
        ConfigError: A setting cannot be right.
        OutputError: The results cannot be written.
    """
    began = time.monotonic()
    if not settings.output:
        raise ConfigError("no output: give --output a folder")
    log.info(
        "Processing parameters: batch_size=%d, memory_limit=%d MB",
        settings.batch_size,
        settings.memory_limit_mb,
    )
    find_ffmpeg()
    found = survey(settings)
    model = find_model(settings)
    _say_found(found)
    folder = open_run(settings.output, overwrite=settings.overwrite)
    folder.write_text("config.toml", settings.to_toml() + "\n")
    made_by = Provenance(run_id=folder.run_id, config_hash="", model_hash=model.weights.sha256)
    attempt_id, outcome = uuid.uuid4().hex[:12], None
    if found.wanted:
        log.info("Starting Ray and loading %s", settings.model)
        with open_session(store_bytes(settings.memory_limit_mb), settings.address or None) as ray:
            spec = describe(settings, found, model, ray, folder)
            made_by, attempt_id = spec.log.provenance, spec.log.attempt_id
            outcome = _run(spec, ray, settings, found, console, every_frames)
    failures = list(found.failures)
    if outcome:
        failures += [failure for result in outcome.results for failure in result.failures]
    end = RunEnd(
        settings=settings,
        run=folder,
        provenance=made_by,
        attempt_id=attempt_id,
        outcome=outcome,
        failures=tuple(failures),
        wall_s=time.monotonic() - began,
    )
    end.write()
    _say_end(end, console)
    return end


def _run(
    spec: DataflowSpec,
    session: Session,
    settings: JobSettings,
    found: Survey,
    console: Console,
    every_frames: int,
) -> Outcome:
    total = sum(f.footage.track.expected_frames for f in found.wanted) // settings.stride
    report = ProgressReport(console, total, every_frames=every_frames)
    baseline_mb, alert = 0.0, _Once(log.warning)

    def ready(readiness: Readiness) -> None:
        nonlocal baseline_mb
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
        report.show(now.frames, memory_mb, log.info)
        if not check_memory_limit(memory_mb - baseline_mb, settings.memory_limit_mb):
            alert(
                "Memory usage is %.1f MB above the start, over the limit of %d MB",
                memory_mb - baseline_mb,
                settings.memory_limit_mb,
            )

    try:
        return run(spec, session, Watch(ready, progress))
    finally:
        report.stop()


class _Once:
    """Says something the first time it is asked to."""

    def __init__(self, say: Callable[..., None]) -> None:
        self._say: Callable[..., None] | None = say

    def __call__(self, *message: object) -> None:
        if self._say:
            self._say(*message)
        self._say = None


def _say_found(found: Survey) -> None:
    for each in found.wanted:
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
    skipped = len(found.found) - len(found.wanted)
    if skipped:
        log.info("Skipped %d video track(s); `footfall plan` says why", skipped)


def _say_end(end: RunEnd, console: Console) -> None:
    summary = end.summary()
    memory = summary["memory_usage"]
    log.info(
        "Processed %d frames in %.1f s (%.1f fps once ready), peak memory %.1f MB above the start",
        summary["frames"],
        summary["wall_s"],
        summary["fps"],
        memory["peak_increase_mb"],
    )
    if end.failures:
        log.warning("Video processing completed, %d failure(s) recorded", len(end.failures))
        show_failures(console, end.failures)
    else:
        log.info("Video processing completed successfully")
    log.info("Tables are in %s", end.run.path)


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
