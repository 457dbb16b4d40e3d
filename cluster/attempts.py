"""Tries of work, counted outside the workers that make them.

Ray does not set poison aside: a task whose process dies is started again for ever. So each try is
counted here, before it begins, by segment and step; a worker that dies leaves its try open.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

MOST_ATTEMPTS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptKey:
    """A piece of work: a step on a stretch of a segment, or on all of it.

    Attributes:
        is_alone: It is done by itself, and not as the first of some that travel together: whatever
            kills the process then, it is this.
    """

    camera_id: str
    sequence: int
    segment: int
    step: str
    start: int = 0
    is_alone: bool = False


@dataclass(slots=True)
class Attempts:
    """Counts tries that began and did not end.

    Those that were lost with their node do not count, nor those whose process we ended ourselves. A
    segment that was given up for one of its batches is given up for all: it is set aside whole. Before
    work is done alone it has failed once among others.
    """

    is_alive: Callable[[str], bool]
    _open: dict[AttemptKey, list[tuple[str, int]]] = field(default_factory=dict)
    _given_up: set[AttemptKey] = field(default_factory=set)
    _recycled: set[tuple[str, int]] = field(default_factory=set)

    def begin(self, key: AttemptKey, node_id: str, pid: int = 0) -> int:
        """Note that a process of a node begins a try; return how many before it did not end."""
        # A process of this number is another one by now.
        self._recycled.discard((node_id, pid))
        place = replace(key, start=0, is_alone=True)
        if place in self._given_up:
            return MOST_ATTEMPTS
        lost = [process for process in self._open.get(key, []) if self._counts(process)]
        self._open[key] = [*lost, (node_id, pid)]
        failed = len(lost) + key.is_alone
        if key.is_alone and failed >= MOST_ATTEMPTS:
            self._given_up.add(place)
        return failed

    def _counts(self, process: tuple[str, int]) -> bool:
        return process not in self._recycled and self.is_alive(process[0])

    def is_any_open(self) -> bool:
        """Whether a try is under way, as far as anybody knows."""
        return any(self._counts(process) for tries in self._open.values() for process in tries)

    def end(self, key: AttemptKey) -> None:
        """Note that the work is done, by whichever try."""
        self._open.pop(key, None)

    def forgive(self, node_id: str, pid: int) -> None:
        """Note that a process is about to be ended through no fault of its work."""
        self._recycled.add((node_id, pid))
