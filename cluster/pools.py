"""How many workers each step gets, and what they ask of a node: described here, built in `dataflow`.

A pool's `cpus` and `gpus` are what Ray's scheduler reckons with. On a CPU the detector's threads take
all cores and decoding fills the gaps, so the shares of a node are set to let every step run at once.
Decode and detect ask for different shares: with equal ones Ray fuses them into one process.
"""

import math
from dataclasses import dataclass, replace

from cluster.session import Node

_FRAMES_A_CPU_DECODES_WHILE_ONE_DETECTS = 4
_DEMUX_CPUS = 0.1
# Batches that one push takes to the tracking actors: a task for each would cost more than it does.
PUSH_BATCHES = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """Workers of a step: how many over the whole cluster, and what each asks for."""

    size: int
    cpus: float
    gpus: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Pools:
    """The workers of a job."""

    demux: Pool
    decode: Pool
    detect: Pool
    track: Pool
    push: Pool
    threads: int


def decoders_for(node_cpus: float, device: str) -> int:
    """Return how many decoders a node's cores can feed, memory aside."""
    if device == "cuda":
        return max(1, int(node_cpus) - 2)
    return max(1, int(node_cpus) // _FRAMES_A_CPU_DECODES_WHILE_ONE_DETECTS)


def _trackers_for(cpus: float) -> int:
    """Return how many tracking actors there may be: one does 1,000 frames/s, and takes 65 MB."""
    return max(1, int(cpus) // 2)


def plan_pools(
    nodes: list[Node],
    device: str,
    *,
    cameras: int,
    decoders: int,
    detectors: int | None = None,
    drivers: int = 1,
) -> Pools:
    """Describe the workers for a cluster.

    Args:
        nodes: The cluster's nodes that host workers, as they are now.
        device: "cuda": a detector on each GPU; "cpu": one on each node, with all its cores.
        cameras: How many cameras there are to track.
        decoders: Decoders on each node.
        detectors: How many detectors instead, over the whole cluster.
        drivers: How many drivers may share the cluster. What all of them ask for must fit at once:
            if their detectors took everything, none of them could decode.
    """
    least = min(node.cpus for node in nodes) or 1.0
    hosts = [node for node in nodes if node.gpus >= 1] if device == "cuda" else nodes
    usual = sum(int(node.gpus) for node in hosts) if device == "cuda" else len(hosts)
    size = detectors or usual
    # More than half of a node each, so that no node gets two; where several are asked for, shares.
    share = 0.55 * least * usual / max(size, usual)
    detect = (
        Pool(size=size, cpus=0.5, gpus=usual / max(size, usual))
        if device == "cuda"
        else Pool(size=size, cpus=round(max(0.05, share), 2))
    )
    decode_cpus = round(max(2 * _DEMUX_CPUS, 0.2 * least / decoders), 2)
    while detect.cpus in (decode_cpus, _DEMUX_CPUS):
        detect = replace(detect, cpus=round(detect.cpus + 0.01, 2))
    return Pools(
        demux=_shared(Pool(size=len(nodes), cpus=_DEMUX_CPUS), drivers),
        decode=_shared(Pool(size=decoders * len(nodes), cpus=decode_cpus), drivers),
        detect=_shared(detect, drivers),
        track=Pool(size=min(cameras, _trackers_for(sum(n.cpus for n in nodes))), cpus=0.0),
        push=_shared(Pool(size=len(nodes), cpus=0.02), drivers),
        threads=max(1, int(least * usual / max(size, usual))),
    )


def _shared(pool: Pool, drivers: int) -> Pool:
    # Ray counts in ten-thousandths.
    return replace(
        pool,
        cpus=max(1e-4, round(pool.cpus / drivers, 4)),
        gpus=math.floor(pool.gpus / drivers * 1e4) / 1e4,
    )
