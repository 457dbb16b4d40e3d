"""The folder of a run: who may write to it, what it says of itself, and what is an earlier run's.

OUTPUT/
  run.json        run_id: this output's, for good
  config.toml     the resolved settings
  summary.json    the results and the exit status, written last
  detections/ movements/ tracks/     camera_id=.../date=.../*.parquet
  metrics/ failures/                 *.parquet
"""

import json
import os
import shutil
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import ConfigError, OutputError
from pipeline.tables import SCHEMAS

_OWN_FILES = ("run.json", "config.toml", "summary.json")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFolder:
    """An output that this run may write to."""

    path: Path
    run_id: str

    def write_text(self, name: str, text: str) -> None:
        """Write a small file of the run, whole or not at all.

        Raises:
            OutputError: It cannot be written.
        """
        try:
            partial = self.path / f".{name}.partial"
            partial.write_text(text, encoding="utf-8")
            partial.replace(self.path / name)
        except OSError as error:
            raise OutputError(
                f"output {str(self.path)!r} cannot be written: {error.strerror}"
            ) from error

    def write_summary(self, summary: Mapping[str, object]) -> None:
        """Write `summary.json`, which says that the run has ended."""
        self.write_text("summary.json", json.dumps(summary, indent=2) + "\n")


def open_run(output: str, *, overwrite: bool = False) -> RunFolder:
    """Take a folder for a run's results, and make it if it is not there.

    Args:
        output: Path of the folder.
        overwrite: Remove the results of an earlier run; other files are left alone.

    Raises:
        ConfigError: It cannot be written, or holds an earlier run's results.
    """
    path = Path(output).absolute()
    if (path / "run.json").exists():
        if not overwrite:
            raise ConfigError(
                f"output {str(path)!r} holds the results of a run already: name another folder, or "
                "add --overwrite to replace them"
            )
        remove_results(path)
    run = RunFolder(path=path, run_id=uuid.uuid4().hex)
    try:
        path.mkdir(parents=True, exist_ok=True)
        if not os.access(path, os.W_OK | os.X_OK):
            raise PermissionError(13, "Permission denied")
        run.write_text("run.json", json.dumps({"run_id": run.run_id}) + "\n")
    except (OSError, OutputError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(f"output {str(path)!r} cannot be written: {reason}") from error
    return run


def remove_results(path: Path) -> None:
    """Remove a run's tables and files from a folder, and nothing else.

    Raises:
        ConfigError: They cannot be removed.
    """
    try:
        for name in SCHEMAS:
            if (path / name).is_dir():
                shutil.rmtree(path / name)
        for name in _OWN_FILES:
            (path / name).unlink(missing_ok=True)
    except OSError as error:
        raise ConfigError(f"output {str(path)!r} cannot be replaced: {error.strerror}") from error
