"""Ranks that hang."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

from derail.faults.catalogue.entry import Acts, Entry, Param, Requires
from derail.faults.catalogue.injector_api import FOREVER, Soon
from derail.faults.catalogue.params import read_signals
from derail.faults.injectors.crashes import CTYPES, IN_RANK
from derail.faults.model.results import Errored, Injected, NotReached, Unavailable
from derail.model.clock import SYSTEM_CLOCK
from derail.model.exit import signal_number
from derail.platform.capabilities import PROC
from derail.platform.proc_status import read_process_state, read_status
from derail.platform.processes import every_process

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from derail.faults.catalogue.injector_api import Aim, Step
    from derail.faults.model.plan import Value
    from derail.faults.model.results import Result
    from derail.model.exit import ExitStatus

NEVER_IGNORED = ("SIGKILL", "SIGSTOP")
SILENCE = 0.3
"""Seconds without a tick before other threads count as silent; they tick every 5 ms."""
TURNS = 3
"""Context switches that the ticking thread needs before its silence counts: otherwise it may just not have run."""
WORK = 0.1
"""Seconds of processor time that a spinning rank must use."""
LONGEST = 20.0
"""Maximum seconds to observe a hang, even on a busy machine."""


def hangs(aim: Aim) -> Step:
    """Verify that the rank sleeps and ignores the requested signals."""
    pid = _who(aim)
    wanted = {signal_number(name) for name in aim.texts("ignore")}

    def look() -> str:
        now = read_process_state(pid)
        if now is None or now.state not in ("S", "D") or not wanted <= now.ignored:
            return ""
        deaf = f", {', '.join(aim.texts('ignore'))} ignored (SigIgn)" if wanted else ""
        return f"state {now.state} in /proc/{pid}/status{deaf}"

    return _seen(aim, look, "a sleeping process that ignores the signals", within=5.0)


def waits_for(symbol: str, aim: Aim) -> Step:
    """Verify that the rank waits, at this place in the kernel if the kernel shows it."""
    pid = _who(aim)
    return _seen(aim, lambda: _waiting(pid, "S", symbol), f"a process that waits in {symbol}")


def spins(aim: Aim) -> Step:
    """Verify that the rank uses processor time."""
    pid, began = _who(aim), SYSTEM_CLOCK.now()
    before = _processor_time(pid)

    def look() -> str:
        now, used = read_process_state(pid), _processor_time(pid)
        if now is None or now.state != "R" or used is None or before is None or used - before < WORK:
            return ""
        passed = SYSTEM_CLOCK.now() - began
        return f"state R, {used - before:.2f} s of processor time in {passed:.2f} s (/proc/{pid}/stat)"

    return _seen(aim, look, "a process that uses processor time")


def holds_gil(aim: Aim) -> Step:
    """Verify that the rank keeps the GIL: its thread that keeps moving a descriptor has stopped."""
    pid = _who(aim)
    witness = next((record for record in aim.records if record["event"] == "witness"), {})
    fd, thread = witness.get("fd", -1), witness.get("thread")
    last: list[tuple[int | None, float, int | None]] = []

    def look() -> str:
        ran, at, since = _turns(pid, thread), _position(pid, fd), _turns(pid, thread)
        now = SYSTEM_CLOCK.now()
        silent = next((float(str(record["silent"])) for record in aim.records if record["event"] == "healed"), 0.0)
        if aim.fault.for_ is not None and silent >= 0.9 * aim.fault.for_ > 0:
            return f"its other threads did not run for {silent:.3f} s"
        if at is None or not last or last[0][0] != at or not _waiting(pid, "S", "futex"):
            last[:] = [(at, now, since)]
        _, quiet_since, ran_then = last[0]
        tried = ran is None or ran_then is None or ran - ran_then >= TURNS
        if at is None or now - quiet_since < SILENCE or not tried:
            return ""
        passed = now - quiet_since
        return (
            f"{_waiting(pid, 'S', 'futex')}; its other threads did not run for {passed:.2f} s (/proc/{pid}/fdinfo/{fd})"
        )

    return _seen(aim, look, "silence of all other threads")


def hangs_later(moment: str, aim: Aim) -> Step:
    """Verify that the rank has reached the moment of its hang, and then sleeps."""
    pid = _who(aim)

    def look() -> str:
        now = read_process_state(pid) if _said(aim, "hangs") else None
        return f"state {now.state} in /proc/{pid}/status" if now is not None and now.state in ("S", "D") else ""

    return _seen(aim, look, moment, within=FOREVER, moment=moment)


def sleeps_uninterruptibly(aim: Aim) -> Step:
    """Verify that the rank is in state D waiting for its child, which must not outlive the job."""
    pid = _who(aim)

    def look() -> str:
        waiting = _waiting(pid, "D", "")
        child = next((process for process in every_process() if process.ppid == pid), None) if waiting else None
        try:
            pidfd = -1 if child is None else os.pidfd_open(child.pid)
        except ProcessLookupError:
            pidfd = -1  # it has just ended
        if child is None or pidfd < 0:
            return ""
        aim.undo.append((f"end the child (pid {child.pid}) that rank {aim.rank} waits for", lambda: _end(pidfd)))
        return f"{waiting}; its child (pid {child.pid}) waits to open a FIFO"

    return _seen(aim, look, "state D")


def _seen(aim: Aim, look: Callable[[], str], awaited: str, *, within: float = LONGEST, moment: str = "") -> Step:
    """Return the step that repeats a check of the process until it succeeds.

    Args:
        aim: the fault.
        look: returns the evidence; empty if there is none yet.
        awaited: the name of the evidence.
        within: the deadline in seconds.
        moment: the event that must come first; if it never does, the fault is not reached.
    """
    if read_process_state(_who(aim)) is None and aim.control.is_alive(aim.rank):
        return Unavailable("a hang cannot be verified without /proc")
    where = f"at {moment}" if moment else f"in {aim.where}"

    def check() -> Result | None:
        seen = look()
        return Injected(f"hangs {where}: {seen}") if seen else None

    def at_exit(status: ExitStatus) -> Result:
        if moment and not _said(aim, "hangs"):
            return NotReached(f"{moment} never came; the rank ended with {status}")
        return Errored(f"reported a hang {where}, but ended with {status} before it was verified")

    return Soon(check, awaited, within=within, at_exit=at_exit)


def _waiting(pid: int, state: str, symbol: str) -> str:
    """Return evidence that the main thread is in a state at a place in the kernel; empty if it is not."""
    now = read_process_state(pid)
    place = _read(pid, "wchan")
    is_shown = place not in ("", "0")  # some kernels do not show it, some only to some users
    if now is None or now.state != state or (is_shown and symbol not in place):
        return ""
    return f"state {state} in /proc/{pid}/status" + (f", in {place} (wchan)" if is_shown else "")


def _processor_time(pid: int) -> float | None:
    """Return the seconds of processor time that a process has used so far."""
    fields = _read(pid, "stat").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK") if len(fields) > 12 else None


def _turns(pid: int, thread: object) -> int | None:
    """Return a thread's voluntary context switches, which rise while it waits for the GIL; None if unknown."""
    switches = read_status(pid, thread=str(thread)).get("voluntary_ctxt_switches")
    return int(switches) if switches else None


