"""Processes of a job that outlived their ranks: found by session, by group and by the mark in their environment, and
ended without any risk for unrelated processes."""

from __future__ import annotations

import os
import re
import select
import signal
import threading
from contextlib import ExitStack
from dataclasses import dataclass, replace
from math import ceil
from typing import TYPE_CHECKING, Literal

from derail.model.clock import SYSTEM_CLOCK
from derail.model.outcome import Leftover
from derail.model.spec import JOB_ENV
from derail.platform.groups import signal_process
from derail.platform.lifeline import KEEPER_ENV
from derail.platform.marks import marked_rank
from derail.platform.processes import (
    command_line,
    environment,
    every_process,
    is_alive,
    is_dying,
    known_processes,
    look_up,
    newest_pid,
    runs_as_us,
    was_executed,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from derail.platform.processes import ProcessInfo

DYING = 0.25
"""Seconds for a process that ends by itself, or was signalled along with its rank, to be gone before it counts."""

HELPER_WAIT = 10.0
"""Seconds for a helper that cleans up behind others to end, after those have ended. On a busy machine it may still be
starting."""

_HELPER = re.compile(
    r"\bfrom [\w.]*\b(resource_tracker|semaphore_tracker|forkserver) import main\b"
    r"|^(\S*/)?torch_shm_manager\b"
    r"|\bderail-lifeline\b"
)


@dataclass(frozen=True, slots=True)
class FoundProcess:
    """A live process that belongs to a job.

    Attributes:
        pid: its pid.
        started: its start time, in the platform's own unit; together with ``pid`` it identifies the process.
        command: its command line, or its name in brackets if it has none.
        state: the letter of proc(5): R, S, D, T, t ...
        sid: its session.
        pgid: its process group.
        ppid: its parent.
        by: how it was found: it is in the session or the group of a rank, or it only has a mark.
        rank: the local rank that it descends from, if a mark has that.
        executed: whether it has executed its command line itself. A child of a fork server has that of its parent.
        keeps: whether it is a keeper, which ends a job with a killed launcher (``platform/lifeline.py``), or was
            started by one: a sub-shell, grep or sleep, with a parent that may have ended before this look.
    """

    pid: int
    started: float
    command: str
    state: str
    sid: int
    pgid: int
    ppid: int
    by: Literal["session", "group", "mark"]
    rank: int | None = None
    executed: bool = True
    keeps: bool = False

    @property
    def is_helper(self) -> bool:
        """Whether it cleans up behind the processes that it serves, and ends by itself when those have ended.

        These are the resource trackers and fork servers of multiprocessing and loky, torch's manager of shared memory,
        and derail's keepers. A child of a fork server is none, though it has the command line of one.
        """
        return self.keeps or (self.executed and is_helper(self.command))

    def to_leftover(self, *, ended: bool, rank: int | None = None) -> Leftover:
        """Return it as a ``Leftover``, for an outcome."""
        return Leftover(
            kind="process", what=self.command, pid=self.pid, rank=self.rank if rank is None else rank, ended=ended
        )


@dataclass(frozen=True, slots=True)
class Swept:
    """Result of ending processes: those gone, and those still there at the deadline (state D ...)."""

    ended: tuple[FoundProcess, ...] = ()
    surviving: tuple[FoundProcess, ...] = ()


def find_processes(
    job_id: str,
    sessions: Collection[int],
    *,
    exclude: Collection[int] = frozenset(),
    known: Collection[tuple[int, int]] = frozenset(),
    looks: int = 1,
) -> list[FoundProcess]:
    """Find the live processes of a job. Zombies do not count, and this process is never found.

    A process that forks and exits while the process table is read can be missed, parent and child. An empty look is
    certain if no process was created on the machine during it; else it is repeated, ``looks`` times at most.

    Args:
        job_id: job to search in the marks (``platform/marks.py``), as a whole; empty for no search by mark.
        sessions: the ranks' pids, which are the ids of their sessions and groups. They must be unreaped, else the pids
            might have been reused.
        exclude: pids of expected processes: ranks that still run, helpers of the launcher.
        known: processes from before the job, by ``known_processes``: they are skipped.
        looks: number of empty looks that are accepted although processes were created during each.
    """
    skipped = {os.getpid(), *exclude}
    reserved = frozenset(sessions)
    for _ in range(looks):
        newest = newest_pid()
        found = _look(job_id, reserved, skipped, known)
        if found or newest is None or newest_pid() == newest:
            return found
    return []


def _look(
    job_id: str, reserved: frozenset[int], skipped: Collection[int], known: Collection[tuple[int, int]]
) -> list[FoundProcess]:
    found = []
    for process in every_process(skip=skipped, known=known):
        if not process.alive:
            continue
        rank = marked_rank(process.pid, job_id) if job_id else None
        if rank is not None and not runs_as_us(process.pid):
            rank = None  # every user can read the limits of our ranks, and set the same ones
        by = _belongs(process, job_id, reserved, marked=rank is not None)
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
                    rank=rank,
                    executed=was_executed(process.pid),
                    keeps=_is_of_keeper(process.pid),
                )
            )
    keepers = {process.sid for process in found if process.keeps}  # an ending process shows no environment
    return [replace(process, keeps=True) if process.sid in keepers else process for process in found]


