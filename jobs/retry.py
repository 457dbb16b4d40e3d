"""`footfall retry`: do again what failed in an output, and nothing else."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from jobs.backfill import run_job
from jobs.console import open_console
from jobs.exits import ending
from jobs.options import resolve
from jobs.settings import JobSettings
from pipeline.errors import ConfigError
from pipeline.run_folder import find_run


def main(arguments: Sequence[str] | None = None) -> int:
    """Do again what failed, with the settings of the last start."""
    parser = argparse.ArgumentParser(
        prog="footfall retry",
        description=main.__doc__,
        epilog="Exit codes: 0 everything, 3 some of it failed again, 2 a wrong setting, 1 it broke.",
    )
    parser.add_argument("output", metavar="OUTPUT", help="folder of the tables")
    parser.add_argument("--address", help="a Ray cluster to join, instead of the last start's")
    options = parser.parse_args(arguments)
    console = open_console()
    return ending(
        "retry",
        lambda: run_job(_settings(options.output, options.address), console, retry=True).exit_code,
    )


def _settings(output: str, address: str | None) -> JobSettings:
    config = find_run(output).path / "config.toml"
    if not config.exists():
        raise ConfigError(f"output {output!r}: no run has been started in it")
    given = {"config": str(config), "output": str(Path(output).absolute()), "address": address}
    return resolve(argparse.Namespace(**given))


if __name__ == "__main__":
    sys.exit(main())
