"""Footage to measure with: loops of real clips, re-encoded as cameras do it.

1920x1080, H.264, 25 frames a second, a keyframe every 10 s. A loop is encoded once; longer footage is
that loop again and again, copied.
"""

import subprocess
from collections.abc import Sequence
from pathlib import Path

from jobs.demo_footage import make_footage
from pipeline.errors import ConfigError, StepError
from pipeline.ffmpeg import find_ffmpeg

WIDTH, HEIGHT, RATE_FPS = 1920, 1080, 25
GOP_S = 10
_LOOP_S = 20
_REAL_CLIPS = Path(__file__).parents[2] / "shared" / "footage"
_SUFFIXES = (".mp4", ".mkv", ".avi", ".mov")


def find_clips(footage: str, folder: Path) -> list[Path]:
    """Return the clips to loop.

    Args:
        footage: A clip or a folder of clips. Empty means the project's real footage beside the
            checkout, or, where that is not, the demo's.
        folder: Where the demo's is made.

    Raises:
        ConfigError: There are none.
    """
    if not footage and not _REAL_CLIPS.is_dir():
        return [make_footage(folder / "demo")[0]]
    path = Path(footage) if footage else _REAL_CLIPS
    clips = sorted(path.iterdir()) if path.is_dir() else [path]
    clips = [clip for clip in clips if clip.suffix in _SUFFIXES and clip.is_file()]
    if not clips:
        raise ConfigError(f"footage {footage!r}: no clip is there ({', '.join(_SUFFIXES)})")
    return clips


def make_loops(clips: Sequence[Path], count: int, folder: Path) -> list[Path]:
    """Encode `count` loops of `_LOOP_S` seconds, of the clips in turn."""
    loops = []
    for number in range(count):
        clip, loop = clips[number % len(clips)], folder / f"loop-{number}.mkv"
        fit = f"scale={WIDTH}:{HEIGHT}:force_original_aspect_ratio=increase,crop={WIDTH}:{HEIGHT}"
        keyframe = f"keyint={RATE_FPS * GOP_S}:scenecut=0"
        _ffmpeg(
            "-stream_loop", "-1", "-i", clip, "-t", _LOOP_S, "-an", "-vf", f"fps={RATE_FPS},{fit}",
            "-c:v", "libx264", "-preset", "veryfast", "-x264-params", keyframe, loop,
        )  # fmt: skip
        loops.append(loop)
    return loops


def film(loops: Sequence[Path], seconds: int, path: Path) -> Path:
    """Write a recording of `seconds` with one video track a loop."""
    inputs = [w for loop in loops for w in ("-stream_loop", "-1", "-t", seconds, "-i", loop)]
    maps = [word for number in range(len(loops)) for word in ("-map", f"{number}:v")]
    _ffmpeg(*inputs, *maps, "-c", "copy", path)
    return path


def _ffmpeg(*arguments: object) -> None:
    command = [find_ffmpeg(), "-nostdin", "-y", "-v", "error", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise StepError(f"the footage cannot be made: {done.stderr.strip()[-500:]}")
