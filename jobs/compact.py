"""`footfall compact`: merge the small parts of an output into few, large files, with equal tables."""

import argparse
import sys
import uuid
from collections.abc import Sequence

from jobs.exits import EXIT_OK, ending
from jobs.outputs import add_output, find_output
from jobs.settings import JobSettings
from pipeline.compact import compact
from pipeline.errors import ConfigError
from pipeline.lease import Leases
from pipeline.ledger import cameras_of, table_files
from pipeline.purged import marked

_MB = 1e6


def main(arguments: Sequence[str] | None = None) -> int:
    """Merge the small parts of each camera; the tables stay equal, row for row."""
    parser = argparse.ArgumentParser(prog="footfall compact", description=main.__doc__)
    add_output(parser)
    parser.add_argument(
        "--part-mb", metavar="MB", type=float, default=JobSettings().part_mb,
        help="files come to about this size (default: %(default)g)",
    )  # fmt: skip
    options = parser.parse_args(arguments)
    return ending("compact", lambda: _compact(options))


def _compact(options: argparse.Namespace) -> int:
    run, part_mb = find_output(options), options.part_mb
    cameras = cameras_of(run.path)
    before = sum(1 for _ in table_files(run.path))
    if unfinished := marked(run.path):
        raise ConfigError(
            f"output {options.output!r}: a purge of {len(unfinished)} camera(s) was not finished: "
            "start it again, or the run, first"
        )
    with Leases(run.path, uuid.uuid4().hex[:12]).held(cameras):
        merged = sum(compact(run.path, camera_id, part_mb * _MB) for camera_id in cameras)
    after = sum(1 for _ in table_files(run.path))
    print(f"compact: {merged} part(s) merged into others, {before} files before, {after} now")
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
