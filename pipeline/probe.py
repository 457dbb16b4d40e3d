"""What a recording holds: its video tracks, sizes, rates and rotation.

All of it is read from the header, but the rotation: PyAV shows a display matrix on frames alone, so
the first frame is decoded where the container can carry one. A header may lie: what cannot be true of
a file of its size counts as not said. Cutting what was found is in `demux`; what a header can do to
the process that reads it is for `probe_pool`.
"""

import errno
import os
import re
import stat
from dataclasses import replace
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from typing import Protocol

import av

from pipeline.errors import SourceError
from pipeline.ffmpeg import DECODER_LIMITS, FORMATS, LONGEST_S, MAX_PIXELS, MAX_STREAMS
from pipeline.gop import MOST_BYTES, longest_gops
from pipeline.records import Recording, VideoTrack

FASTEST_FPS = 10_000
# No codec and container together take less for a frame.
_LEAST_FRAME_BYTES = 4
_LONGEST_TIME = 40
_REMOTE_BUFFER_BYTES = 64 << 10
# A few seconds of most cameras: each byte is fetched to be looked at once.
_REMOTE_GOP_BYTES = 2 << 20
_UNSET_YEAR = 1970
# Containers that can say how a frame is to be turned.
ROTATING_FORMATS = ("mov", "matroska")


class RemoteFile(Protocol):
    """A recording that lies elsewhere, as PyAV reads it.

    Attributes:
        size_bytes: Of it.
    """

    size_bytes: int

    def read(self, size: int) -> bytes:
        """Return up to `size` bytes from where it stands; b"" at the end."""
        ...

    def seek(self, offset: int, whence: int) -> int:
        """Go somewhere; return where it stands."""
        ...


def probe(source_uri: str, remote: RemoteFile | None = None) -> Recording:
    """Return what the container says of a recording.

    Args:
        source_uri: Its address; a path, if not `remote`.
        remote: Reads it, if it is not on a disk.

    Raises:
        SourceError: It is missing, no regular file, empty, no footage, or has no video track that
            can be read.
    """
    size_bytes, version = (remote.size_bytes, "") if remote else _stat(source_uri)
    if size_bytes == 0:
        raise SourceError("is empty: 0 bytes", source_uri=source_uri)
    try:
        with open_recording(source_uri, remote) as container:
            tracks, bad = _video_tracks(
                container, source_uri, size_bytes, is_remote=remote is not None
            )
            return Recording(
                source_uri=source_uri,
                container=container.format.name,
                size_bytes=size_bytes,
                version=version,
                video_tracks=tracks,
                origin_s=(container.start_time or 0) / av.time_base,
                created=_created(container),
                bad_video_tracks=tuple(bad),
            )
    except (av.error.FFmpegError, OSError, ValueError, MemoryError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        if isinstance(error, MemoryError) or getattr(error, "errno", 0) == errno.ENOMEM:
            reason = f"it has more than {MAX_STREAMS} streams, or asks for too much memory"
        raise SourceError(f"cannot be read as footage: {reason}", source_uri=source_uri) from error


def open_recording(
    source_uri: str, remote: RemoteFile | None = None
) -> av.container.InputContainer:
    """Open a recording for PyAV to read, within bounds; raises what PyAV raises."""
    options = {
        "protocol_whitelist": "file",
        "format_whitelist": FORMATS,
        "max_streams": str(MAX_STREAMS),
        **DECODER_LIMITS,
    }
    if remote is not None:
        return av.open(remote, "r", options=options, buffer_size=_REMOTE_BUFFER_BYTES)
    # The prefix keeps a name like "concat:a|b" from being read as a protocol.
    return av.open(f"file:{source_uri}", options=options, timeout=30)


def video_streams(container: av.container.InputContainer) -> list[av.VideoStream]:
    """Return the streams that are video tracks, by their number: covers and the like are none."""
    pictures = av.stream.Disposition.attached_pic
    return [s for s in container.streams.video if not s.disposition & pictures]


def _stat(source_uri: str) -> tuple[int, str]:
    """Return a file's size, and when it was written."""
    if not source_uri.isascii() and source_uri != os.fsdecode(source_uri.encode(errors="replace")):
        raise SourceError("has a name that is not UTF-8: rename it", source_uri=source_uri)
    try:
        status = Path(source_uri).stat()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise SourceError(reason, source_uri=source_uri) from error
    if not stat.S_ISREG(status.st_mode):
        raise SourceError("is no regular file", source_uri=source_uri)
    return status.st_size, str(status.st_mtime_ns)


def _video_tracks(
    container: av.container.InputContainer, source_uri: str, size_bytes: int, *, is_remote: bool
) -> tuple[tuple[VideoTrack, ...], list[tuple[int, str]]]:
    """Return the video tracks that can be read; of the others, their number and what is wrong."""
    streams = video_streams(container)
    if not streams:
        kinds = ", ".join(sorted({s.type for s in container.streams})) or "none"
        raise SourceError(f"holds no video track (streams: {kinds})", source_uri=source_uri)
    turnable = any(name in container.format.name for name in ROTATING_FORMATS)
    tracks, bad = {}, []
    for number, stream in enumerate(streams):
        try:
            rotation_deg = _rotation_deg(container, stream) if turnable else 0
            tracks[number] = _describe(stream, number, rotation_deg, container, size_bytes)
        except ValueError as error:
            bad.append((number, str(error)))
    if not tracks:
        raise ValueError("; ".join(reason for _, reason in bad))
    wanted = [streams[number] for number in tracks]
    gops = longest_gops(container, wanted, _REMOTE_GOP_BYTES if is_remote else MOST_BYTES)
    return tuple(
        replace(track, gop_frames=gop.frames, gop_bytes=gop.bytes)
        for track, gop in zip(tracks.values(), gops, strict=True)
    ), bad


def _created(container: av.container.InputContainer) -> str:
    """Return when the recording was made, as its metadata says; "" if it says nothing sensible."""
    for metadata in (container.metadata, *(stream.metadata for stream in container.streams)):
        told = metadata.get("creation_time", "")
        try:
            moment = datetime.fromisoformat(told[:_LONGEST_TIME])
        except ValueError:
            continue
        # Cameras without a clock begin at an epoch: 1904 in MP4, 1970 elsewhere.
        if moment.year > _UNSET_YEAR:
            return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).isoformat()
    return ""


