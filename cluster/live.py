"""What a running job shows to Prometheus, through Ray's own endpoint.

    footfall_frames_total               counter   frames that were looked at, and are on disk
    footfall_segments_failed_total      counter   segments that were set aside
    footfall_frames_per_second          gauge     over the last 10 s
    footfall_segments_in_flight         gauge     segments that decoding has begun and no log has yet
    footfall_memory_increase_mebibytes  gauge     added since ready; tag footfall_node
    footfall_memory_limit_mebibytes     gauge     the cap; tag footfall_node
    footfall_memory_pss_mebibytes       gauge     of all of the job's processes; tag footfall_node
    footfall_object_store_mebibytes     gauge     tag footfall_node
    footfall_spilled_mebibytes          gauge     since sampling began; tag footfall_node

Ray puts `ray_` before each name, and tags of its own beside ours.
"""

import time
from collections import deque

from ray.util.metrics import Counter, Gauge

from cluster.meter import MemorySample

_OVER_S = 10.0
_NODE = "footfall_node"


class NodeGauges:
    """The memory of one node."""

    def __init__(self, node: str) -> None:
        self._pss, self._store, self._spilled = (
            _of_node(f"footfall_{name}_mebibytes", text, node)
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

    def __init__(self, limit_mb: int) -> None:
        self._limit_mb = limit_mb
        self._frames = Counter("footfall_frames_total", "Frames that were looked at")
        self._failed = Counter("footfall_segments_failed_total", "Segments that were set aside")
        self._fps = Gauge("footfall_frames_per_second", "Over the last 10 s")
        self._in_flight = Gauge("footfall_segments_in_flight", "Begun, and in no log yet")
        self._nodes: dict[str, tuple[Gauge, Gauge]] = {}
        self._lately: deque[tuple[float, int]] = deque()

    def gained(self, frames: int, failed: int) -> None:
        """Count what is on disk now."""
        if frames:
            self._frames.inc(frames)
            self._lately.append((time.monotonic(), frames))
        if failed:
            self._failed.inc(failed)

    def tick(self, in_flight: int, increase_mb: dict[str, float]) -> None:
        """Show what is so at this moment."""
        now = time.monotonic()
        while self._lately and now - self._lately[0][0] > _OVER_S:
            self._lately.popleft()
        self._fps.set(sum(frames for _, frames in self._lately) / _OVER_S)
        self._in_flight.set(in_flight)
        for node, increase in increase_mb.items():
            if node not in self._nodes:
                self._nodes[node] = (
                    _of_node("footfall_memory_increase_mebibytes", "Added since ready", node),
                    _of_node("footfall_memory_limit_mebibytes", "The cap", node),
                )
            self._nodes[node][0].set(increase)
            self._nodes[node][1].set(self._limit_mb)


def _of_node(name: str, text: str, node: str) -> Gauge:
    gauge = Gauge(name, text, tag_keys=(_NODE,))
    gauge.set_default_tags({_NODE: node[:12]})
    return gauge
