"""What people run today: `model.track(stream=True)` over files. A program by itself, to compare."""

import argparse
from typing import Any

from ultralytics import YOLO


def main() -> None:
    """Track through clips, one after the other, and keep nothing."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--model", required=True, help="weights, or a folder of an export")
    parser.add_argument("--size", type=int, nargs=2, required=True, help="height and width")
    parser.add_argument("--confidence", type=float, required=True)
    parser.add_argument("--precision", required=True, help="fp32, fp16, bf16")
    parser.add_argument("--device", required=True)
    parser.add_argument("clips", nargs="+")
    options = parser.parse_args()
    _hold_openvino_to(options.precision)
    for clip in options.clips:
        model = YOLO(options.model, task="detect")
        results = model.track(
            clip,
            stream=True,
            verbose=False,
            classes=[0],
            conf=options.confidence,
            imgsz=options.size,
            device=options.device,
            half=options.precision == "fp16",
        )
        for _ in results:
            pass


def _hold_openvino_to(precision: str) -> None:
    """Have OpenVINO compute as asked: by itself it takes bf16 where the processor has it."""
    import openvino

    compile_model = openvino.Core.compile_model
    hint = {"INFERENCE_PRECISION_HINT": {"fp32": "f32", "bf16": "bf16"}.get(precision, "f32")}

    def compiled(core: Any, model: Any, device_name: str = "CPU", config: Any = None) -> Any:  # noqa: ANN401
        return compile_model(core, model, device_name, {**(config or {}), **hint})

    openvino.Core.compile_model = compiled


if __name__ == "__main__":
    main()
