"""The whole graph on one screen: one Ray Data dataset from recordings to the tracking actors.

    works ── demux ── decode ══════ detect ──> driver ──> one actor a camera
             tasks    tasks   pixels actors

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

from cluster.actors import Actors
from cluster.dataflow_spec import DataflowSpec
from cluster.growth import Growth
from cluster.nodes import lost_nodes
from cluster.pools import Pools
from cluster.push import Pushes
from cluster.ray_data import apply_to_ray_data
from cluster.rows import from_rows, to_row
from cluster.session import Session, is_fault_of_cluster, own_error
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
    spec: DataflowSpec, cuts: Sequence[tuple[Cut, ...]], actors: Actors, *, warm_up: bool
) -> "Dataset":
    """Return the dataset from recordings to detections, not yet run; before them, a warm-up."""
    # Imported here, for it takes a second: a local Ray starts meanwhile.
    from ray.data import ActorPoolStrategy, TaskPoolStrategy, from_blocks

    pools, source = spec.pools, replace(spec.source, row_bytes=spec.memory.row_packets_bytes)
    letterboxes = {f.letterbox for group in cuts for cut in group for f in cut.footages}
    shapes = sorted({(box.padded_height, box.padded_width) for box in letterboxes})
    warm_ups = range(pools.decode.size if warm_up else 0)
    first = [(replace(spec.warm_up, number=number),) for number in warm_ups]
    whole_blocks: dict[str, Any] = {"batch_size": None, "batch_format": "pyarrow"}
    # Ray types a generator's arguments away.
    demux: Any = demux_stage
    decode: Any = decode_stage
    # Put into the store here: `from_arrow` asks a worker, which has to be started, about each.
    given: Dataset = from_blocks([to_row(*works) for works in (*first, *cuts)])
    return (
        given.map_batches(
            demux,
            fn_args=(spec.demux, source, actors.supervisor),
            compute=TaskPoolStrategy(pools.demux.size),
            num_cpus=pools.demux.cpus,
            memory=spec.memory.cutting_bytes,
            **whole_blocks,
        )
        .map_batches(
            decode,
            fn_args=(spec.decode, source, actors.supervisor, actors.labeller),
            compute=TaskPoolStrategy(pools.decode.size),
            num_cpus=pools.decode.cpus,
            memory=spec.memory.worker_bytes,
            **whole_blocks,
        )
        .map_batches(
            DetectStage,
            fn_constructor_args=(spec.detect, shapes, actors.supervisor),
            compute=ActorPoolStrategy(
                size=pools.detect.size,
                max_tasks_in_flight_per_actor=DetectStage.ROWS_AT_ONCE,
                max_concurrent_calls_per_actor=DetectStage.ROWS_AT_ONCE,
                enable_true_multi_threading=True,
            ),
            num_cpus=pools.detect.cpus,
            num_gpus=pools.detect.gpus,
            resources=pools.detect.resources,
            **whole_blocks,
        )
    )


def run(spec: DataflowSpec, session: Session, watch: Watch) -> Outcome:
    """Run a job to its end.

    Raises:
        OutputError: The tables cannot be written.
        StepError: More segments failed than the job allows.
    """
    in_effect = apply_to_ray_data(spec.in_flight_bytes(session.nodes), is_ours=session.is_local)
    actors = Actors(spec, session)
    growth = Growth(spec, actors, in_effect, session)
    stall = StallWatch(lost_nodes)

    def end_dataset() -> None:
        in_effect.error = StalledError("nothing comes any more since a node was lost")

    rescue = Rescue(stall, end_dataset, lambda: in_effect.queues)
    watcher = Watcher(actors, growth, watch, rescue, spec.memory.limit_mb)

    def begin_pass() -> Pools:
        in_effect.error = None
        stall.begin()
        return growth.begin_pass()

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


def _push(dataset: "Dataset", actors: Actors) -> None:
    """Run a dataset, and push what comes out to the tracking actors."""
    pushes = Pushes(actors.of_camera, actors.supervisor)
    for bundle in dataset.iter_internal_ref_bundles():
        for rows in ray.get(list(bundle.block_refs)):
            pushes.push(list(from_rows(rows)))
    pushes.flush()


def _run_passes(
    spec: DataflowSpec, actors: Actors, stall: StallWatch, begin_pass: Callable[[], Pools]
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
        pools = begin_pass()
        # The warm-up was reckoned for the nodes of the beginning.
        here = replace(spec, pools=pools) if is_warm else spec
        dataset = build(here, spec.cuts(missing), actors, warm_up=not is_warm)
        try:
            _push(dataset, actors)
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
