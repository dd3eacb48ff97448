"""All information about a failed rank: its exit, its error file, the end of its stderr."""

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

_NO_MESSAGE = "<NONE>"
"""torch's placeholder for an empty message."""
_TAIL_LIMIT = 16 << 10
_HINT = (
    "It left no error file. To see its traceback here, decorate the function that it runs with @record "
    "(from derail.errors import record)."
)


@dataclass
class ProcessFailure:
    """A failed rank, in torch's shape. The constructor never raises, whatever the error file contains.

    Attributes:
        local_rank: its local rank.
        pid: its process.
        exitcode: as in ``subprocess``: ``-n`` is signal n.
        error_file: path of its error file; ``<N/A>`` if there is none, or none that torch's own reader would survive.
        error_file_data: content of the file, as JSON; never shared between failures.
        message: torch's type: an object if the file has one (fit for torch's formatter), else a text.
        timestamp: whole seconds since the epoch: from the file, else the detection of the exit, else now. For display
            only: no decision depends on it.
        file_timestamp: timestamp in the file, if it is a time.
        error_file_path: path of the object under the name of the error file, good or bad; empty if there is none.
        error_file_problem: why it is unusable; empty if it is good or missing.
        error_file_remarks: oddities in it that were tolerated.
        recorded_by: the process that wrote the file, if that is not the rank and the rank was killed: then the file
            describes another failure.
        status: its exit status, if the supervisor has it.
        seen_at: wall-clock seconds at which its exit was detected.
        order: place of the evidence that it failed by itself; the lowest is the root cause.
        stderr_tail: the last lines of its stderr.
        stale: identity of the error file before the start; an unchanged file is not evidence.
        reason: why this is a failure, where the exit does not show it.
        stack: stack at which it hung, as far as it could be read.
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
        """Read the error file, once."""
        self.error_file_data = {"message": _NO_MESSAGE}
        path = _path(self.error_file)
        content = read(path, stale=self.stale) if path else None
        self.error_file = NOT_AVAILABLE
        self.message = ""
        if isinstance(content, ErrorRecord) and content.pid not in (None, self.pid) and self._signal():
            self.recorded_by, self.error_file_path = content.pid, path
            self.error_file_problem = f"recorded by process {content.pid}, not by the rank itself: {content.message}"
        elif isinstance(content, ErrorRecord):
            self._take(content, path)
        elif content is not None:
            self.error_file_path, self.error_file_problem = path, content.reason
        self.timestamp = _whole_seconds(self.file_timestamp, self.seen_at, SYSTEM_CLOCK.wall())
        if not self.message:
            self.message = self._describe(content if isinstance(content, Malformed) else None)
            if not self._signal():
                self.error_file_data["errorTraits"] = {
                    "category": "system_terminated_error",
                    "retryability": "False",
                }

    def signal_name(self) -> str:
        """Return the name of the signal that ended it, including real-time signals; ``<N/A>`` if none did."""
        number = self._signal()
        return signal_name(number) if number else NOT_AVAILABLE

    def timestamp_isoformat(self) -> str:
        """Return ``timestamp`` in local time, as ``2026-01-31_12:00:00``; the bare number if that is no time."""
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
        message = record.data.get("message")
        self.message = _fit_for_torch(message, record) if isinstance(message, dict) else record.message.strip()

    def _signal(self) -> int:
        if self.status is not None:
            return self.status.signal or 0
        return max(0, -self.exitcode)

    def _describe(self, bad: Malformed | None) -> str:
        """Describe the failure from all information other than a good error file."""
        parts = [self._end()]
        if self.reason and self.reason not in parts[0]:
            parts.append(self.reason)
        if self.recorded_by is not None:
            parts.append(f"Its error file {clean(self.error_file_path)} was {self.error_file_problem}")
        if bad is not None:
            parts.append(f"Its error file {clean(self.error_file_path)} is unusable: {bad.reason}")
            text = bad.traceback or bad.message
            if text:
                parts.append(f"Its readable part:\n  {_shown(text)}")
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
            return f"PID {self.pid} has ended, exit status unknown: {self.status}"
        if self.status is None and self.reason:  # abandoned: its exit code is not real
            return f"PID {self.pid}: {self.reason}"
        return f"PID {self.pid} exited with code {self.exitcode}"


def _path(error_file: object) -> str:
    """Return the path of an error file as text; empty for each form of "none"."""
    if not isinstance(error_file, (str, bytes, os.PathLike)):
        return ""
    path = os.fsdecode(error_file)
    return "" if path in {"", NOT_AVAILABLE, os.devnull} else path


def _whole_seconds(*candidates: float | None) -> int:
    """Return the first candidate that is a time."""
    return next((int(seconds) for seconds in candidates if seconds is not None and 0 <= seconds < 1 << 40), 0)


def _fit_for_torch(message: Json, record: ErrorRecord) -> Json:
    """Return the message object of a file such that torch's formatter, which checks no types, can show it."""
    message = dict(message)
    if not isinstance(message.get("message"), str):
        message["message"] = record.message
    extra = message.get("extraInfo", {})
    if not isinstance(extra, dict):
        del message["extraInfo"]
    elif "py_callstack" in extra and not isinstance(extra["py_callstack"], str):
        message["extraInfo"] = {**extra, "py_callstack": record.traceback or record.message}
    return message


def _shown(text: str) -> str:
    return indented(clean(ends(text, _TAIL_LIMIT)), "  ")
