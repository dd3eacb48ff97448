"""Each assertion holds for what it says, fails for anything else, and then shows every difference."""

from __future__ import annotations

import re
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import pytest_derail
from derail import faults
from derail.faults.model.results import FaultResult, Injected, NotReached
from derail.model.exit import ExitStatus
from derail.model.outcome import Cause, JobOutcome, Leftover, RankOutcome, RunProcsResult, fields_of
from derail.scenario.model import Expect, FailureSeen, JobResult
from pytest_derail import (
    assert_error_file,
    assert_exit_code,
    assert_exits,
    assert_failed,
    assert_failures,
    assert_injected,
    assert_leftovers,
    assert_log_tail,
    assert_message,
    assert_no_leftovers,
    assert_not_injected,
    assert_only_failed,
    assert_restarts,
    assert_resumed_at,
    assert_root_cause,
    assert_signals_sent,
    assert_stopped,
    assert_succeeded,
    assert_teardown_seconds,
    assert_timed_out,
)
from pytest_derail.jobs.expectations import Account, close_account, judge, judge_left, open_account

if TYPE_CHECKING:
    from collections.abc import Callable

KILL, LEAVE = faults.plan([faults.signal("SIGKILL", rank=1), faults.exit(3, rank=2)]).faults


def fate(rank: int, status: ExitStatus | None, cause: Cause = Cause.SELF, order: int | None = 0) -> RankOutcome:
    """Return the outcome of one rank."""
    succeeded = status is not None and status.ok and cause is Cause.SELF
    return RankOutcome(rank, 100 + rank, status, cause, exit_order=order, exited_at=5.0, succeeded=succeeded)


def job(*fates: RankOutcome, root_cause: int | None = None, **more: Any) -> dict[str, Any]:
    """Return the result of a job."""
    ranks = {fate.rank: fate for fate in fates}
    return {"ranks": ranks, "root_cause": root_cause, "started_at": 1.0, "ended_at": 5.0, **more}


RED = JobResult(
    **job(
        fate(0, ExitStatus(signal=15), Cause.STOPPED_BY_US, 2),
        fate(1, ExitStatus(signal=9)),
        fate(2, ExitStatus(code=3), order=1),
        root_cause=1,
        stop_requested_at=4.75,
        stop_reason="rank 1 failed",
        leftovers=(Leftover("process", "sleep 600", 900, 1, ended=True),),
    ),
    failures={
        1: FailureSeen(1, "Signal 9 (SIGKILL) received by PID 101"),
        2: FailureSeen(2, "ValueError: no such thing", "malformed", "not JSON: line 1"),
    },
    log_tail={(1, "stdout"): ("step 1", "step 2", "step 3"), (1, "stderr"): ()},
    faults=(FaultResult(KILL, 1, Injected("seen")), FaultResult(LEAVE, 2, NotReached("no line"))),
    workdir=Path("/evidence"),
)
GREEN = JobResult(**job(fate(0, ExitStatus(code=0)), fate(1, ExitStatus(code=0), order=1)))
HARD = RankOutcome(0, 100, ExitStatus(signal=9), Cause.STOPPED_BY_US, exit_order=0, signals_sent=(15, 9))
STOPPED = JobResult(**job(HARD, fate(1, ExitStatus(code=3)), root_cause=1), exit_code=3)
FOREIGN = JobResult(**job(fate(0, ExitStatus(signal=9))), external=True, restarts=2, exit_code=1)
LATE = JobResult(**job(fate(0, ExitStatus(signal=15), Cause.STOPPED_BY_US), timed_out=True))
BROKEN = JobResult(error="SupervisorError: it broke")
RESUMED = replace(GREEN, resumed_at=5)

