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
from collections.abc import Iterator, Sequence
from contextlib import suppress
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
# What a form has to fix, and by which directives; a sequence that is met whole is enough.
_FIXED = {
    "year": ("%Y", "%y"), "month and day": ("%m%d", "%b%d", "%j"), "hour": ("%H", "%I%p"),
}  # fmt: skip
# Of these a later one says nothing without those before it.
_CLOCK = (("%H", "%I"), ("%M",), ("%S",), ("%f",))
# Near the ends of the calendar a footage's own seconds lead out of it.
_FIRST_YEAR, _LAST_YEAR = 1900, 2999
# As `fnmatch` has it: a "]" that stands first is one of the characters.
_BRACKETS = re.compile(r"\[!?\]?[^\]]*\]")
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
        if not self.id.strip():
            raise ConfigError("a camera's id is empty")
        try:
            if self.start_time not in (None, IN_CONTAINER):
                _name_pattern(self.start_time)
            zone(self.timezone)
        except ConfigError as error:
            raise ConfigError(f"camera {self.id!r}: {error}") from error
        if self.video_track < 0:
            raise ConfigError(
                f"camera {self.id!r}: video_track = {self.video_track}: they are numbered from 0"
            )

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
            ConfigError: The rule has a pattern, and the name does not fit it, or in several places.
        """
        if self.start_time is None:
            return None
        if self.start_time == IN_CONTAINER:
            return datetime.fromisoformat(created).astimezone(UTC) if created else None
        name = PurePosixPath(source_uri).name
        moments = set(_moments(name, self.start_time))
        if not moments:
            raise ConfigError(
                f"camera {self.id!r}: the name of {source_uri!r} tells no start time in the form "
                f"{self.start_time!r}"
            )
        if len(moments) > 1:
            raise ConfigError(
                f"camera {self.id!r}: the name of {source_uri!r} tells several times in the form "
                f"{self.start_time!r}: {', '.join(map(str, sorted(moments, key=str)))}; write more of "
                "the name into start_time, so that one is meant"
            )
        return self.in_utc(moments.pop(), source_uri)

    def in_utc(self, moment: datetime, source_uri: str) -> datetime:
        """Return the moment that a recording began in UTC; one without a zone is in the camera's.

        Of the hour that a clock shows twice when it is set back, the first is meant.

        Raises:
            ConfigError: It is near an end of the calendar, or its zone's clocks left it out.
        """
        if not _FIRST_YEAR <= moment.year <= _LAST_YEAR:
            raise ConfigError(
                f"camera {self.id!r}: {source_uri!r} is said to have begun in the year {moment.year}"
            )
        own = moment if moment.tzinfo else moment.replace(tzinfo=zone(self.timezone))
        in_utc = own.astimezone(UTC)
        if in_utc.astimezone(own.tzinfo).replace(tzinfo=None) != own.replace(tzinfo=None):
            raise ConfigError(
                f"camera {self.id!r}: {source_uri!r} is said to have begun at {moment}, which the "
                f"clocks of {self.timezone} left out when they were set forward: if the camera's clock "
                'does not follow them, write the zone that it keeps, as timezone = "Etc/GMT-1", or '
                "tell the recording's start_time in a manifest"
            )
        return in_utc


@cache
def _globs(recording: str) -> tuple[str, re.Pattern[str], re.Pattern[str]]:
    """Return what a rule's pattern asks of an address: a text in it, its name's form, or its path's."""
    relative = recording.lstrip("/")
    before, bracket, behind = relative.partition("[")
    plain = f"{before}*{behind.rpartition(']')[2] if ']' in behind else ''}" if bracket else before
    literal = max(re.split(r"[*?]", plain), key=len)
    return literal, re.compile(translate(recording)), re.compile(translate("*/" + relative))


def _moments(name: str, start_time: str) -> Iterator[datetime]:
    """Yield all times that a name tells in a `strptime` form."""
    for found in _name_pattern(start_time).finditer(name):
        # What fits the digits need not be a time: there is no month 13.
        with suppress(ValueError):
            yield datetime.strptime(found[1], start_time)


