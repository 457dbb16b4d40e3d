"""What the tests of hostile input share: clips, and somebody who listens whether he is called."""

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.security.hostile import make_clip


@pytest.fixture(scope="session")
def mp4(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an H.264 clip of 50 frames."""
    return make_clip(tmp_path_factory.mktemp("mp4") / "clip.mp4")


@pytest.fixture(scope="session")
def mkv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the same in Matroska, which counts no frames."""
    return make_clip(tmp_path_factory.mktemp("mkv") / "clip.mkv")


@pytest.fixture(scope="session")
def mjpeg(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a clip of JPEGs in AVI."""
    return make_clip(tmp_path_factory.mktemp("avi") / "clip.avi", "mjpeg")


class Listener:
    """A server on 127.0.0.1 that counts who connects."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self.calls = 0
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self.calls += 1
            connection.close()

    def stop(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(5)


@pytest.fixture
def listener() -> Iterator[Listener]:
    """Start a listener that nothing may call."""
    listener = Listener()
    yield listener
    listener.stop()
