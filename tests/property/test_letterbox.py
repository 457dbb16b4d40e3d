"""Whatever the size of a frame, boxes find the way back from the detector's input."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.letterbox import NETWORK_STRIDE_PX, fit

sizes = st.integers(1, 8192)
image_sizes = st.integers(32, 4096)
shares = st.tuples(*[st.floats(0, 1)] * 4)


@settings(deadline=None)
@given(sizes, sizes, image_sizes)
def test_a_fit_is_padded_to_the_network_stride_by_less_than_one_and_never_exceeds_the_image_size(
    width, height, image_size
):
    box = fit(width, height, image_size)
    assert max(box.scaled_width, box.scaled_height) == image_size
    for scaled, padded in (
        (box.scaled_width, box.padded_width),
        (box.scaled_height, box.padded_height),
    ):
        assert 1 <= scaled <= padded < scaled + NETWORK_STRIDE_PX
        assert padded % NETWORK_STRIDE_PX == 0
    assert 0 <= box.padded_width - box.scaled_width - 2 * box.left_px <= 1
    assert 0 <= box.padded_height - box.scaled_height - 2 * box.top_px <= 1


@settings(deadline=None)
@given(sizes, sizes, image_sizes, shares)
def test_a_box_of_the_source_comes_back_from_the_input_as_it_was(width, height, image_size, share):
    box = fit(width, height, image_size)
    source = np.array(share) * [width, height, width, height]
    scale_x, scale_y = box.scaled_width / width, box.scaled_height / height
    shown = source * ([scale_x, scale_y] * 2)
    shown = shown + [box.left_px, box.top_px] * 2
    back = box.to_source(shown[None].astype(np.float32))[0]
    # What float32 leaves of a coordinate of the input, at the scale of the source.
    tolerance = 2e-3 * np.array([1 / scale_x, 1 / scale_y] * 2) + 1e-6
    assert (np.abs(back - source) <= tolerance).all()


@settings(deadline=None)
@given(sizes, sizes, image_sizes)
def test_a_box_in_the_padding_is_clipped_to_the_source(width, height, image_size):
    box = fit(width, height, image_size)
    beyond = np.array([[-50, -50, box.padded_width + 50, box.padded_height + 50]], np.float32)
    assert box.to_source(beyond).tolist() == [[0, 0, width, height]]
