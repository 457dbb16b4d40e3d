"""How many workers each step gets, and what they ask of a node: described here, built in `dataflow`.

A pool's `cpus` and `gpus` are what Ray's scheduler reckons with. Where every node has a detector, its
threads take all cores of a CPU and decoding fills the gaps, so the shares of a node are set to let
every step run at once. Where some nodes have none, those decode for the others:

    head, 0 CPUs      4 cores           16 cores          8 cores, 1 GPU       16 cores, "detect"
    no worker         3 decoders        15 decoders       1 detector,          1 detector, on a CPU:
                                                          6 decoders           all of its cores

Decode and detect ask for different shares: with equal ones Ray fuses them into one process.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from cluster.nodes import Node

_FRAMES_A_CPU_DECODES_WHILE_ONE_DETECTS = 4
_DEMUX_CPUS = 0.1
# Cores that a detector on a GPU keeps busy, its node's other processes included.
_CORES_OF_A_GPU = 2
# What decoding takes of a node, or detecting on a GPU, and what a detector on a CPU leaves of one: to
# cutting.
_MOST_OF_A_NODE, _FOR_THE_REST_CPUS = 0.85, 0.15
# Of a resource that only marks nodes, any number of detectors find enough.
_MARK = 1e-4


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """Workers of a step: how many over the whole cluster, and what each asks for.

    Attributes:
        resource: What its node was given, by name; "" means any node.
    """

    size: int
    cpus: float
    gpus: float = 0.0
    resource: str = ""

    @property
    def resources(self) -> dict[str, float]:
        """What it asks for beside CPUs and GPUs, as Ray takes it."""
        return {self.resource: _MARK} if self.resource else {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Which nodes have places for detectors, and how many decoders beside them.

    Attributes:
        device: "cuda": a detector on each GPU; "cpu": one on each node, with all its cores.
        resource: Only on nodes that were given this resource; "" means all.
        are_apart: Some nodes have no place for a detector: they decode for the others.
    """

    device: str
    resource: str = ""
    are_apart: bool = False

    def detectors(self, node: Node) -> int:
        """Return how many detectors a node has places for."""
        if not works(node) or (self.resource and not node.resources.get(self.resource)):
            return 0
        return int(node.gpus) if self.device == "cuda" else 1

    def decoders(self, node: Node) -> int:
        """Return how many decoders a node's cores can feed, memory aside."""
        if not works(node):
            return 0
        detectors = self.detectors(node)
        if not self.are_apart:
            return _decoders_beside(node.cpus, self.device)
        if not detectors:
            return max(1, int(node.cpus) - 1)
        return max(0, int(node.cpus) - _CORES_OF_A_GPU * detectors) if self.device == "cuda" else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Pools:
    """The workers of a job.

    Attributes:
        threads: CPU threads of a detector.
        places: Where its workers may be.
        decoders: Decoders of a node, at most.
        grows: Another node gets detectors too; not so where their number was asked for.
        seeks: More nodes are asked for while there is more to do than these can; several drivers would
            take them from each other.
    """

    demux: Pool
    decode: Pool
    detect: Pool
    track: Pool
    threads: int
    places: Places
    decoders: int
    grows: bool = True
    seeks: bool = True

    def decoders_on(self, node: Node) -> int:
        """Return how many decoders a node has."""
        return min(self.decoders, self.places.decoders(node))

    def detectors_on(self, node: Node) -> int:
        """Return how many detectors of the pool find room on a node."""
        return min(self.places.detectors(node), int(node.cpus / self.detect.cpus))

    def sized_for(self, nodes: Sequence[Node]) -> "Pools":
        """Return the workers for nodes that came and went: each asks for what it did before."""
        at_work = [node for node in nodes if works(node)]
        detectors = sum(self.detectors_on(node) for node in at_work)
        if not at_work:
            return self
        return replace(
            self,
            demux=replace(self.demux, size=len(at_work)),
            decode=replace(self.decode, size=max(1, sum(map(self.decoders_on, at_work)))),
            detect=replace(self.detect, size=(self.grows and detectors) or self.detect.size),
        )

    def at_least(self, before: "Pools") -> "Pools":
        """Return workers, of no step fewer than `before`: who waits for a node is not sent away."""
        steps = ("demux", "decode", "detect")
        larger = {
            step: max(getattr(self, step), getattr(before, step), key=lambda pool: pool.size)
            for step in steps
        }
        return replace(self, **larger)


def works(node: Node) -> bool:
    """Say whether a node hosts workers; a head node without CPUs, as KubeRay makes it, does not."""
    return node.cpus >= 1


