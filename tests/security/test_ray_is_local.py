"""Whoever reaches a port of Ray's runs code: those of a Ray that we start are on 127.0.0.1 alone."""

import json
import os
import subprocess
import sys
from ipaddress import ip_address
from pathlib import Path

import pytest

# Lists what the driver and all that it started listen on: (process, address).
SCRIPT = """
import json, sys, time
import psutil
from cluster.session import open_session

with open_session(200 << 20, None) as session:
    import ray

    assert session.is_local
    ray.get(ray.remote(lambda: 1).remote())
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        family = [psutil.Process(), *psutil.Process().children(recursive=True)]
        if any("DashboardAgent" in " ".join(process.cmdline()) for process in family):
            break
        time.sleep(0.2)
    time.sleep(2)
    family = [psutil.Process(), *psutil.Process().children(recursive=True)]
    found = [
        (process.name(), connection.laddr.ip)
        for process in family
        for connection in process.net_connections(kind="inet")
        if connection.status == psutil.CONN_LISTEN
    ]
print("LISTENING", json.dumps(found))
"""


@pytest.mark.ray
@pytest.mark.timeout(90)
def test_a_ray_that_we_start_listens_on_the_loopback_interface_alone(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        capture_output=True,
        text=True,
        timeout=80,
        check=False,
        env={
            **os.environ,
            "HOME": str(tmp_path),
            "RAY_AUTH_MODE": "disabled",
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        },
    )

    said = [line for line in done.stdout.splitlines() if line.startswith("LISTENING ")]
    assert said, done.stderr
    found = json.loads(said[0].removeprefix("LISTENING "))
    names = {name for name, _ in found}
    assert {"gcs_server", "raylet"} <= names
    assert [(name, address) for name, address in found if not is_loopback(address)] == []


def is_loopback(address: str) -> bool:
    found = ip_address(address)
    return (getattr(found, "ipv4_mapped", None) or found).is_loopback
