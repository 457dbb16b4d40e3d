"""How much memory a job may take on a node: the plan.

    memory_limit_mb ─┬─ store      rows of frame batches between decode and detect, and two rows more
                     │             that Ray Data's own reckoning does not see in time
                     ├─ decoders   each one's pictures, the row it fills, what it runs ahead
                     ├─ cutting    ffmpeg, and the packets of open segments
                     └─ heap       growth of every process, Ray's included

The cap bounds what a job adds above its ready state. What footage takes is reckoned in
`pipeline.footprint`; what is measured, in `meter`; how Ray Data is made to keep to it, in `ray_data`.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace

from cluster.meter import MIB
from cluster.nodes import Node
from pipeline.errors import ConfigError
from pipeline.footprint import Footprint

# Ray refuses a smaller store (75 MiB). Whatever its size, all its pages are touched in time.
LEAST_STORE_BYTES = 76 * MIB
# Rows that Ray Data may hold above its limit: one that a task has made, one that waits to be seen.
SLACK_ROWS = 2
MOST_AUTO_BATCH = 32
_SENSIBLE_BATCH = 8
# Driver, control service, raylet, tracking and sampling actors: see docs/decisions.md.
_HEAP_BYTES, _HEAP_A_DETECTOR_BYTES = 56 * MIB, 8 * MIB
_MOST_AHEAD_BYTES = 160 * MIB
# Detections, movements, frames and metrics; a row group of 64 KiB is the least that makes sense.
_TABLES_OF_A_CAMERA = 4
_LEAST_HELD_BYTES, _MOST_HELD_BYTES = 64 * 1024, 4 * MIB
# Rows that wait before each detector: with three it waits for every fifth, more than six make nothing
# faster.
_LEAST_WAITING, _MOST_WAITING = 3, 6
# Larger rows save work of the cluster, but not more than a share of the cap is worth that.
_ROW_PACKETS_BYTES, _ROW_SEGMENTS = 2 * MIB, 32
_SHARE_FOR_ROWS = 0.6


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryPlan:
    """What each part of a job may take on a node, so that all of it stays under the cap.

    Attributes:
        limit_mb: The cap, in MiB.
        batch_size: Frames of a batch, at most.
        row_bytes: Pixels of the batches that travel together to a detector.
        row_packets_bytes: Packets of the segments that travel together to a decoder.
        in_flight_bytes: Ray Data's limit on blocks in the store.
        slack_bytes: What lies in the store beyond that limit at times.
        decoders: Decoders at once.
        decoder_bytes: What one of them takes, that goes frame by frame.
        ahead_bytes: What one of them may take besides, that runs ahead in its segment.
        carried_bytes: Packets that a segment may be carried with.
        packets_ahead_bytes: Packets that may wait for a decoder.
        cutting_bytes: What cutting takes.
        heap_bytes: Growth of the processes.
        smallest_mb: The smallest cap that would do, with batches of this size.
    """

    limit_mb: int
    batch_size: int
    row_bytes: int
    row_packets_bytes: int
    in_flight_bytes: int
    slack_bytes: int
    decoders: int
    decoder_bytes: int
    ahead_bytes: int
    carried_bytes: int
    packets_ahead_bytes: int
    cutting_bytes: int
    heap_bytes: int
    smallest_mb: int

    @property
    def store_bytes(self) -> int:
        """Size of the object store of a node that we start."""
        return max(LEAST_STORE_BYTES, self.in_flight_bytes + self.slack_bytes)

    @property
    def worker_bytes(self) -> int:
        """What a decoder takes."""
        return self.decoder_bytes + self.ahead_bytes

    def held_bytes(self, cameras: int) -> int:
        """Return what each table of each camera may hold back before it is written."""
        share = min(self.limit_mb * MIB // 256, self.heap_bytes // 4)
        each = share // (_TABLES_OF_A_CAMERA * max(1, cameras))
        return min(_MOST_HELD_BYTES, max(_LEAST_HELD_BYTES, each))

    @property
    def leak_bytes(self) -> int:
        """Growth of a worker that its work does not explain: it is ended, and another takes over."""
        explained = max(self.worker_bytes, self.cutting_bytes) * 5 // 4
        return max(explained, min(2 * self.worker_bytes + 64 * MIB, self.limit_mb * MIB // 2))

    @property
    def parts(self) -> dict[str, int]:
        """What each part may take, in bytes; together at most the cap."""
        return {
            "store": self.store_bytes,
            "decoders": self.decoders * self.worker_bytes,
            "cutting": self.cutting_bytes,
            "heap": self.heap_bytes,
        }

    def plain(self) -> dict[str, int]:
        """Return the plan as it is saved."""
        return asdict(self) | {"store_bytes": self.store_bytes}


@dataclass(frozen=True, slots=True, kw_only=True)
class Workers:
    """Who works on a node, and how much at once, if memory allows.

    Attributes:
        decoders: Decoders that the node's cores could feed; fewer are used under a small cap.
        detectors: Detectors.
        row_frames: Frames that shall travel to a detector together, in whole batches.
    """

    decoders: int
    detectors: int = 1
    row_frames: int = 0


def plan_memory(
    limit_mb: int,
    need: Footprint,
    *,
    batch_size: int | None,
    workers: Workers,
    store_bytes: float = math.inf,
) -> MemoryPlan:
    """Divide a cap among the parts of a job on a node.

    Args:
        limit_mb: The cap in MiB.
        need: What the footage takes.
        batch_size: Frames of a batch; None means as many as fit, up to `MOST_AUTO_BATCH`.
        workers: Of the node.
        store_bytes: Size of the object store, where it is there already: less waits in a small one.

    Raises:
        ConfigError: The cap is too small for the footage; it names the smallest that would do.
    """
    sizes = [batch_size] if batch_size else [2**n for n in range(MOST_AUTO_BATCH.bit_length())]
    least = {size: _total(need, _least(need, size), 1, workers.detectors) for size in sizes}
    fitting = [size for size in sizes if least[size] <= limit_mb * MIB]
    if not fitting:
        raise ConfigError(_too_small(limit_mb, need, sizes[0], workers.detectors))
    plans = [_divide(limit_mb, need, size, workers, store_bytes) for size in fitting]
    # More decoders are worth more than large batches, but not than ones of a sensible size.
    sensible = [plan for plan in plans if plan.batch_size >= _SENSIBLE_BATCH] or plans[-1:]
    return max(sensible, key=lambda plan: (plan.decoders, plan.batch_size))


@dataclass(frozen=True, slots=True)
class _Rows:
    """What travels together.

    Attributes:
        frames: To a detector.
        packets_bytes: To a decoder.
    """

    frames: int
    packets_bytes: int


def _least(need: Footprint, batch_size: int) -> _Rows:
    return _Rows(batch_size, need.packets_bytes)


def _rows(
    need: Footprint, batch_size: int, row_frames: int, fits: Callable[[_Rows], bool]
) -> _Rows:
    """Return the largest rows that are worth it and fit."""
    rows = _least(need, batch_size)
    packets = max(rows.packets_bytes, min(_ROW_PACKETS_BYTES, _ROW_SEGMENTS * rows.packets_bytes))
    if fits(replace(rows, packets_bytes=packets)):
        rows = replace(rows, packets_bytes=packets)
    for batches in range(row_frames // batch_size, 1, -1):
        if fits(replace(rows, frames=batches * batch_size)):
            return replace(rows, frames=batches * batch_size)
    return rows


def _divide(
    limit_mb: int, need: Footprint, batch_size: int, workers: Workers, store_bytes: float
) -> MemoryPlan:
    """Give each part what it needs at least, then decoders, then what makes them faster."""
    limit, least, detectors = limit_mb * MIB, _least(need, batch_size), workers.detectors
    count = 1
    while count < workers.decoders and _total(need, least, count + 1, detectors) <= limit:
        count += 1

    def fits(rows: _Rows) -> bool:
        more = _more_waiting(need, rows, detectors)
        held = _least_in_flight(need, rows, count, detectors) + _slack(need, rows, count) + more
        total = _total(need, rows, count, detectors) + more
        return total <= limit * _SHARE_FOR_ROWS and held <= store_bytes

    rows = _rows(need, batch_size, workers.row_frames, fits)
    free = limit - _total(need, rows, count, detectors)
    # Running ahead saves nothing unless a whole segment fits.
    ahead = need.ahead_bytes if need.ahead_bytes <= _MOST_AHEAD_BYTES else 0
    ahead = ahead if ahead * count <= free // 2 else 0
    in_flight, slack = _least_in_flight(need, rows, count, detectors), _slack(need, rows, count)
    # What the least store has beyond the least that it needs costs nothing.
    free += max(0, LEAST_STORE_BYTES - in_flight - slack) - ahead * count
    waiting = min(free // 2, _more_waiting(need, rows, detectors))
    in_flight += int(max(0, min(waiting, store_bytes - in_flight - slack)))
    return MemoryPlan(
        limit_mb=limit_mb,
        batch_size=batch_size,
        row_bytes=rows.frames * need.frame_bytes,
        row_packets_bytes=rows.packets_bytes,
        in_flight_bytes=in_flight,
        slack_bytes=slack,
        decoders=count,
        decoder_bytes=need.decoding_bytes(rows.frames, rows.packets_bytes),
        ahead_bytes=ahead,
        carried_bytes=need.carried_bytes,
        packets_ahead_bytes=_rows_ahead(count) * rows.packets_bytes,
        cutting_bytes=need.cutting_bytes,
        heap_bytes=_heap(detectors),
        smallest_mb=smallest_mb(need, batch_size, detectors),
    )


def _heap(detectors: int) -> int:
    return _HEAP_BYTES + detectors * _HEAP_A_DETECTOR_BYTES


def _least_in_flight(need: Footprint, rows: _Rows, decoders: int, detectors: int) -> int:
    """Return what has to fit into the store for the job to move: some rows of pixels and of packets."""
    pixels = (_LEAST_WAITING * detectors + decoders - 1) * rows.frames * need.frame_bytes
    return pixels + (decoders + _rows_ahead(decoders)) * rows.packets_bytes


def _more_waiting(need: Footprint, rows: _Rows, detectors: int) -> int:
    return (_MOST_WAITING - _LEAST_WAITING) * detectors * rows.frames * need.frame_bytes


def _rows_ahead(decoders: int) -> int:
    """Return how many of the largest rows may wait: many decoders end at about the same time."""
    return 1 + decoders // 4


def _slack(need: Footprint, rows: _Rows, decoders: int) -> int:
    return (SLACK_ROWS + decoders - 1) * rows.frames * need.frame_bytes


def _total(need: Footprint, rows: _Rows, decoders: int, detectors: int) -> int:
    """Return the least, in bytes, with so many decoders."""
    needed = _least_in_flight(need, rows, decoders, detectors) + _slack(need, rows, decoders)
    return (
        max(LEAST_STORE_BYTES, needed)
        + decoders * need.decoding_bytes(rows.frames, rows.packets_bytes)
        + need.cutting_bytes
        + _heap(detectors)
    )


def smallest_mb(need: Footprint, batch_size: int, detectors: int) -> int:
    """Return the smallest cap that does for some footage, in MiB."""
    return math.ceil(_total(need, _least(need, batch_size), 1, detectors) / MIB)


def _too_small(limit_mb: int, need: Footprint, batch_size: int, detectors: int) -> str:
    least_mb = smallest_mb(need, batch_size, detectors)
    text = (
        f"memory_limit_mb = {limit_mb} is too little for this footage with batches of {batch_size} "
        f"frames: {least_mb} MB would do"
    )
    smaller = smallest_mb(need, 1, detectors)
    return f"{text}; with --batch-size auto, {smaller} MB" if smaller < least_mb else text


def check_store(plan: MemoryPlan, nodes: Sequence[Node]) -> None:
    """Make sure that the object store of every node of a cluster holds what the plan puts there.

    Raises:
        ConfigError: One is too small, so that Ray would spill.
    """
    for node in nodes:
        needed_bytes = plan.in_flight_bytes + plan.slack_bytes
        if node.store_bytes < needed_bytes:
            raise ConfigError(
                f"the object store of node {node.node_id[:8]} has {node.store_bytes // MIB} MB, and "
                f"memory_limit_mb = {plan.limit_mb} puts {math.ceil(needed_bytes / MIB)} MB "
                "there: give `ray start` a larger --object-store-memory, or the job a smaller "
                "--batch-size or --memory-limit-mb"
            )
