"""`footfall refine OUTPUT`: make the refined tables anew, without footage and without a GPU.

With other zones, say, or other thresholds. What is not given is as it was at the last start of the run.
"""

import argparse
import logging
import sys
import uuid
from collections.abc import Sequence

from jobs.console import open_console
from jobs.exits import EXIT_OK, ending
from jobs.options import add_options, resolve
from jobs.outputs import CONFIG, add_output, find_output
from jobs.refining import (
    CAMERAS_FILE,
    derive_settings,
    keep_cameras,
    refine_here,
    scenes_of,
    totals,
)
from pipeline.lease import Leases
from pipeline.ledger import cameras_of
from pipeline.store import copies, files

# By its name: under `python -m` this module is `__main__`.
log = logging.getLogger("jobs.refine")
OPTIONS = ("cameras", "no_refine", "movement_hz", "count_interval_s", "part_mb")


def main(arguments: Sequence[str] | None = None) -> int:
    """Join, fill and smooth tracks again, and tell anew what people did."""
    parser = argparse.ArgumentParser(prog="footfall refine", description=main.__doc__)
    add_output(parser)
    add_options(parser, OPTIONS)
    options = parser.parse_args(arguments)
    open_console()
    return ending("refine", lambda: _refine(options))


def _refine(options: argparse.Namespace) -> int:
    run = find_output(options)
    # The settings may name a camera, and scenes are by camera: the two do not contradict here.
    given, options.cameras = options.cameras, None
    settings = resolve(options, below=run.read_text(CONFIG) or "")
    saved = [path for path in files(run.path) if path.name == CAMERAS_FILE]
    scenes = scenes_of(given or "".join(map(str, copies(saved))))
    cameras = cameras_of(run.path)
    if unknown := sorted(set(scenes) - set(cameras)) if given else []:
        log.warning("Cameras that the output has not: %s", ", ".join(unknown))
    attempt_id = uuid.uuid4().hex[:12]
    with Leases(run.path, attempt_id).held(cameras):
        how = derive_settings(settings, cameras, scenes)
        found = totals(refine_here(run.path, how, attempt_id))
        if given is not None:
            # Only one that fits is what the next time begins with.
            keep_cameras(run, given)
    log.info("%s", found)
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
