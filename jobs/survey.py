"""What a job would work on: every video track that its settings reach, whose it is, what is skipped.

    inputs ──discover──> recordings ──probe──> video tracks ──cameras──> footage, oldest first

`plan` prints this, `backfill` runs it.
"""

import hashlib
import re
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from jobs.settings import JobSettings
from pipeline.cameras import CameraRule, read_cameras, short_names, zone
from pipeline.discover import find_recordings
from pipeline.errors import ConfigError, SourceError
from pipeline.letterbox import fit
from pipeline.probe import probe
from pipeline.records import Failure, Footage, FootageKey, Recording, VideoTrack
from pipeline.tables import is_filable
from pipeline.window import FootageWindow

_PROBES_AT_ONCE = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A video track that was found.

    Attributes:
        skipped: Why nothing will be done with it; "" if something will.
    """

    footage: Footage
    recording: Recording
    skipped: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """All that was found, and what could not be read."""

    found: tuple[Found, ...]
    failures: tuple[Failure, ...]

    @property
    def wanted(self) -> list[Found]:
        """The video tracks that will be worked on."""
        return [found for found in self.found if not found.skipped]

    @property
    def recordings(self) -> list[tuple[Footage, ...]]:
        """The wanted footage by recording; cameras interleaved, each oldest first."""
        by_uri: dict[str, list[Footage]] = {}
        for found in self.wanted:
            by_uri.setdefault(found.footage.source_uri, []).append(found.footage)
        groups = [tuple(footages) for footages in by_uri.values()]
        return sorted(groups, key=lambda g: (min(f.key.sequence for f in g), g[0].source_uri))


def survey(settings: JobSettings) -> Survey:
    """Look at all inputs.

    Raises:
        ConfigError: An input, a camera or a video track is not there, or a name tells no time.
    """
    uris = find_recordings(settings.input)
    rules = read_cameras(settings.cameras) if settings.cameras else ()
    with ThreadPoolExecutor(_PROBES_AT_ONCE) as pool:
        probed = list(pool.map(_probe, uris))
    recordings = [item for item in probed if isinstance(item, Recording)]
    failures = [item for item in probed if isinstance(item, Failure)]
    failures += _check_tracks(settings, recordings)
    names = short_names([recording.source_uri for recording in recordings])
    found = [
        _describe(settings, rules, recording, track, names[recording.source_uri])
        for recording in recordings
        for track in recording.video_tracks
    ]
    return Survey(found=tuple(_in_turn(_limit(settings, found))), failures=tuple(failures))


def _probe(source_uri: str) -> Recording | Failure:
    try:
        return probe(source_uri)
    except SourceError as error:
        return _unreadable(source_uri, error)


def _unreadable(source_uri: str, error: Exception, video_track: int | None = None) -> Failure:
    return Failure(
        # A name that is not UTF-8 must not stop the table of failures.
        source_uri=source_uri.encode(errors="backslashreplace").decode(),
        video_track=video_track,
        step="probe",
        error_class=type(error).__name__,
        message=str(error),
    )


def _check_tracks(settings: JobSettings, recordings: Sequence[Recording]) -> list[Failure]:
    """Return a failure for each wanted video track that a recording lacks."""
    lacking = [
        (recording, number)
        for recording in recordings
        for number in settings.wanted_tracks or ()
        if number >= len(recording.video_tracks)
    ]
    for number in settings.wanted_tracks or ():
        lack = [recording for recording, missing in lacking if missing == number]
        if recordings and len(lack) == len(recordings):
            raise ConfigError(f"video_tracks: {_no_such_track(lack[0], number)}")
    return [
        _unreadable(recording.source_uri, SourceError(_no_such_track(recording, number)), number)
        for recording, number in lacking
    ]


def _no_such_track(recording: Recording, number: int) -> str:
    there = ", ".join(str(track.video_track) for track in recording.video_tracks)
    return f"there is no video track {number} in {recording.source_uri!r}; there are: {there}"


def _describe(
    settings: JobSettings,
    rules: Sequence[CameraRule],
    recording: Recording,
    track: VideoTrack,
    name: str,
) -> Found:
    uri, number = recording.source_uri, track.video_track
    skipped = ""
    if settings.wanted_tracks is not None and number not in settings.wanted_tracks:
        skipped = "not among --video-tracks"
    rule = next((rule for rule in rules if rule.matches(uri, number)), None)
    camera_id = _camera_id(rule.id if rule else settings.camera_id, name, number)
    if settings.camera_id and not skipped and _count_wanted(settings, recording) > 1:
        raise ConfigError(
            f"camera_id {settings.camera_id!r}: {uri!r} has {_count_wanted(settings, recording)} "
            "video tracks, and each is a camera of its own: choose one with --video-tracks, or name "
            "them in a --cameras file"
        )
    start_time = rule.began(uri) if rule and not skipped else None
    window = FootageWindow(
        since=settings.moments[0],
        until=settings.moments[1],
        hours=settings.daily_hours,
        zone=zone(rule.timezone) if rule else UTC,
    )
    if not window.is_open and start_time is None and not skipped:
        raise ConfigError(
            f"from, to and hours need to know when {uri!r} began: give a --cameras file with a "
            "start_time for its camera"
        )
    if not skipped and window.misses(start_time, track.duration_s or float("inf")):
        skipped = "outside --from and --to"
    footage = Footage(
        key=FootageKey(camera_id=camera_id, sequence=0),
        source_uri=uri,
        track=track,
        letterbox=fit(*track.upright_size, settings.image_size),
        start_time=start_time,
        origin_s=recording.origin_s,
        window=window,
        container_hides_negative="mp4" in recording.container,
    )
    return Found(footage=footage, recording=recording, skipped=skipped)


def _camera_id(given: str, name: str, number: int) -> str:
    """Return the camera of a video track: as given, or after the recording's name."""
    if given and not is_filable(given):
        raise ConfigError(f"camera {given!r}: its name is too long for a folder's")
    named = f"{name}-{number}"
    return given or (
        named if is_filable(named) else f"{hashlib.sha256(name.encode()).hexdigest()[:16]}-{number}"
    )


