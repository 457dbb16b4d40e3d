"""What a job would work on: every video track that its settings reach, whose it is, what is skipped.

    inputs ──discover──> recordings ──probe──> video tracks ──cameras──> footage, oldest first

`plan` prints this, `backfill` runs it.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC

from jobs.found import Found, Survey, limited, shared, without_purged
from jobs.reach import Reach, reach_of, whole_name
from jobs.settings import AUTO_STRIDE, JobSettings
from jobs.told import Told, gather
from pipeline.areas import areas_of
from pipeline.aws import archive_of
from pipeline.cache import check_fits
from pipeline.cameras import CameraRule, short_names, zone
from pipeline.discover import find_recordings
from pipeline.errors import ConfigError, SourceError
from pipeline.floor import Points
from pipeline.letterbox import fit
from pipeline.probe_pool import Probed, probe_all
from pipeline.purged import NOTHING_PURGED, Purges
from pipeline.records import Failure, Footage, FootageKey, Listed, Recording, VideoTrack
from pipeline.s3 import check_recordings
from pipeline.tables import is_filable
from pipeline.window import FootageWindow

# What `--stride auto` leaves between two looks at most: beyond it a walker's boxes come apart, and
# tracks get worse (docs/decisions.md has the measurement).
MOST_STEP_S = 0.165
# Why what does not fit a node's room for recordings is left alone.
TOO_LARGE = "larger than --cache-gb"


def survey(
    settings: JobSettings,
    committed: Mapping[tuple[str, int], str] | None = None,
    purges: Purges = NOTHING_PURGED,
) -> Survey:
    """Look at all inputs.

    Args:
        settings: Of the job.
        committed: The cameras of footage that the output has already. One that was named after its
            recording keeps its name: which name is the shortest depends on what else is among the
            inputs.
        purges: What is not to come into the output again.

    Raises:
        ConfigError: An input, a camera or a video track is not there, or a name tells no time.
    """
    told = gather(settings, committed)
    reach = reach_of(settings, told)
    listed = reach.recordings() if reach else find_recordings(settings.input, settings.aws)
    check_recordings(listed, settings.aws)
    probed = list(zip(listed, probe_all(listed, aws=settings.aws), strict=True))
    recordings = [item for _, item in probed if isinstance(item, Recording)]
    failures = [
        _unreadable(each.source_uri, item) for each, item in probed if isinstance(item, SourceError)
    ]
    failures += _bad_tracks(settings, recordings)
    failures += _check_tracks(settings, recordings)
    uris = [recording.source_uri for recording in recordings]
    names = {uri: whole_name(uri) for uri in uris} if reach else short_names(uris)
    found = [
        _describe(settings, told, recording, track, names[recording.source_uri])
        for recording in recordings
        for track in recording.video_tracks
    ]
    within = limited(settings, without_purged(found, purges))
    mine, too_large = _too_large(
        settings, reach.shared(within) if reach else shared(settings, within)
    )
    failures = [each for each in failures if _is_told(settings, reach, each)] + too_large
    return Survey(
        found=tuple(mine),
        failures=tuple(failures),
        identities={recording.source_uri: recording.identity for recording in recordings},
        uris=tuple(each.source_uri for each in listed),
        storage_classes=Counter(filter(None, (_storage_class(*each) for each in probed))),
        unopened=reach.unopened if reach else 0,
    )


def _storage_class(listed: Listed, probed: Probed) -> str:
    """Return S3's class of a recording: as a listing told it, or as reading it did; "" elsewhere."""
    if listed.storage_class:
        return listed.storage_class
    return probed.storage_class if isinstance(probed, Recording) else archive_of(probed)


def _too_large(settings: JobSettings, found: Iterable[Found]) -> tuple[list[Found], list[Failure]]:
    """Skip what is larger than all of a node's room for recordings; return all, and these failures."""
    kept, failures = [], []
    for each in found:
        try:
            if not each.skipped:
                check_fits(each.footage.source_uri, each.footage.size_bytes, settings.cache)
        except SourceError as error:
            number = each.footage.track.video_track
            failures.append(_unreadable(each.footage.source_uri, error, number))
            kept.append(replace(each, skipped=TOO_LARGE))
        else:
            kept.append(each)
    return kept, failures


def _is_told(settings: JobSettings, reach: Reach | None, failure: Failure) -> bool:
    """Say whether this shard tells of a recording that cannot be read."""
    # By frames nobody knows whose it is: the first shard tells.
    return reach.tells_of(failure.source_uri) if reach else settings.shard_of[0] == 0


def printable_uri(source_uri: str) -> str:
    """Return an address as a table takes it: a name that is not UTF-8 must not stop it."""
    return source_uri.encode(errors="backslashreplace").decode()


