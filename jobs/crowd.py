"""A crowd that walks to and fro in front of a camera that nobody has: boxes without pixels.

What a detector would see of it: boxes that tremble, of people who hide one another.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from pipeline.boxes import intersection_over_smaller
from pipeline.letterbox import fit
from pipeline.records import Footage, FootageKey, VideoTrack

Float32s = NDArray[np.float32]

WIDTH, HEIGHT, RATE_FPS = 1920, 1080, 25.0
_TREMBLE = 0.02
_HIDDEN = 0.7
_FOOTAGE = Footage(
    key=FootageKey(camera_id="crowd", sequence=0),
    source_uri="/crowd.mkv",
    track=VideoTrack(video_track=0, codec="h264", width=WIDTH, height=HEIGHT, rate_fps=RATE_FPS),
    letterbox=fit(WIDTH, HEIGHT, 640),
)


def crowd_footage() -> Footage:
    """Return the footage that the crowd is in."""
    return _FOOTAGE


def crowd(people: int, seconds: float, seed: int = 1) -> Iterator[tuple[Float32s, Float32s]]:
    """Yield the boxes and scores of each frame at 25 frames/s.

    Args:
        people: How many are in view at a time.
        seconds: How long.
        seed: Of who walks where.

    Yields:
        (n, 4) float32 boxes in pixels, (n,) float32 scores.
    """
    random = np.random.default_rng(seed)
    depth = random.uniform(0.3, 1.0, people)
    tall = 400 * depth
    feet = 300 + 700 * depth
    speed = random.uniform(0.5, 1.0, people) * tall * random.choice([-1, 1], people)
    start = random.uniform(0, WIDTH, people)
    for number in range(round(seconds * RATE_FPS)):
        x = (start + speed * number / RATE_FPS) % WIDTH
        exact = np.column_stack([x - 0.2 * tall, feet - tall, x + 0.2 * tall, feet])
        nearer = feet[None] > feet[:, None]
        hidden = (intersection_over_smaller(exact, exact) * nearer).max(axis=1)
        seen = hidden < _HIDDEN
        off = random.normal(scale=_TREMBLE, size=exact.shape) * tall[:, None]
        score = np.clip(0.9 - 0.5 * hidden + random.normal(scale=0.05, size=people), 0.1, 0.99)
        yield (exact + off)[seen].astype(np.float32), score[seen].astype(np.float32)
