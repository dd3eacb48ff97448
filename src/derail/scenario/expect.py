"""Compares a result with what was expected. Pure."""

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

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from derail.model.exit import ExitStatus
    from derail.scenario.model import Expect, JobResult, Kind, Promise, Scenario

    Look: TypeAlias = Callable[[Expect, JobResult], Iterator[Finding]]


NO_ERROR_FILE = "it gives ranks no error file (TORCHELASTIC_ERROR_FILE), and the scenario is about one"


def judge(scenario: Scenario, result: JobResult, promises: frozenset[Promise] | None = None) -> Verdict:
    """Say what a run showed. If a fault did not verifiably happen it is never PASS, whatever else was seen.

    Args:
        scenario: what was run, and what it expects.
        result: what the run left.
        promises: what the supervisor promises; the rest is looked at, but not held against it. None: everything.
    """
    promised = ALL_PROMISES if promises is None else promises
    unproven = _unproven(scenario, result)
    if not result.ran and not result.error:
        if result.faults and all(isinstance(told.result, Unavailable) for told in result.faults):
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
    findings = tuple(_as_promised(found, scenario, promised) for found in _findings(scenario, result))
    violations = tuple(str(found) for found in findings if found.kept is False)
    if result.deadlock:  # seen from outside, whether or not a fault got its turn
        return Verdict("FAIL", violations, violations, findings)
    if unproven:
        return Verdict("INCONCLUSIVE", unproven, violations, findings)
    return Verdict("FAIL" if violations else "PASS", violations, violations, findings)


def _as_promised(found: Finding, scenario: Scenario, promised: frozenset[Promise]) -> Finding:
    """A finding under the promise that the scenario is about, and without force where that was never made."""
    saw = found.saw if found.promise in ("message", "log_tail") else scenario.named(found.saw)  # those are quotations
    found = replace(found, expected=scenario.named(found.expected), saw=saw)
    expect = scenario.expect
    if scenario.launches and found.promise == "exits":
        found = replace(found, promise="exit_code")  # rank 0 is the launcher, and its end is its own exit code
    promise = found.promise if expect.promise is None or found.promise == "ends" else expect.promise
    if promise in promised:
        return replace(found, promise=promise)
    return replace(found, promise=promise, kept=None, differs=found.kept is False)


def _beyond_this_launcher(seen: JobResult) -> tuple[str, ...]:
    """Return the faults that cannot be done to the ranks of this launcher as it starts them (whose streams are pipes);
    none if it hung, which counts whatever was to be broken."""
    if seen.deadlock or not seen.ran or seen.timed_out:
        return ()
    return tuple(str(told) for told in seen.faults if isinstance(told.result, Unavailable))


def _is_about_error_files(scenario: Scenario) -> bool:
    from derail.faults.registry import entry

    faults = any(entry(fault.name).family == "errorfile" for fault in scenario.faults.faults)
    return faults or scenario.family == "error_file"


def _restarted_by_default(scenario: Scenario, seen: JobResult) -> tuple[str, str] | None:
    """What was expected and seen of a launcher that starts ranks again though it was not to; None if it did not.

    Nothing else of such a run says anything: each expectation is about one attempt, and it made several.
    """
    if not seen.external or scenario.restarts or not seen.restarts:
        return None
    times = {1: "once", 2: "twice"}.get(seen.restarts, f"{seen.restarts} times")
    saw = f"that it restarted the ranks {times} although the scenario allows none"
    return "no restart", f"{saw}; switch that off, or add {{restarts}} to its command line"


def _unproven(scenario: Scenario, result: JobResult) -> tuple[str, ...]:
    """Return the faults that did not verifiably happen or were never reported, and the ranks that were never seen in a
    job that failed: a launcher may have been right not to start them."""
    if scenario.expect.succeeded is False and not any(fault.target == AGENT for fault in scenario.faults.faults):
        unseen = [result.unseen] if result.unseen else []
    else:
        unseen = []
    told = {each.fault.id for each in result.faults}
    lost = [f"{fault.id}: nothing is known of it" for fault in scenario.faults.faults if fault.id not in told]
    return (*unseen, *lost, *(str(each) for each in result.faults if not each.injected), *result.doubts)


