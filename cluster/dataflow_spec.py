"""What a job is made of on the cluster: the footage, the settings of each step, the workers."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from cluster.memory import MemoryPlan
from cluster.nodes import Node
from cluster.pools import Pools, decoding_nodes
from cluster.stages import Cut, Source, WarmUp
from cluster.supervisor import FailureLimit
from pipeline.backend import DetectSettings
from pipeline.decode import DecodeSettings
from pipeline.demux import DemuxSettings
from pipeline.labels import LabelSettings
from pipeline.part import LogSettings
from pipeline.records import Footage, FootageKey
from pipeline.tail import Missing, Tail

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
        return WarmUp(letterbox=largest, frames=self.memory.batch_size)

    def packets_ahead_bytes(self, nodes: Sequence[Node]) -> int:
        """Return what packets may wait for decoders, over all nodes."""
        decoding = decoding_nodes(self.pools.places, nodes)
        return self.memory.packets_ahead_bytes * max(1, decoding)

    def in_flight_bytes(self, nodes: Sequence[Node]) -> int:
        """Return what may lie in the store of all nodes: frame batches wait where they were decoded."""
        return self.memory.in_flight_bytes * max(1, decoding_nodes(self.pools.places, nodes))

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
