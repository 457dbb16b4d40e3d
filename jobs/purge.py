"""`footfall purge`: throw away what an output holds of cameras, or what is older than a date."""

import argparse
import sys
import uuid
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from jobs.console import open_console, printable
from jobs.exits import EXIT_OK, EXIT_PARTIAL, ending
from jobs.options import resolve
from jobs.outputs import add_output, find_output
from jobs.purging import finish_purges
from jobs.refining import CAMERAS_FILE, derive_settings, refine_here, scenes_of, totals
from jobs.settings import JobSettings, moment_of
from jobs.tidying import forget_recordings
from pipeline.doomed import Doomed, look
from pipeline.errors import ConfigError
from pipeline.lease import Leases
from pipeline.ledger import cameras_of
from pipeline.purged import Purge, PurgedFootage, marked, new_name, read_purges, write_purge
from pipeline.run_folder import RunFolder
from pipeline.store import copies, files


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What is to go of an output: a purge that has not been made yet, and what it comes to."""

    purge: Purge
    doomed: tuple[Doomed, ...]

    @property
    def touched(self) -> list[str]:
        """The cameras that something goes from."""
        return [each.camera_id for each in self.doomed if each.whole or each.cut]

    @property
    def undated(self) -> list[tuple[str, str, int]]:
        """Camera, recording and video track of what stays since nothing tells when it was."""
        return [(each.camera_id, *name) for each in self.doomed for name in each.undated]


def main(arguments: Sequence[str] | None = None) -> int:
    """Throw away what an output holds of cameras, or what is older than a date; it stays away."""
    parser = argparse.ArgumentParser(
        prog="footfall purge",
        description=main.__doc__,
        epilog="Exit codes: 0 nothing of it is left, 3 some of it is: it was a --dry-run, or nothing "
        "tells when it was; 2 a wrong option, 1 it broke, or a run is at work on a camera.",
    )
    add_output(parser)
    parser.add_argument(
        "--camera", metavar="ID", action="append",
        help="a camera, or a glob of cameras ('north-*'); may be repeated; all, if it is not given",
    )  # fmt: skip
    parser.add_argument(
        "--before", metavar="DATE",
        help="only what is older: 2026-01-01, or 2026-01-01T09:00+01:00; UTC without a zone",
    )  # fmt: skip
    parser.add_argument(
        "--dry-run", action="store_true", help="say what would go, and touch nothing"
    )
    options = parser.parse_args(arguments)
    open_console()
    return ending("purge", lambda: _purge(options))


def _purge(options: argparse.Namespace) -> int:
    if not options.camera and not options.before:
        raise ConfigError("give --camera, --before, or both: what is to go?")
    before = moment_of("before", options.before or "")
    if before and before > datetime.now(UTC):
        raise ConfigError(
            f"before = {options.before!r}: it has not come yet, and nor has its footage"
        )
    run = find_output(options)
    patterns = tuple(options.camera or ["*"])
    if options.dry_run:
        return _say_what_would_go(run, _scope(run.path, patterns, before))
    settings, attempt_id = _settings(options, run), uuid.uuid4().hex[:12]
    cameras = _chosen(run.path, patterns)
    with Leases(run.path, attempt_id).held(cameras):
        # What an earlier purge has left undone is not this one's.
        finish_purges(run.path, cameras, read_purges(run.path), settings.track, attempt_id)
        scope = _scope(run.path, patterns, before)
        if not _is_known(run.path, scope):
            # All of them: nothing tells yet when what is staged was.
            write_purge(run.path, scope.purge, cameras)
            purges = read_purges(run.path)
            forget_recordings(run, set(purges.footage))
            finish_purges(run.path, cameras, purges, settings.track, attempt_id)
        _refine(run, settings, scope.touched, attempt_id)
    return _say_what_went(run, scope, set(cameras))


def _settings(options: argparse.Namespace, run: RunFolder) -> JobSettings:
    """Return the settings of the output's last start."""
    told = argparse.Namespace(output=options.output)
    return resolve(told, below=run.read_text("config.toml") or "")


