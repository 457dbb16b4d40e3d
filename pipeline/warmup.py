"""A segment without footage: one full-size batch that goes through every step before real ones.

After it, each worker has loaded what it loads and touched the memory that a batch needs: the state
from which the memory cap is counted.
"""

import io
from fractions import Fraction

import av
import numpy as np

from pipeline.ffmpeg import TIME_SHIFT_S
from pipeline.letterbox import Letterbox
from pipeline.records import Footage, FootageKey, Segment, VideoTrack

WARM_UP_KEY = FootageKey(camera_id="", sequence=-1)
_RATE_FPS = 25


def warm_up_segment(letterbox: Letterbox, frames: int, number: int = 0) -> Segment:
    """Return segment `number` of `frames` grey frames that fit `letterbox` without scaling."""
    width, height = letterbox.scaled_width & ~1 or 2, letterbox.scaled_height & ~1 or 2
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="nut") as container:
        stream = container.add_stream("mpeg4", rate=_RATE_FPS)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.time_base = Fraction(1, _RATE_FPS)
        grey = av.VideoFrame.from_ndarray(np.full((height, width, 3), 114, np.uint8), "rgb24")
        for frame in range(frames):
            grey.pts, grey.time_base = TIME_SHIFT_S * _RATE_FPS + frame, Fraction(1, _RATE_FPS)
            container.mux(stream.encode(grey))
        container.mux(stream.encode(None))
    footage = Footage(
        key=WARM_UP_KEY,
        source_uri="",
        track=VideoTrack(video_track=0, codec="mpeg4", width=width, height=height),
        letterbox=letterbox,
    )
    numbers = np.arange(frames)
    return Segment(
        footage=footage,
        index=number,
        packets=frames,
        positions=numbers,
        frame_index=numbers,
        pts_s=numbers / _RATE_FPS,
        data=buffer.getvalue(),
    )
