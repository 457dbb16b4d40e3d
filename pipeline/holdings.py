"""What an output holds, read from its ledger, footage by footage; and what was asked for."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.atomic import write_whole, writing
from pipeline.ledger import FOLDER, CameraLedger, Covered, Part, cameras_of
from pipeline.records import Failure
from pipeline.store import files, read, side_by_side

_WANTED = pa.schema(
    [
        pa.field("source_uri", pa.string()),
        pa.field("video_track", pa.int32()),
        pa.field("camera_id", pa.string()),
        pa.field("expected_frames", pa.int64()),
    ]
)


@dataclass(slots=True, kw_only=True)
class FootageResult:
    """What is committed of one video track of one recording, over all parts.

    Attributes:
        segments: How many of its segments, from the first on.
    """

    camera_id: str
    source_uri: str
    video_track: int
    is_ended: bool = False
    segments: int = 0
    frames: int = 0
    frames_failed: int = 0
    tracks: int = 0
    movements: int = 0
    detections: int = 0
    failures: list[Failure] = field(default_factory=list)

    @property
    def status(self) -> str:
        """Return "completed", "partial", "failed", or "unfinished"."""
        if not self.is_ended:
            return "unfinished"
        if not self.failures:
            return "completed"
        return "partial" if self.frames else "failed"

    def add(self, covered: Covered) -> None:
        """Add what one part holds."""
        self.is_ended |= covered.is_ended
        self.segments = max(self.segments, covered.stop)
        for name in ("frames", "frames_failed", "tracks", "movements", "detections"):
            setattr(self, name, getattr(self, name) + getattr(covered, name))
        self.failures += [failure for _, failure in covered.failures]


def add_up(parts: Iterable[Part]) -> dict[tuple[str, int], FootageResult]:
    """Return what parts hold of each footage, by recording and video track."""
    results: dict[tuple[str, int], FootageResult] = {}
    for part in parts:
        for covered in part.covered:
            uri, number = covered.key
            empty = FootageResult(camera_id=part.camera_id, source_uri=uri, video_track=number)
            results.setdefault(covered.key, empty).add(covered)
    return results


def committed_cameras(output: Path) -> dict[tuple[str, int], str]:
    """Return whose each committed footage is, by recording and video track.

    Raises:
        OutputError: An entry is damaged.
    """
    return {
        covered.key: part.camera_id
        for chain in chains_of(output)
        for part in chain
        for covered in part.covered
    }


def chains_of(output: Path) -> list[list[Part]]:
    """Return the chain of parts of each camera.

    Raises:
        OutputError: An entry is damaged.
    """
    return side_by_side(
        output, lambda camera_id: CameraLedger(output, camera_id).parts(), cameras_of(output)
    )


def committed_failures(output: Path) -> set[tuple[str, int]]:
    """Return the footage that something failed in, as recording and video track.

    Recordings that could not be read at all are looked at anew by every start.

    Raises:
        OutputError: An entry is damaged.
    """
    return {
        covered.key
        for chain in chains_of(output)
        for part in chain
        for covered in part.covered
        if covered.failures
    }


def ended_evidence(output: Path, camera_id: str, *, without_failures: bool) -> set[str]:
    """Return the evidence ids of a camera's footage that parts hold to its end.

    Args:
        output: Root of the tables.
        camera_id: The camera.
        without_failures: Only of that in which nothing failed.

    Raises:
        OutputError: An entry is damaged.
    """
    covers = [each for part in CameraLedger(output, camera_id).parts() for each in part.covered]
    failed = {each.evidence_id for each in covers if each.failures} if without_failures else set()
    return {each.evidence_id for each in covers if each.is_ended} - failed


def write_wanted(output: Path, name: str, columns: Mapping[str, Sequence[object]]) -> None:
    """Write down what a start of a run was asked for: a row a video track.

    Raises:
        OutputError: It cannot be written.
    """
    buffer = pa.BufferOutputStream()
    pq.write_table(pa.table([list(c) for c in columns.values()], schema=_WANTED), buffer)
    with writing(output):
        write_whole(output / FOLDER / f"wanted-{name}.parquet", buffer.getvalue().to_pybytes())


def read_wanted(output: Path) -> list[dict[str, Any]]:
    """Return what was asked for at the last start, of all shards together."""
    rows: dict[tuple[str, int], dict[str, Any]] = {}
    for path in files(output / FOLDER, "wanted-*.parquet"):
        for row in pq.ParquetFile(pa.BufferReader(read(path))).read().to_pylist():
            rows[row["source_uri"], row["video_track"]] = row
    return list(rows.values())
