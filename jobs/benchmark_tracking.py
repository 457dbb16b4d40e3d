"""`footfall benchmark tracking`: how good tracks are on footage with truth, and what each part gives.

    parts       the tracker alone; joined; filled; without flicker; smoothed   what each one adds
    trackers    each by name, alone and refined                                which is the best
    strides     every frame, every second, ...                                 how few will do
    rates       the same footage at 1/2 and 1/3 of its rate                    the same people, events?
    cost        a crowd of 30, a minute and ten of it                          CPU a frame, memory

The detections of one real run are tracked again and again. Truth is `NAME.gt.txt` beside `NAME.mp4`, in
MOTChallenge's form; one setting for all footage.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import psutil

from jobs.benchmark_footage import find_clips
from jobs.crowd import crowd, crowd_footage
from jobs.evaluate import Quality, quality
from jobs.exits import EXIT_OK, ending
from jobs.machine import machine_line
from jobs.measured import read_measured
from jobs.mot import Tracks, read_mot, tracks_of
from pipeline.areas import areas_of
from pipeline.clock import CameraClock
from pipeline.errors import ConfigError, StepError
from pipeline.events import EventLog
from pipeline.evidence import Evidence
from pipeline.identity import from_plain
from pipeline.ledger import CameraLedger, cameras_of
from pipeline.movement import MovementLog, MovementSettings
from pipeline.records import Detections, Footage, Stretch, TrackedFrame
from pipeline.refine import Refiner, RefineSettings
from pipeline.scene import Line, Scene
from pipeline.track import TRACKER_NAMES, TrackSettings
from pipeline.trackers import make_tracker, tracked

PARTS = ("parts", "trackers", "strides", "rates", "cost")
_STRIDES = (1, 2, 3, 4, 5, 6, 8)
_CROWD = 30
_SHORT_S, _LONG_S = 60, 600
# Joined, and nothing else done.
_JOINED = RefineSettings(min_track_s=0.0, certain=0.0, smooth_s=0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Clip:
    """Footage with truth: its detections, and who was really there."""

    name: str
    footage: Footage
    detections: tuple[Detections, ...]
    truth: Tracks


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure tracks against truth, part by part, and what they cost."""
    parser = argparse.ArgumentParser(prog="footfall benchmark tracking", description=main.__doc__)
    parser.add_argument(
        "--footage", default="", metavar="DIR", help="clips, with truth beside them"
    )
    parser.add_argument("--model", default="yolov8n.pt", help="(default: %(default)s)")
    parser.add_argument("--precision", default="fp32", help="(default: %(default)s)")
    parser.add_argument("--only", default=",".join(PARTS), help="(default: %(default)s)")
    options = parser.parse_args(arguments)
    return ending("benchmark tracking", lambda: _measure(options))


def _measure(options: argparse.Namespace) -> int:
    with tempfile.TemporaryDirectory(prefix="footfall-tracking-") as folder:
        clips, detect_ms = _detected(Path(folder), options)
    for part in options.only.split(","):
        rows = _cost_rows(detect_ms) if part == "cost" else _TABLES[part](clips)
        print(f"### {part}", "", *rows, "", sep="\n")
    print(f"{machine_line()}, {options.model} {options.precision}")
    return EXIT_OK


def _detected(folder: Path, options: argparse.Namespace) -> tuple[list[Clip], float]:
    """Run the main job over the clips with truth; return what was seen, and CPU ms of a frame."""
    there = [(clip, clip.with_suffix(".gt.txt")) for clip in find_clips(options.footage, folder)]
    pairs = [(clip, truth) for clip, truth in there if truth.exists()]
    if not pairs:
        raise ConfigError(f"footage {options.footage!r}: no clip has truth beside it, NAME.gt.txt")
    command = [sys.executable, "-m", "jobs.backfill", "--output", str(folder / "out")]
    command += ["--model", options.model, "--precision", options.precision]
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


