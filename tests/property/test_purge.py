"""What was purged is gone from every file and stays away; what stays is as it was, row for row."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from jobs import compact
from jobs import purge as verb
from jobs.exits import EXIT_OK, EXIT_PARTIAL, EXIT_WRONG_SETTING
from pipeline import part
from pipeline.aws import AwsSettings
from pipeline.camera_log import CameraLog
from pipeline.derive import DeriveSettings, derive
from pipeline.doomed import look
from pipeline.holdings import add_up
from pipeline.label_ledger import LabelLedger
from pipeline.label_log import LabelLog
from pipeline.labels import LabelSettings
from pipeline.ledger import CameraLedger
from pipeline.purge import finish_purge, is_clean
from pipeline.purged import Purge, PurgedFootage, marked, read_purges, write_purge
from pipeline.records import Footage, LabelFrame
from pipeline.resume import Plan, prepare
from pipeline.run_folder import open_run
from pipeline.staging import Staging
from pipeline.standin_rekognition import answer_to
from pipeline.tables import Provenance
from pipeline.timing import Stopwatch
from pipeline.verify import verify
from tests.property import archive as a
from tests.property.deaths import death, no_flushing

# Between A and B tracks go on; between the others nobody knows anybody.
A, B, C, D = (a.recording(name, s) for name, s in (("a", 0), ("b", 3), ("c", 60), ("d", 120)))
UNDATED = a.recording("u")
DOOR = [A, B, C]
TRACK = a.log_settings(Path()).track
# No part is merged; all are.
PART_BYTES = (400.0, 1e9)


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Commit a part every second segment."""
    monkeypatch.setattr(part, "FIRST_PART_FRAMES", 8)
    monkeypatch.setattr(part, "_DOUBLINGS", 0)
    with no_flushing():
        yield


def at(seconds: float) -> datetime:
    return a.BEGAN + timedelta(seconds=seconds)


def write_down(output: Path, before: datetime | None) -> None:
    """Do the first half of a purge."""
    doomed = look(output, "door", before)
    footage = (
        PurgedFootage(camera_id="door", source_uri=uri, video_track=number, frames=frames)
        for (uri, number), frames in doomed.whole.items()
    )
    rule = Purge(
        name=f"p{len(read_purges(output).each)}",
        cameras=("door",),
        before=before,
        footage=tuple(footage),
    )
    write_purge(output, rule, ["door"])


def finish(output: Path) -> bool:
    return finish_purge(output, "door", read_purges(output), TRACK, "a")


def purge(output: Path, before: datetime | None) -> None:
    write_down(output, before)
    assert finish(output)


def since(rows: list[dict[str, Any]], before: datetime) -> list[dict[str, Any]]:
    return [row for row in rows if row["timestamp"] is None or row["timestamp"] >= before]


def assert_is_the_rest(output: Path, whole: Path, before: datetime, *, ids: bool = True) -> None:
    """Assert that an output is another without what was before a moment."""
    assert verify(output).problems == []
    a.check_tidy(output)
    for table in ("detections", "movements"):
        found, expected = a.rows(output, table), since(a.rows(whole, table), before)
        if not ids:
            found, expected = ([{**r, "track_id": 0} for r in rows] for rows in (found, expected))
        assert found == expected, table
    tracks = a.rows(output, "tracks")
    assert {row["track_id"] for row in tracks} == {
        row["track_id"] for row in a.rows(output, "movements")
    }
    assert all(row["first_timestamp"] is None or row["first_timestamp"] >= before for row in tracks)
    if ids:
        late = [
            row
            for row in a.rows(whole, "tracks")
            if row["first_timestamp"] is None or row["first_timestamp"] >= before
        ]
        assert [row for row in tracks if row in late] == late
    results, totals = add_up(CameraLedger(output, "door").parts()).values(), {}
    for name in ("frames", "detections", "movements", "tracks"):
        totals[name] = sum(getattr(result, name) for result in results)
    assert totals == {
        "frames": len(a.frames(output)),
        **{name: len(a.rows(output, name)) for name in ("detections", "movements", "tracks")},
    }
    assert all(is_clean(each, before) for each in CameraLedger(output, "door").parts())


