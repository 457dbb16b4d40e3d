"""Probing of recordings on a disk, as tests name them."""

from collections.abc import Sequence

from pipeline.probe_pool import Probed, ProbeLimits, probe_all
from pipeline.records import Listed


def probe_paths(paths: Sequence[str], limits: ProbeLimits | None = None) -> list[Probed]:
    """Return what each recording holds, or the error that says why it is not known."""
    return probe_all([Listed(source_uri=path) for path in paths], limits)
