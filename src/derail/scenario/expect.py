"""Comparison of a result with the expectations. Pure."""

from __future__ import annotations

import re
from dataclasses import replace
from fnmatch import fnmatchcase
from math import inf
from typing import TYPE_CHECKING, TypeAlias

from derail.faults.model.results import Unavailable
from derail.faults.model.targets import AGENT
from derail.model.exit import signal_name
from derail.scenario.model import ALL_PROMISES, HIGHEST_SLOWDOWN, TEARDOWN_MARGIN, Finding, Verdict
from derail.scenario.observe import resumed_steps
from derail.scenario.recovery import OF_RESTARTS, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from derail.model.exit import ExitStatus
    from derail.scenario.model import Expect, JobResult, Kind, Promise, Scenario
    from derail.scenario.recovery import Measure

    Look: TypeAlias = Callable[[Expect, JobResult], Iterator[Finding]]


NO_ERROR_FILE = "it gives ranks no error file (TORCHELASTIC_ERROR_FILE), and the scenario needs one"


def judge(scenario: Scenario, result: JobResult, promises: frozenset[Promise] | None = None) -> Verdict:
    """Return the verdict on a run; it is never PASS if a fault did not verifiably happen.

    Args:
        scenario: the scenario, with its expectations.
        result: the result of the run.
        promises: the promises of the launcher; other expectations are checked, but unmet ones do not count. None: all.
    """
    promised = ALL_PROMISES if promises is None else promises
    unproven = _unproven(scenario, result)
    if not result.ran and not result.error:
        if result.faults and all(isinstance(each.result, Unavailable) for each in result.faults):
            return Verdict("SKIPPED", tuple(map(str, result.faults)))
        return Verdict("INCONCLUSIVE", unproven or ("the job was never run",))
    if result.no_error_file and _is_about_error_files(scenario):
        return Verdict("SKIPPED", (NO_ERROR_FILE,))
    if result.external and (beyond := _beyond_this_launcher(result)):
        return Verdict("SKIPPED", beyond)
    if restarted := _restarted_by_default(scenario, result):
        finding = Finding("restarts", False if "restarts" in promised else None, *restarted, differs=True)
        kind: Kind = "FAIL" if "restarts" in promised else "INCONCLUSIVE"
        return Verdict(kind, (str(finding),), (str(finding),) if kind == "FAIL" else (), (finding,))
    findings = tuple(_as_promised(each, scenario, promised) for each in _findings(scenario, result))
    violations = tuple(str(each) for each in findings if each.kept is False)
    if result.deadlock:  # observed from outside, whether or not a fault has acted
        return Verdict("FAIL", violations, violations, findings)
    if unproven:
        return Verdict("INCONCLUSIVE", unproven, violations, findings)
    return Verdict("FAIL" if violations else "PASS", violations, violations, findings)


def _as_promised(finding: Finding, scenario: Scenario, promised: frozenset[Promise]) -> Finding:
    """Return the finding under the promise of the scenario; it does not count if the launcher never made that one."""
    got = finding.got if finding.promise in ("message", "log_tail") else scenario.named(finding.got)  # quotations
    finding = replace(finding, expected=scenario.named(finding.expected), got=got)
    expect = scenario.expect
    if finding.promise == "budget":  # the caller's, not the launcher's
        return finding
    if scenario.launches and finding.promise == "exits":
        finding = replace(finding, promise="exit_code")  # rank 0 is the launcher: its exit status is the exit code
    promise = finding.promise if expect.promise is None or finding.promise == "ends" else expect.promise
    if promise in promised:
        return replace(finding, promise=promise)
    return replace(finding, promise=promise, kept=None, differs=finding.kept is False)


def _beyond_this_launcher(seen: JobResult) -> tuple[str, ...]:
    """Return the faults that this launcher's way of starting ranks makes unavailable (their streams are pipes).

    Return none if the launcher hung, which counts whatever the faults were.
    """
    if seen.deadlock or not seen.ran or seen.timed_out:
        return ()
    return tuple(str(each) for each in seen.faults if isinstance(each.result, Unavailable))


def _is_about_error_files(scenario: Scenario) -> bool:
    from derail.faults.registry import entry

    faults = any(entry(fault.name).family == "errorfile" for fault in scenario.faults.faults)
    return faults or scenario.family == "error_file"