def end_processes(
    found: Collection[FoundProcess],
    *,
    deadline: float,
    find_more: Callable[[], Collection[FoundProcess]] | None = None,
) -> Swept:
    """SIGKILL each process and wait until it is gone.

    Each is held by a pidfd and then compared with its start time: a reused pid is never signalled.

    Args:
        found: result of ``find_processes``.
        deadline: monotonic time at which waiting ends, whatever is left.
        find_more: searches again after each round, because a helper may have forked while it was being ended; there
            are rounds until it finds no new process or the deadline has passed.
    """
    ended: dict[tuple[int, float], FoundProcess] = {}
    surviving: dict[tuple[int, float], FoundProcess] = {}
    batch = list(found)
    while batch:
        still_there = signal_and_wait(batch, signal.SIGKILL, deadline=deadline)
        for process in batch:
            identity = (process.pid, process.started)
            (surviving if identity in still_there else ended)[identity] = process
        if find_more is None or SYSTEM_CLOCK.now() >= deadline:
            break
        batch = [process for process in find_more() if (process.pid, process.started) not in surviving]
    return Swept(tuple(ended.values()), tuple(surviving.values()))


def split(found: Collection[FoundProcess]) -> tuple[list[FoundProcess], list[FoundProcess]]:
    """Separate helpers, which clean up behind others and then end by themselves, from those others."""
    commands = {process.pid: process.command for process in found}
    helpers = [p for p in found if p.keeps or (p.is_helper and commands.get(p.ppid) != p.command)]
    pids = {process.pid for process in helpers}
    return helpers, [process for process in found if process.pid not in pids]


def wait_until_gone(processes: Collection[FoundProcess], seconds: float, *, dying: float = 0.0) -> None:
    """Wait until all have ended, for at most ``seconds``.

    Args:
        processes: result of ``find_processes``.
        seconds: maximum seconds to wait.
        dying: maximum additional seconds for those with a pending signal, or that the kernel is tearing down: on a busy
            machine they may not have had CPU time yet.
    """
    with ExitStack() as stack:
        waiting: dict[int, FoundProcess] = {}
        without_pidfd = []
        for process in processes:
            try:
                fd = os.pidfd_open(process.pid)
            except ProcessLookupError:
                continue
            except (OSError, AttributeError):  # no descriptor left, or a platform without pidfds
                without_pidfd.append(process)
                continue
            stack.callback(os.close, fd)
            if is_alive(process.pid, process.started):
                waiting[fd] = process
        now = SYSTEM_CLOCK.now()
        end, last = now + seconds, now + seconds + dying
        while waiting or without_pidfd:
            step = min(end, last)
            waiting = {fd: waiting[fd] for fd in _wait(waiting, step)}
            without_pidfd = _wait_without_pidfd(without_pidfd, step)
            rest = [*waiting.values(), *without_pidfd]
            if SYSTEM_CLOCK.now() >= last or not any(is_dying(process.pid) for process in rest):
                return
            end = SYSTEM_CLOCK.now() + DYING


def is_helper(command: str) -> bool:
    """Return whether a command line is that of a helper, as ``FoundProcess.is_helper`` describes it; a process that was
    only forked may have it from its parent."""
    return _HELPER.search(command) is not None


