"""Signals from outside, to a rank or its whole group; and signal handling of a rank: blocked, ignored or handled.

Faults in signal handling act inside the rank, the others outside.
"""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

from derail.faults.catalogue.entry import Acts, Entry, Param, Requires
from derail.faults.catalogue.injector_api import FOREVER, AtExit, Soon
from derail.faults.catalogue.params import (
    choice_param,
    count_param,
    flag_param,
    read_exception,
    read_signal,
    read_signals,
    seconds_param,
    signal_param,
    text_param,
)
from derail.faults.injectors.crashes import IN_RANK
from derail.faults.model.results import Errored, Injected, NotReached
from derail.model.exit import signal_name, signal_number
from derail.platform.capabilities import PROC, why_no_proc, why_no_ptrace
from derail.platform.proc_status import read_process_state
from derail.platform.processes import group_members
from derail.platform.tracing import Hold, states

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from derail.faults.catalogue.injector_api import Aim, Step
    from derail.faults.model.plan import Value
    from derail.faults.model.results import Result
    from derail.model.exit import ExitStatus
    from derail.platform.proc_status import ProcessState

    Verdict = Callable[[Aim, int, ExitStatus | None, str], Result]


STOPPING = (signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU)
HARMLESS = (signal.SIGCHLD, signal.SIGURG, signal.SIGWINCH)
"""Signals with the default action to do nothing."""


def send(aim: Aim) -> Step:
    """Send the signal, and return how to verify it, which depends on the rank's handling of it."""
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
    aim.undo.append((f"rank {aim.rank} without a tracer", hold.release))
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
    """Return how to verify a signal that was just sent, given the rank's earlier handling of it."""
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
        return Injected(f"{whom}; the rank has no handler for it, so it has no effect")
    return AtExit(_died_of(aim, number, whom), f"an exit by {signal_name(number)}")


def _shows(pid: int, number: int, whom: str) -> Callable[[], Result | None]:
    """Return the check of a handled or blocked signal: it is visibly pending, or delivered and no longer pending."""

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
    """Send one signal after another, each at its time, until all are sent or the rank has ended."""
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

    def progress() -> str:
        return f"{len(sent)} of {count} signals sent to pid {pid} ({', '.join(aim.texts('signals'))} in turn)"

    def check() -> Result | None:
        now = read_process_state(pid)
        if len(sent) < count or now is None or now.ended:
            return None
        ways = (("caught", "SigCgt"), ("ignored", "SigIgn"), ("blocked", "SigBlk"))
        taken = [f"{name} in {field}" for name, number in zip(aim.texts("signals"), numbers, strict=True)
                 for how, field in ways if number in getattr(now, how)]  # fmt: skip
        return Injected(f"{progress()}; the rank lives: {', '.join(taken)}") if taken else None

    def at_exit(status: ExitStatus) -> Result:
        ended = f"{progress()}; the rank ended with {status}"
        return Injected(ended) if len(sent) >= (min(enough, count) or count) else NotReached(ended)

    blow()
    return Soon(check, "the last signal of the storm", within=count * every + 10.0, at_exit=at_exit)


def send_again(aim: Aim) -> Step:
    """Wait for the supervisor's first signal to the rank, and send another one while the rank handles it."""
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
            return  # the first one ends it
        if before.state not in "Tt" and before.pending & (set(aim.sent_by_supervisor) - before.blocked):
            aim.control.call_later(0.01, act)  # the kernel would merge the two, or deliver them in the other order
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


GROUP = flag_param("group", "Whether to signal the rank's whole process group.")

UNTOUCHABLE = ("SIGKILL", "SIGSTOP")


