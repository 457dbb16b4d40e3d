"""What is told of recordings beside the tables of cameras: in summaries, and of what cannot be read."""

import json
from collections.abc import Collection

import pyarrow as pa
import pyarrow.parquet as pq

from jobs.survey import printable_uri
from pipeline.atomic import remove, writing
from pipeline.purged import FootageName
from pipeline.run_folder import RunFolder
from pipeline.sink import made_by, write_hashed
from pipeline.store import fetched, files


def forget_recordings(run: RunFolder, gone: Collection[FootageName]) -> None:
    """Take video tracks that were purged out of the summaries, and of the failures of no camera.

    Raises:
        OutputError: Something cannot be written.
    """
    for pattern in ("summary.json", "summary-*-of-*.json"):
        for path in files(run.path, pattern):
            _shorten(run, path.name, gone)
    for path in files(run.path / "failures", "survey-*.parquet"):
        with fetched(path) as (there,):
            rows, footer = pq.ParquetFile(there).read(), made_by(there)
        names = {(printable_uri(uri), number) for uri, number in gone}
        stay = [
            (row["source_uri"], row["video_track"]) not in names
            and (row["video_track"] is not None or row["source_uri"] not in {n for n, _ in names})
            for row in rows.select(["source_uri", "video_track"]).to_pylist()
        ]
        if not all(stay):
            kept = rows.replace_schema_metadata(None).filter(pa.array(stay, pa.bool_()))
            written = write_hashed(run.path, "failures", "survey", kept, footer)
            if written != path:
                with writing(run.path):
                    remove(path)


def _shorten(run: RunFolder, name: str, gone: Collection[FootageName]) -> None:
    text = run.read_text(name)
    if text is None:
        return
    summary = json.loads(text)
    kept = []
    for recording in summary.get("recordings", ()):
        uri = recording["source_uri"]
        tracks = [t for t in recording["video_tracks"] if (uri, t["video_track"]) not in gone]
        if tracks or not recording["video_tracks"]:
            kept.append({**recording, "video_tracks": tracks})
    if kept != summary.get("recordings"):
        run.write_text(name, json.dumps({**summary, "recordings": kept}, indent=2) + "\n")
