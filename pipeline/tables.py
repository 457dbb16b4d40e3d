"""The tables: their columns, and what each file says of itself.

`camera_id` and the date are not columns of the files but their folders (`camera_id=.../date=.../`),
as Hive does it: every reader puts them back.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote, unquote

import pyarrow as pa
from numpy.typing import NDArray

from pipeline.records import Failure

SCHEMA_VERSION = "4"
# Not the name that Hive has for null: pyarrow cannot read a table of which every date is null.
NO_DATE = "unknown"

_LONGEST_NAME = 255
_TIMESTAMP = pa.timestamp("us", tz="UTC")
_FRAME = [
    pa.field("source_uri", pa.string()),
    pa.field("video_track", pa.int32()),
    pa.field("frame_index", pa.int64()),
    pa.field("pts_s", pa.float64()),
    pa.field("timestamp", _TIMESTAMP),
    pa.field("class_id", pa.int32()),
    pa.field("class_name", pa.string()),
    pa.field("confidence", pa.float32()),
    pa.field("x_min", pa.float32()),
    pa.field("y_min", pa.float32()),
    pa.field("x_max", pa.float32()),
    pa.field("y_max", pa.float32()),
]
_POINT = pa.struct(
    [
        ("pts_s", pa.float64()),
        ("x", pa.float32()),
        ("y", pa.float32()),
        ("x_m", pa.float64()),
        ("y_m", pa.float64()),
    ]
)

SCHEMAS: Mapping[str, pa.Schema] = {
    "detections": pa.schema(_FRAME),
    "movements": pa.schema(
        [
            *_FRAME,
            pa.field("track_id", pa.int64()),
            pa.field("is_interpolated", pa.bool_()),
            pa.field("anchor_x", pa.float32()),
            pa.field("anchor_y", pa.float32()),
            pa.field("speed_px_s", pa.float32()),
            pa.field("direction_deg", pa.float32()),
            pa.field("world_x_m", pa.float64()),
            pa.field("world_y_m", pa.float64()),
            pa.field("speed_m_s", pa.float32()),
            pa.field("zones", pa.list_(pa.string())),
            # The tracker's own id of the box; null where it is interpolated.
            pa.field("raw_track_id", pa.int64()),
        ]
    ),
    "tracks": pa.schema(
        [
            pa.field("source_uri", pa.string()),
            pa.field("video_track", pa.int32()),
            pa.field("track_id", pa.int64()),
            pa.field("class_id", pa.int32()),
            pa.field("class_name", pa.string()),
            pa.field("first_frame_index", pa.int64()),
            pa.field("last_frame_index", pa.int64()),
            pa.field("first_pts_s", pa.float64()),
            pa.field("last_pts_s", pa.float64()),
            pa.field("first_timestamp", _TIMESTAMP),
            pa.field("last_timestamp", _TIMESTAMP),
            pa.field("duration_s", pa.float64()),
            pa.field("n_observations", pa.int64()),
            pa.field("distance_px", pa.float64()),
            pa.field("distance_m", pa.float64()),
            pa.field("path", pa.list_(_POINT)),
            pa.field("merged_from", pa.list_(pa.int64())),
        ]
    ),
    "events": pa.schema(
        [
            pa.field("source_uri", pa.string()),
            pa.field("video_track", pa.int32()),
            pa.field("frame_index", pa.int64()),
            pa.field("pts_s", pa.float64()),
            pa.field("timestamp", _TIMESTAMP),
            pa.field("event_type", pa.string()),
            pa.field("name", pa.string()),
            pa.field("track_id", pa.int64()),
            pa.field("class_id", pa.int32()),
            pa.field("class_name", pa.string()),
            pa.field("direction", pa.string()),
            pa.field("dwell_s", pa.float64()),
            pa.field("x", pa.float32()),
            pa.field("y", pa.float32()),
        ]
    ),
    "counts": pa.schema(
        [
            pa.field("kind", pa.string()),
            pa.field("name", pa.string()),
            pa.field("interval_start", _TIMESTAMP),
            pa.field("start_s", pa.float64()),
            pa.field("interval_s", pa.float64()),
            pa.field("frames", pa.int64()),
            pa.field("in", pa.int64()),
            pa.field("out", pa.int64()),
            pa.field("occupancy_min", pa.int64()),
            pa.field("occupancy_mean", pa.float64()),
            pa.field("occupancy_max", pa.int64()),
        ]
    ),
    "labels": pa.schema(
        [
            pa.field("source_uri", pa.string()),
            pa.field("video_track", pa.int32()),
            pa.field("frame_index", pa.int64()),
            pa.field("pts_s", pa.float64()),
            pa.field("timestamp", _TIMESTAMP),
            pa.field("name", pa.string()),
            pa.field("confidence", pa.float32()),
            pa.field("x_min", pa.float32()),
            pa.field("y_min", pa.float32()),
            pa.field("x_max", pa.float32()),
            pa.field("y_max", pa.float32()),
            pa.field("parents", pa.list_(pa.string())),
            pa.field("model_version", pa.string()),
        ]
    ),
    # Not for readers: the frames that were looked at, with or without a box, beside the ledger.
    "frames": pa.schema(
        [
            pa.field("source_uri", pa.string()),
            pa.field("video_track", pa.int32()),
            pa.field("segment", pa.int64()),
            pa.field("frame_index", pa.int64()),
            pa.field("pts_s", pa.float64()),
        ]
    ),
    "metrics": pa.schema(
        [
            pa.field("attempt_id", pa.string()),
            pa.field("time", _TIMESTAMP),
            pa.field("step", pa.string()),
            pa.field("source_uri", pa.string()),
            pa.field("camera_id", pa.string()),
            pa.field("video_track", pa.int32()),
            pa.field("segment", pa.int64()),
            pa.field("wall_s", pa.float64()),
            pa.field("cpu_s", pa.float64()),
            pa.field("frames", pa.int64()),
            pa.field("bytes", pa.int64()),
            pa.field("wait_s", pa.float64()),
            pa.field("crossed_bytes", pa.int64()),
            pa.field("retries", pa.int64()),
            pa.field("pid", pa.int64()),
            pa.field("node", pa.string()),
            pa.field("rss_mb", pa.float64()),
            pa.field("pss_mb", pa.float64()),
            pa.field("uss_mb", pa.float64()),
            pa.field("increase_mb", pa.float64()),
            pa.field("object_store_mb", pa.float64()),
            pa.field("spilled_mb", pa.float64()),
            pa.field("gpu_mem_mb", pa.float64()),
            pa.field("limit_mb", pa.float64()),
            pa.field("message", pa.string()),
        ]
    ),
    "failures": pa.schema(
        [
            pa.field("source_uri", pa.string()),
            pa.field("camera_id", pa.string()),
            pa.field("video_track", pa.int32()),
            pa.field("first_frame", pa.int64()),
            pa.field("last_frame", pa.int64()),
            pa.field("frames", pa.int64()),
            pa.field("step", pa.string()),
            pa.field("error_class", pa.string()),
            pa.field("message", pa.string()),
            pa.field("signal", pa.string()),
            pa.field("attempts", pa.int32()),
        ]
    ),
}


# What comes of tracking: online, as the run goes, and refined, when a camera's footage is whole.
REFINED_TABLES = ("movements", "tracks", "events", "counts")
# Those that a run writes as it goes, for readers.
TABLES = ("detections", "movements", "tracks", "metrics", "failures")


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """What made a file; it stands in the file's footer, as `footfall.NAME`."""

    run_id: str
    config_hash: str
    model_hash: str
    schema_version: str = SCHEMA_VERSION

    def footer(self) -> dict[str, str]:
        """Return the footer's entries."""
        return {f"footfall.{field.name}": getattr(self, field.name) for field in fields(self)}


