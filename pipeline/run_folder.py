"""The folder of a run: who may write to it, and what it says of itself.

OUTPUT/
  run.json        run_id: this output's, for good; and what its detections were made with
  config.toml     the resolved settings of the last start
  cameras.toml    the cameras file of the last start that had one
  summary.json    the results and the exit status, written last; summary-0-of-4.json for a shard
  detections/ movements/ tracks/     camera_id=.../date=.../*.parquet
  refined/        movements/ tracks/ events/ counts/, each with the same folders
  labels/         camera_id=.../date=.../*.parquet, if they were asked for
  metrics/ failures/                 *.parquet
  ledger/ staging/                   what is committed, and what is not yet: see there
  model/                             the quantized model, if detections are made with one
"""

import json
import os
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path

from pipeline.atomic import look_if_there, swap, write_whole, writing
from pipeline.errors import ConfigError
from pipeline.store import (
    check_reach,
    delete,
    delete_folder,
    exists,
    files,
    in_s3,
    output_root,
    read,
    shown,
)
from pipeline.tables import SCHEMAS

LAYOUT = 6
_FOLDERS = (*SCHEMAS, "refined", "ledger", "staging", "model")
_OWN_FILES = ("run.json", "config.toml", "cameras.toml", "summary.json", "summary-*-of-*.json")


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeWith:
    """What computed the detections of an output."""

    device: str
    backend: str
    precision: str

    def __str__(self) -> str:
        return f"{self.backend} {self.precision} on {self.device}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFolder:
    """An output that this run may write to.

    Attributes:
        is_new: Nothing was in it.
        made_with: What computed the detections that are in it; None if nothing yet.
    """

    path: Path
    run_id: str
    is_new: bool = True
    made_with: MadeWith | None = None

    def write_text(self, name: str, text: str) -> None:
        """Write a small file of the run, whole or not at all.

        Raises:
            OutputError: It cannot be written.
        """
        with writing(self.path):
            write_whole(self.path / name, text.encode())

    def read_text(self, name: str) -> str | None:
        """Return a small file of the run; None if it is not there."""
        seen = look_if_there(self.path / name)
        return seen.content.decode() if seen else None

    def note_made_with(self, made_with: MadeWith) -> None:
        """Write down what computes the detections from now on."""
        self.write_text("run.json", _run_json(self.run_id, made_with))


def _run_json(run_id: str, made_with: MadeWith | None = None) -> str:
    plain = asdict(made_with) if made_with else None
    return json.dumps({"run_id": run_id, "layout": LAYOUT, "made_with": plain}) + "\n"


def open_run(output: str, *, overwrite: bool = False) -> RunFolder:
    """Take a folder for a run's results: a new one, or one that an earlier start began.

    Args:
        output: Path of the folder.
        overwrite: Remove the results that are in it; other files are left alone.

    Raises:
        ConfigError: It cannot be written, or an older version's results are in it.
    """
    path = output_root(output)
    check_reach(path)
    if overwrite and exists(path / "run.json"):
        remove_results(path)
    try:
        if not in_s3(path):
            path.mkdir(parents=True, exist_ok=True)
            if not os.access(path, os.W_OK | os.X_OK):
                raise PermissionError(13, "Permission denied")
        # Of several drivers that start at once, one makes the run.
        is_new = not exists(path / "run.json")
        if is_new:
            is_new = swap(path, path / "run.json", _run_json(uuid.uuid4().hex).encode(), None)
    except OSError as error:
        raise ConfigError(
            f"output {shown(path)!r} cannot be written: {error.strerror or error}"
        ) from error
    run = find_run(output)
    return RunFolder(path=run.path, run_id=run.run_id, is_new=is_new, made_with=run.made_with)


def find_run(output: str) -> RunFolder:
    """Return the run whose results are in a folder.

    Raises:
        ConfigError: There is none.
    """
    path = output_root(output)
    check_reach(path)
    try:
        found = json.loads(read(path / "run.json"))
        if found.get("layout") != LAYOUT:
            raise ConfigError(
                f"output {shown(path)!r} was made by another version of footfall: name another folder, "
                "or add --overwrite to replace what is in it"
            )
        with_what = found["made_with"]
        return RunFolder(
            path=path,
            run_id=found["run_id"],
            is_new=False,
            made_with=MadeWith(**with_what) if with_what else None,
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"output {shown(path)!r} holds no results of a run: {error}") from error


def remove_results(path: Path) -> None:
    """Remove a run's tables and files from a folder, and nothing else.

    Raises:
        ConfigError: They cannot be removed.
    """
    try:
        for name in _FOLDERS:
            delete_folder(path / name)
        for file in (file for pattern in _OWN_FILES for file in files(path, pattern)):
            delete(file)
    except OSError as error:
        raise ConfigError(f"output {shown(path)!r} cannot be replaced: {error.strerror}") from error
