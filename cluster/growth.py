"""A job follows its cluster: nodes that join get workers, and what is allowed goes by the nodes.

What each worker asks for stays as it was planned at the start; how many there are follows the nodes. A
dataset that runs never has fewer than before, for whoever lost his node may find another.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace

from cluster.actors import Actors
from cluster.dataflow_spec import DataflowSpec
from cluster.memory import check_store
from cluster.nodes import Node, alive_nodes
from cluster.pools import Pools, works
from cluster.ray_data import InEffect, Room, tell_of_nodes
from cluster.session import Session
from pipeline.errors import ConfigError

log = logging.getLogger(__name__)


class Growth:
    """Notices nodes that join, and has them made ready and used."""

    def __init__(
        self,
        spec: DataflowSpec,
        actors: Actors,
        in_effect: InEffect,
        session: Session,
        look: Callable[[], tuple[Node, ...]] = alive_nodes,
    ) -> None:
        """Begin with the nodes that the job was planned for."""
        self._spec, self._actors, self._in_effect = spec, actors, in_effect
        self._look = look
        self._session = session
        self._known = {node.node_id for node in session.nodes}
        self._ready = set(self._known)
        self._pools = spec.pools
        self._given_up = 0

    def begin_pass(self) -> Pools:
        """Return the workers for a dataset that is about to begin: those of the nodes there are."""
        if self._session.is_local:
            return self._pools
        nodes = self._look()
        self._given_up = 0
        self._pools = self._pools_on(nodes)
        self._in_effect.room = self._room(nodes)
        return self._pools

    def gave_up(self, detectors: int) -> None:
        """Note that detectors have been let go of: others may take their places."""
        self._given_up += detectors

    def follow(self) -> dict[str, float]:
        """Look at the nodes; return the level of memory, in MiB, of each that has become ready."""
        if self._session.is_local:
            return {}
        nodes = self._look()
        for node in nodes:
            if node.node_id not in self._known:
                self._welcome(node)
        settled = self._actors.hosts.settled()
        self._ready |= settled.keys()
        self._pools = self._pools_on(nodes).at_least(self._pools)
        room, known = self._room(nodes), {node.node_id for node in nodes}
        if room != self._in_effect.room or known != self._known:
            self._known, self._in_effect.room = known, room
            self._actors.widen(self._at_work(nodes))
            tell_of_nodes()
        self._actors.open_nodes(list(settled))
        return {node_id: sample.pss_mb for node_id, sample in settled.items()}

    def _at_work(self, nodes: Sequence[Node]) -> list[Node]:
        return [node for node in nodes if node.node_id in self._ready]

    def _pools_on(self, nodes: Sequence[Node]) -> Pools:
        """Return the workers for nodes; one that is not ready has detectors alone."""
        pools = self._spec.pools
        return replace(pools.sized_for(self._at_work(nodes)), detect=pools.sized_for(nodes).detect)

    def _welcome(self, node: Node) -> None:
        pools = self._spec.pools
        detectors = pools.detectors_on(node) if pools.grows else 0
        log.info(
            "Node %s joined: %d decoder(s) and %d detector(s) there",
            node.node_id[:8],
            pools.decoders_on(node),
            detectors,
        )
        if works(node):
            try:
                check_store(self._spec.memory, [node])
            except ConfigError as error:
                # It works there all the same, for nobody can be sent away.
                log.warning("%s", error)
        self._actors.hosts.welcome(node, detectors)

    def _room(self, nodes: Sequence[Node]) -> Room:
        at_work = self._at_work(nodes)
        sizes = _sizes(self._pools)
        sizes["DetectStage"] += self._given_up
        sought = sizes
        if self._spec.pools.seeks and at_work:
            # One more like the largest.
            largest = max(at_work, key=lambda node: (self._pools.detectors_on(node), node.cpus))
            sought = _sizes(self._spec.pools.sized_for([*at_work, largest]))
        return Room(sizes=sizes, sought=sought, in_flight_bytes=self._spec.in_flight_bytes(at_work))


def _sizes(pools: Pools) -> dict[str, int]:
    """Return the workers of each step, by the name of what it runs."""
    return {
        "demux_stage": pools.demux.size,
        "decode_stage": pools.decode.size,
        "DetectStage": pools.detect.size,
    }
