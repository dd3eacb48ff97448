"""Tests on ranks beside other plugins, and under Ctrl-C and SIGKILL: what they come to, and that nothing is left."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from program_files import program_text

if TYPE_CHECKING:
    from plugin.inner_pytest import RunPytest

pytest_plugins = ["pytester"]

HANG = """
import os, threading
import pytest

@pytest.mark.ranks(2)
def test_hangs(rank, tmp_path):
    (tmp_path / str(rank)).touch()
    threading.Event().wait()
"""
AFTER = """
def test_after():
    pass
"""


def test_xdist_distributes_tests_on_ranks(run_pytest: RunPytest, left, wait_until) -> None:
    """Each worker runs its own jobs: ports, directories and reports do not mix, and counts add up."""
    result = run_pytest(
        program_text("suites/on_xdist"),
        "-n",
        "2",
        "-rP",
        plugins=("xdist",),
    )
    result.assert_outcomes(passed=5, failed=1)
    result.stdout.fnmatch_lines(
        [
            "*test_one?ranks=2-3?*",
            ">*assert number != 3 or rank != 1*",
            "E*AssertionError: a message",
            "rank 1: failed in call: AssertionError: a message  <- root cause",
            "derail: 6 jobs, 9 ranks, 0 faults injected, 0 not injected, 0 leftovers",
        ]
    )
    assert len(re.findall(r"^port \d+$", result.stdout.str(), re.MULTILINE)) == 9
    wait_until(lambda: not left(), what="nothing is left")


def test_a_killed_worker_of_xdist_leaves_nothing(run_pytest: RunPytest, base: str, left, wait_until) -> None:
    """Its ranks end with it, and the other tests continue in another worker."""
    result = run_pytest(
        program_text("suites/killed_worker"),
        "-n",
        "1",
        f"--basetemp={base}",
        plugins=("xdist",),
    )
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*worker 'gw0' crashed while running *test_kills_the_worker*"])
    wait_until(lambda: not left(), what="nothing is left")


@pytest.mark.parametrize("method", ["signal", "thread"])
@pytest.mark.parametrize("mark", ["ranks(2)", "ranks(2, reuse='module')"])
def test_pytest_timeout_fails_the_one_test_and_the_ranks_are_shown(
    run_pytest: RunPytest, base: str, left, wait_until, method: str, mark: str
) -> None:
    """Both methods show stacks and output. The other tests continue, and there are no leftovers."""
    source = HANG.replace("ranks(2)", mark).replace("threading.Event", "print('before', rank); threading.Event")
    options = ("--timeout=3", f"--timeout-method={method}", f"--basetemp={base}")
    result = run_pytest(source + AFTER, *options, plugins=("pytest_timeout",))
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(
        [
            "Failed: Timeout (>3.0s) from pytest-timeout: rank 0, 1 hung",
            "rank 0: hung in call",
            "rank 1: hung in call",
            "*rank*1: where *",
            "*in test_hangs",
            "*stdout of rank 0*",
            "before 0",
        ]
    )
    wait_until(lambda: not left(), what="nothing is left")


def test_pytest_timeout_shows_where_the_ranks_of_a_job_were(run_pytest: RunPytest, left, wait_until) -> None:
    """The test waits for the job when pytest-timeout interrupts it."""
    result = run_pytest(
        program_text("suites/interrupted_job"),
        "--timeout=300",
        "--timeout-method=signal",
        plugins=("pytest_timeout",),
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "E *Failed: Timeout (>300.0s) from pytest-timeout.",
            "*derail: job 0: rank*1: where *",
            "*in waits_here",
        ]
    )
    result.stdout.fnmatch_lines(["*derail: job 0: rank 1, last lines of stdout*", "before"])
    wait_until(lambda: not left(), what="nothing is left")


def test_pytest_timeout_does_not_count_the_start_of_ranks(run_pytest: RunPytest, pytester: pytest.Pytester) -> None:
    """Nor does the start of the zygote count, however long its imports take; the tear-down does."""
    pytester.makepyfile(slow="import time\ntime.sleep(4)\n")
    result = run_pytest(
        program_text("suites/timeouts"),
        "--timeout=3",
        ini="derail_preload = slow\npythonpath = .",
        plugins=("pytest_timeout",),
    )
    result.assert_outcomes(passed=3, errors=1)
    result.stdout.fnmatch_lines(["*ERROR at teardown of test_tear_down*", "E *Failed: Timeout *from pytest-timeout."])


WAITS = program_text("suites/conftest_that_tells")
"""A conftest that writes a file when the ranks have been started: an interrupt of their start kills them at once."""


@pytest.mark.parametrize("mark", ["ranks(2)", "ranks(2, reuse='module')"])
@pytest.mark.parametrize(("number", "name"), [("SIGINT", "KeyboardInterrupt"), ("SIGUSR1", "RuntimeError")])
def test_an_interrupted_controller_shows_its_ranks(
    run_pytest: RunPytest, base: str, left, wait_until, monkeypatch, tmp_path: Path, mark: str, number: str, name: str
) -> None:
    """Stacks and output are in the report of the test, or at the end of the session if there is none."""
    monkeypatch.setenv("HERE", str(tmp_path))
    conftest = (
        WAITS
        + """