def _chosen(output: Path, patterns: Sequence[str]) -> list[str]:
    """Return the cameras of an output that fit.

    Raises:
        ConfigError: None fits one of the patterns.
    """
    there = cameras_of(output)
    for pattern in patterns:
        only = Purge(name="", cameras=(pattern,), before=None, footage=())
        if not any(map(only.is_about, there)):
            names = ", ".join(there) or "none"
            raise ConfigError(f"camera {pattern!r}: the output has no such camera; it has: {names}")
    all_of_them = Purge(name="", cameras=tuple(patterns), before=None, footage=())
    return [each for each in there if all_of_them.is_about(each)]


def _scope(output: Path, patterns: Sequence[str], before: datetime | None) -> Scope:
    doomed = tuple(look(output, each, before) for each in _chosen(output, patterns))
    footage = (
        PurgedFootage(camera_id=each.camera_id, source_uri=uri, video_track=number, frames=frames)
        for each in doomed
        for (uri, number), frames in sorted(each.whole.items())
    )
    purge = Purge(
        name=new_name(),
        cameras=tuple(patterns),
        before=before,
        footage=tuple(footage),
        frames_cut=sum(share.frames for each in doomed for share in each.cut.values()),
    )
    return Scope(purge=purge, doomed=doomed)


def _is_known(output: Path, scope: Scope) -> bool:
    """Say whether nothing goes, and the rule that would be written down says what another does."""
    rules = {(each.cameras, each.before) for each in read_purges(output).each}
    purge = scope.purge
    is_told = purge.before is None or (purge.cameras, purge.before) in rules
    return is_told and not scope.touched


def _refine(
    run: RunFolder, settings: JobSettings, cameras: Collection[str], attempt_id: str
) -> None:
    """Make the refined tables of what is left anew."""
    saved = [path for path in files(run.path) if path.name == CAMERAS_FILE]
    how = derive_settings(settings, cameras, scenes_of("".join(map(str, copies(saved)))))
    totals(refine_here(run.path, how, attempt_id))


def _say_what_would_go(run: RunFolder, scope: Scope) -> int:
    for each in scope.doomed:
        for line in _lines(each):
            print(printable(f"camera {each.camera_id}: {line}"))
    unfinished = marked(run.path)
    if unfinished:
        print(f"an earlier purge of {len(unfinished)} camera(s) was not finished")
    if not scope.undated and not unfinished and _is_known(run.path, scope):
        print("purge: nothing is there of it")
        return EXIT_OK
    print(f"purge: {_sum_up(scope)} would go; nothing was touched")
    return EXIT_PARTIAL


def _lines(doomed: Doomed) -> Iterable[str]:
    """Yield what goes of a camera, and what stays."""
    for (uri, number), frames in sorted(doomed.whole.items()):
        yield f"video track {number} of {uri}: all of it goes, {frames} frames"
    for (uri, number), share in sorted(doomed.cut.items()):
        yield f"video track {number} of {uri}: {share.frames} frames go, {share.kept} later ones stay"
    for (uri, number), frames in sorted(doomed.undated.items()):
        yield f"video track {number} of {uri}: stays, nothing tells when it was; {frames} frames"


def _sum_up(scope: Scope) -> str:
    whole = len(scope.purge.footage)
    frames = scope.purge.frames_cut + sum(each.frames for each in scope.purge.footage)
    cut = sum(len(each.cut) for each in scope.doomed)
    return (
        f"{whole} video track(s), and the beginning of {cut}, {frames} frames, "
        f"of {len(scope.touched)} camera(s)"
    )


def _say_what_went(run: RunFolder, scope: Scope, held: set[str]) -> int:
    for camera_id, uri, number in scope.undated:
        print(
            printable(
                f"camera {camera_id}: video track {number} of {uri} stays: nothing tells when it was; "
                "purge its camera without --before to have it go"
            )
        )
    late = [each for each in _chosen(run.path, scope.purge.cameras) if each not in held]
    for camera_id in late:
        print(printable(f"camera {camera_id}: a run has begun it meanwhile: purge again"))
    print(
        f"purge: {_sum_up(scope)} went, and stay away"
        + (f"; {len(scope.undated)} video track(s) without a time stay" if scope.undated else "")
    )
    return EXIT_PARTIAL if scope.undated or late else EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
