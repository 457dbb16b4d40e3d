"""A job's settings: what they are, how the command line and a TOML file give them, what is wrong.

The order of precedence is command line, `--config` file, default. Every setting has one name: its
field here, its key in the file, and, with dashes, its option.
"""

import hashlib
import json
import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, time
from pathlib import Path
from typing import Any

from cluster.supervisor import FailureLimit
from pipeline.aws import AwsSettings, is_s3, parse_address
from pipeline.backend import PRECISIONS
from pipeline.cache import DEFAULT_CACHE_GB, CacheSettings
from pipeline.errors import ConfigError
from pipeline.faults import VARIABLE, Fault, parse_fault
from pipeline.labels import USD_PER_1000
from pipeline.letterbox import NETWORK_STRIDE_PX
from pipeline.refine import RefineSettings
from pipeline.store import MOST_PUT_BYTES, output_root
from pipeline.track import TRACKER_NAMES, TrackSettings

# Bounds of the old service; the job's own memory limit has no upper one, for a node with eight GPUs
# needs more.
LEAST_MEMORY_MB = 100
MOST_MEMORY_MB = 8192
DEFAULT_BATCH_SIZE = 10
DEFAULT_MEMORY_MB = 1024
# What `--batch-size auto` and `--stride auto` stand for.
AUTO_BATCH = -1
AUTO_STRIDE = -1
LARGEST_IMAGE_PX = 4096
EVIDENCE_SETTINGS = ("classes", "confidence", "image_size", "stride")
TRACK_SETTINGS = ("tracker", "track")
# Settings of a step, which a file has in tables of their own.
TABLES = ("track", "refine")


