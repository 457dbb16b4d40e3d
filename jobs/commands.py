"""Programs that a benchmark runs: what they said, or why they failed."""

import subprocess
from collections.abc import Sequence

from pipeline.errors import StepError


def said_by(command: Sequence[str]) -> str:
    """Run a program to its end; return what it printed.

    Raises:
        StepError: It failed.
    """
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    check(command, done.returncode, done.stderr.strip() or done.stdout)
    return done.stdout


def check(command: Sequence[str], code: int, said: str) -> None:
    """Make sure that a program did what it was told.

    Raises:
        StepError: It failed; the last line that it said tells why.
    """
    if code:
        reason = (said.strip() or "it said nothing").splitlines()[-1]
        raise StepError(f"{' '.join(command[1:3])} ended with exit code {code}: {reason}")