def _count_wanted(settings: JobSettings, recording: Recording) -> int:
    there = len(recording.video_tracks)
    wanted = settings.wanted_tracks
    return there if wanted is None else sum(number < there for number in wanted)


def _age(found: Found) -> tuple[datetime, list[int | str]]:
    """Sort key: when the recording began, then its path, numbers in it by their value."""
    start = found.footage.start_time or datetime.min.replace(tzinfo=UTC)
    pieces = re.split(r"(\d+)", found.footage.source_uri)
    return start, [int(piece) if piece.isdecimal() else piece for piece in pieces]


def _limit(settings: JobSettings, found: Iterable[Found]) -> list[Found]:
    """Skip what lies beyond the limit on recordings."""
    oldest_first = sorted(found, key=_age)
    uris = list(dict.fromkeys(f.footage.source_uri for f in oldest_first if not f.skipped))
    beyond = set(uris[settings.limit :]) if settings.limit else set()
    return [
        replace(f, skipped="beyond --limit")
        if f.footage.source_uri in beyond and not f.skipped
        else f
        for f in oldest_first
    ]


def _in_turn(oldest_first: Iterable[Found]) -> Iterable[Found]:
    """Number each camera's footage in its order."""
    turns: dict[str, int] = {}
    for found in oldest_first:
        if found.skipped:
            yield found
            continue
        camera_id = found.footage.key.camera_id
        sequence = turns.get(camera_id, 0)
        turns[camera_id] = sequence + 1
        key = FootageKey(camera_id=camera_id, sequence=sequence)
        yield replace(found, footage=replace(found.footage, key=key))