def option(default: Any, text: str, metavar: str | None = None) -> Any:  # noqa: ANN401 -- as `field`
    """Return a dataclass field that is also a command-line option."""
    return field(default=default, metadata={"help": text, "metavar": metavar})


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSettings:
    """All settings of a job; checked when made, as far as that needs neither files nor Ray."""

    input: tuple[str, ...] = option(
        (), "a file, a folder, a glob or a manifest .csv, on a disk or s3://bucket/...; repeatable"
    )
    output: str = option("", "folder for the tables, or s3://bucket/prefix/", "DIR")
    video_tracks: str = option("all", "which video tracks of each recording: all, or 0,2")
    model: str = option("yolov8n.pt", "path or known name of YOLO weights")
    classes: tuple[str, ...] = option(("person",), "class names with commas, or all")
    batch_size: int = option(DEFAULT_BATCH_SIZE, "frames of a batch, or auto", "N")
    memory_limit_mb: int = option(
        DEFAULT_MEMORY_MB, "memory that the job may add on a node, once it is ready", "MB"
    )
    device: str = option("auto", "auto, cpu or cuda")
    precision: str = option("auto", "auto (fp32 on a CPU, fp16 on CUDA), fp32, fp16, bf16 or int8")
    confidence: float = option(0.1, "least score of a detection", "X")
    image_size: int = option(640, "the longer side that frames are scaled to, in pixels", "PX")
    tracker: str = option("bytetrack", ", ".join(TRACKER_NAMES))
    stride: int = option(
        1, "look at every N-th frame, and fill between; auto: as few as tracking allows", "N"
    )
    camera_id: str = option("", "the camera of all recordings, if each has one video track", "ID")
    cameras: str = option("", "which footage is which camera's, and how names tell times", "FILE")
    since: str = option("", "footage from this moment on, as 2026-01-15T09:00", "TIME")
    until: str = option("", "footage before this moment", "TIME")
    hours: str = option("", "footage of these hours of each day, as 09:00-22:00", "FROM-TO")
    limit: int = option(0, "at most so many recordings, the oldest; 0 means all", "N")
    shard: str = option("", "i/n: the i-th, from 0, of n drivers that share one output", "I/N")
    part_mb: float = option(128.0, "a part is committed when its largest table has this size", "MB")
    max_failed_segments: str = option(
        "", "stop when more segments fail: a number, or a share as 0.5 or 50%%", "N"
    )
    partial_ok: bool = option(False, "end with 0 although some recordings failed")
    detectors: int = option(0, "detectors over the whole cluster; 0 means as many as fit", "N")
    detect_resource: str = option(
        "", "detect only on nodes that have this resource of Ray; the others decode", "NAME"
    )
    wait_for_nodes_s: float = option(
        600.0, "how long to wait for the first node of a cluster that can detect", "S"
    )
    address: str = option("", "a Ray cluster to join; a local one is started otherwise")
    overwrite: bool = option(False, "replace the results of an earlier run in the output")
    no_refine: bool = option(False, "leave tracks as the tracker made them")
    movement_hz: float = option(
        0.0, "rows a second of each track in the refined log; 0 means every frame", "HZ"
    )
    count_interval_s: float = option(60.0, "length of an interval of the table of counts", "S")
    profile: str = option("", "AWS profile: whose credentials S3 and Rekognition are asked with")
    region: str = option("", "AWS region, if neither profile nor environment says")
    endpoint_url: str = option("", "a server other than AWS that speaks S3", "URL")
    kms_key: str = option("", "KMS key that S3 encrypts the output with: its id or ARN", "KEY")
    cache_gb: float = option(
        DEFAULT_CACHE_GB, "what recordings of S3 may take of a node's disk at once", "GB"
    )
    aws_labels: bool = option(
        False, "ask Rekognition for the labels of some frames; it costs money"
    )
    aws_frame_skip: int = option(60, "of how many frames one has labels", "N")
    aws_max_tps: float = option(5.0, "calls of Rekognition a second, at most", "N")
    aws_max_cost: str = option(
        "", "what calls may cost over all starts and shards, in USD; any sum otherwise", "USD"
    )
    aws_price: float = option(USD_PER_1000, "price of 1,000 calls of Rekognition, in USD", "USD")
    aws_endpoint_url: str = option("", "a server other than AWS that speaks Rekognition", "URL")
    trust_weights: bool = option(False, "load weights of unknown hash: runs the code in them")
    track: TrackSettings = field(default_factory=TrackSettings)
    refine: RefineSettings = field(default_factory=RefineSettings)

    def __post_init__(self) -> None:
        _at_least("batch_size", self.batch_size, 1, or_else=AUTO_BATCH)
        _at_least("memory_limit_mb", self.memory_limit_mb, LEAST_MEMORY_MB)
        _at_least("stride", self.stride, 1, or_else=AUTO_STRIDE)
        _at_least("limit", self.limit, 0)
        _at_least("detectors", self.detectors, 0)
        _one_of("device", self.device, ("auto", "cpu", "cuda"))
        known = sorted({name for names in PRECISIONS.values() for name in names})
        _one_of("precision", self.precision, ("auto", *known))
        _one_of("tracker", self.tracker, TRACKER_NAMES)
        self._check_ranges()
        self._check_labels()
        self._check_nodes()
        self._check_contradictions()
        self._check_s3()
        _ = self.wanted_tracks, self.moments, self.daily_hours, self.failure_limit, self.shard_of

    def _check_ranges(self) -> None:
        if not 0 < self.confidence < 1:
            raise ConfigError(f"confidence = {self.confidence}: it lies between 0 and 1")
        if not NETWORK_STRIDE_PX <= self.image_size <= LARGEST_IMAGE_PX:
            raise ConfigError(
                f"image_size = {self.image_size}: from {NETWORK_STRIDE_PX} to {LARGEST_IMAGE_PX}"
            )
        if not self.part_mb > 0:
            raise ConfigError(f"part_mb = {self.part_mb}: it is more than 0")
        if not self.cache_gb > 0:
            raise ConfigError(f"cache_gb = {self.cache_gb}: it is more than 0")
        for name in ("movement_hz", "wait_for_nodes_s"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ConfigError(f"{name} = {getattr(self, name)}: it is 0 or more")
        if not 0 < self.count_interval_s < math.inf:
            raise ConfigError(f"count_interval_s = {self.count_interval_s}: it is more than 0")

    def _check_labels(self) -> None:
        _at_least("aws_frame_skip", self.aws_frame_skip, 1)
        if not 0 <= self.aws_price < math.inf:
            raise ConfigError(f"aws_price = {self.aws_price}: it is 0 or more")
        _ = self.most_cost_usd
        if not 0 < self.aws_max_tps < math.inf:
            raise ConfigError(f"aws_max_tps = {self.aws_max_tps}: it is more than 0")

    def _check_nodes(self) -> None:
        if self.detect_resource in ("CPU", "GPU", "memory", "object_store_memory"):
            raise ConfigError(
                f"detect_resource = {self.detect_resource!r}: one of your own, as in "
                '`ray start --resources=\'{"gpu_box": 1}\'`; device = "cuda" asks for GPUs'
            )

    def _check_contradictions(self) -> None:
        if not self.classes:
            raise ConfigError("classes: name one, or all")
        if self.camera_id and self.cameras:
            raise ConfigError("camera_id and cameras contradict each other: give one of them")
        if any("\ud800" <= char <= "\udfff" for char in self.camera_id):
            # Bytes of the command line that are no text; no table would take them.
            raise ConfigError(f"camera_id = {self.camera_id!r}: it is not UTF-8")
        if self.overwrite and self.shard_of[1] > 1:
            raise ConfigError(
                "overwrite and shard contradict each other: n drivers would remove each other's results"
            )

    def _check_s3(self) -> None:
        # What is wrong with these must not get as far as the file of settings.
        _ = self.aws, self.rekognition
        for each in filter(is_s3, self.input):
            parse_address(each)
        if not is_s3(self.output):
            return
        _ = self.output_path
        if self.part_mb * 1e6 > MOST_PUT_BYTES / 2:
            raise ConfigError(
                f"part_mb = {self.part_mb}: in S3 a part is one PUT, and that takes 5 GB at most"
            )
        if self.precision == "int8":
            raise ConfigError(
                "precision = 'int8': its model is kept in the output, on a disk, not in S3"
            )

    @property
    def aws(self) -> AwsSettings:
        """Where S3 is, and as whom it is asked."""
        return AwsSettings(
            profile=self.profile,
            region=self.region,
            endpoint_url=self.endpoint_url,
            kms_key_id=self.kms_key,
        )

    @property
    def cache(self) -> CacheSettings:
        """How recordings of S3 come to a node's disk."""
        return CacheSettings(aws=self.aws, most_bytes=self.cache_gb * 1e9)

    @property
    def rekognition(self) -> AwsSettings:
        """Where and as whom Rekognition is asked: S3 may be elsewhere, on the user's own machines."""
        return AwsSettings(
            profile=self.profile, region=self.region, endpoint_url=self.aws_endpoint_url
        )

    @property
    def output_path(self) -> Path:
        """Root of the tables."""
        return output_root(self.output)

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
        since, until = (moment_of(n, getattr(self, n)) for n in ("since", "until"))
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
    def shard_of(self) -> tuple[int, int]:
        """Which shard this is, from 0, and of how many."""
        if not self.shard:
            return 0, 1
        index, slash, count = self.shard.partition("/")
        if not (slash and index.isdecimal() and count.isdecimal() and int(index) < int(count)):
            raise ConfigError(f"shard = {self.shard!r}: write it as 0/4, from 0/4 to 3/4")
        return int(index), int(count)

    @property
    def most_cost_usd(self) -> float | None:
        """What labels may cost over all starts, in USD; None means any sum."""
        if not self.aws_max_cost:
            return None
        try:
            most = float(self.aws_max_cost)
        except ValueError:
            most = math.nan
        if not 0 <= most < math.inf:
            raise ConfigError(f"aws_max_cost = {self.aws_max_cost}: it is 0 or more, in USD")
        return most

    @property
    def failure_limit(self) -> FailureLimit | None:
        """How many segments may fail; None means any."""
        text = self.max_failed_segments.strip()
        if not text:
            return None
        try:
            most = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
        except ValueError:
            most = -1.0
        is_number = text.isdecimal()
        if not is_number and not 0 < most < 1:
            raise ConfigError(
                f"max_failed_segments = {text!r}: a number as 20, or a share as 0.5 or 50%"
            )
        return FailureLimit(most=most, is_share=not is_number)

    @property
    def fault(self) -> Fault | None:
        """A fault for tests to be struck by, from the environment."""
        return parse_fault(os.environ.get(VARIABLE, ""))

    def to_toml(self) -> str:
        """Return the settings as a file for `--config`."""
        plain = self.plain()
        tables = {name: plain.pop(name) for name in TABLES}
        lines = [f"{name} = {_toml(value)}" for name, value in plain.items()]
        for name, table in tables.items():
            lines += ["", f"[{name}]", *(f"{k} = {_toml(v)}" for k, v in table.items())]
        return "\n".join(lines)

    def plain(self) -> dict[str, Any]:
        """Return the settings under their keys, as plain values."""
        values = {key_of(name): value for name, value in asdict(self).items()}
        if self.batch_size == AUTO_BATCH:
            values["batch_size"] = "auto"
        if self.stride == AUTO_STRIDE:
            values["stride"] = "auto"
        # Which tracker is a setting of its own; the table holds its thresholds.
        del values["track"]["tracker"]
        return values

    def evidence_hash(self, **more: str) -> str:
        """Return a hash of the settings that change detections, and of `more` that does."""
        return self._hash(EVIDENCE_SETTINGS, **more)

    def track_hash(self) -> str:
        """Return a hash of the settings that turn detections into tracks."""
        return self._hash(TRACK_SETTINGS)

    def result_hash(self, evidence: str) -> str:
        """Return a hash of all settings that change results, given that of the detections'."""
        return self._hash(TRACK_SETTINGS, evidence=evidence)

    def _hash(self, names: Sequence[str], **more: str) -> str:
        chosen = {name: value for name, value in asdict(self).items() if name in names}
        text = json.dumps({**chosen, **more}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


# `from` is a word of Python, so the fields have other names than the options and keys.
_KEYS = {"since": "from", "until": "to"}
_FIELDS = {key: name for name, key in _KEYS.items()}


def field_of(key: str) -> str:
    """Return the field that a key of the file stands for."""
    return _FIELDS.get(key, key)


def key_of(name: str) -> str:
    """Return the key and the option of a field."""
    return _KEYS.get(name, name)


def _toml(value: object) -> str:
    # A JSON string, number, array or boolean is one of TOML's too.
    return json.dumps(value, ensure_ascii=False)


def _at_least(name: str, value: int, least: int, or_else: int | None = None) -> None:
    if value < least and value != or_else:
        raise ConfigError(f"{name} = {value}: it is {least} or more")


def _one_of(name: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise ConfigError(f"{name} = {value!r}: known are {', '.join(known)}")


def moment_of(name: str, text: str) -> datetime | None:
    """Return the moment that a setting or option tells, in UTC unless it says otherwise.

    Raises:
        ConfigError: It tells none.
    """
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise ConfigError(f"{key_of(name)} = {text!r}: write it as 2026-01-15T09:00") from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
