"""Faults on purpose: how they are written, where they strike, and what is refused."""

import re
import signal

import pytest

from pipeline import faults
from pipeline.errors import ConfigError
from pipeline.faults import Fault, parse_fault


def test_without_a_text_there_is_no_fault():
    assert parse_fault("") is None


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (
            "decode:0:3:SIGSEGV",
            Fault(step="decode", video_track=0, segment=3, what="SIGSEGV"),
        ),
        (
            "detect:*:*:SLOW=500",
            Fault(step="detect", video_track=None, segment=None, what="SLOW", amount=500),
        ),
        (
            "decode:2:*:LEAK=20",
            Fault(step="decode", video_track=2, segment=None, what="LEAK", amount=20),
        ),
        (
            "detect:*:7:NOMEM=4",
            Fault(step="detect", video_track=None, segment=7, what="NOMEM", amount=4),
        ),
        (
            "detect:0:0:NOMEM=0",
            Fault(step="detect", video_track=0, segment=0, what="NOMEM", amount=0),
        ),
    ],
)
def test_a_fault_is_a_step_a_place_and_what_happens_there(text, fault):
    assert parse_fault(text) == fault


def test_several_faults_are_parted_by_commas():
    assert parse_fault("detect:*:*:SLOW=5,decode:0:1:SIGKILL,detect:2:*:NOMEM=3") == Fault(
        step="detect",
        video_track=None,
        segment=None,
        what="SLOW",
        amount=5,
        then=Fault(
            step="decode",
            video_track=0,
            segment=1,
            what="SIGKILL",
            then=Fault(step="detect", video_track=2, segment=None, what="NOMEM", amount=3),
        ),
    )


@pytest.mark.parametrize(
    "text",
    [
        "decode",
        "decode:0:0",
        "decode:0:0:SIGSEGV:1",
        "decode:0:0:",
        "decode:0:0:SIGNOTHING",
        "decode:0:0:sigsegv",
        "decode:x:0:SIGSEGV",
        "decode:0:x:SIGSEGV",
        "decode::0:SIGSEGV",
        "detect:0:0:SLOW",
        "detect:0:0:SLOW=",
        "detect:0:0:SLOW=long",
        "detect:0:0:LEAK=1.5",
        "detect:0:0:NOMEM=4=5",
        "detect:0:0:slow=5",
    ],
)
def test_a_fault_that_is_not_written_so_is_refused_with_its_text(text):
    with pytest.raises(ConfigError, match=re.escape(f"FOOTFALL_FAULT={text!r}")):
        parse_fault(text)


def test_of_several_faults_the_one_that_is_wrong_is_named():
    with pytest.raises(ConfigError, match=r"FOOTFALL_FAULT='decode:0'"):
        parse_fault("detect:*:*:SLOW=5,decode:0")


@pytest.fixture
def slept_s(monkeypatch):
    """Return the seconds that were slept instead of sleeping them."""
    slept = []
    monkeypatch.setattr(faults.time, "sleep", slept.append)
    return slept


def test_a_slow_step_takes_longer_by_each_of_its_frames(slept_s):
    fault = parse_fault("detect:*:*:SLOW=20")
    fault.strike("detect", 0, 0, frames=10)
    fault.strike("detect", 5, 99)
    assert slept_s == [0.2, 0.02]


def test_a_fault_strikes_its_own_step_and_place_alone(slept_s):
    fault = parse_fault("detect:1:2:SLOW=1000")
    for place in (("decode", 1, 2), ("detect", 0, 2), ("detect", 1, 3)):
        fault.strike(*place)
    assert slept_s == []
    fault.strike("detect", 1, 2)
    assert slept_s == [1.0]


def test_each_of_several_faults_strikes_at_its_own_place(slept_s):
    fault = parse_fault("detect:0:*:SLOW=1000,decode:0:*:SLOW=2000,detect:*:7:SLOW=3000")
    struck = []
    for place in (("detect", 0, 1), ("decode", 0, 1), ("detect", 0, 7), ("detect", 1, 1)):
        slept_s.clear()
        fault.strike(*place)
        struck.append(list(slept_s))
    assert struck == [[1.0], [2.0], [1.0, 3.0], []]


def test_a_leaking_step_keeps_what_it_was_told_to(monkeypatch):
    kept = []
    monkeypatch.setattr(faults, "_kept", kept)
    fault = parse_fault("decode:*:*:LEAK=2")
    for segment in range(3):
        fault.strike("decode", 0, segment)
    assert [len(each) for each in kept] == [2 << 20] * 3


def test_a_step_lacks_memory_for_more_frames_than_it_was_told():
    fault = parse_fault("detect:*:*:NOMEM=4")
    fault.strike("detect", 0, 0, frames=4)
    with pytest.raises(MemoryError, match="5 frames"):
        fault.strike("detect", 0, 0, frames=5)


def test_a_signal_goes_to_the_step_s_own_process(monkeypatch):
    sent = []
    monkeypatch.setattr(faults.os, "kill", lambda pid, number: sent.append((pid, number)))
    parse_fault("decode:*:*:SIGKILL").strike("decode", 0, 0)
    assert sent == [(faults.os.getpid(), signal.SIGKILL)]
