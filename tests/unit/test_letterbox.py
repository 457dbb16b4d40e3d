"""A frame is fitted to the detector as YOLO models of ultralytics are trained: sizes to hold to."""

import numpy as np
import pytest

from pipeline.letterbox import fit


@pytest.mark.parametrize(
    ("source", "scaled", "padded", "left_top"),
    [
        ((640, 480), (640, 480), (640, 480), (0, 0)),
        ((768, 432), (640, 360), (640, 384), (0, 12)),
        ((1920, 1080), (640, 360), (640, 384), (0, 12)),
        ((1080, 1920), (360, 640), (384, 640), (12, 0)),
        ((320, 240), (640, 480), (640, 480), (0, 0)),
        ((100, 99), (640, 634), (640, 640), (0, 3)),
    ],
)
def test_the_longer_side_is_scaled_and_the_shorter_padded_to_the_network_stride(
    source, scaled, padded, left_top
):
    box = fit(*source, 640)
    assert (box.scaled_width, box.scaled_height) == scaled
    assert (box.padded_width, box.padded_height) == padded
    assert (box.left_px, box.top_px) == left_top
    assert box.frame_bytes == padded[0] * padded[1] * 3


def test_the_picture_without_its_padding_is_the_whole_source_frame():
    picture = np.array([[0, 12, 640, 372], [320, 192, 640, 372]], np.float32)
    mapped = fit(1920, 1080, 640).to_source(picture)
    assert mapped.tolist() == [[0, 0, 1920, 1080], [960, 540, 1920, 1080]]
    assert mapped.dtype == np.float32


def test_no_boxes_map_to_no_boxes():
    assert fit(1920, 1080, 640).to_source(np.zeros((0, 4), np.float32)).shape == (0, 4)
