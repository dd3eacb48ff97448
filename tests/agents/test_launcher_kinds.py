"""Kinds of launchers, each in small: what MPI's and Slurm's do that others do not, and what derail sees of it."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest

from derail import faults, when
from derail.agents.custom import CommandAgent
from derail.agents.witness import run_launcher
from derail.scenario.load import find, load
from derail.scenario.model import Scenario

LAUNCHERS = Path(__file__).parent / "launchers"
PYTHON = shlex.quote(sys.executable)


def agent(name, *options, declaration=None):
    """A launcher of this folder, with the number of ranks, options, and the worker's command line."""
    words = " ".join(options)
    return CommandAgent(f"{PYTHON} -u {LAUNCHERS / f'{name}.py'} {{ranks}} {words} {{command}}", declaration)


def write_worker(tmp_path, source):
    """A worker with this source."""
    path = tmp_path / "worker.py"
    path.write_text(source)
    return path


@pytest.mark.parametrize("kind", ["group", "session", "daemon"])
def test_a_helper_is_where_its_kind_says_though_its_rank_leads_no_group(tmp_path, kind):
    """The rank's own group counts, not its number: launchers that leave all ranks in a group of their own exist."""
    worker = write_worker(tmp_path, "import time\nprint('up', flush=True)\ntime.sleep(60)\n")
    orphan = faults.orphan(kind, rank=0, code=5, when=when.line("up"))
    seen = agent("shared_group").run(Scenario("t", 1, worker, faults.plan([orphan])), tmp_path / "run")

    assert [told.status for told in seen.faults] == ["injected"], seen.faults
    assert (seen.exit_code, len(seen.leftovers)) == (5, 1)


@pytest.mark.parametrize("pipes", ["pipes", "console"])
def test_quiet_ranks_that_outlive_a_killed_launcher_are_seen(tmp_path, pipes):
    """They print nothing and mind no broken pipe, so that only somebody who ends them ends them."""
    scenario = load(find("supervisor/killed"))
    command = [
        sys.executable,
        str(LAUNCHERS / "shared_group.py"),
        "2",
        pipes,
        sys.executable,
        "-u",
        str(scenario.worker),
    ]
    seen = run_launcher(scenario, command, tmp_path)

    assert [told.status for told in seen.faults] == ["injected"], seen.faults
    assert len([left for left in seen.leftovers if "quiet_loop.py" in left.what]) == 2
