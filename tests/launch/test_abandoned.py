"""A rank that survives SIGKILL is given up in time, named, and reaped when it finally ends."""

from __future__ import annotations

import os
import select
import signal
from pathlib import Path

import pytest

from derail import ChildFailedError
from derail.model.outcome import Cause
from derail.model.spec import Teardown

FREEZER = Path("/sys/fs/cgroup/freezer")


@pytest.fixture
def freeze(tmp_path):
    """Return a function that freezes processes so that even SIGKILL stays pending, as in uninterruptible sleep."""
    group = FREEZER / f"derail-test-{os.getpid()}"
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"no cgroup v1 freezer that this user may use: {error}")

    def freeze_(*pids):
        for pid in pids:
            (group / "cgroup.procs").write_text(str(pid))
        (group / "freezer.state").write_text("FROZEN")
        while (group / "freezer.state").read_text().strip() != "FROZEN":
            pass

    def thaw():
        (group / "freezer.state").write_text("THAWED")

    freeze_.thaw = thaw
    yield freeze_
    thaw()
    for pid in (group / "cgroup.procs").read_text().split():
        (FREEZER / "cgroup.procs").write_text(pid)
    group.rmdir()


class EndOf:
    """An observer that blocks the job's thread until a signalled rank is dead."""

    wants_lines = False

    def __init__(self, *ranks):
        self.ranks = ranks

    def attach(self, control):
        """Remember the job."""
        self.control = control

    def observe(self, event):
        """Wait for its end."""
        if type(event).__name__ == "SignalSent" and event.rank in self.ranks:
            poller = select.poll()
            poller.register(self.control.pidfd(event.rank), select.POLLIN)
            assert poller.poll(60_000)


def test_an_unkillable_rank_is_abandoned_and_named(jobs, freeze, wait_until):
    """Four ranks, two of them frozen: one grace and one wait for all, then the outcome names those that remain."""
    teardown = Teardown(grace=0.5, kill_wait=0.5)
    context = jobs.sh(*["exec sleep 600"] * 4, teardown=teardown, observers=[EndOf(0, 2)])
    pids = context.pids()
    freeze(pids[1], pids[3])
    context.close(signal.SIGTERM, 0.5)
    result = context.wait(0)
    assert {rank: fate.cause for rank, fate in result.ranks.items()} == {
        0: Cause.STOPPED_BY_US,
        1: Cause.ABANDONED,
        2: Cause.STOPPED_BY_US,
        3: Cause.ABANDONED,
    }
    assert (sorted(result.failures), result.exit_code) == ([1, 3], 1)
    assert "abandoned" in str(ChildFailedError("job", result.failures))
    assert result.teardown_seconds < 30
    freeze.thaw()

    def reaped():
        jobs.sh("exit 0").wait(60)  # the next job reaps the abandoned ranks
        return not any(Path(f"/proc/{pids[rank]}").exists() for rank in (1, 3))

    wait_until(reaped)
