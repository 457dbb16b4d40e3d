"""What makes footage the same footage: its recording's identity, and all that shapes its detections.

A run that goes on trusts what an earlier one did only as long as these are equal.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, TypeAlias

from pipeline.letterbox import fit
from pipeline.records import Footage, FootageKey, VideoTrack
from pipeline.tables import SCHEMA_VERSION

_ID_DIGITS = 20
# What `replay` needs to know of footage; how it is cut and scaled is over by then.
_PLAIN_IMAGE_PX = 32


def evidence_id(footage: Footage, recording: str, settings_hash: str) -> str:
    """Return the hash of all that a footage's detections are made from.

    Args:
        footage: Which frames of what.
        recording: Its recording's identity.
        settings_hash: Of the model, and of the settings that change detections.
    """
    window = footage.window
    parts = {
        "source_uri": footage.source_uri,
        "recording": recording,
        "video_track": footage.track.video_track,
        "settings": settings_hash,
        "start_time": str(footage.start_time),
        "window": [str(window.since), str(window.until), str(window.hours), str(window.zone)],
        "stride": footage.stride,
        "masks": footage.masks,
        "schema": SCHEMA_VERSION,
    }
    text = json.dumps(parts, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:_ID_DIGITS]


def picture_id(footage: Footage, recording: str) -> str:
    """Return the hash of all that a footage's pictures are made from, whatever looks at them.

    Args:
        footage: Which video track of what.
        recording: Its recording's identity.
    """
    parts = {
        "source_uri": footage.source_uri,
        "recording": recording,
        "video_track": footage.track.video_track,
        "masks": footage.masks,
    }
    text = json.dumps(parts, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:_ID_DIGITS]


# When a recording began, and its path, cut at its numbers.
Age: TypeAlias = tuple[datetime, list[tuple[bool, int, str]]]


def age(footage: Footage) -> tuple[Age, int]:
    """Return the sort key of a camera's footage: start time, then path, numbers by their value."""
    start = footage.start_time or datetime.min.replace(tzinfo=UTC)
    return age_of(start, footage.source_uri), footage.track.video_track


def age_of(start: datetime, source_uri: str) -> Age:
    """Return the sort key of recordings: when they began, then path, numbers by their value."""
    pieces = re.split(r"(\d+)", source_uri)
    return start, [(p.isdecimal(), int(p) if p.isdecimal() else 0, p) for p in pieces]


def to_plain(footage: Footage) -> dict[str, Any]:
    """Return what must be known of footage once its detections are there, as JSON takes it."""
    start = footage.start_time
    return {
        "camera_id": footage.key.camera_id,
        "source_uri": footage.source_uri,
        "track": asdict(footage.track),
        "start_time": start.isoformat() if start else None,
        "start_resolution_s": footage.start_resolution_s,
        "origin_s": footage.origin_s,
        "stride": footage.stride,
        "evidence_id": footage.evidence_id,
    }


def from_plain(plain: Mapping[str, Any], sequence: int = 0) -> Footage:
    """Return footage as `to_plain` told it; it can be tracked again, and not be decoded."""
    track = VideoTrack(**plain["track"])
    start = plain["start_time"]
    return Footage(
        key=FootageKey(camera_id=plain["camera_id"], sequence=sequence),
        source_uri=plain["source_uri"],
        track=track,
        letterbox=fit(*track.upright_size, _PLAIN_IMAGE_PX),
        start_time=datetime.fromisoformat(start) if start else None,
        start_resolution_s=plain["start_resolution_s"],
        origin_s=plain["origin_s"],
        stride=plain["stride"],
        evidence_id=plain["evidence_id"],
    )
