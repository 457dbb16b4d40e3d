"""A header in S3, read here and there in blocks: it lies at an object's beginning, or at its end."""

from pipeline.aws import AwsSettings, explained, parse_address
from pipeline.errors import SourceError
from pipeline.records import Listed
from pipeline.s3 import read_range, source_error

_FIRST_BYTES = 512 << 10
_SHORT_BYTES = 1 << 20
_BLOCK_BYTES = 1 << 20
_MOST_BYTES = 256 << 20
_MOST_BLOCKS = 4


class RangeReader:
    """Reads an object here and there.

    Attributes:
        listed: What it is; whole once something was read.
    """

    def __init__(self, listed: Listed, settings: AwsSettings) -> None:
        self.listed = listed
        self._address, self._settings = parse_address(listed.source_uri), settings
        self._blocks: dict[int, bytes] = {}
        self._read_bytes = 0

    def open(self) -> None:
        """Read the beginning.

        Raises:
            SourceError: It cannot be read.
        """
        if not self._blocks:
            # Of a short one the rest takes less time than another request for the index at its end.
            is_short = self.listed.size_bytes <= _SHORT_BYTES
            self._fetch(0, _SHORT_BYTES if is_short and self.listed.version else _FIRST_BYTES)

    def read(self, offset: int, length: int) -> bytes:
        """Return some of the `length` bytes from `offset` on, at least one; b"" behind the end.

        Raises:
            SourceError: They cannot be read, or far more was asked for than headers have.
        """
        self.open()
        for start, block in self._blocks.items():
            if start <= offset < start + len(block):
                return block[offset - start : offset - start + length]
        if offset >= self.listed.size_bytes:
            return b""
        if self._read_bytes > _MOST_BYTES:
            raise SourceError(
                f"cannot be read as footage: no header in {_MOST_BYTES >> 20} MiB of it",
                source_uri=self.listed.source_uri,
            )
        self._fetch(offset, _BLOCK_BYTES)
        return self._blocks[offset][:length]

    def _fetch(self, offset: int, length: int) -> None:
        uri = self.listed.source_uri
        pieces: list[bytes] = []
        with explained("cannot be read", source_error(uri)):
            self.listed = read_range(
                self._address,
                self._settings,
                lambda _, piece: pieces.append(piece),
                first=offset,
                stop=offset + length,
                version=self.listed.version,
            )
        # The beginning stays: demuxers come back to it.
        later = [start for start in self._blocks if start]
        if len(later) >= _MOST_BLOCKS:
            del self._blocks[later[0]]
        self._blocks[offset] = b"".join(pieces)
        self._read_bytes += len(self._blocks[offset])
