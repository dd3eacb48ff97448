"""Assertions about a finished job: each compares expected and actual values, all at once.

They take the result of ``job.wait()``, from the ``derail`` fixture or from ``derail.start_processes``, and do not need
pytest. A failing assertion shows every difference, followed by the whole picture: exits, faults, last lines.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from derail.model.exit import signal_name, signal_number
from derail.model.outcome import RunProcsResult
from derail.scenario.expect import first_unmatched
from derail.scenario.observe import observe, resumed_steps
from pytest_derail.jobs.expectations import account_of
from pytest_derail.reporting.sections import picture

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from derail.faults.model.plan import Fault
    from derail.model.events import Stream
    from derail.model.outcome import RankOutcome
    from derail.scenario.model import ErrorFileState, JobResult

UNSEEN = "never seen"
NOBODY = "none"
"""Root cause of a job in which no rank failed."""


def assert_failed(
    result: JobResult | RunProcsResult,
    rank: int,
    *,
    signal: str | int | None = None,
    exit_code: int | None = None,
    exception: str | type[BaseException] | None = None,
    message: str | None = None,
    root_cause: int | Collection[int] | None = None,
) -> None:
    """Check that rank ``rank`` failed by itself, in this way, and is the root cause. Other ranks are not checked.

    Args:
        result: the result of the job.
        rank: number of the rank.
        signal: the signal that ended it, by name or number.
        exit_code: the code that it exited with.
        exception: the exception that it raised, by class or name, according to its error file.
        message: a regular expression that matches in the launcher's message about the failure.
        root_cause: the root cause if it is another rank, or several ranks if it may be any of them.
    """
    __tracebackhide__ = True
    if signal is not None and exit_code is not None:
        raise TypeError(f"a rank that ended by {signal} has no exit code; give signal= or exit_code=, not both")
    seen = _job_result(result)
    fate, failure = _fate(seen, rank), seen.failures.get(rank)
    blamed = {rank} if root_cause is None else {root_cause} if isinstance(root_cause, int) else set(root_cause)
    text = "" if failure is None else failure.message
    actual: dict[str, object] = {"failed": fate is not None and fate.failed, "root cause": _blamed(seen)}
    expected: dict[str, object] = {
        "failed": True,
        "root cause": _blamed(seen) if _blamed(seen) in blamed else _one_of(blamed),
    }
    if signal is not None:
        expected["ended with"], actual["ended with"] = signal_name(signal_number(signal)), _end(fate)
    if exit_code is not None:
        expected["ended with"], actual["ended with"] = f"exit {exit_code}", _end(fate)
    if exception is not None:
        name = exception if isinstance(exception, str) else exception.__name__
        expected["raised"], actual["raised"] = name, _raised(text)
    if message is not None:
        expected["message"], actual["message"] = _like(message, text), text
    account_of(result).looked_at(rank)
    _compare(actual, expected, seen, f"rank {rank}")


def assert_succeeded(result: JobResult | RunProcsResult) -> None:
    """Check that every rank succeeded: it ended by itself with code 0 and, if it is a function, returned."""
    __tracebackhide__ = True
    seen = _job_result(result)
    fates = seen.ranks
    actual = {f"rank {rank}": "succeeded" if fate.succeeded else str(fate) for rank, fate in fates.items()}
    _compare(
        {**actual, "ranks": len(fates), "timed out": seen.timed_out},
        {**dict.fromkeys(actual, "succeeded"), "ranks": len(fates) or "at least one", "timed out": False},
        seen,
        "the job",
    )


def assert_only_failed(result: JobResult | RunProcsResult, ranks: int | Collection[int]) -> None:
    """Check that exactly these ranks failed by themselves (or had to be abandoned)."""
    __tracebackhide__ = True
    seen = _job_result(result)
    wanted = {ranks} if isinstance(ranks, int) else set(ranks)
    account_of(result).looked_at(*wanted)
    _compare({"failed": sorted(seen.failed)}, {"failed": sorted(wanted)}, seen, "the job")


def assert_failures(result: JobResult | RunProcsResult, ranks: int | Collection[int]) -> None:
    """Check that exactly these ranks failed, according to the launcher.

    derail's own launcher reports those that ``assert_only_failed`` checks; an external agent may report others or none.
    """
    __tracebackhide__ = True
    seen = _job_result(result)
    wanted = {ranks} if isinstance(ranks, int) else set(ranks)
    account_of(result).looked_at(*wanted)
    _compare({"failures": sorted(seen.failures)}, {"failures": sorted(wanted)}, seen, "the job")


def assert_stopped(result: JobResult | RunProcsResult, ranks: int | Collection[int]) -> None:
    """Check that exactly these ranks were stopped because of others, or because a stop was requested."""
    __tracebackhide__ = True
    seen = _job_result(result)
    wanted = {ranks} if isinstance(ranks, int) else set(ranks)
    _compare({"stopped": sorted(seen.stopped)}, {"stopped": sorted(wanted)}, seen, "the job")


def assert_root_cause(result: JobResult | RunProcsResult, rank: int | None) -> None:
    """Check that rank ``rank`` failed first; with None, that no rank failed."""
    __tracebackhide__ = True
    seen = _job_result(result)
    if rank is not None:
        account_of(result).looked_at(rank)
    _compare({"root cause": _blamed(seen)}, {"root cause": NOBODY if rank is None else rank}, seen, "the job")


def assert_message(result: JobResult | RunProcsResult, like: str) -> None:
    """Check that the regular expression ``like`` matches in the launcher's message about the root cause."""
    __tracebackhide__ = True
    seen = _job_result(result)
    if seen.root_cause is not None:
        account_of(result).looked_at(seen.root_cause)
    _compare({"message": seen.message}, {"message": _like(like, seen.message)}, seen, "the job")


