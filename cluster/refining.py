"""Refine cameras on the cluster: one task a camera, when the detectors have made room.

A task reads the online log and writes the refined one, on whatever node has a core to spare. One that
dies is run again from its beginning: nothing counts of it but its manifest.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import ray

from cluster.session import own_error
from pipeline.aws import AwsSettings
from pipeline.derive import DeriveSettings, derive_in_process
from pipeline.errors import StepError
from pipeline.refined import Refined

# More would only wait, and each costs the driver memory.
_TASKS_A_CORE = 2
_MOST_TRIES = 3


def refine_on_cluster(
    output: Path, settings_of: Mapping[str, DeriveSettings], attempt_id: str, aws: AwsSettings
) -> Iterator[Refined]:
    """Yield the generation of each camera as it is made, in any order.

    Args:
        output: Root of the tables; every node sees it under this path.
        settings_of: By camera.
        attempt_id: Who holds the cameras' leases.
        aws: How an output in S3 is reached.

    Raises:
        ConfigError: A scene does not fit its camera's picture.
        OutputError: A table is damaged, or cannot be written.
        StepError: A camera's task died each time.
    """
    task: Any = ray.remote(num_cpus=1, max_retries=_MOST_TRIES - 1)(derive_in_process)
    # Ray leaves it untyped.
    resources: Any = ray.cluster_resources
    room = max(1, round(_TASKS_A_CORE * resources().get("CPU", 1.0)))
    waiting = list(settings_of.items())[::-1]
    running: dict[Any, str] = {}
    while waiting or running:
        while waiting and len(running) < room:
            camera_id, settings = waiting.pop()
            running[task.remote(aws, output, camera_id, settings, attempt_id)] = camera_id
        done, _ = ray.wait(list(running))
        for reference in done:
            camera_id = running.pop(reference)
            try:
                refined = ray.get(reference)
            except ray.exceptions.RayError as error:
                reason = str(error).splitlines()[0]
                lost = StepError(f"camera {camera_id!r} could not be refined: {reason}")
                raise own_error(error) or lost from error
            if refined is not None:
                yield refined
