"""External agents: small real supervisors in the sandbox, observed whatever they do, without leftovers."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from threading import Thread

import pytest

from derail import faults, when
from derail.agents.custom import CommandAgent, Declaration, Report
from derail.model.exit import ExitStatus
from derail.model.input_error import InputError
from derail.model.outcome import Cause
from derail.platform.processes import every_process
from derail.scenario.expect import judge
from derail.scenario.model import Expect, Scenario
from wording import Tells

BOTH = when.all_of(when.line("step 3", rank=0), when.line("step 3", rank=1))
"""Both ranks are at work: neither is still on its way."""
LAUNCHERS = Path(__file__).parents[2] / "programs" / "launchers"
PYTHON = shlex.quote(sys.executable)
TELLS = Declaration(
    name="honest",
    report=Report(
        root_cause=r"^root cause: rank (?P<rank>\d+)$",
        failure=r"^rank (?P<rank>\d+): (exit (?P<code>\d+)|signal (?P<signal>\d+)): (?P<message>.*)$",
    ),
)
HONEST = CommandAgent(
    f"{PYTHON} -u {LAUNCHERS / 'honest.py'} {{ranks}} {{restarts}} {{grace}} {{script}} {{args}}", TELLS
)
STEPS = """
import os, sys, time
for step in range(1, int(sys.argv[1]) + 1):
    print(f"rank {os.environ['RANK']}: step {step}", flush=True)
    time.sleep(0.02)
print("done", flush=True)
"""


def scenario(tmp_path, plan=(), source=STEPS, ranks=2, **more):
    """Return a job of small ranks that make 500 steps if they are not disturbed."""
    worker = tmp_path / "worker.py"
    worker.write_text(source)
    given = {"args": ("500",), "timeout": 120.0, "grace": 1.0, **more}
    return Scenario("t", ranks, worker, faults.plan(plan), **given)


def command(argv):
    """Return an agent that is started by this command."""
    return CommandAgent(shlex.join(map(str, argv)).replace("'{", "{").replace("}'", "}"))


def launcher(tmp_path, source):
    """Return an agent that runs Python code, with ``ranks()`` to start two ranks."""
    path = tmp_path / "launcher.py"
    path.write_text(
        "import os, signal, subprocess, sys, time\n"
        "def rank(number, *more):\n"
        "    env = {**os.environ, 'RANK': str(number), 'WORLD_SIZE': '2'}\n"
        "    return subprocess.Popen([sys.executable, *sys.argv[1:], *more], env=env)\n" + source
    )
    return CommandAgent(f"{PYTHON} -u {path} {{script}} {{args}}")


def test_a_job_that_is_left_alone_succeeds(tmp_path):
    """All ranks are found, their logs are kept, and nothing is left."""
    seen = HONEST.run(scenario(tmp_path, args=("3",)), tmp_path / "run")

    assert {rank: (fate.status, fate.cause) for rank, fate in seen.ranks.items()} == {
        0: (ExitStatus(code=0), Cause.SELF),
        1: (ExitStatus(code=0), Cause.SELF),
    }
    assert (seen.exit_code, seen.root_cause, seen.restarts, seen.leftovers) == (0, None, 0, ())
    assert seen.log_tail[1, "stdout"] == ("rank 1: step 1", "rank 1: step 2", "rank 1: step 3", "done")


def test_a_rank_is_killed_at_a_line_and_the_supervisors_report_is_read(tmp_path):
    """The fault acts at the line, the kill is observed, and the supervisor's report is read."""
    kill = faults.signal("SIGKILL", rank=1, when=when.line("step 3"))
    seen = HONEST.run(scenario(tmp_path, [kill]), tmp_path / "run")

    assert [told.status for told in seen.faults] == ["injected"]
    assert {rank: (fate.status, fate.cause) for rank, fate in seen.ranks.items()} == {
        0: (ExitStatus(signal=15), Cause.STOPPED_BY_US),
        1: (ExitStatus(signal=9), Cause.SELF),
    }
    assert (seen.root_cause, seen.failed, list(seen.failures), seen.exit_code) == (1, (1,), [1], 137)
    assert (seen.failures[1].status, seen.failures[1].message) == (ExitStatus(signal=9), "it failed")


