"""Verdict: every expectation can fail, and no run passes whose fault did not happen."""

from dataclasses import replace
from pathlib import Path

import pytest

from derail import faults
from derail.faults.model.results import Errored, FaultResult, Injected, NotReached, Unavailable, Unknown
from derail.model.exit import ExitStatus
from derail.model.outcome import Cause, Leftover, RankOutcome
from derail.scenario.expect import budgeted as limits_of
from derail.scenario.expect import first_unmatched, judge
from derail.scenario.model import ALL_PROMISES, Expect, FailureSeen, JobResult, LogTail, Scenario
from derail.scenario.recovery import Recovery
from wording import Tells

PLAN = faults.plan([faults.signal("SIGKILL", rank=1)])
KILLED = FaultResult(PLAN.faults[0], 1, Injected("seen"), 1.0)
RANKS = {
    0: RankOutcome(0, 10, ExitStatus(signal=15), Cause.STOPPED_BY_US, exit_order=1, signals_sent=(15,)),
    1: RankOutcome(1, 11, ExitStatus(signal=9), Cause.SELF, exit_order=0),
    2: RankOutcome(2, 12, ExitStatus(code=0), Cause.SELF, exit_order=2, succeeded=True),
}
SEEN = JobResult(
    ranks=RANKS,
    root_cause=1,
    started_at=0.0,
    ended_at=3.0,
    stop_requested_at=2.0,
    failures={1: FailureSeen(1, "Signal 9 (SIGKILL) received", "malformed", "truncated")},
    log_tail={(1, "stdout"): ("step 1", "step 2", "step 3")},
    faults=(KILLED,),
    exit_code=137,
    restarts=1,
    resumed_at=4,
)
MET = Expect(
    succeeded=False,
    root_cause=1,
    failures=(1,),
    stopped=(0,),
    exits={0: "SIGTERM", 1: "SIGKILL", 2: 0},
    message="SIG(KILL|TERM)",
    log_tail=(LogTail(1, ("*1", "step ?")),),
    error_file={1: "malformed"},
    exit_code=137,
    teardown_seconds=1.5,
    restarts=1,
    resumed_at=4,
)


def verdict(expect=MET, seen=SEEN, plan=PLAN, promises=None):
    """Judge one result."""
    return judge(Scenario("t", 3, Path("w.py"), plan, expect, restarts=1), seen, promises)


def test_a_run_that_meets_every_expectation_passes():
    """The result meets every expectation."""
    assert (verdict().kind, verdict().reasons, verdict().passed, verdict().exit_code) == ("PASS", (), True, 0)


VIOLATED = {
    "succeeded": (True, "expected outcome succeeded, got failed"),
    "root_cause": (2, "expected root cause rank 2, got rank 1"),
    "failures": ((1, 2), "expected failed: rank(s) 1, 2, got rank(s) 1"),
    "stopped": ((), "expected stopped: no rank, got rank(s) 0"),
    "message": ("Traceback", "expected a message like 'Traceback' of rank 1, got 'Signal 9 (SIGKILL) received'"),
    "error_file": ({1: "good"}, "expected error file of rank 1: good, got malformed (truncated)"),
    "exit_code": (1, "expected exit code 1 of the launcher, got 137"),
    "teardown_seconds": (0.5, "expected a teardown of at most 0.5 s, got 1.00 s"),
    "restarts": (0, "expected 0 restart(s), got 1"),
    "resumed_at": (5, "expected resumption at step 5, got step 4"),
    "log_tail": (
        (LogTail(1, ("*3", "*2")),),
        "expected a line like '*2' in the tail of stdout of rank 1, got none in 3 lines; its last line is 'step 3'",
    ),
}


@pytest.mark.parametrize("field", VIOLATED)
def test_each_unmet_expectation_fails_the_run(field):
    """The reason has the expected and the actual value."""
    value, reason = VIOLATED[field]
    told = verdict(replace(MET, **{field: value}))

    assert (told.kind, told.reasons, told.exit_code) == ("FAIL", (reason,), 1)
    assert [found.promise for found in told.findings if not found.kept] == [field]


@pytest.mark.parametrize("field", VIOLATED)
def test_an_expectation_without_a_promise_fails_no_agent(field):
    """The expectation is still checked, and reported as not applicable."""
    told = verdict(replace(MET, **{field: VIOLATED[field][0]}), promises=ALL_PROMISES - {field})

    assert (told.kind, told.reasons) == ("PASS", ())
    assert {found.promise for found in told.findings if found.kept is None} == {field}
    assert VIOLATED[field][1] in map(str, told.findings)


