"""``ranks(n, reuse=...)`` in real pytest runs: reuse, restored settings, and replacement of ranks."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from program_files import program_text

if TYPE_CHECKING:
    from plugin.inner_pytest import RunPytest

pytest_plugins = ["pytester"]

KEPT = program_text("suites/pool/notes")


@pytest.fixture
def pids(tmp_path_factory, monkeypatch):
    """Return the processes that the ranks of inner tests have written down, by test and rank."""
    directory = tmp_path_factory.mktemp("seen")
    monkeypatch.setenv("SEEN", str(directory))

    def read(*tests: str, ranks: int = 2) -> list[list[int]]:
        return [[int((directory / f"{test}-{rank}").read_text()) for rank in range(ranks)] for test in tests]

    return read


def test_the_ranks_of_a_module_are_kept_and_those_of_the_session_too(
    run_pytest: RunPytest, pytester: pytest.Pytester, pids
) -> None:
    """Tests with the same number of ranks share one job per module or session; others have their own."""
    pytester.makepyfile(
        test_other=KEPT
        + """
@pytest.mark.ranks(2, reuse="module")
def test_module(rank, seen):
    note(seen, rank, "other_module")

@pytest.mark.ranks(2, reuse="session")
def test_session(rank, seen, from_conftest):
    note(seen, rank, "other_session")
    assert from_conftest == "conftest"
"""
    )
    result = run_pytest(
        program_text("suites/pool/kept"),
        conftest="import pytest\n@pytest.fixture\ndef from_conftest():\n    return 'conftest'\n",
    )
    result.assert_outcomes(passed=8)
    # module: one of 1 rank, one of 2, one of the other module; session: 1; alone: 1.
    result.stdout.fnmatch_lines(["derail: 5 jobs, 9 ranks, *"])
    one, two = (pids(f"module_{count}_1", f"module_{count}_2", ranks=count) for count in (1, 2))
    assert (one[0], two[0]) == (one[1], two[1])
    first, other = pids("session", "other_session")
    assert first == other
    assert len({*map(tuple, (one[0], two[0], first, *pids("other_module", "alone")))}) == 5


def test_what_can_be_put_back_is_put_back(run_pytest: RunPytest, pids) -> None:
    """Environment, directory, path, arguments, umask, streams and random numbers are for each test what they were for
    the first; no rank is replaced for them."""
    result = run_pytest(program_text("suites/pool/put_back"))
    result.assert_outcomes(passed=3)
    result.stdout.no_fnmatch_line("*were replaced*")
    assert len({*map(tuple, pids("1", "2", "3"))}) == 1


LEAVE = {
    "thread": ("threading.Thread(target=threading.Event().wait, daemon=True, name='mine').start()", "thread 'mine'"),
    "descriptor": ("os.open('/dev/null', os.O_RDONLY)", "descriptor * /dev/null"),
    "handler": ("signal.signal(signal.SIGUSR2, lambda *_: None)", "handler of SIGUSR2 changed"),
    "mask": ("signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})", "signal mask changed"),
    "limit": (
        "__import__('resource').setrlimit(__import__('resource').RLIMIT_NOFILE, (200, 200))",
        "resource limits changed",
    ),
}


@pytest.mark.parametrize("what", LEAVE)
def test_ranks_in_which_something_stays_are_replaced(run_pytest: RunPytest, pids, what: str) -> None:
    """The test that leaves it passes, the next one gets new ranks, and pytest reports that."""
    source, words = LEAVE[what]
    result = run_pytest(
        KEPT
        + f"""
@pytest.mark.ranks(2, reuse="module")
@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_it(rank, seen, number):
    note(seen, rank, number)
    if number == 2 and rank == 1:
        {source}