def _findings(scenario: Scenario, result: JobResult) -> Iterator[Finding]:
    """Each expectation. Of a job that was ended from outside, nothing else says anything about its supervisor."""
    if result.error:
        yield Finding("ends", False, "the launcher to give a result", f"it break: {result.error}")
    if not result.ran:
        return
    in_time = f"the job to end by itself within {scenario.timeout:g} s"
    if result.timed_out:
        yield Finding("ends", False, in_time, f"it time out{result.deadlock and f': {result.deadlock}'}")
        return
    if not result.error:
        yield Finding("ends", True, in_time, "it end")
    expect = replace(scenario.expect, teardown_seconds=_at_most(scenario, result))
    for look in _LOOKS:
        yield from look(expect, result)


def _at_most(scenario: Scenario, seen: JobResult) -> float | None:
    """Seconds that the teardown may take; None if that is not looked at.

    That is the grace period and a margin, if the scenario says nothing else. The margin grows with the load.
    """
    within = scenario.expect.teardown_seconds
    if within == inf or (within is None and (scenario.launches or seen.teardown_seconds is None)):
        return None
    limit = scenario.grace + TEARDOWN_MARGIN if within is None else within
    return round(limit + (min(max(seen.slowdown, 1.0), HIGHEST_SLOWDOWN) - 1.0) * TEARDOWN_MARGIN, 2)


def _fate(expect: Expect, seen: JobResult) -> Iterator[Finding]:
    if expect.succeeded is not None:
        wrong = [rank for rank, told in seen.ranks.items() if not told.succeeded]
        said = _says_success(seen)
        hidden = f" although {_ranks(wrong)} did not succeed" if said and wrong else ""
        if said and seen.unseen:
            hidden += f" although {seen.unseen}"
        kept = said == expect.succeeded and not hidden
        wanted, saw = ("succeeded" if each else "failed" for each in (expect.succeeded, said))
        yield Finding("succeeded", kept, f"the job to have {wanted}", f"that it {saw}{hidden}")
    if expect.root_cause is not None:
        saw = "none" if seen.root_cause is None else f"rank {seen.root_cause}"
        kept = seen.root_cause == expect.root_cause
        yield Finding("root_cause", kept, f"rank {expect.root_cause} as root cause", saw)
    if expect.failures is not None:
        kept = set(seen.failures) == set(expect.failures)
        yield Finding("failures", kept, f"{_ranks(expect.failures)} to have failed", _ranks(seen.failures))
    if expect.stopped is not None:
        kept = set(seen.stopped) == set(expect.stopped)
        yield Finding("stopped", kept, f"{_ranks(expect.stopped)} to have been stopped", _ranks(seen.stopped))


def _says_success(seen: JobResult) -> bool:
    """Return whether the launcher takes the job for a success: an external one says it by its exit code alone."""
    return seen.exit_code == 0 if seen.external and seen.exit_code is not None else seen.succeeded


def _exits(expect: Expect, seen: JobResult) -> Iterator[Finding]:
    for rank, wanted in expect.exits.items():
        status = seen.exits.get(rank)
        end = f"exit {wanted}" if isinstance(wanted, int) else wanted
        saw = str(status or ("that it never ended" if rank in seen.ranks else "that it was never seen"))
        yield Finding("exits", _is_exit(status, wanted), f"rank {rank} to end with {end}", saw)
        said = seen.failures[rank].status if seen.external and rank in seen.failures else None
        if said is not None:
            yield Finding("exits", _is_exit(said, wanted), f"the launcher to tell {end} of rank {rank}", str(said))
    if expect.exit_code is not None:
        kept = seen.exit_code == expect.exit_code
        yield Finding("exit_code", kept, f"the launcher to exit with {expect.exit_code}", str(seen.exit_code))


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
    whose = "the root cause" if failure is None else f"rank {failure.rank}"
    kept = failure is not None and bool(re.search(expect.message, seen.message))
    saw = "no failure" if failure is None else repr(_short(seen.message))
    yield Finding("message", kept, f"a message like {expect.message!r} of {whose}", saw)


