"""`footfall retry`: do again what failed in an output, and nothing else."""

import argparse
import sys
from collections.abc import Sequence

from jobs.backfill import run_job
from jobs.console import open_console
from jobs.exits import ending
from jobs.options import resolve
from jobs.outputs import CONFIG, add_output, find_output
from jobs.settings import JobSettings
from pipeline.errors import ConfigError
from pipeline.store import shown


def main(arguments: Sequence[str] | None = None) -> int:
    """Do again what failed, with the settings of the last start."""
    parser = argparse.ArgumentParser(
        prog="footfall retry",
        description=main.__doc__,
        epilog="Exit codes: 0 everything, 3 some of it failed again, 2 a wrong setting, 1 it broke.",
    )
    add_output(parser)
    parser.add_argument("--address", help="a Ray cluster to join, instead of the last start's")
    options = parser.parse_args(arguments)
    console = open_console()
    return ending(
        "retry",
        lambda: run_job(_settings(options), console, retry=True).exit_code,
    )


def _settings(options: argparse.Namespace) -> JobSettings:
    run = find_output(options)
    config = run.read_text(CONFIG)
    if config is None:
        raise ConfigError(f"output {options.output!r}: no run has been started in it")
    # A relative path would be the last start's.
    options.output = shown(run.path)
    return resolve(options, below=config)


if __name__ == "__main__":
    sys.exit(main())
