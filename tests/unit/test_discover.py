"""Files, folders, globs and manifests become a sorted list of paths, each once."""

from datetime import datetime, timedelta, timezone

import pytest

from pipeline.discover import find_recordings, find_starts
from pipeline.errors import ConfigError


@pytest.fixture
def archive(tmp_path):
    """Return a folder with two cameras' recordings, and other files."""
    for name in ("b/2.mkv", "b/1.MP4", "a/1.ts", "a/notes.txt", "a/1.ts.json"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    return tmp_path


def addresses(inputs):
    return [listed.source_uri for listed in find_recordings(inputs)]


def found(archive, *inputs):
    """Return what is found, relative to the archive."""
    paths = addresses([str(archive / given) for given in inputs])
    prefix = f"{archive}/"
    assert all(path.startswith(prefix) for path in paths)
    return [path.removeprefix(prefix) for path in paths]


def test_a_file_is_taken_whatever_its_suffix(archive):
    assert found(archive, "a/notes.txt") == ["a/notes.txt"]


def test_a_folder_gives_its_video_files_at_any_depth(archive):
    assert found(archive, "") == ["a/1.ts", "b/1.MP4", "b/2.mkv"]


@pytest.mark.parametrize(
    ("pattern", "matches"),
    [("*/1.*", ["a/1.ts", "a/1.ts.json", "b/1.MP4"]), ("**/*.mkv", ["b/2.mkv"]), ("[ab]", None)],
)
def test_a_glob_gives_the_files_that_match(archive, pattern, matches):
    if matches is None:
        with pytest.raises(ConfigError, match="matches no file"):
            found(archive, pattern)
    else:
        assert found(archive, pattern) == matches


def test_a_file_whose_name_is_a_pattern_is_that_file(archive):
    (archive / "a/[1].ts").touch()
    assert found(archive, "a/[1].ts") == ["a/[1].ts"]


@pytest.mark.parametrize(
    "text",
    [
        "source_uri\nb/2.mkv\na/1.ts\n",
        "note,source_uri\nfirst,b/2.mkv\n,a/1.ts\n",
        "b/2.mkv\na/1.ts\n",
        "\ufeffsource_uri\r\nb/2.mkv\r\n\r\n a/1.ts \r\n",
        '"b/2.mkv"\n"a/1.ts"\n"a/1.ts"',
    ],
)
def test_a_manifest_gives_its_recordings_relative_to_its_own_folder(archive, text):
    (archive / "list.CSV").write_text(text, newline="")
    assert found(archive, "list.CSV") == ["a/1.ts", "b/2.mkv"]


def test_a_manifest_may_name_absolute_paths_and_recordings_that_are_not_there(archive):
    (archive / "list.csv").write_text(f"source_uri\n{archive}/a/1.ts\nlost.mkv\n")
    assert found(archive, "list.csv") == ["a/1.ts", "lost.mkv"]


def test_a_recording_that_several_inputs_name_is_found_once(archive, monkeypatch):
    monkeypatch.chdir(archive)
    paths = addresses(["b", "a/1.ts", "./a/1.ts", str(archive / "a"), "*/1.*"])
    expected = ["a/1.ts", "a/1.ts.json", "b/1.MP4", "b/2.mkv"]
    assert paths == [str(archive / name) for name in expected]


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ("nowhere.mkv", "no such file"),
        ("none/*.mkv", "matches no file"),
        ("empty", "no video file"),
        ("empty.csv", "names no recording"),
        ("latin.csv", "can't decode"),
        ("https://host/a.mkv", "only paths and s3:// addresses"),
        ("s3://b/a.mkv", "names no bucket"),
    ],
)
def test_an_input_that_gives_nothing_is_named_with_the_reason(archive, monkeypatch, given, reason):
    (archive / "empty").mkdir()
    (archive / "empty.csv").write_text("source_uri\n\n")
    (archive / "latin.csv").write_bytes(b"source_uri\nt\xfcr.mkv\n")
    monkeypatch.chdir(archive)
    with pytest.raises(ConfigError) as raised:
        find_recordings(["a/1.ts", given])
    assert given in str(raised.value)
    assert reason in str(raised.value)


def test_no_input_at_all_is_refused():
    with pytest.raises(ConfigError, match="no input"):
        find_recordings([])


def test_a_folder_named_like_a_video_is_no_recording_and_one_file_is_one(tmp_path):
    (tmp_path / "day.ts").mkdir()
    (tmp_path / "day.ts" / "a.mkv").write_bytes(b"x")
    twice = [str(tmp_path), str(tmp_path / "day.ts" / ".." / "day.ts" / "a.mkv")]
    assert addresses(twice) == [str(tmp_path / "day.ts" / "a.mkv")]


def test_a_manifest_tells_when_recordings_began(archive):
    (archive / "list.csv").write_text(
        "start_time,source_uri\n2026-01-15T09:00:00,a/1.ts\n,b/2.mkv\n"
        "2026-01-15T09:00:00.5+01:00,b/1.MP4\n"
    )
    assert find_starts([str(archive / "list.csv"), str(archive / "a")]) == {
        str(archive / "a/1.ts"): datetime(2026, 1, 15, 9),
        str(archive / "b/1.MP4"): datetime(
            2026, 1, 15, 9, 0, 0, 500000, tzinfo=timezone(timedelta(hours=1))
        ),
    }
    assert found(archive, "list.csv") == ["a/1.ts", "b/1.MP4", "b/2.mkv"]


def test_a_start_time_that_is_none_is_named_with_its_recording(archive):
    (archive / "list.csv").write_text("source_uri,start_time\na/1.ts,yesterday\n")
    with pytest.raises(ConfigError, match=r"list\.csv.*'yesterday' of 'a/1\.ts'"):
        find_starts([str(archive / "list.csv")])


def test_a_day_without_a_time_is_no_start_time(archive):
    (archive / "list.csv").write_text("source_uri,start_time\na/1.ts,2026-01-15\n")
    with pytest.raises(
        ConfigError, match=r"'2026-01-15' of 'a/1\.ts' is a day without a time: write"
    ):
        find_starts([str(archive / "list.csv")])