def test_a_fault_in_a_rank_acts_in_an_unchanged_program(tmp_path):
    """The rank exits with the code, by the record of its own process."""
    seen = HONEST.run(scenario(tmp_path, [faults.exit(7, rank=0)]), tmp_path / "run")

    assert [told.status for told in seen.faults] == ["injected"]
    assert (seen.ranks[0].status, seen.exit_code) == (ExitStatus(code=7), 7)


def test_a_fault_before_the_start_works_with_an_external_launcher(tmp_path):
    """The rank execs the changed program under its own pid, before its first line; the others are unchanged."""
    source = "import os, time\nprint(os.environ.get('PYTHONHASHSEED'), os.environ['WORLD_SIZE'])\ntime.sleep(0.1)\n"
    lie = faults.wrong_world_size(7, rank=1)
    seen = HONEST.run(scenario(tmp_path, [lie], source, args=()), tmp_path / "run")

    assert [told.status for told in seen.faults] == ["injected"]
    assert [seen.log_tail[rank, "stdout"] for rank in (0, 1)] == [("None 2",), ("None 7",)]
    assert (seen.exit_code, seen.restarts) == (0, 0)


def test_a_rank_reports_what_the_driver_waits_for(tmp_path):
    """A place in one rank fires a fault from outside on that rank."""
    kill = faults.signal("SIGKILL", rank=1, when=when.call("__main__:work", hit=2))
    source = "import time\ndef work():\n    time.sleep(0.02)\nfor _ in range(500):\n    work()\n"
    seen = HONEST.run(scenario(tmp_path, [kill], source), tmp_path / "run")

    assert [told.status for told in seen.faults] == ["injected"]
    assert seen.root_cause == 1


def test_a_fault_acts_once_in_a_job_that_is_restarted(tmp_path):
    """The next attempt is not affected, even by a fault inside the rank."""
    plan = [faults.exit(7, rank=1, when=when.line("step 2")), faults.exit(3, rank=0, when=when.restart(1))]
    seen = HONEST.run(scenario(tmp_path, plan, restarts=2, args=("100",)), tmp_path / "run")

    assert [told.status for told in seen.faults] == ["injected", "injected"]
    assert (seen.restarts, seen.exit_code) == (2, 0)
    assert seen.succeeded
    assert seen.log_tail[1, "stdout"][-1] == "done"


def test_a_fault_fired_by_its_rank_acts_in_one_attempt(tmp_path):
    """The next process of that rank reads in the journal that it was injected."""
    seen = HONEST.run(scenario(tmp_path, [faults.exit(7, rank=0)], restarts=2, args=("3",)), tmp_path / "run")

    assert ([told.status for told in seen.faults], seen.restarts, seen.exit_code) == (["injected"], 1, 0)


def test_where_a_job_resumes_is_read_from_its_last_attempt(tmp_path):
    """The ranks' program prints it in a line."""
    source = (
        "import os, sys, pathlib\nonce = pathlib.Path(sys.argv[1]) / os.environ['RANK']\n"
        "if once.exists():\n    print('resumed at step 5')\nelse:\n    once.touch()\n    sys.exit(1)\n"
    )
    seen = HONEST.run(scenario(tmp_path, source=source, ranks=1, restarts=1, args=(str(tmp_path),)), tmp_path / "run")

    assert (seen.restarts, seen.resumed_at, seen.exit_code) == (1, 5, 0)


def test_a_rank_that_exits_0_on_request_was_stopped(tmp_path):
    """Its exit code does not show it, but its handler ran."""
    source = (
        "import os, signal, sys, time\nif os.environ['RANK'] == '0':\n"
        "    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))\n" + STEPS
    )
    kill = faults.signal("SIGKILL", rank=1, when=when.line("step 3", rank=0))  # whose handler is there by then
    seen = HONEST.run(scenario(tmp_path, [kill], source), tmp_path / "run")

    fate = seen.ranks[0]
    assert (fate.status, fate.cause, fate.signals_sent) == (ExitStatus(code=0), Cause.STOPPED_BY_US, (15,))


