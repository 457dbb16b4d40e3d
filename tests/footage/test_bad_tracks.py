"""A video track that cannot be read takes none of its neighbours with it."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from jobs.found import Survey
from jobs.settings import JobSettings
from jobs.survey import survey
from pipeline.decode import DecodeSettings
from pipeline.demux import DemuxSettings
from pipeline.errors import ConfigError, SourceError
from pipeline.probe import probe
from pipeline.records import Recording
from tests.footage.clips import assert_same, cut_one, decoded, footages_of, run_ffmpeg
from tests.footage.corrupt import Corpus, patched
from tests.probing import probe_paths
from tests.security.hostile import with_mjpeg_size

UNKNOWN = "cannot be read as footage: video track 0 is of an unknown codec"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return Corpus(tmp_path_factory.mktemp("bad_tracks"))


@pytest.fixture(scope="module")
def unknown(corpus: Corpus) -> Path:
    """Return a recording whose first video track is of an unknown codec, and whose second is good."""
    return patched(corpus, "unknown.mkv", "two_tracks", b"V_MPEG4/ISO/AVC", b"V_NOBODY/KNOWS/")


def look(paths: Sequence[Path], **settings: str) -> Survey:
    return survey(JobSettings(input=tuple(map(str, paths)), output="unused", **settings))


def test_a_good_track_keeps_its_number_behind_a_bad_one(unknown: Path) -> None:
    (found,) = probe_paths([str(unknown)])

    assert isinstance(found, Recording)
    assert found == probe(str(unknown))
    assert [track.video_track for track in found.video_tracks] == [1]
    assert found.bad_video_tracks == ((0, "video track 0 is of an unknown codec"),)


@pytest.mark.parametrize("carried_bytes", [1, 32 << 20])
def test_a_good_track_behind_a_bad_one_is_cut_and_decoded_as_itself(
    corpus: Corpus, unknown: Path, carried_bytes: int
) -> None:
    settings = DemuxSettings(segment_frames=20, carried_bytes=carried_bytes)
    (behind,) = footages_of(str(unknown))
    first, second = footages_of(str(corpus.clean("two_tracks")))

    got, expected, other = (
        decoded(cut_one(footage, settings)[0], DecodeSettings())
        for footage in (behind, second, first)
    )

    assert_same(got, expected)
    assert not (got.pixels == other.pixels).all()


def test_too_many_pixels_of_one_track_are_its_own_failure(corpus: Corpus, tmp_path: Path) -> None:
    path = tmp_path / "two.avi"
    run_ffmpeg(
        "-f", "lavfi", "-i", "testsrc2=size=176x144:rate=25", "-i", corpus.clean("mp4"),
        "-map", "0", "-map", "1:v", "-t", "2", "-c:v:0", "mjpeg", "-c:v:1", "mpeg4", path,
    )  # fmt: skip
    path.write_bytes(with_mjpeg_size(path.read_bytes(), 60_000, in_header=True))

    found = probe(str(path))
    (footage,) = footages_of(str(path))

    assert [track.video_track for track in found.video_tracks] == [1]
    ((number, reason),) = found.bad_video_tracks
    assert number == 0
    assert "at most 67108864 pixels" in reason
    assert len(decoded(cut_one(footage, DemuxSettings())[0], DecodeSettings())) == 50


def test_a_recording_of_bad_tracks_alone_is_refused_with_every_reason(
    corpus: Corpus, tmp_path: Path
) -> None:
    data = corpus.bytes_of("two_tracks").replace(b"V_MPEG4/ISO/AVC", b"V_NOBODY/KNOWS/")
    path = tmp_path / "none.mkv"
    path.write_bytes(data)

    with pytest.raises(SourceError, match="video track 0 is of an unknown codec; video track 1 is"):
        probe(str(path))


def test_a_survey_takes_the_good_tracks_and_records_the_bad_one(unknown: Path) -> None:
    found = look([unknown])

    assert [each.footage.track.video_track for each in found.wanted] == [1]
    (failure,) = found.failures
    assert (failure.step, failure.video_track, failure.message) == ("probe", 0, UNKNOWN)
    assert failure.source_uri == str(unknown)


@pytest.mark.parametrize(("tracks", "failed"), [("1", []), ("0", [0]), ("0,1", [0])])
def test_a_bad_track_that_was_not_asked_for_is_no_failure(
    unknown: Path, tracks: str, failed: list[int]
) -> None:
    assert [f.video_track for f in look([unknown], video_tracks=tracks).failures] == failed


def test_a_video_track_that_no_recording_has_is_still_a_wrong_setting(unknown: Path) -> None:
    with pytest.raises(ConfigError, match=r"no video track 2 in .* there are: 0, 1"):
        look([unknown], video_tracks="1,2")


def test_a_video_track_that_one_recording_lacks_is_told_by_its_numbers(
    corpus: Corpus, unknown: Path
) -> None:
    found = look([unknown, corpus.clean("mkv")], video_tracks="0,1")

    assert [(Path(f.source_uri).name, f.video_track) for f in found.failures] == [
        ("unknown.mkv", 0),
        ("mkv.mkv", 1),
    ]


def test_a_bad_track_is_a_camera_of_its_own_too(unknown: Path) -> None:
    with pytest.raises(ConfigError, match="has 2 video tracks"):
        look([unknown], camera_id="door")
    (found,) = look([unknown], camera_id="door", video_tracks="1").wanted
    assert found.footage.key.camera_id == "door"


def test_a_picture_of_the_cover_is_no_video_track_among_bad_ones(
    corpus: Corpus, tmp_path: Path
) -> None:
    """ffmpeg's `-map 0:V:N` does not count it either."""
    cover, path = tmp_path / "cover.jpg", tmp_path / "covered.mp4"
    run_ffmpeg("-i", corpus.clean("mp4"), "-frames:v", "1", cover)
    run_ffmpeg(
        "-i", cover, "-i", corpus.clean("mp4"), "-i", corpus.clean("other"), "-map", "0:v",
        "-map", "1:v", "-map", "2:v", "-c", "copy", "-disposition:v:0", "attached_pic", path,
    )  # fmt: skip

    footages = footages_of(str(path))

    assert [footage.track.video_track for footage in footages] == [0, 1]
    assert len(decoded(cut_one(footages[1], DemuxSettings())[0], DecodeSettings())) == 100
