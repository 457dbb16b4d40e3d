"""`footfall nodes --want`: which nodes the autoscaler is asked for."""

import pytest

from jobs.nodes import parse_wanted
from pipeline.errors import ConfigError


def test_wanted_nodes_are_read_from_words():
    assert parse_wanted(["gpu-node=2", "cpu-node=16"]) == {"gpu-node": 2, "cpu-node": 16}


@pytest.mark.parametrize(
    "words", [["gpu-node"], ["=2"], ["gpu-node=0"], ["gpu-node=-1"], ["gpu-node=x"], ["a=1", "a=2"]]
)
def test_words_that_say_no_number_of_a_resource_are_refused(words):
    with pytest.raises(ConfigError, match="want ="):
        parse_wanted(words)
