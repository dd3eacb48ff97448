"""What a job may leave: helpers of its ranks, ranks that hang, ranks that cannot be killed."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from derail.model.clock import SYSTEM_CLOCK
from derail.platform.leftovers import (
    DYING,
    HELPER_WAIT,
    end_processes,
    find_processes,
    signal_and_wait,
    split,
    wait_until_gone,
)
from derail.platform.processes import every_pid, is_alive, is_exiting

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    from derail.model.clock import Clock
    from derail.model.outcome import Leftover
    from derail.model.spec import JobSpec, RankSpec
    from derail.platform.leftovers import FoundProcess, Swept
    from derail.spawn.handle import ProcessHandle

SIGKILL, SIGCONT = 9, 18
SWEEP_WAIT = 10.0
"""Seconds that helpers have to go after their SIGKILL, before they are reported as still there."""

ASKED = 5.0
"""Seconds at most that leftovers have between the signal that asks them to end and SIGKILL; the job's grace if that is
less."""

LOOKS = 20
"""How often in a row nobody must have been found, once somebody was, where other processes come and go meanwhile."""

ANSWER_WAIT = 2.0
"""Seconds that SIGKILL waits at most for stacks which are being written: on a busy machine a rank has to wait for its
turn to write."""

STACK_BYTES = 1 << 16
"""Of the Python stack that a hung rank writes, at most so much is kept."""


def sweep(
    spec: JobSpec,
    handles: Mapping[int, ProcessHandle],
    *,
    known: Collection[tuple[int, int]],
    signalled: bool,
    clock: Clock,
) -> tuple[Leftover, ...]:
    """Find what outlived the ranks; end what is left in their groups, and with ``sweep="all"`` the rest too.

    The ranks themselves have not been reaped yet: their pids, and so the ids of their groups and sessions, cannot
    belong to anybody else. What ends by itself in a moment is not left over. The rest gets the job's signal, unless it
    got that along with its rank, then SIGKILL. Helpers that clean up behind others come last: they end by themselves
    when those have ended, and unlink shared memory that no other process would.

    Args:
        spec: the job.
        handles: its ranks.
        known: the processes that there were before the first rank, from ``known_processes``.
        signalled: whether the groups got the signal.
        clock: what deadlines are measured by.
    """
    ranks = {handle.pid: rank for rank, handle in handles.items()}

    def find(looks: int = 2) -> list[FoundProcess]:
        found = find_processes(spec.job_id, ranks, exclude=ranks, known=known, looks=looks)
        ending = [process for process in found if is_exiting(process.pid)]  # the kernel is taking it down
        if ending:
            wait_until_gone(ending, SWEEP_WAIT)
        return [process for process in found if process not in ending or is_alive(process.pid, process.started)]

    def condemned(processes: Collection[FoundProcess]) -> list[FoundProcess]:
        return [process for process in processes if spec.teardown.sweep == "all" or process.pgid in ranks]

    def kill_groups() -> None:
        """At once, so that what forks all the time cannot go on."""
        for handle in handles.values():
            handle.signal(SIGKILL, group=True)

    found = find()
    if not found:
        if not every_pid():  # of another PID namespace, or hidden: end what cannot be seen as well
            kill_groups()
        return ()
    wait_until_gone(split(found)[1], DYING, dying=SWEEP_WAIT)
    helpers, left = split(find())
    alone = _but(left, condemned(left))
    swept: list[Swept] = []
    if doomed := condemned(left):
        asked = [process for process in doomed if not (signalled and process.pgid in ranks)]
        patience = clock.now() + min(spec.teardown.grace, ASKED)
        if asked and patience > clock.now():
            signal_and_wait(asked, spec.teardown.signal, deadline=patience)
        helpers = split(find())[0]  # one that had been forked, and had not executed its program, is one by now
        doomed = _but(doomed, [process for process in doomed if _is_among(process, helpers)])
        if not any(process.pgid in ranks for process in helpers):
            kill_groups()
        deadline = clock.now() + SWEEP_WAIT
        swept.append(end_processes(doomed, deadline=deadline, find_more=lambda: condemned(split(find(LOOKS))[1])))
    if helpers := split(find())[0]:
        signal_and_wait(helpers, SIGCONT, deadline=clock.now())  # it may have been stopped along with its rank
        wait_until_gone(helpers, DYING if alone else HELPER_WAIT, dying=SWEEP_WAIT)
        left = find()
        alone += [process for process in _but(left, condemned(left)) if process not in alone]
        if doomed := condemned(left):
            kill_groups()
            deadline = clock.now() + SWEEP_WAIT
            swept.append(end_processes(doomed, deadline=deadline, find_more=lambda: condemned(find(LOOKS))))
    fates = [(process, True) for each in swept for process in each.ended]
    fates += [(process, False) for each in swept for process in each.surviving]
    fates += [(process, False) for process in alone]
    return tuple(
        process.to_leftover(ended=ended, rank=ranks.get(process.pgid, ranks.get(process.sid)))
        for process, ended in fates
    )


def _is_among(process: FoundProcess, others: Collection[FoundProcess]) -> bool:
    return any((process.pid, process.started) == (other.pid, other.started) for other in others)


def _but(processes: Collection[FoundProcess], without: Collection[FoundProcess]) -> list[FoundProcess]:
    return [process for process in processes if process not in without]


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
