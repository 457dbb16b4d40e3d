"""Whose a video track is, when its recording began, and which of its times are wanted."""

from datetime import UTC, datetime, time, timedelta, timezone
from fnmatch import fnmatchcase
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.cameras import CameraRule, read_cameras, short_names
from pipeline.errors import ConfigError
from pipeline.window import FootageWindow

NAMES = st.lists(
    st.sampled_from(["a", "b", "cam 1", "a.mp4", "a.mkv", "a.mkv.mp4"]), min_size=1, max_size=4
)


def utc(*moment):
    return datetime(*moment, tzinfo=UTC)


def cameras_file(folder, text):
    path = folder / "cameras.toml"
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize(
    ("recording", "matching", "other"),
    [
        ("north_*.mkv", "/archive/north_1.mkv", "/archive/south_1.mkv"),
        ("north/*.mkv", "/archive/north/1.mkv", "/archive/south/1.mkv"),
        ("north/*.mkv", "/archive/deep/north/1.mkv", "/archive/up_north/1.mkv"),
        ("*", "/archive/x", None),
        ("North.mkv", "/archive/North.mkv", "/archive/north.mkv"),
    ],
)
def test_a_rule_matches_the_name_or_the_end_of_the_path(recording, matching, other):
    rule = CameraRule(id="north", recording=recording)
    assert rule.matches(matching, 0)
    assert other is None or not rule.matches(other, 0)


def test_a_rule_matches_its_own_video_track_alone():
    rule = CameraRule(id="north", recording="dvr.mkv", video_track=2)
    assert [rule.matches("/a/dvr.mkv", number) for number in range(4)] == [
        False,
        False,
        True,
        False,
    ]


@pytest.mark.parametrize(
    ("form", "zone", "name", "began"),
    [
        ("%Y%m%d_%H%M%S", "UTC", "n_20260115_093000.mkv", utc(2026, 1, 15, 9, 30)),
        ("%Y%m%d_%H%M%S", "Asia/Kolkata", "n_20260115_093000.mkv", utc(2026, 1, 15, 4)),
        # Summer and winter time of one zone.
        ("%Y%m%d_%H%M%S", "Europe/Zurich", "20260115_093000.mkv", utc(2026, 1, 15, 8, 30)),
        ("%Y%m%d_%H%M%S", "Europe/Zurich", "20260715_093000.mkv", utc(2026, 7, 15, 7, 30)),
        ("%Y-%m-%dT%H%M%S%z", "Europe/Zurich", "2026-01-15T093000+0300.mp4", utc(2026, 1, 15, 6, 30)),
        ("ch(1) %d.%m.%y %I.%M %p", "UTC", "ch(1) 15.01.26 09.30 PM.avi", utc(2026, 1, 15, 21, 30)),
        ("%Y_%j_%H", "UTC", "cam7_2026_032_05.ts", utc(2026, 2, 1, 5)),
        # A number of the camera that looks like a date, and one that goes on behind the time.
        ("%Y%m%d_%H%M%S", "UTC", "cam20260115_20260115_093000.mkv", utc(2026, 1, 15, 9, 30)),
        ("%Y%m%d%H%M%S", "UTC", "20260115093000_2.mkv", utc(2026, 1, 15, 9, 30)),
        # What it began and ended at: the form says which is meant.
        ("%Y%m%d_%H%M%S_", "UTC", "20260115_093000_20260115_094000.mkv", utc(2026, 1, 15, 9, 30)),
    ],
)  # fmt: skip
def test_a_name_tells_in_its_own_time_zone_when_a_recording_began(form, zone, name, began):
    rule = CameraRule(id="north", start_time=form, timezone=zone)
    found = rule.began(f"/archive/20200101_000000/{name}")
    assert found == began
    assert found.utcoffset() == timedelta(0)


@pytest.mark.parametrize(
    "name",
    ["north.mkv", "n_20261315_093000.mkv", "n_120260115_093000.mkv", "n_20260115_0930001.mkv"],
)
def test_a_name_that_tells_no_time_is_named_together_with_the_form(name):
    rule = CameraRule(id="north-door", start_time="%Y%m%d_%H%M%S")
    with pytest.raises(ConfigError, match=rf"north-door.*{name}.*%Y%m%d_%H%M%S"):
        rule.began(f"/archive/{name}")


def test_of_a_name_that_tells_several_times_none_is_chosen():
    rule = CameraRule(id="north", start_time="%Y%m%d_%H%M%S")
    with pytest.raises(ConfigError, match=r"north.*several times.*09:30:00.*09:40:00"):
        rule.began("/archive/20260115_093000_20260115_094000.mkv")
    same = rule.began("/archive/20260115_093000_20260115_093000.mkv")
    assert same == utc(2026, 1, 15, 9, 30)