def decoding_nodes(places: Places, nodes: Sequence[Node]) -> int:
    """Return how many nodes decode; frame batches lie there until a detector takes them."""
    return sum(places.decoders(node) > 0 for node in nodes)


def places_on(nodes: Sequence[Node], device: str, resource: str = "") -> Places:
    """Return where detectors and decoders go on the nodes of a cluster."""
    places = Places(device=device, resource=resource)
    without = [node for node in nodes if works(node) and not places.detectors(node)]
    return replace(places, are_apart=bool(without))


def _decoders_beside(node_cpus: float, device: str) -> int:
    if device == "cuda":
        return max(1, int(node_cpus) - _CORES_OF_A_GPU)
    return max(1, int(node_cpus) // _FRAMES_A_CPU_DECODES_WHILE_ONE_DETECTS)


def _trackers_for(cpus: float) -> int:
    """Return how many tracking actors there may be: one does 1,000 frames/s, and takes 65 MB."""
    return max(1, int(cpus) // 2)


def plan_pools(
    nodes: Sequence[Node],
    places: Places,
    *,
    cameras: int,
    decoders: int,
    detectors: int | None = None,
    drivers: int = 1,
) -> Pools:
    """Describe the workers for a cluster; at least one of its nodes has a place for a detector.

    Args:
        nodes: The cluster's nodes, as they are now.
        places: Where workers go on them.
        cameras: How many cameras there are to track.
        decoders: Decoders on each node, at most.
        detectors: How many detectors instead, over the whole cluster.
        drivers: How many drivers may share the cluster. What all of them ask for must fit at once:
            if their detectors took everything, none of them could decode.
    """
    at_work = [node for node in nodes if works(node)]
    hosts = [node for node in at_work if places.detectors(node)]
    usual = sum(places.detectors(node) for node in hosts)
    size = detectors or usual
    least = min(node.cpus for node in (hosts if places.are_apart else at_work))
    each = usual / max(size, usual)
    decode_cpus = round(max(2 * _DEMUX_CPUS, _decode_share(at_work, places, decoders)), 2)
    detect = Pool(
        size=size,
        cpus=round(max(0.05, _detect_share(hosts, places, least) * each), 2),
        gpus=each if places.device == "cuda" else 0.0,
        resource=places.resource,
    )
    while detect.cpus in (decode_cpus, _DEMUX_CPUS):
        detect = replace(detect, cpus=round(detect.cpus + 0.01, 2))
    pools = Pools(
        demux=_shared(Pool(size=1, cpus=_DEMUX_CPUS), drivers),
        decode=_shared(Pool(size=1, cpus=decode_cpus), drivers),
        detect=_shared(detect, drivers),
        track=Pool(size=min(cameras, _trackers_for(sum(n.cpus for n in at_work))), cpus=0.0),
        threads=max(1, int(least * each)),
        places=places,
        decoders=decoders,
        grows=detectors is None,
        seeks=detectors is None and drivers == 1,
    )
    return replace(pools.sized_for(at_work), detect=pools.detect)


def _detect_share(hosts: Sequence[Node], places: Places, least: float) -> float:
    """Return the CPUs that a detector asks for, where there are as many as places."""
    if places.device == "cuda":
        least_each = min(node.cpus / places.detectors(node) for node in hosts)
        # Apart, it asks for what it keeps busy, so that no decoder comes in its way.
        busy = (_CORES_OF_A_GPU, _MOST_OF_A_NODE) if places.are_apart else (0.5, 0.5)
        return min(busy[0], busy[1] * least_each)
    if places.are_apart:
        return least - _FOR_THE_REST_CPUS
    # More than half of a node each, so that no node gets two; where several are asked for, shares.
    return 0.55 * least


def _decode_share(at_work: Sequence[Node], places: Places, decoders: int) -> float:
    """Return the CPUs that a decoder asks for, so that a node gets as many as it is to have."""
    if not places.are_apart:
        return 0.2 * min(node.cpus for node in at_work) / decoders
    counts = {node.node_id: min(decoders, places.decoders(node)) for node in at_work}
    return _MOST_OF_A_NODE * min(
        node.cpus / counts[node.node_id] for node in at_work if counts[node.node_id]
    )


def _shared(pool: Pool, drivers: int) -> Pool:
    # Ray counts in ten-thousandths.
    return replace(
        pool,
        cpus=max(1e-4, round(pool.cpus / drivers, 4)),
        gpus=math.floor(pool.gpus / drivers * 1e4) / 1e4,
    )
