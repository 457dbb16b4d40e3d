"""Whoever reaches a port of Ray's runs code: those of a Ray that we start are on 127.0.0.1 alone."""

import json
import os
import subprocess
import sys
from ipaddress import ip_address
from pathlib import Path

import pytest

# Lists what the driver and all that it started listen on, as (process, address), and what of that is
# left when it is through.
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
left = [p.name() for p in family[1:] if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]
print("LISTENING", json.dumps(found))
print("LEFT", json.dumps(left))
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

    said = dict(line.split(" ", 1) for line in done.stdout.splitlines() if line.isascii())
    assert {"LISTENING", "LEFT"} <= said.keys(), done.stderr
    assert json.loads(said["LEFT"]) == []
    found = json.loads(said["LISTENING"])
    names = {name for name, _ in found}
    assert {"gcs_server", "raylet"} <= names
    assert [(name, address) for name, address in found if not is_loopback(address)] == []


def is_loopback(address: str) -> bool:
    found = ip_address(address)
    return (getattr(found, "ipv4_mapped", None) or found).is_loopback
