"""What is known of a rank that failed: its exit, its error file, the end of its stderr."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from derail.errors.protocol import ErrorRecord, Json, Malformed, read
from derail.errors.text import NOT_AVAILABLE, clean, ends, indented
from derail.model.clock import SYSTEM_CLOCK
from derail.model.exit import signal_name

if TYPE_CHECKING:
    from derail.errors.protocol import Identity
    from derail.model.exit import ExitStatus

"""What torch writes where there is nothing to say."""

_NO_MESSAGE = "<NONE>"
_TAIL_LIMIT = 16 << 10
_HINT = (
    "It left no error file. To see its traceback here, decorate the function that it runs with @record "
    "(from derail.errors import record)."
)


@dataclass
class ProcessFailure:
    """A failed rank, in the shape that torch gives it. Making one never raises, whatever lies in the error file.

    Attributes:
        local_rank: its local rank.
        pid: its process.
        exitcode: as ``subprocess`` writes it: ``-n`` is signal n.
        error_file: path of its error file; ``<N/A>`` if there is none, or none that torch's own reader would survive.
        error_file_data: what the file says, as JSON; never shared between failures.
        message: torch's type: an object if the file has one (fit for torch's formatter), else a text.
        timestamp: whole seconds since the epoch: what the file claims, else when the exit was seen, else now. Shown
            only: it decides nothing.
        file_timestamp: what the file claims, if it is a time.
        error_file_path: path of whatever lies under the name of the error file, good or bad; empty if nothing does.
        error_file_problem: why it is of no use; empty if it is good or missing.
        error_file_remarks: what was odd about it and was tolerated.
        recorded_by: the process that wrote the file, if that is not the rank and the rank was killed: then the file
            describes another failure.
        status: how the process ended, where the supervisor knows.
        seen_at: wall-clock seconds at which its exit was seen.
        order: place of the evidence that it failed by itself; the lowest is the root cause.
        stderr_tail: the last lines of its stderr.
        stale: what lay under the name of the error file before the start; not taken as evidence if unchanged.
        reason: why this is a failure, where the exit does not tell.
        stack: where it hung, as far as that could be learnt.
    """

    local_rank: int
    pid: int
    exitcode: int
    error_file: str
    error_file_data: Json = field(init=False)
    message: str | Json = field(init=False)
    timestamp: int = field(init=False)
    file_timestamp: float | None = field(init=False, default=None)
    error_file_path: str = field(init=False, default="")
    error_file_problem: str = field(init=False, default="")
    error_file_remarks: tuple[str, ...] = field(init=False, default=())
    recorded_by: int | None = field(init=False, default=None)
    status: ExitStatus | None = field(default=None, kw_only=True)
    seen_at: float | None = field(default=None, kw_only=True)
    order: int | None = field(default=None, kw_only=True)
    stderr_tail: str = field(default="", kw_only=True, repr=False)
    stale: Identity | None = field(default=None, kw_only=True, repr=False)
    reason: str = field(default="", kw_only=True)
    stack: str = field(default="", kw_only=True, repr=False)

    def __post_init__(self) -> None:
        """Look at the error file, once."""
        self.error_file_data = {"message": _NO_MESSAGE}
        path = _path(self.error_file)
        found = read(path, stale=self.stale) if path else None
        self.error_file = NOT_AVAILABLE
        self.message = ""
        if isinstance(found, ErrorRecord) and found.pid not in (None, self.pid) and self._signal():
            self.recorded_by, self.error_file_path = found.pid, path
            self.error_file_problem = f"recorded by process {found.pid}, not by the rank itself: {found.message}"
        elif isinstance(found, ErrorRecord):
            self._take(found, path)
        elif found is not None:
            self.error_file_path, self.error_file_problem = path, found.reason
        self.timestamp = _whole_seconds(self.file_timestamp, self.seen_at, SYSTEM_CLOCK.wall())
        if not self.message:
            self.message = self._describe(found if isinstance(found, Malformed) else None)
            if not self._signal():
                self.error_file_data["errorTraits"] = {
                    "category": "system_terminated_error",
                    "retryability": "False",
                }

    def signal_name(self) -> str:
        """Name of the signal that ended it, real-time signals too; ``<N/A>`` if none did."""
        number = self._signal()
        return signal_name(number) if number else NOT_AVAILABLE

    def timestamp_isoformat(self) -> str:
        """``timestamp`` in local time, as ``2026-01-31_12:00:00``; the bare number if that is no time."""
        try:
            return datetime.fromtimestamp(self.timestamp).isoformat(sep="_")  # noqa: DTZ006 (torch's form: local)
        except (ValueError, OverflowError, OSError):
            return str(self.timestamp)

    def _take(self, record: ErrorRecord, path: str) -> None:
        self.error_file_path = path
        if record.torch_can_read:
            self.error_file = path
        self.error_file_data = record.data
        self.error_file_remarks = record.remarks
        if record.pid not in (None, self.pid):
            self.error_file_remarks += (f"recorded by process {record.pid}, not by the rank itself",)
        self.file_timestamp = record.timestamp
        told = record.data.get("message")
        self.message = _fit_for_torch(told, record) if isinstance(told, dict) else record.message.strip()

    def _signal(self) -> int:
        if self.status is not None:
            return self.status.signal or 0
        return max(0, -self.exitcode)

    def _describe(self, bad: Malformed | None) -> str:
        """Say what happened from all that is known besides a good error file."""
        parts = [self._end()]
        if self.reason and self.reason not in parts[0]:
            parts.append(self.reason)
        if self.recorded_by is not None:
            parts.append(f"Its error file {clean(self.error_file_path)} was {self.error_file_problem}")
        if bad is not None:
            parts.append(f"Its error file {clean(self.error_file_path)} is of no use: {bad.reason}")
            told = bad.traceback or bad.message
            if told:
                parts.append(f"What it says, as far as can be made out:\n  {_shown(told)}")
            elif bad.excerpt.strip(b"\0 \t\r\n"):
                parts.append(f"It begins with {bad.excerpt[:60]!r}")
        elif not self._signal() and self.exitcode and not self.reason and not self.error_file_path:
            parts.append(_HINT)
        if self.stderr_tail.strip():
            parts.append(f"Last lines of its stderr:\n  {_shown(self.stderr_tail)}")
        return "\n".join(parts)

    def _end(self) -> str:
        number = self._signal()
        if number:
            dumped = " (core dumped)" if self.status is not None and self.status.core_dumped else ""
            return f"Signal {number} ({self.signal_name()}) received by PID {self.pid}{dumped}"
        if self.status is not None and self.status.lost:
            return f"PID {self.pid} has ended, but how is not known: {self.status}"
        if self.status is None and self.reason:  # abandoned: its exit code is made up
            return f"PID {self.pid}: {self.reason}"
        return f"PID {self.pid} exited with code {self.exitcode}"


def _path(error_file: object) -> str:
    """The path of an error file as text; empty for what stands for "none"."""
    if not isinstance(error_file, (str, bytes, os.PathLike)):
        return ""
    path = os.fsdecode(error_file)
    return "" if path in {"", NOT_AVAILABLE, os.devnull} else path


def _whole_seconds(*candidates: float | None) -> int:
    """The first of some times that is one."""
    return next((int(seconds) for seconds in candidates if seconds is not None and 0 <= seconds < 1 << 40), 0)


def _fit_for_torch(told: Json, record: ErrorRecord) -> Json:
    """The message object of a file such that torch's formatter, which looks into it unguarded, can show it."""
    told = dict(told)
    if not isinstance(told.get("message"), str):
        told["message"] = record.message
    extra = told.get("extraInfo", {})
    if not isinstance(extra, dict):
        del told["extraInfo"]
    elif "py_callstack" in extra and not isinstance(extra["py_callstack"], str):
        told["extraInfo"] = {**extra, "py_callstack": record.traceback or record.message}
    return told


def _shown(text: str) -> str:
    return indented(clean(ends(text, _TAIL_LIMIT)), "  ")
