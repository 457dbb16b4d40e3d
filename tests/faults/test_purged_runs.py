"""Runs on an output that was purged: what went stays away, what failed is done, the rest is equal."""

import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest

from jobs import purge, retry, status
from jobs.exits import EXIT_BROKE, EXIT_OK, EXIT_PARTIAL, EXIT_WRONG_SETTING
from jobs.soak_footage import film
from pipeline.lease import Leases
from pipeline.verify import verify

pytestmark = [pytest.mark.long, pytest.mark.ray, pytest.mark.faults, pytest.mark.timeout(900)]

CAMERAS = """\
[[camera]]
id = "hall"
recording = "hall_*.mkv"
start_time = "_%Y%m%d_%H%M%S"
line = [{ name = "door", points = [[160, 0], [160, 240]] }]
"""
NINE, TEN, LATER = "2026-01-15T09:00", "2026-01-15T10:00", "2026-01-15T10:00:03"
TABLES = ("detections", "movements", "refined/movements")


def rows(output: Path, table: str, since: str = NINE) -> list[dict[str, Any]]:
    sql = (
        f"select * from read_parquet('{output}/{table}/*/*/*.parquet', hive_partitioning = true) "
        f"where timestamp >= '{since}+00' order by all"
    )
    return duckdb.sql(sql).to_arrow_table().to_pylist()


def everywhere(output: Path) -> bytes:
    """Return the paths and content of all files but the rules and the last start's settings."""
    return b"".join(
        str(path.relative_to(output)).encode() + path.read_bytes()
        for path in sorted(output.rglob("*"))
        if path.is_file() and "purged" not in path.parts
    )


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Return a folder of two recordings of a camera, an hour apart: of one segment, and of two."""
    folder = tmp_path / "archive"
    folder.mkdir()
    film(folder / "hall_20260115_090000.mkv", [1], first=0, frames=80)
    film(folder / "hall_20260115_100000.mkv", [1], first=200, frames=200)
    (tmp_path / "cameras.toml").write_text(CAMERAS)
    return folder


def only_if_told(output: Path, command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Purge, at last; before that, in all the ways that do not."""
    before = everywhere(output)
    assert purge.main([*command, "--dry-run"]) == EXIT_PARTIAL
    assert "1 video track(s)" in capsys.readouterr().out
    with Leases(output, uuid.uuid4().hex[:12]).held(["hall"]):
        assert purge.main(command) == EXIT_BROKE
    assert "is worked on by process" in capsys.readouterr().err
    assert purge.main([str(output), "--camera", "door"]) == EXIT_WRONG_SETTING
    assert "it has: hall" in capsys.readouterr().err
    assert everywhere(output) == before
    assert purge.main(command) == EXIT_OK
    assert purge.main([*command, "--dry-run"]) == EXIT_OK, "nothing is left of it"


def assert_is_the_rest(output: Path, calm: Path, since: str) -> None:
    for table in TABLES[:2]:
        assert rows(output, table) == rows(calm, table, since), table
    assert rows(output, "refined/movements", since) == rows(output, "refined/movements")
    assert len(rows(output, "refined/movements")) > 100
    assert verify(output).problems == []


def test_what_was_purged_stays_away_and_the_rest_is_equal_to_a_run_without_it(
    fast_run: Callable,
    archive: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = {"cameras": str(archive.parent / "cameras.toml")}
    calm = fast_run(archive, name="calm", **given)
    monkeypatch.setenv("FOOTFALL_FAULT", "decode:0:1:SIGSEGV")
    job = fast_run(archive, **given)
    seen = [each["video_tracks"][0]["frames"] for each in job.summary["recordings"]]
    assert job.exit_code == EXIT_PARTIAL
    assert seen[0] == 80
    assert 0 < seen[1] < 200
    monkeypatch.delenv("FOOTFALL_FAULT")
    output, command = job.output, [str(job.output), "--camera", "h*", "--before", f"{TEN}Z"]
    only_if_told(output, command, capsys)

    again = fast_run(archive, **given)
    assert (again.exit_code, again.summary["frames"]) == (EXIT_PARTIAL, seen[1])
    assert retry.main([str(output)]) == EXIT_OK
    assert_is_the_rest(output, calm.output, TEN)
    refined = [
        [(row["track_id"], row["frame_index"]) for row in rows(each, TABLES[2], TEN)]
        for each in (output, calm.output)
    ]
    assert refined[0] == refined[1], "nobody has another name"

    # Within a recording: frames before go, the others stay as they are, and nothing is done again.
    command[-1] = f"{LATER}Z"
    assert purge.main(command) == EXIT_OK
    last = fast_run(archive, **given)
    assert (last.exit_code, last.summary["frames"]) == (EXIT_OK, 125)
    assert_is_the_rest(output, calm.output, LATER)
    capsys.readouterr()
    assert status.main([str(output)]) == EXIT_OK
    told = capsys.readouterr().out
    assert f"Purged: 1 video track(s), {seen[0] + 75} frames in all" in told
    assert "1 of 1 video track(s) done, 125 frames looked at" in told

    # What the rule is about is not looked at either where nobody has seen it yet.
    film(archive / "hall_20260115_080000.mkv", [1], first=0, frames=100)
    late = fast_run(archive, **given)
    assert (late.exit_code, late.summary["frames"]) == (EXIT_OK, 125)
