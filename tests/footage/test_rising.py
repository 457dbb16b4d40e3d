"""Times that jump back go on rising; times that are sound stay as they are."""

from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest

from pipeline.decode import DecodeSettings
from pipeline.demux import DemuxSettings
from pipeline.errors import SourceError
from pipeline.ffmpeg import VideoPacket
from pipeline.rising import RisingTimes
from tests.footage.clips import cut_one, decoded, footages_of, run_ffmpeg
from tests.footage.corrupt import Corpus, cluster_times, joined

# Two groups of pictures in decode order, with pictures that are shown before the keyframe.
OPEN = [0, 3, 1, 2, 6, 4, 5, 9, 7, 8, 12, 10, 11, 15, 13, 14, 18, 16, 17, 21, 19, 20]


def moved(times: list[int], keyframes: tuple[int, ...], *, reorders: bool) -> list[int]:
    """Return the times that packets go on with; `keyframes` are their places."""
    rising = RisingTimes(reorders=reorders)
    return [rising.move(packet(time, place in keyframes)) for place, time in enumerate(times)]


def packet(pts: int | None, is_keyframe: bool = False) -> VideoPacket:
    return cast(VideoPacket, SimpleNamespace(pts=pts, dts=None, is_keyframe=is_keyframe))


def test_pictures_that_are_held_back_are_no_jump() -> None:
    assert moved(OPEN, (0, 7, 13, 19), reorders=True) == OPEN


def test_times_of_a_varying_rate_stay_as_they_are() -> None:
    times = [0, 1, 40, 41, 3000, 3001, 3040, 90_000, 90_001]

    assert moved(times, (0, 3, 6), reorders=False) == times


def test_frames_behind_a_jump_come_behind_all_that_were_before_it_and_last_as_long() -> None:
    got = moved([*OPEN, *OPEN], (0, 22), reorders=True)

    assert got[: len(OPEN)] == OPEN
    assert min(got[len(OPEN) :]) > max(OPEN)
    assert np.diff(got[len(OPEN) :]).tolist() == np.diff(OPEN).tolist()


def test_a_jump_amid_a_group_of_pictures_is_seen_once_it_is_further_than_pictures_are_held() -> (
    None
):
    times = [*range(1000, 1040), *range(500, 540)]

    got = moved(times, (0,), reorders=True)

    assert got[:40] == times[:40]
    assert all(a < b for a, b in pairwise(got))


def test_a_clock_that_was_set_back_by_a_moment_is_let_catch_up() -> None:
    times = [0, 40, 80, 79, 120, 100, 160, 200]

    assert moved(times, (0,), reorders=False) == [0, 40, 80, 81, 120, 121, 160, 200]


@pytest.mark.parametrize("reorders", [True, False])
def test_no_two_frames_share_a_time(reorders: bool) -> None:
    got = moved([0, 40, 40, 40, 80, 120, 120], (0,), reorders=reorders)

    assert got == [0, 40, 41, 42, 80, 120, 121]


def test_a_packet_without_any_time_is_an_error() -> None:
    with pytest.raises(SourceError, match="neither a presentation nor a decoding time"):
        RisingTimes(reorders=True).move(packet(None))


@pytest.fixture(scope="module")
def glued(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    corpus = Corpus(tmp_path_factory.mktemp("glued"))
    return {
        "ts": joined(corpus, "glued.ts", "ts", "ts", "ts"),
        "mkv": cluster_times(corpus, "glued.mkv", -2500),
    }


@pytest.mark.parametrize("kind", ["ts", "mkv"])
def test_a_segment_behind_a_jump_decodes_the_same_carried_and_in_place(
    glued: dict[str, Path], kind: str
) -> None:
    (footage,) = footages_of(str(glued[kind]))
    carried, end = cut_one(footage, DemuxSettings(segment_frames=20))
    in_place, _ = cut_one(footage, DemuxSettings(segment_frames=20, carried_bytes=1))

    assert not any(segment.in_place for segment in carried)
    assert all(segment.in_place for segment in in_place)
    first, second = (decoded(segments, DecodeSettings()) for segments in (carried, in_place))
    assert len(first) == {"ts": 300, "mkv": 100}[kind]
    assert first.failures == second.failures == ()
    assert first.frame_index == second.frame_index == list(range(len(first)))
    assert first.pts_s == second.pts_s == sorted(set(first.pts_s))
    assert np.array_equal(first.pixels, second.pixels)
    assert "the times jump back by" in end.failures[-1].message
    assert end.failures[-1].frames == 0


def test_frames_of_equal_times_are_all_kept(tmp_path: Path) -> None:
    path = tmp_path / "equal.mkv"
    run_ffmpeg(
        "-f", "lavfi", "-i", "testsrc2=size=160x120:rate=25", "-frames:v", "60", "-c:v", "mjpeg",
        "-bsf:v", r"setts=ts=TS-mod(N\,2)*DURATION", path,
    )  # fmt: skip
    (footage,) = footages_of(str(path))

    segments, _ = cut_one(footage, DemuxSettings(segment_frames=20))
    got = decoded(segments, DecodeSettings())

    assert got.frame_index == list(range(60))
    assert got.failures == ()
    assert got.pts_s == sorted(set(got.pts_s))
