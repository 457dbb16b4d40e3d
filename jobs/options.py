"""How the command line and a TOML file give the settings of a job.

The order of precedence is command line, `--config` file, default. Every setting has one name: its
field in `JobSettings`, its key in the file, and, with dashes, its option.
"""

import argparse
import tomllib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from cluster.session import under_ray_job
from jobs.settings import AUTO_BATCH, AUTO_STRIDE, TABLES, JobSettings, field_of, key_of
from pipeline.aws import is_s3
from pipeline.errors import ConfigError
from pipeline.refine import RefineSettings
from pipeline.standin_backend import STAND_IN
from pipeline.track import TrackSettings
from pipeline.weights import KNOWN

PATHS = ("input", "output", "model", "cameras", "config")


def add_options(parser: argparse.ArgumentParser, only: Sequence[str] = ()) -> None:
    """Add settings to a command line, all or `only` some, and `--config`."""
    parser.add_argument("--config", metavar="FILE.toml", help="a file of settings; options win")
    for setting in fields(JobSettings):
        if setting.name in TABLES or (only and setting.name not in only):
            continue
        flag = "--" + key_of(setting.name).replace("_", "-")
        default = setting.default
        text = setting.metadata["help"]
        if default not in ("", (), False, 0):
            shown = ",".join(default) if isinstance(default, tuple) else default
            text += f" (default: {shown})"
        arguments: dict[str, Any] = {"dest": setting.name, "help": text, "default": None}
        if isinstance(default, bool):
            arguments["action"] = "store_true"
        else:
            arguments["metavar"] = setting.metadata["metavar"] or flag[2:].upper()
            arguments["action"] = "append" if setting.name == "input" else "store"
        parser.add_argument(flag, **arguments)


def resolve(options: argparse.Namespace, below: str = "") -> JobSettings:
    """Make the settings from parsed options and the file that they name.

    Args:
        options: Parsed.
        below: Text of a file of settings that both win over; its tables are filled up, key by key.

    Raises:
        ConfigError: A key is unknown, a value impossible, or a path relative under a Ray job.
    """
    given = {name: value for name, value in vars(options).items() if value is not None}
    path = given.pop("config", None)
    if under_ray_job():
        _refuse_relative({"config": path or ""})
    values = _read(path) if path else {}
    if below:
        before = _parse(below, "of the last start")
        tables = {name: before.get(name, {}) | values.get(name, {}) for name in TABLES}
        values = before | values | tables
    known = {setting.name for setting in fields(JobSettings)}
    values |= {name: value for name, value in given.items() if name in known}
    converted = {name: _convert(name, value) for name, value in values.items()}
    if under_ray_job():
        _refuse_relative(converted)
    return JobSettings(**converted)


def _read(path: str) -> dict[str, Any]:
    try:
        return _parse(Path(path).read_text(encoding="utf-8"), path)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"config {path!r}: {error}") from error


def _parse(text: str, path: str) -> dict[str, Any]:
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"config {path!r}: {error}") from error
    known = {key_of(setting.name) for setting in fields(JobSettings)}
    if unknown := set(document) - known:
        raise ConfigError(
            f"config {path!r}: unknown key {min(unknown)!r}; known are {', '.join(sorted(known))}"
        )
    return {field_of(key): value for key, value in document.items()}


def _convert(name: str, value: Any) -> Any:  # noqa: ANN401
    """Turn a value of the command line or a file into the type of its setting."""
    if name in _CONVERTED:
        return _CONVERTED[name](value)
    setting = next(s for s in fields(JobSettings) if s.name == name)
    default = setting.default
    if isinstance(default, tuple):
        parts = value.split(",") if isinstance(value, str) and name == "classes" else value
        parts = [parts] if isinstance(parts, str) else parts
        if not isinstance(parts, (list, tuple)) or not all(isinstance(p, str) for p in parts):
            raise ConfigError(f"{key_of(name)} = {value!r}: a list of names")
        return tuple(part.strip() for part in parts)
    if isinstance(default, bool):
        if not isinstance(value, bool):
            raise ConfigError(f"{key_of(name)} = {value!r}: true or false")
        return value
    return _scalar(name, value, type(default))


def _scalar(name: str, value: Any, kind: type) -> Any:  # noqa: ANN401
    wrong = ConfigError(
        f"{key_of(name)} = {value!r}: "
        + {int: "a whole number", float: "a number", str: "a text in quotes"}[kind]
    )
    if kind is str:
        if not isinstance(value, str):
            raise wrong
        return value
    if isinstance(value, bool) or (kind is int and isinstance(value, float)):
        raise wrong
    try:
        return kind(value)
    except (TypeError, ValueError):
        raise wrong from None


def _table(name: str, kind: Callable[..., Any], known: Collection[str]) -> Callable[[Any], Any]:
    """Return what turns a table of a file, all of numbers, into the settings of a step."""

    def convert(value: Any) -> Any:  # noqa: ANN401
        if not isinstance(value, dict):
            raise ConfigError(f"{name} = {value!r}: write it as a table, [{name}]")
        if unknown := set(value) - set(known):
            raise ConfigError(
                f"unknown key {f'{name}.{min(unknown)}'!r}; known are {', '.join(sorted(known))}"
            )
        for key, number in value.items():
            if isinstance(number, bool) or not isinstance(number, (int, float)):
                raise ConfigError(f"{name}.{key} = {number!r}: a number")
        return kind(**value)

    return convert


def _or_auto(name: str, auto: int) -> Callable[[Any], int]:
    """Return what turns a value into a number from 1 up, or into what stands for auto."""

    def convert(value: Any) -> int:  # noqa: ANN401
        if value == "auto":
            return auto
        number: int = _scalar(name, value, int)
        if number == auto:
            raise ConfigError(f"{name} = {number}: it is 1 or more, or auto")
        return number

    return convert


def _number_or_text(name: str, what: str) -> Callable[[Any], str]:
    """Return what takes a value that a file may have as a number or as a text."""

    def convert(value: Any) -> str:  # noqa: ANN401
        if isinstance(value, bool) or not isinstance(value, (int, float, str)):
            raise ConfigError(f"{name} = {value!r}: {what}")
        return str(value)

    return convert


_CONVERTED: Mapping[str, Callable[[Any], Any]] = {
    "track": _table(
        "track", TrackSettings, {each.name for each in fields(TrackSettings)} - {"tracker"}
    ),
    "refine": _table("refine", RefineSettings, {each.name for each in fields(RefineSettings)}),
    "batch_size": _or_auto("batch_size", AUTO_BATCH),
    "stride": _or_auto("stride", AUTO_STRIDE),
    "max_failed_segments": _number_or_text(
        "max_failed_segments", "a number as 20, or a share as 0.5"
    ),
    "aws_max_cost": _number_or_text("aws_max_cost", "a number of USD"),
}


def _refuse_relative(values: dict[str, Any]) -> None:
    """Refuse relative paths: a job runs in a copy of the submitted folder, on the head node."""
    for name in PATHS:
        given = values.get(name, "")
        for path in given if isinstance(given, tuple) else (given,):
            known_name = name == "model" and path in (*KNOWN, STAND_IN)
            if path and not known_name and not is_s3(path) and not Path(path).is_absolute():
                raise ConfigError(
                    f"--{name} {path}: a Ray job runs in an uploaded copy of your folder, on the "
                    f'cluster: give the absolute path there, as --{name} "$PWD/{path}" if the '
                    "cluster sees this folder under the same name"
                )
