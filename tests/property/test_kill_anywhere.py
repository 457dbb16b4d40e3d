"""Whatever dies, wherever it dies: the tables end up as if nothing had been."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline import part
from pipeline.camera_log import CameraLog
from pipeline.holdings import add_up
from pipeline.ledger import CameraLedger
from pipeline.records import Detections, Footage, Gap
from pipeline.resume import prepare
from pipeline.verify import verify
from tests.property import archive as a
from tests.property.deaths import death, no_flushing

DOOR = [
    a.recording("0", segments=1),
    a.recording("1", 0),
    a.recording("2", 3, rate_fps=5.1),
    a.recording("3", 7, segments=2, rate_fps=4.9),
    a.recording("4", 100, segments=2),
]
SEEDS = st.integers(0, 2**32)
# No part is merged, some are, all are.
PART_BYTES = (400.0, 15_000.0, 1e9)


@pytest.fixture(autouse=True, scope="module")
def small_parts() -> Iterator[None]:
    """Commit a part every second segment, and do not wait for the disk."""
    with pytest.MonkeyPatch.context() as patch, no_flushing():
        patch.setattr(part, "FIRST_PART_FRAMES", 8)
        patch.setattr(part, "_DOUBLINGS", 0)
        yield


def arrivals_of(footage: Footage, have: frozenset[int]) -> list[a.Arrival]:
    """Return what comes of a footage: of one a segment dies, the end of another tells a failure."""
    arrivals = a.whole(footage, have)
    if footage.source_uri == DOOR[1].source_uri and 1 not in have:
        died = a.failure(footage, "detect", "it died", 7)
        at = arrivals.index(next(x for x in arrivals[:-1] if x.stretch.segment == 1))
        arrivals[at : at + 1] = [
            Gap(stretch=a.stretch(footage, 1, 0, 3), failure=died),
            a.detect(footage, 1, 3),
        ]
    if footage.source_uri == DOOR[2].source_uri:
        cut_off = (a.failure(footage, "demux", "it is cut off"),)
        arrivals[-1] = replace(a.end_of(footage), failures=cut_off)
    return arrivals


def undisturbed(output: Path, footages: Sequence[Footage], part_bytes: float = 1e9) -> "Log":
    a.run(output, footages, arrivals_of, part_bytes=part_bytes)
    return Log.read(output)


@dataclass(frozen=True)
class Log:
    """What a camera's log amounts to."""

    tables: dict[str, list[dict[str, Any]]]
    frames: list[tuple[str, int]]
    results: dict[tuple[str, int], tuple[Any, ...]]

    @classmethod
    def read(cls, output: Path) -> "Log":
        results = add_up(CameraLedger(output, "door").parts())
        return cls(
            a.tables(output),
            a.frames(output),
            {
                key: (r.status, r.frames, r.frames_failed, r.detections, r.movements, r.tracks)
                for key, r in results.items()
            },
        )


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> Log:
    return undisturbed(tmp_path_factory.mktemp("undisturbed"), DOOR)


def test_the_undisturbed_log_has_what_the_others_are_compared_in(expected: Log) -> None:
    assert {name: len(rows) > 0 for name, rows in expected.tables.items()} == dict.fromkeys(
        a.TABLES, True
    )
    assert {row["date"] for row in expected.tables["movements"]} == {
        "unknown",
        "2026-01-15",
        "2026-01-16",
    }
    assert any(row["is_interpolated"] for row in expected.tables["movements"])
    ways = [(r["first_timestamp"], r["last_timestamp"]) for r in expected.tables["tracks"]]
    lengths_s = [(last - first).total_seconds() for first, last in ways if first]
    assert max(lengths_s) > 4, "tracks go on from one recording to the next"
    messages = {row["message"] for row in expected.tables["failures"]}
    assert messages >= {"it died", "it is cut off", "frame 12 is broken"}


def test_parts_are_many_and_only_their_number_depends_on_their_size(
    tmp_path: Path, expected: Log
) -> None:
    counts = []
    for number, part_bytes in enumerate(PART_BYTES):
        output = tmp_path / str(number)
        assert undisturbed(output, DOOR, part_bytes) == expected
        counts.append(len(CameraLedger(output, "door").parts()))
    assert counts[0] > counts[1] > counts[2] == 1
    assert counts[0] >= 6