def _restarted_by_default(scenario: Scenario, seen: JobResult) -> tuple[str, str] | None:
    """Return expectation and result for a launcher that restarts ranks although it must not; None if it does not.

    Other findings of such a run mean nothing: each expectation is about one attempt, and there were several.
    """
    if not seen.external or scenario.restarts or not seen.restarts:
        return None
    times = f"{seen.restarts} restart{'s' if seen.restarts > 1 else ''}"
    got = f"{times} of the ranks, although the scenario allows none"
    return "no restart", f"{got}; switch restarts off, or add {{restarts}} to its command line"


def _unproven(scenario: Scenario, result: JobResult) -> tuple[str, ...]:
    """Return faults that did not verifiably happen or were never reported, and ranks that never appeared.

    Missing ranks count only in a job that is expected to fail: its launcher may have been right not to start them.
    """
    if scenario.expect.succeeded is False and not any(fault.target == AGENT for fault in scenario.faults.faults):
        unseen = [result.unseen] if result.unseen else []
    else:
        unseen = []
    reported = {each.fault.id for each in result.faults}
    lost = [f"{fault.id}: no report about it" for fault in scenario.faults.faults if fault.id not in reported]
    unmeasured = () if result.timed_out else _unmeasured(scenario, result)
    unproved = (str(each) for each in result.faults if not each.injected)
    return (*unseen, *lost, *unproved, *result.doubts, *unmeasured)


def _findings(scenario: Scenario, result: JobResult) -> Iterator[Finding]:
    """Yield a finding for each expectation; for a job that was ended from outside, only for its end."""
    if result.error:
        yield Finding("ends", False, "a result from the launcher", f"an error: {result.error}")
    if not result.ran:
        return
    in_time = f"the end of the job within {scenario.timeout:g} s"
    if result.timed_out:
        yield Finding("ends", False, in_time, f"a timeout{result.deadlock and f': {result.deadlock}'}")
        return
    if not result.error:
        yield Finding("ends", True, in_time, "its end")
    expect = replace(scenario.expect, teardown_seconds=_at_most(scenario, result))
    for look in _LOOKS:
        yield from look(expect, result)
    yield from _within_budget(scenario, result)


def _at_most(scenario: Scenario, seen: JobResult) -> float | None:
    """Return the limit for the teardown in seconds; None if it is not checked.

    By default that is the grace period plus a margin. The margin grows with the load.
    """
    within = scenario.expect.teardown_seconds
    if within == inf or (within is None and (scenario.launches or seen.teardown_seconds is None)):
        return None
    limit = scenario.grace + TEARDOWN_MARGIN if within is None else within
    return round(limit + (min(max(seen.slowdown, 1.0), HIGHEST_SLOWDOWN) - 1.0) * TEARDOWN_MARGIN, 2)


def _fate(expect: Expect, seen: JobResult) -> Iterator[Finding]:
    if expect.succeeded is not None:
        wrong = [rank for rank, each in seen.ranks.items() if not each.succeeded]
        success = _reports_success(seen)
        hidden = f", although {_ranks(wrong)} did not succeed" if success and wrong else ""
        if success and seen.unseen:
            hidden += f", although {seen.unseen}"
        kept = success == expect.succeeded and not hidden
        wanted, got = ("succeeded" if each else "failed" for each in (expect.succeeded, success))
        yield Finding("succeeded", kept, f"outcome {wanted}", f"{got}{hidden}")
    if expect.root_cause is not None:
        got = "none" if seen.root_cause is None else f"rank {seen.root_cause}"
        kept = seen.root_cause == expect.root_cause
        yield Finding("root_cause", kept, f"root cause rank {expect.root_cause}", got)
    if expect.failures is not None:
        kept = set(seen.failures) == set(expect.failures)
        yield Finding("failures", kept, f"failed: {_ranks(expect.failures)}", _ranks(seen.failures))
    if expect.stopped is not None:
        kept = set(seen.stopped) == set(expect.stopped)
        yield Finding("stopped", kept, f"stopped: {_ranks(expect.stopped)}", _ranks(seen.stopped))


def _reports_success(seen: JobResult) -> bool:
    """Return whether the launcher reports success; an external one reports it by its exit code alone."""
    return seen.exit_code == 0 if seen.external and seen.exit_code is not None else seen.succeeded


