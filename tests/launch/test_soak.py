"""Random broken jobs with an oracle: see launch/soak.py for the command that runs thousands."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from launch import soak

TESTS = Path(__file__).resolve().parents[1]
SECONDS_ENV = "DERAIL_SOAK_SECONDS"
"""Time budget of the slow test, in seconds."""


def run(*options: str, deadline: float) -> subprocess.CompletedProcess[str]:
    """Run the soak in a separate process."""
    path = os.pathsep.join(filter(None, [str(TESTS), os.environ.get("PYTHONPATH", "")]))
    environ = {**os.environ, "PYTHONPATH": path}
    command = [sys.executable, "-m", "launch.soak", *options]
    return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=deadline, check=False)


@pytest.mark.parametrize("mode", soak.MODES)
def test_a_few_random_jobs_end_as_the_oracle_predicts(mode):
    """Root cause, status of each rank, lines and survivors are right, or the order is reported as unknown."""
    if reason := soak.why_not(mode):
        pytest.skip(reason)
    done = run("--jobs=12", "--seed=7", f"--modes={mode}", "--workers=1", deadline=200)
    assert (done.returncode, '"jobs": 12, "wrong": 0' in done.stdout) == (0, True), done.stdout + done.stderr


@pytest.mark.parametrize(
    ("seed", "mode", "why"),
    [
        ("7:5469", "plain", "a rank removes its directory and records; two others record; all end before a look"),
        ("8:4739", "plain", "a record that nothing announces is older than one that was announced"),
        ("9:7335", "pidns", "the same, a few milliseconds before the exit for which the files are looked at"),
    ],
)
def test_a_job_that_was_wrong_once_ends_as_the_oracle_predicts(seed, mode, why):
    """A removal is announced when the last file of the directory is closed, and some records are not announced: then
    the order is reported as unknown."""
    if reason := soak.why_not(mode):
        pytest.skip(reason)
    done = run(f"--only={seed}", f"--modes={mode}", deadline=200)
    assert done.returncode == 0, f"{why}: {done.stdout}{done.stderr}"


@pytest.mark.slow
def test_random_jobs_end_as_the_oracle_predicts_while_the_budget_lasts():
    """The same with a new seed each time, which is printed, in all modes that this machine has."""
    seconds = float(os.environ.get(SECONDS_ENV, "60"))
    done = run("--jobs=100000", f"--seconds={seconds}", deadline=4 * seconds + 200)
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr


def plan(*steps: soak.Step, ranks: int = 2, held: bool = True, method: str = "program") -> soak.Plan:
    """Return a job made for the test."""
    fate = dict.fromkeys(range(ranks), "recorded")
    return soak.Plan(
        "0:0", method, ranks, held, list(steps), grace=2.0, sweep="all", tee=False, stop="close", fate=fate
    )


@pytest.fixture
def job(tmp_path):
    """Return a function that runs one planned job up to its end."""
    jobs = []

    def begin(planned: soak.Plan) -> soak.Job:
        jobs.append(soak.Job(planned, tmp_path / "job", "plain"))
        jobs[0].start()
        jobs[0].act()
        return jobs[0]

    yield begin
    for each in jobs:
        each.close()


def test_the_oracle_objects_to_a_wrong_root_cause(job):
    """With the truth of two ranks exchanged, a right result is wrong."""
    begun = job(plan(soak.Step(0, "moved", "own.0"), soak.Step(1, "exit", "3"), soak.Step(0, "exit", "3")))
    begun.truth[0].recorded = 9
    with pytest.raises(soak.Wrong, match="root cause 0 instead of 1"):
        begun.finish()


def test_the_oracle_objects_to_a_wrong_status_a_lost_line_and_a_survivor(job):
    """Each of its checks can fail."""
    begun = job(plan(soak.Step(0, "lines", "3"), soak.Step(0, "exit", "3"), ranks=1))
    begun.truth[0].end = 4
    with pytest.raises(soak.Wrong, match="returncode of rank 0: 3 instead of 4"):
        begun.finish()
    begun.truth[0].end, begun.truth[0].lines = 3, 4
    with pytest.raises(soak.Wrong, match="stdout of rank 0"):
        begun.finish()
    begun.truth[0].lines = 3
    begun.helpers[os.getpid()] = os.pidfd_open(os.getpid())
    with pytest.raises(soak.Wrong, match="live although all were to be ended"):
        begun.finish()
    os.close(begun.helpers.pop(os.getpid()))
    assert begun.finish() == {}


def test_a_job_is_the_same_for_its_seed():
    """A failure can be run again by its seed."""
    assert soak.plan_of("5:3", "plain") == soak.plan_of("5:3", "plain")
    assert soak.plan_of("5:3", "plain") != soak.plan_of("5:4", "plain")
