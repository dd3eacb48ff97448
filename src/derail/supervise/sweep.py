"""Search for what outlived the ranks of a job, and its end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from derail.model.exit import SIGCONT, SIGKILL
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

    from derail.model.clock import Clock
    from derail.model.outcome import Leftover
    from derail.model.spec import JobSpec
    from derail.platform.leftovers import FoundProcess, Swept
    from derail.spawn.handle import ProcessHandle

SWEEP_WAIT = 10.0
"""Seconds that helpers have to exit after their SIGKILL, before they are reported as surviving."""

ASKED = 5.0
"""Maximum seconds for leftovers between the signal that asks them to end and SIGKILL; the job's grace period if that is
shorter."""

LOOKS = 20
"""Consecutive searches that must find no process, after one was found, where other processes are coming and going."""


def sweep(  # noqa: PLR0915 - one order of steps
    spec: JobSpec,
    handles: Mapping[int, ProcessHandle],
    *,
    known: Collection[tuple[int, int]],
    signalled: bool,
    clock: Clock,
) -> tuple[Leftover, ...]:
    """Find what outlived the ranks; end what is left in their groups, and with ``sweep="all"`` also the rest.

    The ranks themselves have not been reaped yet: their pids, and so the ids of their groups and sessions, cannot be
    reused. A process that ends by itself within a moment is no leftover. The others get the job's signal, unless they
    got that along with their rank, then SIGKILL. Helpers that clean up behind others come last: they end by themselves
    when those have ended, and unlink shared memory that no other process would.

    Args:
        spec: the job.
        handles: its ranks.
        known: the processes that existed before the first rank, from ``known_processes``.
        signalled: whether the groups got the signal.
        clock: clock for deadlines.
    """
    ranks = {handle.pid: rank for rank, handle in handles.items()}

    def find(looks: int = 2) -> list[FoundProcess]:
        found = find_processes(spec.job_id, ranks, exclude=ranks, known=known, looks=looks)
        ending = [process for process in found if is_exiting(process.pid)]  # the kernel is tearing it down
        if ending:
            wait_until_gone(ending, SWEEP_WAIT)
        return [process for process in found if process not in ending or is_alive(process.pid, process.started)]

    def condemned(processes: Collection[FoundProcess]) -> list[FoundProcess]:
        return [process for process in processes if spec.teardown.sweep == "all" or process.pgid in ranks]

    def kill_groups() -> None:
        """Kill all groups at once, so that a process that forks all the time cannot continue."""
        for handle in handles.values():
            handle.signal(SIGKILL, group=True)

    found = find()
    if not found:
        if not every_pid():  # of another PID namespace, or hidden: also end invisible processes
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
        helpers = split(find())[0]  # a forked process may have executed its helper program since the last search
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
    results = [(process, True) for each in swept for process in each.ended]
    results += [(process, False) for each in swept for process in each.surviving]
    results += [(process, False) for process in alone]
    return tuple(
        process.to_leftover(ended=ended, rank=ranks.get(process.pgid, ranks.get(process.sid)))
        for process, ended in results
    )


def _is_among(process: FoundProcess, others: Collection[FoundProcess]) -> bool:
    return any((process.pid, process.started) == (other.pid, other.started) for other in others)


def _but(processes: Collection[FoundProcess], without: Collection[FoundProcess]) -> list[FoundProcess]:
    return [process for process in processes if process not in without]