def _exits(expect: Expect, seen: JobResult) -> Iterator[Finding]:
    for rank, wanted in expect.exits.items():
        status = seen.exits.get(rank)
        end = f"exit {wanted}" if isinstance(wanted, int) else wanted
        got = str(status or ("no end" if rank in seen.ranks else "no such rank"))
        yield Finding("exits", _is_exit(status, wanted), f"{end} of rank {rank}", got)
        reported = seen.failures[rank].status if seen.external and rank in seen.failures else None
        if reported is not None:
            kept = _is_exit(reported, wanted)
            yield Finding("exits", kept, f"the launcher's report of {end} of rank {rank}", str(reported))
    if expect.exit_code is not None:
        kept = seen.exit_code == expect.exit_code
        yield Finding("exit_code", kept, f"exit code {expect.exit_code} of the launcher", str(seen.exit_code))


def _is_exit(status: ExitStatus | None, wanted: int | str) -> bool:
    if status is None:
        return False
    if isinstance(wanted, int):
        return status.code == wanted
    return status.signal is not None and signal_name(status.signal) == wanted


def _message(expect: Expect, seen: JobResult) -> Iterator[Finding]:
    if not expect.message:
        return
    failure = None if seen.root_cause is None else seen.failures.get(seen.root_cause)
    origin = "the root cause" if failure is None else f"rank {failure.rank}"
    kept = failure is not None and bool(re.search(expect.message, seen.message))
    got = "no failure" if failure is None else repr(_short(seen.message))
    yield Finding("message", kept, f"a message like {expect.message!r} of {origin}", got)


def _error_files(expect: Expect, seen: JobResult) -> Iterator[Finding]:
    for rank, wanted in expect.error_file.items():
        failure = seen.failures.get(rank)
        got = "no failure of that rank"
        if failure is not None:
            why = f" ({failure.problem})" if failure.problem and failure.error_file != wanted else ""
            got = f"{failure.error_file}{why}"
        kept = failure is not None and failure.error_file == wanted
        yield Finding("error_file", kept, f"error file of rank {rank}: {wanted}", got)


def _log_tails(expect: Expect, seen: JobResult) -> Iterator[Finding]:
    for tail in expect.log_tail:
        key = (tail.rank, tail.stream)
        lines, where = seen.log_tail.get(key, ()), f"in the tail of {tail.stream} of rank {tail.rank}"
        unlike = tail.unlike
        if is_relayed := key in seen.relayed:  # with a prefix by the launcher, or after half a line of another rank
            lines, where = seen.relayed[key], f"in the launcher's output from rank {tail.rank}"
            unlike = tuple(f"*{pattern}" for pattern in unlike)
        if key in seen.unjudged:
            wanted = " or ".join(map(repr, (*tail.like, *tail.unlike)))
            yield Finding(
                "log_tail", None, f"lines like {wanted} {where}", "not judged: the launcher has no part in it"
            )
            continue
        bad = [line for line in lines if any(fnmatchcase(line, pattern) for pattern in unlike)]
        if bad:
            patterns = " or ".join(map(repr, tail.unlike))
            yield Finding("log_tail", False, f"no line like {patterns} {where}", f"{_short(bad[0])!r}")
        elif tail.unlike:
            yield Finding("log_tail", True, f"no line like {' or '.join(map(repr, tail.unlike))} {where}", "none")
        missing = first_unprinted(tail.like, lines) if is_relayed else first_unmatched(tail.like, lines)
        if missing is None:
            if tail.like:
                yield Finding("log_tail", True, f"lines like {', '.join(map(repr, tail.like))} {where}", "all")
            continue
        last = f"its last line is {lines[-1]!r}" if lines else "it is empty"
        got = f"none in {len(lines)} lines; {last}"
        yield Finding("log_tail", False, f"a line like {missing!r} {where}", got)


def first_unprinted(patterns: Iterable[str], lines: Sequence[str]) -> str | None:
    """Return the first pattern that does not occur after the one before it; None if all occur.

    A launcher that prints data as it reads them joins lines, so that a pattern may occur anywhere in a line.
    """
    text, at = "\n".join(lines), 0
    for pattern in patterns:
        parts = (re.escape(part).replace("\\?", ".") for part in pattern.strip("*").split("*"))
        match = re.compile("[^\n]*?".join(parts)).search(text, at)
        if match is None:
            return pattern
        at = match.end()
    return None


def first_unmatched(patterns: Iterable[str], lines: Sequence[str]) -> str | None:
    """Return the first pattern that no line matches after the match of the pattern before it; None if all match."""
    rest = iter(lines)
    for pattern in patterns:
        if not any(fnmatchcase(line, pattern) for line in rest):
            return pattern
    return None


