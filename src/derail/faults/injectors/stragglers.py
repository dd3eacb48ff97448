"""Ranks that run slowly: little processor time, or repeatedly stopped. From outside, for any program.

If derail itself is killed, a rank that is stopped at that moment still belongs to its job, so the job's keeper ends it.
"""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

from derail.faults.catalogue.entry import Acts, Entry, Requires
from derail.faults.catalogue.injector_api import Soon
from derail.faults.catalogue.params import choice_param, count_param, factor_param, seconds_param
from derail.faults.injectors.resources import living
from derail.faults.model.results import Errored, Injected, NotReached, Unavailable
from derail.platform.capabilities import PROC, why_no_idle_priority
from derail.platform.capabilities import why_no_proc as no_proc
from derail.platform.proc_status import read_process_state

if TYPE_CHECKING:
    from derail.faults.catalogue.injector_api import Aim, Step
    from derail.faults.model.results import Result
    from derail.model.exit import ExitStatus

LOWEST = 19
CAP_SYS_NICE = 23
MOST_PASSES = 20


def starve(aim: Aim) -> Step:
    """Bind all threads of a rank to one processor at the lowest priority, and verify both."""
    pid, priority = living(aim), aim.text("priority")
    if pid is None:
        return NotReached("the rank had ended before it could be starved")
    allowed = sorted(os.sched_getaffinity(pid))
    cpu = int(aim.number("cpu")) if aim.number("cpu") >= 0 else allowed[0]
    if cpu not in os.sched_getaffinity(0) | set(allowed):
        return Errored(f"expected a processor that rank {aim.rank} may use, one of {allowed}, got {cpu}")
    before = {tid: _schedule(tid) for tid in _threads(pid)}
    if aim.fault.for_ is not None and priority != "keep" and not _may_raise(pid):
        return Unavailable(
            "a lowered priority cannot be raised again without CAP_SYS_NICE or RLIMIT_NICE. "
            'Omit `for`, or use priority="keep"'
        )
    wanted = ({cpu}, *_LEVELS[priority])
    if all(_differs(schedule, wanted) == "" for schedule in before.values()):
        return Errored(f"rank {aim.rank} is already bound to processor {cpu} at this priority: no change possible")
    aim.undo.append((f"processors and priority of rank {aim.rank}", lambda: _restore(aim, before, set(allowed))))
    seen: dict[int, _Schedule] = {}
    for _ in range(MOST_PASSES):  # a thread may start another one during a pass, which inherits its old settings
        for tid in _threads(pid):
            _apply(tid, wanted)
        seen = {tid: _schedule(tid) for tid in _threads(pid)}
        if seen and not any(_differs(schedule, wanted) for schedule in seen.values()):
            break
    wrong = "; ".join(f"thread {tid} has {what}" for tid, now in seen.items() if (what := _differs(now, wanted)))
    if wrong or not seen:
        return Errored(f"not all threads of pid {pid} were starved: {wrong or 'none is left'}")
    fields = _stat(pid)
    return Injected(
        f"{len(seen)} threads of pid {pid} bound to processor {cpu} (of {allowed}); "
        f"/proc/{pid}/stat: nice {fields[16]}, policy {fields[38]}"
    )


_Schedule = tuple[set[int], int, int]
_Wanted = tuple[set[int], int | None, int | None]
_LEVELS: dict[str, tuple[int | None, int | None]] = {
    "idle": (LOWEST, os.SCHED_IDLE),
    "nice": (LOWEST, None),
    "keep": (None, None),
}
"""Nice value and scheduling policy by priority word; None keeps the present one."""


def _threads(pid: int) -> list[int]:
    try:
        return [int(name) for name in os.listdir(PROC / str(pid) / "task")]
    except OSError:
        return []


def _schedule(tid: int) -> _Schedule:
    try:
        return os.sched_getaffinity(tid), os.getpriority(os.PRIO_PROCESS, tid), os.sched_getscheduler(tid)
    except ProcessLookupError:
        return set(), LOWEST, os.SCHED_IDLE  # the thread has ended


def _apply(tid: int, wanted: _Wanted) -> None:
    cpus, nice, policy = wanted
    try:
        os.sched_setaffinity(tid, cpus)
        if policy is not None:
            os.sched_setscheduler(tid, policy, os.sched_param(0))
        if nice is not None:
            os.setpriority(os.PRIO_PROCESS, tid, nice)
    except ProcessLookupError:
        pass  # the thread has ended


def _differs(now: _Schedule, wanted: _Wanted) -> str:
    """Return how a thread differs from the request; empty if it does not, or has ended."""
    if not now[0]:
        return ""
    wrong = [] if now[0] == wanted[0] else [f"processors {sorted(now[0])}"]
    wrong += [] if wanted[1] in (None, now[1]) else [f"nice {now[1]}"]
    wrong += [] if wanted[2] in (None, now[2]) else [f"policy {now[2]}"]
    return ", ".join(wrong)


