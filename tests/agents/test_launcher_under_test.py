"""Launchers as ranks of a derail job, and functions of files as ranks."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from derail import faults, when
from derail.agents.launcher_under_test import native_command, run_launcher
from derail.agents.native import NativeAgent
from derail.agents.programs.script_function import FileFunction
from derail.campaign.campaign import run_scenario
from derail.faults.model.plan import Plan
from derail.scenario.load import shipped_root
from derail.scenario.model import Expect, Scenario

WORKERS = shipped_root() / "workers"
LAUNCHER = """
import os, subprocess, sys
print("its own rank:", os.environ.get("RANK"), os.environ.get("TORCHELASTIC_ERROR_FILE"), flush=True)
children = [subprocess.Popen(["sleep", "60"]) for _ in range(2)]
print("launched", flush=True)
for child in children:
    child.wait()
"""


def about_a_launcher(*plan, **fields):
    """Return a scenario of a launcher with two ranks."""
    values = {"args": ("--steps", "2"), "expect": Expect(succeeded=False), "grace": 0.5, "timeout": 90.0, **fields}
    return Scenario("", 1, WORKERS / "step_loop.py", faults=Plan(plan), launches=2, name="story", **values)


def test_a_launcher_that_leaves_its_ranks_behind_is_caught(tmp_path):
    """Its exit status is that of rank 0, and its leftovers are ended and reported."""
    kill = faults.launcher_killed(rank=0, when=when.line("launched"))
    seen = run_launcher(about_a_launcher(kill), [sys.executable, "-c", LAUNCHER], tmp_path)

    assert str(seen.ranks[0].status) == "SIGKILL (9)"
    assert [(left.what, left.ended) for left in seen.leftovers] == [("sleep 60", True)] * 2


def test_a_launcher_under_test_does_not_get_rank_variables(tmp_path):
    """Its environment lacks the variables of a derail rank, and so do its ranks'."""
    kill = faults.launcher_killed(rank=0, when=when.line("launched"))
    seen = run_launcher(about_a_launcher(kill), [sys.executable, "-c", LAUNCHER], tmp_path)

    assert seen.log_tail[0, "stdout"] == ("its own rank: None None", "launched")


def test_a_launcher_that_cannot_be_started_gives_a_result(tmp_path):
    """Its program is missing, as exit code and stderr show."""
    seen = run_launcher(about_a_launcher(), ["no-such-launcher"], tmp_path)

    assert str(seen.ranks[0].status) == "exit 127"
    assert "no-such-launcher" in seen.log_tail[0, "stderr"][-1]


def test_derail_launch_is_the_launcher_under_test_of_the_native_agent(tmp_path):
    """All its files are in the directory of the run, so that nothing of a failed job is elsewhere."""
    scenario = replace(about_a_launcher(), worker=WORKERS / "fails.py", args=("7",))
    seen = NativeAgent().run(scenario, tmp_path)

    assert (str(seen.ranks[0].status), seen.leftovers) == ("exit 7", ())
    assert (tmp_path / "launcher" / "journal.jsonl").is_file()
    assert native_command(scenario, tmp_path)[-3:] == ["--", str(scenario.worker), "7"]


def test_a_function_of_a_file_that_cannot_be_imported_by_name_is_a_rank(tmp_path):
    """Its value is returned."""
    file = tmp_path / "not importable.py"
    file.write_text("import os\ndef train(more):\n    return int(os.environ['RANK']) + int(more)\n")
    scenario = Scenario("", 2, file, function="train", args=("10",), name="story")
    seen = NativeAgent().run(scenario, tmp_path / "run")

    assert seen.return_values == {0: 10, 1: 11}


def test_a_function_of_a_file_is_called_by_its_name():
    """In reports."""
    assert FileFunction(Path("x.py"), "train").__name__ == "train"


@pytest.mark.parametrize(("needs", "kind"), [(("json",), "PASS"), (("json", "no_such_module"), "SKIPPED")])
def test_a_scenario_is_skipped_where_a_module_that_it_needs_is_missing(tmp_path, needs, kind):
    """Its ranks could not import it."""
    scenario = replace(about_a_launcher(needs=needs, expect=Expect(succeeded=True)), launches=0)
    done = run_scenario(scenario, NativeAgent(), workdir=tmp_path)

    assert done.verdict.kind == kind
    assert done.verdict.reasons == (
        () if kind == "PASS" else ("native: its ranks import no_such_module, which is not installed here",)
    )
