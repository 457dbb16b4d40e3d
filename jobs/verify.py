"""`footfall verify`: read every file of an output, and hold it against its ledger."""

import argparse
import sys
from collections.abc import Sequence

from jobs.console import printable
from jobs.exits import EXIT_BROKE, EXIT_OK, ending
from jobs.outputs import add_output, find_output
from pipeline.errors import ConfigError
from pipeline.lease import workers
from pipeline.verify import verify


def main(arguments: Sequence[str] | None = None) -> int:
    """Check that an output is what its ledger says: each frame once, each file whole, none too many."""
    parser = argparse.ArgumentParser(
        prog="footfall verify",
        description=main.__doc__,
        epilog="Exit codes: 0 all is right, 1 something is not, 2 there is nothing to verify.",
    )
    add_output(parser)
    options = parser.parse_args(arguments)
    return ending("verify", lambda: _verify(options))


def _verify(options: argparse.Namespace) -> int:
    run = find_output(options)
    if others := workers(run.path):
        raise ConfigError(
            f"output {options.output!r}: {others[0]} is at work on it; verify it afterwards"
        )
    report = verify(run.path)
    for problem in report.problems:
        print(printable(f"{problem.where}: {problem.what}"))
    print(
        f"{report.cameras} camera(s), {report.files} files, {report.rows} rows, "
        f"{report.frames} frames looked at: "
        + ("not as the ledger says" if report.problems else "all is as the ledger says")
    )
    return EXIT_BROKE if report.problems else EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
