"""How a command ends: its exit code, and one line for what stopped it."""

import sys
from collections.abc import Callable

from jobs.console import printable
from pipeline.errors import ConfigError, FootfallError

EXIT_OK, EXIT_BROKE, EXIT_WRONG_SETTING, EXIT_PARTIAL = 0, 1, 2, 3


def ending(verb: str, work: Callable[[], int]) -> int:
    """Run a verb's work and return its exit code; a user's mistake is one line, and no traceback."""
    try:
        return work()
    except ConfigError as error:
        _complain(verb, str(error))
        return EXIT_WRONG_SETTING
    except FootfallError as error:
        _complain(verb, str(error))
        return EXIT_BROKE
    except KeyboardInterrupt:
        _complain(verb, "interrupted; what was committed is whole")
        return EXIT_BROKE


def _complain(verb: str, message: str) -> None:
    print(f"footfall {verb}: {printable(message)}", file=sys.stderr)
