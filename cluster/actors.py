"""What a job is made of on the cluster, and the actors beside its dataset: the driver owns them."""

import logging
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray
import ray.exceptions
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cluster.ahead import Ahead
from cluster.labels import THREADS, LabelActor
from cluster.live import JobMetrics
from cluster.memory import MemoryPlan
from cluster.meter import MemorySample
from cluster.pace import Pace
from cluster.pools import PUSH_BATCHES, Pools
from cluster.session import Session, is_node_alive
from cluster.stages import Cut, Source, WarmUp, stand_by
from cluster.supervisor import FailureLimit, Supervisor
from cluster.telemetry import Forgive, NodeMonitor, spilled_by
from cluster.tracking import CameraLogs
from pipeline.aws import is_s3
from pipeline.backend import DetectSettings
from pipeline.decode import DecodeSettings, batches_of_a_row
from pipeline.demux import DemuxSettings
from pipeline.labels import LabelSettings
from pipeline.part import LogSettings
from pipeline.records import Footage, FootageKey
from pipeline.tail import Missing, Tail

log = logging.getLogger(__name__)
# Recordings that one task cuts, and frames of them; each node that cuts has at least so many tasks.
_MOST_OF_A_TASK, _FRAMES_OF_A_TASK, _LEAST_TASKS = 32, 4000, 8


