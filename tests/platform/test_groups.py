"""Signals reach the intended process or group, and no other process."""

from __future__ import annotations

import os
import signal

import pytest

from derail.platform import exits, groups

DEADLINE = 60.0


def test_a_process_gets_the_signal_by_pidfd_or_by_pid(start, watch):
    """Both ways end the child."""
    child = start("sleep", "600")
    exit_fd = watch(child.pid)

    assert groups.signal_process(child.pid, exit_fd.pidfd, signal.SIGTERM)
    assert exits.wait_readable(exit_fd, DEADLINE)
    assert exits.peek(child.pid, exit_fd).signal == signal.SIGTERM


def test_a_process_that_is_gone_gets_no_signal(start, watch):
    """After it was reaped, there is no receiver."""
    child = start("true")
    exit_fd = watch(child.pid)
    os.waitid(os.P_PID, child.pid, os.WEXITED)

    assert not groups.signal_process(child.pid, exit_fd.pidfd, signal.SIGTERM)


def test_a_group_gets_the_signal_after_its_leader_has_died(start, watch, pid_gone):
    """As long as the leader is not reaped, its group can be ended."""
    child = start("sh", "-c", "sleep 600 & echo $!; exit 3")
    exit_fd = watch(child.pid)
    helper = int(child.read_line())
    assert exits.wait_readable(exit_fd, DEADLINE)

    assert groups.signal_group(child.pid, signal.SIGKILL)
    assert pid_gone(helper)


def test_an_empty_group_gets_no_signal(start):
    """Once the leader is reaped, there is no group."""
    child = start("true")
    os.waitid(os.P_PID, child.pid, os.WEXITED)

    assert not groups.signal_group(child.pid, signal.SIGKILL)


@pytest.mark.parametrize("number", [1, 0, -1])
def test_numbers_that_address_all_processes_are_refused(number):
    """kill(2) and killpg(2) take 0, 1 and -1 for much more than a rank."""
    with pytest.raises(ValueError, match="no process of ours"):
        groups.signal_process(number, None, 0)
    with pytest.raises(ValueError, match="no process of ours"):
        groups.signal_group(number, 0)


def test_the_own_group_is_refused(monkeypatch):
    """A launcher never signals itself by way of a group."""
    monkeypatch.setattr(os, "getpgrp", lambda: 4711)  # in a container it may be 0 or 1, which are refused in any case
    with pytest.raises(ValueError, match="4711 is the one of this process"):
        groups.signal_group(4711, 0)