def _restore(aim: Aim, before: dict[int, _Schedule], allowed: set[int]) -> None:
    pid = living(aim)
    if pid is None:
        return
    usual = before.get(pid) or next(iter(before.values()))
    for tid in _threads(pid):
        cpus, nice, policy = before.get(tid, usual)
        os.sched_setaffinity(tid, cpus or allowed)
        if os.sched_getscheduler(tid) != policy:
            os.sched_setscheduler(tid, policy, os.sched_param(0))
        if os.getpriority(os.PRIO_PROCESS, tid) != nice:
            os.setpriority(os.PRIO_PROCESS, tid, nice)


def _may_raise(pid: int) -> bool:
    status = (PROC / "self" / "status").read_text()
    effective = int(next(line.split()[1] for line in status.splitlines() if line.startswith("CapEff")), 16)
    if effective >> CAP_SYS_NICE & 1:
        return True
    titles = (PROC / str(pid) / "limits").read_text().splitlines()
    row = next(line for line in titles if line.startswith("Max nice priority")).split()
    return row[3] == "unlimited" or int(row[3]) >= 20 - os.getpriority(os.PRIO_PROCESS, pid)


def _stat(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat from the third on, so that field n of proc(5) is at index n - 3."""
    return (PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()


def throttle(aim: Aim) -> Step:
    """Stop and continue the rank in turns, so that it runs a fraction of the time."""
    pid = living(aim)
    if pid is None:
        return NotReached("the rank had ended before it could be throttled")
    turns = _Turns(aim, pid)
    aim.undo.append((f"continue rank {aim.rank}", turns.end))
    turns.stop()
    awaited = f"state T of pid {pid} in /proc, and then another state"
    return Soon(turns.shown, awaited, within=10.0, at_exit=turns.at_exit)


class _Turns:
    """Duty cycle of one rank, in the thread of its job."""

    def __init__(self, aim: Aim, pid: int) -> None:
        factor, period = aim.number("factor"), aim.number("period")
        self._aim = aim
        self._pid = pid
        self._runs, self._stands = period / factor, period - period / factor
        self._stopped = 0
        self._running = 0
        self._over = False

    def stop(self) -> None:
        """Stop the rank at the end of its running time."""
        if self._over:
            return
        if self._stopped and not self._look("T"):
            self._running += 1
        if self._aim.sent_by_supervisor:  # it is being stopped for good, and must be able to handle the signal
            self._over = True
        elif self._aim.control.send_signal(self._aim.rank, signal.SIGSTOP):
            self._aim.control.call_later(self._stands, self.go_on)

    def go_on(self) -> None:
        """Continue the rank at the end of its stopped time."""
        if self._over:
            return
        if self._look("T"):
            self._stopped += 1
        if self._aim.control.send_signal(self._aim.rank, signal.SIGCONT):
            self._aim.control.call_later(self._runs, self.stop)

    def end(self) -> None:
        """End the duty cycle, and continue the rank."""
        self._over = True
        self._aim.control.send_signal(self._aim.rank, signal.SIGCONT)

    def shown(self) -> Result | None:
        """Return the result once both states have been observed."""
        if not (self._stopped and self._running):
            return None
        share = f"runs {self._runs:.3g} s and stops {self._stands:.3g} s in turn"
        return Injected(f"pid {self._pid} {share}: state T in /proc/{self._pid}/status, and then another state")

    def at_exit(self, status: ExitStatus) -> Result:
        """Return the result for a rank that ended before both states were observed."""
        return NotReached(f"the rank ended with {status} before it had been stopped and continued")

    def _look(self, state: str) -> bool:
        now = read_process_state(self._pid)
        return now is not None and now.state == state


ENTRIES = (
    Entry(
        name="starve",
        side="outside",
        summary="Binds all threads of a rank to one processor, at the lowest priority.",
        inject=starve,
        verified="sched_getaffinity of every thread, nice value and policy in /proc/PID/stat",
        healed="processors and priorities are restored; raising a priority needs CAP_SYS_NICE or RLIMIT_NICE",
        example='faults.starve(rank=1, when=when.line("step 2"))',
        params=(
            count_param(
                "cpu", "Number of the processor; -1 for the first that the rank may use.", default=-1, least=-1
            ),
            choice_param(
                "priority",
                _LEVELS,
                "idle: runs only on an otherwise idle processor (SCHED_IDLE, nice 19); nice: nice 19; keep: unchanged.",
                default="idle",
            ),
        ),
        requires=Requires("Linux with /proc", unavailable=lambda: no_proc() or why_no_idle_priority()),
        acts=Acts(lasts=True),
    ),
    Entry(
        name="throttle",
        side="outside",
        summary="Makes a rank a straggler: stopped and continued in turn, it runs slower by a factor.",
        inject=throttle,
        verified="state T and then another state in /proc/PID/status",
        healed="a last SIGCONT; if derail is killed, the keeper of the job ends the rank, stopped or not",
        example="faults.throttle(4, rank=2, for_=10)",
        params=(
            factor_param("factor", "Slowdown: with 4 the rank runs a quarter of the time.", default=2.0, least=1.01),
            seconds_param("period", "Seconds from one stop to the next.", default=0.1),
        ),
        requires=Requires("/proc", unavailable=no_proc),
        acts=Acts(lasts=True),
        check=lambda values: "" if float(str(values["period"])) >= 0.01 else "period: expected 0.01 seconds or more",
    ),
)
