"""Tracebacks of tests: derail's own frames are shown only where derail is at fault."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from program_files import program_text

if TYPE_CHECKING:
    from plugin.inner_pytest import RunPytest

pytest_plugins = ["pytester"]

CONFTEST = program_text("suites/reporting/conftest_with_errors")
SOURCE = program_text("suites/reporting/errors")
OWN = re.compile(r"/(pytest_derail|src/derail|site-packages/derail)/\S+\.py")


def test_frames_of_derail_are_not_shown(run_pytest: RunPytest) -> None:
    """Neither reports nor output of ranks have them, because the error is in the suite."""
    result = run_pytest(SOURCE, conftest=CONFTEST)
    result.assert_outcomes(passed=1, failed=9, errors=1)
    assert [line for line in result.outlines if OWN.search(line)] == []
    out = result.stdout.str()
    assert out.count('in raises\n    raise ValueError("of the function")\nValueError: of the function') == 3
    for where in ("set-up", "tear-down", "last tear-down"):
        assert f'>       raise OSError("in the {where}")' in out


def test_frames_of_derail_are_shown_for_its_own_bugs(run_pytest: RunPytest) -> None:
    """Code of derail raises an exception that is never raised on purpose."""
    conftest = "from derail.agents import native_job\nnative_job.entry_point = None\n"
    result = run_pytest("def test_it(derail):\n    derail.run(['true'])", conftest=conftest)
    result.assert_outcomes(failed=1)
    assert any(OWN.search(line) and "native_job.py" in line for line in result.outlines)


def test_a_rank_in_which_derail_fails_prints_its_frames(run_pytest: RunPytest) -> None:
    """Code of derail reports a value that cannot be pickled; there is no frame of the function."""
    result = run_pytest("def gives():\n    return lambda: 0\ndef test_it(derail):\n    derail.run(gives, ranks=1)")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*worker.py*", "TypeError: rank 0 returned a value of type function that cannot*"])


def test_the_timeline_says_how_the_test_went_in_each_rank(run_pytest: RunPytest) -> None:
    """The launcher observes a function that returns, or is stopped when another rank hangs; neither is the result."""
    result = run_pytest(
        """
import threading
import pytest

@pytest.mark.ranks(3)
def test_it(rank):
    assert rank != 1, "a message"
    if rank == 2:
        threading.Event().wait()
"""
    )
    result.assert_outcomes(failed=1)
    timeline = result.outlines[next(n for n, line in enumerate(result.outlines) if "- timeline -" in line) :]
    lanes = {line.split()[1]: line for line in timeline[:8] if line.startswith("rank ")}
    assert lanes["0"].endswith("  passed")
    assert lanes["1"].endswith("  failed in call")
    assert lanes["2"].endswith("  SIGTERM (15), stopped by us")
    assert any(line.endswith(" rank 1: failed in call") for line in timeline)
    assert not any("returned" in line for line in timeline)


def test_a_fault_that_never_happened_is_in_the_first_line(run_pytest: RunPytest) -> None:
    """The assertion fails because of it."""
    result = run_pytest(
        """
from derail import faults, when
from pytest_derail import assert_failed

def returns():
    pass

def test_it(derail):
    kill = faults.signal("SIGKILL", rank=0, when=when.line("never"))
    assert_failed(derail.run(returns, ranks=1, faults=[kill]), 0)
"""
    )
    result.stdout.fnmatch_lines(
        ["E *AssertionError: rank 0, whose fault did not happen: signal-* on rank 0: not reached: no line of*"]
    )


@pytest.mark.parametrize("ranks", [2, 3])
def test_ranks_with_the_same_traceback_share_a_line(run_pytest: RunPytest, ranks: int) -> None:
    """The line has the rank with the traceback."""
    result = run_pytest(f"import pytest\n@pytest.mark.ranks({ranks})\ndef test_it():\n    assert not 'the same'")
    result.stdout.fnmatch_lines(["-* rank * also failed -*", "same traceback as rank ?"])