def blocks(aim: Aim) -> Step:
    """Verify that all threads of the rank block the signals."""
    pid, wanted = _acting(aim), _wanted(aim)

    def check() -> Result | None:
        now = read_process_state(pid)
        if now is None or not wanted <= now.blocked:
            return None
        threads = {int(name): read_process_state(int(name)) for name in os.listdir(PROC / str(pid) / "task")}
        awake = [
            tid for tid, seen in threads.items() if seen is not None and not seen.ended and not wanted <= seen.blocked
        ]
        if awake:
            return Errored(f"the main thread blocks them (SigBlk), but the older threads {awake} of pid {pid} do not")
        return Injected(f"{_names(aim)} in SigBlk of all {len(threads)} threads of pid {pid}; set in {aim.where}")

    return Soon(check, f"{_names(aim)} in SigBlk of /proc/{pid}/status", at_exit=_too_soon(aim))


def ignores(aim: Aim) -> Step:
    """Verify that the rank ignores the signals."""
    pid, wanted = _acting(aim), _wanted(aim)

    def check() -> Result | None:
        now = read_process_state(pid)
        if now is None or not wanted <= now.ignored:
            return None
        return Injected(f"{_names(aim)} in SigIgn of /proc/{pid}/status; set in {aim.where}")

    return Soon(check, f"{_names(aim)} in SigIgn of /proc/{pid}/status", at_exit=_too_soon(aim))


def _too_soon(aim: Aim) -> Callable[[ExitStatus], Result]:
    return lambda status: Errored(f"injected in {aim.where}, but the rank ended with {status} before it was verified")


def _handled(verdict: Verdict) -> Callable[[Aim], Step]:
    """Return an injector that waits until the rank's new handler has run, and then judges the rank's exit."""

    def inject(aim: Aim) -> Step:
        pid, name = _acting(aim), aim.text("signal")
        number = signal_number(name)
        seen: list[str] = []

        def check() -> Result | None:
            now = read_process_state(pid)
            if now is not None and number in now.caught and not seen:
                seen.append(f" (SigCgt in /proc/{pid}/status)")
            return None

        def judge(status: ExitStatus | None) -> Result:
            handled = f"{name} handled by the handler{''.join(seen)} that was set in {aim.where}"
            if any(record["event"] == "handling" for record in aim.records):
                return verdict(aim, number, status, handled)
            sent = number in aim.sent_by_supervisor
            why = "was sent, but never handled by this handler" if sent else "never arrived"
            return NotReached(f"{name} {why}; {_end(status)}")

        return Soon(check, f"{name}, handled in the rank", within=FOREVER, at_exit=judge, at_end=lambda: judge(None))

    return inject


def _end(status: ExitStatus | None) -> str:
    return "the rank never ended" if status is None else f"the rank ended with {status}"


def _slept(aim: Aim, _: int, status: ExitStatus | None, handled: str) -> Result:
    done = any(record["event"] == "handled" for record in aim.records)
    how = f"it slept {aim.number('seconds'):g} s" if done else f"expected a sleep of {aim.number('seconds'):g} s"
    if done or status is None or status.signal in aim.sent_by_supervisor:
        return Injected(f"{handled}: {how}; {_end(status)}")
    return Errored(f"{handled}: {how}, but {_end(status)} before")


def _raised(aim: Aim, _: int, status: ExitStatus | None, handled: str) -> Result:
    if any(record["event"] == "lost" for record in aim.records):
        return Errored(f"{handled}: it raised where Python ignores exceptions; {_end(status)}")
    return Injected(f"{handled}: it raised {aim.text('type')}; {_end(status)}")


def _left(aim: Aim, _: int, status: ExitStatus | None, handled: str) -> Result:
    if status is not None and status.code == 0:
        return Injected(f"{handled}; {_end(status)}")
    if status is not None and status.signal in aim.sent_by_supervisor:
        return NotReached(f"{handled}, but the supervisor's signal came first: {_end(status)}")
    return Errored(f"{handled}, but {_end(status)}, expected exit 0")


