"""How much memory the steps take for given footage: the physics that a memory plan counts with.

    cut       ffmpeg, and of each video track the open run of packets and the one before it
    decode    the pictures that a codec may refer to, the batch being filled, the packets
    detect    a frame batch at inference size

Bytes throughout. What fits under a cap is for the planner; what is measured, for whoever measures.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pipeline.aws import is_s3
from pipeline.cutter import DemuxSettings
from pipeline.records import Footage, VideoTrack

_MIB = 1 << 20
# ffmpeg 9, copying: 21 MiB of its file and 9 of its own (measured, PSS).
FFMPEG_BYTES = 34 * _MIB
# boto3 with what it knows of S3, and eight ranges on their way (34 MB measured, USS).
S3_BYTES = 36 * _MIB
# Beyond what a codec refers to: the picture in work, those on their way out, the scaler's.
_MORE_PICTURES = 4
# Copies of a segment's packets: muxed, as a file, in its row; and in its row, as a file again.
_COPIES_CUTTING, _COPIES_DECODING = 3, 2
_MOST_REFERENCES = 16
# ITU-T H.264 (08/2021), table A-1: MaxDpbMbs by level, in macroblocks of 16 x 16.
_H264_MACROBLOCKS: Mapping[int, int] = {
    10: 396, 9: 396, 11: 900, 12: 2376, 13: 2376, 20: 2376, 21: 4752, 22: 8100, 30: 8100, 31: 18_000,
    32: 20_480, 40: 32_768, 41: 32_768, 42: 34_816, 50: 110_400, 51: 184_320, 52: 184_320,
}  # fmt: skip
# ITU-T H.265 (08/2021), table A.8: MaxLumaPs by level; A.4.2: six pictures of that size, more of less.
_H265_LUMA: Mapping[int, int] = {
    30: 36_864, 60: 122_880, 63: 245_760, 90: 552_960, 93: 983_040, 120: 2_228_224, 123: 2_228_224,
    150: 8_912_896, 153: 8_912_896, 156: 8_912_896,
}  # fmt: skip
# Codecs that have their own number of references: VP9 and AV1 eight slots, the old ones two.
_REFERENCES: Mapping[str, int] = {
    "vp8": 3, "vp9": 8, "av1": 8, "mpeg1video": 2, "mpeg2video": 2, "mpeg4": 2, "mjpeg": 0,
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Footprint:
    """What the most demanding of some footage takes.

    Attributes:
        frame_bytes: A frame at inference size.
        segment_frames: Frames of the longest segment.
        segment_bytes: Packets of the largest segment.
        pictures_bytes: What a decoder holds at source size.
        cutting_bytes: What cutting one recording takes, ffmpeg and what fetches from S3 included.
        runs_bytes: What of that are packets.
    """

    frame_bytes: int
    segment_frames: int
    segment_bytes: int
    pictures_bytes: int
    cutting_bytes: int
    runs_bytes: int

    @property
    def carried_bytes(self) -> int:
        """What a segment may be carried with: twice what the probe saw, within `DemuxSettings`'."""
        most = DemuxSettings().carried_bytes
        return min(most, max(2 * self.segment_bytes, most // 8))

    @property
    def packets_bytes(self) -> int:
        """What a segment's packets take, where they are carried."""
        return min(self.segment_bytes, self.carried_bytes)

    def decoding_bytes(self, frames: int, packets_bytes: int) -> int:
        """Return what a decoder takes that decodes frame by frame, besides what it gave on.

        Args:
            frames: What it gives on at once.
            packets_bytes: What it is given at once.
        """
        rows = 2 * frames * self.frame_bytes
        own_ffmpeg = FFMPEG_BYTES if self.segment_bytes > self.carried_bytes else 0
        return self.pictures_bytes + rows + _COPIES_DECODING * packets_bytes + own_ffmpeg

    @property
    def ahead_bytes(self) -> int:
        """What a decoder holds besides that runs ahead to the end of its segment."""
        return self.segment_frames * self.frame_bytes


def footprint_of(footages: Iterable[Footage], settings: DemuxSettings) -> Footprint:
    """Return what the most demanding of the footage takes.

    Args:
        footages: At least one; those of one recording are cut together.
        settings: How they are cut.
    """
    by_uri: dict[str, list[Footage]] = {}
    for footage in footages:
        by_uri.setdefault(footage.source_uri, []).append(footage)
    every = [footage for group in by_uri.values() for footage in group]
    runs = [_runs_bytes([f.track for f in group], settings) for group in by_uri.values()]
    return Footprint(
        frame_bytes=max(footage.letterbox.frame_bytes for footage in every),
        segment_frames=max(_segment(f.track, settings)[0] for f in every),
        segment_bytes=max(_segment(f.track, settings)[1] for f in every),
        pictures_bytes=max(_pictures_bytes(footage.track) for footage in every),
        cutting_bytes=FFMPEG_BYTES + max(runs) + (S3_BYTES if any(map(is_s3, by_uri)) else 0),
        runs_bytes=max(runs),
    )


def _segment(track: VideoTrack, settings: DemuxSettings) -> tuple[int, int]:
    """Return frames and bytes of a segment: whole groups of pictures, as many as it wants frames."""
    # A group that the probe saw nothing of: a keyframe each 10 s is usual with cameras.
    frames = track.gop_frames or round(10 * (track.rate_fps or 25.0))
    gops = math.ceil(settings.segment_frames / frames)
    return max(settings.segment_frames, gops * frames), gops * track.gop_bytes


def _runs_bytes(tracks: Sequence[VideoTrack], settings: DemuxSettings) -> int:
    """Return what the open runs take, the copies of the one on its way, and ffmpeg's own queues.

    The run before the open one waits for a packet or two only.
    """
    sizes = [min(_segment(track, settings)[1], settings.carried_bytes) for track in tracks]
    queues = sum(track.gop_bytes for track in tracks)
    return sum(sizes) + _COPIES_CUTTING * max(sizes, default=0) + queues


def _pictures_bytes(track: VideoTrack) -> int:
    """Return what a decoder holds at source size."""
    picture_bytes = track.picture_bytes or track.width * track.height * 3 // 2
    return (_references(track) + _MORE_PICTURES) * picture_bytes


def _references(track: VideoTrack) -> int:
    """Return how many pictures a decoder has to keep, by the codec's own rules."""
    if track.codec == "h264" and track.level in _H264_MACROBLOCKS:
        macroblocks = -(-track.width // 16) * -(-track.height // 16)
        return min(_MOST_REFERENCES, max(1, _H264_MACROBLOCKS[track.level] // macroblocks))
    if track.codec == "hevc" and track.level in _H265_LUMA:
        share = track.width * track.height / _H265_LUMA[track.level]
        return next((n for most, n in ((0.25, 16), (0.5, 12), (0.75, 8)) if share <= most), 6)
    return _REFERENCES.get(track.codec, _MOST_REFERENCES)
