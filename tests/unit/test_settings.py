"""What a job is told: command line before file before default, and what is wrong is named."""

import argparse
import re
from datetime import UTC, datetime, time, timedelta, timezone
from time import tzset

import pytest

from cluster.supervisor import FailureLimit
from jobs.options import add_options, resolve
from jobs.settings import AUTO_BATCH, JobSettings
from pipeline.errors import ConfigError
from pipeline.track import TrackSettings

UNDER_RAY_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"


@pytest.fixture(autouse=True)
def no_ray_job(monkeypatch):
    monkeypatch.delenv(UNDER_RAY_JOB, raising=False)


def settings_of(*arguments):
    """Resolve a command line."""
    parser = argparse.ArgumentParser(exit_on_error=False)
    add_options(parser)
    return resolve(parser.parse_args(arguments))


def config(folder, text):
    """Write a file of settings; return the options that name it."""
    path = folder / "job.toml"
    path.write_text(text, encoding="utf-8")
    return "--config", str(path)


def test_the_command_line_beats_the_file_and_the_file_beats_the_default(tmp_path):
    named = config(tmp_path, 'batch_size = 20\nstride = 5\nmodel = "a.pt"\noverwrite = true')
    settings = settings_of(*named, "--stride", "2", "--model", "b.pt")
    assert (settings.stride, settings.model) == (2, "b.pt")
    assert (settings.batch_size, settings.overwrite) == (20, True)
    assert (settings.confidence, settings.image_size) == (0.1, 640)


def test_an_option_with_its_default_value_beats_the_file_too(tmp_path):
    named = config(tmp_path, "batch_size = 20\nlimit = 3")
    settings = settings_of(*named, "--batch-size", "10", "--limit", "0")
    assert (settings.batch_size, settings.limit) == (10, 0)


def test_without_anything_said_settings_are_the_defaults():
    assert settings_of() == JobSettings()


def test_every_setting_can_be_given_on_the_command_line_and_in_the_file(tmp_path):
    wanted = JobSettings(
        input=("/a", "/b.mkv"),
        output="/out",
        video_tracks="0,2",
        model="/w/mine.pt",
        classes=("person", "traffic light"),
        batch_size=3,
        memory_limit_mb=500,
        device="cpu",
        precision="fp32",
        confidence=0.25,
        image_size=960,
        stride=2,
        cameras="/c.toml",
        since="2026-01-15T09:00",
        until="2026-01-16",
        hours="22:00-06:00",
        limit=7,
        shard="1/4",
        part_mb=16.0,
        max_failed_segments="5%",
        partial_ok=True,
        detectors=1,
        address="auto",
        trust_weights=True,
    )
    options = [
        *("--input", "/a", "--input", "/b.mkv", "--output", "/out", "--video-tracks", "0,2"),
        *("--model", "/w/mine.pt", "--classes", "person, traffic light", "--batch-size", "3"),
        *("--memory-limit-mb", "500", "--device", "cpu", "--precision", "fp32"),
        *("--confidence", "0.25", "--image-size", "960", "--stride", "2", "--cameras", "/c.toml"),
        *("--from", "2026-01-15T09:00", "--to", "2026-01-16", "--hours", "22:00-06:00"),
        *("--limit", "7", "--shard", "1/4", "--part-mb", "16", "--max-failed-segments", "5%"),
        *("--partial-ok", "--detectors", "1", "--address", "auto", "--trust-weights"),
    ]
    assert settings_of(*options) == wanted
    assert settings_of(*config(tmp_path, wanted.to_toml())) == wanted