import signal

def handler(*_):
    raise RuntimeError("of the suite")

signal.signal(signal.SIGUSR1, handler)
"""
    )
    result = run_pytest(
        program_text("suites/breaks_off", NUMBER=number).replace("ranks(2)", mark),
        f"--basetemp={base}",
        conftest=conftest,
    )
    head = ["*= KeyboardInterrupt: ranks of test_it.py::test_it =*"] if number == "SIGINT" else ["E *of the suite"]
    result.stdout.fnmatch_lines(
        [
            *head,
            f"rank 0: stopped in call, when {name} interrupted the controller",
            f"rank 1: stopped in call, when {name} interrupted the controller",
            "*rank*1: where *",
            "*in waits_here",
            "*in test_it",
            "*stdout of rank 1*",
            "printed by 1",
            "logs and journal: *",
        ]
    )
    assert result.ret == (2 if number == "SIGINT" else 1)
    wait_until(lambda: not left(), what="nothing is left")


def test_a_timeout_of_the_function_only_is_that_of_the_controller(run_pytest: RunPytest, left, wait_until) -> None:
    """Ranks have no timer of pytest-timeout: the job ends once, with the reason."""
    result = run_pytest(HANG, "--timeout=3", ini="timeout_func_only = true", plugins=("pytest_timeout",))
    result.assert_outcomes(failed=1)
    assert result.stdout.str().count("Failed: Timeout") >= 1
    wait_until(lambda: not left(), what="nothing is left")


def output_of(process: subprocess.Popen[str]) -> str:
    """Return the output of a pytest that must end now; if it does not, its faulthandler shows its stack."""
    try:
        return process.communicate(timeout=60)[0]
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGABRT)
        pytest.fail(process.communicate()[0])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_the_end_of_the_session_is_the_end_of_the_ranks(
    pytester: pytest.Pytester, base: str, left, wait_until, number: signal.Signals
) -> None:
    """The session ends by Ctrl-C, SIGTERM or SIGKILL."""
    path = pytester.makepyfile(test_it=HANG)
    process = subprocess.Popen(
        [sys.executable, "-m", "pytest", "-p", "pytest_derail.plugin", f"--basetemp={base}", str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
    )
    try:
        wait_until(lambda: {path.name for path in Path(base).glob("test_hangs0/*")} == {"0", "1"}, deadline=60)
        process.send_signal(number)
        out = output_of(process)
    finally:
        process.kill()
        process.wait()
    if number == signal.SIGINT:
        assert process.returncode == 2
        assert "KeyboardInterrupt" in out
    else:
        assert process.returncode == -number
    wait_until(lambda: not left(), what="nothing is left")


DEAF = program_text("suites/deaf")

INTERRUPTED = """
from derail.agents.native_job import NativeJob

close = NativeJob.close

def interrupt_once(self, *args):
    NativeJob.close = close
    raise KeyboardInterrupt

