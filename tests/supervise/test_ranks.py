"""The ranks of a job as the supervisor holds them."""

from __future__ import annotations

import os
import signal

import pytest

from derail.model.clock import SYSTEM_CLOCK
from derail.model.spec import Command, JobSpec, RankSpec
from derail.supervise.loop import Loop
from derail.supervise.ranks import Ranks


class Handle:
    """A rank with an unknown status, though the kernel may have announced its exit."""

    pid = os.getpid()  # it is alive, according to /proc
    pidfd = None

    def __init__(self, exit_fd: int) -> None:
        self.exit_fd = exit_fd
        self.signals: list[tuple[int, bool]] = []

    def peek(self) -> None:
        """Return nothing: the status has not arrived yet."""

    def signal(self, number: int, *, group: bool) -> bool:
        """Record the signal; the group still has members."""
        self.signals.append((number, group))
        return True


@pytest.mark.parametrize(("ended", "hit"), [(False, [0]), (True, [])])
def test_a_rank_whose_end_was_announced_is_not_signalled_alive(ended: bool, hit: list[int]) -> None:
    """Also while its status has not arrived from a zygote, and /proc does not show its exit."""
    spec = JobSpec("job", "job-1", (RankSpec(0, Command(("true",)), {}),))
    ranks = Ranks(spec, Loop(SYSTEM_CLOCK), SYSTEM_CLOCK, functions=False, stale={})
    read, write = os.pipe()
    try:
        if ended:
            os.write(write, b"x")
        handle = ranks.handles[0] = Handle(read)
        assert ranks.signal_groups(signal.SIGTERM) == hit
        assert handle.signals == [(signal.SIGTERM, True)]
    finally:
        os.close(read)
        os.close(write)
