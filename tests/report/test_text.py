"""Verdict as text: first the verdict, then the reasons, then the evidence."""

from dataclasses import replace
from pathlib import Path

from derail import faults, when
from derail.faults.model.results import FaultResult, Injected, NotReached
from derail.model.exit import ExitStatus
from derail.model.outcome import Cause, Leftover, RankOutcome
from derail.report.text import printable, render_verdict
from derail.scenario.model import FailureSeen, JobResult, Scenario, Verdict

PLAN = faults.plan([faults.signal("SIGKILL", rank=1, when=when.line("step 3"))])
SCENARIO = Scenario("One is killed", 2, Path("w.py"), PLAN, name="crash/one")
RANKS = {
    0: RankOutcome(0, 10, ExitStatus(signal=15), Cause.STOPPED_BY_US, exit_order=1),
    1: RankOutcome(1, 11, ExitStatus(signal=9), Cause.SELF, exit_order=0),
}
SEEN = JobResult(
    ranks=RANKS,
    root_cause=1,
    started_at=0.0,
    ended_at=3.0,
    stop_requested_at=2.0,
    failures={1: FailureSeen(1, "Signal 9 (SIGKILL) received by PID 11")},
    log_tail={(0, "stdout"): ("not mine",), (1, "stdout"): ("step 2", "step 3 \x1b[31m"), (1, "stderr"): ()},
    faults=(FaultResult(PLAN.faults[0], 1, Injected("the rank ended with SIGKILL (9)")),),
    journal=Path("/w/journal.jsonl"),
)


def test_a_verdict_reads_from_the_result_to_the_evidence():
    """It has root cause, exits, faults with their proof, last lines, times and leftovers."""
    assert render_verdict(SCENARIO, SEEN, Verdict("PASS")) == (
        "PASS  crash/one\n"
        "      One is killed\n"
        "\n"
        "root cause: rank 1: SIGKILL (9), by itself\n"
        "  Signal 9 (SIGKILL) received by PID 11\n"
        "exits:\n"
        "  rank 0: SIGTERM (15), stopped by us\n"
        "  rank 1: SIGKILL (9), by itself\n"
        "faults:\n"
        "  + signal SIGKILL on rank 1 at line 'step 3'\n"
        "    injected on rank 1: the rank ended with SIGKILL (9)\n"
        "last lines of stdout of rank 1:\n"
        "  | step 2\n"
        "  | step 3 \\x1b[31m\n"
        "teardown: 1.00 s\n"
        "whole job: 3.00 s\n"
        "left behind: nothing\n"
        "journal: /w/journal.jsonl\n"
    )


def test_violations_follow_the_verdict():
    """They have the form "expected X, got Y"."""
    lines = render_verdict(SCENARIO, SEEN, Verdict("FAIL", ("expected a, got b",), ("expected a, got b",))).splitlines()

    assert lines[:3] == ["FAIL  crash/one", "      One is killed", "  * expected a, got b"]


def test_an_inconclusive_run_lists_its_violations_after_the_reason():
    """They may be a consequence of the missing fault."""
    seen = replace(SEEN, faults=(FaultResult(PLAN.faults[0], 1, NotReached("no line")),))
    text = render_verdict(SCENARIO, seen, Verdict("INCONCLUSIVE", ("it: not reached",), ("expected a, got b",)))

    assert "  * it: not reached\n    (and expected a, got b)\n" in text
    assert "  - signal SIGKILL on rank 1 at line 'step 3'\n    not reached on rank 1: no line\n" in text


def test_a_job_that_was_not_run_has_only_a_reason():
    """Only the reason is shown."""
    assert render_verdict(SCENARIO, JobResult(error="broke"), Verdict("SKIPPED", ("why",))) == (
        "SKIPPED  crash/one\n      One is killed\n  * why\nlauncher: broke\n"
    )


def test_leftovers_are_listed():
    """Each process has a line."""
    text = render_verdict(
        SCENARIO, replace(SEEN, leftovers=(Leftover("process", "sleep", 9, 1, ended=True),)), Verdict("FAIL")
    )

    assert "left behind: process 9 of rank 1: sleep (ended)\n" in text


def test_a_long_message_keeps_its_beginning_and_its_end():
    """The exception is at the end."""
    told = "\n".join(f"line {n}" for n in range(100))
    text = render_verdict(SCENARIO, replace(SEEN, failures={1: FailureSeen(1, told)}), Verdict("PASS"))

    assert "line 0\n" in text
    assert "line 99\n" in text
    assert "line 50\n" not in text


def test_control_characters_of_ranks_never_reach_the_terminal():
    """Escape sequences, NUL, line ends and lone surrogates are escaped."""
    assert printable("a\x1b[2J\0\r\n\tb\ud800 é") == "a\\x1b[2J\\x00\\r\\n\\tb\\ud800 é"


def test_a_launcher_under_test_is_named_as_such():
    """It is rank 0 of derail's job, which readers do not know; messages of its own ranks are not changed."""
    seen = replace(
        SEEN,
        ranks={0: RankOutcome(0, 10, ExitStatus(code=1), Cause.SELF, exit_order=0)},
        root_cause=0,
        failures={0: FailureSeen(0, "rank 0 crashed")},
        log_tail={(0, "stdout"): ("rank 0: step 1",)},
        leftovers=(Leftover("process", "sleep 60", 7, 0),),
    )
    text = render_verdict(replace(SCENARIO, ranks=1, launches=2), seen, Verdict("PASS"))

    for line in (
        "root cause: the launcher: exit 1, by itself",
        "  rank 0 crashed",
        "  the launcher: exit 1, by itself",
        "last lines of stdout of the launcher:",
        "  | rank 0: step 1",
        "left behind: process 7 of the launcher: sleep 60",
    ):
        assert line in text.splitlines()


def test_a_rank_that_an_external_agent_stopped_was_not_stopped_by_us():
    """The sentence has the agent's word for it."""
    rank = replace(RANKS[0], stopped_by="the agent")

    assert str(rank) == "rank 0: SIGTERM (15), stopped by the agent"
