"""Make a camera's refined tables of its online ones: no footage, no GPU, again at any time.

    ledger/frames, movements ──> refine ──> movement ──> OUTPUT/refined/movements, tracks
          online, in order            └──> events ──────> OUTPUT/refined/events, counts

A camera's refined tables are one generation. Its files get their names when all are whole; then the
manifest that lists them takes the place of the one before, by a rename; then the files of the
generation before go. What made it is in the manifest: what has not changed is not made again.
"""

import hashlib
import json
import logging
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from itertools import groupby
from pathlib import Path

from pipeline.areas import Areas, areas_of
from pipeline.atomic import remove, write_whole, writing
from pipeline.aws import AwsSettings
from pipeline.errors import OutputError
from pipeline.events import EventLog
from pipeline.identity import from_plain
from pipeline.lease import check_held
from pipeline.ledger import CameraLedger, Part
from pipeline.movement import MovementLog, MovementSettings
from pipeline.online import OnlineLog
from pipeline.purged import read_refined_id
from pipeline.records import TrackedFrame
from pipeline.refine import Refiner, RefineSettings
from pipeline.refined import FOLDER, MANIFEST, Refined, is_there, read_refined, sweep_refined
from pipeline.scene import NOTHING, Scene
from pipeline.sink import MOST_DATES, PartWriter, made_by
from pipeline.store import fetched, reach_s3
from pipeline.tables import REFINED_TABLES, Provenance

log = logging.getLogger(__name__)
# Of how tables are made of tables: what an older one made is made again.
ALGORITHM = 2
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


def current(output: Path, camera_id: str, settings: DeriveSettings) -> Refined | None:
    """Return a camera's generation, if it is there whole and is what it would be made into.

    Raises:
        OutputError: The ledger is damaged.
    """
    try:
        there = read_refined(output, camera_id)
    except OutputError as error:
        log.warning("%s: it is made again", error)
        return None
    parts = CameraLedger(output, camera_id).parts()
    if there is None or not parts or there.made_of != _made_of(parts, settings):
        return None
    return there if all(is_there(output, file) for file in there.files) else None


def check_scenes(output: Path, scenes: Mapping[str, Scene]) -> None:
    """Make sure that scenes, by camera, fit all the footage of the cameras that is in an output.

    Raises:
        ConfigError: One does not.
        OutputError: A ledger is damaged.
    """
    for camera_id, scene in scenes.items():
        parts = CameraLedger(output, camera_id).parts() if scene != NOTHING else ()
        for covered in (covered for part in parts for covered in part.covered):
            areas_of(scene, *from_plain(covered.footage).track.upright_size, camera_id)


def derive_in_process(
    aws: AwsSettings, output: Path, camera_id: str, settings: DeriveSettings, attempt_id: str
) -> Refined | None:
    """Be `derive`, in a process that does not know yet how S3 is reached."""
    reach_s3(aws)
    return derive(output, camera_id, settings, attempt_id)


def derive(
    output: Path, camera_id: str, settings: DeriveSettings, attempt_id: str = ""
) -> Refined | None:
    """Make a camera's refined tables, unless they are what they would become.

    The camera's lease must be held.

    Args:
        output: Root of the tables.
        camera_id: Whose.
        settings: How they are made.
        attempt_id: Who holds the lease; it is looked at again before anything is replaced.

    Returns:
        The generation that is there now; None if the camera has no online log.

    Raises:
        ConfigError: The scene does not fit the camera's picture.
        OutputError: Something is damaged, or cannot be written, or another run has the camera.
    """
    ledger = CameraLedger(output, camera_id)
    parts = ledger.parts()
    if not parts:
        with writing(output):
            remove(ledger.folder / MANIFEST)
        sweep_refined(output, camera_id)
        return None
    there = current(output, camera_id, settings)
    if there is not None:
        sweep_refined(output, camera_id)
        return there
    generation = _Generation(output, camera_id, parts, settings)
    first_id = read_refined_id(output, camera_id)
    refiner = Refiner(settings.refine, first_id) if settings.refine else None
    for frames, is_end in _refined(generation.log, refiner):
        generation.add(frames, is_end=is_end)
    if attempt_id:
        check_held(output, camera_id, attempt_id)
    refined = generation.publish(unsure=refiner.unsure if refiner else 0)
    with writing(output):
        write_whole(ledger.folder / MANIFEST, _dump(refined))
    sweep_refined(output, camera_id)
    return refined