@pytest.mark.parametrize(
    "settings",
    [
        JobSettings(),
        JobSettings(
            input=('/a "quoted" \\ name\n.mkv', "/Türe/視.mkv"),
            camera_id="north's door",
            track=TrackSettings(lost_after_s=3, weak=0.05, birth=1e-7),
        ),
        JobSettings(batch_size=AUTO_BATCH),
    ],
)
def test_resolved_settings_can_be_read_back_from_their_file(tmp_path, settings):
    assert settings_of(*config(tmp_path, settings.to_toml())) == settings


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("batch = 3", "unknown key 'batch'"),
        ('since = "2026-01-15"', "unknown key 'since'"),
        ("config = 'x'", "unknown key 'config'"),
        ("[track]\nbuffer = 3", "unknown key 'track.buffer'"),
        ("[track]\ntracker = 'bytetrack'", "unknown key 'track.tracker'"),
        ("batch_size = 2.5", "batch_size = 2.5"),
        ("batch_size = true", "batch_size = True"),
        ("batch_size = -1", "batch_size = -1: it is 1 or more, or auto"),
        ("batch_size = 'many'", "batch_size = 'many'"),
        ("stride = [1]", r"stride = \[1\]"),
        ("limit = 'few'", "limit = 'few'"),
        ("confidence = 'high'", "confidence = 'high'"),
        ("confidence = false", "confidence = False"),
        ("overwrite = 1", "overwrite = 1"),
        ("overwrite = 'yes'", "overwrite = 'yes'"),
        ("model = 8", "model = 8"),
        ("from = 2026-01-15", "from = "),
        ("input = 3", "input = 3"),
        ("classes = [1]", r"classes = \[1\]"),
        ("track = 3", "track = 3"),
        ("[track]\nlost_after_s = 'long'", "track.lost_after_s = 'long'"),
        ("[track]\nlost_after_s = -1", "track.lost_after_s = -1"),
        ("batch_size =", "job.toml"),
        ("shard = 1", "shard = 1"),
        ("part_mb = true", "part_mb = True"),
        ("partial_ok = 1", "partial_ok = 1"),
        ("max_failed_segments = true", "max_failed_segments = True"),
        ("max_failed_segments = 1.5", "max_failed_segments = '1.5'"),
    ],
)
def test_an_unknown_key_or_a_wrong_type_in_the_file_is_named(tmp_path, text, named):
    with pytest.raises(ConfigError, match=named):
        settings_of(*config(tmp_path, text))


@pytest.mark.parametrize(
    "arguments",
    [
        ("--batch-size", "0"),
        ("--batch-size", "-1"),
        ("--batch-size", "-2"),
        ("--batch-size", "ten"),
        ("--batch-size", "Auto"),
        ("--memory-limit-mb", "99"),
        ("--aws-frame-skip", "0"),
        ("--aws-max-tps", "0"),
        ("--aws-max-cost", "-1"),
        ("--aws-price", "nan"),
        ("--stride", "0"),
        ("--limit", "-1"),
        ("--detectors", "-1"),
        ("--device", "tpu"),
        ("--precision", "fp8"),
        ("--tracker", "sort"),
        ("--confidence", "0"),
        ("--confidence", "1"),
        ("--confidence", "nan"),
        ("--image-size", "31"),
        ("--image-size", "4097"),
        ("--video-tracks", "first"),
        ("--video-tracks", "0,-1"),
        ("--video-tracks", "0,"),
        ("--from", "yesterday"),
        ("--to", "2026-13-01"),
        ("--hours", "9-17"),
        ("--hours", "09:00"),
        ("--hours", "09:00-12:00-13:00"),
        ("--shard", "4/4"),
        ("--shard", "0/0"),
        ("--shard", "-1/4"),
        ("--shard", "1"),
        ("--shard", "a/b"),
        ("--part-mb", "0"),
        ("--part-mb", "nan"),
        ("--part-mb", "big"),
        ("--max-failed-segments", "few"),
        ("--max-failed-segments", "-1"),
        ("--max-failed-segments", "1.5"),
        ("--max-failed-segments", "0%"),
        ("--max-failed-segments", "100%"),
        ("--max-failed-segments", "nan%"),
        ("--max-failed-segments", "inf"),
    ],
)
def test_an_impossible_value_is_named_with_its_key(arguments):
    option, value = arguments
    arguments = (f"{option}={value}",)
    key = option.removeprefix("--").replace("-", "_")
    with pytest.raises(ConfigError, match=rf"^{key}\b.*{re.escape(value)}"):
        settings_of(*arguments)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--camera-id", "a", "--cameras", "c.toml"), ("camera_id", "cameras")),
        (("--shard", "0/2", "--overwrite"), ("shard", "overwrite")),
        (("--from", "2026-01-15", "--to", "2026-01-15"), ("from", "to")),
        (("--from", "2026-01-15T10:00+02:00", "--to", "2026-01-15T08:00"), ("from", "to")),
    ],
)
def test_settings_that_contradict_each_other_are_both_named(arguments, named):
    with pytest.raises(ConfigError) as raised:
        settings_of(*arguments)
    assert all(re.search(rf"\b{key}\b", str(raised.value)) for key in named)


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"nowhere\.toml"):
        settings_of("--config", str(tmp_path / "nowhere.toml"))


