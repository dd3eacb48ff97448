"""``pytest --scenarios``: scenarios as tests, on the agent that is named."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from derail.scenario.load import shipped, shipped_root
from plugin.inner_pytest import evidence_of

if TYPE_CHECKING:
    from plugin.inner_pytest import RunPytest

pytest_plugins = ["pytester"]

PASSES = """
title = "A rank that leaves with 3 has failed"
ranks = 2
worker = "{worker}"
grace = 1
{more}
[[faults]]
fault = "exit"
code = 3
rank = 1
when = {{ line = "{line}" }}

[expect]
succeeded = {succeeded}
"""


@pytest.fixture
def write(pytester: pytest.Pytester):
    """Write a scenario into ./scenarios, or elsewhere."""

    def scenario(name, succeeded="false", line="step 2", more="", folder="scenarios"):
        path = pytester.path / folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        worker = shipped_root() / "workers" / "step_loop.py"
        path.write_text(PASSES.format(worker=worker, succeeded=succeeded, line=line, more=more))
        return path

    return scenario


def test_each_verdict_is_an_outcome_with_its_reasons(run_pytest: RunPytest, write) -> None:
    """PASS passes, FAIL and INCONCLUSIVE fail, SKIPPED skips."""
    write("crash/passes.toml")
    write("crash/fails.toml", succeeded="true")
    write("crash/inconclusive.toml", line="never", more='args = ["--steps", "2"]')
    write("node/skipped.toml", more="nodes = 2")
    result = run_pytest("", "--scenarios", "-rs")

    result.assert_outcomes(passed=1, failed=2, skipped=1)
    result.stdout.fnmatch_lines([
        "*FAIL*crash/fails*",
        "*expected outcome succeeded, got failed*",
        "*INCONCLUSIVE*crash/inconclusive*",
        "*not reached*no line of*never*",
        "SKIPPED * scenarios/node/skipped.toml:1: native: it launches on one node, and the scenario needs 2. *",
    ])  # fmt: skip
    result.stdout.no_fnmatch_line("*Traceback*collect.py*")


def test_with_the_option_nothing_but_scenarios_is_run_unless_paths_are_given(run_pytest: RunPytest, write) -> None:
    """Without the option, scenarios are not collected."""
    write("passes.toml")
    source = "def test_that_is_there(): pass"

    assert run_pytest(source, "-q").parseoutcomes() == {"passed": 1}
    assert run_pytest(source, "-q", "--scenarios").parseoutcomes() == {"passed": 1}
    assert run_pytest(source, "-q", "--scenarios", "test_it.py", "scenarios").parseoutcomes() == {"passed": 2}
    assert run_pytest(source, "-q", "--scenarios", "--co").outlines[0] == "scenarios/passes.toml::native"


def test_scenarios_are_collected_below_every_path_that_is_given(run_pytest: RunPytest, write) -> None:
    """The folder's name does not matter, nor do errors in a file; other TOML files are not collected."""
    write("passes.toml", folder="elsewhere/deep")
    (Path.cwd() / "pyproject.toml").write_text('[project]\nname = "x"\ntitle = "y"\n')
    (Path.cwd() / "elsewhere" / "plan.toml").write_text('[[faults]]\nfault = "exit"\nrank = 0\n')

    for path in (".", "elsewhere", "elsewhere/deep", "elsewhere/deep/passes.toml"):
        assert run_pytest("", "-q", "--scenarios", path).parseoutcomes() == {"passed": 1}
    write("broken.toml", folder="elsewhere/deep", more="rank = 3")
    result = run_pytest("", "--scenarios", "elsewhere")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*broken.toml: rank: unknown key 'rank'; did you mean 'ranks'?"])