def test_met_expectations_have_findings():
    """There is one finding each, under the matching promise."""
    found = verdict().findings

    assert all(told.kept for told in found)
    assert {told.promise for told in found} == ALL_PROMISES - {"forwards_signals", "ends_with_launcher"}
    assert Tells("rank 1", "rank 1") in [str(told) for told in found if told.promise == "root_cause"]


def test_a_job_that_never_ended_has_no_other_finding():
    """All other findings would be about the process that ended it."""
    told = verdict(Expect(root_cause=0), seen=replace(SEEN, timed_out=True))

    assert [(found.promise, found.kept) for found in told.findings] == [("ends", False)]


def test_an_unknown_number_of_restarts_is_not_the_expected_one():
    """Neither is an unreported step."""
    told = verdict(Expect(restarts=0, resumed_at=0), replace(SEEN, restarts=None, resumed_at=None))

    assert [found.promise for found in told.findings if not found.kept] == ["restarts", "resumed_at"]
    assert told.reasons == (Tells("0 restart"), Tells("step 0"))


FOREIGN = replace(SEEN, external=True, exit_code=1)


def test_the_report_of_an_external_agent_is_judged():
    """The facts and its report are separate findings."""
    blames = replace(FOREIGN, root_cause=0, failures={0: FailureSeen(0, "m", status=ExitStatus(signal=15))})
    told = verdict(Expect(root_cause=1, failures=(1,), exits={0: "SIGTERM", 1: "SIGKILL"}), blames)

    assert [found.promise for found in told.findings if not found.kept] == ["root_cause", "failures"]
    assert told.reasons == (Tells("rank 1", "rank 0"), Tells("1", "0"))


def test_an_external_agent_has_not_ended_its_leftovers():
    """The sandbox ended it; leftovers that derail's launcher ended itself are as expected."""
    left = replace(SEEN, leftovers=(Leftover("process", "sleep 600", 99, 1, ended=True),))

    kept = [
        [found.kept for found in verdict(Expect(leftovers="ended"), seen).findings if found.promise == "leftovers"]
        for seen in (left, replace(left, external=True))
    ]
    assert kept == [[True], [False]]


def test_a_wrong_exit_in_the_report_of_an_external_agent_is_detected():
    """The actual exit status is known."""
    tells = replace(FOREIGN, failures={1: FailureSeen(1, "m", status=ExitStatus(code=1))})

    assert verdict(Expect(exits={1: "SIGKILL"}), tells).reasons == (Tells("launcher", "SIGKILL", "rank 1", "exit 1"),)


@pytest.mark.parametrize(
    ("expected", "code", "reasons"),
    [
        (False, 1, ()),
        (False, 0, (Tells("failed", "succeeded", "0, 1"),)),
        (True, 1, (Tells("succeeded", "failed"),)),
        (True, 0, (Tells("succeeded", "succeeded", "0, 1"),)),
    ],
)
def test_an_external_agent_reports_success_by_its_exit_code(expected, code, reasons):
    """Exit code 0 after a failure hides the failure."""
    assert verdict(Expect(succeeded=expected), replace(FOREIGN, exit_code=code)).reasons == reasons


def test_leftovers_have_a_stable_order():
    """Leftovers are sorted by rank, because two runs are compared by their texts."""
    left = [Leftover("process", "sleep 9", 12, 1), Leftover("process", "train.py", 13, 0), Leftover("file", "/tmp/x")]
    told = verdict(MET, replace(SEEN, leftovers=(*left, Leftover("process", "sleep 9", 11, 0))))

    assert told.reasons == (Tells("/tmp/x", "11", "rank 0", "sleep 9", "13", "train.py", "12", "rank 1", "sleep 9"),)


@pytest.mark.parametrize(
    ("exits", "reason"),
    [
        ({0: 0}, Tells("rank 0", "exit 0", "SIGTERM")),
        ({1: "SIGTERM"}, Tells("rank 1", "SIGTERM", "SIGKILL")),
        ({2: "SIGKILL"}, Tells("rank 2", "SIGKILL", "exit 0")),
        ({2: 1}, Tells("rank 2", "exit 1", "exit 0")),
    ],
)
def test_codes_and_signals_are_distinguished(exits, reason):
    """A code is not a signal."""
    assert verdict(Expect(exits=exits)).reasons == (reason,)


