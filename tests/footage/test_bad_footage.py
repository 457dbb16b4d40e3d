"""Bad footage is named and left behind; what is good of it comes through, with its own numbers."""

import io
import os
import random
import shutil
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest

from pipeline.decode import DecodeSettings, decode, suits_decord
from pipeline.demux import DemuxSettings, cut
from pipeline.errors import SourceError
from pipeline.probe import probe
from pipeline.records import Failure, Footage, FootageEnd, Segment
from tests.footage.clips import (
    ClipFolder,
    Frames,
    assert_same,
    cut_one,
    decoded,
    footages_of,
    plain_decode,
    run_ffmpeg,
)

SETTINGS = DemuxSettings(segment_frames=20)
NOT_FOOTAGE = "cannot be read as footage"


def test_a_missing_recording_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"^No such file or directory$") as caught:
        probe(str(tmp_path / "missing.mp4"))
    assert caught.value.source_uri == str(tmp_path / "missing.mp4")


def test_a_link_to_nowhere_is_said_to_be_missing(tmp_path: Path) -> None:
    (tmp_path / "link.mp4").symlink_to(tmp_path / "nowhere.mp4")
    with pytest.raises(SourceError, match="No such file or directory"):
        probe(str(tmp_path / "link.mp4"))


def test_a_folder_is_no_regular_file(tmp_path: Path) -> None:
    (tmp_path / "folder.mp4").mkdir()
    with pytest.raises(SourceError, match="is no regular file"):
        probe(str(tmp_path / "folder.mp4"))


@pytest.mark.timeout(20)
def test_a_named_pipe_is_no_regular_file_and_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    with pytest.raises(SourceError, match="is no regular file"):
        probe(str(tmp_path / "pipe.mp4"))


@pytest.mark.timeout(20)
def test_a_link_to_a_device_is_no_regular_file(tmp_path: Path) -> None:
    (tmp_path / "endless.mp4").symlink_to("/dev/zero")
    with pytest.raises(SourceError, match="is no regular file"):
        probe(str(tmp_path / "endless.mp4"))


