"""``torch.multiprocessing.spawn`` and ``start_processes`` in tests, adopted."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

import pytest

from program_files import program_text

if TYPE_CHECKING:
    from plugin.inner_pytest import RunPytest

pytest_plugins = ["pytester"]
pytestmark = pytest.mark.torch

ADOPT = ("pytest_derail.adopt",)


def test_functions_run_on_ranks_and_raise_what_torch_raises(run_pytest: RunPytest) -> None:
    """Functions run in the body and in fixtures, several times in a test, and may be closures with "fork".

    A test that expects torch's exceptions passes; a failure shows the ranks; a hang ends. A context is torch's.
    """
    suite = program_text("suites/adopt/spawns")
    result = run_pytest(suite, "-rA", "--derail-timeout=5", plugins=ADOPT)
    result.assert_outcomes(failed=4, passed=9)
    result.stdout.fnmatch_lines_random(
        [
            "FAILED *::test_fails - rank 1: ValueError: legitimate exception from process 1",
            "FAILED *::test_dies - rank 1: SIGKILL (9), in call",
            "FAILED *::test_hangs - not over after 5 s: rank 1 hung",
            "FAILED *::test_closure_that_fails - rank ?: RuntimeError: of rank ?",
            "rank 1: SIGKILL (9), in call  <- root cause",
            "derail adopted 12 tests on fork and warm ranks",
            "  *::test_returns_a_context: *: join=False: the test itself waits for the processes: 1 test",
        ]
    )


def test_without_adoption_torch_starts_the_processes(run_pytest: RunPytest) -> None:
    """The same tests pass, so that the suite expects what torch does."""
    suite = program_text("suites/adopt/spawns")
    result = run_pytest(suite, "-k", "closure or exit", plugins=())
    result.assert_outcomes(failed=1, passed=3, deselected=9)


@pytest.mark.skipif(importlib.util.find_spec("accelerate") is None, reason="needs accelerate")
def test_launchers_of_accelerate_run_on_ranks(run_pytest: RunPytest) -> None:
    """``debug_launcher`` calls ``start_processes``, and ``notebook_launcher`` torch's elastic agent."""
    result = run_pytest(program_text("suites/adopt/accelerated"), plugins=ADOPT)
    result.assert_outcomes(failed=2, passed=2)
    lines = [line for line in result.stdout.lines if "ValueError: of rank 1  <- root cause" in line]
    assert len(lines) == 2
    result.stdout.fnmatch_lines(["derail adopted 4 tests on warm ranks"])