@pytest.fixture
def in_india(monkeypatch):
    """Set the machine's own time zone to one that is not UTC."""
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "Asia/Kolkata")
        tzset()
        yield
    tzset()


@pytest.mark.usefixtures("in_india")
def test_moments_without_a_time_zone_are_utc_and_others_keep_theirs():
    settings = settings_of("--from", "2026-01-15", "--to", "2026-01-15T12:00+02:00")
    assert settings.moments == (
        datetime(2026, 1, 15, tzinfo=UTC),
        datetime(2026, 1, 15, 12, tzinfo=timezone(timedelta(hours=2))),
    )
    assert settings_of().moments == (None, None)


def test_hours_are_two_times_of_day():
    assert settings_of("--hours", "22:00-06:30").daily_hours == (time(22), time(6, 30))
    assert settings_of().daily_hours is None


@pytest.mark.parametrize(
    ("told", "limit"),
    [
        ("20", FailureLimit(most=20)),
        ("0", FailureLimit(most=0)),
        ("1", FailureLimit(most=1)),
        ("0.5", FailureLimit(most=0.5, is_share=True)),
        ("50%", FailureLimit(most=0.5, is_share=True)),
        (" 2.5% ", FailureLimit(most=0.025, is_share=True)),
        ("", None),
    ],
)
def test_failed_segments_are_limited_by_a_number_or_by_a_share(told, limit):
    assert settings_of("--max-failed-segments", told).failure_limit == limit


@pytest.mark.parametrize(
    ("told", "limit"),
    [("20", FailureLimit(most=20)), ("0.25", FailureLimit(most=0.25, is_share=True))],
)
def test_in_the_file_the_limit_of_failed_segments_may_be_a_plain_number(tmp_path, told, limit):
    named = config(tmp_path, f"max_failed_segments = {told}")
    assert settings_of(*named).failure_limit == limit


def test_a_shard_is_one_of_n_from_0_and_without_one_a_run_is_all_of_it():
    assert settings_of().shard_of == (0, 1)
    assert [settings_of("--shard", f"{i}/3").shard_of for i in range(3)] == [(0, 3), (1, 3), (2, 3)]
    assert settings_of("--shard", "0/1", "--overwrite").overwrite


def test_partial_ok_is_off_unless_it_is_asked_for():
    assert not settings_of().partial_ok
    assert settings_of("--partial-ok").partial_ok


def test_video_tracks_are_all_or_sorted_numbers():
    assert settings_of().wanted_tracks is None
    assert settings_of("--video-tracks", "2, 0,2").wanted_tracks == (0, 2)


def test_a_batch_size_that_is_to_be_found_is_auto_everywhere_it_is_written(tmp_path):
    settings = settings_of("--batch-size", "auto")
    assert settings == settings_of(*config(tmp_path, 'batch_size = "auto"'))
    assert settings.plain()["batch_size"] == "auto"
    assert 'batch_size = "auto"' in settings.to_toml().splitlines()
    assert (
        settings_of(*config(tmp_path, 'batch_size = "auto"'), "--batch-size", "4").batch_size == 4
    )


def hashes(settings):
    """Return the hashes of what makes detections, of what makes tracks of them, and of both."""
    evidence = settings.evidence_hash(model="f59b")
    return evidence, settings.track_hash(), settings.result_hash(evidence)


