"""Who works on a camera: one run at a time, by a lease that is taken over when its holder is dead.

    OUTPUT/ledger/attempts/ATTEMPT.json              a start of a run: who it is; touched every 2 s
    OUTPUT/ledger/camera_id=.../lease.json           which attempt has the camera

A holder is dead if its process is gone from this machine, or if its heartbeat has not moved for 20 s
as seen from here: clocks of two machines are never compared.
"""

import json
import socket
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from pipeline.atomic import look_if_there, remove, swap, write_whole, writing
from pipeline.errors import OutputError
from pipeline.ledger import FOLDER
from pipeline.store import Seen, beat, files, pulse, quiet_s, read, shown, side_by_side
from pipeline.tables import camera_folder

HEARTBEAT_S = 2.0
DEAD_AFTER_S = 20.0
_LOOK_EVERY_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """A start of a run, and the process that it is.

    Attributes:
        machine: This boot of this machine, and this container of it: process ids mean something
            within it alone.
        process_started: Unix time: a process id is given again.
    """

    attempt_id: str
    host: str
    machine: str
    pid: int
    process_started: float

    @property
    def is_gone(self) -> bool:
        """Whether its process is known to have ended; False if only time can tell."""
        if self.machine != _machine():
            return False
        try:
            return psutil.Process(self.pid).create_time() != self.process_started
        except psutil.NoSuchProcess:
            return True

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


def _machine() -> str:
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return f"{boot}/{Path('/proc/self/ns/pid').readlink()}"


def _ledger(output: Path) -> Path:
    return output / FOLDER


def _attempt_path(output: Path, attempt_id: str) -> Path:
    return _ledger(output) / "attempts" / f"{attempt_id}.json"


def _lease_path(output: Path, camera_id: str) -> Path:
    return _ledger(output) / camera_folder(camera_id) / "lease.json"


class Leases:
    """The cameras that this start of a run works on."""

    def __init__(self, output: Path, attempt_id: str) -> None:
        self._output, self._attempt_id = output, attempt_id
        self._done = threading.Event()
        self._cameras: set[str] = set()

    @contextmanager
    def held(self, cameras: Iterable[str]) -> Iterator[None]:
        """Hold cameras for as long as the `with` block runs.

        Raises:
            OutputError: Another run has one of them, and lives; or nothing can be written.
        """
        heart = threading.Thread(target=self._beat, daemon=True)
        with writing(self._output):
            self._introduce()
        try:
            heart.start()
            self._take(sorted(set(cameras)))
            sweep_attempts(self._output)
            yield
        finally:
            self._done.set()
            heart.join()
            self._release()

    def _introduce(self) -> None:
        process = psutil.Process()
        holder = Holder(
            attempt_id=self._attempt_id,
            host=socket.gethostname(),
            machine=_machine(),
            pid=process.pid,
            process_started=process.create_time(),
        )
        write_whole(
            _attempt_path(self._output, self._attempt_id), json.dumps(asdict(holder)).encode()
        )

    def _beat(self) -> None:
        path = _attempt_path(self._output, self._attempt_id)
        while not self._done.wait(HEARTBEAT_S):
            try:
                beat(path)
            except (OSError, OutputError):
                # The output is gone or read-only: whoever writes next to it will say so.
                continue

    def _take(self, cameras: Sequence[str]) -> None:
        waiting = list(cameras)
        deaths = Deaths(self._output)
        while waiting:
            with writing(self._output):
                taken = side_by_side(
                    self._output, lambda camera: self._try(camera, deaths), waiting
                )
                waiting = [one for one, is_ours in zip(waiting, taken, strict=True) if not is_ours]
            if waiting:
                time.sleep(_LOOK_EVERY_S)

    def _try(self, camera_id: str, deaths: "Deaths") -> bool:
        """Take a camera that nobody has, or somebody dead; False if only time can tell."""
        path = _lease_path(self._output, camera_id)
        seen = look_if_there(path)
        holder = _holder(self._output, _attempt_in(seen)) if seen else None
        if holder is not None and holder.attempt_id != self._attempt_id:
            verdict = deaths.has_died(holder)
            if verdict is None:
                return False
            if not verdict:
                raise OutputError(
                    f"camera {camera_id!r} of output {shown(self._output)!r} is worked on by {holder}: "
                    "wait until it has ended, or choose another output"
                )
        ours = json.dumps({"attempt_id": self._attempt_id}).encode()
        if not swap(self._output, path, ours, seen):
            # Somebody was quicker: who that is will be seen at the next look.
            return False
        self._cameras.add(camera_id)
        return True

    def _release(self) -> None:
        side_by_side(self._output, self._give_back, self._cameras)
        _give_up(_attempt_path(self._output, self._attempt_id))

    def _give_back(self, camera_id: str) -> None:
        if lease_of(self._output, camera_id) == self._attempt_id:
            _give_up(_lease_path(self._output, camera_id))


