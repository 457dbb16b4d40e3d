"""What a detector's backend is: its settings, what it gives, and the door for another one.

A backend is loaded where it runs, in its constructor: importing its module costs neither torch nor
OpenVINO.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ConfigError
from pipeline.faults import Fault
from pipeline.weights import Weights, class_ids

PRECISIONS = {
    "openvino": ("fp32", "bf16", "int8"),
    "torch": ("fp32", "fp16"),
    "stand-in": ("fp32",),
}
MAX_DETECTIONS = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectSettings:
    """What is detected, and how.

    Attributes:
        weights: The model.
        classes: Names of the wanted classes, or ("all",).
        confidence: Least score of a box. Trackers want the weak ones too: 0.1, as ultralytics'.
        overlap: Two boxes of a class that overlap more than this (IoU) are one.
        backend: "openvino" (CPU), "torch" (CUDA, or CPU for comparison), or "stand-in" (tests).
        device: "cpu" or "cuda".
        precision: Of the arithmetic, one of `PRECISIONS[backend]`; never chosen by the hardware. For
            "int8" the weights are those of `quantize`.
        threads: CPU threads of a detector.
        batch_size: Frames at once, at most.
        fault: A fault to be struck by, for tests.
    """

    weights: Weights
    classes: tuple[str, ...] = ("person",)
    confidence: float = 0.1
    overlap: float = 0.7
    backend: str = "openvino"
    device: str = "cpu"
    precision: str = "fp32"
    threads: int = 2
    batch_size: int = 10
    fault: Fault | None = None

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS.get(self.backend, ()):
            known = ", ".join(PRECISIONS.get(self.backend, ("no such backend",)))
            raise ConfigError(f"precision {self.precision!r} of {self.backend}: known are {known}")


@dataclass(frozen=True, slots=True, eq=False)
class Boxes:
    """Boxes of a batch in pixels of the padded input, grouped by frame, best first.

    Attributes:
        frame_row: (n,) int64, the frame's row in the batch.
        xyxy: (n, 4) float32.
        confidence: (n,) float32.
        class_id: (n,) int64.
    """

    frame_row: NDArray[np.int64]
    xyxy: NDArray[np.float32]
    confidence: NDArray[np.float32]
    class_id: NDArray[np.int64]


class Backend(Protocol):
    """Runs a model over pixels. A model of another maker finds its door here."""

    class_names: tuple[str, ...]

    def begin(self, pixels: NDArray[np.uint8], rows: int) -> Callable[[], Boxes]:
        """Begin to detect in frames; the next ones may be begun before these are done.

        Args:
            pixels: (k, height, width, 3) uint8 RGB, which is not written to.
            rows: At least k; a backend whose results depend on the batch's shape pads it to this.

        Returns:
            What waits for the boxes, to be called once; it raises as this does.

        Raises:
            MemoryError: They do not fit into the device's memory at once; fewer may.
        """
        ...


def no_boxes() -> Boxes:
    """Return the boxes of frames in which nothing was found."""
    return Boxes(
        np.zeros(0, np.int64),
        np.zeros((0, 4), np.float32),
        np.zeros(0, np.float32),
        np.zeros(0, np.int64),
    )


def joined(some: Sequence[Boxes]) -> Boxes:
    """Return the boxes of batches that follow each other, their frames' rows counted on already."""
    if not some:
        return no_boxes()
    if len(some) == 1:
        return some[0]
    return Boxes(
        np.concatenate([boxes.frame_row for boxes in some]),
        np.concatenate([boxes.xyxy for boxes in some]),
        np.concatenate([boxes.confidence for boxes in some]),
        np.concatenate([boxes.class_id for boxes in some]),
    )


def wanted_mask(settings: DetectSettings, class_names: Sequence[str]) -> NDArray[np.bool]:
    """Return (classes,) bool: which of the model's classes are wanted."""
    wanted = np.zeros(len(class_names), bool)
    wanted[list(class_ids(class_names, settings.classes))] = True
    return wanted
