"""`footfall preview RECORDING --at 0:12:30`: one still, with all that is drawn into its picture.

Nobody can draw a zone without seeing it: the picture has a ruler in pixels, and what the cameras file
says already. Who is in it is for `preview_people`, the drawing for `preview_picture`.

    RECORDING ──survey──> footage, scene ──> still, masks painted ──> boxes ──> heads blurred ──> PNG
"""

import argparse
import math
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import numpy as np

from jobs.console import printable
from jobs.exits import EXIT_OK, ending
from jobs.one_track import FootageLog, log_of
from jobs.options import add_options, resolve
from jobs.preview_people import Seen, Way, detect, ways
from jobs.preview_picture import Sketch, draw
from jobs.settings import JobSettings
from jobs.survey import survey
from pipeline.areas import NOWHERE, Areas, areas_of
from pipeline.atomic import write_whole, writing
from pipeline.aws import is_s3
from pipeline.cache import CacheSettings, let_go, on_disk
from pipeline.cameras import CameraRule, read_cameras
from pipeline.errors import ConfigError, SourceError
from pipeline.heads import Region, blur_heads, head_regions
from pipeline.records import Footage
from pipeline.run_folder import find_run
from pipeline.scene import NOTHING, Scene
from pipeline.stills import Still, still_at
from pipeline.store import reach_s3

OPTIONS = (
    "cameras", "model", "trust_weights", "classes", "confidence", "image_size", "device", "profile",
    "region", "endpoint_url", "cache_gb",
)  # fmt: skip
_NUMBER = re.compile(r"\d+(\.\d*)?", re.ASCII)
_UNITS_S = (1, 60, 3600)


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """The video track that is looked at, and what is drawn into its picture.

    Attributes:
        areas: The scene in the picture's pixels.
    """

    footage: Footage
    scene: Scene = NOTHING
    areas: Areas = NOWHERE


def main(arguments: Sequence[str] | None = None) -> int:
    """Draw lines, zones, masks, boxes and a ruler into one still of a recording.

    The heads of people that are found are blurred.
    """
    parser = argparse.ArgumentParser(prog="footfall preview", description=main.__doc__)
    parser.add_argument(
        "recording", metavar="RECORDING", help="a file of footage, or its s3:// address"
    )
    parser.add_argument(
        "--at", default="0", metavar="TIME", help="0:12:30, 12:30 or 750 s from its beginning"
    )
    parser.add_argument("--video-track", type=int, metavar="N", help="of it, if there are several")
    parser.add_argument(
        "--to",
        "--output-picture",
        dest="picture",
        metavar="FILE.png",
        help="the picture (default: named after the recording, here)",
    )
    parser.add_argument(
        "--tables", metavar="OUTPUT", help="an output of a run: draw its tracks of 15 s around"
    )
    parser.add_argument(
        "--online",
        action="store_true",
        help="with --tables: tracks as the tracker made them, not the refined ones",
    )
    parser.add_argument("--no-boxes", action="store_true", help="draw no detections")
    parser.add_argument("--show-heads", action="store_true", help="do not blur the heads of people")
    add_options(parser, OPTIONS)
    options = parser.parse_args(arguments)
    return ending("preview", lambda: _preview(options))


def _preview(options: argparse.Namespace) -> int:
    time_s, settings = seconds_of(options.at), _settings(options)
    reach_s3(settings.aws)
    view = find_view(options.recording, options.video_track, settings)
    target = picture_path(options.picture, view.footage, time_s)
    log = _find_log(options, view.footage) if options.tables else None
    still = _take(view.footage, time_s, settings.cache)
    sketch = _sketch(options, settings, view, still, log)
    with writing(target.parent):
        write_whole(target, draw(sketch))
    print(printable(f"{target}: {sketch.title}"))
    return EXIT_OK


def _settings(options: argparse.Namespace) -> JobSettings:
    """Return the settings that a preview has; a file may hold others of a job."""
    given = resolve(options)
    return replace(JobSettings(), **{name: getattr(given, name) for name in OPTIONS})


def seconds_of(text: str) -> float:
    """Return the seconds of 0:12:30, 12:30 or 750.

    Raises:
        ConfigError: It is no such time.
    """
    parts = text.strip().split(":")
    are_numbers = len(parts) <= len(_UNITS_S) and all(map(_NUMBER.fullmatch, parts))
    numbers = [float(part) for part in parts] if are_numbers else [math.inf]
    # What stands first may be any: 90:00 is an hour and a half.
    if not math.isfinite(numbers[0]) or any(number >= 60 for number in numbers[1:]):  # noqa: PLR2004
        raise ConfigError(f"at = {text!r}: write it as 0:12:30, 12:30, or in seconds")
    return sum(n * unit_s for n, unit_s in zip(reversed(numbers), _UNITS_S, strict=False))


def clock_of(time_s: float) -> str:
    """Return a time as 0:12:30.040."""
    seconds, ms = divmod(round(time_s * 1000), 1000)
    return f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}.{ms:03}"


