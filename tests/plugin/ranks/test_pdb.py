"""``--pdb`` in tests on ranks: the debugger runs in the rank that failed, or a message gives the reason."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from program_files import program_text
from wording import Tells

if TYPE_CHECKING:
    from collections.abc import Callable

    from plugin.inner_pytest import RunPytest

pytest_plugins = ["pytester"]

DEADLINE = 100.0
SOURCE = program_text("suites/ranks/failures")


@pytest.fixture
def debug(pytester: pytest.Pytester) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Return a function that runs the tests above with ``--pdb`` and gives these lines to the debugger."""

    def run(lines: str, *options: str) -> subprocess.CompletedProcess[str]:
        pytester.makepyfile(test_it=SOURCE)
        plugins = ("-p", "pytest_derail.plugin", "-p", "no:cacheprovider")
        return subprocess.run(
            [sys.executable, "-m", "pytest", "-v", *plugins, "--pdb", "test_it.py", "--basetemp=base", *options],
            input=lines,
            env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=False,
        )

    return run


def test_the_rank_that_failed_is_looked_into(debug, left, wait_until) -> None:
    """In its own process, before any tear-down; the later tests run."""
    ran = debug("p value, os.getpid()\nup\nc\n", "-k", "one or skips or known")
    asked = ran.stdout.partition(">>> rank 1: pdb >>>")[2]
    assert "E   " in ran.stdout.partition(">>> rank 1: traceback >>>")[2]
    assert "-> assert rank == 0" in asked
    assert "(Pdb rank 1) (41, " in asked
    assert "1 failed, 1 skipped, 5 deselected, 1 xfailed" in ran.stdout
    assert ran.stdout.count("no rank to debug") == 0
    assert ran.returncode == 1
    wait_until(lambda: not left(), what="nothing is left")


def test_the_first_rank_is_looked_into_and_the_others_go_on(debug) -> None:
    """The debugger starts at the last visible frame of the test."""
    ran = debug("p 'look', rank\nc\n", "-k", "all")
    assert ran.stdout.count(": pdb >") == 1
    assert "-> check(rank)" in ran.stdout
    assert "('look', " in ran.stdout
    assert "rank 1: failed in call: ValueError: 1" in ran.stdout
    assert "rank 0: failed in call: ValueError: 0" in ran.stdout


def test_a_set_up_that_fails_is_looked_into(debug) -> None:
    """A set-up in the rank."""
    ran = debug("p 6 * 7\nc\n", "-k", "set_up")
    assert '-> raise OSError("no device")' in ran.stdout
    assert "(Pdb rank 0) 42" in ran.stdout


@pytest.mark.parametrize("lines", ["q\n", ""])
def test_to_quit_is_the_end_of_the_session(debug, left, wait_until, lines: str) -> None:
    """So is the end of the input; the report has the failure."""
    ran = debug(lines, "-k", "one or all or plain")
    assert "Exit: Quitting debugger" in ran.stdout
    assert "rank 1: failed in call: AssertionError: a message" in ran.stdout
    assert "1 failed, 5 deselected" in ran.stdout
    wait_until(lambda: not left(), what="nothing is left")


def test_where_there_is_nothing_to_look_into_it_says_why(debug) -> None:
    """For a rank that has died or hangs. Tests without ranks are debugged as usual."""
    ran = debug("p 'plain', other\nc\n", "-k", "dies or hangs or plain")
    why = [line for line in ran.stdout.splitlines() if line.startswith("derail: --pdb: ")]
    assert why == [Tells("rank ", "exit 3"), Tells("rank 0", "hung")]
    assert "(Pdb) ('plain', 5)" in ran.stdout
    assert ran.stdout.count("entering PDB") == 1


