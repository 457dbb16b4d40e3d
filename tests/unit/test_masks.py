"""What lies below a mask makes no difference to what is seen, and the rest is left alone."""

import av
import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.decoders import Scaler
from pipeline.letterbox import PAD_GREY, fit
from pipeline.masks import paint_masks
from pipeline.records import Footage, FootageKey, VideoTrack

# Letterboxed, wide, tall, and with sides that nothing divides.
SIZES = pytest.mark.parametrize(
    ("width", "height", "image_size"),
    [(1280, 720, 320), (1920, 1080, 160), (1600, 300, 160), (300, 1600, 160), (1001, 333, 192)],
)
BOX = ((0.25, 0.25), (0.75, 0.25), (0.75, 0.625), (0.25, 0.625))
SLANT = ((0.1, 0.1), (0.6, 0.2), (0.3, 0.9))
CORNER = ((0.0, 0.0), (0.2, 0.0), (0.2, 0.3), (0.0, 0.3))
WHOLE = ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0))
# So far from its middle goes a pixel; so far an edge and its corners are painted over, and a sharp one.
PIXEL_PX, SPREAD_PX, SHARP_PX = 0.7, 3.0, 11.0

shares = st.tuples(st.floats(0, 1), st.floats(0, 1))
triangles = st.tuples(shares, shares, shares).filter(
    lambda mask: shapely.Polygon(mask).area > 0.001
)


def noise(letterbox, count=2):
    """Return frames of noise, none of it of the masks' grey, with their border."""
    rng = np.random.default_rng(1)
    shape = count, letterbox.padded_height, letterbox.padded_width, 3
    pixels = rng.integers(0, PAD_GREY, shape).astype(np.uint8)
    letterbox.paint_border(pixels)
    return pixels


def painted(pixels, letterbox, *masks):
    out = pixels.copy()
    paint_masks(out, letterbox, masks)
    return out


def far_px(letterbox, *masks):
    """Return (padded_height, padded_width) how far the middles of pixels are from the masks."""
    x, y = np.meshgrid(np.arange(letterbox.padded_width), np.arange(letterbox.padded_height))
    middles = shapely.points(x + 0.5 - letterbox.left_px, y + 0.5 - letterbox.top_px)
    areas = [
        shapely.Polygon(
            [(u * letterbox.scaled_width, v * letterbox.scaled_height) for u, v in mask]
        )
        for mask in masks
    ]
    return np.min([shapely.distance(middles, area) for area in areas], axis=0)


def scaled(picture, image_size):
    """Return the (1, padded_height, padded_width, 3) that a decoder makes of a picture."""
    height, width = picture.shape[:2]
    letterbox = fit(width, height, image_size)
    shot = Footage(
        key=FootageKey(camera_id="door", sequence=0),
        source_uri="/archive/door.mkv",
        track=VideoTrack(video_track=0, codec="rawvideo", width=width, height=height),
        letterbox=letterbox,
    )
    pixels = np.full((1, letterbox.padded_height, letterbox.padded_width, 3), PAD_GREY, np.uint8)
    letterbox.put(Scaler(shot)(av.VideoFrame.from_ndarray(picture, format="rgb24")), pixels[0])
    return pixels, letterbox


@SIZES
@pytest.mark.parametrize("mask", [BOX, SLANT, CORNER, WHOLE])
def test_nothing_of_a_mask_stays_and_nothing_beside_it_goes(width, height, image_size, mask):
    letterbox = fit(width, height, image_size)
    before = noise(letterbox)
    after, far = painted(before, letterbox, mask), far_px(letterbox, mask)
    assert (after[:, far < PIXEL_PX] == PAD_GREY).all()
    beside = far > (SHARP_PX if mask is SLANT else SPREAD_PX)
    assert (after[:, beside] == before[:, beside]).all()


@SIZES
def test_a_mask_lies_where_it_was_drawn_in_the_picture_and_not_in_its_border(
    width, height, image_size
):
    letterbox = fit(width, height, image_size)
    after = painted(noise(letterbox, 1), letterbox, BOX)[0]
    picture = after[
        letterbox.top_px : letterbox.top_px + letterbox.scaled_height,
        letterbox.left_px : letterbox.left_px + letterbox.scaled_width,
    ]
    rows, columns = np.nonzero((picture == PAD_GREY).all(axis=-1))
    edges = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    scale = [letterbox.scaled_width, letterbox.scaled_height] * 2
    assert edges == pytest.approx(np.multiply(scale, [0.25, 0.25, 0.75, 0.625]), abs=SPREAD_PX)


