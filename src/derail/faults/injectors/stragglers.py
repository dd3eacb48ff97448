"""Ranks that get on, but slowly: little processor time, or stopped again and again. From outside, on any program.

If derail itself is killed, a rank that is stopped just then is still part of its job: the keeper of the job ends it.
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
    """Bind all threads of a rank to one processor, at the lowest priority; read both back."""
    pid, priority = living(aim), aim.text("priority")
    if pid is None:
        return NotReached("the rank had ended before it could be starved")
    allowed = sorted(os.sched_getaffinity(pid))
    cpu = int(aim.number("cpu")) if aim.number("cpu") >= 0 else allowed[0]
    if cpu not in os.sched_getaffinity(0) | set(allowed):
        return Errored(f"there is no processor {cpu} that rank {aim.rank} could run on; there are {allowed}")
    before = {tid: _schedule(tid) for tid in _threads(pid)}
    if aim.fault.for_ is not None and priority != "keep" and not _may_raise(pid):
        return Unavailable(
            "a lowered priority cannot be raised again without CAP_SYS_NICE or RLIMIT_NICE; "
            'leave out for, or say priority="keep"'
        )
    wanted = ({cpu}, *_LEVELS[priority])
    if all(_differs(schedule, wanted) == "" for schedule in before.values()):
        return Errored(f"rank {aim.rank} was bound to processor {cpu} at this priority already: nothing would change")
    aim.undo.append((f"processors and priority of rank {aim.rank}", lambda: _restore(aim, before, set(allowed))))
    seen: dict[int, _Schedule] = {}
    for _ in range(MOST_PASSES):  # a thread may start another one meanwhile, which inherits what its maker had
        for tid in _threads(pid):
            _apply(tid, wanted)
        seen = {tid: _schedule(tid) for tid in _threads(pid)}
        if seen and not any(_differs(schedule, wanted) for schedule in seen.values()):
            break
    wrong = "; ".join(f"thread {tid} has {what}" for tid, now in seen.items() if (what := _differs(now, wanted)))
    if wrong or not seen:
        return Errored(f"not all threads of pid {pid} could be starved: {wrong or 'none is left'}")
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
"""Nice value and scheduling policy; None leaves it as it is."""


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
    """What of a thread is not as wanted; empty if nothing, or the thread has ended."""
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
    """The fields of /proc/PID/stat from the third on, so that field n of proc(5) is at n - 3."""
    return (PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()


def throttle(aim: Aim) -> Step:
    """Stop and continue the rank in turns, so that it gets a fraction of its time."""
    pid = living(aim)
    if pid is None:
        return NotReached("the rank had ended before it could be throttled")
    turns = _Turns(aim, pid)
    aim.undo.append((f"continue rank {aim.rank}", turns.end))
    turns.stop()
    awaited = f"state T of pid {pid} in /proc, and another one after it"
    return Soon(turns.shown, awaited, within=10.0, at_exit=turns.at_exit)


class _Turns:
    """The duty cycle of one rank, in the thread of its job."""

    def __init__(self, aim: Aim, pid: int) -> None:
        factor, period = aim.number("factor"), aim.number("period")
        self._aim = aim
        self._pid = pid
        self._runs, self._stands = period / factor, period - period / factor
        self._stopped = 0
        self._running = 0
        self._over = False

    def stop(self) -> None:
        """The rank has run long enough."""
        if self._over:
            return
        if self._stopped and not self._look("T"):
            self._running += 1
        if self._aim.sent_by_supervisor:  # it is being ended, and must be able to hear that
            self._over = True
        elif self._aim.control.send_signal(self._aim.rank, signal.SIGSTOP):
            self._aim.control.call_later(self._stands, self.go_on)

    def go_on(self) -> None:
        """The rank has stood long enough."""
        if self._over:
            return
        if self._look("T"):
            self._stopped += 1
        if self._aim.control.send_signal(self._aim.rank, signal.SIGCONT):
            self._aim.control.call_later(self._runs, self.stop)

    def end(self) -> None:
        """No more turns."""
        self._over = True
        self._aim.control.send_signal(self._aim.rank, signal.SIGCONT)

    def shown(self) -> Result | None:
        """Whether both states were seen."""
        if not (self._stopped and self._running):
            return None
        share = f"runs {self._runs:.3g} s and stands {self._stands:.3g} s in turns"
        return Injected(f"pid {self._pid} {share}: state T in /proc/{self._pid}/status, and then another one")

    def at_exit(self, status: ExitStatus) -> Result:
        """It ended before both were seen."""
        return NotReached(f"the rank ended with {status} before it had been stopped and continued")

    def _look(self, state: str) -> bool:
        now = read_process_state(self._pid)
        return now is not None and now.state == state


ENTRIES = (
    Entry(
        name="starve",
        side="outside",
        summary="Binds all threads of a rank to one processor and takes their priority away.",
        inject=starve,
        verified="sched_getaffinity of every thread, nice value and policy in /proc/PID/stat",
        healed="as it was before; raising a priority again needs CAP_SYS_NICE or RLIMIT_NICE",
        example='faults.starve(rank=1, when=when.line("step 2"))',
        params=(
            count_param("cpu", "Which processor; -1 for the first that the rank may use.", default=-1, least=-1),
            choice_param(
                "priority",
                _LEVELS,
                "idle: runs when nobody else wants to (SCHED_IDLE, nice 19); nice: nice 19; keep: as it is.",
                default="idle",
            ),
        ),
        requires=Requires("Linux with /proc", unavailable=lambda: no_proc() or why_no_idle_priority()),
        acts=Acts(lasts=True),
    ),
    Entry(
        name="throttle",
        side="outside",
        summary="Makes a straggler of a rank: stopped and continued in turns, it runs slower by a factor.",
        inject=throttle,
        verified="state T and then another one in /proc/PID/status",
        healed="no more turns, SIGCONT; if derail is killed, the keeper of the job ends the rank, stopped or not",
        example="faults.throttle(4, rank=2, for_=10)",
        params=(
            factor_param("factor", "How much slower: 4 runs a quarter of the time.", default=2.0, least=1.01),
            seconds_param("period", "Seconds from one stop to the next.", default=0.1),
        ),
        requires=Requires("/proc", unavailable=no_proc),
        acts=Acts(lasts=True),
        check=lambda values: "" if float(str(values["period"])) >= 0.01 else "a period has 0.01 seconds or more",
    ),
)
