"""What accelerate, ft_launcher, torchrunx, Ray Train and mpirun say, read; and real runs of each that is installed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from derail.agents.availability import missing, version_of
from derail.agents.external.agent import Job
from derail.agents.external.messages import AgentEnd, Life, Seen
from derail.agents.launchers import ft_launcher, mpirun, ray_train
from derail.agents.launchers.functions import with_fates
from derail.agents.launchers.torchrunx import Torchrunx
from derail.agents.programs.rank_wrapper import code_of
from derail.agents.registry import agent, agents
from derail.campaign.run_scenario import run_scenario
from derail.model.exit import ExitStatus
from derail.scenario.load import find, load
from derail.scenario.model import Scenario

if TYPE_CHECKING:
    from pathlib import Path

NAMES = ("accelerate", "ft_launcher", "torchrunx", "ray_train", "mpirun")
FT_LAUNCHER = """\
[2026-11-22 22:27:22,135] [ERROR] [ft_launcher3090@vm] failed (exitcode: 7) local_rank: 1 (pid: 3107) of binary: python
[2026-11-22 22:27:22,280] [ERROR] [ft_launcher3090@vm] Some rank(s) exited with non-zero exit code: \
{0: ProcessFailure(local_rank=0, pid=3106, exitcode=-15, error_file='<N/A>', error_file_data={'message': '<NONE>'}, \
message='Signal 15 (SIGTERM) received by PID 3106', timestamp=1795386639), \
1: ProcessFailure(local_rank=1, pid=3107, exitcode=7, error_file='/x/error.json', error_file_data={'message': {}}, \
message={'message': "it's gone\\nfor good", 'extraInfo': {}}, timestamp=1795386639)}. Agent's exit code = 1
"""
MPIRUN_CODE = """\
mpirun detected that one or more processes exited with non-zero status, thus causing
the job to be terminated. The first process to do so was:

  Process name: [[26376,1],12]
  Exit code:    7
