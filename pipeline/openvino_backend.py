"""YOLO on a CPU, through OpenVINO."""

import os
from collections import OrderedDict
from collections.abc import Callable, Sequence
from threading import Event, Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.backend import MAX_DETECTIONS, Boxes, DetectSettings, joined, wanted_mask
from pipeline.weights import Converted, convert

_COMPILED_SHAPES = 8
# Of what is not quantized, if the model is.
_HINTS = {"fp32": "f32", "bf16": "bf16", "int8": "f32"}


class OpenVinoBackend:
    """YOLO on a CPU through OpenVINO.

    Each frame is a request of its own, and the requests run beside each other, one on each stream:
    so the boxes of a frame cannot depend on what else is in its batch.
    """

    def __init__(self, settings: DetectSettings, converted: Converted | None = None) -> None:
        """Load the model of `settings`, or one that is converted already."""
        os.environ.setdefault("OPENVINO_TELEMETRY", "0")
        import openvino

        converted = converted or convert(settings.weights)
        self.class_names = converted.class_names
        self._wanted = wanted_mask(settings, self.class_names)
        self._settings = settings
        self._openvino = openvino
        self._core = openvino.Core()
        self._model = self._with_pixels_in(self._core.read_model(converted.xml))
        self._queues: OrderedDict[tuple[int, int], Any] = OrderedDict()
        # A queue finds a free request and begins it in two steps.
        self._beginning = Lock()

    def _with_pixels_in(self, model: Any) -> Any:  # noqa: ANN401 -- openvino has no types
        """Put the way from uint8 pixels to the network's input into the graph."""
        from openvino import Layout, Type
        from openvino.preprocess import PrePostProcessor

        steps = PrePostProcessor(model)
        steps.input().tensor().set_element_type(Type.u8).set_layout(Layout("NHWC"))
        steps.input().model().set_layout(Layout("NCHW"))
        steps.input().preprocess().convert_element_type(Type.f32).scale(255.0)
        return steps.build()

    def _queue(self, height: int, width: int) -> Any:  # noqa: ANN401
        """Return the request queue of an input size, compiled when it is first met."""
        shape = height, width
        if shape not in self._queues:
            model = self._model.clone()
            model.reshape([1, height, width, 3])
            compiled = self._core.compile_model(
                model,
                "CPU",
                {
                    "PERFORMANCE_HINT": "THROUGHPUT",
                    "INFERENCE_PRECISION_HINT": _HINTS[self._settings.precision],
                    "INFERENCE_NUM_THREADS": self._settings.threads,
                    # Decoders and trackers run on the same cores: a thread that may not move waits.
                    "ENABLE_CPU_PINNING": False,
                },
            )
            # A stream that is done finds its next frame waiting; handed one by Python, it would idle.
            streams = compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")
            queue = self._queues[shape] = self._openvino.AsyncInferQueue(compiled, 2 * streams)
            queue.set_callback(self._collect)
            while len(self._queues) > _COMPILED_SHAPES:
                self._queues.popitem(last=False)
        self._queues.move_to_end(shape)
        return self._queues[shape]

    def begin(
        self,
        pixels: NDArray[np.uint8],
        rows: int,  # noqa: ARG002 -- frame by frame
    ) -> Callable[[], Boxes]:
        """Hand (k, height, width, 3) uint8 RGB to the streams; return once the last is begun."""
        tray = _Tray(len(pixels))
        with self._beginning:
            queue = self._queue(*pixels.shape[1:3])
            for row in range(len(pixels)):
                queue.start_async({0: pixels[row : row + 1]}, (tray, row))
        return tray.wait

    def _collect(self, request: Any, place: tuple["_Tray", int]) -> None:  # noqa: ANN401
        tray, row = place
        try:
            raw = request.get_output_tensor().data[0]
            tray.put(row, _select(raw, row, self._wanted, self._settings))
        except Exception as error:  # noqa: BLE001 -- a thread of OpenVINO's; who waits raises it
            tray.put(row, error)


class _Tray:
    """Where the boxes of a batch's frames are put, from several threads."""

    def __init__(self, frames: int) -> None:
        self._found: list[Boxes | Exception | None] = [None] * frames
        self._left = frames
        self._lock, self._full = Lock(), Event()
        if not frames:
            self._full.set()

    def put(self, row: int, found: Boxes | Exception) -> None:
        """Take a frame's boxes, or what went wrong."""
        with self._lock:
            self._found[row] = found
            self._left -= 1
            if not self._left:
                self._full.set()

    def wait(self) -> Boxes:
        """Return the boxes of all frames, once they are there."""
        self._full.wait()
        for found in self._found:
            if isinstance(found, Exception):
                raise found
        return joined([found for found in self._found if isinstance(found, Boxes)])


def _select(
    raw: NDArray[np.float32], row: int, wanted: NDArray[np.bool], settings: DetectSettings
) -> Boxes:
    """Choose the boxes of one frame: best class, score, then non-maximum suppression by class.

    Args:
        raw: (4 + classes, n) float32, the network's output: centre x, y, width, height, scores.
        row: The frame's row in its batch.
        wanted: (classes,) bool.
        settings: Least score and greatest overlap.
    """
    import cv2

    scores = raw[4:]
    best = scores.max(axis=0)
    above = np.flatnonzero(best >= settings.confidence)
    class_id = scores[:, above].argmax(axis=0)
    chosen = above[wanted[class_id]]
    class_id, confidence = class_id[wanted[class_id]], best[chosen]
    centre, size = raw[:2, chosen].T, raw[2:4, chosen].T
    corner = centre - size / 2
    keep: Sequence[int] = ()
    if len(chosen):
        keep = cv2.dnn.NMSBoxesBatched(
            np.hstack([corner, size]).tolist(),
            confidence.tolist(),
            class_id.tolist(),
            settings.confidence,
            settings.overlap,
        )[:MAX_DETECTIONS]
    kept = np.array(keep, np.int64)
    return Boxes(
        np.full(len(kept), row, np.int64),
        np.hstack([corner[kept], corner[kept] + size[kept]]).astype(np.float32),
        confidence[kept].astype(np.float32),
        class_id[kept].astype(np.int64),
    )
