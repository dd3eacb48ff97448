"""The ``derail`` fixture in real pytest runs: what passes, what fails, what is an error, and what is left."""

from __future__ import annotations

import inspect
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from program_files import PROGRAMS, program_text
from pytest_derail import Derail
from pytest_derail.jobs.lifecycle import Lifecycle

if TYPE_CHECKING:
    from collections.abc import Callable

pytest_plugins = ["pytester"]

DEADLINE = 120.0
PRELUDE = program_text("suites/jobs/steps")


@pytest.fixture
def run_tests(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Callable[..., pytest.RunResult]:
    """Write a test module and run it in a separate pytest with only the given plugins."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")

    def run(source: str, *options: str, ini: str = "") -> pytest.RunResult:
        pytester.makeini(f"[pytest]\n{ini}")
        pytester.makepyfile(PRELUDE + source)
        plugins = ("-p", "no:cacheprovider", "-p", "pytest_derail.plugin")
        return pytester.runpytest_subprocess(*plugins, *options, timeout=DEADLINE)

    return run


def lines(result: pytest.RunResult, *patterns: str) -> None:
    """Check that each pattern matches a line, in this order."""
    result.stdout.fnmatch_lines(list(patterns))


def test_the_killed_rank_is_blamed(run_tests) -> None:
    """The first example of the documentation passes."""
    result = run_tests(
        """
        def test_the_killed_rank_is_blamed(derail):
            job = derail.start(steps, ranks=4, faults=[faults.signal("SIGKILL", rank=2, when=when.line("step 3"))])
            outcome = job.wait(timeout=100)
            assert_failed(outcome, rank=2, signal="SIGKILL")
            assert_log_tail(outcome, rank=2, stream="stdout", like=["*step 3*"])
            assert_stopped(outcome, {0, 1, 3})
            assert_injected(outcome)
            assert_teardown_seconds(outcome, at_most=60)
        """.replace("\n        ", "\n")
    )
    result.assert_outcomes(passed=1)


def test_its_attributes_are_documented() -> None:
    """The table under "Starting jobs" has each public attribute; the lifecycle of the jobs is internal."""
    text = (Path(__file__).parents[3] / "docs/reference/pytest.md").read_text(encoding="utf-8")
    table = text.partition("| The `derail` fixture has |")[2].partition("\n\n")[0]
    documented = re.findall(r"`(\w+)", "".join(row.split("|")[1] for row in table.splitlines()[2:]))
    fixture = Derail(Lifecycle(None, None))  # type: ignore[arg-type]
    assert sorted(documented) == [name for name in dir(fixture) if not name.startswith("_")]


def test_run_takes_what_start_takes() -> None:
    """Arguments, types and defaults are the same; only the return values differ."""
    run, start = (dict(inspect.signature(each).parameters) for each in (Derail.run, Derail.start))
    assert run.pop("expect_failure").default is False
    assert run == start


def test_faults_and_triggers_are_attributes_of_it(run_tests) -> None:
    """A test needs them, because its argument hides the package."""
    result = run_tests(
        """
import derail

def test_it(derail):
    killed = derail.faults.signal("SIGKILL", rank=1, when=derail.when.line("step 3"))
    assert_failed(derail.run(steps, faults=[killed]), 1, signal="SIGKILL")
"""
    )
    result.assert_outcomes(passed=1)


def test_functions_run_with_every_start_method(run_tests) -> None:
    """Forked ranks may even run functions that cannot be imported; faults inside ranks work for all methods."""
    result = run_tests(program_text("suites/jobs/start_methods"))
    result.assert_outcomes(passed=9)


def test_an_unchecked_failure_fails_the_test(run_tests) -> None:
    """The report has every rank's exit, and the assertion to write if the failure is intended."""
    result = run_tests("def test_green(derail):\n    derail.run(FAIL)")
    result.assert_outcomes(failed=1)
    lines(
        result,
        "job 0 (sh): rank 1: exit 3, by itself; unexpected (if that is intended: assert_failed(result, 1))",
        "*derail: job 0 (sh, 2 ranks)*",
        "root cause: rank 1",
        "  rank 0: SIGTERM (15), stopped by us",
        "  rank 1: exit 3, by itself",
        "journal: *journal.jsonl",
    )


def test_a_checked_or_requested_failure_is_none(run_tests) -> None:
    """The test asserted it, expected it, or asked for it."""
    result = run_tests(program_text("suites/jobs/seen_failures"))
    result.assert_outcomes(passed=10, skipped=1, xfailed=2)


def test_other_unchecked_failures_fail_the_test(run_tests) -> None:
    """Another rank's failure, a timeout, or a fault that never happened fails the test."""
    result = run_tests(
        """
def test_another_rank(derail):
    derail.run(FAIL, expect_failure=[0])

def test_timeout(derail):
    derail.run(["sleep", "600"], timeout=0.1)

def test_no_fault(derail):
    derail.run("true", ranks=1, faults=[faults.signal("KILL", rank=0, when=when.line("x"))])
"""
    )
    result.assert_outcomes(failed=3)
    lines(
        result,
        "job 0 (sh): rank 1: exit 3*unexpected*",
        "job 0 (sleep): timed out: not over after 0.1 s*",
        "job 0 (true): a fault did not verifiably happen: *not reached*",
    )


def test_a_job_of_a_fixture_is_judged_when_the_fixture_is_done(run_tests) -> None:
    """The fixture may check it first; else its failure is an error of the test."""
    result = run_tests(program_text("suites/jobs/failures_in_fixtures"))
    result.assert_outcomes(passed=2, errors=1)
    lines(result, "*ERROR at teardown of test_forgotten*", "job 0 (sh): rank 1: exit 3*")


def test_signals_of_the_launcher_are_recorded(run_tests) -> None:
    """Signals are in order; the exit code and restarts of the launcher are checked as well."""
    result = run_tests(
        """
DEAF = "trap '' TERM; touch $D/ready; while :; do sleep 0.05; done"
FAILS = "until test -e $D/ready; do sleep 0.05; done; exit 3"

def test_deaf(derail, tmp_path):
    argv = ["sh", "-c", f"if test $RANK = 0; then {DEAF}; else {FAILS}; fi"]
    outcome = derail.run(argv, env={"D": str(tmp_path)}, grace=0.2)
    assert_failed(outcome, 1, exit_code=3)
    assert_signals_sent(outcome, 0, ["SIGTERM", "SIGKILL"])
    assert_signals_sent(outcome, 1, [])
    assert_exit_code(outcome, 3)
    assert_restarts(outcome, 0)
"""
    )
    result.assert_outcomes(passed=1)


def test_a_helper_of_a_rank_that_ended_well_is_an_error(run_tests) -> None:
    """It is named and ended; a test that names it passes."""
    result = run_tests(
        """
def leave():
    return subprocess.Popen(["sleep", "611"], start_new_session=True).pid

def test_leaves(derail):
    assert_succeeded(derail.run(leave, ranks=1))

def test_says_so(derail):
    assert_leftovers(derail.run(leave, ranks=1), "sleep 611")

def test_asserts_that_nothing_is_left(derail):
    assert_no_leftovers(derail.run(leave, ranks=1))
"""
    )
    result.assert_outcomes(passed=2, failed=1, errors=2)
    lines(result, "*test_leaves left behind:", "  process *: sleep 611 (ended)")


def test_ended_leftovers_of_a_killed_rank_are_no_error(run_tests) -> None:
    """The rank had no chance to clean up."""
    result = run_tests(
        """
def test_killed(derail):
    kill = faults.signal("SIGKILL", rank=0, when=when.line("go"))
    outcome = derail.run(["sh", "-c", "setsid sleep 612 & touch $TMPDIR/x; echo go; wait"], ranks=1, faults=[kill])
    assert_failed(outcome, 0, signal=9)
    assert_leftovers(outcome, "*sleep 612*")
"""
    )
    result.assert_outcomes(passed=1)


def test_leaks_of_the_test_itself_are_errors(run_tests) -> None:
    """Descriptors, threads, handlers, children and zombies are leaks, unless the test allows them."""
    result = run_tests(program_text("suites/jobs/leaks_of_tests"))
    result.assert_outcomes(passed=11, errors=5)
    lines(
        result,
        "*test_leaves[[]leave_descriptor[]] left behind:",
        "  descriptor: * -> /dev/null",
        "  thread: my-thread",
        "  handler: SIGUSR2: was SIG_DFL, is *lambda*",
        "  process *: sleep 613",
        "  process *zombie*",
    )


def test_files_that_ranks_leave_are_named_and_removed(run_tests) -> None:
    """Ranks have a separate temporary directory, so that other files are not attributed to them."""
    result = run_tests(program_text("suites/jobs/temporary_files"))
    result.assert_outcomes(passed=3, errors=1)
    lines(
        result,
        "*test_leaves left behind:",
        "  file in the ranks' TMPDIR: left-0",
        "  file in the ranks' TMPDIR: left-1",
    )


@pytest.mark.parametrize("worker", ["", "gw0"])
def test_shared_memory_and_ports_that_are_left_are_named(
    run_tests, monkeypatch: pytest.MonkeyPatch, worker: str
) -> None:
    """Of shared memory only what no process uses, and what has the PID of one of our processes in its name or was
    registered by the test's own; a server that the test has forgotten, with its port."""
    monkeypatch.setenv("PYTEST_XDIST_WORKER", worker)
    name = f"derail-test-{os.urandom(8).hex()}"
    try:
        result = run_tests(
            program_text("suites/jobs/shared_memory", NAME=name, PROGRAMS=str(PROGRAMS / "plugin")),
            "-s",
        )
        stranger = int(Path("stranger").read_text())
        os.kill(stranger, signal.SIGKILL)
    finally:
        for path in Path("/dev/shm").glob(f"{name}*"):
            path.unlink()
    result.assert_outcomes(passed=9, errors=4)
    port = next(line for line in result.errlines if line.startswith("PORT")).split()[1]
    lines(
        result,
        "*test_leaves left behind:",
        f"  shm: /dev/shm/{name}_*",
        "*test_server left behind:",
        f"  descriptor: *socket:*, listening on port {port}",
        "*test_port left behind:",
        "  port: a process of the test still listens on *",
        "*test_registers left behind:",
        f"  shm: /dev/shm/{name}-mine",
    )
    assert f"  shm: /dev/shm/{name}-0" not in result.stdout.str()
    lines(result, f"may be left behind: /dev/shm/{name}-0 *")


def test_a_child_of_a_fork_server_that_the_test_leaves_is_named(run_tests) -> None:
    """It has the command line of the fork server, which may stay."""
    result = run_tests(program_text("suites/jobs/forkservers"))
    result.assert_outcomes(passed=2, errors=1)
    lines(result, "*test_leaves left behind:", "  process *: *from multiprocessing.forkserver import main*")


def test_a_free_port_is_reserved_until_the_test_is_over(run_tests) -> None:
    """It is a number, with a bound socket that can be passed to a function on a rank."""
    result = run_tests(program_text("suites/jobs/free_ports"))
    result.assert_outcomes(passed=5)


def test_evidence_is_kept_if_the_test_failed(run_tests, pytester: pytest.Pytester) -> None:
    """Evidence of passed tests is kept only on request."""
    source = """
def test_passes(derail):
    derail.run("true")

def test_fails(derail):
    assert_failed(derail.run("true"), 0)

def test_leaves(derail):
    derail.run(["sh", "-c", "touch $TMPDIR/x"])
"""
    kept = {}
    for options in ([], ["--derail-keep"]):
        base = pytester.path / f"base{len(options)}"
        run_tests(source, f"--basetemp={base}", *options)
        kept[len(options)] = sorted(path.parent.parent.name for path in base.rglob("journal.jsonl"))
    assert kept == {
        0: ["derail-test_fails0", "derail-test_leaves0"],
        1: ["derail-test_fails0", "derail-test_leaves0", "derail-test_passes0"],
    }


def test_evidence_is_in_the_named_directory(run_tests, pytester: pytest.Pytester) -> None:
    """Each failed test has a folder, with a number if two have the same name."""
    source = """
import pytest

@pytest.mark.parametrize("text", ["a/b", "a b"])
def test_fails(derail, text):
    assert_failed(derail.run("true"), 0)

def test_passes(derail):
    derail.run("true")
"""
    run_tests(source, "--derail-output-dir=kept", f"--basetemp={pytester.path / 'base'}")

    assert sorted(path.parent.parent.name for path in (pytester.path / "kept").rglob("journal.jsonl")) == [
        "test_fails_a_b_-0",
        "test_fails_a_b_-1",
    ]
    assert list((pytester.path / "base").rglob("journal.jsonl")) == []


def test_a_failing_assertion_shows_the_picture_once(run_tests) -> None:
    """The report does not repeat what the assertion has shown; after another failure it does."""
    result = run_tests(
        """
def test_assertion(derail):
    assert_failed(derail.run(FAIL), 0)

def test_other(derail):
    derail.run(FAIL)
    assert 1 == 2

def test_still_running(derail):
    derail.start(["sleep", "600"], ranks=1)
    assert 1 == 2
"""
    )
    result.assert_outcomes(failed=3)
    assert result.stdout.str().count("root cause: rank 1") == 2
    lines(result, "*failed: expected True, got False", "*derail: job 0 (sleep, 1 ranks)*", "*rank 0: SIGTERM (15)*")


def test_a_setting_that_is_no_number_is_an_error_that_says_where_it_stands(run_tests) -> None:
    """The ini file is far from the test that fails."""
    result = run_tests("def test_one(derail):\n    derail.run('true')", ini="derail_grace = soon")
    assert "derail_grace in the ini file: expected a number of seconds, 0 or more, got 'soon'" in result.stdout.str()


def test_ctrl_c_ends_the_ranks(pytester: pytest.Pytester, pid_gone) -> None:
    """The session ends as usual, and the job with it."""
    path = pytester.makepyfile(
        PRELUDE
        + """
def test_waits(derail):
    job = derail.start(["sh", "-c", "sleep 600"])
    print("PIDS", *job.pids().values(), file=sys.__stderr__, flush=True)
    job.wait()
"""
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-s", str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        pids = next(line for line in process.stderr if line.startswith("PIDS")).split()[1:]
        process.send_signal(signal.SIGINT)
        stdout, _ = process.communicate(timeout=DEADLINE)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == pytest.ExitCode.INTERRUPTED
    assert "KeyboardInterrupt" in stdout
    assert len(pids) == 2
    assert all(pid_gone(int(pid)) for pid in pids)


@pytest.mark.parametrize("method", ["signal", "thread"])
def test_pytest_timeout_leaves_no_leftovers(run_tests, pid_gone, method: str) -> None:
    """Both methods leave no rank, and no file outside pytest's own directory."""
    base = tempfile.mkdtemp()
    result = run_tests(
        """
@pytest.fixture
def job(derail):
    job = derail.start(["sh", "-c", "sleep 600"])
    print("PIDS", *job.pids().values(), file=sys.__stderr__, flush=True)
    return job

def test_waits(job):
    job.wait()
""",
        "-s",
        "-p",
        "pytest_timeout",
        "-o",
        "timeout=1",
        "-o",
        "timeout_func_only=true",
        "-o",
        f"timeout_method={method}",
        f"--basetemp={base}",
    )
    shutil.rmtree(base)
    pids = next(line for line in result.errlines if line.startswith("PIDS")).split()[1:]
    assert "Timeout" in result.stdout.str() + result.stderr.str()
    assert all(pid_gone(int(pid)) for pid in pids)


@pytest.mark.parametrize("method", ["signal", "thread"])
def test_pytest_timeout_in_the_own_code_of_a_test_shows_where_its_ranks_are(run_tests, pid_gone, method: str) -> None:
    """The thread method ends pytest without a report, so that the jobs are shown before."""
    base = tempfile.mkdtemp()
    result = run_tests(
        """
def test_waits(derail):
    job = derail.start(["sh", "-c", "echo printed; exec sleep 600"])
    print("PIDS", *job.pids().values())
    while b"printed" not in job.log(1).read_bytes():
        pass
    import threading
    threading.Event().wait()
""",
        "-p",
        "pytest_timeout",
        "-o",
        "timeout=4",
        "-o",
        f"timeout_method={method}",
        f"--basetemp={base}",
    )
    shutil.rmtree(base)
    pids = next(line for line in result.outlines if line.startswith("PIDS")).split()[1:]
    assert all(pid_gone(int(pid)) for pid in pids)
    lines(result, "*derail: job 0 (sh, 2 ranks)*")
    lines(result, "*derail: job 0: rank*1: where *", "no Python stack received", "state: S (sleeping)")
    lines(result, "*derail: job 0: rank 1, last lines of stdout*", "printed")


@pytest.mark.parametrize(
    ("statement", "name"),
    [("raise KeyboardInterrupt", "KeyboardInterrupt"), ("pytest.exit('enough')", "Exit"), ("raise Own", "Own")],
    ids=["interrupt", "exit", "own"],
)
@pytest.mark.parametrize("where", ["body", "fixture"])
def test_an_exception_that_ends_the_session_shows_the_jobs_that_ran(
    run_tests, where: str, statement: str, name: str
) -> None:
    """There is no report, and the test is torn down after pytest's capture; there are no leftovers then."""
    result = run_tests(
        f"""
class Own(BaseException):
    pass

def start(derail):
    job = derail.start(["sh", "-c", "echo printed; exec sleep 600"])
    while b"printed" not in job.log(1).read_bytes():
        pass
    {statement}

@pytest.fixture
def job(derail):
    if {where == "fixture"}:
        start(derail)

def test_ends(derail, job):
    start(derail)
""",
    )
    assert result.ret == (1 if name == "Own" else pytest.ExitCode.INTERRUPTED)
    lines(result, "*derail: job 0: rank 1, last lines of stdout*", "printed")
    output = result.stdout.str() + result.stderr.str()
    assert name in output
    assert "test_ends left behind" not in output  # shared memory of other programs "may be left behind"


def test_it_works_under_xdist(run_tests) -> None:
    """Each worker has its own jobs; reports are sent with their sections."""
    result = run_tests(
        """
@pytest.mark.parametrize("n", range(4))
def test_one(derail, n):
    assert_only_failed(derail.run(FAIL), {1})

def test_red(derail):
    derail.run(FAIL)
""",
        "-p",
        "xdist",
        "-n2",
    )
    result.assert_outcomes(passed=4, failed=1)
    lines(result, "*derail: job 0 (sh, 2 ranks)*", "root cause: rank 1")


def test_a_plan_and_faults_together_are_refused(run_tests) -> None:
    """A plan contains faults and a seed: giving both is an error, for derail's jobs and for an agent's."""
    result = run_tests(
        """
def test_start(derail):
    with pytest.raises(ValueError, match="either plan= or faults="):
        derail.start(steps, faults=[faults.exit(3, rank=0)], plan=faults.plan([]))

def test_agent(derail):
    with pytest.raises(ValueError, match="either plan= or faults="):
        derail.agent([sys.executable], plan=faults.plan([]), seed=3)
"""
    )
    result.assert_outcomes(passed=2)


def test_a_suite_that_does_not_use_it_does_not_load_it(pytester: pytest.Pytester) -> None:
    """Its only cost for such a suite is four small modules."""
    pytester.makepyfile(
        """
import sys

def test_one():
    loaded = {name for name in sys.modules if name.partition(".")[0] in ("derail", "pytest_derail", "click", "rich")}
    own = {f"pytest_derail.{name}" for name in ("markers", "options", "plugin", "protocol")}
    assert loaded == {"pytest_derail", *own}
"""
    )
    pytester.runpytest_subprocess("-p", "no:cacheprovider", timeout=DEADLINE).assert_outcomes(passed=1)


def test_a_second_ctrl_c_while_jobs_are_asked_to_end_is_hard() -> None:
    """It need not arrive during the wait."""

    class Asked:
        def __init__(self) -> None:
            self.graces: list[float | None] = []

        def stop(self, reason: str, *, grace: float | None = None) -> None:
            self.graces.append(grace)
            if grace is None and len(interrupted.graces) == 1:
                raise KeyboardInterrupt

    before, interrupted, behind = jobs = Asked(), Asked(), Asked()
    lifecycle: Any = Lifecycle(None, None)  # type: ignore[arg-type]
    lifecycle.jobs, lifecycle._of_body = list(jobs), {0, 1, 2}
    with pytest.raises(KeyboardInterrupt):
        lifecycle.leave_body(None)

    assert [before.graces, interrupted.graces, behind.graces] == [[None, 0], [None, 0], [0]]
