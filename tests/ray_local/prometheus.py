"""A Prometheus of the system, or of Debian's package as `make` unpacks it, and what it is asked."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

import yaml

ROOT = Path(__file__).parent.parent.parent
UNPACKED = ROOT / ".venv" / "prometheus" / "usr" / "bin" / "prometheus"
CONFIG = ROOT / "cluster" / "deploy" / "prometheus.yml"


def find_prometheus() -> str | None:
    """Return where its program is; None if there is none."""
    return shutil.which("prometheus") or (str(UNPACKED) if os.access(UNPACKED, os.X_OK) else None)


def answers(port: int, query: str) -> list[dict[str, Any]]:
    """Return what a Prometheus says to a query now."""
    asked = f"http://127.0.0.1:{port}/api/v1/query?{urlencode({'query': query})}"
    with urlopen(asked, timeout=30) as answer:
        return json.load(answer)["data"]["result"]


@contextmanager
def scraping(program: str, folder: Path, discovery: Path, port: int) -> Iterator[None]:
    """Scrape each second what Ray's file names, by our own configuration otherwise."""
    plain = yaml.safe_load(CONFIG.read_text())
    plain["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    (scrape,) = plain["scrape_configs"]
    (files,) = scrape["file_sd_configs"]
    (theirs,) = files["files"]
    assert Path(theirs).name == discovery.name
    files["files"], files["refresh_interval"] = [str(discovery)], "1s"
    config = folder / "prometheus.yml"
    config.write_text(yaml.safe_dump(plain))
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                program, f"--config.file={config}", f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=log,
            stderr=log,
        )  # fmt: skip
        try:
            yield
            assert process.poll() is None, (folder / "log").read_text()
        finally:
            process.kill()
            process.wait(10)
