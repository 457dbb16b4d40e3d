"""A small archive of one camera, what a detector sees in it, and the tables that came of it."""

import json
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from pipeline.camera_log import CameraLog
from pipeline.ledger import CameraLedger
from pipeline.letterbox import fit
from pipeline.part import LogSettings
from pipeline.records import (
    Detections,
    Failure,
    Footage,
    FootageEnd,
    FootageKey,
    Gap,
    Stretch,
    VideoTrack,
)
from pipeline.resume import Plan, prepare
from pipeline.tables import Provenance
from pipeline.tail import Tail
from pipeline.timing import Span
from pipeline.track import TrackSettings

BEGAN = datetime(2026, 1, 15, 23, 59, 40, tzinfo=UTC)
SEGMENT_FRAMES = 5
RATE_FPS = 5.0
TRACK_HASH = "t0"
TABLES = ("detections", "movements", "tracks", "failures")
Arrival = Detections | Gap | FootageEnd


def recording(
    name: str,
    start_s: float | None = None,
    *,
    segments: int = 3,
    camera_id: str = "door",
    rate_fps: float = RATE_FPS,
    version: int = 1,
) -> Footage:
    """Return footage that began `start_s` after the archive; None if nobody knows when."""
    frames = segments * SEGMENT_FRAMES
    uri = f"/archive/{camera_id}-{name}.mkv"
    return Footage(
        key=FootageKey(camera_id=camera_id, sequence=0),
        source_uri=uri,
        track=VideoTrack(
            video_track=0,
            codec="h264",
            width=1280,
            height=720,
            rate_fps=rate_fps,
            duration_s=frames / rate_fps,
            frames=frames,
        ),
        letterbox=fit(1280, 720, 640),
        start_time=None if start_s is None else BEGAN + timedelta(seconds=start_s),
        start_resolution_s=0.0 if start_s is None else 1.0,
        evidence_id=f"{zlib.crc32(uri.encode()):08x}{version:02}",
    )


def changed(footage: Footage) -> Footage:
    """Return footage whose recording was replaced."""
    return replace(footage, evidence_id=footage.evidence_id[:-2] + "99")


def tail_of(footages: Sequence[Footage]) -> Tail:
    """Return the whole of a camera's footage as what is left of it."""
    camera_id = footages[0].key.camera_id
    numbered = tuple(
        replace(each, key=FootageKey(camera_id=camera_id, sequence=number))
        for number, each in enumerate(footages)
    )
    return Tail(camera_id=camera_id, footages=numbered, stops=(None,) * len(numbered))


def log_settings(
    output: Path, *, part_bytes: float = 1e9, track_hash: str = TRACK_HASH, attempt_id: str = "a"
) -> LogSettings:
    return LogSettings(
        output=output,
        track=TrackSettings(lost_after_s=1.2, carry_over_s=2.0),
        class_names=("person", "dog"),
        provenance=Provenance(run_id="r", config_hash="c", model_hash="m"),
        track_hash=track_hash,
        attempt_id=attempt_id,
        part_bytes=part_bytes,
    )


def see(footage: Footage, number: int) -> Iterator[tuple[float, float, float, int]]:
    """Yield (x, y, score, class) of who is in a frame: two cross, one stands, all flicker."""
    random = np.random.default_rng([zlib.crc32(footage.evidence_id.encode()), number])
    t = number / RATE_FPS
    people = [(200 + 60 * t, 300, 0), (700 - 60 * t, 310, 0), (1000, 500, 1)]
    if number % 11 in (4, 5):
        return
    for x, y, kind in people:
        if random.random() < 0.8:
            yield x + random.normal(), y + random.normal(), random.uniform(0.15, 0.95), kind


def detect(
    footage: Footage,
    segment: int,
    start: int = 0,
    stop: int = SEGMENT_FRAMES,
    seen: Callable[[Footage, int], Any] = see,
) -> Detections:
    """Return the detections of positions [start, stop) of a segment; one frame in 13 is broken."""
    numbers = [segment * SEGMENT_FRAMES + p for p in range(start, stop)]
    broken = [n for n in numbers if n % 13 == 12]
    good = np.array([n for n in numbers if n % 13 != 12], np.int64)
    boxes = [list(seen(footage, int(n))) for n in good]
    flat = np.array([box for here in boxes for box in here], float).reshape(-1, 4)
    feet = flat[:, :2].astype(np.float32)
    return Detections(
        stretch=stretch(footage, segment, start, stop),
        positions=good - segment * SEGMENT_FRAMES,
        frame_index=good,
        pts_s=good / footage.track.rate_fps,
        frame_row=np.repeat(np.arange(len(good)), [len(here) for here in boxes]),
        boxes=np.hstack([feet - np.float32([30, 150]), feet + np.float32([30, 0])]),
        confidence=flat[:, 2].astype(np.float32),
        class_id=flat[:, 3].astype(np.int64),
        failures=tuple(failure(footage, "decode", f"frame {n} is broken", n) for n in broken),
        spans=(Span(step="decode", wall_s=0.25, cpu_s=0.5, frames=len(numbers), pid=7),),
    )


