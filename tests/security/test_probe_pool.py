"""A header that crashes, hangs or fills its reader costs that recording and no other."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from pipeline.errors import FfmpegError, SourceError
from pipeline.probe import probe
from pipeline.probe_pool import Probed, ProbeLimits
from pipeline.records import Recording
from tests.probing import probe_paths

STRUCK = ProbeLimits(
    recording_s=2.0,
    memory_bytes=1 << 30,
    script="from tests.security.stand_ins import strike\n"
    "from pipeline.probe_pool import serve\nserve(strike)",
)


@pytest.fixture(autouse=True)
def no_child_is_left() -> Iterator[None]:
    """Fail a test that leaves a process behind."""
    before = set(psutil.Process().children())
    yield
    assert set(psutil.Process().children()) <= before


def probe_among_good(mp4: Path, name: str, limits: ProbeLimits = STRUCK) -> SourceError:
    """Probe a recording that strikes between two that do not, and return its error."""
    found = probe_paths([str(mp4), name, str(mp4)], limits)
    assert [isinstance(item, Recording) for item in found] == [True, False, True]
    return error_of(found[1])


def error_of(probed: Probed) -> SourceError:
    assert isinstance(probed, SourceError)
    return probed


@pytest.mark.parametrize("name", ["SIGSEGV", "SIGABRT", "SIGKILL", "SIGBUS"])
def test_a_reader_that_dies_is_named_by_its_signal_and_followed_by_another(
    mp4: Path, name: str
) -> None:
    error = probe_among_good(mp4, name)

    assert str(error) == f"cannot be read as footage: its reader was ended by {name}"
    assert isinstance(error, FfmpegError)
    assert (error.signal, error.source_uri) == (name, name)


@pytest.mark.timeout(30)
def test_a_reader_that_hangs_is_ended_in_time(mp4: Path) -> None:
    began = time.monotonic()

    error = probe_among_good(mp4, "hang")

    assert str(error) == "cannot be read as footage within 2 s"
    assert time.monotonic() - began < 10


def test_a_reader_gets_no_more_memory_than_its_limit(mp4: Path) -> None:
    assert str(probe_among_good(mp4, "bomb")) == "cannot be read as footage: MemoryError: "


def test_a_reader_that_exits_is_named_by_its_exit_code(mp4: Path) -> None:
    assert "exit code 7" in str(probe_among_good(mp4, "exit"))


def test_a_bug_on_one_recording_stops_no_other(mp4: Path) -> None:
    assert "KeyError: 'a bug'" in str(probe_among_good(mp4, "bug"))


def test_a_reader_gets_none_of_our_secrets(mp4: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not for readers")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "not for readers")

    seen = str(probe_among_good(mp4, "environment"))

    assert "'PYTHONPATH'" in seen
    assert "AWS" not in seen
    assert "TOKEN" not in seen


def test_a_reader_takes_no_module_that_lies_beside_the_footage(
    mp4: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("json", "av", "struct", "numpy"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('taken from the footage')")
    monkeypatch.chdir(tmp_path)

    (found,) = probe_paths([str(mp4)])

    assert isinstance(found, Recording)


def test_a_script_that_does_not_run_is_told_with_its_last_words(mp4: Path) -> None:
    (found,) = probe_paths([str(mp4)], ProbeLimits(script="import no_such_module"))

    assert "exit code 1: " in str(error_of(found))
    assert "No module named 'no_such_module'" in str(error_of(found))


def test_what_a_child_finds_is_what_probe_finds_in_the_order_of_the_paths(
    mp4: Path, mkv: Path, mjpeg: Path
) -> None:
    paths = [str(mp4), str(mkv), "/missing.mp4", str(mjpeg)] * 20

    found = probe_paths(paths)

    assert [str(item) if isinstance(item, SourceError) else item for item in found] == [
        "No such file or directory" if path == "/missing.mp4" else probe(path) for path in paths
    ]
    assert probe_paths([]) == []


def test_one_recording_is_probed_in_less_than_half_a_second(mp4: Path) -> None:
    probe_paths([str(mp4)])
    began = time.monotonic()

    probe_paths([str(mp4)])

    # 0.16 s on an idle machine.
    assert time.monotonic() - began < 0.5 * (1 + os.getloadavg()[0])