def plan_of(output: Path, *wanted: Footage, retry: bool = False) -> Plan:
    return prepare(output, "door", wanted, a.TRACK_HASH, retry=retry)


@pytest.mark.parametrize("part_bytes", PART_BYTES)
@pytest.mark.parametrize("seconds", [0.0, 1.1, 3.0, 4.3, 59.0, 61.2, 62.9])
def test_what_is_before_a_moment_goes_and_the_rest_stays_row_for_row(
    tmp_path: Path, part_bytes: float, seconds: float
) -> None:
    whole, output = tmp_path / "whole", tmp_path / "out"
    a.run(whole, [UNDATED, *DOOR], part_bytes=part_bytes)
    shutil.copytree(whole, output)
    purge(output, at(seconds))
    assert_is_the_rest(output, whole, at(seconds))
    gone = read_purges(output).footage
    left = [each for each in [UNDATED, *DOOR] if (each.source_uri, 0) not in gone]
    assert [f.source_uri for f in left[1:]] == [
        each.source_uri for each in DOOR if each.start_time + timedelta(seconds=3) > at(seconds)
    ]
    assert plan_of(output, *left) == Plan(tail=None), "nothing of it is done again"
    before = set(a.files(output))
    purge(output, at(seconds))
    assert set(a.files(output)) - before == {"ledger/purged/p1.json"}, "nothing is left to purge"


def test_a_track_that_goes_over_the_cut_keeps_its_id_and_begins_behind_it(tmp_path: Path) -> None:
    a.run(tmp_path, DOOR)
    tracks = {row["track_id"]: row for row in a.rows(tmp_path, "tracks")}
    purge(tmp_path, at(4.3))
    over = [i for i, t in tracks.items() if t["first_timestamp"] < at(4.3) <= t["last_timestamp"]]
    assert over
    for row in (row for row in a.rows(tmp_path, "tracks") if row["track_id"] in over):
        before = tracks[row["track_id"]]
        assert row["first_timestamp"] >= at(4.3)
        assert row["last_timestamp"] == before["last_timestamp"]
        assert 0 < row["n_observations"] < before["n_observations"]
        assert row["duration_s"] < before["duration_s"]
        assert len(row["path"]) < len(before["path"])


def broken(footage: Footage, have: frozenset[int]) -> list[a.Arrival]:
    """Return a footage of which, if it is C, a segment fails."""
    arrivals = a.whole(footage, have)
    if footage.source_uri == C.source_uri:
        died = a.failure(footage, "detect", "it died", 6)
        lost = a.Gap(stretch=a.stretch(footage, 1, 0, a.SEGMENT_FRAMES), failure=died)
        return [arrivals[0], lost, *arrivals[2:]]
    return arrivals


@pytest.mark.parametrize("part_bytes", PART_BYTES)
def test_what_is_tracked_again_behind_a_purge_keeps_its_ids(
    tmp_path: Path, part_bytes: float
) -> None:
    whole, output = tmp_path / "whole", tmp_path / "out"
    a.run(whole, [*DOOR, D], part_bytes=part_bytes)
    a.run(output, DOOR, broken, part_bytes=part_bytes)
    purge(output, at(30))
    retried = a.run(output, [C], part_bytes=part_bytes, retry=True)
    assert retried.tail is not None
    a.run(output, [C, D], part_bytes=part_bytes)
    assert_is_the_rest(output, whole, at(30))
    assert len({row["track_id"] for row in a.rows(output, "movements")}) >= 4


