"""Footage that costs nothing to cut and to decode: what is left is what the machinery costs.

Stands in for `demux.cut` and `decode.decode` where the control plane alone is measured.
"""

from collections.abc import Container, Iterator, Mapping, Sequence

import numpy as np

from pipeline.cutter import DemuxSettings
from pipeline.decode import DecodeSettings
from pipeline.letterbox import fit
from pipeline.records import (
    Footage,
    FootageEnd,
    FootageKey,
    FrameBatch,
    Segment,
    Stretch,
    VideoTrack,
)

_SIDE_PX = 32
_RATE_FPS = 25


def blank_footage(camera_id: str, segments: int, settings: DemuxSettings) -> Footage:
    """Return a recording of grey frames, of so many full segments."""
    frames = segments * settings.segment_frames
    return Footage(
        key=FootageKey(camera_id=camera_id, sequence=0),
        source_uri=f"blank:{camera_id}",
        track=VideoTrack(
            video_track=0,
            codec="blank",
            width=_SIDE_PX,
            height=_SIDE_PX,
            rate_fps=_RATE_FPS,
            frames=frames,
        ),
        letterbox=fit(_SIDE_PX, _SIDE_PX, _SIDE_PX),
    )


def cut_blank(
    footages: Sequence[Footage],
    settings: DemuxSettings,
    done: Mapping[FootageKey, Container[int]],
) -> Iterator[Segment | FootageEnd]:
    """Yield the segments of blank footage that are not `done`, as `demux.cut` does."""
    length = settings.segment_frames
    for footage in footages:
        segments = footage.track.expected_frames // length
        for index in range(segments):
            if index in done.get(footage.key, ()):
                continue
            numbers = np.arange(index * length, (index + 1) * length)
            yield Segment(
                footage=footage,
                index=index,
                packets=length,
                positions=np.arange(length),
                frame_index=numbers,
                pts_s=numbers / _RATE_FPS,
            )
        yield FootageEnd(footage=footage.key, segments=segments)


def decode_blank(segment: Segment, settings: DecodeSettings) -> Iterator[FrameBatch]:
    """Yield the batches of a blank segment, as `decode.decode` does."""
    box = segment.footage.letterbox
    for start in range(0, segment.wanted, settings.batch_size):
        stop = min(start + settings.batch_size, segment.wanted)
        yield FrameBatch(
            stretch=Stretch(
                footage=segment.footage.key,
                segment=segment.index,
                start=start,
                stop=stop,
                wanted=segment.wanted,
            ),
            source_uri=segment.footage.source_uri,
            video_track=0,
            letterbox=box,
            positions=segment.positions[start:stop],
            frame_index=segment.frame_index[start:stop],
            pts_s=segment.pts_s[start:stop],
            pixels=np.zeros((stop - start, box.padded_height, box.padded_width, 3), np.uint8),
        )
