"""One run at a time works on a camera, and a dead one keeps nobody waiting for ever."""

import json
import multiprocessing
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import psutil
import pytest

from pipeline import lease
from pipeline.atomic import write_whole
from pipeline.camera_log import CameraLog
from pipeline.errors import OutputError
from pipeline.lease import (
    Holder,
    Leases,
    check_held,
    holder_of,
    lease_of,
    sweep_attempts,
    workers,
)
from pipeline.resume import prepare
from tests.property import archive as a

DEAD_AFTER_S = 0.5


@pytest.fixture(autouse=True)
def fast_hearts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "HEARTBEAT_S", 0.05)
    monkeypatch.setattr(lease, "DEAD_AFTER_S", DEAD_AFTER_S)
    monkeypatch.setattr(lease, "_LOOK_EVERY_S", 0.02)


def left(output: Path) -> list[str]:
    return [name for name in a.files(output) if not name.endswith(".lock")]


def here() -> Holder:
    process = psutil.Process()
    return Holder(
        attempt_id="old",
        host="here",
        machine=lease._machine(),
        pid=process.pid,
        process_started=process.create_time(),
    )


def leave_behind(output: Path, holder: Holder, *cameras: str) -> Path:
    """Write what a holder has written when it dies; return the file of its attempt."""
    attempt = output / "ledger" / "attempts" / f"{holder.attempt_id}.json"
    write_whole(attempt, json.dumps(asdict(holder)).encode())
    for camera in cameras:
        path = output / "ledger" / f"camera_id={camera}" / "lease.json"
        write_whole(path, json.dumps({"attempt_id": holder.attempt_id}).encode())
    return attempt


def dead_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


@contextmanager
def beating(path: Path) -> Iterator[None]:
    """Touch a file as its living holder does."""
    done = threading.Event()

    def beat() -> None:
        while not done.wait(0.05):
            os.utime(path)

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def test_cameras_are_held_for_as_long_as_the_work_lasts_and_nothing_is_left_behind(
    tmp_path: Path,
) -> None:
    with Leases(tmp_path, "one").held(["door", "../yard", "door"]):
        assert [lease_of(tmp_path, c) for c in ("door", "../yard", "x")] == ["one", "one", None]
        assert [holder.attempt_id for holder in workers(tmp_path)] == ["one"]
        holder = holder_of(tmp_path, "door")
        assert holder is not None
        assert (holder.pid, holder.is_gone) == (os.getpid(), False)
        check_held(tmp_path, "door", "one")
    assert left(tmp_path) == []
    assert workers(tmp_path) == []


def test_leases_are_given_up_when_the_work_fails(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), Leases(tmp_path, "one").held(["door"]):
        _ = 1 / 0
    assert left(tmp_path) == []


def test_a_second_run_on_a_camera_is_refused_while_the_first_lives(tmp_path: Path) -> None:
    with Leases(tmp_path, "one").held(["b"]):
        with (
            pytest.raises(OutputError, match=f"'b'.*process {os.getpid()}"),
            Leases(tmp_path, "two").held(["a", "b", "c"]),
        ):
            raise AssertionError
        assert [lease_of(tmp_path, c) for c in "abc"] == [None, "one", None]
        check_held(tmp_path, "b", "one")
        with Leases(tmp_path, "two").held(["a", "c"]):
            assert [lease_of(tmp_path, c) for c in "abc"] == ["two", "one", "two"]
    with Leases(tmp_path, "two").held(["b"]):
        assert lease_of(tmp_path, "b") == "two"
    assert left(tmp_path) == []


def test_a_holder_on_another_machine_is_waited_for_only_until_its_heart_was_felt(
    tmp_path: Path,
) -> None:
    attempt = leave_behind(tmp_path, replace(here(), machine="elsewhere", host="far"), "door")
    began = time.monotonic()
    with (
        beating(attempt),
        pytest.raises(OutputError, match="on far"),
        Leases(tmp_path, "new").held(["door"]),
    ):
        raise AssertionError
    assert time.monotonic() - began < DEAD_AFTER_S
    assert lease_of(tmp_path, "door") == "old"


def test_who_is_at_work_on_another_machine_is_known_by_the_heart_whatever_the_clocks_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "DEAD_AFTER_S", 6.0)
    attempt = leave_behind(tmp_path, replace(here(), machine="elsewhere", host="far"), "door")
    # Clocks that differ by an hour, one way or the other.
    for skew_s in (-3600, 3600):
        os.utime(attempt, (time.time() + skew_s,) * 2)
        assert workers(tmp_path) == []
    with beating(attempt):
        assert [holder.host for holder in workers(tmp_path)] == ["far"]


@pytest.mark.parametrize("dead", ["gone", "its number given again"])
def test_a_holder_whose_process_is_gone_from_this_machine_is_taken_over_at_once(
    tmp_path: Path, dead: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "DEAD_AFTER_S", 60.0)
    holder = replace(here(), pid=dead_process()) if dead == "gone" else here()
    if dead != "gone":
        holder = replace(holder, process_started=holder.process_started - 100)
    leave_behind(tmp_path, holder, "door", "yard")
    assert workers(tmp_path) == []
    began = time.monotonic()
    with Leases(tmp_path, "new").held(["door", "yard"]):
        assert time.monotonic() - began < 1
        assert [lease_of(tmp_path, c) for c in ("door", "yard")] == ["new", "new"]
    assert left(tmp_path) == []