@pytest.mark.parametrize(
    ("form", "lacking"),
    [
        ("abc", "the year .* nor the month and day .* nor the hour"),
        ("%H%M%S", "the year"),
        ("%m%d_%H%M", r"tell the year \(%Y or %y\);"),
        ("%j %H", "the year"),
        ("%Y", "the month and day"),
        ("%Y%d_%H", "the month and day"),
        ("%Y%m%d", "the hour"),
        ("%Y%m%d_%I%M%S", "the hour"),
        ("%Y%m%d_%H_%S", "leaves out minutes"),
        ("%Y%m%d_%Y_%H", "%Y is in it twice"),
    ],
)
def test_a_form_that_does_not_fix_the_day_and_the_hour_is_refused(form, lacking):
    with pytest.raises(ConfigError, match=f"'north'.*{form}.*{lacking}"):
        CameraRule(id="north", start_time=form)


def test_a_time_that_the_clocks_left_out_is_refused():
    in_zurich = CameraRule(id="north", start_time="%Y%m%d_%H%M%S", timezone="Europe/Zurich")
    with pytest.raises(ConfigError, match=r"north.*2026-03-29 02:30:00.*Europe/Zurich left out"):
        in_zurich.began("/archive/20260329_023000.mkv")
    # A camera whose clock is never set forward.
    fixed = CameraRule(id="north", start_time="%Y%m%d_%H%M%S", timezone="Etc/GMT-1")
    assert fixed.began("/archive/20260329_023000.mkv") == utc(2026, 3, 29, 1, 30)


def test_the_container_tells_the_start_only_where_the_rule_asks_for_it():
    created = "2026-01-15T09:30:00+01:00"
    asks = CameraRule(id="north", start_time="container", timezone="Asia/Kolkata")
    assert asks.began("/archive/a.mkv", created) == utc(2026, 1, 15, 8, 30)
    assert asks.began("/archive/a.mkv") is None
    assert CameraRule(id="north").began("/archive/a.mkv", created) is None


@pytest.mark.parametrize(
    ("name", "began"),
    [
        # The night of 29 March 2026 has no 02:30 there, that of 25 October has two.
        ("20260329_015959", utc(2026, 3, 29, 0, 59, 59)),
        ("20260329_030000", utc(2026, 3, 29, 1)),
        ("20261025_015959", utc(2026, 10, 24, 23, 59, 59)),
        ("20261025_023000", utc(2026, 10, 25, 0, 30)),
        ("20261025_030000", utc(2026, 10, 25, 2)),
    ],
)
def test_names_are_right_across_both_changes_of_the_clock(name, began):
    rule = CameraRule(id="north", start_time="%Y%m%d_%H%M%S", timezone="Europe/Zurich")
    assert rule.began(f"/archive/{name}.mkv") == began


def test_a_rule_without_a_form_knows_no_start_time():
    assert CameraRule(id="north").began("/archive/20260115_093000.mkv") is None


def test_rules_are_read_in_the_order_of_the_file(tmp_path):
    text = """
        [[camera]]
        id = "north"
        recording = "n_*.mkv"
        video_track = 1
        start_time = "n_%Y%m%d_%H"
        timezone = "Europe/Zurich"

        [[camera]]
        id = "any"
    """
    assert read_cameras(cameras_file(tmp_path, text)) == (
        CameraRule(
            id="north",
            recording="n_*.mkv",
            video_track=1,
            start_time="n_%Y%m%d_%H",
            timezone="Europe/Zurich",
        ),
        CameraRule(id="any", recording="*", video_track=0, start_time=None, timezone="UTC"),
    )


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ('[[camera]]\nid = "a"\nrecordings = "*"', "camera 'a': unknown key 'recordings'"),
        ('[[cameras]]\nid = "a"', "unknown key 'cameras'"),
        ('[[camera]]\nrecording = "*"', "no id"),
        ('[[camera]]\nid = ""', "id is empty"),
        ('[[camera]]\nid = " "', "id is empty"),
        ("[[camera]]\nid = 7", "id = 7"),
        ('[[camera]]\nid = "a"\nvideo_track = "0"', "camera 'a': video_track = '0'"),
        ('[[camera]]\nid = "a"\nvideo_track = true', "camera 'a': video_track = True"),
        ('[[camera]]\nid = "a"\nvideo_track = -1', "camera 'a': video_track = -1"),
        ('[[camera]]\nid = "a"\nrecording = ""', "camera 'a': recording = ''"),
        ('[[camera]]\nid = "a"\nrecording = "cam[1.mkv"', r"camera 'a': recording = 'cam\[1"),
        ('[[camera]]\nid = "a"\ntimezone = "Mars/Olympus"', "camera 'a': .*'Mars/Olympus'"),
        ('[[camera]]\nid = "a"\ntimezone = "../passwd"', "camera 'a': .*'../passwd'"),
        ('[[camera]]\nid = "a"\nstart_time = "%Y_%Q"', "camera 'a': .*%Q"),
        ('[[camera]]\nid = "a"\nunits = "px"', "camera 'a': units = 'px'"),
        ('camera = "a"', r"no \[\[camera\]\]"),
        ("", r"no \[\[camera\]\]"),
        ("[[camera", "Expected"),
    ],
)
def test_what_is_wrong_in_a_cameras_file_is_named(tmp_path, text, named):
    with pytest.raises(ConfigError, match=rf"cameras\.toml.*{named}"):
        read_cameras(cameras_file(tmp_path, text))


