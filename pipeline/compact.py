"""Merge a camera's small parts into few, with equal tables.

    part-000000-000000  600 frames ┐
    part-000001-000001 1200 frames ├──> part-000000-000002
    part-000002-000002  900 frames ┘

A run commits its first parts early, so that there is something to query, and each twice as long as
the one before; what stays small is merged when the camera's footage ends, or by `footfall compact`.
"""

import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.atomic import FileEntry, entry_of, new_partial, publish, writing
from pipeline.ledger import CameraLedger, Covered, Part
from pipeline.sink import ROW_GROUP_ROWS
from pipeline.store import fetched


def compact(output: Path, camera_id: str, part_bytes: float) -> int:
    """Merge neighbouring parts of a camera as long as no table comes to more than `part_bytes`.

    The camera's lease must be held.

    Returns:
        How many parts there are fewer.

    Raises:
        OutputError: The ledger is damaged, or something cannot be read or written.
    """
    ledger = CameraLedger(output, camera_id)
    merged = 0
    for group in _groups(ledger.parts(), part_bytes):
        ledger.commit(merge(output, group))
        merged += len(group) - 1
    if merged:
        # The entries that were merged no longer count, and nor do their files.
        ledger.sweep()
    return merged


def _table_bytes(part: Part) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for file in part.files:
        table = file.path.split("/")[0]
        sizes[table] = sizes.get(table, 0) + file.bytes
    return sizes


def _groups(parts: Sequence[Part], part_bytes: float) -> Iterator[list[Part]]:
    """Yield runs of parts that fit into one; those that stay alone are left out."""
    group: list[Part] = []
    sizes: dict[str, int] = {}
    for part in parts:
        own = _table_bytes(part)
        both = {table: sizes.get(table, 0) + own.get(table, 0) for table in {*sizes, *own}}
        fits = max(both.values()) <= part_bytes and group and _alike(group[-1], part)
        if not fits:
            if len(group) > 1:
                yield group
            group, both = [], own
        group.append(part)
        sizes = both
    if len(group) > 1:
        yield group


def _alike(one: Part, other: Part) -> bool:
    return one.config_hash == other.config_hash and one.track_hash == other.track_hash


def _all_of_them(_: str, rows: pa.Table) -> pa.Table:
    return rows


def merge(
    output: Path,
    group: Sequence[Part],
    keep: Callable[[str, pa.Table], pa.Table] = _all_of_them,
    first: int | None = None,
) -> Part:
    """Write the files of neighbouring parts as one part's; it has still to be entered.

    Args:
        output: Root of the tables.
        group: The parts.
        keep: Given a table's name, "ledger" for the frames, and rows of it, returns those that stay.
        first: The number that it begins with; by default that of the group.

    Raises:
        OutputError: Something cannot be read or written.
    """
    first, last = group[0].first if first is None else first, group[-1].last
    name = f"{first:06}-{last:06}-{uuid.uuid4().hex[:8]}"
    by_kind: dict[Path, list[FileEntry]] = {}
    for part in group:
        for file in part.files:
            path = Path(file.path)
            # Up to the numbers: the folder, and for tables without partitions the camera.
            kind = path.parent / path.name.split(f"{part.first:06}-{part.last:06}")[0]
            by_kind.setdefault(kind, []).append(file)
    files = tuple(
        _join(output, output / kind.with_name(f"{kind.name}{name}.parquet"), entries, keep)
        for kind, entries in by_kind.items()
    )
    return replace(group[-1], first=first, covered=tuple(_join_covered(group)), files=files)


def _join(
    output: Path,
    path: Path,
    entries: Sequence[FileEntry],
    keep: Callable[[str, pa.Table], pa.Table],
) -> FileEntry:
    """Write the rows of some files, in their order, into one."""
    table, count = path.relative_to(output).parts[0], 0
    with writing(output):
        with fetched(*(output / entry.path for entry in entries)) as paths:
            schema = pq.read_schema(paths[0])
            with pq.ParquetWriter(new_partial(path), schema, compression="zstd") as writer:
                for rows in _row_groups(paths):
                    kept = keep(table, rows)
                    writer.write_table(kept, row_group_size=ROW_GROUP_ROWS)
                    count += len(kept)
        entry = entry_of(output, path, count)
        publish(path)
        return entry


def _row_groups(paths: Iterable[Path]) -> Iterator[pa.Table]:
    for path in paths:
        with pq.ParquetFile(path) as file:
            for number in range(file.num_row_groups):
                yield file.read_row_group(number).replace_schema_metadata(None)


def _join_covered(group: Sequence[Part]) -> Iterable[Covered]:
    """Add up what parts hold of each footage."""
    joined: dict[tuple[str, int], Covered] = {}
    for each in (covered for part in group for covered in part.covered):
        before = joined.get(each.key)
        joined[each.key] = each if before is None else _add(before, each)
    return joined.values()


def _add(one: Covered, other: Covered) -> Covered:
    counts = ("frames", "frames_failed", "detections", "movements", "tracks")
    has_segments = bool(other.stop or other.is_ended)
    return replace(
        one,
        first=one.first if one.stop or not has_segments else other.first,
        stop=max(one.stop, other.stop),
        is_ended=one.is_ended or other.is_ended,
        failures=[*one.failures, *other.failures],
        **{name: getattr(one, name) + getattr(other, name) for name in counts},
    )
