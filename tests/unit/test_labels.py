"""Labels: the rows of an answer, what they cost, how fast they are asked for, what lasts of them."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import av
import duckdb
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import labeller as labeller_module
from pipeline.aws import AwsSettings
from pipeline.backlog import Backlog, Waiting
from pipeline.errors import OutputError
from pipeline.jpeg import to_jpeg
from pipeline.label_budget import Budget
from pipeline.label_frames import MOST_JPEG_BYTES, are_label_frames, label_calls
from pipeline.label_ledger import LabelLedger, calls_made
from pipeline.label_log import LabelLog
from pipeline.label_tidy import tidy_labels
from pipeline.labeller import Labeller, LabelTotals
from pipeline.labels import (
    LabelSettings,
    RateLimit,
    calls_within,
    price_usd,
    rows_of,
)
from pipeline.lease import Leases
from pipeline.letterbox import fit
from pipeline.records import Footage, FootageKey, LabelFrame, VideoTrack
from pipeline.rekognition import LabelsError, kind_of
from pipeline.standin_rekognition import answer_to
from pipeline.tables import Provenance
from pipeline.timing import Stopwatch
from pipeline.verify import verify

URI = "/archive/door.mkv"


def footage(
    camera_id: str = "door", uri: str = URI, pictures: str = "p0", *, began: bool = True
) -> Footage:
    return Footage(
        key=FootageKey(camera_id=camera_id, sequence=0),
        source_uri=uri,
        track=VideoTrack(video_track=0, codec="h264", width=400, height=200),
        letterbox=fit(400, 200, 64),
        start_time=datetime(2026, 1, 15, tzinfo=UTC) if began else None,
        picture_id=pictures,
    )


def frame(number: int, *, jpeg: bytes = b"") -> LabelFrame:
    return LabelFrame(frame_index=number, pts_s=number / 25, jpeg=jpeg or b"jpeg %d" % number)


def settings(output: Path, attempt_id: str = "first", most_calls: int | None = None) -> Any:
    return LabelSettings(
        output=output,
        aws=AwsSettings(),
        every=60,
        max_tps=1e6,
        provenance=Provenance(run_id="r", config_hash="c", model_hash="m"),
        attempt_id=attempt_id,
        most_calls=most_calls,
        limit="aws_max_cost = 1 USD",
    )


class Service:
    """Answers at once, or fails as it is told to."""

    def __init__(self, fail: Callable[[bytes, int], LabelsError | None] = lambda *_: None) -> None:
        self.asked: list[bytes] = []
        self._fail = fail
        self._lock = threading.Lock()

    def detect_labels(self, jpeg: bytes) -> dict[str, Any]:
        with self._lock:
            self.asked.append(jpeg)
            error = self._fail(jpeg, len(self.asked))
        if error:
            raise error
        return answer_to(jpeg)


def label(how: LabelSettings, service: Service, numbers: Iterable[int], **more: Any) -> LabelTotals:
    labeller = Labeller(how, ["door"], service=lambda _: service, **more)
    assert labeller.take(footage(), [frame(number) for number in numbers]) == 0
    return labeller.close()


def table(output: Path, name: str = "labels") -> list[dict[str, Any]]:
    sql = f"select * from read_parquet('{output}/{name}/**/*.parquet', hive_partitioning=true)"
    # Not `fetchall`: it wants a package for time zones.
    return duckdb.sql(sql).to_arrow_table().to_pylist()


def labelled(output: Path) -> set[int]:
    return {row["frame_index"] for row in table(output)}


def failures(output: Path) -> list[tuple[int, int, int, str]]:
    return [
        (f.first_frame, f.last_frame, f.frames, f.message)
        for each in LabelLedger(output, "door").state().unanswered
        for f in [each.failure]
    ]


# --- the rows of an answer


def test_a_label_without_instances_is_one_row_without_a_box() -> None:
    answer = {
        "LabelModelVersion": "3.0",
        "Labels": [
            {"Name": "Street", "Confidence": 87.5, "Parents": [{"Name": "City"}, {"Name": "Road"}]}
        ],
    }
    assert list(rows_of(answer, 400, 200)) == [
        {
            "name": "Street",
            "confidence": 0.875,
            "parents": ["City", "Road"],
            "model_version": "3.0",
            "x_min": None,
            "y_min": None,
            "x_max": None,
            "y_max": None,
        }
    ]


def test_each_instance_is_a_row_with_its_own_score_and_box_in_source_pixels() -> None:
    boxes = [
        {"Left": 0.25, "Top": 0.5, "Width": 0.5, "Height": 0.25},
        {"Left": -0.1, "Top": 0.9, "Width": 0.2, "Height": 0.2},
    ]
    instances = [
        {"BoundingBox": box, "Confidence": score}
        for box, score in zip(boxes, (90, 50), strict=True)
    ]
    answer = {"Labels": [{"Name": "Person", "Confidence": 99, "Instances": instances}]}
    rows = list(rows_of(answer, 400, 200))
    edges = [[row[edge] for edge in ("x_min", "y_min", "x_max", "y_max")] for row in rows]
    assert edges[0] == pytest.approx([100, 100, 300, 150])
    # Clipped to the frame.
    assert edges[1] == pytest.approx([0, 180, 40, 200])
    assert [row["confidence"] for row in rows] == [0.9, 0.5]


def test_an_answer_without_labels_has_no_row() -> None:
    assert list(rows_of({"Labels": []}, 400, 200)) == []


# --- which frames, at what price, how fast


@given(st.integers(0, 2000), st.integers(1, 300), st.integers(1, 100))
def test_one_frame_in_so_many_is_asked_about_whatever_the_stride(
    frames: int, every: int, stride: int
) -> None:
    looked_at = np.arange(0, frames, stride)
    chosen = looked_at[are_label_frames(looked_at, every, stride)]
    assert len(chosen) <= label_calls(frames, every, stride) <= -(-frames // every)
    if every % stride == 0:
        assert chosen.tolist() == list(range(0, frames, every))
        assert len(chosen) == label_calls(frames, every, stride) == -(-frames // every)
    # Never much longer without labels than asked for.
    assert all(gap < every + stride for gap in np.diff(chosen))


def test_no_frame_is_asked_about_unless_labels_are_wanted() -> None:
    assert not are_label_frames(np.arange(100), 0, 1).any()
    assert label_calls(100, 0, 1) == 0


def test_a_price_is_per_1000_calls_and_a_limit_buys_whole_calls() -> None:
    assert price_usd(1500, 1.0) == 1.5
    assert calls_within(0.003, 1.0) == 3
    assert calls_within(0.0039, 1.0) == 3
    assert calls_within(0.0001, 1.0) == 0
    assert calls_within(2, 0.8) == 2500
    assert calls_within(5, 0.0) is None


def test_no_more_calls_a_second_go_than_are_allowed() -> None:
    now = 100.0
    sleeps = []

    def sleep(seconds: float) -> None:
        nonlocal now
        sleeps.append(round(seconds, 6))
        now += seconds

    limit = RateLimit(4.0, now=lambda: now, sleep=sleep)
    for _ in range(4):
        limit.wait()
    assert sleeps == [0.25, 0.25, 0.25]
    # Who was slow for a while may not catch up in a burst.
    now += 10
    sleeps.clear()
    limit.wait()
    limit.wait()
    assert sleeps == [0.25]


def test_a_budget_ends_and_what_is_given_back_can_be_spent(tmp_path: Path) -> None:
    budget = Budget(tmp_path, "one", 2)
    assert [budget.take() for _ in range(3)] == [True, True, False]
    budget.give_back()
    assert [budget.take(), budget.take()] == [True, False]
    assert not Budget(tmp_path, "two", 0).take()
    unlimited = Budget(tmp_path / "other", "one", None)
    assert all(unlimited.take() for _ in range(5))
    assert not (tmp_path / "other").exists()


def spend(output: Path, camera_id: str, attempt_id: str, calls: int) -> None:
    """Have a start of a run be on disk with calls that it made."""
    ledger = LabelLedger(output, camera_id)
    state = ledger.state()
    made = Counter(state.lost_calls) + Counter({attempt_id: calls})
    ledger.commit(replace(state, lost_calls=dict(made)))


def take_all(budget: Budget, most: int = 1000) -> int:
    return next(n for n in range(most) if not budget.take())


def test_runs_side_by_side_and_starts_anew_stay_within_one_limit_together(tmp_path: Path) -> None:
    with Leases(tmp_path, "one").held(["a"]), Leases(tmp_path, "two").held(["b"]):
        one, two = (Budget(tmp_path, name, 100) for name in ("one", "two"))
        for _ in range(10):
            assert one.take()
            assert two.take()
        # The rest of what the one has taken is not the other's, until the one has ended.
        assert 10 + take_all(two) == 75
        spend(tmp_path, "a", "one", 10)
        one.end()
        assert take_all(two) == 15
        spend(tmp_path, "b", "two", 90)
        # One that is killed and starts anew gets nothing twice.
        with Leases(tmp_path, "three").held(["c"]):
            assert take_all(Budget(tmp_path, "three", 100)) == 0
            two.end()
            for _ in range(5):
                assert take_all(Budget(tmp_path, "three", 100)) == 0
            assert take_all(Budget(tmp_path, "three", 107)) == 7
            spend(tmp_path, "c", "three", 7)
    for name in ("four", "five"):
        assert take_all(Budget(tmp_path, name, 107)) == 0
    assert calls_made(tmp_path) == 107


def test_what_the_dead_had_taken_is_to_be_had_again_but_for_the_calls_that_they_made(
    tmp_path: Path,
) -> None:
    with Leases(tmp_path, "dead").held(["a"]):
        assert all(Budget(tmp_path, "dead", 100).take() for _ in range(4))
        spend(tmp_path, "a", "dead", 4)
        with Leases(tmp_path, "new").held(["b"]):
            assert take_all(Budget(tmp_path, "new", 100)) == 75
    # It left without a word of the rest.
    assert take_all(Budget(tmp_path, "newer", 100)) == 96


def test_runs_that_take_at_once_never_come_to_more_than_the_limit(tmp_path: Path) -> None:
    taken: list[int] = []

    def run(name: str) -> None:
        with Leases(tmp_path, name).held([name]):
            budget = Budget(tmp_path, name, 200)
            taken.append(take_all(budget))
            gate.wait(30)

    gate = threading.Barrier(4)
    threads = [threading.Thread(target=run, args=(f"run{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(taken) == 200


# --- pictures


def opened(jpeg: bytes) -> np.ndarray:
    packet = av.Packet(jpeg)
    (picture,) = av.CodecContext.create("mjpeg", "r").decode(packet)
    return picture.to_ndarray(format="rgb24")


def test_a_picture_of_noise_is_made_a_jpeg_that_rekognition_takes() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (3000, 4000, 3), np.uint8)
    jpeg = to_jpeg(noise, MOST_JPEG_BYTES)
    # Quality is what it costs, as long as that does.
    assert len(jpeg) <= MOST_JPEG_BYTES
    assert opened(jpeg).shape == (3000, 4000, 3)
    smaller = to_jpeg(noise, 500_000)
    assert len(smaller) <= 500_000
    height, width, _ = opened(smaller).shape
    assert width < 4000
    assert width / height == pytest.approx(4 / 3, rel=0.01)


def test_an_ordinary_picture_is_hardly_changed() -> None:
    x, y = np.meshgrid(np.arange(321), np.arange(201))
    picture = np.stack([x % 256, y % 256, (x + y) % 256], axis=2).astype(np.uint8) // 2 + 60
    difference = np.abs(opened(to_jpeg(picture, MOST_JPEG_BYTES)).astype(int) - picture)
    assert difference.mean() < 3


# --- what waits


def test_a_backlog_keeps_order_over_memory_and_file_and_refuses_what_has_no_room() -> None:
    backlog = Backlog(memory_bytes=100, spool_bytes=100)
    waiting = [
        Waiting(footage=footage(), frame=frame(n, jpeg=bytes([n]) * 40), since=0.0)
        for n in range(6)
    ]
    assert [backlog.put(each) for each in waiting] == [True] * 4 + [False] * 2
    assert [backlog.take() for _ in range(5)] == [*waiting[:4], None]
    # All of it is free again.
    assert [backlog.put(each) for each in waiting] == [True] * 4 + [False] * 2
    first = backlog.take()
    assert first is not None
    backlog.put_back(first)
    assert [backlog.take() for _ in range(4)] == waiting[:4]


# --- what lasts


def test_answers_become_a_table_that_says_whose_and_when(tmp_path: Path) -> None:
    label(settings(tmp_path), Service(), [0, 60])
    rows = table(tmp_path)
    assert len(rows) == 6
    by_frame = [row for row in rows if row["frame_index"] == 60]
    expected = list(rows_of(answer_to(b"jpeg 60"), 400, 200))
    for row, told in zip(by_frame, expected, strict=True):
        assert {key: row[key] for key in ("name", "parents", "model_version")} == {
            key: told[key] for key in ("name", "parents", "model_version")
        }
        assert row["confidence"] == pytest.approx(told["confidence"])
        assert row["x_max"] == pytest.approx(told["x_max"])
    assert {
        (row["camera_id"], row["source_uri"], row["video_track"], str(row["date"])) for row in rows
    } == {("door", URI, 0, "2026-01-15")}
    assert by_frame[0]["pts_s"] == 2.4
    assert by_frame[0]["timestamp"].astimezone(UTC) == datetime(
        2026, 1, 15, 0, 0, 2, 400_000, tzinfo=UTC
    )
    (measured,) = duckdb.execute(
        "select step, frames, bytes from read_parquet(?)", [f"{tmp_path}/metrics/*.parquet"]
    ).fetchall()
    assert measured == ("aws_detection", 2, len(b"jpeg 0") + len(b"jpeg 60"))
    assert not list((tmp_path / "ledger" / "camera_id=door" / "labels").iterdir())
    assert verify(tmp_path).problems == []


def test_nothing_that_was_answered_is_asked_about_again_not_even_without_a_label(
    tmp_path: Path,
) -> None:
    class Blank(Service):
        def detect_labels(self, jpeg: bytes) -> dict[str, Any]:
            super().detect_labels(jpeg)
            return {"Labels": [], "LabelModelVersion": "3.0"}

    label(settings(tmp_path), Blank(), [0, 60, 60])
    again = Service()
    label(settings(tmp_path, "second"), again, [0, 60, 120])
    assert again.asked == [b"jpeg 120"]
    assert labelled(tmp_path) == {120}
    assert calls_made(tmp_path) == 3
    assert (calls_made(tmp_path, "first"), calls_made(tmp_path, "second")) == (2, 1)


def test_what_a_dead_process_had_asked_is_told_as_lost_and_what_it_had_got_is_kept(
    tmp_path: Path,
) -> None:
    dead = LabelLog(settings(tmp_path, "dead"), "door")
    dead.claim(("p0", 0))
    dead.ask(footage(), frame(0))
    dead.answer(footage(), frame(0), answer_to(b"jpeg 0"), Stopwatch("x").span(frames=1))
    dead.claim(("p0", 60))
    dead.ask(footage(), frame(60))
    # It died here.
    assert calls_made(tmp_path) == 2
    service = Service()
    label(settings(tmp_path), service, [0, 60, 120])
    assert service.asked == [b"jpeg 120"]
    assert labelled(tmp_path) == {0, 120}
    ((first, last, count, message),) = failures(tmp_path)
    assert (first, last, count) == (60, 60, 1)
    assert "lost with the process" in message
    assert "footfall retry" in message
    assert [row["step"] for row in table(tmp_path, "failures")] == ["labels"]
    assert calls_made(tmp_path) == 3
    # It is paid for once more when somebody asks for it, and counted twice.
    label(settings(tmp_path, "retried"), service, [0, 60, 120], retry=["p0"])
    assert service.asked == [b"jpeg 120", b"jpeg 60"]
    assert (labelled(tmp_path), failures(tmp_path)) == ({0, 60, 120}, [])
    assert not list((tmp_path / "failures").glob("*"))
    assert calls_made(tmp_path) == 4
    assert verify(tmp_path).problems == []


def test_a_death_between_an_answer_and_its_table_costs_nothing(tmp_path: Path) -> None:
    log = LabelLog(settings(tmp_path), "door")
    for number in (0, 60):
        log.claim(("p0", number))
        log.ask(footage(), frame(number))
        log.answer(footage(), frame(number), answer_to(b"x"), Stopwatch("x").span(frames=1))
    noted = [(key, log._ledger.answer(key)) for key in log._ledger.answers()]
    log.gather()
    # As if it had died before the answers that the entry holds were removed, with another half written.
    log._ledger.note_answer(*noted[0])
    (tmp_path / "labels" / "camera_id=door" / "dead.parquet.partial").write_text("half")
    label(settings(tmp_path, "second"), Service(), [0, 60])
    assert len(table(tmp_path)) == 6
    assert verify(tmp_path).problems == []
    assert calls_made(tmp_path) == 2


def test_a_changed_file_of_labels_is_found(tmp_path: Path) -> None:
    label(settings(tmp_path), Service(), [0, 60])
    (file,) = (tmp_path / "labels").rglob("*.parquet")
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    (problem,) = verify(tmp_path).problems
    assert problem.where == str(file)
    entry = tmp_path / "ledger" / "camera_id=door" / "labels-000000.json"
    entry.write_bytes(entry.read_bytes().replace(b"[0, 60]", b"[0, 61]"))
    with pytest.raises(OutputError, match="is damaged"):
        LabelLedger(tmp_path, "door").entries()


def test_labels_of_a_recording_that_changed_go_and_their_calls_stay_counted(
    tmp_path: Path,
) -> None:
    how = settings(tmp_path)
    labeller = Labeller(how, ["door"], service=lambda _: Service())
    labeller.take(footage(), [frame(0), frame(60)])
    labeller.take(footage(uri="/archive/other.mkv", pictures="p9"), [frame(0)])
    labeller.close()
    tidy_labels(how, "door", {(URI, 0): ("door", "p1")})
    assert {row["source_uri"] for row in table(tmp_path)} == {"/archive/other.mkv"}
    assert calls_made(tmp_path) == 3
    assert verify(tmp_path).problems == []
    new = Service()
    labeller = Labeller(settings(tmp_path, "second"), ["door"], service=lambda _: new)
    labeller.take(footage(pictures="p1"), [frame(0)])
    labeller.close()
    assert new.asked == [b"jpeg 0"]


def test_labels_follow_footage_that_gets_another_camera_unpaid(tmp_path: Path) -> None:
    label(settings(tmp_path), Service(), [0, 60])
    before = [row["name"] for row in table(tmp_path)]
    present = {(URI, 0): ("gate", "p0")}
    # The other one first: the order does not count.
    for camera_id in ("gate", "door"):
        tidy_labels(settings(tmp_path), camera_id, present)
    rows = table(tmp_path)
    assert {row["camera_id"] for row in rows} == {"gate"}
    assert sorted(row["name"] for row in rows) == sorted(before)
    service = Service()
    labeller = Labeller(settings(tmp_path, "second"), ["gate"], service=lambda _: service)
    labeller.take(footage("gate"), [frame(0), frame(60)])
    labeller.close()
    assert service.asked == []
    assert calls_made(tmp_path) == 2
    assert verify(tmp_path).problems == []


# --- when it does not go well


def test_the_limit_on_cost_is_a_hard_stop_over_all_starts(tmp_path: Path) -> None:
    service = Service()
    label(settings(tmp_path, most_calls=3), service, range(0, 600, 60))
    assert len(service.asked) == calls_made(tmp_path) == 3
    # Which ones is chance; the others say why not.
    assert sum(count for *_, count, _ in failures(tmp_path)) == 7
    assert all("aws_max_cost = 1 USD" in message for *_, message in failures(tmp_path))
    # Started again, with nothing left to spend.
    label(settings(tmp_path, "second", most_calls=3), service, range(0, 600, 60))
    assert len(service.asked) == 3
    # With more to spend, they are asked about without being failures first.
    label(settings(tmp_path, "third", most_calls=7), service, range(0, 600, 60))
    assert len(service.asked) == len(set(service.asked)) == 7
    assert sum(count for *_, count, _ in failures(tmp_path)) == 3


def test_a_labeller_that_is_started_again_in_a_run_goes_on_with_its_budget(tmp_path: Path) -> None:
    service = Service()
    for _ in range(2):
        label(settings(tmp_path, "same", most_calls=4), service, range(0, 600, 60))
    assert len(service.asked) == 4


def test_a_service_that_is_away_fails_what_waits_at_the_end_and_retry_gets_it(
    tmp_path: Path,
) -> None:
    away = Service(lambda *_: LabelsError("Rekognition: nobody there", kind="away"))
    began = time.monotonic()
    totals = label(settings(tmp_path), away, range(0, 600, 60))
    assert time.monotonic() - began < 5
    assert "nobody there" in totals.away
    # Neighbours that failed alike are one row.
    assert failures(tmp_path) == [(0, 540, 10, "Rekognition: nobody there")]
    assert calls_made(tmp_path) == 0
    # By itself nobody asks again.
    service = Service()
    label(settings(tmp_path, "second"), service, range(0, 600, 60))
    assert service.asked == []
    label(settings(tmp_path, "third"), service, range(0, 600, 60), retry=["p0"])
    assert len(service.asked) == 10
    assert (failures(tmp_path), len(labelled(tmp_path))) == ([], 10)


def test_a_service_that_was_away_for_a_while_costs_no_label(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(labeller_module, "_LONGEST_PAUSE_S", 0.2)
    back_at = time.monotonic() + 0.5

    def fail(*_: Any) -> LabelsError | None:
        is_away = time.monotonic() < back_at
        return LabelsError("away", kind="away") if is_away else None

    service = Service(fail)
    labeller = Labeller(settings(tmp_path), ["door"], service=lambda _: service)
    labeller.take(footage(), [frame(number) for number in range(0, 600, 60)])
    assert labeller.wait(below=1, seconds=10)
    labeller.close()
    assert (failures(tmp_path), len(labelled(tmp_path))) == ([], 10)
    assert calls_made(tmp_path) == 10


def test_what_is_throttled_is_asked_again_and_costs_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(labeller_module, "_FIRST_PAUSE_S", 0.01)
    tries: dict[bytes, int] = {}

    def fail(jpeg: bytes, _: int) -> LabelsError | None:
        tries[jpeg] = tries.get(jpeg, 0) + 1
        return LabelsError("too fast", kind="throttled") if tries[jpeg] < 4 else None

    label(settings(tmp_path, most_calls=10), Service(fail), range(0, 600, 60))
    assert set(tries.values()) == {4}
    assert (failures(tmp_path), len(labelled(tmp_path))) == ([], 10)
    assert calls_made(tmp_path) == 10


def test_at_the_end_one_blip_of_a_service_that_has_answered_costs_no_label(tmp_path: Path) -> None:
    def fail(_: bytes, count: int) -> LabelsError | None:
        return LabelsError("no such host", kind="away") if count in (4, 5) else None

    totals = label(settings(tmp_path), Service(fail), range(0, 600, 60))
    assert totals == LabelTotals(calls=10)
    assert (failures(tmp_path), len(labelled(tmp_path))) == ([], 10)


def test_an_answer_that_never_came_is_not_asked_for_twice(tmp_path: Path) -> None:
    def fail(jpeg: bytes, _: int) -> LabelsError | None:
        return LabelsError("read timed out", kind="lost") if jpeg == b"jpeg 60" else None

    service = Service(fail)
    label(settings(tmp_path), service, [60])
    label(settings(tmp_path, "second"), service, [60, 120])
    assert service.asked == [b"jpeg 60", b"jpeg 120"]
    assert failures(tmp_path) == [(60, 60, 1, "read timed out")]
    # It may have been paid.
    assert calls_made(tmp_path) == 2


def test_a_picture_that_cannot_be_made_fails_alone(tmp_path: Path) -> None:
    labeller = Labeller(settings(tmp_path), ["door"], service=lambda _: Service())
    bad = LabelFrame(frame_index=0, pts_s=0.0, jpeg=b"", reason="cannot be made a JPEG: why")
    labeller.take(footage(), [bad, frame(60)])
    labeller.close()
    assert failures(tmp_path) == [(0, 0, 1, "cannot be made a JPEG: why")]
    assert labelled(tmp_path) == {60}


def test_a_full_backlog_lets_pictures_go_and_nothing_is_known_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = threading.Event()

    class Slow(Service):
        def detect_labels(self, jpeg: bytes) -> dict[str, Any]:
            gate.wait(10)
            return super().detect_labels(jpeg)

    monkeypatch.setattr(labeller_module, "Backlog", lambda: Backlog(40, 40))
    labeller = Labeller(
        replace(settings(tmp_path), max_tps=1.0), ["door"], service=lambda _: Slow()
    )
    let_go = labeller.take(footage(), [frame(n, jpeg=b"x" * 30) for n in range(0, 600, 60)])
    assert let_go > 0
    known = [n for n in range(0, 600, 60) if labeller.logs["door"].knows(("p0", n))]
    assert len(known) == 10 - let_go
    gate.set()
    labeller.end()
    monkeypatch.undo()


def test_a_disk_that_refuses_ends_the_run_and_not_in_silence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise OutputError("the disk is full")

    monkeypatch.setattr(LabelLedger, "note_asked", refuse)
    labeller = Labeller(settings(tmp_path), ["door"], service=lambda _: Service())
    labeller.take(footage(), [frame(0), frame(60)])
    with pytest.raises(OutputError, match="disk is full"):
        labeller.close()


def test_errors_of_aws_are_told_apart_by_what_they_mean() -> None:
    from botocore.exceptions import (
        ClientError,
        EndpointConnectionError,
        NoCredentialsError,
        ReadTimeoutError,
    )

    def client_error(code: str) -> ClientError:
        return ClientError({"Error": {"Code": code}}, "DetectLabels")

    assert kind_of(client_error("ThrottlingException")) == "throttled"
    assert kind_of(client_error("ProvisionedThroughputExceededException")) == "throttled"
    assert kind_of(client_error("InvalidImageFormatException")) == "refused"
    assert kind_of(client_error("AccessDeniedException")) == "away"
    assert kind_of(client_error("InternalServerError")) == "lost"
    assert kind_of(EndpointConnectionError(endpoint_url="http://x")) == "away"
    assert kind_of(NoCredentialsError()) == "away"
    assert kind_of(ReadTimeoutError(endpoint_url="http://x")) == "lost"
