"""How far cutting may run ahead of decoding: packets that wait in the store are memory for nothing.

Pure: it is told of every segment that was cut, and of each that a decoder has begun with.
"""

from dataclasses import dataclass, field

from cluster.attempts import AttemptKey


@dataclass(slots=True)
class Ahead:
    """Counts the packets that wait for a decoder.

    Attributes:
        most_bytes: What may wait, over all nodes; one segment always may.
    """

    most_bytes: int
    _waiting: dict[AttemptKey, int] = field(default_factory=dict)
    _last_begun: dict[tuple[str, int], int] = field(default_factory=dict)

    def has_room(self, key: AttemptKey, size: int) -> bool:
        """Say whether a segment of so many bytes may be handed on.

        One that is cut a second time, for who cut it died, counts already: the others wait for it.
        """
        if self._was_begun(key) or key in self._waiting:
            return True
        return not self._waiting or sum(self._waiting.values()) + size <= self.most_bytes

    def cut(self, key: AttemptKey, size: int) -> None:
        """Note that a segment is handed on."""
        if not self._was_begun(key):
            self._waiting[key] = size

    def _was_begun(self, key: AttemptKey) -> bool:
        return key.segment <= self._last_begun.get((key.camera_id, key.sequence), -1)

    def begun(self, key: AttemptKey) -> None:
        """Note that a decoder has begun with a segment."""
        footage = key.camera_id, key.sequence
        self._last_begun[footage] = max(key.segment, self._last_begun.get(footage, -1))
        self._waiting.pop(key, None)

    def clear(self) -> None:
        """Forget all: nothing is on its way any more."""
        self._waiting.clear()
        self._last_begun.clear()
