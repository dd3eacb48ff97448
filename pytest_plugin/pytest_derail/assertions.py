"""Assertions about a job that is over: each compares what was expected with what was seen, all at once.

They take what ``job.wait()`` returned, be it of the ``derail`` fixture or of ``derail.start_processes``, and need no
pytest. A failing one shows every difference, and under it the whole picture: fates, faults, last lines.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from derail.model.exit import signal_name, signal_number
from derail.model.outcome import RunProcsResult
from derail.scenario.expect import first_unmatched
from derail.scenario.observe import observe
from pytest_derail.jobs.expectations import account_of
from pytest_derail.reporting.sections import picture

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from derail.faults.model.plan import Fault
    from derail.model.events import Stream
    from derail.model.outcome import RankOutcome
    from derail.scenario.model import ErrorFileState, JobResult

UNSEEN = "never seen"
NOBODY = "nobody"
"""What stands for the root cause of a job in which no rank failed."""


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
    """Rank ``rank`` failed by itself, in this way, and is the root cause. It says nothing about other ranks.

    Args:
        result: of the job.
        rank: which.
        signal: what ended it, by name or number.
        exit_code: what code it exited with.
        exception: what it raised, by class or name; its error file tells.
        message: a regular expression that is found in what the launcher says of the failure.
        root_cause: the rank to blame if it is another one, or several if it may be any of them.
    """
    __tracebackhide__ = True
    if signal is not None and exit_code is not None:
        raise TypeError(f"a rank that ended by {signal} has no exit code; give signal= or exit_code=, not both")
    seen = _job_result(result)
    fate, failure = _fate(seen, rank), seen.failures.get(rank)
    blamed = {rank} if root_cause is None else {root_cause} if isinstance(root_cause, int) else set(root_cause)
    told = "" if failure is None else failure.message
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
        expected["raised"], actual["raised"] = name, _raised(told)
    if message is not None:
        expected["message"], actual["message"] = _like(message, told), told
    account_of(result).looked_at(rank)
    _compare(actual, expected, seen, f"rank {rank}")


def assert_succeeded(result: JobResult | RunProcsResult) -> None:
    """Every rank succeeded: it ended by itself with code 0 and, if it is a function, returned."""
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
    """Exactly these ranks failed by themselves (or had to be abandoned)."""
    __tracebackhide__ = True
    seen = _job_result(result)
    wanted = {ranks} if isinstance(ranks, int) else set(ranks)
    account_of(result).looked_at(*wanted)
    _compare({"failed": sorted(seen.failed)}, {"failed": sorted(wanted)}, seen, "the job")


def assert_failures(result: JobResult | RunProcsResult, ranks: int | Collection[int]) -> None:
    """Exactly these ranks failed, as the launcher reports it. derail's own reports those that ``assert_only_failed``
    finds; an external agent may report others, or none."""
    __tracebackhide__ = True
    seen = _job_result(result)
    wanted = {ranks} if isinstance(ranks, int) else set(ranks)
    account_of(result).looked_at(*wanted)
    _compare({"failures": sorted(seen.failures)}, {"failures": sorted(wanted)}, seen, "the job")


def assert_stopped(result: JobResult | RunProcsResult, ranks: int | Collection[int]) -> None:
    """Exactly these ranks were stopped because of others, or because the end of the job was asked for."""
    __tracebackhide__ = True
    seen = _job_result(result)
    wanted = {ranks} if isinstance(ranks, int) else set(ranks)
    _compare({"stopped": sorted(seen.stopped)}, {"stopped": sorted(wanted)}, seen, "the job")


def assert_root_cause(result: JobResult | RunProcsResult, rank: int | None) -> None:
    """Rank ``rank`` failed first; with None, no rank failed."""
    __tracebackhide__ = True
    seen = _job_result(result)
    if rank is not None:
        account_of(result).looked_at(rank)
    _compare({"root cause": _blamed(seen)}, {"root cause": NOBODY if rank is None else rank}, seen, "the job")


def assert_message(result: JobResult | RunProcsResult, like: str) -> None:
    """The regular expression ``like`` is found in what the launcher says of the root cause."""
    __tracebackhide__ = True
    seen = _job_result(result)
    if seen.root_cause is not None:
        account_of(result).looked_at(seen.root_cause)
    _compare({"message": seen.message}, {"message": _like(like, seen.message)}, seen, "the job")


def assert_exits(result: JobResult | RunProcsResult, exits: Mapping[int, int | str]) -> None:
    """Ranks ended in these ways. It says nothing about other ranks, or about who ended them.

    Args:
        result: of the job.
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
    """The last lines of a stream hold lines that match these patterns (``*`` and ``?``, each for a whole line).

    Args:
        result: of the job.
        rank: whose.
        stream: "stdout" or "stderr".
        like: the patterns; other lines may stand between.
        ordered: whether the lines must come in the order of the patterns.
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
    """The teardown took at most this time: from the decision to stop until the last rank had ended. Something had to be
    stopped."""
    __tracebackhide__ = True
    seen = _job_result(result)
    took = seen.teardown_seconds
    shown = "nothing had to be stopped" if took is None else f"{took:.3f} s"
    in_time = took is not None and took <= at_most
    _compare({"teardown": shown}, {"teardown": shown if in_time else f"at most {at_most:g} s"}, seen, "the job")


def assert_signals_sent(
    result: JobResult | RunProcsResult, rank: int, signals: str | int | Sequence[str | int], *, ordered: bool = True
) -> None:
    """The supervisor sent exactly these signals to a rank, by name or number: ``["SIGTERM", "SIGKILL"]``; none: ``[]``.

    Of a supervisor that is not derail it is known what came to the rank: signals that were seen in it, and the one that
    ended it.

    Args:
        result: of the job.
        rank: whom.
        signals: which, in this order.
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
    """All ranks were started again so many times. derail's own launcher never does that; agents may."""
    __tracebackhide__ = True
    seen = _job_result(result)
    known = 0 if seen.restarts is None and not seen.external else seen.restarts
    _compare({"restarts": "not known" if known is None else known}, {"restarts": times}, seen, "the job")


