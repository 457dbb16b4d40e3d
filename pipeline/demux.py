"""Cut each video track of a recording into segments that decode by themselves.

One ffmpeg copies the packets of all of them, never re-encoded, and a `cutter` for each decides where
they are cut. Reading pauses when the consumer does: nothing is cut ahead.

An ffmpeg that a signal ended is started again, and what it gave before is not given again:

    attempt 1     0 1 2 x             x: killed
    attempt 2     . . . 3 4 x         .: counted and numbered, neither muxed nor given
    attempt 3     . . . . . 5 6 end

How ffmpeg is run and what its death means is in `ffmpeg`; decoding is in `decode`.
"""

import subprocess
from collections.abc import Container, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from types import MappingProxyType

import av

from pipeline.aws import is_s3, retries
from pipeline.cache import let_go, on_disk
from pipeline.cut_progress import Progress
from pipeline.cutter import Cutter, DemuxSettings
from pipeline.errors import FfmpegError, SourceError
from pipeline.ffmpeg import Stream, copy_video_tracks
from pipeline.records import Footage, FootageEnd, FootageKey, Segment
from pipeline.timing import Span, Stopwatch

__all__ = ["MOST_ATTEMPTS", "DemuxSettings", "cut"]

MOST_ATTEMPTS = 3
# A process that a signal has ended is gone by then.
_DYING_S = 5.0
_NOTHING: Mapping[FootageKey, Container[int]] = MappingProxyType({})


def cut(
    footages: Sequence[Footage],
    settings: DemuxSettings,
    done: Mapping[FootageKey, Container[int]] = _NOTHING,
) -> Iterator[Segment | FootageEnd]:
    """Cut video tracks of one recording into segments, as far as it can be read.

    Args:
        footages: The wanted video tracks of one recording.
        settings: Where to cut, and what is wanted.
        done: Numbers of segments that the caller has: they are counted as always, but not given.

    Yields:
        The segments, those of one video track in order, and one `FootageEnd` for each video track.
        What cannot be read is in its failures; nothing is raised for bad footage.
    """
    tracks = [Progress(footage, done.get(footage.key, ())) for footage in footages]
    footage, fetch = footages[0], Stopwatch("fetch")
    try:
        with ExitStack() as stack:
            with fetch.running():
                path = stack.enter_context(on_disk(footage, settings.cache))
            error, attempts = yield from _attempts(path, tracks, settings)
    except SourceError as raised:
        error, attempts = raised, 1
    if not any(track.is_read_again for track in tracks):
        let_go(footage, settings.cache)
    fetched = [_fetched(footage, fetch)] if is_s3(footage.source_uri) else []
    for track in tracks:
        end = track.end(error, attempts)
        yield replace(end, spans=(*fetched, *end.spans))
        fetched = []


def _fetched(footage: Footage, watch: Stopwatch) -> Span:
    return watch.span(frames=0, bytes_=footage.size_bytes, retries=retries.take())


def _attempts(
    path: str, tracks: Sequence[Progress], settings: DemuxSettings
) -> Generator[Segment, None, tuple[Exception | None, int]]:
    """Yield segments; return what was wrong with the last attempt, if anything, and its number."""
    for attempt in range(1, MOST_ATTEMPTS + 1):
        error = yield from _attempt(path, tracks, settings, last=attempt == MOST_ATTEMPTS)
        if not _was_killed(error):
            break
    return error, attempt


def _attempt(
    path: str, tracks: Sequence[Progress], settings: DemuxSettings, *, last: bool
) -> Generator[Segment, None, Exception | None]:
    """Run one ffmpeg; yield segments that were not given yet, return what was wrong, if anything."""
    try:
        with copy_video_tracks(path, [track.footage.track for track in tracks]) as stream:
            cutters = [Cutter(track, stream, i, settings) for i, track in enumerate(tracks)]
            broken_off = yield from _read(stream, cutters)
            error = _end(stream, broken_off)
            if last or not _was_killed(error):
                for cutter in cutters:
                    yield from cutter.finish()
            return error
    except (SourceError, av.error.FFmpegError, ValueError) as raised:
        return raised


def _was_killed(error: Exception | None) -> bool:
    """Say whether a signal ended ffmpeg: another try may do better, unlike with bad data."""
    return isinstance(error, FfmpegError) and error.signal != ""


def _read(
    stream: Stream, cutters: Sequence[Cutter]
) -> Generator[Segment, None, av.error.FFmpegError | None]:
    """Hand each packet to the cutter of its video track; return why it broke off, if it did."""
    packets = stream.container.demux(video=tuple(range(len(cutters))))
    while True:
        try:
            packet = next(packets, None)
        except av.error.FFmpegError as error:
            return error
        if packet is None:
            return None
        if packet.size:
            yield from cutters[packet.stream.index].push(packet)


def _end(stream: Stream, broken_off: av.error.FFmpegError | None) -> Exception | None:
    """Wait for ffmpeg and return what it died or complained of, or why its packets broke off."""
    try:
        if broken_off is not None:
            # Mostly ffmpeg died within a packet. One that did not waits for us to read: for ever.
            stream.process.wait(_DYING_S)
        stream.end()
    except FfmpegError as error:
        return error
    except subprocess.TimeoutExpired:
        pass
    if broken_off is not None:
        return SourceError(f"the packets break off: {broken_off.strerror}")
    complaints = stream.stderr.tail()
    return SourceError(f"damaged: {complaints}") if complaints else None
