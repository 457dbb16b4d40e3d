"""Which packets of H.264 decoding can begin at."""

import pytest

from pipeline.keyframes import decodes_alone, nal_length_size

# first_mb_in_slice 0 is the bit 1; slice types as Exp-Golomb: P 5 = 00110, I 7 = 0001000, I 2 = 011.
P_SLICE = bytes([0x41, 0b1_00110_00])
I_SLICE = bytes([0x61, 0b1_0001000])
I_SLICE_ALONE = bytes([0x41, 0b1_011_0000])
IDR = bytes([0x65, 0b1_0001000])
SEI, SPS = bytes([0x06, 6, 1]), bytes([0x67, 66, 0])


def annex_b(*units):
    return b"".join(b"\0\0\0\1" + unit for unit in units)


def by_length(*units):
    return b"".join(len(unit).to_bytes(4, "big") + unit for unit in units)


@pytest.mark.parametrize(
    ("units", "alone"),
    [
        ((SPS, IDR), True),
        ((SEI, I_SLICE), True),
        ((I_SLICE_ALONE,), True),
        ((SPS, SEI, P_SLICE), False),
    ],
)
def test_decoding_begins_at_an_idr_picture_or_an_i_slice(units, alone):
    assert decodes_alone("h264", annex_b(*units), length_size=0) is alone
    assert decodes_alone("h264", by_length(*units), length_size=4) is alone


def test_keyframes_of_other_codecs_are_what_their_container_says():
    assert decodes_alone("hevc", annex_b(P_SLICE), length_size=0)


def test_garbage_is_no_reason_not_to_cut_and_does_not_hang():
    for data in (b"", b"\0\0\1", bytes(100), b"\xff" * 100, b"\0\0\1\x41" + bytes(20)):
        for size in (0, 1, 2, 4):
            assert decodes_alone("h264", data, length_size=size) in (True, False)


def test_the_size_of_lengths_is_read_from_the_codec_s_header():
    assert nal_length_size(bytes([1, 66, 0, 30, 0xFF, 0xE1])) == 4
    assert nal_length_size(bytes([1, 66, 0, 30, 0xFD])) == 2
    assert nal_length_size(b"\0\0\0\1\x67") == 0
    assert nal_length_size(None) == 0
