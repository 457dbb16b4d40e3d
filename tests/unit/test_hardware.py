"""What computes the detections, as far as it is known before there is a cluster."""

import pytest

from jobs.hardware import known_hardware
from jobs.settings import JobSettings
from pipeline.run_folder import MadeWith

INT8 = MadeWith(device="cpu", backend="openvino", precision="int8")
FP16 = MadeWith(device="cuda", backend="torch", precision="fp16")


@pytest.mark.parametrize("precision", ["int8", "bf16"])
def test_a_precision_that_only_a_cpu_has_asks_for_a_cpu(precision):
    hardware = known_hardware(JobSettings(input=("a",), precision=precision), None)
    assert hardware == MadeWith(device="cpu", backend="openvino", precision=precision)


def test_what_is_left_to_the_cluster_is_not_known_before():
    for precision in ("auto", "fp32"):
        assert known_hardware(JobSettings(input=("a",), precision=precision), None) is None


def test_an_output_goes_on_with_what_it_began_with_unless_asked_for_something_else():
    for before in (INT8, FP16):
        assert known_hardware(JobSettings(input=("a",)), before) == before
    other = known_hardware(JobSettings(input=("a",), device="cpu"), FP16)
    assert other == MadeWith(device="cpu", backend="openvino", precision="fp32")
