"""What walkers did is told once, at its moment; and the counts are made of what was told."""

import math
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.areas import areas_of
from pipeline.events import EventLog
from pipeline.letterbox import fit
from pipeline.records import ROUNDING_S, Footage, FootageKey, Observation, TrackedFrame, VideoTrack
from pipeline.scene import Line, Scene, Zone

WIDTH, HEIGHT = 1280, 720
TALL_PX = 100
BEGAN = datetime(2026, 1, 15, 9, tzinfo=UTC)
ORIGIN_S = 10.0
RATES = pytest.mark.parametrize("fps", [25, 5])

# Looking along it, to the right in the picture, its right is below: down is in.
DOOR = Line(name="door", points=((400, 400), (800, 400)))
QUEUE = Zone(name="queue", polygon=((400, 300), (800, 300), (800, 600), (400, 600)))
AISLE = Zone(name="aisle", polygon=((600, 200), (1000, 200), (1000, 700), (600, 700)))


def footage(start_time=None, number=0):
    return Footage(
        key=FootageKey(camera_id="door", sequence=number),
        source_uri=f"/archive/{number}.mkv",
        track=VideoTrack(video_track=1, codec="h264", width=WIDTH, height=HEIGHT, rate_fps=25.0),
        letterbox=fit(WIDTH, HEIGHT, 640),
        start_time=start_time,
        origin_s=ORIGIN_S,
    )


def way(*corners, fps=25, px_s=100):
    """Return where one is in each frame who walks from corner to corner."""
    corners = np.array(corners, float)
    miles = np.concatenate([[0], np.linalg.norm(np.diff(corners, axis=0), axis=1).cumsum()])
    gone = np.arange(0, miles[-1] + 1e-9, px_s / fps)
    return [(float(np.interp(g, miles, x)), float(np.interp(g, miles, y)))
            for x, y in [corners.T] for g in gone]  # fmt: skip


def stand(x, y, seconds, fps=25):
    return [(x, y)] * round(seconds * fps)


def away(seconds, fps=25):
    return [None] * round(seconds * fps)


def film(*ways, fps=25, shot=None, base_s=0.0, first=0):
    """Return frames of people, track 1 and so on, each where its way says; None is out of sight."""
    shot = shot or footage()
    frames = []
    for number in range(max(map(len, ways))):
        seen = [
            Observation(
                track_id=i + 1,
                class_id=i % 2,
                box=np.array([p[0] - 20, p[1] - TALL_PX, p[0] + 20, p[1]], float),
                confidence=0.9,
            )
            for i, p in enumerate(each[number] if number < len(each) else None for each in ways)
            if p is not None
        ]
        frames.append(
            TrackedFrame(
                footage=shot,
                frame_index=first + number,
                pts_s=ORIGIN_S + (first + number) / fps,
                time_s=base_s + (first + number) / fps,
                observations=seen,
            )
        )
    return frames


def told(frames, *drawn, interval_s=60.0):
    """Return the rows of `events` and of `counts`, once all has ended."""
    areas, log = placed(*drawn), EventLog(("person", "dog"), interval_s)
    for frame in frames:
        log.push(frame, areas)
    log.flush()
    return log.events().to_pylist(), log.counts().to_pylist()


def placed(*drawn):
    lines, zones = (tuple(d for d in drawn if isinstance(d, kind)) for kind in (Line, Zone))
    return areas_of(Scene(lines=lines, zones=zones), WIDTH, HEIGHT, "door")


def crossings(frames, *lines):
    """Return (line, direction, frame_index) of the crossings, and see that there is nothing else."""
    events, counts = told(frames, *lines)
    assert {event["event_type"] for event in events} <= {"crossing"}
    for direction in ("in", "out"):
        found = Counter(event["name"] for event in events if event["direction"] == direction)
        assert found == +Counter({row["name"]: row[direction] for row in counts})
    return [(e["name"], e["direction"], e["frame_index"]) for e in events]


def stays(frames, *zones):
    """Return (zone, track, entry frame, exit frame) of the stays, and see that rows agree."""
    events, _ = told(frames, *zones)
    entries, exits, found = (
        sorted((e["name"], e["track_id"], e["frame_index"]) for e in events if e["event_type"] == kind)
        for kind in ("entry", "exit", "stay")
    )  # fmt: skip
    assert len(events) == 3 * len(found)
    assert entries == found
    dwells = {
        (e["name"], e["track_id"], e["frame_index"], e["event_type"]): e["dwell_s"] for e in events
    }
    at = {frame.frame_index: frame.time_s for frame in frames}
    stays_found = []
    for (name, track, entry), (*_, left) in zip(found, exits, strict=True):
        for key in ((name, track, entry, "stay"), (name, track, left, "exit")):
            assert dwells[key] == pytest.approx(at[left] - at[entry])
        assert dwells[name, track, entry, "entry"] is None
        stays_found.append((name, track, entry, left))
    return stays_found


