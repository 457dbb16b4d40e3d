"""What a start finds on disk decides what it does again, and nothing else is done again."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline import part
from pipeline.camera_log import CameraLog
from pipeline.errors import OutputError
from pipeline.holdings import add_up
from pipeline.ledger import CameraLedger
from pipeline.records import Footage, FootageEnd
from pipeline.resume import Plan, prepare
from pipeline.staging import Staging
from tests.property import archive as a
from tests.property.deaths import no_flushing

A = a.recording("a", 0)
B = a.recording("b", 3)
C = a.recording("c", 6)
D = a.recording("d", 9)
BETWEEN = a.recording("bb", 6, segments=2)


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Commit a part every second segment; none is merged."""
    monkeypatch.setattr(part, "FIRST_PART_FRAMES", 8)
    monkeypatch.setattr(part, "_DOUBLINGS", 0)
    with no_flushing():
        yield


def run(output: Path, wanted: Sequence[Footage], make: a.Make = a.whole, **options: object) -> Plan:
    return a.run(output, wanted, make, **{"part_bytes": 400.0, **options})


def plan(
    output: Path, *wanted: Footage, track_hash: str = a.TRACK_HASH, retry: bool = False
) -> Plan:
    return prepare(output, "door", wanted, track_hash, retry=retry)


def asked_for(output: Path, plan: Plan, track_hash: str = a.TRACK_HASH) -> dict[str, list[int]]:
    """Return the segments that would be made again, by recording; [] if only its end would."""
    assert plan.tail is not None
    log = CameraLog(plan.tail, a.log_settings(output, part_bytes=400, track_hash=track_hash))
    footages = {footage.key: footage for footage in plan.tail.footages}
    return {
        footages[each.footage].source_uri[-5:-4]: [
            n for n in range(a.segments_of(footages[each.footage])) if n not in each.have
        ]
        for each in log.missing()
    }


def entries(output: Path) -> list[str]:
    return a.files(output / "ledger", "part-*.json")


def at_once(output: Path, *footages: Footage, make: a.Make = a.whole) -> dict[str, object]:
    run(output, footages, make)
    return {**a.tables(output), "frames": a.frames(output)}


def state(output: Path) -> dict[str, object]:
    a.check_tidy(output)
    return {**a.tables(output), "frames": a.frames(output)}


def test_when_all_is_done_nothing_is_left_and_nothing_is_touched(tmp_path: Path) -> None:
    run(tmp_path, [A, B])
    before = {name: (tmp_path / name).stat().st_mtime_ns for name in a.files(tmp_path)}
    assert plan(tmp_path, A, B) == Plan(tail=None)
    assert plan(tmp_path, B) == Plan(tail=None)
    assert {name: (tmp_path / name).stat().st_mtime_ns for name in a.files(tmp_path)} == before


def test_of_a_new_camera_all_is_left_in_the_order_of_its_age(tmp_path: Path) -> None:
    found = plan(tmp_path, C, A, B)
    assert found.tail is not None
    assert [f.source_uri for f in found.tail.footages] == [f.source_uri for f in (A, B, C)]
    assert [f.key.sequence for f in found.tail.footages] == [0, 1, 2]
    assert (found.taken_back, found.changed, found.frames_left) == (0, (), 45)


def test_a_recording_that_is_appended_goes_on_with_the_tracks_of_the_one_before(
    tmp_path: Path,
) -> None:
    grown = tmp_path / "grown"
    run(grown, [A])
    run(grown, [A, B])
    run(grown, [A, B, C])
    assert state(grown) == at_once(tmp_path / "at once", A, B, C)
    ids = [
        {row["track_id"] for row in a.rows(grown, "movements") if row["source_uri"] == f.source_uri}
        for f in (A, B)
    ]
    assert ids[0] & ids[1], "a track goes on into the recording that came later"


def test_an_appended_recording_is_all_that_is_looked_at(tmp_path: Path) -> None:
    run(tmp_path, [A, B])
    found = plan(tmp_path, A, B, C)
    assert asked_for(tmp_path, found) == {"c": [0, 1, 2]}
    assert found.frames_left == 15
    assert found.taken_back == 1, "only the part that had ended every track"


def test_a_recording_that_comes_late_is_put_between_the_others(tmp_path: Path) -> None:
    late = tmp_path / "late"
    run(late, [A, B, D])
    found = plan(late, A, B, BETWEEN, D)
    assert asked_for(late, found) == {"b": [0, 1]}
    run(late, [A, B, BETWEEN, D])
    assert state(late) == at_once(tmp_path / "at once", A, B, BETWEEN, D)


def test_a_recording_that_changed_is_looked_at_again_and_no_other(tmp_path: Path) -> None:
    before = tmp_path / "before"
    run(before, [A, B, C, D])
    kept = entries(before)[0]
    found = plan(before, A, a.changed(B), C, D)
    assert found.changed == (B.source_uri,)
    assert kept in entries(before), "what lies before it stays"
    assert asked_for(before, found) == {"b": [0, 1, 2]}
    run(before, [A, a.changed(B), C, D])
    assert state(before) == at_once(tmp_path / "at once", A, a.changed(B), C, D)


