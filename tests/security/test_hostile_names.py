"""A name or a camera id is text: no path, no option, no pattern, no markup, no control character."""

import io
import logging
import shutil
from pathlib import Path

import pytest
from rich.console import Console

from jobs.console import open_console, printable, show_failures
from jobs.settings import JobSettings
from pipeline.cameras import CameraRule, read_cameras
from pipeline.decode import DecodeSettings
from pipeline.demux import DemuxSettings
from pipeline.errors import ConfigError
from pipeline.records import Failure, Recording
from pipeline.tables import partition
from tests.footage.clips import cut_one, decoded, footages_of
from tests.probing import probe_paths
from tests.security.hostile import FRAMES

NAMES = [
    "../../etc/x", "..", ".", "/etc/x", "a/../../b", "%d", "%03d", "%2e%2e%2f", "-i", "--help",
    "-f lavfi", "line\nbreak", "tab\tand\rreturn", "\x1b[31mred\x1b[0m", "\x1b]0;title\x07",
    "[bold]markup[/bold]", "[/red]", "[link=file:///etc]x[/link]", "it's", 'say "x"', "a|b",
    "concat:a|b", "file:a", "pipe:0", "http://127.0.0.1/x", "subfile,,start,0,end,0,,:a", "`id`",
    "$(id)", "a;b&c", "*?[a]", "\u2400", "\ufeffbom", "\u202egnp.exe", "\u200bzero", "\x7f",
    "camera_id=x", "date=2026-01-01", " ", "~", "\u00e9\u0301", "\U0001f3a5",
]  # fmt: skip
FILE_NAMES = [name for name in NAMES if "/" not in name and name not in (".", "..")]


@pytest.mark.parametrize("camera_id", [*NAMES, "nul\0byte"])
def test_a_cameras_tables_stay_inside_the_output(tmp_path: Path, camera_id: str) -> None:
    output = tmp_path / "output" / "movements"
    folder = output / partition(camera_id, "2026-01-01")

    folder.mkdir(parents=True)

    assert folder.resolve().parent.parent == output.resolve()
    assert [path.name for path in tmp_path.iterdir()] == ["output"]
    assert str(folder.relative_to(output)).isascii()
    assert printable(str(folder)) == str(folder)


def test_no_two_cameras_share_a_folder() -> None:
    assert len({partition(name, "x") for name in NAMES}) == len(NAMES)


@pytest.mark.parametrize("ending", ["", ".mp4"])
@pytest.mark.parametrize("name", FILE_NAMES)
def test_a_file_name_is_read_as_a_file_of_that_name(
    name: str, ending: str, mp4: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(mp4, tmp_path / f"{name}{ending}")
    monkeypatch.chdir(tmp_path)

    (footage,) = footages_of(f"{name}{ending}")
    segments, end = cut_one(footage, DemuxSettings(carried_bytes=1))

    assert [segment.in_place for segment in segments] == [True]
    assert len(decoded(segments, DecodeSettings()).frame_index) == FRAMES
    assert end.failures == ()


def test_names_of_every_kind_reach_a_probing_child_whole(mp4: Path, tmp_path: Path) -> None:
    paths = [str(tmp_path / name) for name in FILE_NAMES]
    for path in paths:
        shutil.copy(mp4, path)

    found = probe_paths([*paths, str(tmp_path / "not utf-8 \udcff"), "nul\0byte"])

    assert [item.source_uri for item in found[:-2] if isinstance(item, Recording)] == paths
    assert [str(item) for item in found[-2:]] == [
        "has a name that is not UTF-8: rename it",
        "embedded null byte",
    ]


@pytest.mark.parametrize("name", [*NAMES, "\udcff", "nul\0byte"])
def test_a_table_of_failures_shows_names_as_plain_text(name: str) -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, color_system="truecolor", width=400)
    plain = Failure(source_uri="plain", step="probe", error_class="SourceError", message="plain")
    hostile = Failure(source_uri=name, step="probe", error_class="SourceError", message=name)

    show_failures(console, [plain])
    expected = out.getvalue()
    out.seek(out.truncate(0))
    show_failures(console, [hostile])

    # The table's own styles alone: what is in the cells adds none.
    assert out.getvalue().count("\x1b") == expected.count("\x1b")
    assert printable(name).strip() in out.getvalue()
    assert all(char.isprintable() or char in "\n\x1b" for char in out.getvalue())


@pytest.mark.parametrize("name", [*NAMES, "\udcff", "nul\0byte"])
def test_a_log_line_shows_names_as_plain_text(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    loggers = [logging.getLogger(each) for each in ("jobs", "cluster", "pipeline")]
    before = [(each, each.handlers, each.level, each.propagate) for each in loggers]
    try:
        open_console()
        logging.getLogger("jobs.test").warning("read %s of %s", name, name)
    finally:
        for each, handlers, level, propagate in before:
            each.handlers, each.propagate = handlers, propagate
            each.setLevel(level)

    (line,) = capsys.readouterr().out.splitlines()
    assert line.endswith(f"read {printable(name)} of {printable(name)}")
    assert line.isprintable()


@pytest.mark.parametrize("camera_id", ["\udcff", "door\ud800", "\udfff"])
def test_a_camera_id_that_is_no_text_is_a_wrong_setting(camera_id: str) -> None:
    with pytest.raises(ConfigError, match=r"camera_id = .*: it is not UTF-8") as caught:
        JobSettings(input=("x.mp4",), output="out", camera_id=camera_id)

    str(caught.value).encode()


def test_a_cameras_file_cannot_name_a_camera_that_is_no_text(tmp_path: Path) -> None:
    for name, line in (("bytes", b'id = "\xff"'), ("escape", b'id = "\\ud800"')):
        (tmp_path / name).write_bytes(b"[[camera]]\n" + line)
        with pytest.raises(ConfigError, match="cameras file"):
            read_cameras(str(tmp_path / name))


@pytest.mark.parametrize("year", ["0001", "9999"])
def test_a_name_that_tells_a_time_off_the_calendar_is_named(year: str) -> None:
    rule = CameraRule(id="x", start_time="x_%Y%m%d_%H", timezone="Asia/Tokyo")

    with pytest.raises(
        ConfigError, match=f"x_{year}0101_00.mkv' is said to have begun in the year"
    ):
        rule.began(f"/archive/x_{year}0101_00.mkv")