@pytest.mark.parametrize("stop", [5, 7, 8])
def test_a_log_that_goes_on_is_purged_up_to_where_it_is(tmp_path: Path, stop: int) -> None:
    whole, output = tmp_path / "whole", tmp_path / "out"
    a.run(whole, DOOR)
    tail = a.tail_of(DOOR)
    log = CameraLog(tail, a.log_settings(output))
    for arrival in [each for footage in tail.footages for each in a.whole(footage)][:stop]:
        log.push(arrival)
    purge(output, at(3.5))
    for each in CameraLedger(output, "door").parts():
        assert is_clean(each, at(3.5))
    assert since(a.rows(output, "movements"), at(3.5)) == a.rows(output, "movements")
    assert Staging(output, "door").segments_of(A) == {}

    def later(footage: Footage, have: frozenset[int]) -> list[a.Arrival]:
        """Return what a cutter and a detector make of a footage that is narrowed down."""
        arrivals = a.whole(footage, have)
        if footage.source_uri != B.source_uri:
            return arrivals
        first = a.detect(footage, 0, 3)
        return [replace(first, stretch=a.stretch(footage, 0, 0, 5)), *arrivals[1:]]

    # As a start does it, whose narrower window makes other evidence.
    a.run(output, [a.changed(B), C], later)
    assert verify(output).problems == []
    found, expected = (
        [(row["source_uri"], row["frame_index"]) for row in a.rows(o, "detections")]
        for o in (output, whole)
    )
    moments = since(a.rows(whole, "detections"), at(3.5))
    assert {f for f in found} <= {(row["source_uri"], row["frame_index"]) for row in moments}
    assert expected != found


def test_all_of_a_camera_goes_and_ids_go_on_behind_it(tmp_path: Path) -> None:
    a.run(tmp_path, [UNDATED, *DOOR], broken)
    derive(tmp_path, "door", DeriveSettings(end_s=TRACK.lost_after_s))
    greatest = max(row["track_id"] for row in a.rows(tmp_path, "tracks"))
    refined = max(row["track_id"] for row in a.rows(tmp_path, "refined/tracks"))
    purge(tmp_path, None)
    assert a.files(tmp_path) == [
        "ledger/camera_id=door/begin-refined.json",
        "ledger/camera_id=door/begin.json",
        "ledger/purged/p0.json",
    ]
    assert {each.footage for each in read_purges(tmp_path).each} != {()}
    assert all(read_purges(tmp_path).holds(each) for each in [UNDATED, *DOOR])
    assert not read_purges(tmp_path).holds(D)
    a.run(tmp_path, [D])
    assert {row["source_uri"] for row in a.rows(tmp_path, "movements")} == {D.source_uri}
    assert min(row["track_id"] for row in a.rows(tmp_path, "tracks")) == greatest + 1
    derive(tmp_path, "door", DeriveSettings(end_s=TRACK.lost_after_s))
    assert min(row["track_id"] for row in a.rows(tmp_path, "refined/tracks")) == refined + 1
    assert verify(tmp_path).problems == []


def test_labels_of_what_goes_go_and_their_calls_stay_counted(tmp_path: Path) -> None:
    a.run(tmp_path, DOOR)
    how = LabelSettings(
        output=tmp_path,
        aws=AwsSettings(),
        every=2,
        max_tps=1.0,
        provenance=Provenance(run_id="r", config_hash="c", model_hash="m"),
        attempt_id="a",
    )
    log = LabelLog(how, "door")
    pictured = [replace(each, picture_id=each.evidence_id) for each in (A, B)]
    for footage in pictured:
        for number in (0, 2, 10):
            frame = LabelFrame(frame_index=number, pts_s=number / a.RATE_FPS, jpeg=b"")
            log.ask(footage, frame)
            log.answer(footage, frame, answer_to(b"x%d" % number), Stopwatch("x").span(frames=1))
        log.gather()
        log.fail(footage, 4, "LabelsError", "refused", paid=True)
        log.fail(footage, 12, "LabelsError", "refused", paid=False)
    log.close()
    # The sixth frame of B is the first that stays.
    purge(tmp_path, at(3 + 5 / a.RATE_FPS))
    assert {(row["source_uri"], row["frame_index"]) for row in a.rows(tmp_path, "labels")} == {
        (B.source_uri, 10)
    }
    ledger = LabelLedger(tmp_path, "door")
    assert [n for e in ledger.entries() for each in e.answered.values() for n in each] == [10]
    assert [each.frames for each in ledger.state().unanswered] == [(12,)]
    failed = [row for row in a.rows(tmp_path, "failures") if row["step"] == "labels"]
    assert [(row["source_uri"], row["first_frame"]) for row in failed] == [(B.source_uri, 12)]
    assert {r["source_uri"] for r in a.rows(tmp_path, "metrics")} == {B.source_uri, C.source_uri}
    assert ledger.calls().total() == 8
    assert verify(tmp_path).problems == []
    purge(tmp_path, None)
    assert a.files(tmp_path, "*.parquet") == []
    assert ledger.calls().total() == 8


