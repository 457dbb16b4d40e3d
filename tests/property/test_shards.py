"""However an archive is shared among drivers, each camera is one driver's, and none has too much."""

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.found import shard_of_cameras

LOADS = st.dictionaries(st.text(max_size=8), st.floats(0, 1e9), max_size=60)
COUNTS = st.integers(1, 12)


@settings(deadline=None)
@given(LOADS, COUNTS)
def test_every_camera_is_in_exactly_one_of_the_shards(loads, count):
    shards = shard_of_cameras(loads, count)
    assert set(shards) == set(loads)
    assert set(shards.values()) <= set(range(count))


@settings(deadline=None)
@given(LOADS, COUNTS)
def test_no_shard_has_more_than_its_share_and_one_camera(loads, count):
    shards = shard_of_cameras(loads, count)
    work = {camera: load or 1.0 for camera, load in loads.items()}
    heaviest = max(
        (sum(work[c] for c in shards if shards[c] == shard) for shard in range(count)), default=0
    )
    most = sum(work.values()) / count + max(work.values(), default=0)
    assert heaviest <= most * (1 + 1e-9)


@settings(deadline=None)
@given(LOADS, COUNTS, st.randoms(use_true_random=False))
def test_every_driver_comes_to_the_same_shards_in_whatever_order_it_found_the_cameras(
    loads, count, shuffler: random.Random
):
    items = list(loads.items())
    shuffler.shuffle(items)
    assert shard_of_cameras(dict(items), count) == shard_of_cameras(loads, count)


def test_cameras_of_unknown_length_are_spread_too():
    shards = shard_of_cameras({f"c{n}": 0.0 for n in range(10)}, 5)
    assert sorted(shards.values()) == sorted([*range(5), *range(5)])