"""
MPIRUN_SIGNAL = "mpirun noticed that process rank 3 with PID 0 on node vm exited on signal 9 (Killed).\n"
RAY = """\
\x1b[36m(TrainController pid=7452)\x1b[0m ray.train.WorkerGroupError: Training failed due to worker errors:
\x1b[36m(TrainController pid=7452)\x1b[0m [Rank 0 Error Snippet]:
Traceback (most recent call last):
ray.train.WorkerGroupError: Training failed due to worker errors:
[Rank 2 Error Snippet]:
Traceback (most recent call last):
RuntimeError: no such device
\x1b[36m(RayTrainWorker pid=7666)\x1b[0m Error in training function:
"""
RAY_DEAD = """\
ray.train.ControllerError: Training failed due to controller error:
The actor died unexpectedly before finishing this task.
\tclass_name: RayTrainWorker
\tpid: 8609
\tip: 127.0.0.1
"""
TORCHRUNX = "torchrunx.utils.errors.WorkerFailedError: Signal 9 (SIGKILL) received by PID 14899\n"


def life(rank, pid, *, status=None, exited_at=None, order=None):
    """A rank as it was seen."""
    return Life(rank, 0, pid, 1.0, status=status, exited_at=exited_at, order=order)


def test_ft_launcher_names_the_first_failure_by_its_process():
    """The dictionary at its end has the others too; messages and codes are there as they were."""
    said = ft_launcher.read_report(FT_LAUNCHER, {3106: 0, 3107: 1})

    assert (said.blamed, list(said.failures)) == (1, [1, 0])
    assert [(told.message, told.error_file, str(told.status)) for told in said.failures.values()] == [
        ("it's gone\nfor good", "good", "exit 7"),
        ("Signal 15 (SIGTERM) received by PID 3106", "missing", "SIGTERM (15)"),
    ]


@pytest.mark.parametrize(
    "after", ["Worker group UNHEALTHY. 1/1 attempts left; will restart worker group", "Agent .run() is OK"]
)
def test_ft_launcher_blames_nobody_for_what_it_has_got_over(after):
    """A failure before a restart, or of a job that it calls a success."""
    assert ft_launcher.read_report(FT_LAUNCHER + after, {}).blamed is None


@pytest.mark.parametrize(
    ("output", "blamed", "status"), [(MPIRUN_CODE, 12, "exit 7"), (MPIRUN_SIGNAL, 3, "SIGKILL (9)")]
)
def test_mpirun_names_the_rank_that_ended_first(output, blamed, status):
    """By its number, with its code or its signal."""
    said = mpirun.read_report(output)

    assert (said.blamed, str(said.failures[blamed].status)) == (blamed, status)


def test_ray_train_names_the_ranks_whose_errors_it_quotes():
    """What its processes print meanwhile is not the error that the program ended with."""
    said = ray_train.read_report(RAY, {})

    assert (said.blamed, {rank: told.message.split("\n")[-1] for rank, told in said.failures.items()}) == (
        2,
        {2: "RuntimeError: no such device"},
    )


def test_ray_train_names_a_dead_worker_by_its_process():
    """Which rank that was is seen."""
    said = ray_train.read_report(RAY_DEAD, {8609: 1, 8608: 0})

    assert (said.blamed, "died unexpectedly" in said.failures[1].message) == (1, True)


def test_torchrunx_names_a_worker_that_a_signal_ended_by_its_process(tmp_path):
    """Of others it names none."""
    job = Job(Scenario("", 2, tmp_path / "rank.py"), tmp_path, 1)
    lives = [life(0, 14898), life(1, 14899)]
    said = Torchrunx().said(job, (TORCHRUNX,), Seen([AgentEnd(1)], lives))

    assert (said.blamed, str(said.failures[1].status)) == (1, "SIGKILL (9)")


@pytest.mark.parametrize("name", NAMES)
def test_a_launcher_that_says_nothing_blames_nobody(name, tmp_path):
    """Whatever else it printed."""
    job = Job(Scenario("", 2, tmp_path / "rank.py"), tmp_path, 1)
    said = agent(name).said(job, ("what is this\n" * 3,), Seen([AgentEnd(1)], [life(0, 1)]))

    assert (said.blamed, dict(said.failures)) == (None, {})


@pytest.mark.parametrize(("told", "code"), [(None, 0), (0, 0), (7, 7), (256, 0), (-1, 255), ("no", 1)])
def test_a_program_that_leaves_has_the_code_that_python_would_end_with(told, code):
    """None is 0, a word is 1, a number is cut to a byte."""
    assert code_of(told) == code


def test_the_fate_of_a_program_counts_and_not_that_of_its_worker(tmp_path: Path):
    """Workers that are killed when all is over have not failed; the order is that of the programs' ends."""
    fates = tmp_path / "fates.jsonl"
    fates.write_text(
        json.dumps({"pid": 11, "code": 0, "at": 5.0}) + "\n" + json.dumps({"pid": 10, "code": 1, "at": 4.0}) + '\n{"pid'
    )
    killed = ExitStatus(signal=9)
    lives = [
        life(0, 10, status=killed, exited_at=9.0, order=1),
        life(1, 11, status=killed, exited_at=8.0, order=0),
        life(2, 12, status=killed, exited_at=4.5, order=2),
    ]
    found = with_fates(lives, fates)

    assert [(str(each.status), each.exited_at, each.order) for each in found] == [
        ("exit 1", 4.0, 0),
        ("exit 0", 5.0, 2),
        ("SIGKILL (9)", 4.5, 1),
    ]


def test_versions_are_those_of_installed_packages():
    """One that is missing leaves nothing to say but that."""
    assert (version_of("derail-has-no-such-part", "pytest"), missing("derail-has-no-such-part")) == (
        "",
        "derail-has-no-such-part is not installed here",
    )
    assert version_of("pytest", "pytest") == f"{pytest.__version__} (pytest {pytest.__version__})"


@pytest.mark.parametrize("name", NAMES)
def test_each_can_be_asked_for_by_its_name(name):
    """It says a version, or why it cannot be run here."""
    assert name in agents()
    made = agent(name)
    assert (made.name, bool(made.version())) == (name, not made.unavailable())


@pytest.mark.parametrize("name", ["mpirun", "torchrunx", "ray_train"])
def test_launchers_without_error_files_are_not_asked_about_them(name):
    """Nothing could be damaged."""
    assert "no error file" in agent(name).unsupported(load(find("error_file/truncated")))


def test_ray_train_is_not_given_faults_of_the_main_thread():
    """It runs the program in another one; signals from outside it can be given."""
    unsupported = agent("ray_train").unsupported

    assert "thread" in unsupported(load(find("crash/raises_at_start")))
    assert unsupported(load(find("crash/killed_at_step_3"))) == ""


def ran(name, scenario, tmp_path):
    """One scenario on one agent; skipped where the agent is not installed."""
    made = agent(name)
    if why := made.unavailable():
        pytest.skip(why)
    return run_scenario(load(find(scenario)), made, workdir=tmp_path / "run")


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_calm_job_passes_on_each(name, tmp_path):
    """Four ranks do their work and end, and nothing is left."""
    assert ran(name, "calm/all_succeed", tmp_path).verdict.reasons == ()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["accelerate", "ft_launcher", "ray_train", "mpirun"])
def test_a_killed_rank_is_blamed_by_each_that_tells(name, tmp_path):
    """As by hand; and the fault was injected."""
    run = ran(name, "crash/killed_at_step_3", tmp_path)

    assert ([told.status for told in run.result.faults], run.result.root_cause) == (["injected"], 2)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "scenario", "promise", "kept"),
    [
        ("mpirun", "crash/exits_with_code_7", "exit_code", True),
        ("mpirun", "hang/deaf_to_sigterm", "exits", True),
        ("mpirun", "teardown/helpers_in_their_own_session", "leftovers", False),
        ("torchrun", "crash/exits_with_code_7", "exit_code", False),
        ("torchrun", "error_file/truncated", "root_cause", False),
        ("torchrun", "teardown/helpers_in_their_own_session", "leftovers", False),
        ("torchrun", "supervisor/three_interrupts", "leftovers", False),
        ("torchrun", "supervisor/killed", "ends_with_launcher", False),
        ("accelerate", "crash/exits_with_code_7", "exit_code", False),
        ("accelerate", "teardown/helpers_in_their_own_session", "leftovers", False),
        ("ft_launcher", "crash/exits_with_code_7", "exit_code", False),
        ("ft_launcher", "supervisor/three_interrupts", "leftovers", False),
        ("ft_launcher", "supervisor/killed", "ends_with_launcher", False),
        ("torchrunx", "supervisor/killed", "ends_with_launcher", False),
    ],
)
def test_what_derail_finds_is_what_was_seen_by_hand(name, scenario, promise, kept, tmp_path):
    """Each of these is also in test_by_hand; what the agent never promised is a difference, and no failure."""
    run = ran(name, scenario, tmp_path)

    found = [finding for finding in run.verdict.findings if finding.promise == promise]
    met = [not finding.differs if finding.kept is None else finding.kept for finding in found]
    assert (bool(found), all(met), run.verdict.kind in ("PASS", "FAIL")) == (True, kept, True)