def test_a_rank_that_never_ended_has_no_exit():
    """It was abandoned."""
    ranks = {**RANKS, 1: RankOutcome(1, 11, None, Cause.ABANDONED)}
    told = verdict(Expect(exits={1: 0}), replace(SEEN, ranks=ranks))

    assert told.reasons == (Tells("rank 1", "exit 0"),)


def test_all_violations_are_reported():
    """One run reports the whole list."""
    assert len(verdict(Expect(root_cause=0, exit_code=0, exits={1: 0})).reasons) == 3


@pytest.mark.parametrize("result", [NotReached("r"), Errored("r"), Unavailable("r"), Unknown("r")])
@pytest.mark.parametrize("expect", [MET, Expect(root_cause=2)], ids=["met", "violated"])
def test_a_run_whose_fault_did_not_happen_is_inconclusive(result, expect):
    """It neither passes nor fails, because nothing was tested."""
    told = verdict(expect, replace(SEEN, faults=(FaultResult(PLAN.faults[0], 1, result),)))

    assert (told.kind, told.exit_code, told.reasons) == (
        "INCONCLUSIVE",
        3,
        (f"{PLAN.faults[0].id} on rank 1: {result}",),
    )
    assert bool(told.violations) == (expect != MET)


def test_a_fault_that_missed_one_rank_is_inconclusive():
    """A fault aimed at all ranks must have happened on all."""
    other = FaultResult(PLAN.faults[0], 2, NotReached("r"))

    assert verdict(seen=replace(SEEN, faults=(KILLED, other))).kind == "INCONCLUSIVE"


def test_a_fault_without_a_report_did_not_happen():
    """Each planned fault needs a report."""
    told = verdict(seen=replace(SEEN, faults=()))

    assert (told.kind, told.reasons) == ("INCONCLUSIVE", (Tells(PLAN.faults[0].id),))


def test_a_job_that_could_not_be_run_is_skipped():
    """The reason is given."""
    told = verdict(seen=JobResult(faults=(FaultResult(PLAN.faults[0], None, Unavailable("no luck")),)))

    assert (told.kind, told.exit_code) == ("SKIPPED", 4)
    assert "no luck" in told.reasons[0]


def test_a_job_that_was_not_run_does_not_pass():
    """Faults are not needed for that."""
    assert verdict(Expect(), JobResult(), faults.plan()).kind == "INCONCLUSIVE"


def test_a_launcher_that_breaks_fails_the_run():
    """The launcher is the subject of the test."""
    told = verdict(seen=JobResult(faults=(KILLED,), error="JSONDecodeError: x"))

    assert told.kind == "FAIL"
    assert told.reasons == (Tells("launcher", "JSONDecodeError: x"),)


def test_a_job_that_had_to_be_ended_from_outside_fails():
    """Other expectations do not matter."""
    told = verdict(seen=replace(SEEN, timed_out=True))

    assert told.reasons == (Tells("30 s"),)
    assert [found.promise for found in told.findings if not found.kept] == ["ends"]


@pytest.mark.parametrize(
    ("expect", "ended", "kind"),
    [
        ("none", True, "FAIL"),
        ("none", False, "FAIL"),
        ("ended", True, "PASS"),
        ("ended", False, "FAIL"),
        ("any", False, "PASS"),
    ],
)
def test_unexpected_leftovers_fail_the_run(expect, ended, kind):
    """By default no leftovers are allowed."""
    left = Leftover("process", "sleep 600", 99, 1, ended)
    told = verdict(replace(MET, leftovers=expect), replace(SEEN, leftovers=(left,)))

    assert told.kind == kind
    assert all("sleep 600" in reason for reason in told.reasons)


@pytest.mark.parametrize(
    ("tail", "reasons"),
    [
        (LogTail(1, unlike=("*9", "x*")), ()),
        (LogTail(1, ("*1", "*3"), unlike=("*9",)), ()),
        (
            LogTail(1, unlike=("x*", "*2")),
            (Tells("'x*'", "'*2'", "stdout", "rank 1", "'step 2'"),),
        ),
        (
            LogTail(1, ("*9",), "stderr", unlike=("*2",)),
            (Tells("'*9'", "stderr", "rank 1", "empty"),),
        ),
    ],
    ids=["none", "none, and others", "one", "one, and none of the others"],
)
def test_an_excluded_line_fails_the_run(tail, reasons):
    """Its position in the tail does not matter; ``like`` and ``unlike`` are separate findings."""
    told = verdict(Expect(log_tail=(tail,)))

    assert told.reasons == reasons
    assert [found.promise for found in told.findings].count("log_tail") == bool(tail.like) + bool(tail.unlike)


