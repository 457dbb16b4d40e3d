"""Which camera filmed a video track, and when its recordings began.

A camera belongs to a (recording pattern, video track) pair, written in TOML:

    [[camera]]
    id = "north-door"
    recording = "north_*.mkv"            # matches the name or the end of the path
    video_track = 0
    start_time = "north_%Y%m%d_%H%M%S"   # how the name tells when the recording began; or "container"
    timezone = "Europe/Zurich"           # of that time; UTC by default

What is drawn into its picture is written there too: see `scene`.
"""

import re
import tomllib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime, tzinfo
from fnmatch import translate
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pipeline.errors import ConfigError
from pipeline.scene import KEYS, NOTHING, Scene, parse_scene

_DIRECTIVES = {
    "%Y": r"\d{4}", "%y": r"\d{2}", "%m": r"\d{2}", "%d": r"\d{2}", "%H": r"\d{2}",
    "%M": r"\d{2}", "%S": r"\d{2}", "%f": r"\d{1,6}", "%j": r"\d{3}", "%z": r"(?:Z|[+-]\d{4})",
    "%b": r"[A-Za-z]{3}", "%p": r"[AaPp][Mm]", "%I": r"\d{2}", "%%": "%",
}  # fmt: skip
# Near the ends of the calendar a footage's own seconds lead out of it.
_FIRST_YEAR, _LAST_YEAR = 1900, 2999
# Stands for the container's own `creation_time`. It is asked for, camera by camera, and never guessed:
# with many files it is when they were exported.
IN_CONTAINER = "container"


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraRule:
    """One `[[camera]]` of the file: which footage is whose, and how its names tell the time."""

    id: str
    recording: str = "*"
    video_track: int = 0
    start_time: str | None = None
    timezone: str = "UTC"
    scene: Scene = NOTHING

    def __post_init__(self) -> None:
        if not self.id:
            raise ConfigError("a camera's id is empty")
        if self.start_time not in (None, IN_CONTAINER):
            _name_pattern(self.start_time)
        zone(self.timezone)

    def matches(self, source_uri: str, video_track: int) -> bool:
        """Say whether a video track of a recording is this camera's."""
        return video_track == self.video_track and self.films(source_uri)

    def films(self, source_uri: str) -> bool:
        """Say whether a recording is this camera's, as far as its name tells."""
        literal, name, path = _globs(self.recording)
        # Most names of a million are another camera's, and fail here already.
        if literal not in source_uri:
            return False
        return bool(name.match(source_uri.rpartition("/")[2]) or path.match(source_uri))

    @property
    def resolution_s(self) -> float:
        """How coarsely names tell the start, in seconds."""
        told = self.start_time or ""
        if told == IN_CONTAINER:
            return 1.0
        coarseness = {"%f": 0.0, "%S": 1.0, "%M": 60.0, "%H": 3600.0, "%I": 3600.0}
        return next((s for directive, s in coarseness.items() if directive in told), 86400.0)

    def began(self, source_uri: str, created: str = "") -> datetime | None:
        """Return when the recording began, in UTC, as its name tells it; None if nothing does.

        Args:
            source_uri: The recording.
            created: When its container says that it was made; see `Recording`.

        Raises:
            ConfigError: The rule has a pattern, and the name does not fit it.
        """
        if self.start_time is None:
            return None
        if self.start_time == IN_CONTAINER:
            return datetime.fromisoformat(created).astimezone(UTC) if created else None
        found = re.search(_name_pattern(self.start_time), PurePosixPath(source_uri).name)
        try:
            moment = datetime.strptime(found[0] if found else "", self.start_time)
        except ValueError as error:
            raise ConfigError(
                f"camera {self.id!r}: the name of {source_uri!r} tells no start time in the form "
                f"{self.start_time!r}"
            ) from error
        return self.in_utc(moment, source_uri)

    def in_utc(self, moment: datetime, source_uri: str) -> datetime:
        """Return the moment that a recording began in UTC; one without a zone is in the camera's.

        Of the hour that a clock shows twice when it is set back, the first is meant.

        Raises:
            ConfigError: It is near an end of the calendar.
        """
        if not _FIRST_YEAR <= moment.year <= _LAST_YEAR:
            raise ConfigError(
                f"camera {self.id!r}: {source_uri!r} is said to have begun in the year {moment.year}"
            )
        own = moment if moment.tzinfo else moment.replace(tzinfo=zone(self.timezone))
        return own.astimezone(UTC)


