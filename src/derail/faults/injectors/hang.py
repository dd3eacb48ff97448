"""Ranks that do not get on."""

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
"""Seconds without a sign of life after which other threads count as silent; they give one each 5 ms."""
TURNS = 3
"""So often the thread that gives them must have had a processor meanwhile: else it may not have been let run."""
WORK = 0.1
"""Seconds of processor time that a busy rank must use."""
LONGEST = 20.0
"""Seconds within which a hang must show, on a machine that is busy with other things too."""


def hangs(aim: Aim) -> Step:
    """The rank has said that it hangs: it must sleep, and ignore what it was told to ignore."""
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
    """The rank has said that it waits: it must, at this place in the kernel as far as that is told."""
    pid = _who(aim)
    return _seen(aim, lambda: _waiting(pid, "S", symbol), f"a process that waits in {symbol}")


def spins(aim: Aim) -> Step:
    """The rank has said that it spins: it must use processor time."""
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
    """The rank has said that it keeps the GIL: a thread of it that moved a descriptor all the time must have ceased."""
    pid = _who(aim)
    witness = next((record for record in aim.records if record["event"] == "witness"), {})
    fd, thread = witness.get("fd", -1), witness.get("thread")
    last: list[tuple[int | None, float, int | None]] = []

    def look() -> str:
        ran, at, since = _turns(pid, thread), _position(pid, fd), _turns(pid, thread)
        now = SYSTEM_CLOCK.now()
        silent = next((float(str(record["silent"])) for record in aim.records if record["event"] == "healed"), 0.0)
        if aim.fault.for_ is not None and silent >= 0.9 * aim.fault.for_ > 0:
            return f"its other threads were silent for {silent:.3f} s"
        if at is None or not last or last[0][0] != at or not _waiting(pid, "S", "futex"):
            last[:] = [(at, now, since)]
        _, quiet_since, ran_then = last[0]
        tried = ran is None or ran_then is None or ran - ran_then >= TURNS
        if at is None or now - quiet_since < SILENCE or not tried:
            return ""
        passed = now - quiet_since
        return f"{_waiting(pid, 'S', 'futex')}; its other threads silent for {passed:.2f} s (/proc/{pid}/fdinfo/{fd})"

    return _seen(aim, look, "silence of all other threads")


def hangs_later(moment: str, aim: Aim) -> Step:
    """The rank has said that it is ready to hang: it must say that the moment has come, and then sleep."""
    pid = _who(aim)

    def look() -> str:
        now = read_process_state(pid) if _said(aim, "hangs") else None
        return f"state {now.state} in /proc/{pid}/status" if now is not None and now.state in ("S", "D") else ""

    return _seen(aim, look, moment, within=FOREVER, moment=moment)


def sleeps_uninterruptibly(aim: Aim) -> Step:
    """The rank has said that it waits for a child: it must be in state D, and the child not outlive the job."""
    pid = _who(aim)

    def look() -> str:
        told = _waiting(pid, "D", "")
        child = next((process for process in every_process() if process.ppid == pid), None) if told else None
        try:
            pidfd = -1 if child is None else os.pidfd_open(child.pid)
        except ProcessLookupError:
            pidfd = -1  # it has just ended
        if child is None or pidfd < 0:
            return ""
        aim.undo.append((f"end the child (pid {child.pid}) that rank {aim.rank} waits for", lambda: _end(pidfd)))
        return f"{told}; its child (pid {child.pid}) waits to open a FIFO"

    return _seen(aim, look, "state D")


def _seen(aim: Aim, look: Callable[[], str], awaited: str, *, within: float = LONGEST, moment: str = "") -> Step:
    """What a look at the process shows, sooner or later.

    Args:
        aim: the fault.
        look: says what is seen; empty if nothing is.
        awaited: what is waited for.
        within: seconds until it must show.
        moment: what must have come before; then it is no fault of the rank if it never does.
    """
    if read_process_state(_who(aim)) is None and aim.control.is_alive(aim.rank):
        return Unavailable("whether a process hangs cannot be seen here: there is no /proc")
    where = f"at {moment}" if moment else f"in {aim.where}"

    def check() -> Result | None:
        seen = look()
        return Injected(f"hangs {where}: {seen}") if seen else None

    def at_exit(status: ExitStatus) -> Result:
        if moment and not _said(aim, "hangs"):
            return NotReached(f"{moment} never came; the rank ended with {status}")
        return Errored(f"said that it hangs {where}, but ended with {status} before it was seen to")

    return Soon(check, awaited, within=within, at_exit=at_exit)


