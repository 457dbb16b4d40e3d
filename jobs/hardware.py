"""What computes the detections: as the settings ask, as the output began, as far as it is there."""

import logging
from collections.abc import Mapping
from dataclasses import replace

from cluster.nodes import await_nodes
from cluster.pools import Places
from cluster.session import Session
from jobs.settings import JobSettings
from pipeline.backend import PRECISIONS
from pipeline.errors import ConfigError
from pipeline.run_folder import MadeWith
from pipeline.standin_backend import STAND_IN

log = logging.getLogger(__name__)
# These no GPU of ours has: who asks for one asks for a CPU.
_CPU_PRECISIONS = tuple(set(PRECISIONS["openvino"]) - set(PRECISIONS["torch"]))


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


def with_enough_nodes(
    settings: JobSettings, session: Session, made_with: MadeWith | None
) -> Session:
    """Return the session once a node of it can detect, or as it is after `wait_for_nodes_s`.

    A cluster whose groups of workers grow from nothing has none at first.
    """
    if session.is_local:
        return session
    hardware = known_hardware(settings, made_with)
    device = hardware.device if hardware else "cpu"
    places = Places(device=device, resource=settings.detect_resource)
    wanted = {"GPU" if device == "cuda" else "CPU": 1.0}
    if settings.detect_resource:
        wanted[settings.detect_resource] = 1.0
    why = f"none has {_words(wanted)}"
    if hardware is None:
        why += "; --device cuda would wait for a GPU"
    nodes = await_nodes(
        lambda nodes: any(places.detectors(node) for node in nodes),
        wanted,
        why=why,
        most_s=settings.wait_for_nodes_s,
    )
    return replace(session, nodes=nodes)


def _words(wanted: Mapping[str, float]) -> str:
    return " and ".join({"CPU": "CPUs", "GPU": "a GPU"}.get(name, repr(name)) for name in wanted)


def choose_hardware(
    settings: JobSettings, session: Session, made_with: MadeWith | None
) -> MadeWith:
    """Turn "auto" into what is there; never into something else than was asked for, or begun with.

    Raises:
        ConfigError: No node can detect: there is none with CUDA, which is asked for or which the output
            was begun with, or none with the resource that is asked for, or none with CPUs.
    """
    has_gpu = _has_places(settings, session, "cuda")
    hardware = known_hardware(settings, made_with)
    if hardware is None:
        hardware = _hardware(settings, "cuda" if has_gpu else "cpu")
    _refuse_without_places(settings, session, hardware, made_with)
    if hardware == made_with and hardware.device == "cpu" and has_gpu and settings.device == "auto":
        log.info("This output was begun on a CPU and goes on so; --device cuda makes it again")
    return hardware


def _has_places(settings: JobSettings, session: Session, device: str) -> bool:
    places = Places(device=device, resource=settings.detect_resource)
    return any(places.detectors(node) for node in session.nodes)


def _refuse_without_places(
    settings: JobSettings, session: Session, hardware: MadeWith, made_with: MadeWith | None
) -> None:
    if _has_places(settings, session, hardware.device):
        return
    if settings.detect_resource:
        raise ConfigError(
            f"detect_resource = {settings.detect_resource!r}: no node that has it has "
            + ("a GPU" if hardware.device == "cuda" else "CPUs")
            + f": start one with `ray start --resources='{{\"{settings.detect_resource}\": 1}}'`"
        )
    if hardware.device == "cpu":
        raise ConfigError("no node of the cluster has CPUs for workers: add one to it")
    if settings.device == "cuda":
        raise ConfigError("device = 'cuda': no node of the cluster has a GPU; use --device cpu")
    raise ConfigError(
        f"the detections of this output were made with {made_with}, and no node has a GPU: "
        "join a cluster that has, or give --device cpu to make all of them again"
    )