""",
        "-rP",
    )
    result.assert_outcomes(passed=4)
    result.stdout.fnmatch_lines(
        [
            f"the next test gets new ranks: rank 1: {words}",
            "derail: 2 jobs, 4 ranks, *",
            "derail: kept ranks were replaced after 1 test:",
            f"  test_it.py::test_it?2?: rank 1: {words}",
        ]
    )
    one, two, three, four = pids("1", "2", "3", "4")
    assert (one == two, two != three, three == four) == (True, True, True)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("assert rank != 1", "rank 1: failed in call*"),
        ("rank == 1 and os.kill(os.getpid(), signal.SIGKILL)", "rank 1: SIGKILL (9), in call*"),
        ("rank == 1 and os._exit(0)", "rank 1: exit 0 before the end of the test, in call*"),
        ("print('before', flush=True); rank == 1 and threading.Event().wait()", "rank 1: hung in call*"),
        ("rank == 1 and subprocess.Popen(['sleep', '600'])", "left behind: process *, in rank 1"),
        ("open(os.environ['TMPDIR'] + '/file', 'w').close()", "left behind: file in the ranks' TMPDIR: file"),
    ],
    ids=["assertion", "SIGKILL", "exit 0", "hang", "process", "file"],
)
def test_ranks_of_a_test_that_failed_are_replaced(run_pytest: RunPytest, pids, body: str, words: str) -> None:
    """The report shows only that test's output; the next test gets new ranks."""
    result = run_pytest(
        KEPT
        + f"""
@pytest.mark.ranks(2, reuse="module", timeout={5 if "hung" in words else 100})
@pytest.mark.parametrize("number", [1, 2, 3])
def test_it(rank, seen, number):
    note(seen, rank, number)
    print("printed in", number)
    if number == 2:
        wait_for_both(seen, number)
        {body}
"""
    )
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines([words, "*printed in 2*", "derail: kept ranks were replaced after 1 test:"])
    result.stdout.no_fnmatch_line("*printed in 1*")
    one, two, three = pids("1", "2", "3")
    assert (one == two, two != three) == (True, True)


def test_skips_and_expected_failures_work_as_on_ranks_of_their_own(run_pytest: RunPytest, pids) -> None:
    """A skip in all ranks keeps them; different outcomes replace them."""
    result = run_pytest(
        program_text("suites/pool/skips"),
        "-rsx",
        # All ranks come to their own end here, however much later than the first one.
        conftest="from pytest_derail.ranks.pool import pool\npool.SETTLE_SECONDS = 60\n",
    )
    result.assert_outcomes(passed=2, skipped=1, xfailed=2)
    result.stdout.fnmatch_lines(["*rank 1: expected*"])
    one, two, three, four = pids("1", "2", "3", "4")
    assert (one == two, two != three, three == four) == (True, True, True)


def test_a_child_that_has_ended_is_not_left_behind(run_pytest: RunPytest, pids) -> None:
    """The ranks are kept if it is a zombie at the end of the test or ends a moment later."""
    result = run_pytest(
        KEPT
        + """
children = []

@pytest.mark.ranks(2, reuse="module")
@pytest.mark.parametrize("number", range(3))
def test_it(rank, seen, number):
    note(seen, rank, f"it{number}")
    children.append(subprocess.Popen(["sleep", "0.1"] if number else ["true"]))
    if not number:
        os.waitid(os.P_PID, children[-1].pid, os.WEXITED | os.WNOWAIT)
"""
    )
    result.assert_outcomes(passed=3)
    first, second, third = pids("it0", "it1", "it2")
    assert first == second == third


def test_fixtures_of_a_module_live_as_long_as_it_does(run_pytest: RunPytest, pids) -> None:
    """Ranks set theirs up once each; a transferred value is the controller's current one."""
    result = run_pytest(program_text("suites/pool/fixtures"))
    result.assert_outcomes(passed=4)
    result.stdout.no_fnmatch_line("*were replaced*")
    assert len({*map(tuple, pids("1a", "2a", "1b", "2b"))}) == 1


def test_what_a_rank_told_last_counts_though_its_end_is_heard_first(run_pytest: RunPytest) -> None:
    """On a busy machine the job may end before the ranks' last messages are read."""
    result = run_pytest(
        KEPT
        + """
@pytest.mark.ranks(2, reuse="module")
def test_it(rank):
    if rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    threading.Event().wait()
""",
        conftest="""
from pytest_derail.ranks.pool import pool
everything = pool.wait
pool.wait = lambda ends, seconds: everything(ends[-1:], seconds)
""",
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["rank 1: SIGKILL (9), in call", "rank 0: stopped in *, because of another rank"])


