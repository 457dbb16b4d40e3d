"""YOLO through torch: on CUDA, or on a CPU for comparison."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.backend import MAX_DETECTIONS, Boxes, DetectSettings, wanted_mask
from pipeline.errors import ConfigError
from pipeline.weights import be_quiet


class TorchBackend:
    """YOLO through torch: half precision and channels-last on CUDA, nothing per frame in Python."""

    def __init__(self, settings: DetectSettings) -> None:
        be_quiet()
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
        self._wanted = torch.from_numpy(wanted_mask(settings, self.class_names)).to(settings.device)
        self._is_cuda = settings.device == "cuda"
        self._copying: Any = None
        if self._is_cuda:
            self._copying = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        else:
            torch.set_num_threads(settings.threads)

    def begin(self, pixels: NDArray[np.uint8], rows: int) -> Callable[[], Boxes]:
        """Send (k, height, width, 3) uint8 RGB through the network; CUDA works on while we go on.

        On CUDA the shape is always that of `rows`, and frames are copied there while those before
        them are worked on.

        Raises:
            MemoryError: The device has too little.
        """
        raw = self._within_memory(lambda: self._infer(pixels, rows))
        return lambda: self._within_memory(lambda: self._select(raw))

    def _within_memory(self, work: Callable[[], Any]) -> Any:  # noqa: ANN401 -- what it returns
        try:
            with self._torch.inference_mode():
                return work()
        except self._torch.OutOfMemoryError as error:
            reason = str(error).splitlines()[0]
        # Outside of the handler: its traceback would keep the tensors.
        self._torch.cuda.empty_cache()
        raise MemoryError(reason)

    def _infer(self, pixels: NDArray[np.uint8], rows: int) -> Any:  # noqa: ANN401 -- torch is loaded late
        """Return (k, 4 + classes, n) float32, on the device."""
        batch = self._sent(pixels, max(rows, len(pixels)) if self._is_cuda else len(pixels))
        # (k, h, w, 3) permuted is channels-last already.
        raw = self._model(batch.permute(0, 3, 1, 2).to(self._dtype).div_(255))
        return (raw[0] if isinstance(raw, (tuple, list)) else raw)[: len(pixels)].float()

    def _sent(self, pixels: NDArray[np.uint8], rows: int) -> Any:  # noqa: ANN401 -- torch is loaded late
        """Return (rows, height, width, 3) uint8 on the device, zero behind the frames.

        Frames are copied into memory of our own once in any case: the object store's may not be
        written to, which torch wants, nor is it pinned, without which a copy to CUDA blocks.
        """
        cuda = self._torch.cuda
        staged = self._torch.empty(
            (rows, *pixels.shape[1:]), dtype=self._torch.uint8, pin_memory=self._is_cuda
        )
        staged.numpy()[: len(pixels)] = pixels
        staged.numpy()[len(pixels) :] = 0
        if self._copying is None:
            return staged
        with cuda.stream(self._copying):
            batch = staged.to(self._settings.device, non_blocking=True)
        cuda.current_stream().wait_stream(self._copying)
        # Its memory is not given to the next copy before this batch is done.
        batch.record_stream(cuda.current_stream())
        return batch

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
