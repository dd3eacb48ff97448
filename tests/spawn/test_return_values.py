"""Transfer of values from a rank to the launcher, without any rank."""

from __future__ import annotations

import os
import resource
import struct
from contextlib import contextmanager

import pytest

from derail.spawn import descriptors, return_values
from derail.spawn.handle import NotReturned, Returned
from derail.spawn.return_values import Returns, write_done, write_reason, write_value
from function_rank import opened, wait_readable


def told(result):
    """Return the value, or why there is none."""
    return result.value if isinstance(result, Returned) else f"no value: {result.reason}"


def test_nothing_is_returned_before_anything_is_written():
    """No value, no reason, and no rank is done."""
    with opened(0, 1) as returns:
        assert (told(returns.take(0)), returns.read_done()) == ("no value: ", [])


def test_each_rank_has_its_own_value():
    """Values do not depend on the order of their arrival."""
    with opened(0, 1, 12) as returns:
        for rank in (12, 0):
            write_value(returns.slot(rank).value_fd, {"rank": rank})
            write_done(returns.slot(rank).done_fd, rank)

        assert returns.read_done() == [12, 0]
        assert returns.read_done() == []
        assert [told(returns.take(rank)) for rank in (0, 1, 12)] == [{"rank": 0}, "no value: ", {"rank": 12}]


def test_a_value_is_taken_once_and_for_all():
    """The same object again, also after everything is closed; its memory is freed when it is taken."""
    returns = Returns([0])
    returns.open()
    copy = os.dup(returns.slot(0).value_fd)
    try:
        write_value(copy, ["a", "list"])
        first = returns.take(0)
        assert os.fstat(copy).st_size == 0
        returns.close()
        assert returns.take(0) is first
    finally:
        os.close(copy)
        returns.close()


def test_values_that_were_not_taken_are_gone_when_closed():
    """A closed ``Returns`` has no values, and does not raise."""
    with opened(0) as returns:
        write_value(returns.slot(0).value_fd, 1)
    returns.close()

    assert told(returns.take(0)) == "no value: "


def test_a_rank_that_reports_done_without_a_value_is_ignored():
    """So are numbers of other jobs, and garbage."""
    with opened(0, 1) as returns:
        write_value(returns.slot(1).value_fd, "whole")
        os.write(returns.slot(0).done_fd, b"0\n7\n-1\nnonsense\n\xff\n" + b"9" * 50 + b"\n1\n")

        assert returns.read_done() == [1]


def test_a_line_that_comes_in_pieces_is_one_line():
    """A number counts only when its line is complete."""
    with opened(1, 12) as returns:
        for rank in (1, 12):
            write_value(returns.slot(rank).value_fd, rank)
        os.write(returns.slot(1).done_fd, b"1")
        before = returns.read_done()
        os.write(returns.slot(1).done_fd, b"2\n")

        assert (before, returns.read_done()) == ([], [12])


def test_a_value_without_its_head_is_not_whole():
    """A part that the rank had written when it was killed does not count."""
    with opened(0) as returns:
        fd = returns.slot(0).value_fd
        write_value(fd, list(range(1000)))
        os.pwrite(fd, bytes(return_values._HEAD.size), 0)

        assert told(returns.take(0)) == "no value: "


@pytest.mark.parametrize("length", [10_000, 1 << 62], ids=["more", "absurd"])
def test_a_value_shorter_than_announced_is_damaged(length):
    """There is a reason, and no memory is reserved for the missing part."""
    with opened(0) as returns:
        fd = returns.slot(0).value_fd
        write_value(fd, "x")
        os.pwrite(fd, struct.pack("<Q", length), 16)

        assert told(returns.take(0)).startswith(f"no value: the returned value is damaged: expected {length} bytes")


def test_garbage_is_a_reason():
    """A file with other content than the rank should have written does no damage."""
    with opened(0) as returns:
        fd = returns.slot(0).value_fd
        os.pwrite(fd, return_values._HEAD.pack(return_values._MAGIC, 1, 7) + b"garbage", 0)

        assert "could not be unpickled in the launcher: UnpicklingError" in told(returns.take(0))


