"""Result of a run, built from the launcher's result, the faults' results and the ends of the log files."""

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

    from derail.diagnose.verdict import HangVerdict
    from derail.errors.failure import ProcessFailure
    from derail.faults.model.plan import Plan
    from derail.model.outcome import RunProcsResult
    from derail.scenario.model import ErrorFileState

TAIL_LINES = 100  # lines of a stream
TAIL_BYTES = 64 << 10  # bytes of a stream
_RESUMED = re.compile(r"\bresumed at step (\d+)\b")


def observe(
    result: RunProcsResult,
    faults: Sequence[FaultResult] = (),
    *,
    workdir: Path | None = None,
    journal: Path | None = None,
    hang: HangVerdict | None = None,
    restarts: int = 0,
) -> JobResult:
    """Return the result of a run by derail's own launcher.

    Args:
        result: the result of ``wait``.
        faults: the results of the faults, from the driver.
        workdir: the run's directory, where the journal is expected.
        journal: the journal, if it is elsewhere.
        hang: the verdict on a job that timed out.
        restarts: the number of restarts of all ranks.
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
        restarts=restarts if result.ran else None,
        resumed_at=resumed_at(tails),
        hang=hang,
    )


def not_run(plan: Plan) -> JobResult | None:
    """Return the result of a job that is not started because a fault is unavailable here; None if all are."""
    from derail.faults.registry import entry

    reasons = [(fault, entry(fault.name).requires.unavailable()) for fault in plan.faults]
    results = tuple(FaultResult(fault, None, Unavailable(reason)) for fault, reason in reasons if reason)
    return JobResult(faults=results) if results else None


def resumed_steps(tails: Mapping[tuple[int, Stream], Sequence[str]]) -> dict[int, int]:
    """Return the steps at which ranks report to resume, by rank: of each the last such line."""
    steps: dict[int, int] = {}
    for (rank, _), lines in sorted(tails.items()):
        matches = [match for line in lines if (match := _RESUMED.search(line))]
        if matches:
            steps[rank] = int(matches[-1][1])
    return steps


def resumed_at(tails: Mapping[tuple[int, Stream], Sequence[str]]) -> int | None:
    """Return the step at which the first rank that reports one has resumed; None without a report."""
    return next(iter(resumed_steps(tails).values()), None)


def tail(path: Path, *, lines: int = TAIL_LINES, limit: int = TAIL_BYTES) -> tuple[str, ...]:
    """Return the last lines of a file, with invalid bytes replaced; empty if it cannot be read, or is no file."""
    try:
        if not path.is_file():
            return ()
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - limit))
            data = file.read(limit)
    except OSError:
        return ()
    texts = data.decode("utf-8", errors="replace").split("\n")
    if size > limit:
        texts = texts[1:] or texts  # the first line may be incomplete
    if texts and not texts[-1]:
        texts.pop()
    return tuple(line.rstrip("\r") for line in texts[-lines:])


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
    """Return the message of a failure as text; it is an object if the error file contains one."""
    if isinstance(message, dict):
        return str(message.get("message", message))
    return str(message)
