"""No process is left: helpers of ranks, ranks of a failed start, ranks of a killed launcher."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

import rank_functions
from derail.model.spec import Teardown
from derail.platform import marks
from derail.supervise import sweep
from program_files import program_text

METHODS = ["program", "spawn", "fork", "forkserver", "warm"]
CALL = "import sys; sys.path[:] = {path!r}; import rank_functions; rank_functions.{name}(*{arguments!r})"

HELPER = '{how} sh -c \'echo $$ > "$DIR/helper.tmp"; mv "$DIR/helper.tmp" "$DIR/helper"; exec sleep 600\' & '
WAIT_FOR_HELPER = 'while [ ! -e "$DIR/helper" ]; do sleep 0.01; done; '


def test_a_helper_of_a_crashed_rank_is_ended(jobs, pid_gone):
    """The group of a rank is ended also when the rank itself is dead already."""
    context = jobs.sh(HELPER.format(how="") + WAIT_FOR_HELPER + "exit 3")
    helper = int(jobs.file("helper"))
    result = context.wait(60)
    assert result.failures[0].exitcode == 3
    assert pid_gone(helper)


def test_a_helper_of_a_rank_that_succeeded_is_ended_and_reported(jobs, pid_gone):
    """After a success as well, no process is left in the group; the outcome names the leftovers."""
    context = jobs.sh(HELPER.format(how="") + WAIT_FOR_HELPER + "exit 0")
    result = context.wait(60)
    assert pid_gone(int(jobs.file("helper")))
    assert [(left.kind, left.rank, left.ended) for left in result.leftovers] == [("process", 0, True)]


def test_a_helper_that_ignores_sigterm_is_killed(jobs, pid_gone):
    """The end of the job does not depend on the behaviour of helpers."""
    stubborn = (
        """(trap "" TERM; echo $(exec sh -c 'echo $PPID') > "$DIR/h.tmp"; mv "$DIR/h.tmp" "$DIR/helper"; """
        "while :; do sleep 0.1; done) & "
    )
    context = jobs.sh(stubborn + WAIT_FOR_HELPER + "exit 3")
    helper = int(jobs.file("helper"))
    assert context.wait(60) is not None
    assert pid_gone(helper)


def test_a_helper_in_its_own_session_is_found_and_ended_if_the_job_asks_for_it(jobs, pid_gone):
    """sweep="all" also ends processes that escaped the group of their rank."""
    context = jobs.sh(HELPER.format(how="setsid") + WAIT_FOR_HELPER + "exit 3", teardown=Teardown(sweep="all"))
    helper = int(jobs.file("helper"))
    result = context.wait(60)
    assert pid_gone(helper)
    assert [left.ended for left in result.leftovers] == [True]


def test_a_helper_in_its_own_session_is_only_reported_otherwise(jobs):
    """sweep="group" reports escaped processes, and does not end them."""
    context = jobs.sh(HELPER.format(how="setsid") + WAIT_FOR_HELPER + "exit 3", teardown=Teardown(sweep="group"))
    helper = int(jobs.file("helper"))
    result = context.wait(60)
    assert [(left.pid, left.ended) for left in result.leftovers] == [(helper, False)]
    os.kill(helper, signal.SIGKILL)


@pytest.fixture(params=METHODS)
def call(request, jobs):
    """Return a function that calls one of ``rank_functions`` in rank 1 of two, as a program or by each start method."""

    def start(name, *arguments, **beyond):
        if request.param == "program":
            return jobs.py("", CALL.format(path=sys.path, name=name, arguments=arguments), **beyond)
        args = {0: ("abs", -1), 1: (name, *arguments)}
        return jobs.start(rank_functions.call, args=args, start_method=request.param, **beyond)

    return start


@pytest.mark.parametrize("how", ["forked", "executed"])
def test_a_daemon_is_found_whatever_the_start_method(call, jobs, pid_gone, how):
    """It has no parent, session, descriptor or environment of its rank, and is ended, and reported with the rank."""
    result = call("leave_a_daemon", str(jobs.directory), how).wait(60)
    daemon = int(jobs.file("daemon"))
    leftovers = [(left.kind, left.pid, left.rank, left.ended) for left in result.leftovers]
    assert leftovers == [("process", daemon, 1, True)]
    assert pid_gone(daemon)


def test_a_daemon_is_only_reported_by_default(call, jobs):
    """sweep="group" reports a daemon of each start method, and does not end it."""
    result = call("leave_a_daemon", str(jobs.directory), "forked", teardown=Teardown(sweep="group")).wait(60)
    daemon = int(jobs.file("daemon"))
    leftovers = [(left.pid, left.rank, left.ended) for left in result.leftovers]
    os.kill(daemon, signal.SIGKILL)
    assert leftovers == [(daemon, 1, False)]


@pytest.mark.parametrize("without", ["show_environment", "set_limit"])
def test_one_mark_is_enough_to_find_a_forked_daemon(jobs, pid_gone, monkeypatch, without):
    """Where a process cannot show its environment, the limit remains, and the other way round."""
    monkeypatch.setattr(marks, without, lambda *_, **__: False)
    result = jobs.start(
        rank_functions.leave_a_daemon, 1, args={0: (str(jobs.directory), "forked")}, start_method="fork"
    ).wait(60)
    daemon = int(jobs.file("daemon"))
    assert [(left.pid, left.ended) for left in result.leftovers] == [(daemon, True)]
    assert pid_gone(daemon)


@pytest.mark.parametrize("how", ["exit", "hang"])
def test_a_resource_tracker_unlinks_what_its_rank_left(call, jobs, how):
    """It is not ended before, neither after a sudden exit nor with a killed rank, and not reported."""
    context = call("make_shared_memory", str(jobs.directory), how, teardown=Teardown(grace=0.5, sweep="all"))
    segment = jobs.file("segment")
    if how == "hang":
        assert context.wait(0.1) is None
        context.stop("the test wants it")
    result = context.wait(60)
    assert (os.path.exists(f"/dev/shm/{segment}"), result.leftovers) == (False, ())


HELD = """(exec sh -c 'echo $$ > "$DIR/h.tmp"; mv "$DIR/h.tmp" "$DIR/helper"; read line < "$DIR/fifo"' {name}) & """


def test_a_helper_that_never_ends_is_bounded(jobs, pid_gone, monkeypatch):
    """A tracker that hangs is killed and reported at its deadline."""
    monkeypatch.setattr(sweep, "HELPER_WAIT", 0.2)
    os.mkfifo(jobs.directory / "fifo")
    held = HELD.format(name='"from my.resource_tracker import main"')
    result = jobs.sh(held + WAIT_FOR_HELPER + "exit 0").wait(60)
    helper = int(jobs.file("helper"))
    assert [(left.pid, left.ended) for left in result.leftovers] == [(helper, True)]
    assert pid_gone(helper)


def test_a_helper_that_was_stopped_with_its_rank_is_continued_and_ends(jobs):
    """A tracker in state T cleans up nothing: it is continued."""
    source = (
        "import os, signal, subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import os, signal; os.kill(os.getpid(), signal.SIGSTOP)',"
        " 'from my.resource_tracker import main'])\n"
        "os.waitid(os.P_PID, child.pid, os.WSTOPPED)\n"
    )
    result = jobs.py(source).wait(60)
    assert result.leftovers == ()


def test_a_leftover_is_asked_before_it_is_killed(jobs):
    """Grace period, then SIGKILL, as for ranks: a helper's SIGTERM handler runs."""
    script = (
        """(trap 'echo bye > "$DIR/bye"; exit 0' TERM; echo $(exec sh -c 'echo $PPID') > "$DIR/h.tmp"; """
        """mv "$DIR/h.tmp" "$DIR/helper"; while :; do sleep 0.05; done) & """
    )
    result = jobs.sh(script + WAIT_FOR_HELPER + "exit 0").wait(60)
    helper = int(jobs.file("helper"))
    assert (helper, True) in [(left.pid, left.ended) for left in result.leftovers]
    assert jobs.file("bye") == "bye"


def test_a_job_without_leftovers_does_not_wait(jobs, monkeypatch):
    """Only leftovers are awaited."""
    waits = []
    monkeypatch.setattr(sweep, "wait_until_gone", lambda *_, **__: waits.append(1))
    assert jobs.sh("exit 0", "exit 3").wait(60).failures[1].exitcode == 3
    assert waits == []


def test_a_failing_start_leaves_nothing(jobs, pid_gone):
    """Rank 2 cannot be started: ranks 0 and 1, which run already, are ended before the error is raised."""
    scripts = {r: ("sh", "-c", f'echo $$ > "$DIR/pid{r}"; exec sleep 600') for r in range(2)}
    with pytest.raises(OSError, match="rank 2"):
        jobs.start("/usr/bin/env", 3, args={**scripts, 2: ("sh",)}, prepare=break_rank_2)
    started = [jobs.directory / f"pid{rank}" for rank in range(2)]
    assert all(pid_gone(int(path.read_text())) for path in started if path.exists() and path.read_text().strip())


def break_rank_2(spec):
    """Make rank 2 run a program that does not exist."""
    from dataclasses import replace

    from derail.model.spec import Command

    ranks = [replace(r, run=Command(("/nonexistent/program",))) if r.rank == 2 else r for r in spec.ranks]
    return replace(spec, ranks=tuple(ranks))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shell", [True, False])
def test_a_resource_tracker_outlives_a_launcher_that_was_killed_until_it_has_unlinked(
    jobs, tmp_path, wait_until, method, shell
):
    """The keeper ends ranks and their groups, and spares helpers that clean up behind them."""
    script = tmp_path / "launcher.py"
    without = "" if shell else "import derail.platform.lifeline as line; line.SHELL = '/nowhere'\n"
    script.write_text(
        without + program_text("launch/calls_function", PATH=sys.path, NAME="make_shared_memory", HOW="hang")
    )
    launcher = subprocess.Popen([sys.executable, str(script), method], env={**os.environ, "DIR": str(tmp_path)})
    with launcher:
        segment = f"/dev/shm/{jobs.file('segment')}"
        launcher.kill()
    wait_until(lambda: not os.path.exists(segment), what="the tracker has unlinked it")


@pytest.mark.parametrize("method", METHODS)
def test_daemons_do_not_outlive_a_launcher_that_was_killed(jobs, tmp_path, pid_gone, method):
    """Forked ranks show their mark to the keeper as well."""
    script = tmp_path / "launcher.py"
    script.write_text(
        program_text("launch/calls_function", PATH=sys.path, NAME="leave_a_daemon_and_hang", HOW="forked")
    )
    launcher = subprocess.Popen([sys.executable, str(script), method], env={**os.environ, "DIR": str(tmp_path)})
    with launcher:
        assert jobs.file("left") == "it has"
        launcher.kill()
    assert pid_gone(int(jobs.file("daemon")))


LAUNCHER = program_text("launch/launcher_with_helpers")


@pytest.mark.parametrize("kind", ["program", "spawn", "fork", "forkserver", "warm"])
def test_ranks_do_not_outlive_a_launcher_that_was_killed(jobs, tmp_path, pid_gone, kind):
    """SIGKILL to the launcher: programs, functions and helpers in their own session are gone, too."""
    script = tmp_path / "launcher.py"
    script.write_text(LAUNCHER)
    launcher = subprocess.Popen(
        [sys.executable, str(script), kind],
        env={**os.environ, "DIR": str(tmp_path)},
        stdout=subprocess.PIPE,
    )
    with launcher:
        assert launcher.stdout.readline() == b"started\n"
        names = [f"rank{r}" for r in range(2)] + [f"helper{r}" for r in range(2) if kind == "program"]
        pids = [int(jobs.file(name)) for name in names]
        launcher.kill()
    assert [pid_gone(pid) for pid in pids] == [True] * len(pids)


def test_the_end_of_the_thread_that_started_a_job_has_no_effect(jobs, pid_gone):
    """Ranks belong to the process, not to the thread that called."""
    import threading

    found = []
    starter = threading.Thread(target=lambda: found.append(jobs.sh('read line < "$DIR/fifo"; exit 0')))
    os.mkfifo(jobs.directory / "fifo")
    starter.start()
    starter.join()
    assert found[0].wait(0) is None
    (jobs.directory / "fifo").write_text("go\n")
    assert found[0].wait(60).succeeded


def test_many_ranks_cost_one_thread(jobs):
    """One thread watches sixty-four ranks."""
    import threading

    before = threading.active_count()
    context = jobs.sh(*["exec sleep 600"] * 64)
    assert threading.active_count() - before == 1
    context.close(timeout=0)
    assert threading.active_count() == before
