"""Cgroups of ranks: memory, processor time and freezing, observed in real ranks from outside."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from derail import faults, when
from derail.faults.catalogue.injector_api import Aim
from derail.faults.mechanisms.cgroup import freeze, limit_cpu, limit_memory
from derail.faults.model.results import Errored
from derail.platform import cgroups
from derail.platform.capabilities import why_no_cgroup
from derail.platform.proc_status import read_process_state
from faults.fake_job import IdleJob
from faults.real_job import DEADLINE, ENDED, LATER_THAN_RANK_0, ended, record_of, result_of, running, wait_for
from program_files import UNTIL

READY = when.line("ready")
WAITS = "print('ready', flush=True)\ntime.sleep(60)\n"
WATCHED = f"{UNTIL}\nprint('ready', flush=True)\nuntil('{ENDED}')\n"
"""It lives until it is known what came of the fault."""
HUNGRY = f"{WATCHED}taken = [bytearray(os.urandom(1 << 20)) for _ in range(1024)]\n"
SPINS = """
print("ready", flush=True)
end = time.monotonic() + 60
while time.monotonic() < end:
    pass
"""
HEARS = """
import signal
for number in (signal.SIGUSR1, signal.SIGTERM):
    signal.signal(number, lambda *_: print("heard", flush=True))
print("ready", flush=True)
while True:
    time.sleep(0.05)
"""


def needs(controller):
    """Mark a test that needs a cgroup with this controller."""
    reason = why_no_cgroup(controller)
    return pytest.mark.skipif(bool(reason), reason=reason)


def standing(controller, pid):
    """Return the cgroup of a process."""
    return cgroups.hierarchy(controller).standing(pid)


def groups(controller):
    """Return the groups of ranks below this process's own."""
    return list(standing(controller, os.getpid()).glob("derail-*"))


@needs("memory")
def test_a_rank_that_takes_more_memory_than_its_cgroup_has_is_killed(tmp_path):
    """The kernel kills it, and the cgroup is removed."""
    with running(tmp_path, HUNGRY, faults.memory_limit("64M", rank=0, when=READY)) as job:
        pid = job.pids()[0]
        seen = job.wait(DEADLINE)

    assert [result.status for result in seen.faults] == ["injected"], seen.faults
    assert seen.ranks[0].status.signal == signal.SIGKILL
    assert not [path for path in groups("memory") if path.name.endswith(f"-{pid}")]


@needs("memory")
def test_a_memory_limit_can_be_taken_away(tmp_path):
    """The rank then returns to its cgroup."""
    with running(tmp_path, WAITS, faults.memory_limit("64M", rank=0, when=READY, for_=0.1)) as job:
        assert result_of(job) == "injected"
        record_of(job, "healed")
        assert standing("memory", job.pids()[0]) == standing("memory", os.getpid())


@needs("memory")
def test_a_limit_below_the_present_use_kills_it_or_is_refused_with_a_reason(tmp_path):
    """Found by random plans: version 1 refuses such a limit with an error that was raised."""
    program = "held = bytearray(os.urandom(32 << 20))\n"
    seen, _ = ended(tmp_path, program + WATCHED, faults.memory_limit(1, rank=0, when=READY))
    (told,) = seen.faults

    assert (told.status, "does not take 1: " in told.detail) in (("errored", True), ("injected", False)), told


@needs("cpu")
def test_a_rank_that_spins_is_held_back_to_its_share(tmp_path):
    """The kernel counts the periods in which the rank was throttled."""
    with running(tmp_path, SPINS, faults.cpu_quota(0.1, rank=0, when=READY)) as job:
        assert result_of(job) == "injected"
        group = standing("cpu", job.pids()[0])

        def held_back():
            counts = dict(line.split() for line in (group / "cpu.stat").read_text().splitlines())
            return int(counts["nr_throttled"])

        wait_for(held_back, "a period in which the rank had used up its share")
    assert not group.exists()


@needs("freezer")
def test_a_frozen_rank_handles_no_signal_until_it_is_thawed(tmp_path):
    """A signal that it handles stays pending, and SIGCONT changes nothing."""
    with running(tmp_path, HEARS, faults.freeze(rank=0, when=READY)) as job:
        pid = job.pids()[0]
        assert result_of(job) == "injected"
        group = standing("freezer", pid)
        os.kill(pid, signal.SIGUSR1)
        os.kill(pid, signal.SIGCONT)
        seen, heard = read_process_state(pid), job.log(0, "stdout").read_text()
        assert signal.SIGUSR1 in seen.pending
        assert heard == "ready\n"
        (group / "cgroup.freeze").write_text("0")
        wait_for(lambda: "heard" in job.log(0, "stdout").read_text(), "the signal")


@needs("freezer")
def test_a_thawed_rank_is_back_in_its_cgroup(tmp_path):
    """It then handles the signals sent during the freeze."""
    with running(tmp_path, HEARS, faults.freeze(rank=0, when=READY, for_=0.2)) as job:
        record_of(job, "healed")
        os.kill(job.pids()[0], signal.SIGUSR1)
        wait_for(lambda: "heard" in job.log(0, "stdout").read_text(), "the signal")

        assert standing("freezer", job.pids()[0]) == standing("freezer", os.getpid())