def _frames(clip: Clip, settings: TrackSettings, stride: int = 1) -> Iterator[TrackedFrame]:
    """Yield the tracked frames of a clip, those that a stride leaves out among them."""
    clock = CameraClock(settings.carry_over_s)
    clock.begin(clip.footage)
    tracker = make_tracker(settings, clip.footage.track.rate_fps)
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
    kept = np.flatnonzero(part.frame_index % stride == 0)
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


def _refined(frames: Iterator[TrackedFrame], settings: RefineSettings) -> list[TrackedFrame]:
    refiner = Refiner(settings)
    told = [out for frame in frames for out in refiner.push(frame)]
    return [*told, *refiner.flush()]


def _quality(clip: Clip, frames: Sequence[TrackedFrame], *, filled: bool = True) -> Quality:
    rows = (
        (frame.frame_index, seen.track_id, *seen.box.tolist(), 1.0)
        for frame in frames
        for seen in frame.observations
        if filled or not seen.is_interpolated
    )
    return quality(clip.truth, tracks_of(rows))


def _table(clips: Sequence[Clip], rows: Sequence[tuple[str, Sequence[Quality]]]) -> Iterator[str]:
    heads = [f"{clip.name}: HOTA | IDF1 | AssA | DetA | switches | tracks" for clip in clips]
    yield "| | " + " | ".join(heads) + " |"
    yield "|---" * (6 * len(clips) + 1) + "|"
    for name, found in rows:
        cells = []
        for q in found:
            cells += [f"{100 * share:.1f}" for share in (q.hota, q.idf1, q.ass_a, q.det_a)]
            cells += [str(q.switches), f"{q.tracks} of {q.people}"]
        yield f"| {name} | " + " | ".join(cells) + " |"


def _parts_rows(clips: Sequence[Clip]) -> Iterator[str]:
    steps = {
        "the tracker alone": None,
        "joined": _JOINED,
        "filled": _JOINED,
        "without flicker": replace(RefineSettings(), smooth_s=0.0),
        "smoothed: as it is": RefineSettings(),
    }
    rows = []
    for name, how in steps.items():
        found = []
        for clip in clips:
            frames = _frames(clip, TrackSettings())
            done = list(frames) if how is None else _refined(frames, how)
            found.append(_quality(clip, done, filled=name != "joined"))
        rows.append((name, found))
    yield from _table(clips, rows)


def _trackers_rows(clips: Sequence[Clip]) -> Iterator[str]:
    rows = []
    for name in TRACKER_NAMES:
        settings = TrackSettings(tracker=name)
        alone = [_quality(clip, list(_frames(clip, settings))) for clip in clips]
        refined = [
            _quality(clip, _refined(_frames(clip, settings), RefineSettings())) for clip in clips
        ]
        rows += [(f"{name}, alone", alone), (f"{name}, refined", refined)]
    yield from _table(clips, rows)


def _strides_rows(clips: Sequence[Clip]) -> Iterator[str]:
    rows = []
    for stride in _STRIDES:
        found = [
            _quality(clip, _refined(_frames(clip, TrackSettings(), stride), RefineSettings()))
            for clip in clips
        ]
        rows.append((f"every {stride}.", found))
    yield from _table(clips, rows)


def _rates_rows(clips: Sequence[Clip]) -> Iterator[str]:
    """Yield how many people and crossings are told of the same footage at lower rates."""
    yield "| | rate | tracks | of them over 1 s | crossings in | out |"
    yield "|---|---|---|---|---|---|"
    for clip in clips:
        for share in (1, 2, 3):
            slow = (f for f in _frames(clip, TrackSettings(), share) if f.is_looked_at)
            frames = _refined(slow, RefineSettings())
            tracks, long, came, went = _told(clip, frames)
            yield f"| {clip.name} | 1/{share} | {tracks} | {long} | {came} | {went} |"


