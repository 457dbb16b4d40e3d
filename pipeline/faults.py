"""Break on purpose, so that tests can show what a fault costs; off unless a setting names one.

A fault is written `STEP:VIDEO_TRACK:SEGMENT:SIGNAL`, for example `decode:0:3:SIGSEGV`; a `*` stands for
every video track, or every segment.
"""

import os
import signal
from dataclasses import dataclass

from pipeline.errors import ConfigError

VARIABLE = "FOOTFALL_FAULT"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A signal that a step sends to its own process each time it meets a segment.

    Attributes:
        video_track: None means any.
        segment: None means any.
    """

    step: str
    video_track: int | None
    segment: int | None
    signal: str

    def strike(self, step: str, video_track: int, segment: int) -> None:
        """Die here, if this is the place."""
        is_here = self.video_track in (None, video_track) and self.segment in (None, segment)
        if step == self.step and is_here:
            os.kill(os.getpid(), signal.Signals[self.signal])


def parse_fault(text: str) -> Fault | None:
    """Return the fault that `text` describes; None for an empty text.

    Raises:
        ConfigError: It is not of the form STEP:VIDEO_TRACK:SEGMENT:SIGNAL.
    """
    if not text:
        return None
    try:
        step, video_track, segment, name = text.split(":")
        return Fault(
            step=step,
            video_track=None if video_track == "*" else int(video_track),
            segment=None if segment == "*" else int(segment),
            signal=signal.Signals[name].name,
        )
    except (ValueError, KeyError) as error:
        raise ConfigError(f"{VARIABLE}={text!r} is not STEP:VIDEO_TRACK:SEGMENT:SIGNAL") from error
