"""``derail.agent``: foreign supervisors under test, in real pytest runs; the launcher is a real, small one."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from program_files import PROGRAMS, program_text

if TYPE_CHECKING:
    from plugin.inner_pytest import RunPytest

pytest_plugins = ["pytester"]

LAUNCHERS = str(PROGRAMS / "launchers")
PRELUDE = program_text("suites/jobs/launchers", LAUNCHERS=LAUNCHERS)


def test_an_external_agent_is_run_broken_and_judged(run_pytest: RunPytest) -> None:
    """The usual assertions cover its report, its exit code and its restarts."""
    result = run_pytest(program_text("suites/jobs/agent_jobs", LAUNCHERS=LAUNCHERS))
    result.assert_outcomes(passed=6)
    result.stdout.fnmatch_lines(["derail: 6 jobs, 1? ranks, 4 faults injected, 0 not injected, *"])


def test_unchecked_failures_under_an_agent_fail_the_test(run_pytest: RunPytest) -> None:
    """It is a failed rank, an exit code, or a fault that did not happen; the report shows all of it."""
    result = run_pytest(
        PRELUDE
        + """
def test_rank(derail):
    derail.agent(HONEST, WORKER, args=["900"], faults=[KILL], declaration=DECLARED)

def test_exit_code(derail):
    derail.agent(["sh", "-c", 'RANK=0 WORLD_SIZE=1 "$@"; exit 7', "sh", sys.executable, WORKER, "20"], ranks=1)

def test_no_fault(derail):
    derail.agent(HONEST, WORKER, args=["2"], faults=[KILL])

def test_no_rank(derail):
    derail.agent(["sh", "-c", "echo cannot do that; exit 5"])
"""
    )
    result.assert_outcomes(failed=4)
    result.stdout.fnmatch_lines(
        [
            "job 0 (honest): rank 1: SIGKILL (9), by itself; unexpected (if that is intended: assert_failed*",
            "*derail: job 0 (honest, 2 ranks)*",
            "root cause: rank 1",
            "*derail: job 0: rank 1, last lines of stdout*",
            "*derail: job 0: timeline*",
            "to run it again: python -m pytest test_it.py::test_rank",
            "job 0 (sh): unexpected exit code of the agent: 7 (if that is intended: assert_exit_code(*, 7))",
            "job 0 (*): a fault did not verifiably happen: *",
            "job 0 (sh): the launcher broke: sh ended with exit 5 before any rank was found; *: cannot do that",
        ]
    )


def test_a_missing_or_unsuitable_agent_is_reported(run_pytest: RunPytest) -> None:
    """If it is not installed, the test is skipped. An unknown name, or an unsupported job, is an error."""
    result = run_pytest(
        PRELUDE
        + """
def test_not_installed(derail):
    derail.agent(["no-such-launcher", "{script}"], WORKER)

def test_no_such_name(derail):
    derail.agent("torchrum", WORKER)

def test_no_nodes(derail):
    derail.agent(HONEST, WORKER, nodes=2)

def test_no_script(derail):
    derail.agent(HONEST, "train.py")

def test_nothing(derail):
    derail.agent([])
""",
        "-rs",
    )
    result.assert_outcomes(failed=4, skipped=1)
    result.stdout.fnmatch_lines(
        [
            "E *InputError: unknown agent 'torchrum'; did you mean 'torchrun'?",
            "E *ValueError: *the command line has no {node}, and the scenario needs 2 nodes",
            "E *FileNotFoundError: script not found: *train.py",
            "E *ValueError: agent: empty command line. Give a name, or a command line of at least one word",
            "SKIPPED *no-such-launcher: program not found: 'no-such-launcher'",
        ]
    )


def test_a_rank_that_was_never_seen_satisfies_no_assertion_about_the_job(run_pytest: RunPytest) -> None:
    """Nor does a test without assertions pass; the message has the rank, the number of ranks, and possible causes."""
    asserts = {
        "succeeded": "assert_succeeded(outcome)",
        "exit_code": "assert_exit_code(outcome, {code})",
        "only_failed": "assert_only_failed(outcome, {failed})",
        "collateral": "assert_stopped(outcome, [])",
        "root_cause": "assert_root_cause(outcome, None)",
        "restarts": "assert_restarts(outcome, 0)",
        "nothing_left": "assert_no_leftovers(outcome)",
        "nothing_asked": "outcome.exit_code",
    }
    tests = [
        f"""
def test_{name}_{started}_{kept}(derail):
    outcome = derail.agent([*SOME, "{started}", "0", "{kept}", "{{command}}"], WORKER, args=["2"], ranks=3)
    {line.format(code=0, failed=[])}
"""
        for name, line in asserts.items()
        for started, kept in ((2, "kept"), (3, "cleared"))
    ]
    result = run_pytest(PRELUDE + "".join(tests), "-n", "2", plugins=("xdist",))
    result.assert_outcomes(failed=2 * len(asserts))
    out, python = result.stdout.str(), Path(sys.executable).name
    assert out.count("E           rank 2 of 3 was never seen: the launcher started fewer ranks, or") == len(asserts) - 1
    assert out.count(f"job 0 ({python}): rank 2 of 3 was never seen: the launcher started fewer ranks, or") == 1
    assert (
        f"job 0 ({python}): the launcher broke: {python} ended with exit 0 before any rank was found; its last output"
        in out
    )
    assert "no rank was found: the launcher started fewer ranks, or it cleared their environment" in out


def test_what_was_seen_of_the_others_can_be_asserted(run_pytest: RunPytest) -> None:
    """Lines, faults and a timeout are separate evidence; a killed launcher need not have started all ranks."""
    result = run_pytest(program_text("suites/jobs/unseen_ranks", LAUNCHERS=LAUNCHERS))
    result.assert_outcomes(passed=2)
