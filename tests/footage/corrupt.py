"""Corrupt footage: recipes that spoil small clips in every way that archives are known to be spoilt.

    clean clip ──> recipe ──> corrupt file ──> tests/footage/walk.py ──> Walk

`python -m tests.footage.corrupt` prints what comes of each as a table. Nothing is downloaded, and
noise is seeded: the same recipe gives the same file. What must hold is in tests/faults.
"""

import os
import random
import shutil
import struct
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import av

from tests.footage.clips import run_ffmpeg
from tests.footage.walk import Walk, Walker

FRAMES = 100
KEYFRAME_EVERY = 10
PLACES = range(10)
_SPOILT_BYTES = 2000
_CLUSTER, _CLUSTER_TIME = b"\x1f\x43\xb6\x75", 0xE7
# On one thread, x264 gives the same bytes everywhere.
_X264 = f"-threads 1 -c:v libx264 -preset ultrafast -bf 2 -g {KEYFRAME_EVERY} -sc_threshold 0"

# Clean clips: ending, the clip that they copy (or ""), and ffmpeg's arguments.
CLEAN = {
    "mp4": (".mp4", "", _X264),
    "other": (".mp4", "", f"-vf hue=h=90,hflip {_X264}"),
    "wide": (".ts", "", f"-vf scale=320:240 {_X264} -output_ts_offset {FRAMES // 25}"),
    "one_frame": (".mp4", "", f"-frames:v 1 {_X264}"),
    "few_keyframes": (".mp4", "", f"{_X264} -g 999 -force_key_frames 0,0.8"),
    "faststart": (".mp4", "mp4", "-movflags +faststart"),
    "fragments": (".mp4", "mp4", "-movflags +frag_keyframe+empty_moov"),
    "mkv": (".mkv", "mp4", "-cluster_time_limit 400"),
    "ts": (".ts", "mp4", ""),
    "annexb": (".h264", "mp4", ""),
    "wide_annexb": (".h264", "wide", ""),
    "two_tracks_mp4": (".mp4", "two_tracks", "-map 0:v -movflags +faststart"),
}
CONTAINERS = ("mp4", "faststart", "mkv", "ts")


class Corpus:
    """Clean clips by name, each made when it is first asked for, and a place for spoilt ones."""

    def __init__(self, folder: Path) -> None:
        self._clean = folder / "clean"
        self._spoilt = folder / "corrupt"
        self._clean.mkdir(exist_ok=True)
        self._spoilt.mkdir(exist_ok=True)

    def clean(self, name: str) -> Path:
        """Return the path of a clean clip."""
        if name == "two_tracks":
            return self._two_tracks()
        ending, copied, arguments = CLEAN[name]
        path = self._clean / f"{name}{ending}"
        if not path.exists():
            frames = "" if "-frames" in arguments else f"-frames:v {FRAMES}"
            made = (
                f"-f lavfi -i testsrc2=size=160x120:rate=25,noise=alls=12:allf=t {frames} "
                "-pix_fmt yuv420p"
            )
            source = f"-i {self.clean(copied)} -c copy" if copied else made
            run_ffmpeg(*source.split(), *arguments.split(), path)
        return path

    def _two_tracks(self) -> Path:
        path = self._clean / "two_tracks.mkv"
        if not path.exists():
            inputs = ("-i", self.clean("mp4"), "-i", self.clean("other"))
            copied = ("-map", "0:v", "-map", "1:v", "-c", "copy", "-cluster_time_limit", "400")
            run_ffmpeg(*inputs, *copied, path)
        return path

    def bytes_of(self, name: str) -> bytes:
        """Return a clean clip's bytes."""
        return self.clean(name).read_bytes()

    def path(self, name: str) -> Path:
        """Return where a spoilt file goes; what lay there is gone."""
        path = self._spoilt / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
        return path

    def write(self, name: str, data: bytes) -> Path:
        """Write a spoilt file and return its path."""
        path = self.path(name)
        path.write_bytes(data)
        return path

    def copy(self, name: str, source: str, *arguments: str) -> Path:
        """Copy a clean clip's packets through ffmpeg into a spoilt file."""
        path = self.path(name)
        run_ffmpeg("-i", self.clean(source), "-c", "copy", *arguments, path)
        return path