def test_an_empty_file_is_said_to_be_empty(tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    with pytest.raises(SourceError, match="is empty: 0 bytes"):
        probe(str(tmp_path / "empty.mp4"))


@pytest.mark.parametrize(
    "data",
    [b"hello\n" * 1000, bytes(100_000), random.Random(1).randbytes(100_000)],
    ids=["text", "zeros", "noise"],
)
def test_what_is_no_footage_is_refused_as_invalid_data(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "not.mp4").write_bytes(data)
    with pytest.raises(SourceError, match=f"{NOT_FOOTAGE}: Invalid data found"):
        probe(str(tmp_path / "not.mp4"))


def test_an_mp4_that_lost_its_index_is_refused_as_invalid_data(clips: ClipFolder) -> None:
    data = Path(clips["h264"]).read_bytes()
    path = clips.changed("h264", "without_index", data[: len(data) // 2])

    with pytest.raises(SourceError, match=f"{NOT_FOOTAGE}: Invalid data found"):
        probe(path)


def test_a_recording_of_sound_alone_holds_no_video_track(tmp_path: Path) -> None:
    run_ffmpeg("-f", "lavfi", "-i", "sine=duration=1", tmp_path / "sound.mp4")
    with pytest.raises(SourceError, match=r"holds no video track \(streams: audio\)"):
        probe(str(tmp_path / "sound.mp4"))


def test_a_cover_picture_before_the_footage_is_no_video_track(
    clips: ClipFolder, tmp_path: Path
) -> None:
    picture, path = tmp_path / "cover.png", tmp_path / "covered.mp4"
    run_ffmpeg("-i", clips["h264"], "-frames:v", "1", picture)
    run_ffmpeg(
        *("-i", picture, "-i", clips["h264"], "-map", "0", "-map", "1", "-c", "copy"),
        *("-disposition:v:0", "attached_pic", path),
    )
    path.write_bytes(with_tags_first(path.read_bytes()))

    (footage,) = footages_of(str(path))
    segments, end = cut_one(footage, SETTINGS)

    with av.open(str(path)) as container:
        assert [s.codec_context.name for s in container.streams.video] == ["png", "h264"]
    assert (footage.track.video_track, footage.track.codec) == (0, "h264")
    (alone,) = footages_of(clips["h264"])
    assert_same(decoded(segments, DecodeSettings()), plain_decode(clips["h264"], alone))
    assert end.failures == ()


def test_sound_with_a_cover_picture_holds_no_video_track(clips: ClipFolder, tmp_path: Path) -> None:
    picture, path = tmp_path / "cover.png", tmp_path / "song.mp4"
    run_ffmpeg("-i", clips["h264"], "-frames:v", "1", picture)
    run_ffmpeg(
        *("-f", "lavfi", "-i", "sine=duration=1", "-i", picture, "-map", "0", "-map", "1"),
        *("-c:v", "copy", "-disposition:v:0", "attached_pic", path),
    )
    with pytest.raises(SourceError, match="holds no video track"):
        probe(str(path))


# Each names clip.mp4, beside it: ffmpeg would follow it there.
LISTS = {
    "concat.mp4": "ffconcat version 1.0\nfile clip.mp4\n",
    "concat.ffconcat": "ffconcat version 1.0\nfile clip.mp4\n",
    "playlist.mp4": "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:5,\nclip.mp4\n#EXT-X-ENDLIST\n",
    "playlist.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:5,\nclip.mp4\n#EXT-X-ENDLIST\n",
    "session.mp4": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nt=0 0\nm=video 5004 RTP/AVP 33\n",
}


@pytest.fixture(params=LISTS)
def list_of_clips(request: pytest.FixtureRequest, clips: ClipFolder, tmp_path: Path) -> str:
    """Return the path of a list that names a recording."""
    shutil.copy(clips["h264"], tmp_path / "clip.mp4")
    (tmp_path / request.param).write_text(LISTS[request.param])
    return str(tmp_path / request.param)


def test_a_list_of_clips_would_be_followed_by_ffmpeg(clips: ClipFolder, tmp_path: Path) -> None:
    shutil.copy(clips["h264"], tmp_path / "clip.mp4")
    (tmp_path / "concat.mp4").write_text(LISTS["concat.mp4"])

    frames = run_ffmpeg("-i", tmp_path / "concat.mp4", "-c", "copy", "-f", "framemd5", "pipe:1")

    assert frames.count(b"\n0,") > 100


@pytest.mark.timeout(30)
def test_a_list_that_names_other_recordings_is_refused(list_of_clips: str) -> None:
    with pytest.raises(SourceError, match=NOT_FOOTAGE):
        probe(list_of_clips)


@pytest.mark.timeout(30)
def test_ffmpeg_follows_no_list_that_took_a_recordings_place(
    clips: ClipFolder, list_of_clips: str
) -> None:
    (footage,) = footages_of(clips["h264"])

    (end,) = cut([replace(footage, source_uri=list_of_clips)], SETTINGS)

    assert_lost(end, footage)


@pytest.mark.parametrize(
    "name", ["concat:a|b.mp4", "pipe:0.mp4", "we ird\n%03d#?'\".mp4", "-v.mp4"]
)
def test_a_name_is_never_read_as_anything_but_a_name(
    clips: ClipFolder, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(clips["h264"], tmp_path / name)
    monkeypatch.chdir(tmp_path)

    (footage,) = footages_of(name)
    segments, end = cut_one(footage, SETTINGS)

    assert sum(segment.wanted for segment in segments) == footage.track.frames
    assert end.failures == ()


def test_a_recording_that_is_gone_after_its_probe_is_lost_whole(
    clips: ClipFolder, tmp_path: Path
) -> None:
    (footage,) = footages_of(clips["h264"])

    (end,) = cut([replace(footage, source_uri=str(tmp_path / "gone.mp4"))], SETTINGS)

    assert "No such file or directory" in assert_lost(end, footage).message


def test_every_video_track_of_a_lost_recording_ends(clips: ClipFolder, tmp_path: Path) -> None:
    footages = [
        replace(footage, source_uri=str(tmp_path / "gone.mp4"))
        for name in ("h264", "mpeg4")
        for footage in footages_of(clips[name])
    ]

    ends = list(cut(footages, SETTINGS))

    assert len(ends) == 2
    for end, footage in zip(ends, footages, strict=True):
        assert_lost(end, footage)


DAMAGE = {
    "truncated": lambda data, at: data[:at],
    "zeros": lambda data, at: data[:at] + bytes(3000) + data[at + 3000 :],
    "noise": lambda data, at: data[:at] + random.Random(2).randbytes(3000) + data[at + 3000 :],
    "long_zeros": lambda data, at: data[:at] + bytes(30_000) + data[at + 30_000 :],
    "hole": lambda data, at: data[:at] + data[at + 3000 :],
}


def damage(clips: ClipFolder, name: str, kind: str) -> tuple[Footage, Frames]:
    """Return a damaged clip, and the frames of the whole one that lie before the damage."""
    data = Path(clips[name]).read_bytes()
    at = len(data) // 2
    (whole,) = footages_of(clips[name])
    with av.open(clips[name]) as container:
        stream = container.streams.video[0]
        hurt = [
            float(packet.pts * stream.time_base)
            for packet in container.demux(stream)
            # A packet of a transport stream says where it begins, not how long it lies there.
            if packet.size and packet.pos + 1.2 * packet.size + 1000 > at
        ]
    frames = plain_decode(clips[name], whole)
    before = sum(pts_s < min(hurt) for pts_s in frames.pts_s)
    (footage,) = footages_of(clips.changed(name, kind, DAMAGE[kind](data, at)))
    return footage, Frames(
        frame_index=frames.frame_index[:before],
        pts_s=frames.pts_s[:before],
        pixels=frames.pixels[:before],
    )


@pytest.mark.timeout(60)
@pytest.mark.parametrize("kind", DAMAGE)
@pytest.mark.parametrize(
    "name", ["h264_open_gop", "h264_faststart", "hevc_open_gop", "vp9", "h264_ts", "h264_flv"]
)
def test_frames_before_damage_all_come_and_none_comes_twice(
    clips: ClipFolder, name: str, kind: str
) -> None:
    footage, before = damage(clips, name, kind)
    assert len(before) > 40

    segments, _ = cut_one(footage, SETTINGS)
    got = decoded(segments, DecodeSettings())

    assert_same(first(got, len(before)), before)
    wanted = [number for segment in segments for number in segment.frame_index.tolist()]
    assert wanted == list(range(len(wanted)))
    assert got.frame_index == sorted(set(got.frame_index))
    missing = sorted(set(wanted) - set(got.frame_index))
    assert got.failed == len(missing)
    assert all(any(names(failure, number) for failure in got.failures) for number in missing)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("kind", DAMAGE)
@pytest.mark.parametrize("name", ["h264_open_gop", "h264_faststart", "hevc_open_gop", "vp9"])
def test_frames_that_damage_cost_are_named_where_the_container_counts_them(
    clips: ClipFolder, name: str, kind: str
) -> None:
    footage, _ = damage(clips, name, kind)
    (whole,) = footages_of(clips[name])

    segments, end = cut_one(footage, SETTINGS)
    got = decoded(segments, DecodeSettings())

    lost = whole.track.expected_frames - len(got)
    assert got.failed + sum(failure.frames for failure in end.failures) == lost
    for failure in end.failures:
        assert failure.step == "demux"
        assert failure.message.startswith("damaged: ")
        assert failure.source_uri == footage.source_uri
        assert failure.video_track == 0
        # Neither paths nor pointers.
        assert footage.source_uri not in failure.message
        assert "0x7f" not in failure.message


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("h264_open_gop", "File ended prematurely"),
        ("hevc_open_gop", "File ended prematurely"),
        ("vp9", "File ended prematurely"),
        ("h264_faststart", "Invalid NAL unit size"),
    ],
)
def test_a_truncated_recording_is_named_with_the_demuxers_words(
    clips: ClipFolder, name: str, complaint: str
) -> None:
    footage, _ = damage(clips, name, "truncated")

    segments, end = cut_one(footage, SETTINGS)

    (failure,) = end.failures
    assert complaint in failure.message
    assert failure.frames == footage.track.expected_frames - sum(s.wanted for s in segments)
    assert failure.frames > 50


def test_segments_cut_after_a_complaint_are_marked_damaged_and_kept_from_decord(
    clips: ClipFolder,
) -> None:
    footage, before = damage(clips, "h264_open_gop", "noise")

    segments, _ = cut_one(footage, SETTINGS)

    hurt = [segment for segment in segments if segment.frame_index[-1] >= len(before)]
    assert hurt
    assert all(segment.damaged for segment in hurt)
    assert not any(suits_decord(segment, DecodeSettings()) for segment in hurt)


def test_segments_of_a_sound_recording_are_not_marked_damaged(clips: ClipFolder) -> None:
    (footage,) = footages_of(clips["h264_open_gop"])

    segments, end = cut_one(footage, SETTINGS)

    assert not any(segment.damaged for segment in segments)
    assert end.failures == ()


@pytest.mark.parametrize("pyav_alone", [False, True])
@pytest.mark.parametrize("payload", [bytes, random.Random(3).randbytes], ids=["zeros", "noise"])
def test_packets_that_do_not_decode_cost_their_own_frames_and_no_other(
    clips: ClipFolder, payload: object, pyav_alone: bool
) -> None:
    good = first_segment(clips["mjpeg"])
    frames = decoded([good], DecodeSettings())
    bad = replace(spoiled(good, {3, 4, 12}, payload), damaged=pyav_alone)

    got = decoded([bad], DecodeSettings(batch_size=10))

    assert suits_decord(bad, DecodeSettings()) is not pyav_alone
    assert_same(got, without(frames, {3, 4, 12}))
    assert [(f.first_frame, f.last_frame, f.frames) for f in got.failures] == [
        (3, 4, 2),
        (12, 12, 1),
    ]
    for failure in got.failures:
        assert (failure.step, failure.error_class) == ("decode", "SourceError")
        assert failure.message.startswith("does not decode: ")
        assert failure.source_uri == clips["mjpeg"]


@pytest.mark.parametrize(
    ("name", "pyav_alone"),
    [
        *((name, False) for name in ("h264", "hevc_open_gop", "mpeg4", "vp9", "mpeg2", "av1")),
        *((name, True) for name in ("h264", "hevc_open_gop", "mpeg4", "vp9", "av1", "mpeg2")),
    ],
)
@pytest.mark.parametrize("payload", [bytes, random.Random(3).randbytes], ids=["zeros", "noise"])
def test_a_spoiled_packet_leaves_numbers_and_times_of_the_other_frames(
    clips: ClipFolder, name: str, payload: object, pyav_alone: bool
) -> None:
    good = first_segment(clips[name])
    frames = decoded([good], DecodeSettings())
    hurt = 20

    bad = replace(spoiled(good, {hurt}, payload), damaged=pyav_alone)

    got = decoded([bad], DecodeSettings())

    # Frames far before the spoiled packet in presentation order cannot depend on it.
    assert_same(first(got, hurt - 5), first(frames, hurt - 5))
    assert got.frame_index == sorted(set(got.frame_index))
    assert got.pts_s == [frames.pts_s[number] for number in got.frame_index]
    assert 1 <= got.failed == len(frames) - len(got)
    missing = set(frames.frame_index) - set(got.frame_index)
    assert all(any(names(failure, number) for failure in got.failures) for number in missing)


def test_a_batch_of_frames_that_do_not_decode_is_empty_but_comes(clips: ClipFolder) -> None:
    good = first_segment(clips["mjpeg"])
    bad = spoiled(good, set(range(10)), bytes)

    empty, full, *_ = decode(bad, DecodeSettings(batch_size=10))

    assert (empty.stretch.start, empty.stretch.stop) == (0, 10)
    assert len(empty.frame_index) == len(empty.pixels) == 0
    (failure,) = empty.failures
    assert (failure.first_frame, failure.last_frame, failure.frames) == (0, 9, 10)
    assert full.frame_index.tolist() == list(range(10, 20))


def test_a_segment_of_which_nothing_decodes_is_all_failures(clips: ClipFolder) -> None:
    good = first_segment(clips["h264"])

    got = decoded([spoiled(good, set(range(good.packets)), bytes)], DecodeSettings())

    assert len(got) == 0
    assert got.failed == good.wanted


def with_tags_first(data: bytes) -> bytes:
    """Return an MP4 in whose index the tags, and so the cover, stand before the tracks."""
    start = data.rindex(b"moov") - 4
    stop = start + int.from_bytes(data[start : start + 4])
    tags = data.rindex(b"udta", start) - 4
    tracks = data.index(b"trak", start) - 4
    assert tags + int.from_bytes(data[tags : tags + 4]) == stop
    return data[:tracks] + data[tags:stop] + data[tracks:tags] + data[stop:]


def first_segment(path: str) -> Segment:
    (footage,) = footages_of(path)
    return cut_one(footage, SETTINGS)[0][0]


def spoiled(segment: Segment, numbers: set[int], payload: object) -> Segment:
    """Overwrite the payload of some packets where they lie."""
    data = bytearray(segment.data)
    with av.open(io.BytesIO(segment.data), format="nut") as container:
        at = 0
        packets = (packet for packet in container.demux(video=0) if packet.size)
        for number, packet in enumerate(packets):
            # From the packet before on: small ones may repeat.
            at = segment.data.find(bytes(packet), at)
            assert at > 0
            if number in numbers:
                data[at : at + packet.size] = payload(packet.size)
            at += packet.size
    return replace(segment, data=bytes(data))


def first(frames: Frames, count: int) -> Frames:
    return without(frames, set(frames.frame_index[count:]))


def without(frames: Frames, numbers: set[int]) -> Frames:
    kept = [i for i, number in enumerate(frames.frame_index) if number not in numbers]
    return Frames(
        frame_index=[frames.frame_index[i] for i in kept],
        pts_s=[frames.pts_s[i] for i in kept],
        pixels=frames.pixels[np.array(kept, int)],
    )


def names(failure: Failure, number: int) -> bool:
    assert failure.first_frame is not None
    assert failure.last_frame is not None
    return failure.first_frame <= number <= failure.last_frame


def assert_lost(end: object, footage: Footage) -> Failure:
    """Assert that a recording was lost whole, as one failure, and return it."""
    assert isinstance(end, FootageEnd)
    assert end.footage == footage.key
    assert end.segments == 0
    (failure,) = end.failures
    assert failure.error_class == "FfmpegError"
    assert failure.frames == footage.track.expected_frames
    return failure
