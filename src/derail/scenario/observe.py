"""Gathers what a run left: the launcher's result, the faults' results, the ends of the log files."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from derail.faults.engine.journal import JOURNAL
from derail.faults.model.results import FaultResult, Unavailable
from derail.model.events import Stream
from derail.model.outcome import fields_of
from derail.scenario.model import FailureSeen, JobResult

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from derail.errors.failure import ProcessFailure
    from derail.faults.model.plan import Plan
    from derail.model.outcome import RunProcsResult
    from derail.scenario.model import ErrorFileState

TAIL_LINES = 100
TAIL_BYTES = 64 << 10
_RESUMED = re.compile(r"\bresumed at step (\d+)\b")


def observe(
    result: RunProcsResult,
    faults: Sequence[FaultResult] = (),
    *,
    workdir: Path | None = None,
    journal: Path | None = None,
) -> JobResult:
    """What a run of ours left.

    Args:
        result: what ``wait`` returned.
        faults: what the driver says.
        workdir: the run's directory; the journal is looked for there.
        journal: the journal, if it is elsewhere.
    """
    logs = dict(_logs(result))
    tails = {key: tail(path) for key, path in logs.items()}
    if journal is None and workdir is not None:
        journal = workdir / JOURNAL
    return JobResult(
        **fields_of(result),
        failures={rank: _failure(rank, failure) for rank, failure in result.failures.items()},
        log_tail=tails,
        logs=logs,
        faults=tuple(faults),
        return_values=dict(result.return_values),
        workdir=workdir,
        journal=journal if journal is not None and journal.is_file() else None,
        exit_code=result.exit_code if result.ran else None,
        restarts=0 if result.ran else None,
        resumed_at=resumed_at(tails),
    )


def not_run(plan: Plan) -> JobResult | None:
    """What is observed of a job that need not be started, because a fault cannot be done here; None if all can."""
    from derail.faults.registry import entry

    told = [(fault, entry(fault.name).requires.unavailable()) for fault in plan.faults]
    results = tuple(FaultResult(fault, None, Unavailable(reason)) for fault, reason in told if reason)
    return JobResult(faults=results) if results else None


def resumed_at(tails: Mapping[tuple[int, Stream], Sequence[str]]) -> int | None:
    """The step at which ranks say that they went on: the last such line of the first rank that has one."""
    for _, lines in sorted(tails.items()):
        found = [match for line in lines if (match := _RESUMED.search(line))]
        if found:
            return int(found[-1][1])
    return None


def tail(path: Path, *, lines: int = TAIL_LINES, limit: int = TAIL_BYTES) -> tuple[str, ...]:
    """The last lines of a file, bad bytes replaced, whatever the file is; empty if there is nothing to read."""
    try:
        if not path.is_file():
            return ()
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - limit))
            data = file.read(limit)
    except OSError:
        return ()
    found = data.decode("utf-8", errors="replace").split("\n")
    if size > limit:
        found = found[1:] or found  # the first may have lost its beginning
    if found and not found[-1]:
        found.pop()
    return tuple(line.rstrip("\r") for line in found[-lines:])


def _logs(result: RunProcsResult) -> Iterator[tuple[tuple[int, Stream], Path]]:
    paths: Mapping[Stream, dict[int, str]] = {"stdout": result.stdouts, "stderr": result.stderrs}
    for stream in get_args(Stream):
        for rank, path in sorted(paths[stream].items()):
            if path:
                yield (rank, stream), Path(path)


def _failure(rank: int, failure: ProcessFailure) -> FailureSeen:
    state: ErrorFileState = (
        "malformed" if failure.error_file_problem else "good" if failure.error_file_path else "missing"
    )
    return FailureSeen(rank, _text(failure.message), state, failure.error_file_problem, failure.status)


def _text(message: object) -> str:
    """The message of a failure, which is an object if the error file had one."""
    if isinstance(message, dict):
        return str(message.get("message", message))
    return str(message)
