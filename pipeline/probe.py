"""What a recording holds: its video tracks, sizes, rates and rotation.

All of it is read from the header, but the rotation: PyAV shows a display matrix on frames alone, so
the first frame is decoded where the container can carry one. Cutting what was found is in `demux`.
"""

import os
import re
import stat
from pathlib import Path

import av

from pipeline.errors import SourceError
from pipeline.ffmpeg import FORMATS
from pipeline.records import Recording, VideoTrack

MAX_PIXELS = 16384 * 16384
MAX_STREAMS = 128
# Containers that can say how a frame is to be turned.
ROTATING_FORMATS = ("mov", "matroska")


def probe(source_uri: str) -> Recording:
    """Return what the container says of a recording.

    Raises:
        SourceError: It is missing, no regular file, empty, no footage, or has no video track.
    """
    size_bytes = _size(source_uri)
    options = {
        "protocol_whitelist": "file",
        "format_whitelist": FORMATS,
        "max_streams": str(MAX_STREAMS),
    }
    try:
        # The prefix keeps a name like "concat:a|b" from being read as a protocol.
        with av.open(f"file:{source_uri}", container_options=options, timeout=30) as container:
            tracks = _video_tracks(container, source_uri)
            return Recording(
                source_uri=source_uri,
                container=container.format.name,
                size_bytes=size_bytes,
                video_tracks=tracks,
                origin_s=(container.start_time or 0) / av.time_base,
            )
    except (av.error.FFmpegError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise SourceError(f"cannot be read as footage: {reason}", source_uri=source_uri) from error


def _size(source_uri: str) -> int:
    if not source_uri.isascii() and source_uri != os.fsdecode(source_uri.encode(errors="replace")):
        raise SourceError("has a name that is not UTF-8: rename it", source_uri=source_uri)
    try:
        status = Path(source_uri).stat()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise SourceError(reason, source_uri=source_uri) from error
    if not stat.S_ISREG(status.st_mode):
        raise SourceError("is no regular file", source_uri=source_uri)
    if status.st_size == 0:
        raise SourceError("is empty: 0 bytes", source_uri=source_uri)
    return status.st_size


def _video_tracks(
    container: av.container.InputContainer, source_uri: str
) -> tuple[VideoTrack, ...]:
    streams = [s for s in container.streams.video if not _is_attached_picture(s)]
    if not streams:
        kinds = ", ".join(sorted({s.type for s in container.streams})) or "none"
        raise SourceError(f"holds no video track (streams: {kinds})", source_uri=source_uri)
    turnable = any(name in container.format.name for name in ROTATING_FORMATS)
    rotations = [_rotation_deg(container, s) if turnable else 0 for s in streams]
    total_s = container.duration / av.time_base if container.duration else None
    return tuple(
        _describe(s, number, rotations[number], total_s, container.format.name)
        for number, s in enumerate(streams)
    )


def _describe(
    stream: av.VideoStream,
    number: int,
    rotation_deg: int,
    total_s: float | None,
    format_name: str,
) -> VideoTrack:
    context = stream.codec_context
    if context is None:
        raise ValueError(f"video track {number} is of an unknown codec")
    if not 0 < context.width * context.height <= MAX_PIXELS:
        raise ValueError(
            f"video track {number} claims {context.width}x{context.height} pixels; at most "
            f"{MAX_PIXELS} pixels a frame are read"
        )
    unit = stream.time_base or 0
    own_s = float(stream.duration * unit) if stream.duration else _tagged_s(stream)
    return VideoTrack(
        video_track=number,
        codec=context.codec.canonical_name,
        width=context.width,
        height=context.height,
        rotation_deg=rotation_deg,
        packs_b_frames=context.codec.canonical_name == "mpeg4" and format_name == "avi",
        rate_fps=float(stream.average_rate or stream.guessed_rate or 0),
        duration_s=own_s or total_s,
        frames=stream.frames or None,
    )


def _tagged_s(stream: av.VideoStream) -> float | None:
    """Return the duration that Matroska muxers write as a tag, "00:01:02.500000000", if any."""
    found = re.fullmatch(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)", stream.metadata.get("DURATION", ""))
    if not found:
        return None
    return int(found[1]) * 3600 + int(found[2]) * 60 + float(found[3]) or None


def _is_attached_picture(stream: av.VideoStream) -> bool:
    return bool(stream.disposition & av.stream.Disposition.attached_pic)


def _rotation_deg(container: av.container.InputContainer, stream: av.VideoStream) -> int:
    """Return the clockwise turn that makes frames upright, from the first one's display matrix."""
    try:
        container.seek(0)
        frame = next(container.decode(stream), None)
    except av.error.FFmpegError:
        # A first frame that does not decode says nothing of rotation; decode will report it.
        return 0
    # The matrix turns counterclockwise; cameras are mounted in quarter turns.
    return 0 if frame is None else round(-frame.rotation / 90) % 4 * 90
