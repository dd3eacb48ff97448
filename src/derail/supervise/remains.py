"""What a job may leave: helpers of its ranks, ranks that hang, ranks that cannot be killed."""

from __future__ import annotations

import os
import select
import threading
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from derail.model.clock import SYSTEM_CLOCK
from derail.platform.leftovers import end_processes, find_processes
from derail.platform.processes import every_pid, is_dying, newest_pid

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from derail.model.clock import Clock
    from derail.model.outcome import Leftover
    from derail.model.spec import JobSpec, RankSpec
    from derail.platform.leftovers import FoundProcess
    from derail.spawn.handle import ProcessHandle

SIGKILL = 9
REUSE_SECONDS = 60.0
"""In so short a time, and unless the newest number has fallen, no number goes all the way round."""

DYING = 0.25
"""Seconds in which helpers that were signalled along with their rank may die of it before they count as left over."""

SWEEP_WAIT = 10.0
"""Seconds that helpers have to go after their SIGKILL, before they are reported as still there."""

LOOKS = 20
"""How often in a row nobody must have been found, once somebody was, where other processes come and go meanwhile."""

ANSWER_WAIT = 2.0
"""Seconds that SIGKILL waits at most for stacks which are being written: on a busy machine a rank has to wait for its
turn to write."""

STACK_BYTES = 1 << 16
"""Of the Python stack that a hung rank writes, at most so much is kept."""

_abandoned: list[ProcessHandle] = []
_abandoned_lock = threading.Lock()


@dataclass(frozen=True, slots=True)
class Before:
    """Which processes there were before the first rank was started: none of them is a rank's child."""

    pids: frozenset[int]
    newest: int | None
    at: float

    def still(self, now: float) -> frozenset[int]:
        """Those pids that cannot have become another process's since; empty where that is not certain."""
        newest = newest_pid()
        if newest is None or self.newest is None or newest < self.newest or now - self.at > REUSE_SECONDS:
            return frozenset()
        return self.pids


def live_before(now: float) -> Before:
    """Take note of the processes that there are."""
    return Before(frozenset(every_pid()), newest_pid(), now)


def sweep(
    spec: JobSpec,
    handles: Mapping[int, ProcessHandle],
    *,
    before: Before,
    signalled: bool,
    clock: Clock,
) -> tuple[Leftover, ...]:
    """Find what outlived the ranks; end what is left in their groups, and with ``sweep="all"`` the rest too.

    The ranks themselves have not been reaped yet: their pids, and so the ids of their groups and sessions, cannot
    belong to anybody else. Where the groups were ``signalled``, helpers have a moment to die of that: only those that
    do not are left over.
    """
    ranks = {handle.pid: rank for rank, handle in handles.items()}
    if before.newest is not None and newest_pid() == max(ranks, default=None):
        return ()  # nothing at all was started on this machine since the last rank
    known = before.still(clock.now()) | ranks.keys()

    def find(looks: int = 2) -> list[FoundProcess]:
        return find_processes(spec.job_id, ranks, exclude=known, looks=looks)

    def condemned(processes: list[FoundProcess]) -> list[FoundProcess]:
        return [process for process in processes if spec.teardown.sweep == "all" or process.pgid in ranks]

    found = find()
    if found and signalled:
        _wait_until_gone(found)
        found = find()
    if not found:
        return ()
    for handle in handles.values():
        handle.signal(SIGKILL, group=True)  # at once, so that a helper cannot go on forking
    swept = end_processes(condemned(found), deadline=clock.now() + SWEEP_WAIT, find_more=lambda: condemned(find(LOOKS)))
    left_alone = [process for process in found if process not in condemned(found)]
    told = [(process, True) for process in swept.ended]
    told += [(process, False) for process in (*swept.surviving, *left_alone)]
    return tuple(
        process.to_leftover(ended=ended, rank=ranks.get(process.pgid, ranks.get(process.sid)))
        for process, ended in told
    )


def _wait_until_gone(processes: list[FoundProcess]) -> None:
    """Give them ``DYING`` seconds, and as long as any of them has not had its turn yet to die."""
    waiting = select.poll()
    with ExitStack() as stack:
        pending: dict[int, int] = {}
        for process in processes:
            try:
                fd = os.pidfd_open(process.pid)
            except (OSError, AttributeError):  # gone, or a platform without
                continue
            stack.callback(os.close, fd)
            waiting.register(fd, select.POLLIN)
            pending[fd] = process.pid
        end = last = SYSTEM_CLOCK.now() + DYING
        last += SWEEP_WAIT
        while pending and (left := end - SYSTEM_CLOCK.now()) > 0:
            for fd, _ in waiting.poll(left * 1000):
                waiting.unregister(fd)
                del pending[fd]
            if SYSTEM_CLOCK.now() >= end and any(map(is_dying, pending.values())):
                end = min(last, SYSTEM_CLOCK.now() + DYING)


@dataclass(frozen=True, slots=True)
class Hang:
    """Where a rank hung: what the kernel said, and where in its stderr the stack begins that it was asked for."""

    told: str
    stderr: Path | None = None
    offset: int = 0

    def complete(self) -> str:
        """With the Python stack, as far as the rank has written it by now; never raises."""
        if self.stderr is None:
            return self.told
        try:
            with self.stderr.open("rb") as file:
                file.seek(self.offset)
                stack = file.read(STACK_BYTES).decode(errors="replace").strip()
        except OSError:
            stack = ""
        return f"{self.told}\n{stack}" if stack else self.told


def look_where_they_hang(specs: Mapping[int, RankSpec], pids: Mapping[int, int]) -> dict[int, Hang]:
    """Say what the kernel knows of ranks that do not end, and ask those in Python for their stacks. Returns when these
    are written, which takes moments, and is waited for in bounded time."""
    from derail.platform.hang import answers_still, ask_for_python_stack, deaf_threads, describe

    hangs, asked = {}, {}
    for rank, pid in pids.items():
        told, stderr, deaf = describe(pid), specs[rank].streams.stderr, deaf_threads(pid)
        try:
            offset = -1 if stderr is None or not stderr.is_file() else stderr.stat().st_size
        except OSError:
            offset = -1
        answers = ask_for_python_stack(pid)
        if answers:
            asked[pid] = deaf
        hangs[rank] = Hang(told, stderr, offset) if answers and offset >= 0 else Hang(told)
    pause, end = threading.Event(), SYSTEM_CLOCK.now() + ANSWER_WAIT
    while any(answers_still(pid, deaf=deaf) for pid, deaf in asked.items()) and SYSTEM_CLOCK.now() < end:
        pause.wait(0.002)
    return hangs


def abandon(handle: ProcessHandle, deadline: float, clock: Clock) -> None:
    """Reap a rank, waiting until ``deadline`` if need be; one that stays is reaped when a later job begins."""
    while handle.reap() is None:
        left = deadline - clock.now()
        waiting = select.poll()  # not select(): descriptors may be beyond 1024
        waiting.register(handle.exit_fd, select.POLLIN)
        if left <= 0 or not waiting.poll(left * 1000):
            with _abandoned_lock:
                _abandoned.append(handle)
            return
    handle.close()


def reap_abandoned() -> None:
    """Reap those ranks of earlier jobs that had to be abandoned and have ended since."""
    with _abandoned_lock:
        for handle in list(_abandoned):
            if handle.reap() is not None:
                handle.close()
                _abandoned.remove(handle)
