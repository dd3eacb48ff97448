"""A launcher is stopped while a rank ends: damage and proof come first, whatever the launcher does at the exit."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from types import SimpleNamespace

import pytest

from derail import faults, when
from derail.agents.custom import CommandAgent
from derail.agents.external.rank_tracker import RankTracker
from derail.agents.external.standstill import awaited_exits, doubted, kills
from derail.faults.model.results import FaultResult, Injected
from derail.model.clock import SYSTEM_CLOCK
from derail.model.events import Exited
from derail.model.spec import JOB_ENV
from derail.platform.exits import is_readable
from derail.platform.processes import is_stopped
from derail.scenario.model import Scenario
from derail.supervise.loop import Loop

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="external agents are watched by pidfds")
PYTHON = shlex.quote(sys.executable)
STEPS = """
import os, sys, time
for step in range(1, 500):
    print(f"rank {os.environ['RANK']}: step {step}", flush=True)
    time.sleep(0.02)
"""
RECORDS = """
import json, os, sys
path = os.environ["TORCHELASTIC_ERROR_FILE"]
with open(path + ".part", "w") as file:
    json.dump({"message": {"message": "loss is nan"}}, file)
os.replace(path + ".part", path)
sys.exit(1)
"""
START = """
import ctypes, os, signal, subprocess, sys, time
def rank(number, **env):
    env = {**os.environ, "RANK": str(number), "WORLD_SIZE": "2", **env}
    return subprocess.Popen([sys.executable, "-u", *sys.argv[1:]], env=env, start_new_session=True)
"""


def run(tmp_path, launcher, plan, worker=STEPS, ranks=1):
    """Run a worker on a launcher with that source."""
    (tmp_path / "launcher.py").write_text(START + launcher)
    (tmp_path / "worker.py").write_text(worker)
    agent = CommandAgent(f"{PYTHON} -u {tmp_path / 'launcher.py'} {{script}}")
    scenario = Scenario("t", ranks, tmp_path / "worker.py", faults.plan(plan), grace=1.0, timeout=60.0)
    return agent.run(scenario, tmp_path / "run")


def said(tmp_path):
    """What the launcher printed."""
    return next((tmp_path / "run").glob("python*-0.log")).read_text()


AT_ITS_EXIT = """
process = rank(0, TORCHELASTIC_ERROR_FILE=(path := os.path.abspath("error.json")))
os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
print("read:", open(path).read(), flush=True)
"""
AT_ONCE = """
process = rank(0, TORCHELASTIC_ERROR_FILE=(path := os.path.abspath("error.json")))
text = ""
while process.poll() is None and not text:
    text = open(path).read() if os.path.exists(path) else ""