def first(steps, condition):
    return next(i for i, step in enumerate(steps) if step is not None and condition(*step))


# ── Lines ───────────────────────────────────────────────────────────────────────────────────────


@RATES
def test_one_who_crosses_a_line_and_comes_back_later_went_in_once_and_out_once(fps):
    down = way((600, 302), (600, 502), fps=fps)
    steps = [*down, *stand(600, 502, 2, fps), *way((600, 502), (600, 302), fps=fps)]
    there = first(steps, lambda _, y: y > 400)
    back = first([None] * len(down) + steps[len(down) :], lambda _, y: y < 400)
    assert crossings(film(steps, fps=fps), DOOR) == [("door", "in", there), ("door", "out", back)]


def test_a_crossing_is_told_with_its_moment_its_place_and_who_it_was():
    steps = way((600, 302), (600, 502))
    frames = film(away(1), [*away(0.4), *steps], shot=footage(BEGAN))
    ((row,), _) = told(frames, DOOR)
    number = 10 + first(steps, lambda _, y: y > 400)
    assert row == {
        "source_uri": "/archive/0.mkv", "video_track": 1, "frame_index": number,
        "pts_s": ORIGIN_S + number / 25, "timestamp": BEGAN + timedelta(seconds=number / 25),
        "event_type": "crossing", "name": "door", "track_id": 2, "class_id": 1, "class_name": "dog",
        "direction": "in", "dwell_s": None, "x": 600.0, "y": 402.0,
    }  # fmt: skip


@pytest.mark.parametrize("degrees", range(0, 360, 30))
def test_in_is_from_the_left_to_the_right_looking_along_the_line_however_it_lies(degrees):
    along = np.array([math.cos(math.radians(degrees)), math.sin(math.radians(degrees))])
    right, middle = np.array([-along[1], along[0]]), np.array([640.3, 360.2])
    line = Line(name="door", points=(tuple(middle - 150 * along), tuple(middle + 150 * along)))
    steps = way(middle - 100 * right, middle + 100 * right)
    assert [c[:2] for c in crossings(film(steps), line)] == [("door", "in")]
    assert [c[:2] for c in crossings(film(steps[::-1]), line)] == [("door", "out")]


@RATES
@pytest.mark.parametrize(
    ("beyond_s", "debounce_s", "ways"),
    [
        (1.6, 1.0, ["in", "out"]),
        (0.4, 1.0, []),
        (1.6, 4.0, []),
        (0.4, 0.2, ["in", "out"]),
        (0.4, 0.0, ["in", "out"]),
    ],
)
def test_a_turn_behind_a_line_counts_both_ways_if_it_was_longer_than_the_debounce_time(
    fps, beyond_s, debounce_s, ways
):
    line = Line(name="door", points=DOOR.points, debounce_s=debounce_s)
    there = way((600, 302), (600, 422), fps=fps)
    steps = [*there, *stand(600, 432, beyond_s, fps), *there[::-1], *stand(600, 302, 1, fps)]
    assert [way_ for _, way_, _ in crossings(film(steps, fps=fps), line)] == ways


@RATES
@pytest.mark.parametrize("off", [3, 9])
def test_to_and_fro_on_a_line_and_then_through_is_one_crossing_at_its_last_passage(fps, off):
    trembling = [(600, 400 + off * (-1) ** i) for i in range(round(4 * fps) + 1)]
    steps = [*way((600, 302), (600, 390), fps=fps), *trembling, (600, 400 - off)]
    last = len(steps)
    steps += way((600, 402), (600, 502), fps=fps)
    assert crossings(film(steps, fps=fps), DOOR) == [("door", "in", last)]


@RATES
def test_to_and_fro_on_a_line_and_then_back_is_no_crossing(fps):
    trembling = [(600, 400 + 4 * (-1) ** i) for i in range(round(4 * fps))]
    there = way((600, 302), (600, 390), fps=fps)
    assert crossings(film([*there, *trembling, *there[::-1]], fps=fps), DOOR) == []


@RATES
def test_one_who_stands_behind_a_line_nearer_than_a_tenth_of_its_height_has_not_crossed_yet(fps):
    there = way((600, 302), (600, 398), fps=fps)
    waits = stand(600, 405, 6, fps)
    assert crossings(film([*there, *waits, *there[::-1]], fps=fps), DOOR) == []
    goes_on = [*there, *waits, *way((600, 405), (600, 500), fps=fps)]
    assert crossings(film(goes_on, fps=fps), DOOR) == [("door", "in", len(there))]


@RATES
def test_one_who_walks_around_the_end_of_a_line_has_not_crossed_it(fps):
    around = [(850, 302), (850, 502), (600, 502), (350, 502), (350, 302), (850, 302)]
    assert crossings(film(way(*around, fps=fps), fps=fps), DOOR) == []