def _error_files(expect: Expect, seen: JobResult) -> Iterator[Finding]:
    for rank, wanted in expect.error_file.items():
        failure = seen.failures.get(rank)
        saw = "no failure of that rank"
        if failure is not None:
            why = f" ({failure.problem})" if failure.problem and failure.error_file != wanted else ""
            saw = f"it {failure.error_file}{why}"
        kept = failure is not None and failure.error_file == wanted
        yield Finding("error_file", kept, f"the error file of rank {rank} to be {wanted}", saw)


def _log_tails(expect: Expect, seen: JobResult) -> Iterator[Finding]:
    for tail in expect.log_tail:
        key = (tail.rank, tail.stream)
        lines, where = seen.log_tail.get(key, ()), f"in the tail of {tail.stream} of rank {tail.rank}"
        unlike = tail.unlike
        if is_relayed := key in seen.relayed:  # with a prefix of the launcher's, or behind half a line of another rank
            lines, where = seen.relayed[key], f"in what the launcher prints of rank {tail.rank}"
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
                yield Finding("log_tail", True, f"lines like {', '.join(map(repr, tail.like))} {where}", "them")
            continue
        last = f"its last line is {lines[-1]!r}" if lines else "it is empty"
        saw = f"none in {len(lines)} lines; {last}"
        yield Finding("log_tail", False, f"a line like {missing!r} {where}", saw)


def first_unprinted(patterns: Iterable[str], lines: Sequence[str]) -> str | None:
    """The first pattern that is nowhere behind the one before it; None if all are found. A launcher that prints what it
    reads in pieces puts several lines into one, so that a pattern may stand anywhere in a line."""
    text, at = "\n".join(lines), 0
    for pattern in patterns:
        parts = (re.escape(part).replace("\\?", ".") for part in pattern.strip("*").split("*"))
        found = re.compile("[^\n]*?".join(parts)).search(text, at)
        if found is None:
            return pattern
        at = found.end()
    return None


def first_unmatched(patterns: Iterable[str], lines: Sequence[str]) -> str | None:
    """The first pattern that no line matches after the line of the pattern before it; None if all are found."""
    rest = iter(lines)
    for pattern in patterns:
        if not any(fnmatchcase(line, pattern) for line in rest):
            return pattern
    return None


def _times(expect: Expect, seen: JobResult) -> Iterator[Finding]:
    if expect.teardown_seconds is not None:
        took = seen.teardown_seconds
        kept = took is None or took <= expect.teardown_seconds
        saw = "that nothing had to be stopped" if took is None else f"{took:.2f} s"
        wanted = f"the teardown to take at most {expect.teardown_seconds:g} s"
        yield Finding("teardown_seconds", kept, wanted, saw)


def _attempts(expect: Expect, seen: JobResult) -> Iterator[Finding]:
    if expect.restarts is not None:
        saw = "that nobody knows" if seen.restarts is None else str(seen.restarts)
        yield Finding("restarts", seen.restarts == expect.restarts, f"{expect.restarts} restart(s)", saw)
    if expect.resumed_at is not None:
        saw = "that no rank said so" if seen.resumed_at is None else f"step {seen.resumed_at}"
        kept = seen.resumed_at == expect.resumed_at
        yield Finding("resumed_at", kept, f"the job to resume at step {expect.resumed_at}", saw)


def _leftovers(expect: Expect, seen: JobResult) -> Iterator[Finding]:
    if expect.leftovers == "any":
        return
    # What a foreign supervisor left was ended by the sandbox, which saw it after the supervisor's own end.
    bad = [left for left in seen.leftovers if expect.leftovers == "none" or seen.external or not left.ended]
    bad.sort(key=lambda left: (left.kind, -1 if left.rank is None else left.rank, left.what, left.pid or 0))
    wanted = "nothing to be left" if expect.leftovers == "none" else "whatever is left to be ended"
    saw = "; ".join(map(str, bad)) or ("nothing" if expect.leftovers == "none" else "that it was")
    yield Finding("leftovers", not bad, wanted, saw)


def _ranks(ranks: Iterable[int]) -> str:
    named = ", ".join(map(str, sorted(ranks)))
    return f"rank(s) {named}" if named else "no rank"


def _short(text: str, longest: int = 300) -> str:
    return text if len(text) <= longest else f"{text[:longest]}... ({len(text)} characters)"


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
