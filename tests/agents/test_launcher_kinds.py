"""Kinds of launchers, each in small: what MPI's and Slurm's do that others do not, and what derail sees of it."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from derail import faults, when
from derail.agents.custom import CommandAgent
from derail.agents.witness import run_launcher
from derail.model.spec import JOB_ENV
from derail.scenario.expect import judge
from derail.scenario.load import find, load
from derail.scenario.model import Expect, Scenario

LAUNCHERS = Path(__file__).parent / "launchers"
PYTHON = shlex.quote(sys.executable)
STEPS = """
import time
for step in range(1, 1001):
    print(f"step {step}", flush=True)
    time.sleep(0.02)
"""


def agent(name, *options, declaration=None):
    """A launcher of this folder, with the number of ranks, options, and the worker's command line."""
    words = " ".join(options)
    return CommandAgent(f"{PYTHON} -u {LAUNCHERS / f'{name}.py'} {{ranks}} {words} {{command}}", declaration)


@pytest.fixture
def daemon(tmp_path):
    """A daemon that starts ranks and is no descendant of anything that derail starts; its socket."""
    path = tmp_path / "d"
    env = {name: value for name, value in os.environ.items() if name != JOB_ENV}
    command = [sys.executable, str(LAUNCHERS / "by_daemon.py"), "serve", str(path)]
    process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE)
    process.stdout.readline()
    yield str(path)
    process.terminate()
    process.wait()
    process.stdout.close()


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


def test_what_ranks_of_a_daemon_leave_is_counted_and_ended(tmp_path, daemon, pid_gone):
    """They are no descendants of the launcher, and neither are their helpers: the job's mark shows whose they are."""
    worker = write_worker(tmp_path, STEPS)
    orphan = faults.orphan("session", rank=1, code=5, when=when.line("step 2"))
    scenario = Scenario("t", 2, worker, faults.plan([orphan]), Expect(outcome="failed", leftovers="ended"))
    launcher = agent("by_daemon", daemon)
    seen = launcher.run(scenario, tmp_path / "run")

    assert [told.status for told in seen.faults] == ["injected"], seen.faults
    assert (seen.exit_code, [(left.rank, left.ended) for left in seen.leftovers]) == (5, [(1, True)])
    assert pid_gone(seen.leftovers[0].pid)
    assert judge(scenario, seen, launcher.promises).kind == "FAIL"


def test_ranks_of_a_daemon_that_outlive_the_launcher_are_left_over(tmp_path, daemon, pid_gone):
    """The launcher is killed, and nobody tells the daemon."""
    worker = write_worker(tmp_path, STEPS)
    kill = faults.signal("SIGKILL", rank="the agent", when=when.all_of(*(when.line("step 2", rank=r) for r in (0, 1))))
    scenario = Scenario("t", 2, worker, faults.plan([kill]), Expect(outcome="failed"))
    seen = agent("by_daemon", daemon).run(scenario, tmp_path / "run")

    assert [told.status for told in seen.faults] == ["injected"], seen.faults
    assert sorted((left.rank, left.ended) for left in seen.leftovers) == [(0, True), (1, True)]
    assert all(pid_gone(left.pid) for left in seen.leftovers)


def test_ranks_of_a_daemon_are_ended_when_the_time_is_over(tmp_path, daemon, pid_gone):
    """As those are that the launcher has started itself."""
    worker = write_worker(tmp_path, STEPS)
    seen = agent("by_daemon", daemon).run(Scenario("t", 2, worker, timeout=2.0), tmp_path / "run")

    assert seen.outcome.timed_out
    assert len(seen.outcome.ranks) == 2
    assert all(pid_gone(fate.pid) for fate in seen.outcome.ranks.values())