def test_a_cameras_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"nowhere\.toml"):
        read_cameras(str(tmp_path / "nowhere.toml"))


def test_recordings_are_named_as_briefly_as_tells_them_apart():
    names = short_names(["/a/door.mkv", "/a/yard.mkv", "/a/yard.mp4", "/a/in.ts", "/b/in.ts"])
    assert names == {
        "/a/door.mkv": "door",
        "/a/yard.mkv": "yard.mkv",
        "/a/yard.mp4": "yard.mp4",
        "/a/in.ts": "a/in.ts",
        "/b/in.ts": "b/in.ts",
    }


@settings(deadline=None)
@given(st.sets(NAMES.map(lambda parts: "/" + "/".join(parts)), min_size=1, max_size=8))
def test_no_two_recordings_share_a_name(uris):
    names = short_names(sorted(uris))
    assert set(names) == uris
    assert len(set(names.values())) == len(uris)


START = utc(2026, 1, 15, 9)


def test_a_window_holds_the_frames_from_its_first_moment_up_to_its_end():
    window = FootageWindow(since=START + timedelta(seconds=10), until=START + timedelta(seconds=20))
    offsets = np.array([0, 9.96, 10, 15, 19.96, 20, 30])
    assert window.holds(START, offsets).tolist() == [False, False, True, True, True, False, False]


def test_moments_of_a_window_are_compared_across_time_zones():
    window = FootageWindow(since=datetime(2026, 1, 15, 11, tzinfo=timezone(timedelta(hours=2))))
    assert window.holds(START, np.array([-1.0, 0.0])).tolist() == [False, True]


@pytest.mark.parametrize(
    ("hours", "wanted"),
    [
        ((time(9), time(17)), {9, 10, 11, 12, 13, 14, 15, 16}),
        ((time(22), time(6)), {22, 23, 0, 1, 2, 3, 4, 5}),
    ],
)
def test_hours_of_a_window_hold_on_every_day_and_over_midnight(hours, wanted):
    offsets = np.array([3600.0 * hour for hour in range(48)])
    held = np.flatnonzero(FootageWindow(hours=hours).holds(utc(2026, 1, 15), offsets))
    assert held.tolist() == [hour for hour in range(48) if hour % 24 in wanted]


def test_hours_of_a_window_are_those_of_the_camera_in_summer_and_in_winter():
    window = FootageWindow(hours=(time(9), time(10)), zone=ZoneInfo("Europe/Zurich"))
    offsets = np.array([3600.0 * hour for hour in range(24)])
    assert np.flatnonzero(window.holds(utc(2026, 1, 15), offsets)).tolist() == [8]
    assert np.flatnonzero(window.holds(utc(2026, 7, 15), offsets)).tolist() == [7]


def test_an_open_window_holds_everything_without_a_start_time():
    assert FootageWindow().is_open
    assert FootageWindow().holds(None, np.array([0.0, 1e9])).all()
    for one in ({"since": START}, {"until": START}, {"hours": (time(9), time(10))}):
        assert not FootageWindow(**one).is_open


@pytest.mark.parametrize(
    ("began_s", "missed"), [(-61, True), (-59, False), (0, False), (99, False), (100, True)]
)
def test_a_window_misses_a_recording_that_lies_wholly_before_or_behind_it(began_s, missed):
    window = FootageWindow(since=START, until=START + timedelta(seconds=100))
    assert window.misses(START + timedelta(seconds=began_s), duration_s=60) == missed


@given(
    pattern=st.text(alphabet="ab*?[]!-/.", min_size=1, max_size=8),
    uri=st.text(alphabet="ab-[]!/.", max_size=10),
)
def test_a_rules_pattern_is_a_glob_of_the_name_or_of_the_end_of_the_path(pattern, uri):
    name = uri.rpartition("/")[2]
    fits = fnmatchcase(name, pattern) or fnmatchcase(uri, "*/" + pattern.lstrip("/"))
    assert CameraRule(id="door", recording=pattern).films(uri) == fits
