"""A person in a frame: where, and when, in each of the ways that rows tell it."""

from dataclasses import dataclass
from datetime import datetime

from pipeline.records import Observation, TrackedFrame
from pipeline.tables import timestamp


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """A person in a frame.

    Attributes:
        x: Of the anchor, in pixels.
        y: Of it.
        height_px: Of the box.
    """

    frame: TrackedFrame
    track_id: int
    class_id: int
    x: float
    y: float
    height_px: float

    @property
    def time_s(self) -> float:
        """Seconds on the camera's clock."""
        return self.frame.time_s


def moment_of(frame: TrackedFrame, seen: Observation) -> Moment:
    """Return the moment of a track in a frame."""
    x, y = anchor(seen)
    height_px = float(seen.box[3] - seen.box[1])
    return Moment(
        frame=frame, track_id=seen.track_id, class_id=seen.class_id, x=x, y=y, height_px=height_px
    )


def anchor(seen: Observation) -> tuple[float, float]:
    """Return (x, y) of the middle of the box's lower edge."""
    return float(seen.box[0] + seen.box[2]) / 2, float(seen.box[3])


def clock_time(frame: TrackedFrame) -> datetime | None:
    """Return when a frame was taken, in UTC, if that is known."""
    return timestamp(frame.footage.start_time, frame.pts_s - frame.footage.origin_s)
