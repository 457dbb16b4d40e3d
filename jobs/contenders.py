"""Who is compared in `footfall benchmark speed`: what each one's command is, and with what precision.

All get the same weights, input size, least confidence and class.
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.letterbox import Letterbox

FOOTFALL = "footfall"
TORCH_TRACK, OPENVINO_TRACK = "ultralytics track, PyTorch", "ultralytics track, OpenVINO"
PLAIN_RAY = "plain Ray Data, PyTorch, no tracking"
_PEERS = Path(__file__).parent / "peers"
_CONFIDENCE = 0.1
_LONGER = 3
# ultralytics' export can be had as INT8 too, calibrated on other pictures: that is no comparison.
_EXPORT_PRECISIONS = ("fp32", "bf16")


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """A program that goes through footage.

    Attributes:
        precision: Of its arithmetic.
        command: From a recording and a folder to write to, to its command line.
        longer: It is given so many times as much footage: what starts a cluster takes some seconds,
            now more and now less, which must not pass for frames.
    """

    name: str
    precision: str
    command: Callable[[Path, Path], list[str]]
    longer: int = 1


def contenders(
    names: Sequence[str], box: Letterbox, *, device: str, precisions: Sequence[str], folder: Path
) -> list[Contender]:
    """Return those that run on a device.

    Args:
        names: Which of them.
        box: How the footage comes to inference size.
        device: "cpu" or "cuda".
        precisions: Of footfall; the peers that can take the same ones do.
        folder: Has the weights ("weights.pt") and, for a CPU, ultralytics' own export of them.
    """
    size = [str(box.padded_height), str(box.padded_width)]
    common = ["--size", *size, "--confidence", str(_CONFIDENCE), "--device", device]
    weights, export = str(folder / "weights.pt"), str(folder / "weights_openvino_model")

    def ours(precision: str) -> Callable[[Path, Path], list[str]]:
        return lambda recording, output: [
            sys.executable, "-m", "jobs.backfill", "--input", str(recording), "--output",
            str(output), "--model", weights, "--precision", precision, "--device", device,
        ]  # fmt: skip

    def track(model: str, precision: str) -> Callable[[Path, Path], list[str]]:
        program = str(_PEERS / "ultralytics_track.py")
        how = [*common, "--model", model, "--precision", precision]
        return lambda recording, _: [sys.executable, program, *how, str(recording)]

    def plain(recording: Path, output: Path) -> list[str]:
        program = str(_PEERS / "plain_ray_data.py")
        how = [*common, "--model", weights, "--output", str(output)]
        return [sys.executable, program, *how, str(recording)]

    torch_precision = "fp32" if device == "cpu" else "fp16"
    every = [
        *(
            Contender(name=FOOTFALL, precision=one, command=ours(one), longer=_LONGER)
            for one in precisions
        ),
        Contender(
            name=TORCH_TRACK, precision=torch_precision, command=track(weights, torch_precision)
        ),
        Contender(name=PLAIN_RAY, precision=torch_precision, command=plain),
    ]
    if device == "cpu":
        every += [
            Contender(name=OPENVINO_TRACK, precision=one, command=track(export, one))
            for one in precisions
            if one in _EXPORT_PRECISIONS
        ]
    return [one for one in every if one.name in names]