@pytest.mark.slow
def test_it_works_on_a_terminal_and_the_clocks_stand_still(pytester: pytest.Pytester, left, wait_until) -> None:
    """The timeouts of derail and pytest-timeout are suspended in the debugger."""
    source = """
import threading
import pytest

@pytest.mark.ranks(2, timeout=10)
def test_one(rank):
    value = 40 + rank
    threading.Event().wait(None if rank == 0 else 0.3)  # the time of the test has begun then
    assert rank == 0
"""
    pytester.makepyfile(test_it=source)
    pytester.makeconftest(
        """
import pytest_timeout

def pytest_leave_pdb():
    print("\\nSUPPRESSED", pytest_timeout.is_debugging())
"""
    )
    ours, theirs = pty.openpty()
    options = ("-p", "pytest_derail.plugin", "-p", "pytest_timeout", "--timeout=200", "-p", "no:cacheprovider")
    shown = b""

    def until(text: bytes) -> None:
        nonlocal shown
        while text not in shown:
            ready, _, _ = select.select([ours], [], [], 60)
            try:
                shown += os.read(ours, 4096) if ready else b""
            except OSError:
                ready = []
            if not ready:
                pytest.fail(f"{text!r} never came: {shown.decode()}")

    process = subprocess.Popen(
        [sys.executable, "-m", "pytest", *options, "--pdb", "test_it.py", "--basetemp=base"],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
    )
    os.close(theirs)
    try:
        until(b"(Pdb rank 1) ")
        os.write(ours, b"import time; time.sleep(11); print('slept', value + 1)\n")
        until(b"slept 42")
        os.write(ours, b"c\n")
        until(b"SUPPRESSED True")
        until(b"1 failed")
        assert process.wait(DEADLINE) == 1
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    assert b"Timeout" not in shown
    assert b"rank 0: stopped in call, because of another rank" in shown
    assert b"rank 1: failed in call: assert 1 == 0" in shown
    wait_until(lambda: not left(), what="nothing is left")


BREAKPOINTS = program_text("suites/ranks/breakpoints")


def test_a_breakpoint_in_a_rank_says_how_to_get_a_debugger(
    run_pytest: RunPytest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With each name of the call, in tests on ranks and in jobs; none waits for input."""
    monkeypatch.delenv("PYTHONBREAKPOINT", raising=False)
    result = run_pytest(BREAKPOINTS)
    result.assert_outcomes(failed=6)
    lines = [line.removeprefix("E").strip() for line in result.outlines if line.startswith("E ")]
    told = [line for line in lines if line.startswith("Failed: ")]
    assert told == [Tells("breakpoint()", f"rank {rank}", "--pdb") for rank in (1, 1, 1, 0)]
    assert Tells("end of its input", "--pdb") in lines
    result.stdout.fnmatch_lines(
        ["rank 0 says: *Failed: breakpoint() in rank 0: *write it as a test with @pytest.mark*"]
    )


def test_with_pdb_a_rank_stays_at_its_breakpoint(run_pytest: RunPytest) -> None:
    """The debugger stands at the line of the breakpoint."""
    line = 1 + BREAKPOINTS[: BREAKPOINTS.index("eval(stop)()")].count("\n")
    result = run_pytest(BREAKPOINTS, "--pdb", "-k", "stops and breakpoint")
    result.stdout.fnmatch_lines(
        [
            "*> rank 1: traceback >*",
            "*> rank 1: pdb >*",
            f"> *test_it.py({line})test_stops()",
            "-> eval(stop)()",
            "(Pdb rank 1) *",
        ]
    )


@pytest.mark.parametrize(("value", "words"), [("0", "2 passed"), ("os.abort", "2 failed")])
def test_pythonbreakpoint_keeps_its_meaning(
    run_pytest: RunPytest, monkeypatch: pytest.MonkeyPatch, value: str, words: str
) -> None:
    """0 skips breakpoints; a name is called, and may be a debugger without a terminal."""
    monkeypatch.setenv("PYTHONBREAKPOINT", value)
    result = run_pytest(BREAKPOINTS, "-k", "reused or (stops and breakpoint)")
    result.stdout.fnmatch_lines(
        [f"*{words}*", *(["rank 1: SIGABRT (6), in call*"] if value == "os.abort" else [])][::-1]
    )
