"""The one video track of an output that a verb is about: asked for, and found."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from jobs.mot import footages_of
from pipeline.errors import ConfigError
from pipeline.run_folder import find_run


def ask(parser: argparse.ArgumentParser) -> None:
    """Add the options that name an output and a video track in it."""
    parser.add_argument("output", metavar="OUTPUT", help="folder of the tables")
    parser.add_argument("--recording", default="", help="name or path of it, if there are several")
    parser.add_argument("--video-track", type=int, help="of it, if there are several")


def find(options: argparse.Namespace) -> tuple[Path, str, int]:
    """Return the output, the recording and the number of the video track that are meant.

    Raises:
        ConfigError: There is none such, or there are several.
    """
    output = find_run(options.output).path
    return output, *choose(footages_of(output), options.recording, options.video_track)


def choose(
    footages: Sequence[tuple[str, int]], recording: str, video_track: int | None
) -> tuple[str, int]:
    """Return the one video track that is meant.

    Raises:
        ConfigError: None is, or several may be.
    """
    meant = [
        (uri, number)
        for uri, number in footages
        if (not recording or uri == recording or Path(uri).name == recording)
        and video_track in (None, number)
    ]
    if len(meant) == 1:
        return meant[0]
    there = ", ".join(f"{uri} (video track {number})" for uri, number in footages[:10])
    what = "several video tracks are" if meant else "no such video track is"
    raise ConfigError(
        f"{what} in the output: say which by --recording and --video-track; there are {there}"
    )
