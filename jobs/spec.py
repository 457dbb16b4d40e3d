"""From settings to what runs: the model, what computes it, the settings of each step, the workers."""

import logging
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from cluster.actors import DataflowSpec
from cluster.memory import MemoryPlan, Workers, check_store, plan_memory
from cluster.meter import gpus_here
from cluster.pools import decoders_for, plan_pools
from cluster.session import Node, Session, local_cpus
from jobs.settings import AUTO_BATCH, JobSettings
from pipeline.aws import is_s3
from pipeline.backend import PRECISIONS, DetectSettings
from pipeline.decode import DecodeSettings
from pipeline.demux import DemuxSettings
from pipeline.errors import ConfigError
from pipeline.footprint import footprint_of
from pipeline.labels import LabelSettings
from pipeline.part import LogSettings
from pipeline.quantize import Cost, quantized
from pipeline.records import Footage
from pipeline.run_folder import MadeWith, RunFolder
from pipeline.standin_backend import CLASS_NAMES, STAND_IN, stand_in_weights
from pipeline.tables import Provenance
from pipeline.tail import Tail
from pipeline.weights import Weights, class_ids, convert, find_weights

log = logging.getLogger(__name__)
_MB = 1e6
# These no GPU of ours has: who asks for one asks for a CPU.
_CPU_PRECISIONS = tuple(set(PRECISIONS["openvino"]) - set(PRECISIONS["torch"]))
# Frames that travel to a detector together: a second of a CPU's time, hundredths of one of a GPU's.
_ROW_FRAMES = {"cpu": 40, "cuda": 100}


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """The weights, and the names of their classes.

    Attributes:
        cost: Of their quantization, if they are quantized.
    """

    weights: Weights
    class_names: tuple[str, ...]
    cost: Cost | None = None


def find_model(settings: JobSettings) -> Model:
    """Return the model that the settings name.

    Raises:
        ConfigError: It is not there or not trusted, or lacks a wanted class.
    """
    if settings.model == STAND_IN:
        model = Model(weights=stand_in_weights(), class_names=CLASS_NAMES)
    else:
        weights = find_weights(settings.model, trust=settings.trust_weights)
        model = Model(weights=weights, class_names=convert(weights).class_names)
    class_ids(model.class_names, settings.classes)
    return model


def with_precision(
    model: Model,
    settings: JobSettings,
    hardware: MadeWith | None,
    footages: Sequence[Footage],
    folder: RunFolder,
) -> Model:
    """Return the model as it computes: for "int8" the output's quantized one, made now if need be.

    Raises:
        ConfigError: NNCF is not installed, or no footage gives frames.
        OutputError: The quantized model cannot be written.
        StepError: It cannot be made.
    """
    if hardware is None or hardware.precision != "int8" or not footages:
        return model
    local = [footage for footage in footages if not is_s3(footage.source_uri)]
    if not local:
        raise ConfigError(
            "precision = 'int8': its model is calibrated on frames of recordings on a disk; all of "
            "these are in S3"
        )
    log.info("Precision int8: a quantized model is needed, made for this footage")
    found = quantized(
        DetectSettings(weights=model.weights, classes=settings.classes, threads=local_cpus()),
        local,
        folder.path,
    )
    log.info("Precision int8: %s", found.cost)
    return replace(model, weights=found.weights, cost=found.cost)


def known_hardware(settings: JobSettings, made_with: MadeWith | None) -> MadeWith | None:
    """Return what will compute the detections, as far as that is known before the cluster is.

    An output goes on with what it began with, unless the settings ask for something else.
    """
    device = settings.device
    if device == "auto" and settings.precision in _CPU_PRECISIONS:
        device = "cpu"
    if device == "auto":
        if made_with is None:
            return None
        if settings.precision == "auto" and (made_with.backend == STAND_IN) == _stands_in(settings):
            return made_with
        device = made_with.device
    return _hardware(settings, device)


def _stands_in(settings: JobSettings) -> bool:
    return settings.model == STAND_IN


def _hardware(settings: JobSettings, device: str) -> MadeWith:
    if _stands_in(settings):
        return MadeWith(device="cpu", backend=STAND_IN, precision="fp32")
    backend, precision = ("torch", "fp16") if device == "cuda" else ("openvino", "fp32")
    if settings.precision != "auto":
        precision = settings.precision
    return MadeWith(device=device, backend=backend, precision=precision)


def choose_hardware(
    settings: JobSettings, session: Session, made_with: MadeWith | None
) -> MadeWith:
    """Turn "auto" into what is there; never into something else than was asked for, or begun with.

    Raises:
        ConfigError: CUDA is asked for, or the output was begun with it, and no node has it.
    """
    gpus = sum(node.gpus for node in session.nodes)
    hardware = known_hardware(settings, made_with)
    if hardware is None:
        return _hardware(settings, "cuda" if gpus else "cpu")
    if hardware.device == "cuda" and not gpus:
        if settings.device == "cuda":
            raise ConfigError("device = 'cuda': no node of the cluster has a GPU; use --device cpu")
        raise ConfigError(
            f"the detections of this output were made with {made_with}, and no node has a GPU: "
            "join a cluster that has, or give --device cpu to make all of them again"
        )
    if hardware == made_with and hardware.device == "cpu" and gpus and settings.device == "auto":
        log.info("This output was begun on a CPU and goes on so; --device cuda makes it again")
    return hardware


