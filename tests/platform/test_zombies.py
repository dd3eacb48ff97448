"""Statuses of ended processes: an unreported status is never taken for success."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import time

import pytest

from derail.platform.exits import is_readable
from derail.platform.strangers import status_of_ended
from derail.platform.zombies import from_wait_status, hides, status_of_zombie

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
PR_SET_DUMPABLE = 4
NOBODY = 65534


def as_nobody(look):
    """Return the result of ``look`` in a process that can inspect only its own processes."""
    read, write = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            if os.geteuid() == 0:
                os.setgroups([])
                os.setresgid(NOBODY, NOBODY, NOBODY)
                os.setresuid(NOBODY, NOBODY, NOBODY)
            os.write(write, json.dumps(look()).encode())
        finally:
            os._exit(0)
    os.close(write)
    with open(read, "rb") as file:
        told = file.read()
    os.waitpid(pid, 0)  # noqa: TID251 - its owner
    return json.loads(told)


def grandchild(*, dumpable, reaped):
    """Start a process that gets SIGKILL, and that its parent reaps at once or not at all."""
    read, write = os.pipe()
    parent = os.fork()
    if not parent:
        try:
            pid = os.fork()
            if not pid:
                ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, int(dumpable), 0, 0, 0)
                os.write(write, b"!")
                time.sleep(60)  # noqa: TID251 - until it is killed
                os._exit(0)
            os.write(write, f" {pid} ".encode())
            if reaped:
                os.waitpid(pid, 0)  # noqa: TID251 - its parent
            time.sleep(60)  # noqa: TID251 - until it is killed
        finally:
            os._exit(0)
    told = b""
    while not (told.strip(b" !") and b"!" in told):
        told += os.read(read, 16)
    pid = int(told.strip(b" !").replace(b"!", b""))
    return parent, pid, os.pidfd_open(pid)


def seen(*, dumpable, reaped=False):
    """Return its status."""

    def look():
        parent, pid, pidfd = grandchild(dumpable=dumpable, reaped=reaped)
        os.kill(pid, signal.SIGKILL)
        is_readable(pidfd, 60)
        zombie = None if reaped else status_of_zombie(pid)
        ended = status_of_ended(pid, pidfd)
        os.kill(parent, signal.SIGKILL)
        os.waitpid(parent, 0)  # noqa: TID251 - its owner
        return [zombie and zombie.signal, ended.signal, ended.code, ended.lost]

    return as_nobody(look)


def test_the_status_of_a_zombie_is_read():
    """By a process of the same user."""
    assert seen(dumpable=True) == [9, 9, None, None]


def test_a_zombie_that_may_not_be_dumped_has_no_status_or_the_true_one():
    """The kernel may show 0 then, which is no exit code."""
    zombie, number, code, lost = seen(dumpable=False)

    assert code is None
    assert (zombie, number, lost) in (
        (9, 9, None),  # older kernels forget that it must not be inspected
        (None, None, lost),
    )
    assert bool(lost) == (number is None)
    assert not lost or "may not be inspected" in lost


def test_a_reaped_process_hides_nothing():
    """The kernel returns it to holders of a descriptor, if it is new enough."""
    _, number, code, lost = seen(dumpable=False, reaped=True)

    assert (number, code) in ((9, None), (None, None))
    assert bool(lost) == (number is None)


def test_a_process_that_is_no_zombie_hides_nothing():
    """A live process, or one that does not exist."""
    assert (hides(os.getpid()), status_of_zombie(os.getpid())) == (False, None)
    assert (hides(2**22 + 1), status_of_zombie(2**22 + 1)) == (False, None)


@pytest.mark.parametrize("status", [0, 7 << 8, 9, 11 | 0x80])
def test_a_wait_status_is_an_exit_or_a_signal(status):
    """As defined by wait(2)."""
    found = from_wait_status(status)

    assert found.returncode == os.waitstatus_to_exitcode(status)
    assert found.core_dumped == os.WCOREDUMP(status)


def test_a_stop_is_no_end():
    """Nor is a continuation."""
    assert from_wait_status(0x137F) is None
