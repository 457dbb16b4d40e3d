"""A preview of footage: the very frame that is shown, its masks grey, its heads blurred, as a PNG."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest

from jobs import preview
from jobs.one_track import FootageLog
from jobs.preview_picture import Sketch, draw
from pipeline import stills
from pipeline.errors import ConfigError, SourceError, StepError
from pipeline.heads import head_regions
from pipeline.letterbox import PAD_GREY
from pipeline.probe import probe
from pipeline.records import Footage
from pipeline.standin_backend import STAND_IN
from pipeline.stills import Still, still_at, take_still
from pipeline.tables import rows_table
from tests.footage.clips import (
    ClipFolder,
    footages_of,
    picture,
    plain_decode,
    run_ffmpeg,
)
from tests.security.hostile import with_duration

KINDS = [
    "h264", "h264_open_gop", "h264_intra_refresh", "h264_ts", "h264_long_gop", "h264_late_start",
    "h264_no_b_frames", "hevc_open_gop_mp4", "hevc_open_gop_ts", "hevc_10_bit", "mpeg4_avi",
    "mpeg2_ps", "mpeg2_mxf", "vp9", "av1", "theora", "wmv2", "odd_size", "varying_rate", "turned_90",
    "turned_180", "turned_270", "edit_list", "edit_list_open_gop", "portrait", "one_frame",
]  # fmt: skip
CAMERAS = """
[[camera]]
id = "street"
recording = "TUD-*.mp4"
[[camera.line]]
name = "shop door"
points = [[60, 300], [250, 420]]
[[camera.zone]]
name = "waiting"
polygon = [[400, 250], [620, 250], [620, 460], [420, 440]]
[[camera.mask]]
polygon = [[160, 60], [260, 60], [260, 300], [160, 300]]
[camera.calibration]
image = [[100, 300], [560, 300], [620, 460], [40, 450], [330, 370]]
floor_m = [[0, 0], [8, 0], [7.2, 5], [0.8, 4.8], [4, 3]]
"""


def only_footage(path: str, image_size: int = 128) -> Footage:
    (footage,) = footages_of(path, image_size)
    return footage


def take(footage: Footage, time_s: float) -> Still:
    """Take a still in this process."""
    (still,) = take_still(footage, time_s)
    return still


@pytest.mark.parametrize("name", KINDS)
def test_a_still_is_the_frame_of_a_full_decode_that_is_shown_at_its_time(
    clips: ClipFolder, name: str
) -> None:
    path = clips[name]
    footage = only_footage(path)
    width, height = footage.track.upright_size
    whole = plain_decode(path, only_footage(path, max(width, height)))
    scaled = plain_decode(path, footage)
    numbers = [*range(0, len(whole), 11), len(whole) - 1]
    for number in numbers:
        shown_s = whole.pts_s[number] - footage.origin_s
        # At its time, and until just before the next one.
        for time_s in (max(0.0, shown_s), max(0.0, shown_s) + 0.015):
            still = take(footage, time_s)
            assert still.pts_s == whole.pts_s[number]
            assert still.picture.shape == (height, width, 3)
            assert np.array_equal(still.picture, whole.pixels[number]), number
            detected = picture(still.pixels, footage.letterbox)
            assert np.array_equal(detected, scaled.pixels[number]), number


def test_a_still_of_a_long_recording_is_sought_and_exact(clips: ClipFolder, long_clip: str) -> None:
    once = plain_decode(clips["h264"], only_footage(clips["h264"], 176)).pixels
    footage = only_footage(long_clip)
    # The clip of 125 frames repeats every 5 s.
    for time_s, number in ((0.0, 0), (102.3, 57), (263.99, 99), (499.97, 124)):
        still = still_at(footage, time_s)
        assert still.pts_s == pytest.approx(time_s, abs=0.04)
        assert np.array_equal(still.picture, once[number]), time_s


def test_what_lies_behind_the_end_is_refused_and_the_length_is_told(clips: ClipFolder) -> None:
    for name in ("h264", "h264_ts", "mpeg4_avi", "turned_90"):
        footage = only_footage(clips[name])
        for time_s in (5.05, 99.0, 1e9):
            with pytest.raises(ConfigError, match=r"5\.0\d s long \(0:00:05\)"):
                take(footage, time_s)


def test_the_end_is_that_of_the_frames_and_not_what_the_header_claims(
    clips: ClipFolder, tmp_path: Path
) -> None:
    path = tmp_path / "cut_off.mkv"
    path.write_bytes(with_duration(Path(clips["mpeg4"]).read_bytes(), 600_000.0))
    footage = only_footage(str(path))
    assert footage.track.duration_s == 600
    assert take(footage, 4.97).pts_s == pytest.approx(4.96)
    with pytest.raises(ConfigError, match=r"s long \(0:00:0[56]\)"):
        take(footage, 60.0)


def test_masks_are_grey_before_anything_looks_at_a_still(clips: ClipFolder) -> None:
    corner = ((0.0, 0.0), (0.5, 0.0), (0.5, 0.5), (0.0, 0.5))
    plain = only_footage(clips["turned_90"])
    masked, bare = take(replace(plain, masks=(corner,)), 1.0), take(plain, 1.0)
    height, width = bare.picture.shape[:2]
    assert (masked.picture[: height // 2, : width // 2] == PAD_GREY).all()
    rest = slice(height // 2 + 3, None), slice(width // 2 + 3, None)
    assert np.array_equal(masked.picture[rest], bare.picture[rest])
    box = plain.letterbox
    inside = picture(masked.pixels, box)
    assert (inside[: box.scaled_height // 2, : box.scaled_width // 2] == PAD_GREY).all()


def test_a_decoder_that_dies_is_an_unreadable_recording(
    clips: ClipFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object, **__: object) -> None:
        raise StepError("its process ended by SIGSEGV", signal="SIGSEGV")

    monkeypatch.setattr(stills, "isolated", die)
    with pytest.raises(SourceError, match="SIGSEGV") as caught:
        still_at(only_footage(clips["h264"]), 1.0)
    assert caught.value.source_uri == clips["h264"]


Look = Callable[..., Sketch]


@pytest.fixture
def look(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Look:
    """Run the verb and return what it has drawn."""
    drawn: list[Sketch] = []

    def draw_too(sketch: Sketch) -> bytes:
        drawn.append(sketch)
        return draw(sketch)

    monkeypatch.setattr(preview, "draw", draw_too)
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> Sketch:
        assert preview.main([str(argument) for argument in arguments]) == 0
        return drawn[-1]

    return run


@pytest.fixture
def street(footage: Path, tmp_path: Path) -> tuple[Path, Path]:
    """Return real footage, and a cameras file for it."""
    cameras = tmp_path / "cameras.toml"
    cameras.write_text(CAMERAS)
    return footage / "TUD-Stadtmitte.mp4", cameras


@pytest.mark.footage
def test_a_preview_is_a_png_with_all_that_is_drawn_into_the_picture(
    look: Look, street: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recording, cameras = street
    sketch = look(recording, "--at", "0:03", "--cameras", cameras)
    (path,) = tmp_path.glob("*.png")
    assert path.name == "TUD-Stadtmitte-0-000003.png"
    (line,) = capsys.readouterr().out.splitlines()
    assert line == f"{path.name}: 0:00:03.000 of TUD-Stadtmitte.mp4, video track 0, camera street"
    made = cv2.imread(str(path))
    assert made is not None
    assert 640 <= made.shape[1] <= 960
    assert 480 <= made.shape[0] <= 720
    assert [line.name for line in sketch.areas.lines] == ["shop door"]
    assert [zone.name for zone in sketch.areas.zones] == ["waiting"]
    assert sketch.areas.floor is not None
    assert sketch.seen is not None
    assert len(sketch.seen.boxes) > 5
    assert (sketch.picture[60:300, 160:260] == PAD_GREY).all(), "the mask"
    assert not any(175 <= box[0] <= 180 for box in sketch.seen.boxes), "who is behind it"


@pytest.mark.footage
def test_every_head_is_blurred_whatever_is_drawn_and_nothing_else_changes(
    look: Look, street: tuple[Path, Path]
) -> None:
    recording, _ = street
    (track,) = probe(str(recording)).video_tracks
    everybody = look(recording, "--at", "3", "--show-heads")
    assert everybody.heads is None
    assert everybody.seen is not None
    still = everybody.picture
    assert np.array_equal(still, take(only_footage(str(recording)), 3.0).picture)
    regions = head_regions(everybody.seen.boxes, *track.upright_size)
    inside = np.zeros((480, 640), bool)
    for left, top, right, bottom in regions:
        inside[top:bottom, left:right] = True
    for more in ((), ("--confidence", "0.8"), ("--no-boxes",)):
        blurred = look(recording, "--at", "3", *more)
        assert blurred.heads == len(regions) > 5
        assert np.array_equal(blurred.picture[~inside], still[~inside])
        for left, top, right, bottom in regions:
            region = slice(top, bottom), slice(left, right)
            assert _detail(blurred.picture[region]) < 0.3 * _detail(still[region])
        boxes = None if blurred.seen is None else len(blurred.seen.boxes)
        assert boxes == {(): len(regions), ("--no-boxes",): None}.get(more, boxes)


def _detail(region: np.ndarray) -> float:
    return float(np.abs(cv2.Laplacian(region.astype(np.float32), cv2.CV_32F)).mean())


@pytest.mark.footage
def test_without_boxes_and_with_heads_no_model_is_needed(
    look: Look, street: tuple[Path, Path]
) -> None:
    sketch = look(street[0], "--no-boxes", "--show-heads", "--model", "/there/is/none.pt")
    assert sketch.seen is None
    assert sketch.heads is None


@pytest.mark.footage
def test_tracks_of_an_output_are_drawn_and_their_heads_blurred(
    look: Look, street: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recording, _ = street
    rows = [
        {
            "source_uri": uri, "video_track": 0, "track_id": track_id, "pts_s": number / 25,
            "anchor_x": 120.0 + number, "anchor_y": 460.0, "x_min": 100.0 + number, "y_min": 360.0,
            "x_max": 140.0 + number, "y_max": 460.0,
        }
        for uri, track_id in ((str(recording), 7), ("/another.mp4", 8))
        for number in range(150)
    ]  # fmt: skip
    file = tmp_path / "movements.parquet"
    pq.write_table(rows_table("movements", rows), file)
    log = FootageLog(source_uri=str(recording), video_track=0, files={"movements": [str(file)]})
    monkeypatch.setattr(preview, "_find_log", lambda *_: log)
    sketch = look(recording, "--at", "2", "--tables", tmp_path, "--no-boxes")
    (way,) = sketch.ways
    assert way.track_id == 7
    assert len(way.feet) == 150
    assert way.box is not None
    assert way.box.tolist() == [150, 360, 190, 460]
    plain = take(only_footage(str(recording)), 2.0).picture
    assert not np.array_equal(sketch.picture[360:382, 144:196], plain[360:382, 144:196])
    assert np.array_equal(sketch.picture[382:460, 144:196], plain[382:460, 144:196])


def test_a_turned_recording_is_upright(look: Look, clips: ClipFolder) -> None:
    sketch = look(clips["turned_90"], "--at", "1", "--model", STAND_IN)
    assert sketch.picture.shape == (176, 144, 3)


@pytest.fixture(scope="module")
def two_tracks(clips: ClipFolder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a recording of two video tracks."""
    path = tmp_path_factory.mktemp("two") / "door_1.mkv"
    inputs = [word for name in ("h264", "portrait") for word in ("-i", clips[name])]
    run_ffmpeg(*inputs, "-map", "0:v", "-map", "1:v", "-c", "copy", path)
    return path