NativeJob.close = interrupt_once
"""
"""A conftest in which the second Ctrl-C comes between the request to end and the waiting for the end."""


@pytest.mark.parametrize(
    ("name", "conftest"), [("test_mark", WAITS), ("test_fixture", WAITS), ("test_mark", WAITS + INTERRUPTED)]
)
def test_ctrl_c_twice_is_hard(
    pytester: pytest.Pytester, base: str, left, wait_until, tmp_path: Path, name: str, conftest: str
) -> None:
    """After the first, ranks get their grace period; after the second, at any point, they are killed."""
    path = pytester.makepyfile(test_it=DEAF)
    pytester.makeconftest(conftest)
    options = ["-p", "pytest_derail.plugin", f"--basetemp={base}", "--derail-grace=300"]
    process = subprocess.Popen(
        [sys.executable, "-m", "pytest", *options, f"{path}::{name}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "HERE": str(tmp_path)},
    )
    try:
        wait_until(lambda: {"there-0", "there-1", "waits"} <= {path.name for path in tmp_path.iterdir()}, deadline=60)
        process.send_signal(signal.SIGINT)
        if conftest == WAITS:
            wait_until(lambda: any(path.name.startswith("asked") for path in tmp_path.iterdir()), deadline=60)
            assert process.poll() is None
            process.send_signal(signal.SIGINT)
        out = output_of(process)
    finally:
        process.kill()
        process.communicate()
    assert "KeyboardInterrupt" in out
    assert process.returncode in (2, -signal.SIGINT)
    wait_until(lambda: not left(), what="nothing is left")


@pytest.mark.parametrize(
    "options", [["-x"], ["--maxfail=1"], ["-k", "one"], ["-m", "ranks"], ["-s", "-vv"], ["--tb=short"]]
)
def test_options_that_select_tests_do_not_apply_in_ranks(run_pytest: RunPytest, options: list[str]) -> None:
    """The controller has applied these options already."""
    result = run_pytest(
        """
import pytest

@pytest.mark.ranks(1)
def test_one():
    pass

@pytest.mark.ranks(1)
def test_one_more():
    pass
""",
        *options,
    )
    result.assert_outcomes(passed=2)


@pytest.mark.parametrize("method", ["warm", "spawn"])
def test_with_s_output_of_ranks_is_shown_live(run_pytest: RunPytest, left, wait_until, method: str) -> None:
    """Each line has its rank; without -s, ranks print only into their reports."""
    source = program_text("suites/prints")
    shown = run_pytest(source, f"--derail-start-method={method}", "-s")
    lines = {"[rank0]:out of 0", "[rank1]:out of 1", "[rank0]:err of 0", "[rank1]:err of 1", "[rank0]:said"}
    printed = {re.sub(r"^.*(?=\[rank)", "", line) for line in [*shown.outlines, *shown.errlines]}
    assert lines - printed == set()
    shown.assert_outcomes(passed=2)
    if method == "warm":
        quiet = run_pytest(source)
        assert "of 1" not in quiet.stdout.str() + quiet.stderr.str()
    wait_until(lambda: not left(), what="nothing is left")


def test_pytest_randomly_seeds_ranks_as_it_seeds_the_controller(run_pytest: RunPytest, left, wait_until) -> None:
    """All ranks of a test draw the same numbers, and each finds its test."""
    result = run_pytest(
        """
import random
import pytest

@pytest.mark.ranks(2)
@pytest.mark.parametrize("number", [1, 2, 3])
def test_one(number):
    print("drawn", random.random())
""",
        "-rP",
        "--randomly-seed=7",
        plugins=("pytest_randomly",),
    )
    result.assert_outcomes(passed=3)
    drawn = [line for line in result.outlines if line.startswith("drawn")]
    assert (len(drawn), len(set(drawn))) == (6, 3)
    wait_until(lambda: not left(), what="nothing is left")


@pytest.mark.parametrize("plugins", [("pytest_rerunfailures",), ("xdist", "pytest_rerunfailures")])
def test_pytest_rerunfailures_runs_the_whole_job_again(
    run_pytest: RunPytest, left, wait_until, plugins: tuple[str, ...]
) -> None:
    """The directory and the ranks are new."""
    result = run_pytest(
        """
import pathlib
import pytest

@pytest.mark.ranks(2)
def test_one(rank, pytestconfig):
    before = pytestconfig.rootpath / f"was-here-{rank}"
    if not before.exists():
        before.touch()
        assert rank == 0
