"""Break on purpose, so that tests can show what a fault costs; off unless a setting names one.

A fault is written `STEP:VIDEO_TRACK:SEGMENT:WHAT`, for example `decode:0:3:SIGSEGV`; a `*` stands for
every video track, or every segment. What happens there:

    SIGSEGV, ...    the step's process gets this signal
    SLOW=500        the step takes so many milliseconds a frame longer
    LEAK=20         the step's process keeps so many MiB more
    NOMEM=4         the step lacks the memory for more than so many frames at once

Several are parted by commas.
"""

import os
import signal
import time
from dataclasses import dataclass

from pipeline.errors import ConfigError

VARIABLE = "FOOTFALL_FAULT"
_MIB = 1 << 20
_MEASURED = ("SLOW", "LEAK", "NOMEM")

# What `LEAK` keeps.
_kept: list[bytes] = []


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What befalls a step each time it meets a segment.

    Attributes:
        video_track: None means any.
        segment: None means any.
        what: Name of a signal, or "SLOW", "LEAK" or "NOMEM".
        amount: How much, for those that are no signal.
        then: Another fault.
    """

    step: str
    video_track: int | None
    segment: int | None
    what: str
    amount: int = 0
    then: "Fault | None" = None

    def strike(self, step: str, video_track: int, segment: int, *, frames: int = 1) -> None:
        """Be struck here, if this is the place.

        Raises:
            MemoryError: `NOMEM`, and there are more frames than that.
        """
        is_here = self.video_track in (None, video_track) and self.segment in (None, segment)
        if step == self.step and is_here:
            self._happen(frames)
        if self.then:
            self.then.strike(step, video_track, segment, frames=frames)

    def _happen(self, frames: int) -> None:
        if self.what == "SLOW":
            time.sleep(frames * self.amount / 1000)
        elif self.what == "LEAK":
            _kept.append(b"x" * (self.amount * _MIB))
        elif self.what == "NOMEM":
            if frames > self.amount:
                raise MemoryError(f"{frames} frames do not fit")
        else:
            os.kill(os.getpid(), signal.Signals[self.what])


def parse_fault(text: str) -> Fault | None:
    """Return the fault that `text` describes; None for an empty text.

    Raises:
        ConfigError: It is not of the form STEP:VIDEO_TRACK:SEGMENT:WHAT.
    """
    if not text:
        return None
    text, _, rest = text.partition(",")
    try:
        step, video_track, segment, what = text.split(":")
        name, _, amount = what.partition("=")
        return Fault(
            step=step,
            video_track=None if video_track == "*" else int(video_track),
            segment=None if segment == "*" else int(segment),
            what=name if name in _MEASURED else signal.Signals[name].name,
            amount=_positive(amount) if name in _MEASURED else 0,
            then=parse_fault(rest),
        )
    except (ValueError, KeyError) as error:
        raise ConfigError(f"{VARIABLE}={text!r} is not STEP:VIDEO_TRACK:SEGMENT:WHAT") from error


def _positive(text: str) -> int:
    """Return a number of at least 0; raises `ValueError` for anything else."""
    if not text.isdecimal():
        raise ValueError(text)
    return int(text)
