"""The Ray Data pipeline that everybody writes: frames in, YOLO in an actor pool, boxes out as Parquet.

No tracking, no cap, no resume. A program by itself, to compare.
"""

import argparse
import os

import numpy as np
import ray


class Detect:
    """YOLO in an actor."""

    def __init__(self, model: str, size: list[int], confidence: float, device: str) -> None:
        from ultralytics import YOLO

        self._model = YOLO(model)
        self._how = {"imgsz": size, "conf": confidence, "device": device, "half": device != "cpu"}

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Take {"frame": (n, h, w, 3) RGB, ...}; return a row a box."""
        frames = [frame[..., ::-1] for frame in batch["frame"]]
        found = self._model.predict(frames, classes=[0], verbose=False, **self._how)
        rows = [len(one.boxes) for one in found]
        return {
            "path": np.repeat(batch["path"], rows),
            "frame_index": np.repeat(batch["frame_index"], rows),
            "box": np.concatenate([one.boxes.xyxy.cpu().numpy() for one in found]),
            "confidence": np.concatenate([one.boxes.conf.cpu().numpy() for one in found]),
        }


def main() -> None:
    """Detect in clips."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--size", type=int, nargs=2, required=True, help="height and width")
    parser.add_argument("--confidence", type=float, required=True)
    parser.add_argument("--device", required=True)
    parser.add_argument("--output", required=True)
    parser.add_argument("clips", nargs="+")
    options = parser.parse_args()
    ray.init(include_dashboard=False, log_to_driver=False)
    gpus = 1 if options.device != "cpu" else 0
    frames = ray.data.read_videos(options.clips, include_paths=True).map_batches(
        Detect,
        fn_constructor_args=(options.model, options.size, options.confidence, options.device),
        batch_size=10,
        concurrency=gpus or max(1, len(os.sched_getaffinity(0)) - 1),
        num_gpus=gpus,
    )
    frames.write_parquet(options.output)


if __name__ == "__main__":
    main()