def test_a_missing_root_cause_is_reported():
    """A message or a root cause is expected of a job that did not fail."""
    fine = JobResult(ranks={2: RANKS[2]}, started_at=0.0, ended_at=1.0, faults=(KILLED,))
    told = verdict(Expect(root_cause=1, message="x", error_file={1: "good"}), fine)

    assert [found.promise for found in told.findings if not found.kept] == ["root_cause", "message", "error_file"]
    assert told.reasons == (Tells("rank 1", "none"), Tells("'x'", "no failure"), Tells("rank 1", "good", "no failure"))


def test_an_empty_log_is_reported_as_empty():
    """The text does not mention a last line."""
    told = verdict(Expect(log_tail=(LogTail(0, ("x",), "stderr"),)))

    assert told.reasons == (Tells("stderr", "rank 0", "empty"),)


@pytest.mark.parametrize(
    ("patterns", "lines", "missing"),
    [
        (("a", "c"), ("a", "b", "c"), None),
        (("c", "a"), ("a", "b", "c"), "a"),
        (("a", "a"), ("a",), "a"),
        (("*b*",), ("abc",), None),
        (("b",), ("abc",), "b"),
        (("[a]",), ("a",), None),
        ((), (), None),
    ],
)
def test_lines_are_matched_whole_and_in_order(patterns, lines, missing):
    """Other lines may be between them."""
    assert first_unmatched(patterns, lines) == missing


@pytest.mark.parametrize(("succeeded", "kind"), [(True, "FAIL"), (False, "INCONCLUSIVE")])
def test_a_rank_that_was_never_seen_satisfies_no_outcome(succeeded, kind):
    """A job without it has not succeeded; a failed job may have been right not to start it."""
    code = 0 if succeeded else 1
    fates = {0: RankOutcome(0, 100, ExitStatus(code=code), Cause.SELF, succeeded=code == 0)}
    blamed = 0 if code else None
    seen = JobResult(
        ranks=fates, root_cause=blamed, started_at=0.0, ended_at=1.0, external=True, exit_code=code, asked=2
    )
    scenario = Scenario("a job", 2, Path("worker.py"), expect=Expect(succeeded=succeeded))

    found = judge(scenario, seen)
    assert found.kind == kind
    assert Tells("rank 1 of 2") in found.reasons
    assert judge(scenario, replace(seen, asked=1)).kind == "PASS"


def test_a_launcher_that_was_broken_on_purpose_need_not_have_started_all_ranks():
    """Its scenario is judged by the other expectations."""
    plan = faults.plan([faults.signal("SIGKILL", rank="the agent")])
    fates = {0: RankOutcome(0, 100, ExitStatus(code=1), Cause.SELF)}
    seen = JobResult(
        ranks=fates,
        root_cause=0,
        started_at=0.0,
        ended_at=1.0,
        faults=(FaultResult(plan.faults[0], None, Injected("killed")),),
        external=True,
        exit_code=1,
        asked=2,
    )
    scenario = Scenario("a job", 2, Path("worker.py"), faults=plan, expect=Expect(succeeded=False))
    assert judge(scenario, seen).kind == "PASS"


def timed(took, at_most=None, *, grace=2.0, slowdown=1.0, **more):
    """Return the findings about the time of a teardown."""
    scenario = Scenario("t", 3, Path("w.py"), PLAN, Expect(teardown_seconds=at_most), grace=grace, restarts=1, **more)
    stop = None if took is None else 3.0 - took
    found = judge(scenario, replace(SEEN, stop_requested_at=stop, slowdown=slowdown)).findings
    return [(finding.kept, finding.expected) for finding in found if finding.promise == "teardown_seconds"]


def test_a_teardown_may_take_the_grace_period_and_a_second():
    """Without another limit in the scenario, one grace period for each rank is too long."""
    assert timed(2.9) == [(True, Tells("3 s"))]
    assert timed(3.1) == [(False, Tells("3 s"))]
    assert timed(1.7, grace=0.5) == [(False, Tells("1.5 s"))]
    assert timed(3.1, 4.0) == [(True, Tells("4 s"))]