class LeavesOnArrival:
    """Calls sys.exit when it is unpickled."""

    def __reduce__(self):
        return leave, ("gone",)


def leave(text):
    """Exit when unpickled."""
    raise SystemExit(text)


def test_a_value_that_calls_sys_exit_when_unpickled_ends_nothing():
    """Unpickling runs third-party code; whatever that raises is a reason."""
    with opened(0) as returns:
        write_value(returns.slot(0).value_fd, LeavesOnArrival())

        assert told(returns.take(0)).endswith("in the launcher: SystemExit: gone")


def test_a_reason_replaces_half_a_value_and_has_a_limit():
    """Whatever length and characters it has."""
    with opened(0) as returns:
        fd = returns.slot(0).value_fd
        os.pwrite(fd, b"half a value" * 1000, return_values._HEAD.size)
        write_reason(fd, "because \udcff" + "x" * 100_000)

        assert told(returns.take(0)).startswith("no value: because \\udcffxxx")


def test_release_reaches_every_rank_although_the_other_end_stays_open():
    """By a byte for each, since the pipe may not end: another process may have a copy of its write end."""
    with opened(0, 1) as returns:
        copy = os.dup(returns._release_write)
        waiting = os.dup(returns.slot(0).release_fd)
        try:
            assert not wait_readable(waiting, 0)
            returns.release()
            returns.release()
            assert [os.read(waiting, 1), os.read(waiting, 1)] == [b"\0", b"\0"]
        finally:
            os.close(copy)
            os.close(waiting)


def test_close_is_a_release():
    """It ends the pipe; it may be called any number of times."""
    returns = Returns([0])
    returns.open()
    waiting = os.dup(returns.slot(0).release_fd)
    returns.close()
    returns.close()
    try:
        assert os.read(waiting, 10) in {b"", b"\0"}
    finally:
        os.close(waiting)


def test_a_failing_open_leaves_nothing():
    """Without enough descriptors for all ranks, there are none for any."""
    before = set(os.listdir("/proc/self/fd"))
    returns = Returns(range(10_000))
    with few_descriptors(), pytest.raises(OSError, match="Too many open files"):
        returns.open()

    assert (set(os.listdir("/proc/self/fd")), descriptors.owned()) == (before, frozenset())


@contextmanager
def few_descriptors():
    """Limit the free descriptors to a hundred."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))) + 100, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_it_works_without_files_in_memory(monkeypatch):
    """On platforms without memfd_create, an unnamed temporary file does the same, and leaves no name behind."""
    monkeypatch.delattr(os, "memfd_create")
    with opened(0) as returns:
        write_value(returns.slot(0).value_fd, "from a file")

        assert told(returns.take(0)) == "from a file"


def test_nothing_is_inherited_by_chance():
    """All descriptors are closed by exec, and by a fork of the launcher that is not one of its ranks."""
    with opened(0, 1) as returns:
        fds = [*returns.slot(0).fds, *returns.slot(1).fds, returns.done_fd, returns._release_write]
        assert not any(os.get_inheritable(fd) for fd in fds)
        read_end, write_end = os.pipe()
        pid = os.fork()
        if pid == 0:
            still = [fd for fd in fds if os.path.exists(f"/proc/self/fd/{fd}")]
            os.write(write_end, repr(still).encode())
            os._exit(0)
        os.waitid(os.P_PID, pid, os.WEXITED)
        os.close(write_end)
        try:
            assert os.read(read_end, 100) == b"[]"
        finally:
            os.close(read_end)


def test_a_hostile_error_is_described():
    """An exception without an obtainable text still has a type."""

    class HostileError(Exception):
        def __str__(self):
            raise RuntimeError

    assert return_values.describe(HostileError()) == "HostileError"


def test_not_returned_is_no_value():
    """The two cannot be confused."""
    assert not isinstance(NotReturned("x"), Returned)
