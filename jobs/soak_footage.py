"""Footage for the soak: three recordings, five video tracks, one of them corrupt.

a.mkv   tracks 0, 1     cameras hall, yard     09:00:00
b.mkv   tracks 0, 1     cameras hall, yard     follows at once: tracks go on into it
c.mp4   track 0         camera gate            its middle is overwritten with noise
"""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from jobs.demo_footage import make_footage

CAMERAS = """\
[[camera]]
id = "hall"
recording = "[ab]_*.mkv"
video_track = 0
start_time = "_%Y%m%d_%H%M%S"

[[camera]]
id = "yard"
recording = "[ab]_*.mkv"
video_track = 1
start_time = "_%Y%m%d_%H%M%S"

[[camera]]
id = "gate"
recording = "c_*.mp4"
start_time = "_%Y%m%d_%H%M%S"
"""
WIDTH, HEIGHT, RATE_FPS = 320, 240, 25
FRAMES = 500
_WALKERS = 5
_GOP_FRAMES = 50


def make_soak_footage(folder: Path, *, real: bool) -> Path:
    """Make the footage and its camera file in `folder`; return the camera file.

    Args:
        folder: Is made.
        real: Show people, for a real detector, and not only bright rectangles.
    """
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"{name}_20260115_{clock}" for name, clock in _NAMES]
    if real:
        recording, _ = make_footage(folder / "people")
        for name in names[:2]:
            (folder / f"{name}.mkv").hardlink_to(recording)
        _one_track(recording, folder / f"{names[2]}.mp4")
    else:
        film(folder / f"{names[0]}.mkv", [1, 2], first=0)
        film(folder / f"{names[1]}.mkv", [1, 2], first=FRAMES)
        film(folder / f"{names[2]}.mp4", [3], first=0)
    _corrupt(folder / f"{names[2]}.mp4")
    cameras = folder / "cameras.toml"
    cameras.write_text(CAMERAS)
    return cameras


# 500 frames at 25 a second are 20 s: the second recording follows the first without a gap.
_NAMES = (("a", "090000"), ("b", "090020"), ("c", "090000"))


def film(path: Path, seeds: Sequence[int], *, first: int, frames: int = FRAMES) -> None:
    """Write a recording of bright rectangles that walk on a dark, grainy floor.

    Args:
        path: Of the recording.
        seeds: One for each video track: who walks where.
        first: Which frame of the walks it begins with.
        frames: How many frames it has.
    """
    with av.open(path, "w") as container:
        streams = []
        for _ in seeds:
            stream = container.add_stream("libx264", rate=RATE_FPS, options={"preset": "veryfast"})
            stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
            stream.codec_context.gop_size = _GOP_FRAMES
            streams.append(stream)
        for number in range(frames):
            for stream, seed in zip(streams, seeds, strict=True):
                picture = av.VideoFrame.from_ndarray(_picture(seed, first + number), "rgb24")
                picture.pts, picture.time_base = number, Fraction(1, RATE_FPS)
                container.mux(stream.encode(picture))
        for stream in streams:
            container.mux(stream.encode(None))


def _picture(seed: int, number: int) -> NDArray[np.uint8]:
    floor = np.random.default_rng([seed, number]).integers(20, 60, (HEIGHT, WIDTH, 1), np.uint8)
    picture = np.repeat(floor, 3, axis=2)
    walks = np.random.default_rng(seed)
    for _ in range(_WALKERS):
        start_x, speed_x, y, phase = walks.uniform([0, -2, 60, 0], [WIDTH, 2, HEIGHT, 6.3])
        width, height = walks.integers([14, 36], [22, 56])
        left = int(start_x + speed_x * number) % (WIDTH + 60) - 30
        bottom = int(y + 15 * np.sin(phase + number / 40))
        picture[max(0, bottom - height) : max(0, bottom), max(0, left) : max(0, left + width)] = 230
    return picture


def _one_track(recording: Path, path: Path) -> None:
    """Copy the first video track of a recording."""
    with av.open(recording) as source, av.open(path, "w") as container:
        stream = container.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                container.mux(packet)


def _corrupt(path: Path) -> None:
    """Overwrite some of a recording's middle with noise, always the same."""
    content = bytearray(path.read_bytes())
    noise = np.random.default_rng(5).integers(0, 256, len(content) // 20, np.uint8).tobytes()
    start = len(content) * 2 // 5
    content[start : start + len(noise)] = noise
    path.write_bytes(content)
