"""Convert YOLO weights to an OpenVINO model: `export_openvino.py WEIGHTS.pt FOLDER`.

A script and not a module to import: it loads torch, and whoever needs the model need not. It writes
model.xml and model.bin (float32, batch, height and width free) and names.json.
"""

import json
import sys
import warnings
from pathlib import Path

import openvino
import torch
from ultralytics import YOLO


def main(weights: str, folder: str) -> None:
    """Convert `weights` into `folder`."""
    warnings.filterwarnings("ignore")
    yolo = YOLO(weights)
    if yolo.task != "detect":
        raise SystemExit(f"its task is {yolo.task!r}, not 'detect'")
    model = yolo.model.eval().fuse(verbose=False)
    head = model.model[-1]
    # What ultralytics' own exporter sets: anchors are computed in the graph, so the size is free.
    head.export, head.format, head.dynamic = True, "openvino", True
    example = torch.zeros(1, 3, 480, 640)
    with torch.no_grad():
        model(example)
        converted = openvino.convert_model(model, example_input=example)
    openvino.save_model(converted, Path(folder) / "model.xml", compress_to_fp16=False)
    names = [yolo.names[number] for number in range(len(yolo.names))]
    (Path(folder) / "names.json").write_text(json.dumps(names))


if __name__ == "__main__":
    main(*sys.argv[1:])