def _position(pid: int, fd: object) -> int | None:
    """Return the position of another process's descriptor."""
    words = _read(pid, f"fdinfo/{fd}").split()
    return int(words[1]) if words[:1] == ["pos:"] else None


def _read(pid: int, name: str) -> str:
    try:
        return (PROC / str(pid) / name).read_text(errors="replace").strip()
    except OSError:
        return ""


def _end(pidfd: int) -> None:
    """Kill the process of the descriptor, if it is still alive."""
    try:
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    except ProcessLookupError:
        pass
    finally:
        os.close(pidfd)


def _said(aim: Aim, event: str) -> bool:
    return any(record["event"] == event for record in aim.records)


def _who(aim: Aim) -> int:
    """Return the pid of the acting process."""
    return next((int(str(record["by"])) for record in aim.records if record["event"] == "start"), 0)


def _check(values: Mapping[str, Value]) -> str:
    ignore = values.get("ignore")
    never = [name for name in NEVER_IGNORED if isinstance(ignore, tuple) and name in ignore]
    return f"no process can ignore {' or '.join(never)}" if never else ""


def _hang(
    name: str,
    summary: str,
    inject: Callable[[Aim], Step],
    verified: str,
    *params: Param,
    needs: str = IN_RANK,
    healed: str = "after `for_` seconds the main thread continues",
    example: str = "",
) -> Entry:
    """Return the declaration of a kind of hang."""
    return Entry(
        name=name,
        side="in rank",
        summary=summary,
        inject=inject,
        verified=verified,
        healed=healed,
        example=example or f'faults.{name}(rank=1, when=when.line("step 2"))',
        params=params,
        requires=Requires(f"{needs}; /proc"),
        acts=Acts(lasts=True),
        check=_check,
    )


