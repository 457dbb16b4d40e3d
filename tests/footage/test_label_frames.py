"""The pictures that labels are asked of: upright, masked, the frames' own and no others'."""

from dataclasses import replace

import av
import numpy as np
import pytest

from pipeline.decode import DecodeSettings, decode
from pipeline.demux import DemuxSettings
from pipeline.label_fill import read_label_frames
from pipeline.records import Footage, LabelFrame
from tests.footage.clips import (
    FRAMES,
    ClipFolder,
    assert_same,
    cut_one,
    decoded,
    footages_of,
    plain_decode,
)

SIZE_PX = 176
CUT = DemuxSettings(segment_frames=40)


def opened(frame: LabelFrame) -> np.ndarray:
    (picture,) = av.CodecContext.create("mjpeg", "r").decode(av.Packet(frame.jpeg))
    return picture.to_ndarray(format="rgb24").astype(int)


def taken(footage: Footage, every: int, **more: int) -> list[LabelFrame]:
    settings = DecodeSettings(label_every=every, **more)
    segments, _ = cut_one(footage, CUT)
    return [
        frame
        for segment in segments
        for batch in decode(segment, settings)
        for frame in batch.label_frames
    ]


def assert_are_the_frames(frames: list[LabelFrame], path: str) -> None:
    """Assert that each picture is that of its number, and of no other frame."""
    (source,) = footages_of(path, image_size=SIZE_PX)
    plain = plain_decode(path, source)
    for frame in frames:
        assert frame.pts_s == plain.pts_s[frame.frame_index]
        picture = opened(frame)
        assert picture.shape == plain.pixels[0].shape
        distances = [np.abs(picture - each).mean() for each in plain.pixels]
        assert int(np.argmin(distances)) == frame.frame_index
        assert min(distances) < 8


@pytest.mark.parametrize(
    "name", ["h264", "turned_90", "mpeg4_avi", "hevc_open_gop", "h264_long_gop"]
)
def test_every_nth_frame_gives_its_own_upright_picture(clips: ClipFolder, name: str) -> None:
    (footage,) = footages_of(clips[name], image_size=64)
    frames = taken(footage, every=25)
    assert [frame.frame_index for frame in frames] == list(range(0, FRAMES, 25))
    assert_are_the_frames(frames, clips[name])


def test_detection_gets_the_same_pixels_with_labels_and_without(clips: ClipFolder) -> None:
    (footage,) = footages_of(clips["h264"])
    segments, _ = cut_one(footage, CUT)
    without, with_labels = (
        decoded(segments, DecodeSettings(label_every=every)) for every in (0, 25)
    )
    assert len(without) == FRAMES
    assert_same(with_labels, without)


def test_no_picture_is_made_unless_labels_are_wanted(clips: ClipFolder) -> None:
    (footage,) = footages_of(clips["h264"])
    assert taken(footage, every=0) == []


def test_each_batch_has_the_pictures_of_its_own_frames_whatever_its_size(clips: ClipFolder) -> None:
    (footage,) = footages_of(clips["h264"])
    segments, _ = cut_one(footage, CUT)
    for size in (1, 7, 64):
        for segment in segments:
            for batch in decode(segment, DecodeSettings(label_every=10, batch_size=size)):
                numbers = batch.frame_index.tolist()
                own = [frame.frame_index for frame in batch.label_frames]
                assert own == [number for number in numbers if number % 10 == 0]


def test_what_is_masked_is_painted_out_of_the_picture_too(clips: ClipFolder) -> None:
    (footage,) = footages_of(clips["h264"])
    left_half = ((0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0))
    (frame, *_) = taken(replace(footage, masks=(left_half,)), every=25)
    picture = opened(frame)
    assert picture.shape == (144, 176, 3)
    assert np.abs(picture[:, :84] - 114).mean() < 2
    assert picture[:, 100:].std() > 20


@pytest.mark.parametrize("name", ["h264", "hevc_open_gop", "turned_180"])
def test_single_frames_can_be_decoded_again(clips: ClipFolder, name: str) -> None:
    (footage,) = footages_of(clips[name])
    wanted = [3, 60, 61, 124]
    frames = list(read_label_frames(footage, wanted, CUT))
    assert [frame.frame_index for frame in frames] == wanted
    assert_are_the_frames(frames, clips[name])
    (first, *_) = taken(footage, every=60)
    # The same picture, to the last bit, as the one that was taken on the way.
    (again,) = read_label_frames(footage, [0], CUT)
    assert again == first