@RATES
def test_one_who_crosses_a_line_and_comes_back_around_its_end_went_in_only(fps):
    loop = [(600, 302), (600, 502), (900, 502), (900, 302), (600, 302)]
    assert [c[1] for c in crossings(film(way(*loop, fps=fps), fps=fps), DOOR)] == ["in"]
    twice = way(*loop, *loop[1:], fps=fps, px_s=300)
    assert [c[1] for c in crossings(film(twice, fps=fps), DOOR)] == ["in", "in"]


@pytest.mark.parametrize("seconds", [0.2, 3.0])
def test_one_who_walks_on_a_line_to_its_end_and_away_on_the_same_side_has_not_crossed(seconds):
    on_it = way((600, 400), (900, 400), px_s=300 / seconds)
    steps = [*way((600, 300), (600, 396)), *on_it, *way((900, 396), (900, 300))]
    assert crossings(film(steps), DOOR) == []
    below = [(x, 800 - y) for x, y in steps]
    assert crossings(film(below), DOOR) == []


@pytest.mark.parametrize("to_the_edge", [True, False])
def test_feet_cut_off_by_the_lower_edge_cross_a_line_that_ends_there_both_ways(to_the_edge):
    ends = ((640, 400), (640, HEIGHT))
    line = Line(name="door", points=ends if to_the_edge else ends[::-1])
    steps = way((500, HEIGHT), (781, HEIGHT))
    ways = [crossings(film(each), line) for each in (steps, steps[::-1])]
    assert [[way_ for _, way_, _ in each] for each in ways] == (
        [["out"], ["in"]] if to_the_edge else [["in"], ["out"]]
    )


@RATES
@pytest.mark.parametrize("x", [500, 600, 640, 641, 700, 760])
def test_a_line_with_a_corner_is_crossed_once_beside_the_corner_and_at_it(fps, x):
    bent = Line(name="door", points=((400, 400), (640, 460), (800, 400), (900, 500)))
    steps = way((x, 322), (x, 602), fps=fps)
    assert [c[1] for c in crossings(film(steps, fps=fps), bent)] == ["in"]
    assert [c[1] for c in crossings(film(steps[::-1], fps=fps), bent)] == ["out"]


@RATES
def test_cutting_a_corner_of_a_line_there_and_out_again_is_no_crossing(fps):
    bent = Line(name="door", points=((400, 400), (600, 500), (800, 400)))
    steps = way((450, 480), (750, 480), fps=fps)
    assert crossings(film(steps, fps=fps), bent) == []
    slow = way((450, 480), (600, 402), (750, 480), fps=fps, px_s=60)
    assert [c[1] for c in crossings(film(slow, fps=fps), bent)] == ["out", "in"]


@RATES
def test_one_who_vanishes_right_behind_a_line_has_crossed_it(fps):
    steps = way((600, 302), (600, 410), fps=fps)
    steps = steps[: first(steps, lambda _, y: y > 400) + 1]
    assert crossings(film(steps, fps=fps), DOOR) == [("door", "in", len(steps) - 1)]
    frames = film([*steps, *away(0.2, fps)], fps=fps)
    areas, log = placed(DOOR), EventLog(("person",), 60.0)
    for frame in frames:
        log.push(frame, areas)
    assert log.events().column("direction").to_pylist() == ["in"]


@RATES
def test_one_who_appears_behind_a_line_or_vanishes_before_it_has_not_crossed_it(fps):
    steps = way((600, 302), (600, 502), fps=fps)
    there = first(steps, lambda _, y: y > 400)
    assert crossings(film(steps[there:], fps=fps), DOOR) == []
    assert crossings(film(steps[:there], fps=fps), DOOR) == []
    # Nor one who was not seen on the way.
    unseen = [*steps[: there - 1], None, *steps[there:]]
    assert crossings(film(unseen, fps=fps), DOOR) == []


@RATES
def test_two_people_and_two_lines_at_once_do_not_get_in_each_others_way(fps):
    gate = Line(name="gate", points=((400, 451), (800, 451)))
    down, up = way((600, 302), (600, 552), fps=fps), way((610, 548), (610, 302), fps=fps)
    found = crossings(film(down, up, fps=fps), DOOR, gate)
    expected = [
        ("door", "in", first(down, lambda _, y: y > 400)),
        ("gate", "in", first(down, lambda _, y: y > 451)),
        ("door", "out", first(up, lambda _, y: y < 400)),
        ("gate", "out", first(up, lambda _, y: y < 451)),
    ]
    assert sorted(found) == sorted(expected)


grid = st.tuples(st.integers(0, 16), st.integers(0, 9)).map(lambda at: (80.0 * at[0], 80.0 * at[1]))