def assert_exits(result: JobResult | RunProcsResult, exits: Mapping[int, int | str]) -> None:
    """Check the exit statuses of ranks. Other ranks are not checked, nor whether the ranks ended by themselves.

    Args:
        result: the result of the job.
        exits: by rank, an exit code or the name of a signal: ``{1: 7, 2: "SIGKILL"}``.
    """
    __tracebackhide__ = True
    seen = _job_result(result)
    account_of(result).looked_at(*(rank for rank, wanted in exits.items() if wanted != 0))
    expected = {
        rank: f"exit {wanted}" if isinstance(wanted, int) else signal_name(signal_number(wanted))
        for rank, wanted in exits.items()
    }
    actual = {rank: _end(_fate(seen, rank)) for rank in exits}
    _compare(
        {f"rank {rank}": end for rank, end in actual.items()},
        {f"rank {rank}": end for rank, end in expected.items()},
        seen,
        "the job",
    )


def assert_log_tail(
    result: JobResult | RunProcsResult,
    rank: int,
    stream: Stream = "stdout",
    *,
    like: str | Sequence[str],
    ordered: bool = True,
) -> None:
    """Check that the last lines of a stream match these patterns (``*`` and ``?``, each for a whole line).

    Args:
        result: the result of the job.
        rank: number of the rank.
        stream: "stdout" or "stderr".
        like: the patterns; other lines may be between the matches.
        ordered: whether the lines must have the order of the patterns.
    """
    __tracebackhide__ = True
    seen = _job_result(result)
    patterns = [like] if isinstance(like, str) else list(like)
    lines = seen.log_tail.get((rank, stream))
    if lines is None:
        _compare({f"{stream} of rank {rank}": None}, {f"{stream} of rank {rank}": "a log"}, seen, "the job")
        return
    if ordered:
        missing = first_unmatched(patterns, lines)
        absent = [] if missing is None else [missing]
    else:
        absent = [pattern for pattern in patterns if first_unmatched([pattern], lines) is not None]
    where = f"{stream} of rank {rank}"
    _compare(
        {where: "no line like " + ", ".join(map(repr, absent)) + (" in this order" if ordered else "")}
        if absent
        else {where: patterns},
        {where: patterns},
        seen,
        "the log",
        lines={where: lines},
        of_all=False,
    )


def assert_teardown_seconds(result: JobResult | RunProcsResult, *, at_most: float) -> None:
    """Check that the teardown took at most this time, and that there was one.

    It lasts from the decision to stop until the last rank has ended.
    """
    __tracebackhide__ = True
    seen = _job_result(result)
    took = seen.teardown_seconds
    shown = "nothing to stop" if took is None else f"{took:.3f} s"
    in_time = took is not None and took <= at_most
    _compare({"teardown": shown}, {"teardown": shown if in_time else f"at most {at_most:g} s"}, seen, "the job")


def assert_signals_sent(
    result: JobResult | RunProcsResult, rank: int, signals: str | int | Sequence[str | int], *, ordered: bool = True
) -> None:
    """Check that the launcher sent exactly these signals to a rank: ``["SIGTERM", "SIGKILL"]``; none: ``[]``.

    For an external agent, the signals that arrived are known: those observed in the rank, and the one that ended it.

    Args:
        result: the result of the job.
        rank: number of the rank.
        signals: the signals, by name or number, in this order.
        ordered: whether the order matters.
    """
    __tracebackhide__ = True
    seen = _job_result(result)
    fate = _fate(seen, rank)
    wanted = [signals] if isinstance(signals, str | int) else list(signals)
    sent = [] if fate is None else list(fate.signals_sent)
    ended = None if fate is None or fate.status is None else fate.status.signal
    if seen.external and ended is not None and ended not in sent:
        sent.append(ended)
    expected = [signal_name(signal_number(signal)) for signal in wanted]
    actual = [signal_name(number) for number in sent]
    key = f"signals of rank {rank}"
    if ordered:
        _compare({key: actual}, {key: expected}, seen, "the job")
    else:
        _compare({key: sorted(actual)}, {key: sorted(expected)}, seen, "the job")


