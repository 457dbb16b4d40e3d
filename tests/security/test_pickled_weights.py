"""A .pt file runs code when it is loaded: an unknown one is not loaded."""

import pickle
import zipfile
from pathlib import Path

import pytest

from pipeline.errors import ConfigError
from pipeline.weights import find_weights


class Bomb:
    """Leaves a mark where it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self._marker = marker

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self._marker,)


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    return tmp_path / "it ran"


def plain(path: Path, marker: Path) -> None:
    path.write_bytes(pickle.dumps(Bomb(marker)))


def zipped(path: Path, marker: Path) -> None:
    """Write it as torch.save does."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(Bomb(marker)))
        archive.writestr("archive/version", "3\n")


@pytest.mark.parametrize("write", [plain, zipped])
def test_the_bomb_would_go_off(tmp_path: Path, marker: Path, write) -> None:
    path = tmp_path / "bomb.pt"
    write(path, marker)
    data = path.read_bytes()
    if write is zipped:
        data = zipfile.ZipFile(path).read("archive/data.pkl")

    pickle.loads(data)

    assert marker.exists()


@pytest.mark.parametrize("write", [plain, zipped])
@pytest.mark.parametrize("name", ["mine.pt", "yolov8n.onnx", "yolov8n.pt "])
def test_unknown_weights_are_refused_unopened_and_the_option_that_trusts_them_is_named(
    tmp_path: Path, marker: Path, name: str, write
) -> None:
    write(tmp_path / name, marker)

    with pytest.raises(ConfigError, match="--trust-weights"):
        find_weights(str(tmp_path / name))

    assert not marker.exists()


@pytest.mark.parametrize("trust", [False, True])
def test_a_bomb_named_like_a_known_model_is_refused_even_if_trusted(
    tmp_path: Path, marker: Path, trust: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain(tmp_path / "yolov8n.pt", marker)
    monkeypatch.chdir(tmp_path)

    with pytest.raises(ConfigError, match=r"is not the yolov8n\.pt that it is named after"):
        find_weights("yolov8n.pt", trust=trust)

    assert not marker.exists()


def test_a_bomb_behind_a_link_with_a_known_name_is_refused(tmp_path: Path, marker: Path) -> None:
    plain(tmp_path / "bomb", marker)
    (tmp_path / "yolov8n.pt").symlink_to(tmp_path / "bomb")

    with pytest.raises(ConfigError, match="SHA-256"):
        find_weights(str(tmp_path / "yolov8n.pt"))

    assert not marker.exists()
