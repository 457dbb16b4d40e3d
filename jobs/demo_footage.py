"""Footage with known truth: people cut out of photographs walk known paths through two cameras.

The photograph is one that the ultralytics package carries; the people are cut out of it with GrabCut.
The footage is one MKV with two video tracks (H.264), and beside it a JSON file with each person's box
in each frame. Both are made once, and the same each time.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.letterbox import fit
from pipeline.records import Footage, FootageKey, Observation, TrackedFrame, VideoTrack

Image = NDArray[np.uint8]

WIDTH, HEIGHT, RATE_FPS, FRAMES = 640, 480, 15, 120
HORIZON_PX = 170
# Where people stand in the photograph "bus.jpg": x_min, y_min, x_max, y_max.
CUTOUTS = {
    "cream coat": (49, 396, 208, 903),
    "black coat": (224, 404, 346, 860),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Walk:
    """A person's way through the picture: straight between points of the floor.

    Attributes:
        who: A key of `CUTOUTS`.
        points: (second, x, y) of the feet, in pixels.
        height_px: How tall the person is at the lower edge of the picture.
        mirrored: Whether the person is seen the other way round.
    """

    who: str
    points: tuple[tuple[float, float, float], ...]
    height_px: float = 330.0
    mirrored: bool = False

    def feet(self, second: float) -> tuple[float, float] | None:
        """Return where the person stands, or None if not there yet or any more."""
        times = [point[0] for point in self.points]
        if not times[0] <= second <= times[-1]:
            return None
        x, y = (float(np.interp(second, times, [p[i] for p in self.points])) for i in (1, 2))
        return x, y


# One list of walks a video track. In the first, two cross; in the second, one waits in the middle.
WALKS: tuple[tuple[Walk, ...], ...] = (
    (
        Walk(who="cream coat", points=((0.0, 90, 460), (7.9, 560, 430))),
        Walk(who="black coat", points=((0.5, 590, 350), (7.5, 60, 360))),
    ),
    (
        Walk(who="black coat", points=((0.0, 590, 440), (7.0, 70, 400)), mirrored=True),
        Walk(
            who="cream coat",
            points=((1.0, 60, 330), (3.0, 240, 330), (5.5, 240, 330), (7.9, 590, 350)),
        ),
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """Where one person was: frame_index -> box, in pixels."""

    who: str
    boxes: dict[int, tuple[float, float, float, float]]


def make_footage(folder: Path) -> tuple[Path, list[list[Truth]]]:
    """Return the recording and its truth, by video track and person; make them if not there.

    The name tells when it was filmed, as many recorders' names do.
    """
    recording = folder / "entrance_20260115_103000.mkv"
    truth_file = folder / "truth.json"
    if not (recording.is_file() and truth_file.is_file()):
        folder.mkdir(parents=True, exist_ok=True)
        truth = _film(recording)
        truth_file.write_text(
            json.dumps([[{"who": t.who, "boxes": t.boxes} for t in track] for track in truth])
        )
    return recording, [
        [
            Truth(who=t["who"], boxes={int(k): tuple(v) for k, v in t["boxes"].items()})
            for t in track
        ]
        for track in json.loads(truth_file.read_text())
    ]


def true_frames(people: Sequence[Truth]) -> list[TrackedFrame]:
    """Return the frames of a video track with the people who were really in them."""
    footage = Footage(
        key=FootageKey(camera_id="truth", sequence=0),
        source_uri="truth",
        track=VideoTrack(
            video_track=0, codec="h264", width=WIDTH, height=HEIGHT, rate_fps=RATE_FPS
        ),
        letterbox=fit(WIDTH, HEIGHT, WIDTH),
    )
    return [
        TrackedFrame(
            footage=footage,
            frame_index=number,
            pts_s=number / RATE_FPS,
            time_s=number / RATE_FPS,
            observations=[
                Observation(
                    track_id=i, class_id=0, box=np.array(person.boxes[number]), confidence=1.0
                )
                for i, person in enumerate(people)
                if number in person.boxes
            ],
        )
        for number in range(FRAMES)
    ]


def _film(recording: Path) -> list[list[Truth]]:
    cutouts, empty = _cut_out(), _background()
    partial = recording.with_suffix(".partial.mkv")
    truth = [[Truth(who=walk.who, boxes={}) for walk in walks] for walks in WALKS]
    with av.open(partial, "w") as container:
        streams = []
        for _ in WALKS:
            stream = container.add_stream("libx264", rate=RATE_FPS, options={"crf": "20"})
            stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
            stream.codec_context.gop_size = RATE_FPS * 2
            streams.append(stream)
        for number in range(FRAMES):
            for stream, walks, seen in zip(streams, WALKS, truth, strict=True):
                picture = _frame(number, walks, empty.copy(), seen, cutouts)
                frame = av.VideoFrame.from_ndarray(picture, "bgr24")
                frame.pts, frame.time_base = number, Fraction(1, RATE_FPS)
                container.mux(stream.encode(frame))
        for stream in streams:
            container.mux(stream.encode(None))
    partial.rename(recording)
    return truth


def _cut_out() -> dict[str, Image]:
    """Cut the people out of the photograph: BGRA, with soft edges."""
    package = find_spec("ultralytics")
    if package is None or package.origin is None:
        raise ModuleNotFoundError("ultralytics carries the demo's photograph, and is not installed")
    path = Path(package.origin).parent / "assets" / "bus.jpg"
    photograph = cv2.imread(str(path))
    if photograph is None:
        raise FileNotFoundError(path)
    people = {}
    for who, (x_min, y_min, x_max, y_max) in CUTOUTS.items():
        margin = 12
        left, top = max(0, x_min - margin), max(0, y_min - margin)
        crop = photograph[top : y_max + margin, left : x_max + margin]
        mask = np.zeros(crop.shape[:2], np.uint8)
        inside = (x_min - left, y_min - top, x_max - x_min, y_max - y_min)
        cv2.setRNGSeed(1)
        background, foreground = np.zeros((1, 65)), np.zeros((1, 65))
        cv2.grabCut(crop, mask, inside, background, foreground, 4, cv2.GC_INIT_WITH_RECT)
        person = np.isin(mask, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.uint8) * 255
        alpha = cv2.GaussianBlur(person, (3, 3), 0)
        rows, columns = np.flatnonzero(person.any(axis=1)), np.flatnonzero(person.any(axis=0))
        whole = np.dstack([crop, alpha])
        people[who] = whole[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return people


def _background() -> Image:
    """Paint a wall and a paved floor, the same each time."""
    random = np.random.default_rng(7)
    picture = np.empty((HEIGHT, WIDTH, 3), np.float32)
    picture[:HORIZON_PX] = (150, 178, 190)
    floor = np.linspace(95, 150, HEIGHT - HORIZON_PX)[:, None, None]
    picture[HORIZON_PX:] = floor * np.array([1.0, 1.02, 1.05])
    for row in range(HORIZON_PX, HEIGHT, 26):
        picture[row : row + 2] *= 0.9
    noise = random.normal(0, 5, (HEIGHT, WIDTH, 1))
    return np.clip(picture + noise, 0, 255).astype(np.uint8)


def _frame(
    number: int,
    walks: Sequence[Walk],
    picture: Image,
    seen: Sequence[Truth],
    cutouts: dict[str, Image],
) -> Image:
    """Paint people into a picture, those further away first, and note where everybody is."""
    second = number / RATE_FPS
    present = [(walk.feet(second), walk, truth) for walk, truth in zip(walks, seen, strict=True)]
    standing = [(feet, walk, truth) for feet, walk, truth in present if feet is not None]
    for feet, walk, truth in sorted(standing, key=lambda each: each[0][1]):
        person = cutouts[walk.who][:, ::-1] if walk.mirrored else cutouts[walk.who]
        truth.boxes[number] = _paste(picture, person, feet, walk.height_px)
    return picture


def _paste(
    picture: Image, person: Image, feet: tuple[float, float], height_px: float
) -> tuple[float, float, float, float]:
    """Put a person into the picture, smaller towards the horizon; return the visible box."""
    scale = height_px / person.shape[0] * (feet[1] - HORIZON_PX + 140) / (HEIGHT - HORIZON_PX + 140)
    size = max(2, round(person.shape[1] * scale)), max(2, round(person.shape[0] * scale))
    small = cv2.resize(person, size, interpolation=cv2.INTER_AREA)
    left, top = math.floor(feet[0] - size[0] / 2), math.floor(feet[1] - size[1])
    x_min, y_min = max(0, left), max(0, top)
    x_max, y_max = min(WIDTH, left + size[0]), min(HEIGHT, top + size[1])
    part = small[y_min - top : y_max - top, x_min - left : x_max - left]
    alpha = part[..., 3:].astype(np.float32) / 255
    under = picture[y_min:y_max, x_min:x_max]
    under[:] = (part[..., :3] * alpha + under * (1 - alpha)).astype(np.uint8)
    return float(x_min), float(y_min), float(x_max), float(y_max)
