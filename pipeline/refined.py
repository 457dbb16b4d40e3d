"""A camera's generation of refined tables: what its manifest says, and which files are its own.

    OUTPUT/ledger/camera_id=.../refined.json
    lists OUTPUT/refined/TABLE/camera_id=.../date=.../*.parquet

What it does not list is of a generation before, or of one that was never finished, and is swept.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.atomic import FileEntry, remove, writing
from pipeline.errors import OutputError
from pipeline.ledger import CameraLedger, cameras_of
from pipeline.store import exists, files, read, shown, size_of, walk
from pipeline.tables import REFINED_TABLES, camera_folder

FOLDER = "refined"
MANIFEST = "refined.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Refined:
    """A camera's generation of refined tables.

    Attributes:
        made_of: Hash of all that shaped it.
        files: Its tables.
        raw_tracks: Online tracks that it was made of.
        tracks: Its own.
        unsure: Those left out for never being certain, however long they lasted.
        events: Rows of `events`.
    """

    camera_id: str
    made_of: str
    files: tuple[FileEntry, ...]
    frames: int = 0
    raw_tracks: int = 0
    tracks: int = 0
    unsure: int = 0
    events: int = 0


def read_refined(output: Path, camera_id: str) -> Refined | None:
    """Return a camera's refined generation; None if there is none.

    Raises:
        OutputError: Its manifest is damaged.
    """
    path = CameraLedger(output, camera_id).folder / MANIFEST
    try:
        plain = json.loads(read(path))
        plain["files"] = tuple(FileEntry(**each) for each in plain["files"])
        return Refined(**plain)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise OutputError(f"manifest {shown(path)!r} is damaged: {error}") from error


def is_there(output: Path, file: FileEntry) -> bool:
    """Say whether a file that a manifest lists is there, with its size."""
    path = output / file.path
    return exists(path) and size_of(path) == file.bytes


def left_over(output: Path) -> list[str]:
    """Return the cameras that have refined tables, and no log any more: theirs are to go.

    Raises:
        OutputError: A ledger is damaged.
    """
    ledgers = ((camera_id, CameraLedger(output, camera_id)) for camera_id in cameras_of(output))
    return [
        each for each, ledger in ledgers if exists(ledger.folder / MANIFEST) and not ledger.parts()
    ]


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
    yield from files(CameraLedger(output, camera_id).folder, f"{MANIFEST}.*")
    for name in REFINED_TABLES:
        folder = output / FOLDER / name / camera_folder(camera_id)
        yield from walk(folder)
