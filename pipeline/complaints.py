"""What a process that reads footage complains of, and which of that means that footage is lost.

ffmpeg prints a level before each message. Its errors tell of damage; of its warnings only those about
corrupt packets do: a transport stream with a hole in it gives no more. Its demuxer warns of those too,
but of every stream's: sound, and video tracks that are not wanted, are none of our business.
"""

import os
import re
from collections import deque
from typing import IO

# More is not written, and not read: a hostile recording could fill a disk with complaints.
MOST_LOG_BYTES = 16 << 20
_TAIL_LINES = 5

_LEVEL = re.compile(r"((?:\[[^\]]*\] )*?)\[(panic|fatal|error|warning|info)\] ?(.*)")
_DAMAGE = re.compile(r"corrupt input packet")
# Our own remuxing.
_OWN = re.compile(r"\[(nut|out#|vost#|aost#)")
_REPEATED = re.compile(r"\s*Last message repeated \d+ times")


class StderrLog:
    """The complaints in a file that grows, read on from where they were read last."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._read_bytes = 0
        self._unfinished = b""
        self._previous_counts = True
        self._last: deque[str] = deque(maxlen=_TAIL_LINES)

    def tells_of_damage(self) -> bool:
        """Say whether there was a complaint about the recording so far."""
        return bool(self._read_on())

    def tail(self) -> str:
        """Return the last complaints about the recording, as one line without its path."""
        last = [*self._read_on()]
        if self._unfinished and (line := self._complaint(self._unfinished)):
            last.append(line)
        return " | ".join(last[-_TAIL_LINES:])

    def _read_on(self) -> deque[str]:
        while data := os.pread(self._file.fileno(), 1 << 20, self._read_bytes):
            self._read_bytes += len(data)
            *lines, self._unfinished = (self._unfinished + data).split(b"\n")
            self._last.extend(filter(None, map(self._complaint, lines)))
        if self._read_bytes >= MOST_LOG_BYTES:
            # What else was complained of is not known: it may have been damage.
            self._last.append("there are more complaints than are kept")
        return self._last

    def _complaint(self, line: bytes) -> str:
        """Return a line as it is told; "" if it is no complaint about the recording."""
        text = line.decode(errors="replace").rstrip("\r")
        if not text.strip() or _REPEATED.fullmatch(text):
            return ""
        if found := _LEVEL.match(text):
            is_harmless = found[2] in ("warning", "info") and not _DAMAGE.search(found[3])
            self._previous_counts = not is_harmless and not _OWN.match(text)
            text = found[1] + found[3]
        # A line without a level goes on with the message before it, or comes from no library.
        return _printable(text) if self._previous_counts else ""


def _printable(line: str) -> str:
    """Drop pointers and control characters: nothing a file says shall steer a terminal."""
    line = re.sub(r" @ 0x[0-9a-f]+", "", line.strip())
    return "".join(char if char.isprintable() else "?" for char in line)
