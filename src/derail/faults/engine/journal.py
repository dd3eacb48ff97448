"""Journal of a run: one JSON object per line, appended concurrently by the driver and the ranks.

Only this user reads and writes it: its content is trusted, and ``derail replay`` may run it again. Each record is one
``write`` to an append-only descriptor (``O_APPEND``), so that lines of different processes never mix. ``at`` is the
monotonic clock, which all processes of a machine share.

The reasons are in docs/adr/shared-journal.md.
"""

from __future__ import annotations

import json
import os
import stat
from typing import TYPE_CHECKING, TypeAlias

from derail.errors.text import ends, short
from derail.faults.model.targets import AGENT_RANK
from derail.model.clock import SYSTEM_CLOCK
from derail.model.events import (
    DeadlinePassed,
    ErrorRecorded,
    Exited,
    Finished,
    LineSeen,
    PhaseChanged,
    Restarted,
    SignalSent,
    Started,
    StopRequested,
    ValueReceived,
)
from derail.model.input_error import InputError
from derail.platform.private_files import open_private

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from derail.faults.model.plan import Plan
    from derail.faults.model.triggers import Data
    from derail.model.clock import Clock
    from derail.model.events import Event

JOURNAL = "journal.jsonl"
"""File name of the journal in the directory of a run."""

VERSION = 1
READ_LIMIT = 64 << 20
"""Maximum size in bytes of a journal to replay: some 300,000 records."""
Record: TypeAlias = "Mapping[str, object]"


class Journal:
    """Writer of records to one file, which the first record creates; it is never kept open, so nothing to close."""

    def __init__(self, path: Path, *, clock: Clock = SYSTEM_CLOCK) -> None:
        self.path = path.absolute()
        self._clock = clock

    def write(self, event: str, /, **fields: object) -> None:
        """Append one record.

        Raises:
            OSError: if the file cannot be created or written, or belongs to another user.
        """
        if fields.get("rank") == AGENT_RANK:
            fields["rank"] = None
        record = {"event": event, "at": round(self._clock.now(), 6), "by": os.getpid(), **fields}
        line = (json.dumps(record, default=str) + "\n").encode()
        fd = open_private(self.path, os.O_WRONLY | os.O_APPEND)
        try:
            written = os.write(fd, line)
        finally:
            os.close(fd)
        if written != len(line):
            raise OSError(f"{self.path}: {written} of {len(line)} bytes written. Is the disk full?")

    def write_plan(self, plan: Plan, ranks: tuple[int, ...], run: Mapping[str, Data] | None = None) -> None:
        """Append the record that makes the run repeatable: plan, hash, seed, and the ranks' programs.

        Raises:
            OSError: if the file cannot be created or written.
        """
        self.write(
            "plan", version=VERSION, wall=round(self._clock.wall(), 6), hash=plan.hash, seed=plan.seed,
            ranks=list(ranks), plan=plan.data(), **({} if run is None else {"run": run}),
        )  # fmt: skip

    def write_event(self, event: Event) -> None:  # noqa: C901, PLR0912 - a case for each event
        """Append a launcher event; lines are left out, as the driver writes those that fire a trigger.

        Raises:
            OSError: if the file cannot be created or written.
        """
        match event:
            case Started(rank=rank) if rank == AGENT_RANK:
                self.write("agent_started", agent="agent", pid=event.pid, seen_at=event.at)
            case Exited(rank=rank) if rank == AGENT_RANK:
                self.write("agent_exited", agent="agent", pid=event.pid, status=str(event.status), seen_at=event.at)
            case Started():
                self.write("started", rank=event.rank, pid=event.pid, seen_at=event.at)
            case ValueReceived():
                self.write("value", rank=event.rank, seen_at=event.at)
            case ErrorRecorded():
                self.write("recorded", rank=event.rank, message=ends(event.message, 200), seen_at=event.at)
            case Exited():
                self.write("exited", rank=event.rank, pid=event.pid, status=str(event.status), seen_at=event.at)
            case PhaseChanged():
                self.write("phase", phase=event.phase, rank=event.rank)
            case SignalSent():
                self.write("signal_sent", rank=event.rank, signal=event.signal, seen_at=event.at)
            case StopRequested():
                self.write("stop_requested", reason=event.reason, signal=event.signal, grace=event.grace)
            case DeadlinePassed():
                self.write("deadline", name=event.name)
            case Restarted():
                self.write("restarted", number=event.number, restarts=event.restarts)
            case Finished():
                fates = {str(rank): str(fate) for rank, fate in event.outcome.ranks.items()}
                cut = {"timed_out": True} if event.outcome.timed_out else {}
                self.write("finished", root_cause=event.outcome.root_cause, ranks=fates, **cut)
            case LineSeen():
                pass


