"""Calibration points fix where on the floor a pixel is, or are refused."""

import math
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from jobs.refining import scenes_of
from pipeline.errors import ConfigError
from pipeline.floor import LEAST_POINTS, calibrate

FLOOR_M = ((-2.0, 5.0), (2.0, 5.0), (2.0, 11.0), (-2.0, 11.0))
SQUARE_M = ((0.0, 0.0), (4.0, 0.0), (4.0, 3.0), (0.0, 3.0))
SQUARE_PX = ((100.0, 600.0), (900.0, 600.0), (700.0, 200.0), (300.0, 200.0))

# A corner is moved by less than a quarter of a side: no three corners come to lie on a line.
nudges = st.lists(
    st.tuples(st.floats(-0.2, 0.2), st.floats(-0.2, 0.2)), min_size=4, max_size=4
).map(np.array)
places = st.lists(st.tuples(st.floats(0.05, 0.95), st.floats(0.05, 0.95)), min_size=1, max_size=8)
points = st.tuples(st.integers(0, 1000), st.integers(0, 1000))


@dataclass(frozen=True)
class Pinhole:
    """A camera over the origin of the floor, which looks along its second axis, and down."""

    height_m: float = 3.0
    tilt_deg: float = 30.0
    pan_deg: float = 0.0
    focal_px: float = 900.0

    @property
    def axes(self):
        """Return what is right, down and ahead in the picture, as directions of the room."""
        tilt, pan = math.radians(self.tilt_deg), math.radians(self.pan_deg)
        ahead = np.array(
            [math.sin(pan) * math.cos(tilt), math.cos(pan) * math.cos(tilt), -math.sin(tilt)]
        )
        right = np.array([math.cos(pan), -math.sin(pan), 0.0])
        return np.array([right, np.cross(ahead, right), ahead])

    @property
    def horizon_px(self):
        return 360 - self.focal_px * math.tan(math.radians(self.tilt_deg))

    def to_picture(self, floor_m):
        floor_m = np.asarray(floor_m, float)
        seen = np.column_stack([floor_m, np.full(len(floor_m), -self.height_m)]) @ self.axes.T
        return seen[:, :2] / seen[:, 2:] * self.focal_px + [640, 360]

    def to_floor(self, pixels):
        pixels = np.asarray(pixels, float)
        rays = np.column_stack([(pixels - [640, 360]) / self.focal_px, np.ones(len(pixels))])
        rays = rays @ self.axes
        return rays[:, :2] * (self.height_m / -rays[:, 2:])


def told(array):
    return tuple(map(tuple, np.asarray(array, float).tolist()))


def seen_by(camera, floor_m=FLOOR_M):
    return calibrate(told(camera.to_picture(floor_m)), told(floor_m))


def plane_map(before, after):
    """Return the homography of four points to four, from its eight linear equations."""
    rows, right = [], []
    for (x, y), (u, v) in zip(before, after, strict=True):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
        right += [u, v]
    return np.append(np.linalg.solve(np.array(rows), np.array(right)), 1).reshape(3, 3)


def mapped(matrix, at):
    out = np.column_stack([at, np.ones(len(at))]) @ matrix.T
    return out[:, :2] / out[:, 2:]


def test_the_pinhole_camera_of_these_tests_finds_its_own_floor_points_again():
    camera = Pinhole(pan_deg=20)
    assert camera.to_floor(camera.to_picture(FLOOR_M)) == pytest.approx(np.array(FLOOR_M))
    # Straight ahead is where the axis meets the floor; to the right is to the right.
    ahead_m = 3 / math.tan(math.radians(30))
    assert Pinhole().to_picture([[0, ahead_m]])[0] == pytest.approx([640, 360])
    assert Pinhole().to_picture([[1, ahead_m]])[0][0] > 640
    assert Pinhole().to_picture([[0, ahead_m - 1]])[0][1] > 360


