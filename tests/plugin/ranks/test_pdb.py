"""``--pdb`` in tests on ranks: the debugger runs in the rank that failed, or a message gives the reason."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from program_files import program_text
from pseudo_terminal import on_a_terminal
from pytest_derail.ranks.debugger import _Turns
from wording import Tells

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from plugin.inner_pytest import RunPytest
    from pseudo_terminal import Terminal

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


@pytest.fixture
def at_terminal(pytester: pytest.Pytester) -> Callable[..., AbstractContextManager[Terminal]]:
    """Return a function that runs a module in a pytest in the foreground of a terminal."""

    def run(source: str, *options: str) -> AbstractContextManager[Terminal]:
        pytester.makepyfile(test_it=source)
        plugins = ("-p", "pytest_derail.plugin", "-p", "no:cacheprovider")
        command = [sys.executable, "-m", "pytest", *plugins, "test_it.py", "--basetemp=base", *options]
        return on_a_terminal(command, {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"})

    return run


@pytest.mark.slow
def test_the_clocks_stand_still_after_a_failure(at_terminal, pytester: pytest.Pytester, left, wait_until) -> None:
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
    pytester.makeconftest(
        """
import pytest_timeout

def pytest_leave_pdb():
    print("\\nSUPPRESSED", pytest_timeout.is_debugging())
