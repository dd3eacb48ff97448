"""What the report of a failed test shows of its jobs: in the terminal, in JUnit XML, and in the folder that is kept."""

from __future__ import annotations

import shlex
import subprocess
import sys
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING

import pytest

from program_files import program_text

if TYPE_CHECKING:
    from plugin.inner_pytest import RunPytest

pytest_plugins = ["pytester"]

SOURCE = program_text("suites/reporting/jobs")

DERAIL = "from derail.cli import main; main()"


@pytest.mark.parametrize("plugins", [(), ("xdist",)])
def test_a_report_has_everything_in_the_terminal_and_in_junit_xml(
    run_pytest: RunPytest, pytester: pytest.Pytester, plugins: tuple[str, ...]
) -> None:
    """Exits, last lines, timeline, error files, journal, folder and command appear once for each job."""
    options = ("-n1",) if plugins else ()
    result = run_pytest(
        SOURCE, "--junitxml=report.xml", f"--basetemp={pytester.path / 'base'}", *options, plugins=plugins
    )
    result.assert_outcomes(failed=6)
    cases = ET.parse(pytester.path / "report.xml").getroot().iter("testcase")
    told = {case.attrib["name"]: "".join(case.itertext()) for case in cases}
    shown = result.stdout.str()
    for name, parts in {
        "test_unseen": [
            "- derail: job 0 (sh, 2 ranks) -",
            "root cause: rank 1",
            "rank 0: SIGTERM (15), stopped by us",
            "rank 1, last lines of stdout -",
            "job 0: timeline -",
            "rank 1: hit by signal SIGKILL on rank 1 at line 'step 3'",
            "job 0: journal, last 12 records -",
            '"event": "exited"',
            "job 0: error files -",
            "rank 1: none",
            "journal: ",
            "logs: ",
            "to run it again: python -m pytest test_it.py::test_unseen",
            "or the job alone: derail replay ",
        ],
        "test_asserted": ["failed: expected True, got False", "job 0: timeline -", "or the job alone: derail replay "],
        "test_function": ["rank 0 says: ValueError: no such step", "rank 0: good /", "last lines of stderr -"],
        "test_marked": ["to run it again: python -m pytest test_it.py::test_marked --derail-plan="],
        "test_ranks": ["- timeline -", "- journal, last 12 records -", "test_it.py::test_ranks --derail-plan="],
    }.items():
        assert [part for part in parts if part not in told[name]] == [], name
        assert [part for part in parts if part not in shown] == [], name
    assert told["test_asserted"].count("root cause: rank 1") == 1
    assert "timeline" not in told["test_plain"]


def test_the_commands_that_it_names_run_the_same_again(run_pytest: RunPytest, pytester: pytest.Pytester) -> None:
    """One runs the test under its plan, the other the job alone from its journal."""
    result = run_pytest(SOURCE, "-k", "unseen or marked", f"--basetemp={pytester.path / 'base'}")
    commands = [line.partition(": ")[2] for line in result.outlines if line.startswith(("to run it", "or the job"))]
    assert len(commands) == 3
    for command in commands:
        program, *words = shlex.split(command)
        argv = [sys.executable, *words] if program == "python" else [sys.executable, "-c", DERAIL, *words]
        if program == "python":
            argv += ["-p", "pytest_derail.plugin", "-p", "no:cacheprovider"]
        ran = subprocess.run(argv, cwd=pytester.path, capture_output=True, text=True, timeout=100, check=False)
        assert "SIGKILL" in ran.stdout + ran.stderr
        assert ran.returncode == (1 if program == "python" else 0)
