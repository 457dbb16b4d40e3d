"""Deaths at any operation on files: nothing that a process wanted to do behind one is done."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pyarrow as pa


class Killed(BaseException):
    """The process is dead; no `except` of it can tell."""


@dataclass(slots=True)
class Reaper:
    """Counts operations on files, and kills before one of them, or in the middle of a write.

    Attributes:
        at: The operation, from 0, that is not done any more; None lets all pass.
    """

    at: int | None
    done: list[str] = field(default_factory=list)
    has_killed: bool = False

    def meet(self, name: str, act: Callable[[], Any], partly: Callable[[], Any]) -> Any:
        """Do an operation, or die of it; the dead do nothing."""
        if self.has_killed:
            raise Killed(name)
        if len(self.done) == self.at:
            self.has_killed = True
            partly()
            raise Killed(name)
        self.done.append(name)
        return act()


@contextmanager
def death(at: int | None) -> Iterator[Reaper]:
    """Kill at the `at`-th operation on files within the `with` block, and end the block there.

    Operations are those that change what another process finds: files that get their names, files
    that go, files that are begun. A death behind one is a death before the next.
    """
    reaper = Reaper(at)
    write_bytes = Path.write_bytes

    def half(path: Path, content: bytes) -> int:
        return write_bytes(path, content[: len(content) // 2])

    def nothing(*_: Any, **__: Any) -> None:
        return None

    def watched(owner: Any, name: str, partly: Callable[..., Any] = nothing) -> Any:
        real = getattr(owner, name)

        def stand_in(*args: Any, **kwargs: Any) -> Any:
            act, die = (lambda: real(*args, **kwargs)), (lambda: partly(*args, **kwargs))
            return reaper.meet(name, act, die)

        return patch.object(owner, name, stand_in)

    with ExitStack() as patches:
        patches.enter_context(watched(Path, "replace"))
        patches.enter_context(watched(Path, "unlink"))
        patches.enter_context(watched(Path, "write_bytes", half))
        patches.enter_context(watched(pa.ipc, "new_file"))
        try:
            yield reaper
        except Killed:
            assert reaper.has_killed


@contextmanager
def no_flushing() -> Iterator[None]:
    """Leave what is written in memory: processes die here, machines do not."""
    with patch.object(os, "fsync", lambda _: None):
        yield
