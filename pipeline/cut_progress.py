"""How far a video track was cut, over all attempts, and what of it was missed."""

from collections.abc import Container
from dataclasses import dataclass, field

from pipeline.errors import SourceError
from pipeline.records import Failure, Footage, FootageEnd
from pipeline.timing import Stopwatch

_FAR = "a frame claims to lie more than a year from the recording's start"


@dataclass(slots=True)
class Progress:
    """How far a video track was cut by the attempt that came furthest.

    Attributes:
        footage: The video track.
        done: Numbers of segments that the caller has already.
        packets: Packets that came.
        headless: Packets before the first keyframe: nothing decodes them.
        far: Packets whose times cannot be.
        jumps: What is told of times that jump back; "" if none do.
        segments: Segments that were given or found done; they are not given again.
        frames: Frames of those segments.
        is_read_again: A segment of it has to be read from the recording itself.
        watch: Time spent on it, over all attempts.
    """

    footage: Footage
    done: Container[int] = ()
    packets: int = 0
    headless: int = 0
    far: int = 0
    jumps: str = ""
    segments: int = 0
    frames: int = 0
    is_read_again: bool = False
    watch: Stopwatch = field(default_factory=lambda: Stopwatch("demux"))

    def wants(self, segment: int) -> bool:
        """Say whether a segment has to be built."""
        return segment >= self.segments and segment not in self.done

    def reach(self, *, segments: int, frames: int) -> None:
        """Note how far an attempt came."""
        self.segments = max(self.segments, segments)
        self.frames = max(self.frames, frames)

    def end(self, error: Exception | None, attempts: int) -> FootageEnd:
        """Return the mark that says how many segments there were, and what the demuxer missed."""
        error = error or self._shortfall()
        missing = self.footage.track.expected_frames - self.frames
        # A rate and a duration are rounded: one frame more or less says nothing.
        uncounted = missing if missing > 1 or not self.packets else 0
        lost = max(self.headless, self.far, uncounted) if error else 0
        told = [(error, lost)] if error else []
        if self.far:
            told.append((SourceError(_FAR), 0 if error else self.far))
        if self.jumps:
            told.append((SourceError(self.jumps), 0))
        return FootageEnd(
            footage=self.footage.key,
            segments=self.segments,
            failures=tuple(
                _failure(self.footage, each, frames=frames, attempts=attempts)
                for each, frames in told
            ),
            spans=(self.watch.span(frames=0),),
        )

    def _shortfall(self) -> SourceError | None:
        """Return what is wrong with what came although nothing complained, if anything."""
        counted = self.footage.track.frames
        if self.packets == 0:
            return SourceError("the video track holds no frame")
        if counted is not None and counted - self.packets > 1:
            return SourceError(f"the container counts {counted} frames, and {self.packets} came")
        if self.headless:
            return SourceError(f"{self.headless} packets come before the first keyframe")
        return None


def _failure(footage: Footage, error: Exception, *, frames: int = 0, attempts: int = 1) -> Failure:
    """Return a row of `failures` about the cutting of one video track."""
    return Failure(
        source_uri=footage.source_uri,
        video_track=footage.track.video_track,
        camera_id=footage.key.camera_id,
        step="demux",
        error_class=type(error).__name__,
        message=str(error),
        signal=getattr(error, "signal", ""),
        frames=frames,
        attempts=attempts,
    )
