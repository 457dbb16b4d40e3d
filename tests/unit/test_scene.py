"""What an owner draws into a picture is read as it was meant, or refused by its name."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pipeline.areas import NOWHERE, areas_of
from pipeline.cameras import read_cameras
from pipeline.errors import ConfigError
from pipeline.scene import NOTHING, Calibration, Line, Mask, Scene, Zone, parse_scene

WIDTH, HEIGHT = 1280, 720
CAMERA = '[[camera]]\nid = "north-door"\n'
LINE = '[[camera.line]]\nname = "door"\n'
ZONE = '[[camera.zone]]\nname = "queue"\n'
MASK = '[[camera.mask]]\nname = "till"\n'
CALIBRATION = "[camera.calibration]\n"
STEP = "points = [[0, 0], [10, 10]]\n"
TRIANGLE = "polygon = [[0, 0], [10, 0], [10, 10]]\n"
SQUARE_IMAGE = "image = [[100, 600], [900, 600], [700, 200], [300, 200]]\n"
SQUARE_FLOOR = "floor_m = [[0, 0], [4, 0], [4, 9], [0, 9]]\n"
TOO_LARGE = "1" + 400 * "0"

pixels = st.tuples(st.integers(0, WIDTH), st.integers(0, HEIGHT))


def read(folder, text):
    """Return the rules of a cameras file."""
    path = folder / "cameras.toml"
    path.write_text(text)
    return read_cameras(str(path))


def scene_of(folder, text):
    (rule,) = read(folder, CAMERA + text)
    return rule.scene


def refusal(folder, text):
    """Return what is said of a camera with something wrong drawn into its picture."""
    with pytest.raises(ConfigError) as refused:
        read(folder, CAMERA + text)
    return str(refused.value)


def area(a, b, c):
    return abs((b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])) / 2


def shares_of(points):
    return [[x / WIDTH, y / HEIGHT] for x, y in points]


def test_all_that_can_be_drawn_is_read_in_the_order_of_the_file(tmp_path):
    scene = scene_of(
        tmp_path,
        """
        units = "normalised"
        [[camera.line]]
        name = "door"
        points = [[0.1, 0.8], [0.4, 0.8], [0.5, 1]]
        debounce_s = 2
        [[camera.line]]
        name = "gate"
        points = [[0, 0], [1, 1]]
        [[camera.zone]]
        name = "queue"
        polygon = [[0.5, 0.5], [0.9, 0.5], [0.9, 0.9], [0.5, 0.9]]
        min_dwell_s = 5
        debounce_s = 0.25
        [[camera.zone]]
        name = "aisle"
        polygon = [[0, 0], [1, 0], [1, 1]]
        [[camera.mask]]
        polygon = [[0, 0], [0.2, 0], [0.2, 0.3]]
        [[camera.mask]]
        name = "till"
        polygon = [[0, 0], [0.1, 0], [0.1, 0.1]]
        [camera.calibration]
        image = [[0.1, 0.9], [0.9, 0.9], [0.7, 0.3], [0.3, 0.3]]
        floor_m = [[0, 0], [4, 0], [4, 9], [0, 9]]
        """,
    )
    assert scene == Scene(
        units="normalised",
        lines=(
            Line(name="door", points=((0.1, 0.8), (0.4, 0.8), (0.5, 1.0)), debounce_s=2.0),
            Line(name="gate", points=((0.0, 0.0), (1.0, 1.0))),
        ),
        zones=(
            Zone(
                name="queue",
                polygon=((0.5, 0.5), (0.9, 0.5), (0.9, 0.9), (0.5, 0.9)),
                min_dwell_s=5.0,
                debounce_s=0.25,
            ),
            Zone(name="aisle", polygon=((0.0, 0.0), (1.0, 0.0), (1.0, 1.0))),
        ),
        masks=(
            Mask(polygon=((0.0, 0.0), (0.2, 0.0), (0.2, 0.3))),
            Mask(polygon=((0.0, 0.0), (0.1, 0.0), (0.1, 0.1)), name="till"),
        ),
        calibration=Calibration(
            image=((0.1, 0.9), (0.9, 0.9), (0.7, 0.3), (0.3, 0.3)),
            floor_m=((0.0, 0.0), (4.0, 0.0), (4.0, 9.0), (0.0, 9.0)),
        ),
    )


def test_a_camera_without_anything_drawn_has_an_empty_scene_in_pixels(tmp_path):
    assert scene_of(tmp_path, "") == NOTHING == Scene(units="pixel")


def test_a_line_and_a_zone_may_have_one_name_and_masks_need_none(tmp_path):
    scene = scene_of(tmp_path, LINE + STEP + ZONE.replace("queue", "door") + TRIANGLE)
    assert (scene.lines[0].name, scene.zones[0].name) == ("door", "door")
    nameless = MASK.replace('name = "till"\n', "") + TRIANGLE
    assert [mask.name for mask in scene_of(tmp_path, nameless + nameless).masks] == ["", ""]


@pytest.mark.parametrize(
    ("drawn", "named"),
    [
        ('units = "metres"', "units = 'metres': known are pixel, normalised"),
        ("units = 5", "units = 5"),
        ("units = []", "units = []"),
        ("line = 5", "line is no list of tables; write [[camera.line]]"),
        ("line = [5]", "line is no list of tables"),
        ("[camera.line]\n" + STEP, "line is no list of tables"),
        ("[camera.zone]\n" + TRIANGLE, "zone is no list of tables; write [[camera.zone]]"),
        ("[camera.mask]\n" + TRIANGLE, "mask is no list of tables; write [[camera.mask]]"),
        ("[[camera.calibration]]\n" + SQUARE_IMAGE + SQUARE_FLOOR, "calibration"),
        # Unknown keys.
        (LINE + STEP + "colour = 1", "line 'door': unknown key 'colour'"),
        (LINE + STEP + "min_dwell_s = 1", "line 'door': unknown key 'min_dwell_s'"),
        (LINE + TRIANGLE, "line 'door': unknown key 'polygon'"),
        (ZONE + TRIANGLE + "dwell_s = 1", "zone 'queue': unknown key 'dwell_s'"),
        (ZONE + TRIANGLE + STEP, "zone 'queue': unknown key 'points'"),
        (MASK + TRIANGLE + "debounce_s = 1", "mask 'till': unknown key 'debounce_s'"),
        (CALIBRATION + SQUARE_IMAGE + SQUARE_FLOOR + "floor = []", "calibration"),
        # What is missing.
        ("[[camera.line]]\n" + STEP, "line '': its name is no text, or it has none"),
        ("[[camera.zone]]\n" + TRIANGLE, "zone '': its name is no text, or it has none"),
        ('[[camera.zone]]\nname = ""\n' + TRIANGLE, "zone '': its name is no text, or it has none"),
        ('[[camera.zone]]\nname = "  "\n' + TRIANGLE, "zone '  ': its name begins or ends with"),
        ('[[camera.zone]]\nname = "q "\n' + TRIANGLE, "zone 'q ': its name begins or ends with"),
        (LINE + "points = [[0, 1], [1, 1]]", "line 'door': all its points lie in one pixel"),
        ("[[camera.zone]]\nname = 7\n" + TRIANGLE, "zone 7: its name is no text, or it has none"),
        (LINE, "line 'door': it has no points"),
        (ZONE, "zone 'queue': it has no polygon"),
        (MASK, "mask 'till': it has no polygon"),
        (CALIBRATION + SQUARE_IMAGE, "calibration: it has two keys, image and floor_m"),
        (CALIBRATION + SQUARE_FLOOR, "calibration: it has two keys, image and floor_m"),
        # Two of one name.
        (LINE + STEP + LINE + STEP, "two lines have the name 'door'"),
        (ZONE + TRIANGLE + ZONE + TRIANGLE, "two zones have the name 'queue'"),
    ],
)
def test_a_wrong_key_is_named_with_its_camera_and_what_it_stands_in(tmp_path, drawn, named):
    message = refusal(tmp_path, drawn)
    assert "north-door" in message
    assert named in message


@pytest.mark.parametrize("key", ["zones", "lines", "masks", "polygon", "scene"])
def test_an_unknown_key_of_a_camera_is_named_with_those_that_are_known(tmp_path, key):
    message = refusal(tmp_path, f"{key} = []")
    assert f"unknown key {key!r}" in message
    for known in ("units", "line", "zone", "mask", "calibration"):
        assert known in message.split("known are")[1]


@pytest.mark.parametrize(
    ("points", "why"),
    [
        ("[]", "two different points"),
        ("[[1, 2]]", "two different points"),
        ("[[1, 2], [1, 2]]", "two different points"),
        ("[[1, 2], [1.0, 2.0]]", "two different points"),
        ("[[0, 0], [10, 0], [0, 0]]", "two different points"),
        ("[[0, 0], [10, 10], [10, 0], [0, 10]]", "crosses itself"),
        ("[[0, 0], [10, 0], [5, 0]]", "crosses itself"),
        ("[[1, 2, 3], [4, 5, 6]]", "points is no list of points"),
        ("[[1], [4]]", "points is no list of points"),
        ("[1, 2, 3, 4]", "points is no list of points"),
        ("5", "points is no list of points"),
        ('[["1", "2"], [3, 4]]', "points is no list of points"),
        ("[[nan, 0], [10, 10]]", "points is no list of points"),
        ("[[0, 0], [10, inf]]", "points is no list of points"),
        ("[[0, -inf], [10, 0]]", "points is no list of points"),
        ("[[true, false], [10, 10]]", "points is no list of points"),
    ],
)
def test_a_line_that_is_none_is_named_with_its_camera(tmp_path, points, why):
    message = refusal(tmp_path, LINE + f"points = {points}")
    assert "camera 'north-door', line 'door'" in message
    assert why in message


@pytest.mark.parametrize(("table", "what"), [(ZONE, "zone 'queue'"), (MASK, "mask 'till'")])
@pytest.mark.parametrize(
    ("polygon", "why"),
    [
        ("[]", "three different corners"),
        ("[[0, 0], [10, 0]]", "three different corners"),
        ("[[0, 0], [10, 0], [0, 0]]", "three different corners"),
        ("[[0, 0], [10, 10], [10, 0], [0, 10]]", "its edges cross"),
        ("[[0, 0], [10, 0], [20, 0]]", "its edges cross"),
        ("[[0, 0], [10, 0], [10, nan]]", "polygon is no list of points"),
        ("[[0, 0], [10, 0], [inf, 10]]", "polygon is no list of points"),
        ("[[0, 0], [10, 0], [true, 10]]", "polygon is no list of points"),
        ("[[0, 0], [10, 0], 10]", "polygon is no list of points"),
        ("[[0, 0], [5, 5.0000001], [10, 10]]", "its corners lie on a line"),
        ("[[0, 0], [1000, 0], [1000, 0.4], [0, 0.4]]", "its corners lie on a line"),
        (
            "[[0, 0], [0.5, 0], [0.5, 0.5]]",
            'in one pixel: if they are shares of the picture, write units = "normalised"',
        ),
        ('"0,0 10,0 10,10"', "polygon is no list of points"),
    ],
)
def test_a_polygon_that_is_none_is_named_with_its_camera(tmp_path, table, what, polygon, why):
    message = refusal(tmp_path, table + f"polygon = {polygon}")
    assert f"camera 'north-door', {what}" in message
    assert why in message


def test_a_polygon_may_say_its_first_corner_again_at_its_end(tmp_path):
    scene = scene_of(tmp_path, ZONE + "polygon = [[0, 0], [10, 0], [10, 10], [0, 0]]")
    inside = areas_of(scene, WIDTH, HEIGHT, "").inside(np.array([[8.0, 2.0], [2.0, 8.0]]))
    assert inside.tolist() == [[True], [False]]


@pytest.mark.parametrize("value", ["-1", "-0.001", "nan", "inf", "-inf", "true", '"1"', "[1]"])
@pytest.mark.parametrize(
    ("table", "key", "what"),
    [
        (LINE + STEP, "debounce_s", "line 'door'"),
        (ZONE + TRIANGLE, "debounce_s", "zone 'queue'"),
        (ZONE + TRIANGLE, "min_dwell_s", "zone 'queue'"),
    ],
)
def test_what_is_no_number_of_seconds_is_named_with_its_camera(tmp_path, table, key, what, value):
    message = refusal(tmp_path, table + f"{key} = {value}")
    assert f"camera 'north-door', {what}: {key} = " in message
    assert "no number of seconds" in message


def test_no_time_at_all_is_a_number_of_seconds(tmp_path):
    scene = scene_of(tmp_path, ZONE + TRIANGLE + "debounce_s = 0\nmin_dwell_s = 0.0")
    assert (scene.zones[0].debounce_s, scene.zones[0].min_dwell_s) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("drawn", "what"),
    [
        (LINE + f"points = [[0, 0], [{TOO_LARGE}, 1]]", "line 'door'"),
        (LINE + STEP + f"debounce_s = {TOO_LARGE}", "line 'door'"),
        (ZONE + f"polygon = [[0, 0], [{TOO_LARGE}, 1], [0, 1]]", "zone 'queue'"),
        (
            CALIBRATION + SQUARE_IMAGE + SQUARE_FLOOR.replace("[4, 9]", f"[4, {TOO_LARGE}]"),
            "calibration",
        ),
    ],
)
def test_a_whole_number_beyond_all_floats_is_named_with_its_camera(tmp_path, drawn, what):
    assert f"camera 'north-door', {what}" in refusal(tmp_path, drawn)


@pytest.mark.parametrize("name", ["5", "true", "[1, 2]", "{ a = 1 }"])
def test_a_name_of_a_mask_that_is_no_text_is_named_with_its_camera(tmp_path, name):
    message = refusal(tmp_path, f"[[camera.mask]]\nname = {name}\n" + TRIANGLE)
    assert "camera 'north-door', mask" in message


@pytest.mark.parametrize(
    ("image", "floor_m", "why"),
    [
        ("[[0, 0], [9, 0], [9, 9]]", "[[0, 0], [4, 0], [4, 3]]", "four or more"),
        ("[[0, 0], [9, 0], [9, 9], [0, 9]]", "[[0, 0], [4, 0], [4, 3]]", "four or more"),
        (
            "[[0, 0], [9, 0], [9, 9], [9, 9]]",
            "[[0, 0], [4, 0], [4, 3], [4, 3]]",
            "no three of four",
        ),
        (
            "[[0, 9], [9, 9], [0, 0], [9, 0]]",
            "[[0, 0], [4, 0], [4, 3], [0, 3]]",
            "sides of the horizon",
        ),
        ("[[0, 0], [9, 0], [9, 9], [0, nan]]", "[[0, 0], [4, 0], [4, 3], [0, 3]]", "image"),
        ("[[0, 0], [9, 0], [9, 9], [0, 9]]", "[[0, 0], [4, 0], [4, 3], [0, true]]", "floor_m"),
        ("[[0, 0], [9, 0], [9, 9], [0, 9]]", '"4 by 3"', "floor_m"),
    ],
)
def test_a_calibration_that_fixes_no_floor_is_named_with_its_camera(tmp_path, image, floor_m, why):
    message = refusal(tmp_path, CALIBRATION + f"image = {image}\nfloor_m = {floor_m}")
    assert "camera 'north-door', calibration" in message
    assert why in message


@pytest.mark.parametrize(
    ("drawn", "what", "point"),
    [
        (LINE + "points = [[0, 0], [1281, 0]]", "line 'door'", "[1281, 0]"),
        (LINE + "points = [[-1, 0], [10, 0]]", "line 'door'", "[-1, 0]"),
        (ZONE + "polygon = [[0, 0], [10, 0], [10, 720.5]]", "zone 'queue'", "[10, 720.5]"),
        (MASK + "polygon = [[0, 0], [10, 0], [10, -3]]", "mask 'till'", "[10, -3]"),
        (
            CALIBRATION + SQUARE_IMAGE.replace("900", "2000") + SQUARE_FLOOR,
            "calibration",
            "[2000, 600]",
        ),
        (
            'units = "normalised"\n' + LINE + "points = [[0, 0], [1.01, 1]]",
            "line 'door'",
            "[1.01, 1]",
        ),
        # Pixels, although shares were announced.
        ('units = "normalised"\n' + ZONE + TRIANGLE, "zone 'queue'", "[10, 0]"),
    ],
)
def test_a_point_outside_the_picture_is_named_with_its_camera(tmp_path, drawn, what, point):
    scene = scene_of(tmp_path, drawn)
    with pytest.raises(ConfigError) as refused:
        areas_of(scene, WIDTH, HEIGHT, "north-door")
    for named in ("camera 'north-door'", what, point, "1280x720", repr(scene.units)):
        assert named in str(refused.value)


def test_a_calibration_that_fits_as_shares_fits_in_pixels_or_is_refused_with_its_camera():
    # So narrow a strip that it is one no longer where a width counts for more than a height.
    strip = [[0.1, 0.5], [0.9, 0.5], [0.9, 0.502], [0.1, 0.502]]
    floor_m = [[0, 0], [4, 0], [4, 3], [0, 3]]
    told = {"units": "normalised", "calibration": {"image": strip, "floor_m": floor_m}}
    scene = parse_scene(told, "north-door")
    try:
        floor = areas_of(scene, 1920, 1080, "north-door").floor
    except ConfigError as error:
        assert "north-door" in str(error)
    else:
        assert floor.worst_m < 1e-6


@pytest.mark.parametrize(("units", "right", "low"), [("pixel", 1280, 720), ("normalised", 1, 1)])
def test_the_edges_of_the_picture_are_in_it(tmp_path, units, right, low):
    corners = [[0, 0], [right, 0], [right, low], [0, low]]
    scene = scene_of(tmp_path, f'units = "{units}"\n' + ZONE + f"polygon = {corners}")
    areas = areas_of(scene, WIDTH, HEIGHT, "north-door")
    points = np.array([[0, 0], [1280, 720], [1280, 0], [640, 360], [1281, 0]], float)
    assert areas.inside(points)[:, 0].tolist() == [True, True, True, True, False]


def test_an_empty_scene_draws_nothing_into_a_picture():
    areas, points = areas_of(NOTHING, WIDTH, HEIGHT, ""), np.zeros((3, 2))
    for nothing in (areas, NOWHERE):
        assert (nothing.lines, nothing.zones, nothing.masks, nothing.floor) == ((), (), (), None)
        assert nothing.inside(points).shape == (3, 0)


@settings(deadline=None)
@given(st.lists(pixels, min_size=3, max_size=3), st.lists(pixels, min_size=2, max_size=2))
def test_shares_of_the_picture_mean_what_pixels_mean(corners, ends):
    # What is as good as a line, or lies in one pixel, is refused.
    assume(area(*corners) >= 1 + 1e-3 * np.ptp(corners, axis=0).max() ** 2)
    assume(ends[0] != ends[1] and np.max(ends) > 1)
    square = [[100, 600], [900, 600], [700, 200], [300, 200]]
    floor_m = [[0, 0], [4, 0], [4, 9], [0, 9]]

    def drawn(units, placed):
        return areas_of(
            parse_scene(
                {
                    "units": units,
                    "line": [{"name": "door", "points": placed(ends)}],
                    "zone": [{"name": "queue", "polygon": placed(corners)}],
                    "mask": [{"polygon": placed(corners)}],
                    "calibration": {"image": placed(square), "floor_m": floor_m},
                },
                "north-door",
            ),
            WIDTH,
            HEIGHT,
            "north-door",
        )

    told = drawn("pixel", lambda points: [list(point) for point in points])
    shared = drawn("normalised", shares_of)
    for one, other in (
        (told.lines[0].points, shared.lines[0].points),
        (told.zones[0].polygon, shared.zones[0].polygon),
        (told.masks[0].polygon, shared.masks[0].polygon),
    ):
        assert np.array(other) == pytest.approx(np.array(one), abs=1e-9)
    middle = np.array([np.mean(corners, axis=0), (200, 650)])
    assert told.floor.to_metres(middle[1:]) == pytest.approx(shared.floor.to_metres(middle[1:]))
    assert told.inside(middle[:1]).all()
    assert shared.inside(middle[:1]).all()


def test_shares_fit_every_size_of_picture_and_pixels_stay():
    zone = {"name": "queue", "polygon": [[0, 0], [0.5, 0], [0.5, 0.5]]}
    shares = parse_scene({"units": "normalised", "zone": [zone]}, "")
    assert areas_of(shares, 640, 480, "").zones[0].polygon == ((0, 0), (320, 0), (320, 240))
    assert areas_of(shares, 1920, 1080, "").zones[0].polygon == ((0, 0), (960, 0), (960, 540))
    fixed = parse_scene({"zone": [{**zone, "polygon": [[0, 0], [320, 0], [320, 240]]}]}, "")
    for size in ((640, 480), (1920, 1080)):
        assert areas_of(fixed, *size, "").zones[0].polygon == ((0, 0), (320, 0), (320, 240))


@pytest.mark.parametrize("first", [True, False])
def test_a_scene_that_one_of_a_cameras_rules_has_is_that_of_all(tmp_path, first):
    bare = CAMERA + 'recording = "a_*"\n'
    drawn = CAMERA + 'recording = "b_*"\n' + LINE + STEP
    other = '[[camera]]\nid = "yard"\n'
    rules = read(tmp_path, (drawn + bare if first else bare + drawn) + other)
    assert [rule.recording for rule in rules] == (["b_*", "a_*"] if first else ["a_*", "b_*"]) + [
        "*"
    ]
    assert [len(rule.scene.lines) for rule in rules] == [1, 1, 0]
    assert rules[0].scene == rules[1].scene


def test_a_scene_may_be_said_again_in_each_of_a_cameras_rules(tmp_path):
    drawn = CAMERA + LINE + STEP + ZONE + TRIANGLE
    one, two = read(tmp_path, drawn + drawn)
    assert one.scene == two.scene


@pytest.mark.parametrize("other", [LINE + STEP + "debounce_s = 2\n", ZONE + TRIANGLE])
def test_a_camera_with_two_different_scenes_is_named(tmp_path, other):
    with pytest.raises(ConfigError, match=r"north-door.*different things"):
        read(tmp_path, CAMERA + LINE + STEP + CAMERA + other)
