"""What a cluster is asked to have: an autoscaler, where there is one, brings that, and keeps it.

A job is planned by the nodes that are there when it begins. Groups that scale from zero have none, and
an autoscaler looks only at work that waits, which there is not before there is a plan.
"""

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass

import ray

from cluster.nodes import ask_autoscaler

log = logging.getLogger(__name__)
_LOOK_EVERY_S = 2.0
_TELL_EVERY_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Waited:
    """What came of waiting: units of each resource that the cluster has, of those that were wanted."""

    here: Mapping[str, int]
    wanted: Mapping[str, int]

    @property
    def lacking(self) -> tuple[str, ...]:
        """The resources of which fewer are here than were wanted."""
        return tuple(name for name, count in self.wanted.items() if self.here[name] < count)

    @property
    def absent(self) -> tuple[str, ...]:
        """The resources of which nothing at all is here."""
        return tuple(name for name in self.lacking if not self.here[name])

    def __str__(self) -> str:
        """Return it as "1 of 2 gpu-node, 2 of 2 cpu-node"."""
        return ", ".join(
            f"{self.here[name]} of {count} {name}" for name, count in self.wanted.items()
        )


def ask_for(wanted: Mapping[str, int]) -> None:
    """Ask the autoscaler for units of resources, each on any node; nothing lets go of all of them."""
    ask_autoscaler([{name: 1.0} for name, count in wanted.items() for _ in range(count)])


def wait_for(wanted: Mapping[str, int], most_s: float) -> Waited:
    """Return once the cluster has what is wanted, or after `most_s`, with what it has."""
    began = told = time.monotonic()
    while True:
        has = ray.cluster_resources()  # type: ignore[no-untyped-call]
        waited = Waited(here={name: int(has.get(name, 0)) for name in wanted}, wanted=wanted)
        now = time.monotonic()
        if not waited.lacking or now - began >= most_s:
            return waited
        if now - told >= _TELL_EVERY_S:
            log.info("Waiting for nodes: the cluster has %s", waited)
            told = now
        time.sleep(_LOOK_EVERY_S)