def _times(expect: Expect, seen: JobResult) -> Iterator[Finding]:
    if expect.teardown_seconds is not None:
        took = seen.teardown_seconds
        kept = took is None or took <= expect.teardown_seconds
        got = "nothing to stop" if took is None else f"{took:.2f} s"
        wanted = f"a teardown of at most {expect.teardown_seconds:g} s"
        yield Finding("teardown_seconds", kept, wanted, got)


def _attempts(expect: Expect, seen: JobResult) -> Iterator[Finding]:
    if expect.restarts is not None:
        got = "an unknown number" if seen.restarts is None else str(seen.restarts)
        yield Finding("restarts", seen.restarts == expect.restarts, f"{expect.restarts} restart(s)", got)
    if expect.resumed_at is not None:
        steps = resumed_steps(seen.log_tail)
        differ = len({*steps.values()}) > 1
        got = "no report by a rank" if seen.resumed_at is None else f"step {seen.resumed_at}"
        if differ:
            got = ", ".join(f"step {step} in rank {rank}" for rank, step in steps.items())
        kept = seen.resumed_at == expect.resumed_at and not differ
        yield Finding("resumed_at", kept, f"resumption at step {expect.resumed_at}", got)


def _leftovers(expect: Expect, seen: JobResult) -> Iterator[Finding]:
    if expect.leftovers == "any":
        return
    # Leftovers of an external launcher were ended by the sandbox, which found them after the launcher's own end.
    bad = [left for left in seen.leftovers if expect.leftovers == "none" or seen.external or not left.ended]
    bad.sort(key=lambda left: (left.kind, -1 if left.rank is None else left.rank, left.what, left.pid or 0))
    wanted = "no leftovers" if expect.leftovers == "none" else "all leftovers ended"
    got = "; ".join(map(str, bad)) or ("none" if expect.leftovers == "none" else "all ended")
    yield Finding("leftovers", not bad, wanted, got)


def budgeted(scenario: Scenario) -> tuple[Measure, ...]:
    """Return the measures of the budget that a run of the scenario can have: without restarts it never runs again."""
    if scenario.launches or not scenario.faults.faults:
        return ()
    return tuple(each for each in scenario.budget if scenario.restarts or each not in OF_RESTARTS)


def _within_budget(scenario: Scenario, seen: JobResult) -> Iterator[Finding]:
    """Yield a finding for each limit of the budget."""
    for measure in budgeted(scenario):
        limit, value = scenario.budget[measure], seen.recovery.value(measure)
        unit = "" if measure == "lost-steps" else "s"
        expected = f"{_BUDGETED[measure].format(limit)} (budget {measure}={limit:g}{unit})"
        if value is not None:
            yield Finding("budget", value <= limit, expected, shown(measure, value))
        elif not seen.recovery.failed:
            yield Finding("budget", None, expected, "nothing to measure: no fault made a rank fail")
        elif measure not in OF_RESTARTS or seen.recovery.stepped:
            yield Finding("budget", False, expected, _NEVER[measure])


def _unmeasured(scenario: Scenario, seen: JobResult) -> Iterator[str]:
    """Yield why limits of the budget cannot be checked: the ranks write no lines by which their steps are known."""
    named = [each for each in budgeted(scenario) if each in OF_RESTARTS and seen.recovery.value(each) is None]
    if named and seen.recovery.failed and not seen.recovery.stepped:
        yield (
            f"budget {', '.join(named)}: not measured: no line of a rank before the fault matches the step pattern "
            f"{scenario.watched_steps!r}. Set `step` in the scenario"
        )


def _ranks(ranks: Iterable[int]) -> str:
    named = ", ".join(map(str, sorted(ranks)))
    return f"rank(s) {named}" if named else "no rank"


def _short(text: str, longest: int = 300) -> str:
    return text if len(text) <= longest else f"{text[:longest]}... ({len(text)} characters)"


_BUDGETED: dict[Measure, str] = {
    "notice": "a reaction of the launcher at most {:g} s after the fault",
    "stop": "the end of all ranks at most {:g} s after the fault",
    "recover": "a step of the next attempt at most {:g} s after the fault",
    "lost-steps": "at most {:g} steps run again",
}
_NEVER: dict[Measure, str] = {
    "notice": "none",
    "stop": "a rank that was still there",
    "recover": "no step line after the fault",
    "lost-steps": "no step line after the fault",
}
_LOOKS: tuple[Look, ...] = (
    _fate,
    _exits,
    _message,
    _error_files,
    _log_tails,
    _times,
    _attempts,
    _leftovers,
)