def evidence_hash(settings: JobSettings, model: Model, hardware: MadeWith) -> str:
    """Return the hash of the model and of all settings that change detections."""
    return settings.evidence_hash(
        model=model.weights.sha256, backend=hardware.backend, precision=hardware.precision
    )


def provenance(
    settings: JobSettings, model: Model, hardware: MadeWith | None, run_id: str
) -> Provenance:
    """Return what the files' footers say; before there is hardware, no hash of it."""
    config_hash = ""
    if hardware is not None:
        config_hash = settings.result_hash(evidence_hash(settings, model, hardware))
    return Provenance(run_id=run_id, config_hash=config_hash, model_hash=model.weights.sha256)


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """One start of a run: its settings, and where and with what it works.

    Attributes:
        labels: How labels are asked for; None if they are not.
    """

    settings: JobSettings
    model: Model
    folder: RunFolder
    attempt_id: str
    labels: LabelSettings | None = None


def plan_of(
    settings: JobSettings, footages: Iterable[Footage], device: str, node: Node
) -> MemoryPlan:
    """Return the memory plan of a node.

    Args:
        settings: Of the job.
        footages: What is to be read; at least one.
        device: "cpu" or "cuda".
        node: What it has; a store of 0 bytes is still to be made.

    Raises:
        ConfigError: The cap is too small for the footage.
    """
    usual = max(1, int(node.gpus)) if device == "cuda" else 1
    return plan_memory(
        settings.memory_limit_mb,
        footprint_of(footages, DemuxSettings()),
        batch_size=None if settings.batch_size == AUTO_BATCH else settings.batch_size,
        workers=Workers(
            decoders=decoders_for(node.cpus, device),
            detectors=max(usual, settings.detectors),
            row_frames=_ROW_FRAMES[device],
        ),
        store_bytes=node.store_bytes or math.inf,
    )


def plan_here(
    settings: JobSettings, footages: Iterable[Footage], made_with: MadeWith | None
) -> MemoryPlan:
    """Return the memory plan of this machine, before there is a Ray to ask; raises as `plan_of`."""
    here = Node(node_id="", cpus=local_cpus(), gpus=gpus_here())
    hardware = known_hardware(settings, made_with)
    device = hardware.device if hardware else ("cuda" if here.gpus else "cpu")
    return plan_of(settings, footages, device, here)


def _plan_for(
    settings: JobSettings, tails: Sequence[Tail], hardware: MadeWith, session: Session
) -> MemoryPlan:
    """Return the plan that every host of a session can keep to.

    Raises:
        ConfigError: There is none, or the allowed memory or a store is too small.
    """
    nodes = session.hosts
    if not nodes:
        raise ConfigError(
            "no node of the cluster has CPUs, so that nothing can run: where an autoscaler brings "
            "nodes, let `footfall nodes` ask for them first"
        )
    least = Node(
        node_id="",
        cpus=min(node.cpus for node in nodes),
        gpus=max(node.gpus for node in nodes),
        store_bytes=min(node.store_bytes for node in nodes),
    )
    footages = (footage for tail in tails for footage in tail.footages)
    plan = plan_of(settings, footages, hardware.device, least)
    check_store(plan, nodes)
    return plan


def describe(start: Start, hardware: MadeWith, tails: list[Tail], session: Session) -> DataflowSpec:
    """Put together what runs: the settings of each step, and the workers.

    Raises:
        ConfigError: No node has CPUs, or the memory that is allowed, or a store, is too small.
    """
    settings, model = start.settings, start.model
    made_by = provenance(settings, model, hardware, start.folder.run_id)
    memory = _plan_for(settings, tails, hardware, session)
    pools = plan_pools(
        list(session.hosts),
        hardware.device,
        cameras=len(tails),
        decoders=memory.decoders,
        detectors=settings.detectors or None,
        drivers=settings.shard_of[1],
    )
    return DataflowSpec(
        tails=tails,
        demux=DemuxSettings(carried_bytes=memory.carried_bytes, cache=settings.cache),
        decode=DecodeSettings(
            batch_size=memory.batch_size,
            ahead_bytes=memory.ahead_bytes,
            row_bytes=memory.row_bytes,
            cache=settings.cache,
            label_every=start.labels.every if start.labels else 0,
            fault=settings.fault,
        ),
        detect=DetectSettings(
            weights=model.weights,
            classes=settings.classes,
            confidence=settings.confidence,
            backend=hardware.backend,
            device=hardware.device,
            precision=hardware.precision,
            threads=pools.threads,
            batch_size=memory.batch_size,
            fault=settings.fault,
        ),
        log=LogSettings(
            output=start.folder.path,
            track=replace(settings.track, tracker=settings.tracker),
            class_names=model.class_names,
            provenance=made_by,
            track_hash=settings.track_hash(),
            attempt_id=start.attempt_id,
            part_bytes=settings.part_mb * _MB,
            aws=settings.aws,
            held_bytes=memory.held_bytes(len(tails)),
        ),
        pools=pools,
        memory=memory,
        failure_limit=settings.failure_limit,
        is_auto_batch=settings.batch_size == AUTO_BATCH,
        labels=replace(start.labels, provenance=made_by) if start.labels else None,
    )
