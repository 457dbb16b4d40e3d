"""End this process when a decoder hangs in it: nothing else stops code that never comes back.

A process that ends is known, and what it did is tried again elsewhere; one that hangs is waited for.
The watch is Python's own (`faulthandler`), in a thread that needs no lock of the interpreter: it writes
where the process hung, and ends it with exit code 1.

    watched():  set ........ alive() ........ alive() ........ off
                |-- limit --x  would end here
                            |-- limit, counted anew --x
"""

import faulthandler
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

# A frame takes milliseconds, on a crowded machine seconds.
HANGS_AFTER_S = 120.0
# To set a watch takes as long as to decode a small frame.
_SET_EVERY_S = 5.0

# There is one watch in a process; when it was set.
_set_at: float | None = None


@contextmanager
def watched() -> Iterator[None]:
    """End the process if nothing says `alive` for `HANGS_AFTER_S` in the block."""
    global _set_at
    _set()
    try:
        yield
    finally:
        _set_at = None
        faulthandler.cancel_dump_traceback_later()


def alive() -> None:
    """Say that the work goes on; nothing happens where nobody watches."""
    if _set_at is not None and time.monotonic() - _set_at > _SET_EVERY_S:
        _set()


def _set() -> None:
    global _set_at
    _set_at = time.monotonic()
    # Not `sys.stderr`: what it was replaced with may have no file.
    faulthandler.dump_traceback_later(HANGS_AFTER_S, exit=True, file=sys.__stderr__ or 2)