HOLDS: list[Callable[[], None]] = [
    lambda: assert_failed(RED, 1),
    lambda: assert_failed(RED, rank=1, signal="SIGKILL"),
    lambda: assert_failed(RED, 1, signal=9, message=r"Signal 9 .* PID \d+"),
    lambda: assert_failed(RED, 2, exit_code=3, root_cause=1),
    lambda: assert_failed(RED, 2, exception="ValueError", message="no such", root_cause={0, 1}),
    lambda: assert_failed(RED, 2, exception=ValueError, root_cause=1),
    lambda: assert_succeeded(GREEN),
    lambda: assert_only_failed(RED, {1, 2}),
    lambda: assert_only_failed(GREEN, ()),
    lambda: assert_failures(RED, {1, 2}),
    lambda: assert_failures(FOREIGN, ()),
    lambda: assert_exits(RED, {0: "SIGTERM", 2: 3}),
    lambda: assert_message(RED, r"PID \d+"),
    lambda: assert_resumed_at(RESUMED, 5),
    lambda: assert_resumed_at(RED, None),
    lambda: assert_stopped(RED, 0),
    lambda: assert_stopped(GREEN, []),
    lambda: assert_root_cause(RED, 1),
    lambda: assert_root_cause(GREEN, None),
    lambda: assert_log_tail(RED, 1, like="step 3"),
    lambda: assert_log_tail(RED, 1, "stdout", like=["*1", "step ?"]),
    lambda: assert_log_tail(RED, 1, like=["step 3", "step 1"], ordered=False),
    lambda: assert_teardown_seconds(RED, at_most=0.25),
    lambda: assert_error_file(RED, 2, "malformed", problem="JSON", message="ValueError"),
    lambda: assert_error_file(RED, 1, "missing"),
    lambda: assert_signals_sent(STOPPED, 0, ["SIGTERM", "SIGKILL"]),
    lambda: assert_signals_sent(STOPPED, 0, [9, "TERM"], ordered=False),
    lambda: assert_signals_sent(STOPPED, 1, []),
    lambda: assert_signals_sent(FOREIGN, 0, "SIGKILL"),
    lambda: assert_restarts(FOREIGN, 2),
    lambda: assert_restarts(RED, 0),
    lambda: assert_exit_code(STOPPED, 3),
    lambda: assert_exit_code(FOREIGN, 1),
    lambda: assert_timed_out(LATE),
    lambda: assert_no_leftovers(GREEN),
    lambda: assert_leftovers(RED, "sleep *"),
    lambda: assert_leftovers(GREEN, []),
    lambda: assert_injected(RED, KILL),
    lambda: assert_injected(RED, faults.signal("SIGKILL", rank=1)),
    lambda: assert_injected(RED, "signal"),
    lambda: assert_not_injected(RED, "exit"),
]

FAILS: list[tuple[Callable[[], None], str]] = [
    (lambda: assert_failed(RED, 0), "failed: expected True, got False"),
    (lambda: assert_failed(RED, 2), "root cause: expected 2, got 1"),
    (lambda: assert_failed(RED, 2, root_cause=[0, 2]), "root cause: expected one of 0, 2, got 1"),
    (lambda: assert_failed(RED, 1, signal="TERM"), "ended with: expected SIGTERM, got SIGKILL"),
    (lambda: assert_failed(RED, 1, exit_code=9), "ended with: expected exit 9, got SIGKILL"),
    (lambda: assert_failed(RED, 1, exception=ValueError), "raised: expected ValueError, got no known exception"),
    (lambda: assert_failed(RED, 1, message="boom"), "message: expected a text like 'boom', got Signal 9"),
    (lambda: assert_failed(GREEN, 0), "root cause: expected 0, got none"),
    (lambda: assert_failed(BROKEN, 0), "the launcher broke: SupervisorError: it broke"),
    (lambda: assert_succeeded(RED), "rank 2: expected succeeded, got rank 2: exit 3, by itself"),
    (lambda: assert_succeeded(LATE), "timed out: expected False, got True"),
    (lambda: assert_succeeded(BROKEN), "ranks: expected at least one, got 0"),
    (lambda: assert_only_failed(RED, 1), "failed: expected [1], got [1, 2]"),
    (lambda: assert_only_failed(BROKEN, 1), "failed: expected [1], got []"),
    (lambda: assert_failures(RED, 1), "failures: expected [1], got [1, 2]"),
    (lambda: assert_failures(FOREIGN, 0), "failures: expected [0], got []"),
    (lambda: assert_exits(RED, {1: 9}), "rank 1: expected exit 9, got SIGKILL"),
    (lambda: assert_exits(RED, {0: "SIGTERM", 2: "SIGKILL"}), "rank 2: expected SIGKILL, got exit 3"),
    (lambda: assert_message(RED, "nan"), "message: expected a text like 'nan', got Signal 9"),
    (lambda: assert_message(GREEN, "nan"), "message: expected a text like 'nan', got "),
    (lambda: assert_resumed_at(RESUMED, 6), "resumed at: expected 6, got 5"),
    (lambda: assert_stopped(RED, [0, 2]), "stopped: expected [0, 2], got [0]"),
    (lambda: assert_root_cause(RED, None), "root cause: expected none, got 1"),
    (lambda: assert_log_tail(RED, 1, like=["step 3", "step 1"]), "no line like 'step 1' in this order"),
    (lambda: assert_log_tail(RED, 1, like="step"), "no line like 'step'"),
    (lambda: assert_log_tail(RED, 1, "stderr", like="*"), "no line like '*'"),
    (lambda: assert_log_tail(RED, 7, like="*"), "stdout of rank 7: expected a log, got None"),
    (lambda: assert_teardown_seconds(RED, at_most=0.2), "teardown: expected at most 0.2 s, got 0.250 s"),
    (
        lambda: assert_teardown_seconds(GREEN, at_most=1),
        "teardown: expected at most 1 s, got nothing to stop",
    ),
    (lambda: assert_error_file(RED, 2), "error file: expected good, got malformed"),
    (lambda: assert_error_file(RED, 2, "malformed", problem="empty"), "a text like 'empty', got not JSON"),
    (lambda: assert_error_file(RED, 0), "error file: expected good, got no failure"),
    (
        lambda: assert_signals_sent(STOPPED, 0, ["SIGKILL", "SIGTERM"]),
        "signals of rank 0: expected ['SIGKILL', 'SIGTERM'], got ['SIGTERM', 'SIGKILL']",
    ),
    (lambda: assert_signals_sent(STOPPED, 1, 15), "signals of rank 1: expected ['SIGTERM'], got []"),
    (lambda: assert_signals_sent(BROKEN, 0, 15), "signals of rank 0: expected ['SIGTERM'], got []"),
    (lambda: assert_restarts(FOREIGN, 1), "restarts: expected 1, got 2"),
    (lambda: assert_restarts(JobResult(external=True), 0), "restarts: expected 0, got unknown"),
    (lambda: assert_exit_code(STOPPED, 0), "exit code: expected 0, got 3"),
    (lambda: assert_exit_code(BROKEN, 0), "exit code: expected 0, got none"),
    (lambda: assert_timed_out(GREEN), "timed out: expected True, got False"),
    (lambda: assert_no_leftovers(RED), "left: expected [], got ['process 900 of rank 1: sleep 600 (ended)']"),
    (lambda: assert_leftovers(RED, ["sleep *", "sleep *"]), "left: expected ['sleep *', 'sleep *'], got ['sleep 600']"),
    (lambda: assert_leftovers(RED, "true"), "left: expected ['true'], got ['sleep 600']"),
    (lambda: assert_injected(RED), "exit-"),
    (lambda: assert_injected(RED, "no-such"), "fault no-such: expected injected, got not planned"),
    (lambda: assert_not_injected(RED, KILL), "on rank 1: expected not injected, got injected"),
]