def _describe(
    stream: av.VideoStream,
    number: int,
    rotation_deg: int,
    container: av.container.InputContainer,
    size_bytes: int,
) -> VideoTrack:
    context = stream.codec_context
    if context is None:
        raise ValueError(f"video track {number} is of an unknown codec")
    if not 0 < context.width * context.height <= MAX_PIXELS:
        raise ValueError(
            f"video track {number} claims no size that is read ({context.width}x{context.height}): "
            f"a frame has at most {MAX_PIXELS} pixels"
        )
    rate_fps = _within(stream.average_rate or stream.guessed_rate, FASTEST_FPS) or 0.0
    duration_s = _within(_duration_s(stream, container), LONGEST_S)
    most_frames = size_bytes // _LEAST_FRAME_BYTES
    if duration_s and duration_s * rate_fps > most_frames:
        duration_s = None
    return VideoTrack(
        video_track=number,
        codec=context.codec.canonical_name,
        width=context.width,
        height=context.height,
        rotation_deg=rotation_deg,
        packs_b_frames=context.codec.canonical_name == "mpeg4" and container.format.name == "avi",
        rate_fps=rate_fps,
        duration_s=duration_s,
        frames=stream.frames if 0 < stream.frames <= most_frames else None,
        level=context.level,
        picture_bytes=_picture_bytes(context),
    )


def _picture_bytes(context: av.VideoCodecContext) -> int:
    """Return the bytes of a decoded picture; some codecs tell the format with the first one only."""
    if context.format is None:
        return context.width * context.height * 3 // 2
    planes = context.format.components
    return sum(plane.width * plane.height * -(-plane.bits // 8) for plane in planes)


def _within(claim: Fraction | float | None, most: int) -> float | None:
    """Return what a header claims, if it is a positive number of at most `most`."""
    return float(claim) if claim is not None and 0 < claim <= most else None


def _duration_s(
    stream: av.VideoStream, container: av.container.InputContainer
) -> Fraction | float | None:
    if stream.duration and stream.time_base:
        return stream.duration * stream.time_base
    total = container.duration
    return _tagged_s(stream) or (Fraction(total, av.time_base) if total else None)


def _tagged_s(stream: av.VideoStream) -> float | None:
    """Return the duration that Matroska muxers write as a tag, "00:01:02.500000000", if any."""
    found = re.fullmatch(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)", stream.metadata.get("DURATION", ""))
    if not found:
        return None
    return int(found[1]) * 3600 + int(found[2]) * 60 + float(found[3]) or None


def _rotation_deg(container: av.container.InputContainer, stream: av.VideoStream) -> int:
    """Return the clockwise turn that makes frames upright, from the first one's display matrix."""
    context = stream.codec_context
    # Typed as if it were always there: nothing decodes an unknown codec.
    if context is None:
        return 0
    try:
        context.options = DECODER_LIMITS
        container.seek(0)
        frame = next(container.decode(stream), None)
    except av.error.FFmpegError:
        # A first frame that does not decode says nothing of rotation; decode will report it.
        return 0
    # The matrix turns counterclockwise; cameras are mounted in quarter turns.
    return 0 if frame is None else round(-frame.rotation / 90) % 4 * 90
