"""A Rekognition for tests: a server on this machine, and credentials that are nobody's."""

from collections.abc import Iterator

import pytest

from pipeline.standin_rekognition import StandInRekognition, serving

SECRET = "testing-secret"


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.delenv("AWS_PROFILE", raising=False)


@pytest.fixture
def rekognition() -> Iterator[StandInRekognition]:
    """Serve; it answers at once, until it is told otherwise."""
    server = StandInRekognition()
    with serving(server):
        yield server
