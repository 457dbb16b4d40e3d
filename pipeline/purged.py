"""What was purged of an output: rules that outlive the rows, for what was purged stays away.

    OUTPUT/ledger/purged/PURGE.json               what is not to be here, nor to come again
    OUTPUT/ledger/camera_id=.../purging.json      the purge whose rows are to go from this camera yet
                                begin.json        what tracking begins with, behind what is gone
                                begin-refined.json    which refined track_id comes next

First the mark of each camera, then the rule, then rows go, then the mark. Who dies between leaves a
mark, and whoever has the camera's lease next takes away what is left (`purge`). A mark without its rule
means nothing. A rule names footage by recording and video track: whatever the recording is by then, and
whosever it has become, it stays away. A rule with a moment keeps away all footage of its cameras before
it too, seen or not.
"""

import json
import uuid
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from typing import Any

from pipeline.atomic import look_if_there, remove, write_whole, writing
from pipeline.errors import OutputError
from pipeline.ledger import FOLDER, CameraLedger, cameras_of, sealed, unsealed
from pipeline.records import Footage
from pipeline.store import files, read, shown

RULES = "purged"
MARK, BEGIN, BEGIN_REFINED = "purging.json", "begin.json", "begin-refined.json"
# A recording and a video track.
FootageName = tuple[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class PurgedFootage:
    """Footage that a purge took away as a whole.

    Attributes:
        frames: That had been looked at.
    """

    camera_id: str
    source_uri: str
    video_track: int
    frames: int

    @property
    def name(self) -> FootageName:
        """Its recording and video track."""
        return self.source_uri, self.video_track


@dataclass(frozen=True, slots=True, kw_only=True)
class Purge:
    """What is not to be in an output any more.

    Attributes:
        name: Its own.
        cameras: Camera ids, or globs of them.
        before: Frames of these cameras before this moment; None if the footage alone is meant.
        footage: What went as a whole.
        frames_cut: Frames that went of other footage, which the moment lies in.
    """

    name: str
    cameras: tuple[str, ...]
    before: datetime | None
    footage: tuple[PurgedFootage, ...]
    frames_cut: int = 0

    def is_about(self, camera_id: str) -> bool:
        """Say whether it is about a camera."""
        return any(camera_id == each or fnmatchcase(camera_id, each) for each in self.cameras)

    @property
    def footage_names(self) -> set[FootageName]:
        """Recording and video track of what went as a whole."""
        return {each.name for each in self.footage}

    def to_bytes(self) -> bytes:
        """Return its file's content."""
        before = self.before.isoformat() if self.before else None
        return sealed(json.loads(json.dumps({**asdict(self), "before": before})))


def new_name() -> str:
    """Return a purge's name: they are in order of time."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:8]}"


@dataclass(frozen=True, kw_only=True)
class Purges:
    """All that was purged of an output."""

    each: tuple[Purge, ...] = ()

    @cached_property
    def footage(self) -> Mapping[FootageName, PurgedFootage]:
        """What went as a whole, by recording and video track."""
        return {one.name: one for purge in self.each for one in purge.footage}

    @property
    def frames(self) -> int:
        """How many frames that had been looked at went."""
        cut = sum(purge.frames_cut for purge in self.each)
        return cut + sum(one.frames for one in self.footage.values())

    def moments(self, camera_id: str) -> list[datetime]:
        """Return the moments before which a camera was purged, the latest last."""
        return sorted(each.before for each in self.each if each.before and each.is_about(camera_id))

    def before(self, camera_id: str) -> datetime | None:
        """Return the moment before which nothing of a camera is to be here; None if there is none."""
        return max(self.moments(camera_id), default=None)

    def holds(self, footage: Footage) -> bool:
        """Say whether nothing of a footage is to be here."""
        if (footage.source_uri, footage.track.video_track) in self.footage:
            return True
        return is_before(footage, self.before(footage.key.camera_id))


NOTHING_PURGED = Purges()


def is_before(footage: Footage, before: datetime | None) -> bool:
    """Say whether a footage ended before a moment, as far as its times tell."""
    start, length_s = footage.start_time, footage.track.duration_s
    if before is None or start is None or length_s is None:
        return False
    return start + timedelta(seconds=length_s) <= before


def read_purges(output: Path) -> Purges:
    """Return what was purged of an output; nothing if there is none.

    Raises:
        OutputError: A rule is damaged.
    """
    return Purges(each=tuple(map(_read, files(output / FOLDER / RULES, "*.json"))))


def _read(path: Path) -> Purge:
    try:
        plain = unsealed(read(path))
        return Purge(
            name=plain["name"],
            cameras=tuple(plain["cameras"]),
            before=datetime.fromisoformat(plain["before"]) if plain["before"] else None,
            footage=tuple(PurgedFootage(**each) for each in plain["footage"]),
            frames_cut=plain["frames_cut"],
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise OutputError(
            f"{shown(path)!r}, which tells what was purged, is damaged: {error}"
        ) from error


def write_purge(output: Path, purge: Purge, cameras: Iterable[str]) -> None:
    """Write down a purge, and that rows of cameras are to go; their leases must be held.

    Raises:
        OutputError: It cannot be written.
    """
    with writing(output):
        for camera_id in cameras:
            mark = json.dumps({"purge": purge.name}).encode()
            write_whole(CameraLedger(output, camera_id).folder / MARK, mark)
        write_whole(output / FOLDER / RULES / f"{purge.name}.json", purge.to_bytes())


def marked(output: Path, cameras: Collection[str] | None = None) -> dict[str, str]:
    """Return the cameras, of some or all, that rows are to go from yet, each with its purge's name."""
    found = {}
    for camera_id in cameras_of(output) if cameras is None else cameras:
        seen = look_if_there(CameraLedger(output, camera_id).folder / MARK)
        if seen is not None:
            found[camera_id] = str(json.loads(seen.content)["purge"])
    return found


def unmark(output: Path, camera_id: str) -> None:
    """Take note that all rows of a camera that were to go have gone.

    Raises:
        OutputError: It cannot be written.
    """
    with writing(output):
        remove(CameraLedger(output, camera_id).folder / MARK)


@dataclass(frozen=True, slots=True, kw_only=True)
class Begin:
    """What tracking begins with behind what was purged.

    Attributes:
        tracker: State of the tracker: ids go on, and nobody is in view.
        clock: State of the camera's clock.
    """

    tracker: dict[str, Any]
    clock: dict[str, Any]


def write_begin(output: Path, camera_id: str, track_hash: str, begin: Begin) -> None:
    """Write down what tracking begins with behind what was purged; no id is given again.

    Raises:
        OutputError: It cannot be written.
    """
    before = read_begin(output, camera_id, track_hash)
    next_id = max(begin.tracker["next_id"], before.tracker["next_id"] if before else 1)
    tracker = {**begin.tracker, "next_id": next_id}
    plain = {"track_hash": track_hash, "tracker": tracker, "clock": begin.clock}
    with writing(output):
        write_whole(CameraLedger(output, camera_id).folder / BEGIN, sealed(plain))


def read_begin(output: Path, camera_id: str, track_hash: str) -> Begin | None:
    """Return what a camera's log begins with; None if it begins as a new one.

    Args:
        output: Root of the tables.
        camera_id: The camera.
        track_hash: Of the settings that tracks are made with; ids of others are counted anew.

    Raises:
        OutputError: It is damaged.
    """
    path = CameraLedger(output, camera_id).folder / BEGIN
    seen = look_if_there(path)
    if seen is None:
        return None
    try:
        plain = unsealed(seen.content)
        begin = Begin(tracker=plain["tracker"], clock=plain["clock"])
        return begin if plain["track_hash"] == track_hash else None
    except (ValueError, KeyError, TypeError) as error:
        raise OutputError(f"{shown(path)!r} is damaged: {error}") from error


def write_refined_id(output: Path, camera_id: str, next_id: int) -> None:
    """Write down which refined track_id comes behind those that were purged.

    Raises:
        OutputError: It cannot be written.
    """
    if next_id > read_refined_id(output, camera_id):
        with writing(output):
            path = CameraLedger(output, camera_id).folder / BEGIN_REFINED
            write_whole(path, sealed({"next_id": next_id}))


def read_refined_id(output: Path, camera_id: str) -> int:
    """Return the refined track_id that a camera's generation begins with.

    Raises:
        OutputError: What tells it is damaged.
    """
    path = CameraLedger(output, camera_id).folder / BEGIN_REFINED
    seen = look_if_there(path)
    try:
        return int(unsealed(seen.content)["next_id"]) if seen else 1
    except (ValueError, KeyError, TypeError) as error:
        raise OutputError(f"{shown(path)!r} is damaged: {error}") from error
