"""``derail.agent``: foreign supervisors under test, in real pytest runs; the launcher is a real, small one."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from plugin.inner_pytest import RunPytest

pytest_plugins = ["pytester"]

LAUNCHER = Path(__file__).parents[2] / "programs" / "launchers" / "honest.py"
PRELUDE = f"""
import os, sys, pathlib
import pytest
from derail import faults, when
from pytest_derail import *

HERE = pathlib.Path(__file__).parent
LAUNCHER = [sys.executable, "-u", {str(LAUNCHER)!r}]
HONEST = [*LAUNCHER, "{{ranks}}", "{{restarts}}", "{{grace}}", "{{script}}", "{{args}}"]
DECLARED = HERE / "honest.toml"
DECLARED.write_text('''
name = "honest"
[report]
root_cause = '^root cause: rank (?P<rank>\\\\d+)$'
failure = '^rank (?P<rank>\\\\d+): (exit (?P<code>\\\\d+)|signal (?P<signal>\\\\d+)): (?P<message>.*)$'
''')
WORKER = HERE / "worker.py"
WORKER.write_text('''
import os, sys, time
def work():
    time.sleep(0.02)
for step in range(int(sys.argv[1])):
    print("step", step, flush=True)
    work()
''')
KILL = faults.signal("SIGKILL", rank=1, when=when.line("step 3"))
"""


def test_a_foreign_supervisor_is_run_broken_and_judged(run_pytest: RunPytest) -> None:
    """With the assertions of any other job: what it says, what it exits with, how often it starts again."""
    result = run_pytest(
        PRELUDE
        + """
def test_it_succeeds(derail):
    outcome = derail.agent(HONEST, WORKER, args=["3"], declaration=DECLARED)
    assert_succeeded(outcome)
    assert_exit_code(outcome, 0)
    assert_log_tail(outcome, 1, like=["step 2"])
    assert_no_leftovers(outcome)

def test_the_killed_rank_is_blamed(derail):
    outcome = derail.agent(HONEST, str(WORKER), args=["900"], faults=[KILL], grace=1, declaration=DECLARED)
    assert_failed(outcome, 1, signal="SIGKILL", message="it failed")
    assert_stopped(outcome, {0})
    assert_signals_sent(outcome, 0, ["SIGTERM"])
    assert_exit_code(outcome, 128 + 9)
    assert_restarts(outcome, 0)
    assert_injected(outcome, KILL)
    assert outcome.workdir == derail.workdir / "job-0"

def test_it_starts_them_again(derail):
    kill = faults.signal("SIGKILL", rank=1, when=when.call("__main__:work", hit=3))  # where it stays until it is hit
    outcome = derail.agent(HONEST, WORKER, args=["20"], faults=[kill], restarts=1, declaration=DECLARED)
    assert_restarts(outcome, 1)
    assert_exit_code(outcome, 0)

def test_the_agent_itself_is_broken(derail):
    stop = faults.signal("SIGTERM", rank="the agent", when=when.line("step 3", rank=0))
    outcome = derail.agent(HONEST, WORKER, args=["900"], faults=[stop])
    assert_injected(outcome, stop)
    assert outcome.exit_code
    assert_exit_code(outcome, outcome.exit_code)
    assert_only_failed(outcome, ())

@pytest.mark.faults(KILL)
def test_a_command_that_knows_all_itself(derail):
    outcome = derail.agent([*LAUNCHER, "2", "0", "1", WORKER, "900"])
    assert outcome.ranks[1].status.signal == 9
    assert_only_failed(outcome, {1})
    assert_injected(outcome)

def test_it_takes_too_long(derail):
    outcome = derail.agent([*LAUNCHER, "1", "0", "1", WORKER, "900"], ranks=1, timeout=1)
    assert_timed_out(outcome)
    assert_only_failed(outcome, outcome.failed)