def table(name: str, columns: Mapping[str, Sequence[object] | NDArray[Any]]) -> pa.Table:
    """Build a table of the named kind; columns that are not given are null."""
    schema = SCHEMAS[name]
    length = len(next(iter(columns.values())))
    if not length:
        return schema.empty_table()
    return pa.table(
        [
            pa.array(columns[field.name], field.type)
            if field.name in columns
            else pa.nulls(length, field.type)
            for field in schema
        ],
        schema=schema,
    )


def rows_table(name: str, rows: Sequence[Mapping[str, object]]) -> pa.Table:
    """Build a table of the named kind from rows; keys that a row lacks are null."""
    schema = SCHEMAS[name]
    return pa.Table.from_pylist(list(rows), schema=schema) if rows else schema.empty_table()


def failures_table(failures: Sequence[Failure]) -> pa.Table:
    """Build the `failures` table."""
    return rows_table("failures", [asdict(failure) for failure in failures])


def timestamp(start_time: datetime | None, offset_s: float) -> datetime | None:
    """Return the moment `offset_s` seconds after a recording's start, if that is known."""
    return None if start_time is None else start_time + timedelta(seconds=offset_s)


def date_of(moment: datetime | None) -> str:
    """Return the date that a row is filed under: UTC, or "unknown"."""
    return NO_DATE if moment is None else moment.date().isoformat()


def is_filable(camera_id: str) -> bool:
    """Say whether a folder can have the camera's name: file systems take 255 bytes."""
    return len(camera_folder(camera_id)) <= _LONGEST_NAME


def camera_folder(camera_id: str) -> str:
    """Return the name of a camera's folder; nothing in the id can leave the one it is in."""
    # quote() leaves dots alone, but "." and ".." cannot stand alone behind "camera_id=".
    return f"camera_id={quote(camera_id, safe='')}"


def camera_of_folder(name: str) -> str:
    """Return the camera whose folder has this name."""
    return unquote(name.removeprefix("camera_id="))


def partition(camera_id: str, date: str) -> str:
    """Return the folder of a camera's rows of a date."""
    return f"{camera_folder(camera_id)}/date={date}"
