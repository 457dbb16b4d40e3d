"""Small clips of every kind, made with ffmpeg, and what a plain decode of a whole file gives.

    testsrc2 + noise ──> encoder ──> clip ──┬── probe, cut, decode   ──> Frames
                                            └── PyAV, start to end   ──> Frames: the same

A moving picture with noise in every frame: no two frames of a clip are alike, so that a frame that is
taken for another one is seen.
"""

import subprocess
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import av
import av.filter
import numpy as np
from numpy.typing import NDArray

from pipeline.decode import DecodeSettings, decode
from pipeline.demux import DemuxSettings, cut
from pipeline.ffmpeg import find_ffmpeg
from pipeline.letterbox import Letterbox, fit
from pipeline.probe import probe
from pipeline.records import Failure, Footage, FootageEnd, FootageKey, Segment

SCALED_PX = 128
FRAMES = 125
_H264 = "-c:v libx264 -preset ultrafast -bf 3 -g 40"
_HEVC = "-c:v libx265 -preset ultrafast -x265-params log-level=none:open-gop=1:keyint=40:bframes=4"
_OPEN = "-c:v libx264 -preset veryfast -x264-params bframes=3:b-adapt=0:open-gop=1:scenecut=0"
_DIVX = "-c:v mpeg4 -bf 2 -g 30"

# Clips: ending, the clip that they copy (or ""), and ffmpeg's arguments.
RECIPES = {
    "h264": (".mp4", "", _H264),
    "h264_open_gop": (".mkv", "", f"{_OPEN}:keyint=40:min-keyint=40"),
    "h264_intra_refresh": (
        ".mkv",
        "",
        "-c:v libx264 -preset veryfast -x264-params bframes=0:intra-refresh=1:keyint=25:scenecut=0",
    ),
    "h264_ts": (".ts", "", _H264),
    "h264_flv": (".flv", "", _H264),
    "h264_fragments": (".mp4", "", f"{_H264} -movflags +frag_keyframe+empty_moov"),
    "h264_faststart": (".mp4", "h264", "-movflags +faststart"),
    "h264_no_b_frames": (".avi", "", "-c:v libx264 -preset ultrafast -bf 0 -g 40"),
    "h264_interlaced": (".mkv", "", "-c:v libx264 -bf 2 -g 40 -flags +ilme+ildct"),
    "h264_long_gop": (".mp4", "", "-c:v libx264 -preset ultrafast -bf 3 -g 999 -sc_threshold 0"),
    "h264_grey": (".mp4", "", f"{_H264} -pix_fmt gray"),
    "h264_late_start": (".mp4", "", f"{_H264} -output_ts_offset 5"),
    "h264_square_pixels_not": (".mp4", "", f"-vf setsar=4/3 {_H264}"),
    "hevc_open_gop": (".mkv", "", _HEVC),
    "hevc_open_gop_mp4": (".mp4", "hevc_open_gop", ""),
    "hevc_open_gop_ts": (".ts", "hevc_open_gop", ""),
    "hevc_10_bit": (".mkv", "", f"{_HEVC} -pix_fmt yuv420p10le"),
    "mpeg4": (".mkv", "", _DIVX),
    "mpeg4_mp4": (".mp4", "", _DIVX),
    "mpeg4_avi": (".avi", "", _DIVX),
    "mpeg2_ps": (".mpg", "", "-c:v mpeg2video -bf 2 -g 15"),
    "mpeg2": (".mkv", "", "-c:v mpeg2video -bf 2 -g 15"),
    "mpeg2_mxf": (".mxf", "", "-c:v mpeg2video -bf 2 -g 15"),
    "vp8": (".webm", "", "-c:v libvpx -deadline realtime -cpu-used 8 -g 40"),
    "vp9": (".webm", "", "-c:v libvpx-vp9 -deadline realtime -cpu-used 8 -g 40"),
    "av1": (".mkv", "", "-c:v libsvtav1 -preset 12 -g 40"),
    "theora": (".ogg", "", "-c:v libtheora -g 40"),
    "wmv2": (".wmv", "", "-c:v wmv2 -g 40"),
    "mjpeg": (".avi", "", "-c:v mjpeg"),
    "odd_size": (".avi", "", f"-vf crop=175:143:exact=1,format=yuv420p {_DIVX}"),
    "odd_size_full_chroma": (".mp4", "", f"-vf crop=175:143:exact=1 {_H264} -pix_fmt yuv444p"),
    "varying_rate": (
        ".mp4",
        "",
        f"-vf setpts='PTS+0.02*mod(N,3)*random(0)/TB' -fps_mode vfr {_H264}",
    ),
    "one_frame": (".mp4", "", f"-frames:v 1 {_H264}"),
    "two_frames": (".mp4", "", f"-frames:v 2 {_H264}"),
    "turned_90": (".mp4", "h264", ""),
    "turned_180": (".mkv", "h264", ""),
    "turned_270": (".mp4", "h264", ""),
    "edit_list": (".mp4", "h264", ""),
    "edit_list_open_gop": (".mp4", "hevc_open_gop_mp4", ""),
    "portrait": (".mp4", "", f"-vf crop=64:144 {_H264}"),
}
# What stands before the input of a clip that copies another one.
_BEFORE_INPUT = {
    "turned_90": "-display_rotation 270",
    "turned_180": "-display_rotation 180",
    "turned_270": "-display_rotation 90",
    "edit_list": "-ss 2.3",
    "edit_list_open_gop": "-ss 1.3",
}


