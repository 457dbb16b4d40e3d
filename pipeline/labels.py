"""Labels of frames, as Rekognition gives them: rows of an answer, what it costs, how fast it is asked.

How it is asked is in `rekognition`; what is on disk of it, and what must not be asked again, in
`label_log`.
"""

import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.aws import AwsSettings
from pipeline.tables import Provenance

STEP = "labels"
# Of `metrics`: the old service's name for it.
METRICS_STEP = "aws_detection"
# AWS's list price of DetectLabels in the first tier (up to a million a month), us-east-1.
USD_PER_1000 = 1.0
PRICED_ON = "2026-11-23"
_PERCENT = 100.0
_EDGES = ("x_min", "y_min", "x_max", "y_max")


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelSettings:
    """How labels are asked for.

    Attributes:
        aws: Where and as whom Rekognition is asked.
        every: Of how many frames one is asked about.
        max_tps: Calls a second, at most.
        most_calls: Calls for the output, at most, over all starts; None means any number.
        limit: What to call that limit where it has ended something.
        provenance: What the files' footers say.
        attempt_id: This start of the run.
        store: Where S3 is, for an output there, and as whom it is asked.
    """

    output: Path
    aws: AwsSettings
    every: int
    max_tps: float
    provenance: Provenance
    attempt_id: str
    most_calls: int | None = None
    limit: str = ""
    store: AwsSettings = field(default_factory=AwsSettings)


def price_usd(calls: int, usd_per_1000: float) -> float:
    """Return what calls cost."""
    return calls * usd_per_1000 / 1000


def calls_within(usd: float, usd_per_1000: float) -> int | None:
    """Return how many calls a sum pays for; None if they cost nothing."""
    if not usd_per_1000:
        return None
    # A sum that pays for 3 calls shall not pay for 2.9999999.
    return math.floor(usd / usd_per_1000 * 1000 + 1e-6)


def rows_of(answer: Mapping[str, Any], width: int, height: int) -> Iterator[dict[str, Any]]:
    """Yield the rows of an answer to DetectLabels.

    A label with instances has a row for each of them, another one row without a box.

    Args:
        answer: As boto3 gives it.
        width: Of the upright source frame, in pixels.
        height: Of the upright source frame, in pixels.
    """
    for label in answer.get("Labels", ()):
        common = {
            "name": label["Name"],
            "parents": [parent["Name"] for parent in label.get("Parents") or ()],
            "model_version": answer.get("LabelModelVersion"),
        }
        instances = [each for each in label.get("Instances") or () if each.get("BoundingBox")]
        for each in instances or [label]:
            score = each.get("Confidence", label.get("Confidence", 0.0)) / _PERCENT
            yield {**common, "confidence": score, **_box(each.get("BoundingBox"), width, height)}


def _box(box: Mapping[str, float] | None, width: int, height: int) -> dict[str, float | None]:
    """Return the edges of a box in pixels, within the frame; Rekognition tells shares of it."""
    if not box:
        return dict.fromkeys(_EDGES)
    left, top = box["Left"], box["Top"]
    edges = (left, top, left + box["Width"], top + box["Height"])
    sizes = (width, height, width, height)
    return {
        name: min(max(edge * size, 0.0), float(size))
        for name, edge, size in zip(_EDGES, edges, sizes, strict=True)
    }


class RateLimit:
    """Lets callers through one by one, so many a second; several threads may share it."""

    def __init__(
        self,
        per_s: float,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Begin; the first caller goes at once."""
        self._every_s, self._now, self._sleep = 1 / per_s, now, sleep
        self._lock = threading.Lock()
        self._next_at = -math.inf

    def wait(self) -> None:
        """Return when it is the caller's turn."""
        with self._lock:
            now = self._now()
            at = max(now, self._next_at)
            self._next_at = at + self._every_s
        if at > now:
            self._sleep(at - now)
