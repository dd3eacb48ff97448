"""The scenarios that come with derail: what their files say, and each run for real.

All of them, with their negative controls: ``pytest -n 4 -m slow tests/scenario``.
"""

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from derail.agents.native import NativeAgent
from derail.campaign.campaign import run_scenario
from derail.report.text import render_verdict
from derail.scenario.load import load, shipped, shipped_root
from derail.scenario.model import Expect

LIBRARY = {name: load(path) for name, path in shipped().items()}
FAMILIES = [
    "calm", "clock", "crash", "error_file", "hang", "logs", "network", "node", "regression", "resources", "restart",
    "signal", "startup", "straggler", "supervisor", "syscalls", "teardown", "values",
]  # fmt: skip
QUICK = [
    "calm/all_succeed",
    "clock/goes_back",
    "crash/killed_at_step_3",
    "crash/others_had_finished",
    "error_file/truncated",
    "hang/deaf_to_sigterm",
    "logs/killed_in_the_middle_of_a_line",
    "network/store_dies",
    "regression/victim_records_its_error",
    "resources/disk_full",
    "restart/resumes_after_a_kill",
    "signal/sigterm_from_somebody_else",
    "startup/variable_is_missing",
    "straggler/starved",
    "supervisor/killed",
    "syscalls/disk_full_at_the_fourth_write",
    "teardown/helpers_in_their_own_session",
    "values/leaves_without_a_value",
]
"""One of each family that can be run on one node; the rest is slow."""
needs_torch = pytest.mark.torch
slow = pytest.mark.slow


def marked(name):
    """Return a scenario as a test parameter, with a mark if it needs torch."""
    return pytest.param(name, marks=[needs_torch] if "torch" in LIBRARY[name].needs else [])


def passes(name, workdir):
    """Run a scenario, which must pass, or give the reason why it cannot be run here."""
    done = run_scenario(LIBRARY[name], NativeAgent(), workdir=workdir)
    if done.verdict.kind == "SKIPPED":
        pytest.skip("; ".join(done.verdict.reasons))

    assert done.verdict.kind == "PASS", render_verdict(done.scenario, done.result, done.verdict)


def test_the_library_has_all_families():
    """There are no other families."""
    assert sorted({scenario.family for scenario in LIBRARY.values()}) == FAMILIES
    assert len(LIBRARY) >= 80


@pytest.mark.parametrize("name", LIBRARY)
def test_a_shipped_scenario_has_title_reason_and_issue(name):
    """The title is a fact; there is a reason, and the issue, if any, can be looked up."""
    scenario = LIBRARY[name]

    assert re.fullmatch(r"[A-Z0-9].{20,}[^.]", scenario.title), scenario.title
    assert re.search(r"[.)]$", scenario.why), scenario.why
    assert re.fullmatch(r"([\w.-]+/[\w.-]+#\d+)?", scenario.issue), scenario.issue
    assert [other for other, its in LIBRARY.items() if its.title == scenario.title] == [name]


@pytest.mark.parametrize("name", LIBRARY)
def test_a_shipped_scenario_is_small_and_has_its_grace_scaled_down(name):
    """It runs quickly on a machine with two processors."""
    scenario = LIBRARY[name]

    assert scenario.ranks <= 16
    assert scenario.launches <= 4
    assert scenario.grace <= 5
    assert scenario.timeout <= 90


def test_each_worker_is_used_and_described():
    """The description is in its first line, and the worker is short."""
    used = {scenario.worker for scenario in LIBRARY.values()}
    there = set((shipped_root() / "workers").glob("*.py"))
    texts = {path.name: path.read_text() for path in there}

    assert {path.name for path in there - used} == set()
    assert [name for name, text in texts.items() if not text.startswith('"""')] == []
    assert [name for name, text in texts.items() if len(text.splitlines()) > 120] == []


def test_temporary_files_are_gone_however_their_rank_ends(tmp_path):
    """They are in the common folder, and scenarios kill ranks: a name would stay, and collide with another rank's."""
    worker = [sys.executable, str(shipped_root() / "workers" / "temporary_files.py"), str(tmp_path)]
    with subprocess.Popen(worker, stdout=subprocess.PIPE, env={**os.environ, "RANK": "0"}) as process:
        for _ in range(3):
            process.stdout.readline()
        held = {os.readlink(link) for link in Path(f"/proc/{process.pid}/fd").iterdir()}
        process.kill()

    assert [name for name in held if name.startswith(str(tmp_path))] != []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", QUICK)
def test_a_scenario_of_each_family_passes(name, tmp_path):
    """The others are slow."""
    passes(name, tmp_path)


@slow
@pytest.mark.parametrize("name", [marked(name) for name in LIBRARY if name not in QUICK])
def test_a_shipped_scenario_passes(name, tmp_path):
    """It meets its expectations."""
    passes(name, tmp_path)


def test_a_wrong_expectation_fails(tmp_path):
    """The same run with another expected root cause fails."""
    scenario = replace(LIBRARY["crash/killed_at_step_3"], expect=Expect(succeeded=False, root_cause=1))
    done = run_scenario(scenario, NativeAgent(), workdir=tmp_path)

    assert done.verdict.reasons == ("expected root cause rank 1, got rank 2",)
