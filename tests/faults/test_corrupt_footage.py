"""Corrupt footage of every kind: nothing hangs, dies or doubles, and no loss goes unsaid.

What spoils a recording is in `tests.footage.corrupt`; each is walked through the pipeline once, in a
child process, and each guarantee is asked of what came of it.
"""

import math
import os
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from tests.footage.corrupt import RECIPES, Corpus, intact_frames
from tests.footage.walk import Walk, Walker, unlike

pytestmark = [pytest.mark.faults, pytest.mark.timeout(120)]

HANGS_AFTER_S = 30
GOOD_TRACKS = [(name, track) for name, recipe in RECIPES.items() for track in recipe.good_tracks]


class Walks:
    """What came of each recipe and clean clip, walked when first asked for."""

    def __init__(self, corpus: Corpus, walker: Walker) -> None:
        self.corpus, self._walker = corpus, walker
        self._paths: dict[str, Path] = {}
        self._done: dict[Path, Walk | str] = {}

    def path(self, name: str) -> Path:
        """Return the path of a corrupt file."""
        if name not in self._paths:
            self._paths[name] = RECIPES[name].make(self.corpus)
        return self._paths[name]

    def outcome(self, path: Path) -> Walk | str:
        """Return what came of a file, or in words what went wrong with the walk."""
        if path not in self._done:
            self._done[path] = self._walker.walk(path)
        return self._done[path]

    def __getitem__(self, name: str) -> Walk:
        done = self.outcome(self.path(name))
        assert isinstance(done, Walk), done
        return done

    def clean(self, name: str) -> Walk:
        """Return what came of the clean clip of a recipe; nothing if there is none."""
        if not RECIPES[name].clean:
            return Walk()
        done = self.outcome(self.corpus.clean(RECIPES[name].clean))
        assert isinstance(done, Walk), done
        return done


@pytest.fixture(scope="module")
def walks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Walks]:
    walker = Walker(HANGS_AFTER_S)
    yield Walks(Corpus(tmp_path_factory.mktemp("corpus")), walker)
    walker.stop()


@pytest.fixture(params=RECIPES)
def name(request: pytest.FixtureRequest) -> str:
    if request.param == "unreadable" and os.geteuid() == 0:
        pytest.skip("root may read every file")
    return str(request.param)


def test_no_walk_hangs_or_dies_and_nothing_but_a_source_error_is_raised(
    walks: Walks, name: str
) -> None:
    done = walks.outcome(walks.path(name))

    # In words: a hang, a death or an exception.
    assert isinstance(done, Walk), done
    assert done.seconds < HANGS_AFTER_S


def test_no_frame_is_doubled(walks: Walks, name: str) -> None:
    for kept in walks[name].tracks.values():
        assert all(a < b for a, b in pairwise(kept.frame_index))


def test_every_time_is_a_number(walks: Walks, name: str) -> None:
    for kept in walks[name].tracks.values():
        assert all(math.isfinite(pts_s) for pts_s in kept.pts_s)


def test_every_frame_is_later_than_the_one_before(walks: Walks, name: str) -> None:
    for kept in walks[name].tracks.values():
        assert all(a < b for a, b in pairwise(kept.pts_s))


@pytest.mark.parametrize(
    ("name", "jumps"), [("times_back_ts", 1), ("times_back_mkv", 3), ("times_repeat_mkv", 1)]
)
def test_times_that_jump_back_go_on_and_every_frame_is_kept(
    walks: Walks, name: str, jumps: int
) -> None:
    done, whole = walks[name], RECIPES[name].frames or walks.clean(name).frames
    steps = sorted(b - a for a, b in pairwise(done.tracks[0].pts_s))

    assert len(steps) == whole - 1
    # Frames last as long behind a jump as before it; at it, less than a second is left free.
    assert steps[:-jumps] == pytest.approx([0.04] * (whole - 1 - jumps), abs=0.001)
    assert all(0.04 < step < 1 for step in steps[-jumps:])
    assert any("the times jump back by" in message for message in done.messages)