def test_a_process_that_is_killed_leaves_a_lease_that_the_next_run_takes(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from pipeline.lease import Leases\n"
        "with Leases(Path(sys.argv[1]), 'first').held(['door']):\n"
        "    print('held', flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == b"held\n"
        assert lease_of(tmp_path, "door") == "first"
        first.kill()
    assert lease_of(tmp_path, "door") == "first"
    with Leases(tmp_path, "second").held(["door"]):
        check_held(tmp_path, "door", "second")
    assert left(tmp_path) == []


def test_a_holder_on_another_machine_whose_heart_stopped_is_taken_over_after_a_while(
    tmp_path: Path,
) -> None:
    attempt = leave_behind(tmp_path, replace(here(), machine="elsewhere"), "door")
    # Its clock is wrong by a day: only what is seen from here counts.
    os.utime(attempt, (time.time() + 86_400,) * 2)
    began = time.monotonic()
    with Leases(tmp_path, "new").held(["door"]):
        assert time.monotonic() - began > DEAD_AFTER_S
        check_held(tmp_path, "door", "new")
        with pytest.raises(OutputError, match=r"'door'.*taken over"):
            check_held(tmp_path, "door", "old")


def test_a_lease_whose_holder_left_no_name_is_free(tmp_path: Path) -> None:
    leave_behind(tmp_path, here(), "door").unlink()
    with Leases(tmp_path, "new").held(["door"]):
        assert lease_of(tmp_path, "door") == "new"
    assert left(tmp_path) == []


def newcomer(output: str, name: str, gate: object, got: object) -> None:
    """Try to take a dead run's camera, as a process of its own."""
    lease.HEARTBEAT_S, lease.DEAD_AFTER_S, lease._LOOK_EVERY_S = 0.05, DEAD_AFTER_S, 0.02
    gate.wait()  # type: ignore[attr-defined]
    try:
        with Leases(Path(output), name).held(["door"]):
            got.put((name, True))  # type: ignore[attr-defined]
            time.sleep(1)
    except OutputError:
        got.put((name, False))  # type: ignore[attr-defined]


@pytest.mark.parametrize("is_far", [False, True], ids=["on this machine", "on another machine"])
def test_of_newcomers_who_race_for_a_dead_run_s_camera_exactly_one_gets_it(
    tmp_path: Path, is_far: bool
) -> None:
    holder = replace(here(), machine="elsewhere") if is_far else replace(here(), pid=dead_process())
    leave_behind(tmp_path, holder, "door")
    context = multiprocessing.get_context("fork")
    gate, got = context.Barrier(3), context.Queue()
    racers = [
        context.Process(target=newcomer, args=(str(tmp_path), f"new{n}", gate, got))
        for n in range(3)
    ]
    for racer in racers:
        racer.start()
    verdicts = [got.get(timeout=60)[1] for _ in racers]
    for racer in racers:
        racer.join()
    assert sorted(verdicts) == [False, False, True]
    assert [name for name in left(tmp_path) if "old" not in name] == []


def test_what_dead_starts_left_of_themselves_is_swept_and_the_living_are_left_alone(
    tmp_path: Path,
) -> None:
    dead = leave_behind(tmp_path, replace(here(), attempt_id="dead", pid=dead_process()))
    living = leave_behind(tmp_path, replace(here(), attempt_id="living"))
    far = leave_behind(tmp_path, replace(here(), attempt_id="far", machine="elsewhere"))
    sweep_attempts(tmp_path)
    assert [path.exists() for path in (dead, living, far)] == [False, True, True]


def test_a_run_that_lost_its_camera_commits_nothing_more_and_sweeps_nothing(
    tmp_path: Path,
) -> None:
    footages = [a.recording("a", 0), a.recording("b", 3)]
    tail = prepare(tmp_path, "door", footages, a.TRACK_HASH).tail
    assert tail is not None
    sleeper = CameraLog(tail, a.log_settings(tmp_path, attempt_id="old"))
    for arrival in a.whole(tail.footages[0]):
        sleeper.push(arrival)
    leave_behind(tmp_path, replace(here(), pid=dead_process()), "door")
    with Leases(tmp_path, "new").held(["door"]):
        second = prepare(tmp_path, "door", footages, a.TRACK_HASH).tail
        assert second is not None
        log = CameraLog(second, a.log_settings(tmp_path, attempt_id="new"))
        log.push(a.detect(second.footages[1], 2))
        staged = a.files(tmp_path / "staging")
        with pytest.raises(OutputError, match="taken over"):
            a.feed(sleeper, tail)
        with pytest.raises(OutputError, match="taken over"):
            sleeper.close()
        assert set(a.files(tmp_path / "staging")) >= set(staged)
        a.feed(log, second)
        log.close()
    expected = tmp_path / "at once"
    a.run(expected, footages)
    assert a.tables(tmp_path) == a.tables(expected)
    a.check_tidy(tmp_path)


def test_a_run_that_slept_through_all_of_another_s_commits_nothing(tmp_path: Path) -> None:
    """The other has given its lease back: only the ledger tells."""
    output, footages = tmp_path / "slept", [a.recording("a", 0), a.recording("b", 3)]
    tail = prepare(output, "door", footages, a.TRACK_HASH).tail
    assert tail is not None
    sleeper = CameraLog(tail, a.log_settings(output, attempt_id="old"))
    for arrival in a.whole(tail.footages[0]):
        sleeper.push(arrival)
    a.run(output, footages)
    with pytest.raises(OutputError, match="door"):
        a.feed(sleeper, tail)
    with pytest.raises(OutputError, match="door"):
        sleeper.close()
    a.run(output, footages)
    a.run(tmp_path / "at once", footages)
    assert a.tables(output) == a.tables(tmp_path / "at once")
    a.check_tidy(output)