@pytest.mark.parametrize("assertion", HOLDS)
def test_it_holds(assertion: Callable[[], None]) -> None:
    """Each assertion passes for a matching result."""
    assertion()


@pytest.mark.parametrize(("assertion", "says"), FAILS)
def test_it_fails_with_expected_and_actual_value(assertion: Callable[[], None], says: str) -> None:
    """The message has the expected and the actual value."""
    with pytest.raises(AssertionError) as caught:
        assertion()
    assert says in str(caught.value)


def test_a_failing_assertion_shows_the_whole_picture() -> None:
    """It has exits, the launcher's report, faults with their evidence, last lines, and paths."""
    with pytest.raises(AssertionError) as caught:
        assert_failed(RED, 0)
    for told in (
        "root cause: rank 1",
        "stopped: rank 1 failed; the teardown took 0.25 s",
        "rank 0: SIGTERM (15), stopped by us",
        "outlived its rank: process 900 of rank 1: sleep 600 (ended)",
        "rank 2 says: ValueError: no such thing",
        "its error file is malformed: not JSON: line 1",
        "fault + signal SIGKILL",
        "injected on rank 1: seen",
        "not reached on rank 2: no line",
        "last lines of stdout of rank 1:",
        "  | step 1",
        "logs: /evidence",
    ):
        assert told in str(caught.value)


def test_a_rank_that_does_not_exist_is_an_error_of_the_test() -> None:
    """An assertion about it is neither true nor false."""
    with pytest.raises(ValueError, match="there is no rank 7; the job had ranks 0, 1, 2"):
        assert_failed(RED, 7)
    with pytest.raises(TypeError, match="not both"):
        assert_failed(RED, 1, signal=9, exit_code=9)


def test_they_take_what_the_launcher_returns(tmp_path: Path) -> None:
    """A result of start_processes needs no fixture; its logs are read."""
    log = tmp_path / "stdout.log"
    log.write_text("step 3\n")
    result = RunProcsResult(stdouts={1: str(log)}, **fields_of(RED))
    assert_root_cause(result, 1)
    assert_log_tail(result, 1, like="step 3")


def test_they_need_no_pytest(run_python: Callable[..., Any]) -> None:
    """They neither import pytest or the plugin, nor need it for the message."""
    done = run_python(
        "import sys\n"
        "from pytest_derail import assert_succeeded\n"
        "from derail.scenario.model import JobResult\n"
        "try: assert_succeeded(JobResult(error='it broke'))\n"
        "except AssertionError as error: print(error)\n"
        "print({'pytest', '_pytest', 'pytest_derail.plugin'} & sys.modules.keys())"
    )
    assert "the launcher broke: it broke" in done.stdout
    assert done.stdout.splitlines()[-1] == "set()"