@settings(deadline=None)
@given(st.lists(st.integers(1, 8), min_size=2, max_size=9), st.lists(grid, min_size=2, max_size=30))
def test_passages_over_a_line_from_edge_to_edge_add_up_to_the_change_of_side(heights, steps):
    span = np.linspace(0, WIDTH, len(heights))
    ends = tuple((float(x), 80.0 * y) for x, y in zip(span, heights, strict=True))
    # A step's end beside the line and inside of the picture; the line between may be met at a corner.
    steps = np.clip(np.array(steps), 5, [WIDTH - 5, HEIGHT - 5])
    height = np.interp(steps[:, 0], span, 80.0 * np.array(heights))
    steps[:, 1] += np.where(np.abs(steps[:, 1] - height) < 1e-6, 3.0, 0.0)
    is_right = (steps[:, 1] > height).astype(int)
    ways = placed(Line(name="door", points=ends)).crossed(steps[:-1], steps[1:], 0)
    assert ways.tolist() == np.diff(is_right).tolist()


@settings(deadline=None)
@given(st.lists(grid, min_size=2, max_size=20), grid, grid.filter(any))
def test_a_straight_line_is_crossed_by_the_steps_that_meet_it_and_by_no_others(steps, start, off):
    steps, start = np.array(steps) + np.array([7.3, 3.1]), np.array(start)
    end = start + off
    line = Line(name="door", points=(tuple(start.tolist()), tuple(end.tolist())))
    areas = areas_of(Scene(lines=(line,)), 2 * WIDTH, 2 * HEIGHT, "door")
    ways = areas.crossed(steps[:-1], steps[1:], 0).tolist()
    for before, after, found in zip(steps, steps[1:], ways, strict=False):
        was, now = right_of(start, end, before), right_of(start, end, after)
        ends = right_of(before, after, start), right_of(before, after, end)
        if was * now < 0 and ends[0] * ends[1] < 0:
            assert found == (1 if now > 0 else -1)
        elif was * now > 0 or ends[0] * ends[1] > 0:
            assert found == 0


def right_of(start, end, point):
    """Return how far right of the way from start to end a point lies, times the way's length."""
    (ax, ay), (bx, by) = end - start, point - start
    return ax * by - ay * bx


# ── Zones ───────────────────────────────────────────────────────────────────────────────────────


@RATES
@pytest.mark.parametrize("px_s", [80, 130])
def test_one_who_walks_through_a_zone_has_stayed_as_long_as_it_took_within_a_frame(fps, px_s):
    steps = way((302, 450), (1002, 450), fps=fps, px_s=px_s)
    ((name, track, entry, left),) = stays(film(steps, fps=fps), QUEUE)
    assert (name, track) == ("queue", 1)
    assert entry == first(steps, lambda x, _: x >= 400)
    assert left == first(steps, lambda x, _: x > 800)
    assert (left - entry) / fps == pytest.approx(400 / px_s, abs=1.001 / fps)


def test_a_stay_is_told_at_its_entry_and_its_exit_with_their_moments_and_places():
    steps = way((302, 450), (902, 450))
    events, _ = told(film(steps, shot=footage(BEGAN)), QUEUE)
    entry, left = first(steps, lambda x, _: x >= 400), first(steps, lambda x, _: x > 800)
    rows = [
        (e["event_type"], e["frame_index"], e["timestamp"], e["x"], e["dwell_s"]) for e in events
    ]
    came, went = (BEGAN + timedelta(seconds=number / 25) for number in (entry, left))
    dwell_s = pytest.approx((left - entry) / 25)
    assert rows == [
        ("entry", entry, came, 402.0, None),
        ("exit", left, went, 802.0, dwell_s),
        ("stay", entry, came, 402.0, dwell_s),
    ]
    for event in events:
        assert (event["name"], event["track_id"], event["class_name"]) == ("queue", 1, "person")
        assert (event["direction"], event["y"], event["source_uri"]) == (
            None,
            450.0,
            "/archive/0.mkv",
        )


@RATES
@pytest.mark.parametrize(
    ("out_s", "debounce_s", "count"),
    [(0.6, 1.0, 1), (1.6, 1.0, 2), (0.6, 0.2, 2), (2.6, 4.0, 1)],
)
def test_a_way_out_ends_a_stay_only_if_it_is_longer_than_the_debounce_time(
    fps, out_s, debounce_s, count
):
    zone = Zone(name="queue", polygon=QUEUE.polygon, debounce_s=debounce_s)
    inside, outside = stand(500, 450, 2, fps), stand(300, 450, out_s, fps)
    steps = [*stand(300, 450, 1, fps), *inside, *outside, *inside, *stand(300, 450, 5, fps)]
    found = stays(film(steps, fps=fps), zone)
    entry, left = fps, fps + 2 * len(inside) + len(outside)
    if count == 1:
        assert found == [("queue", 1, entry, left)]
    else:
        again = entry + len(inside) + len(outside)
        assert found == [("queue", 1, entry, entry + len(inside)), ("queue", 1, again, left)]


