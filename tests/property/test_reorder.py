"""Whatever order, splits and repeats batches come in, each frame is given on once, in order."""

from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.records import Detections, Failure, FootageEnd, FootageKey, Gap, Stretch
from pipeline.reorder import ReorderBuffer, WholeSegment

KEY = FootageKey(camera_id="door", sequence=0)
EACH = settings(max_examples=80, deadline=None)


def number_of(segment, position):
    """Return the frame_index of a position; one segment's never run into the next one's."""
    return 1000 * segment + position


def boxes_in(segment, position):
    """Return how many boxes a frame has: some have none."""
    return (5 * segment + 3 * position) % 4


def batch(segment, start, stop, wanted, *, lost=frozenset(), failures=()):
    """Make a batch whose boxes name their frame in x_min; positions in `lost` did not decode."""
    positions = [p for p in range(start, stop) if (segment, p) not in lost]
    numbers = np.array([number_of(segment, p) for p in positions], np.int64)
    counts = [boxes_in(segment, p) for p in positions]
    rows = np.repeat(np.arange(len(positions)), counts)
    boxes = np.zeros((len(rows), 4), np.float32)
    boxes[:, 0] = numbers[rows]
    boxes[:, 1] = [i for count in counts for i in range(count)]
    return Detections(
        stretch=stretch(segment, start, stop, wanted),
        positions=np.array(positions, np.int64),
        frame_index=numbers,
        pts_s=numbers / 25.0,
        frame_row=rows,
        boxes=boxes,
        confidence=boxes[:, 0] / 10_000,
        class_id=numbers[rows],
        failures=failures,
    )


def stretch(segment, start, stop, wanted):
    return Stretch(footage=KEY, segment=segment, start=start, stop=stop, wanted=wanted)


def failure(message, first=None, last=None, frames=1):
    return Failure(
        source_uri="a.mkv",
        step="decode",
        error_class="SourceError",
        message=message,
        first_frame=first,
        last_frame=last,
        frames=frames,
    )


def gap(segment, start, stop, wanted):
    """Make a gap whose failure names the frames of its own stretch."""
    first, last = number_of(segment, start), number_of(segment, stop - 1)
    return Gap(
        stretch=stretch(segment, start, stop, wanted),
        failure=failure("died", first, last, stop - start),
    )


def content(whole: WholeSegment):
    """Return what a segment gives on: (frame_index, pts_s, boxes of the frame), frame after frame."""
    frames = []
    for part in whole.parts:
        assert list(part.frame_row) == sorted(part.frame_row)
        for row, number in enumerate(part.frame_index):
            mine = part.frame_row == row
            named = [
                (*box[:2], round(float(score) * 10_000), kind)
                for box, score, kind in zip(
                    part.boxes[mine], part.confidence[mine], part.class_id[mine], strict=True
                )
            ]
            frames.append((number, part.pts_s[row], named))
    return frames


def expected(segment, wanted, lost=frozenset()):
    frames = []
    for position in range(wanted):
        if (segment, position) not in lost:
            number = number_of(segment, position)
            named = [(number, i, number, number) for i in range(boxes_in(segment, position))]
            frames.append((number, number / 25.0, named))
    return frames


@st.composite
def splits(draw, wanted):
    """Cut [0, wanted) into stretches."""
    cuts = draw(st.sets(st.integers(1, max(1, wanted - 1)), max_size=wanted))
    edges = sorted({0, wanted, *(c for c in cuts if c < wanted)})
    return list(pairwise(edges))


@st.composite
def deliveries(draw):
    """Return segment sizes, frames that did not decode, and arrivals: each segment split 1-3 ways."""
    sizes = draw(st.lists(st.integers(1, 9), min_size=1, max_size=4))
    everywhere = [(s, p) for s, size in enumerate(sizes) for p in range(size)]
    lost = draw(st.frozensets(st.sampled_from(everywhere), max_size=4))
    arrivals = [FootageEnd(footage=KEY, segments=len(sizes))]
    for segment, size in enumerate(sizes):
        for cut in draw(st.lists(splits(size), min_size=1, max_size=3)):
            arrivals += [batch(segment, a, b, size, lost=lost) for a, b in cut]
    repeats = draw(st.lists(st.sampled_from(arrivals), max_size=4))
    return sizes, lost, draw(st.permutations([*arrivals, *repeats]))


@EACH
@given(deliveries())
def test_segments_come_out_in_order_and_each_frame_once_with_its_own_boxes(delivery):
    sizes, lost, arrivals = delivery
    buffer = ReorderBuffer(KEY)
    given_on = [whole for arrival in arrivals for whole in buffer.push(arrival)]
    assert [whole.index for whole in given_on] == list(range(len(sizes)))
    assert [content(whole) for whole in given_on] == [
        expected(segment, size, lost) for segment, size in enumerate(sizes)
    ]


