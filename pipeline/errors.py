"""What can go wrong, sorted by what the caller does about it.

    FootfallError
    ├── ConfigError     a setting that cannot be right: say so before work begins (exit code 2)
    ├── SourceError     a recording, or a stretch of it, cannot be read: record it and go on
    │   └── FfmpegError     the ffmpeg process failed or was killed; knows the signal
    ├── StepError       a step broke on input that should do: try again, then set it aside
    └── OutputError     results cannot be written: stop (exit code 1)

Every error crosses processes, so each can be pickled: one positional message, the rest as keywords.
"""


class FootfallError(Exception):
    """Root of the errors that footfall raises on purpose."""


class ConfigError(FootfallError):
    """A setting that is impossible, unknown or contradicts another."""


class SourceError(FootfallError):
    """A recording, a video track or a stretch of it cannot be read."""

    def __init__(self, message: str, *, source_uri: str = "") -> None:
        super().__init__(message)
        self.source_uri = source_uri


class FfmpegError(SourceError):
    """The ffmpeg process failed; `signal` is its name ("SIGKILL") where one ended it, else ""."""

    def __init__(
        self, message: str, *, source_uri: str = "", signal: str = "", exit_code: int = 0
    ) -> None:
        super().__init__(message, source_uri=source_uri)
        self.signal = signal
        self.exit_code = exit_code


class StepError(FootfallError):
    """A step failed on input that it should have coped with."""

    def __init__(self, message: str, *, signal: str = "") -> None:
        super().__init__(message)
        self.signal = signal


class OutputError(FootfallError):
    """Results cannot be written where they should go."""
