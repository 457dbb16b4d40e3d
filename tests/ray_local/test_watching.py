"""A running job as Prometheus and the dashboard see it: Ray's endpoint, a real Prometheus."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import pytest
import ray
from rich.console import Console

from cluster.live import __doc__ as live_names
from jobs.backfill import run_job
from jobs.results import RunEnd
from jobs.settings import JobSettings
from jobs.soak_footage import film
from pipeline.faults import VARIABLE
from pipeline.run_folder import open_run
from pipeline.standin_backend import STAND_IN
from tests.conftest import RayHead, free_port, running_head
from tests.dashboard import filled_in, queries
from tests.ray_local.prometheus import answers, find_prometheus, scraping

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]

FRAMES = 600
NAMES = {word for word in str(live_names).split() if word.startswith("footfall_")}
TAGS = {"footfall_run", "footfall_run.", "footfall_node", "footfall_step"}


@dataclass(slots=True)
class Watched:
    """What was seen of a job while it ran; the endpoint remembers those before it, too.

    Attributes:
        run_id: Its run's.
        end: How it ended.
        endpoint: The last that Ray's own endpoint said of each of our metrics.
        answers: The last that Prometheus answered to each query of the dashboard, if it is there.
        targets: How many endpoints it found.
    """

    run_id: str
    end: RunEnd | None = None
    endpoint: dict[str, list[str]] = field(default_factory=dict)
    answers: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    targets: int = 0

    def look(self) -> None:
        """Ask every node's endpoint."""
        ports = [n["MetricsExportPort"] for n in ray.nodes()] if ray.is_initialized() else []
        for port in ports:
            with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
                lines = answer.read().decode().splitlines()
            for line in lines:
                name = line.partition("{")[0].removeprefix("ray_")
                if name in NAMES and f'footfall_run="{self.run_id}"' in line:
                    self.endpoint.setdefault(name, []).append(line)

    def ask(self, port: int) -> None:
        """Ask Prometheus what the dashboard asks; an answer that says more than zero is kept."""
        for name, query in queries().items():
            found = answers(port, filled_in(query, self.run_id))
            if found and (_says_more(found) or name not in self.answers):
                self.answers[name] = found
        self.targets = max(self.targets, len(answers(port, 'up{job="ray"} == 1')))


def _says_more(found: list[dict[str, Any]]) -> bool:
    return any(float(each["value"][1]) > 0 for each in found)


@pytest.fixture(scope="module")
def own_head() -> Iterator[RayHead]:
    """Run a head node that remembers the metrics of no other job."""
    with running_head() as head:
        yield head


@pytest.fixture(scope="module")
def watched(own_head: RayHead, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """Run a job of which one segment fails, and look on; a Prometheus does too, if there is one."""
    folder = tmp_path_factory.mktemp("watched")
    film(folder / "long.mkv", [1, 2], first=0, frames=FRAMES)
    settings = JobSettings(
        input=(str(folder / "long.mkv"),),
        output=str(folder / "out"),
        address=own_head.address,
        model=STAND_IN,
        image_size=320,
        part_mb=0.02,
    )
    run_id = open_run(settings.output).run_id
    seen, done, port = Watched(run_id), threading.Event(), free_port()
    looks: list[Callable[[], None]] = [seen.look]
    with ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        if program := find_prometheus():
            discovery = own_head.folder / "prom_metrics_service_discovery.json"
            stack.enter_context(scraping(program, folder, discovery, port))
            looks.append(lambda: seen.ask(port))
        thread = threading.Thread(target=_look_on, args=(looks, done), daemon=True)
        thread.start()
        # The stand-in needs no time: so half a minute for all, and a segment that kills its decoder.
        patch.setenv(VARIABLE, "detect:*:*:SLOW=20,decode:1:1:SIGKILL")
        seen.end = run_job(settings, Console(quiet=True))
        done.set()
        thread.join(60)
    yield seen


def _look_on(looks: list[Callable[[], None]], done: threading.Event) -> None:
    while not done.wait(1):
        for look in looks:
            try:
                look()
            except (URLError, TimeoutError, ConnectionError):
                # Not up yet, or too busy just now: what was never seen is what the tests tell of.
                time.sleep(1)


def test_ray_s_endpoint_shows_every_metric_that_is_documented(watched: Watched) -> None:
    assert watched.end is not None
    assert watched.end.exit_code == 3
    assert watched.end.start.folder.run_id == watched.run_id
    assert set(watched.endpoint) == NAMES - TAGS


def test_what_was_counted_is_what_was_done(watched: Watched) -> None:
    assert watched.end is not None
    (recording,) = watched.end.summary()["recordings"]
    done = sum(track["frames"] for track in recording["video_tracks"])

    def last(name: str, tag: str = "") -> float:
        values = [line for line in watched.endpoint[name] if tag in line]
        return float(values[-1].rpartition(" ")[2])

    # The last seconds of a job are told when it is gone.
    assert 0.5 * done < last("footfall_frames_total") <= done
    assert last("footfall_video_seconds_total") == pytest.approx(
        last("footfall_frames_total") / 25, rel=1e-6
    )
    assert last("footfall_segments_failed_total") == 1
    detected = last("footfall_step_frames_total", 'footfall_step="detect"')
    assert 0.5 * done < detected <= done
    assert last("footfall_step_seconds_total", 'footfall_step="detect"') > 0.02 * detected


def test_a_prometheus_answers_every_query_of_the_dashboard_while_a_job_runs(
    watched: Watched,
) -> None:
    if find_prometheus() is None:
        if os.environ.get("FAIL_WITHOUT_PROMETHEUS") == "1":
            pytest.fail("there is no prometheus, and FAIL_WITHOUT_PROMETHEUS=1: run `make test`")
        pytest.skip("there is no prometheus: `make test` fetches it where there is apt-get")
    if path := os.environ.get("DASHBOARD_ANSWERS"):
        Path(path).write_text(_as_lines(watched))
    assert watched.targets >= 1
    assert set(watched.answers) == set(queries())
    nothing = {name for name, found in watched.answers.items() if not _says_more(found)}
    assert nothing == {name for name, query in queries().items() if "spilled" in query}


def _as_lines(watched: Watched) -> str:
    lines = []
    for name, found in watched.answers.items():
        for each in found:
            tags = ",".join(f"{k}={v}" for k, v in each["metric"].items() if k != "__name__")
            lines.append(f"{name}\t{tags}\t{each['value'][1]}")
    return "\n".join(lines) + "\n"
