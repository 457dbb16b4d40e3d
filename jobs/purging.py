"""Purges in a job: what was interrupted is finished before anything else is done with a camera."""

import logging
from collections.abc import Collection
from pathlib import Path

from pipeline.errors import OutputError
from pipeline.purge import finish_purge
from pipeline.purged import Purges, read_purges
from pipeline.track import TrackSettings

log = logging.getLogger(__name__)


def finish_purges(
    output: Path,
    cameras: Collection[str],
    purges: Purges,
    track: TrackSettings,
    attempt_id: str,
) -> None:
    """Take away what is marked to go from cameras.

    Args:
        output: Root of the tables.
        cameras: Their leases must be held.
        purges: What the caller knows to be purged.
        track: As tracks are made.
        attempt_id: Who holds the leases.

    Raises:
        OutputError: Something was purged since the caller looked; or something is damaged, or cannot be
            written.
    """
    if read_purges(output) != purges:
        raise OutputError("something was purged meanwhile: start again")
    for camera_id in cameras:
        if finish_purge(output, camera_id, purges, track, attempt_id):
            log.info("What was purged of camera %s has gone", camera_id)
