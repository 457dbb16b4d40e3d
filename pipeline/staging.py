"""Detections on disk, segment by segment, until a part takes them: what a crash cannot take away.

    OUTPUT/staging/camera_id=.../EVIDENCE-000007.arrow           a segment, as soon as it is whole
                                 EVIDENCE-000000-000041.arrow    several: first and last of them
                                 EVIDENCE-end.json               the mark of the footage's end
                                 EVIDENCE-footage.json           whose they are, once no part tells it

A file is an Arrow IPC file with a record batch a segment and a row a frame, boxes in lists, since a
tracker needs to know of frames without boxes too. What the batch is about is in its metadata. The
name begins with the footage's evidence id: what was made from other footage or by other settings
has another name.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.atomic import new_partial, publish, remove, write_whole, writing
from pipeline.identity import from_plain, to_plain
from pipeline.records import (
    Detections,
    Failure,
    Footage,
    FootageEnd,
    FootageKey,
    Stretch,
    WholeSegment,
)
from pipeline.store import fetched, files, read, walk
from pipeline.tables import camera_folder, camera_of_folder
from pipeline.timing import Span

FOLDER = "staging"
_KEY = b"footfall.segment"
_NOTE = "-footage.json"
_BOX = pa.struct(
    [
        *((edge, pa.float32()) for edge in ("x_min", "y_min", "x_max", "y_max", "confidence")),
        ("class_id", pa.int64()),
    ]
)
_SCHEMA = pa.schema(
    [("frame_index", pa.int64()), ("pts_s", pa.float64()), ("boxes", pa.list_(_BOX))]
)
_OPTIONS = pa.ipc.IpcWriteOptions(compression="zstd")


class Staging:
    """The staged segments of one camera."""

    def __init__(self, output: Path, camera_id: str) -> None:
        self._output = output
        self._folder = output / FOLDER / camera_folder(camera_id)
        # By evidence id, once they were looked for: nobody else writes here while a lease is held.
        self._found: dict[str, set[Path]] | None = None

    def keep(self, footage: Footage, segments: Sequence[WholeSegment]) -> Path | None:
        """Write segments of one footage, in the order of their numbers; they are on disk then.

        Returns:
            The file that they are in; None if there are none.

        Raises:
            OutputError: It cannot be written.
        """
        if not segments:
            return None
        ends = sorted({segments[0].index, segments[-1].index})
        numbers = "-".join(f"{number:06}" for number in ends)
        return self._write(f"{footage.evidence_id}-{numbers}.arrow", footage, segments)

    def keep_end(self, footage: Footage, end: FootageEnd) -> None:
        """Write the mark of a footage's end.

        Raises:
            OutputError: It cannot be written.
        """
        plain = {
            "segments": end.segments,
            "failures": [asdict(failure) for failure in end.failures],
            "spans": [asdict(span) for span in end.spans],
        }
        with writing(self._output):
            write_whole(self._end_path(footage), json.dumps(plain).encode())

    def end_of(self, footage: Footage) -> FootageEnd | None:
        """Return the mark of a footage's end, if it was staged."""
        try:
            plain = json.loads(read(self._end_path(footage)))
        except FileNotFoundError:
            return None
        return FootageEnd(
            footage=footage.key,
            segments=plain["segments"],
            failures=tuple(Failure(**failure) for failure in plain["failures"]),
            spans=tuple(Span(**span) for span in plain["spans"]),
        )

    def note(self, footage: Footage) -> None:
        """Write down a footage that was in a part: it stays known if the part is taken back.

        Raises:
            OutputError: It cannot be written.
        """
        path = self._folder / f"{footage.evidence_id}{_NOTE}"
        with writing(self._output):
            write_whole(path, json.dumps(to_plain(footage)).encode())

    def noted(self) -> list[Footage]:
        """Return the footages that were noted, and that no part holds to their end yet."""
        notes = files(self._folder, f"*{_NOTE}")
        return [from_plain(json.loads(read(path))) for path in notes]

    def segments_of(self, footage: Footage) -> dict[int, Callable[[], WholeSegment]]:
        """Return the staged segments of a footage, by number, each to be read when it is needed."""
        found: dict[int, Callable[[], WholeSegment]] = {}
        for path in self._files(footage):
            _, first, last = _parse(path)
            numbers = [first] if first == last else _numbers(path)
            for row, number in enumerate(numbers):
                found[number] = _Read(path, row, footage.key)
        return found

    def drop(self, footage: Footage, stop: int, *, is_ended: bool) -> None:
        """Remove what a part has taken: a footage's segments before `stop`, and perhaps its end."""
        for path in self._files(footage):
            if _parse(path)[2] < stop:
                self._remove(path)
        if is_ended:
            remove(self._end_path(footage))
            remove(self._folder / f"{footage.evidence_id}{_NOTE}")

    def forget_failures(self, footage: Footage) -> None:
        """Remove the segments that something failed in, and an end that failed: for another try."""
        end = self.end_of(footage)
        cut_off = last_sound_segment(end) if end else None
        for path in self._files(footage):
            segments = [_Read(path, row, footage.key)() for row in range(len(_numbers(path)))]
            sound = [
                s for s in segments if not s.failures and (cut_off is None or s.index < cut_off)
            ]
            if len(sound) < len(segments) and self.keep(footage, sound) != path:
                self._remove(path)
        if end and end.failures:
            remove(self._end_path(footage))

    def sweep(self, firsts: Mapping[str, int]) -> None:
        """Remove all but what is still needed, and what a dead run left half written.

        Args:
            firsts: By evidence id, the first segment that no part has.
        """
        for path in files(self._folder):
            evidence = path.name.split("-")[0]
            is_needed = evidence in firsts and path.suffix in (".arrow", ".json")
            if is_needed and path.suffix == ".arrow":
                is_needed = _parse(path)[2] >= firsts[evidence]
            if not is_needed:
                remove(path)
        self._found = None

    def _files(self, footage: Footage) -> list[Path]:
        """Return the files of a footage's segments."""
        if self._found is None:
            self._found = {}
            for path in files(self._folder, "*.arrow"):
                self._found.setdefault(_parse(path)[0], set()).add(path)
        return sorted(self._found.get(footage.evidence_id, ()))

    def _remove(self, path: Path) -> None:
        remove(path)
        if self._found:
            self._found.get(_parse(path)[0], set()).discard(path)

    def _end_path(self, footage: Footage) -> Path:
        return self._folder / f"{footage.evidence_id}-end.json"

    def _write(self, name: str, footage: Footage, segments: Sequence[WholeSegment]) -> Path:
        path = self._folder / name
        with writing(self._output):
            with pa.ipc.new_file(str(new_partial(path)), _SCHEMA, options=_OPTIONS) as file:
                for segment in segments:
                    about = json.dumps(_about(footage, segment)).encode()
                    file.write_batch(_batch(segment), custom_metadata={_KEY: about})
            publish(path)
        if self._found is not None:
            self._found.setdefault(footage.evidence_id, set()).add(path)
        return path


