"""What became whole on disk: the count that progress, limits of failure and live metrics go by."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from pipeline.timing import Span


@dataclass(frozen=True, slots=True)
class StepGain:
    """What a step took for what it did.

    Attributes:
        wall_s: Seconds, summed over the processes that did it.
        wait_s: Seconds that its work lay ready before it.
        frames: Frames that it handled.
    """

    wall_s: float = 0.0
    wait_s: float = 0.0
    frames: int = 0

    def __add__(self, other: "StepGain | Span") -> "StepGain":
        return StepGain(
            self.wall_s + other.wall_s, self.wait_s + other.wait_s, self.frames + other.frames
        )


@dataclass(frozen=True, slots=True)
class Gain:
    """What became whole.

    Attributes:
        frames: Frames that were looked at.
        segments: Segments, with those set aside.
        failed: Segments that were set aside.
        lost: Frames that were set aside.
        video_s: Seconds of footage that the frames stand for.
        steps: What each step took; measured, so it does not tell two gains apart.
    """

    frames: int = 0
    segments: int = 0
    failed: int = 0
    lost: int = 0
    video_s: float = 0.0
    steps: Mapping[str, StepGain] = field(default_factory=dict, compare=False)

    def __add__(self, other: "Gain") -> "Gain":
        return Gain(
            frames=self.frames + other.frames,
            segments=self.segments + other.segments,
            failed=self.failed + other.failed,
            lost=self.lost + other.lost,
            video_s=self.video_s + other.video_s,
            steps={
                step: self.steps.get(step, StepGain()) + other.steps.get(step, StepGain())
                for step in {**self.steps, **other.steps}
            },
        )


def gain_of_spans(spans: Iterable[Span]) -> Gain:
    """Return what some work took."""
    steps: dict[str, StepGain] = {}
    for span in spans:
        steps[span.step] = steps.get(span.step, StepGain()) + span
    return Gain(steps=steps)