""",
        "--reruns=2",
        plugins=plugins,
    )
    assert result.parseoutcomes() == {"passed": 1, "rerun": 1}
    wait_until(lambda: not left(), what="nothing is left")


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.parametrize("method", ["warm", "spawn", "fork"])
def test_pytest_cov_measures_ranks(
    run_pytest: RunPytest, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, left, wait_until, method: str
) -> None:
    """Lines that only one rank has executed are covered."""
    monkeypatch.delenv("COVERAGE_FILE", raising=False)  # of whoever measures this very run
    pytester.makepyfile(
        measured="""
def by_rank(rank):
    if rank == 0:
        return "zero"
    if rank == 1:
        return "one"
    return "never"
"""
    )
    result = run_pytest(
        """
import pytest
from measured import by_rank

@pytest.mark.ranks(2)
def test_one(rank):
    by_rank(rank)
""",
        "--cov=measured",
        "--cov-report=term-missing",
        f"--derail-start-method={method}",
        plugins=("pytest_cov",),
    )
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["measured.py * 6 * 1 * 83% * 6"])
    assert [path.name for path in pytester.path.glob(".coverage*")] == [".coverage"]
    wait_until(lambda: not left(), what="nothing is left")


@pytest.mark.usefixtures("unmeasured")
def test_pytest_cov_measures_jobs_of_the_fixture(
    run_pytest: RunPytest, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, left, wait_until
) -> None:
    """Both functions and Python programs are measured."""
    monkeypatch.delenv("COVERAGE_FILE", raising=False)
    pytester.makepyfile(
        measured="""
import os

def by_rank(rank):
    if rank == 0:
        return "zero"
    if rank == 1:
        return "one"
    return "never"

if __name__ == "__main__":
    by_rank(1)
"""
    )
    result = run_pytest(
        """
import pathlib
from measured import by_rank

def test_function(derail):
    derail.run(by_rank, ranks=1, args=(0,))

def test_program(derail):
    derail.run(pathlib.Path(__file__).with_name("measured.py"), ranks=1)
""",
        "--cov=measured",
        "--cov-report=term-missing",
        plugins=("pytest_cov",),
    )
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["measured.py * 9 * 1 * 89% * 8"])
    wait_until(lambda: not left(), what="nothing is left")


@pytest.mark.parametrize("marker", ["ranks(2)", "ranks(2, reuse='module')", "ranks(2, start_method='spawn')"])
def test_the_log_file_has_the_records_of_all_ranks_and_of_pytest(run_pytest, tmp_path, marker: str) -> None:
    """Each record has its own line; none overwrites another."""
    path = tmp_path / "records.log"
    result = run_pytest(
        f"""
import logging, pytest

@pytest.fixture(scope="module", autouse=True)
def before():
    logging.warning("pytest before")
    yield
    logging.warning("pytest after")

@pytest.mark.parametrize("number", range(2))
@pytest.mark.{marker}
def test_it(rank, number):
    for line in range(20):
        logging.warning("rank %d test %d line %d", rank, number, line)
""",
        f"--log-file={path}",
        "--log-file-format=%(message)s",
    )
    result.assert_outcomes(passed=2)
    of_ranks = [f"rank {rank} test {test} line {line}" for rank in range(2) for test in range(2) for line in range(20)]
    found = path.read_text().splitlines()
    assert sorted(line for line in found if line) == sorted(["pytest before", "pytest after", *of_ranks])


@pytest.mark.parametrize("start", ["warm", "spawn"])
@pytest.mark.parametrize("blocked", ["logging", "capture", "warnings", "skipping"])
def test_tests_run_on_ranks_without_a_plugin_of_pytests_own(run_pytest: RunPytest, blocked: str, start: str) -> None:
    """Its options are unknown in pytest's process and in the ranks."""
    result = run_pytest(
        f"""
import pytest

pytestmark = pytest.mark.ranks(2, start_method="{start}")


def test_passes():
    pass


def test_fails(rank):
    assert rank == 0
""",
        "-p",
        f"no:{blocked}",
    )
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["FAILED *::test_fails - rank 1: assert 1 == 0*"])
