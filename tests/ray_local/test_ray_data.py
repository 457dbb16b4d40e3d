"""What the design says of Ray Data, held on the real graph."""

import re
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import ray

from cluster.actors import Actors
from cluster.dataflow import build
from cluster.memory import Workers, plan_memory
from cluster.ray_data import apply_to_ray_data
from cluster.rows import from_rows
from cluster.session import open_session
from cluster.stall import StalledError
from jobs.hardware import choose_hardware
from jobs.progress import prepare_all
from jobs.settings import JobSettings
from jobs.spec import Start, describe, find_model
from jobs.survey import survey
from pipeline.footprint import Footprint
from pipeline.records import Detections, FootageEnd
from pipeline.run_folder import open_run
from pipeline.standin_backend import STAND_IN
from pipeline.warmup import WARM_UP_KEY

pytestmark = [pytest.mark.ray, pytest.mark.footage]


@pytest.fixture
def graph(ray_head: Any, eight_segments: Path, tmp_path: Path) -> Iterator[tuple[Any, list[Any]]]:
    """Run the graph of the job over 8 segments; give the dataset and the rows that came out."""
    settings = JobSettings(
        input=(str(eight_segments),), output=str(tmp_path / uuid.uuid4().hex), model=STAND_IN
    )
    with open_session(0, ray_head.address) as session:
        start = Start(
            settings=settings,
            model=find_model(settings),
            folder=open_run(settings.output),
            attempt_id="a",
        )
        hardware = choose_hardware(settings, session, None)
        standing = prepare_all(start, survey(settings), hardware, retry=False)
        spec = describe(start, hardware, standing.tails, session)
        apply_to_ray_data(spec.in_flight_bytes(session.nodes), is_ours=False)
        actors = Actors(spec, session)
        ray.get(actors.supervisor.open_gate.remote())
        cuts = spec.cuts(actors.missing())
        dataset = build(spec, cuts, actors, warm_up=True)
        batches = dataset.iter_batches(batch_size=None, batch_format="pyarrow")
        yield dataset, list(batches)
        actors.end()


def test_rows_are_never_glued_each_call_has_one_batch_and_decode_is_beside_no_model(
    graph: tuple[Any, list[Any]],
) -> None:
    dataset, blocks = graph
    assert all(len(block) == 1 for block in blocks), "a block is one row"
    rows = [list(from_rows(block)) for block in blocks]
    items = [item for row in rows for item in row]
    batches = [i for i in items if isinstance(i, Detections) and i.stretch.footage != WARM_UP_KEY]
    ends = [i for i in items if isinstance(i, FootageEnd) and i.footage != WARM_UP_KEY]
    assert [end.segments for end in ends] == [8]
    assert sorted({b.stretch.segment for b in batches}) == list(range(8))
    assert sum(len(b.frame_index) for b in batches) == 795

    # Each detector call got exactly the frames of one batch: 10, or the rest of a segment.
    for batch in batches:
        calls = [span for span in batch.spans if span.step == "detect"]
        assert [call.frames for call in calls] == [batch.stretch.stop - batch.stretch.start]
        last = batch.stretch.stop == batch.stretch.wanted
        assert calls[0].frames == 10 or last

    # Batches travel together, in order, as many as the plan has room for; a row begins with a segment.
    together = [[i for i in row if isinstance(i, Detections)] for row in rows]
    starts = [[batch.stretch.start for batch in row] for row in together]
    assert [0, 10, 20, 30] in starts
    assert max(len(row) for row in together) == 4
    assert all(row == sorted(row) for row in starts)

    # A decode task for each row of segments, and one for the warm-up: never glued further.
    operators = [line for line in dataset.stats().splitlines() if line.startswith("Operator")]
    names = [line.split(" ", 2)[2] for line in operators]
    decoding = [name for name in names if "decode_stage" in name]
    assert len(decoding) == 1
    tasks = int(re.search(r"(\d+) tasks executed", decoding[0]).group(1))
    assert 2 + 1 <= tasks <= 8 + 1 + 1

    # Decode and detect are operators of their own, in processes of their own.
    assert not any("decode_stage" in name and "DetectStage" in name for name in names)
    pids = {
        step: {s.pid for b in batches for s in b.spans if s.step == step}
        for step in ("decode", "detect")
    }
    assert pids["decode"]
    assert pids["detect"]
    assert not pids["decode"] & pids["detect"]


@pytest.mark.long
def test_a_segment_that_kills_its_decoder_each_time_is_set_aside_and_the_rest_finish(
    run: Callable, eight_segments: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOOTFALL_FAULT", "decode:0:3:SIGSEGV")
    job = run(eight_segments, model=STAND_IN)
    assert job.exit_code == 3
    assert job.summary["status"] == "partial"
    assert job.tracks()[0]["frames"] == 695
    assert job.tracks()[0]["frames_failed"] == 100
    columns = "select step, signal, attempts, first_frame, last_frame, frames, error_class"
    assert job.query("failures", columns) == [("decode", "SIGSEGV", 3, 300, 399, 100, "StepError")]
    monkeypatch.delenv("FOOTFALL_FAULT")
    whole = run(eight_segments, name="whole", model=STAND_IN)
    outside = "where frame_index not between 300 and 399 order by all"
    values = "select * exclude (source_uri)"
    assert job.query("detections", values, outside) == whole.query("detections", values, outside)


def test_a_batch_that_kills_its_detector_each_time_is_set_aside_and_the_rest_finish(
    run: Callable, footage: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOOTFALL_FAULT", "detect:0:1:SIGKILL")
    job = run(footage / "TUD-Stadtmitte.mp4", model=STAND_IN)
    assert job.exit_code == 3
    assert job.tracks()[0]["frames"] == 108
    columns = "select step, attempts, first_frame, last_frame, frames"
    assert job.query("failures", columns) == [("detect", 3, 108, 178, 71)]


def test_a_dataset_that_is_ended_from_outside_says_why(ray_head: Any) -> None:
    need = Footprint(
        frame_bytes=640 * 384 * 3,
        segment_frames=100,
        segment_bytes=1 << 20,
        pictures_bytes=4 << 20,
        cutting_bytes=40 << 20,
        runs_bytes=1 << 20,
    )
    plan = plan_memory(1024, need, batch_size=10, workers=Workers(decoders=1))
    with open_session(0, ray_head.address):
        in_effect = apply_to_ray_data(plan.in_flight_bytes, is_ours=False)
        endless = ray.data.range(1).map_batches(_sleep_for_ever, num_cpus=0)
        threading.Timer(2.0, lambda: setattr(in_effect, "error", StalledError("a node"))).start()
        with pytest.raises(StalledError, match="a node"):
            endless.take_all()
    assert in_effect.error is None


def _sleep_for_ever(batch: Any) -> Any:
    time.sleep(600)
    return batch
