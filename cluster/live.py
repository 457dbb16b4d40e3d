"""What a running job shows to Prometheus, through Ray's own endpoint.

    footfall_frames_total               counter   frames that were looked at, and are on disk
    footfall_video_seconds_total        counter   footage that they stand for
    footfall_segments_failed_total      counter   segments that were set aside
    footfall_step_seconds_total         counter   by all workers of a step; tag footfall_step
    footfall_step_wait_seconds_total    counter   that work lay ready before a step; tag footfall_step
    footfall_step_frames_total          counter   that a step handled; tag footfall_step
    footfall_frames_per_second          gauge     over the last 10 s
    footfall_segments_in_flight         gauge     segments that decoding has begun and no log has yet
    footfall_rows_waiting               gauge     rows of Ray Data before a step; tag footfall_step
    footfall_in_flight_mebibytes        gauge     what Ray Data holds in the object stores
    footfall_in_flight_limit_mebibytes  gauge     what it may hold there
    footfall_memory_increase_mebibytes  gauge     added since ready; tag footfall_node
    footfall_memory_limit_mebibytes     gauge     the cap; tag footfall_node
    footfall_memory_pss_mebibytes       gauge     of all of the job's processes; tag footfall_node
    footfall_object_store_mebibytes     gauge     tag footfall_node
    footfall_spilled_mebibytes          gauge     since sampling began; tag footfall_node

Ray puts `ray_` before each name, and tags of its own beside ours. All have the tag footfall_run.
"""

import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from ray.util.metrics import Counter, Gauge

from cluster.meter import MIB, MemorySample
from pipeline.gain import Gain

_OVER_S = 10.0
_RUN, _NODE, _STEP = "footfall_run", "footfall_node", "footfall_step"
# Those that every run has.
_STEPS = ("demux", "decode", "detect", "track", "write")


@dataclass(frozen=True, slots=True, kw_only=True)
class Queues:
    """What Ray Data holds between the steps at a moment.

    Attributes:
        rows: Rows that wait before each step.
        held_bytes: All that is in flight, over all nodes.
        limit_bytes: What may be.
    """

    rows: Mapping[str, int] = field(default_factory=dict)
    held_bytes: float = 0.0
    limit_bytes: float = 0.0


class NodeGauges:
    """The memory of one node."""

    def __init__(self, run_id: str, node: str) -> None:
        self._pss, self._store, self._spilled = (
            _of_node(f"footfall_{name}_mebibytes", text, run_id, node)
            for name, text in (
                ("memory_pss", "Memory of the job's processes on a node"),
                ("object_store", "What of it is the object store"),
                ("spilled", "What Ray put on a disk for want of memory"),
            )
        )

    def show(self, sample: MemorySample) -> None:
        """Show the last sample."""
        self._pss.set(sample.pss_mb)
        self._store.set(sample.object_store_mb)
        self._spilled.set(sample.spilled_mb)


class JobMetrics:
    """What the job as a whole does; memory against its limit, by node."""

    def __init__(self, run_id: str, limit_mb: int) -> None:
        """Begin; counters are shown from 0 on, so that what comes first is an increase too."""
        self._run_id, self._limit_mb = run_id, limit_mb
        self._frames = self._counter("footfall_frames_total", "Frames that were looked at")
        self._video = self._counter("footfall_video_seconds_total", "Footage they stand for")
        self._failed = self._counter("footfall_segments_failed_total", "Segments set aside")
        self._seconds, self._waited, self._step_frames = (
            self._counter(f"footfall_step_{name}_total", text, *_STEPS)
            for name, text in (
                ("seconds", "By all workers of a step"),
                ("wait_seconds", "That work lay ready before a step"),
                ("frames", "That a step handled"),
            )
        )
        self._fps = self._gauge("footfall_frames_per_second", "Over the last 10 s")
        self._in_flight = self._gauge("footfall_segments_in_flight", "Begun, and in no log yet")
        self._rows = self._gauge("footfall_rows_waiting", "Rows of Ray Data before a step", _STEP)
        self._held, self._most_held = (
            self._gauge(f"footfall_{name}_mebibytes", text)
            for name, text in (
                ("in_flight", "What Ray Data holds in the object stores"),
                ("in_flight_limit", "What it may hold there"),
            )
        )
        self._nodes: dict[str, tuple[Gauge, Gauge]] = {}
        self._lately: deque[tuple[float, int]] = deque()

    def _counter(self, name: str, text: str, *steps: str) -> Counter:
        counter = Counter(name, text, tag_keys=(_RUN, _STEP) if steps else (_RUN,))
        counter.set_default_tags({_RUN: self._run_id})
        for tags in [{_STEP: step} for step in steps] or [{}]:
            # `inc` takes no 0.
            counter._record(0.0, tags)
        return counter

    def _gauge(self, name: str, text: str, *tags: str) -> Gauge:
        gauge = Gauge(name, text, tag_keys=(_RUN, *tags))
        gauge.set_default_tags({_RUN: self._run_id})
        return gauge

    def gained(self, gain: Gain) -> None:
        """Count what is on disk now."""
        _count(self._frames, gain.frames)
        _count(self._video, gain.video_s)
        _count(self._failed, gain.failed)
        for step, took in gain.steps.items():
            _count(self._seconds, took.wall_s, step)
            _count(self._waited, took.wait_s, step)
            _count(self._step_frames, took.frames, step)
        if gain.frames:
            self._lately.append((time.monotonic(), gain.frames))

    def tick(self, in_flight: int, increase_mb: Mapping[str, float], queues: Queues) -> None:
        """Show what is so at this moment."""
        now = time.monotonic()
        while self._lately and now - self._lately[0][0] > _OVER_S:
            self._lately.popleft()
        self._fps.set(sum(frames for _, frames in self._lately) / _OVER_S)
        self._in_flight.set(in_flight)
        self._held.set(queues.held_bytes / MIB)
        self._most_held.set(queues.limit_bytes / MIB)
        for step, rows in queues.rows.items():
            self._rows.set(rows, {_STEP: step})
        for node, increase in increase_mb.items():
            if node not in self._nodes:
                self._nodes[node] = (
                    self._of_node("footfall_memory_increase_mebibytes", "Added since ready", node),
                    self._of_node("footfall_memory_limit_mebibytes", "The cap", node),
                )
            self._nodes[node][0].set(increase)
            self._nodes[node][1].set(self._limit_mb)

    def _of_node(self, name: str, text: str, node: str) -> Gauge:
        return _of_node(name, text, self._run_id, node)


def _count(counter: Counter, more: float, step: str = "") -> None:
    if more > 0:
        counter.inc(more, {_STEP: step} if step else {})


def _of_node(name: str, text: str, run_id: str, node: str) -> Gauge:
    gauge = Gauge(name, text, tag_keys=(_RUN, _NODE))
    gauge.set_default_tags({_RUN: run_id, _NODE: node[:12]})
    return gauge