def test_four_exact_points_give_every_place_on_the_floor_exactly():
    camera = Pinhole()
    floor = seen_by(camera)
    where = np.array([[0, 3], [-1.5, 4], [3, 20], [0.1, 8.7], [-6, 30]])
    assert floor.to_metres(camera.to_picture(where)) == pytest.approx(where, abs=1e-6)
    assert floor.residual_m == pytest.approx(0, abs=1e-9)
    assert floor.worst_m == pytest.approx(0, abs=1e-9)


def test_more_exact_points_than_needed_leave_no_residual():
    camera = Pinhole(pan_deg=-25, tilt_deg=40)
    floor = seen_by(camera, [*FLOOR_M, (0, 7), (1, 9), (-1, 6)])
    assert floor.residual_m == pytest.approx(0, abs=1e-9)
    assert floor.to_metres(camera.to_picture([[1, 5.5]])) == pytest.approx(np.array([[1, 5.5]]))


def test_the_order_of_the_points_does_not_matter_as_long_as_both_lists_have_it():
    camera = Pinhole()
    for order in ([0, 1, 2, 3], [2, 0, 3, 1], [3, 2, 1, 0]):
        floor_m = np.array(FLOOR_M)[order]
        assert seen_by(camera, floor_m).to_metres(camera.to_picture([[1, 9]])) == pytest.approx(
            np.array([[1, 9]])
        )


def test_a_floor_drawn_as_a_mirror_image_is_a_floor_too():
    camera, flip = Pinhole(), np.array([1, -1])
    floor = calibrate(told(camera.to_picture(FLOOR_M)), told(np.array(FLOOR_M) * flip))
    assert floor.to_metres(camera.to_picture([[1, 9]])) == pytest.approx(np.array([[1, -9]]))


def test_a_wrong_point_among_more_than_needed_shows_in_the_residual():
    camera = Pinhole()
    floor_m = np.array([*FLOOR_M, (0, 7), (1, 9), (-1, 6)], float)
    pixels = camera.to_picture(floor_m)
    floor_m[5] += [0.7, 0.0]
    floor = calibrate(told(pixels), told(floor_m))
    off = np.linalg.norm(floor.to_metres(pixels) - floor_m, axis=1)
    assert floor.residual_m == pytest.approx(math.sqrt((off**2).mean()))
    assert floor.worst_m == pytest.approx(off.max())
    assert 0.1 < floor.residual_m < floor.worst_m < 1.0


def test_a_point_that_is_a_pixel_off_is_less_than_a_decimetre_off_on_a_floor_nearby():
    camera = Pinhole()
    whole = calibrate(told(camera.to_picture(FLOOR_M).round()), FLOOR_M)
    where = np.array([[0, 5], [0, 8], [1.5, 10]])
    assert np.abs(whole.to_metres(camera.to_picture(where)) - where).max() < 0.1


def test_what_is_above_the_horizon_is_nowhere_on_the_floor_and_what_is_below_is_in_front():
    camera = Pinhole(tilt_deg=10)
    floor = seen_by(camera)
    above = [[640, camera.horizon_px - d] for d in (1, 50, 150)]
    below = [[640, camera.horizon_px + d] for d in (1, 50, 400)]
    metres = floor.to_metres(np.array([*above, *below]))
    assert np.isnan(metres[:3]).all()
    assert metres[3:] == pytest.approx(camera.to_floor(below), rel=1e-3)
    assert (metres[3:, 1] > 0).all()


def test_nobody_is_nowhere():
    assert seen_by(Pinhole()).to_metres(np.empty((0, 2))).shape == (0, 2)


@pytest.mark.parametrize("count", range(LEAST_POINTS))
def test_too_few_points_are_refused(count):
    with pytest.raises(ConfigError, match="four or more"):
        calibrate(SQUARE_PX[:count], SQUARE_M[:count])


@pytest.mark.parametrize(("image", "floor"), [(4, 3), (3, 4), (4, 0)])
def test_different_counts_of_points_are_refused(image, floor):
    with pytest.raises(ConfigError, match="as many of one as of the other"):
        calibrate(SQUARE_PX[:image], SQUARE_M[:floor])


