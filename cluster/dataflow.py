"""The whole graph on one screen: one Ray Data dataset from recordings to the tracking actors.

    works ── demux ── decode ══════ detect ── push ──> one actor a camera
             tasks    tasks   pixels  actors   tasks

The two shares of CPU differ, so that decode and detect never fuse: decord and torch shall not meet in
a process, and pixels cross exactly there.
"""

import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import ray.data
from ray.data import ActorPoolStrategy, TaskPoolStrategy
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cluster.memory import MemoryPlan, apply_to_ray_data
from cluster.pools import PUSH_ROWS, Pools
from cluster.push import TrackingSink
from cluster.rows import to_row
from cluster.session import Session, own_error
from cluster.stages import DetectStage, WarmUp, Work, decode_stage, demux_stage
from cluster.supervisor import Progress, Supervisor
from cluster.telemetry import NodeMemory, NodeMonitor
from cluster.tracking import CameraLogs
from pipeline.backend import DetectSettings
from pipeline.camera_log import FootageResult, LogSettings
from pipeline.decode import DecodeSettings
from pipeline.demux import DemuxSettings
from pipeline.letterbox import Letterbox
from pipeline.records import Footage

POLL_S = 0.2
REPORT_EVERY_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class DataflowSpec:
    """What to run: the footage, the settings of each step, and the workers.

    Attributes:
        recordings: Wanted video tracks, by recording, cameras interleaved.
    """

    recordings: Sequence[tuple[Footage, ...]]
    demux: DemuxSettings
    decode: DecodeSettings
    detect: DetectSettings
    log: LogSettings
    pools: Pools
    memory: MemoryPlan

    @property
    def cameras(self) -> dict[str, list[Footage]]:
        """The footage of each camera, oldest first."""
        footages = sorted(
            (footage for recording in self.recordings for footage in recording),
            key=lambda footage: (footage.key.camera_id, footage.key.sequence),
        )
        cameras: dict[str, list[Footage]] = {}
        for footage in footages:
            cameras.setdefault(footage.key.camera_id, []).append(footage)
        return cameras

    @property
    def largest(self) -> Letterbox:
        """The fit whose frames take the most memory."""
        return max(
            (footage.letterbox for recording in self.recordings for footage in recording),
            key=lambda letterbox: letterbox.frame_bytes,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Readiness:
    """The moment from which speed and memory are counted.

    Attributes:
        ready_at: Unix time.
        baseline_mb: Memory of the job on each node then, by node.
    """

    ready_at: float
    baseline_mb: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a run gave."""

    results: list[FootageResult]
    readiness: Readiness
    memory: list[NodeMemory]
    ended_at: float


@dataclass(frozen=True, slots=True)
class Watch:
    """What a run tells while it goes on, from a thread of its own.

    Attributes:
        ready: Called once, when the job is ready.
        progress: Called often, with the memory of the fullest node in MiB.
    """

    ready: Callable[[Readiness], None]
    progress: Callable[[Progress, float], None]


def build(spec: DataflowSpec, supervisor: Any) -> ray.data.Dataset:  # noqa: ANN401
    """Return the dataset from works to detections, not yet run."""
    pools, largest = spec.pools, spec.largest
    warm_up = WarmUp(letterbox=largest, frames=spec.decode.batch_size)
    works: list[Work] = [*[warm_up] * pools.decode.size, *spec.recordings]
    boxes = {f.letterbox for recording in spec.recordings for f in recording}
    shapes = sorted({(box.padded_height, box.padded_width) for box in boxes})
    whole_blocks: dict[str, Any] = {"batch_size": None, "batch_format": "pyarrow"}
    # Ray types a generator's arguments away.
    demux: Any = demux_stage
    decode: Any = decode_stage
    return (
        ray.data.from_arrow([to_row(work) for work in works])
        .map_batches(
            demux,
            fn_args=(spec.demux, supervisor),
            compute=TaskPoolStrategy(pools.demux.size),
            num_cpus=pools.demux.cpus,
            **whole_blocks,
        )
        .map_batches(
            decode,
            fn_args=(spec.decode, supervisor),
            compute=TaskPoolStrategy(pools.decode.size),
            num_cpus=pools.decode.cpus,
            **whole_blocks,
        )
        .map_batches(
            DetectStage,
            fn_constructor_args=(spec.detect, shapes, supervisor),
            compute=ActorPoolStrategy(size=pools.detect.size, max_tasks_in_flight_per_actor=2),
            num_cpus=pools.detect.cpus,
            num_gpus=pools.detect.gpus,
            **whole_blocks,
        )
    )


def run(spec: DataflowSpec, session: Session, watch: Watch) -> Outcome:
    """Run a job to its end.

    Raises:
        OutputError: The tables cannot be written.
    """
    apply_to_ray_data(spec.memory, len(session.nodes))
    actors = _Actors(spec, session)
    watcher = _Watcher(actors, watch)
    try:
        dataset = build(spec, actors.supervisor)
        sink = TrackingSink(actors.of_camera, actors.supervisor)
        watcher.start()
        dataset.write_datasink(
            sink,
            ray_remote_args={"num_cpus": spec.pools.push.cpus},
            concurrency=spec.pools.push.size,
        )
        results = [r for part in ray.get([a.close.remote() for a in actors.tracking]) for r in part]
        ended_at = time.time()
        watcher.stop()
        for monitor in actors.monitors:
            ray.get(monitor.sample.remote())
        return Outcome(
            results=results,
            readiness=watcher.readiness(),
            memory=actors.reports(),
            ended_at=ended_at,
        )
    except Exception as error:
        known = own_error(error)
        if known is None:
            raise
        raise known from error
    finally:
        watcher.stop(quietly=True)
        actors.end()


class _Actors:
    """The actors beside the dataset; the driver owns them, and they end with it."""

    def __init__(self, spec: DataflowSpec, session: Session) -> None:
        light: dict[str, Any] = {"num_cpus": 0}
        self.supervisor: Any = (
            ray.remote(Supervisor)
            .options(**light, max_concurrency=1000)
            .remote(
                spec.pools.decode.size * PUSH_ROWS,
                Path(spec.detect.weights.path).read_bytes(),
                _is_node_alive,
            )
        )
        here = ray.get_runtime_context().get_node_id()
        self.monitors: list[Any] = [
            ray.remote(NodeMonitor)
            .options(
                **light,
                scheduling_strategy=NodeAffinitySchedulingStrategy(node.node_id, soft=False),
            )
            .remote(node.node_id, os.getpid() if node.node_id == here else None)
            for node in session.nodes
        ]
        shares: list[dict[str, Any]] = [{} for _ in range(spec.pools.track.size)]
        for number, (camera_id, footages) in enumerate(spec.cameras.items()):
            shares[number % len(shares)][camera_id] = footages
        self.tracking: list[Any] = [
            ray.remote(CameraLogs).options(**light).remote(share, spec.log, self.supervisor)
            for share in shares
        ]
        self.of_camera = {
            camera_id: actor
            for share, actor in zip(shares, self.tracking, strict=True)
            for camera_id in share
        }

    def reports(self) -> list[NodeMemory]:
        """Return what the monitors have seen."""
        reports: list[NodeMemory] = ray.get([m.report.remote() for m in self.monitors])
        return reports

    def end(self) -> None:
        """End the actors now, not when the driver forgets them."""
        for actor in (*self.tracking, *self.monitors, self.supervisor):
            ray.kill(actor)


class _Watcher:
    """Opens the gate when every step is warm, then tells how far the job is."""

    def __init__(self, actors: _Actors, watch: Watch) -> None:
        self._actors, self._watch = actors, watch
        self._readiness: Readiness | None = None
        self._error: Exception | None = None
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def stop(self, *, quietly: bool = False) -> None:
        """Look once more and end the watching; raise what went wrong in it, unless `quietly`."""
        self._done.set()
        if self._thread.is_alive():
            self._thread.join()
        if quietly:
            return
        if self._error is not None:
            raise self._error
        self._look()

    def readiness(self) -> Readiness:
        """Return the moment from which the job counts."""
        if self._readiness is None:
            raise RuntimeError("the job ended before it was ready")
        return self._readiness

    def _run(self) -> None:
        try:
            ray.get([actor.ready.remote() for actor in self._actors.tracking])
            while not self._done.wait(POLL_S if self._readiness is None else REPORT_EVERY_S):
                self._look()
        except Exception as error:  # noqa: BLE001 -- kept for `stop`, which raises it
            self._error = error
            # Nobody shall wait for a gate that nobody will open.
            self._actors.supervisor.open_gate.remote()

    def _look(self) -> None:
        progress = ray.get(self._actors.supervisor.progress.remote())
        if self._readiness is None:
            if progress.is_warm:
                self._readiness = self._measure()
                self._watch.ready(self._readiness)
                ray.get(self._actors.supervisor.open_gate.remote())
        else:
            latest_mb = ray.get([monitor.latest_mb.remote() for monitor in self._actors.monitors])
            self._watch.progress(progress, max(latest_mb))

    def _measure(self) -> Readiness:
        samples = ray.get([monitor.sample.remote() for monitor in self._actors.monitors])
        nodes = [report.node for report in self._actors.reports()]
        return Readiness(
            ready_at=time.time(),
            baseline_mb={n: s.used_mb for n, s in zip(nodes, samples, strict=True)},
        )


def _is_node_alive(node_id: str) -> bool:
    return any(node["NodeID"] == node_id and node["Alive"] for node in ray.nodes())  # type: ignore[no-untyped-call]
