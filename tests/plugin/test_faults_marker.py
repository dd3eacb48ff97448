"""``@pytest.mark.faults``: plans on tests, what the report says of them, and the line that counts."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from program_files import program_text

if TYPE_CHECKING:
    from plugin.inner_pytest import RunPytest

pytest_plugins = ["pytester"]

PLAN = """
seed = 4

[[faults]]
fault = "signal"
signal = "SIGKILL"
rank = 1
when = { line = "go" }
"""
SOURCE = program_text("suites/marked_faults")


def test_a_plan_is_applied_to_ranks_and_to_jobs_of_the_fixture(
    run_pytest: RunPytest, pytester: pytest.Pytester
) -> None:
    """The report has its results and the command for a rerun; all faults are counted."""
    (pytester.path / "plan.toml").write_text(PLAN)
    result = run_pytest(SOURCE)
    result.assert_outcomes(passed=2, failed=3)
    result.stdout.fnmatch_lines(
        [
            "rank 1: SIGKILL (9), in call",
            "-* faults -*",
            "fault * SIGKILL*",
            "  injected on rank 1: *",
            "to run it again: python -m pytest test_it.py::test_killed --derail-plan=*plan.toml",
            "a fault did not verifiably happen: *not reached*",
            "to run it again: python -m pytest test_it.py::test_fixture_unseen --derail-plan=*plan.toml",
            "derail: 5 jobs, 10 ranks, 4 faults injected, 1 not injected, 0 leftovers",
        ]
    )
    command = next(line for line in result.outlines if "::test_killed --derail-plan" in line).partition(": ")[2]
    words = shlex.split(command)
    plan = pytester.path / "plan.toml"
    plan.unlink()  # the command has a plan of its own
    again = subprocess.run(
        [sys.executable, *words[1:], "-p", "pytest_derail.plugin", "-p", "no:cacheprovider", "--basetemp=again"],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert "1 failed" in again.stdout
    assert re.search(r"injected on rank 1: ", again.stdout)


@pytest.mark.parametrize(
    ("marker", "told"),
    [
        ("faults()", "the marker has no plan"),
        ("faults('missing.toml')", "cannot be read"),
        ("faults(3)", "expected the path of a plan, a plan or a fault, got 3"),
        ("faults('x.toml', sede=3)", "unexpected keyword argument 'sede'"),
    ],
)
@pytest.mark.parametrize("kind", ["ranks", "fixture"])
def test_a_wrong_marker_is_a_collection_error(run_pytest: RunPytest, marker: str, told: str, kind: str) -> None:
    """Nothing runs, because it is a collection error."""
    body = {
        "ranks": f"import pytest\n@pytest.mark.ranks(1)\n@pytest.mark.{marker}\ndef test_one():\n    pass",
        "fixture": f"import pytest\n@pytest.mark.{marker}\ndef test_one(derail):\n    derail.run('true')",
    }[kind]
    result = run_pytest(body)
    result.assert_outcomes(errors=1)
    assert told in result.stdout.str()


def test_the_counts_stand_at_the_end_only_if_there_was_a_job(run_pytest: RunPytest) -> None:
    """A suite without derail jobs has no line about derail."""
    assert "derail:" not in run_pytest("def test_one():\n    pass").stdout.str()
    run_pytest("def test_one(derail):\n    derail.run('true', ranks=1)").stdout.fnmatch_lines(
        ["derail: 1 job, 1 rank, 0 faults injected, 0 not injected, 0 leftovers"]
    )