def test_the_package_exports_exactly_its_names() -> None:
    """There are no other names."""
    assert all(callable(getattr(pytest_derail, name)) for name in pytest_derail.__all__)
    with pytest.raises(AttributeError, match="no_such"):
        _ = pytest_derail.no_such


def documented(column: int) -> dict[str, set[str]]:
    """Return the names in a column of the table of results, by the attribute of the row."""
    text = (Path(__file__).parents[2] / "docs/reference/pytest.md").read_text(encoding="utf-8")
    table = text.partition("| Attribute | In `[expect]` |")[2].partition("\n\n")[0]
    rows = [row.split("|")[1:] for row in table.splitlines()[2:]]
    return {name: set(re.findall(r"`(\w+)`", row[column])) for row in rows for name in re.findall(r"`(\w+)`", row[0])}


def test_results_expectations_and_assertions_have_the_same_words() -> None:
    """Each key of ``[expect]`` is an attribute of a result, and the name of an assertion; the table has all three."""
    keys, assertions = documented(1), documented(2)
    expectations = {each.name for each in fields(Expect)} - {"promise"}  # it is about the scenario, not the result
    public = {name for name in dir(JobResult) if not name.startswith("_")}
    exported = {name for name in pytest_derail.__all__ if name.startswith("assert_")}

    assert set(keys) == public
    assert {key: {key} for key in expectations} == {name: found for name, found in keys.items() if found}
    assert {f"assert_{key}" for key in expectations} <= exported
    assert all(f"assert_{key}" in assertions[key] for key in expectations)
    assert set().union(*assertions.values()) == exported


def test_results_of_the_launcher_have_the_same_attributes() -> None:
    """Results of ``start_processes`` have them as well, unless they need evidence."""
    shared = {name for name in dir(JobOutcome) if not name.startswith("_")} | {"exit_code", "failures", "return_values"}

    assert shared <= {name for name in dir(RunProcsResult) if not name.startswith("_")}
    assert not hasattr(RED, "outcome")
    assert not hasattr(RunProcsResult().outcome, "outcome")


@pytest.mark.parametrize(
    ("look", "unseen"),
    [
        (lambda: None, ["rank 1: SIGKILL (9)", "rank 2: exit 3", f"{LEAVE.id} on rank 2: not reached"]),
        (lambda: assert_failed(RED, 1), ["rank 2: exit 3", f"{LEAVE.id} on rank 2"]),
        (lambda: assert_root_cause(RED, 1), ["rank 2: exit 3", f"{LEAVE.id} on rank 2"]),
        (lambda: assert_only_failed(RED, {1, 2}), [f"{LEAVE.id} on rank 2"]),
        (lambda: assert_not_injected(RED, LEAVE), ["rank 1: SIGKILL", "rank 2: exit 3"]),
        (lambda: assert_failures(RED, {1, 2}), [f"{LEAVE.id} on rank 2"]),
        (lambda: assert_exits(RED, {0: "SIGTERM", 1: "SIGKILL"}), ["rank 2: exit 3", f"{LEAVE.id} on rank 2"]),
        (lambda: assert_message(RED, "Signal 9"), ["rank 2: exit 3", f"{LEAVE.id} on rank 2"]),
        (lambda: assert_stopped(RED, 0), ["rank 1", "rank 2", "on rank 2"]),
    ],
)
def test_unchecked_failures_are_judged(look: Callable[[], None], unseen: list[str]) -> None:
    """Unchecked failures, and faults that did not happen, are reported; nothing else is."""
    account = Account()
    open_account(RED, account)
    look()
    found = judge(RED, account)
    close_account(RED)
    assert len(found) == len(unseen)
    assert all(part in line for part, line in zip(unseen, found, strict=True))


def test_a_timeout_and_a_broken_launcher_are_judged() -> None:
    """No rank needs to have failed."""
    assert [line.split(":")[0] for seen in (LATE, BROKEN, GREEN) for line in judge(seen, Account())] == [
        "timed out",
        "the launcher broke",
    ]


def test_what_outlived_a_killed_rank_is_no_fault_of_the_rank() -> None:
    """Only leftovers that derail could not end count, or those of a rank that ended by itself."""
    helper = Leftover("process", "sleep", 900, rank=0, ended=True)
    well, killed = job(fate(0, ExitStatus(code=1))), job(fate(0, ExitStatus(signal=9)))

    def left(ended: dict[str, Any], *leftovers: Leftover) -> list[str]:
        return judge_left(JobResult(**ended, leftovers=leftovers), Account())

    alive, unknown = Leftover("process", "sleep", 900, rank=0), Leftover("process", "sleep", 900, ended=True)
    assert left(well, helper) == [str(helper)]
    assert left(well, unknown) == [str(unknown)]
    assert left(killed, helper) == left(killed, unknown) == []
    assert left(killed, alive) == [str(alive)]
