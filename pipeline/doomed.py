"""What of a camera's log a purge is about: footage that goes as a whole or in part, and what stays.

    before            |
    A ──────          |            ended before: goes as a whole
        B ────────────┼─────────   is cut: its frames before the moment go
                      |   C ────   stays
    D ?                            nothing tells when it was: stays, and is told

Which frames are before is told by their own times, not by what the container says of its length.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.holdings import read_wanted
from pipeline.identity import age, from_plain
from pipeline.label_ledger import LabelLedger
from pipeline.ledger import CameraLedger, Part
from pipeline.purged import FootageName, is_before
from pipeline.records import Footage
from pipeline.staging import Staging, staged_frames
from pipeline.store import fetched
from pipeline.window import FootageWindow

_COLUMNS = ("source_uri", "video_track", "segment", "frame_index", "pts_s")


@dataclass(slots=True, kw_only=True)
class Share:
    """What a purge leaves of a footage.

    Attributes:
        has_failed: Something of it was not looked at, and may lie behind the moment.
        frames: That go.
        kept: Frames that stay.
        last_gone: Segment of the last frame that goes; -1 if none does.
        first_kept: Segment of the first frame that stays; None if none does.
        first_frame: Number of that frame.
        last_pts_s: Time of the last frame that goes.
    """

    footage: Footage
    is_ended: bool = False
    has_failed: bool = False
    frames: int = 0
    kept: int = 0
    last_gone: int = -1
    first_kept: int | None = None
    first_frame: int | None = None
    last_pts_s: float | None = None

    def is_whole(self, before: datetime) -> bool:
        """Whether it goes as a whole."""
        is_through = self.is_ended and self.frames > 0 and not self.has_failed
        return not self.kept and (is_through or is_before(self.footage, before))

    def add(self, rows: pa.Table, stays: NDArray[np.bool]) -> None:
        """Add frames of a part, each with whether it stays."""
        segments, numbers, pts_s = (rows.column(name).to_numpy() for name in _COLUMNS[2:])
        if not stays.all():
            self.last_pts_s = float(pts_s[~stays].max())
        self.frames += int((~stays).sum())
        self.kept += int(stays.sum())
        self.last_gone = max(self.last_gone, *segments[~stays].tolist(), -1)
        if stays.any() and self.first_kept is None:
            self.first_kept = int(segments[stays].min())
            self.first_frame = int(numbers[stays].min())


@dataclass(frozen=True, slots=True, kw_only=True)
class Doomed:
    """What of a camera's log a purge is about.

    Attributes:
        whole: Footage that goes as a whole, with its frames that were looked at.
        shares: Of footage that began before the moment and does not go as a whole.
        undated: Footage that stays since nothing tells when it was, with its frames.
        past: Of the footage that goes as a whole and began before the moment, oldest first.
        touched: Numbers of the parts, from 0, that have something of what goes.
    """

    camera_id: str
    whole: Mapping[FootageName, int] = field(default_factory=dict)
    shares: Mapping[FootageName, Share] = field(default_factory=dict)
    undated: Mapping[FootageName, int] = field(default_factory=dict)
    past: tuple[Share, ...] = ()
    touched: tuple[int, ...] = ()

    @property
    def cut(self) -> dict[FootageName, Share]:
        """Footage of which frames go, and others stay or may yet come."""
        return {name: share for name, share in self.shares.items() if share.frames}


def look(
    output: Path, camera_id: str, before: datetime | None, listed: Collection[FootageName] = ()
) -> Doomed:
    """Return what of a camera is before a moment; all of it if there is none.

    Args:
        output: Root of the tables.
        camera_id: The camera.
        before: The moment.
        listed: Footage that goes as a whole in any case.

    Raises:
        OutputError: A ledger is damaged, or a file cannot be read.
    """
    parts = CameraLedger(output, camera_id).parts()
    if before is None:
        everything = range(len(parts))
        return Doomed(
            camera_id=camera_id, whole=_all(output, camera_id, parts), touched=tuple(everything)
        )
    shares, undated = _footages(parts, before)
    going = [set(_add(output, part, shares, before)) for part in parts]
    whole = {
        name: share.frames
        for name, share in shares.items()
        if name in listed or share.is_whole(before)
    }
    # Of what has gone already, other files may tell.
    whole |= {name: 0 for name in listed if name not in whole}
    for noted in Staging(output, camera_id).noted():
        if is_before(noted, before):
            whole.setdefault((noted.source_uri, noted.track.video_track), 0)
    return Doomed(
        camera_id=camera_id,
        whole=whole,
        shares={name: share for name, share in shares.items() if name not in whole},
        undated=undated,
        past=tuple(
            sorted((shares[n] for n in whole if n in shares), key=lambda each: age(each.footage))
        ),
        touched=tuple(
            number
            for number, part in enumerate(parts)
            if going[number] or any(each.key in whole for each in part.covered)
        ),
    )


def _all(output: Path, camera_id: str, parts: Collection[Part]) -> dict[FootageName, int]:
    """Return all footage that is known of a camera, with its frames, also that which has not begun."""
    known: dict[FootageName, int] = {}
    stops: dict[FootageName, int] = {}
    for each in (covered for part in parts for covered in part.covered):
        known[each.key] = known.get(each.key, 0) + each.frames
        stops[each.key] = max(stops.get(each.key, 0), each.stop)
    for (_, uri, number), frames in staged_frames(output, stops, camera_id).items():
        known[uri, number] = known.get((uri, number), 0) + frames
    labels = LabelLedger(output, camera_id)
    others = [
        *((each.source_uri, each.track.video_track) for each in Staging(output, camera_id).noted()),
        *(track for entry in labels.entries() for track in entry.recordings.values()),
        *(
            (row["source_uri"], row["video_track"])
            for row in read_wanted(output)
            if row["camera_id"] == camera_id
        ),
    ]
    return {**dict.fromkeys(others, 0), **known}


def _footages(
    parts: Collection[Part], before: datetime
) -> tuple[dict[FootageName, Share], dict[FootageName, int]]:
    """Return the footage that began before a moment, and that of which nobody knows."""
    shares: dict[FootageName, Share] = {}
    undated: dict[FootageName, int] = {}
    for each in (covered for part in parts for covered in part.covered):
        footage = from_plain(each.footage)
        if footage.start_time is None:
            undated[each.key] = undated.get(each.key, 0) + each.frames
        elif footage.start_time < before:
            share = shares.setdefault(each.key, Share(footage=footage))
            share.is_ended |= each.is_ended
            share.has_failed |= bool(each.failures)
    return shares, undated


def _add(
    output: Path, part: Part, shares: Mapping[FootageName, Share], before: datetime
) -> Iterator[FootageName]:
    """Add a part's frames to the shares of their footage; yield the footage of which some go."""
    if not any(each.key in shares for each in part.covered):
        return
    for file in (file for file in part.files if file.path.startswith("ledger/")):
        with fetched(output / file.path) as (there,):
            rows = pq.ParquetFile(there).read(columns=list(_COLUMNS))
        for name, own in by_footage(rows):
            if name in shares:
                share, some = shares[name], rows.filter(pa.array(own))
                stays = stay(share.footage, some.column("pts_s").to_numpy(), before)
                share.add(some, stays)
                if not stays.all():
                    yield name


def stay(footage: Footage, pts_s: NDArray[np.float64], before: datetime) -> NDArray[np.bool]:
    """Say which frames of a footage are not before a moment."""
    return FootageWindow(since=before).holds(footage.start_time, pts_s - footage.origin_s)


def by_footage(rows: pa.Table) -> Iterator[tuple[FootageName, NDArray[np.bool]]]:
    """Yield each footage that rows are of, with which of them are."""
    uris = rows.column("source_uri").combine_chunks().dictionary_encode()
    codes = uris.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    tracks = rows.column("video_track").fill_null(-1).to_numpy()
    for code, uri in enumerate(uris.dictionary.to_pylist()):
        for track in np.unique(tracks[codes == code]).tolist():
            yield (uri, track), (codes == code) & (tracks == track)
