"""The old service's call, of a video in S3."""

from pathlib import Path
from typing import Any

import pytest

from jobs import process
from jobs.process import Camera, start_process
from jobs.settings import JobSettings
from pipeline.errors import ConfigError, SourceError
from tests.aws.conftest import Bucket


class _BeganError(Exception):
    """A job was begun."""


def test_a_video_in_s3_is_found_and_its_tracks_are_known(
    bucket: Bucket, footage: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[JobSettings] = []

    def run_job(settings: JobSettings, *_: Any, **__: Any) -> None:
        begun.append(settings)
        raise _BeganError

    monkeypatch.setattr(process, "run_job", run_job)
    video = bucket.upload("hall.mp4", footage / "TUD-Campus.mp4")
    door, reach = Camera(id="door"), {"endpoint_url": bucket.endpoint_url}
    with pytest.raises(_BeganError):
        start_process(door, video, **reach)
    assert (begun[0].input, begun[0].video_tracks) == ((video,), "0")
    assert begun[0].output == f"{video}.footfall"
    with pytest.raises(ConfigError, match=r"track_index 4 is not in .* its video tracks are: 0"):
        start_process(door, video, 4, **reach)
    with pytest.raises(SourceError, match="there is no such video"):
        start_process(door, video + "x", **reach)
