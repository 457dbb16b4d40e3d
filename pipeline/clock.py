"""A camera's own time: one clock over all its recordings, which rises from frame to frame.

    recording 0            recording 1                        recording 2
    |------------------|   |--------------|                   |-------
    0                  12  12             24.5                90

What a name tells of the start is coarse, to the second most often. Where it agrees, within that, with
the end of the recording before, the two follow without a gap: cameras cut their footage so, and a
false gap of half a second would tear every track. A gap that is too wide to be a rounding is kept.
"""

from datetime import datetime
from typing import Any

from pipeline.records import Footage


class CameraClock:
    """Tells the time of frames; footage comes oldest first."""

    def __init__(self, carry_over_s: float) -> None:
        """Begin before any footage; recordings that far apart never follow without a gap."""
        self._carry_over_s = carry_over_s
        self._base_s = 0.0
        self._end_s = 0.0
        self._start: datetime | None = None
        self._is_new = True

    def begin(self, footage: Footage) -> bool:
        """Go on to the next footage; say whether its time is known in relation to the last."""
        was_new, start_before = self._is_new, self._start
        self._is_new, self._start = False, footage.start_time
        if was_new:
            return False
        if start_before is None or footage.start_time is None:
            self._base_s = self._end_s
            return False
        told_s = self._base_s + (footage.start_time - start_before).total_seconds()
        doubt_s = max(footage.start_resolution_s, 2 / footage.track.usual_fps)
        follows = abs(told_s - self._end_s) <= min(doubt_s, self._carry_over_s)
        self._base_s = self._end_s if follows else max(told_s, self._end_s)
        return True

    def read(self, footage: Footage, pts_s: float) -> float:
        """Return the time of a frame, in seconds since the camera's first recording began."""
        offset_s = pts_s - footage.origin_s
        length_s = max(offset_s + 1 / footage.track.usual_fps, footage.track.duration_s or 0.0)
        self._end_s = max(self._end_s, self._base_s + length_s)
        return self._base_s + offset_s

    def state(self) -> dict[str, Any]:
        """Return all that `restore` needs, as JSON takes it."""
        start = self._start.isoformat() if self._start else None
        return {
            "base_s": self._base_s, "end_s": self._end_s, "start": start, "is_new": self._is_new,
        }  # fmt: skip

    def restore(self, state: dict[str, Any]) -> None:
        """Go on where `state` was taken."""
        self._base_s, self._end_s = state["base_s"], state["end_s"]
        self._start = datetime.fromisoformat(state["start"]) if state["start"] else None
        self._is_new = state["is_new"]
