"""Weights are a program: only those of known hash are loaded, or those that the user trusts."""

import hashlib
import os
from pathlib import Path

import pytest

from pipeline import weights
from pipeline.errors import ConfigError, StepError
from pipeline.weights import KnownWeights, Weights, class_ids, fetch_known, find_weights, install

CONTENT = b"weights that are known here"
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Return an empty cache, with `tiny.pt` as a known name."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("FOOTFALL_CACHE", str(folder))
    known = KnownWeights(sha256=SHA256, package="nothing==0", member="nothing")
    monkeypatch.setitem(weights.KNOWN, "tiny.pt", known)
    return folder


def put(path, content=CONTENT):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def refused(model, **keywords):
    """Return why a model is refused."""
    with pytest.raises(ConfigError) as raised:
        find_weights(str(model), **keywords)
    return str(raised.value)


def test_a_known_name_means_the_file_in_the_cache(cache):
    path = put(cache / "weights" / "tiny.pt")
    assert find_weights("tiny.pt") == Weights(path=str(path), sha256=SHA256)


def test_weights_of_known_hash_may_have_any_name(tmp_path):
    path = put(tmp_path / "renamed.pt")
    assert find_weights(str(path)) == Weights(path=str(path), sha256=SHA256)


def test_a_path_is_made_absolute(tmp_path, monkeypatch):
    path = put(tmp_path / "here" / "renamed.pt")
    monkeypatch.chdir(tmp_path)
    assert find_weights("here/renamed.pt").path == str(path)


@pytest.mark.parametrize("trust", [False, True])
def test_a_known_name_with_other_bytes_is_refused_even_if_trusted(tmp_path, cache, trust):
    other = hashlib.sha256(b"other").hexdigest()
    for path in (put(tmp_path / "tiny.pt", b"other"), put(cache / "weights" / "tiny.pt", b"other")):
        reason = refused(path, trust=trust)
        assert str(path) in reason
        assert other in reason
        assert SHA256 in reason
    assert str(cache) in refused("tiny.pt", trust=trust)


def test_an_unknown_hash_is_refused_with_the_option_that_would_trust_it(tmp_path):
    path = put(tmp_path / "mine.pt", b"mine")
    digest = hashlib.sha256(b"mine").hexdigest()
    reason = refused(path)
    assert all(part in reason for part in (str(path), digest, "--trust-weights"))
    assert find_weights(str(path), trust=True) == Weights(path=str(path), sha256=digest)


@pytest.mark.parametrize("model", ["yolov99.pt", "weights/tiny.pt", "/nowhere/yolov8n.pt"])
def test_a_model_that_is_no_file_and_no_known_name_is_named_with_the_known_ones(cache, model):
    put(cache / "weights" / "tiny.pt")
    put(cache / "weights" / "yolov99.pt")
    reason = refused(model)
    assert repr(model) in reason
    assert "yolov8n.pt" in reason


def test_known_weights_that_are_not_in_the_cache_are_said_to_be_fetched_how():
    reason = refused("tiny.pt")
    assert "'tiny.pt'" in reason
    assert "footfall weights" in reason


def test_fetching_leaves_weights_that_are_there_as_they_are_and_refuses_unknown_names(cache):
    path = put(cache / "weights" / "tiny.pt")
    assert fetch_known("tiny.pt") == path
    with pytest.raises(ConfigError, match=r"yolov99\.pt"):
        fetch_known("yolov99.pt")


def never():
    raise AssertionError("the bytes were asked for")


def test_weights_that_lie_here_are_not_sent_again(tmp_path):
    found = Weights(path=str(put(tmp_path / "renamed.pt")), sha256=SHA256)
    assert install(found, never) == found


def test_weights_are_installed_once_where_they_do_not_lie(tmp_path, cache):
    elsewhere = Weights(path=str(tmp_path / "elsewhere.pt"), sha256=SHA256)
    installed = install(elsewhere, lambda: CONTENT)
    assert installed.sha256 == SHA256
    assert cache in (cache / installed.path).parents
    assert (cache / installed.path).read_bytes() == CONTENT
    assert install(elsewhere, never) == installed
    assert [path.suffix for path in cache.rglob("*") if path.is_file()] == [".pt"]


def test_a_file_of_other_bytes_in_the_place_of_the_weights_is_not_taken(tmp_path):
    changed = Weights(path=str(put(tmp_path / "tiny.pt", b"other")), sha256=SHA256)
    assert install(changed, lambda: CONTENT).path != changed.path


def test_weights_that_come_as_other_bytes_are_not_installed(tmp_path, cache):
    elsewhere = Weights(path=str(tmp_path / "elsewhere.pt"), sha256=SHA256)
    with pytest.raises(StepError, match=r"elsewhere\.pt"):
        install(elsewhere, lambda: b"other")
    assert not cache.exists()


def test_classes_are_numbered_as_the_model_does():
    names = ("person", "bicycle", "car", "traffic light")
    assert class_ids(names, ("traffic light", "person", "person")) == (0, 3)
    assert class_ids(names, ("all",)) == (0, 1, 2, 3)


def test_a_class_that_the_model_lacks_is_named_with_those_it_has():
    with pytest.raises(ConfigError, match=r"'horse'.*person, car"):
        class_ids(("person", "car"), ("person", "horse"))


@pytest.fixture
def no_home(tmp_path, monkeypatch):
    """Have a home that nobody can write to; return the folder of temporary files."""
    monkeypatch.delenv("FOOTFALL_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", "/dev/null/nobody")
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


def test_without_a_home_weights_are_installed_among_temporary_files_of_this_user_alone(no_home):
    installed = install(Weights(path="/elsewhere/tiny.pt", sha256=SHA256), lambda: CONTENT)
    path = Path(installed.path)
    assert path.read_bytes() == CONTENT
    assert path.is_relative_to(no_home)
    assert (path.parent.parent.stat().st_mode & 0o777) == 0o700
    again = install(Weights(path="/elsewhere/tiny.pt", sha256=SHA256), lambda: pytest.fail("twice"))
    assert again == installed


def test_a_folder_that_others_may_write_to_is_no_cache(no_home):
    folder = no_home / f"footfall-{os.getuid()}"
    folder.mkdir()
    folder.chmod(0o777)
    with pytest.raises(ConfigError, match="FOOTFALL_CACHE"):
        install(Weights(path="/elsewhere/tiny.pt", sha256=SHA256), lambda: CONTENT)
