"""A job's settings: what they are, how the command line and a TOML file give them, what is wrong.

The order of precedence is command line, `--config` file, default. Every setting has one name: its
field here, its key in the file, and, with dashes, its option.
"""

import argparse
import hashlib
import json
import os
import tomllib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime, time
from pathlib import Path
from typing import Any

from cluster.session import under_ray_job
from pipeline.backend import PRECISIONS
from pipeline.errors import ConfigError
from pipeline.faults import VARIABLE, Fault, parse_fault
from pipeline.letterbox import NETWORK_STRIDE_PX
from pipeline.track import TRACKERS, TrackSettings
from pipeline.weights import KNOWN

# Bounds of the old service; the job's own memory limit has no upper one, for a node with eight GPUs
# needs more.
LEAST_MEMORY_MB = 100
MOST_MEMORY_MB = 8192
DEFAULT_BATCH_SIZE = 10
DEFAULT_MEMORY_MB = 1024
LARGEST_IMAGE_PX = 4096
PATHS = ("input", "output", "model", "cameras", "config")


def option(default: Any, text: str, metavar: str | None = None) -> Any:  # noqa: ANN401 -- as `field`
    """Return a dataclass field that is also a command-line option."""
    return field(default=default, metadata={"help": text, "metavar": metavar})


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSettings:
    """All settings of a job; checked when made, as far as that needs neither files nor Ray."""

    input: tuple[str, ...] = option((), "a file, a folder, a glob or a manifest .csv; repeatable")
    output: str = option("", "folder for the tables", "DIR")
    video_tracks: str = option("all", "which video tracks of each recording: all, or 0,2")
    model: str = option("yolov8n.pt", "path or known name of YOLO weights")
    classes: tuple[str, ...] = option(("person",), "class names with commas, or all")
    batch_size: int = option(DEFAULT_BATCH_SIZE, "frames of a batch", "N")
    memory_limit_mb: int = option(
        DEFAULT_MEMORY_MB, "memory that the job may add on a node, once it is ready", "MB"
    )
    device: str = option("auto", "auto, cpu or cuda")
    precision: str = option("auto", "auto (fp32 on a CPU, fp16 on CUDA), fp32, fp16 or bf16")
    confidence: float = option(0.1, "least score of a detection", "X")
    image_size: int = option(640, "the longer side that frames are scaled to, in pixels", "PX")
    tracker: str = option("bytetrack", ", ".join(sorted(TRACKERS)))
    stride: int = option(1, "look at every N-th frame", "N")
    camera_id: str = option("", "the camera of all recordings, if each has one video track", "ID")
    cameras: str = option("", "which footage is which camera's, and how names tell times", "FILE")
    since: str = option("", "footage from this moment on, as 2026-01-15T09:00", "TIME")
    until: str = option("", "footage before this moment", "TIME")
    hours: str = option("", "footage of these hours of each day, as 09:00-22:00", "FROM-TO")
    limit: int = option(0, "at most so many recordings, the oldest; 0 means all", "N")
    detectors: int = option(0, "detectors over the whole cluster; 0 means as many as fit", "N")
    address: str = option("", "a Ray cluster to join; a local one is started otherwise")
    overwrite: bool = option(False, "replace the results of an earlier run in the output")
    trust_weights: bool = option(False, "load weights of unknown hash: runs the code in them")
    track: TrackSettings = field(default_factory=TrackSettings)

    def __post_init__(self) -> None:
        _at_least("batch_size", self.batch_size, 1)
        _at_least("memory_limit_mb", self.memory_limit_mb, LEAST_MEMORY_MB)
        _at_least("stride", self.stride, 1)
        _at_least("limit", self.limit, 0)
        _at_least("detectors", self.detectors, 0)
        _one_of("device", self.device, ("auto", "cpu", "cuda"))
        known = sorted({name for names in PRECISIONS.values() for name in names})
        _one_of("precision", self.precision, ("auto", *known))
        _one_of("tracker", self.tracker, sorted(TRACKERS))
        if not 0 < self.confidence < 1:
            raise ConfigError(f"confidence = {self.confidence}: it lies between 0 and 1")
        if not NETWORK_STRIDE_PX <= self.image_size <= LARGEST_IMAGE_PX:
            raise ConfigError(
                f"image_size = {self.image_size}: from {NETWORK_STRIDE_PX} to {LARGEST_IMAGE_PX}"
            )
        if not self.classes:
            raise ConfigError("classes: name one, or all")
        if self.camera_id and self.cameras:
            raise ConfigError("camera_id and cameras contradict each other: give one of them")
        _ = self.wanted_tracks, self.moments, self.daily_hours

    @property
    def wanted_tracks(self) -> tuple[int, ...] | None:
        """Numbers of the wanted video tracks; None means all."""
        if self.video_tracks == "all":
            return None
        numbers = self.video_tracks.split(",")
        if not all(number.strip().isdecimal() for number in numbers):
            raise ConfigError(f"video_tracks = {self.video_tracks!r}: all, or numbers as 0,2")
        return tuple(sorted({int(number) for number in numbers}))

    @property
    def moments(self) -> tuple[datetime | None, datetime | None]:
        """The first wanted moment and the end; without a time zone they are UTC."""
        since, until = (_moment(n, getattr(self, n)) for n in ("since", "until"))
        if since and until and since >= until:
            raise ConfigError(f"from {self.since} to {self.until}: the end is not after the start")
        return since, until

    @property
    def daily_hours(self) -> tuple[time, time] | None:
        """The wanted hours of each day, in the camera's time zone."""
        if not self.hours:
            return None
        try:
            begin, end = (time.fromisoformat(part.strip()) for part in self.hours.split("-"))
        except ValueError as error:
            raise ConfigError(f"hours = {self.hours!r}: write them as 09:00-22:00") from error
        if begin.tzinfo or end.tzinfo:
            raise ConfigError(f"hours = {self.hours!r}: they are in the camera's own time zone")
        return begin, end

    @property
    def fault(self) -> Fault | None:
        """A fault for tests to be struck by, from the environment."""
        return parse_fault(os.environ.get(VARIABLE, ""))

    def to_toml(self) -> str:
        """Return the settings as a file for `--config`."""
        plain = self.plain()
        track = plain.pop("track")
        lines = [f"{name} = {_toml(value)}" for name, value in plain.items()]
        return "\n".join([*lines, "", "[track]", *(f"{k} = {_toml(v)}" for k, v in track.items())])

    def plain(self) -> dict[str, Any]:
        """Return the settings under their keys, as plain values."""
        values = {_key(name): value for name, value in asdict(self).items()}
        # Which tracker is a setting of its own; the table holds its thresholds.
        del values["track"]["tracker"]
        return values

    def result_hash(self, **more: str) -> str:
        """Return a hash of the settings that change results, and of `more` that does."""
        names = ("classes", "confidence", "image_size", "stride", "tracker", "track")
        chosen = {name: value for name, value in asdict(self).items() if name in names}
        text = json.dumps({**chosen, **more}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


# `from` is a word of Python, so the fields have other names than the options and keys.
_KEYS = {"since": "from", "until": "to"}
_FIELDS = {key: name for name, key in _KEYS.items()}


def _key(name: str) -> str:
    return _KEYS.get(name, name)


def _toml(value: object) -> str:
    # A JSON string, number, array or boolean is one of TOML's too.
    return json.dumps(value, ensure_ascii=False)


def _at_least(name: str, value: int, least: int) -> None:
    if value < least:
        raise ConfigError(f"{name} = {value}: it is {least} or more")


def _one_of(name: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise ConfigError(f"{name} = {value!r}: known are {', '.join(known)}")


def _moment(name: str, text: str) -> datetime | None:
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise ConfigError(f"{_key(name)} = {text!r}: write it as 2026-01-15T09:00") from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add every setting to a command line, and `--config`."""
    parser.add_argument("--config", metavar="FILE.toml", help="a file of settings; options win")
    for setting in fields(JobSettings):
        if setting.name == "track":
            continue
        flag = "--" + _key(setting.name).replace("_", "-")
        default = setting.default
        text = setting.metadata["help"]
        if default not in ("", (), False, 0):
            shown = ",".join(default) if isinstance(default, tuple) else default
            text += f" (default: {shown})"
        arguments: dict[str, Any] = {"dest": setting.name, "help": text, "default": None}
        if isinstance(default, bool):
            arguments["action"] = "store_true"
        else:
            arguments["metavar"] = setting.metadata["metavar"] or flag[2:].upper()
            arguments["action"] = "append" if setting.name == "input" else "store"
        parser.add_argument(flag, **arguments)


def resolve(options: argparse.Namespace) -> JobSettings:
    """Make the settings from parsed options and the file that they name.

    Raises:
        ConfigError: A key is unknown, a value impossible, or a path relative under a Ray job.
    """
    given = {name: value for name, value in vars(options).items() if value is not None}
    path = given.pop("config", None)
    if under_ray_job():
        _refuse_relative({"config": path or ""})
    values = _read(path) if path else {}
    known = {setting.name for setting in fields(JobSettings)}
    values |= {name: value for name, value in given.items() if name in known}
    converted = {name: _convert(name, value) for name, value in values.items()}
    if under_ray_job():
        _refuse_relative(converted)
    return JobSettings(**converted)


def _read(path: str) -> dict[str, Any]:
    try:
        document = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"config {path!r}: {error}") from error
    known = {_key(setting.name) for setting in fields(JobSettings)}
    if unknown := set(document) - known:
        raise ConfigError(
            f"config {path!r}: unknown key {min(unknown)!r}; known are {', '.join(sorted(known))}"
        )
    return {_FIELDS.get(key, key): value for key, value in document.items()}


def _convert(name: str, value: Any) -> Any:  # noqa: ANN401
    """Turn a value of the command line or a file into the type of its setting."""
    if name == "track":
        return _track(value)
    setting = next(s for s in fields(JobSettings) if s.name == name)
    default = setting.default
    if isinstance(default, tuple):
        parts = value.split(",") if isinstance(value, str) and name == "classes" else value
        parts = [parts] if isinstance(parts, str) else parts
        if not isinstance(parts, (list, tuple)) or not all(isinstance(p, str) for p in parts):
            raise ConfigError(f"{_key(name)} = {value!r}: a list of names")
        return tuple(part.strip() for part in parts)
    if isinstance(default, bool):
        if not isinstance(value, bool):
            raise ConfigError(f"{_key(name)} = {value!r}: true or false")
        return value
    return _scalar(name, value, type(default))


def _scalar(name: str, value: Any, kind: type) -> Any:  # noqa: ANN401
    wrong = ConfigError(
        f"{_key(name)} = {value!r}: "
        + {int: "a whole number", float: "a number", str: "a text in quotes"}[kind]
    )
    if kind is str:
        if not isinstance(value, str):
            raise wrong
        return value
    if isinstance(value, bool) or (kind is int and isinstance(value, float)):
        raise wrong
    try:
        return kind(value)
    except (TypeError, ValueError):
        raise wrong from None


def _track(value: Any) -> TrackSettings:  # noqa: ANN401
    known = {setting.name for setting in fields(TrackSettings)} - {"tracker"}
    if not isinstance(value, dict):
        raise ConfigError(f"track = {value!r}: write it as a table, [track]")
    if unknown := set(value) - known:
        raise ConfigError(
            f"unknown key {'track.' + min(unknown)!r}; known are {', '.join(sorted(known))}"
        )
    for key, number in value.items():
        if isinstance(number, bool) or not isinstance(number, (int, float)):
            raise ConfigError(f"track.{key} = {number!r}: a number")
    return TrackSettings(**value)


def _refuse_relative(values: dict[str, Any]) -> None:
    """Refuse relative paths: a job runs in a copy of the submitted folder, on the head node."""
    for name in PATHS:
        given = values.get(name, "")
        for path in given if isinstance(given, tuple) else (given,):
            known_name = name == "model" and path in KNOWN
            if path and not known_name and not Path(path).is_absolute():
                raise ConfigError(
                    f"--{name} {path}: a Ray job runs in an uploaded copy of your folder, on the "
                    f'cluster: give the absolute path there, as --{name} "$PWD/{path}" if the '
                    "cluster sees this folder under the same name"
                )
