"""How far cutting may run ahead of decoding, and how many segments it hands on at once.

Packets that wait in the store are memory for nothing. A row of them has the name of its first segment.

Pure: it is told of every row that was cut, and of each that a decoder has begun with.
"""

from bisect import bisect_right
from dataclasses import dataclass, field

from cluster.attempts import AttemptKey


@dataclass(slots=True)
class Ahead:
    """Counts the packets that wait for a decoder.

    Attributes:
        most_bytes: What may wait, over all nodes; one row always may.
    """

    most_bytes: int
    _waiting: dict[AttemptKey, int] = field(default_factory=dict)
    _last_begun: dict[tuple[str, int], int] = field(default_factory=dict)

    def has_room(self, key: AttemptKey, size: int) -> bool:
        """Say whether a row of so many bytes may be handed on.

        One that is cut a second time, for who cut it died, counts already: the others wait for it.
        """
        if self._was_begun(key) or key in self._waiting:
            return True
        return not self._waiting or sum(self._waiting.values()) + size <= self.most_bytes

    def cut(self, key: AttemptKey, size: int) -> None:
        """Note that a row is handed on."""
        if not self._was_begun(key):
            self._waiting[key] = size

    def _was_begun(self, key: AttemptKey) -> bool:
        return key.segment <= self._last_begun.get((key.camera_id, key.sequence), -1)

    def begun(self, key: AttemptKey) -> None:
        """Note that a decoder has begun with a row."""
        footage = key.camera_id, key.sequence
        self._last_begun[footage] = max(key.segment, self._last_begun.get(footage, -1))
        self._waiting.pop(key, None)

    def clear(self) -> None:
        """Forget all: nothing is on its way any more."""
        self._waiting.clear()
        self._last_begun.clear()


@dataclass(slots=True)
class RowSizes:
    """Remembers how many segments each row was to have, for those who cut the same anew.

    Ray hands on the rows of a task that died once only, told by their number: its next try has to make
    the same rows.
    """

    # By footage: from which segment on it was how many, and the last segment that was asked about.
    _said: dict[tuple[str, int], list[tuple[int, int]]] = field(default_factory=dict)
    _last: dict[tuple[str, int], int] = field(default_factory=dict)

    def behind(self, camera_id: str, sequence: int, segment: int, size: int) -> int:
        """Return the size of the row behind a segment: `size`, unless it was told before."""
        footage = camera_id, sequence
        said = self._said.setdefault(footage, [])
        if segment <= self._last.get(footage, -2):
            return said[bisect_right(said, segment, key=lambda change: change[0]) - 1][1]
        self._last[footage] = segment
        if not said or said[-1][1] != size:
            said.append((segment, size))
        return size

    def clear(self) -> None:
        """Forget all: nothing is cut anew any more."""
        self._said.clear()
        self._last.clear()