def test_what_no_time_is_known_of_stays_and_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    open_run(str(tmp_path))
    a.run(tmp_path, [UNDATED, A, C])
    command = [str(tmp_path), "--before", at(30).isoformat()]
    assert verb.main(command) == EXIT_PARTIAL
    out = capsys.readouterr().out
    assert f"video track 0 of {UNDATED.source_uri} stays: nothing tells when it was" in out
    assert "1 video track(s), and the beginning of 0, 14 frames" in out
    assert {row["source_uri"] for row in a.rows(tmp_path, "detections")} == {
        UNDATED.source_uri,
        C.source_uri,
    }
    assert verify(tmp_path).problems == []
    assert verb.main([str(tmp_path)]) == EXIT_WRONG_SETTING
    assert verb.main([str(tmp_path), "--before", "2999-01-01"]) == EXIT_WRONG_SETTING
    # A camera as a whole goes, whatever is known of it; half of that is all that is done here.
    write_down(tmp_path, None)
    assert [problem.what for problem in verify(tmp_path).problems] == [
        "a purge was not finished: the next start of the run does it"
    ]
    assert compact.main([str(tmp_path)]) == EXIT_WRONG_SETTING
    assert verb.main([str(tmp_path), "--camera", "door"]) == EXIT_OK
    assert a.files(tmp_path, "*.parquet") == []
    assert verify(tmp_path).problems == []


def kills(do: Callable[[Path], None], start: Path, tmp_path: Path, step: int) -> Iterator[Path]:
    """Yield an output for every so many operations on files, of which a purge dies before one."""
    number = 0
    while True:
        output = tmp_path / f"killed {number}"
        shutil.copytree(start, output)
        with death(number) as reaper:
            do(output)
        yield output
        if not reaper.has_killed:
            return
        number += step


@pytest.mark.parametrize(("seconds", "step"), [(4.3, 3), (None, 2)])
def test_a_purge_that_dies_anywhere_is_finished_by_whoever_comes_next(
    tmp_path: Path, seconds: float | None, step: int
) -> None:
    start, whole = tmp_path / "start", tmp_path / "whole"
    before = None if seconds is None else at(seconds)
    a.run(start, DOOR, part_bytes=400.0)
    derive(start, "door", DeriveSettings(end_s=TRACK.lost_after_s))
    shutil.copytree(start, whole)
    count = 0
    for output in kills(lambda output: purge(output, before), start, tmp_path, step):
        count += 1
        if not read_purges(output).each:
            # It had not begun: a mark by itself means nothing.
            finish(output)
            assert a.tables(output) == a.tables(whole)
            continue
        assert marked(output) == {"door": "p0"} or not finish(output)
        finish(output)
        assert not marked(output)
        if before:
            assert_is_the_rest(output, whole, before)
        else:
            left = a.files(output / "ledger" / "camera_id=door")
            assert left == ["begin-refined.json", "begin.json"]
    assert count > 8
