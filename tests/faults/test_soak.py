"""Whatever is killed, at whatever moment: no row is lost, doubled or different."""

import re
import subprocess
import sys

import pytest

pytestmark = [pytest.mark.long, pytest.mark.ray, pytest.mark.faults]


@pytest.mark.timeout(900)
def test_random_kills_lose_and_double_nothing() -> None:
    command = [sys.executable, "-m", "jobs.soak", "--seeds", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=850, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    said = dict(re.findall(r"^([a-z ]+): (\d+)", done.stdout, re.MULTILINE))
    assert int(said["kills that hit"]) >= 3, done.stdout
    for what in ("rows lost", "rows doubled", "tables that differ"):
        assert said[what] == "0", done.stdout