@cache
def _name_pattern(start_time: str) -> re.Pattern[str]:
    """Return the regular expression of names that a `strptime` form describes.

    It finds each place where one begins; no number is cut in its middle.

    Raises:
        ConfigError: The form has an unknown directive, or does not fix a day and an hour.
    """
    parts = re.findall(r"%.?|[^%]+", start_time)
    if unknown := [p for p in parts if p.startswith("%") and p not in _DIRECTIVES]:
        raise ConfigError(
            f"start_time {start_time!r}: {unknown[0]} is not known; known are "
            + " ".join(sorted(_DIRECTIVES))
        )
    _check_fixed(start_time, [part for part in parts if part.startswith("%") and part != "%%"])
    pattern = "".join(_DIRECTIVES.get(part) or re.escape(part) for part in parts)
    before = r"(?<!\d)" if _is_number(parts[0], 0) else ""
    behind = r"(?!\d)" if _is_number(parts[-1], -1) else ""
    return re.compile(f"(?={before}({pattern}){behind})")


def _is_number(part: str, end: int) -> bool:
    """Say whether a part of a form has a digit at one of its ends."""
    if part in _DIRECTIVES:
        return part not in ("%b", "%p", "%%")
    return part[end].isdigit()


def _check_fixed(start_time: str, directives: Sequence[str]) -> None:
    """Refuse a form that leaves a part of the date or the hour to be made up."""
    where = f"start_time {start_time!r}"
    lacking = [
        f"the {what} ({' or '.join(ways)})"
        for what, ways in _FIXED.items()
        if not any(all(each in directives for each in re.findall("%.", way)) for way in ways)
    ]
    if lacking:
        raise ConfigError(
            f"{where}: it does not tell {' nor '.join(lacking)}; write it as "
            '"north_%Y%m%d_%H%M%S", or leave it out'
        )
    told = [any(each in directives for each in ways) for ways in _CLOCK]
    if told != sorted(told, reverse=True):
        raise ConfigError(f"{where}: it leaves out minutes or seconds, and tells what is finer")
    if twice := [each for each in directives if directives.count(each) > 1]:
        raise ConfigError(f"{where}: {twice[0]} is in it twice")


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
    return _with_scenes(
        path, tuple(_rule(path, number, entry) for number, entry in enumerate(entries, 1))
    )


def _with_scenes(path: str, rules: tuple[CameraRule, ...]) -> tuple[CameraRule, ...]:
    """Give all rules of a camera the scene that one of them has.

    Raises:
        ConfigError: Two have different ones.
    """
    scenes: dict[str, Scene] = {}
    for rule in rules:
        if rule.scene != NOTHING and scenes.setdefault(rule.id, rule.scene) != rule.scene:
            raise ConfigError(
                f"cameras file {path!r}, camera {rule.id!r}: two [[camera]] tables draw different "
                "things into its picture"
            )
    return tuple(replace(rule, scene=scenes.get(rule.id, NOTHING)) for rule in rules)


def _rule(path: str, number: int, entry: dict[str, Any]) -> CameraRule:
    if not isinstance(entry, dict):
        raise ConfigError(f"cameras file {path!r}: {entry!r} is no table; write [[camera]]")
    where = f"cameras file {path!r}, camera {entry.get('id', f'number {number}')!r}"
    known = [*(f.name for f in fields(CameraRule) if f.name != "scene"), *KEYS]
    if unknown := set(entry) - set(known):
        raise ConfigError(f"{where}: unknown key {min(unknown)!r}; known are {', '.join(known)}")
    if "id" not in entry:
        raise ConfigError(f"{where}: a [[camera]] has no id")
    own = {key: value for key, value in entry.items() if key not in KEYS}
    for key, value in own.items():
        right, kind = (int, "whole number") if key == "video_track" else (str, "text")
        if not isinstance(value, right) or isinstance(value, bool):
            raise ConfigError(f"{where}: {key} = {value!r} is no {kind}")
    recording = own.get("recording", "*")
    if not recording.strip() or "[" in _BRACKETS.sub("", recording):
        raise ConfigError(
            f"{where}: recording = {recording!r} is no pattern of names: write it as "
            '"north_*.mkv", and close each [ by a ]'
        )
    try:
        return CameraRule(**own, scene=parse_scene(entry, entry["id"]))
    except ConfigError as error:
        raise ConfigError(f"cameras file {path!r}, {error}") from error


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