def assert_resumed_at(result: JobResult | RunProcsResult, step: int | None) -> None:
    """The last attempt went on at this step, as its ranks say (``resumed at step 5``); with None, no rank said so."""
    __tracebackhide__ = True
    seen = _job_result(result)
    _compare({"resumed at": seen.resumed_at}, {"resumed at": step}, seen, "the job")


def assert_exit_code(result: JobResult | RunProcsResult, code: int) -> None:
    """What the agent exited with, or what a launcher would after this job: 0 only if all went well."""
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
    """What the launcher made of the error file of a rank that failed.

    Args:
        result: of the job.
        rank: whose.
        state: "good", "malformed" or "missing".
        message: a regular expression that is found in what the launcher says of the failure.
        problem: a regular expression that is found in what is wrong with the file.
    """
    __tracebackhide__ = True
    seen = _job_result(result)
    failure = seen.failures.get(rank)
    actual: dict[str, object] = {"error file": "of no failure" if failure is None else failure.error_file}
    expected: dict[str, object] = {"error file": state}
    if message is not None:
        actual["message"] = told = "" if failure is None else failure.message
        expected["message"] = _like(message, told)
    if problem is not None:
        actual["problem"] = told = "" if failure is None else failure.problem
        expected["problem"] = _like(problem, told)
    account_of(result).looked_at(rank)
    _compare(actual, expected, seen, f"rank {rank}")


def assert_timed_out(result: JobResult | RunProcsResult) -> None:
    """The job was not over in time and was ended."""
    __tracebackhide__ = True
    seen = _job_result(result)
    account_of(result).timeout_seen = True
    _compare({"timed out": seen.timed_out}, {"timed out": True}, seen, "the job", of_all=False)


def assert_no_leftovers(result: JobResult | RunProcsResult) -> None:
    """No process of the job outlived its rank, not even until derail ended it."""
    __tracebackhide__ = True
    seen = _job_result(result)
    _compare({"left": [str(left) for left in seen.leftovers]}, {"left": []}, seen, "the job")