def assert_restarts(result: JobResult | RunProcsResult, times: int) -> None:
    """Check the number of restarts of all ranks. derail's own launcher never restarts; agents may."""
    __tracebackhide__ = True
    seen = _job_result(result)
    restarts = 0 if seen.restarts is None and not seen.external else seen.restarts
    _compare({"restarts": "unknown" if restarts is None else restarts}, {"restarts": times}, seen, "the job")


def assert_resumed_at(result: JobResult | RunProcsResult, step: int | None) -> None:
    """Check at which step the last attempt resumed, by its ranks' report (``resumed at step 5``); None: no report.

    All ranks that report a step must report this one.
    """
    __tracebackhide__ = True
    seen = _job_result(result)
    steps = resumed_steps(seen.log_tail)
    got = seen.resumed_at if len({*steps.values()}) < 2 else steps
    _compare({"resumed at": got}, {"resumed at": step}, seen, "the job")


def assert_exit_code(result: JobResult | RunProcsResult, code: int) -> None:
    """Check the exit code of the agent, or of a launcher after this job: 0 only if everything succeeded."""
    __tracebackhide__ = True
    seen = _job_result(result)
    account = account_of(result)
    account.exit_code_seen |= code != 0
    shown = "none" if seen.exit_code is None else seen.exit_code
    _compare({"exit code": shown}, {"exit code": code}, seen, "the job")


def assert_error_file(
    result: JobResult | RunProcsResult,
    rank: int,
    state: ErrorFileState = "good",
    *,
    message: str | None = None,
    problem: str | None = None,
) -> None:
    """Check the state of a failed rank's error file, as reported by the launcher.

    Args:
        result: the result of the job.
        rank: number of the rank.
        state: "good", "malformed" or "missing".
        message: a regular expression that matches in the launcher's message about the failure.
        problem: a regular expression that matches in the problem of the file.
    """
    __tracebackhide__ = True
    seen = _job_result(result)
    failure = seen.failures.get(rank)
    actual: dict[str, object] = {"error file": "no failure" if failure is None else failure.error_file}
    expected: dict[str, object] = {"error file": state}
    if message is not None:
        actual["message"] = text = "" if failure is None else failure.message
        expected["message"] = _like(message, text)
    if problem is not None:
        actual["problem"] = text = "" if failure is None else failure.problem
        expected["problem"] = _like(problem, text)
    account_of(result).looked_at(rank)
    _compare(actual, expected, seen, f"rank {rank}")


def assert_timed_out(result: JobResult | RunProcsResult) -> None:
    """Check that the job was not over in time and was ended."""
    __tracebackhide__ = True
    seen = _job_result(result)
    account_of(result).timeout_seen = True
    _compare({"timed out": seen.timed_out}, {"timed out": True}, seen, "the job", of_all=False)


def assert_no_leftovers(result: JobResult | RunProcsResult) -> None:
    """Check that no process of the job outlived its rank, not even until derail ended it."""
    __tracebackhide__ = True
    seen = _job_result(result)
    _compare({"left": [str(left) for left in seen.leftovers]}, {"left": []}, seen, "the job")


def assert_leftovers(result: JobResult | RunProcsResult, like: str | Sequence[str]) -> None:
    """Check that leftovers match these patterns (``*`` and ``?``, for a whole command line), one each."""
    __tracebackhide__ = True
    from fnmatch import fnmatchcase

    seen = _job_result(result)
    patterns = [like] if isinstance(like, str) else list(like)
    commands = [left.what for left in seen.leftovers]
    rest = list(commands)
    for pattern in patterns:
        match = next((command for command in rest if fnmatchcase(command, pattern)), None)
        if match is not None:
            rest.remove(match)
    account_of(result).leftovers_seen = True
    fits = not rest and len(commands) == len(patterns)
    _compare({"left": commands}, {"left": commands if fits else patterns}, seen, "the job", of_all=False)


