"""INT8 for a CPU: the model quantized by NNCF, calibrated on the footage's own frames.

A quantized model finds other boxes than the one it was made from. So what that costs is measured, on
frames that it was not calibrated on, and travels with it in one file:

    HASH-int8.zip    model.xml, model.bin, names.json, and cost.json

An output keeps the one that its detections were made with: whoever goes on with it uses the same.
"""

import json
import os
import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from pipeline.atomic import sha256_of, write_whole, writing
from pipeline.backend import Boxes, DetectSettings
from pipeline.boxes import intersection_over_union
from pipeline.errors import ConfigError, FootfallError, OutputError, StepError
from pipeline.isolate import isolated
from pipeline.openvino_backend import OpenVinoBackend
from pipeline.records import Footage
from pipeline.stills import Places, spread, stills
from pipeline.weights import Converted, Weights, convert

# Two of three are calibrated on, the third is judged on; fewer where frames are large.
_STILLS, _JUDGED_EVERY = 192, 3
_STILLS_BYTES = 512 << 20
# A box that a user would look at, and one that is the same.
_SURE, _SAME_IOU = 0.25, 0.5
# Of one recording: others will do.
_MOST_SILENCE_S = 60.0
_COST = "cost.json"
_DAY_ONE = (1980, 1, 1, 0, 0, 0)
# What torch's module of a number became in the graph.
_PART = re.compile(r"__module\.model\.(\d+)[./]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What quantizing costs in boxes of at least 0.25, on frames that it was not calibrated on.

    Attributes:
        frames: That it was calibrated on.
        recordings: Video tracks that they are from.
        judged: Frames that it was judged on.
        boxes: What the model found in these before.
        found: How many of them it finds still (IoU of at least 0.5).
        new: What it finds besides.
    """

    frames: int
    recordings: int
    judged: int
    boxes: int
    found: int
    new: int

    def __str__(self) -> str:
        kept = f"{self.found / self.boxes:.1%}" if self.boxes else "none"
        return (
            f"calibrated on {self.frames} frames of {self.recordings} video track(s); of the "
            f"{self.boxes} boxes that fp32 finds in {self.judged} others, {kept} are found still, "
            f"and {self.new} are new"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantized:
    """A quantized model, and what it costs."""

    weights: Weights
    cost: Cost


def quantized(
    settings: DetectSettings,
    footages: Sequence[Footage],
    folder: Path,
    *,
    most_stills: int = _STILLS,
) -> Quantized:
    """Return the quantized model of an output, made now if there is none.

    Args:
        settings: Of the detector, with the weights as they are.
        footages: To calibrate on.
        folder: Of the output.
        most_stills: Frames to take, for calibrating and for judging.

    Raises:
        ConfigError: NNCF is not installed, or no footage gives frames.
        OutputError: It cannot be written, or what is there is damaged.
        StepError: It cannot be made.
    """
    weights = settings.weights
    path = folder / "model" / f"{weights.sha256[:16]}-int8.zip"
    with writing(folder):
        path.parent.mkdir(exist_ok=True)
        # Of several drivers that start at once, one makes it.
        with FileLock(path.with_suffix(".lock")):
            if not path.is_file():
                write_whole(path, _made(settings, footages, most_stills))
    try:
        with zipfile.ZipFile(path) as archive:
            cost = Cost(**json.loads(archive.read(_COST)))
    except (OSError, zipfile.BadZipFile, KeyError, ValueError, TypeError) as error:
        raise OutputError(
            f"{str(path)!r} is no quantized model ({error}): remove it to have one made again"
        ) from error
    return Quantized(weights=Weights(path=str(path), sha256=sha256_of(path)), cost=cost)


def _made(settings: DetectSettings, footages: Sequence[Footage], most_stills: int) -> bytes:
    largest = max(footage.letterbox.frame_bytes for footage in footages)
    places = spread(footages, max(_JUDGED_EVERY, min(most_stills, _STILLS_BYTES // largest)))
    try:
        (made,) = isolated(make, settings, convert(settings.weights), places)
    except StepError as error:
        raise StepError(f"model {settings.weights.path!r} cannot be quantized: {error}") from error
    content: bytes = made
    return content


def make(
    settings: DetectSettings, converted: Converted, places: Sequence[Places]
) -> Iterator[bytes]:
    """Yield the file of a quantized model; to be run in a process of its own, for it grows large.

    Raises:
        ConfigError: NNCF is not installed, or no footage gives frames.
    """
    _be_quiet()
    calibrate, judge, sources = _collect(places)
    if not calibrate or not judge:
        raise ConfigError("precision 'int8': the footage gives no frames to calibrate on")
    with TemporaryDirectory() as scratch:
        after = replace(converted, xml=str(Path(scratch) / "model.xml"))
        _quantize(converted.xml, calibrate, after.xml)
        boxes, found, new = _judge(settings, (converted, after), judge)
        files = {name: (Path(scratch) / name).read_bytes() for name in ("model.xml", "model.bin")}
    cost = Cost(
        frames=len(calibrate),
        recordings=sources,
        judged=len(judge),
        boxes=boxes,
        found=found,
        new=new,
    )
    files["names.json"] = json.dumps(converted.class_names).encode()
    files[_COST] = json.dumps(asdict(cost)).encode()
    yield _archive(files)


def _be_quiet() -> None:
    """Have what is imported from now on neither talk nor tell."""
    os.environ |= {"OPENVINO_TELEMETRY": "0", "NNCF_CI": "1"}
    # NNCF draws on the terminal whatever it is told.
    silence = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(silence, stream)


def _collect(
    places: Sequence[Places],
) -> tuple[list[NDArray[np.uint8]], list[NDArray[np.uint8]], int]:
    """Return frames to calibrate on, frames to judge on, and how many video tracks they are from."""
    taken: list[NDArray[np.uint8]] = []
    sources = 0
    for each in places:
        before = len(taken)
        # What is wrong with footage is for the job to find, and to tell.
        with suppress(FootfallError, MemoryError, ValueError):
            taken.extend(isolated(stills, each, silence_s=_MOST_SILENCE_S))
        sources += len(taken) > before
    judge = taken[_JUDGED_EVERY - 1 :: _JUDGED_EVERY]
    calibrate = [frame for n, frame in enumerate(taken) if n % _JUDGED_EVERY != _JUDGED_EVERY - 1]
    return calibrate, judge, sources


def _quantize(xml: str, frames: Sequence[NDArray[np.uint8]], target: str) -> None:
    try:
        import nncf
    except ImportError as error:
        raise ConfigError(
            f"precision 'int8' needs NNCF ({error}): pip install 'footfall[int8]'"
        ) from error
    import openvino

    model = openvino.Core().read_model(xml)

    def as_input(frame: NDArray[np.uint8]) -> NDArray[np.float32]:
        return frame.transpose(2, 0, 1)[None].astype(np.float32) / np.float32(255)

    quantized = nncf.quantize(
        model,
        nncf.Dataset(frames, as_input),
        preset=nncf.QuantizationPreset.MIXED,
        subset_size=len(frames),
        ignored_scope=nncf.IgnoredScope(patterns=_arithmetic_of_head(model), validate=False),
    )
    openvino.save_model(quantized, target, compress_to_fp16=False)


def _arithmetic_of_head(model: Any) -> list[str]:  # noqa: ANN401 -- openvino has no types
    """Return patterns of what turns the head's outputs into pixels: eight bits are too few for it."""
    found = (_PART.match(op.get_friendly_name()) for op in model.get_ops())
    head = max(int(part[1]) for part in found if part)
    return [rf"__module\.model\.{head}/.*", rf"__module\.model\.{head}\.dfl.*"]


def _judge(
    settings: DetectSettings,
    models: tuple[Converted, Converted],
    frames: Sequence[NDArray[np.uint8]],
) -> tuple[int, int, int]:
    """Return how many boxes the first model finds, how many the second still, and how many besides."""
    sure = replace(settings, confidence=_SURE)
    backends = [OpenVinoBackend(sure, model) for model in models]
    boxes = found = new = 0
    for frame in frames:
        before, after = (backend.begin(frame[None], 1)() for backend in backends)
        same = matches(before, after)
        boxes, found = boxes + len(before.xyxy), found + same
        new += len(after.xyxy) - same
    return boxes, found, new


def matches(some: Boxes, others: Boxes) -> int:
    """Return how many boxes of a frame are there in both, each counted once, best overlap first."""
    overlap = intersection_over_union(some.xyxy, others.xyxy)
    overlap[some.class_id[:, None] != others.class_id[None]] = 0.0
    count = 0
    while overlap.size and overlap.max() >= _SAME_IOU:
        row, column = np.unravel_index(overlap.argmax(), overlap.shape)
        overlap[row], overlap[:, column] = 0.0, 0.0
        count += 1
    return count


def _archive(files: Mapping[str, bytes]) -> bytes:
    """Return an archive whose bytes are a function of its members'."""
    content = BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name in sorted(files):
            archive.writestr(zipfile.ZipInfo(name, _DAY_ONE), files[name])
    return content.getvalue()