def assert_leftovers(result: JobResult | RunProcsResult, like: str | Sequence[str]) -> None:
    """What outlived its rank matches these patterns (``*`` and ``?``, for a whole command line), one each."""
    __tracebackhide__ = True
    from fnmatch import fnmatchcase

    seen = _job_result(result)
    patterns = [like] if isinstance(like, str) else list(like)
    found = [left.what for left in seen.leftovers]
    rest = list(found)
    for pattern in patterns:
        match = next((what for what in rest if fnmatchcase(what, pattern)), None)
        if match is not None:
            rest.remove(match)
    account_of(result).leftovers_seen = True
    fits = not rest and len(found) == len(patterns)
    _compare({"left": found}, {"left": found if fits else patterns}, seen, "the job", of_all=False)


def assert_injected(result: JobResult | RunProcsResult, fault: Fault | str | None = None) -> None:
    """A fault (all of them, if none is given) verifiably happened, on each rank that it was aimed at.

    Args:
        result: of the job.
        fault: the fault as it was planned, its id, or its name in the catalogue.
    """
    __tracebackhide__ = True
    seen = _job_result(result)
    told = [each for each in seen.faults if _is(each.fault, fault)]
    which = "faults" if fault is None else f"fault {fault}"
    actual = {f"{each.fault.id} on rank {each.rank}": each.status for each in told} or {which: "not planned"}
    _compare(actual, dict.fromkeys(actual, "injected"), seen, "the faults", of_all=False)


def assert_not_injected(result: JobResult | RunProcsResult, fault: Fault | str | None = None) -> None:
    """A fault (all of them, if none is given) did not happen, and the test knows it."""
    __tracebackhide__ = True
    seen = _job_result(result)
    told = [each for each in seen.faults if _is(each.fault, fault)]
    account_of(result).faults_seen.update((each.fault.id, each.rank) for each in told)
    which = "faults" if fault is None else f"fault {fault}"
    names = [f"{each.fault.id} on rank {each.rank}" for each in told]
    happened = ["injected" if each.injected else "not injected" for each in told]
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
    """Compare and fail with a message. pytest shows both sides; the message has the rest, also without pytest.

    Args:
        actual: what was seen.
        expected: what should have been.
        seen: the job.
        what: what the comparison is about.
        lines: lines to show.
        of_all: whether it says something about the job as a whole: then it never holds if a rank was never seen.
    """
    __tracebackhide__ = True
    lost = _never_seen(seen) if of_all else ""
    if lost:
        actual, expected = {UNSEEN: lost, **actual}, {UNSEEN: "none", **expected}
    differences = [
        lost if key == UNSEEN else f"{key}: expected {_shown(expected[key])}, saw {_shown(value)}"
        for key, value in actual.items()
        if value != expected[key]
    ]
    more = [f"{where}:\n" + "\n".join(f"  {line}" for line in tail) for where, tail in (lines or {}).items()]
    undone = [result for result in seen.faults if not result.injected] if what != "the faults" else []
    head = f"{what}, whose fault did not happen: {undone[0]}" if undone else f"{what}:"
    told = "\n".join([head, *(f"  {line}" for line in differences), *more, picture(seen)])
    assert dict(actual) == dict(expected), told


def _never_seen(seen: JobResult) -> str:
    """Which ranks of a job under a foreign supervisor were never seen; empty if all were."""
    if seen.external and not seen.ran:
        return seen.error or "no rank was started"
    return seen.unseen


def _job_result(result: JobResult | RunProcsResult) -> JobResult:
    return observe(result) if isinstance(result, RunProcsResult) else result


def _fate(seen: JobResult, rank: int) -> RankOutcome | None:
    """The fate of a rank.

    Raises:
        ValueError: if the job has no such rank: the test is wrong, not the job.
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
    """The exception that a message begins with."""
    found = re.match(r"([\w.]+)(?::|$)", message)
    return found[1].rpartition(".")[2] if found else "nothing that is known"


def _like(pattern: str, text: str) -> object:
    """The text itself if the pattern is found in it, so that both sides are equal; else the pattern, to be shown."""
    return text if re.search(pattern, text) else f"something like {pattern!r}"


def _is(fault: Fault, wanted: Fault | str | None) -> bool:
    if wanted is None:
        return True
    if isinstance(wanted, str):
        return wanted in (fault.id, fault.name)
    return wanted == fault or (not wanted.id and wanted.data() == fault.data())


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else repr(value)
