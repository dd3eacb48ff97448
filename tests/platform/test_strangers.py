"""Exit statuses of processes that are not our children, and the adoption of orphans."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from derail.model.exit import ExitStatus
from derail.platform import exits, strangers
from derail.platform.strangers import descendants, status_of_ended

PARENT = """
import os, sys
pid = os.fork()
if not pid:
    os.read(0, 1)
    {end}
print(pid, flush=True)
{then}
"""
ENDS = {
    "os._exit(7)": ExitStatus(code=7),
    "os._exit(0)": ExitStatus(code=0),
    "os.kill(os.getpid(), 9)": ExitStatus(signal=9),
}
linux = pytest.mark.skipif(sys.platform != "linux", reason="pidfds are Linux's")


@pytest.fixture
def grandchild():
    """Start a process that starts another, and return both; a line on stdin lets the other one end."""
    started = []

    def start(end, then):
        parent = subprocess.Popen(
            [sys.executable, "-c", PARENT.format(end=end, then=then)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        pid = int(parent.stdout.readline())
        started.append((parent, os.pidfd_open(pid)))
        return parent, pid, started[-1][1]

    yield start
    for parent, pidfd in started:
        parent.kill()
        parent.communicate()
        os.close(pidfd)


@linux
@pytest.mark.parametrize("end", ENDS)
def test_the_status_of_another_parents_zombie_is_read(grandchild, end):
    """/proc shows it until its parent has reaped it."""
    parent, pid, pidfd = grandchild(end, "import signal; signal.pause()")
    parent.stdin.write("x")
    parent.stdin.flush()
    assert exits.is_readable(pidfd, 60)

    assert status_of_ended(pid, pidfd) == ENDS[end]


@linux
@pytest.mark.parametrize("end", ENDS)
def test_the_status_of_a_reaped_process_comes_from_the_kernel_or_is_lost(grandchild, end):
    """A new kernel keeps the status for holders of a pidfd; otherwise nothing is invented."""
    parent, pid, pidfd = grandchild(end, "os.waitpid(pid, 0); print('reaped', flush=True); os.read(0, 1)")
    parent.stdin.write("x")
    parent.stdin.flush()
    assert parent.stdout.readline() == "reaped\n"
    status = status_of_ended(pid, pidfd)

    assert status == ENDS[end] or "was reaped by its parent" in status.lost


@linux
def test_a_status_without_a_source_is_lost(grandchild, monkeypatch):
    """There is a reason, in bounded time."""
    monkeypatch.setattr(exits, "ask_kernel", lambda _: None)
    monkeypatch.setattr(strangers, "LOOKS", 2)
    parent, pid, pidfd = grandchild("os._exit(7)", "os.waitpid(pid, 0); print('reaped', flush=True); os.read(0, 1)")
    parent.stdin.write("x")
    parent.stdin.flush()
    assert parent.stdout.readline() == "reaped\n"

    assert status_of_ended(pid, pidfd).lost == (
        f"process {pid} was reaped by its parent, and this kernel does not keep the status"
    )


@linux
def test_a_child_of_ours_has_a_status_without_being_reaped():
    """Its owner reaps it."""
    child = subprocess.Popen(["sleep", "600"])
    pidfd = os.pidfd_open(child.pid)
    child.send_signal(signal.SIGTERM)
    assert exits.is_readable(pidfd, 60)

    assert status_of_ended(child.pid, pidfd) == ExitStatus(signal=15)
    assert child.wait() == -15
    os.close(pidfd)


@linux
def test_descendants_are_found_parents_first(grandchild):
    """All processes below another one, and no others."""
    parent, pid, _ = grandchild("os._exit(0)", "import signal; signal.pause()")
    found = list(descendants(os.getpid()))

    assert found.index(parent.pid) < found.index(pid)
    assert list(descendants(parent.pid)) == [pid]
    assert os.getpid() not in found


@linux
def test_a_subreaper_gets_the_orphans_of_its_descendants():
    """Whatever session they have moved to."""
    source = """
import os, subprocess, sys
from derail.platform.strangers import become_subreaper
become_subreaper()
start = "import subprocess; print(subprocess.Popen(['sleep', '600'], start_new_session=True, stdout=2).pid)"
middle = subprocess.Popen([sys.executable, "-c", start], stdout=subprocess.PIPE, text=True)
orphan = int(middle.communicate()[0])
os.kill(orphan, 9)
print(os.waitpid(orphan, 0) == (orphan, 9))
"""
    ran = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=120, check=False)

    assert (ran.stdout, ran.returncode) == ("True\n", 0), ran.stderr