Make = Callable[[Corpus], Path]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How a corrupt file is made, and what it was before.

    Attributes:
        make: Makes it.
        clean: The clean clip of which it is a corrupt copy; "" if nothing of one is left in it.
        frames: Frames that it would hold if it were sound; None for those of the clean clip.
        intact_frames: Frames at its beginning that must come out as those of the clean clip; None
            to tell it from the first byte that differs.
        good_tracks: Video tracks that must come out whole.
        moved: Frames may come out at other times than the clean clip's.
        silent: Why frames may be lost without a failure: nothing tells that they were there.
    """

    make: Make
    clean: str = ""
    frames: int | None = None
    intact_frames: int | None = None
    good_tracks: tuple[int, ...] = ()
    moved: bool = False
    silent: str = ""


# --- bytes ------------------------------------------------------------------------------------------


def _at(data: bytes, place: int) -> int:
    return len(data) * (2 * place + 1) // (2 * len(PLACES))


def truncated(corpus: Corpus, clip: str, place: int) -> Path:
    data = corpus.bytes_of(clip)
    name = f"truncated_{place}_{corpus.clean(clip).name}"
    return corpus.write(name, data[: _at(data, place)])


def overwritten(corpus: Corpus, clip: str, place: int, kind: str) -> Path:
    data = corpus.bytes_of(clip)
    at = _at(data, place)
    spoilt = random.Random(place).randbytes(_SPOILT_BYTES) if kind == "noise" else bytes(2000)
    changed = data[:at] + spoilt[: len(data) - at] + data[at + _SPOILT_BYTES :]
    return corpus.write(f"{kind}_{place}_{corpus.clean(clip).name}", changed)


def renamed(corpus: Corpus, clip: str, name: str) -> Path:
    return corpus.write(name, corpus.bytes_of(clip))


# --- containers -------------------------------------------------------------------------------------


def without_index(corpus: Corpus) -> Path:
    data = corpus.bytes_of("mp4")
    return corpus.write("without_index.mp4", data[: data.rindex(b"moov") - 4])


def header_only(corpus: Corpus, clip: str) -> Path:
    data = corpus.bytes_of(clip)
    ends = {"mp4": 48, "faststart": data.find(b"mdat") + 4, "mkv": data.find(_CLUSTER), "ts": 376}
    return corpus.write(f"header_only_{corpus.clean(clip).name}", data[: ends[clip]])


def box_numbers(corpus: Corpus, box: str, first: int, value: int) -> Path:
    """Overwrite the 32-bit numbers of an MP4's table from the given one on."""
    data = bytearray(corpus.bytes_of("faststart"))
    at = data.index(box.encode())
    size = int.from_bytes(data[at - 4 : at])
    for place in range(at + 4 + 4 * first, at - 4 + size, 4):
        data[place : place + 4] = struct.pack(">I", value)
    return corpus.write(f"{box}_from_{first}_huge.mp4", bytes(data))


def box_count(corpus: Corpus, box: str, number: int) -> Path:
    """Let one 32-bit number of an MP4's table be huge: how many entries it has."""
    data = bytearray(corpus.bytes_of("faststart"))
    at = data.index(box.encode()) + 4 + 4 * number
    data[at : at + 4] = struct.pack(">I", 0x7FFFFFFF)
    return corpus.write(f"{box}_counts_huge.mp4", bytes(data))


def claims_a_size(corpus: Corpus, name: str, clip: str, side: bytes) -> Path:
    """Let the header of an MP4's first video track claim another size, a square."""
    data = bytearray(corpus.bytes_of(clip))
    at = data.index(b"avc1", data.index(b"stsd")) + 4 + 24
    data[at : at + 4] = side * 2
    return corpus.write(name, bytes(data))


def long_frames(corpus: Corpus) -> Path:
    """Let each frame of an MP4 last for 68 years: 2^31 - 1 ticks of a second."""
    data = bytearray(corpus.bytes_of("faststart"))
    for box, offset, value in ((b"mdhd", 12, 1), (b"stts", 12, 0x7FFFFFFF)):
        at = data.index(box) + 4 + offset
        data[at : at + 4] = struct.pack(">I", value)
    return corpus.write("long_frames.mp4", bytes(data))


