"""INT8: made from the footage's own frames, once an output, and what it costs is told."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline import quantize
from pipeline.backend import Boxes, DetectSettings
from pipeline.errors import ConfigError, OutputError
from pipeline.openvino_backend import OpenVinoBackend
from pipeline.quantize import Quantized, matches, quantized
from pipeline.records import Footage
from pipeline.stills import Places, stills
from pipeline.weights import convert, find_weights, install
from tests.footage.clips import footages_of

IMAGE_PX = 320


@pytest.fixture(scope="module")
def street(footage: Path) -> Footage:
    (street,) = footages_of(str(footage / "TUD-Stadtmitte.mp4"), IMAGE_PX)
    return street


@pytest.fixture(scope="module")
def settings() -> DetectSettings:
    return DetectSettings(weights=find_weights("yolov8n.pt"), confidence=0.25)


@pytest.fixture(scope="module")
def made(
    street: Footage, settings: DetectSettings, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Quantized]:
    """Return an output's folder, and the quantized model of it."""
    folder = tmp_path_factory.mktemp("output")
    return folder, quantized(settings, [street], folder, most_stills=24)


def test_it_finds_nearly_all_that_the_model_found_before(
    made: tuple[Path, Quantized], street: Footage, settings: DetectSettings
) -> None:
    cost = made[1].cost
    assert (cost.frames, cost.judged, cost.recordings) == (16, 8, 1)
    assert cost.boxes > 20
    assert cost.found > 0.8 * cost.boxes
    assert cost.new < 0.2 * cost.boxes
    # What was judged is what is used.
    before = OpenVinoBackend(settings)
    after = OpenVinoBackend(replace(settings, precision="int8", weights=made[1].weights))
    assert after.class_names == before.class_names
    (still,) = stills(Places(footage=street, times_s=(2.0,)))
    there, now = (backend.begin(still[None], 1)() for backend in (before, after))
    assert matches(there, now) >= len(there.xyxy) - 1 > 1
    assert not np.array_equal(there.confidence, now.confidence)


def test_an_output_keeps_the_one_it_has(
    made: tuple[Path, Quantized],
    street: Footage,
    settings: DetectSettings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def make_no_other(*_: object) -> bytes:
        raise AssertionError("it was made again")

    monkeypatch.setattr(quantize, "_made", make_no_other)
    folder, first = made
    assert quantized(settings, [street, street], folder) == first


def test_it_travels_as_one_file_to_machines_that_have_it_not(
    made: tuple[Path, Quantized], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOOTFALL_CACHE", str(tmp_path))
    weights = made[1].weights
    content = Path(weights.path).read_bytes()
    elsewhere = install(replace(weights, path="/nowhere/model-int8.zip"), lambda: content)
    assert Path(elsewhere.path).is_relative_to(tmp_path)
    converted = convert(elsewhere)
    assert Path(converted.xml).is_relative_to(tmp_path)
    assert converted.class_names[0] == "person"


def test_footage_that_gives_no_frames_is_an_error_of_the_user_s(
    street: Footage, settings: DetectSettings, tmp_path: Path
) -> None:
    gone = replace(street, source_uri=str(tmp_path / "gone.mp4"))
    with pytest.raises(ConfigError, match="gives no frames to calibrate on"):
        quantized(settings, [gone], tmp_path)


def test_a_damaged_one_is_named_and_not_used(
    made: tuple[Path, Quantized], street: Footage, settings: DetectSettings, tmp_path: Path
) -> None:
    path = tmp_path / "model" / Path(made[1].weights.path).name
    path.parent.mkdir()
    whole = Path(made[1].weights.path).read_bytes()
    for content in (b"", whole[: len(whole) // 2], b"PK" + whole[2:100]):
        path.write_bytes(content)
        with pytest.raises(OutputError, match=f"{path.name}' is no quantized model"):
            quantized(settings, [street], tmp_path)


def test_without_nncf_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nncf", None)
    with pytest.raises(ConfigError, match=r"footfall\[int8\]"):
        quantize._quantize("model.xml", [np.zeros((32, 32, 3), np.uint8)], "target.xml")


def boxes(*of: tuple[float, float, float, float, int]) -> Boxes:
    return Boxes(
        np.zeros(len(of), np.int64),
        np.array([each[:4] for each in of], np.float32).reshape(-1, 4),
        np.ones(len(of), np.float32),
        np.array([each[4] for each in of], np.int64),
    )


def test_boxes_match_once_by_class_and_overlap() -> None:
    person, moved = (0, 0, 10, 10, 0), (0, 2, 10, 12, 0)
    bag, far = (0, 0, 10, 10, 1), (50, 50, 60, 60, 0)
    assert matches(boxes(person), boxes(moved)) == 1
    assert matches(boxes(person), boxes(bag)) == 0
    assert matches(boxes(person), boxes(far)) == 0
    assert matches(boxes(person), boxes(person, moved)) == 1
    assert matches(boxes(person, moved, bag), boxes(moved, bag, person)) == 3
    assert matches(boxes(), boxes(person)) == 0
