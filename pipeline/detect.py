"""Find people in frame batches with YOLO: the hot path.

    FrameBatch ──> backend (OpenVINO or torch) ──> boxes of the padded input ──> source pixels

How a frame came to inference size is in `decode`; what a backend is, in `backend`.
"""

from collections.abc import Callable

import numpy as np

from pipeline.backend import Backend, DetectSettings, no_boxes
from pipeline.openvino_backend import OpenVinoBackend
from pipeline.records import Detections, FrameBatch
from pipeline.standin_backend import STAND_IN, StandInBackend
from pipeline.timing import Stopwatch
from pipeline.torch_backend import TorchBackend

_BACKENDS: dict[str, Callable[[DetectSettings], Backend]] = {
    "openvino": OpenVinoBackend,
    "torch": TorchBackend,
    STAND_IN: StandInBackend,
}


class Detector:
    """A loaded model: frame batches in, detections out."""

    def __init__(self, settings: DetectSettings) -> None:
        """Load the model, which takes seconds and most of a process's memory.

        Raises:
            ConfigError: A wanted class or the device is not there.
            StepError: The weights do not load.
        """
        self._backend: Backend = _BACKENDS[settings.backend](settings)
        self._settings = settings

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of all classes of the model, by class_id."""
        return self._backend.class_names

    def warm_up(self, height: int, width: int) -> None:
        """Run a full batch of one input size, so that no real one pays for the first time."""
        self._backend.boxes(np.zeros((self._settings.batch_size, height, width, 3), np.uint8))

    def detect(self, batch: FrameBatch) -> Detections:
        """Return the boxes of a batch in pixels of the source frame."""
        watch = Stopwatch("detect")
        with watch.running():
            found = self._backend.boxes(batch.pixels) if len(batch.pixels) else no_boxes()
            boxes = batch.letterbox.to_source(found.xyxy)
        return Detections(
            stretch=batch.stretch,
            positions=batch.positions,
            frame_index=batch.frame_index,
            pts_s=batch.pts_s,
            frame_row=found.frame_row,
            boxes=boxes,
            confidence=found.confidence,
            class_id=found.class_id,
            failures=batch.failures,
            spans=(*batch.spans, watch.span(frames=len(batch.frame_index))),
        )