"""
    )
    with at_terminal(source, "--pdb", "-p", "pytest_timeout", "--timeout=200") as terminal:
        terminal.wait_for("(Pdb rank 1) ")
        terminal.type("import time; time.sleep(11); print('slept', value + 1)\n")
        terminal.wait_for("slept 42")
        terminal.type("c\n")
        terminal.wait_for("SUPPRESSED True")
        assert terminal.exit_code() == 1
    assert b"Timeout" not in terminal.shown
    assert b"rank 0: stopped in call, because of another rank" in terminal.shown
    assert b"rank 1: failed in call: assert 1 == 0" in terminal.shown
    assert b"1 failed" in terminal.shown
    wait_until(lambda: not left(), what="nothing is left")


LIVE = program_text("suites/ranks/live_breakpoints")


def step_from_call(terminal: Terminal, rank: str, call: str) -> None:
    """Step to the line after a breakpoint: since Python 3.13 a debugger stops at the call itself."""
    if sys.version_info >= (3, 13):
        terminal.wait_for(f"-> {call}")
        terminal.wait_for(f"(Pdb rank {rank}")
        terminal.type("n\n")


@pytest.mark.parametrize("options", [(), ("-s",), ("--pdb",)])
def test_a_breakpoint_gets_the_terminal(at_terminal, options: tuple[str, ...], left, wait_until) -> None:
    """With each name of the call. The other rank waits, and the test and the session go on."""
    with at_terminal(LIVE, "-k", "one or plain", *options) as terminal:
        for _ in range(4):
            terminal.wait_for("rank 1: breakpoint")
            step_from_call(terminal, "1", "eval(stop)()")
            terminal.wait_for("-> value += 1")
            terminal.wait_for("(Pdb rank 1) ")
            terminal.type("p 'is', value\n")
            terminal.wait_for("('is', 41)")
            terminal.type("n\n")
            terminal.wait_for("-> meet(place, rank)")
            terminal.type("p 'is', value, len(os.listdir(place))\n")
            terminal.wait_for("('is', 42, 2)")
            terminal.type("c\n")
            terminal.wait_for("rank 1: continues")
        terminal.wait_for("5 passed")
        assert terminal.exit_code() == 0
    wait_until(lambda: not left(), what="nothing is left")


@pytest.mark.slow
def test_the_clocks_stand_still_at_a_breakpoint(at_terminal) -> None:
    """Those of derail and of pytest-timeout; the rest of the test is limited again."""
    source = LIVE.replace('print("value", value)', "threading.Event().wait()").replace("TIMEOUT = 30", "TIMEOUT = 10")
    with at_terminal(source, "-k", "one and pytest", "-p", "pytest_timeout", "--timeout=12") as terminal:
        terminal.wait_for("(Pdb rank 1) ")
        terminal.type("import time; time.sleep(15); print('slept', value + 1)\n")
        terminal.wait_for("slept 42")
        terminal.type("c\n")
        terminal.wait_for("rank 1: continues")
        assert terminal.exit_code() == 1
    assert b"rank 0: hung" in terminal.shown
    assert b"1 failed" in terminal.shown


def test_ranks_at_breakpoints_take_turns(at_terminal) -> None:
    """A rank that steps over a wait for the other one lends the terminal to it."""
    with at_terminal(LIVE, "-k", "both") as terminal:
        terminal.wait_for(": breakpoint")
        first = 0 if b"rank 0: breakpoint" in terminal.shown else 1
        step_from_call(terminal, f"{first}", "breakpoint()")
        terminal.wait_for(f"(Pdb rank {first}) ")
        terminal.type("n\n")
        terminal.wait_for(f"rank {1 - first}: breakpoint")
        terminal.wait_for(f"(Pdb rank {1 - first}) ")
        terminal.type("p 'is', rank\n")
        terminal.wait_for(f"('is', {1 - first})")
        terminal.type("c\n")
        terminal.wait_for("-> assert rank < 2")
        terminal.wait_for(f"(Pdb rank {first}) ")
        terminal.type("c\n")
        terminal.wait_for("1 passed")
        assert terminal.exit_code() == 0


def test_a_turn_without_an_end_is_waited_for_without_a_limit() -> None:
    """A rank that has the terminal has not asked for a line yet, while another waits for its turn."""
    current, other = SimpleNamespace(asked=0, is_known=True), SimpleNamespace(is_known=True, wants_terminal=True)
    terminal: Any = SimpleNamespace(_current=current, _visitors=[other], _turn_ends=float("inf"))

    assert _Turns._patience(terminal) is None


def test_reused_ranks_stop_at_breakpoints(at_terminal) -> None:
    """In each test, without new ranks."""
    with at_terminal(LIVE, "-k", "reused") as terminal:
        for number in (1, 2):
            terminal.wait_for("(Pdb rank 0) ")
            terminal.type("p 'is', number\n")
            terminal.wait_for(f"('is', {number})")
            terminal.type("c\n")
        terminal.wait_for("2 passed")
        assert terminal.exit_code() == 0
    assert b"new ranks" not in terminal.shown


def test_the_last_tear_down_of_reused_ranks_stops_at_breakpoints(at_terminal) -> None:
    """No test runs any more then."""
    with at_terminal(LIVE, "-k", "kept_fixture") as terminal:
        step_from_call(terminal, "0", "breakpoint()")
        terminal.wait_for("-> yield 8")
        terminal.wait_for("(Pdb rank 0) ")
        terminal.type("c\n")
        step_from_call(terminal, "0", "breakpoint()")
        terminal.wait_for('-> print("torn down")')
        terminal.wait_for("(Pdb rank 0) ")
        terminal.type("c\n")
        terminal.wait_for("1 passed")
        assert terminal.exit_code() == 0


def test_a_failure_beside_a_breakpoint_waits_for_it(at_terminal) -> None:
    """The rank that is debugged is not ended; with ``--pdb`` the one that failed is debugged next."""
    with at_terminal(LIVE, "-k", "fails", "--pdb") as terminal:
        step_from_call(terminal, "0", "breakpoint()")
        for _ in range(2):
            terminal.wait_for("-> assert value == 50")
            terminal.wait_for("(Pdb rank ")
            terminal.type("p 'is', value\n")
            terminal.wait_for("\n('is', ")
            terminal.wait_for("(Pdb rank ")
            terminal.type("c\n")
        terminal.wait_for("1 failed")
        assert terminal.exit_code() == 1
    told = re.findall(rb"\(Pdb rank (\d)\) p 'is', value\r\n\('is', (\d+)\)", terminal.shown)
    assert sorted(told) == [(b"0", b"50"), (b"1", b"51")]


def test_a_breakpoint_in_a_thread_gets_the_terminal(at_terminal) -> None:
    """The main thread waits for it."""
    with at_terminal(LIVE, "-k", "thread") as terminal:
        terminal.wait_for("(Pdb rank 1) ")
        terminal.type("p current_thread() is main_thread()\n")
        terminal.wait_for("False")
        terminal.type("c\n")
        terminal.wait_for("1 passed")


@pytest.mark.parametrize("line", ["q\n", "\x04"])
def test_to_quit_at_a_breakpoint_is_the_end_of_the_session(at_terminal, left, wait_until, line: str) -> None:
    """As in pytest's own debugger; Ctrl-D, the end of the input, does the same."""
    with at_terminal(LIVE, "-k", "one or plain") as terminal:
        terminal.wait_for("(Pdb rank 1) ")
        terminal.type(line)
        terminal.wait_for("Exit: Quitting debugger")
        assert terminal.exit_code() == 2
    assert b"1 passed" not in terminal.shown
    wait_until(lambda: not left(), what="nothing is left")