@SIZES
@pytest.mark.parametrize("shift_px", [0, 1])
def test_what_lies_below_a_mask_makes_no_difference_once_it_is_painted(
    width, height, image_size, shift_px
):
    check_that_nothing_shows(width, height, image_size, shift_px)


@pytest.mark.parametrize(
    ("width", "height", "image_size"),
    [(640, 360, 640), (352, 240, 640), (320, 240, 640), (160, 120, 640), (320, 240, 1280)],
)
def test_what_lies_below_a_mask_makes_no_difference_in_a_picture_that_is_enlarged(
    width, height, image_size
):
    check_that_nothing_shows(width, height, image_size, 0)


def check_that_nothing_shows(width, height, image_size, shift_px):
    """Compare two pictures that differ below a mask alone, as a decoder scales them."""
    left, top = width // 4 + shift_px, height // 4 + shift_px
    right, bottom = left + width // 3, top + height // 3
    mask = tuple(
        (x / width, y / height)
        for x, y in ((left, top), (right, top), (right, bottom), (left, bottom))
    )
    dark = np.full((height, width, 3), 90, np.uint8)
    seen = []
    for below in (0, 255):
        picture = dark.copy()
        picture[top:bottom, left:right] = below
        pixels, letterbox = scaled(picture, image_size)
        seen.append(painted(pixels, letterbox, mask).astype(int))
    assert np.abs(seen[0] - seen[1]).max() == 0


@SIZES
def test_two_masks_are_both_painted_and_what_is_between_them_stays(width, height, image_size):
    letterbox = fit(width, height, image_size)
    before, far = noise(letterbox), far_px(letterbox, CORNER, BOX)
    after = painted(before, letterbox, CORNER, BOX)
    assert (after[:, far < PIXEL_PX] == PAD_GREY).all()
    assert (after[:, far > SPREAD_PX] == before[:, far > SPREAD_PX]).all()
    assert (after == painted(painted(before, letterbox, CORNER), letterbox, BOX)).all()


def test_masks_that_overlap_hide_what_either_of_them_hides():
    letterbox = fit(1280, 720, 320)
    before = noise(letterbox)
    both = painted(before, letterbox, BOX, SLANT)
    one, other = painted(before, letterbox, BOX), painted(before, letterbox, SLANT)
    either = (one == PAD_GREY) | (other == PAD_GREY)
    assert (both == np.where(either, PAD_GREY, before)).all()


def test_a_picture_without_a_mask_is_left_as_it_is():
    letterbox = fit(1280, 720, 640)
    before = noise(letterbox)
    assert (painted(before, letterbox) == before).all()


def test_every_frame_is_painted_in_place_and_of_no_frames_there_is_nothing_to_paint():
    letterbox = fit(1280, 720, 640)
    pixels = noise(letterbox, 5)
    assert paint_masks(pixels, letterbox, (WHOLE,)) is None
    assert (pixels == PAD_GREY).all()
    paint_masks(pixels[:0], letterbox, (WHOLE,))


def test_the_same_mask_lies_elsewhere_in_a_picture_of_another_shape():
    for width, height in ((1280, 720), (720, 1280), (640, 360), (1280, 720)):
        letterbox = fit(width, height, 160)
        before, far = noise(letterbox), far_px(letterbox, BOX)
        after = painted(before, letterbox, BOX)
        assert (after[:, far < PIXEL_PX] == PAD_GREY).all()
        assert (after[:, far > SPREAD_PX] == before[:, far > SPREAD_PX]).all()


@settings(deadline=None, max_examples=50)
@given(
    st.integers(32, 2000), st.integers(32, 2000), st.lists(triangles, min_size=1, max_size=3)
)  # fmt: skip
def test_nothing_of_any_mask_stays_and_nothing_far_from_all_goes(width, height, masks):
    letterbox = fit(width, height, 96)
    before, far = noise(letterbox, 1), far_px(letterbox, *masks)
    after = painted(before, letterbox, *masks)
    assert (after[:, far < PIXEL_PX] == PAD_GREY).all()
    # Of a picture that is made larger, the filter's reach grows with it.
    beside = far > SHARP_PX * max(1.0, letterbox.scaled_width / letterbox.source_width)
    assert (after[:, beside] == before[:, beside]).all()