def _unreadable(source_uri: str, error: Exception, video_track: int | None = None) -> Failure:
    return Failure(
        source_uri=printable_uri(source_uri),
        video_track=video_track,
        step="probe",
        error_class=type(error).__name__,
        message=str(error),
        signal=getattr(error, "signal", ""),
    )


def _numbers(recording: Recording) -> list[int]:
    """Return the numbers of all its video tracks, those that cannot be read among them."""
    good = [track.video_track for track in recording.video_tracks]
    return sorted([*good, *(number for number, _ in recording.bad_video_tracks)])


def _wants(settings: JobSettings, number: int) -> bool:
    return settings.wanted_tracks is None or number in settings.wanted_tracks


def _bad_tracks(settings: JobSettings, recordings: Sequence[Recording]) -> list[Failure]:
    """Return a failure for each wanted video track that cannot be read beside others that can."""
    return [
        _unreadable(
            recording.source_uri, SourceError(f"cannot be read as footage: {reason}"), number
        )
        for recording in recordings
        for number, reason in recording.bad_video_tracks
        if _wants(settings, number)
    ]


def _check_tracks(settings: JobSettings, recordings: Sequence[Recording]) -> list[Failure]:
    """Return a failure for each wanted video track that a recording lacks."""
    lacking = [
        (recording, number)
        for recording in recordings
        for number in settings.wanted_tracks or ()
        if number not in _numbers(recording)
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
    there = ", ".join(map(str, _numbers(recording)))
    return f"there is no video track {number} in {recording.source_uri!r}; there are: {there}"


def _describe(
    settings: JobSettings, told: Told, recording: Recording, track: VideoTrack, name: str
) -> Found:
    uri, number = recording.source_uri, track.video_track
    skipped = ""
    if not _wants(settings, number):
        skipped = "not among --video-tracks"
    rule = told.rule(uri, number)
    given = rule.id if rule else settings.camera_id
    camera_id = _camera_id(given, name, number)
    if not given:
        camera_id = told.committed.get((uri, number), camera_id)
    if settings.camera_id and not skipped and _count_wanted(settings, recording) > 1:
        raise ConfigError(
            f"camera_id {settings.camera_id!r}: {uri!r} has {_count_wanted(settings, recording)} "
            "video tracks, and each is a camera of its own: choose one with --video-tracks, or name "
            "them in a --cameras file"
        )
    start_time, resolution_s = (None, 0.0) if skipped else told.start(uri, rule, recording.created)
    window = FootageWindow(
        since=settings.moments[0],
        until=settings.moments[1],
        hours=settings.daily_hours,
        zone=zone(rule.timezone) if rule else UTC,
    )
    if not window.is_open and start_time is None and not skipped:
        raise ConfigError(
            f"from, to and hours need to know when {uri!r} began: give a --cameras file with a "
            "start_time for its camera, or a manifest with one for each recording"
        )
    if not skipped and window.misses(start_time, track.duration_s or float("inf")):
        skipped = "outside --from and --to"
    footage = Footage(
        key=FootageKey(camera_id=camera_id, sequence=0),
        source_uri=uri,
        track=track,
        letterbox=fit(*track.upright_size, settings.image_size),
        start_time=start_time,
        start_resolution_s=resolution_s,
        origin_s=recording.origin_s,
        window=window,
        stride=_stride(settings, track),
        masks=_masks(rule, track) if rule and not skipped else (),
        version=recording.version,
        size_bytes=recording.size_bytes,
        container_hides_negative="mp4" in recording.container,
    )
    return Found(footage=footage, recording=recording, skipped=skipped)


def _stride(settings: JobSettings, track: VideoTrack) -> int:
    """Return every how many frames one is looked at."""
    if settings.stride != AUTO_STRIDE:
        return settings.stride
    return max(1, int(MOST_STEP_S * track.rate_fps))


def _masks(rule: CameraRule, track: VideoTrack) -> tuple[Points, ...]:
    """Return a camera's masks, as shares of a frame; refuse a scene that does not fit it."""
    width, height = track.upright_size
    areas = areas_of(rule.scene, width, height, rule.id)
    return tuple(tuple((x / width, y / height) for x, y in m.polygon) for m in areas.masks)


def _camera_id(given: str, name: str, number: int) -> str:
    """Return the camera of a video track: as given, or after the recording's name."""
    if given and not is_filable(given):
        raise ConfigError(f"camera {given!r}: its name is too long for a folder's")
    named = f"{name}-{number}"
    return given or (
        named if is_filable(named) else f"{hashlib.sha256(name.encode()).hexdigest()[:16]}-{number}"
    )


def _count_wanted(settings: JobSettings, recording: Recording) -> int:
    return sum(_wants(settings, number) for number in _numbers(recording))
