"""Find people in frame batches with YOLO: the hot path.

    FrameBatch ──> backend (OpenVINO or torch) ──> boxes of the padded input ──> source pixels

How a frame came to inference size is in `decode`; what a backend is, in `backend`.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from pipeline.backend import Backend, Boxes, DetectSettings, joined
from pipeline.openvino_backend import OpenVinoBackend
from pipeline.records import Detections, FrameBatch
from pipeline.standin_backend import STAND_IN, StandInBackend
from pipeline.timing import Moment, OverlappingWork
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
        self._rows = settings.batch_size
        self._notices: list[str] = []
        self._work = OverlappingWork("detect")

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of all classes of the model, by class_id."""
        return self._backend.class_names

    def warm_up(self, height: int, width: int) -> None:
        """Run a full batch of one input size, so that no real one pays for the first time."""
        self._begin(np.zeros((self._settings.batch_size, height, width, 3), np.uint8))()

    def take_notices(self) -> list[str]:
        """Return what a user should know, since this was last asked."""
        notices, self._notices = self._notices, []
        return notices

    def detect(self, batch: FrameBatch) -> Detections:
        """Return the boxes of a batch in pixels of the source frame.

        Raises:
            MemoryError: Not even one frame fits into the device's memory.
        """
        return self.begin(batch)()

    def begin(self, batch: FrameBatch) -> Callable[[], Detections]:
        """Begin with a batch; the next may be begun before this one is done.

        Returns:
            What waits for its detections, to be called once; it raises as `detect` does.
        """
        begun = self._work.begin()
        fault, place = self._settings.fault, (batch.video_track, batch.stretch.segment)
        strike = partial(fault.strike, "detect", *place) if fault else None
        wait = self._begin(batch.pixels, strike)
        return lambda: self._finish(batch, begun, wait)

    def _finish(self, batch: FrameBatch, begun: Moment, wait: Callable[[], Boxes]) -> Detections:
        found = wait()
        boxes = batch.letterbox.to_source(found.xyxy)
        ready_at = batch.spans[-1].ended_at if batch.spans else 0.0
        span = self._work.span(
            begun, frames=len(batch.frame_index), bytes_=boxes.nbytes, ready_at=ready_at
        )
        if batch.spans:
            span = span.crossed(batch.spans[-1], batch.pixels.nbytes)
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
            spans=(*batch.spans, span),
        )

    def _begin(
        self, pixels: NDArray[np.uint8], strike: Callable[..., None] | None = None
    ) -> Callable[[], Boxes]:
        """Begin with so many frames at once as fit; where memory runs out, with half as many."""
        begun: list[tuple[int, NDArray[np.uint8], Callable[[], Boxes]]] = []
        start = 0
        while start < len(pixels):
            some = pixels[start : start + self._rows]
            try:
                if strike:
                    strike(frames=len(some))
                begun.append((start, some, self._backend.begin(some, self._rows)))
            except MemoryError as error:
                self._take_fewer(len(some), error)
                continue
            start += len(some)

        def finish() -> Boxes:
            done = []
            for start, some, wait in begun:
                try:
                    found = wait()
                except MemoryError as error:
                    self._take_fewer(len(some), error)
                    found = self._begin(some, strike)()
                done.append(replace(found, frame_row=found.frame_row + start))
            return joined(done)

        return finish

    def _take_fewer(self, frames: int, error: MemoryError) -> None:
        """Go on with half as many frames at once as did not fit."""
        if frames > self._rows:
            # Others that were begun with them have said so already.
            return
        if self._rows == 1:
            raise error
        self._rows = max(1, min(self._rows, frames) // 2)
        self._notices.append(
            f"Out of memory on {self._settings.device} ({error}): "
            f"going on with {self._rows} frame(s) at once"
        )
