"""Find people in frame batches with YOLO: the hot path.

    FrameBatch ──> backend (OpenVINO or torch) ──> boxes of the padded input ──> source pixels

A backend is loaded where it runs, in its constructor: importing this module costs neither torch nor
OpenVINO. How a frame came to inference size is in `decode`.
"""

import os
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ConfigError
from pipeline.faults import Fault
from pipeline.records import Detections, FrameBatch
from pipeline.timing import Stopwatch
from pipeline.weights import Weights, class_ids, convert

PRECISIONS = {"openvino": ("fp32", "bf16"), "torch": ("fp32", "fp16")}
MAX_DETECTIONS = 300
_COMPILED_SHAPES = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectSettings:
    """What is detected, and how.

    Attributes:
        weights: The model.
        classes: Names of the wanted classes, or ("all",).
        confidence: Least score of a box. Trackers want the weak ones too: 0.1, as ultralytics'.
        overlap: Two boxes of a class that overlap more than this (IoU) are one.
        backend: "openvino" (CPU) or "torch" (CUDA, or CPU for comparison).
        device: "cpu" or "cuda".
        precision: Of the arithmetic, one of `PRECISIONS[backend]`; never chosen by the hardware.
        threads: CPU threads of a detector.
        batch_size: Batches are padded to this on CUDA, so that a shape is always the same.
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

    def boxes(self, pixels: NDArray[np.uint8]) -> Boxes:
        """Detect in (k, height, width, 3) uint8 RGB, which is not written to."""
        ...


class Detector:
    """A loaded model: frame batches in, detections out."""

    def __init__(self, settings: DetectSettings) -> None:
        """Load the model, which takes seconds and most of a process's memory.

        Raises:
            ConfigError: A wanted class or the device is not there.
            StepError: The weights do not load.
        """
        load = OpenVinoBackend if settings.backend == "openvino" else TorchBackend
        self._backend: Backend = load(settings)
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
            found = self._backend.boxes(batch.pixels) if len(batch.pixels) else _no_boxes()
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


def _no_boxes() -> Boxes:
    return Boxes(
        np.zeros(0, np.int64),
        np.zeros((0, 4), np.float32),
        np.zeros(0, np.float32),
        np.zeros(0, np.int64),
    )


class OpenVinoBackend:
    """YOLO on a CPU through OpenVINO.

    Each frame is a request of its own, and the requests run beside each other, one on each stream:
    so the boxes of a frame cannot depend on what else is in its batch.
    """

    def __init__(self, settings: DetectSettings) -> None:
        os.environ.setdefault("OPENVINO_TELEMETRY", "0")
        import openvino

        converted = convert(settings.weights)
        self.class_names = converted.class_names
        self._wanted = _mask(settings, self.class_names)
        self._settings = settings
        self._openvino = openvino
        self._core = openvino.Core()
        self._model = self._with_pixels_in(self._core.read_model(converted.xml))
        self._queues: OrderedDict[tuple[int, int], Any] = OrderedDict()

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
                    "INFERENCE_PRECISION_HINT": {"fp32": "f32", "bf16": "bf16"}[
                        self._settings.precision
                    ],
                    "INFERENCE_NUM_THREADS": self._settings.threads,
                },
            )
            self._queues[shape] = self._openvino.AsyncInferQueue(compiled)
            while len(self._queues) > _COMPILED_SHAPES:
                self._queues.popitem(last=False)
        self._queues.move_to_end(shape)
        return self._queues[shape]

    def boxes(self, pixels: NDArray[np.uint8]) -> Boxes:
        """Detect in (k, height, width, 3) uint8 RGB."""
        queue = self._queue(*pixels.shape[1:3])
        found: list[Boxes | None] = [None] * len(pixels)

        def collect(request: Any, row: int) -> None:  # noqa: ANN401
            raw = request.get_output_tensor().data[0]
            found[row] = _select(raw, row, self._wanted, self._settings)

        queue.set_callback(collect)
        for row in range(len(pixels)):
            queue.start_async({0: pixels[row : row + 1]}, row)
        queue.wait_all()
        return _join([boxes for boxes in found if boxes is not None])


def _mask(settings: DetectSettings, class_names: Sequence[str]) -> NDArray[np.bool]:
    wanted = np.zeros(len(class_names), bool)
    wanted[list(class_ids(class_names, settings.classes))] = True
    return wanted


def _join(parts: Sequence[Boxes]) -> Boxes:
    if not parts:
        return _no_boxes()
    return Boxes(
        np.concatenate([part.frame_row for part in parts]),
        np.concatenate([part.xyxy for part in parts]),
        np.concatenate([part.confidence for part in parts]),
        np.concatenate([part.class_id for part in parts]),
    )


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


class TorchBackend:
    """YOLO through torch: half precision and channels-last on CUDA, nothing per frame in Python."""

    def __init__(self, settings: DetectSettings) -> None:
        os.environ.setdefault("YOLO_AUTOINSTALL", "False")
        os.environ.setdefault("YOLO_VERBOSE", "False")
        import torch
        import torchvision
        from ultralytics import YOLO

        if settings.device == "cuda" and not torch.cuda.is_available():
            raise ConfigError("device 'cuda': torch sees no CUDA device here; use --device cpu")
        self._torch, self._nms = torch, torchvision.ops.batched_nms
        yolo = YOLO(settings.weights.path)
        self.class_names = tuple(yolo.names[number] for number in range(len(yolo.names)))
        self._settings = settings
        self._dtype = torch.float16 if settings.precision == "fp16" else torch.float32
        self._model = (
            yolo.model.eval()
            .fuse(verbose=False)
            .to(settings.device, self._dtype, memory_format=torch.channels_last)
        )
        self._wanted = torch.from_numpy(_mask(settings, self.class_names)).to(settings.device)
        if settings.device == "cpu":
            torch.set_num_threads(settings.threads)

    def boxes(self, pixels: NDArray[np.uint8]) -> Boxes:
        """Detect in (k, height, width, 3) uint8 RGB."""
        torch, count = self._torch, len(pixels)
        with torch.inference_mode():
            # torch will not hold memory that it may not write to, such as the object store's.
            batch = torch.from_numpy(pixels if pixels.flags.writeable else pixels.copy())
            batch = batch.to(self._settings.device, non_blocking=True)
            if self._settings.device == "cuda" and count < self._settings.batch_size:
                missing = self._settings.batch_size - count
                batch = torch.nn.functional.pad(batch, (0, 0, 0, 0, 0, 0, 0, missing))
            # (k, h, w, 3) permuted is channels-last already.
            raw = self._model(batch.permute(0, 3, 1, 2).to(self._dtype).div_(255))
            raw = (raw[0] if isinstance(raw, (tuple, list)) else raw)[:count].float()
            return self._select(raw)

    def _select(self, raw: Any) -> Boxes:  # noqa: ANN401 -- torch is loaded late
        """Choose the boxes of all frames at once; raw is (k, 4 + classes, n)."""
        torch, settings = self._torch, self._settings
        confidence, class_id = raw[:, 4:].max(dim=1)
        frame, anchor = torch.nonzero(
            (confidence >= settings.confidence) & self._wanted[class_id], as_tuple=True
        )
        confidence, class_id = confidence[frame, anchor], class_id[frame, anchor]
        centre, size = raw[frame, :2, anchor], raw[frame, 2:4, anchor]
        boxes = torch.cat([centre - size / 2, centre + size / 2], dim=1)
        keep = self._nms(boxes, confidence, frame * len(self._wanted) + class_id, settings.overlap)
        keep = keep[torch.argsort(frame[keep], stable=True)]
        rows = frame[keep]
        first = torch.searchsorted(rows, rows)
        keep = keep[torch.arange(len(keep), device=keep.device) - first < MAX_DETECTIONS]
        return Boxes(
            frame[keep].cpu().numpy(),
            boxes[keep].cpu().numpy(),
            confidence[keep].cpu().numpy(),
            class_id[keep].cpu().numpy(),
        )
