"""Memory: what is measured of processes, which of them leak, and how a process stays small."""

import importlib
import itertools
import math
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from cluster import upkeep
from cluster.meter import (
    MIB,
    MemoryMeter,
    Usage,
    _Resident,
    check_memory_limit,
    cleanup_memory,
    family,
)
from cluster.pace import Turn
from cluster.telemetry import Leaks, NodeMonitor, all_of_driver
from cluster.upkeep import Upkeep
from pipeline.light import keep_out

ROOT = Path(__file__).parents[2]
BOUND = 100 * MIB


def test_a_monitor_that_cannot_go_on_says_so_once_and_ends_at_once(caplog):
    def gone():
        raise OSError("the node is gone")

    monitor = NodeMonitor("run", "node", gone, BOUND, lambda *_: None, lambda: 0)
    monitor.stop()
    said = [record.getMessage() for record in caplog.records]
    assert said == ["Memory is not watched any more: the node is gone"]
    assert not monitor._thread.is_alive()


def test_a_monitor_of_this_process_tells_its_memory_until_it_is_stopped():
    monitor = NodeMonitor("run", "node", all_of_driver, BOUND, lambda *_: None, lambda: 0)
    assert monitor.settle().pss_mb > 10
    monitor.stop()
    assert monitor.take()
    assert monitor.take() == []


def test_what_was_spilled_is_asked_of_ray_now_and_then_and_whenever_all_is_measured_anew():
    spilled = itertools.count(0, 3 * MIB)
    monitor = NodeMonitor(
        "run", "node", all_of_driver, BOUND, lambda *_: None, lambda: next(spilled)
    )
    monitor.stop()
    seldom = [monitor.sample().spilled_mb for _ in range(3)]
    assert len(set(seldom)) == 1
    assert [monitor.sample_anew().spilled_mb for _ in range(2)] == [seldom[0] + 3, seldom[0] + 6]


class Watched:
    """Processes that are looked at each second."""

    def __init__(self):
        self.now_s = 500.0
        self.leaks = Leaks(BOUND, lambda: self.now_s)

    def see(self, seconds, **mib):
        """Let seconds pass with the same sizes, in MiB by name; return what was found each time."""
        found = []
        for _ in range(seconds):
            found.append(self.leaks.find({int(pid[1:]): size * MIB for pid, size in mib.items()}))
            self.now_s += 1
        return found


def settled(**mib):
    """Return processes that have been there for long enough to be judged."""
    watched = Watched()
    assert watched.see(11, **mib) == [[]] * 11
    return watched


def test_a_process_that_is_still_loading_is_not_judged():
    watched = Watched()
    sizes = [50 * second for second in range(10)]
    assert [watched.see(1, p1=size) for size in sizes] == [[[]]] * 10
    # What it has when it is through is its level.
    assert watched.see(20, p1=600) == [[]] * 20


def test_what_a_process_has_when_all_are_settled_is_its_level_however_young_it_is():
    watched = Watched()
    watched.see(1, p1=50)
    watched.leaks.settle({1: 80 * MIB})
    assert watched.see(5, p1=181, p2=900)[-1] == [(1, 101 * MIB)]
    # Those that come later load first.
    assert watched.see(15, p1=80, p2=900) == [[]] * 15


def test_a_process_that_stays_beyond_its_bound_for_five_samples_is_found_with_its_growth():
    watched = settled(p1=200)
    assert watched.see(5, p1=301) == [[]] * 4 + [[(1, 101 * MIB)]]


def test_growth_up_to_the_bound_is_explained():
    watched = settled(p1=200)
    assert watched.see(30, p1=300) == [[]] * 30


def test_memory_that_is_given_back_in_between_does_not_count():
    watched = settled(p1=200)
    for _ in range(5):
        assert watched.see(4, p1=400) == [[]] * 4
        assert watched.see(1, p1=250) == [[]]


def test_a_process_is_found_again_until_it_is_gone():
    watched = settled(p1=200)
    watched.see(4, p1=400)
    assert watched.see(3, p1=400) == [[(1, 200 * MIB)]] * 3


def test_a_process_that_is_gone_is_forgotten_and_one_of_its_number_is_young_again():
    watched = settled(p1=200)
    watched.see(4, p1=400)
    assert watched.see(1) == [[]]
    assert watched.see(15, p1=900) == [[]] * 15