@cache
def _globs(recording: str) -> tuple[str, re.Pattern[str], re.Pattern[str]]:
    """Return what a rule's pattern asks of an address: a text in it, its name's form, or its path's."""
    relative = recording.lstrip("/")
    before, bracket, behind = relative.partition("[")
    plain = f"{before}*{behind.rpartition(']')[2] if ']' in behind else ''}" if bracket else before
    literal = max(re.split(r"[*?]", plain), key=len)
    return literal, re.compile(translate(recording)), re.compile(translate("*/" + relative))


@cache
def _name_pattern(start_time: str) -> str:
    """Return the regular expression of names that a `strptime` form describes."""
    pattern = ""
    for part in re.findall(r"%.?|[^%]+", start_time):
        if part.startswith("%") and part not in _DIRECTIVES:
            raise ConfigError(
                f"start_time {start_time!r}: {part} is not known; known are "
                + " ".join(sorted(_DIRECTIVES))
            )
        pattern += _DIRECTIVES.get(part) or re.escape(part)
    return pattern


def zone(name: str) -> tzinfo:
    """Return a time zone by its name.

    Raises:
        ConfigError: There is none of that name.
    """
    if name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ConfigError(f"timezone {name!r} is not known; write it as Europe/Zurich") from error


def read_cameras(path: str) -> tuple[CameraRule, ...]:
    """Read the camera rules of a TOML file.

    Raises:
        ConfigError: It cannot be read, or a key or a value is wrong.
    """
    try:
        document = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"cameras file {path!r}: {error}") from error
    if unknown := set(document) - {"camera"}:
        raise ConfigError(f"cameras file {path!r}: unknown key {min(unknown)!r}; write [[camera]]")
    entries = document.get("camera", [])
    if not isinstance(entries, list) or not entries:
        raise ConfigError(f"cameras file {path!r} holds no [[camera]]")
    return _with_scenes(tuple(_rule(path, entry) for entry in entries))


def _with_scenes(rules: tuple[CameraRule, ...]) -> tuple[CameraRule, ...]:
    """Give all rules of a camera the scene that one of them has.

    Raises:
        ConfigError: Two have different ones.
    """
    scenes: dict[str, Scene] = {}
    for rule in rules:
        if rule.scene != NOTHING and scenes.setdefault(rule.id, rule.scene) != rule.scene:
            raise ConfigError(
                f"camera {rule.id!r}: two [[camera]] tables draw different things into its picture"
            )
    return tuple(replace(rule, scene=scenes.get(rule.id, NOTHING)) for rule in rules)


def _rule(path: str, entry: dict[str, Any]) -> CameraRule:
    known = [*(f.name for f in fields(CameraRule) if f.name != "scene"), *KEYS]
    if not isinstance(entry, dict):
        raise ConfigError(f"cameras file {path!r}: {entry!r} is no table; write [[camera]]")
    if unknown := set(entry) - set(known):
        raise ConfigError(
            f"cameras file {path!r}: unknown key {min(unknown)!r}; known are {', '.join(known)}"
        )
    if "id" not in entry:
        raise ConfigError(f"cameras file {path!r}: a [[camera]] has no id")
    for key, value in entry.items():
        if key in KEYS:
            continue
        right = int if key == "video_track" else str
        if not isinstance(value, right) or isinstance(value, bool):
            raise ConfigError(f"cameras file {path!r}: {key} = {value!r} is no {right.__name__}")
    own = {key: value for key, value in entry.items() if key not in KEYS}
    return CameraRule(**own, scene=parse_scene(entry, entry["id"]))


def short_names(source_uris: Sequence[str]) -> dict[str, str]:
    """Name each recording as briefly as tells them apart: stem, file name, then more of the path.

    Args:
        source_uris: Distinct addresses of recordings.
    """
    names: dict[str, str] = {}
    left = list(dict.fromkeys(source_uris))
    depth = 0
    while left:
        forms = {uri: _name_at(uri, depth) for uri in left}
        seen = Counter(forms.values())
        taken = set(names.values())
        for uri in left:
            unique = seen[forms[uri]] == 1 and forms[uri] not in taken
            if unique or depth > len(PurePosixPath(uri).parts):
                names[uri] = forms[uri]
        left = [uri for uri in left if uri not in names]
        depth += 1
    return names


def _name_at(source_uri: str, depth: int) -> str:
    path = PurePosixPath(source_uri)
    return path.stem if depth == 0 else "/".join(path.parts[-depth:])
