"""The nodes of a cluster: what they have, which of them do work, and how to wait for more.

A head node without CPUs, as KubeRay makes it, hosts none of our workers. A cluster whose groups of
workers grow from nothing has no other node at first.
"""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import ray

log = logging.getLogger(__name__)
_LOOK_EVERY_S = 1.0
_SAY_EVERY_S = 60.0
# What Ray itself puts among a node's resources.
_RAYS_OWN = ("CPU", "GPU", "memory", "object_store_memory")


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """What a node of the cluster has.

    Attributes:
        resources: What it was given beside CPUs and GPUs, by name.
        store_bytes: Size of its object store.
        address: Where its raylet answers, at `port`.
    """

    node_id: str
    cpus: float
    gpus: float
    resources: Mapping[str, float] = field(default_factory=dict)
    store_bytes: int = 0
    address: str = ""
    port: int = 0


def alive_nodes() -> tuple[Node, ...]:
    """Return the nodes that are alive now."""
    return tuple(
        Node(
            node_id=node["NodeID"],
            cpus=node["Resources"].get("CPU", 0.0),
            gpus=node["Resources"].get("GPU", 0.0),
            resources={k: v for k, v in node["Resources"].items() if k not in _RAYS_OWN},
            store_bytes=int(node["Resources"].get("object_store_memory", 0)),
            address=node["NodeManagerAddress"],
            port=node["NodeManagerPort"],
        )
        for node in ray.nodes()  # type: ignore[no-untyped-call]
        if node["Alive"]
    )


def is_node_alive(node_id: str) -> bool:
    """Say whether a node of the cluster is."""
    return any(node["NodeID"] == node_id and node["Alive"] for node in ray.nodes())  # type: ignore[no-untyped-call]


def lost_nodes() -> int:
    """Return how many nodes the cluster has had that are gone."""
    return sum(not node["Alive"] for node in ray.nodes())  # type: ignore[no-untyped-call]


def await_nodes(
    are_enough: Callable[[Sequence[Node]], bool],
    wanted: Mapping[str, float],
    *,
    why: str,
    most_s: float,
    look: Callable[[], tuple[Node, ...]] = alive_nodes,
) -> tuple[Node, ...]:
    """Return the nodes of the cluster once they are enough, or as they are after `most_s` seconds.

    An autoscaler, where there is one, is asked for what is wanted.

    Args:
        are_enough: Says whether nodes are.
        wanted: What one of them has to have, as Ray names it.
        why: What is waited for, for the log.
        most_s: How long.
        look: Returns the nodes as they are.
    """
    nodes, end, said_at = look(), time.monotonic() + most_s, -_SAY_EVERY_S
    if are_enough(nodes):
        return nodes
    ask_autoscaler([dict(wanted)])
    try:
        while not are_enough(nodes) and (now := time.monotonic()) < end:
            if now - said_at >= _SAY_EVERY_S:
                said_at = now
                log.info("Waiting for nodes: %s; for %.0f s at most", why, end - now)
            time.sleep(min(_LOOK_EVERY_S, max(0.0, end - now)))
            nodes = look()
    finally:
        # What works there asks for itself.
        ask_autoscaler([])
    return nodes


def ask_autoscaler(bundles: list[dict[str, float]]) -> None:
    """Ask the autoscaler, where there is one, for bundles of resources; nothing lets go of all.

    It holds until somebody asks for something else, whether or not the asker lives: a node that is lost
    comes back.
    """
    from ray.autoscaler import sdk

    ask: Any = sdk.request_resources
    ask(bundles=bundles)
