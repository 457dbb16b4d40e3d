"""Who is in a still: what the detector finds in it, and the tracks that an output has around it.

How they are drawn is for `preview_picture`; what is done to their heads, for `pipeline.heads`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from cluster.session import local_cpus
from jobs.hardware import known_hardware
from jobs.one_track import FootageLog
from jobs.settings import JobSettings
from jobs.spec import find_model
from pipeline.backend import DetectSettings
from pipeline.detect import Detector
from pipeline.records import Footage, FrameBatch, Stretch
from pipeline.stills import Still

# Whatever is drawn: the head of whoever scores this much is found.
LEAST_HEAD_CONFIDENCE = 0.1
_PERSON = "person"
# Tracks are drawn from so long before the still to so long behind it.
AROUND_S = 15.0
# Rows further apart say nothing of where a box is between them.
_MOST_STEP_S = 1.0
_ROUNDING_S = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Seen:
    """What a detector sees in a still, best first.

    Attributes:
        boxes: (n, 4) float32, x_min, y_min, x_max, y_max in source pixels.
        confidence: (n,) float32.
        labels: Names of their classes.
        is_person: (n,) bool; all of them, if the model knows no people.
    """

    boxes: NDArray[np.float32]
    confidence: NDArray[np.float32]
    labels: tuple[str, ...]
    is_person: NDArray[np.bool]

    def wanted(self, settings: JobSettings) -> "Seen":
        """Return those of the classes and the confidence that the settings ask for."""
        is_all = "all" in settings.classes
        of_class = np.array([is_all or name in settings.classes for name in self.labels], bool)
        rows = np.flatnonzero(of_class & (self.confidence >= settings.confidence))
        return Seen(
            boxes=self.boxes[rows],
            confidence=self.confidence[rows],
            labels=tuple(self.labels[row] for row in rows),
            is_person=self.is_person[rows],
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Way:
    """The way of a track around a still.

    Attributes:
        pts_s: (k,) float64, rising.
        feet: (k, 2) float64, where it stands, in source pixels.
        box: (4,) float64, x_min, y_min, x_max, y_max in the still; None if it is not in it.
    """

    track_id: int
    pts_s: NDArray[np.float64]
    feet: NDArray[np.float64]
    box: NDArray[np.float64] | None


def detect(still: Still, footage: Footage, settings: JobSettings) -> Seen:
    """Return what the detector of a run finds in a still, and all people that it may be.

    Raises:
        ConfigError: The model, a class or the device is not there.
        StepError: The model does not load.
    """
    model = find_model(settings)
    # One frame: a GPU would be loaded for longer than a CPU takes for it.
    device = "cpu" if settings.device == "auto" else settings.device
    hardware = known_hardware(replace(settings, device=device), None)
    assert hardware is not None
    classes = {*settings.classes, *({_PERSON} & set(model.class_names))}
    detector = Detector(
        DetectSettings(
            weights=model.weights,
            classes=("all",) if "all" in classes else tuple(sorted(classes)),
            confidence=min(settings.confidence, LEAST_HEAD_CONFIDENCE),
            backend=hardware.backend,
            device=hardware.device,
            precision=hardware.precision,
            threads=local_cpus(),
            batch_size=1,
        )
    )
    found = detector.detect(_batch(still, footage))
    labels = tuple(model.class_names[number] for number in found.class_id)
    knows_people = _PERSON in model.class_names
    return Seen(
        boxes=found.boxes,
        confidence=found.confidence,
        labels=labels,
        is_person=np.array([name == _PERSON or not knows_people for name in labels], bool),
    )


def _batch(still: Still, footage: Footage) -> FrameBatch:
    return FrameBatch(
        stretch=Stretch(footage=footage.key, segment=0, start=0, stop=1, wanted=1),
        source_uri=footage.source_uri,
        video_track=footage.track.video_track,
        letterbox=footage.letterbox,
        positions=np.zeros(1, np.int64),
        frame_index=np.zeros(1, np.int64),
        pts_s=np.array([still.pts_s]),
        pixels=still.pixels[None],
    )


def ways(log: FootageLog, pts_s: float) -> list[Way]:
    """Return the ways of all tracks that are seen within `AROUND_S` of a moment."""
    rows = log.near(pts_s, AROUND_S)
    return [_way(list(own), pts_s) for _, own in groupby(rows, key=lambda row: row[0])]


def _way(rows: Sequence[tuple[float, ...]], pts_s: float) -> Way:
    table = np.array(rows, np.float64)
    times = table[:, 1]
    before, behind = times[times <= pts_s + _ROUNDING_S], times[times >= pts_s - _ROUNDING_S]
    box = None
    if len(before) and len(behind) and behind[0] - before[-1] <= _MOST_STEP_S:
        box = np.array([np.interp(pts_s, times, edge) for edge in table[:, 4:8].T])
    return Way(track_id=int(rows[0][0]), pts_s=times, feet=table[:, 2:4], box=box)