@dataclass(frozen=True, slots=True, kw_only=True)
class DataflowSpec:
    """What to run: the footage, the settings of each step, and the workers.

    Attributes:
        tails: What is left of each camera.
        source: Where frame batches come from.
        failure_limit: When to give up; None means never.
        is_auto_batch: The batch size is found while it runs.
        labels: How labels are asked for; None if they are not.
        is_retry: What failed in earlier starts is done again.
    """

    tails: Sequence[Tail]
    demux: DemuxSettings
    decode: DecodeSettings
    detect: DetectSettings
    log: LogSettings
    pools: Pools
    memory: MemoryPlan
    source: Source = field(default_factory=Source)
    failure_limit: FailureLimit | None = None
    is_auto_batch: bool = False
    labels: LabelSettings | None = None
    is_retry: bool = False

    @property
    def footages(self) -> dict[FootageKey, Footage]:
        """All footage that is left, by its key."""
        return {footage.key: footage for tail in self.tails for footage in tail.footages}

    @property
    def pictures(self) -> frozenset[str]:
        """The `picture_id` of all footage that is left."""
        return frozenset(footage.picture_id for tail in self.tails for footage in tail.footages)

    @property
    def warm_up(self) -> WarmUp:
        """A batch of the largest frames that will come."""
        boxes = [footage.letterbox for footage in self.footages.values()]
        largest = max(boxes, key=lambda box: box.frame_bytes)
        return WarmUp(
            letterbox=largest,
            frames=self.memory.batch_size,
            rows_of_a_push=self.rows_of_a_push,
        )

    @property
    def _batches_of_a_row(self) -> int:
        frame_bytes = max(f.letterbox.frame_bytes for f in self.footages.values())
        return batches_of_a_row(self.decode, frame_bytes)

    @property
    def rows_of_a_push(self) -> int:
        """Rows that one push takes to the tracking actors."""
        return max(1, PUSH_BATCHES // self._batches_of_a_row)

    @property
    def warm_up_arrivals(self) -> int:
        """What comes to the end of the dataset before the job is warm: batches, and rows to fill up."""
        return self.pools.decode.size * self.rows_of_a_push

    def cuts(self, missing: Sequence[Missing]) -> list[tuple[Cut, ...]]:
        """Return the recordings that have to be read, cameras interleaved, each oldest first.

        Many short ones are cut by one task: a task costs more than a short recording.
        """
        footages, have = self.footages, {each.footage: each.have for each in missing}
        by_uri: dict[str, list[Footage]] = {}
        for key in have:
            by_uri.setdefault(footages[key].source_uri, []).append(footages[key])
        cuts = [
            Cut(
                footages=tuple(sorted(group, key=lambda f: f.track.video_track)),
                have={footage.key: have[footage.key] for footage in group},
            )
            for group in by_uri.values()
        ]
        cuts.sort(
            key=lambda cut: (min(f.key.sequence for f in cut.footages), cut.footages[0].source_uri)
        )
        most = max(1, len(cuts) // (_LEAST_TASKS * self.pools.demux.size))
        return list(_grouped(cuts, min(most, _MOST_OF_A_TASK)))


def _grouped(cuts: Sequence[Cut], most: int) -> Iterator[tuple[Cut, ...]]:
    """Yield groups of up to `most` recordings, as long as they are short."""
    group: list[Cut] = []
    frames = 0
    for cut in cuts:
        # One of unknown length may be long.
        expected = [footage.track.expected_frames or _FRAMES_OF_A_TASK for footage in cut.footages]
        if group and (len(group) >= most or frames + sum(expected) > _FRAMES_OF_A_TASK):
            yield tuple(group)
            group, frames = [], 0
        group.append(cut)
        frames += sum(expected)
    if group:
        yield tuple(group)


class Actors:
    """The actors beside the dataset; the driver owns them, and they end with it."""

    def __init__(self, spec: DataflowSpec, session: Session) -> None:
        light: dict[str, Any] = {"num_cpus": 0}
        self._spec = spec
        here = ray.get_runtime_context().get_node_id()
        self.supervisor: Any = (
            ray.remote(Supervisor)
            .options(**light, **_on(here), max_concurrency=1000)
            .remote(
                spec.warm_up_arrivals,
                Path(spec.detect.weights.path).read_bytes(),
                is_node_alive,
                Pace(
                    limit_mb=spec.memory.limit_mb,
                    batch_size=spec.memory.batch_size,
                    decoders=spec.memory.decoders,
                    ahead=Ahead(spec.memory.packets_ahead_bytes * len(session.hosts)),
                    is_auto=spec.is_auto_batch,
                ),
                spec.failure_limit,
                JobMetrics,
            )
        )
        self._monitors: dict[str, Any] = {
            node.node_id: ray.remote(NodeMonitor)
            .options(**light, **_on(node.node_id))
            .remote(
                node.node_id,
                os.getpid() if node.node_id == here else None,
                spec.memory.leak_bytes,
                Forgive(self.supervisor, node.node_id),
                spilled_by(node.address, node.port),
            )
            for node in session.nodes
        }
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
                    **_on(here),
                    max_restarts=-1,
                    max_task_retries=-1,
                    max_concurrency=THREADS,
                )
                .remote(spec.labels, sorted(self.of_camera), spec.pictures if spec.is_retry else ())
            )
        self._starting = self._start_workers([node.node_id for node in session.hosts])

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

    def give_up_stranded(self) -> None:
        """Let go of detectors that no node is left for, so that what they were given is done anew."""
        for actor in ray.get(self.supervisor.given_up.remote()):
            log.warning("A detector was lost with its node, and there is no place for it elsewhere")
            ray.kill(actor, no_restart=True)

    def _start_workers(self, hosts: Sequence[str]) -> list[Any]:
        """Start as many processes on every host as decoding and pushing use at once there.

        They load what they need while detectors load their models. What cuts starts its own.
        """
        sizes = (self._spec.pools.decode.size, self._spec.pools.push.size)
        parties = sum(math.ceil(size / len(hosts)) for size in sizes)
        task = ray.remote(stand_by)
        return [
            task.options(num_cpus=0, max_retries=0, **_on(node)).remote(
                self.supervisor, node, parties, self._spec.warm_up, self._spec.decode
            )
            for node in hosts
            for _ in range(parties)
        ]

    def wait_for_workers(self) -> None:
        """Return once every host has the processes that it will use."""
        for each in self._starting:
            with suppress(ray.exceptions.RayError):
                # A node that dies just now is for others to notice.
                ray.get(each)

    def settle(self) -> dict[str, MemorySample]:
        """Measure the memory of every node that is alive, now; it is the level to judge by."""
        return self._ask_monitors("settle")

    def sample(self) -> dict[str, MemorySample]:
        """Measure the memory of every node that is alive, now."""
        return self._ask_monitors("sample")

    def latest(self) -> dict[str, MemorySample]:
        """Return the last sample of every node that is alive."""
        return {node: last for node, last in self._ask_monitors("latest").items() if last}

    def take_samples(self) -> dict[str, list[MemorySample]]:
        """Return the samples of every node since this was last asked."""
        return self._ask_monitors("take")

    def tidy(self) -> None:
        """Have the tracking actors give memory back; nobody waits for it."""
        for actor in self.tracking:
            actor.tidy.remote()

    def forget_recordings(self) -> None:
        """Remove recordings that came from S3 from the nodes' disks."""
        if any(is_s3(footage.source_uri) for footage in self._spec.footages.values()):
            self._ask_monitors("forget_recordings", self._spec.demux.cache.folder)

    def _ask_monitors(self, method: str, *given: object) -> dict[str, Any]:
        asked = {node: getattr(m, method).remote(*given) for node, m in self._monitors.items()}
        answers = {}
        for node, answer in asked.items():
            try:
                answers[node] = ray.get(answer)
            except ray.exceptions.RayActorError:
                # It is gone with its node.
                del self._monitors[node]
        return answers

    def end(self) -> None:
        """End the actors now, not when the driver forgets them."""
        labellers = [self.labeller] if self.labeller else []
        for actor in (*self.tracking, *labellers, *self._monitors.values(), self.supervisor):
            ray.kill(actor)


def _on(node_id: str) -> dict[str, Any]:
    return {"scheduling_strategy": NodeAffinitySchedulingStrategy(node_id, soft=False)}