def test_the_last_recording_that_changed_leaves_all_parts_before_it_alone(tmp_path: Path) -> None:
    run(tmp_path, [A, B, C, D])
    before = {name: (tmp_path / "ledger" / name).read_bytes() for name in entries(tmp_path)}
    found = plan(tmp_path, A, B, C, a.changed(D))
    assert found.tail is not None
    assert {f.source_uri for f in found.tail.footages} <= {C.source_uri, D.source_uri}
    left = {name: (tmp_path / "ledger" / name).read_bytes() for name in entries(tmp_path)}
    assert left.items() <= before.items()
    assert len(left) >= len(before) // 2


def test_other_track_settings_track_all_again_and_look_at_nothing_again(tmp_path: Path) -> None:
    other = tmp_path / "other"
    run(other, [A, B])
    expected = state(other)
    found = plan(other, A, B, track_hash="t1")
    assert asked_for(other, found, "t1") == {}
    assert (found.changed, found.frames_left) == ((), 0)
    run(other, [A, B], track_hash="t1")
    assert state(other) == expected
    assert {each.track_hash for each in CameraLedger(other, "door").parts()} == {"t1"}


def broken(footage: Footage, have: frozenset[int]) -> list[a.Arrival]:
    """Return what comes of a footage whose second segment dies, and of C whose end tells a failure."""
    arrivals = a.whole(footage, have)
    if footage.source_uri == B.source_uri and 1 not in have:
        died = a.failure(footage, "detect", "it died", 7)
        at = [getattr(x, "stretch", None) and x.stretch.segment for x in arrivals].index(1)
        arrivals[at] = a.Gap(stretch=a.stretch(footage, 1, 0, a.SEGMENT_FRAMES), failure=died)
    if footage.source_uri == C.source_uri:
        unsure = (a.failure(footage, "demux", "it is cut off"),)
        arrivals[-1] = replace(arrivals[-1], failures=unsure)
    return arrivals


def whole_without_frame_failures(footage: Footage, have: frozenset[int]) -> list[a.Arrival]:
    """Return what comes of a footage in which nothing fails."""
    return [replace(x, failures=()) for x in a.whole(footage, have)]


def only_b_and_c_break(footage: Footage, have: frozenset[int]) -> list[a.Arrival]:
    return [
        x if isinstance(x, (a.Gap, FootageEnd)) else replace(x, failures=())
        for x in broken(footage, have)
    ]


def test_what_failed_is_left_alone_until_a_retry_is_asked_for(tmp_path: Path) -> None:
    run(tmp_path, [A, B, C, D], only_b_and_c_break)
    assert plan(tmp_path, A, B, C, D) == Plan(tail=None)


def test_a_retry_looks_at_what_failed_and_at_nothing_else(tmp_path: Path) -> None:
    tried = tmp_path / "tried"
    run(tried, [A, B, C, D], only_b_and_c_break)
    found = plan(tried, A, B, C, D, retry=True)
    assert asked_for(tried, found) == {"b": [1], "c": []}
    run(tried, [A, B, C, D], whole_without_frame_failures, retry=True)
    assert a.rows(tried, "failures") == []
    expected = at_once(tmp_path / "at once", A, B, C, D, make=whole_without_frame_failures)
    assert state(tried) == expected


def test_a_retry_of_what_fails_again_ends_as_before(tmp_path: Path) -> None:
    run(tmp_path, [A, B, C, D], only_b_and_c_break)
    expected = state(tmp_path)
    run(tmp_path, [A, B, C, D], only_b_and_c_break, retry=True)
    assert state(tmp_path) == expected


def killed_demux(footage: Footage, have: frozenset[int]) -> list[a.Arrival]:
    """Return what comes of a footage whose ffmpeg was killed in segment 4: 3 may be cut short."""
    told = replace(a.failure(footage, "demux", "killed"), signal="SIGKILL")
    segments = [a.detect(footage, 3, 0, 3) if n == 3 else a.detect(footage, n) for n in range(4)]
    segments[3] = replace(segments[3], stretch=replace(segments[3].stretch, wanted=3))
    known = [x for x in segments if x.stretch.segment not in have]
    return [*known, FootageEnd(footage=footage.key, segments=4, failures=(told,))]


def test_a_retry_cuts_again_what_a_killed_demuxer_had_in_hand_even_if_it_was_committed(
    tmp_path: Path,
) -> None:
    """Segments 2 and 3 are in doubt; 2 lies in a part of which nothing failed."""
    tried, long = tmp_path / "tried", a.recording("a", 0, segments=6)
    run(tried, [long], killed_demux)
    ends = [(c.stop, c.is_ended) for p in CameraLedger(tried, "door").parts() for c in p.covered]
    assert ends == [(2, False), (4, False), (4, True)]
    found = plan(tried, long, retry=True)
    assert asked_for(tried, found) == {"a": [2, 3, 4, 5]}
    run(tried, [long], retry=True)
    assert state(tried) == at_once(tmp_path / "at once", long)