def test_ranks_that_are_no_python_are_found(tmp_path):
    """By their environment; the uppermost process is the rank, and a Python below it acts for it."""
    worker = tmp_path / "worker.sh"
    worker.write_text(f"#!/bin/sh\necho begun\n{PYTHON} -u {tmp_path / 'worker.py'} 500\nexit 9\n")
    worker.chmod(0o755)
    job = scenario(tmp_path, [faults.exit(7, rank=1, when=when.line("step 2"))])
    seen = HONEST.run(replace(job, worker=worker, args=()), tmp_path / "run")

    assert [told.status for told in seen.faults] == ["injected"] or "9" in str(seen.faults[0])
    assert (seen.ranks[1].status, seen.exit_code) == (ExitStatus(code=9), 9)


@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), ("SIGINT", 130)])
def test_the_agent_itself_can_be_signalled(tmp_path, name, code):
    """It is not a rank; the fault is verified on its own process."""
    term = faults.signal(name, rank="the agent", when=BOTH)
    seen = HONEST.run(scenario(tmp_path, [term]), tmp_path / "run")

    assert [(told.status, told.whom) for told in seen.faults] == [("injected", "the agent")]
    assert (seen.exit_code, seen.stopped, seen.leftovers) == (code, (0, 1), ())


def test_ranks_that_outlive_a_killed_agent_are_leftovers(tmp_path):
    """The leftovers have their rank, and are gone afterwards."""
    kill = faults.signal("SIGKILL", rank="the agent", when=BOTH)
    seen = HONEST.run(scenario(tmp_path, [kill]), tmp_path / "run")

    assert [told.status for told in seen.faults] == ["injected"]
    assert sorted((left.rank, left.ended) for left in seen.leftovers) == [(0, True), (1, True)]
    assert {fate.cause for fate in seen.ranks.values()} == {Cause.ABANDONED}
    assert seen.exit_code == 137
    assert not alive(str(tmp_path))


def test_a_helper_that_the_supervisor_ends_at_once_is_verified(tmp_path):
    """The supervisor acts before derail's check; the helper's exit status shows that it outlived its rank."""
    seen = HONEST.run(scenario(tmp_path, [faults.orphan("group", rank=1, code=5)]), tmp_path / "run")

    assert [told.status for told in seen.faults] == ["injected"]
    assert (seen.exit_code, seen.leftovers) == (5, ())


def test_a_helper_in_its_own_session_is_a_leftover(tmp_path):
    """Only its adoption shows whose it is."""
    seconds = f"618.{os.getpid()}"  # that nobody else sleeps
    source = f"import subprocess\nsubprocess.Popen(['sleep', '{seconds}'], start_new_session=True, env={{}})\n"
    seen = HONEST.run(scenario(tmp_path, source=source, ranks=1, args=()), tmp_path / "run")

    assert [(left.what, left.ended) for left in seen.leftovers] == [(f"sleep {seconds}", True)]
    assert not alive(f"sleep {seconds}")


def test_an_agent_that_hangs_is_ended_in_time_and_counts_as_hanging(tmp_path):
    """Even if it ignores all signals; its leftovers are ended with it."""
    agent = launcher(tmp_path, "signal.signal(signal.SIGTERM, signal.SIG_IGN)\nrank(0)\nrank(1)\ntime.sleep(600)\n")
    job = scenario(tmp_path, timeout=1.5)
    seen = agent.run(job, tmp_path / "run")

    assert (seen.timed_out, seen.leftovers) == (True, ())
    assert judge(job, seen).reasons == (Tells("1.5 s"),)
    assert not alive(str(tmp_path))


def test_an_agent_that_fails_before_it_starts_a_rank_is_reported(tmp_path):
    """The error has its last line."""
    seen = launcher(tmp_path, "raise ValueError('no such option')\n").run(scenario(tmp_path), tmp_path / "run")

    assert not seen.ran
    assert seen.error == Tells("exit 1", "ValueError: no such option")


