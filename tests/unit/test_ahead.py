"""How far cutting runs ahead of decoding."""

from hypothesis import given
from hypothesis import strategies as st

from cluster.ahead import Ahead, RowSizes
from cluster.attempts import AttemptKey


def key(segment, camera_id="door", sequence=0):
    return AttemptKey(camera_id=camera_id, sequence=sequence, segment=segment, step="decode")


NEXT = key(1000)


def test_segments_wait_until_their_bytes_are_reached_and_one_however_large_always_may():
    ahead = Ahead(100)
    assert ahead.has_room(NEXT, 1000)
    ahead.cut(key(0), 1000)
    assert not ahead.has_room(NEXT, 1)
    ahead.begun(key(0))
    for segment in range(1, 5):
        assert ahead.has_room(NEXT, 25)
        ahead.cut(key(segment), 25)
    assert not ahead.has_room(NEXT, 1)
    ahead.begun(key(1))
    assert ahead.has_room(NEXT, 25)
    assert not ahead.has_room(NEXT, 26)


def test_what_is_cut_again_after_a_decoder_has_begun_with_it_does_not_wait():
    ahead = Ahead(10)
    for segment in (0, 1):
        ahead.cut(key(segment), 10)
    for segment in (1, 0):
        ahead.begun(key(segment))
    # The cutting died, and begins anew.
    for segment in (0, 1):
        ahead.cut(key(segment), 10)
        assert ahead.has_room(NEXT, 10)
        assert ahead.has_room(key(segment), 10)
    ahead.cut(key(2), 10)
    assert not ahead.has_room(NEXT, 10)


def test_who_cuts_anew_after_a_death_gets_as_far_as_what_the_others_wait_for():
    ahead = Ahead(10)
    ahead.cut(key(0), 10)
    ahead.begun(key(0))
    # Its packets were lost with the process that had cut them.
    ahead.cut(key(1), 10)
    assert not ahead.has_room(key(2), 10)
    for segment in (0, 1):
        assert ahead.has_room(key(segment), 10)
        ahead.cut(key(segment), 10)
    assert not ahead.has_room(key(2), 10)
    ahead.begun(key(1))
    assert ahead.has_room(key(2), 10)


def test_footages_are_counted_each_by_its_own_numbers():
    ahead = Ahead(10)
    ahead.begun(key(7))
    for other in (key(3, camera_id="hall"), key(3, sequence=1)):
        ahead.cut(other, 10)
        assert not ahead.has_room(NEXT, 1)
        ahead.begun(other)
        assert ahead.has_room(NEXT, 1)


def test_a_new_pass_begins_with_nothing_on_its_way():
    ahead = Ahead(10)
    ahead.cut(key(0), 10)
    ahead.begun(key(9))
    ahead.clear()
    assert ahead.has_room(NEXT, 10)
    ahead.cut(key(5), 10)
    assert not ahead.has_room(NEXT, 1)


@given(
    st.lists(st.tuples(st.booleans(), st.integers(0, 20)), max_size=60),
    st.integers(0, 50),
    st.integers(1, 30),
)
def test_once_all_that_was_cut_was_begun_there_is_room_whatever_the_order(events, most, size):
    ahead = Ahead(most)
    cut = set()
    for is_cut, segment in events:
        if is_cut:
            ahead.cut(key(segment), size)
            cut.add(segment)
        elif segment in cut:
            ahead.begun(key(segment))
    for segment in cut:
        ahead.begun(key(segment))
    assert ahead.has_room(NEXT, most + 1)


def test_who_cuts_anew_makes_rows_of_the_sizes_that_it_made_before():
    sizes = RowSizes()
    told = [sizes.behind("door", 0, segment, size) for segment, size in [(-1, 1), (0, 1), (1, 5)]]
    told.append(sizes.behind("door", 0, 6, 7))
    assert told == [1, 1, 5, 7]
    # It died, and by now others would be better.
    assert [sizes.behind("door", 0, segment, 16) for segment in (-1, 0, 1, 6)] == told
    assert sizes.behind("door", 0, 13, 16) == 16
    assert sizes.behind("door", 1, -1, 3) == 3
    sizes.clear()
    assert sizes.behind("door", 0, -1, 9) == 9
