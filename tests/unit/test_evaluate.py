"""Movement logs beside truth: what is read, how near they are, and how they are exported."""

import xml.etree.ElementTree as ET

import numpy as np
import pytest

from jobs.evaluate import quality, within
from jobs.export import cvat
from jobs.mot import Tracks, read_mot, write_mot
from jobs.one_track import choose
from pipeline.errors import ConfigError


def walk(track_id, x, frames=range(20)):
    """Return rows of one who walks from x to the right."""
    return [(n, track_id, x + 5 * n, 100, x + 5 * n + 40, 200, 0.9) for n in frames]


def tracks(*rows):
    table = np.array(sorted(row for some in rows for row in some), float).reshape(-1, 7)
    return Tracks(
        table[:, 0].astype(np.int64), table[:, 1].astype(np.int64), table[:, 2:6], table[:, 6]
    )


def test_the_truth_itself_is_perfect():
    truth = tracks(walk(1, 0), walk(2, 300))
    found = quality(truth, tracks(walk(7, 0), walk(9, 300)))
    assert (found.hota, found.mota, found.idf1) == pytest.approx((1, 1, 1))
    assert (found.switches, found.people, found.tracks) == (0, 2, 2)


def test_a_track_that_breaks_in_the_middle_costs_half_of_its_identity_and_one_switch():
    truth = tracks(walk(1, 0))
    found = quality(truth, tracks(walk(5, 0, range(10)), walk(6, 0, range(10, 20))))
    assert found.switches == 1
    assert found.idf1 == pytest.approx(0.5)
    assert found.ass_a == pytest.approx(0.5)
    assert found.det_a == pytest.approx(1)


def test_who_is_not_found_and_what_is_not_there_cost_their_boxes():
    truth = tracks(walk(1, 0), walk(2, 300))
    found = quality(truth, tracks(walk(1, 0), walk(3, 600, range(5))))
    assert found.mota == pytest.approx(1 - (20 + 5) / 40)


def test_frames_that_nobody_is_in_cost_nothing_however_many_they_are():
    late = [(row[0] + 10**12, *row[1:]) for row in walk(1, 0)]
    found = quality(
        tracks(walk(1, 0), late), tracks(walk(7, 0), [(*r[:1], 7, *r[2:]) for r in late])
    )
    assert (found.hota, found.mota, found.switches) == pytest.approx((1, 1, 0))


def test_what_is_on_a_box_to_be_ignored_is_not_counted():
    truth = tracks(walk(1, 0), [(*row[:6], 0) for row in walk(2, 300)])
    found = quality(truth, tracks(walk(7, 0), walk(9, 304)))
    assert (found.mota, found.idf1, found.people) == pytest.approx((1, 1, 1))
    assert quality(truth, tracks(walk(7, 0), walk(9, 600))).mota == pytest.approx(0)


def test_only_frames_that_the_truth_is_of_are_looked_at_and_the_log_says_so(caplog):
    truth = tracks(walk(1, 0, range(4, 6)))
    found = within(truth, tracks(walk(7, 0)))
    assert quality(truth, found).mota == pytest.approx(1)
    assert "frames 5 to 6: 18 of 20 boxes" in caplog.text
    caplog.clear()
    assert len(within(truth, found).frame) == 2
    assert not caplog.text


def test_truth_is_read_frames_from_0_with_what_is_to_be_ignored(tmp_path):
    path = tmp_path / "gt.txt"
    path.write_text("2,1,10,20,30,40,1,-1,-1,-1\n1,1,9,20,30,40,1\n1,2,0,0,5,5,0\n\n")
    truth = read_mot(path)
    assert truth.frame.tolist() == [0, 0, 1]
    assert truth.boxes.tolist() == [[9, 20, 39, 60], [0, 0, 5, 5], [10, 20, 40, 60]]
    assert truth.confidence.tolist() == [1, 0, 1]


def test_what_is_written_is_read_again(tmp_path):
    path = tmp_path / "out.txt"
    some = tracks(walk(3, 0), walk(4, 50))
    path.write_text("".join(write_mot(some)))
    again = read_mot(path)
    assert again.boxes == pytest.approx(some.boxes)
    assert again.track_id.tolist() == some.track_id.tolist()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("1,2,3\n", "line 1"),
        ("1,1,0,0,5,5,1\nframe,id\n", "line 2"),
        ("0,1,0,0,5,5,1\n", "frames from 1"),
        ("1,1,0,0,-5,5,1\n", "line 1"),
        ("1,1,0,0,nan,5,1\n", "line 1"),
        ("1e300,1,0,0,5,5,1\n", "frames from 1"),
        ("", "no box"),
        ("1,1,0,0,5,5,0\n", "no box"),
        (None, "cannot be read"),
    ],
)
def test_a_file_that_is_no_truth_is_refused_by_name_and_line(tmp_path, content, told):
    path = tmp_path / "gt.txt"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigError, match=told) as refused:
        read_mot(path)
    assert "gt.txt" in str(refused.value)


FOOTAGES = [("/a/door.mkv", 0), ("/a/door.mkv", 1), ("/b/hall.mkv", 0)]


@pytest.mark.parametrize(
    ("recording", "number", "meant"),
    [
        ("door.mkv", 1, FOOTAGES[1]),
        ("/b/hall.mkv", None, FOOTAGES[2]),
        ("hall.mkv", 0, FOOTAGES[2]),
    ],
)
def test_a_video_track_is_named_by_its_recording_and_number(recording, number, meant):
    assert choose(FOOTAGES, recording, number) == meant


@pytest.mark.parametrize(("recording", "number"), [("", None), ("door.mkv", None), ("x.mkv", 0)])
def test_several_that_may_be_meant_and_none_are_refused_with_what_there_is(recording, number):
    with pytest.raises(ConfigError, match="hall"):
        choose(FOOTAGES, recording, number)


def test_cvat_gets_a_track_a_person_that_is_outside_in_its_gaps_and_behind_its_end():
    some = tracks(walk(3, 0, [0, 1, 5]), walk(4, 50, [2]))
    root = ET.fromstring("".join(cvat(some, {3: "a <person>", 4: "dog"}, last=6)))
    first, second = root.findall("track")
    assert first.get("label") == "a <person>"
    seen = [(int(box.get("frame")), box.get("outside")) for box in first.findall("box")]
    assert seen == [(0, "0"), (1, "0"), (2, "1"), (5, "0"), (6, "1")]
    assert second.get("label") == "dog"
    assert second.find("box").get("xtl") == "60.00"


def test_cvat_is_told_of_no_frame_behind_the_last():
    some = tracks(walk(3, 0, [4, 5]))
    (track,) = ET.fromstring("".join(cvat(some, {3: "person"}, last=5))).findall("track")
    assert [box.get("frame") for box in track.findall("box")] == ["4", "5"]
