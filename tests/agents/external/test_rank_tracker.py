"""Which processes are ranks of an external supervisor, from successive observations of the process tree."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from types import SimpleNamespace

import pytest

from derail import faults
from derail.agents.external import rank_tracker
from derail.agents.external.rank_tracker import RankTracker
from derail.model.clock import SYSTEM_CLOCK
from derail.model.spec import JOB_ENV
from derail.platform.exits import is_readable

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="external supervisors are watched through pidfds")
JOB = f"job-{os.getpid()}"
SUPERVISOR = """
import os, signal, subprocess
rank = subprocess.Popen(["sh", "-c", "echo; read line; sleep 600 >&2 & echo $!; wait"], env={**os.environ, "RANK": "0"})
rank.wait()
signal.pause()
"""


class Loop:
    """Runs nothing by itself."""

    def add_reader(self, *_):
        """Nobody waits."""

    remove_reader = post = call_at = add_reader


def test_a_helper_whose_rank_ends_while_we_look_is_no_next_attempt():
    """When processes were listed it was a child of the rank, and when it was looked into the rank had ended."""
    driver = SimpleNamespace(plan=faults.plan([]), observe=lambda _: None, wants_lines=False, sockets=None)
    ranks = RankTracker(1, JOB, loop=Loop(), driver=driver, clock=SYSTEM_CLOCK)
    supervisor = subprocess.Popen(
        [sys.executable, "-c", SUPERVISOR],
        env={**os.environ, JOB_ENV: JOB}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    pidfd = os.pidfd_open(supervisor.pid)
    helper = None
    try:
        supervisor.stdout.readline()
        ranks.agent_started(supervisor.pid, pidfd, first=True)
        ranks._look()
        (rank,) = ranks.lives
        supervisor.stdin.write(b"\n")
        supervisor.stdin.flush()
        helper = int(supervisor.stdout.readline())
        listed = rank_tracker.descendants(os.getpid())
        assert listed[helper].ppid == rank.pid
        os.kill(rank.pid, signal.SIGKILL)
        assert is_readable(ranks.pidfd(0), 60)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(rank_tracker, "descendants", lambda _: listed)
            ranks._look()
        assert ranks.lives == [rank]
    finally:
        if helper is not None:
            os.kill(helper, signal.SIGKILL)
        ranks.close()
        supervisor.kill()
        supervisor.communicate()
        os.close(pidfd)


def test_what_was_taken_for_a_rank_is_given_up_when_the_worker_starts_below_it(tmp_path):
    """A shell that waited long before it started the program is no earlier attempt, and the program no helper."""
    worker = tmp_path / "worker.py"
    worker.write_text("import signal\nprint(flush=True)\nsignal.pause()\n")
    shell = f"echo; read line; {sys.executable} -S {worker} & echo $!; wait"
    source = f"import os, subprocess\nsubprocess.call(['sh', '-c', {shell!r}], env={{**os.environ, 'RANK': '0'}})"
    driver = SimpleNamespace(plan=faults.plan([]), observe=lambda _: None, wants_lines=False, sockets=None)
    ranks = RankTracker(
        1, JOB, loop=Loop(), driver=driver, clock=SYSTEM_CLOCK, worker=rank_tracker.Worker(os.fspath(worker))
    )
    supervisor = subprocess.Popen(
        [sys.executable, "-c", source], env={**os.environ, JOB_ENV: JOB}, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    pidfd = os.pidfd_open(supervisor.pid)
    program = None
    try:
        supervisor.stdout.readline()
        ranks.agent_started(supervisor.pid, pidfd, first=True)
        ranks._look()
        assert ranks.lives == []  # it may become the worker, or start it
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(rank_tracker, "SHY", 0.0)
            ranks._look()
        (waiting,) = ranks.lives
        supervisor.stdin.write(b"\n")
        supervisor.stdin.flush()
        program = int(supervisor.stdout.readline())
        supervisor.stdout.readline()
        ranks._look()
        told = {"job": JOB, "rank": 0, "argv": [sys.executable, "-S", os.fspath(worker)]}
        assert ranks._answer(SimpleNamespace(), told, program)["acts"]
        ranks._look()
        (rank,) = ranks.lives
        assert (rank.pid, rank.attempt, rank.wrapped) == (program, 0, True)
        assert waiting.pid != program
        assert ranks.is_alive(0)
        assert waiting.pid in ranks._own_processes()
    finally:
        if program is not None:
            os.kill(program, signal.SIGKILL)
        else:
            supervisor.kill()
        supervisor.communicate()
        ranks.close()
        os.close(pidfd)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can start a process of another user")
@pytest.mark.parametrize("user", [0, 65534])
def test_no_path_is_believed_that_a_rank_of_another_user_names(tmp_path, user):
    """Faults replace what lies there, with the rights of this user."""
    mine = tmp_path / "mine"
    mine.write_text("kept")
    driver = SimpleNamespace(plan=faults.plan([]), observe=lambda _: None, wants_lines=False, sockets=None)
    ranks = RankTracker(1, JOB, loop=Loop(), driver=driver, clock=SYSTEM_CLOCK)
    source = (
        "import os, signal, subprocess\n"
        "env = {**os.environ, 'RANK': '0'}\n"
        f"subprocess.Popen(['sh', '-c', 'echo; sleep 600'], env=env, user={user}, group={user}, extra_groups=[])\n"
        "signal.pause()"
    )
    with (tmp_path / "log").open("w+b") as log:
        supervisor = subprocess.Popen(
            [sys.executable, "-c", source], stdout=log, stderr=log, start_new_session=True,
            env={**os.environ, JOB_ENV: JOB, "TORCHELASTIC_ERROR_FILE": str(mine)},
        )  # fmt: skip
        pidfd = os.pidfd_open(supervisor.pid)
        try:
            ranks.agent_started(supervisor.pid, pidfd, first=True)
            end = SYSTEM_CLOCK.now() + 60
            while not ranks.lives and SYSTEM_CLOCK.now() < end:
                ranks._look()
            (rank,) = ranks.lives
            named = ranks.error_file(0), ranks.log_file(0, "stdout")
            os.kill(rank.pid, signal.SIGKILL)
        finally:
            ranks.close()
            os.killpg(supervisor.pid, signal.SIGKILL)  # noqa: TID251 - a child that has not been reaped
            supervisor.wait()
            os.close(pidfd)

    assert named == ((None, None) if user else (mine, tmp_path / "log"))
