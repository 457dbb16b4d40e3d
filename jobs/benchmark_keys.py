"""`footfall benchmark keys`: what many keys in S3 cost before the work begins.

    copies       the headers of a few clips under many names: what is equal is looked into once
    unequal      the same, but no two are equal: all of them are looked into
    inventory    one shard of many more keys, of which none is there

Each is a `plan`. Memory is that of the command and its children, seen from outside; what the server
takes of the machine is in the time.

Needs a server that speaks S3 (`moto_server`, MinIO), and writes into new buckets of it.
"""

import argparse
import csv
import gzip
import hashlib
import io
import json
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import quote_plus

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import orc

from jobs.benchmark_footage import find_clips
from jobs.exits import EXIT_OK, EXIT_PARTIAL, ending
from jobs.machine import machine_line
from jobs.outside import OutsideMeter
from pipeline.aws import AwsSettings, client
from pipeline.errors import StepError

SCHEMA = "Bucket, Key, VersionId, IsLatest, IsDeleteMarker, Size, StorageClass"
_KEYS_A_FILE = 250_000
_HEADER_BYTES = 64 << 10
_LONGEST_S = 1800.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What a command took.

    Attributes:
        peak_mb: Most memory, with its children.
    """

    what: str
    wall_s: float
    peak_mb: float
    said: str


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what listing, probing and sharding of many keys cost."""
    parser = argparse.ArgumentParser(prog="footfall benchmark keys", description=main.__doc__)
    parser.add_argument(
        "--endpoint-url", required=True, metavar="URL", help="of a server for tests"
    )
    parser.add_argument("--footage", default="", metavar="PATH", help="a clip or a folder of them")
    parser.add_argument("--keys", type=int, default=10_000, help="of a prefix (default: 10000)")
    parser.add_argument("--inventory", type=int, default=1_000_000, help="(default: 1000000)")
    parser.add_argument("--shards", type=int, default=1000, help="(default: 1000)")
    return ending("benchmark keys", lambda: _measure(parser.parse_args(arguments)))


def _measure(options: argparse.Namespace) -> int:
    s3 = client("s3", AwsSettings(endpoint_url=options.endpoint_url))
    bucket = f"footfall-keys-{uuid.uuid4().hex[:12]}"
    s3.create_bucket(Bucket=bucket)
    reach = ["--endpoint-url", options.endpoint_url, "--model", "stand-in"]
    costs = []
    with TemporaryDirectory(prefix="footfall-keys-") as folder:
        clips = find_clips(options.footage, Path(folder))
        for kind, says in (("copies", "a few contents"), ("unequal", "no two equal")):
            _put_headers(s3, f"{bucket}/{kind}", clips, options.keys, are_copies=kind == "copies")
            prefix = f"s3://{bucket}/{kind}/"
            costs.append(_plan(f"{options.keys} keys, {says}", [prefix, *reach]))
    for form in ("CSV", "Parquet"):
        manifest = put_inventory(s3, bucket, form, _files(bucket, options.inventory))
        shard = ["--shard", f"0/{options.shards}"]
        what = f"inventory of {options.inventory} keys, {form}, one shard of {options.shards}"
        costs.append(_plan(what, [manifest, *reach, *shard]))
    print("| | s | MB | |\n|---|---|---|---|")
    for each in costs:
        print(f"| {each.what} | {each.wall_s:.1f} | {each.peak_mb:.0f} | {each.said} |")
    print(f"\n{machine_line()}")
    return EXIT_OK


def _put_headers(
    s3: Any,  # noqa: ANN401 -- made at run time
    prefix: str,
    clips: Sequence[Path],
    keys: int,
    *,
    are_copies: bool,
) -> None:
    """Store the beginnings of some clips, or all of those whose index lies at their end."""
    bucket, _, folder = prefix.partition("/")
    contents = []
    for clip in clips:
        content = clip.read_bytes()
        has_index = b"moov" in content[:_HEADER_BYTES] or clip.suffix != ".mp4"
        contents.append((clip.suffix, content[:_HEADER_BYTES] if has_index else content))

    def put(number: int) -> None:
        suffix, content = contents[number % len(contents)]
        key = f"{folder}/cam{number % 40:02}/{number:07}{suffix}"
        mark = b"" if are_copies else number.to_bytes(8, "big")
        s3.put_object(Bucket=bucket, Key=key, Body=content + mark)

    with ThreadPoolExecutor(4) as threads:
        for _ in threads.map(put, range(keys)):
            # To have it raise what went wrong.
            pass


