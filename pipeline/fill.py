"""Fill the frames in which a track was out of sight for a moment.

Rows are held back for as long as a track may be out of sight, then given on in frame order:

    frame        7   8   9   10  11
    track 3      ●   ·   ·   ●            on frame 10 its rows of 8 and 9 are put in, on the
    given on         7   ·   ·   8 ...    straight line between the boxes it was seen in

Joining tracks that were lost for longer needs the future: see `refine`.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from pipeline.identity import from_plain, to_plain
from pipeline.records import ROUNDING_S, Observation, TrackedFrame


class Filler:
    """Fills short gaps in the tracks of one camera."""

    def __init__(self, horizon_s: float) -> None:
        """Hold frames back for `horizon_s`, the longest time a track may be out of sight."""
        self._horizon_s = horizon_s
        self._held: deque[TrackedFrame] = deque()

    def push(self, frame: TrackedFrame) -> Iterator[TrackedFrame]:
        """Take the next frame; yield those that cannot change any more, in order."""
        while self._held and frame.time_s - self._held[0].time_s > self._horizon_s + ROUNDING_S:
            yield self._held.popleft()
        self._held.append(frame)
        for seen in frame.observations:
            self._fill(frame, seen)

    def flush(self) -> Iterator[TrackedFrame]:
        """Yield what is held back: nothing more will come of it."""
        while self._held:
            yield self._held.popleft()

    def state(self) -> dict[str, Any]:
        """Return what is held back, as JSON takes it."""
        footages = list({_name(frame): frame.footage for frame in self._held}.values())
        names = list({_name(frame): None for frame in self._held})
        return {
            "footages": [to_plain(footage) for footage in footages],
            "frames": [
                {
                    "footage": names.index(_name(frame)),
                    "frame_index": frame.frame_index,
                    "pts_s": frame.pts_s,
                    "time_s": frame.time_s,
                    "observations": [
                        [seen.track_id, seen.class_id, seen.box.tolist(), seen.confidence]
                        for seen in frame.observations
                    ],
                }
                for frame in self._held
            ],
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Hold back what `state` tells of."""
        footages = [from_plain(plain) for plain in state["footages"]]
        self._held = deque(
            TrackedFrame(
                footage=footages[frame["footage"]],
                frame_index=frame["frame_index"],
                pts_s=frame["pts_s"],
                time_s=frame["time_s"],
                observations=[
                    Observation(track_id=i, class_id=k, box=np.array(box), confidence=score)
                    for i, k, box, score in frame["observations"]
                ],
            )
            for frame in state["frames"]
        )

    def _fill(self, frame: TrackedFrame, seen: Observation) -> None:
        """Put a track into the held frames since it was last seen, if it was out of sight."""
        between: list[TrackedFrame] = []
        for held in reversed(list(self._held)[:-1]):
            before = next((o for o in held.observations if o.track_id == seen.track_id), None)
            if before is not None:
                for gap in between:
                    share = (gap.time_s - held.time_s) / (frame.time_s - held.time_s)
                    box = before.box + share * (seen.box - before.box)
                    gap.observations.append(replace(seen, box=np.asarray(box), confidence=None))
                return
            between.append(held)


def _name(frame: TrackedFrame) -> tuple[str, int]:
    return frame.footage.source_uri, frame.footage.track.video_track
