"""Clips with truth: what a real run detects in them, tracked and refined in whatever way, and how well.

Truth is `NAME.gt.txt` beside `NAME.mp4`, in MOTChallenge's form.
"""

import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from jobs.benchmark_footage import find_clips
from jobs.evaluate import Quality, quality
from jobs.measured import read_measured
from jobs.mot import Tracks, read_mot, tracks_of
from pipeline.clock import CameraClock
from pipeline.errors import ConfigError, StepError
from pipeline.evidence import Evidence
from pipeline.identity import from_plain
from pipeline.ledger import CameraLedger, cameras_of
from pipeline.records import Detections, Footage, TrackedFrame
from pipeline.refine import Refiner, RefineSettings
from pipeline.track import TrackSettings
from pipeline.trackers import make_tracker, tracked

_USUAL_FPS = 25.0
# Of a clip that is cut into recordings.
_BEGAN = datetime(2026, 1, 15, 9, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Clip:
    """Footage with truth: its detections, and who was really there."""

    name: str
    footage: Footage
    detections: tuple[Detections, ...]
    truth: Tracks


def detect_clips(
    folder: Path, footage: str, model: str, precision: str
) -> tuple[list[Clip], float]:
    """Run the main job over the clips with truth; return what was seen, and CPU ms of a frame."""
    there = [(clip, clip.with_suffix(".gt.txt")) for clip in find_clips(footage, folder)]
    pairs = [(clip, truth) for clip, truth in there if truth.exists()]
    if not pairs:
        raise ConfigError(f"footage {footage!r}: no clip has truth beside it, NAME.gt.txt")
    command = [sys.executable, "-m", "jobs.backfill", "--output", str(folder / "out")]
    command += ["--model", model, "--precision", precision]
    for clip, _ in pairs:
        command += ["--input", str(clip)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise StepError(f"the clips cannot be processed: {done.stderr.strip()[-500:]}")
    clips = [_clip(folder / "out", clip, read_mot(truth)) for clip, truth in pairs]
    steps = {each.step: each for each in read_measured(folder / "out").steps}
    return clips, 1000 * steps["detect"].cpu_s / steps["detect"].frames


def _clip(output: Path, path: Path, truth: Tracks) -> Clip:
    for camera_id in cameras_of(output):
        parts = CameraLedger(output, camera_id).parts()
        footage = from_plain(parts[0].covered[0].footage)
        if Path(footage.source_uri).name == path.name:
            whole = (
                segment
                for part in parts
                for covered in part.covered
                for segment in Evidence(output, part).segments(covered, footage)
            )
            found = tuple(each for segment in whole for each in segment.parts)
            return Clip(name=path.stem, footage=footage, detections=found, truth=truth)
    raise StepError(f"{path.name}: nothing came of it")


def frames_of(clip: Clip, settings: TrackSettings, stride: int = 1) -> Iterator[TrackedFrame]:
    """Yield the tracked frames of a clip, those that a stride leaves out among them."""
    clock = CameraClock(settings.carry_over_s)
    clock.begin(clip.footage)
    tracker = make_tracker(settings)
    for detections in clip.detections:
        looked_at = _strided(detections, stride)
        found = {f.frame_index: f for f in tracked(tracker, clock, clip.footage, looked_at)}
        for number, pts_s in zip(detections.frame_index, detections.pts_s, strict=True):
            yield found.get(int(number)) or TrackedFrame(
                footage=clip.footage,
                frame_index=int(number),
                pts_s=float(pts_s),
                time_s=clock.read(clip.footage, float(pts_s)),
                is_looked_at=False,
            )


def _strided(part: Detections, stride: int) -> Detections:
    return _kept(part, np.flatnonzero(part.frame_index % stride == 0))


def _kept(part: Detections, kept: NDArray[np.intp]) -> Detections:
    """Return the detections of some frames, by their places among all of them."""
    rows = np.flatnonzero(np.isin(part.frame_row, kept))
    return replace(
        part,
        positions=part.positions[kept],
        frame_index=part.frame_index[kept],
        pts_s=part.pts_s[kept],
        frame_row=np.searchsorted(kept, part.frame_row[rows]),
        boxes=part.boxes[rows],
        confidence=part.confidence[rows],
        class_id=part.class_id[rows],
    )


def in_batches(clip: Clip, size: int) -> Clip:
    """Return a clip whose detections came in batches of so many frames."""
    batches = (
        _kept(part, np.arange(begin, min(begin + size, len(part.frame_index))))
        for part in clip.detections
        for begin in range(0, len(part.frame_index), size)
    )
    return replace(clip, detections=tuple(batches))


def at_share(clip: Clip, share: int) -> Clip:
    """Return the footage of every so manieth frame, as a camera of that rate would have filmed it.

    A detector looks at each frame by itself: it finds there what it found in the whole.
    """
    track = clip.footage.track
    rate_fps = (track.rate_fps or _USUAL_FPS) / share
    parts = (_strided(part, share) for part in clip.detections)
    return replace(
        clip,
        footage=replace(clip.footage, track=replace(track, rate_fps=rate_fps)),
        detections=tuple(replace(p, frame_index=p.frame_index // share) for p in parts),
    )


def cut(clip: Clip, count: int) -> list[Clip]:
    """Return a clip cut into so many recordings, whose names tell their starts to the second."""
    frames = in_batches(clip, 1).detections
    rate_fps = clip.footage.track.rate_fps or _USUAL_FPS
    bounds = [round(number * len(frames) / count) for number in range(count + 1)]
    pieces = []
    for number, (begin, stop) in enumerate(pairwise(bounds)):
        own = frames[begin:stop]
        origin_s, first = float(own[0].pts_s[0]), own[0].frame_index[0]
        offset_s = origin_s - float(frames[0].pts_s[0])
        footage = replace(
            clip.footage,
            key=replace(clip.footage.key, sequence=number),
            source_uri=f"{clip.footage.source_uri}-{number}",
            track=replace(clip.footage.track, duration_s=len(own) / rate_fps, frames=len(own)),
            start_time=_BEGAN + timedelta(seconds=int(offset_s)),
            start_resolution_s=1.0,
            origin_s=origin_s,
        )
        detections = tuple(replace(each, frame_index=each.frame_index - first) for each in own)
        pieces.append(replace(clip, footage=footage, detections=detections))
    return pieces


def tracked_through(recordings: Sequence[Clip], settings: TrackSettings) -> Iterator[TrackedFrame]:
    """Yield the tracked frames of a camera's recordings, one after the other."""
    clock = CameraClock(settings.carry_over_s)
    tracker = make_tracker(settings)
    for recording in recordings:
        clock.begin(recording.footage)
        for detections in recording.detections:
            yield from tracked(tracker, clock, recording.footage, detections)


def refined(frames: Iterable[TrackedFrame], settings: RefineSettings) -> list[TrackedFrame]:
    """Return frames with their tracks made whole."""
    refiner = Refiner(settings)
    told = [out for frame in frames for out in refiner.push(frame)]
    return [*told, *refiner.flush()]


def quality_of(clip: Clip, frames: Sequence[TrackedFrame], *, filled: bool = True) -> Quality:
    """Hold frames against a clip's truth; unless `filled`, without what is interpolated."""
    rows = (
        (frame.frame_index, seen.track_id, *seen.box.tolist(), 1.0)
        for frame in frames
        for seen in frame.observations
        if filled or not seen.is_interpolated
    )
    return quality(clip.truth, tracks_of(rows))