def complaint(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    """Run the verb; return its exit code and the one line that it says."""
    code = preview.main([*map(str, arguments), "--model", STAND_IN])
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("footfall preview: ")
    return code, line


def cameras_file(folder: Path, *rules: tuple[str, str, int]) -> Path:
    path = folder / "cameras.toml"
    path.write_text(
        "\n".join(
            f'[[camera]]\nid = "{camera_id}"\nrecording = "{pattern}"\nvideo_track = {number}\n'
            for camera_id, pattern, number in rules
        )
    )
    return path


def test_one_of_several_video_tracks_is_to_be_named(
    look: Look, two_tracks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, line = complaint(capsys, two_tracks)
    assert code == 2
    assert "--video-track" in line
    assert "0 (176x144" in line
    assert "1 (64x144" in line
    code, line = complaint(capsys, two_tracks, "--video-track", "5")
    assert code == 2
    assert "there are: 0, 1" in line
    sketch = look(two_tracks, "--video-track", "1", "--model", STAND_IN)
    assert sketch.picture.shape == (144, 64, 3)
    assert (tmp_path / "door_1-1-000000.png").exists()


def test_a_cameras_file_decides_which_video_track_is_meant(
    look: Look, two_tracks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = cameras_file(tmp_path, ("hall", "door_*", 1), ("yard", "yard_*", 0))
    sketch = look(two_tracks, "--cameras", one, "--model", STAND_IN)
    assert sketch.picture.shape == (144, 64, 3)
    assert sketch.title.endswith("camera hall")
    both = cameras_file(tmp_path, ("door", "door_*", 0), ("hall", "door_*", 1))
    code, line = complaint(capsys, two_tracks, "--cameras", both)
    assert code == 2
    assert "camera 'door'" in line
    assert "camera 'hall'" in line


def test_a_recording_that_is_no_camera_s_is_told_which_cameras_there_are(
    two_tracks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rules = cameras_file(tmp_path, ("yard", "yard_*", 0), ("gate", "gate_*", 1))
    code, line = complaint(capsys, two_tracks, "--cameras", rules)
    assert code == 2
    assert "'yard' (yard_*, video track 0), 'gate' (gate_*, video track 1)" in line
    other = cameras_file(tmp_path, ("hall", "door_*", 1))
    code, line = complaint(capsys, two_tracks, "--cameras", other, "--video-track", "0")
    assert code == 2
    assert "video track 0" in line
    assert "'hall'" in line


def test_a_time_behind_the_end_is_one_line_with_the_length(
    clips: ClipFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    code, line = complaint(capsys, clips["h264"], "--at", "0:12:30")
    assert code == 2
    assert "no frame at 750 s" in line
    assert "5.00 s long" in line


def test_a_picture_that_cannot_be_written_is_one_line(
    clips: ClipFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    code, line = complaint(capsys, clips["h264"], "--to", tmp_path / "file" / "a.png")
    assert code == 1
    assert "cannot be written" in line