@RATES
@pytest.mark.parametrize(
    ("inside_s", "min_dwell_s", "count"),
    [(0.4, 0.5, 0), (0.6, 0.5, 1), (1.6, 5.0, 0), (0.2, 0.0, 1), (5.2, 5.0, 1)],
)
def test_who_was_in_a_zone_for_less_than_its_least_dwell_time_has_not_been_in_it(
    fps, inside_s, min_dwell_s, count
):
    zone = Zone(name="queue", polygon=QUEUE.polygon, min_dwell_s=min_dwell_s)
    outside = stand(300, 450, 3, fps)
    frames = film([*outside, *stand(500, 450, inside_s, fps), *outside], fps=fps)
    assert len(stays(frames, zone)) == count
    _, (row,) = told(frames, zone)
    assert (row["in"], row["out"], row["occupancy_max"]) == (count, count, count)


@RATES
def test_who_appears_in_a_zone_has_entered_it_there_and_who_vanishes_in_it_has_left_it_there(fps):
    inside = stand(500, 450, 2, fps)
    appears = [*away(1, fps), *inside, *stand(300, 450, 2, fps)]
    assert stays(film(appears, fps=fps), QUEUE) == [("queue", 1, fps, 3 * fps)]
    vanishes = [*stand(300, 450, 1, fps), *inside, *away(2, fps)]
    assert stays(film(vanishes, fps=fps), QUEUE) == [("queue", 1, fps, 3 * fps - 1)]
    assert stays(film(vanishes[: 3 * fps], fps=fps), QUEUE) == [("queue", 1, fps, 3 * fps - 1)]
    # Outside since a moment that is too short to end the stay: that was the exit.
    leaves = [*inside, *stand(300, 450, 0.4, fps), *away(2, fps)]
    assert stays(film(leaves, fps=fps), QUEUE) == [("queue", 1, 0, 2 * fps)]


@RATES
def test_who_vanishes_and_appears_again_has_stayed_twice(fps):
    inside = stand(500, 450, 2, fps)
    found = stays(film([*inside, None, *inside, *away(1, fps)], fps=fps), QUEUE)
    assert found == [("queue", 1, 0, 2 * fps - 1), ("queue", 1, 2 * fps + 1, 4 * fps)]


@RATES
def test_the_edge_of_a_zone_is_in_it(fps):
    assert stays(film(stand(400, 450, 1, fps), fps=fps), QUEUE) == [("queue", 1, 0, fps - 1)]
    assert stays(film(stand(800, 600, 1, fps), fps=fps), QUEUE) == [("queue", 1, 0, fps - 1)]


@RATES
def test_two_people_in_a_zone_have_a_stay_each(fps):
    right = way((302, 450), (902, 450), fps=fps)
    left = [*away(2, fps), *way((902, 500), (302, 500), fps=fps)]
    found = stays(film(right, left, fps=fps), QUEUE)
    assert found == [
        ("queue", 1, first(right, lambda x, _: x >= 400), first(right, lambda x, _: x > 800)),
        ("queue", 2, first(left, lambda x, _: x <= 800), first(left, lambda x, _: x < 400)),
    ]


@RATES
def test_who_is_where_two_zones_overlap_is_in_both(fps):
    steps = way((302, 450), (1102, 450), fps=fps)
    assert stays(film(steps, fps=fps), QUEUE, AISLE) == [
        ("aisle", 1, first(steps, lambda x, _: x >= 600), first(steps, lambda x, _: x > 1000)),
        ("queue", 1, first(steps, lambda x, _: x >= 400), first(steps, lambda x, _: x > 800)),
    ]


def test_a_zone_that_bends_holds_what_is_inside_of_its_bend_alone():
    bend = ((400, 300), (800, 300), (800, 600), (700, 600), (700, 400), (400, 400))
    zone = Zone(name="queue", polygon=bend)
    assert stays(film(stand(500, 500, 2)), zone) == []
    assert len(stays(film(stand(500, 350, 2), stand(750, 500, 2)), zone)) == 2


# ── Counts ──────────────────────────────────────────────────────────────────────────────────────


def places(counts):
    """Return (interval's start on the camera's time, frames, in, out) of each row."""
    return [(pytest.approx(r["start_s"]), r["frames"], r["in"], r["out"]) for r in counts]


def test_crossings_are_counted_in_the_interval_of_their_moment_and_empty_intervals_are_zeros():
    fps = 5
    steps = [*away(18, fps), *way((600, 301), (600, 501), fps=fps, px_s=50), *away(22, fps)]
    back = [*away(1, fps), *way((700, 501), (700, 301), fps=fps, px_s=50), *away(39, fps)]
    _, counts = told(film(steps, back, fps=fps), DOOR, interval_s=10)
    assert places(counts) == [
        (0, 50, 0, 1), (10, 50, 0, 0), (20, 50, 1, 0), (30, 50, 0, 0), (40, 20 + 1, 0, 0),
    ]  # fmt: skip
    for row in counts:
        assert (row["kind"], row["name"], row["interval_s"]) == ("line", "door", 10)
        assert row["interval_start"] is None
        assert {row[f"occupancy_{of}"] for of in ("min", "mean", "max")} == {None}


