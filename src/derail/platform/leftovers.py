"""Processes of a job that outlived their ranks: found by session, by group and by the mark in their environment, and
ended without ever hitting a stranger."""

from __future__ import annotations

import os
import select
import signal
import threading
import time
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, Literal

from derail.model.outcome import Leftover
from derail.model.spec import JOB_ENV
from derail.platform.groups import signal_process
from derail.platform.processes import command_line, environment, every_process, is_alive, newest_pid

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from derail.platform.processes import ProcessInfo


@dataclass(frozen=True, slots=True)
class FoundProcess:
    """A living process that belongs to a job.

    Attributes:
        pid: its number.
        started: when it was started, in the platform's own unit: with ``pid``, it says which process is meant.
        command: its command line, or its name in brackets if it has none.
        state: the letter of proc(5): R, S, D, T, t ...
        sid: its session.
        pgid: its process group.
        ppid: its parent.
        by: how it was found: it is in the session or the group of a rank, or it only has the mark.
    """

    pid: int
    started: float
    command: str
    state: str
    sid: int
    pgid: int
    ppid: int
    by: Literal["session", "group", "mark"]

    def to_leftover(self, *, ended: bool, rank: int | None = None) -> Leftover:
        """The value in which an outcome tells of it."""
        return Leftover(kind="process", what=self.command, pid=self.pid, rank=rank, ended=ended)


@dataclass(frozen=True, slots=True)
class Swept:
    """What became of processes that were to be ended: gone, or still there when the time was over (state D ...)."""

    ended: tuple[FoundProcess, ...] = ()
    surviving: tuple[FoundProcess, ...] = ()


def find_processes(
    job_id: str, sessions: Collection[int], *, exclude: Collection[int] = frozenset(), looks: int = 1
) -> list[FoundProcess]:
    """Find the living processes of a job. Zombies are not alive, and this process is never found.

    Somebody who forks and leaves while the process table is read can be missed, parent and child. A look that found
    nobody is certain if no process was created on the machine meanwhile; else it is repeated, ``looks`` times at most.

    Args:
        job_id: looked for in the mark, as a whole; empty for no search by mark. The mark is read from the environment
            that a process was *executed* with: one that was forked from a function rank, never executed anything
            and left its session cannot be found by it.
        sessions: the ranks' pids, which are the ids of their sessions and groups. Nobody may have reaped them, else
            the numbers might be somebody else's by now.
        exclude: pids that are known and wanted: ranks that still run, helpers of the launcher.
        looks: how many looks that find nobody are believed although processes were created during each.
    """
    skipped = {os.getpid(), *exclude}
    reserved = frozenset(sessions)
    for _ in range(looks):
        newest = newest_pid()
        found = _look(job_id, reserved, skipped)
        if found or newest is None or newest_pid() == newest:
            return found
    return []


def _look(job_id: str, reserved: frozenset[int], skipped: Collection[int]) -> list[FoundProcess]:
    found = []
    for process in every_process(skip=skipped):
        if not process.alive:
            continue
        by = _belongs(process, job_id, reserved)
        if by is not None:
            found.append(
                FoundProcess(
                    pid=process.pid,
                    started=process.started,
                    command=command_line(process),
                    state=process.state,
                    sid=process.sid,
                    pgid=process.pgid,
                    ppid=process.ppid,
                    by=by,
                )
            )
    return found


def end_processes(
    found: Collection[FoundProcess],
    *,
    deadline: float,
    find_more: Callable[[], Collection[FoundProcess]] | None = None,
) -> Swept:
    """SIGKILL each process and wait until it is gone.

    Each is held by a pidfd that was compared with its start time: a number that went to a stranger is not touched.

    Args:
        found: what ``find_processes`` found.
        deadline: monotonic time at which waiting ends, whatever is left.
        find_more: searches again after each round, since a helper may have forked while it was being ended; rounds go
            on until it finds nobody new or the deadline has come.
    """
    ended: dict[tuple[int, float], FoundProcess] = {}
    surviving: dict[tuple[int, float], FoundProcess] = {}
    batch = list(found)
    while batch:
        still_there = _kill_and_wait(batch, deadline)
        for process in batch:
            identity = (process.pid, process.started)
            (surviving if identity in still_there else ended)[identity] = process
        if find_more is None or time.monotonic() >= deadline:
            break
        batch = [process for process in find_more() if (process.pid, process.started) not in surviving]
    return Swept(tuple(ended.values()), tuple(surviving.values()))


def carries_mark(environ: bytes, job_id: str) -> bool:
    """Whether a block of ``NAME=value`` strings with NULs between them has ``job_id`` in its job mark, also as one of
    several that are nested."""
    name, wanted = f"{JOB_ENV}=".encode(), job_id.encode()
    if name not in environ:
        return False
    return any(wanted in entry[len(name) :].split(b":") for entry in environ.split(b"\0") if entry.startswith(name))


def _belongs(process: ProcessInfo, job_id: str, sessions: frozenset[int]) -> Literal["session", "group", "mark"] | None:
    if process.pgid in sessions:
        return "group"
    if process.sid in sessions:
        return "session"
    return "mark" if job_id and carries_mark(environment(process.pid), job_id) else None


def _kill_and_wait(batch: Collection[FoundProcess], deadline: float) -> set[tuple[int, float]]:
    """SIGKILL all, then wait for all; returns the identities of those that are still there."""
    held: dict[int, tuple[int, float]] = {}
    without_pidfd = []
    still_there = set()
    try:
        for process in batch:
            identity = (process.pid, process.started)
            try:
                pidfd = os.pidfd_open(process.pid)
            except ProcessLookupError:
                continue
            except (OSError, AttributeError):  # no descriptor left, or a platform without pidfds
                without_pidfd.append(process)
                continue
            # The descriptor is held first and compared then: from here on the number cannot change hands.
            if not is_alive(process.pid, process.started):
                os.close(pidfd)
            elif signal_process(process.pid, pidfd, signal.SIGKILL):
                held[pidfd] = identity
            else:
                os.close(pidfd)
                if is_alive(process.pid, process.started):  # not ours to kill
                    still_there.add(identity)
        still_there |= {held[pidfd] for pidfd in _wait_for_pidfds(held, deadline)}
        return still_there | _kill_without_pidfd(without_pidfd, deadline)
    finally:
        for pidfd in held:
            os.close(pidfd)


def _wait_for_pidfds(pidfds: Collection[int], deadline: float) -> set[int]:
    """Wait until the processes are gone; returns those that are not."""
    poll = select.poll()
    for pidfd in pidfds:
        poll.register(pidfd, select.POLLIN)
    waiting = set(pidfds)
    while waiting:
        left = deadline - time.monotonic()
        for pidfd, _ in poll.poll(max(0, ceil(left * 1000))):
            poll.unregister(pidfd)
            waiting.discard(pidfd)
        if left <= 0:
            break
    return waiting


def _kill_without_pidfd(batch: list[FoundProcess], deadline: float) -> set[tuple[int, float]]:
    """The same by number: compared right before, which leaves a stranger a window of microseconds."""
    waiting = {(process.pid, process.started): process for process in batch if is_alive(process.pid, process.started)}
    for process in waiting.values():
        signal_process(process.pid, None, signal.SIGKILL)
    pause = threading.Event()
    while True:
        waiting = {identity: process for identity, process in waiting.items() if is_alive(process.pid, process.started)}
        if not waiting or time.monotonic() >= deadline:
            return set(waiting)
        pause.wait(0.01)