class Reader:
    """Reader of the records appended since the last read. An incomplete last line is left for the next read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def skip(self) -> None:
        """Skip the present content, which belongs to an earlier run."""
        if self._path.exists():
            self._offset = self._path.stat().st_size

    def read(self) -> list[Record]:
        """Return the new records; none if the file is not readable now."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                data = file.read()
        except OSError:
            return []
        whole = data[: data.rfind(b"\n") + 1]
        self._offset += len(whole)
        return _records(whole)


def read(path: Path) -> tuple[Record, ...]:
    """Return all records of a journal, without the lines that are not records (the last one may be torn).

    Raises:
        OSError: if the file cannot be read.
        InputError: if it is not a regular file.
    """
    return tuple(_records(_read_file(path)))


def read_strictly(path: Path) -> tuple[tuple[int, Record], ...]:
    """Return all records of a journal with their line numbers; only the last line may be torn, by a writer that died.

    Raises:
        OSError: if the file cannot be read.
        InputError: at the first line that is not a record.
    """
    lines = _read_file(path, READ_LIMIT).split(b"\n")
    found = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line, object_pairs_hook=_once)
        except InputError as error:
            raise InputError(f"{path}:{number}: {error}") from None
        except (ValueError, RecursionError) as error:
            if number == len(lines):
                break
            at = f", column {error.colno}" if isinstance(error, json.JSONDecodeError) else ""
            what = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
            raise InputError(f"{path}:{number}{at}: not valid JSON: {what}") from None
        problem = _problem(record)
        if problem:
            raise InputError(f"{path}:{number}: {problem}")
        found.append((number, record))
    return tuple(found)


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Build an object from unique keys: derail writes no journal with a duplicate key.

    Raises:
        InputError: if a key occurs twice.
    """
    found: dict[str, object] = {}
    for key, value in pairs:
        if key in found:
            raise InputError(f"duplicate key {short(key)}")
        found[key] = value
    return found


def _problem(record: object) -> str:
    """Return why a value is not a record; empty if it is one."""
    if not isinstance(record, dict):
        return "expected a record, which is a JSON object"
    return "" if isinstance(record.get("event"), str) else "expected a record with a string in 'event'"


def _read_file(path: Path, limit: int | None = None) -> bytes:
    """Return the bytes of a regular file; any other file may be endless.

    Raises:
        OSError: if it cannot be read.
        InputError: if it is not a regular file, or too long.
    """
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise InputError(f"{path}: not a regular file")
    with open(fd, "rb") as file:
        data = file.read(-1 if limit is None else limit + 1)
    if limit is not None and len(data) > limit:
        raise InputError(f"{path}: expected at most {limit} bytes, got {os.stat(path).st_size}")
    return data


def unfinished(records: tuple[Record, ...]) -> tuple[Record, ...]:
    """Return the ``start`` records without an ``end``: faults with an unknown result."""
    ended = {(record.get("fault"), record.get("rank")) for record in records if record["event"] == "end"}
    return tuple(
        record
        for record in records
        if record["event"] == "start" and (record.get("fault"), record.get("rank")) not in ended
    )


def _records(data: bytes) -> list[Record]:
    found: list[Record] = []
    for line in data.split(b"\n"):
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(record, dict) and isinstance(record.get("event"), str):
            found.append(record)
    return found