class ClipFolder:
    """Clips by name, each made when it is first asked for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __getitem__(self, name: str) -> str:
        ending, copied, arguments = RECIPES[name]
        path = self._folder / f"{name}{ending}"
        if not path.exists():
            source = (
                f"{_BEFORE_INPUT.get(name, '')} -i {self[copied]} -c copy"
                if copied
                else f"-f lavfi -i testsrc2=size=176x144:rate=25,noise=alls=12:allf=t "
                f"{'' if '-frames' in arguments else f'-frames:v {FRAMES}'}"
            )
            run_ffmpeg(*source.split(), *arguments.split(), path)
        return str(path)

    def changed(self, name: str, change: str, data: bytes) -> str:
        """Write a copy of a clip with other bytes and return its path."""
        path = self._folder / f"{Path(self[name]).stem}_{change}{Path(self[name]).suffix}"
        path.write_bytes(data)
        return str(path)


def run_ffmpeg(*arguments: str | Path) -> bytes:
    """Run ffmpeg and return what it writes to its standard output."""
    command = [find_ffmpeg(), "-y", "-v", "error", "-nostdin", *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True).stdout


@dataclass(frozen=True, slots=True, kw_only=True)
class Frames:
    """Frames of a video track, without the letterbox: (n, scaled_height, scaled_width, 3) RGB."""

    frame_index: list[int]
    pts_s: list[float]
    pixels: NDArray[np.uint8]
    failures: tuple[Failure, ...] = ()

    def __len__(self) -> int:
        return len(self.frame_index)

    @property
    def failed(self) -> int:
        """Frames that did not decode."""
        return sum(failure.frames for failure in self.failures)


def assert_same(got: Frames, expected: Frames) -> None:
    """Assert that numbers, times and pixels are those of `expected`, to the last bit."""
    assert got.frame_index == expected.frame_index
    assert got.pts_s == expected.pts_s
    different = [
        number
        for number, a, b in zip(got.frame_index, got.pixels, expected.pixels, strict=True)
        if not np.array_equal(a, b)
    ]
    assert different == []


def footages_of(path: str, image_size: int = SCALED_PX) -> list[Footage]:
    """Return each video track of a recording as the footage of a camera named by its number."""
    recording = probe(path)
    return [
        Footage(
            key=FootageKey(camera_id=str(track.video_track), sequence=0),
            source_uri=path,
            track=track,
            letterbox=fit(*track.upright_size, image_size),
            origin_s=recording.origin_s,
            container_hides_negative="mp4" in recording.container,
        )
        for track in recording.video_tracks
    ]


def cut_one(footage: Footage, settings: DemuxSettings) -> tuple[list[Segment], FootageEnd]:
    """Cut one video track to its end."""
    *segments, end = cut([footage], settings)
    assert all(isinstance(segment, Segment) for segment in segments)
    assert isinstance(end, FootageEnd)
    assert [segment.index for segment in segments] == list(range(end.segments))
    return segments, end


def decoded(segments: Iterable[Segment], settings: DecodeSettings) -> Frames:
    """Decode segments one after the other."""
    numbers: list[int] = []
    times: list[float] = []
    pixels: list[NDArray[np.uint8]] = []
    failures: list[Failure] = []
    for segment in segments:
        for batch in decode(segment, settings):
            numbers += batch.frame_index.tolist()
            times += batch.pts_s.tolist()
            pixels += [picture(frame, batch.letterbox) for frame in batch.pixels]
            failures += batch.failures
    return Frames(
        frame_index=numbers, pts_s=times, pixels=np.array(pixels), failures=tuple(failures)
    )


def picture(frame: NDArray[np.uint8], box: Letterbox) -> NDArray[np.uint8]:
    """Return the part of a letterboxed frame that is not padding."""
    rows = slice(box.top_px, box.top_px + box.scaled_height)
    return frame[rows, box.left_px : box.left_px + box.scaled_width]


@lru_cache(maxsize=4)
def plain_decode(path: str, footage: Footage) -> Frames:
    """Decode a video track with PyAV from start to end, knowing nothing of segments."""
    frames = list(_scaled(path, footage))
    return Frames(
        frame_index=list(range(len(frames))),
        pts_s=[time for time, _ in frames],
        pixels=np.array([pixels for _, pixels in frames]),
    )


def _scaled(path: str, footage: Footage) -> Iterator[tuple[float, NDArray[np.uint8]]]:
    box, graph = footage.letterbox, None
    turns = {0: [], 90: ["clock"], 180: ["clock", "clock"], 270: ["cclock"]}
    chain = [("transpose", turn) for turn in turns[footage.track.rotation_deg]]
    chain += [("scale", f"{box.scaled_width}:{box.scaled_height}"), ("format", "rgb24")]
    with av.open(path) as container:
        stream = container.streams.video[footage.track.video_track]
        for frame in container.decode(stream):
            graph = graph or _graph(frame, chain)
            graph.push(frame)
            yield float(frame.pts * stream.time_base), graph.pull().to_ndarray()


def _graph(frame: av.VideoFrame, chain: Sequence[tuple[str, str]]) -> av.filter.Graph:
    graph = av.filter.Graph()
    source = graph.add_buffer(
        width=frame.width,
        height=frame.height,
        format=frame.format.name,
        time_base=frame.time_base,
    )
    steps = [source, *(graph.add(name, argument) for name, argument in chain)]
    steps.append(graph.add("buffersink"))
    for step, following in pairwise(steps):
        step.link_to(following)
    graph.configure()
    return graph