@pytest.mark.parametrize(("frames_before", "row"), [(49, 0), (50, 1)])
def test_a_crossing_in_the_last_frame_of_an_interval_is_counted_in_it(frames_before, row):
    fps = 5
    steps = [*[(600, 380)] * frames_before, *stand(600, 420, 15, fps)]
    _, counts = told(film(steps, fps=fps), DOOR, interval_s=10)
    assert [each["start_s"] for each in counts] == [0, 10, 20]
    assert [each["in"] for each in counts] == [int(number == row) for number in range(3)]


def test_occupancy_is_that_of_every_frame_from_an_entry_to_the_exit():
    fps = 5
    # In the zone from 2 to 14 s, and from 6 to 8 s.
    one = [*stand(300, 450, 2, fps), *stand(500, 450, 12, fps), *stand(300, 450, 16, fps)]
    two = [*stand(300, 500, 6, fps), *stand(600, 500, 2, fps), *stand(300, 500, 22, fps)]
    _, counts = told(film(one, two, fps=fps), QUEUE, interval_s=10)
    assert places(counts) == [(0, 50, 2, 1), (10, 50, 0, 1), (20, 50, 0, 0)]
    occupancy = [tuple(r[f"occupancy_{of}"] for of in ("min", "mean", "max")) for r in counts]
    assert occupancy == [(0, pytest.approx(1.0), 2), (0, pytest.approx(0.4), 1), (0, 0.0, 0)]
    assert {(row["kind"], row["name"]) for row in counts} == {("zone", "queue")}


def test_occupancy_never_counts_who_was_there_too_briefly_and_counts_short_ways_out():
    fps = 5
    passing = [*stand(300, 450, 4, fps), *stand(500, 450, 0.2, fps), *stand(300, 450, 5.8, fps)]
    staying = [*stand(500, 500, 4, fps), *stand(300, 500, 0.6, fps), *stand(500, 500, 5.4, fps)]
    outside = stand(300, 600, 0.2, fps)
    _, (row,) = told(film(passing, staying + outside, fps=fps), QUEUE, interval_s=60)
    assert (row["in"], row["out"], row["occupancy_max"]) == (1, 1, 1)
    assert row["occupancy_mean"] == pytest.approx(50 / 51)


def test_an_interval_without_a_frame_has_no_row():
    fps = 5
    late = film(stand(300, 450, 10, fps), fps=fps, first=42 * fps)
    frames = [*film(stand(300, 450, 12, fps), fps=fps), *late]
    _, counts = told(frames, DOOR, QUEUE, interval_s=10)
    expected = [(0, 50, 0, 0), (10, 10, 0, 0), (40, 40, 0, 0), (50, 10, 0, 0)]
    for kind in ("line", "zone"):
        assert places([row for row in counts if row["kind"] == kind]) == expected


def test_nothing_drawn_is_nothing_told():
    assert told(film(stand(500, 450, 10))) == ([], [])


def test_intervals_lie_on_the_clock_where_the_start_is_known():
    fps, began = 5, BEGAN + timedelta(seconds=47)
    frames = film(stand(500, 450, 90, fps), fps=fps, shot=footage(began))
    _, counts = told(frames, QUEUE, interval_s=60)
    assert [row["interval_start"] for row in counts] == [
        BEGAN + timedelta(minutes=minute) for minute in range(3)
    ]
    assert places(counts) == [(-47, 13 * fps, 1, 0), (13, 60 * fps, 0, 0), (73, 17 * fps, 0, 1)]
    events, _ = told(frames, QUEUE, interval_s=60)
    assert events[0]["timestamp"] == began


def test_intervals_lie_on_the_cameras_own_time_where_the_start_is_not_known():
    fps = 5
    frames = film(stand(500, 450, 90, fps), fps=fps, first=47 * fps)
    _, counts = told(frames, QUEUE, interval_s=60)
    assert [row["interval_start"] for row in counts] == [None] * 3
    assert places(counts) == [(0, 13 * fps, 1, 0), (60, 60 * fps, 0, 0), (120, 17 * fps, 0, 1)]


def test_an_interval_goes_on_from_one_recording_to_the_next():
    fps = 5
    one = film(stand(500, 450, 40, fps), fps=fps, shot=footage(BEGAN))
    next_shot = footage(BEGAN + timedelta(seconds=40), number=1)
    two = film(stand(500, 450, 40, fps), fps=fps, shot=next_shot, base_s=40)
    events, counts = told([*one, *two], QUEUE, interval_s=60)
    assert places(counts) == [(0, 60 * fps, 1, 0), (60, 20 * fps, 0, 1)]
    assert [event["source_uri"] for event in events] == [
        "/archive/0.mkv", "/archive/1.mkv", "/archive/0.mkv",
    ]  # fmt: skip
    assert events[2]["dwell_s"] == pytest.approx(80 - 1 / fps)


