"""The detector on real frames: the same boxes whatever the batch, and whichever backend."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline import timing
from pipeline.backend import DetectSettings
from pipeline.boxes import intersection_over_union
from pipeline.decode import DecodeSettings, decode
from pipeline.demux import DemuxSettings, cut
from pipeline.detect import Detector
from pipeline.errors import ConfigError
from pipeline.letterbox import fit
from pipeline.probe import probe
from pipeline.records import Detections, Footage, FootageKey, FrameBatch, Segment
from pipeline.standin_backend import stand_in_weights
from pipeline.weights import find_weights

pytestmark = pytest.mark.footage


@pytest.fixture(scope="module")
def batches(footage: Path) -> list[FrameBatch]:
    """Return the first 30 frames of a clip in batches of 10."""
    recording = probe(str(footage / "TUD-Campus.mp4"))
    (track,) = recording.video_tracks
    whole = Footage(
        key=FootageKey(camera_id="campus", sequence=0),
        source_uri=recording.source_uri,
        track=track,
        letterbox=fit(*track.upright_size, 640),
    )
    segment = next(item for item in cut([whole], DemuxSettings()) if isinstance(item, Segment))
    return list(decode(segment, DecodeSettings(batch_size=10)))[:3]


def settings(**changes: object) -> DetectSettings:
    return replace(DetectSettings(weights=find_weights("yolov8n.pt")), **changes)


def part(batch: FrameBatch, start: int, stop: int) -> FrameBatch:
    rows = slice(start, stop)
    return replace(
        batch,
        stretch=replace(batch.stretch, start=start, stop=stop),
        positions=batch.positions[rows],
        frame_index=batch.frame_index[rows],
        pts_s=batch.pts_s[rows],
        pixels=batch.pixels[rows],
    )


def joined(found: Sequence[Detections]) -> list[tuple[int, bytes, float]]:
    return [
        (int(d.frame_index[row]), d.boxes[i].tobytes(), float(d.confidence[i]))
        for d in found
        for i, row in enumerate(d.frame_row)
    ]


def test_boxes_of_a_frame_do_not_depend_on_its_batch(batches: list[FrameBatch]) -> None:
    detector = Detector(settings())
    whole = joined([detector.detect(batches[0])])
    assert len(whole) > 20
    for size in (1, 3):
        pieces = [part(batches[0], i, min(i + size, 10)) for i in range(0, 10, size)]
        assert joined([detector.detect(piece) for piece in pieces]) == whole


def test_both_backends_find_the_same_people(batches: list[FrameBatch]) -> None:
    """The torch backend is the one of CUDA; on a CPU it has the same arithmetic, in fp32."""
    openvino, torch = (
        [Detector(settings(backend=backend)).detect(batch) for batch in batches]
        for backend in ("openvino", "torch")
    )
    for ours, theirs in zip(openvino, torch, strict=True):
        assert ours.frame_row.tolist() == theirs.frame_row.tolist()
        assert np.abs(ours.boxes - theirs.boxes).max() < 0.1
        assert np.abs(ours.confidence - theirs.confidence).max() < 1e-3
        assert ours.boxes.dtype == theirs.boxes.dtype == np.float32


def test_boxes_are_grouped_by_frame_best_first_and_of_the_wanted_classes(
    batches: list[FrameBatch],
) -> None:
    detector = Detector(settings(classes=("person", "handbag"), confidence=0.25))
    found = detector.detect(batches[0])
    names = {detector.class_names[number] for number in found.class_id}
    assert "person" in names <= {"person", "handbag"}
    for row in range(10):
        scores = found.confidence[found.frame_row == row]
        assert len(scores)
        assert (np.diff(scores) <= 0).all()
        assert scores.min() >= 0.25
    assert (np.diff(found.frame_row) >= 0).all()


def test_people_are_where_the_truth_has_them(batches: list[FrameBatch], footage: Path) -> None:
    truth: dict[int, list[list[float]]] = {}
    for line in (footage / "TUD-Campus.gt.txt").read_text().splitlines():
        frame, _, left, top, width, height, *_ = map(float, line.split(","))
        truth.setdefault(int(frame) - 1, []).append([left, top, left + width, top + height])
    detector, hits, people = Detector(settings()), 0, 0
    for batch in batches:
        found = detector.detect(batch)
        for row, number in enumerate(found.frame_index):
            true = np.array(truth[int(number)])
            overlap = intersection_over_union(true, found.boxes[found.frame_row == row])
            hits += int((overlap.max(axis=1) > 0.5).sum())
            people += len(true)
    assert hits / people > 0.8


def test_pixels_of_another_node_count_as_crossed(
    batches: list[FrameBatch], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timing._Here, "node", "")
    detector = Detector(settings(backend="stand-in", weights=stand_in_weights()))
    timing.run_on("here")
    for node, crossed in (("here", 0), ("elsewhere", batches[0].pixels.nbytes)):
        (*others, decoded) = batches[0].spans
        batch = replace(batches[0], spans=(*others, replace(decoded, node=node)))
        span = detector.detect(batch).spans[-1]
        assert (span.step, span.node, span.crossed_bytes) == ("detect", "here", crossed)


def test_a_batch_of_no_frames_has_no_boxes(batches: list[FrameBatch]) -> None:
    empty = replace(part(batches[0], 0, 1), positions=np.zeros(0, np.int64))
    empty = replace(
        empty,
        frame_index=np.zeros(0, np.int64),
        pts_s=np.zeros(0),
        pixels=batches[0].pixels[:0],
    )
    assert len(Detector(settings()).detect(empty).boxes) == 0


def test_a_precision_that_the_backend_has_not_is_named() -> None:
    with pytest.raises(ConfigError, match="fp16"):
        settings(precision="fp16")
