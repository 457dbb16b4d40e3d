"""A preview: how its time and its picture are named, whose heads are blurred, which way is "in"."""

from argparse import Namespace
from pathlib import Path

import cv2
import numpy as np
import pytest

from jobs import preview
from jobs.preview import clock_of, picture_path, seconds_of
from jobs.preview_marks import floor_lines, floor_step, shortened, way_in
from jobs.preview_people import Seen, ways
from jobs.preview_picture import Sketch, draw
from jobs.settings import JobSettings
from pipeline.areas import areas_of
from pipeline.errors import ConfigError
from pipeline.floor import calibrate
from pipeline.heads import blur_heads, head_regions
from pipeline.letterbox import fit
from pipeline.records import Footage, FootageKey, VideoTrack
from pipeline.scene import Calibration, Line, Mask, Scene, Zone

FOOTAGE = Footage(
    key=FootageKey(camera_id="door", sequence=0),
    source_uri="/archive/door north.mkv",
    track=VideoTrack(video_track=2, codec="h264", width=640, height=480, rate_fps=25),
    letterbox=fit(640, 480, 640),
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("750", 750),
        ("12.5", 12.5),
        ("12:30", 750),
        ("90:00", 5400),
        ("0:12:30", 750),
        ("00:12:30", 750),
        ("26:00:00.04", 93600.04),
        (" 1:02:03.5 ", 3723.5),
    ],
)
def test_a_time_is_hours_minutes_and_seconds_or_seconds(text, seconds):
    assert seconds_of(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text",
    ["", "soon", "-5", "1:60", "1:60:00", "1:2:3:4", "1::3", "nan", "inf", "1e3", "٣", "9" * 400],
)
def test_what_is_no_time_is_refused_by_name(text, capsys):
    with pytest.raises(ConfigError, match="0:12:30"):
        seconds_of(text)
    assert preview.main(["gone.mp4", f"--at={text}"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("footfall preview: at = ")


def test_a_time_is_told_to_the_millisecond():
    assert clock_of(0.0) == "0:00:00.000"
    assert clock_of(749.96) == "0:12:29.960"
    assert clock_of(93600.0396) == "26:00:00.040"


def test_a_picture_is_named_after_what_it_shows_and_is_a_png():
    assert picture_path(None, FOOTAGE, 750.9) == Path("door north-2-001230.png")
    assert picture_path(None, FOOTAGE, 93600) == Path("door north-2-260000.png")
    assert picture_path("a/b.PNG", FOOTAGE, 0) == Path("a/b.PNG")
    with pytest.raises(ConfigError, match=r"b\.jpg"):
        picture_path("a/b.jpg", FOOTAGE, 0)


def test_a_recording_that_is_not_there_is_one_line_and_exit_code_2(tmp_path, capsys):
    assert preview.main([str(tmp_path / "gone.mp4")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "gone.mp4" in line


def test_a_file_that_is_no_footage_is_one_line_and_exit_code_1(tmp_path, capsys):
    path = tmp_path / "text.mp4"
    path.write_text("no footage")
    assert preview.main([str(path)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "text.mp4" in line
    assert "cannot be read as footage" in line


def test_a_folder_is_not_looked_at(tmp_path, capsys):
    (tmp_path / "only.mp4").write_text("no footage")
    assert preview.main([str(tmp_path)]) == 2
    assert "one file of footage" in capsys.readouterr().err


def test_a_head_is_the_upper_part_of_a_box_and_wider_than_it():
    boxes = np.array([[100, 50, 200, 350]], np.float32)
    assert head_regions(boxes, 640, 480) == [(85, 50, 215, 116)]


@pytest.mark.parametrize(
    ("box", "bottom"),
    [
        # One who sits, and one who stands with spread arms: half the width, not 22 % of the height.
        ((100, 100, 200, 250), 150),
        ((100, 100, 220, 300), 160),
        # Squat: somebody of whom only head and shoulders are in view.
        ((100, 100, 200, 200), 200),
        ((100, 100, 200, 230), 230),
        # Cut by the lower edge: as far down as it is wide. Cut by the upper edge: all of it.
        ((100, 300, 200, 480), 400),
        ((100, 300, 200, 479), 400),
        ((100, 0, 200, 250), 250),
        ((100, 1.5, 200, 250), 250),
    ],
)
def test_of_a_box_that_is_not_a_whole_person_more_is_blurred(box, bottom):
    ((_, top, _, told),) = head_regions(np.array([box], np.float32), 640, 480)
    assert (top, told) == (int(box[1]), bottom)


def test_heads_end_where_the_picture_does_and_none_is_outside():
    boxes = [[-20, -10, 40, 90], [600, 400, 660, 500], [700, 10, 800, 90], [10, -90, 50, 0]]
    regions = head_regions(np.array(boxes, np.float32), 640, 480)
    assert regions == [(0, 0, 49, 90), (591, 400, 640, 460)]
    assert head_regions(np.zeros((0, 4)), 640, 480) == []


@pytest.mark.parametrize("size", [(1, 1), (5, 3), (20, 12), (78, 40), (400, 300)])
def test_a_blurred_head_has_no_detail_left_and_nothing_else_is_touched(size):
    before = np.random.default_rng(1).integers(0, 256, (480, 640, 3), np.uint8)
    left, top, right, bottom = region = (50, 60, 50 + size[0], 60 + size[1])
    after = before.copy()
    blur_heads(after, [region])
    inside = np.zeros((480, 640), bool)
    inside[top:bottom, left:right] = True
    assert np.array_equal(after[~inside], before[~inside])
    steps = np.abs(np.diff(after[top:bottom, left:right].astype(int), axis=1))
    assert steps.max(initial=0) <= 40, "noise has steps of up to 255"
    # What is left are few numbers: no more than the cells have.
    values = after[top:bottom, left:right, 0].astype(float)
    if min(size) > 10:
        strengths = np.linalg.svd(values - values.mean(), compute_uv=False)
        assert (strengths[8:] < 0.02 * np.linalg.norm(before[top:bottom, left:right, 0])).all()


def test_two_heads_of_the_same_colours_cannot_be_told_apart():
    """Cells of a whole number of pixels: whatever is moved within a cell leaves no trace."""
    random = np.random.default_rng(2)
    one = random.integers(0, 256, (30, 30, 3), np.uint8)
    other = one.copy()
    for top in range(0, 30, 10):
        for left in range(0, 30, 10):
            cell = one[top : top + 10, left : left + 10].reshape(100, 3)
            other[top : top + 10, left : left + 10] = random.permutation(cell).reshape(10, 10, 3)
    assert np.abs(one.astype(int) - other).mean() > 50
    for each in (one, other):
        blur_heads(each, [(0, 0, 30, 30)])
    assert np.array_equal(one, other)


@pytest.mark.parametrize(
    "points",
    [
        ((100, 100), (300, 100)),
        ((300, 100), (100, 100)),
        ((200, 300), (200, 50)),
        ((50, 60), (400, 333)),
        ((100, 100), (120, 140), (400, 150)),
    ],
)
def test_the_arrow_points_to_where_a_crossing_is_one_in(points):
    scene = Scene(lines=(Line(name="door", points=points),))
    areas = areas_of(scene, 640, 480, "street")
    middle, way = way_in(points)
    assert np.linalg.norm(way) == pytest.approx(1)
    before, behind = (middle - 5 * way)[None], (middle + 5 * way)[None]
    assert areas.crossed(before, behind, 0).tolist() == [1]
    assert areas.crossed(behind, before, 0).tolist() == [-1]


def test_squares_of_the_floor_lie_on_it_and_end_where_calibration_points_do():
    image = ((100, 300), (560, 300), (620, 460), (40, 450))
    floor_m = ((0, 0), (8, 0), (7.2, 5), (0.8, 4.8))
    floor = calibrate(image, floor_m)
    lines = floor_lines(floor, floor_m)
    ends = np.array([floor.to_metres(line) for line in lines])
    is_across = np.abs(ends[:, 0, 0] - ends[:, 1, 0]) < 1e-6
    assert sorted(ends[is_across][:, 0, 0].round(6)) == [1, 2, 3, 4, 5, 6, 7]
    assert sorted(ends[~is_across][:, 0, 1].round(6)) == [0, 1, 2, 3, 4]
    assert ends[..., 0].min() >= -1e-6
    assert ends[..., 0].max() <= 8 + 1e-6
    pixels = np.concatenate(lines)
    assert (pixels.min(axis=0) >= (39, 299)).all()
    assert (pixels.max(axis=0) <= (621, 461)).all()


def test_a_large_floor_has_larger_squares():
    assert floor_step(((0, 0), (40, 0), (40, 30), (0, 30))) == 1
    assert floor_step(((0, 0), (400, 0), (400, 30), (0, 30))) == 10


def seen(*people, labels=None):
    table = np.array(people, np.float32).reshape(-1, 5)
    names = labels or ("person",) * len(table)
    is_person = np.array([name == "person" for name in names], bool)
    return Seen(boxes=table[:, :4], confidence=table[:, 4], labels=names, is_person=is_person)


def test_boxes_are_drawn_from_the_wanted_confidence_on_and_of_the_wanted_classes():
    found = seen(
        (0, 0, 9, 9, 0.9), (5, 5, 9, 9, 0.5), (1, 1, 2, 2, 0.1), labels=("person", "car", "person")
    )
    assert found.wanted(JobSettings(confidence=0.3)).labels == ("person",)
    assert found.wanted(JobSettings(confidence=0.05)).boxes[:, 0].tolist() == [0, 1]
    everything = found.wanted(JobSettings(confidence=0.5, classes=("all",)))
    assert everything.labels == ("person", "car")
    assert everything.is_person.tolist() == [True, False]


class Log:
    """Rows around a moment, as a `FootageLog` has them."""

    def __init__(self, *rows):
        self._rows = rows

    def near(self, pts_s, within_s):
        return [row for row in self._rows if abs(row[1] - pts_s) <= within_s]


def row(track_id, pts_s, x):
    return (track_id, pts_s, x, 200.0, x - 10, 100.0, x + 10, 200.0)


def test_a_track_has_a_way_and_where_it_is_seen_a_box():
    log = Log(
        *(row(1, second, 10 * second) for second in range(30)),
        row(2, 8.0, 50), row(2, 12.0, 90),
        row(3, 1.0, 50),
        row(4, 10.5, 60), row(4, 28.0, 70),
    )  # fmt: skip
    first, gone, ended, to_come = ways(log, 10.5)
    assert [first.track_id, gone.track_id, ended.track_id, to_come.track_id] == [1, 2, 3, 4]
    assert first.pts_s.tolist() == list(range(26))
    assert first.feet[3].tolist() == [30, 200]
    assert first.box.tolist() == [95, 100, 115, 200], "between its rows at 10 s and 11 s"
    assert gone.box is None, "nothing was seen of it for four seconds"
    assert ended.box is None
    assert to_come.box.tolist() == [50, 100, 70, 200]


def png(sketch):
    return cv2.imdecode(np.frombuffer(draw(sketch), np.uint8), cv2.IMREAD_COLOR_RGB)


def sketch(width=640, height=480, **more):
    empty = {"scene": Scene(), "areas": areas_of(Scene(), width, height, "door"), "title": "door"}
    picture = np.full((height, width, 3), 90, np.uint8)
    return Sketch(**{"picture": picture, **empty, **more})


@pytest.mark.parametrize("size", [(640, 480), (1920, 1080), (176, 144), (64, 144), (32, 32)])
@pytest.mark.parametrize("units", ["pixel", "normalised"])
def test_a_picture_is_at_least_as_large_as_its_still_and_at_most_half_as_large_again(size, units):
    made = png(sketch(*size, scene=Scene(units=units)))
    height, width = made.shape[:2]
    assert size[0] <= width <= 1.5 * size[0]
    assert size[1] <= height <= 1.5 * size[1]


def test_a_picture_without_paths_says_where_they_come_from_unless_there_are_none():
    without, none_there = png(sketch()), png(sketch(is_told_of=True))
    assert without.shape == none_there.shape
    changed = np.flatnonzero((without != none_there).any(axis=(1, 2)))
    assert 0 < len(changed) < 60, "one line of text"


def test_every_mark_is_drawn_and_no_name_breaks_the_picture():
    odd = "$x^{ \x1b[31m\n\u58eb\U0001f600 " + "long " * 40
    scene = Scene(
        lines=(Line(name=odd, points=((40, 300), (200, 420))),),
        zones=(Zone(name=odd, polygon=((400, 250), (620, 250), (620, 460))),),
        masks=(Mask(name=odd, polygon=((0, 0), (120, 0), (120, 90))),),
        calibration=Calibration(
            image=((250, 300), (390, 300), (395, 460), (220, 450)),
            floor_m=((0, 0), (2, 0), (2, 3), (0, 3)),
        ),
    )
    areas = areas_of(scene, 640, 480, "door")
    full = sketch(
        scene=scene,
        areas=areas,
        title=odd,
        seen=seen((300, 20, 360, 200, 0.9), (500, 20, 560, 200, 0.1)),
        ways=tuple(ways(Log(row(7, 0.0, 200.0), row(7, 0.5, 230.0)), 0.5)),
        pts_s=0.5,
    )
    made, plain = png(full).astype(int), png(sketch()).astype(int)
    assert made.shape == plain.shape
    left, top, zoom = 50, 52, 1.25
    for x, y in ((120, 360), (550, 300), (320, 300), (300, 100), (500, 100), (215, 200)):
        at = slice(int(top + zoom * y) - 6, int(top + zoom * y) + 7)
        across = slice(int(left + zoom * x) - 6, int(left + zoom * x) + 7)
        changed = np.abs(made[at, across] - plain[at, across]).max()
        assert changed > 60, f"nothing is drawn at {x}, {y}"


def test_a_name_is_shortened_to_what_fits():
    assert shortened("door", 4) == "door"
    assert shortened("doors", 4) == "doo…"


def test_tracks_are_those_of_the_recording_that_is_looked_at(monkeypatch):
    asked = []
    monkeypatch.setattr(preview, "find_run", lambda output: f"run in {output}")
    monkeypatch.setattr(preview, "log_of", lambda *of, is_online: asked.append((*of, is_online)))
    preview._find_log(Namespace(tables="out", online=True), FOOTAGE)
    assert asked == [("run in out", FOOTAGE.source_uri, 2, True)]
