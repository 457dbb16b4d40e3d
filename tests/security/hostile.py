"""Recordings that lie: small clips, with bytes of their headers changed."""

import re
import struct
from pathlib import Path

from tests.footage.clips import run_ffmpeg

WIDTH, HEIGHT, FRAMES = 176, 144, 50


def make_clip(path: Path, codec: str = "libx264", frames: int = FRAMES) -> Path:
    """Make a clip of `frames` frames, 25 of them a second."""
    source = f"testsrc2=size={WIDTH}x{HEIGHT}:rate=25"
    arguments = ["-preset", "ultrafast", "-g", "10"] if codec == "libx264" else []
    run_ffmpeg(
        "-f", "lavfi", "-i", source, "-frames:v", str(frames), "-c:v", codec, *arguments,
        f"file:{path}",
    )  # fmt: skip
    return path


def with_field(data: bytes, box: bytes, offset: int, value: bytes) -> bytes:
    """Overwrite bytes of an MP4's box, counted from behind its name."""
    at = data.index(box) + 4 + offset
    return data[:at] + value + data[at + len(value) :]


def with_duration(mkv: bytes, duration: float) -> bytes:
    """Let a Matroska file claim another duration, in milliseconds."""
    at = mkv.index(b"\x44\x89\x88") + 3
    changed = mkv[:at] + struct.pack(">d", duration) + mkv[at + 8 :]
    return changed.replace(b"DURATION", b"NOTATIME")


def with_tagged_duration(mkv: bytes, text: bytes) -> bytes:
    """Let the tag of a Matroska video track claim another duration."""
    (found,) = re.findall(rb"\d\d:\d\d:\d\d\.\d{9}", mkv)
    return mkv.replace(found, text[: len(found)].ljust(len(found), b"0"))


def with_mjpeg_size(avi: bytes, size_px: int, *, in_header: bool, after: int = 0) -> bytes:
    """Let the pictures of an AVI of JPEGs claim another size: a square of `size_px`."""
    numbers = iter(range(1 << 30))
    wide, high = struct.pack(">HH", size_px, size_px), struct.pack(">HH", HEIGHT, WIDTH)
    start = re.compile(rb"(\xff\xc0...)" + re.escape(high), re.DOTALL)
    changed = start.sub(lambda m: m[1] + wide if next(numbers) >= after else m[0], avi)
    if in_header:
        old = struct.pack("<II", WIDTH, HEIGHT)
        changed = changed.replace(old, struct.pack("<II", size_px, size_px))
    assert changed != avi
    return changed


def with_external_media(mp4: bytes, elsewhere: Path) -> bytes:
    """Let an MP4 without media of its own refer to the media of another file, by an alias."""
    path = str(elsewhere).encode()
    path += b"\0" * (len(path) % 2)
    alias = (
        bytes(10) + bytes([3]) + b"any".ljust(27, b"\0") + bytes(12)
        + bytes([5]) + b"media".ljust(63, b"\0") + bytes(16)
        + struct.pack(">hh", -1, -1) + bytes(16)
        + struct.pack(">HH", 18, len(path)) + path + struct.pack(">hH", -1, 0)
    )  # fmt: skip
    entry = struct.pack(">I4sI", len(alias) + 12, b"alis", 0) + alias
    own = struct.pack(">I4sI", 12, b"url ", 1)
    grown = len(entry) - len(own)
    assert mp4.index(b"mdat") < mp4.index(b"moov"), "places of media must not move"
    at = mp4.index(own, mp4.index(b"dref"))
    changed = mp4[:at] + entry + mp4[at + len(own) :]
    for box in (b"moov", b"trak", b"mdia", b"minf", b"dinf", b"dref"):
        start = changed.index(box) - 4
        size = int.from_bytes(changed[start : start + 4]) + grown
        changed = changed[:start] + struct.pack(">I", size) + changed[start + 4 :]
    media, size = changed.index(b"mdat") + 4, changed.index(b"moov") - 4
    return changed[:media] + bytes(size - media) + changed[size:]