def assert_injected(result: JobResult | RunProcsResult, fault: Fault | str | None = None) -> None:
    """Check that a fault (all faults, if none is given) verifiably happened, on each rank that it was aimed at.

    Args:
        result: the result of the job.
        fault: the planned fault, its id, or its name in the catalogue.
    """
    __tracebackhide__ = True
    seen = _job_result(result)
    chosen = [each for each in seen.faults if _is(each.fault, fault)]
    which = "faults" if fault is None else f"fault {fault}"
    actual = {f"{each.fault.id} on rank {each.rank}": each.status for each in chosen} or {which: "not planned"}
    _compare(actual, dict.fromkeys(actual, "injected"), seen, "the faults", of_all=False)


def assert_not_injected(result: JobResult | RunProcsResult, fault: Fault | str | None = None) -> None:
    """Check that a fault (all faults, if none is given) did not happen, and record that the test expects this."""
    __tracebackhide__ = True
    seen = _job_result(result)
    chosen = [each for each in seen.faults if _is(each.fault, fault)]
    account_of(result).faults_seen.update((each.fault.id, each.rank) for each in chosen)
    which = "faults" if fault is None else f"fault {fault}"
    names = [f"{each.fault.id} on rank {each.rank}" for each in chosen]
    happened = ["injected" if each.injected else "not injected" for each in chosen]
    actual = dict(zip(names, happened, strict=True)) or {which: "not planned"}
    _compare(actual, dict.fromkeys(actual, "not injected"), seen, "the faults", of_all=False)


def _compare(
    actual: Mapping[str, object],
    expected: Mapping[str, object],
    seen: JobResult,
    what: str,
    lines: Mapping[str, Sequence[str]] | None = None,
    *,
    of_all: bool = True,
) -> None:
    """Compare, and fail with a message. pytest shows both sides; the message has the rest, also without pytest.

    Args:
        actual: the actual values.
        expected: the expected values.
        seen: the result of the job.
        what: the subject of the comparison.
        lines: lines to show.
        of_all: whether the comparison concerns the whole job: then it fails if a rank never appeared.
    """
    __tracebackhide__ = True
    lost = _never_seen(seen) if of_all else ""
    if lost:
        actual, expected = {UNSEEN: lost, **actual}, {UNSEEN: "none", **expected}
    differences = [
        lost if key == UNSEEN else f"{key}: expected {_shown(expected[key])}, got {_shown(value)}"
        for key, value in actual.items()
        if value != expected[key]
    ]
    more = [f"{where}:\n" + "\n".join(f"  {line}" for line in tail) for where, tail in (lines or {}).items()]
    undone = [result for result in seen.faults if not result.injected] if what != "the faults" else []
    head = f"{what}, whose fault did not happen: {undone[0]}" if undone else f"{what}:"
    text = "\n".join([head, *(f"  {line}" for line in differences), *more, picture(seen)])
    assert dict(actual) == dict(expected), text


def _never_seen(seen: JobResult) -> str:
    """Return a description of the ranks that never appeared under an external agent; empty if all appeared."""
    if seen.external and not seen.ran:
        return seen.error or "no rank was started"
    return seen.unseen


def _job_result(result: JobResult | RunProcsResult) -> JobResult:
    return observe(result) if isinstance(result, RunProcsResult) else result


def _fate(seen: JobResult, rank: int) -> RankOutcome | None:
    """Return the outcome of a rank.

    Raises:
        ValueError: if the job has no such rank, which is an error of the test.
    """
    if not seen.ran:
        return None
    if rank not in seen.ranks:
        raise ValueError(f"there is no rank {rank}; the job had ranks {', '.join(map(str, seen.ranks))}")
    return seen.ranks[rank]


def _blamed(seen: JobResult) -> int | str:
    return NOBODY if seen.root_cause is None else seen.root_cause


def _one_of(ranks: Collection[int]) -> int | str:
    return next(iter(ranks)) if len(ranks) == 1 else "one of " + ", ".join(map(str, sorted(ranks)))


def _end(fate: RankOutcome | None) -> str:
    if fate is None or fate.status is None:
        return "still there"
    return signal_name(fate.status.signal) if fate.status.signal is not None else str(fate.status)


def _raised(message: str) -> str:
    """Return the exception at the beginning of a message."""
    match = re.match(r"([\w.]+)(?::|$)", message)
    return match[1].rpartition(".")[2] if match else "no known exception"


def _like(pattern: str, text: str) -> object:
    """Return the text itself if the pattern matches in it, so that both sides are equal; else a text for display."""
    return text if re.search(pattern, text) else f"a text like {pattern!r}"


def _is(fault: Fault, wanted: Fault | str | None) -> bool:
    if wanted is None:
        return True
    if isinstance(wanted, str):
        return wanted in (fault.id, fault.name)
    return wanted == fault or (not wanted.id and wanted.data() == fault.data())


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else repr(value)
