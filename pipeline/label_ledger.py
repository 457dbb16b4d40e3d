"""What is on disk of a camera's labels: answers, what was asked without one, and the tables of them.

    OUTPUT/ledger/camera_id=.../labels/PICTURES-FRAME.asked    before each call
                                       PICTURES-FRAME.json     the answer; the other file goes
                                labels-000007.json             answers that are in tables by now
                                labels-state.json              failures, and calls that gave no answer

PICTURES is the footage's `picture_id`. Answers are gathered into tables now and then: files first,
then the entry that names them, then the answers go. A file that no entry names is a dead run's, and is
swept. An entry is written again, under its name, when rows of it are no longer true.
"""

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pipeline.atomic import FileEntry, remove, write_whole, writing
from pipeline.errors import OutputError
from pipeline.ledger import CameraLedger, camera_tag, cameras_of, sealed, unsealed
from pipeline.records import Failure
from pipeline.store import exists, files, read, shown, side_by_side, walk
from pipeline.tables import camera_folder

JOURNAL = "labels"
STATE = "labels-state.json"
_ENTRY = re.compile(r"labels-(\d{6,})\.json")
_ASKED, _ANSWER = ".asked", ".json"
# A footage's pictures, and a frame of it.
FrameKey = tuple[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelEntry:
    """Answers that are in tables.

    Attributes:
        number: From 0; entries have no order.
        calls: Calls that were made for it, by start of the run; they stay when rows go.
        recordings: By `picture_id`, recording and video track.
        answered: By `picture_id`, the frames that are answered, with or without a label.
    """

    camera_id: str
    number: int
    calls: dict[str, int]
    recordings: dict[str, tuple[str, int]]
    answered: dict[str, tuple[int, ...]]
    files: tuple[FileEntry, ...]

    @property
    def name(self) -> str:
        """The entry's file name."""
        return f"labels-{self.number:06}.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Unanswered:
    """Frames of a footage that have no labels, for one reason.

    Attributes:
        attempt_id: The start of the run that it happened in.
    """

    picture_id: str
    attempt_id: str
    frames: tuple[int, ...]
    failure: Failure


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelState:
    """What is known of a camera beside its answers.

    Attributes:
        lost_calls: Calls that gave no answer and may have been paid, by start of the run.
        files: The `failures` table of it.
    """

    camera_id: str
    lost_calls: dict[str, int] = field(default_factory=dict)
    unanswered: tuple[Unanswered, ...] = ()
    files: tuple[FileEntry, ...] = ()


class LabelLedger:
    """The files of one camera's labels; its lease must be held by whoever writes."""

    def __init__(self, output: Path, camera_id: str) -> None:
        self.output, self.camera_id = output, camera_id
        self.folder = CameraLedger(output, camera_id).folder
        self._journal = self.folder / JOURNAL

    def entries(self) -> list[LabelEntry]:
        """Return the entries.

        Raises:
            OutputError: One is damaged.
        """
        names = [path.name for path in files(self.folder, "labels-*.json")]
        return [self._entry(name) for name in sorted(names) if _ENTRY.fullmatch(name)]

    def _entry(self, name: str) -> LabelEntry:
        with _reading(self.folder / name) as plain:
            return LabelEntry(
                camera_id=plain["camera_id"],
                number=plain["number"],
                calls=plain["calls"],
                recordings={key: (uri, int(n)) for key, (uri, n) in plain["recordings"].items()},
                answered={key: tuple(numbers) for key, numbers in plain["answered"].items()},
                files=tuple(FileEntry(**each) for each in plain["files"]),
            )

    def state(self) -> LabelState:
        """Return the state.

        Raises:
            OutputError: It is damaged.
        """
        path = self.folder / STATE
        if not exists(path):
            return LabelState(camera_id=self.camera_id)
        with _reading(path) as plain:
            return LabelState(
                camera_id=plain["camera_id"],
                lost_calls=plain["lost_calls"],
                unanswered=tuple(
                    Unanswered(
                        picture_id=each["picture_id"],
                        attempt_id=each["attempt_id"],
                        frames=tuple(each["frames"]),
                        failure=Failure(**each["failure"]),
                    )
                    for each in plain["unanswered"]
                ),
                files=tuple(FileEntry(**each) for each in plain["files"]),
            )

    def commit(self, entry: LabelEntry | LabelState) -> None:
        """Write an entry, or the state, whose files have their names: from now on it counts.

        Raises:
            OutputError: It cannot be written.
        """
        name = entry.name if isinstance(entry, LabelEntry) else STATE
        with writing(self.output):
            write_whole(self.folder / name, sealed(json.loads(json.dumps(asdict(entry)))))

    def note_asked(self, key: FrameKey, question: Mapping[str, Any]) -> None:
        """Write down that labels of a frame are about to be asked for, of what and by whom.

        Raises:
            OutputError: It cannot be written.
        """
        with writing(self.output):
            write_whole(self._path(key, _ASKED), json.dumps(question).encode())

    def note_answer(self, key: FrameKey, answer: Mapping[str, Any]) -> None:
        """Write down the answer that was got.

        Raises:
            OutputError: It cannot be written.
        """
        with writing(self.output):
            write_whole(self._path(key, _ANSWER), json.dumps(answer).encode())
        self.forget_asked(key)

    def forget_asked(self, key: FrameKey) -> None:
        """Take back that labels of a frame were asked for.

        Raises:
            OutputError: It cannot be removed.
        """
        with writing(self.output):
            remove(self._path(key, _ASKED))

    def forget_answers(self, keys: Sequence[FrameKey]) -> None:
        """Remove answers that an entry holds.

        Raises:
            OutputError: They cannot be removed.
        """
        with writing(self.output):
            for key in keys:
                remove(self._path(key, _ANSWER))

    def answers(self) -> list[FrameKey]:
        """Return the frames whose answers no entry holds yet."""
        return sorted(self._keys(_ANSWER))

    def answer(self, key: FrameKey) -> dict[str, Any]:
        """Return an answer that was noted; an empty one if it is gone."""
        return _read_note(self._path(key, _ANSWER))

    def asked(self) -> dict[FrameKey, dict[str, Any]]:
        """Return the frames that were asked about without an answer, each with what was noted."""
        return {
            key: _read_note(self._path(key, _ASKED))
            for key in sorted(self._keys(_ASKED) - self._keys(_ANSWER))
        }

    def _keys(self, suffix: str) -> set[FrameKey]:
        found = set()
        for path in files(self._journal):
            if path.suffix == suffix:
                picture_id, _, number = path.stem.rpartition("-")
                found.add((picture_id, int(number)))
        return found

    def _path(self, key: FrameKey, suffix: str) -> Path:
        return self._journal / f"{key[0]}-{key[1]}{suffix}"

    def sweep(self) -> None:
        """Remove the camera's files of labels that no entry names; nobody may be writing.

        Raises:
            OutputError: They cannot be removed.
        """
        kept = {file.path for file in self.files()}
        answered = self._keys(_ANSWER)
        with writing(self.output):
            for path in list(self._tables()):
                if path.relative_to(self.output).as_posix() not in kept:
                    remove(path)
            for key in answered & self._keys(_ASKED):
                remove(self._path(key, _ASKED))
            for path in [
                *files(self.folder, "labels-*.partial"),
                *files(self._journal, "*.partial"),
            ]:
                remove(path)

    def files(self) -> Iterator[FileEntry]:
        """Yield the files that entries and the state name.

        Raises:
            OutputError: One is damaged.
        """
        for entry in self.entries():
            yield from entry.files
        yield from self.state().files

    def answered_twice(self) -> int:
        """Return how many frames more than one entry holds.

        Raises:
            OutputError: An entry is damaged.
        """
        held = [(key, each) for entry in self.entries() for key, each in entry.answered.items()]
        frames = [(picture_id, number) for picture_id, each in held for number in each]
        return len(frames) - len(set(frames))

    def _tables(self) -> Iterator[Path]:
        tag = camera_tag(self.camera_id)
        folder = self.output / "labels" / camera_folder(self.camera_id)
        yield from walk(folder)
        for name in ("metrics", "failures"):
            yield from files(self.output / name, f"{tag}-labels-*")

    def calls(self) -> Counter[str]:
        """Return the calls that were made so far, by start of the run.

        Raises:
            OutputError: An entry is damaged.
        """
        # In this order: what another process moves on meanwhile is met again, and missed nowhere.
        open_ = {key: asked.get("attempt_id", "") for key, asked in self.asked().items()}
        answers = {key: self.answer(key).get("attempt_id", "") for key in self.answers()}
        state, entries = self.state(), self.entries()
        by_attempt = [*(entry.calls for entry in entries), state.lost_calls]
        told = told_of(state)
        noted = [
            who
            for key, who in answers.items()
            if not any(key[1] in entry.answered.get(key[0], ()) for entry in entries)
        ]
        # Those of the state have been counted.
        noted += [who for key, who in open_.items() if (key, who) not in told]
        found = Counter(noted)
        for calls in by_attempt:
            found.update(calls)
        return found


def _read_note(path: Path) -> dict[str, Any]:
    try:
        plain: dict[str, Any] = json.loads(read(path))
    except FileNotFoundError:
        # Another process has moved it on.
        return {}
    return plain


@contextmanager
def _reading(path: Path) -> Iterator[dict[str, Any]]:
    """Give the content of an entry's file; whatever is wrong with it is an OutputError."""
    try:
        yield unsealed(read(path))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise OutputError(
            f"ledger entry {shown(path)!r} is damaged ({error}); `footfall verify` tells more"
        ) from error


def is_of_labels(name: str) -> bool:
    """Say whether a file or folder beside a camera's ledger entries is one of ours."""
    return name in (JOURNAL, STATE) or _ENTRY.fullmatch(name) is not None


def keys_of(unanswered: Unanswered) -> list[FrameKey]:
    """Return the frames that it is about."""
    return [(unanswered.picture_id, number) for number in unanswered.frames]


def told_of(state: LabelState) -> set[tuple[FrameKey, str]]:
    """Return the frames that a state tells to be without labels, each with the start that found it."""
    return {(key, each.attempt_id) for each in state.unanswered for key in keys_of(each)}


def calls_made(output: Path, attempt_id: str = "") -> int:
    """Return the calls that were made for an output, by one start of the run or by all of them.

    Raises:
        OutputError: An entry is damaged.
    """
    found = calls_by_start(output)
    return found[attempt_id] if attempt_id else found.total()


def calls_by_start(output: Path) -> Counter[str]:
    """Return the calls that were made for an output, by start of the run.

    Raises:
        OutputError: An entry is damaged.
    """
    each = side_by_side(
        output, lambda camera: LabelLedger(output, camera).calls(), cameras_of(output)
    )
    return sum(each, Counter())
