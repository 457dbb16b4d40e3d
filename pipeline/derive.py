"""Make a camera's refined tables of its online ones: no footage, no GPU, again at any time.

    ledger/frames, movements ──> refine ──> movement ──> OUTPUT/refined/movements, tracks
          online, in order            └──> events ──────> OUTPUT/refined/events, counts

A camera's refined tables are one generation. Its files get their names first; then the manifest that
lists them takes the place of the one before, by a rename; then the files of the generation before go.
What made it is in the manifest: what has not changed is not made again.

    OUTPUT/ledger/camera_id=.../refined.json
"""

import hashlib
import json
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from itertools import groupby
from pathlib import Path

import pyarrow.parquet as pq

from pipeline.areas import Areas, areas_of
from pipeline.atomic import FileEntry, remove, write_whole, writing
from pipeline.errors import OutputError
from pipeline.events import EventLog
from pipeline.ledger import CameraLedger, Part
from pipeline.movement import MovementLog, MovementSettings
from pipeline.online import OnlineLog
from pipeline.records import TrackedFrame
from pipeline.refine import Refiner, RefineSettings
from pipeline.scene import NOTHING, Scene
from pipeline.sink import PartWriter
from pipeline.tables import REFINED_TABLES, Provenance, camera_folder

FOLDER = "refined"
MANIFEST = "refined.json"
# Frames whose rows are made at once.
_FRAMES_AT_ONCE = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class DeriveSettings:
    """How a camera's refined tables are made.

    Attributes:
        refine: None leaves tracks as they are; events and counts are made of them.
        scene: What is drawn into the camera's picture.
        carry_over_s: As the online tracks were made with.
        end_s: A track that is not seen for longer has ended.
        movement_hz: Rows a second of each track; 0 means every frame.
        interval_s: Length of an interval of `counts`.
        part_bytes: About the size of a file.
    """

    refine: RefineSettings | None = field(default_factory=RefineSettings)
    scene: Scene = NOTHING
    carry_over_s: float = 2.0
    end_s: float = 0.1
    movement_hz: float = 0.0
    interval_s: float = 60.0
    part_bytes: float = 128e6


@dataclass(frozen=True, slots=True, kw_only=True)
class Refined:
    """A camera's generation of refined tables.

    Attributes:
        made_of: Hash of all that shaped it.
        files: Its tables.
        raw_tracks: Online tracks that it was made of.
        tracks: Its own.
        events: Rows of `events`.
    """

    camera_id: str
    made_of: str
    files: tuple[FileEntry, ...]
    frames: int = 0
    raw_tracks: int = 0
    tracks: int = 0
    events: int = 0


def read_refined(output: Path, camera_id: str) -> Refined | None:
    """Return a camera's refined generation; None if there is none.

    Raises:
        OutputError: Its manifest is damaged.
    """
    path = CameraLedger(output, camera_id).folder / MANIFEST
    try:
        plain = json.loads(path.read_bytes())
        plain["files"] = tuple(FileEntry(**each) for each in plain["files"])
        return Refined(**plain)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise OutputError(f"manifest {str(path)!r} is damaged: {error}") from error


def derive(output: Path, camera_id: str, settings: DeriveSettings) -> Refined | None:
    """Make a camera's refined tables, unless they are what they would become.

    The camera's lease must be held.

    Returns:
        The generation that is there now; None if the camera has no online log.

    Raises:
        ConfigError: The scene does not fit the camera's picture.
        OutputError: Something is damaged, or cannot be written.
    """
    ledger = CameraLedger(output, camera_id)
    parts = ledger.parts()
    if not parts:
        with writing(output):
            (ledger.folder / MANIFEST).unlink(missing_ok=True)
        sweep_refined(output, camera_id)
        return None
    made_of = _made_of(parts, settings)
    there = read_refined(output, camera_id)
    if there is not None and there.made_of == made_of:
        return there
    generation = _Generation(output, camera_id, parts, settings)
    for frames, is_end in _refined(generation.log, settings):
        generation.add(frames, is_end=is_end)
    refined = generation.publish(made_of)
    with writing(output):
        write_whole(ledger.folder / MANIFEST, _dump(refined))
    sweep_refined(output, camera_id)
    return refined


def sweep_refined(output: Path, camera_id: str) -> None:
    """Remove the camera's refined files that its manifest does not list.

    Raises:
        OutputError: They cannot be removed, or the manifest is damaged.
    """
    refined = read_refined(output, camera_id)
    kept = {file.path for file in refined.files} if refined else set()
    with writing(output):
        for path in list(refined_files(output, camera_id)):
            if path.relative_to(output).as_posix() not in kept:
                remove(path)


def refined_files(output: Path, camera_id: str) -> Iterator[Path]:
    """Yield all files of a camera below the refined tables, listed or not."""
    for name in REFINED_TABLES:
        folder = output / FOLDER / name / camera_folder(camera_id)
        yield from (path for path in folder.rglob("*") if path.is_file())


