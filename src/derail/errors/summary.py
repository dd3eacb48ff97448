"""The root cause among the failures of a job, and the text that describes them all."""

from __future__ import annotations

import copyreg
import os
from typing import TYPE_CHECKING, TypeAlias

from derail.errors import recorder
from derail.errors.document import MAX_SECONDS
from derail.errors.text import NOT_AVAILABLE, indented, printable

if TYPE_CHECKING:
    from derail.errors.failure import ProcessFailure

GlobalRank: TypeAlias = int

_ROOT_LIMIT = 64 << 10
_OTHER_LIMIT = 16 << 10
_LINE_LIMIT = 4 << 10
_SHOWN_IN_FULL = 16
_WIDTH = 60
_NEVER = float("inf")


class ChildFailedError(Exception):
    """The failure of one or more ranks of a job.

    Raise it from a function under ``@record`` to pass the root cause's error file on to the parent's.

    Args:
        name: of the job, for the title.
        failures: by global rank; derail's or torch's.

    Raises:
        AssertionError: if there are no failures.
    """

    def __init__(self, name: str, failures: dict[GlobalRank, ProcessFailure]) -> None:
        self.name = name
        self.failures = failures
        if not failures:
            raise AssertionError(f"{name}: a ChildFailedError needs at least one failure, got none")
        super().__init__(self.format_msg())

    def get_first_failure(self) -> tuple[GlobalRank, ProcessFailure]:
        """Return the root cause: first by the order of exits if all have one, else by time, else as given."""
        rank = _first(self.failures)
        return rank, self.failures[rank]

    def format_msg(self, boarder_delim: str = "=", section_delim: str = "-") -> str:
        """Describe all failures; the root cause last, where a terminal shows it."""
        root = _first(self.failures)
        others: list[str] = []
        for index, (rank, failure) in enumerate(self.failures.items()):
            if rank != root:
                in_full = len(others) < _SHOWN_IN_FULL
                others.append(
                    _paragraph(index, rank, failure, _OTHER_LIMIT) if in_full else _line(index, rank, failure)
                )
        border, section = boarder_delim * _WIDTH, section_delim * _WIDTH
        parts = [
            "",  # so that the frame starts on a line after "derail.errors.ChildFailedError: "
            border,
            f"{printable(str(self.name), _LINE_LIMIT)} FAILED",
            section,
            "Failures:",
            *(others or ["  <NO_OTHER_FAILURES>"]),
            section,
            "Root Cause (first observed failure):",
            _enriched(
                _paragraph(list(self.failures).index(root), root, self.failures[root], _ROOT_LIMIT), self.failures[root]
            ),
            border,
        ]
        return "\n".join(parts)

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle with the existing text, which states this host and time."""
        return copyreg.__newobj__, (type(self), *self.args), self.__dict__  # type: ignore[attr-defined]


def _first(failures: dict[GlobalRank, ProcessFailure]) -> GlobalRank:
    """Return the rank that failed first."""
    orders = {rank: getattr(failure, "order", None) for rank, failure in failures.items()}
    if all(isinstance(order, int) for order in orders.values()):
        return min(orders, key=lambda rank: orders[rank] or 0)
    return min(failures, key=lambda rank: _moment(failures[rank]))


def _moment(failure: ProcessFailure) -> float:
    """Return the time of a failure, or infinity if it has no valid time (torch takes any value from the file)."""
    for candidate in (getattr(failure, "seen_at", None), getattr(failure, "timestamp", None)):
        if isinstance(candidate, (int, float)) and 1 <= candidate < MAX_SECONDS:
            return float(candidate)
    return _NEVER


def _paragraph(index: int, rank: GlobalRank, failure: ProcessFailure, limit: int) -> str:
    """Return the full description of one failure."""
    margin = " " * 4
    text = _text(failure)
    facts = {
        "time": _time(failure),
        "host": os.uname().nodename,  # its full name needs a DNS query, which may take half a minute
        "rank": f"{rank} (local_rank: {failure.local_rank})",
        "exitcode": f"{failure.exitcode} (pid: {failure.pid}){_signal(failure)}",
        "error_file": _error_file(failure),
        "reason": str(getattr(failure, "reason", "")),
        "traceback": text,
        "stderr": _unless_in(text, getattr(failure, "stderr_tail", "")),
        "stack": str(getattr(failure, "stack", "")),
    }
    optional = {"reason", "stderr", "stack"}
    lines = [f"[{index}]:"]
    for name, value in facts.items():
        text_value = indented(
            printable(value, limit if name in {"traceback", "stderr", "stack"} else _LINE_LIMIT), margin
        )
        if text_value.strip() or name not in optional:
            lines.append(f"  {name:<10}:" + (f"\n{margin}{text_value}" if "\n" in text_value else f" {text_value}"))
    return "\n".join(lines)


def _enriched(paragraph: str, failure: ProcessFailure) -> str:
    """Return the paragraph of a root cause that a signal ended, as enriched by the error handler."""
    exit_code: object = failure.exitcode
    if not (isinstance(exit_code, int) and exit_code < 0):
        return paragraph
    try:
        enriched: object = recorder.get_error_handler().maybe_enrich_signal_failure_message(
            paragraph, failure.error_file
        )
    except Exception as error:  # a faulty custom handler: the information about the failure matters more
        return f"{paragraph}\n    (its error handler failed: {printable(repr(error), _LINE_LIMIT)})"
    if not isinstance(enriched, str) or enriched == paragraph:
        return paragraph
    return printable(enriched, _ROOT_LIMIT)


def _line(index: int, rank: GlobalRank, failure: ProcessFailure) -> str:
    """Return a one-line description of a failure among many."""
    return f"[{index}]: rank {rank}, exitcode {failure.exitcode} (pid: {failure.pid}){_signal(failure)}"


def _text(failure: ProcessFailure) -> str:
    """Return the traceback, else the message, of a failure with a message of any type."""
    message: object = failure.message
    if not isinstance(message, dict):
        return str(message) if message else NOT_AVAILABLE
    extra = message.get("extraInfo")
    stack = extra.get("py_callstack") if isinstance(extra, dict) else None
    if isinstance(stack, list):
        stack = "\n".join(str(line).rstrip("\n") for line in stack)
    if isinstance(stack, str) and stack.strip():
        return stack
    return str(message.get("message") or NOT_AVAILABLE)


def _time(failure: ProcessFailure) -> str:
    try:
        return str(failure.timestamp_isoformat())
    except (ValueError, OverflowError, OSError, TypeError):  # torch's failures accept any number as a time
        return f"{failure.timestamp} (no time)"


def _signal(failure: ProcessFailure) -> str:
    name = failure.signal_name()
    return "" if name == NOT_AVAILABLE else f" ({name})"


def _error_file(failure: ProcessFailure) -> str:
    path = getattr(failure, "error_file_path", "") or failure.error_file
    problem = getattr(failure, "error_file_problem", "")
    remarks = "; ".join(getattr(failure, "error_file_remarks", ()))
    return f"{path} ({problem or remarks})" if problem or remarks else path


def _unless_in(text: str, tail: str) -> str:
    """Return the tail of stderr, or nothing if the text ends the same way: a traceback is usually in both."""
    last = [line.strip() for line in tail.splitlines() if line.strip()][-3:]
    return "" if all(line in text for line in last) else tail
