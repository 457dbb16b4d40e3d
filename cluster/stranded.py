"""Where detectors are, and which of them have no node any more."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

STRANDED_AFTER_S = 60.0


@dataclass(slots=True)
class Stranded:
    """Finds detectors that died with their node and found no place on another.

    What was handed to one of them waits for ever; a node that comes in its place may be minutes away.
    """

    is_alive: Callable[[str], bool]
    now: Callable[[], float] = time.monotonic
    _places: dict[str, tuple[Any, str]] = field(default_factory=dict)
    _since: dict[str, float] = field(default_factory=dict)

    def enlist(self, name: str, actor: object, node_id: str) -> None:
        """Note that an actor runs on a node, for the first time or again."""
        self._places[name] = actor, node_id
        self._since.pop(name, None)

    def count_on(self, node_id: str) -> int:
        """Return how many actors run on a node, as far as they have said so."""
        return sum(place == node_id for _, place in self._places.values())

    def given_up(self) -> list[Any]:
        """Return the actors that have been without a node for too long; each once."""
        lost = [name for name, (_, node) in self._places.items() if not self.is_alive(node)]
        late = [
            name
            for name in lost
            if self.now() - self._since.setdefault(name, self.now()) > STRANDED_AFTER_S
        ]
        return [self._places.pop(name)[0] for name in late]