def _dump(refined: Refined) -> bytes:
    return (json.dumps(asdict(refined), indent=1) + "\n").encode()


def _made_of(parts: Sequence[Part], settings: DeriveSettings) -> str:
    """Return the hash of what shapes a generation; how its parts were merged does not."""
    covered: dict[str, tuple[int, int, int, bool]] = {}
    for each in (covered for part in parts for covered in part.covered):
        stop, movements, frames, is_ended = covered.get(each.evidence_id, (0, 0, 0, False))
        covered[each.evidence_id] = (
            max(stop, each.stop),
            movements + each.movements,
            frames + each.frames,
            is_ended or each.is_ended,
        )
    plain = [ALGORITHM, covered, parts[-1].track_hash, parts[-1].is_final, asdict(settings)]
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def _refined(
    log: OnlineLog, refiner: Refiner | None
) -> Iterator[tuple[Sequence[TrackedFrame], bool]]:
    """Yield stretches of refined frames, in order, each with whether every track ends behind it."""
    held: list[TrackedFrame] = []
    for online in log.frames():
        if online.is_cut:
            yield [*held, *(refiner.flush() if refiner else ())], True
            held = []
        if refiner:
            held += refiner.push(online.frame)
        elif online.frame.is_looked_at:
            # Nobody fills the others, and nobody has left in them.
            held.append(online.frame)
        if len(held) >= _FRAMES_AT_ONCE:
            yield held, False
            held = []
    yield [*held, *(refiner.flush() if refiner else ())], True


class _Generation:
    """A camera's refined tables, while they are written."""

    def __init__(
        self, output: Path, camera_id: str, parts: Sequence[Part], settings: DeriveSettings
    ) -> None:
        self.log = OnlineLog(output, parts, settings.carry_over_s, settings.end_s)
        self._made_of = _made_of(parts, settings)
        self._output, self._camera_id, self._settings = output, camera_id, settings
        self._raw_tracks = sum(covered.tracks for part in parts for covered in part.covered)
        names = self.log.class_names
        self._movement = MovementLog(
            MovementSettings(class_names=names, end_s=settings.end_s, hz=settings.movement_hz)
        )
        self._events = EventLog(names, settings.interval_s)
        self._made_by = replace(_provenance(output, parts), config_hash=self._made_of)
        self._tag = uuid.uuid4().hex[:8]
        self._writers: list[PartWriter] = []
        self._frames = self._tracks = self._event_rows = 0
        self._writer = self._new_writer()
        self._areas = cache(self._areas_of)

    def _areas_of(self, width: int, height: int) -> Areas:
        return areas_of(self._settings.scene, width, height, self._camera_id)

    def _new_writer(self) -> PartWriter:
        name = f"refined-{len(self._writers):06}-{self._tag}"
        writer = PartWriter(self._output / FOLDER, self._camera_id, name, self._made_by)
        writer.tables = REFINED_TABLES
        self._writers.append(writer)
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
        is_large = self._writer.size_bytes() >= self._settings.part_bytes
        if is_large or self._writer.dates >= MOST_DATES:
            # Whole, but without a name: a generation is there at once, or not at all.
            self._writer.finish()
            self._writer = self._new_writer()

    def _by_picture(
        self, frames: Iterable[TrackedFrame]
    ) -> Iterator[tuple[Areas, list[TrackedFrame]]]:
        for size, some in groupby(frames, key=lambda frame: frame.footage.track.upright_size):
            yield self._areas(*size), list(some)

    def publish(self, *, unsure: int) -> Refined:
        """Give the files their names, and return what the manifest is to say."""
        self._events.flush()
        self._write_ended(is_end=True)
        files = [file for writer in self._writers for file in writer.publish()]
        return Refined(
            camera_id=self._camera_id,
            made_of=self._made_of,
            files=tuple(replace(file, path=f"{FOLDER}/{file.path}") for file in files),
            frames=self._frames,
            raw_tracks=self._raw_tracks,
            tracks=self._tracks,
            unsure=unsure,
            events=self._event_rows,
        )


def _provenance(output: Path, parts: Sequence[Part]) -> Provenance:
    """Return what the footers of the newest online rows say."""
    path = next(f.path for f in parts[-1].files if f.path.startswith("movements/"))
    try:
        with fetched(output / path) as (there,):
            return made_by(there)
    except (OSError, ValueError) as error:
        raise OutputError(f"{path!r} cannot be read: {error}") from error
