"""What a job would work on: cameras, turns, limits, windows; and `footfall plan`, which shows it."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from jobs import main, plan
from jobs.labelling import frames_to_ask
from jobs.settings import AUTO_STRIDE, JobSettings
from jobs.survey import survey
from pipeline.errors import ConfigError
from pipeline.ffmpeg import find_ffmpeg

CAMERAS = """
[[camera]]
id = "door"
recording = "door_*.mkv"
video_track = 0
start_time = "door_%Y%m%d_%H%M%S"
timezone = "Europe/Zurich"

[[camera]]
id = "hall"
recording = "door_*.mkv"
video_track = 1
start_time = "door_%Y%m%d_%H%M%S"
timezone = "Europe/Zurich"
"""


@pytest.fixture(scope="module")
def two_tracks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("survey") / "two.mkv"
    sources = [
        word
        for size in ("160x128", "128x96")
        for word in ("-f", "lavfi", "-i", f"testsrc2=size={size}:rate=10:duration=1")
    ]
    command = [find_ffmpeg(), "-v", "error", *sources, "-map", "0:v", "-map", "1:v"]
    subprocess.run([*command, "-c:v", "mpeg4", str(path)], check=True)
    return path


@pytest.fixture
def archive(two_tracks: Path, tmp_path: Path) -> Path:
    """Return a folder with three recordings of two cameras, an hour apart, and their rules."""
    for hour in (9, 10, 8):
        shutil.copy(two_tracks, tmp_path / f"door_20260715_{hour:02}0000.mkv")
    (tmp_path / "cameras.toml").write_text(CAMERAS)
    return tmp_path


def job(folder: Path, **settings: object) -> JobSettings:
    return JobSettings(input=(str(folder),), **settings)


def with_rules(folder: Path, **settings: object) -> JobSettings:
    return job(folder, cameras=str(folder / "cameras.toml"), **settings)


def hours_of(found: object) -> list[str]:
    return [Path(f.footage.source_uri).stem[-6:-4] for f in found.wanted]  # type: ignore[attr-defined]


def test_a_camera_s_recordings_are_taken_oldest_first(archive: Path) -> None:
    found = survey(with_rules(archive))
    door = found.by_camera["door"]
    assert [f.source_uri for f in door] == [f.source_uri for f in found.by_camera["hall"]]
    assert [f.start_time.hour for f in door if f.start_time] == [6, 7, 8], "Zurich is UTC+2 in July"
    assert sorted(found.cameras) == ["door", "hall"]
    assert [len(group) for group in found.by_camera.values()] == [3, 3]
    assert set(found.identities) == set(found.uris) == {f.source_uri for f in door}


def test_labels_are_priced_by_the_frames_that_are_wanted(archive: Path) -> None:
    def asked(**window: str) -> int:
        settings = with_rules(archive, aws_labels=True, aws_frame_skip=1, **window)
        return frames_to_ask(settings, survey(settings))

    # Three recordings of ten frames in a second, each with two video tracks.
    assert asked() == 60
    assert asked(since="2026-07-15T07:00:00.5") == 2 * (5 + 10)
    assert asked(until="2026-07-15T06:00:00.2") == 2 * 2
    assert asked(hours="10:00-11:00") == 2 * 10


def test_without_rules_every_video_track_is_a_camera_of_its_own(archive: Path) -> None:
    cameras = [f.footage.key.camera_id for f in survey(job(archive)).wanted]
    assert cameras[:2] == ["door_20260715_080000-0", "door_20260715_080000-1"]
    assert len(set(cameras)) == 6


def test_one_camera_id_is_for_recordings_with_one_wanted_video_track(archive: Path) -> None:
    with pytest.raises(ConfigError, match="2 video tracks"):
        survey(job(archive, camera_id="door"))
    found = survey(job(archive, camera_id="door", video_tracks="1"))
    assert [f.footage.key.camera_id for f in found.wanted] == ["door"] * 3
    assert [f.footage.track.width for f in found.wanted] == [128] * 3
    with pytest.raises(ConfigError, match="too long"):
        survey(job(archive, camera_id="d" * 300, video_tracks="1"))


def test_the_limit_keeps_the_oldest_recordings_and_says_what_it_leaves_out(archive: Path) -> None:
    found = survey(with_rules(archive, limit=1))
    assert hours_of(found) == ["08", "08"]
    assert {f.skipped for f in found.skipped} == {"beyond --limit"}
    assert len(found.skipped) == 4


def test_recordings_outside_the_window_are_skipped_whole(archive: Path) -> None:
    found = survey(with_rules(archive, since="2026-07-15T06:30", until="2026-07-15T07:30"))
    assert hours_of(found) == ["09", "09"]
    with pytest.raises(ConfigError, match="start_time"):
        survey(job(archive, hours="09:00-10:00"))


def test_a_video_track_that_only_some_recordings_lack_is_a_failure_of_those(
    archive: Path, two_tracks: Path
) -> None:
    command = [find_ffmpeg(), "-v", "error", "-i", two_tracks, "-map", "0:v:0", "-c", "copy"]
    subprocess.run([*map(str, command), str(archive / "single.mkv")], check=True)
    found = survey(job(archive, video_tracks="1"))
    assert len(found.wanted) == 3
    (failure,) = found.failures
    assert failure.source_uri.endswith("single.mkv")
    assert "there are: 0" in failure.message
    with pytest.raises(ConfigError, match="there are: 0, 1"):
        survey(job(two_tracks, video_tracks="0,5"))


def test_plan_lists_every_video_track_and_why_it_is_skipped_and_touches_nothing(
    archive: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(archive.rglob("*"))
    arguments = ["--input", str(archive), "--cameras", str(archive / "cameras.toml")]
    assert plan.main([*arguments, "--video-tracks", "0"]) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = [line for line in lines if ".mkv" in line]
    assert len(rows) == 6
    assert all("mpeg4" in row and "10" in row for row in rows)
    assert sum("not among --video-tracks" in row for row in rows) == 3
    assert sum(" door " in row and "160x128" in row for row in rows) == 3
    work, memory = lines[-2:]
    assert "3 video track(s) of 3 recording(s), 1 camera(s): about 30 frames" in work
    assert re.search(r"at most 1024 MB, of which store \d+ MB, .* MB would do", memory)
    assert sorted(archive.rglob("*")) == before


def test_names_cannot_steer_the_terminal(archive: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(next(archive.glob("*.mkv")), archive / "a\x1b[31m[red]\nb.mkv")
    assert plan.main(["--input", str(archive)]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "a?[31m[red]?b.mkv" in out


@pytest.mark.parametrize("verb", sorted(main.VERBS))
def test_every_verb_has_help(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main.main([verb, "--help"])
    assert ended.value.code == 0
    assert f"footfall {verb}" in capsys.readouterr().out


def test_a_manifest_tells_the_start_before_the_name_does(archive: Path) -> None:
    (archive / "list.csv").write_text(
        "source_uri,start_time\ndoor_20260715_090000.mkv,2026-07-15T12:00:00\n"
        "door_20260715_100000.mkv,\n"
    )
    settings = JobSettings(
        input=(str(archive / "list.csv"),), cameras=str(archive / "cameras.toml")
    )
    starts = {
        (Path(f.footage.source_uri).name, f.footage.start_time.isoformat())
        for f in survey(settings).wanted
        if f.footage.start_time
    }
    assert starts == {
        ("door_20260715_090000.mkv", "2026-07-15T10:00:00+00:00"),
        ("door_20260715_100000.mkv", "2026-07-15T08:00:00+00:00"),
    }


def test_the_container_s_own_time_counts_only_where_it_is_asked_for(
    two_tracks: Path, tmp_path: Path
) -> None:
    made = tmp_path / "made.mp4"
    command = [find_ffmpeg(), "-v", "error", "-i", str(two_tracks), "-map", "0:v:0", "-c", "copy"]
    subprocess.run([*command, "-metadata", "creation_time=2026-01-15T09:00:00Z", made], check=True)
    rules = tmp_path / "cameras.toml"
    rules.write_text('[[camera]]\nid = "door"\nstart_time = "container"\n')
    (asked,) = survey(JobSettings(input=(str(made),), cameras=str(rules))).wanted
    (not_asked,) = survey(JobSettings(input=(str(made),))).wanted
    assert asked.footage.start_time is not None
    assert asked.footage.start_time.isoformat() == "2026-01-15T09:00:00+00:00"
    assert not_asked.footage.start_time is None


@pytest.mark.parametrize(("stride", "expected"), [("auto", 1), (3, 3)])
def test_auto_looks_as_seldom_as_tracking_allows(
    archive: Path, stride: str | int, expected: int
) -> None:
    number = AUTO_STRIDE if stride == "auto" else int(stride)
    strides = {f.footage.stride for f in survey(job(archive, stride=number)).wanted}
    assert strides == {expected}


def test_masks_and_scenes_belong_to_a_camera_and_must_fit_its_picture(archive: Path) -> None:
    rules = archive / "cameras.toml"
    mask = "\n[[camera.mask]]\npolygon = [[0, 0], [64, 0], [64, 48]]\n"
    rules.write_text(CAMERAS + mask)
    masks = {
        f.footage.track.video_track: f.footage.masks for f in survey(with_rules(archive)).wanted
    }
    assert masks == {0: (), 1: (((0.0, 0.0), (0.5, 0.0), (0.5, 0.5)),)}
    rules.write_text(CAMERAS + mask.replace("[64, 48]", "[64, 480]"))
    with pytest.raises(ConfigError, match=r"'hall', mask ''.*\[64, 480\].*128x96"):
        survey(with_rules(archive))
