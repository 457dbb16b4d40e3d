"""What is staged comes back exactly: frames without boxes, segments without frames, failures."""

from dataclasses import fields, replace

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from pipeline.records import Detections, Failure, FootageEnd, Stretch, WholeSegment
from pipeline.staging import Staging
from pipeline.timing import Span
from tests.property import archive as a
from tests.property.deaths import no_flushing

DOOR = a.recording("a", 0)
EACH = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
TEXTS = st.text(max_size=20)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
FAILURES = st.builds(
    Failure,
    source_uri=TEXTS,
    step=TEXTS,
    error_class=TEXTS,
    message=TEXTS,
    video_track=st.none() | st.integers(0, 9),
    camera_id=st.none() | TEXTS,
    first_frame=st.none() | st.integers(0, 2**40),
    last_frame=st.none() | st.integers(0, 2**40),
    frames=st.integers(0, 2**40),
    signal=TEXTS,
    attempts=st.integers(1, 9),
)
SPANS = st.builds(
    Span,
    step=TEXTS,
    wall_s=NUMBERS,
    cpu_s=NUMBERS,
    frames=st.integers(0, 999),
    pid=st.integers(0, 999),
)


@st.composite
def detections(draw, segment, first_frame):
    """Return the detections of a few frames, of which some or all have no box."""
    counts = draw(st.lists(st.integers(0, 3), max_size=5))
    frames, boxes = len(counts), sum(counts)
    edges = st.floats(-1e6, 1e6, width=32)
    return Detections(
        stretch=Stretch(
            footage=DOOR.key, segment=segment, start=0, stop=max(1, frames), wanted=max(1, frames)
        ),
        positions=np.arange(frames),
        frame_index=first_frame + np.arange(frames),
        pts_s=draw(arrays.arrays(np.float64, frames, elements=NUMBERS)),
        frame_row=np.repeat(np.arange(frames), counts),
        boxes=draw(arrays.arrays(np.float32, (boxes, 4), elements=edges)),
        confidence=draw(arrays.arrays(np.float32, boxes, elements=st.floats(0, 1, width=32))),
        class_id=draw(arrays.arrays(np.int64, boxes, elements=st.integers(0, 2**40))),
        spans=tuple(draw(st.lists(SPANS, max_size=2))),
    )


@st.composite
def segments(draw):
    """Return segments of a footage, of which some were set aside."""
    made = []
    for index in sorted(draw(st.sets(st.integers(0, 9_999_999), min_size=1, max_size=4))):
        is_set_aside = draw(st.booleans())
        made.append(
            WholeSegment(
                footage=DOOR.key,
                index=index,
                parts=() if is_set_aside else (draw(detections(index, 100)),),
                failures=tuple(draw(st.lists(FAILURES, min_size=is_set_aside, max_size=2))),
                attempt_id=draw(TEXTS),
            )
        )
    return made


def equal(one, other):
    """Say whether two records are the same, down to the types of their arrays."""
    for field in fields(one):
        mine, theirs = getattr(one, field.name), getattr(other, field.name)
        if isinstance(mine, np.ndarray):
            assert mine.dtype == theirs.dtype, field.name
            assert mine.shape == theirs.shape, field.name
            assert mine.tobytes() == theirs.tobytes(), field.name
        elif field.name == "parts":
            assert len(mine) == len(theirs)
            assert all(equal(x, y) for x, y in zip(mine, theirs, strict=True))
        else:
            assert mine == theirs, field.name
    return True


@EACH
@given(segments(), st.booleans())
def test_segments_come_back_from_the_disk_exactly(tmp_path_factory, segments, at_once):
    output = tmp_path_factory.mktemp("staged")
    with no_flushing():
        if at_once:
            Staging(output, "../door").keep(DOOR, segments)
        else:
            for segment in segments:
                Staging(output, "../door").keep(DOOR, [segment])
    found = Staging(output, "../door").segments_of(DOOR)
    assert sorted(found) == [segment.index for segment in segments]
    assert all(equal(found[segment.index](), segment) for segment in segments)


@EACH
@given(st.integers(0, 10**6), st.lists(FAILURES, max_size=3), st.lists(SPANS, max_size=2))
def test_the_mark_of_an_end_comes_back_from_the_disk_exactly(
    tmp_path_factory, count, failures, spans
):
    output = tmp_path_factory.mktemp("ends")
    end = FootageEnd(footage=DOOR.key, segments=count, failures=tuple(failures), spans=tuple(spans))
    assert Staging(output, "door").end_of(DOOR) is None
    with no_flushing():
        Staging(output, "door").keep_end(DOOR, end)
    assert Staging(output, "door").end_of(DOOR) == end


def test_a_segment_in_several_pieces_comes_back_in_one(tmp_path):
    pieces = (a.detect(DOOR, 2, 0, 2), a.detect(DOOR, 2, 2, 5))
    failures = pieces[1].failures
    split = WholeSegment(footage=DOOR.key, index=2, parts=pieces, failures=failures)
    whole = WholeSegment(footage=DOOR.key, index=2, parts=(a.detect(DOOR, 2),), failures=failures)
    Staging(tmp_path, "door").keep(DOOR, [split])
    back = Staging(tmp_path, "door").segments_of(DOOR)[2]()
    for name in ("frame_index", "pts_s", "frame_row", "boxes", "confidence", "class_id"):
        assert np.array_equal(getattr(back.parts[0], name), getattr(whole.parts[0], name)), name
    assert back.parts[0].spans == pieces[0].spans + pieces[1].spans


def test_what_a_part_has_taken_is_dropped_and_nothing_of_other_footage(tmp_path):
    staging, other = Staging(tmp_path, "door"), a.recording("b", 3)
    made = [
        WholeSegment(footage=DOOR.key, index=n, parts=(a.detect(DOOR, n),), failures=())
        for n in range(6)
    ]
    staging.keep(DOOR, made[:3])
    for segment in made[3:]:
        staging.keep(DOOR, [segment])
        staging.keep(other, [replace(segment, footage=other.key)])
    staging.keep_end(DOOR, a.end_of(DOOR))
    staging.drop(DOOR, 2, is_ended=False)
    assert sorted(staging.segments_of(DOOR)) == list(range(6)), "0 to 2 are one file, 2 is needed"
    staging.drop(DOOR, 5, is_ended=False)
    assert sorted(staging.segments_of(DOOR)) == [5]
    assert staging.end_of(DOOR) is not None
    staging.drop(DOOR, 6, is_ended=True)
    assert staging.segments_of(DOOR) == {}
    assert staging.end_of(DOOR) is None
    assert sorted(staging.segments_of(other)) == [3, 4, 5]
    staging.sweep({other.evidence_id: 4})
    assert sorted(staging.segments_of(other)) == [4, 5]
    staging.sweep({})
    assert a.files(tmp_path) == []
