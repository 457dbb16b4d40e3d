"""Verbs that add to an output in S3 leave it as its run made it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs import compact, refine
from jobs.settings import JobSettings
from pipeline import part
from pipeline.run_folder import open_run
from tests.aws.conftest import Bucket
from tests.property import archive as a
from tests.property.deaths import no_flushing

KEY = "arn:aws:kms:us-east-1:123456789012:key/footage"


@pytest.fixture
def output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return an output of many small parts, made with a KMS key."""
    monkeypatch.setattr(part, "FIRST_PART_FRAMES", 8)
    monkeypatch.setattr(part, "_DOUBLINGS", 0)
    made = tmp_path / "made"
    open_run(str(made))
    with no_flushing():
        a.run(made, [a.recording("a", 0), a.recording("b", 3)], part_bytes=1)
    settings = JobSettings(input=("/archive",), output="s3://bucket/", kms_key=KEY)
    (made / "config.toml").write_text(settings.to_toml())
    yield made


def test_what_compact_and_refine_write_is_encrypted_as_the_run_has_it(
    bucket: Bucket, output: Path
) -> None:
    how = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": KEY}
    for path in output.rglob("*"):
        if path.is_file():
            bucket.put(f"logs/{path.relative_to(output)}", path.read_bytes(), **how)
    before = set(bucket.keys("logs/"))
    given = [f"s3://{bucket.name}/logs/", "--endpoint-url", bucket.endpoint_url]
    for verb in (compact, refine):
        assert verb.main(given) == 0
        new = set(bucket.keys("logs/")) - before
        assert len(new) > 3
        before |= new
        for key in bucket.keys("logs/"):
            head = bucket.s3.head_object(Bucket=bucket.name, Key=key)
            assert (head.get("ServerSideEncryption"), head.get("SSEKMSKeyId")) == ("aws:kms", KEY)
