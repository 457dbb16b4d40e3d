"""What is known of footage before anybody has looked into it: whose it is, and when it began."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from jobs.settings import JobSettings
from pipeline.cameras import CameraRule, read_cameras
from pipeline.discover import find_starts


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What is known of footage from elsewhere.

    Attributes:
        rules: Of the cameras file.
        starts: When recordings began, as manifests tell it.
        committed: The cameras of footage that the output has already.
    """

    rules: Sequence[CameraRule]
    starts: Mapping[str, datetime]
    committed: Mapping[tuple[str, int], str]

    def rule(self, source_uri: str, video_track: int) -> CameraRule | None:
        """Return the camera of a video track, if the cameras file has one."""
        return next((rule for rule in self.rules if rule.matches(source_uri, video_track)), None)

    def start(
        self, source_uri: str, rule: CameraRule | None, created: str = ""
    ) -> tuple[datetime | None, float]:
        """Return when a recording began, in UTC, if anything tells, and how coarsely, in seconds.

        Args:
            source_uri: The recording.
            rule: Its camera, if it has one.
            created: When its container says that it was made; see `Recording`.

        Raises:
            ConfigError: The camera's pattern does not fit the name.
        """
        listed = self.starts.get(source_uri)
        if listed is not None:
            in_utc = (rule or CameraRule(id="any")).in_utc(listed, source_uri)
            return in_utc, 0.0 if listed.microsecond else 1.0
        moment = rule.began(source_uri, created) if rule else None
        return moment, rule.resolution_s if rule and moment else 0.0


def gather(settings: JobSettings, committed: Mapping[tuple[str, int], str] | None) -> Told:
    """Read the cameras file and the manifests of a job.

    Raises:
        ConfigError: One of them cannot be read, or is wrong.
    """
    return Told(
        rules=read_cameras(settings.cameras) if settings.cameras else (),
        starts=find_starts(settings.input, settings.aws),
        committed=committed or {},
    )