@pytest.mark.parametrize("drawn", [DOOR, QUEUE])
def test_an_interval_has_one_row_where_recordings_overlap_on_the_clock(drawn):
    fps = 5
    one = film(stand(500, 450, 62, fps), fps=fps, shot=footage(BEGAN))
    # It says that it began before the one before it had ended, as recorders do that keep some seconds
    # from before a trigger; the camera's own time goes on.
    next_shot = footage(BEGAN + timedelta(seconds=57), number=1)
    two = film(stand(300, 450, 70, fps), fps=fps, shot=next_shot, base_s=62)
    _, counts = told([*one, *two], drawn, interval_s=60)
    rows = Counter(row["interval_start"] for row in counts)
    assert rows == Counter(BEGAN + timedelta(minutes=minute) for minute in range(3))
    assert sum(row["frames"] for row in counts) == (62 + 70) * fps


def test_counts_are_told_as_soon_as_nothing_can_change_them():
    fps = 5
    areas, log = placed(DOOR, QUEUE), EventLog(("person", "dog"), 10.0)
    told_at = {}
    for frame in film(stand(300, 450, 30, fps), fps=fps):
        log.push(frame, areas)
        for row in log.counts().to_pylist():
            told_at.setdefault(row["start_s"], frame.time_s)
    lag_s = QUEUE.min_dwell_s + QUEUE.debounce_s
    due_at = {start_s: pytest.approx(start_s + 10 + lag_s, abs=0.21) for start_s in (0, 10)}
    assert told_at == due_at


def test_one_who_stands_on_a_line_holds_the_counts_back_until_it_is_certain():
    fps = 5
    areas, log = placed(DOOR), EventLog(("person", "dog"), 10.0)
    steps = [*stand(600, 390, 5, fps), *stand(600, 404, 30, fps), *stand(600, 450, 1, fps)]
    for frame in film(steps, fps=fps):
        log.push(frame, areas)
        if frame.time_s < 35:
            assert (log.counts().num_rows, log.events().num_rows) == (0, 0)
    log.flush()
    assert places(log.counts().to_pylist()) == [
        (0, 50, 1, 0), (10, 50, 0, 0), (20, 50, 0, 0), (30, 30, 0, 0),
    ]  # fmt: skip


def test_the_end_of_all_tells_all_that_goes_on_once_and_leaves_nothing():
    down = way((600, 302), (600, 410))
    frames = film(down, stand(500, 450, len(down) / 25))
    areas, log = placed(DOOR, QUEUE), EventLog(("person", "dog"), 60.0)
    for frame in frames:
        log.push(frame, areas)
    assert [e["event_type"] for e in log.events().to_pylist()] == ["entry", "entry"]
    assert log.counts().num_rows == 0
    log.flush()
    events = sorted((e["event_type"], e["name"]) for e in log.events().to_pylist())
    assert events == [("crossing", "door"), *[("exit", "queue")] * 2, *[("stay", "queue")] * 2]
    counts = {(r["name"], r["in"], r["out"]) for r in log.counts().to_pylist()}
    assert counts == {("door", 1, 0), ("queue", 2, 2)}
    log.flush()
    assert (log.events().num_rows, log.counts().num_rows) == (0, 0)


def test_a_log_that_never_saw_a_frame_ends_without_a_row():
    log = EventLog(("person",), 60.0)
    log.flush()
    assert (log.events().num_rows, log.counts().num_rows) == (0, 0)


LINES = (
    Line(name="door", points=((160, 360), (1120, 360)), debounce_s=0.4),
    Line(name="bent", points=((640, 10), (600, 360), (700, 710)), debounce_s=0),
)
ZONES = (
    Zone(name="queue", polygon=((100, 100), (700, 100), (700, 700)), debounce_s=0.6, min_dwell_s=0),
    Zone(name="aisle", polygon=((300, 50), (1200, 50), (1200, 600)), debounce_s=0, min_dwell_s=0.4),
    Zone(name="whole", polygon=((0, 0), (1280, 0), (1280, 720), (0, 720))),
)
runs = st.tuples(st.none() | grid, st.integers(1, 6))
walks = st.lists(runs, min_size=1, max_size=12).map(
    lambda found: [place for place, frames in found for _ in range(frames)]
)
crowds = st.lists(walks, min_size=1, max_size=3)
intervals_s = st.sampled_from([0.5, 1, 2.5, 7, 60, 3600])
starts = st.sampled_from([None, BEGAN, BEGAN + timedelta(seconds=3.4), BEGAN - timedelta(days=1)])


def number_of(row, interval_s):
    start = row["interval_start"]
    at_s = row["start_s"] if start is None else start.timestamp()
    return round(at_s / interval_s)


