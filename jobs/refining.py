"""How the refined tables of cameras are made: with which settings, and here, without Ray."""

import logging
import multiprocessing
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from pathlib import Path

from cluster.session import local_cpus
from jobs.settings import JobSettings
from pipeline.aws import AwsSettings
from pipeline.cameras import read_cameras
from pipeline.derive import DeriveSettings, current, derive, derive_in_process
from pipeline.errors import StepError
from pipeline.floor import LEAST_POINTS, calibrate
from pipeline.refined import Refined, sweep_refined
from pipeline.run_folder import RunFolder
from pipeline.scene import NOTHING, Calibration, Scene
from pipeline.store import s3_reach

log = logging.getLogger(__name__)
# What is drawn into the cameras' pictures, as it was at the last start: for `footfall refine`.
CAMERAS_FILE = "cameras.toml"
_MB = 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class RefinedTotals:
    """What the refined tables of several cameras hold."""

    cameras: int = 0
    raw_tracks: int = 0
    tracks: int = 0
    unsure: int = 0
    events: int = 0

    def __str__(self) -> str:
        """Return a line for people."""
        left_out = f"; {self.unsure} never sure enough left out" if self.unsure else ""
        return (
            f"Refined {self.raw_tracks} tracks of {self.cameras} camera(s) into {self.tracks}, "
            f"with {self.events} events{left_out}"
        )


def totals(refined: Iterable[Refined]) -> RefinedTotals:
    """Add up generations as they come."""
    total = RefinedTotals()
    for one in refined:
        total = RefinedTotals(
            cameras=total.cameras + 1,
            raw_tracks=total.raw_tracks + one.raw_tracks,
            tracks=total.tracks + one.tracks,
            unsure=total.unsure + one.unsure,
            events=total.events + one.events,
        )
    return total


def scenes_of(cameras: str) -> dict[str, Scene]:
    """Return what is drawn into the picture of each camera of a file; of none if there is no file.

    How well calibrations fit is told in the log.

    Raises:
        ConfigError: The file is wrong.
    """
    scenes = {rule.id: rule.scene for rule in read_cameras(cameras)} if cameras else {}
    for camera_id, scene in scenes.items():
        if scene.calibration is not None:
            _say_floor(camera_id, scene.calibration)
    return scenes


def _say_floor(camera_id: str, told: Calibration) -> None:
    if len(told.image) == LEAST_POINTS:
        log.info(
            "The floor of camera %s: four points fit always, so nothing tells how far off they are; "
            "more would",
            camera_id,
        )
        return
    floor = calibrate(told.image, told.floor_m)
    log.info(
        "The floor of camera %s: its %d points are off by %.3f m, the worst by %.3f m",
        camera_id,
        len(told.image),
        floor.residual_m,
        floor.worst_m,
    )


def keep_cameras(folder: RunFolder, cameras: str) -> None:
    """Keep the cameras file of a start in its output, for `footfall refine`."""
    if cameras:
        folder.write_text(CAMERAS_FILE, Path(cameras).read_text(encoding="utf-8"))


def derive_settings(
    settings: JobSettings, cameras: Collection[str], scenes: Mapping[str, Scene]
) -> dict[str, DeriveSettings]:
    """Return by camera how its refined tables are made."""
    same = DeriveSettings(
        refine=None if settings.no_refine else settings.refine,
        carry_over_s=settings.track.carry_over_s,
        end_s=settings.track.lost_after_s,
        movement_hz=settings.movement_hz,
        interval_s=settings.count_interval_s,
        part_bytes=settings.part_mb * _MB,
    )
    return {each: replace(same, scene=scenes.get(each, NOTHING)) for each in sorted(cameras)}


def refine_here(
    output: Path, settings_of: Mapping[str, DeriveSettings], attempt_id: str
) -> Iterator[Refined]:
    """Yield the generation of each camera as it is made on this machine, a core a camera.

    Args:
        output: Root of the tables.
        settings_of: By camera.
        attempt_id: Who holds the cameras' leases.

    Raises:
        ConfigError: A scene does not fit its camera's picture.
        OutputError: A table is damaged, or cannot be written.
        StepError: A process died.
    """
    new = {}
    for camera_id, settings in settings_of.items():
        there = current(output, camera_id, settings)
        if there is None:
            new[camera_id] = settings
        else:
            sweep_refined(output, camera_id)
            yield there
    tasks = [(output, camera_id, settings, attempt_id) for camera_id, settings in new.items()]
    workers = min(len(tasks), max(1, int(local_cpus())))
    made = (
        _derive_in_pool(tasks, workers, s3_reach())
        if workers > 1
        else (derive(*task) for task in tasks)
    )
    yield from (refined for refined in made if refined is not None)


def _derive_in_pool(
    tasks: Sequence[tuple[Path, str, DeriveSettings, str]], workers: int, aws: AwsSettings
) -> Iterator[Refined | None]:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        try:
            for task in as_completed(
                [pool.submit(derive_in_process, aws, *task) for task in tasks]
            ):
                yield task.result()
        except BrokenProcessPool as error:
            raise StepError(f"a process that refined cameras died: {error}") from error
