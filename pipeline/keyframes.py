"""Which keyframes a decoder can begin at.

A container's flag is not enough: H.264 marks recovery points too, and behind one of those the picture
is refreshed bit by bit, over a second or more (intra refresh, as many network cameras send it). Frames
decode alone only from an IDR picture or an I slice on (ITU-T H.264, 7.3.1 and 7.4.3).
"""

from collections.abc import Iterator

_IDR, _SLICE = 5, 1
_I_SLICES = (2, 7)


def decodes_alone(codec: str, data: bytes, *, length_size: int) -> bool:
    """Say whether decoding can begin at a packet that its container calls a keyframe.

    Args:
        codec: FFmpeg's name of the codec; only "h264" is looked into.
        data: The packet.
        length_size: Bytes of the lengths before NAL units; 0 if start codes part them (Annex B).
    """
    if codec != "h264":
        return True
    units = _by_length(data, length_size) if length_size else _by_start_code(data)
    for unit in units:
        kind = unit[0] & 0x1F if unit else 0
        if kind == _IDR:
            return True
        if kind == _SLICE:
            # The slice header begins with two Exp-Golomb numbers: first macroblock, slice type.
            bits = _bits(unit[1:9])
            _exp_golomb(bits)
            return _exp_golomb(bits) in _I_SLICES
    return True


def nal_length_size(extradata: bytes | None) -> int:
    """Return the bytes of NAL lengths that an avcC record announces; 0 for Annex B."""
    return (extradata[4] & 3) + 1 if extradata and len(extradata) > 4 and extradata[0] == 1 else 0  # noqa: PLR2004 -- lengthSizeMinusOne is in byte 4


def _by_length(data: bytes, size: int) -> Iterator[bytes]:
    at = 0
    while at + size < len(data):
        length = int.from_bytes(data[at : at + size], "big")
        yield data[at + size : at + size + min(length, 16)]
        at += size + length


def _by_start_code(data: bytes) -> Iterator[bytes]:
    at = data.find(b"\0\0\1")
    while at >= 0:
        yield data[at + 3 : at + 19]
        at = data.find(b"\0\0\1", at + 3)


def _bits(data: bytes) -> Iterator[int]:
    return (byte >> shift & 1 for byte in data for shift in range(7, -1, -1))


def _exp_golomb(bits: Iterator[int]) -> int:
    zeros = 0
    for bit in bits:
        if bit:
            break
        zeros += 1
    rest = 0
    for _ in range(zeros):
        rest = rest << 1 | next(bits, 0)
    return (1 << zeros) - 1 + rest