print("read:", text or open(path).read(), flush=True)
process.wait()
"""


@pytest.mark.parametrize("launcher", [AT_ITS_EXIT, AT_ONCE], ids=["at the exit", "as soon as it is there"])
def test_an_error_file_is_damaged_before_any_launcher_can_read_it(tmp_path, monkeypatch, launcher):
    """Also before one that reads it while the rank still lives."""
    monkeypatch.chdir(tmp_path)
    seen = run(tmp_path, launcher, [faults.error_file("empty", rank=0)], RECORDS)

    assert [told.status for told in seen.faults] == ["injected"], seen.faults
    assert said(tmp_path) == "read: \n"


KILLS_GROUP = """
process = rank(0)
os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
os.killpg(process.pid, signal.SIGKILL)
sys.exit(process.wait())
"""


@pytest.mark.parametrize(
    "plan",
    [
        [faults.orphan("group", rank=0, code=5, when=when.line("step 3"))],
        [faults.pipe_holder(rank=0, when=when.line("step 2")), faults.exit(5, rank=0, when=when.line("step 5"))],
    ],
    ids=["orphan", "pipe holder"],
)
def test_a_helper_that_the_launcher_ends_at_once_is_seen_before(tmp_path, plan):
    """The launcher acts right at the exit, and is the first to do so without derail."""
    seen = run(tmp_path, KILLS_GROUP, plan)

    assert [told.status for told in seen.faults] == ["injected"] * len(plan), seen.faults
    assert (seen.exit_code, seen.leftovers) == (5, ())


SUBREAPER = """
ctypes.CDLL(None).prctl(36, 1)
process = rank(0)
os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
sys.stdout.flush()
time.sleep(0.6)
below = open(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read().split()
for pid in {*map(int, below)} - {process.pid}:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
sys.exit(process.wait())
"""


@pytest.mark.parametrize("kind", ["group", "session", "daemon"])
def test_a_helper_that_a_subreaper_adopts_is_no_restarted_rank(tmp_path, kind):
    """It carries the rank's number, and the launcher is its parent for longer than any look takes."""
    seen = run(tmp_path, SUBREAPER, [faults.orphan(kind, rank=0, code=5, when=when.line("step 3"))])

    assert (seen.restarts, seen.exit_code, seen.leftovers) == (0, 5, ())
    assert str(seen.ranks[0].status) == "exit 5"


FORKS = """
import os, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        time.sleep(60)
    os._exit(0)
os.wait()
sys.exit(5)
"""


def test_a_forked_daemon_of_a_rank_is_no_restarted_rank(tmp_path):
    """It was never executed, so that its environment and its program are the rank's, and it has no sign of a helper."""
    seen = run(tmp_path, SUBREAPER, [], FORKS)

    assert (seen.restarts, seen.exit_code, seen.leftovers) == (0, 5, ())


BOTH_DEAD = """
ranks = [rank(0), rank(1)]
done = []
while not done:
    time.sleep(0.001)
    done = [process.poll() for process in ranks if process.poll() is not None]
print("ended:", len(done), flush=True)
"""


def test_a_launcher_sees_a_rank_and_its_victim_end_at_the_same_time(tmp_path):
    """However fast it looks, both have ended when it continues."""
    both = when.all_of(when.line("step 3", rank=0), when.line("step 3", rank=1))
    plan = [faults.signal("SIGKILL", rank=1, when=both), faults.signal("SIGKILL", rank=0, when=when.exit_of(1))]
    seen = run(tmp_path, BOTH_DEAD, plan, ranks=2)

    assert [told.status for told in seen.faults] == ["injected", "injected"], seen.faults
    assert (seen.failed[0], said(tmp_path)) == (1, "ended: 2\n")


def test_ends_are_seen_in_the_order_in_which_they_were(monkeypatch):
    """Whichever rank was found first, and however late derail looks."""
    monkeypatch.setenv(JOB_ENV, "job")
    loop, seen = Loop(SYSTEM_CLOCK), []
    driver = SimpleNamespace(plan=faults.plan([]), observe=seen.append, wants_lines=False, sockets=None)
    loop.open()
    ranks = RankTracker(3, "job", loop=loop, driver=driver, clock=SYSTEM_CLOCK)
    processes = [subprocess.Popen(["sleep", "600"]) for _ in range(3)]
    try:
        for number, process in enumerate(processes):
            ranks._find(number, process.pid)
        for number in (1, 2, 0):
            processes[number].kill()
            assert is_readable(ranks.pidfd(number), 60)
        ranks.see_ends()

        assert [life.order for life in ranks.lives] == [2, 0, 1]
        assert [event.rank for event in seen if isinstance(event, Exited)] == [1, 2, 0]
    finally:
        ranks.close()
        loop.close()
        for process in processes:
            process.kill()
            process.wait()


def test_a_rank_that_ends_while_it_introduces_itself_is_no_restarted_rank(monkeypatch):
    """Its introduction is read after its end was seen."""
    monkeypatch.setenv(JOB_ENV, "job")
    loop = Loop(SYSTEM_CLOCK)
    driver = SimpleNamespace(plan=faults.plan([]), observe=lambda _: None, wants_lines=False, sockets=None)
    loop.open()
    ranks = RankTracker(1, "job", loop=loop, driver=driver, clock=SYSTEM_CLOCK)
    process = subprocess.Popen(["sleep", "600"])
    try:
        assert ranks._find(0, process.pid) is not None
        process.kill()
        assert is_readable(ranks.pidfd(0), 60)
        ranks.see_ends()

        assert ranks._find(0, process.pid, ["sleep"]) is None
        assert [life.attempt for life in ranks.lives] == [0]
    finally:
        ranks.close()
        loop.close()
        process.kill()
        process.wait()


def test_all_processes_of_a_launcher_are_stopped_and_go_on(tmp_path):
    """Its ranks and their helpers are not."""
    from derail.agents.external.standstill import Standstill

    loop = Loop(SYSTEM_CLOCK)
    loop.open()
    process = subprocess.Popen(["sleep", "600"])
    try:
        standstill = Standstill(lambda: [process.pid], loop, SYSTEM_CLOCK)
        standstill.begin(0)
        standstill.begin(1)
        standstill.ended(0)
        standstill.end(0)
        assert (standstill.active, is_stopped(process.pid), standstill.seen) == (True, True, {0})
        standstill.end(1)
        assert (standstill.active, standstill.missed) == (False, set())
        os.waitid(os.P_PID, process.pid, os.WCONTINUED | os.WSTOPPED)
    finally:
        process.kill()
        process.wait()
        loop.close()


def test_a_rank_that_announces_its_end_and_lives_on_does_not_stop_its_launcher_for_good(monkeypatch):
    """After a few seconds the launcher continues."""
    from derail.agents.external import standstill as module

    monkeypatch.setattr(module, "LONGEST", 0.05)
    loop = Loop(SYSTEM_CLOCK)
    loop.open()
    process = subprocess.Popen(["sleep", "600"])
    try:
        standstill = module.Standstill(lambda: [process.pid], loop, SYSTEM_CLOCK)
        standstill.begin(0)
        while standstill.active:
            loop.run_once(1.0)
        standstill.ended(0)
        assert standstill.missed == {0}
    finally:
        process.kill()
        process.wait()
        loop.close()


def test_a_fault_whose_launcher_was_not_stopped_proves_nothing():
    """The launcher may have read the file before it was damaged."""
    fault = faults.plan([faults.error_file("empty", rank=1)]).faults[0]
    told = FaultResult(fault, 1, Injected("the file is empty"))

    assert doubted(told, {0}) is told
    assert doubted(told, {1}).status == "not_reached"
    kill = faults.plan([faults.signal("SIGKILL", rank=0, when=when.exit_of(1))]).faults[0]
    assert doubted(FaultResult(kill, 0, Injected("dead")), {1}).status == "not_reached"


def test_which_exits_a_launcher_must_not_see_first():
    """Those that a fault waits for, or whose proof the launcher may take away; none where it is a target itself."""
    plan = [faults.error_file("empty", rank=1), faults.signal("SIGKILL", rank=0, when=when.exit_of(2))]
    assert awaited_exits(faults.plan(plan), range(4)) == {1, 2}
    assert awaited_exits(faults.plan([faults.orphan("group", rank=3)]), range(4)) == {3}
    assert awaited_exits(faults.plan([faults.exit(7, rank=3)]), range(4)) == set()
    assert awaited_exits(faults.plan([faults.signal("SIGKILL", rank=[1, 2])]), range(4)) == {1, 2}
    agent = faults.signal("SIGTERM", rank="the agent", when=when.line("step 2"))
    assert awaited_exits(faults.plan([*plan, agent]), range(4)) == set()


def test_which_signals_end_a_process():
    """Those that it neither handles nor ignores, and that end a process by default."""
    process = subprocess.Popen(
        [sys.executable, "-c", "import signal; signal.signal(15, lambda *_: 0); print(flush=True); signal.pause()"],
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        process.stdout.readline()
        number = signal.SIGRTMIN + 3
        assert [kills(process.pid, each) for each in (9, 15, signal.SIGHUP, signal.SIGCONT, number)] == [
            True, False, True, False, True,
        ]  # fmt: skip
    finally:
        process.kill()
        process.communicate()
