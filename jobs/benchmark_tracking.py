"""`footfall benchmark tracking`: how good tracks are on footage with truth, and what each part gives.

    parts       the tracker alone; joined; filled; without flicker; smoothed   what each one adds
    trackers    each by name, alone and refined                                which is the best
    strides     every frame, every second, ...                                 how few will do
    rates       the same footage at 1/2 and 1/3 of its rate, cut, in batches   the same people, events?
    constants   each of the odds' constants halved, and doubled                how much hangs on them
    cost        a crowd of 30, a minute and ten of it                          CPU a frame, memory

The detections of one real run are tracked again and again, with one setting for all footage.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import psutil

from jobs.crowd import crowd, crowd_footage
from jobs.evaluate import Quality
from jobs.exits import EXIT_OK, ending
from jobs.machine import machine_line
from jobs.mot import tracks_of
from jobs.tracking_clips import (
    Clip,
    at_share,
    cut,
    detect_clips,
    frames_of,
    in_batches,
    quality_of,
    refined,
    tracked_through,
)
from pipeline import pieces
from pipeline.areas import areas_of
from pipeline.clock import CameraClock
from pipeline.errors import ConfigError
from pipeline.events import EventLog
from pipeline.movement import MovementLog, MovementSettings
from pipeline.records import Detections, Footage, Stretch, TrackedFrame
from pipeline.refine import Refiner, RefineSettings
from pipeline.scene import Line, Scene
from pipeline.track import TRACKER_NAMES, TrackSettings
from pipeline.trackers import make_tracker, tracked

PARTS = ("parts", "trackers", "strides", "rates", "constants", "cost")
# What the odds of a link are made of.
_CONSTANTS = (
    "ACCELERATION", "PLACE_NOISE", "WIDTH_NOISE", "HEIGHT_NOISE", "UNSURE", "SPEED", "SIZE",
    "SIZE_DRIFT", "HIDDEN_NOISE", "AT_EDGE",
)  # fmt: skip
_STRIDES = (1, 2, 3, 4, 5, 6, 8)
_CROWD = 30
_SHORT_S, _LONG_S = 60, 600
# Joined, and nothing else done.
_JOINED = RefineSettings(min_track_s=0.0, certain=0.0, smooth_s=0.0)


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
    if unknown := set(options.only.split(",")) - set(PARTS):
        raise ConfigError(f"only = {min(unknown)!r}: known are {', '.join(PARTS)}")
    with tempfile.TemporaryDirectory(prefix="footfall-tracking-") as folder:
        clips, detect_ms = detect_clips(
            Path(folder), options.footage, options.model, options.precision
        )
    for part in options.only.split(","):
        rows = _cost_rows(detect_ms) if part == "cost" else _TABLES[part](clips)
        print(f"### {part}", "", *rows, "", sep="\n")
    print(f"{machine_line()}, {options.model} {options.precision}")
    return EXIT_OK


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
            frames = frames_of(clip, TrackSettings())
            done = list(frames) if how is None else refined(frames, how)
            found.append(quality_of(clip, done, filled=name != "joined"))
        rows.append((name, found))
    yield from _table(clips, rows)


def _trackers_rows(clips: Sequence[Clip]) -> Iterator[str]:
    rows = []
    for name in TRACKER_NAMES:
        settings = TrackSettings(tracker=name)
        alone = [quality_of(clip, list(frames_of(clip, settings))) for clip in clips]
        whole = [
            quality_of(clip, refined(frames_of(clip, settings), RefineSettings())) for clip in clips
        ]
        rows += [(f"{name}, alone", alone), (f"{name}, refined", whole)]
    yield from _table(clips, rows)


def _strides_rows(clips: Sequence[Clip]) -> Iterator[str]:
    rows = []
    for stride in _STRIDES:
        found = [
            quality_of(clip, refined(frames_of(clip, TrackSettings(), stride), RefineSettings()))
            for clip in clips
        ]
        rows.append((f"every {stride}.", found))
    yield from _table(clips, rows)


def _rates_rows(clips: Sequence[Clip]) -> Iterator[str]:
    """Yield how many people and events are told of the same footage, however it came."""
    yield "| | the same footage | people | of them over 1 s | crossings in | out |"
    yield "|---|---|---|---|---|---|"
    for clip in (*clips, _crowd_clip()):
        for name, recordings in variants(clip).items():
            frames = refined(tracked_through(recordings, TrackSettings()), RefineSettings())
            cells = " | ".join(map(str, _told(clip, frames)))
            yield f"| {clip.name} | {name} | {cells} |"


def variants(clip: Clip) -> dict[str, list[Clip]]:
    """Return the recordings that a clip may have come in, by how."""
    half, third = at_share(clip, 2), at_share(clip, 3)
    return {
        "as it is": [clip],
        "batches of 1": [in_batches(clip, 1)],
        "batches of 7": [in_batches(clip, 7)],
        "in 3 recordings": cut(clip, 3),
        "at 1/2 of its rate": [half],
        "at 1/2, in 3 recordings": cut(half, 3),
        "at 1/3 of its rate": [third],
        "at 1/3, in 3 recordings": cut(third, 3),
    }


def _crowd_clip() -> Clip:
    footage = crowd_footage()
    people = enumerate(crowd(_CROWD, _SHORT_S))
    found = tuple(_one_frame(footage, number, *seen) for number, seen in people)
    return Clip(name=f"crowd of {_CROWD}", footage=footage, detections=found, truth=tracks_of(()))


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


def _constants_rows(clips: Sequence[Clip]) -> Iterator[str]:
    """Yield what becomes of the tracks when a constant of `pieces` is half of what it is, or twice."""
    rows = []
    for name in _CONSTANTS:
        usual = getattr(pieces, name)
        for factor in (0.5, 2.0):
            setattr(pieces, name, factor * usual)
            found = [
                quality_of(clip, refined(frames_of(clip, TrackSettings()), RefineSettings()))
                for clip in clips
            ]
            rows.append((f"{factor:g} {name}", found))
        setattr(pieces, name, usual)
    yield from _table(clips, rows)


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
    clock, tracker = CameraClock(settings.carry_over_s), make_tracker(settings)
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
    "constants": _constants_rows,
}


if __name__ == "__main__":
    sys.exit(main())
