"""From settings to what runs: the model, the settings of each step, the memory plan, the workers."""

import logging
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from cluster.dataflow_spec import DataflowSpec
from cluster.memory import MemoryPlan, Workers, check_store, plan_memory
from cluster.meter import gpus_here
from cluster.nodes import Node
from cluster.pools import Places, decoding_nodes, places_on, plan_pools, works
from cluster.session import Session, local_cpus
from jobs.hardware import known_hardware
from jobs.settings import AUTO_BATCH, JobSettings
from pipeline.aws import is_s3
from pipeline.backend import DetectSettings
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
    settings: JobSettings, footages: Iterable[Footage], places: Places, nodes: Sequence[Node]
) -> MemoryPlan:
    """Return the memory plan that every one of some nodes can keep to.

    Args:
        settings: Of the job.
        footages: What is to be read; at least one.
        places: Where its workers go.
        nodes: Those that work; a store of 0 bytes is still to be made.

    Raises:
        ConfigError: The cap is too small for the footage.
    """
    return plan_memory(
        settings.memory_limit_mb,
        footprint_of(footages, DemuxSettings()),
        batch_size=None if settings.batch_size == AUTO_BATCH else settings.batch_size,
        workers=Workers(
            decoders=_decoders(places, nodes),
            detectors=max(1, _detectors(places, nodes), settings.detectors),
            row_frames=_ROW_FRAMES[places.device],
        ),
        store_bytes=min(node.store_bytes or math.inf for node in nodes),
    )


def _decoders(places: Places, nodes: Sequence[Node]) -> int:
    """Return the decoders of a node: where all are alike those of the least, else of the largest."""
    return (max if places.are_apart else min)(
        count for node in nodes if (count := places.decoders(node))
    )


def _detectors(places: Places, nodes: Sequence[Node]) -> int:
    """Return for how many detectors frame batches may wait on a node."""
    counts = [places.detectors(node) for node in nodes]
    if not places.are_apart:
        return max(counts)
    return max(*counts, math.ceil(sum(counts) / decoding_nodes(places, nodes)))


def plan_here(
    settings: JobSettings, footages: Iterable[Footage], made_with: MadeWith | None
) -> MemoryPlan:
    """Return the memory plan of this machine, before there is a Ray to ask; raises as `plan_of`."""
    here = Node(node_id="", cpus=local_cpus(), gpus=gpus_here())
    hardware = known_hardware(settings, made_with)
    device = hardware.device if hardware else ("cuda" if here.gpus else "cpu")
    return plan_of(settings, footages, places_on([here], device), [here])


def describe(start: Start, hardware: MadeWith, tails: list[Tail], session: Session) -> DataflowSpec:
    """Put together what runs: the settings of each step, and the workers.

    Raises:
        ConfigError: The memory that is allowed, or a node's object store, is too small.
    """
    settings, model = start.settings, start.model
    made_by = provenance(settings, model, hardware, start.folder.run_id)
    nodes = [node for node in session.nodes if works(node)]
    places = places_on(nodes, hardware.device, settings.detect_resource)
    footages = [footage for tail in tails for footage in tail.footages]
    memory = plan_of(settings, footages, places, nodes)
    check_store(memory, nodes)
    pools = plan_pools(
        nodes,
        places,
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
