"""Trackers by their names."""

from pipeline.library_trackers import LibraryTracker
from pipeline.track import ByteTracker, Tracker, TrackSettings


def make_tracker(settings: TrackSettings, rate_fps: float) -> Tracker:
    """Return the tracker that the settings name, for one camera of this frame rate."""
    kind = ByteTracker if settings.tracker == "bytetrack" else LibraryTracker
    return kind(settings, rate_fps)