def _died(aim: Aim, number: int, status: ExitStatus | None, handled: str) -> Result:
    if status is not None and status.signal == number:
        return Injected(f"{handled}, and sent again; {_end(status)}")
    if status is not None and status.signal in aim.sent_by_supervisor:
        return NotReached(f"{handled}, but the supervisor's signal came first: {_end(status)}")
    return Errored(f"{handled} and sent again, but {_end(status)}")


def _forked(aim: Aim, _: int, status: ExitStatus | None, handled: str) -> Result:
    pid = next((int(str(record["pid"])) for record in aim.records if record["event"] == "helper"), None)
    if pid is None:
        return Errored(f"{handled}, but without a record of its child; {_end(status)}")
    now = read_process_state(pid)
    if now is None or now.ended:
        return NotReached(f"{handled}: it forked pid {pid}, which had ended before the check; {_end(status)}")
    return Injected(f"{handled}: it forked pid {pid}, which lives (state {now.state}); {_end(status)}")


def _acting(aim: Aim) -> int:
    """Return the pid of the process that acts for the rank, by its own record."""
    return next((int(str(record["by"])) for record in aim.records if record["event"] == "start"), 0)


def _wanted(aim: Aim) -> set[int]:
    return {signal_number(name) for name in aim.texts("signals")}


def _names(aim: Aim) -> str:
    return ", ".join(aim.texts("signals"))


def _check(values: Mapping[str, Value]) -> str:
    given = values["signals"] if "signals" in values else (values["signal"],)
    if not isinstance(given, tuple) or not given:
        return "expected at least one signal"
    never = [str(name) for name in given if name in UNTOUCHABLE]
    return f"no process can block, ignore or handle {' or '.join(never)}" if never else ""


def _entry(
    name: str, summary: str, inject: Callable[[Aim], Step], verified: str, example: str, *params: Param
) -> Entry:
    """Return the declaration of a fault in the rank's signal handling."""
    return Entry(
        name=name,
        side="in rank",
        summary=summary,
        inject=inject,
        verified=verified,
        healed="",
        example=example,
        params=params,
        requires=Requires(f"{IN_RANK}; /proc", unavailable=why_no_proc),
        check=_check,
    )


SIGNALS = Param("signals", read_signals, "Names of the signals.", "signals", default=("SIGTERM",))
SIGNAL = Param("signal", read_signal, "Signal of the handler.", "signal", default="SIGTERM")
HANDLING = "the rank's record that the handler ran, SigCgt in /proc/PID/status"

