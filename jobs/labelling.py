"""Labels in a job: how they are asked for, what they would cost, and what is made up for at the end."""

import logging
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from jobs.found import Survey, within
from jobs.settings import JobSettings
from pipeline.aws import client
from pipeline.cache import CacheSettings
from pipeline.demux import DemuxSettings
from pipeline.identity import picture_id
from pipeline.label_fill import fill, missing_frames
from pipeline.label_frames import label_calls
from pipeline.label_ledger import LabelLedger, calls_made
from pipeline.label_tidy import tidy_labels
from pipeline.labeller import Labeller
from pipeline.labels import PRICED_ON, USD_PER_1000, LabelSettings, calls_within, price_usd
from pipeline.ledger import cameras_of
from pipeline.records import Failure, Footage
from pipeline.store import side_by_side
from pipeline.tables import Provenance

log = logging.getLogger(__name__)


def frames_to_ask(settings: JobSettings, found: Survey) -> int:
    """Return about how many frames labels would be asked of; 0 if they are not wanted."""
    every = settings.aws_frame_skip if settings.aws_labels else 0
    footages = (each.footage for each in found.wanted)
    return sum(within(f, label_calls(f.track.expected_frames, every, f.stride)) for f in footages)


def cost_line(settings: JobSettings, calls: int) -> str:
    """Return what so many calls cost, in one line."""
    price = settings.aws_price
    line = (
        f"labels: about {calls} calls of Rekognition in all, one for every "
        f"{settings.aws_frame_skip} frames: {price_usd(calls, price):.3f} USD at {price:g} USD per "
        f"1,000 calls (list price on {PRICED_ON}: {USD_PER_1000:g}; --aws-price)"
    )
    if settings.most_cost_usd is not None:
        line += f"; it stops at {settings.most_cost_usd:g} USD, over all starts"
    return line


def begin_labels(
    settings: JobSettings, output: Path, made_by: Provenance, attempt_id: str
) -> LabelSettings | None:
    """Return how this start of a run asks for labels; None if it does not.

    Raises:
        ConfigError: It is not clear whom to ask.
        OutputError: What is on disk is damaged.
    """
    if not settings.aws_labels:
        return None
    # A wrong profile or a missing region shall show before the work begins.
    client("rekognition", settings.rekognition)
    _, drivers = settings.shard_of
    most_usd = settings.most_cost_usd
    most = None if most_usd is None else calls_within(most_usd, settings.aws_price)
    return LabelSettings(
        output=output,
        aws=settings.rekognition,
        store=settings.aws,
        every=settings.aws_frame_skip,
        max_tps=settings.aws_max_tps / drivers,
        provenance=made_by,
        attempt_id=attempt_id,
        most_calls=most,
        limit=f"aws_max_cost = {settings.aws_max_cost} USD",
    )


def with_pictures(found: Survey, footage: Footage) -> Footage:
    """Return a footage that knows what its pictures are made from."""
    recording = found.identities.get(footage.source_uri, "")
    return replace(footage, picture_id=picture_id(footage, recording))


def tidy_all(labels: LabelSettings, found: Survey, cameras: Iterable[str]) -> None:
    """Take labels of other pictures than today's out of cameras whose leases are held.

    Raises:
        OutputError: What is on disk is damaged, or cannot be written.
    """
    footages = [with_pictures(found, each.footage) for each in found.wanted]
    present = {
        (each.source_uri, each.track.video_track): (each.key.camera_id, each.picture_id)
        for each in footages
    }
    for camera_id in cameras:
        tidy_labels(labels, camera_id, present)


def make_up(
    labels: LabelSettings,
    found: Survey,
    cache: CacheSettings,
    *,
    tried: Collection[str] = (),
    retry: bool = False,
) -> None:
    """Ask for the labels of frames that were looked at, and that nobody has been asked about.

    Args:
        labels: How to ask.
        found: What is wanted; the leases of its cameras must be held.
        cache: How recordings of S3 come here.
        tried: Pictures that this start has asked about already.
        retry: Ask again about what failed in earlier starts.

    Raises:
        OutputError: What is on disk is damaged, or cannot be written.
    """
    footages = [with_pictures(found, each.footage) for each in found.wanted]
    again = {each.picture_id for each in footages} - set(tried) if retry else ()
    labeller = Labeller(labels, found.cameras, retry=again)
    missing = missing_frames(labels.output, footages, labels.every, labeller.logs)
    if missing:
        frames = sum(map(len, missing.values()))
        log.info("Labels: %d frames more wait for Rekognition, and are decoded for it", frames)
        fill(labeller, missing, DemuxSettings(cache=cache))
    labeller.close()


def label_failures(output: Path, cameras: Iterable[str]) -> list[Failure]:
    """Return the failures of cameras' labels.

    Raises:
        OutputError: What is on disk is damaged.
    """
    states = side_by_side(output, lambda camera_id: LabelLedger(output, camera_id).state(), cameras)
    return [each.failure for state in states for each in state.unanswered]


def label_totals(
    settings: JobSettings, output: Path, failures: Iterable[Failure]
) -> Mapping[str, float]:
    """Return what labels have come to, over all starts: calls, their price, frames without one."""
    calls = calls_made(output)
    return {
        "calls": calls,
        "usd": round(price_usd(calls, settings.aws_price), 4),
        "frames_failed": sum(failure.frames for failure in failures),
    }


def failed_tracks(output: Path) -> set[tuple[str, int]]:
    """Return the footage of which labels failed, as recording and video track.

    Raises:
        OutputError: What is on disk is damaged.
    """
    failures = label_failures(output, cameras_of(output))
    return {(failure.source_uri, failure.video_track or 0) for failure in failures}
