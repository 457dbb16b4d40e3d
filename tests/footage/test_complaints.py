"""Which of ffmpeg's words tell of damage."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from pipeline import complaints
from pipeline.complaints import StderrLog
from pipeline.ffmpeg import copy_video_tracks
from pipeline.records import VideoTrack
from tests.footage.clips import ClipFolder, run_ffmpeg

TRACK = VideoTrack(video_track=0, codec="h264", width=176, height=144)
HARMLESS = [
    "[in#0/mpegts @ 0x1] [warning] Packet corrupt (stream = 1, dts = 1).",
    "[mov @ 0x1] [warning] st: 0 edit list: 1 Missing key frame while searching for timestamp: 0",
    "[in#0 @ 0x1] [warning] Format mpegts detected only with low score of 2",
    "[vost#0:0/copy @ 0x1] [warning] Non-monotonic DTS; previous: 2, current: 1; changing to 3.",
    "[nut @ 0x1] [error] Timestamps are unset in a packet for stream 0.",
    "[out#0/nut @ 0x1] [warning] Output file is empty, nothing was encoded",
]
DAMAGE = {
    "[h264 @ 0x1] [error] Invalid NAL unit size (5 > 3).": "[h264] Invalid NAL unit size (5 > 3).",
    "[in#0/mpegts @ 0x1] [warning] corrupt input packet in stream 0": (
        "[in#0/mpegts] corrupt input packet in stream 0"
    ),
    "[h264 @ 0x1] [IMGUTILS @ 0x2] [error] Picture size 0x0 is invalid": (
        "[h264] [IMGUTILS] Picture size 0x0 is invalid"
    ),
    "[fatal] Error opening input files: End of file": "Error opening input files: End of file",
    "free(): invalid pointer": "free(): invalid pointer",
}


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Callable[..., StderrLog]]:
    """Return a maker of logs that hold some lines."""
    with ExitStack() as files:

        def make(*lines: str) -> StderrLog:
            (tmp_path / "log").write_text("\n".join([*lines, ""]))
            return StderrLog(files.enter_context((tmp_path / "log").open("rb")))

        yield make


@pytest.mark.parametrize("line", HARMLESS)
def test_a_harmless_word_is_no_damage(log: Callable[..., StderrLog], line: str) -> None:
    assert not log(line, "    Last message repeated 3 times").tells_of_damage()
    assert log(line).tail() == ""


@pytest.mark.parametrize("line", DAMAGE)
def test_a_word_of_damage_is_told_without_pointers_and_level(
    log: Callable[..., StderrLog], line: str
) -> None:
    told = log(line, "    Last message repeated 3 times", HARMLESS[0])

    assert told.tells_of_damage()
    assert told.tail() == DAMAGE[line]


def test_the_second_line_of_a_warning_is_no_damage(log: Callable[..., StderrLog]) -> None:
    more = "Consider increasing the value for the 'analyzeduration' (0) option"

    assert not log(HARMLESS[0], more).tells_of_damage()


def test_a_log_is_read_on_and_a_line_that_is_not_finished_is_told(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w+b", buffering=0) as file:
        log = StderrLog(file)
        assert not log.tells_of_damage()
        file.write(b"[h264 @ 0x1] [err")
        assert not log.tells_of_damage()
        file.write(b"or] one\n[h264 @ 0x1] [error] two")

        assert log.tells_of_damage()
        assert log.tail() == "[h264] one | [h264] two"


def test_a_log_that_is_full_counts_as_damage(
    log: Callable[..., StderrLog], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(complaints, "MOST_LOG_BYTES", 200)

    assert "more complaints than are kept" in log(*HARMLESS).tail()


@pytest.mark.timeout(60)
def test_ffmpeg_writes_no_more_complaints_than_the_limit(tmp_path: Path) -> None:
    program = tmp_path / "stand-in"
    program.write_text("#!/bin/sh\n/usr/bin/yes '[h264] [error] again' >&2; exit 1\n")
    program.chmod(0o755)

    with (
        pytest.raises(Exception, match="again"),
        copy_video_tracks("a.mp4", [TRACK], executable=str(program)),
    ):
        pass


def test_damage_of_the_sound_alone_is_none_of_the_video_tracks(
    clips: ClipFolder, tmp_path: Path
) -> None:
    path = tmp_path / "sound.ts"
    run_ffmpeg(
        "-i", clips["h264"], "-f", "lavfi", "-i", "sine=duration=5", "-map", "0:v", "-map", "1:a",
        "-c:v", "copy", "-c:a", "mp2", path,
    )  # fmt: skip
    data = bytearray(path.read_bytes())
    packets = [
        at for at in range(0, len(data), 188) if data[at + 1] & 0x1F == 1 and data[at + 2] == 1
    ]
    for at in packets[10:60]:
        data[at + 8 : at + 188] = bytes(180)
        data[at + 3] ^= 7
    path.write_bytes(data)

    with copy_video_tracks(str(path), [TRACK]) as stream:
        count = sum(1 for packet in stream.container.demux(video=0) if packet.size)
        stream.end()
        assert stream.stderr.tail() == ""

    assert count == 125