def _waiting(pid: int, state: str, symbol: str) -> str:
    """That the main thread is in this state and at this place in the kernel; empty if it is not."""
    now = read_process_state(pid)
    place = _read(pid, "wchan")
    told = place not in ("", "0")  # some kernels do not tell, some tell some users only
    if now is None or now.state != state or (told and symbol not in place):
        return ""
    return f"state {state} in /proc/{pid}/status" + (f", in {place} (wchan)" if told else "")


def _processor_time(pid: int) -> float | None:
    """Seconds that a process has used so far."""
    fields = _read(pid, "stat").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK") if len(fields) > 12 else None


def _turns(pid: int, thread: object) -> int | None:
    """How often a thread has given its processor back: all the time, if it wants the GIL and cannot have it. None if
    that is not told."""
    switches = read_status(pid, thread=str(thread)).get("voluntary_ctxt_switches")
    return int(switches) if switches else None


def _position(pid: int, fd: object) -> int | None:
    """Where a descriptor of another process stands."""
    words = _read(pid, f"fdinfo/{fd}").split()
    return int(words[1]) if words[:1] == ["pos:"] else None


def _read(pid: int, name: str) -> str:
    try:
        return (PROC / str(pid) / name).read_text(errors="replace").strip()
    except OSError:
        return ""


def _end(pidfd: int) -> None:
    """End the process that the descriptor was opened for, if it still lives."""
    try:
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    except ProcessLookupError:
        pass
    finally:
        os.close(pidfd)


def _said(aim: Aim, event: str) -> bool:
    return any(record["event"] == event for record in aim.records)


def _who(aim: Aim) -> int:
    """The process that acts."""
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
    healed: str = "after `for_` seconds the main thread goes on",
    example: str = "",
) -> Entry:
    """One way to hang."""
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
        "The rank's main thread sleeps for ever (or for a while), deaf to the signals that it is to ignore.",
        hangs,
        "state S or D in /proc/PID/status, and the ignored signals in its SigIgn",
        Param("ignore", read_signals, "Signals that the rank ignores while it hangs.", "signals", default=()),
        healed="after `for_` seconds the main thread goes on, and the signals have their handlers back",
        example='faults.hang(rank=3, ignore=["SIGTERM"], when=when.line("step 2"))',
    ),
    _hang(
        "deadlock",
        "The rank's main thread waits for a lock that it holds itself.",
        lambda aim: waits_for("futex", aim),
        "state S in /proc/PID/status, and a futex in /proc/PID/wchan where the kernel tells",
    ),
    _hang(
        "gil_held",
        "The rank's main thread waits in C code and keeps the GIL: no other thread of it and no handler runs.",
        holds_gil,
        "state S, and a thread of the rank that moved a descriptor (/proc/PID/fdinfo) and does so no more",
        needs=f"{CTYPES}; a Python with a GIL",
        example='faults.gil_held(rank=1, for_=5, when=when.line("step 2"))',
    ),
    _hang(
        "busy_loop",
        "The rank's main thread spins in a loop that does nothing.",
        spins,
        "state R in /proc/PID/status, and growing processor time in /proc/PID/stat",
    ),
    _hang(
        "blocked_pipe",
        "The rank's main thread writes to a pipe that nobody reads.",
        lambda aim: waits_for("pipe_write", aim),
        "state S in /proc/PID/status, and pipe_write in /proc/PID/wchan where the kernel tells",
    ),
    _hang(
        "hang_at_exit",
        "The rank hangs after its program has ended, in a function that Python calls at its exit (atexit).",
        lambda aim: hangs_later("its exit (atexit)", aim),
        "the rank's record that it has come there, and state S in /proc/PID/status",
        healed="after `for_` seconds the rank ends",
        example="faults.hang_at_exit(rank=1)",
    ),
    _hang(
        "hang_thread",
        "The rank hangs after its program has ended: Python waits for a thread of it that does not end.",
        lambda aim: hangs_later("the end of its main thread", aim),
        "the thread's record that the main thread has ended, and state S in /proc/PID/status",
        healed="after `for_` seconds the thread ends, and the rank with it",
        example="faults.hang_thread(rank=1)",
    ),
    _hang(
        "uninterruptible",
        "The rank's main thread waits in the kernel, in state D: no signal but SIGKILL gets through.",
        sleeps_uninterruptibly,
        "state D in /proc/PID/status, and the child that it waits for",
        needs=CTYPES,
        healed="after `for_` seconds the main thread goes on; at the end of the job the child is ended",
    ),
)
