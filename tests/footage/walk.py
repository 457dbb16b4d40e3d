"""A recording's way through the pipeline, as the cluster takes it, but in one child process.

    path ──> child: probe, cut, decode ──> Walk: frames by number, time and checksum, and failures

A walk that hangs or kills its process is known by the parent, which then starts another child.
"""

import multiprocessing
import time
import zlib
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

from cluster.attempts import AttemptKey
from cluster.pace import Turn
from cluster.tries import DecodeTries
from pipeline.decode import DecodeSettings
from pipeline.demux import DemuxSettings, cut
from pipeline.errors import SourceError
from pipeline.probe import probe
from pipeline.records import Failure, FrameBatch, Recording, Segment
from tests.footage.clips import footages_of, picture

SETTINGS = DemuxSettings(segment_frames=20)


@dataclass(slots=True)
class Kept:
    """Frames of one video track that came out: their numbers, times, and checksums of pixels."""

    frame_index: list[int] = field(default_factory=list)
    pts_s: list[float] = field(default_factory=list)
    pixels: list[int] = field(default_factory=list)


@dataclass(slots=True)
class Walk:
    """What came of a recording."""

    refused: str = ""
    tracks: dict[int, Kept] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def frames(self) -> int:
        """Frames that came out, of all video tracks."""
        return sum(len(kept.frame_index) for kept in self.tracks.values())

    def frames_of(self, track: int) -> set[tuple[float, int]]:
        """Times and checksums of a video track's frames."""
        kept = self.tracks.get(track, Kept())
        return set(zip(kept.pts_s, kept.pixels, strict=True))

    @property
    def messages(self) -> list[str]:
        """All that was recorded of losses."""
        return [self.refused] * bool(self.refused) + [f.message for f in self.failures]


class _Tries:
    """Counts tries as the cluster's supervisor does, in this process."""

    def __init__(self) -> None:
        self._begun: dict[object, int] = {}

    def begin(self, key: AttemptKey, pieces: int = 1) -> Turn:
        self._begun[key] = self._begun.get(key, -1) + pieces
        failed = self._begun[key] + key.is_alone
        return Turn(failed=failed, batch_size=DecodeSettings().batch_size)

    def end(self, key: object) -> None:
        self._begun.pop(key, None)


def walk(path: str, settings: DemuxSettings = SETTINGS) -> Walk:
    """Take a recording through probe, cut and decode, as the cluster does."""
    done, start, tries = Walk(), time.perf_counter(), _Tries()
    try:
        footages = footages_of(path)
        done.failures += _bad_tracks(probe(path))
    except SourceError as error:
        done.refused = str(error)
        footages = []
    done.tracks = {footage.track.video_track: Kept() for footage in footages}
    for item in cut(footages, settings) if footages else ():
        if not isinstance(item, Segment):
            done.failures += item.failures
            continue
        row = DecodeTries([item], DecodeSettings(), tries)  # type: ignore[arg-type]
        for part in row.decode(item):
            if isinstance(part, FrameBatch):
                _keep(part, done)
            else:
                done.failures.append(part.failure)
    done.seconds = time.perf_counter() - start
    return done


def _bad_tracks(recording: Recording) -> list[Failure]:
    return [
        Failure(
            source_uri=recording.source_uri,
            video_track=number,
            step="probe",
            error_class="SourceError",
            message=reason,
        )
        for number, reason in recording.bad_video_tracks
    ]


def _keep(batch: FrameBatch, done: Walk) -> None:
    kept = done.tracks[batch.video_track]
    kept.frame_index += batch.frame_index.tolist()
    kept.pts_s += batch.pts_s.tolist()
    kept.pixels += [zlib.crc32(picture(f, batch.letterbox).tobytes()) for f in batch.pixels]
    done.failures += batch.failures


def unlike(done: Walk, clean: Walk) -> list[tuple[int, float]]:
    """Return the frames that came out with other pixels than the clean clip has at their time."""
    return [
        (track, pts_s)
        for track, kept in done.tracks.items()
        for pts_s, pixels in zip(kept.pts_s, kept.pixels, strict=True)
        if (pts_s, pixels) not in clean.frames_of(track)
    ]


def serve(pipe: Connection) -> None:
    """Be the child: walk whatever path comes, until an empty one does."""
    while path := pipe.recv():
        try:
            pipe.send(walk(path))
        except Exception as error:  # noqa: BLE001 -- whatever it was, the parent fails the test
            pipe.send(repr(error))


class Walker:
    """Walks recordings in a child process, each within a time."""

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._start()

    def _start(self) -> None:
        spawning = multiprocessing.get_context("spawn")
        self._pipe, pipe = spawning.Pipe()
        self._child = spawning.Process(target=serve, args=(pipe,), daemon=True)
        self._child.start()
        pipe.close()

    def walk(self, path: Path) -> Walk | str:
        """Return what came of a recording, or in words what went wrong with the walk itself."""
        self._pipe.send(str(path))
        try:
            if self._pipe.poll(self._limit_s):
                done: Walk | str = self._pipe.recv()
                return done
            trouble = f"hung for {self._limit_s:g} s"
        except EOFError:
            self._child.join()
            trouble = f"died with exit code {self._child.exitcode}"
        self.stop()
        self._start()
        return trouble

    def stop(self) -> None:
        """End the child."""
        self._child.kill()
        self._child.join()
        self._pipe.close()