@pytest.mark.parametrize("places", [[0, 1, 2, 2], [0, 1, 1, 3], [0, 0, 0, 0], [0, 1, 0, 1]])
def test_a_point_that_is_said_twice_does_not_count_twice(places):
    image, floor = (tuple(square[i] for i in places) for square in (SQUARE_PX, SQUARE_M))
    with pytest.raises(ConfigError, match="calibration"):
        calibrate(image, floor)
    for one, other in ((image, SQUARE_M), (SQUARE_PX, floor)):
        with pytest.raises(ConfigError, match="calibration"):
            calibrate(one, other)


@pytest.mark.parametrize("fourth", [(500, 200), (200, 300), (200, 200), (300, 100), (400, 260)])
@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 0, 1, 2), (0, 3, 2, 1)])
def test_three_of_four_on_a_line_in_the_picture_are_refused(fourth, order):
    image = [(100, 100), (100, 200), (100, 300), fourth]
    with pytest.raises(ConfigError, match="calibration"):
        calibrate(told([image[i] for i in order]), SQUARE_M)


@pytest.mark.parametrize("fourth", [(0, 3), (4, 3), (2.5, 7), (-1, 4)])
@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 0, 1, 2), (0, 3, 2, 1)])
def test_three_of_four_on_a_line_on_the_floor_are_refused(fourth, order):
    floor_m = [(0, 0), (4, 0), (8, 0), fourth]
    with pytest.raises(ConfigError, match="calibration"):
        calibrate(SQUARE_PX, told([floor_m[i] for i in order]))


def test_three_of_four_on_a_line_in_the_picture_and_on_the_floor_are_refused():
    camera = Pinhole()
    floor_m = ((-2, 5), (0, 5), (2, 5), (0, 9))
    with pytest.raises(ConfigError, match="fix no floor"):
        seen_by(camera, floor_m)


@settings(deadline=None)
@given(st.lists(points, min_size=4, max_size=4), st.floats(-2, 3), st.booleans())
def test_no_three_of_four_points_on_a_line_fix_a_floor_wherever_they_lie(four, share, is_image):
    (ax, ay), (bx, by) = four[:2]
    on_a_line = [*four[:2], (ax + share * (bx - ax), ay + share * (by - ay)), four[3]]
    image, floor_m = (on_a_line, SQUARE_M) if is_image else (SQUARE_PX, on_a_line)
    with pytest.raises(ConfigError):
        calibrate(told(image), told(floor_m))


def test_corners_in_the_wrong_order_lie_on_both_sides_of_the_horizon_and_are_refused():
    crossed = tuple(SQUARE_PX[i] for i in (0, 1, 3, 2))
    with pytest.raises(ConfigError, match=r"both sides of the horizon.*order"):
        calibrate(crossed, SQUARE_M)


def test_a_point_above_the_horizon_is_refused():
    camera = Pinhole(tilt_deg=10)
    pixels = np.array([[300, 600], [900, 650], [1000, 250], [500, camera.horizon_px - 60]])
    with pytest.raises(ConfigError, match="both sides of the horizon"):
        calibrate(told(pixels), told(camera.to_floor(pixels)))


@settings(deadline=None)
@given(
    st.builds(
        Pinhole,
        height_m=st.floats(2, 8),
        tilt_deg=st.floats(25, 80),
        pan_deg=st.floats(-180, 180),
        focal_px=st.floats(800, 2000),
    ),
    nudges,
    places,
)
def test_every_camera_over_the_floor_is_recovered_from_four_points_of_its_picture(
    camera, nudge, where
):
    corners = (np.array([[0, 0], [1, 0], [1, 1], [0, 1]]) + nudge) * [500, 250] + [390, 300]
    floor = calibrate(told(corners), told(camera.to_floor(corners)))
    pixels = np.array(where) * [1280, 720] * [1, 0.75] + [0, 180]
    metres = camera.to_floor(pixels)
    assert floor.to_metres(pixels) == pytest.approx(metres, rel=1e-5, abs=1e-5)
    assert floor.worst_m < 1e-6


