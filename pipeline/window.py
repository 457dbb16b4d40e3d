"""Which times of the footage are wanted."""

from dataclasses import dataclass
from datetime import UTC, datetime, time, tzinfo

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class FootageWindow:
    """Which times of the footage are wanted: between two moments, and between two times of day.

    Attributes:
        since: First moment, time zone aware, or None.
        until: Moment before which it ends, or None.
        hours: (from, to) of each day in `zone`; from > to means over midnight.
        zone: Time zone of `hours`.
    """

    since: datetime | None = None
    until: datetime | None = None
    hours: tuple[time, time] | None = None
    zone: tzinfo = UTC

    @property
    def is_open(self) -> bool:
        """Whether everything is wanted, so that no start time is needed."""
        return self.since is None and self.until is None and self.hours is None

    def holds(
        self, start_time: datetime | None, offsets_s: NDArray[np.float64]
    ) -> NDArray[np.bool]:
        """Say which frames are wanted.

        Args:
            start_time: When the recording began; needed unless the window is open.
            offsets_s: (n,) seconds since then.

        Returns:
            (n,) bool.
        """
        wanted = np.ones(len(offsets_s), bool)
        if self.is_open or start_time is None:
            return wanted
        moments = start_time.timestamp() + offsets_s
        if self.since is not None:
            wanted &= moments >= self.since.timestamp()
        if self.until is not None:
            wanted &= moments < self.until.timestamp()
        if self.hours is not None:
            wanted &= np.array([self._in_hours(moment) for moment in moments], bool)
        return wanted

    def misses(self, start_time: datetime | None, duration_s: float) -> bool:
        """Say whether a whole recording lies before or behind the window."""
        if start_time is None:
            return False
        began = start_time.timestamp()
        return (self.since is not None and began + duration_s < self.since.timestamp()) or (
            self.until is not None and began >= self.until.timestamp()
        )

    def _in_hours(self, moment: float) -> bool:
        assert self.hours is not None
        begin, end = self.hours
        clock = datetime.fromtimestamp(moment, self.zone).time()
        return begin <= clock < end if begin <= end else clock >= begin or clock < end
