"""Where a run stands before it goes on: what is done already, what must be done anew, what is left."""

import logging
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from jobs.found import Survey
from jobs.settings import EVIDENCE_SETTINGS, TRACK_SETTINGS, JobSettings
from jobs.spec import Start, evidence_hash
from pipeline.holdings import committed_cameras, ended_evidence, write_wanted
from pipeline.identity import evidence_id, picture_id
from pipeline.purged import read_purges
from pipeline.records import Footage
from pipeline.resume import Plan, prepare
from pipeline.run_folder import MadeWith, RunFolder
from pipeline.staging import cameras_taken_back
from pipeline.tail import Tail

log = logging.getLogger(__name__)
_RESULT_SETTINGS = (*EVIDENCE_SETTINGS, *TRACK_SETTINGS, "model")


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What is left of a job.

    Attributes:
        tails: Of the cameras that are not done.
        frames_left: Frames to look at, as far as the containers tell.
    """

    tails: list[Tail]
    frames_left: int


def prepare_all(start: Start, found: Survey, hardware: MadeWith, *, retry: bool) -> Standing:
    """Bring what is on disk of every wanted camera into order, and say what is left.

    The cameras' leases must be held.

    Raises:
        OutputError: A ledger is damaged, or the output cannot be written.
    """
    settings, folder = start.settings, start.folder
    _say_changes(settings, folder, hardware)
    folder.write_text("config.toml", replace(settings, shard="", overwrite=False).to_toml() + "\n")
    made_by = evidence_hash(settings, start.model, hardware)
    is_first_shard = settings.shard_of[0] == 0
    wanted = found.by_camera
    moved = moved_footage(folder.path, found, is_first_shard=is_first_shard)
    plans = [
        prepare(
            folder.path,
            camera_id,
            list(_identified(start, found, made_by, camera_id, retry=retry)),
            settings.track_hash(),
            moved=moved.get(camera_id, ()),
            retry=retry,
        )
        for camera_id in sorted({*wanted, *moved})
    ]
    _note_wanted(start, found)
    tails = [plan.tail for plan in plans if plan.tail]
    left = sum(plan.frames_left for plan in plans)
    _say_standing(folder, found, plans, left)
    return Standing(tails=tails, frames_left=left)


def moved_footage(
    output: Path, found: Survey, *, is_first_shard: bool
) -> dict[str, set[tuple[str, int]]]:
    """Return by camera the video tracks that were its own so far, and are another's now.

    A camera whose parts a dead run had taken back for that, and that nobody wants now, is there too:
    what is left of it has to be tracked again.
    """
    committed = committed_cameras(output)
    moved: dict[str, set[tuple[str, int]]] = {}
    for each in found.wanted:
        key = each.footage.source_uri, each.footage.track.video_track
        camera_id = committed.get(key, each.footage.key.camera_id)
        if camera_id != each.footage.key.camera_id:
            moved.setdefault(camera_id, set()).add(key)
    asked_for = {each.footage.key.camera_id for each in found.found}
    for camera_id in cameras_taken_back(output):
        if is_first_shard and camera_id not in asked_for:
            moved.setdefault(camera_id, set())
    return moved


def _note_wanted(start: Start, found: Survey) -> None:
    """Write down what was asked for, so that `status` can tell what is left of it."""
    columns: dict[str, list[object]] = {
        "source_uri": [each.footage.source_uri for each in found.wanted],
        "video_track": [each.footage.track.video_track for each in found.wanted],
        "camera_id": [each.footage.key.camera_id for each in found.wanted],
        "expected_frames": [each.footage.track.expected_frames for each in found.wanted],
    }
    index, count = start.settings.shard_of
    write_wanted(start.folder.path, f"{index}-of-{count}", columns)


def _identified(
    start: Start, found: Survey, made_by: str, camera_id: str, *, retry: bool
) -> Iterator[Footage]:
    """Yield the wanted footage of a camera, with what it is made from.

    What was purged of a footage in part changes nothing about the rest, if that is done.
    """
    footages = found.by_camera.get(camera_id, [])
    cuts = read_purges(start.folder.path).moments(camera_id) if footages else []
    done = ended_evidence(start.folder.path, camera_id, without_failures=retry) if cuts else set()
    since = start.settings.moments[0]
    for footage in footages:
        recording = found.identities.get(footage.source_uri, "")
        earlier = [
            replace(footage, window=replace(footage.window, since=moment))
            for moment in (since, *(max(cut, since or cut) for cut in cuts))
        ]
        ids = [evidence_id(each, recording, made_by) for each in (*earlier, footage)]
        yield replace(
            footage,
            evidence_id=next((each for each in ids if each in done), ids[-1]),
            picture_id=picture_id(footage, recording),
        )


def _say_changes(settings: JobSettings, folder: RunFolder, hardware: MadeWith) -> None:
    """Name the settings that changed since the last start and change results."""
    before = tomllib.loads(folder.read_text("config.toml") or "")
    now = tomllib.loads(settings.to_toml())
    changes = [
        f"{name} {before[name]!r} -> {now[name]!r}"
        for name in _RESULT_SETTINGS
        if name in before and before[name] != now[name]
    ]
    if folder.made_with not in (None, hardware):
        changes.append(f"{folder.made_with} -> {hardware}")
    if changes:
        log.warning("Settings changed since the last start: %s", "; ".join(changes))


def _say_standing(folder: RunFolder, found: Survey, plans: Sequence[Plan], left: int) -> None:
    if folder.is_new:
        return
    changed = sorted({uri for plan in plans for uri in plan.changed})
    for uri in changed:
        log.warning("%s is done again: it, or a setting that shapes its detections, changed", uri)
    taken_back = sum(plan.taken_back for plan in plans)
    if taken_back:
        log.info("Took back %d part(s) to go on behind them; their detections are kept", taken_back)
    open_ = sum(len(plan.tail.footages) for plan in plans if plan.tail)
    log.info(
        "Going on with run %s: %d of %d video track(s) are done, about %d frames are left to look at",
        folder.run_id[:12],
        max(0, len(found.wanted) - open_),
        len(found.wanted),
        left,
    )
