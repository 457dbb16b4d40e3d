"""A purge of an output in S3 comes to what it comes to on a disk."""

from datetime import timedelta
from pathlib import Path

from pipeline import store
from pipeline.doomed import look
from pipeline.purge import finish_purge
from pipeline.purged import Purge, marked, read_purges, write_purge
from pipeline.verify import verify
from tests.aws.conftest import Bucket
from tests.property import archive as a


def purge(output: Path) -> None:
    before = a.BEGAN + timedelta(seconds=4.3)
    assert len(look(output, "door", before).whole) == 1
    write_purge(output, Purge(name="p", cameras=("*",), before=before, footage=()), ["door"])
    assert marked(output) == {"door": "p"}
    assert finish_purge(output, "door", read_purges(output), a.log_settings(output).track, "a")


def test_a_purge_of_an_output_in_s3_is_that_of_one_on_a_disk(
    bucket: Bucket, tmp_path: Path
) -> None:
    local = tmp_path / "local"
    a.run(local, [a.recording("a", 0), a.recording("b", 3)])
    for path in a.files(local):
        bucket.upload(f"logs/{path}", local / path)
    there = store.output_root(f"s3://{bucket.name}/logs/")
    purge(there)
    purge(local)
    assert verify(there).problems == []
    assert marked(there) == {}
    found = bucket.download("logs/", tmp_path / "found")
    assert a.tables(found) == a.tables(local)
    assert a.frames(found) == a.frames(local)
    assert len(a.rows(local, "movements")) > 5
