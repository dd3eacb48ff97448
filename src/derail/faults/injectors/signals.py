"""Signals from outside: to a rank or to its whole group, once or many times; and how ranks take them (handlers.py)."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

from derail.faults.catalogue.entry import Acts, Entry, Param, Requires
from derail.faults.catalogue.injector_api import AtExit, Soon
from derail.faults.catalogue.params import (
    count_param,
    flag_param,
    read_signal,
    read_signals,
    seconds_param,
    signal_param,
)
from derail.faults.injectors import handlers
from derail.faults.model.results import Errored, Injected, NotReached
from derail.model.exit import signal_name, signal_number
from derail.platform.capabilities import why_no_proc, why_no_ptrace
from derail.platform.proc_status import read_process_state
from derail.platform.processes import group_members
from derail.platform.tracing import Hold, states

if TYPE_CHECKING:
    from collections.abc import Callable

    from derail.faults.catalogue.injector_api import Aim, Step
    from derail.faults.model.results import Result
    from derail.model.exit import ExitStatus
    from derail.platform.proc_status import ProcessState

STOPPING = (signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU)
HARMLESS = (signal.SIGCHLD, signal.SIGURG, signal.SIGWINCH)
"""Whose default is to do nothing."""


def send(aim: Aim) -> Step:
    """Send the signal, and say how its effect will show. That depends on what the rank does with it."""
    return _send(aim, signal_number(aim.text("signal")))


def stop(aim: Aim) -> Step:
    """Stop the rank until it is healed."""
    return _send(aim, signal.SIGSTOP)


def trace(aim: Aim) -> Step:
    """Hold the rank by ptrace until it is healed."""
    pid = aim.control.pid(aim.rank)
    if pid is None or not aim.control.is_alive(aim.rank):
        return NotReached("the rank had ended before it could be held")
    hold = Hold(pid)
    aim.undo.append((f"rank {aim.rank} held by nobody", hold.release))
    hold.start()
    if hold.error:
        return Errored(hold.error)

    def check() -> Result | None:
        found = states(pid)
        if not found or any(state != "t" for state in found.values()):
            return None
        return Injected(
            f"all {len(found)} threads of pid {pid} in state t in /proc/{pid}/task, held by pid {os.getpid()}"
        )

    return Soon(check, f"state t of all threads in /proc/{pid}/task")


def cont(aim: Aim) -> Step:
    """Continue a rank that is stopped."""
    pid = aim.control.pid(aim.rank)
    before = None if pid is None else read_process_state(pid)
    if before is not None and before.state != "T":
        return NotReached(f"rank {aim.rank} (pid {pid}) was not stopped: state {before.state} in /proc/{pid}/status")
    return _send(aim, signal.SIGCONT)


def _send(aim: Aim, number: int) -> Step:
    earlier = [sent for sent in aim.sent_by_supervisor if sent in (number, signal.SIGKILL)]
    if earlier:
        return NotReached(f"the supervisor had sent {signal_name(earlier[0])} to the rank before")
    pid = aim.control.pid(aim.rank)
    before = None if pid is None else read_process_state(pid)
    if pid is None or (before is not None and before.ended):
        return NotReached("the rank had ended before the signal could be sent")
    group = aim.flag("group")
    whom = f"{signal_name(number)} sent to pid {pid}"
    if group:
        whom = f"{signal_name(number)} sent to group {pid} (pids {', '.join(map(str, group_members(pid))) or '?'})"
    if number in STOPPING:
        aim.undo.append((f"continue rank {aim.rank}", lambda: _continue(aim, group=group)))
    if not aim.control.send_signal(aim.rank, number, group=group):
        return NotReached("the rank had ended before the signal could be sent")
    return _proof(aim, pid, number, before, whom)


def _continue(aim: Aim, *, group: bool) -> None:
    aim.control.send_signal(aim.rank, signal.SIGCONT, group=group)


def _proof(aim: Aim, pid: int, number: int, before: ProcessState | None, whom: str) -> Step:
    """How a signal that was just sent shows, given what the rank did with such signals before."""
    if before is not None and number not in (signal.SIGKILL, signal.SIGSTOP):
        if number in before.ignored:
            return Injected(f"{whom}; the rank ignores it (SigIgn)")
        held = number in before.blocked or before.state == "T"
        if number in before.caught or (held and number != signal.SIGCONT and number not in STOPPING):
            return Soon(_shows(pid, number, whom), f"{signal_name(number)} delivered or held back", at_exit=_any(whom))
    if number in STOPPING:
        return Soon(lambda: _stopped(pid, whom), "state T in /proc")
    if number == signal.SIGCONT:
        return Soon(lambda: _running(pid, whom), "a state other than T in /proc", at_exit=_any(whom))
    if number in HARMLESS:
        return Injected(f"{whom}; the rank has no handler for it, so that it does nothing")
    return AtExit(_died_of(aim, number, whom), f"an exit by {signal_name(number)}")


def _shows(pid: int, number: int, whom: str) -> Callable[[], Result | None]:
    """A signal that is handled or blocked: it waits, visibly, or is not waiting any more because it was delivered."""

    def check() -> Result | None:
        now = read_process_state(pid)
        if now is None or now.ended:
            return None
        if number in now.pending:
            held = "blocked (SigBlk)" if number in now.blocked else "held back in state T" if now.state == "T" else ""
            return Injected(f"{whom}; pending (SigPnd), {held}") if held else None
        return Injected(f"{whom}; delivered" + (" to the rank's handler (SigCgt)" if number in now.caught else ""))

    return check


def _any(whom: str) -> Callable[[ExitStatus], Result]:
    return lambda status: Injected(f"{whom}; the rank ended with {status}")


def _stopped(pid: int, whom: str) -> Result | None:
    now = read_process_state(pid)
    return Injected(f"{whom}; state T in /proc/{pid}/status") if now is not None and now.state == "T" else None


def _running(pid: int, whom: str) -> Result | None:
    now = read_process_state(pid)
    if now is None or now.state == "T":
        return None
    return Injected(f"{whom}; state {now.state} in /proc/{pid}/status")


def _died_of(aim: Aim, number: int, whom: str) -> Callable[[ExitStatus], Result]:
    def check(status: ExitStatus) -> Result:
        if status.signal == number:
            return Injected(f"{whom}; the rank ended with {status}")
        others = [signal_name(sent) for sent in aim.sent_by_supervisor]
        after = f", after the supervisor had sent {', '.join(others)}" if others else ""
        return Errored(f"{whom}, but the rank ended with {status}{after}")

    return check


def storm(aim: Aim) -> Step:
    """Send signal after signal, each at its time, until all are sent or the rank has ended."""
    pid = aim.control.pid(aim.rank)
    if pid is None or not aim.control.is_alive(aim.rank):
        return NotReached("the rank had ended before the storm")
    numbers = [signal_number(name) for name in aim.texts("signals")]
    count, enough, every = int(aim.number("count")), int(aim.number("enough")), aim.number("every")
    sent: list[int] = []

    def blow() -> None:
        while len(sent) < count and aim.control.send_signal(aim.rank, numbers[len(sent) % len(numbers)]):
            sent.append(numbers[len(sent) % len(numbers)])
            if every > 0 and len(sent) < count:
                aim.control.call_later(every, blow)
                return

    def told() -> str:
        return f"{len(sent)} of {count} signals sent to pid {pid} ({', '.join(aim.texts('signals'))} in turn)"

    def check() -> Result | None:
        now = read_process_state(pid)
        if len(sent) < count or now is None or now.ended:
            return None
        ways = (("caught", "SigCgt"), ("ignored", "SigIgn"), ("blocked", "SigBlk"))
        taken = [f"{name} in {field}" for name, number in zip(aim.texts("signals"), numbers, strict=True)
                 for how, field in ways if number in getattr(now, how)]  # fmt: skip
        return Injected(f"{told()}; the rank lives: {', '.join(taken)}") if taken else None

    def at_exit(status: ExitStatus) -> Result:
        ended = f"{told()}; the rank ended with {status}"
        return Injected(ended) if len(sent) >= (min(enough, count) or count) else NotReached(ended)

    blow()
    return Soon(check, "the last signal of the storm", within=count * every + 10.0, at_exit=at_exit)


def send_again(aim: Aim) -> Step:
    """Wait until the supervisor has sent the rank a signal, and send it another one while it deals with the first."""
    number, pid = signal_number(aim.text("signal")), aim.control.pid(aim.rank)
    proof: list[Step] = []

    def check() -> Result | None:
        if not proof and pid is not None and aim.sent_by_supervisor and not waits:
            waits.append(True)
            aim.control.call_later(aim.number("delay"), act)
        step = proof[0] if proof else None
        return step.check() if isinstance(step, Soon) else step if isinstance(step, Injected | NotReached) else None

    waits: list[bool] = []

    def act() -> None:
        first = ", ".join(signal_name(sent) for sent in aim.sent_by_supervisor)
        before = None if pid is None else read_process_state(pid)
        if pid is None or before is None or before.ended:
            return
        if number in aim.sent_by_supervisor and not {number} & (before.caught | before.ignored | before.blocked):
            return  # it dies of the first one
        if before.state not in "Tt" and before.pending & (set(aim.sent_by_supervisor) - before.blocked):
            aim.control.call_later(0.01, act)  # the kernel would make one of the two, or swap them
            return
        if aim.control.send_signal(aim.rank, number):
            proof.append(_proof(aim, pid, number, before, f"{signal_name(number)} sent to pid {pid} after {first}"))

    def at_exit(status: ExitStatus) -> Result:
        step = proof[0] if proof else None
        if isinstance(step, AtExit):
            return step.check(status)
        if isinstance(step, Soon) and step.at_exit is not None:
            return step.at_exit(status)
        sent = ", ".join(signal_name(each) for each in aim.sent_by_supervisor) or "no signal"
        return NotReached(f"the supervisor sent {sent}, and the rank ended with {status} before a second one was sent")

    return Soon(check, "a signal of the supervisor", within=float("inf"), at_exit=at_exit)


def _read_some(value: object) -> tuple[str, ...]:
    names = read_signals(value)
    if not names:
        raise ValueError("expected a list of signals like ['SIGTERM'], got none")
    return names


GROUP = flag_param("group", "Whether the rank's whole process group gets it.")
ENTRIES = (
    Entry(
        name="signal",
        side="outside",
        summary="Sends any signal to a rank, or to all processes of its group.",
        inject=send,
        verified=(
            "a deadly signal in the status of the rank's exit; a stop as state T in /proc; a handled, blocked or "
            "ignored one in SigCgt, SigPnd or SigIgn of /proc/PID/status"
        ),
        healed="a stopped rank is continued",
        example='faults.signal("SIGKILL", rank=2, when=when.line("step 3"))',
        params=(
            signal_param("signal", "Which signal, by name or number; real-time ones as SIGRTMIN+n."),
            GROUP,
            seconds_param("every", "Seconds between two signals, if there are several.", default=0.1),
        ),
        requires=Requires("nothing; /proc for signals that do not end the rank"),
        acts=Acts(repeats=True, lasts=True),
    ),
    Entry(
        name="stop",
        side="outside",
        summary="Stops a rank (SIGSTOP), for a while or for good: it does nothing, and hears SIGTERM only afterwards.",
        inject=stop,
        verified="state T in /proc/PID/status",
        healed="the rank is continued",
        example='faults.stop(rank=1, when=when.line("step 2"), for_=5)',
        params=(GROUP,),
        requires=Requires("/proc", unavailable=why_no_proc),
        acts=Acts(lasts=True),
    ),
    Entry(
        name="trace_stop",
        side="outside",
        summary="Holds a rank as a debugger does (ptrace): it stands, and hears no signal but SIGKILL.",
        inject=trace,
        verified="state t of all threads in /proc/PID/task",
        healed="it is let go; if derail is killed, by the kernel",
        example='faults.trace_stop(rank=1, for_=0.5, when=when.line("step 2"))',
        requires=Requires("/proc, ptrace", unavailable=lambda: why_no_proc() or why_no_ptrace()),
        acts=Acts(lasts=True),
    ),
    Entry(
        name="cont",
        side="outside",
        summary="Continues a stopped rank (SIGCONT), whoever stopped it.",
        inject=cont,
        verified="state T in /proc/PID/status before, another one after",
        healed="",
        example="faults.cont(rank=1, when=when.after(2))",
        params=(GROUP,),
        requires=Requires("/proc", unavailable=why_no_proc),
    ),
    Entry(
        name="signal_storm",
        side="outside",
        summary="Sends a rank many signals in a short time, one kind or several in turn.",
        inject=storm,
        verified="all were sent while the rank lived, and it catches, ignores or blocks them in /proc/PID/status, "
        "or it ended after the last, or when `enough` were sent",
        healed="",
        example='faults.signal_storm(["SIGTERM", "SIGINT"], count=50, rank=0, when=when.line("step 2"))',
        params=(
            Param("signals", _read_some, "Which signals, in turn.", "signals", default=("SIGTERM",)),
            count_param("count", "How many in all.", default=20, least=2, most=100_000),
            count_param("enough", "How many will do, if the rank has ended by then; 0 for all.", default=0),
            seconds_param("every", "Seconds between two of them; 0 for all at once.", default=0.01),
        ),
        requires=Requires("/proc, for a rank that lives on"),
    ),
    Entry(
        name="second_signal",
        side="outside",
        summary="Sends a rank another signal while it deals with the first one that the supervisor sent to end it.",
        inject=send_again,
        verified="as for `signal`; a rank that dies of the first one is not reached",
        healed="",
        example='faults.second_signal("SIGTERM", rank="all")',
        params=(
            Param("signal", read_signal, "Which signal.", "signal", default="SIGTERM"),
            seconds_param("delay", "Seconds after the first one.", default=0.05),
        ),
        requires=Requires("a job that is ended; /proc", unavailable=why_no_proc),
    ),
    *handlers.ENTRIES,
)
