"""What is committed: for each camera a chain of parts, each an entry of its own.

    OUTPUT/ledger/camera_id=.../part-000000-000003.json     parts 0 to 3, merged into one
                                part-000004-000004.json
                                frames-000004-000004-TAG.parquet

A part is committed when its entry has its name: its files lie there by then, under names that no
other part has. What no entry names is a dead run's, and is swept. An entry whose numbers lie within
another's was merged into it. To take back the end of a chain, its entries are removed, last first: at
each moment what is left is a chain that holds.
"""

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pipeline.atomic import FileEntry, remove, write_whole, writing
from pipeline.errors import OutputError
from pipeline.records import Failure
from pipeline.store import files, folders, read, shown, walk
from pipeline.tables import SCHEMAS, camera_folder, camera_of_folder

FOLDER = "ledger"
_ENTRY = re.compile(r"part-(\d{6,})-(\d{6,})\.json")
_PARTITIONED = ("detections", "movements", "tracks")


@dataclass(slots=True, kw_only=True)
class Covered:
    """What a part holds of one footage.

    Attributes:
        footage: The footage, plain (see `identity`).
        first: First of its segments.
        stop: Behind the last; equal to `first` where only rows that were held back are here.
        is_ended: The footage's end is in this part.
        failures: What was set aside: (segment, or None for the footage as a whole; failure).
    """

    footage: dict[str, Any]
    first: int
    stop: int
    is_ended: bool = False
    frames: int = 0
    frames_failed: int = 0
    detections: int = 0
    movements: int = 0
    tracks: int = 0
    failures: list[tuple[int | None, Failure]] = field(default_factory=list)

    @property
    def key(self) -> tuple[str, int]:
        """The footage's recording and video track."""
        return self.footage["source_uri"], self.footage["track"]["video_track"]

    @property
    def evidence_id(self) -> str:
        """Hash of what the detections were made from."""
        return str(self.footage["evidence_id"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A committed part of a camera's log.

    Attributes:
        first: Its number; a merged part has those from `first` to `last`.
        track_hash: Of the settings that turned detections into tracks.
        config_hash: Of all settings that change results, and the model.
        is_final: The log was closed behind it: every track has ended, nothing is held back.
        state: Of tracking behind it, as JSON.
    """

    camera_id: str
    first: int
    last: int
    track_hash: str
    config_hash: str
    is_final: bool
    covered: tuple[Covered, ...]
    files: tuple[FileEntry, ...]
    state: dict[str, Any] = field(repr=False, default_factory=dict)

    @property
    def name(self) -> str:
        """The entry's file name."""
        return f"part-{self.first:06}-{self.last:06}.json"

    def to_bytes(self) -> bytes:
        """Return the entry's file: its content, and a hash of it."""
        return sealed(asdict(self))


def sealed(plain: dict[str, Any]) -> bytes:
    """Return an entry's file: its content, and a hash of it."""
    return _dump({**plain, "sha256": hashlib.sha256(_dump(plain)).hexdigest()})


def unsealed(content: bytes) -> dict[str, Any]:
    """Return the content of an entry's file.

    Raises:
        ValueError: It is not what was written.
    """
    plain: dict[str, Any] = json.loads(content)
    digest = plain.pop("sha256")
    # Dumped anew and compared: a changed byte shows wherever it is.
    if hashlib.sha256(_dump(plain)).hexdigest() != digest:
        raise ValueError("its hash is another")
    if _dump({**plain, "sha256": digest}) != content:
        raise ValueError("its bytes are not those that were written")
    return plain


def _dump(plain: dict[str, Any]) -> bytes:
    return (json.dumps(plain, sort_keys=True) + "\n").encode()


def parse_part(content: bytes) -> Part:
    """Return the part that an entry's file tells of.

    Raises:
        ValueError: It is not what was written.
    """
    plain = unsealed(content)
    covered = tuple(
        Covered(
            **{
                **each,
                "failures": [(n, Failure(**failure)) for n, failure in each["failures"]],
            }
        )
        for each in plain.pop("covered")
    )
    files = tuple(FileEntry(**each) for each in plain.pop("files"))
    return Part(**plain, covered=covered, files=files)


class CameraLedger:
    """The committed parts of one camera."""

    def __init__(self, output: Path, camera_id: str) -> None:
        self._output = output
        self._camera_id = camera_id
        self.folder = output / FOLDER / camera_folder(camera_id)

    def entries(self) -> list[tuple[Path, int, int]]:
        """Return the entries' files with their first and last numbers, merged ones left out."""
        found = [
            (path, int(match[1]), int(match[2]))
            for path in files(self.folder, "part-*.json")
            if (match := _ENTRY.fullmatch(path.name))
        ]
        found.sort(key=lambda entry: (entry[1], -entry[2]))
        kept: list[tuple[Path, int, int]] = []
        for entry in found:
            if not kept or entry[2] > kept[-1][2]:
                kept.append(entry)
        return kept

    def parts(self) -> list[Part]:
        """Return the chain of parts, in order.

        Raises:
            OutputError: An entry is damaged, or one is missing.
        """
        parts: list[Part] = []
        for path, first, _ in self.entries():
            try:
                part = parse_part(read(path))
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise OutputError(
                    f"ledger entry {shown(path)!r} is damaged ({error}); `footfall verify` tells more"
                ) from error
            if first != (parts[-1].last + 1 if parts else 0):
                raise OutputError(
                    f"ledger of camera {self._camera_id!r}: no part before {path.name}"
                )
            parts.append(part)
        return parts

    def check_next(self, number: int) -> None:
        """Make sure that part `number` is the next: that nobody else has gone on with the chain.

        Raises:
            OutputError: Somebody has.
        """
        last = max((last for _, _, last in self.entries()), default=-1)
        if last != number - 1:
            raise OutputError(
                f"camera {self._camera_id!r} of output {shown(self._output)!r} was gone on with by "
                f"another run: its last part is {last}, not {number - 1}"
            )

    def commit(self, part: Part) -> None:
        """Enter a part whose files have their names: from now on it counts.

        Raises:
            OutputError: The entry cannot be written.
        """
        with writing(self._output):
            write_whole(self.folder / part.name, part.to_bytes())

    def take_back(self, part: Part) -> None:
        """Remove a part that is the last of its chain, and its files.

        Raises:
            OutputError: They cannot be removed.
        """
        with writing(self._output):
            remove(self.folder / part.name)
            for file in part.files:
                remove(self._output / file.path)

    def sweep(self) -> list[Path]:
        """Remove the camera's files that no entry names; return them.

        Raises:
            OutputError: They cannot be removed.
        """
        kept = {file.path for part in self.parts() for file in part.files}
        entries = {path for path, _, _ in self.entries()}
        swept = []
        with writing(self._output):
            # All are found before any goes: folders go with their last file.
            for path in list(self.files()):
                if path not in entries and path.relative_to(self._output).as_posix() not in kept:
                    remove(path)
                    swept.append(path)
        return swept

    def files(self) -> Iterator[Path]:
        """Yield all files of this camera's parts, committed or not."""
        for name in _PARTITIONED:
            folder = self._output / name / camera_folder(self._camera_id)
            yield from walk(folder)
        for pattern in ("part-*", "frames-*"):
            yield from files(self.folder, pattern)
        for name in ("metrics", "failures"):
            yield from files(self._output / name, f"{camera_tag(self._camera_id)}-part-*")


def camera_tag(camera_id: str) -> str:
    """Return what begins the names of a camera's files in tables without partitions."""
    return hashlib.sha256(camera_id.encode()).hexdigest()[:16]


def cameras_of(output: Path) -> list[str]:
    """Return the cameras that the ledger of an output knows, sorted."""
    names = folders(output / FOLDER)
    return sorted(camera_of_folder(name) for name in names if name.startswith("camera_id="))


def table_files(output: Path) -> Iterator[Path]:
    """Yield every file below the tables of an output."""
    for name in SCHEMAS:
        yield from walk(output / name)