def _told(clip: Clip, frames: Sequence[TrackedFrame]) -> tuple[int, int, int, int]:
    """Return tracks, those of more than a second, and crossings of the picture's middle."""
    middle = Scene(
        units="normalised", lines=(Line(name="middle", points=((0.5, 0.0), (0.5, 1.0))),)
    )
    areas = areas_of(middle, *clip.footage.track.upright_size, clip.name)
    log = EventLog({0: "person"}, 60.0)
    times: dict[int, list[float]] = {}
    for frame in frames:
        log.push(frame, areas)
        for seen in frame.observations:
            times.setdefault(seen.track_id, []).append(frame.time_s)
    log.flush()
    ways = log.events().column("direction").to_pylist()
    long = sum(each[-1] - each[0] > 1 for each in times.values())
    return len(times), long, ways.count("in"), ways.count("out")


def _cost_rows(detect_ms: float) -> Iterator[str]:
    """Yield what tracking and refining take with a crowd in view, beside the detector."""
    yield "| crowd of | seconds | track, CPU ms a frame | refine | rows and events | memory, MB |"
    yield "|---|---|---|---|---|---|"
    total = 0.0
    for seconds in (_SHORT_S, _LONG_S):
        spent = _Spent()
        _run_crowd(seconds, spent)
        each = [1000 * s / (seconds * 25) for s in (spent.track_s, spent.refine_s, spent.rows_s)]
        cells = " | ".join(f"{ms:.2f}" for ms in each)
        yield f"| {_CROWD} | {seconds} | {cells} | {spent.memory_mb:.0f} |"
        total = sum(each)
    yield ""
    yield f"Together {total:.2f} ms: {total / detect_ms:.1%} of the detector's {detect_ms:.1f} ms."


@dataclass(slots=True)
class _Spent:
    """CPU seconds by step, and the most memory beyond what there was before."""

    track_s: float = 0.0
    refine_s: float = 0.0
    rows_s: float = 0.0
    memory_mb: float = 0.0


def _run_crowd(seconds: int, spent: _Spent) -> None:
    footage, settings = crowd_footage(), TrackSettings()
    scene = Scene(units="normalised", lines=(Line(name="middle", points=((0.5, 0.0), (0.5, 1.0))),))
    areas = areas_of(scene, *footage.track.upright_size, "crowd")
    clock, tracker = CameraClock(settings.carry_over_s), make_tracker(settings, 25.0)
    clock.begin(footage)
    refiner = Refiner(RefineSettings())
    log = MovementLog(MovementSettings(class_names=("person",), end_s=0.1))
    events = EventLog(("person",), 60.0)
    memory = psutil.Process().memory_info
    before = memory().rss
    for number, (boxes, scores) in enumerate(crowd(_CROWD, seconds)):
        began = time.process_time()
        (frame,) = tracked(tracker, clock, footage, _one_frame(footage, number, boxes, scores))
        told = time.process_time()
        frames = list(refiner.push(frame))
        refined = time.process_time()
        log.rows(frames, areas)
        log.ended()
        for each in frames:
            events.push(each, areas)
        events.events()
        events.counts()
        spent.track_s += told - began
        spent.refine_s += refined - told
        spent.rows_s += time.process_time() - refined
        spent.memory_mb = max(spent.memory_mb, (memory().rss - before) / 1e6)


def _one_frame(footage: Footage, number: int, boxes: np.ndarray, scores: np.ndarray) -> Detections:
    stretch = Stretch(footage=footage.key, segment=number, start=0, stop=1, wanted=1)
    return Detections(
        stretch=stretch,
        positions=np.zeros(1, np.int64),
        frame_index=np.array([number]),
        pts_s=np.array([number / 25]),
        frame_row=np.zeros(len(boxes), np.int64),
        boxes=boxes,
        confidence=scores,
        class_id=np.zeros(len(boxes), np.int64),
    )


_TABLES = {
    "parts": _parts_rows,
    "trackers": _trackers_rows,
    "strides": _strides_rows,
    "rates": _rates_rows,
}


if __name__ == "__main__":
    sys.exit(main())