"""
    )
    result.assert_outcomes(passed=6)
    result.stdout.fnmatch_lines(["derail: 6 jobs, 1? ranks, 4 faults injected, 0 not reached, *"])


def test_what_goes_wrong_under_it_unseen_fails_the_test(run_pytest: RunPytest) -> None:
    """A rank that fails, an exit code, a fault that did not happen; the report shows all of it."""
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
            "job 0 (honest): rank 1: SIGKILL (9), by itself, and nobody expected it (if it is meant: assert_failed*",
            "*derail: job 0 (honest, 2 ranks)*",
            "root cause: rank 1",
            "*derail: job 0: rank 1, last lines of stdout*",
            "*derail: job 0: timeline*",
            "to run it again: python -m pytest test_it.py::test_rank",
            "job 0 (sh): the agent exited with 7, and nobody expected it (if it is meant: assert_exit_code(*, 7))",
            "job 0 (*): a fault did not verifiably happen: *",
            "job 0 (sh): the launcher broke: sh ended with exit 5 before any rank was seen; it said: cannot do that",
        ]
    )


def test_an_agent_that_is_not_there_or_cannot_do_it_is_told(run_pytest: RunPytest) -> None:
    """Not installed: the test is skipped. A name that nobody has, a job that it cannot run: errors that say so."""
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
            "E *ValueError: *the command line has no {node}, and the scenario wants 2 nodes",
            "E *FileNotFoundError: there is no script *train.py",
            "E *ValueError: there is no agent to run: give a name, or a command line of at least one word",
            "SKIPPED *no-such-launcher: there is no program 'no-such-launcher' here",
        ]
    )


STARTS_SOME = """
import os, subprocess, sys
start, code, environment, command = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4:]
inherited = {} if environment == "cleared" else dict(os.environ)
ranks = [subprocess.Popen(command, env={**inherited, "RANK": str(number)}) for number in range(start)]
ends = [rank.wait() for rank in ranks]
sys.exit(code or max(ends, default=0))
"""
"""A launcher that may start fewer ranks than it is asked for, and may clear their environment."""
SOME = f"""
(HERE / "some.py").write_text({STARTS_SOME!r})
SOME = [sys.executable, str(HERE / "some.py")]
"""


def test_a_rank_that_was_never_seen_satisfies_no_assertion_about_the_job(run_pytest: RunPytest) -> None:
    """Nor a test without an assertion; the message says which rank, of how many, and what the cause may be."""
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
    result = run_pytest(PRELUDE + SOME + "".join(tests), "-n", "2", plugins=("xdist",))
    result.assert_outcomes(failed=2 * len(asserts))
    out, python = result.stdout.str(), Path(sys.executable).name
    assert out.count("E           rank 2 of 3 was never seen: the launcher started fewer ranks, or") == len(asserts) - 1
    assert out.count(f"job 0 ({python}): rank 2 of 3 was never seen: the launcher started fewer ranks, or") == 1
    assert f"job 0 ({python}): the launcher broke: {python} ended with exit 0 before any rank was seen; it said" in out
    assert "no rank was seen: the launcher started fewer ranks, or it cleared their environment" in out


def test_what_was_seen_of_the_others_can_be_asserted(run_pytest: RunPytest) -> None:
    """Lines, faults and a timeout are evidence by themselves; a launcher that was killed need not have started all."""
    result = run_pytest(
        PRELUDE
        + SOME
        + """
def test_evidence(derail):
    outcome = derail.agent([*SOME, "2", "3", "kept", "{command}"], WORKER, args=["900"], ranks=3, faults=[KILL],
                           timeout=4)
    assert_log_tail(outcome, 1, like=["step 3"])
    assert_injected(outcome, KILL)
    assert_timed_out(outcome)
    with pytest.raises(AssertionError, match="rank 2 of 3 was never seen"):
        assert_only_failed(outcome, outcome.failed)

def test_killed_agent(derail):
    kill = faults.signal("SIGKILL", rank="the agent", when=when.line("step 3", rank=0))
    outcome = derail.agent([*SOME, "2", "0", "kept", "{command}"], WORKER, args=["900"], ranks=3, faults=[kill])
    assert_injected(outcome, kill)
    assert_leftovers(outcome, ["*", "*"])
    with pytest.raises(AssertionError, match="rank 2 of 3 was never seen"):
        assert_only_failed(outcome, outcome.failed)
    with pytest.raises(AssertionError, match="rank 2 of 3 was never seen"):
        assert_exit_code(outcome, 128 + 9)
"""
    )
    result.assert_outcomes(passed=2)