@pytest.mark.torch
def test_breakpoint_of_torch_gets_the_terminal(at_terminal) -> None:
    """``torch.distributed.breakpoint(1)`` stops rank 1, and all others in its barrier."""
    with at_terminal(LIVE, "-k", "torch") as terminal:
        terminal.wait_for("rank 1: breakpoint")
        terminal.wait_for("ATTENTION")
        terminal.wait_for("(Pdb rank 1) ")
        terminal.type("up\n")
        terminal.wait_for("-> torch.distributed.breakpoint(1)")
        terminal.type("p 'is', value\n")
        terminal.wait_for("('is', 61)")
        terminal.type("c\n")
        terminal.wait_for("1 passed")
        assert terminal.exit_code() == 0


@pytest.mark.torch
def test_breakpoint_of_torch_without_a_terminal_says_how_to_get_one(run_pytest: RunPytest) -> None:
    """The rank fails; the others do not wait for it."""
    result = run_pytest(LIVE, "-k", "torch")
    result.stdout.fnmatch_lines(["*rank 1: failed in call: Failed: breakpoint() in rank 1: *--pdb*", "*1 failed*"])


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
    assert told == [Tells("breakpoint()", f"rank {rank}", "--pdb") for rank in (1, 1, 1, 0, 0)]
    result.stdout.fnmatch_lines(
        ["rank 0 says: *Failed: breakpoint() in rank 0: *write it as a test with @pytest.mark*"]
    )


def test_with_pdb_a_breakpoint_reads_any_input(debug, pytester: pytest.Pytester) -> None:
    """Like the debugger after a failure; a pipe here."""
    pytester.makepyfile(test_stops=BREAKPOINTS)
    ran = debug("p 'is', value\nc\n", "test_stops.py", "-k", "stops and breakpoint")
    assert "('is', 41)" in ran.stdout
    assert "1 passed" in ran.stdout
    assert ran.returncode == 0


def test_a_debugger_of_another_kind_gets_a_hint(run_pytest: RunPytest) -> None:
    """One with streams of its own that are empty."""
    source = """
import bdb, pytest

@pytest.mark.ranks(1)
def test_it(rank):
    raise bdb.BdbQuit
"""
    run_pytest(source).stdout.fnmatch_lines(["E *end of its input: *--pdb*"])


OWN_STREAMS = program_text("suites/ranks/own_debuggers")


def test_debuggers_with_streams_of_their_own_are_left_alone(run_pytest: RunPytest) -> None:
    """As doctest has them; their class may be derived before ``pdb.Pdb`` is replaced, or after."""
    run_pytest(OWN_STREAMS).assert_outcomes(passed=3)


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
