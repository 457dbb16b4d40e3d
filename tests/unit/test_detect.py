"""A detector that runs out of memory goes on with fewer frames at once, and finds the same."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.backend import DetectSettings
from pipeline.detect import Detector
from pipeline.faults import Fault
from pipeline.letterbox import fit
from pipeline.records import FootageKey, FrameBatch, Stretch
from pipeline.standin_backend import STAND_IN, stand_in_weights

BOX = fit(64, 64, 64)
SETTINGS = DetectSettings(weights=stand_in_weights(), backend=STAND_IN, batch_size=10)


def frame_batch(frames, seed=1):
    """Return frames with no to three bright things each, of random places and sizes."""
    random = np.random.default_rng(seed)
    pixels = np.zeros((frames, BOX.padded_height, BOX.padded_width, 3), np.uint8)
    for frame in pixels:
        for _ in range(random.integers(4)):
            (left, top), (width, height) = random.integers(0, 50, 2), random.integers(7, 14, 2)
            frame[top : top + height, left : left + width] = 255
    return FrameBatch(
        stretch=Stretch(
            footage=FootageKey(camera_id="door", sequence=0),
            segment=3,
            start=0,
            stop=frames,
            wanted=frames,
        ),
        source_uri="/a.mkv",
        video_track=0,
        letterbox=BOX,
        positions=np.arange(frames),
        frame_index=np.arange(frames),
        pts_s=np.arange(frames) / 25,
        pixels=pixels,
    )


def short_of_memory(amount, **place):
    """Return a detector that has memory for so many frames at once."""
    everywhere = {"video_track": None, "segment": None}
    fault = Fault(step="detect", what="NOMEM", amount=amount, **{**everywhere, **place})
    return Detector(replace(SETTINGS, fault=fault))


def assert_same(found, expected):
    assert len(expected.frame_row)
    for name in ("frame_row", "boxes", "confidence", "class_id", "positions", "frame_index"):
        assert np.array_equal(getattr(found, name), getattr(expected, name)), name


def test_a_batch_that_does_not_fit_gives_the_same_boxes_in_smaller_ones():
    batch = frame_batch(10)
    assert_same(short_of_memory(3).detect(batch), Detector(SETTINGS).detect(batch))


def test_each_halving_is_told_once_with_what_it_goes_on_with():
    detector = short_of_memory(3)
    assert detector.take_notices() == []
    detector.detect(frame_batch(10))
    first, second = detector.take_notices()
    assert first.startswith("Out of memory on cpu (10 frames do not fit)")
    assert first.endswith("going on with 5 frame(s) at once")
    assert second.endswith("going on with 2 frame(s) at once")
    assert detector.take_notices() == []


def test_a_detector_that_has_found_what_fits_stays_with_it():
    detector = short_of_memory(3)
    detector.detect(frame_batch(10))
    detector.take_notices()
    batch = frame_batch(10, seed=2)
    assert_same(detector.detect(batch), Detector(SETTINGS).detect(batch))
    assert detector.take_notices() == []


def test_a_short_batch_is_halved_from_its_own_length():
    detector = short_of_memory(3)
    detector.detect(frame_batch(4))
    (text,) = detector.take_notices()
    assert text.endswith("going on with 2 frame(s) at once")


def test_a_detector_into_which_not_even_one_frame_fits_says_so():
    detector = short_of_memory(0)
    for _ in range(2):
        with pytest.raises(MemoryError, match="1 frames do not fit"):
            detector.detect(frame_batch(10))


def test_memory_that_is_short_elsewhere_is_of_no_concern():
    for place in ({"segment": 4}, {"video_track": 1}):
        detector = short_of_memory(0, **place)
        detector.detect(frame_batch(10))
        assert detector.take_notices() == []


@pytest.fixture(params=["when it begins", "when it is waited for"])
def small(request, monkeypatch):
    """Return a detector whose backend has memory for five frames, and what it was given."""
    detector, given_rows = Detector(SETTINGS), []
    whole = detector._backend.begin

    def out_of_memory():
        raise MemoryError("CUDA out of memory")

    def begin(pixels, rows):
        given_rows.append((len(pixels), rows))
        if len(pixels) <= 5:
            return whole(pixels, rows)
        return out_of_memory if request.param == "when it is waited for" else out_of_memory()

    monkeypatch.setattr(detector._backend, "begin", begin)
    return detector, given_rows


def test_a_backend_that_runs_out_of_memory_itself_is_given_fewer_frames(small):
    (detector, given_rows), batch = small, frame_batch(10)
    assert_same(detector.detect(batch), Detector(SETTINGS).detect(batch))
    assert given_rows == [(10, 10), (5, 5), (5, 5)]
    assert len(detector.take_notices()) == 1


def test_batches_that_were_begun_before_memory_ran_out_halve_it_once(small):
    detector, _ = small
    batches = [frame_batch(10, seed) for seed in (1, 2, 3)]
    waits = [detector.begin(batch) for batch in batches]
    for batch, wait in zip(batches, waits, strict=True):
        assert_same(wait(), Detector(SETTINGS).detect(batch))
    (told,) = detector.take_notices()
    assert told.endswith("going on with 5 frame(s) at once")


def test_warming_up_is_not_struck_by_a_fault_and_finds_nothing_to_tell():
    detector = short_of_memory(0)
    detector.warm_up(64, 64)
    assert detector.take_notices() == []


@settings(deadline=None)
@given(st.integers(1, 12), st.integers(1, 40), st.integers(1, 16), st.integers(0, 99))
def test_however_many_frames_fit_the_boxes_are_the_same(amount, frames, batch_size, seed):
    batch = frame_batch(frames, seed)
    fault = Fault(step="detect", video_track=None, segment=None, what="NOMEM", amount=amount)
    short = Detector(replace(SETTINGS, batch_size=batch_size, fault=fault))
    whole = Detector(replace(SETTINGS, batch_size=frames))
    found, expected = short.detect(batch), whole.detect(batch)
    for name in ("frame_row", "boxes", "confidence", "class_id"):
        assert np.array_equal(getattr(found, name), getattr(expected, name)), name
    told = short.take_notices()
    assert (len(told) > 0) == (min(frames, batch_size) > amount)
    assert short.take_notices() == []