ENTRIES = (
    Entry(
        name="signal",
        side="outside",
        summary="Sends a signal to a rank, or to all processes of its group.",
        inject=send,
        verified=(
            "a deadly signal in the rank's exit status; a stop as state T in /proc; a handled, blocked or ignored one "
            "in SigCgt, SigPnd or SigIgn of /proc/PID/status"
        ),
        healed="a stopped rank is continued",
        example='faults.signal("SIGKILL", rank=2, when=when.line("step 3"))',
        params=(
            signal_param("signal", "Signal by name or number; real-time signals as SIGRTMIN+n."),
            GROUP,
            seconds_param("every", "Seconds between two signals, if `times` is more than one.", default=0.1),
        ),
        requires=Requires("nothing; /proc for signals that do not end the rank"),
        acts=Acts(repeats=True, lasts=True),
    ),
    Entry(
        name="stop",
        side="outside",
        summary="Stops a rank (SIGSTOP), for a limited time or for good; SIGTERM takes effect only after it continues.",
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
        summary="Holds a rank as a debugger does (ptrace): it stops, and only SIGKILL takes effect.",
        inject=trace,
        verified="state t of all threads in /proc/PID/task",
        healed="it is released; if derail is killed, the kernel releases it",
        example='faults.trace_stop(rank=1, for_=0.5, when=when.line("step 2"))',
        requires=Requires("/proc, ptrace", unavailable=lambda: why_no_proc() or why_no_ptrace()),
        acts=Acts(lasts=True),
    ),
    Entry(
        name="cont",
        side="outside",
        summary="Continues a stopped rank (SIGCONT), regardless of what stopped it.",
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
        summary="Sends a rank many signals in a short time, of one kind or of several in turn.",
        inject=storm,
        verified="all were sent while the rank lived, and it catches, ignores or blocks them in /proc/PID/status; "
        "or the rank ended after the last one, or after `enough`",
        healed="",
        example='faults.signal_storm(["SIGTERM", "SIGINT"], count=50, rank=0, when=when.line("step 2"))',
        params=(
            Param("signals", _read_some, "Names of the signals, sent in turn.", "signals", default=("SIGTERM",)),
            count_param("count", "Total number of signals.", default=20, least=2, most=100_000),
            count_param("enough", "Number that suffices if the rank ends early; 0 for all.", default=0),
            seconds_param("every", "Seconds between two signals; 0 for all at once.", default=0.01),
        ),
        requires=Requires("/proc, for a rank that lives on"),
    ),
    Entry(
        name="second_signal",
        side="outside",
        summary="Sends a rank a second signal while it handles the first one that the supervisor sent to end it.",
        inject=send_again,
        verified="as for `signal`; not reached if the first signal ends the rank",
        healed="",
        example='faults.second_signal("SIGTERM", rank="all")',
        params=(
            Param("signal", read_signal, "Second signal.", "signal", default="SIGTERM"),
            seconds_param("delay", "Seconds after the first signal.", default=0.05),
        ),
        requires=Requires("a job that is torn down; /proc", unavailable=why_no_proc),
    ),
    _entry(
        "block_signal",
        "The rank blocks signals: they stay pending without effect.",
        blocks,
        "SigBlk of all threads in /proc/PID/task",
        'faults.block_signal(["SIGTERM"], rank=1)',
        SIGNALS,
    ),
    _entry(
        "ignore_signal",
        "The rank ignores signals.",
        ignores,
        "SigIgn in /proc/PID/status",
        'faults.ignore_signal(["SIGTERM", "SIGINT"], rank=1, when=when.line("step 1"))',
        SIGNALS,
    ),
    _entry(
        "slow_handler",
        "The rank handles a signal slowly: its handler sleeps before the previous action runs.",
        _handled(_slept),
        f"{HANDLING}, and that the sleep was complete or the rank was killed during it",
        "faults.slow_handler(5, rank=1)",
        seconds_param("seconds", "Seconds that the handler sleeps.", default=5.0),
        SIGNAL,
    ),
    _entry(
        "raising_handler",
        "The rank's signal handler raises an exception, at the present position of the main thread.",
        _handled(_raised),
        f"{HANDLING}, and that Python did not ignore the exception there",
        'faults.raising_handler("KeyError", rank=1)',
        Param(
            "type", read_exception, "A builtin exception, or package.module:Class.", "exception", default="RuntimeError"
        ),
        text_param("message", "Argument of the exception.", default="injected by derail"),
        SIGNAL,
    ),
    _entry(
        "exit_zero_handler",
        "The rank exits with code 0 when it receives a signal, as if it had finished.",
        _handled(_left),
        f"{HANDLING}, and the rank's exit code 0",
        "faults.exit_zero_handler(rank=1)",
        SIGNAL,
        choice_param("how", ("exit", "_exit"), "sys.exit, which can be caught, or os._exit.", default="exit"),
    ),
    _entry(
        "reraising_handler",
        "The rank's handler cleans up, restores the default action, and sends the signal to itself again.",
        _handled(_died),
        f"{HANDLING}, and the signal in the rank's exit status",
        "faults.reraising_handler(rank=1)",
        SIGNAL,
    ),
    _entry(
        "forking_handler",
        "The rank's handler forks before the previous action runs: the child outlives the rank.",
        _handled(_forked),
        f"{HANDLING}, and the child alive at the rank's exit",
        "faults.forking_handler(rank=1)",
        SIGNAL,
        seconds_param("lives", "Seconds until the child exits; it ignores the signal.", default=60.0),
    ),
)