def _files(bucket: str, keys: int) -> Iterator[list[dict[str, Any]]]:
    """Yield the lines of an inventory's files."""
    for start in range(0, keys, _KEYS_A_FILE):
        yield [
            line(bucket, f"site {n % 7}/cam{n % 40:02}/2026/{n:08}.mkv")
            for n in range(start, min(start + _KEYS_A_FILE, keys))
        ]


def line(bucket: str, key: str, **more: Any) -> dict[str, Any]:  # noqa: ANN401
    """Return a line of an inventory, by columns."""
    return {
        "bucket": bucket, "key": key, "version_id": "1", "is_latest": True,
        "is_delete_marker": False, "size": 100_000_000, "storage_class": "STANDARD", **more,
    }  # fmt: skip


def put_inventory(
    s3: Any,  # noqa: ANN401 -- made at run time
    bucket: str,
    form: str,
    files: Iterator[Sequence[Mapping[str, Any]]],
    /,
    **more: object,
) -> str:
    """Store an inventory as S3 does; return its manifest's address.

    Args:
        s3: The client.
        bucket: Where to.
        form: "CSV", "Parquet" or "ORC".
        files: The lines of each of its files.
        more: What the manifest says otherwise.
    """
    told = []
    for number, lines in enumerate(files):
        key, content = f"lists/{form}/data/{number}", _data_file(form, lines)
        s3.put_object(Bucket=bucket, Key=key, Body=content)
        digest = hashlib.md5(content, usedforsecurity=False).hexdigest()
        told.append({"key": key, "size": len(content), "MD5checksum": digest})
    manifest = {
        "sourceBucket": bucket,
        "destinationBucket": f"arn:aws:s3:::{bucket}",
        "version": "2016-11-30",
        "fileFormat": form,
        "fileSchema": SCHEMA,
        "files": told,
        **more,
    }
    key = f"lists/{form}/manifest.json"
    s3.put_object(Bucket=bucket, Key=key, Body=json.dumps(manifest).encode())
    return f"s3://{bucket}/{key}"


def _data_file(form: str, lines: Sequence[Mapping[str, Any]]) -> bytes:
    if form == "CSV":
        text = io.StringIO()
        writer = csv.writer(text, quoting=csv.QUOTE_ALL)
        for each in lines:
            row = {**each, "key": quote_plus(each["key"], safe="/")}
            writer.writerow(str(v).lower() if isinstance(v, bool) else v for v in row.values())
        return gzip.compress(text.getvalue().encode(), compresslevel=1)
    content = io.BytesIO()
    write = {"Parquet": pq.write_table, "ORC": orc.write_table}[form]
    write(pa.Table.from_pylist(list(lines)), content)
    return content.getvalue()


def _plan(what: str, given: Sequence[str]) -> Cost:
    """Run `plan`; of an inventory whose keys are nowhere it ends as with some that are missing.

    Raises:
        StepError: It went wrong.
    """
    began = time.monotonic()
    command = [sys.executable, "-m", "jobs.plan", "--input", *given]
    with TemporaryDirectory(prefix="footfall-keys-") as folder:
        out = Path(folder, "out")
        with out.open("wb") as stream:
            process = subprocess.Popen(command, stdout=stream, stderr=subprocess.STDOUT)
            meter = OutsideMeter(process.pid)
            is_done = meter.watch(process, _LONGEST_S)
        lines = out.read_text(errors="replace").splitlines()
    if not is_done or process.returncode not in (EXIT_OK, EXIT_PARTIAL):
        raise StepError(f"plan ended with exit code {process.returncode}: {lines[-1:]}")
    said = next((each for each in lines if "told apart by name" in each), "")
    said = said or next(each for each in lines if "video track(s) of" in each)
    return Cost(
        what=what, wall_s=time.monotonic() - began, peak_mb=meter.peak_after(0.0), said=said
    )


if __name__ == "__main__":
    sys.exit(main())
