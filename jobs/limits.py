"""What a step costs by itself, on one footage: the limits that a whole job is held against.

    detector    frames in memory, the job's backend and batches
    decode      the job's way from packets to frames at inference size, one after the other
    ffmpeg      its own decode to nothing, on all cores

Each is measured in a process of its own: `python -m jobs.limits STEP ...` prints its figure as JSON.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import cycle, islice
from pathlib import Path

from jobs.commands import said_by
from jobs.hardware import known_hardware
from jobs.settings import JobSettings
from jobs.spec import find_model
from jobs.survey import survey
from pipeline.backend import DetectSettings
from pipeline.decode import DecodeSettings, decode
from pipeline.demux import DemuxSettings, cut
from pipeline.ffmpeg import find_ffmpeg
from pipeline.quantize import quantized
from pipeline.records import Footage, FrameBatch, Segment
from pipeline.weights import Weights, convert

STEPS = ("detector", "decode", "ffmpeg")
_FRAMES_IN_MEMORY = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What a step took for some frames.

    Attributes:
        cpu_s: CPU seconds of all its threads and processes.
    """

    frames: int
    wall_s: float
    cpu_s: float

    @property
    def fps(self) -> float:
        """Frames a second."""
        return self.frames / self.wall_s

    @property
    def cpu_s_a_frame(self) -> float:
        """CPU seconds of one frame."""
        return self.cpu_s / self.frames


def limit_fps(cores: int, *costs: Cost) -> float:
    """Return the frames a second of `cores` that do nothing else than these steps."""
    return cores / sum(cost.cpu_s_a_frame for cost in costs)


def cost_alone(step: str, recording: Path, *, model: str, device: str, precision: str = "") -> Cost:
    """Measure a step in a process of its own.

    Raises:
        StepError: It failed.
    """
    how = ["--input", str(recording), "--model", model, "--device", device]
    how += ["--precision", precision] if precision else []
    said = said_by([sys.executable, "-m", "jobs.limits", step, *how])
    return Cost(**json.loads(said.splitlines()[-1]))


def detector_cost(footage: Footage, settings: DetectSettings, frames: int) -> Cost:
    """Detect in at least `frames` frames that lie in memory, over and over."""
    from pipeline.detect import Detector

    detector = Detector(settings)
    batches = list(_decoded(footage, settings.batch_size, _FRAMES_IN_MEMORY))
    box = footage.letterbox
    detector.warm_up(box.padded_height, box.padded_width)
    rounds = -(-frames // _FRAMES_IN_MEMORY) * len(batches)

    def work() -> int:
        frames, before = 0, None
        for batch in islice(cycle(batches), rounds):
            begun = detector.begin(batch)
            frames += len(before().frame_index) if before else 0
            before = begun
        return frames + (len(before().frame_index) if before else 0)

    return _timed(work)


def decode_cost(footage: Footage, frames: int) -> Cost:
    """Decode the first `frames` frames to inference size, in one process."""
    return _timed(lambda: sum(len(b.frame_index) for b in _decoded(footage, 10, frames)))


def ffmpeg_cost(footage: Footage, frames: int) -> Cost:
    """Have ffmpeg decode the first `frames` frames, with as many threads as it likes."""
    track = footage.track.video_track
    command = [
        find_ffmpeg(), "-nostdin", "-v", "error", "-i", footage.source_uri, "-map", f"0:v:{track}",
        "-frames:v", str(frames), "-f", "null", "-",
    ]  # fmt: skip

    def work() -> int:
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
        return frames

    return _timed(work)


def _decoded(footage: Footage, batch_size: int, frames: int) -> Iterator[FrameBatch]:
    settings = DecodeSettings(batch_size=batch_size)
    seen = 0
    for item in cut([footage], DemuxSettings()):
        for batch in decode(item, settings) if isinstance(item, Segment) else ():
            if seen >= frames:
                return
            seen += len(batch.frame_index)
            yield batch


def _timed(work: Callable[[], int]) -> Cost:
    wall, cpu = time.perf_counter(), _cpu_s()
    frames = work()
    return Cost(frames=frames, wall_s=time.perf_counter() - wall, cpu_s=_cpu_s() - cpu)


def _cpu_s() -> float:
    """Return the CPU seconds of this process and of its children that have ended."""
    each = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in each)


def _weights(settings: JobSettings, precision: str, footage: Footage) -> Weights:
    """Return the weights as they compute with a precision."""
    weights = find_model(settings).weights
    if precision != "int8":
        return weights
    # It leaves the model in the cache, where whoever loads it looks first.
    with tempfile.TemporaryDirectory() as folder:
        found = quantized(DetectSettings(weights=weights), [footage], Path(folder)).weights
        convert(found)
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what a step costs by itself."""
    parser = argparse.ArgumentParser(prog="python -m jobs.limits", description=main.__doc__)
    parser.add_argument("step", choices=STEPS)
    parser.add_argument("--input", required=True, metavar="CLIP")
    parser.add_argument("--frames", type=int, default=400)
    parser.add_argument("--model", default="yolov8n.pt")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--batch-size", type=int, default=10)
    options = parser.parse_args(arguments)
    settings = JobSettings(
        input=(options.input,),
        model=options.model,
        device=options.device,
        precision=options.precision,
    )
    footage = survey(settings).wanted[0].footage
    if options.step == "detector":
        hardware = known_hardware(settings, None)
        assert hardware is not None, "the device is given"
        detect = DetectSettings(
            weights=_weights(settings, hardware.precision, footage),
            confidence=settings.confidence,
            backend=hardware.backend,
            device=hardware.device,
            precision=hardware.precision,
            threads=len(os.sched_getaffinity(0)),
            batch_size=options.batch_size,
        )
        cost = detector_cost(footage, detect, options.frames)
    else:
        measure = {"decode": decode_cost, "ffmpeg": ffmpeg_cost}[options.step]
        cost = measure(footage, options.frames)
    print(json.dumps(asdict(cost)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
