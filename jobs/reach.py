"""Which recordings of an inventory a run reaches, by their names alone: the others are never opened.

    a million keys ── began in time? ──> the --limit oldest ──> this shard's ──> probed

Of a folder or a prefix everything is probed, and shards are made by the frames that are there. Here
they are made by bytes, camera by camera; recordings that no camera is known of go by a hash of their
address, and bear the whole of it as their name. Memory is what this shard's share takes.
"""

import hashlib
import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from jobs.found import Found, shard_of_cameras
from jobs.settings import JobSettings
from jobs.told import Told
from pipeline.cameras import CameraRule
from pipeline.discover import each_once, each_recording
from pipeline.identity import Age, age_of
from pipeline.inventory import is_inventory
from pipeline.records import Listed
from pipeline.window import FootageWindow

# One that began longer before --from is taken to have ended by then.
LONGEST_RECORDING_S = 7 * 86_400


class Reach:
    """Decides what is looked at, and which shard does what.

    Attributes:
        unopened: Recordings that were listed, and are left out.
    """

    def __init__(self, settings: JobSettings, told: Told) -> None:
        """Begin; nothing is read yet."""
        self._settings, self._told = settings, told
        self._index, self._count = settings.shard_of
        since, until = settings.moments
        self._window = FootageWindow(since=since, until=until)
        self._shards: dict[str, int] = {}
        self.unopened = self._listed = 0

    def recordings(self) -> list[Listed]:
        """Return the recordings to probe, sorted by address.

        Raises:
            ConfigError: An input cannot be read, or names no recording.
        """
        within: Iterable[Listed] = self._in_time()
        if self._settings.limit:
            within = heapq.nsmallest(self._settings.limit, within, key=self._age)
            self._spread(within)
        elif self._count > 1 and (self._told.rules or self._settings.camera_id):
            self._spread(within)
            within = self._in_time()
        recordings = each_once(self._own(within))
        self.unopened = self._listed - len(recordings)
        return recordings

    def _in_time(self) -> Iterator[Listed]:
        self._listed = 0
        for listed in each_recording(self._settings.input, self._settings.aws):
            self._listed += 1
            starts = self._starts(listed.source_uri)
            if not starts or not all(map(self._misses, starts)):
                yield listed

    def _misses(self, start: datetime | None) -> bool:
        return self._window.misses(start, LONGEST_RECORDING_S)

    def _starts(self, source_uri: str) -> list[datetime | None]:
        """Return when a recording began, as far as names tell it, for each camera that it may be of."""
        if self._window.is_open and not self._settings.limit:
            return []
        rules: Sequence[CameraRule | None] = self._rules(source_uri) or [None]
        return [self._told.start(source_uri, rule)[0] for rule in rules]

    def _rules(self, source_uri: str) -> list[CameraRule]:
        return [rule for rule in self._told.rules if rule.films(source_uri)]

    def _age(self, listed: Listed) -> Age:
        starts = [start for start in self._starts(listed.source_uri) if start]
        return age_of(min(starts, default=datetime.min.replace(tzinfo=UTC)), listed.source_uri)

    def _spread(self, listed: Iterable[Listed]) -> None:
        """Give each camera that is known by name its shard, by the bytes that there are of it."""
        loads: dict[str, float] = {}
        for each in listed:
            for camera_id in self._cameras(each.source_uri):
                loads[camera_id] = loads.get(camera_id, 0.0) + each.size_bytes
        self._shards = shard_of_cameras(loads, self._count)

    def _cameras(self, source_uri: str) -> list[str]:
        """Return the cameras that a recording may be of, as far as their names are known."""
        ids = [rule.id for rule in self._rules(source_uri)]
        given = [self._settings.camera_id] if self._settings.camera_id else []
        return ids or given

    def _shard(self, camera_id: str) -> int:
        return self._shards.get(camera_id, 0)

    def _shards_of(self, source_uri: str) -> list[int]:
        """Return the shards that have to do with a recording; the first has its nameless tracks."""
        if cameras := self._cameras(source_uri):
            return [self._shard(camera_id) for camera_id in cameras]
        digest = hashlib.sha256(source_uri.encode(errors="backslashreplace")).digest()
        return [int.from_bytes(digest[:8], "big") % self._count]

    def _own(self, listed: Iterable[Listed]) -> Iterator[Listed]:
        for each in listed:
            if self._index in self._shards_of(each.source_uri):
                yield each

    def tells_of(self, source_uri: str) -> bool:
        """Say whether it is this shard that tells what is wrong with a recording."""
        return self._shards_of(source_uri)[0] == self._index

    def shared(self, found: Sequence[Found]) -> list[Found]:
        """Skip the video tracks of other shards."""
        shards = [self._shard_of(each) for each in found]
        return [
            replace(each, skipped=f"in shard {shard}/{self._count}")
            if not each.skipped and shard != self._index
            else each
            for each, shard in zip(found, shards, strict=True)
        ]

    def _shard_of(self, found: Found) -> int:
        uri = found.footage.source_uri
        rule = self._told.rule(uri, found.footage.track.video_track)
        return self._shard(rule.id) if rule else self._shards_of(uri)[0]


def reach_of(settings: JobSettings, told: Told) -> Reach | None:
    """Return what decides by names, if there is an inventory among the inputs."""
    return Reach(settings, told) if any(map(is_inventory, settings.input)) else None


def whole_name(source_uri: str) -> str:
    """Return the name of a recording that is the same whatever else there is."""
    return source_uri.removeprefix("s3://").strip("/")
