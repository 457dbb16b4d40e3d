"""Frames that were looked at, and that nobody was asked about: they are decoded again for it.

A picture may have been let go for want of room, or lost with a process, or labels were not wanted when
its footage was done. What was looked at stands in the ledger; what was asked for, in the labels' own.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.cache import let_go, on_disk
from pipeline.decoders import PyavDecoder
from pipeline.demux import DemuxSettings, cut
from pipeline.errors import SourceError, StepError
from pipeline.isolate import isolated
from pipeline.label_frames import LabelTap, are_label_frames
from pipeline.label_log import LabelLog
from pipeline.labeller import Labeller
from pipeline.ledger import CameraLedger
from pipeline.records import Footage, LabelFrame, Segment
from pipeline.store import fetched

log = logging.getLogger(__name__)
# What is decoded waits for what was; a picture is a megabyte at most, mostly.
_MOST_WAITING = 16
_LOOK_EVERY_S = 10.0
_NO_FRAME = "the decoder gave no frame for its labels"


def missing_frames(
    output: Path, footages: Sequence[Footage], every: int, log_of: Mapping[str, LabelLog]
) -> dict[Footage, list[int]]:
    """Return the label frames that were looked at, and that nothing is known of.

    Args:
        output: Root of the tables.
        footages: With their `picture_id`.
        every: Of how many frames one has labels.
        log_of: By camera.

    Raises:
        OutputError: A ledger is damaged.
    """
    missing: dict[Footage, list[int]] = {}
    for camera_id in sorted({footage.key.camera_id for footage in footages}):
        own = {
            (each.source_uri, each.track.video_track): each
            for each in footages
            if each.key.camera_id == camera_id
        }
        for key, numbers in _looked_at(output, camera_id):
            footage = own.get(key)
            if footage is None:
                continue
            chosen = numbers[are_label_frames(numbers, every, footage.stride)].tolist()
            known = log_of[camera_id]
            left = [number for number in chosen if not known.knows((footage.picture_id, number))]
            if left:
                missing.setdefault(footage, []).extend(left)
    return missing


def _looked_at(output: Path, camera_id: str) -> Iterator[tuple[tuple[str, int], NDArray[np.int64]]]:
    """Yield recording and video track with frames of it, some at a time."""
    for part in CameraLedger(output, camera_id).parts():
        paths = [output / each.path for each in part.files if each.path.startswith("ledger/")]
        for path in paths:
            with fetched(path) as (local,), pq.ParquetFile(local) as file:
                for batch in file.iter_batches(columns=list(_COLUMNS)):
                    yield from _by_footage(batch)


_COLUMNS = ("source_uri", "video_track", "frame_index")


def _by_footage(
    batch: pa.RecordBatch,
) -> Iterator[tuple[tuple[str, int], NDArray[np.int64]]]:
    uris = batch.column("source_uri").dictionary_encode()
    codes = uris.indices.to_numpy(zero_copy_only=False)
    tracks = batch.column("video_track").to_numpy()
    numbers = batch.column("frame_index").to_numpy()
    for code, uri in enumerate(uris.dictionary.to_pylist()):
        for track in np.unique(tracks[codes == code]).tolist():
            yield (uri, track), numbers[(codes == code) & (tracks == track)]


def fill(
    labeller: Labeller, missing: Mapping[Footage, Sequence[int]], demux: DemuxSettings
) -> None:
    """Decode frames again and hand them to a labeller, no faster than it asks.

    Each footage is decoded in a child process: it may crash a decoder.
    """
    labeller.end()
    for footage, numbers in missing.items():
        left = dict.fromkeys(numbers)
        why = "SourceError", _NO_FRAME
        try:
            for frame in _read(labeller, footage, numbers, demux):
                labeller.take(footage, [frame])
                left.pop(frame.frame_index, None)
                while not labeller.wait(below=_MOST_WAITING, seconds=_LOOK_EVERY_S):
                    log.info("Labels: %d frames wait for Rekognition", labeller.waiting)
        except (SourceError, StepError) as error:
            why = type(error).__name__, str(error)
        log_of_camera = labeller.logs[footage.key.camera_id]
        for number in left:
            log_of_camera.fail(footage, number, *(labeller.hopeless or why), paid=False)


def _read(
    labeller: Labeller, footage: Footage, numbers: Sequence[int], demux: DemuxSettings
) -> Iterator[LabelFrame]:
    """Yield frames for as long as somebody may be asked about them."""
    if labeller.hopeless:
        return
    # The child has no credentials: what is in S3 is brought for it.
    with on_disk(footage, demux.cache):
        for frame in isolated(read_label_frames, footage, numbers, demux):
            yield frame
            if labeller.hopeless:
                break
    let_go(footage, demux.cache)


def read_label_frames(
    footage: Footage, numbers: Sequence[int], settings: DemuxSettings
) -> Iterator[LabelFrame]:
    """Yield some frames of a footage, to ask labels of; to be run in a process of its own.

    What does not decode is left out.
    """
    left = set(numbers)
    for item in cut([footage], settings):
        if isinstance(item, Segment):
            rows = np.flatnonzero(np.isin(item.frame_index, list(left)))
            if len(rows):
                yield from _decoded(_narrowed(item, rows), settings)
                left.difference_update(item.frame_index[rows].tolist())
        if not left:
            return


def _narrowed(segment: Segment, rows: NDArray[Any]) -> Segment:
    """Return a segment of which only these of its wanted frames are wanted."""
    return replace(
        segment,
        positions=segment.positions[rows],
        frame_index=segment.frame_index[rows],
        pts_s=segment.pts_s[rows],
    )


def _decoded(segment: Segment, settings: DemuxSettings) -> Iterator[LabelFrame]:
    tap = LabelTap(segment, every=1)
    for row, _ in PyavDecoder(settings.cache, tap).frames(segment):
        yield from tap.take(row, row + 1)
