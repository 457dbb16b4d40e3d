"""`footfall export OUTPUT --format mot|cvat`: a movement log for annotators and their tools.

mot     MOTChallenge's lines, one file a video track
cvat    "CVAT for video 1.1": a track a person, which CVAT loads over the recording
"""

import argparse
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from xml.sax.saxutils import quoteattr

import numpy as np

from jobs.exits import EXIT_OK, ending
from jobs.mot import Tracks, write_mot
from jobs.one_track import ask, find
from pipeline.atomic import write_whole, writing

FORMATS = ("mot", "cvat")


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the movement log of a video track in a format that annotators use."""
    parser = argparse.ArgumentParser(prog="footfall export", description=main.__doc__)
    ask(parser)
    parser.add_argument("--format", required=True, choices=FORMATS)
    parser.add_argument("--to", required=True, metavar="FILE", help="where it is written")
    options = parser.parse_args(arguments)
    return ending("export", lambda: _export(options))


def _export(options: argparse.Namespace) -> int:
    log = find(options)
    tracks = log.tracks()
    if options.format == "mot":
        lines: Iterable[str] = write_mot(tracks)
    else:
        lines = cvat(tracks, log.labels(), log.last_frame())
    target = Path(options.to)
    with writing(target.parent):
        write_whole(target, "".join(lines).encode())
    print(f"{len(tracks.frame)} boxes of {len(np.unique(tracks.track_id))} tracks: {target}")
    return EXIT_OK


def cvat(tracks: Tracks, labels: Mapping[int, str], last: int) -> Iterator[str]:
    """Yield the lines of a "CVAT for video 1.1" file.

    Each box is a keyframe; the frame behind a track's last box, or behind the last one before a gap,
    says that it is outside, for CVAT would show it on and on.

    Args:
        tracks: Of one video track.
        labels: The class of each track.
        last: The last frame there is; CVAT wants none behind it.
    """
    yield '<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n  <version>1.1</version>\n'
    for track_id in np.unique(tracks.track_id):
        rows = np.flatnonzero(tracks.track_id == track_id)
        label = quoteattr(labels[int(track_id)])
        yield f'  <track id="{track_id}" label={label} source="auto">\n'
        frames = tracks.frame[rows]
        for row, following in zip(rows.tolist(), [*frames[1:], -1], strict=True):
            yield _box(tracks, row, int(tracks.frame[row]), outside=0)
            if following != tracks.frame[row] + 1 <= last:
                yield _box(tracks, row, int(tracks.frame[row]) + 1, outside=1)
        yield "  </track>\n"
    yield "</annotations>\n"


def _box(tracks: Tracks, row: int, frame: int, *, outside: int) -> str:
    left, top, right, bottom = tracks.boxes[row]
    return (
        f'    <box frame="{frame}" outside="{outside}" occluded="0" keyframe="1" xtl="{left:.2f}" '
        f'ytl="{top:.2f}" xbr="{right:.2f}" ybr="{bottom:.2f}" z_order="0"></box>\n'
    )


if __name__ == "__main__":
    sys.exit(main())
