"""The clips that the tests of footage share: each is made once a session."""

import pytest

from tests.footage.clips import RECIPES, ClipFolder, run_ffmpeg


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> ClipFolder:
    """Return the clips by name."""
    return ClipFolder(tmp_path_factory.mktemp("clips"))


@pytest.fixture(scope="session", params=list(RECIPES))
def clip(request: pytest.FixtureRequest, clips: ClipFolder) -> str:
    """Return the path of a clip of each kind."""
    return clips[request.param]


@pytest.fixture(scope="session")
def long_clip(clips: ClipFolder, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return a recording that is far larger than all buffers between ffmpeg and its reader."""
    path = tmp_path_factory.mktemp("long") / "long.mp4"
    run_ffmpeg("-stream_loop", "99", "-i", clips["h264"], "-c", "copy", path)
    assert path.stat().st_size > 20_000_000
    return str(path)
