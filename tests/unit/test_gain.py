"""What became whole adds up, and what the steps took with it."""

import dataclasses

import pytest

from pipeline.gain import Gain, StepGain, gain_of_spans
from pipeline.letterbox import fit
from pipeline.records import Footage, FootageKey, VideoTrack
from pipeline.timing import Span


def span(step: str, frames: int, wall_s: float, wait_s: float = 0.0) -> Span:
    return Span(step=step, wall_s=wall_s, cpu_s=0.0, frames=frames, pid=1, wait_s=wait_s)


def test_what_the_steps_took_adds_up_by_step() -> None:
    first = gain_of_spans([span("decode", 10, 0.5), span("detect", 10, 1.0, wait_s=2.0)])
    second = gain_of_spans([span("detect", 5, 0.25), span("track", 5, 0.125)])
    assert (first + second).steps == {
        "decode": StepGain(wall_s=0.5, frames=10),
        "detect": StepGain(wall_s=1.25, wait_s=2.0, frames=15),
        "track": StepGain(wall_s=0.125, frames=5),
    }


def test_every_count_adds_up() -> None:
    ones = Gain(frames=1, segments=1, failed=1, lost=1, video_s=1.0)
    counts = [each.name for each in dataclasses.fields(Gain) if each.compare]
    assert {getattr(ones + ones, name) for name in counts} == {2}


@pytest.mark.parametrize(
    ("rate_fps", "stride", "video_s"), [(50.0, 1, 2.0), (25.0, 3, 12.0), (0.0, 1, 4.0)]
)
def test_frames_stand_for_the_footage_that_a_stride_leaves_out_too(
    rate_fps: float, stride: int, video_s: float
) -> None:
    track = VideoTrack(video_track=0, codec="h264", width=64, height=48, rate_fps=rate_fps)
    footage = Footage(
        key=FootageKey(camera_id="door", sequence=0),
        source_uri="door.mkv",
        track=track,
        letterbox=fit(64, 48, 64),
        stride=stride,
    )
    assert footage.seconds_of(100) == pytest.approx(video_s)