def test_processes_are_judged_one_by_one():
    watched = settled(p1=200, p2=50, p3=10)
    assert watched.see(5, p1=400, p2=60, p3=200)[-1] == [(1, 200 * MIB), (3, 190 * MIB)]


@pytest.fixture
def cleanups(monkeypatch):
    """Count the times that memory is cleaned up; each frees nothing."""
    done = []
    monkeypatch.setattr(upkeep, "cleanup_memory", lambda: done.append(1) or 0)
    return done


def turn(increase_mb, limit_mb=1000):
    return Turn(failed=0, batch_size=10, increase_mb=increase_mb, limit_mb=limit_mb)


def test_memory_is_checked_every_fifty_frames_and_what_it_took_is_a_span(cleanups):
    keep = Upkeep()
    checks = [keep.check(10, turn(0.0)) for _ in range(15)]
    assert [len(spans) for spans in checks] == [0, 0, 0, 0, 1] * 3
    (span,) = checks[4]
    assert (span.step, span.frames, span.pid) == ("memory", 0, os.getpid())
    assert span.wall_s >= 0
    assert cleanups == []


def test_a_segment_of_many_frames_is_checked_once():
    keep = Upkeep()
    assert [len(keep.check(frames, turn(0.0))) for frames in (49, 1, 300, 49)] == [0, 1, 1, 0]


@pytest.mark.parametrize(
    ("increase_mb", "cleans"),
    [(-5.0, 0), (0.0, 0), (799.9, 0), (800.1, 1), (1100.0, 1), (math.nan, 1), (math.inf, 1)],
)
def test_a_process_cleans_up_only_near_the_limit(cleanups, increase_mb, cleans):
    keep = Upkeep()
    keep.check(49, turn(increase_mb))
    assert cleanups == []
    keep.check(1, turn(increase_mb))
    assert len(cleanups) == cleans


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Return the name of a package that is installed, and not imported."""
    name = "footfall_test_package"
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").write_text("")
    (tmp_path / name / "inner.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    yield name
    for each in (name, f"{name}.inner"):
        sys.modules.pop(each, None)


def test_a_package_that_is_kept_out_looks_as_if_it_were_not_installed(package):
    importlib.import_module(package)
    del sys.modules[package]
    keep_out(package)
    for name in (package, f"{package}.inner"):
        with pytest.raises(ModuleNotFoundError) as raised:
            importlib.import_module(name)
        assert raised.value.name == package
    assert importlib.import_module("json")


def test_a_package_that_is_loaded_stays_when_it_is_kept_out(package):
    loaded = importlib.import_module(package)
    keep_out(package)
    assert importlib.import_module(package) is loaded
    assert importlib.import_module(f"{package}.inner")


def test_keeping_out_a_package_twice_is_keeping_it_out_once(package):
    keep_out(package)
    finders = list(sys.meta_path)
    keep_out(package)
    assert sys.meta_path == finders


_ARRAY_WITHOUT_PANDAS = """
import importlib.util, sys
import pyarrow as pa
from pipeline.light import keep_out