@EACH
@given(deliveries())
def test_it_is_done_only_when_the_end_came_and_every_segment_was_given_on(delivery):
    sizes, _, arrivals = delivery
    buffer = ReorderBuffer(KEY)
    count, has_ended = 0, False
    for arrival in arrivals:
        assert buffer.is_done == (has_ended and count == len(sizes))
        count += len(list(buffer.push(arrival)))
        has_ended = has_ended or isinstance(arrival, FootageEnd)
    assert buffer.is_done


@EACH
@given(deliveries(), st.data())
def test_a_segment_is_given_on_as_soon_as_it_and_all_before_it_are_whole(delivery, data):
    sizes, _, arrivals = delivery
    came = [a for a in arrivals if isinstance(a, Detections)]
    came = came[: data.draw(st.integers(0, len(came)))]
    buffer = ReorderBuffer(KEY)
    given_on = [whole.index for arrival in came for whole in buffer.push(arrival)]
    broken = broken_segments(sizes, came)
    assert given_on == list(range(min(broken, default=len(sizes))))


@EACH
@given(deliveries(), st.data())
def test_what_is_missing_are_exactly_the_segments_that_did_not_come_whole(delivery, data):
    sizes, _, arrivals = delivery
    came = [a for a in arrivals if isinstance(a, Detections)]
    came = came[: data.draw(st.integers(0, len(came)))]
    buffer = ReorderBuffer(KEY)
    for arrival in [FootageEnd(footage=KEY, segments=len(sizes)), *came]:
        list(buffer.push(arrival))
    assert buffer.missing() == broken_segments(sizes, came)


def broken_segments(sizes, came):
    """Return the segments of which a position is in no arrival."""
    covered = {(a.stretch.segment, p) for a in came for p in range(a.stretch.start, a.stretch.stop)}
    return [s for s, size in enumerate(sizes) if any((s, p) not in covered for p in range(size))]


@st.composite
def deliveries_with_a_gap(draw):
    """Return segment sizes, the segment with gaps, and arrivals; no batch covers the hole."""
    sizes = draw(st.lists(st.integers(1, 9), min_size=1, max_size=3))
    broken = draw(st.integers(0, len(sizes) - 1))
    wanted = sizes[broken]
    start = draw(st.integers(0, wanted - 1))
    stop = draw(st.integers(start + 1, wanted))
    # Gaps may reach over what was detected before the process died.
    reach = draw(st.integers(0, start)), draw(st.integers(stop, wanted))
    gaps = [gap(broken, a, b, wanted) for a, b in [(start, stop), reach]]
    arrivals = list(gaps)
    for segment, size in enumerate(sizes):
        stretches = [(0, size)] if segment != broken else [(0, start), (stop, size)]
        arrivals += [batch(segment, a, b, size) for a, b in stretches if a < b]
    return sizes, broken, draw(st.permutations(arrivals))


@EACH
@given(deliveries_with_a_gap())
def test_a_gap_sets_its_whole_segment_aside_with_one_failure_of_all_its_frames(delivery):
    sizes, broken, arrivals = delivery
    buffer = ReorderBuffer(KEY)
    given_on = [whole for arrival in arrivals for whole in buffer.push(arrival)]
    assert [whole.index for whole in given_on] == list(range(len(sizes)))
    for segment, whole in enumerate(given_on):
        if segment == broken:
            assert whole.parts == ()
            first, last = number_of(broken, 0), number_of(broken, sizes[broken] - 1)
            assert whole.failures == (failure("died", first, last, sizes[broken]),)
        else:
            assert content(whole) == expected(segment, sizes[segment])
            assert whole.failures == ()


@EACH
@given(
    st.integers(1, 9).flatmap(lambda wanted: st.tuples(st.just(wanted), splits(wanted))), st.data()
)
def test_a_batch_that_comes_again_does_not_repeat_its_failures(sized, data):
    wanted, cut = sized
    batches = [
        batch(0, a, b, wanted, lost={(0, a)}, failures=(failure(f"frame {a}"),)) for a, b in cut
    ]
    # The last batch comes for the first time at the end, so that nothing is dropped as too late.
    early = data.draw(st.permutations([*batches[:-1], *batches[:-1]]))
    buffer = ReorderBuffer(KEY)
    (whole,) = [w for arrival in [*early, batches[-1]] for w in buffer.push(arrival)]
    assert [f.message for f in whole.failures] == [f"frame {a}" for a, _ in cut]


def test_a_batch_that_is_cut_in_two_by_what_is_there_already_tells_its_failures_once():
    late = batch(0, 0, 10, 10, lost={(0, 0)}, failures=(failure("frame 0"),))
    buffer = ReorderBuffer(KEY)
    (whole,) = [w for arrival in [batch(0, 3, 5, 10), late] for w in buffer.push(arrival)]
    assert [part.stretch.start for part in whole.parts] == [0, 3, 5]
    assert [f.message for f in whole.failures] == ["frame 0"]
