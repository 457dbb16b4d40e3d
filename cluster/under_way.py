"""What a detector has begun with and not done: the batches of two rows.

    row 1    1 1 2 2 3!             3 fails, and is tried again, alone
    row 2          4 4 4            has begun: it is waited for, by whoever wants to be alone
    row 1                3 3 3      nothing else is under way: if the process dies, it was 3
    row 2                      5 5

A batch is begun by its row in turn; whoever wants to know waits for it, once.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Lock, RLock

from pipeline.records import Detections


class _Begun:
    """A batch that a detector has begun with: whoever asks first waits for it, others for them."""

    def __init__(self, wait: Callable[[], Detections]) -> None:
        self._wait, self._lock = wait, Lock()
        self._found: Future[Detections] = Future()

    def settle(self) -> None:
        """Return once nothing of it is under way any more."""
        with self._lock:
            if not self._found.done():
                try:
                    self._found.set_result(self._wait())
                except Exception as error:  # noqa: BLE001 -- whose batch it is, raises it
                    self._found.set_exception(error)

    def result(self) -> Detections:
        """Return what was found, or raise what went wrong."""
        self.settle()
        return self._found.result()


@dataclass(frozen=True, slots=True)
class UnderWay:
    """What a detector has begun with and not done, whichever row it is of.

    Attributes:
        turn: Held by the row whose batches are being begun, and by what is tried alone.
    """

    turn: RLock = field(default_factory=RLock)
    _begun: set[_Begun] = field(default_factory=set)

    def begin(self, begin: Callable[[], Callable[[], Detections]]) -> Callable[[], Detections]:
        """Begin with a batch while it is the caller's turn; return what waits for it."""
        begun = _Begun(begin())
        self._begun.add(begun)

        def result() -> Detections:
            try:
                return begun.result()
            finally:
                self._begun.discard(begun)

        return result

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep all others from beginning, once all that they have begun with is done."""
        with self.turn:
            for begun in self._begun.copy():
                begun.settle()
            yield