def test_the_hashes_change_with_what_changes_results_and_with_nothing_else():
    plain = JobSettings()
    same = [
        JobSettings(output="/o", input=("/a",), batch_size=3, memory_limit_mb=500, limit=2),
        JobSettings(batch_size=AUTO_BATCH),
        JobSettings(shard="1/2", part_mb=1, max_failed_segments="3", partial_ok=True),
    ]
    assert {hashes(settings) for settings in same} == {hashes(plain)}
    detected = [
        JobSettings(confidence=0.2),
        JobSettings(classes=("dog",)),
        JobSettings(image_size=960),
        JobSettings(stride=2),
    ]
    tracked = JobSettings(track=TrackSettings(lost_after_s=3.0))
    for settings in detected:
        assert hashes(settings)[0] != hashes(plain)[0]
        assert hashes(settings)[1] == hashes(plain)[1]
    assert hashes(tracked)[0] == hashes(plain)[0]
    assert hashes(tracked)[1] != hashes(plain)[1]
    assert len({hashes(settings)[2] for settings in (plain, tracked, *detected)}) == 6
    assert plain.evidence_hash(model="0000") != hashes(plain)[0]


@pytest.mark.parametrize(
    "arguments",
    [
        ("--input", "footage/a.mkv"),
        ("--output", "tables"),
        ("--model", "weights/mine.pt"),
        ("--cameras", "cameras.toml"),
    ],
)
def test_under_a_ray_job_a_relative_path_is_refused_and_its_absolute_form_shown(
    monkeypatch, arguments
):
    option, path = arguments
    monkeypatch.setenv(UNDER_RAY_JOB, "{}")
    with pytest.raises(ConfigError) as raised:
        settings_of(*arguments)
    assert f"{option} {path}" in str(raised.value)
    assert f'{option} "$PWD/{path}"' in str(raised.value)


def test_under_a_ray_job_a_relative_path_in_the_file_is_refused_too(monkeypatch, tmp_path):
    named = config(tmp_path, 'input = ["/archive/a.mkv", "footage/b.mkv"]')
    monkeypatch.setenv(UNDER_RAY_JOB, "{}")
    with pytest.raises(ConfigError, match=r"footage/b\.mkv"):
        settings_of(*named)


def test_under_a_ray_job_absolute_paths_and_known_models_are_taken(monkeypatch):
    monkeypatch.setenv(UNDER_RAY_JOB, "{}")
    settings = settings_of("--input", "/a.mkv", "--output", "/out", "--model", "yolov8n.pt")
    assert (settings.input, settings.output, settings.model) == (("/a.mkv",), "/out", "yolov8n.pt")
    assert settings_of("--output", "/out").model == "yolov8n.pt"


def test_outside_of_a_ray_job_relative_paths_are_taken_as_they_are():
    assert settings_of("--input", "footage/a.mkv").input == ("footage/a.mkv",)


def test_hours_with_a_time_zone_and_endless_thresholds_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="hours"):
        settings_of("--hours", "09:00Z-10:00Z")
    with pytest.raises(ConfigError, match="lost_after_s"):
        settings_of(*config(tmp_path, "[track]\nlost_after_s = inf\n"))


def test_any_path_can_be_read_back_from_the_saved_settings(tmp_path):
    given = JobSettings(input=('/x/\U0001f600 "a" \\ \n.mkv',), output="/\u00e9")
    assert settings_of(*config(tmp_path, given.to_toml())) == given


def test_no_limit_on_what_labels_cost_and_one_of_nothing_are_two_things(tmp_path):
    assert settings_of("--input", "a.mkv").most_cost_usd is None
    assert settings_of("--input", "a.mkv", "--aws-max-cost", "0").most_cost_usd == 0
    assert settings_of(*config(tmp_path, "aws_max_cost = 2.5")).most_cost_usd == 2.5
    for wrong in ("-1", "inf", "nan", "much"):
        with pytest.raises(ConfigError, match="aws_max_cost"):
            settings_of("--input", "a.mkv", "--aws-max-cost", wrong)
