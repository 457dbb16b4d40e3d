"""`footfall refine` does what was said last, and refuses a file of cameras that the output has not."""

import pytest

from jobs import evaluate, export, refine
from jobs.exits import EXIT_OK, EXIT_WRONG_SETTING
from pipeline.run_folder import open_run
from tests.property import archive

ZONE = '[[camera.zone]]\nname = "all"\npolygon = [[0, 0], [1280, 0], [1280, 720], [0, 720]]\n'
RECORDINGS = [archive.recording("a", 0.0), archive.recording("b", 3.0, segments=4)]


@pytest.fixture
def output(tmp_path):
    run = open_run(str(tmp_path / "out"))
    archive.run(run.path, RECORDINGS)
    # The small archive's people flicker, and are out of sight for long.
    refine = "[refine]\nmin_track_s = 0.0\ncertain = 0.0\nleast_odds = 0.0\n"
    run.write_text("config.toml", f"no_refine = true\nstride = 1\n{refine}")
    return run.path


def cameras_file(tmp_path, *ids):
    path = tmp_path / "cameras.toml"
    path.write_text("".join(f'[[camera]]\nid = "{each}"\n{ZONE}' for each in ids))
    return str(path)


def ids(folder):
    return {row["track_id"] for row in archive.rows(folder, "movements")}


def test_whoever_asks_for_refining_gets_it_though_the_run_was_not_to_refine(output):
    assert refine.main([str(output)]) == EXIT_OK
    assert len(ids(output / "refined")) < len(ids(output))
    assert refine.main([str(output), "--no-refine"]) == EXIT_OK
    assert ids(output / "refined") == ids(output)
    assert refine.main([str(output)]) == EXIT_OK
    assert len(ids(output / "refined")) < len(ids(output))


def test_what_was_said_to_refine_holds_for_the_next_time(output):
    assert refine.main([str(output)]) == EXIT_OK
    whole = archive.rows(output / "refined", "movements")
    assert refine.main([str(output), "--movement-hz", "2"]) == EXIT_OK
    thinned = archive.rows(output / "refined", "movements")
    assert len(thinned) < len(whole)
    assert refine.main([str(output)]) == EXIT_OK
    assert archive.rows(output / "refined", "movements") == thinned
    assert "stride = 1\n" in (output / "config.toml").read_text()
    assert refine.main([str(output), "--movement-hz", "0"]) == EXIT_OK
    assert archive.rows(output / "refined", "movements") == whole


def test_a_misspelt_camera_is_refused_and_its_events_stay(output, tmp_path, capfd):
    assert refine.main([str(output), "--cameras", cameras_file(tmp_path, "door")]) == EXIT_OK
    events = archive.rows(output / "refined", "events")
    assert events
    misspelt = cameras_file(tmp_path, "dor")
    assert refine.main([str(output), "--cameras", misspelt]) == EXIT_WRONG_SETTING
    assert "has no camera 'dor'; it has 'door'" in capfd.readouterr().err
    assert archive.rows(output / "refined", "events") == events
    # One file for all cameras of a house, of which this output has one.
    both = cameras_file(tmp_path, "door", "yard")
    assert refine.main([str(output), "--cameras", both]) == EXIT_OK
    assert archive.rows(output / "refined", "events") == events


def test_a_thinned_log_is_neither_held_against_truth_nor_exported(output, tmp_path, capfd):
    truth = tmp_path / "gt.txt"
    truth.write_text("1,1,170,150,60,150,1\n")
    one = [str(output), "--recording", RECORDINGS[0].source_uri]
    verbs = [
        (evaluate.main, [*one, "--truth", str(truth)]),
        (export.main, [*one, "--format", "mot", "--to", str(tmp_path / "a.txt")]),
    ]
    assert refine.main([str(output), "--movement-hz", "2"]) == EXIT_OK
    for verb, arguments in verbs:
        assert verb(arguments) == EXIT_WRONG_SETTING
        assert "2 rows a second of each track" in capfd.readouterr().err
        assert verb([*arguments, "--online"]) == EXIT_OK
    assert refine.main([str(output), "--movement-hz", "0"]) == EXIT_OK
    for verb, arguments in verbs:
        assert verb(arguments) == EXIT_OK
