"""The whole graph on one screen: one Ray Data dataset from recordings to the tracking actors.

    works ── demux ── decode ══════ detect ── push ──> one actor a camera
             tasks    tasks   pixels  actors   tasks

The two shares of CPU differ, so that decode and detect never fuse: decord and torch shall not meet in
a process, and pixels cross exactly there.
"""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import ray
import ray.exceptions

from cluster.actors import Actors, DataflowSpec
from cluster.push import push_stage
from cluster.ray_data import apply_to_ray_data
from cluster.rows import to_row
from cluster.session import Session, is_fault_of_cluster, lost_nodes, own_error
from cluster.stages import Cut, DetectStage, decode_stage, demux_stage
from cluster.stall import StalledError, StallWatch
from cluster.watcher import Readiness, Rescue, Watch, Watcher
from pipeline.labeller import LabelTotals

if TYPE_CHECKING:
    from ray.data import Dataset

log = logging.getLogger(__name__)
MOST_FRUITLESS_PASSES = 3
_TELL_EVERY_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a run took; what it gave is in the ledger.

    Attributes:
        frames: Frames that were looked at in this run.
        in_flight_bytes: What Ray Data kept to, over all nodes; None if no dataset ran.
        ended_at: Unix time.
        labels: What the labeller came to; None if no labels were asked for.
    """

    frames: int
    readiness: Readiness
    in_flight_bytes: float | None
    ended_at: float
    labels: LabelTotals | None = None


def build(
    spec: DataflowSpec,
    cuts: Sequence[tuple[Cut, ...]],
    supervisor: Any,  # noqa: ANN401
    *,
    warm_up: bool,
    labeller: Any = None,  # noqa: ANN401
) -> "Dataset":
    """Return the dataset from recordings to detections, not yet run; before them, a warm-up."""
    # Imported here, for it takes a second: a local Ray starts meanwhile.
    from ray.data import ActorPoolStrategy, TaskPoolStrategy, from_arrow

    pools, source = spec.pools, replace(spec.source, row_bytes=spec.memory.row_packets_bytes)
    letterboxes = {f.letterbox for group in cuts for cut in group for f in cut.footages}
    shapes = sorted({(box.padded_height, box.padded_width) for box in letterboxes})
    warm_ups = range(pools.decode.size if warm_up else 0)
    first = [(replace(spec.warm_up, number=number),) for number in warm_ups]
    whole_blocks: dict[str, Any] = {"batch_size": None, "batch_format": "pyarrow"}
    # Ray types a generator's arguments away.
    demux: Any = demux_stage
    decode: Any = decode_stage
    return (
        from_arrow([to_row(*works) for works in (*first, *cuts)])
        .map_batches(
            demux,
            fn_args=(spec.demux, source, supervisor),
            compute=TaskPoolStrategy(pools.demux.size),
            num_cpus=pools.demux.cpus,
            memory=spec.memory.cutting_bytes,
            **whole_blocks,
        )
        .map_batches(
            decode,
            fn_args=(spec.decode, source, supervisor, labeller),
            compute=TaskPoolStrategy(pools.decode.size),
            num_cpus=pools.decode.cpus,
            memory=spec.memory.worker_bytes,
            **whole_blocks,
        )
        .map_batches(
            DetectStage,
            fn_constructor_args=(spec.detect, shapes, supervisor),
            compute=ActorPoolStrategy(size=pools.detect.size, max_tasks_in_flight_per_actor=2),
            num_cpus=pools.detect.cpus,
            num_gpus=pools.detect.gpus,
            **whole_blocks,
        )
    )


def _pushed(dataset: "Dataset", actors: Actors, spec: DataflowSpec) -> "Dataset":
    """Return a dataset whose records go to the tracking actors; no row is left."""
    from ray.data import TaskPoolStrategy

    push: Any = push_stage
    return dataset.map_batches(
        push,
        fn_args=(actors.of_camera, actors.supervisor),
        compute=TaskPoolStrategy(spec.pools.push.size),
        num_cpus=spec.pools.push.cpus,
        batch_size=spec.rows_of_a_push,
        batch_format="pyarrow",
    )


def run(spec: DataflowSpec, session: Session, watch: Watch) -> Outcome:
    """Run a job to its end.

    Raises:
        OutputError: The tables cannot be written.
        StepError: More segments failed than the job allows.
    """
    in_effect = apply_to_ray_data(spec.memory, len(session.hosts), is_ours=session.is_local)
    actors = Actors(spec, session)
    stall = StallWatch(lost_nodes)

    def end_dataset() -> None:
        in_effect.error = StalledError("nothing comes any more since a node was lost")

    watcher = Watcher(actors, watch, Rescue(stall, end_dataset), spec.memory.limit_mb)

    def begin_pass() -> None:
        in_effect.error = None
        stall.begin()

    try:
        watcher.start()
        _run_passes(spec, actors, stall, begin_pass)
        ray.get([actor.close.remote() for actor in actors.tracking])
        ended_at = time.time()
        labels = _end_labels(actors.labeller) if actors.labeller else None
        watcher.stop()
        actors.forget_recordings()
        return Outcome(
            frames=ray.get(actors.supervisor.progress.remote()).frames,
            readiness=watcher.readiness(),
            in_flight_bytes=in_effect.in_flight_bytes,
            ended_at=ended_at,
            labels=labels,
        )
    except Exception as error:
        known = own_error(error)
        if known is None:
            raise
        raise known from error
    finally:
        watcher.stop(quietly=True)
        actors.end()


def _end_labels(labeller: Any) -> LabelTotals:  # noqa: ANN401
    """Wait for the labels that are still to come."""
    waiting = ray.get(labeller.end.remote())
    while waiting:
        log.info("Labels: %d frames wait for Rekognition", waiting)
        waiting = ray.get(labeller.wait.remote(_TELL_EVERY_S))
    totals: LabelTotals = ray.get(labeller.close.remote())
    return totals


def _run_passes(
    spec: DataflowSpec, actors: Actors, stall: StallWatch, begin_pass: Callable[[], None]
) -> None:
    """Run the dataset over what is missing, until nothing is, or nothing comes any more.

    One pass does it, unless something dies that Ray cannot run again: a tracking actor takes with it
    the segments that were not whole, and a node the batches that nobody can make anew.
    """
    missing, fruitless = actors.missing(), 0
    is_warm = not missing
    if is_warm:
        ray.get(actors.supervisor.skip_warm_up.remote())
    while missing and fruitless < MOST_FRUITLESS_PASSES:
        ray.get(actors.supervisor.new_pass.remote())
        begin_pass()
        dataset = build(
            spec,
            spec.cuts(missing),
            actors.supervisor,
            warm_up=not is_warm,
            labeller=actors.labeller,
        )
        try:
            for _ in _pushed(dataset, actors, spec).iter_internal_ref_bundles():
                # They are empty; whatever holds one holds the history of all that led to it.
                pass
            is_warm = True
        except Exception as error:
            is_last = fruitless + 1 == MOST_FRUITLESS_PASSES and not stall.is_stalled
            if not is_fault_of_cluster(error) or is_last:
                raise
            log.warning("Part of the cluster was lost; going on with what is left of the work")
        before, missing = missing, actors.missing()
        # One that stalled may have had no node to work on: others may come.
        if missing != before or stall.is_stalled:
            fruitless = 0
        else:
            fruitless += 1
