"""A file that names other files or addresses is read as what it is: no footage."""

import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.decode import DecodeSettings, decode
from pipeline.demux import DemuxSettings, cut
from pipeline.errors import FfmpegError, SourceError
from pipeline.ffmpeg import copy_video_tracks
from pipeline.probe import probe
from pipeline.records import Footage, FootageEnd, Segment
from tests.footage.clips import footages_of, run_ffmpeg
from tests.probing import probe_paths
from tests.security.conftest import Listener
from tests.security.hostile import make_clip, with_external_media

REFUSED = "Invalid data|Invalid argument|not on whitelist"
PLAYLIST = "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:2,\n{}\n#EXTINF:2,\n{}\n#EXT-X-ENDLIST\n"
KEYED = (
    '#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXT-X-KEY:METHOD=AES-128,URI="{1}"\n#EXTINF:2,\n{0}\n'
    "#EXT-X-ENDLIST\n"
)
DASH = (
    '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
    'profiles="urn:mpeg:dash:profile:isoff-on-demand:2011"><Period><AdaptationSet '
    'mimeType="video/mp4"><Representation id="1" bandwidth="1"><BaseURL>{}</BaseURL>'
    '</Representation><Representation id="2" bandwidth="2"><BaseURL>{}</BaseURL></Representation>'
    "</AdaptationSet></Period></MPD>"
)
SDP = "v=0\no=- 0 0 IN IP4 127.0.0.1\ns={}\nu={}\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 33\n"
# Each names the secret file and the listener's address, in this order; and the name of its kind.
LISTS = {
    "hls": (PLAYLIST, "list.m3u8"),
    "hls with a key": (KEYED, "list.m3u8"),
    "hls that calls first": (
        PLAYLIST.replace("{}", "{1}", 1).replace("{}", "{0}", 1),
        "list.m3u8",
    ),
    "ffconcat": ("ffconcat version 1.0\nfile {}\nfile {}\n", "list.ffconcat"),
    "sdp": (SDP, "list.sdp"),
    "dash": (DASH, "list.mpd"),
}


@pytest.fixture(params=[(kind, renamed) for kind in LISTS for renamed in (True, False)], ids=str)
def list_file(
    request: pytest.FixtureRequest, tmp_path: Path, mp4: Path, listener: Listener
) -> Iterator[str]:
    """Return the path of a list, renamed .mp4 or not; fail if somebody calls the address in it."""
    kind, renamed = request.param
    text, name = LISTS[kind]
    run_ffmpeg("-i", mp4, "-c", "copy", tmp_path / "secret.ts")
    path = tmp_path / ("recording.mp4" if renamed else name)
    path.write_text(text.format("secret.ts", f"http://127.0.0.1:{listener.port}/beacon.ts"))
    yield str(path)
    assert listener.calls == 0


def test_a_playlist_would_be_followed_by_ffmpeg_without_our_whitelist(
    tmp_path: Path, mp4: Path, listener: Listener
) -> None:
    """The lists are no straw men."""
    path = tmp_path / "list.m3u8"
    address = f"http://127.0.0.1:{listener.port}/beacon.ts"
    path.write_text(f"ffconcat version 1.0\nfile '{mp4}'\nfile '{address}'\n")

    said = run_ffmpeg(
        "-safe", "0", "-protocol_whitelist", "file,http,tcp", "-i", path, "-c", "copy", "-f",
        "framemd5", "pipe:1",
    )  # fmt: skip

    assert said.count(b"\n0,") == 50
    assert listener.calls > 0


@pytest.mark.timeout(30)
def test_a_playlist_renamed_mp4_or_not_reads_nothing_else(list_file: str) -> None:
    with pytest.raises(SourceError, match="cannot be read as footage"):
        probe(list_file)
    (found,) = probe_paths([list_file])
    assert isinstance(found, SourceError)


@pytest.mark.timeout(30)
def test_a_list_that_took_a_recordings_place_gives_no_packet(list_file: str, mp4: Path) -> None:
    (footage,) = footages_of(str(mp4))

    with (
        pytest.raises(FfmpegError, match=REFUSED),
        copy_video_tracks(list_file, [footage.track]) as stream,
    ):
        next(stream.container.demux(video=0))
    assert_lost(replace(footage, source_uri=list_file))


@pytest.mark.timeout(30)
def test_a_list_that_took_a_recordings_place_gives_no_frame_to_a_decoder(
    list_file: str, mp4: Path
) -> None:
    segment = in_place_segment(replace(footages_of(str(mp4))[0], source_uri=list_file))

    with pytest.raises(SourceError, match=REFUSED):
        list(decode(segment, DecodeSettings()))


def test_a_name_like_a_pattern_of_pictures_reads_its_own_file_alone(tmp_path: Path) -> None:
    own = make_clip(tmp_path / "frame%03d.mp4", "mpeg4", frames=7)
    make_clip(tmp_path / "frame001.mp4", "mpeg4", frames=9)

    (footage,) = footages_of(str(own))
    assert frames_of(footage) == 7


def test_a_name_like_a_pattern_of_pictures_reads_no_pictures(tmp_path: Path, mp4: Path) -> None:
    run_ffmpeg("-i", mp4, tmp_path / "frame%03d.jpg")
    pattern = tmp_path / "frame%03d.jpg"
    pattern.write_text("no picture")

    with pytest.raises(SourceError, match=REFUSED):
        probe(str(pattern))
    assert_lost(replace(footages_of(str(mp4))[0], source_uri=str(pattern)))


def test_a_mov_whose_media_lies_in_another_file_gives_none_of_it(tmp_path: Path, mp4: Path) -> None:
    secret, hostile = tmp_path / "secret.mp4", tmp_path / "hostile.mov"
    shutil.copy(mp4, secret)
    hostile.write_bytes(with_external_media(mp4.read_bytes(), secret))

    (found,) = probe_paths([str(hostile)])
    footage = replace(footages_of(str(mp4))[0], source_uri=str(hostile))

    assert isinstance(found, SourceError) or found.size_bytes == hostile.stat().st_size
    assert len(packets_of(str(secret), footage)) == 50
    assert not packets_of(str(hostile), footage) & packets_of(str(secret), footage)


def packets_of(path: str, footage: Footage) -> set[bytes]:
    try:
        with copy_video_tracks(path, [footage.track]) as stream:
            return {bytes(packet) for packet in stream.container.demux(video=0) if packet.size}
    except FfmpegError:
        return set()


def frames_of(footage: Footage) -> int:
    items = cut([footage], DemuxSettings())
    return sum(item.wanted for item in items if isinstance(item, Segment))


def assert_lost(footage: Footage) -> None:
    (end,) = cut([footage], DemuxSettings())
    assert isinstance(end, FootageEnd)
    assert end.segments == 0
    assert re.search(REFUSED, end.failures[0].message)


def in_place_segment(footage: Footage) -> Segment:
    frames = np.arange(10)
    return Segment(
        footage=footage,
        index=0,
        packets=10,
        positions=frames,
        frame_index=frames,
        pts_s=frames / 25,
        in_place=True,
        stop_packet=10,
    )
