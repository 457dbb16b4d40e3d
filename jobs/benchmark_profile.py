"""`footfall benchmark profile`: where each millisecond of a frame goes, process by process.

A run is watched from outside: the kernel says what CPU each of its processes took, its own spans say
which of them did what, and how many frames came meanwhile. Counted is from the first segment that is
logged to the last: neither the start nor the refining behind it. Before and behind the run stand the
limits of the machine at that hour, for the share of them that is left.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import duckdb

from jobs.benchmark_footage import film, find_clips, make_loops
from jobs.commands import check
from jobs.exits import EXIT_OK, ending
from jobs.limits import Cost, cost_alone, limit_fps
from jobs.machine import machine_line
from jobs.watched import Watch, Watched
from pipeline.errors import StepError

_FEWEST_MOMENTS = 2
KINDS = ("real", "1080p")
# What a process is called whose spans tell that it does a step.
_ROLES = {
    "detect": "detector",
    "decode": "decoder",
    "demux": "cutter and ffmpeg",
    "track": "tracking actor",
}
_DRIVER, _MEMORY, _SUPERVISOR = "driver", "watching memory, in the driver", "supervisor"
_RAY, _NOBODY = "Ray: raylet, control service, agents", "nobody, or others"
# A process of Ray's is called by what it runs, or ran.
_TITLES = {"Supervisor": _SUPERVISOR, "decode_stage": "decoder", "demux_stage": "cutter and ffmpeg"}
_SPANS = "select step, pid, epoch(time), frames, cpu_s from metrics where cpu_s is not null"


@dataclass(frozen=True, slots=True)
class Work:
    """A span of the `metrics` table.

    Attributes:
        time: Unix time of when it was written down.
    """

    step: str
    pid: int | None
    time: float
    frames: int
    cpu_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """What a kind of process took.

    Attributes:
        cpu_s: Of all its processes.
        own_s: What of that its steps took, by their own spans; None where there are none.
    """

    name: str
    cpu_s: float
    own_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """Where the time of a run went.

    Attributes:
        first_part_s: From the command's start to the first committed rows.
        frames: That were logged in `wall_s`.
        costs: The limits, before the run and behind it: detector, decode.
    """

    footage: str
    precision: str
    cores: int
    first_part_s: float
    frames: int
    wall_s: float
    shares: tuple[Share, ...]
    costs: tuple[tuple[Cost, Cost], ...]

    @property
    def fps(self) -> float:
        """Frames a second."""
        return self.frames / self.wall_s

    @property
    def limit_fps(self) -> float:
        """Frames a second of cores that detect and decode, and do nothing else."""
        return statistics.mean(limit_fps(self.cores, *pair) for pair in self.costs)


def role_of(pid: int, watched: Watched, steps: Mapping[int, str], root: int) -> str:
    """Return what kind of process one is.

    Args:
        pid: Its number.
        watched: How it was seen.
        steps: By process, the step that its spans tell most of.
        root: The driver.
    """
    if pid == root:
        return _DRIVER
    if pid in steps:
        return _ROLES[steps[pid]]
    if any("ffmpeg" in title for title in watched.titles):
        return _ROLES["demux"]
    named = (role for word, role in _TITLES.items() if any(word in t for t in watched.titles))
    return next(named, _RAY)


def share_out(
    processes: Mapping[int, Watched], spans: Iterable[Work], root: int, cores: int
) -> tuple[int, float, tuple[Share, ...]]:
    """Return the frames of a run's steady state, its seconds, and what each kind of process took.

    Raises:
        StepError: The footage is too short: fewer than two segments were logged.
    """
    spans = list(spans)
    # Several rows are written at one moment: of a segment, or of some that came together.
    logged = sorted({span.time for span in spans if span.step == "detect"})
    if len(logged) < _FEWEST_MOMENTS:
        raise StepError("too little footage: a profile takes two segments and more")
    begin, end = logged[0], logged[-1]
    inside = [span for span in spans if begin < span.time <= end]
    frames = sum(span.frames for span in inside if span.step == "detect")
    took: dict[int, dict[str, float]] = {}
    for span in spans:
        if span.pid is not None and span.step in _ROLES:
            of_process = took.setdefault(span.pid, {})
            of_process[span.step] = of_process.get(span.step, 0.0) + span.cpu_s
    steps = {pid: max(each, key=lambda step: each[step]) for pid, each in took.items()}
    cpu_s: dict[str, float] = {}
    for pid, watched in processes.items():
        role = role_of(pid, watched, steps, root)
        cpu_s[role] = cpu_s.get(role, 0.0) + watched.cpu_s(begin, end)
    memory_s = _sum(inside, "memory")
    cpu_s[_DRIVER] -= memory_s
    cpu_s[_MEMORY] = memory_s
    cpu_s[_NOBODY] = cores * (end - begin) - sum(cpu_s.values())
    own_s = {role: _sum(inside, step) for step, role in _ROLES.items()}
    own_s[_ROLES["track"]] += _sum(inside, "write")
    shares = (Share(name=n, cpu_s=s, own_s=own_s.get(n)) for n, s in cpu_s.items())
    return frames, end - begin, tuple(sorted(shares, key=lambda share: -share.cpu_s))


def _sum(spans: Iterable[Work], step: str) -> float:
    return sum(span.cpu_s for span in spans if span.step == step)


def main(arguments: Sequence[str] | None = None) -> int:
    """Say where each millisecond of a frame goes."""
    parser = argparse.ArgumentParser(prog="footfall benchmark profile", description=main.__doc__)
    parser.add_argument("--footage", default="", metavar="PATH", help="a clip or a folder of them")
    parser.add_argument("--kind", default="real", choices=KINDS, help="(default: %(default)s)")
    parser.add_argument("--seconds", type=int, default=60, help="of footage (default: 60)")
    parser.add_argument("--model", default="yolov8n.pt", help="(default: %(default)s)")
    parser.add_argument("--precision", default="fp32", help="(default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=1, help="how often (default: 1)")
    parser.add_argument("--json", default="", metavar="FILE", help="write all figures there too")
    options = parser.parse_args(arguments)
    return ending("benchmark profile", lambda: _measure(options))


def _measure(options: argparse.Namespace) -> int:
    found = []
    with tempfile.TemporaryDirectory(prefix="footfall-profile-") as folder:
        clip = find_clips(options.footage, Path(folder))[0]
        loop = make_loops([clip], 1, Path(folder))[0] if options.kind == "1080p" else clip
        recording = film([loop], options.seconds, Path(folder) / "footage.mkv")
        for number in range(options.rounds):
            found.append(_profile(recording, f"{clip.name}, {options.kind}", options))
            share = found[-1].fps / found[-1].limit_fps
            print(f"round {number + 1}: {share:.1%} of the limit", file=sys.stderr)
    print(*(_markdown(each) for each in found), machine_line(), sep="\n\n")
    if options.json:
        every = {"made_with": machine_line(), "rounds": [asdict(each) for each in found]}
        Path(options.json).write_text(json.dumps(every, indent=2) + "\n")
    return EXIT_OK


def _profile(recording: Path, footage: str, options: argparse.Namespace) -> Profile:
    costs = [_costs(recording, options)]
    with tempfile.TemporaryDirectory(prefix="footfall-profile-") as temporary:
        output = Path(temporary) / "out"
        command = [
            sys.executable, "-m", "jobs.backfill", "--input", str(recording), "--output",
            str(output), "--model", options.model, "--precision", options.precision,
            "--device", "cpu",
        ]  # fmt: skip
        log, began = Path(temporary) / "log", time.time()
        with (
            log.open("wb") as file,
            subprocess.Popen(command, stdout=file, stderr=file) as process,
            Watch(process.pid, output) as watch,
        ):
            process.wait()
        check(command, process.returncode, log.read_text())
        spans = _spans(output)
    costs.append(_costs(recording, options))
    cores = len(os.sched_getaffinity(0))
    frames, wall_s, shares = share_out(watch.processes, spans, process.pid, cores)
    return Profile(
        footage=footage,
        precision=options.precision,
        cores=cores,
        first_part_s=watch.first_part_at - began,
        frames=frames,
        wall_s=wall_s,
        shares=shares,
        costs=tuple(costs),
    )


def _costs(recording: Path, options: argparse.Namespace) -> tuple[Cost, Cost]:
    how = {"model": options.model, "device": "cpu"}
    return (
        cost_alone("detector", recording, precision=options.precision, **how),
        cost_alone("decode", recording, **how),
    )


def _spans(output: Path) -> list[Work]:
    with duckdb.connect() as connection:
        files = [str(path) for path in (output / "metrics").glob("*.parquet")]
        connection.read_parquet(files, union_by_name=True).create_view("metrics")
        rows = connection.execute(_SPANS).fetchall()
    return [
        Work(step, pid, when, int(frames or 0), cpu_s) for step, pid, when, frames, cpu_s in rows
    ]


def _markdown(profile: Profile) -> str:
    lines = [
        f"### {profile.footage}, {profile.precision}: {profile.frames} frames "
        f"in {profile.wall_s:.0f} s",
        "",
        "| | CPU ms a frame | of it the step itself | of the cores |",
        "|---|---|---|---|",
    ]
    for share in profile.shares:
        own = "" if share.own_s is None else f"{1000 * share.own_s / profile.frames:.2f}"
        of_cores = share.cpu_s / (profile.cores * profile.wall_s)
        ms = 1000 * share.cpu_s / profile.frames
        lines.append(f"| {share.name} | {ms:.2f} | {own} | {of_cores:.1%} |")
    detector, decode = (
        1000 * statistics.mean(pair[place].cpu_s_a_frame for pair in profile.costs)
        for place in range(2)
    )
    lines += [
        "",
        f"{profile.fps:.1f} frames/s, {profile.fps / profile.limit_fps:.1%} of the limit of "
        f"{profile.limit_fps:.1f}: alone the detector takes {detector:.1f} CPU ms a frame, decoding "
        f"{decode:.1f} (before and behind the run). First rows committed {profile.first_part_s:.1f} s "
        "after the command began",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