def _give_up(path: Path) -> None:
    try:
        remove(path)
    except (OSError, OutputError):
        # Read-only by now. The holder's process ends, and with it the lease.
        return


class Deaths:
    """Finds out whether holders live, by watching their heartbeats."""

    def __init__(self, output: Path) -> None:
        """Begin to watch; nothing is known yet."""
        self._output = output
        self._seen: dict[str, tuple[float, float]] = {}

    def has_died(self, holder: Holder) -> bool | None:
        """Return whether a holder is dead; None if that is not known yet."""
        if holder.is_gone:
            return True
        try:
            now = pulse(_attempt_path(self._output, holder.attempt_id))
        except FileNotFoundError:
            return True
        first, since = self._seen.setdefault(holder.attempt_id, (now, time.monotonic()))
        if now != first:
            self._seen[holder.attempt_id] = now, time.monotonic()
            return False
        return True if time.monotonic() - since > DEAD_AFTER_S else None

    def is_at_work(self, holder: Holder) -> bool | None:
        """Return whether a holder lives, by one look if that is enough; None if it is not known yet."""
        if holder.machine == _machine():
            return not holder.is_gone
        try:
            since_s = quiet_s(_attempt_path(self._output, holder.attempt_id))
        except FileNotFoundError:
            return False
        if since_s is not None:
            return since_s < DEAD_AFTER_S
        is_dead = self.has_died(holder)
        return None if is_dead is None else not is_dead

    def may_live(self, attempt_id: str) -> bool:
        """Say whether a start of a run is not known to have ended."""
        holder = _holder(self._output, attempt_id)
        return holder is not None and self.has_died(holder) is not True


def lease_of(output: Path, camera_id: str) -> str | None:
    """Return the attempt that has a camera, dead or alive; None if none has."""
    seen = look_if_there(_lease_path(output, camera_id))
    return _attempt_in(seen) if seen else None


def _attempt_in(lease: Seen) -> str:
    return str(json.loads(lease.content)["attempt_id"])


def holder_of(output: Path, camera_id: str) -> Holder | None:
    """Return who has a camera; None if nobody has, or one of whom nothing is left."""
    attempt_id = lease_of(output, camera_id)
    return None if attempt_id is None else _holder(output, attempt_id)


def _holder(output: Path, attempt_id: str) -> Holder | None:
    try:
        return Holder(**json.loads(read(_attempt_path(output, attempt_id))))
    except FileNotFoundError:
        return None


def workers(output: Path) -> list[Holder]:
    """Return the starts of runs that are at work on an output.

    One of another machine, on a disk, is watched until its heart was felt, or it is dead.
    """
    paths = files(_ledger(output) / "attempts", "*.json")
    waiting = [holder for path in paths if (holder := _holder(output, path.stem))]
    deaths, found = Deaths(output), []
    while waiting:
        verdicts = [(holder, deaths.is_at_work(holder)) for holder in waiting]
        found += [holder for holder, verdict in verdicts if verdict]
        waiting = [holder for holder, verdict in verdicts if verdict is None]
        if waiting:
            time.sleep(_LOOK_EVERY_S)
    return sorted(found, key=lambda holder: holder.attempt_id)


def check_held(output: Path, camera_id: str, attempt_id: str) -> None:
    """Make sure that a camera is still ours, before something of it is committed.

    Raises:
        OutputError: Another run has taken it over.
    """
    if lease_of(output, camera_id) not in (None, attempt_id):
        raise OutputError(
            f"camera {camera_id!r} of output {shown(output)!r} was taken over by another run"
        )


def sweep_attempts(output: Path) -> None:
    """Remove what dead starts of runs left of themselves."""
    for path in files(_ledger(output) / "attempts"):
        try:
            holder = Holder(**json.loads(read(path)))
        except (FileNotFoundError, ValueError, TypeError):
            continue
        if holder.is_gone:
            remove(path)