def test_a_missing_program_gives_a_result(tmp_path):
    """It is unavailable; a run of it gives a result with the error."""
    agent = CommandAgent("/nowhere/launcher {script} {args}")
    seen = agent.run(scenario(tmp_path), tmp_path / "run")

    assert "/nowhere/launcher" in agent.unavailable()
    assert "cannot start" in seen.error


def test_an_agent_that_floods_its_output_is_survived(tmp_path):
    """Its output goes to a file."""
    agent = launcher(tmp_path, "print('x' * 20_000_000)\nsys.exit(rank(0).wait())\n")
    seen = agent.run(scenario(tmp_path, ranks=1, args=("2",)), tmp_path / "run")

    assert (seen.exit_code, seen.log_tail[0, "stdout"][-1]) == (0, "done")


def test_the_status_of_a_rank_is_known_although_its_parent_reaps_it(tmp_path):
    """The kernel keeps it for the holder of a pidfd, or it is reported as lost; it is never invented."""
    agent = launcher(tmp_path, "signal.signal(signal.SIGCHLD, signal.SIG_IGN)\nrank(0).wait()\n")
    seen = agent.run(scenario(tmp_path, source="import sys; sys.exit(5)", ranks=1, args=()), tmp_path / "run")

    status = seen.ranks[0].status
    assert status is not None
    assert status == ExitStatus(code=5) or status.lost is not None


def test_a_helper_of_a_rank_is_no_rank(tmp_path):
    """It has the rank's number in its environment, and outlives the rank as the next attempt would."""
    source = (
        "import subprocess, sys, time\nif len(sys.argv) > 1:\n    time.sleep(0.5)\nelse:\n"
        "    subprocess.Popen([sys.executable, __file__, 'helper'])\n    time.sleep(0.2)\n"
    )
    seen = HONEST.run(scenario(tmp_path, source=source, ranks=1, args=()), tmp_path / "run")

    assert (seen.restarts, seen.exit_code) == (0, 0)


def test_variables_of_an_outer_job_do_not_reach_the_agent(tmp_path, monkeypatch):
    """Otherwise the agent itself would be a rank."""
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("DERAIL_JOB", "outer")
    seen = HONEST.run(scenario(tmp_path, args=("2",)), tmp_path / "run")

    assert (sorted(seen.ranks), seen.exit_code) == ([0, 1], 0)


def test_when_derail_is_killed_nothing_is_left(tmp_path, wait_until):
    """Even of an agent in its own session, with ranks that ignore signals."""
    job = tmp_path / "job.py"
    source = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('up', flush=True)\n" + STEPS
    scenario(tmp_path, source=source)
    job.write_text(
        "import sys\nfrom pathlib import Path\nfrom derail.agents.custom import CommandAgent\n"
        "from derail.scenario.model import Scenario\n"
        f"agent = CommandAgent({HONEST.command!r})\n"
        f"here = Path({str(tmp_path)!r})\n"
        "agent.run(Scenario('t', 2, here / 'worker.py', args=('5000',)), here / 'run')\n"
    )
    process = subprocess.Popen([sys.executable, str(job)])
    logs = [tmp_path / "run/logs/attempt_0" / str(rank) / "stdout.log" for rank in (0, 1)]
    wait_until(lambda: all(log.is_file() and "up" in log.read_text() for log in logs))
    process.send_signal(signal.SIGKILL)
    process.wait()

    wait_until(lambda: not alive(str(tmp_path)))


def test_a_killed_sandbox_is_reported_and_nothing_is_left(tmp_path, wait_until):
    """Processes with the job's mark are found."""
    seen = []
    thread = Thread(target=lambda: seen.append(HONEST.run(scenario(tmp_path), tmp_path / "run")))
    thread.start()
    log = tmp_path / "run/logs/attempt_0/0/stdout.log"
    wait_until(lambda: log.is_file() and "step" in log.read_text())
    (sandbox,) = [
        process.pid
        for process in every_process()
        if process.ppid == os.getpid() and "derail.agents.external.sandbox_main" in words(process.pid)
    ]
    os.kill(sandbox, signal.SIGKILL)
    thread.join(100)

    assert "sandbox" in seen[0].error
    assert not alive(str(tmp_path))