class Orphans:
    """Finder of daemons: processes that descend from this rank, but have a parent that does not.

    An unrelated process is checked once, and none if no process was created since the last look.

    Args:
        job_id: the job of the rank.
    """

    def __init__(self, job_id: str) -> None:
        self._job_id = job_id
        self._rank = marked_rank(os.getpid(), job_id)
        self._newest: int | None = None
        self._strangers: frozenset[tuple[int, int]] = frozenset()
        self._ours: dict[int, float] = {}

    def find(self) -> dict[int, str]:
        """Return the command lines of the live ones, without helpers, by pid."""
        if self._rank is None:
            return {}
        newest = newest_pid()
        if newest is None or newest != self._newest:
            there = known_processes()
            new = every_process(skip={os.getpid()}, known=self._strangers)
            marked = [each for each in new if marked_rank(each.pid, self._job_id) == self._rank]
            self._ours = {each.pid: each.started for each in marked if runs_as_us(each.pid)}
            self._strangers = frozenset(identity for identity in there if identity[0] not in self._ours)
            self._newest = newest
        living = [process for process in map(look_up, self._ours) if process is not None and process.alive]
        ours = {os.getpid(), *(process.pid for process in living if process.started == self._ours[process.pid])}
        orphans = [process for process in living if process.pid in ours and process.ppid not in ours]
        lines = {process.pid: command_line(process) for process in orphans}
        return {
            pid: line
            for pid, line in lines.items()
            if not _is_of_keeper(pid) and not (is_helper(line) and was_executed(pid))
        }


def _is_of_keeper(pid: int) -> bool:
    """Return whether a process is a keeper or was started by one: those have its environment."""
    name = f"{KEEPER_ENV}=".encode()
    return any(entry.startswith(name) for entry in environment(pid).split(b"\0"))


def carries_mark(environ: bytes, job_id: str) -> bool:
    """Return whether a block of ``NAME=value`` strings, separated by NULs, has ``job_id`` in its job mark, also as one
    of several nested ones."""
    name, sought = f"{JOB_ENV}=".encode(), job_id.encode()
    if name not in environ:
        return False
    return any(sought in entry[len(name) :].split(b":") for entry in environ.split(b"\0") if entry.startswith(name))


def _belongs(
    process: ProcessInfo, job_id: str, sessions: frozenset[int], *, marked: bool
) -> Literal["session", "group", "mark"] | None:
    if process.pgid in sessions:
        return "group"
    if process.sid in sessions:
        return "session"
    return "mark" if marked or (job_id and carries_mark(environment(process.pid), job_id)) else None


def signal_and_wait(batch: Collection[FoundProcess], number: int, *, deadline: float) -> set[tuple[int, float]]:
    """Signal all, then wait for all; return the identities (pid, start) of those that are still there."""
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
            # The descriptor is opened first and compared then: from here on the pid cannot be reused.
            if not is_alive(process.pid, process.started):
                os.close(pidfd)
            elif signal_process(process.pid, pidfd, number):
                held[pidfd] = identity
            else:  # it is gone, or we have no permission
                os.close(pidfd)
                still_there |= {identity} if is_alive(*identity) else set()
        # By pid: compared right before, which leaves a window of microseconds for PID reuse.
        for process in without_pidfd:
            if is_alive(process.pid, process.started):
                signal_process(process.pid, None, number)
        still_there |= {held[pidfd] for pidfd in _wait(held, deadline)}
        return still_there | {(p.pid, p.started) for p in _wait_without_pidfd(without_pidfd, deadline)}
    finally:
        for pidfd in held:
            os.close(pidfd)


def _wait(pidfds: Collection[int], deadline: float) -> set[int]:
    """Wait until the processes are gone; return those that are not."""
    poll = select.poll()
    for pidfd in pidfds:
        poll.register(pidfd, select.POLLIN)
    waiting = set(pidfds)
    while waiting:
        left = deadline - SYSTEM_CLOCK.now()
        for pidfd, _ in poll.poll(max(0, ceil(left * 1000))):
            poll.unregister(pidfd)
            waiting.discard(pidfd)
        if left <= 0:
            break
    return waiting


def _wait_without_pidfd(processes: Collection[FoundProcess], deadline: float) -> list[FoundProcess]:
    """Wait until the processes are gone, by repeated looks; return those that are not."""
    pause = threading.Event()
    while True:
        processes = [process for process in processes if is_alive(process.pid, process.started)]
        if not processes or SYSTEM_CLOCK.now() >= deadline:
            return processes
        pause.wait(0.01)
