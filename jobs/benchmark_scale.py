"""`footfall benchmark scale`: how much the machinery itself can take, with steps that cost nothing.

Blank footage of one frame a segment goes through the whole job, from cutting to committed tables, on
a cluster of several nodes that run on this machine. Frames cost next to nothing, so segments a second
are what one driver and its cluster's bookkeeping can do, however many GPUs there are.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import psutil

from cluster.dataflow import run
from cluster.dataflow_spec import DataflowSpec
from cluster.meter import MIB, MemoryMeter
from cluster.session import Session, open_session
from cluster.stages import Source
from cluster.supervisor import Progress
from cluster.testbed import open_testbed
from cluster.watcher import Readiness, Watch
from jobs.exits import EXIT_OK, ending
from jobs.hardware import choose_hardware
from jobs.machine import machine_line
from jobs.settings import JobSettings
from jobs.spec import Start, describe, find_model
from pipeline.cutter import DemuxSettings
from pipeline.errors import StepError
from pipeline.lease import Leases
from pipeline.run_folder import open_run
from pipeline.standin_backend import STAND_IN
from pipeline.standin_source import blank_footage, cut_blank, decode_blank
from pipeline.tail import Tail

_WORKER_NODES = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """What one size took.

    Attributes:
        wall_s: From readiness to the last committed part.
        driver_mb: Memory of the driver when a tenth was done, half, and all.
    """

    segments: int
    video_tracks: int
    batches: int
    wall_s: float
    driver_cpu_s: float
    driver_mb: tuple[float, float, float]

    @property
    def segments_s(self) -> float:
        """Segments a second."""
        return self.segments / self.wall_s


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure the control plane alone, with stand-in steps."""
    parser = argparse.ArgumentParser(prog="footfall benchmark scale", description=main.__doc__)
    parser.add_argument("--segments", default="1000,10000,100000", help="(default: %(default)s)")
    parser.add_argument("--video-tracks", type=int, default=1000, help="(default: %(default)s)")
    parser.add_argument("--batches", type=int, default=1, help="of a segment (default: 1)")
    parser.add_argument("--json", default="", metavar="FILE", help="write all figures there too")
    parser.add_argument("--join", default="", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    return ending("benchmark scale", lambda: _one(options) if options.join else _all(options))


def _all(options: argparse.Namespace) -> int:
    """Measure every size on one cluster, each with a driver of its own."""
    found = []
    with open_testbed(_WORKER_NODES) as testbed:
        for segments in options.segments.split(","):
            command = [
                sys.executable, "-m", "jobs.benchmark_scale", "--join", testbed.address,
                "--segments", segments, "--video-tracks", str(options.video_tracks),
                "--batches", str(options.batches),
            ]  # fmt: skip
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
            if done.returncode:
                raise StepError(f"{segments} segments ended with exit code {done.returncode}")
            found.append(Scale(**json.loads(done.stdout.splitlines()[-1])))
            print(f"{segments}: {found[-1].segments_s:.1f} segments/s", file=sys.stderr)
    made_with = f"{machine_line()}; {_WORKER_NODES + 1} nodes"
    print(_markdown(found), made_with, sep="\n")
    if options.json:
        every = {"made_with": made_with, "sizes": [asdict(each) for each in found]}
        Path(options.json).write_text(json.dumps(every, indent=2) + "\n")
    return EXIT_OK


def _markdown(found: Sequence[Scale]) -> str:
    lines = [
        "| segments | video tracks | batches of a segment | segments/s | driver's CPU ms a segment "
        "| driver's MB at 10, 50, 100 % |",
        "|---|---|---|---|---|---|",
    ]
    for each in found:
        levels = ", ".join(f"{level:.0f}" for level in each.driver_mb)
        cpu_ms = 1000 * each.driver_cpu_s / each.segments
        lines.append(
            f"| {each.segments} | {each.video_tracks} | {each.batches} | {each.segments_s:.1f} "
            f"| {cpu_ms:.1f} | {levels} |"
        )
    return "\n".join(lines)


@dataclass(slots=True)
class _Levels:
    """Follows the driver's memory as the work is done."""

    levels: list[tuple[int, float]] = field(default_factory=list)
    ready_at: float = 0.0
    cpu_s: float = 0.0

    def ready(self, readiness: Readiness) -> None:
        self.ready_at, self.cpu_s = readiness.ready_at, time.process_time()

    def progress(self, now: Progress, _: float) -> None:
        self.levels.append((now.frames, _own_mb()))

    def at(self, share: float) -> float:
        """Return the level when a share was done."""
        return next(level for done, level in self.levels if done >= share * self.levels[-1][0])


def _own_mb() -> float:
    return MemoryMeter().measure([psutil.Process()]).pss_bytes / MIB


def _one(options: argparse.Namespace) -> int:
    """Measure one size on a cluster that is there."""
    segments, tracks = int(options.segments), options.video_tracks
    with (
        tempfile.TemporaryDirectory(prefix="footfall-scale-") as output,
        open_session(0, options.join) as session,
    ):
        scale = _measure(Path(output), session, segments, tracks, options.batches)
    print(json.dumps(asdict(scale)))
    return EXIT_OK


def _measure(output: Path, session: Session, segments: int, tracks: int, batches: int) -> Scale:
    settings = JobSettings(
        input=("blank",), output=str(output), model=STAND_IN, device="cpu", batch_size=1
    )
    cameras = [f"camera-{number}" for number in range(tracks)]
    start = Start(
        settings=settings,
        model=find_model(settings),
        folder=open_run(settings.output, overwrite=False),
        attempt_id=uuid.uuid4().hex[:12],
    )
    followed = _Levels()
    with Leases(output, start.attempt_id).held(cameras):
        spec = _spec(start, session, cameras, segments // tracks, batches)
        outcome = run(
            spec,
            session,
            Watch(followed.ready, followed.progress, *(3 * (lambda _: None,))),
        )
        driver_cpu_s = time.process_time() - followed.cpu_s
    if outcome.frames != segments * batches:
        raise StepError(f"{outcome.frames} frames came, not {segments * batches}")
    return Scale(
        segments=segments,
        video_tracks=tracks,
        batches=batches,
        wall_s=outcome.ended_at - followed.ready_at,
        driver_cpu_s=driver_cpu_s,
        driver_mb=(followed.at(0.1), followed.at(0.5), followed.at(1.0)),
    )


def _spec(
    start: Start, session: Session, cameras: Sequence[str], segments: int, batches: int
) -> DataflowSpec:
    demux = DemuxSettings(segment_frames=batches)
    tails = []
    for camera_id in cameras:
        footage = replace(
            blank_footage(camera_id, segments, demux), evidence_id=uuid.uuid4().hex[:16]
        )
        tails.append(Tail(camera_id=camera_id, footages=(footage,), stops=(None,)))
    hardware = choose_hardware(start.settings, session, None)
    spec = describe(start, hardware, tails, session)
    return replace(spec, demux=demux, source=Source(cut=cut_blank, decode=decode_blank))


if __name__ == "__main__":
    sys.exit(main())