@needs("freezer")
def test_a_frozen_rank_is_killed_and_its_cgroup_removed_when_the_job_is_closed(tmp_path):
    """SIGTERM does not reach its handler; SIGKILL ends it."""
    with running(tmp_path, HEARS, faults.freeze(rank=0, when=READY), ranks=2, grace=0.2) as job:
        pid = job.pids()[0]
        assert result_of(job) == "injected"
        wait_for(lambda: "ready" in job.log(1, "stdout").read_text(), "the handler of rank 1")
        job.stop("enough")
        result = job.wait(DEADLINE)
        text = job.log(0, "stdout").read_text()

    assert [str(result.ranks[rank].status) for rank in (0, 1)] == ["SIGKILL (9)", "SIGKILL (9)"]
    assert "heard" not in text
    assert not [path for path in groups("freezer") if path.name.endswith(f"-{pid}")]


@needs("memory")
@needs("freezer")
def test_two_cgroup_faults_on_one_rank_both_apply(tmp_path):
    """Each is undone separately."""
    held, frozen = faults.memory_limit("64M", rank=0, when=READY), faults.freeze(rank=0, when=READY, for_=0.2)
    with running(tmp_path, WAITS, held, frozen) as job:
        record_of(job, "healed")
        hierarchy, pid = cgroups.hierarchy("memory"), job.pids()[0]
        limit = (hierarchy.standing(pid) / hierarchy.knob).read_text().strip()
        job.stop("enough")
        seen = job.wait(DEADLINE)

    assert limit == str(64 << 20)
    assert [result.status for result in seen.faults] == ["injected", "injected"], seen.faults
    assert not [path for path in groups("memory") if path.name.endswith(f"-{pid}")]


@needs("freezer")
def test_a_group_left_by_a_killed_engine_is_removed_by_the_next_fault(tmp_path):
    """The empty group of a rank that is gone is removed; that of a living process stays."""
    place = standing("freezer", os.getpid())
    with subprocess.Popen(["true"]) as gone:
        gone.wait()
    left, kept = place / f"derail-rank-0-{gone.pid}", place / f"derail-rank-7-{os.getpid()}"
    left.mkdir()
    kept.mkdir()
    try:
        seen, _ = ended(tmp_path, WATCHED, faults.freeze(rank=0, when=READY, for_=0))
        assert [result.status for result in seen.faults] == ["injected"], seen.faults
        assert (left.exists(), kept.exists()) == (False, True)
    finally:
        kept.rmdir()


@pytest.mark.parametrize("make", [lambda **to: faults.memory_limit("64M", **to), faults.cpu_quota, faults.freeze])
def test_without_cgroups_the_faults_are_unavailable_with_a_reason(tmp_path, monkeypatch, make):
    """The rank runs unchanged."""
    monkeypatch.setattr(cgroups, "PROC", Path("/nowhere"))
    why_no_cgroup.cache_clear()
    try:
        seen, text = ended(tmp_path, "print('ran')", make(rank=0))
    finally:
        why_no_cgroup.cache_clear()
    (result,) = seen.faults

    assert (text, result.status) == ("ran\n", "unavailable")
    assert result.detail.endswith("is mounted here")


@pytest.mark.parametrize(
    ("make", "controller"),
    [(lambda **to: faults.memory_limit("64M", **to), "memory"), (faults.cpu_quota, "cpu"), (faults.freeze, "freezer")],
)
def test_a_rank_that_has_ended_is_not_held(tmp_path, make, controller):
    """A line of rank 1 fires the fault after rank 0 has ended."""
    if reason := why_no_cgroup(controller):
        pytest.skip(reason)
    seen, _ = ended(tmp_path, LATER_THAN_RANK_0, make(rank=0, when=when.line("ready", rank=1)), ranks=2)

    assert [result.status for result in seen.faults] == ["not_reached"], seen.faults
    assert "its target ended with exit 0" in seen.faults[0].detail


@pytest.mark.parametrize(
    ("act", "make"),
    [
        (limit_memory, lambda **to: faults.memory_limit("64M", **to)),
        (limit_cpu, faults.cpu_quota),
        (freeze, faults.freeze),
    ],
)
def test_a_directory_that_is_no_cgroup_has_no_effect(tmp_path, monkeypatch, act, make):
    """The files accept writes, but the kernel does not show the rank there: nothing is claimed."""
    (fault,) = faults.plan([make(rank=0)]).faults
    (tmp_path / f"derail-rank-0-{os.getpid()}").mkdir()
    (tmp_path / f"derail-rank-0-{os.getpid()}" / "cgroup.events").write_text("frozen 1\n")
    monkeypatch.setattr(cgroups.Hierarchy, "standing", lambda *_: tmp_path)

    assert isinstance(act(Aim(fault, 0, 0, IdleJob()), os.getpid()), Errored)


def test_nothing_is_claimed_without_visible_cgroup_membership(monkeypatch):
    """/proc shows no hierarchy."""
    (fault,) = faults.plan([faults.freeze(rank=0)]).faults
    monkeypatch.setattr(cgroups, "PROC", Path("/nowhere"))

    assert isinstance(freeze(Aim(fault, 0, 0, IdleJob()), os.getpid()), Errored)