def test_a_retry_leaves_alone_what_failed_in_footage_that_is_not_wanted(tmp_path: Path) -> None:
    run(tmp_path, [A, B, C, D], only_b_and_c_break)
    expected = state(tmp_path)
    found = plan(tmp_path, A, C, retry=True)
    assert asked_for(tmp_path, found) == {"c": []}
    run(tmp_path, [A, C], only_b_and_c_break, retry=True)
    assert state(tmp_path) == expected


def test_footage_that_is_not_wanted_any_more_stays(tmp_path: Path) -> None:
    fewer = tmp_path / "fewer"
    run(fewer, [A, B, D])
    expected = state(fewer)
    assert plan(fewer, D) == Plan(tail=None)
    assert state(fewer) == expected
    # Not even if all must be tracked again, or another comes between.
    found = plan(fewer, D, track_hash="t1")
    assert asked_for(fewer, found, "t1") == {}
    run(fewer, [D], track_hash="t1")
    assert state(fewer) == expected
    run(fewer, [BETWEEN], track_hash="t1")
    assert state(fewer) == at_once(tmp_path / "at once", A, B, BETWEEN, D)


def test_footage_that_was_begun_and_is_not_wanted_any_more_stays_as_far_as_it_came(
    tmp_path: Path,
) -> None:
    """B stops behind its second segment, and C comes behind it; then B is wanted again."""
    first = plan(tmp_path, A, B)
    assert first.tail is not None
    log = CameraLog(first.tail, a.log_settings(tmp_path, part_bytes=400))
    for arrival in [*a.whole(first.tail.footages[0]), *a.whole(first.tail.footages[1])[:2]]:
        log.push(arrival)
    run(tmp_path, [A, C])
    results = add_up(CameraLedger(tmp_path, "door").parts())
    assert {uri[-5]: (r.status, r.frames + r.frames_failed) for (uri, _), r in results.items()} == {
        "a": ("completed" if not results[A.source_uri, 0].failures else "partial", 15),
        "b": ("unfinished", 10),
        "c": ("partial", 15),
    }
    assert asked_for(tmp_path, plan(tmp_path, A, B, C)) == {"b": [2]}
    run(tmp_path, [A, B, C])
    assert state(tmp_path) == at_once(tmp_path / "at once", A, B, C)


def test_what_was_staged_by_other_settings_is_swept(tmp_path: Path) -> None:
    first = plan(tmp_path, A)
    assert first.tail is not None
    log = CameraLog(first.tail, a.log_settings(tmp_path))
    log.push(a.detect(first.tail.footages[0], 1))
    assert list(Staging(tmp_path, "door").segments_of(A)) == [1]
    assert asked_for(tmp_path, plan(tmp_path, a.changed(A))) == {"a": [0, 1, 2]}
    assert a.files(tmp_path / "staging") == []


def test_footage_that_is_another_camera_s_now_leaves_this_one(tmp_path: Path) -> None:
    left = tmp_path / "left"
    run(left, [A, B, C])
    found = prepare(left, "door", [A, C], a.TRACK_HASH, moved={(B.source_uri, 0)})
    assert asked_for(left, found) == {}
    run(left, [A, C])
    assert state(left) == at_once(tmp_path / "at once", A, C)
    all_of_it = {(A.source_uri, 0), (C.source_uri, 0)}
    assert prepare(left, "door", [], a.TRACK_HASH, moved=all_of_it).tail is None
    assert a.files(left) == []
    assert prepare(left, "door", [], a.TRACK_HASH).tail is None


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[: len(content) // 2],
        lambda content: content.replace(b'"frames": 4', b'"frames": 5', 1),
        lambda content: content + b" ",
        lambda _: b"",
        lambda _: b"[]",
        lambda _: b'{"sha256": 3}',
    ],
    ids=["half", "a digit", "a space", "empty", "a list", "a stranger"],
)
def test_a_damaged_entry_of_the_ledger_is_named_and_nothing_is_touched(
    tmp_path: Path, damage: object
) -> None:
    run(tmp_path, [A, B])
    name = entries(tmp_path)[1]
    path = tmp_path / "ledger" / name
    content = path.read_bytes()
    path.write_bytes(damage(content))  # type: ignore[operator]
    assert path.read_bytes() != content
    before = a.files(tmp_path)
    with pytest.raises(OutputError, match=re.escape(name)):
        plan(tmp_path, A, B, C)
    assert a.files(tmp_path) == before


def test_a_missing_entry_of_the_ledger_is_told(tmp_path: Path) -> None:
    run(tmp_path, [A, B])
    (tmp_path / "ledger" / entries(tmp_path)[1]).unlink()
    before = a.files(tmp_path)
    with pytest.raises(OutputError, match="no part before part-000002"):
        plan(tmp_path, A, B)
    assert a.files(tmp_path) == before