def test_a_missing_scenario_is_reported(run_pytest: RunPytest, write) -> None:
    """There is no message if one was deselected, or has an error."""
    write("broken.toml", folder="wrong", more="rank = 3")
    run_pytest("", "--scenarios", "wrong").stdout.no_fnmatch_line("*there is no scenario*")
    (Path.cwd() / "wrong" / "broken.toml").unlink()
    write("passes.toml")
    (Path.cwd() / "empty").mkdir()

    result = run_pytest("", "-q", "--scenarios", "empty")
    result.stdout.fnmatch_lines(["derail: --scenarios: no scenario in empty. A scenario is a TOML file with*"])
    run_pytest("", "-q", "--scenarios", "-k", "no such name").stdout.no_fnmatch_line("*there is no scenario*")


def test_a_scenario_that_native_cannot_run_names_an_agent_that_can(run_pytest: RunPytest, write) -> None:
    """It needs several nodes, or a fault on the agent."""
    write("nodes.toml", more="nodes = 2")
    result = run_pytest("", "--scenarios", "-rs")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["SKIPPED *native: it launches on one node, *. Use another agent: *torchrun)"])


def test_a_project_without_scenarios_runs_those_that_come_with_derail(run_pytest: RunPytest) -> None:
    """All of them are collected, each by the name of its file."""
    result = run_pytest("", "--scenarios", "--co", "-q")

    assert f"{len(shipped())} tests collected" in result.outlines[-1]
    chosen = run_pytest("", "--scenarios", "-q", "-k", "crash and exits_with_code_7")
    assert chosen.parseoutcomes() == {"passed": 1, "deselected": len(shipped()) - 1}


def test_scenarios_can_be_chosen_by_family_and_name(run_pytest: RunPytest, write) -> None:
    """``-k`` works, and so do test ids."""
    write("crash/one.toml")
    write("hang/two.toml")

    assert run_pytest("", "--scenarios", "-q", "-k", "hang").parseoutcomes() == {"passed": 1, "deselected": 1}
    assert run_pytest("", "--scenarios", "-q", "scenarios/crash/one.toml::native").parseoutcomes() == {"passed": 1}


def test_a_file_with_mistakes_is_an_error_of_the_collection_with_all_of_them(run_pytest: RunPytest, write) -> None:
    """Nothing is run."""
    write("good.toml")
    write("bad.toml", succeeded='"no"', more="rank = 3")
    result = run_pytest("", "--scenarios")

    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines_random([
        "*bad.toml: rank: unknown key 'rank'; did you mean 'ranks'?",
        "*bad.toml: expect.succeeded: expected true or false, got 'no'",
    ])  # fmt: skip


@pytest.mark.parametrize("how", ["option", "environment", "ini"])
def test_an_agent_that_does_not_exist_is_a_usage_error(
    run_pytest: RunPytest, write, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """The message has the nearest name, for each source of the setting."""
    write("passes.toml")
    if how == "environment":
        monkeypatch.setenv("DERAIL_AGENT", "nativ")
    options = ["--derail-agent=nativ"] if how == "option" else []
    result = run_pytest("", "--scenarios", *options, ini="derail_agent = nativ" if how == "ini" else "")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --derail-agent: unknown agent 'nativ'; did you mean 'native'?"])


def test_scenarios_are_spread_over_processes(run_pytest: RunPytest, write, tmp_path: Path) -> None:
    """With pytest-xdist each is run once, and JUnit XML has all of them."""
    for number in range(4):
        write(f"crash/number_{number}.toml", succeeded="true" if number == 3 else "false")
    report = tmp_path / "report.xml"
    result = run_pytest("", "--scenarios", "-n", "2", f"--junitxml={report}", plugins=("xdist",))

    result.assert_outcomes(passed=3, failed=1)
    cases = ET.parse(report).getroot().iter("testcase")
    assert sorted(case.get("classname") for case in cases) == [f"scenarios.crash.number_{n}.toml" for n in range(4)]


def test_evidence_of_a_scenario_is_kept_unless_it_passed(run_pytest: RunPytest, write, base: str) -> None:
    """It is also kept on request."""
    write("passes.toml")
    write("fails.toml", succeeded="true")

    run_pytest("", "--scenarios", f"--basetemp={base}")
    assert len(evidence_of(Path(base))) == 1
    run_pytest("", "--scenarios", f"--basetemp={base}", "--derail-keep")
    assert len(evidence_of(Path(base))) == 2
