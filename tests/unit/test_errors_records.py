"""Errors cross processes with all they know, and records refuse what they cannot be."""

import pickle

import numpy as np
import pytest

from pipeline import errors
from pipeline.errors import FfmpegError, FootfallError, SourceError, StepError
from pipeline.letterbox import fit
from pipeline.records import (
    Detections,
    Footage,
    FootageKey,
    FrameBatch,
    Observation,
    Segment,
    Stretch,
    VideoTrack,
)

KEY = FootageKey(camera_id="door", sequence=0)
BOX = fit(64, 48, 64)


def every_error():
    """Return one of each class of the module, its keywords set."""
    keywords = {
        SourceError: {"source_uri": "/a.mkv"},
        FfmpegError: {"source_uri": "/a.mkv", "signal": "SIGKILL", "exit_code": 137},
        StepError: {"signal": "SIGSEGV"},
    }
    classes = [c for c in vars(errors).values() if isinstance(c, type)]
    found = [c for c in classes if issubclass(c, FootfallError)]
    return [c("it broke", **keywords.get(c, {})) for c in found]


@pytest.mark.parametrize("error", every_error(), ids=lambda error: type(error).__name__)
def test_an_error_crosses_a_process_border_with_its_message_and_attributes(error):
    error.add_note("seen on node 2")
    back = pickle.loads(pickle.dumps(error))
    assert type(back) is type(error)
    assert str(back) == "it broke"
    assert vars(back) == vars(error)
    assert back.__notes__ == ["seen on node 2"]


def test_the_module_has_the_five_kinds_of_error_that_callers_tell_apart():
    names = {type(error).__name__ for error in every_error()}
    assert names >= {"ConfigError", "SourceError", "FfmpegError", "StepError", "OutputError"}
    assert isinstance(FfmpegError("it died"), SourceError)
    assert not isinstance(StepError("it broke"), SourceError)


def stretch(start=0, stop=2, wanted=10):
    return Stretch(footage=KEY, segment=0, start=start, stop=stop, wanted=wanted)


@pytest.mark.parametrize(("start", "stop"), [(-1, 2), (3, 3), (5, 4), (0, 11)])
def test_a_stretch_lies_within_its_segment_and_is_not_empty(start, stop):
    with pytest.raises(ValueError, match=r"no stretch of 10 frames"):
        stretch(start, stop)


def test_a_stretch_may_be_the_whole_segment():
    assert stretch(0, 10).stop == 10


def frame_batch(pixels):
    return FrameBatch(
        stretch=stretch(),
        source_uri="/a.mkv",
        video_track=0,
        letterbox=BOX,
        positions=np.arange(2),
        frame_index=np.arange(2),
        pts_s=np.arange(2) / 25,
        pixels=pixels,
    )


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((2, 48, 64, 3), np.uint8),
        np.zeros((1, 64, 64, 3), np.uint8),
        np.zeros((2, 64, 64, 4), np.uint8),
        np.zeros((2, 64, 64, 3), np.float32),
    ],
    ids=["source size", "a frame less", "four channels", "floats"],
)
def test_pixels_are_the_batch_s_frames_at_inference_size(pixels):
    assert (BOX.padded_height, BOX.padded_width) == (64, 64)
    assert frame_batch(np.zeros((2, 64, 64, 3), np.uint8)).pixels.shape == (2, 64, 64, 3)
    with pytest.raises(ValueError, match=r"not uint8\(2, 64, 64, 3\)"):
        frame_batch(pixels)


def test_the_first_frame_of_a_batch_is_a_batch_of_the_same_stretch():
    pixels = np.arange(2, dtype=np.uint8)[:, None, None, None] * np.ones((1, 64, 64, 3), np.uint8)
    batch = frame_batch(pixels)
    first = batch.first_frame()
    assert first.pixels.shape == (1, 64, 64, 3)
    assert not first.pixels.any()
    assert (first.positions, first.frame_index, first.pts_s) == ([0], [0], [0.0])
    assert first.stretch == batch.stretch


@pytest.mark.parametrize(
    "wrong", [{"boxes": 2}, {"boxes": 4}, {"confidence": 2}, {"class_id": 4}, {"frame_row": 2}]
)
def test_what_detections_say_of_boxes_is_of_equal_length(wrong):
    count = {"boxes": 3, "confidence": 3, "class_id": 3, "frame_row": 3}

    def detections(count):
        return Detections(
            stretch=stretch(),
            positions=np.arange(2),
            frame_index=np.arange(2),
            pts_s=np.arange(2) / 25,
            frame_row=np.zeros(count["frame_row"], np.int64),
            boxes=np.zeros((count["boxes"], 4), np.float32),
            confidence=np.zeros(count["confidence"], np.float32),
            class_id=np.zeros(count["class_id"], np.int64),
        )

    assert len(detections(count).boxes) == 3
    with pytest.raises(ValueError, match="name the same boxes"):
        detections({**count, **wrong})


def video_track(**changes):
    return VideoTrack(
        **{"video_track": 0, "codec": "h264", "width": 1920, "height": 1080, **changes}
    )


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"width": 0}, "0x1080"),
        ({"height": -1}, "1920x-1"),
        ({"rotation_deg": 45}, "45"),
        ({"rotation_deg": -90}, "-90"),
        ({"rotation_deg": 360}, "360"),
    ],
)
def test_a_video_track_has_an_area_and_a_quarter_turn(changes, named):
    with pytest.raises(ValueError, match=named):
        video_track(**changes)


@pytest.mark.parametrize(
    ("turn", "size"),
    [(0, (1920, 1080)), (90, (1080, 1920)), (180, (1920, 1080)), (270, (1080, 1920))],
)
def test_a_quarter_turn_swaps_width_and_height_upright(turn, size):
    assert video_track(rotation_deg=turn).upright_size == size


@pytest.mark.parametrize(
    ("known", "frames"),
    [
        ({"frames": 90, "duration_s": 4.0, "rate_fps": 25.0}, 90),
        ({"duration_s": 4.0, "rate_fps": 29.97}, 120),
        ({"rate_fps": 25.0}, 0),
        ({}, 0),
    ],
)
def test_frames_are_expected_by_the_container_s_count_or_else_by_its_duration(known, frames):
    assert video_track(**known).expected_frames == frames


def test_a_segment_names_as_many_positions_as_frames_and_times():
    footage = Footage(key=KEY, source_uri="/a.mkv", track=video_track(), letterbox=BOX)

    def segment(times):
        return Segment(
            footage=footage,
            index=0,
            packets=9,
            positions=np.arange(3),
            frame_index=np.arange(3),
            pts_s=np.zeros(times),
        )

    assert segment(3).wanted == 3
    with pytest.raises(ValueError, match="equal lengths"):
        segment(2)


def test_an_observation_without_a_score_is_interpolated():
    seen = Observation(track_id=1, class_id=0, box=np.zeros(4), confidence=0.0)
    assert not seen.is_interpolated
    assert Observation(track_id=1, class_id=0, box=seen.box, confidence=None).is_interpolated