def test_a_teardown_is_not_timed_without_a_limit():
    """Nor is that of a launcher under test, whose teardown is derail's."""
    assert timed(None) == timed(100.0, float("inf")) == timed(100.0, launches=2) == []


@pytest.mark.parametrize(("slowdown", "kept"), [(1.0, False), (1.4, False), (1.6, True), (50.0, True)])
def test_the_margin_of_a_teardown_grows_with_the_load(slowdown, kept):
    """The measured load counts up to a limit, otherwise nothing would be too slow on a busy machine."""
    assert [told for told, _ in timed(3.5, slowdown=slowdown)] == [kept]
    assert [told for told, _ in timed(4.6, slowdown=slowdown)] == [False]


def restarted(times, *, restarts=0, promises=None, external=True):
    """Return the verdict on a launcher that has restarted the ranks this number of times."""
    seen = replace(SEEN, external=external, root_cause=2, restarts=times)
    return judge(Scenario("t", 3, Path("w.py"), PLAN, MET, restarts=restarts), seen, promises)


def test_a_launcher_that_restarts_by_default_gets_only_that_finding():
    """It never promised a number of restarts: nothing can be judged."""
    told = restarted(1, promises=ALL_PROMISES - {"restarts"})

    assert (told.kind, told.violations) == ("INCONCLUSIVE", ())
    assert told.reasons == (Tells("restart", "1", "{restarts}"),)
    assert [found.promise for found in told.findings] == ["restarts"]


def test_a_launcher_that_promises_restarts_fails_by_one_restart_too_many():
    """The finding has the same words, and is the only one."""
    told = restarted(3)

    assert (told.kind, told.reasons) == ("FAIL", (Tells("restart", "3"),))
    assert restarted(1, restarts=1).kind == "FAIL"
    assert restarted(1, restarts=1).reasons[0] == Tells("rank 1", "rank 2")


def test_an_unmet_expectation_without_a_promise_is_a_difference():
    """It fails no agent; a met expectation is no difference."""
    told = verdict(replace(MET, exit_code=1), promises=ALL_PROMISES - {"exit_code", "root_cause"})
    found = {finding.promise: (finding.kept, finding.differs) for finding in told.findings}

    assert told.kind == "PASS"
    assert (found["exit_code"], found["root_cause"], found["succeeded"]) == ((None, True), (None, False), (True, False))


def test_a_scenario_can_be_about_one_promise():
    """All its expectations count for that promise, except the end of the job."""
    expect = replace(MET, exit_code=1, promise="forwards_signals")

    assert {found.promise for found in verdict(expect).findings} == {"ends", "forwards_signals"}
    assert verdict(expect).kind == "FAIL"
    assert verdict(expect, promises=ALL_PROMISES - {"forwards_signals"}).kind == "PASS"


def test_scenarios_about_error_files_are_skipped_for_ranks_without_one():
    """It is SKIPPED, whatever the result of the fault; other scenarios are judged."""
    plan = faults.plan([faults.error_file("empty", rank=1)])
    fault = FaultResult(plan.faults[0], 1, NotReached("the rank has no error file"))
    seen = replace(SEEN, faults=(fault,), no_error_file=True)

    assert (verdict(seen=seen, plan=plan).kind, verdict(seen=replace(SEEN, no_error_file=True)).kind) == (
        "SKIPPED", "PASS",
    )  # fmt: skip


def test_the_exit_of_a_launcher_under_test_belongs_to_the_promise_exit_code():
    """In a scenario about a launcher, rank 0 is the launcher: its exit is no report about ranks."""
    scenario = Scenario("t", 1, Path("w.py"), PLAN, Expect(succeeded=False, exits={1: 143}), launches=2)
    promised = judge(scenario, SEEN)
    other = judge(scenario, SEEN, ALL_PROMISES - {"exit_code"})

    assert [finding.promise for finding in promised.findings if finding.kept is False] == ["exit_code"]
    assert (promised.kind, other.kind) == ("FAIL", "PASS")


