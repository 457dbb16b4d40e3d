"""Run a generator in a child process, so that its death costs nothing and its signal is known.

parent  ── call, pickled ──>  child
        <── items ─────────   each pickled, behind its length; then a length of 0
"""

import os
import pickle
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import IO, Any

from pipeline.errors import StepError
from pipeline.ffmpeg import die_with_parent, signal_name

_LENGTH = struct.Struct("<q")
_END, _RAISED = 0, -1


def isolated(function: Callable[..., Iterator[Any]], *arguments: Any) -> Iterator[Any]:  # noqa: ANN401
    """Yield what `function(*arguments)` yields, run in a child process.

    Args:
        function: A module-level generator function, importable by its name.
        arguments: Its arguments; they and its items must pickle.

    Raises:
        StepError: The child died; the error knows the signal.
        Exception: Whatever the function raised.
    """
    child = subprocess.Popen(
        [sys.executable, "-c", f"from {__name__} import serve; serve()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        preexec_fn=die_with_parent,
    )
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        _call(child.stdin, function, arguments)
        yield from _items(child.stdout)
    except _ChildGoneError as error:
        exit_code = child.wait()
        signal = signal_name(-exit_code) if exit_code < 0 else ""
        how = f"by {signal}" if signal else f"with exit code {exit_code}"
        raise StepError(f"its process ended {how}", signal=signal) from error
    finally:
        child.kill()
        child.stdout.close()
        child.wait()


class _ChildGoneError(Exception):
    """The pipe to or from the child broke off."""


def _call(
    pipe: IO[bytes], function: Callable[..., Iterator[Any]], arguments: tuple[Any, ...]
) -> None:
    try:
        with pipe:
            pickle.dump((function, arguments), pipe, protocol=5)
    except BrokenPipeError as error:
        raise _ChildGoneError from error


def _items(pipe: IO[bytes]) -> Iterator[Any]:
    while True:
        (length,) = _LENGTH.unpack(_exactly(pipe, _LENGTH.size))
        if length == _END:
            return
        if length == _RAISED:
            raise pickle.loads(pipe.read())
        yield pickle.loads(_exactly(pipe, length))


def _exactly(pipe: IO[bytes], count: int) -> bytes:
    data = pipe.read(count)
    if len(data) < count:
        raise _ChildGoneError
    return data


def serve() -> None:
    """Be the child: run the call on stdin, write its items to stdout."""
    out = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    # What a library prints must not get between the items.
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    function, arguments = pickle.load(sys.stdin.buffer)
    try:
        for item in function(*arguments):
            data = pickle.dumps(item, protocol=5)
            out.write(_LENGTH.pack(len(data)))
            out.write(data)
            out.flush()
        out.write(_LENGTH.pack(_END))
    except Exception as error:  # noqa: BLE001 -- whatever it is, the parent raises it
        out.write(_LENGTH.pack(_RAISED))
        pickle.dump(error, out, protocol=5)
    out.flush()