def patched(corpus: Corpus, name: str, clip: str, old: bytes, new: bytes) -> Path:
    """Overwrite the first of some bytes."""
    data = corpus.bytes_of(clip)
    at = data.index(old)
    return corpus.write(name, data[:at] + new + data[at + len(new) :])


def unknown_size_cluster_cut(corpus: Corpus) -> Path:
    """Let clusters not say how long they are, as those of a live stream, and end within a block."""
    data = bytearray(corpus.bytes_of("mkv"))
    at = data.find(_CLUSTER)
    while at >= 0:
        width = 9 - data[at + 4].bit_length()
        data[at + 4 : at + 4 + width] = ((1 << 7 * width + 1) - 1).to_bytes(width)
        at = data.find(_CLUSTER, at + 4)
    block = packets_of(str(corpus.clean("mkv")))[FRAMES * 6 // 10]
    return corpus.write("unknown_size_cluster_cut.mkv", bytes(data[: block.pos + block.size // 2]))


def truncated_at(corpus: Corpus, clip: str, share: float) -> Path:
    """End a file exactly where a frame does, at the first place behind a share of its frames."""
    packet = packets_of(str(corpus.clean(clip)))[round(FRAMES * share)]
    data = corpus.bytes_of(clip)
    end = packet.pos if clip == "ts" else data.index(_CLUSTER, packet.pos)
    return corpus.write(f"truncated_at_border_{corpus.clean(clip).name}", data[:end])


def cluster_times(corpus: Corpus, name: str, shift_ms: int, clip: str = "mkv") -> Path:
    """Move the times of a Matroska's clusters from its middle on."""
    data = bytearray(corpus.bytes_of(clip))
    at = data.find(_CLUSTER, len(data) // 2)
    while at >= 0:
        place = data.index(bytes([_CLUSTER_TIME]), at + 5, at + 14)
        length = data[place + 1] & 0x7F
        value = slice(place + 2, place + 2 + length)
        room = (1 << 8 * length) - 1
        moved = min(room, max(0, int.from_bytes(data[value]) + shift_ms))
        data[value] = moved.to_bytes(length)
        at = data.find(_CLUSTER, at + 4)
    return corpus.write(name, bytes(data))


# --- times, pictures, keyframes ---------------------------------------------------------------------


def joined(corpus: Corpus, name: str, *clips: str) -> Path:
    return corpus.write(name, b"".join(corpus.bytes_of(clip) for clip in clips))


def ts_ahead(corpus: Corpus) -> Path:
    late = corpus.copy("late.ts", "mp4", "-output_ts_offset", "3600").read_bytes()
    return corpus.write("times_ahead.ts", corpus.bytes_of("ts") + late)


def times_shifted(corpus: Corpus, name: str, clip: str, shift: str) -> Path:
    """Move the times of the second half of the packets."""
    moved = f"if(gte(N\\,{FRAMES // 2})\\,({shift})/TB)"
    return corpus.copy(name, clip, "-bsf:v", f"setts=pts=PTS+{moved}:dts=DTS+{moved}")


def in_band_headers(corpus: Corpus) -> Path:
    """Join two sizes in one MP4, whose header tells of the first one alone."""
    both, path = joined(corpus, "both.ts", "ts", "wide"), corpus.path("two_sizes.mp4")
    run_ffmpeg("-i", both, "-c", "copy", path)
    return path


def without_packets(corpus: Corpus, name: str, clip: str, which: str) -> Path:
    """Leave packets out: `which` is an expression of ffmpeg's bit stream filter `noise`."""
    return corpus.copy(name, clip, "-copyinkf", "-bsf:v", f"noise=drop={which}")


# --- several video tracks ---------------------------------------------------------------------------


def first_track_overwritten(corpus: Corpus, name: str, fill: Callable[[int], bytes]) -> Path:
    """Overwrite each packet of the first video track; the second one stays as it is."""
    path = corpus.clean("two_tracks")
    data = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        at = 0
        for packet in container.demux(video=0):
            if packet.size:
                at = data.index(bytes(packet), at)
                data[at : at + packet.size] = fill(packet.size)
                at += packet.size
    return corpus.write(name, bytes(data))


# --- no files at all --------------------------------------------------------------------------------


def named_pipe(corpus: Corpus) -> Path:
    path = corpus.path("pipe.mp4")
    os.mkfifo(path)
    return path


def folder(corpus: Corpus) -> Path:
    path = corpus.path("folder.mp4")
    path.mkdir()
    return path


def dangling(corpus: Corpus) -> Path:
    path = corpus.path("dangling.mp4")
    path.symlink_to("nowhere.mp4")
    return path


def unreadable(corpus: Corpus) -> Path:
    path = renamed(corpus, "mp4", "unreadable.mp4")
    path.chmod(0)
    return path


def sparse(corpus: Corpus, name: str, data: bytes, size_bytes: int = 8 << 30) -> Path:
    path = corpus.write(name, data)
    os.truncate(path, size_bytes)
    return path


def sound(corpus: Corpus) -> Path:
    path = corpus.path("sound.mp4")
    run_ffmpeg("-f", "lavfi", "-i", "sine=duration=2", path)
    return path


# --- the table --------------------------------------------------------------------------------------

_TS_END = "a transport stream counts no frames: one that ends between two is like a shorter one"
_LEGAL = (
    "the noise is a legal code by chance: neither container nor decoder can tell it from footage"
)
# By chance, so by recipe; a zero byte run or a broken file is never among them.
_SILENT_NOISE = {
    "noise_mp4_7": _LEGAL,
    "noise_mp4_8": _LEGAL,
}


def _recipes() -> dict[str, Recipe]:
    noise = random.Random(7).randbytes
    recipes = {}
    for clip in CONTAINERS:
        for place in PLACES:
            recipes[f"truncated_{clip}_{place}"] = Recipe(
                make=partial(truncated, clip=clip, place=place), clean=clip
            )
            for kind in ("zeros", "noise"):
                recipes[f"{kind}_{clip}_{place}"] = Recipe(
                    make=partial(overwritten, clip=clip, place=place, kind=kind),
                    clean=clip,
                    silent=_SILENT_NOISE.get(f"{kind}_{clip}_{place}", ""),
                )
    return recipes | {
        "without_index": Recipe(make=without_index, clean="mp4"),
        "mkv_named_mp4": Recipe(make=partial(renamed, clip="mkv", name="mkv.mp4"), clean="mkv"),
        "mp4_named_avi": Recipe(make=partial(renamed, clip="mp4", name="mp4.avi"), clean="mp4"),
        "ts_named_mkv": Recipe(make=partial(renamed, clip="ts", name="ts.mkv"), clean="ts"),
        "text": Recipe(make=lambda c: c.write("text.mp4", b"no footage, but text\n" * 500)),
        "empty": Recipe(make=lambda c: c.write("empty.mp4", b"")),
        **{
            f"header_only_{clip}": Recipe(make=partial(header_only, clip=clip), clean=clip)
            for clip in CONTAINERS
        },
        "sound": Recipe(make=sound),
        "times_back_ts": Recipe(
            make=lambda c: joined(c, "times_back.ts", "ts", "ts"),
            clean="ts",
            frames=2 * FRAMES,
            intact_frames=FRAMES,
            moved=True,
        ),
        "times_back_mkv": Recipe(
            make=lambda c: cluster_times(c, "times_back.mkv", -2500),
            clean="mkv",
            intact_frames=FRAMES // 2,
            moved=True,
        ),
        "times_repeat_mkv": Recipe(
            make=lambda c: cluster_times(c, "times_repeat.mkv", -2000),
            clean="mkv",
            intact_frames=FRAMES // 2,
            moved=True,
        ),
        "times_ahead_ts": Recipe(
            make=ts_ahead, clean="ts", frames=2 * FRAMES, intact_frames=FRAMES, moved=True
        ),
        "times_ahead_mkv": Recipe(
            make=lambda c: cluster_times(c, "times_ahead.mkv", 60_000), clean="mkv", moved=True
        ),
        "times_ahead_mp4": Recipe(
            make=lambda c: times_shifted(c, "times_ahead.mp4", "mp4", "3600"),
            clean="mp4",
            intact_frames=FRAMES // 2 - 2,
            moved=True,
        ),
        "two_sizes_ts": Recipe(
            make=lambda c: joined(c, "two_sizes.ts", "ts", "wide"),
            clean="ts",
            frames=2 * FRAMES,
            intact_frames=FRAMES,
            moved=True,
        ),
        "two_sizes_annexb": Recipe(
            make=lambda c: joined(c, "two_sizes.h264", "annexb", "wide_annexb"),
            clean="mp4",
            frames=2 * FRAMES,
            intact_frames=0,
        ),
        "two_sizes_mp4": Recipe(
            make=in_band_headers, clean="ts", frames=2 * FRAMES, intact_frames=0, moved=True
        ),
        "one_frame": Recipe(
            make=partial(renamed, clip="one_frame", name="one.mp4"), clean="one_frame"
        ),
        "keyframes_end_early": Recipe(
            make=partial(renamed, clip="few_keyframes", name="few.mp4"), clean="few_keyframes"
        ),
        **{
            f"keyframes_lost_{clip}": Recipe(
                make=partial(
                    without_packets,
                    name=f"keyframes_lost.{clip}",
                    clip=clip,
                    which="key*gt(n\\,45)",
                ),
                clean=clip,
                intact_frames=48,
            )
            for clip in ("mp4", "mkv", "ts")
        },
        **{
            f"keyframe_lost_at_head_{clip}": Recipe(
                make=partial(
                    without_packets, name=f"head_lost.{clip}", clip=clip, which="eq(n\\,0)"
                ),
                clean=clip,
                intact_frames=0,
                moved=True,
            )
            for clip in ("mp4", "mkv", "ts")
        },
        "named_pipe": Recipe(make=named_pipe),
        "folder": Recipe(make=folder),
        "dangling_link": Recipe(make=dangling),
        "unreadable": Recipe(make=unreadable),
        "first_track_noise": Recipe(
            make=lambda c: first_track_overwritten(c, "first_noise.mkv", noise),
            clean="two_tracks",
            intact_frames=0,
            good_tracks=(1,),
        ),
        "first_track_zeros": Recipe(
            make=lambda c: first_track_overwritten(c, "first_zeros.mkv", bytes),
            clean="two_tracks",
            intact_frames=0,
            good_tracks=(1,),
        ),
        "first_track_header": Recipe(
            make=lambda c: patched(c, "first_header.mkv", "two_tracks", b"\x01M@", bytes(30)),
            clean="two_tracks",
            intact_frames=0,
            good_tracks=(1,),
        ),
        "first_track_codec": Recipe(
            make=lambda c: patched(
                c, "first_codec.mkv", "two_tracks", b"V_MPEG4/ISO/AVC", b"V_NOBODY/KNOWS/"
            ),
            clean="two_tracks",
            intact_frames=0,
            good_tracks=(1,),
        ),
        "first_track_huge": Recipe(
            make=partial(
                claims_a_size, name="first_huge.mp4", clip="two_tracks_mp4", side=b"\xff\xff"
            ),
            clean="two_tracks_mp4",
            intact_frames=0,
            good_tracks=(1,),
        ),
        # A video track without area is refused by FFmpeg's demuxer of Matroska, and the file with it.
        "first_track_no_area": Recipe(
            make=lambda c: patched(
                c, "first_no_area.mkv", "two_tracks", b"\xb0\x81\xa0", b"\xb0\x81\x00"
            ),
            clean="two_tracks",
            intact_frames=0,
        ),
        "sparse_zeros_mp4": Recipe(make=lambda c: sparse(c, "zeros.mp4", b"")),
        "sparse_zeros_ts": Recipe(make=lambda c: sparse(c, "zeros.ts", b"")),
        "sparse_tail_mp4": Recipe(
            make=lambda c: sparse(c, "tail.mp4", c.bytes_of("mp4")), clean="mp4"
        ),
        "sparse_tail_mkv": Recipe(
            make=lambda c: sparse(c, "tail.mkv", c.bytes_of("mkv"), 256 << 20), clean="mkv"
        ),
        "sparse_tail_ts": Recipe(
            make=lambda c: sparse(c, "tail.ts", c.bytes_of("ts"), 32 << 20), clean="ts"
        ),
        "offsets_huge": Recipe(
            make=lambda c: box_numbers(c, "stco", 2, 0xFFFFFFF0), clean="faststart"
        ),
        "sizes_huge": Recipe(
            make=lambda c: box_numbers(c, "stsz", 3, 0x7FFFFFFF), clean="faststart"
        ),
        "size_counts_huge": Recipe(make=lambda c: box_count(c, "stsz", 2), clean="faststart"),
        "time_counts_huge": Recipe(make=lambda c: box_count(c, "stts", 2), clean="faststart"),
        "unknown_size_cluster_cut": Recipe(make=unknown_size_cluster_cut, clean="mkv"),
        "truncated_ts_at_a_frame": Recipe(
            make=partial(truncated_at, clip="ts", share=0.6), clean="ts", silent=_TS_END
        ),
        "truncated_mkv_at_a_cluster": Recipe(
            make=partial(truncated_at, clip="mkv", share=0.6), clean="mkv"
        ),
        "claims_a_huge_picture": Recipe(
            make=partial(claims_a_size, name="claims_huge.mp4", clip="faststart", side=b"\xff\xff"),
            clean="faststart",
            intact_frames=0,
        ),
        "frames_of_68_years": Recipe(make=long_frames, clean="faststart", intact_frames=1),
    }


RECIPES = _recipes()


# --- what was hurt ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Packet:
    pos: int
    size: int
    pts_s: float


@cache
def packets_of(path: str) -> list[Packet]:
    with av.open(path) as container:
        stream = container.streams.video[0]
        return [
            Packet(pos=p.pos, size=p.size, pts_s=float(p.pts * stream.time_base))
            for p in container.demux(stream)
            if p.size
        ]


def first_difference(clean: bytes, spoilt: bytes) -> int:
    """Return where two files part; the shorter one's end if it is the other one's beginning."""
    low, high = 0, min(len(clean), len(spoilt))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if clean[:middle] == spoilt[:middle] else (low, middle - 1)
    return low


def intact_frames(clean: Path, spoilt: Path) -> int:
    """Return how many frames lie, with all that they need, before the first byte that differs.

    An MP4 is read by its index, at the end: none does if that is changed or gone.
    """
    whole, size = clean.read_bytes(), min(spoilt.stat().st_size, 1 << 24)
    with spoilt.open("rb") as file:
        changed = file.read(size)
    packets = packets_of(str(clean))
    last = packets[-1].pos + packets[-1].size
    if clean.suffix == ".mp4" and changed[last : len(whole)] != whole[last:]:
        return 0
    at = first_difference(whole, changed)
    # A packet of a transport stream says where it begins, not how long it lies there.
    ends = [*(p.pos for p in packets[1:]), len(whole)] if clean.suffix == ".ts" else None
    reach = ends or [p.pos + p.size for p in packets]
    hurt = [p.pts_s for p, end in zip(packets, reach, strict=True) if end > at]
    first = min(hurt, default=float("inf"))
    return sum(p.pts_s < first for p in packets) if packets[0].pos <= at else 0


# --- the table, printed -----------------------------------------------------------------------------


def rows(corpus: Corpus, walker: Walker) -> Iterator[str]:
    """Yield the lines of a Markdown table of what comes of each recipe."""
    yield "| recipe | frames kept of total | failures recorded | first message | seconds |"
    yield "|---|---|---|---|---|"
    totals: dict[str, int] = {"": 0}
    for name, recipe in RECIPES.items():
        if recipe.clean not in totals:
            clean = walker.walk(corpus.clean(recipe.clean))
            totals[recipe.clean] = clean.frames if isinstance(clean, Walk) else 0
        total = totals[recipe.clean] if recipe.frames is None else recipe.frames
        done = walker.walk(recipe.make(corpus))
        if isinstance(done, str):
            yield f"| {name} | - of {total} | - | **{done}** | - |"
            continue
        message = (done.messages or ["-"])[0].replace("|", "/")[:110]
        yield (
            f"| {name} | {done.frames} of {total} | {len(done.messages)} | {message} "
            f"| {done.seconds:.2f} |"
        )


def print_table() -> None:
    """Walk the whole corpus and print what came of it."""
    walker = Walker(limit_s=60)
    with tempfile.TemporaryDirectory() as scratch:
        for line in rows(Corpus(Path(scratch)), walker):
            sys.stdout.write(line + "\n")
            sys.stdout.flush()
    walker.stop()


if __name__ == "__main__":
    print_table()