def test_a_fault_unavailable_under_this_launcher_is_skipped():
    """For example because their streams are pipes; if the launcher hung, that counts in any case."""
    beyond = FaultResult(PLAN.faults[0], 1, Unavailable("rank 1 writes its stdout to pipe:[1], and not to a file"), 1.0)
    seen = replace(SEEN, faults=(beyond,), external=True)
    hung = replace(seen, timed_out=True)

    assert (verdict(seen=seen).kind, verdict(seen=seen).reasons) == ("SKIPPED", (str(beyond),))
    assert verdict(seen=hung).kind == "INCONCLUSIVE"
    assert verdict(seen=replace(seen, deadlock="a full pipe")).kind == "FAIL"


def test_ranks_that_resume_at_different_steps_do_not_meet_the_expectation():
    """Each of them may be right by chance."""
    tails = {(0, "stdout"): ("resumed at step 4",), (1, "stdout"): ("step 1", "resumed at step 3", "step 3")}
    found = verdict(Expect(resumed_at=4), replace(SEEN, log_tail=tails))

    assert [each.got for each in found.findings if not each.kept] == ["step 4 in rank 0, step 3 in rank 1"]


MEASURED = Recovery(notice=0.5, stop=1.0, recover=41.2, lost_steps=7, failed=True, stepped=True)


def budgeted(budget, measured=MEASURED, plan=PLAN, restarts=1, seen=SEEN):
    """Judge a run with this recovery under a budget."""
    scenario = Scenario("t", 3, Path("w.py"), plan, MET, restarts=restarts, budget=budget)
    return judge(scenario, replace(seen, recovery=measured), frozenset())


@pytest.mark.parametrize(
    ("measure", "limit", "beyond", "reason"),
    [
        (
            "notice",
            0.5,
            0.4,
            "a reaction of the launcher at most 0.4 s after the fault (budget notice=0.4s), got 0.500 s",
        ),
        ("stop", 1.0, 0.9, "the end of all ranks at most 0.9 s after the fault (budget stop=0.9s), got 1.00 s"),
        (
            "recover",
            42,
            30,
            "a step of the next attempt at most 30 s after the fault (budget recover=30s), got 41.20 s",
        ),
        ("lost-steps", 7, 6, "at most 6 steps run again (budget lost-steps=6), got 7 steps"),
    ],
)
def test_a_measure_beyond_its_budget_fails(measure, limit, beyond, reason):
    """Of any launcher, as it is a limit of the caller and no promise; a measure at its limit is within it."""
    assert budgeted({measure: limit}).kind == "PASS"
    verdict = budgeted({measure: beyond})

    assert (verdict.kind, verdict.reasons) == ("FAIL", (f"expected {reason}",))


def test_a_job_that_never_ran_again_is_beyond_any_budget():
    """Its ranks had written step lines before the fault, and none after it; a rank that is still there is no end."""
    lost = replace(MEASURED, stop=None, recover=None, lost_steps=None)
    verdict = budgeted({"stop": 1e9, "recover": 1e9, "lost-steps": 1e9}, lost)

    assert [reason.rpartition("got ")[2] for reason in verdict.reasons] == [
        "a rank that was still there", "no step line after the fault", "no step line after the fault",
    ]  # fmt: skip


def test_without_step_lines_a_budget_proves_nothing():
    """The verdict is INCONCLUSIVE and names the pattern; what needs no step lines is judged."""
    silent = replace(MEASURED, recover=None, lost_steps=None, stepped=False)
    verdict = budgeted({"notice": 1.0, "recover": 1e9}, silent)

    assert verdict.kind == "INCONCLUSIVE"
    assert verdict.reasons == (Tells("budget recover", "not measured", "step pattern"),)
    assert [found.kept for found in verdict.findings if found.promise == "budget"] == [True]


def test_a_budget_is_for_runs_in_which_a_fault_made_a_rank_fail():
    """Without such a fault there is a finding without result; without restarts or faults, none at all."""
    (found,) = [each for each in budgeted({"stop": 1.0}, Recovery()).findings if each.promise == "budget"]
    assert (found.kept, found.got) == (None, "nothing to measure: no fault made a rank fail")

    assert measures_of({"stop": 1.0, "recover": 1.0}, restarts=0) == ("stop",)
    assert measures_of({"stop": 1.0, "recover": 1.0}, plan=faults.plan()) == ()
    assert measures_of({"stop": 1.0}, launches=2) == ()


def measures_of(budget, plan=PLAN, restarts=1, launches=0):
    """Return the limits that apply to a scenario."""
    scenario = Scenario("t", 1, Path("w.py"), plan, MET, restarts=restarts, launches=launches, budget=budget)
    return limits_of(scenario)