def test_an_exception_of_a_signal_handler_ends_the_job_and_propagates(tmp_path, wait_until):
    """Like Ctrl-C in the middle of a run."""
    log = tmp_path / "run/logs/attempt_0/0/stdout.log"

    def interrupt():
        wait_until(lambda: log.is_file() and "step" in log.read_text())
        os.kill(os.getpid(), signal.SIGINT)

    user = Thread(target=interrupt)
    user.start()
    with pytest.raises(KeyboardInterrupt):
        HONEST.run(scenario(tmp_path, args=("5000",)), tmp_path / "run")
    user.join()
    assert not alive(str(tmp_path))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"nodes": 2}, "the command line has no {node}"),
        ({"function": "work"}, "it runs programs"),
        ({"faults": faults.plan([faults.value_slow(rank=0)])}, "needs ranks that are functions"),
        ({"faults": faults.plan([faults.stop(rank=0, when=when.phase("stopping"))])}, "waits for a phase"),
    ],
)
def test_a_scenario_that_an_external_agent_cannot_run_is_skipped(tmp_path, change, reason):
    """The scenario is skipped, and not started."""
    assert reason in HONEST.unsupported(replace(scenario(tmp_path), **change))


def test_in_rank_faults_cannot_target_the_agent(tmp_path):
    """It has no in-rank runtime."""
    with pytest.raises(InputError, match=r"acts inside ranks.* Only faults that act from outside can target the agent"):
        HONEST.run(scenario(tmp_path, [faults.exit(7, rank="the agent")]), tmp_path / "run")


def test_three_planted_bugs_are_found_and_nothing_else(tmp_path):
    """Swallowing SIGTERM, naming the last failure and leaking a helper are each reported as just that."""
    told = Declaration(report=Report(root_cause=r"^root cause: rank (?P<rank>\d+)$"))
    agent = CommandAgent(f"{PYTHON} {LAUNCHERS / 'crooked.py'} {{ranks}} {{script}} {{args}}", told)
    term = faults.signal("SIGTERM", rank="the agent", when=BOTH)
    kill = faults.signal("SIGKILL", rank=1, when=when.line("step 3"))
    end_it = scenario(tmp_path, [term], args=("150",), expect=Expect(succeeded=False, teardown_seconds=60.0))
    blame = scenario(
        tmp_path,
        [kill],
        ranks=3,
        expect=Expect(
            succeeded=False, root_cause=1, stopped=(0, 2), exits={0: "SIGTERM", 1: "SIGKILL"}, teardown_seconds=60.0
        ),
    )
    calm = scenario(tmp_path, args=("3",), expect=Expect(succeeded=True))
    found = {}
    for name, each in (("end it", end_it), ("blame", blame), ("calm", calm)):
        verdict = judge(each, agent.run(each, tmp_path / name), agent.promises)
        found[name] = {finding.promise: str(finding) for finding in verdict.findings if finding.kept is False}

    leak = "expected no leftovers, got process"
    assert {name: set(each) for name, each in found.items()} == {
        "end it": {"succeeded", "leftovers"},
        "blame": {"root_cause", "leftovers"},
        "calm": {"leftovers"},
    }
    assert found["end it"]["succeeded"] == Tells("failed", "succeeded")
    assert found["blame"]["root_cause"] != Tells("rank 1", "rank 1")
    assert all(each["leftovers"].startswith(leak) and "sleep 617" in each["leftovers"] for each in found.values())


def words(pid):
    """Return the command line of a process."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").replace("\0", " ")
    except OSError:
        return ""


def alive(part):
    """Return the living processes with this text in their command line."""
    return [process.pid for process in every_process() if process.alive and part in words(process.pid)]