@pytest.mark.torch
def test_a_process_group_is_kept(run_pytest: RunPytest, pids) -> None:
    """All tests share it, and its sockets and threads replace no rank; a rank that leaves it is replaced."""
    result = run_pytest(program_text("suites/pool/process_groups"))
    result.assert_outcomes(passed=4)
    result.stdout.fnmatch_lines(["*test_it?3?: rank 0: default process group changed; rank 1: *"])
    one, two, three, four = pids("1", "2", "3", "4")
    assert (one == two == three, three != four) == (True, True)


def test_a_test_with_faults_has_ranks_of_its_own(run_pytest: RunPytest, pids) -> None:
    """Faults are armed at the start of ranks; kept ranks are not changed."""
    result = run_pytest(program_text("suites/pool/broken"))
    result.assert_outcomes(passed=2, xfailed=1)
    before, after = pids("before", "after")
    assert before == after


def test_what_cannot_be_kept_for_is_an_error(run_pytest: RunPytest) -> None:
    """The error for an unknown scope lists the known ones."""
    result = run_pytest(
        """
import pytest

@pytest.mark.ranks(2, reuse="package")
def test_it():
    pass
"""
    )
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*reuse: expected one of ('module', 'session'), got 'package'"])


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_the_end_of_pytest_is_the_end_of_kept_ranks(
    pytester: pytest.Pytester, pids, pid_gone, wait_until, tmp_path_factory, how: signal.Signals
) -> None:
    """In the middle of a test, by Ctrl-C and by SIGKILL."""
    pytester.makepyfile(
        test_it=KEPT
        + """
@pytest.mark.ranks(2, reuse="session")
@pytest.mark.parametrize("number", [1, 2])
def test_it(rank, seen, number):
    note(seen, rank, number)
    if number == 2:
        threading.Event().wait()
"""
    )
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "pytest_derail.plugin"]
    basetemp = tmp_path_factory.mktemp("b")
    with subprocess.Popen(
        [*command, f"--basetemp={basetemp}/b"], cwd=pytester.path, env=environment, stdout=subprocess.PIPE
    ) as process:
        seen = os.environ["SEEN"]
        wait_until(lambda: {"2-0", "2-1"} <= set(os.listdir(seen)), deadline=100, what="the second test has begun")
        wait_until(lambda: all(os.path.getsize(f"{seen}/2-{rank}") for rank in range(2)), what="it has noted its pid")
        ranks = pids("2")[0]
        process.send_signal(how)
        process.communicate()
    assert all(pid_gone(pid) for pid in ranks)
    assert process.returncode == (2 if how is signal.SIGINT else -how)


def test_xdist_keeps_ranks_in_each_worker(run_pytest: RunPytest, pids) -> None:
    """Each worker has its own, and none of them is left."""
    result = run_pytest(
        KEPT
        + """
@pytest.mark.ranks(2, reuse="session")
@pytest.mark.parametrize("number", range(6))
def test_it(rank, seen, number, worker_id):
    note(seen, rank, f"{worker_id}")
""",
        "-n",
        "2",
        plugins=("xdist",),
    )
    result.assert_outcomes(passed=6)
    result.stdout.fnmatch_lines(["derail: 2 jobs, 4 ranks, *"])


@pytest.mark.usefixtures("unmeasured")
def test_pytest_cov_measures_kept_ranks(
    run_pytest: RunPytest, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lines that only one rank runs are covered, also if that rank is replaced."""
    monkeypatch.delenv("COVERAGE_FILE", raising=False)  # of whoever measures this very run
    pytester.makepyfile(
        measured="""
def by_rank(number):
    if number == 0:
        return "zero"
    if number == 3:
        return "three"
    return "other"
"""
    )
    result = run_pytest(
        KEPT
        + """
from measured import by_rank

@pytest.mark.ranks(2, reuse="module")
@pytest.mark.parametrize("number", [0, 2])
def test_it(rank, number):
    by_rank(number + rank)
    assert number == 2
""",
        "--cov=measured",
        "--cov-report=term-missing",
        plugins=("pytest_cov",),
    )
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["measured.py * 6 * 0 * 100%*"])
    assert [path.name for path in pytester.path.glob(".coverage*")] == [".coverage"]