def mixed(seed: int) -> a.Make:
    """Return what splits all that comes of a footage anyhow, repeats some of it, and mixes it."""
    random = Random(seed)

    def make(footage: Footage, have: frozenset[int]) -> list[a.Arrival]:
        items: list[a.Arrival] = []
        for arrival in arrivals_of(footage, have):
            if isinstance(arrival, Detections):
                here = arrival.stretch
                cuts = random.sample(range(here.start + 1, here.stop), random.randrange(2))
                edges = [here.start, *sorted(cuts), here.stop]
                items += [a.detect(footage, here.segment, x, y) for x, y in pairwise(edges)]
            else:
                items.append(arrival)
        items += random.sample(items, min(3, len(items)))
        random.shuffle(items)
        return items

    return make


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    seed=SEEDS,
    part_bytes=st.sampled_from(PART_BYTES),
    deaths=st.lists(st.tuples(st.booleans(), st.integers(0, 60)), min_size=1, max_size=5),
)
def test_a_log_that_is_killed_at_any_operation_on_files_loses_and_doubles_nothing(
    tmp_path_factory: pytest.TempPathFactory,
    expected: Log,
    seed: int,
    part_bytes: float,
    deaths: list[tuple[bool, int]],
) -> None:
    output = tmp_path_factory.mktemp("killed")
    make, tail = mixed(seed), None
    for only_the_actor, at in deaths:
        with death(at):
            if tail is None or not only_the_actor:
                tail = None
                tail = prepare(output, "door", DOOR, a.TRACK_HASH).tail
            if tail is not None:
                log = CameraLog(tail, a.log_settings(output, part_bytes=part_bytes))
                a.feed(log, tail, make)
                log.close()
    a.run(output, DOOR, make, part_bytes=part_bytes)
    assert Log.read(output) == expected
    a.check_tidy(output)
    assert verify(output).problems == []
    shutil.rmtree(output)


@settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck))
@given(seed=SEEDS, lives=st.lists(st.integers(0, 30), min_size=1, max_size=8))
def test_an_actor_that_is_made_again_asks_for_no_segment_that_was_whole(
    tmp_path_factory: pytest.TempPathFactory,
    expected: Log,
    seed: int,
    lives: list[int],
) -> None:
    output = tmp_path_factory.mktemp("actors")
    tail, make = a.tail_of(DOOR), mixed(seed)
    done: set[tuple[int, int]] = set()
    for pushes in lives:
        log = CameraLog(tail, a.log_settings(output, part_bytes=400))
        have = {each.footage.sequence: each.have for each in log.missing()}
        assert not [s for s in done if s[0] in have and s[1] not in have[s[0]]]
        arrivals = [x for n, seen in have.items() for x in make(tail.footages[n], seen)]
        for arrival in arrivals[:pushes]:
            if log.push(arrival).segments:
                done.add((arrival.stretch.footage.sequence, arrival.stretch.segment))
    log = CameraLog(tail, a.log_settings(output, part_bytes=400))
    a.feed(log, tail, make)
    log.close()
    assert Log.read(output) == expected
    a.check_tidy(output)
    shutil.rmtree(output)


A, B, C = (a.recording(*told, segments=2) for told in (("a", 0), ("b", 2), ("c", 5)))
LATE = a.recording("bb", 4, segments=1)
Start = Callable[[Path], object]


def start(*wanted: Footage, **options: Any) -> Start:
    return lambda output: a.run(output, wanted, arrivals_of, **options)


@pytest.mark.parametrize("part_bytes", [400, 1e9], ids=["small parts", "merged parts"])
@pytest.mark.parametrize(
    ("before", "killed", "after"),
    [
        (None, (A, B, C), (A, B, C)),
        (None, (A, B, C), (A, B, LATE, C)),
        ((A, B, C), (A, B, LATE, C), (A, B, LATE, C)),
        ((A, B, C), (a.changed(A),), (a.changed(A),)),
        ((A, B, C), (a.changed(A), B, C), (a.changed(A),)),
    ],
    ids=[
        "new",
        "late one after the death",
        "late one",
        "others not wanted",
        "others wanted no more",
    ],
)
def test_no_operation_on_files_is_one_that_a_start_must_not_die_at(
    tmp_path: Path,
    before: Sequence[Footage] | None,
    killed: Sequence[Footage],
    after: Sequence[Footage],
    part_bytes: float,
) -> None:
    """Die at every ninth operation, which ones differs from case to case; then go on."""
    begun, calm = tmp_path / "begun", tmp_path / "calm"
    begun.mkdir()
    if before:
        start(*before, part_bytes=part_bytes)(begun)
    shutil.copytree(begun, calm)
    with death(None) as reaper:
        start(*killed, part_bytes=part_bytes)(calm)
    start(*after, part_bytes=part_bytes)(calm)
    expected = Log.read(calm)
    known = {each.source_uri: each for each in [*(before or ()), *killed, *after]}
    assert expected == undisturbed(
        tmp_path / "at once", sorted(known.values(), key=lambda f: f.start_time)
    )
    for at in range(len(reaper.done) % 9, len(reaper.done), 9):
        output = tmp_path / str(at)
        shutil.copytree(begun, output)
        with death(at) as last:
            start(*killed, part_bytes=part_bytes)(output)
        assert last.has_killed
        start(*after, part_bytes=part_bytes)(output)
        assert Log.read(output) == expected, f"died at {at}, after {last.done[-3:]}"
        a.check_tidy(output)
        shutil.rmtree(output)