ENTRIES = (
    _hang(
        "hang",
        "The rank's main thread sleeps for ever, or for a limited time, and ignores the given signals.",
        hangs,
        "state S or D in /proc/PID/status, and the ignored signals in its SigIgn",
        Param("ignore", read_signals, "Signals that the rank ignores during the hang.", "signals", default=()),
        healed="after `for_` seconds the main thread continues, and the signals have their handlers again",
        example='faults.hang(rank=3, ignore=["SIGTERM"], when=when.line("step 2"))',
    ),
    _hang(
        "deadlock",
        "The rank's main thread waits for a lock that it already holds.",
        lambda aim: waits_for("futex", aim),
        "state S in /proc/PID/status, and a futex in /proc/PID/wchan if the kernel shows it",
    ),
    _hang(
        "gil_held",
        "The rank's main thread waits in C code and keeps the GIL, so that no other thread and no handler runs.",
        holds_gil,
        "state S, and a thread of the rank that no longer moves a descriptor (/proc/PID/fdinfo)",
        needs=f"{CTYPES}; a Python with a GIL",
        example='faults.gil_held(rank=1, for_=5, when=when.line("step 2"))',
    ),
    _hang(
        "busy_loop",
        "The rank's main thread spins in an empty loop.",
        spins,
        "state R in /proc/PID/status, and growing processor time in /proc/PID/stat",
    ),
    _hang(
        "blocked_pipe",
        "The rank's main thread blocks in a write to a full pipe that is never read.",
        lambda aim: waits_for("pipe_write", aim),
        "state S in /proc/PID/status, and pipe_write in /proc/PID/wchan if the kernel shows it",
    ),
    _hang(
        "hang_at_exit",
        "The rank hangs after the end of its program, in a function that Python calls at exit (atexit).",
        lambda aim: hangs_later("its exit (atexit)", aim),
        "the rank's record that it reached the function, and state S in /proc/PID/status",
        healed="after `for_` seconds the rank ends",
        example="faults.hang_at_exit(rank=1)",
    ),
    _hang(
        "hang_thread",
        "The rank hangs after the end of its program: Python joins a thread that does not end.",
        lambda aim: hangs_later("the end of its main thread", aim),
        "the thread's record that the main thread has ended, and state S in /proc/PID/status",
        healed="after `for_` seconds the thread ends, and the rank with it",
        example="faults.hang_thread(rank=1)",
    ),
    _hang(
        "uninterruptible",
        "The rank's main thread waits in the kernel, in state D, where only SIGKILL takes effect.",
        sleeps_uninterruptibly,
        "state D in /proc/PID/status, and the child that it waits for",
        needs=CTYPES,
        healed="after `for_` seconds the main thread continues; at the end of the job the child is killed",
    ),
)
