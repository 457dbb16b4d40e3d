"""Stills: frames from here and there, at inference size, of whatever recording."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import SourceError
from pipeline.letterbox import PAD_GREY
from pipeline.records import Footage
from pipeline.stills import Places, spread, stills
from tests.footage.clips import ClipFolder, footages_of, picture, plain_decode


def only_footage(path: str) -> Footage:
    (footage,) = footages_of(path)
    return footage


def test_places_are_spread_over_recordings_first_and_then_over_time(clips: ClipFolder) -> None:
    one = only_footage(clips["h264"])
    (few,) = spread([one], 5)
    assert few.times_s == pytest.approx([0.5, 1.5, 2.5, 3.5, 4.5])
    several = spread([one] * 3, 5)
    assert [len(each.times_s) for each in several] == [2, 2, 1]
    footages = [replace(one, source_uri=str(number)) for number in range(10)]
    many = spread(footages, 4)
    assert [each.footage.source_uri for each in many] == ["1", "3", "6", "8"]
    assert [each.times_s for each in many] == [(2.5,)] * 4


@pytest.mark.parametrize("name", ["h264", "h264_late_start", "turned_90", "vp9", "odd_size"])
def test_stills_of_a_short_recording_are_its_frames_at_these_times(
    clips: ClipFolder, name: str
) -> None:
    footage = only_footage(clips[name])
    # 25 frames a second: the first at 1 s or behind it is number 25.
    taken = list(stills(Places(footage=footage, times_s=(0.0, 0.99, 3.02, 3.99, 4.5))))
    frames = plain_decode(clips[name], footage).pixels
    box = footage.letterbox
    assert len(taken) == 5
    for still, number in zip(taken, (0, 25, 76, 100, 113), strict=True):
        assert still.shape == (box.padded_height, box.padded_width, 3)
        assert np.array_equal(picture(still, box), frames[number]), number
    assert (taken[0][: box.top_px] == PAD_GREY).all()
    assert (taken[0][:, : box.left_px] == PAD_GREY).all()


def test_stills_of_a_long_recording_are_the_keyframes_before_these_times(
    clips: ClipFolder, long_clip: str
) -> None:
    footage = only_footage(long_clip)
    assert footage.track.expected_frames == 12_500
    taken = list(stills(Places(footage=footage, times_s=(1.0, 102.3, 499.0))))
    once = plain_decode(clips["h264"], only_footage(clips["h264"])).pixels
    # The clip repeats every 5 s, and has a keyframe each 40 frames.
    for still, number in zip(taken, (0, 40, 80), strict=True):
        assert np.array_equal(picture(still, footage.letterbox), once[number]), number


def test_a_recording_that_is_gone_is_named(clips: ClipFolder, tmp_path: Path) -> None:
    footage = replace(only_footage(clips["h264"]), source_uri=str(tmp_path / "gone.mp4"))
    with pytest.raises(SourceError, match="gives no stills"):
        list(stills(Places(footage=footage, times_s=(0.0,))))