def stretch(footage: Footage, segment: int, start: int, stop: int) -> Stretch:
    return Stretch(
        footage=footage.key, segment=segment, start=start, stop=stop, wanted=SEGMENT_FRAMES
    )


def failure(footage: Footage, step: str, message: str, frame: int | None = None) -> Failure:
    return Failure(
        source_uri=footage.source_uri,
        video_track=footage.track.video_track,
        camera_id=footage.key.camera_id,
        step=step,
        error_class="SourceError",
        message=message,
        first_frame=frame,
        last_frame=frame,
        frames=0 if frame is None else 1,
    )


def segments_of(footage: Footage) -> int:
    return (footage.track.frames or 0) // SEGMENT_FRAMES


def end_of(footage: Footage) -> FootageEnd:
    return FootageEnd(footage=footage.key, segments=segments_of(footage))


def whole(footage: Footage, have: frozenset[int] = frozenset()) -> list[Arrival]:
    """Return a footage's segments in one batch each, and its end."""
    wanted = [n for n in range(segments_of(footage)) if n not in have]
    return [*(detect(footage, segment) for segment in wanted), end_of(footage)]


Make = Callable[[Footage, frozenset[int]], Sequence[Arrival]]


def feed(log: CameraLog, tail: Tail, make: Make = whole) -> None:
    """Give a log what it says is missing, until nothing is."""
    for _ in range(5):
        missing = log.missing()
        if not missing:
            return
        made = [make(tail.footages[each.footage.sequence], each.have) for each in missing]
        # Recordings are read side by side.
        for arrival in chain.from_iterable(zip_longest(*made)):
            if arrival is not None:
                log.push(arrival)
    raise AssertionError(f"still missing: {missing}")


def run(
    output: Path,
    wanted: Sequence[Footage],
    make: Make = whole,
    *,
    part_bytes: float = 1e9,
    track_hash: str = TRACK_HASH,
    retry: bool = False,
) -> Plan:
    """Do all that a start of a run does to one camera."""
    plan = prepare(output, wanted[0].key.camera_id, wanted, track_hash, retry=retry)
    if plan.tail is not None:
        log = CameraLog(
            plan.tail, log_settings(output, part_bytes=part_bytes, track_hash=track_hash)
        )
        feed(log, plan.tail, make)
        log.close()
    return plan


def rows(output: Path, name: str) -> list[dict[str, Any]]:
    """Return the rows of a table with their camera and date, in no order that means anything."""
    found = []
    for path in sorted((output / name).rglob("*.parquet")):
        keys = dict(folder.split("=") for folder in path.parts if "=" in folder)
        found += [{**row, **keys} for row in pq.ParquetFile(path).read().to_pylist()]
    return sorted(found, key=repr)


def tables(output: Path) -> dict[str, list[dict[str, Any]]]:
    """Return all rows of what a run is for."""
    return {name: rows(output, name) for name in TABLES}


def files(output: Path, pattern: str = "*") -> list[str]:
    return sorted(str(p.relative_to(output)) for p in output.rglob(pattern) if p.is_file())


def frames(output: Path, camera_id: str = "door") -> list[tuple[str, int]]:
    """Return the frames that the ledger's parts say were looked at, sorted, repeats and all."""
    return sorted(
        (row["source_uri"], row["frame_index"])
        for part in CameraLedger(output, camera_id).parts()
        for file in part.files
        if Path(file.path).name.startswith("frames-")
        for row in pq.ParquetFile(output / file.path).read().to_pylist()
    )


def frames_there(footages: Sequence[Footage]) -> list[tuple[str, int]]:
    """Return the frames of footage that can be looked at, sorted."""
    return sorted(
        (each.source_uri, number)
        for each in footages
        for number in range(each.track.frames or 0)
        if number % 13 != 12
    )


def check_tidy(output: Path, camera_id: str = "door") -> None:
    """Nothing is there that the ledger does not know, and all is there that it knows."""
    ledger = CameraLedger(output, camera_id)
    assert files(output, "*.partial") == []
    assert not (output / "staging").exists() or files(output / "staging") == []
    entries = {path for path, _, _ in ledger.entries()}
    there = {p.relative_to(output).as_posix() for p in ledger.files() if p not in entries}
    assert there == {file.path for part in ledger.parts() for file in part.files}


def as_json(state: dict[str, Any]) -> dict[str, Any]:
    """Return a state as it is after a night on disk."""
    back: dict[str, Any] = json.loads(json.dumps(state))
    return back