class _Read:
    """Reads one staged segment when it is called."""

    def __init__(self, path: Path, row: int, key: FootageKey) -> None:
        self.path, self._row, self._key = path, row, key

    def __call__(self) -> WholeSegment:
        with _opened(self.path) as file:
            batch, metadata = file.get_batch_with_custom_metadata(self._row)
            return _segment(batch, json.loads(metadata[_KEY]), self._key)


def _parse(path: Path) -> tuple[str, int, int]:
    """Return a file's evidence id, and its first and last segment."""
    evidence, *numbers = path.stem.split("-")
    return evidence, int(numbers[0]), int(numbers[-1])


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Open a staged file; raises `FileNotFoundError` if it is not there."""
    with (
        fetched(path) as (there,),
        pa.OSFile(str(there)) as source,
        pa.ipc.open_file(source) as file,
    ):
        yield file


def _numbers(path: Path) -> list[int]:
    with _opened(path) as file:
        abouts = (
            file.get_batch_with_custom_metadata(row)[1][_KEY]
            for row in range(file.num_record_batches)
        )
        return [int(json.loads(about)["segment"]) for about in abouts]


def _about(footage: Footage, segment: WholeSegment) -> dict[str, Any]:
    return {
        "footage": [footage.source_uri, footage.track.video_track],
        "segment": segment.index,
        "is_set_aside": not segment.parts,
        "attempt_id": segment.attempt_id,
        "failures": [asdict(failure) for failure in segment.failures],
        "spans": [asdict(span) for part in segment.parts for span in part.spans],
    }


def _batch(segment: WholeSegment) -> pa.RecordBatch:
    parts = segment.parts
    boxes = np.concatenate([np.zeros((0, 4), np.float32), *(part.boxes for part in parts)])
    counts = [np.bincount(p.frame_row, minlength=len(p.frame_index)) for p in parts]
    offsets = np.concatenate([[0], np.cumsum(np.concatenate([np.zeros(0, int), *counts]))])
    columns = [np.ascontiguousarray(boxes[:, edge]) for edge in range(4)]
    columns.append(np.concatenate([np.zeros(0, np.float32), *(p.confidence for p in parts)]))
    columns.append(np.concatenate([np.zeros(0, np.int64), *(p.class_id for p in parts)]))
    values = pa.StructArray.from_arrays(list(map(pa.array, columns)), fields=list(_BOX))
    return pa.record_batch(
        [
            np.concatenate([np.zeros(0, np.int64), *(part.frame_index for part in parts)]),
            np.concatenate([np.zeros(0), *(part.pts_s for part in parts)]),
            pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), values),
        ],
        schema=_SCHEMA,
    )


def _segment(batch: pa.RecordBatch, about: dict[str, Any], key: FootageKey) -> WholeSegment:
    lists = batch.column("boxes")
    values, frames = lists.flatten(), len(batch)
    edges = [values.field(edge).to_numpy(zero_copy_only=False) for edge in range(4)]
    detections = detections_of(
        key,
        int(about["segment"]),
        frame_index=batch.column("frame_index").to_numpy(),
        pts_s=batch.column("pts_s").to_numpy(),
        frame_row=np.repeat(np.arange(frames), np.diff(lists.offsets.to_numpy())),
        boxes=np.stack(edges, axis=1) if len(values) else np.zeros((0, 4), np.float32),
        confidence=values.field(4).to_numpy(zero_copy_only=False),
        class_id=values.field(5).to_numpy(zero_copy_only=False),
        spans=tuple(Span(**span) for span in about["spans"]),
    )
    return WholeSegment(
        footage=key,
        index=int(about["segment"]),
        parts=() if about["is_set_aside"] else (detections,),
        failures=tuple(Failure(**failure) for failure in about["failures"]),
        attempt_id=about["attempt_id"],
    )


def last_sound_segment(end: FootageEnd) -> int | None:
    """Return the segment from which on a footage's cut is in doubt; None if none of it is.

    A cutter whose ffmpeg was killed holds two segments then, and gives them on as far as they came.
    """
    killed = any(failure.signal for failure in end.failures)
    return max(0, end.segments - 2) if killed else None


def detections_of(key: FootageKey, segment: int, **columns: Any) -> Detections:  # noqa: ANN401
    """Return the detections of a whole segment in one piece; `columns` are fields of `Detections`."""
    frames = len(columns["frame_index"])
    length = max(1, frames)
    stretch = Stretch(footage=key, segment=segment, start=0, stop=length, wanted=length)
    return Detections(stretch=stretch, positions=np.arange(frames), **columns)


def staged_frames(
    output: Path, committed: Mapping[tuple[str, int], int], camera_id: str | None = None
) -> dict[tuple[str, str, int], int]:
    """Return how many frames are staged, by camera, recording and video track.

    Args:
        output: Root of the tables.
        committed: By recording and video track, how many segments parts have already.
        camera_id: Of one camera alone.
    """
    counts: dict[tuple[str, str, int], int] = {}
    folder = output / FOLDER / (camera_folder(camera_id) if camera_id is not None else "")
    for path in (path for path in walk(folder) if path.suffix == ".arrow"):
        try:
            with _opened(path) as file:
                for row in range(file.num_record_batches):
                    batch, metadata = file.get_batch_with_custom_metadata(row)
                    about = json.loads(metadata[_KEY])
                    uri, number = about["footage"]
                    if about["segment"] >= committed.get((uri, number), 0):
                        key = camera_of_folder(path.parent.name), uri, number
                        counts[key] = counts.get(key, 0) + len(batch)
        except FileNotFoundError:
            # A part has taken it meanwhile.
            continue
    return counts


def cameras_taken_back(output: Path) -> list[str]:
    """Return the cameras with footage that was taken back out of parts, and is in none yet."""
    notes = (path for path in walk(output / FOLDER) if path.name.endswith(_NOTE))
    return sorted({camera_of_folder(path.parent.name) for path in notes})
