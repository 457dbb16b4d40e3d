"""What a probing child runs in `probe`'s place, to die as a hostile header would make it."""

import os
import signal
import time

from pipeline.probe import probe
from pipeline.records import Recording


def strike(source_uri: str, _: object) -> Recording:
    """Do what the file's name says; probe a file that says nothing."""
    name = os.path.basename(source_uri)  # noqa: PTH119 -- the shortest way
    if name.startswith("SIG"):
        os.kill(os.getpid(), signal.Signals[name])
    elif name == "hang":
        time.sleep(60)
    elif name == "bomb":
        bytearray(8 << 30)[::4096] = b"x" * (2 << 20)
    elif name == "exit":
        os._exit(7)
    elif name == "bug":
        raise KeyError("a bug")
    elif name == "environment":
        raise ValueError(sorted(os.environ))
    return probe(source_uri)