@settings(deadline=None)
@given(nudges, nudges, st.floats(1, 100), st.floats(-1000, 1000), places)
def test_every_map_of_four_corners_is_recovered_and_fits_all_the_points_it_maps(
    nudge, other_nudge, scale, shift, where
):
    square = np.array([[0, 0], [1, 0], [1, 1], [0, 1]])
    image, floor_m = (square + nudge) * [1280, 720], (square + other_nudge) * scale + shift
    matrix = plane_map(image, floor_m - shift)
    # Inside of the corners, where no horizon is.
    inner = np.array([np.average(image, axis=0, weights=[u * v, u, v, 1]) for u, v in where])
    assume(len(np.unique(inner, axis=0)) == len(inner))
    expected = mapped(matrix, inner) + shift
    by_four = calibrate(told(image), told(floor_m))
    assert by_four.to_metres(inner) == pytest.approx(expected, abs=1e-6 * scale)
    by_all = calibrate(told([*image, *inner]), told([*floor_m, *expected]))
    assert by_all.to_metres(inner) == pytest.approx(expected, abs=1e-6 * scale)
    assert by_all.worst_m < 1e-6 * scale


def test_points_that_no_floor_fits_are_refused():
    random = np.random.default_rng(0)
    refused = 0
    for _ in range(200):
        count = random.integers(6, 9)
        image = told(random.uniform([0, 0], [1280, 720], (count, 2)))
        try:
            floor = calibrate(image, told(random.uniform(0, 10, (count, 2))))
        except ConfigError:
            refused += 1
        else:
            assert floor.residual_m <= 0.5
    assert refused >= 195


def test_one_point_that_is_somewhere_else_is_named_and_clicks_that_are_off_are_not():
    camera = Pinhole()
    floor_m = [*FLOOR_M, (0, 7), (1, 9), (-1, 6)]
    image = camera.to_picture(floor_m)
    clicked = image + np.random.default_rng(1).uniform(-2, 2, image.shape)
    assert 0 < calibrate(told(clicked), told(floor_m)).residual_m < 0.1
    floor_m[5] = (1, 7)
    with pytest.raises(ConfigError, match=r"its 7 points are off by .* m on a floor of"):
        calibrate(told(image), told(floor_m))


def test_four_points_of_which_three_are_as_good_as_on_a_line_are_refused():
    camera = Pinhole()
    for off_m, is_right in ((0.02, False), (0.5, True)):
        floor_m = [(-2, 4), (0, 6 + off_m), (2, 8), (2, 4)]
        image = told(np.round(camera.to_picture(floor_m)))
        if is_right:
            calibrate(image, told(floor_m))
        else:
            with pytest.raises(ConfigError, match="or nearly"):
                calibrate(image, told(floor_m))
    with pytest.raises(ConfigError, match="or nearly"):
        calibrate(
            ((100, 700), (600, 400), (1100, 102), (900, 650)), ((0, 0), (3, 5), (7, 9), (6, 1))
        )
    # A corridor is narrow at its end, in the picture alone.
    corridor = [(-1, 4), (1, 4), (1, 40), (-1, 40)]
    calibrate(told(camera.to_picture(corridor)), told(corridor))


def test_the_log_says_that_four_points_tell_nothing_of_how_far_off_they_are(tmp_path, caplog):
    path = tmp_path / "cameras.toml"
    camera = Pinhole()

    def write(floor_m):
        image = camera.to_picture(floor_m).tolist()
        path.write_text(
            f'[[camera]]\nid = "door"\n[camera.calibration]\nimage = {image}\n'
            f"floor_m = {[list(map(float, each)) for each in floor_m]}\n"
        )

    caplog.set_level("INFO")
    write(FLOOR_M[:4])
    scenes_of(str(path))
    assert "four points fit always" in caplog.text
    assert "off by" not in caplog.text
    write([*FLOOR_M[:4], (0, 7)])
    scenes_of(str(path))
    assert "its 5 points are off by 0.000 m" in caplog.text