def picture_path(given: str | None, footage: Footage, time_s: float) -> Path:
    """Return where the picture goes: as given, or named after what it shows, in the working folder.

    Raises:
        ConfigError: It is no name of a PNG.
    """
    if given is not None:
        if Path(given).suffix.lower() != ".png":
            raise ConfigError(f"to = {given!r}: the picture is a PNG: name it so")
        return Path(given)
    seconds = int(time_s)
    at = f"{seconds // 3600:02}{seconds // 60 % 60:02}{seconds % 60:02}"
    return Path(f"{Path(footage.source_uri).stem}-{footage.track.video_track}-{at}.png")


def find_view(recording: str, video_track: int | None, settings: JobSettings) -> View:
    """Return what is to be looked at: the video track that is asked for, or that a camera is of.

    Args:
        recording: Its path.
        video_track: Its number; None if there is one only, or one only is a camera's.
        settings: With the cameras file, if there is one.

    Raises:
        ConfigError: There is no such recording, video track or camera, or there are several.
        SourceError: The recording, or the video track, cannot be read.
    """
    wanted = "all" if video_track is None else str(video_track)
    there = survey(replace(settings, input=(recording,), video_tracks=wanted))
    # As survey has it.
    uri = recording if is_s3(recording) else os.path.abspath(recording)  # noqa: PTH100
    if there.uris != (uri,):
        raise ConfigError(f"recording {recording!r}: one file of footage is looked at")
    if not there.wanted:
        reason = there.failures[0].message
        raise SourceError(f"recording {recording!r} {reason}", source_uri=there.uris[0])
    footages = [found.footage for found in there.wanted]
    if not settings.cameras:
        return View(footage=_only(footages))
    rules = read_cameras(settings.cameras)
    pairs = [(footage, rule) for footage in footages if (rule := _rule_of(footage, rules))]
    if not pairs:
        raise ConfigError(_no_camera(settings.cameras, footages, rules))
    footage = _only([footage for footage, _ in pairs])
    scene = next(rule.scene for own, rule in pairs if own is footage)
    areas = areas_of(scene, *footage.track.upright_size, footage.key.camera_id)
    return View(footage=footage, scene=scene, areas=areas)


def _rule_of(footage: Footage, rules: Sequence[CameraRule]) -> CameraRule | None:
    number = footage.track.video_track
    return next((rule for rule in rules if rule.matches(footage.source_uri, number)), None)


def _only(footages: Sequence[Footage]) -> Footage:
    if len(footages) > 1:
        there = ", ".join(
            f"{each.track.video_track} ({'x'.join(map(str, each.track.upright_size))}, "
            f"camera {each.key.camera_id!r})"
            for each in footages
        )
        raise ConfigError(
            f"{footages[0].source_uri!r} has several video tracks: say which by --video-track; "
            f"there are {there}"
        )
    return footages[0]


def _no_camera(path: str, footages: Sequence[Footage], rules: Sequence[CameraRule]) -> str:
    numbers = ", ".join(str(each.track.video_track) for each in footages)
    known = ", ".join(f"{r.id!r} ({r.recording}, video track {r.video_track})" for r in rules)
    return (
        f"no camera of {path!r} has filmed video track {numbers} of {footages[0].source_uri!r}; "
        f"there are {known}"
    )


def _find_log(options: argparse.Namespace, footage: Footage) -> FootageLog:
    run = find_run(options.tables)
    number = footage.track.video_track
    return log_of(run, footage.source_uri, number, is_online=options.online)


def _take(footage: Footage, time_s: float, cache: CacheSettings) -> Still:
    try:
        with on_disk(footage, cache) as path:
            return still_at(footage, time_s, path)
    except SourceError as error:
        uri = footage.source_uri
        raise SourceError(f"recording {uri!r} {error}", source_uri=uri) from error
    finally:
        let_go(footage, cache)


def _sketch(
    options: argparse.Namespace,
    settings: JobSettings,
    view: View,
    still: Still,
    log: FootageLog | None,
) -> Sketch:
    """Return what is to be drawn; unless they are asked for, heads are blurred."""
    around = tuple(ways(log, still.pts_s)) if log else ()
    picture, seen, heads = still.picture.copy(), None, None
    if not (options.no_boxes and options.show_heads):
        seen = detect(still, view.footage, settings)
    if seen is not None and not options.show_heads:
        heads = _heads(seen, around, view.footage)
        blur_heads(picture, heads)
    return Sketch(
        picture=picture,
        title=_title(view.footage, still),
        scene=view.scene,
        areas=view.areas,
        seen=None if seen is None or options.no_boxes else seen.wanted(settings),
        heads=None if heads is None else len(heads),
        ways=around,
        is_told_of=log is not None,
        pts_s=still.pts_s,
    )


def _heads(seen: Seen, around: Sequence[Way], footage: Footage) -> list[Region]:
    """Return where heads are: of people that the detector sees, and that tracks are of."""
    boxes = [*seen.boxes[seen.is_person], *(way.box for way in around if way.box is not None)]
    return head_regions(np.array(boxes).reshape(-1, 4), *footage.track.upright_size)


def _title(footage: Footage, still: Still) -> str:
    offset_s = still.pts_s - footage.origin_s
    name, number = Path(footage.source_uri).name, footage.track.video_track
    line = f"{clock_of(offset_s)} of {name}, video track {number}, camera {footage.key.camera_id}"
    if footage.start_time is not None:
        line += f", {footage.start_time + timedelta(seconds=offset_s):%Y-%m-%d %H:%M:%S} UTC"
    return line


if __name__ == "__main__":
    sys.exit(main())