def bin_of(frame, interval_s):
    start = frame.footage.start_time
    # Told in whole microseconds, as timestamps are.
    offset_s = round(frame.pts_s - ORIGIN_S, 6)
    return math.floor((start.timestamp() + offset_s if start else frame.time_s) / interval_s + 1e-9)


@settings(deadline=None)
@given(crowds, intervals_s, starts)
def test_counts_add_up_to_the_events_of_each_interval_whatever_its_length(crowd, interval_s, start):
    frames = film(*crowd, fps=5, shot=footage(start))
    events, counts = told(frames, *LINES, *ZONES, interval_s=interval_s)
    bins = {frame.frame_index: bin_of(frame, interval_s) for frame in frames}
    expected = Counter()
    for event in events:
        coming = event["direction"] == "in" or event["event_type"] == "entry"
        if event["event_type"] != "stay":
            expected[event["name"], bins[event["frame_index"]], coming] += 1
    found = Counter()
    for row in counts:
        found[row["name"], number_of(row, interval_s), True] += row["in"]
        found[row["name"], number_of(row, interval_s), False] += row["out"]
    assert +found == expected
    frames_of = Counter(bins.values())
    rows = Counter((row["name"], number_of(row, interval_s)) for row in counts)
    assert rows == Counter((each.name, number) for each in LINES + ZONES for number in frames_of)
    for row in counts:
        assert row["frames"] == frames_of[number_of(row, interval_s)]


@settings(deadline=None)
@given(crowds, intervals_s, starts)
def test_occupancy_is_that_of_the_stays_that_were_told(crowd, interval_s, start):
    frames = film(*crowd, fps=5, shot=footage(start))
    events, counts = told(frames, *ZONES, interval_s=interval_s)
    present = {zone.name: np.zeros(len(frames), int) for zone in ZONES}
    for event in events:
        step = {"entry": 1, "exit": -1, "stay": 0}[event["event_type"]]
        present[event["name"]][event["frame_index"] :] += step
    bins = np.array([bin_of(frame, interval_s) for frame in frames])
    for row in counts:
        here = present[row["name"]][bins == number_of(row, interval_s)]
        assert (row["occupancy_min"], row["occupancy_max"]) == (here.min(), here.max())
        assert row["occupancy_mean"] == pytest.approx(here.mean())


@settings(deadline=None)
@given(crowds)
def test_every_entry_has_its_exit_and_its_stay_and_none_is_shorter_than_the_least(crowd):
    frames = film(*crowd, fps=5)
    least_s = {zone.name: zone.min_dwell_s for zone in ZONES}
    events, _ = told(frames, *ZONES)
    inside = Counter()
    for event in sorted(events, key=lambda e: (e["frame_index"], e["event_type"] != "entry")):
        who = event["name"], event["track_id"]
        if event["event_type"] == "stay":
            assert event["dwell_s"] >= least_s[event["name"]] - ROUNDING_S
            continue
        inside[who] += 1 if event["event_type"] == "entry" else -1
        assert inside[who] in (0, 1)
    assert not +inside
    kinds = Counter(event["event_type"] for event in events)
    assert kinds["entry"] == kinds["exit"] == kinds["stay"]


@settings(deadline=None, max_examples=50)
@given(crowds, intervals_s, starts, st.integers(1, 9))
def test_rows_are_the_same_however_often_they_are_asked_for(crowd, interval_s, start, every):
    frames = film(*crowd, fps=5, shot=footage(start))
    areas, log = placed(*LINES, *ZONES), EventLog(("person", "dog"), interval_s)
    events, counts = [], []
    for number, frame in enumerate(frames):
        log.push(frame, areas)
        if number % every == 0:
            events += log.events().to_pylist()
            counts += log.counts().to_pylist()
    log.flush()
    events += log.events().to_pylist()
    counts += log.counts().to_pylist()
    assert (events, counts) == told(frames, *LINES, *ZONES, interval_s=interval_s)


@settings(deadline=None, max_examples=50)
@given(walks, walks)
def test_what_one_does_is_told_alike_alone_and_in_company(one, other):
    together, _ = told(film(one, other, fps=5), *LINES, *ZONES)
    alone, _ = told(film(one, [None] * len(other), fps=5), *LINES, *ZONES)

    def of_the_first(events):
        rows = [tuple(e.items()) for e in events if e["track_id"] == 1]
        return sorted(rows, key=str)

    assert of_the_first(together) == of_the_first(alone)


def test_two_frames_of_one_time_are_two_and_what_happens_in_them_is_counted():
    frames = film(way((600, 300), (600, 500)))
    frames = [replace(f, time_s=frames[n - n % 2].time_s) for n, f in enumerate(frames)]
    _, counts = told(frames, DOOR, interval_s=60)
    assert [(row["frames"], row["in"], row["out"]) for row in counts] == [(len(frames), 1, 0)]
