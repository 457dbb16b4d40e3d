"""What was found among the inputs, and which of it a job works on: limits, shards, what failed."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from jobs.settings import JobSettings
from pipeline.aws import is_s3
from pipeline.identity import age
from pipeline.purged import Purges
from pipeline.records import Failure, Footage, Recording

# A day's frames need not be asked one by one for their time of day.
_MOST_LOOKED_AT = 1440
PURGED = "purged"


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A video track that was found.

    Attributes:
        skipped: Why nothing will be done with it; "" if something will.
    """

    footage: Footage
    recording: Recording
    skipped: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """All that was found, and what could not be read.

    Attributes:
        found: Oldest first.
        uris: The addresses of all recordings that were looked at.
        identities: What tells that a recording has changed, by its address.
        storage_classes: How many of the recordings S3 keeps in each of its classes.
        unopened: Recordings that were left out by their names alone; see `reach`.
    """

    found: tuple[Found, ...]
    failures: tuple[Failure, ...]
    identities: Mapping[str, str] = field(default_factory=dict)
    uris: tuple[str, ...] = ()
    storage_classes: Mapping[str, int] = field(default_factory=dict)
    unopened: int = 0

    @property
    def wanted(self) -> list[Found]:
        """The video tracks that will be worked on."""
        return [found for found in self.found if not found.skipped]

    @property
    def skipped(self) -> list[Found]:
        """The video tracks that nothing will be done with."""
        return [found for found in self.found if found.skipped]

    @property
    def by_camera(self) -> dict[str, list[Footage]]:
        """The wanted footage of each camera, oldest first."""
        cameras: dict[str, list[Footage]] = {}
        for found in self.wanted:
            cameras.setdefault(found.footage.key.camera_id, []).append(found.footage)
        return cameras

    @property
    def cameras(self) -> list[str]:
        """The cameras of the wanted footage."""
        return list(self.by_camera)


def limited(settings: JobSettings, found: Iterable[Found]) -> list[Found]:
    """Skip what lies beyond the limit on recordings; return all, oldest first."""
    oldest_first = sorted(found, key=lambda f: age(f.footage))
    uris = list(dict.fromkeys(f.footage.source_uri for f in oldest_first if not f.skipped))
    beyond = set(uris[settings.limit :]) if settings.limit else set()
    return [
        replace(f, skipped="beyond --limit")
        if f.footage.source_uri in beyond and not f.skipped
        else f
        for f in oldest_first
    ]


def without_purged(found: Iterable[Found], purges: Purges) -> list[Found]:
    """Skip what was purged, and narrow what was purged in part down to the rest."""
    return [_without_purged(each, purges) for each in found]


def _without_purged(found: Found, purges: Purges) -> Found:
    footage = found.footage
    if found.skipped or purges.holds(footage):
        return replace(found, skipped=found.skipped or PURGED)
    before = purges.before(footage.key.camera_id)
    if before is None or footage.start_time is None or footage.start_time >= before:
        return found
    since = max(before, footage.window.since or before)
    return replace(found, footage=replace(footage, window=replace(footage.window, since=since)))


def only_failed(
    found: Survey, failed: Collection[tuple[str, int]], unread: Collection[str]
) -> Survey:
    """Skip all but the footage that something failed in.

    Args:
        found: All there is.
        failed: The video tracks of which something is missing.
        unread: The recordings that could not be read at all.
    """
    return replace(
        found,
        found=tuple(
            each
            if (each.footage.source_uri, each.footage.track.video_track) in failed
            or each.footage.source_uri in unread
            else replace(each, skipped=each.skipped or "nothing failed in it")
            for each in found.found
        ),
    )


def shard_of_cameras(loads: Mapping[str, float], count: int) -> dict[str, int]:
    """Spread cameras over shards, the largest first, each to the one that has least so far.

    Args:
        loads: Work of each camera, in whatever unit.
        count: Number of shards.
    """
    taken = [0.0] * count
    shards = {}
    for camera_id in sorted(loads, key=lambda camera_id: (-loads[camera_id], camera_id)):
        shards[camera_id] = min(range(count), key=lambda shard: taken[shard])
        # A camera without a known length is some work too.
        taken[shards[camera_id]] += loads[camera_id] or 1.0
    return shards


def shared(settings: JobSettings, found: Sequence[Found]) -> list[Found]:
    """Skip the cameras of other shards."""
    index, count = settings.shard_of
    loads: dict[str, float] = {}
    for each in found:
        if not each.skipped:
            camera_id = each.footage.key.camera_id
            loads[camera_id] = loads.get(camera_id, 0.0) + each.footage.track.expected_frames
    shards = shard_of_cameras(loads, count)
    return [
        replace(f, skipped=f"in shard {shard}/{count}")
        if not f.skipped and (shard := shards[f.footage.key.camera_id]) != index
        else f
        for f in found
    ]


def within(footage: Footage, frames: int) -> int:
    """Return about how many of a footage's frames lie in its window.

    Args:
        footage: The footage.
        frames: Of it, evenly spread: all, or those of some purpose.
    """
    duration_s = footage.track.duration_s
    if footage.window.is_open or not duration_s or not frames:
        return frames
    looked_at = min(frames, _MOST_LOOKED_AT)
    offsets_s = np.linspace(0.0, duration_s, looked_at, endpoint=False)
    wanted = footage.window.holds(footage.start_time, offsets_s)
    return round(frames * float(wanted.mean()))


def disk_bytes(settings: JobSettings, found: Survey) -> float:
    """Return what recordings of S3 take of a node's disk at most, while they are read."""
    sizes = {
        each.recording.source_uri: each.recording.size_bytes
        for each in found.wanted
        if is_s3(each.recording.source_uri)
    }
    return min(settings.cache.most_bytes, sum(sizes.values()))
