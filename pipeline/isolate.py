"""Run a generator in a child process, so that its death costs nothing and its signal is known.

parent  ── call, pickled ──>  child
        <── items ─────────   each pickled, behind its length; then a length of 0

A child that gives nothing for too long is ended, and it gets no memory without end.
"""

import os
import pickle
import resource
import select
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from io import BufferedWriter, RawIOBase
from pathlib import Path
from typing import IO, Any, cast

from pipeline.errors import StepError
from pipeline.ffmpeg import die_with_parent, signal_name

_LENGTH = struct.Struct("<q")
_END, _RAISED = 0, -1
# An item takes seconds; but a long recording may have to be read to its end before the first one.
MAX_SILENCE_S = 600.0
# Beyond what the child has once its modules are there: 17 frames of 8192 x 8192 that a decoder may
# hold, and as much again.
ROOM_BYTES = 4 << 30
# What Python and its libraries may need to be found at all; decord wants a PATH.
_KEPT_VARIABLES = ("LD_LIBRARY_PATH", "PATH", "PYTHONHOME")


def isolated(
    function: Callable[..., Iterator[Any]],
    *arguments: Any,  # noqa: ANN401
    silence_s: float = MAX_SILENCE_S,
) -> Iterator[Any]:
    """Yield what `function(*arguments)` yields, run in a child process.

    Args:
        function: A module-level generator function, importable by its name.
        arguments: Its arguments; they and its items must pickle.
        silence_s: A child that gives nothing for so long, while it is waited for, is ended.

    Raises:
        StepError: The child died, and the error knows the signal; or it gave nothing.
        Exception: Whatever the function raised.
    """
    child = subprocess.Popen(
        [sys.executable, "-P", "-c", f"from {__name__} import serve; serve()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=bare_environment(),
        preexec_fn=die_with_parent,
        bufsize=0,
    )
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        _call(cast(RawIOBase, child.stdin), function, arguments)
        yield from _items(_Output(child.stdout, silence_s))
    except _ChildGoneError as error:
        exit_code = child.wait()
        signal = signal_name(-exit_code) if exit_code < 0 else ""
        how = f"by {signal}" if signal else f"with exit code {exit_code}"
        raise StepError(f"its process ended {how}", signal=signal) from error
    finally:
        child.kill()
        child.stdout.close()
        child.wait()


def bare_environment() -> dict[str, str]:
    """Return the environment of a child that reads footage: no keys, no tokens.

    Together with Python's option -P it finds the modules that we find, and none that lies beside the
    footage.
    """
    kept = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
    return kept | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


class _ChildGoneError(Exception):
    """The pipe to or from the child broke off."""


class _Output:
    """What the child writes."""

    def __init__(self, pipe: IO[bytes], silence_s: float) -> None:
        self._pipe, self._silence_s = pipe, silence_s
        self._poll = select.poll()
        self._poll.register(pipe, select.POLLIN)

    def read(self, size: int) -> bytes:
        """Return `size` bytes.

        Raises:
            StepError: They do not come in time.
        """
        data = bytearray()
        end = time.monotonic() + self._silence_s
        while len(data) < size:
            left_s = max(0.0, end - time.monotonic())
            if not self._poll.poll(left_s * 1000):
                raise StepError(f"its process gave nothing for {self._silence_s:g} s")
            more = self._pipe.read(min(size - len(data), 1 << 20))
            if not more:
                raise _ChildGoneError
            data += more
        return bytes(data)


def _call(
    pipe: RawIOBase, function: Callable[..., Iterator[Any]], arguments: tuple[Any, ...]
) -> None:
    try:
        with BufferedWriter(pipe) as writer:
            pickle.dump((function, arguments), writer, protocol=5)
    except BrokenPipeError as error:
        raise _ChildGoneError from error


def _items(output: _Output) -> Iterator[Any]:
    while True:
        (length,) = _LENGTH.unpack(output.read(_LENGTH.size))
        if length == _END:
            return
        is_error = length < 0
        item = pickle.loads(output.read(abs(length)))
        if is_error:
            raise item
        yield item


def serve() -> None:
    """Be the child: run the call on stdin, write its items to stdout."""
    out = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    # What a library prints must not get between the items.
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    function, arguments = pickle.load(sys.stdin.buffer)
    _limit_memory()
    try:
        for item in function(*arguments):
            _send(out, item, 1)
        out.write(_LENGTH.pack(_END))
    except Exception as error:  # noqa: BLE001 -- whatever it is, the parent raises it
        _send(out, error, _RAISED)
    out.flush()


def _send(out: IO[bytes], item: object, sign: int) -> None:
    data = pickle.dumps(item, protocol=5)
    out.write(_LENGTH.pack(sign * len(data)))
    out.write(data)
    out.flush()


def _limit_memory() -> None:
    """Let this process have so much more than its modules have taken: on many cores that is a lot."""
    data_pages = int(Path("/proc/self/statm").read_text().split()[5])
    limit = data_pages * resource.getpagesize() + ROOM_BYTES
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
