"""How many calls of Rekognition may still be made for an output, whoever makes them.

    OUTPUT/ledger/labels-budget.json     {"most": {ATTEMPT: calls}, "ended": 2}

A start of a run may come to so many calls as the file says, and takes some more before it has made
them: by one swap, in which it sees what the others may come to. One that has ended counts with the
calls that it made. So shards, runs over other cameras and starts anew stay within the limit together.
"""

import json
import threading
from pathlib import Path

from pipeline.atomic import look_if_there, swap, writing
from pipeline.label_ledger import calls_by_start, calls_made
from pipeline.lease import Deaths
from pipeline.ledger import FOLDER

FILE = "labels-budget.json"
# Some seconds' work: what is taken and not used is not to be had by others meanwhile.
_AT_ONCE = 25


class Budget:
    """Calls that may still be made: taken before each, given back if it turns out to be free."""

    def __init__(self, output: Path, attempt_id: str, most: int | None) -> None:
        """Go on with what this start of the run has made.

        Args:
            output: Whose calls they are.
            attempt_id: This start of the run.
            most: Calls for the output, over all starts; None means any number.

        Raises:
            OutputError: What is on disk is damaged, or cannot be written.
        """
        self._output, self._attempt_id, self._most = output, attempt_id, most
        self._path = output / FOLDER / FILE
        self._lock = threading.Lock()
        self._deaths = Deaths(output)
        self._ended: tuple[frozenset[str], int] | None = None
        self._ended_calls = 0
        self._used = self._may = 0
        self._is_spent = False
        if most is not None:
            self._used = calls_made(output, attempt_id)
            self._take_some()

    def take(self) -> bool:
        """Take one call; return whether there was one left.

        Raises:
            OutputError: What is on disk is damaged, or cannot be written.
        """
        with self._lock:
            if self._most is not None and self._used >= self._may and not self._take_some():
                return False
            self._used += 1
            return True

    @property
    def is_spent(self) -> bool:
        """Whether no call is left."""
        return self._is_spent

    def give_back(self) -> None:
        """Return a call that was not paid for."""
        with self._lock:
            self._used -= 1
            self._is_spent = False

    def end(self) -> None:
        """Leave what is not used to others; the calls that were made are on disk.

        Raises:
            OutputError: It cannot be written.
        """
        while self._most is not None:
            seen = look_if_there(self._path)
            most, ended = _parsed(seen.content) if seen else ({}, 0)
            most.pop(self._attempt_id, None)
            with writing(self._output):
                if swap(self._output, self._path, _plain(most, ended + 1), seen):
                    return

    def _take_some(self) -> bool:
        """Take more calls, for the next ones; return whether there were any."""
        assert self._most is not None
        while True:
            seen = look_if_there(self._path)
            all_, ended = _parsed(seen.content) if seen else ({}, 0)
            others = {
                who: calls
                for who, calls in all_.items()
                if who != self._attempt_id and self._deaths.may_live(who)
            }
            ended += len(all_.keys() - others.keys() - {self._attempt_id})
            theirs = self._made_by_ended(frozenset(others), ended) + sum(others.values())
            left = self._most - theirs - self._used
            self._is_spent = left < 1
            if self._is_spent:
                return False
            may = self._used + min(left, _AT_ONCE)
            with writing(self._output):
                plain = _plain({**others, self._attempt_id: may}, ended)
                if swap(self._output, self._path, plain, seen):
                    self._may = may
                    return True

    def _made_by_ended(self, at_work: frozenset[str], ended: int) -> int:
        """Return the calls of starts that are over; they are counted when one more is."""
        if self._ended != (at_work, ended):
            made = calls_by_start(self._output)
            self._ended_calls = sum(
                calls for who, calls in made.items() if who not in (*at_work, self._attempt_id)
            )
            self._ended = at_work, ended
        return self._ended_calls


def _parsed(content: bytes) -> tuple[dict[str, int], int]:
    plain = json.loads(content)
    return dict(plain["most"]), int(plain["ended"])


def _plain(most: dict[str, int], ended: int) -> bytes:
    return json.dumps({"most": most, "ended": ended}).encode()