def test_frames_beyond_a_year_are_set_aside_and_those_before_kept(walks: Walks) -> None:
    done = walks["frames_of_68_years"]

    assert done.tracks[0].pts_s == [0.0]
    # ffmpeg gives up at the eleventh.
    assert [(failure.message, failure.frames) for failure in done.failures] == [
        ("the container counts 100 frames, and 11 came", 99),
        ("a frame claims to lie more than a year from the recording's start", 0),
    ]


def test_packets_before_the_first_keyframe_are_counted(walks: Walks) -> None:
    (failure,) = walks["keyframe_lost_at_head_mkv"].failures

    assert failure.message == "9 packets come before the first keyframe"
    # The keyframe is gone as well.
    assert failure.frames == 10


@pytest.mark.parametrize("name", [name for name in RECIPES if name.startswith("noise_ts")])
def test_a_hole_in_a_transport_stream_is_a_failure(walks: Walks, name: str) -> None:
    assert any("corrupt input packet" in message for message in walks[name].messages)


def test_a_loss_is_recorded_with_its_reason(walks: Walks, name: str) -> None:
    recipe, done = RECIPES[name], walks[name]
    total = walks.clean(name).frames if recipe.frames is None else recipe.frames

    assert done.frames <= total or not recipe.clean
    if done.frames < total and not recipe.silent:
        assert done.messages
    assert all(done.messages)
    assert all(failure.source_uri == str(walks.path(name)) for failure in done.failures)


@pytest.mark.parametrize(
    "name", [name for name, r in RECIPES.items() if r.silent and not name.startswith("noise")]
)
def test_a_loss_that_nothing_tells_of_is_still_one(walks: Walks, name: str) -> None:
    # Should this fail, the loss is told by now: the exception can go.
    assert walks[name].frames < walks.clean(name).frames
    assert walks[name].messages == []


@pytest.mark.parametrize("name", [name for name, recipe in RECIPES.items() if not recipe.clean])
def test_what_is_no_footage_is_refused_with_a_reason(walks: Walks, name: str) -> None:
    if name == "unreadable" and os.geteuid() == 0:
        pytest.skip("root may read every file")
    done = walks[name]

    assert done.refused
    assert done.frames == 0


def test_no_damaged_picture_is_given_without_a_word(walks: Walks, name: str) -> None:
    recipe, done = RECIPES[name], walks[name]
    if not recipe.clean or recipe.moved:
        pytest.skip("its frames cannot be told by their times")

    if unlike(done, walks.clean(name)) and not recipe.silent:
        assert done.messages


def test_frames_before_the_damage_are_those_of_the_clean_clip(walks: Walks, name: str) -> None:
    recipe, done, clean = RECIPES[name], walks[name], walks.clean(name)
    if not recipe.clean:
        pytest.skip("it was never footage")
    count = recipe.intact_frames
    if count is None:
        count = intact_frames(walks.corpus.clean(recipe.clean), walks.path(name))

    if count:
        got, expected = done.tracks[0], clean.tracks[0]
        assert got.frame_index[:count] == expected.frame_index[:count]
        assert got.pts_s[:count] == expected.pts_s[:count]
        assert got.pixels[:count] == expected.pixels[:count]


@pytest.mark.parametrize(("name", "track"), GOOD_TRACKS)
def test_a_good_track_beside_a_corrupt_one_comes_out_whole(
    walks: Walks, name: str, track: int
) -> None:
    done, clean = walks[name], walks.clean(name)

    assert done.tracks[track] == clean.tracks[track]
    assert len(done.tracks[track].frame_index) == 100
    assert any(failure.video_track != track for failure in done.failures)


@pytest.mark.parametrize("name", [n for n in RECIPES if n.startswith("first_track")])
def test_a_video_track_that_cannot_be_read_is_a_failure_by_its_number(
    walks: Walks, name: str
) -> None:
    done = walks[name]

    assert done.refused or any(failure.video_track == 0 for failure in done.failures)
