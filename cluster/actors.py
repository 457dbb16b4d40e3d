"""The actors beside a job's dataset: the driver owns them, and they end with it."""

import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import ray
import ray.exceptions

from cluster.ahead import Ahead
from cluster.dataflow_spec import DataflowSpec
from cluster.hosts import Hosts, on
from cluster.labels import THREADS, LabelActor
from cluster.live import JobMetrics
from cluster.nodes import Node, is_node_alive
from cluster.pace import Pace
from cluster.session import Session
from cluster.supervisor import Supervisor
from cluster.tracking import CameraLogs
from pipeline.aws import is_s3
from pipeline.tail import Missing

log = logging.getLogger(__name__)


class Actors:
    """The actors beside the dataset; the driver owns them, and they end with it."""

    def __init__(self, spec: DataflowSpec, session: Session) -> None:
        light: dict[str, Any] = {"num_cpus": 0}
        self._spec = spec
        here = ray.get_runtime_context().get_node_id()
        run_id = spec.log.provenance.run_id
        self.supervisor: Any = (
            ray.remote(Supervisor)
            .options(**light, **on(here), max_concurrency=1000)
            .remote(
                spec.pools.decode.size,
                Path(spec.detect.weights.path).read_bytes(),
                is_node_alive,
                Pace(
                    limit_mb=spec.memory.limit_mb,
                    batch_size=spec.memory.batch_size,
                    decoders=spec.memory.decoders,
                    ahead=Ahead(spec.packets_ahead_bytes(session.nodes)),
                    is_auto=spec.is_auto_batch,
                ),
                spec.failure_limit,
                partial(JobMetrics, run_id),
            )
        )
        self.hosts = Hosts(spec, session, self.supervisor)
        shares = [spec.tails[i :: spec.pools.track.size] for i in range(spec.pools.track.size)]
        self.tracking: list[Any] = [
            # What a dead one had is on disk; who pushed to it while it died pushes again.
            ray.remote(CameraLogs)
            .options(**light, max_restarts=-1, max_task_retries=-1)
            .remote(share, spec.log, self.supervisor)
            for share in shares
        ]
        self.of_camera = {
            tail.camera_id: actor
            for share, actor in zip(shares, self.tracking, strict=True)
            for tail in share
        }
        self.labeller: Any = None
        if spec.labels:
            # What a dead one was asking about is told as lost; what waited is decoded again at the end.
            self.labeller = (
                ray.remote(LabelActor)
                .options(
                    **light,
                    **on(here),
                    max_restarts=-1,
                    max_task_retries=-1,
                    max_concurrency=THREADS,
                )
                .remote(spec.labels, sorted(self.of_camera), spec.pictures if spec.is_retry else ())
            )
        self.hosts.start_workers()

    def ready(self) -> None:
        """Return once the actors that write run, and have what they need.

        Raises:
            OutputError: A ledger is damaged.
        """
        writers = [*self.tracking, *([self.labeller] if self.labeller else [])]
        ray.get([actor.ready.remote() for actor in writers])

    def missing(self) -> list[Missing]:
        """Return the footages that have not come whole."""
        asked = [actor.missing.remote() for actor in self.tracking]
        return [missing for some in ray.get(asked) for missing in some]

    def give_up_stranded(self) -> int:
        """Let go of detectors that no node is left for, so that what they were given is done anew.

        Returns:
            How many there were.
        """
        given_up = ray.get(self.supervisor.given_up.remote())
        for actor in given_up:
            log.warning("A detector was lost with its node, and there is no place for it elsewhere")
            ray.kill(actor, no_restart=True)
        return len(given_up)

    def open_gate(self) -> None:
        """Let the real footage in, on the nodes that are ready."""
        ray.get(self.supervisor.open_gate.remote(self.hosts.ready))

    def open_nodes(self, node_ids: Sequence[str]) -> None:
        """Let the real footage in on nodes that have become ready, too."""
        if node_ids:
            self.supervisor.open_nodes.remote(node_ids)

    def widen(self, nodes: Sequence[Node]) -> None:
        """Let cutting run ahead as far as the nodes there are allow."""
        self.supervisor.widen.remote(self._spec.packets_ahead_bytes(nodes))

    def tidy(self) -> None:
        """Have the tracking actors give memory back; nobody waits for it."""
        for actor in self.tracking:
            actor.tidy.remote()

    def forget_recordings(self) -> None:
        """Remove recordings that came from S3 from the nodes' disks."""
        if any(is_s3(footage.source_uri) for footage in self._spec.footages.values()):
            self.hosts.forget_recordings(self._spec.demux.cache.folder)

    def end(self) -> None:
        """End the actors now, not when the driver forgets them."""
        labellers = [self.labeller] if self.labeller else []
        self.hosts.end()
        for actor in (*self.tracking, *labellers, self.supervisor):
            ray.kill(actor)