assert importlib.util.find_spec("pandas"), "pandas is not installed: this would show nothing"
keep_out("pandas")
rows = pa.table({"a": [1, 2], "b": ["x", None]})
assert rows.to_pylist() == [{"a": 1, "b": "x"}, {"a": 2, "b": None}]
assert rows.column("a").to_numpy().tolist() == [1, 2]
assert not any(name.partition(".")[0] == "pandas" for name in sys.modules)
"""


def test_arrow_works_without_pandas_once_it_is_kept_out():
    done = subprocess.run(
        [sys.executable, "-c", _ARRAY_WITHOUT_PANDAS],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_usages_add_up_part_by_part():
    one = Usage(rss_bytes=1, pss_bytes=20, uss_bytes=300, shared_bytes=4000)
    other = Usage(rss_bytes=5, pss_bytes=60, uss_bytes=700, shared_bytes=8000)
    total = Usage(rss_bytes=6, pss_bytes=80, uss_bytes=1000, shared_bytes=12_000)
    assert one + other == total
    assert sum([one, other], Usage()) == total


@pytest.fixture
def own():
    return psutil.Process()


def test_a_process_has_to_itself_at_most_its_share_and_its_share_is_at_most_all_it_sees(own):
    usage = MemoryMeter(tolerance_bytes=0).measure([own])
    assert 0 < usage.uss_bytes <= usage.pss_bytes <= usage.rss_bytes
    assert 0 <= usage.shared_bytes <= usage.pss_bytes


def test_what_a_process_touches_is_measured_within_a_few_megabytes(own):
    meter = MemoryMeter(tolerance_bytes=0)
    before = meter.measure([own])
    touched = b"x" * (50 * MIB)
    after = meter.measure([own])
    for part in ("rss_bytes", "pss_bytes", "uss_bytes"):
        grown = getattr(after, part) - getattr(before, part)
        assert grown == pytest.approx(50 * MIB, abs=5 * MIB), part
    assert len(touched) == 50 * MIB


@pytest.mark.parametrize(
    ("restless", "every"), [(True, MemoryMeter.READ_AGAIN), (False, MemoryMeter.READ_STILL)]
)
def test_a_process_that_has_hardly_changed_is_looked_at_anew_only_now_and_then(
    own, monkeypatch, restless, every
):
    read = []
    monkeypatch.setattr("cluster.meter._read_usage", lambda pid: read.append(pid) or Usage())
    sizes = itertools.count(1000)
    monkeypatch.setattr(
        "cluster.meter._read_resident",
        lambda _: _Resident(1 << 30, next(sizes) if restless else 1000),
    )
    meter = MemoryMeter(tolerance_bytes=1 << 20)
    for _ in range(2 * every + 1):
        meter.measure([own])
    assert read == [own.pid] * 3
    meter.measure([own], anew=True)
    assert read == [own.pid] * 4


def test_what_a_process_has_of_its_own_is_known_without_looking_at_it_anew(own, monkeypatch):
    resident = [_Resident(100 * MIB, 10 * MIB), _Resident(130 * MIB, 11 * MIB)]
    resident += [_Resident(90 * MIB, 10 * MIB), _Resident(90 * MIB, 15 * MIB)]
    usages = iter([Usage(rss_bytes=110 * MIB, pss_bytes=105 * MIB), Usage(rss_bytes=105 * MIB)])
    monkeypatch.setattr("cluster.meter._read_resident", lambda _: resident.pop(0))
    monkeypatch.setattr("cluster.meter._read_usage", lambda _: next(usages))
    meter = MemoryMeter(tolerance_bytes=2 * MIB)
    assert [meter.measure([own]).pss_bytes / MIB for _ in range(3)] == [105, 135, 95]
    # Five more that it shares, perhaps.
    assert meter.measure([own]) == Usage(rss_bytes=105 * MIB)


def test_where_one_comes_to_the_object_store_or_leaves_it_all_that_have_some_are_read(monkeypatch):
    store, read = {1: 50 * MIB, 2: 0, 3: 0}, []
    monkeypatch.setattr(
        "cluster.meter._read_resident", lambda pid: _Resident(100 * MIB, 60 * MIB, store[pid])
    )
    monkeypatch.setattr("cluster.meter._read_usage", lambda pid: read.append(pid) or Usage())
    meter = MemoryMeter(tolerance_bytes=2 * MIB)
    processes = [SimpleNamespace(pid=pid) for pid in store]

    def reads(some):
        read.clear()
        meter.measure(some)
        return list(read)

    assert reads(processes) == [1, 2, 3]
    store[2] = MIB
    assert reads(processes) == []
    store[2] = 50 * MIB
    assert reads(processes) == [1, 2]
    assert reads(processes) == []
    assert reads([processes[0], processes[2]]) == [1]
    assert reads([processes[0], processes[2]]) == []


def test_a_process_that_has_ended_counts_nothing(own):
    started = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    child = psutil.Process(started.pid)
    meter = MemoryMeter(tolerance_bytes=0)
    meter.measure([own, child])
    assert set(meter.by_process) == {own.pid, child.pid}
    assert child.pid in {process.pid for process in family(own.pid)}
    started.kill()
    started.wait()
    meter.measure([own, child])
    assert set(meter.by_process) == {own.pid}
    assert family(child.pid) == []


@pytest.mark.parametrize(
    ("usage_mb", "is_within"),
    [(0.0, True), (100.0, True), (100.1, False), (math.nan, False), (math.inf, False)],
)
def test_a_usage_is_within_a_limit_up_to_the_limit(usage_mb, is_within):
    assert check_memory_limit(usage_mb, 100) is is_within


def test_cleaning_up_tells_how_many_objects_it_freed():
    cleanup_memory()
    loop = []
    loop.append(loop)
    del loop
    freed = cleanup_memory()
    assert isinstance(freed, int)
    assert freed >= 1
