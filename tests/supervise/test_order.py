"""The order of exits and records, with announcements by hand."""

from __future__ import annotations

import os
from contextlib import ExitStack

import pytest

from derail.model.clock import SYSTEM_CLOCK
from derail.supervise.loop import Loop
from derail.supervise.order import Exiting, Order, Recorded
from derail.supervise.records import Found


class Records:
    """Error files for which the kernel announces several changes in one turn, each after the one before was read."""

    def __init__(self, found: list[Found | None], stack: ExitStack) -> None:
        self.unheard: set[int] = set()
        self.fd, self.write = os.pipe()
        stack.callback(os.close, self.fd)
        stack.callback(os.close, self.write)
        self.found = found
        self.change()

    def change(self) -> None:
        """Announce a change."""
        os.write(self.write, b"x")

    def open(self, ranks: object) -> None:
        """Nothing to open."""

    def close(self, *, wait: bool) -> None:
        """Nothing to close."""

    def begin_turn(self) -> None:
        """Nothing is bounded."""

    def announced(self) -> list[int]:
        """Return rank 1 while there are unread states."""
        return [1] if self.found else []

    def look(self, rank: int, pid: int) -> Found | None:
        """Return the state of the file at this announcement, and announce the next one."""
        self.change()
        return self.found.pop(0)

    def changed(self, ranks: object = None) -> list[int]:
        """Nothing has changed without an announcement."""
        return []


class Handle:
    """A rank that lives."""

    rank, pid, pidfd = 1, 4194304, 0

    def __init__(self, exit_fd: int) -> None:
        self.exit_fd = exit_fd


FIRST, LATER = Found(1, "first"), Found(1, None)


@pytest.mark.parametrize("found", [[FIRST, LATER], [None, FIRST], [None, None, FIRST, None, LATER]])
def test_each_record_that_is_announced_in_one_turn_is_reported(found: list[Found | None]) -> None:
    """An incomplete file may be complete at its next announcement, and one that was read may be another record."""
    loop = Loop(SYSTEM_CLOCK)
    with ExitStack() as stack:
        loop.open()
        stack.callback(loop.close)
        order = Order(Records(list(found), stack), loop, SYSTEM_CLOCK)
        order.open(stack, ())
        read, write = os.pipe()
        stack.callback(os.close, read)
        stack.callback(os.close, write)
        order.add(Handle(read))
        assert [each.message for each in order.take()] == [each.message for each in found if each is not None]


@pytest.mark.parametrize(
    ("torn_down", "with_files", "expected"),
    [
        ({2}, False, [Exiting(2, "known", ("signal", "abort")), "first", Exiting(2, "unknown", ("code",))]),
        (set(), False, ["first"]),
        ({1, 2}, False, [Exiting(2, "unknown", ("signal",)), "first"]),  # 2 may have aborted because of 1
        ({2}, True, ["first"]),  # no peer can know of its end yet
    ],
    ids=["another", "none", "both", "with open files"],
)
def test_a_rank_that_is_torn_down_at_a_record_has_a_place_beside_it(monkeypatch, torn_down, with_files, expected):
    """Its files were closed some time ago, and its exit is not announced yet."""
    monkeypatch.setattr("derail.supervise.order.is_exiting", lambda pid, foreign: pid - 4194303 in torn_down)
    monkeypatch.setattr("derail.supervise.order.has_open_files", lambda pid: with_files)
    loop = Loop(SYSTEM_CLOCK)
    with ExitStack() as stack:
        loop.open()
        stack.callback(loop.close)
        order = Order(Records([FIRST], stack), loop, SYSTEM_CLOCK)
        order.open(stack, ())
        for rank in (1, 2):
            read, write = os.pipe()
            stack.callback(os.close, read)
            stack.callback(os.close, write)
            handle = Handle(read)
            handle.rank, handle.pid = rank, 4194303 + rank
            order.add(handle)

        taken = list(order.take())

    assert [each.message if isinstance(each, Recorded) else each for each in taken] == expected
    assert [each.order for each in taken if isinstance(each, Recorded)] == ["unknown" if len(expected) > 1 else "known"]