def _dump(refined: Refined) -> bytes:
    return (json.dumps(asdict(refined), indent=1) + "\n").encode()


def _made_of(parts: Sequence[Part], settings: DeriveSettings) -> str:
    """Return the hash of what shapes a generation; how its parts were merged does not."""
    covered: dict[str, list[object]] = {}
    for each in (covered for part in parts for covered in part.covered):
        before = covered.get(each.evidence_id, [0, 0, False])
        covered[each.evidence_id] = [
            max(int(str(before[0])), each.stop),
            int(str(before[1])) + each.movements,
            bool(before[2]) or each.is_ended,
        ]
    plain = [covered, parts[-1].track_hash, parts[-1].is_final, asdict(settings)]
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def _refined(
    log: OnlineLog, settings: DeriveSettings
) -> Iterator[tuple[Sequence[TrackedFrame], bool]]:
    """Yield stretches of refined frames, in order, each with whether every track ends behind it."""
    refiner = Refiner(settings.refine) if settings.refine else None
    held: list[TrackedFrame] = []
    for online in log.frames():
        if online.is_cut:
            yield [*held, *(refiner.flush() if refiner else ())], True
            held = []
        held += refiner.push(online.frame) if refiner else [online.frame]
        if len(held) >= _FRAMES_AT_ONCE:
            yield held, False
            held = []
    yield [*held, *(refiner.flush() if refiner else ())], True


class _Generation:
    """A camera's refined tables, while they are written."""

    def __init__(
        self, output: Path, camera_id: str, parts: Sequence[Part], settings: DeriveSettings
    ) -> None:
        self.log = OnlineLog(output, parts, settings.carry_over_s)
        self._output, self._camera_id, self._settings = output, camera_id, settings
        self._raw_tracks = sum(covered.tracks for part in parts for covered in part.covered)
        names = self.log.class_names
        self._movement = MovementLog(
            MovementSettings(class_names=names, end_s=settings.end_s, hz=settings.movement_hz)
        )
        self._events = EventLog(names, settings.interval_s)
        self._made_by = _provenance(output, parts)
        self._tag = uuid.uuid4().hex[:8]
        self._files: list[FileEntry] = []
        self._written = 0
        self._frames = self._tracks = self._event_rows = 0
        self._writer = self._new_writer()
        self._areas = cache(self._areas_of)

    def _areas_of(self, width: int, height: int) -> Areas:
        return areas_of(self._settings.scene, width, height, self._camera_id)

    def _new_writer(self) -> PartWriter:
        name = f"refined-{self._written:06}-{self._tag}"
        self._written += 1
        writer = PartWriter(self._output / FOLDER, self._camera_id, name, self._made_by)
        writer.tables = REFINED_TABLES
        return writer

    def add(self, frames: Iterable[TrackedFrame], *, is_end: bool) -> None:
        """Write the rows of the next frames; behind the end of all tracks, theirs too."""
        for areas, some in self._by_picture(frames):
            self._frames += len(some)
            self._writer.write("movements", self._movement.rows(some, areas))
            for frame in some:
                self._events.push(frame, areas)
        if is_end:
            self._events.cut()
        self._write_ended(is_end=is_end)

    def _write_ended(self, *, is_end: bool) -> None:
        tracks, events = self._movement.ended(all_of_them=is_end), self._events.events()
        self._tracks += len(tracks)
        self._event_rows += len(events)
        self._writer.write("tracks", tracks)
        self._writer.write("events", events)
        self._writer.write("counts", self._events.counts())
        if self._writer.size_bytes() >= self._settings.part_bytes:
            self._publish_writer()
            self._writer = self._new_writer()

    def _by_picture(
        self, frames: Iterable[TrackedFrame]
    ) -> Iterator[tuple[Areas, list[TrackedFrame]]]:
        for size, some in groupby(frames, key=lambda frame: frame.footage.track.upright_size):
            yield self._areas(*size), list(some)

    def _publish_writer(self) -> None:
        self._files += [
            replace(file, path=f"{FOLDER}/{file.path}") for file in self._writer.publish()
        ]

    def publish(self, made_of: str) -> Refined:
        """Give the files their names, and return what the manifest is to say."""
        self._events.flush()
        self._write_ended(is_end=True)
        self._publish_writer()
        return Refined(
            camera_id=self._camera_id,
            made_of=made_of,
            files=tuple(self._files),
            frames=self._frames,
            raw_tracks=self._raw_tracks,
            tracks=self._tracks,
            events=self._event_rows,
        )


def _provenance(output: Path, parts: Sequence[Part]) -> Provenance:
    """Return what the footers of the newest online rows say."""
    path = next(f.path for f in parts[-1].files if f.path.startswith("movements/"))
    try:
        footer = pq.read_metadata(output / path).metadata
        return Provenance(
            **{
                name: footer[f"footfall.{name}".encode()].decode()
                for name in ("run_id", "config_hash", "model_hash")
            }
        )
    except (OSError, KeyError, ValueError) as error:
        raise OutputError(f"{path!r} cannot be read: {error}") from error
