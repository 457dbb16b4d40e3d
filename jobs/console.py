"""What a run says: a live display on a terminal, lines in the old service's words elsewhere.

Names of recordings and cameras come from outside. They are printed as plain text: no markup, and no
control characters.
"""

import logging
import time
from collections.abc import Callable, Sequence

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
from rich.table import Table
from rich.text import Text

from pipeline.records import Failure

LINE_FORMAT = "%(asctime)s - %(levelname)s - %(message)s"
TIME_FORMAT = "%Y-%m-%d %H:%M:%S"
LOGGERS = ("jobs", "cluster", "pipeline")


def printable(text: str) -> str:
    """Return text that cannot steer a terminal."""
    return "".join(char if char.isprintable() else "?" for char in text)


class _ConsoleHandler(logging.Handler):
    """Prints log lines through the console, above a live display if there is one."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        self._console.print(Text(printable(self.format(record))), soft_wrap=True)


def open_console(*, to_stderr: bool = False) -> Console:
    """Return the console of this process, with the log lines of footfall going to it."""
    console = Console(stderr=to_stderr, highlight=False)
    handler = _ConsoleHandler(console)
    handler.setFormatter(logging.Formatter(LINE_FORMAT, TIME_FORMAT))
    for name in LOGGERS:
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(logging.INFO)
        logger.propagate = False
    return console


def wide_console() -> Console:
    """Return a console for tables; off a terminal they are as wide as they need to be."""
    console = Console(highlight=False)
    # They are read by programs there, or saved.
    return console if console.is_terminal else Console(highlight=False, width=400)


def clock(seconds: float) -> str:
    """Return a duration as 00:45, or 1:02:03 from an hour on."""
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes:02}:{rest:02}"


class ProgressReport:
    """Says how far a run is: a bar on a terminal, elsewhere a line now and then."""

    def __init__(
        self,
        console: Console,
        total_frames: int,
        *,
        every_s: float = 10.0,
        every_frames: int = 0,
    ) -> None:
        """Report on a run over about `total_frames` frames.

        Args:
            console: Where a bar would go.
            total_frames: What the containers lead to expect; 0 if they say nothing.
            every_s: Seconds between lines.
            every_frames: Frames between lines, instead of seconds.
        """
        self._total = total_frames
        self._every_s, self._every_frames = every_s, every_frames
        self._began = self._last_line = time.monotonic()
        self._last_frames = 0
        self._bar: Progress | None = None
        if console.is_terminal:
            self._bar = Progress(
                TextColumn("Progress:"), BarColumn(), TaskProgressColumn(),
                TextColumn("{task.fields[line]}"), console=console, transient=True,
            )  # fmt: skip
            self._task = self._bar.add_task("", total=total_frames or None, line="")

    def start(self) -> None:
        """Begin to count: the run is ready."""
        self._began = self._last_line = time.monotonic()
        if self._bar:
            self._bar.start()

    def stop(self) -> None:
        """Take the bar away."""
        if self._bar:
            self._bar.stop()

    def show(self, frames: int, memory_mb: float, say: Callable[[str], None]) -> None:
        """Report on `frames` frames done; lines go to `say`."""
        now = time.monotonic()
        line = self._line(frames, now - self._began, memory_mb)
        if self._bar:
            self._bar.update(self._task, completed=frames, line=line)
            return
        due = (
            frames // self._every_frames > self._last_frames // self._every_frames
            if self._every_frames
            else now - self._last_line >= self._every_s
        )
        if due and frames:
            say("Progress: " + self._share(frames) + line)
            self._last_line, self._last_frames = now, frames

    def _share(self, frames: int) -> str:
        return f"{100 * frames / self._total:.1f}% " if self._total else ""

    def _line(self, frames: int, seconds: float, memory_mb: float) -> str:
        fps = frames / seconds if seconds > 0 else 0.0
        left = clock((self._total - frames) / fps) if fps and self._total else "--:--"
        of = f"{frames}/{self._total}" if self._total else f"{frames} frames"
        return f"({of}) - Speed: {fps:.1f} fps - ETA: {left} - Memory: {memory_mb:.1f} MB"


def show_failures(console: Console, failures: Sequence[Failure]) -> None:
    """Print a table of what could not be processed."""
    table = Table(title=f"Not processed: {len(failures)}", title_justify="left")
    for column in ("recording", "track", "frames", "step", "why"):
        table.add_column(column, overflow="fold")
    for failure in failures:
        span = "" if failure.first_frame is None else f"{failure.first_frame}-{failure.last_frame}"
        track = "" if failure.video_track is None else str(failure.video_track)
        cells = (failure.source_uri, track, span, failure.step, failure.message)
        table.add_row(*(Text(printable(cell)) for cell in cells))
    console.print(table)
