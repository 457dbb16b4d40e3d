"""`footfall refine OUTPUT`: make the refined tables anew, without footage and without a GPU.

With other zones, say, or other thresholds. What is not given is as it was said last, here or by a start
of the run; but whoever asks for refining gets it, even if the run was told `--no-refine`.
"""

import argparse
import logging
import sys
import uuid
from collections.abc import Collection, Sequence
from dataclasses import replace

from jobs.console import open_console
from jobs.exits import EXIT_OK, ending
from jobs.options import add_options, resolve
from jobs.outputs import CONFIG, add_output, find_output
from jobs.purging import finish_purges
from jobs.refining import (
    CAMERAS_FILE,
    derive_settings,
    keep_cameras,
    refine_here,
    scenes_of,
    totals,
)
from pipeline.cameras import read_cameras
from pipeline.errors import ConfigError
from pipeline.lease import Leases
from pipeline.ledger import cameras_of
from pipeline.purged import read_purges
from pipeline.store import copies, files

# By its name: under `python -m` this module is `__main__`.
log = logging.getLogger("jobs.refine")
OPTIONS = ("cameras", "no_refine", "movement_hz", "count_interval_s", "part_mb")
# What is said here holds for the next time, and for `retry`.
_KEPT = ("refine", *OPTIONS[1:])


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
    before = run.read_text(CONFIG) or ""
    settings = replace(resolve(options, below=before), no_refine=bool(options.no_refine))
    saved = "".join(map(str, copies([f for f in files(run.path) if f.name == CAMERAS_FILE])))
    cameras = cameras_of(run.path)
    if given:
        check_cameras(given, saved, cameras)
    scenes = scenes_of(given or saved)
    attempt_id = uuid.uuid4().hex[:12]
    with Leases(run.path, attempt_id).held(cameras):
        finish_purges(run.path, cameras, read_purges(run.path), settings.track, attempt_id)
        how = derive_settings(settings, cameras, scenes)
        found = totals(refine_here(run.path, how, attempt_id))
        if given is not None:
            # Only one that fits is what the next time begins with.
            keep_cameras(run, given)
        kept = resolve(argparse.Namespace(), below=before)
        kept = replace(kept, **{name: getattr(settings, name) for name in _KEPT})
        run.write_text(CONFIG, kept.to_toml() + "\n")
    log.info("%s", found)
    return EXIT_OK


def check_cameras(given: str, saved: str, cameras: Collection[str]) -> None:
    """Make sure that no camera of an output is left out since its name is misspelt.

    Args:
        given: The cameras file.
        saved: The one of the last start; "" if it had none.
        cameras: Those of the output.

    Raises:
        ConfigError: A file is wrong, or names cameras that the output has not, and leaves some out.
    """
    named = {rule.id for rule in read_cameras(given)}
    known = {rule.id for rule in read_cameras(saved)} if saved else set(cameras)
    unknown, left_out = sorted(named - set(cameras)), sorted(known & set(cameras) - named)
    if unknown and left_out:
        raise ConfigError(
            f"cameras file {given!r}: the output has no camera {', '.join(map(repr, unknown))}; it has "
            f"{', '.join(map(repr, left_out))}, which the file leaves out: name each as the output does"
        )
    if unknown:
        log.warning("Cameras that the output has not: %s", ", ".join(unknown))


if __name__ == "__main__":
    sys.exit(main())
