"""Real crashes: the processor, the C library or the kernel ends the rank with a signal, at once or at a later moment.

These faults act inside the rank.
"""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from derail.faults.catalogue.entry import Entry, Param, Requires
from derail.faults.catalogue.injector_api import FOREVER, AtExit, Soon, control_signal
from derail.faults.catalogue.params import choice_param, flag_param, read_signal, read_text, seconds_param
from derail.faults.model.results import Errored, Injected, NotReached
from derail.model.exit import signal_name, signal_number
from derail.platform.capabilities import why_no_seccomp
from derail.platform.syscalls import this_machine

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from derail.faults.catalogue.injector_api import Aim, Step
    from derail.faults.model.plan import Value
    from derail.faults.model.results import Result
    from derail.model.exit import ExitStatus

IN_RANK = "Python in the rank, started without -S, -I and -E"
CTYPES = f"{IN_RANK}; ctypes"
CRASHES = {"segfault": signal.SIGSEGV, "abort": signal.SIGABRT}
"""Crashes that parameters name by a word, and the signals that end the rank."""
CORE = flag_param("core", "Whether the kernel may write a core file, within the rank's hard limit.")


def ends_by(aim: Aim, status: ExitStatus, number: int, deed: str) -> Result:
    """Return the result for a crash that must have ended the rank with a signal."""
    if status.signal == number or (status.code == 128 + number and _has_a_shell(aim)):
        if aim.fault.name in WITH_CORE and aim.flag("core") and not status.core_dumped and status.signal is not None:
            return Errored(f"{deed}; the rank ended with {status}, but the kernel wrote no core file (see core(5))")
        whose = "" if status.signal == number else ", its shell's exit code for that signal"
        return Injected(f"{deed}; the rank ended with {status}{whose}")
    if status.signal in aim.sent_by_supervisor:
        return NotReached(f"{deed}, but the supervisor's signal came first: the rank ended with {status}")
    return Errored(f"{deed}, but the rank ended with {status}")


def _has_a_shell(aim: Aim) -> bool:
    """Return whether a child of the rank's own process acted."""
    return any(record["event"] == "start" and record.get("by") != aim.control.pid(aim.rank) for record in aim.records)


def crashes_at(moment: str, aim: Aim) -> Step:
    """Verify that the rank reached the moment of its crash, and that the crash ended it."""
    how = aim.text("how")

    def at_exit(status: ExitStatus) -> Result:
        if not _said(aim, "crash"):
            return NotReached(f"{moment} never came; the rank ended with {status}")
        return ends_by(aim, status, CRASHES[how], f"{how} at {moment}")

    def raised() -> Result | None:
        return Injected(f"an exception at {moment}") if _said(aim, "crash") else None

    if how != "exception":
        return AtExit(at_exit, moment)
    return Soon(
        raised,
        moment,
        within=FOREVER,
        at_exit=lambda status: NotReached(f"{moment} never came; it ended with {status}"),
    )


def _check_handler(values: Mapping[str, Value]) -> str:
    name = str(values["signal"])
    if name in ("SIGKILL", "SIGSTOP"):
        return f"no process can handle {name}"
    return "derail itself uses this signal" if signal_number(name) == control_signal() else ""


def _said(aim: Aim, event: str) -> bool:
    return any(record["event"] == event for record in aim.records)


def _crash(
    name: str,
    number: signal.Signals,
    summary: str,
    deed: str,
    *params: Param,
    example: str = "",
    core: bool = True,
    needs: str = CTYPES,
    unavailable: Callable[[], str] = str,
) -> Entry:
    """Return the declaration of a crash; crashes differ in the cause and in the signal that ends the rank."""

    def inject(aim: Aim) -> Step:
        def check(status: ExitStatus) -> Result:
            return ends_by(aim, status, number, f"{deed} in {aim.where}")

        return AtExit(check, f"an exit by {signal_name(number)}")

    return Entry(
        name=name,
        side="in rank",
        summary=summary,
        inject=inject,
        verified=f"{signal_name(number)} in the rank's exit status",
        healed="",
        example=example or f'faults.{name}(rank=1, when=when.line("step 2"))',
        params=(*params, CORE) if core else params,
        requires=Requires(needs, unavailable=unavailable),
    )


def _no_machine_code(*columns: int) -> Callable[[], str]:
    """Return a function that explains why machine code for some machines cannot run here."""

    def why() -> str:
        machine = this_machine()
        known = machine is not None and machine.column in columns
        return "" if known else "derail has no machine code of this crash for this machine"

    return why


def _later(name: str, summary: str, moment: Callable[[Aim], str], example: str, *params: Param, first: str) -> Entry:
    """Return the declaration of a crash at a later moment."""
    return Entry(
        name=name,
        side="in rank",
        summary=summary,
        inject=lambda aim: crashes_at(moment(aim), aim),
        verified="the rank's record that it reached the moment; unless it raises, the signal in its exit status",
        healed="",
        example=example,
        params=(*params, choice_param("how", ("exception", *CRASHES), "What happens at that moment.", default=first)),
        requires=Requires(CTYPES),
        check=_check_handler if name == "crash_in_handler" else lambda _: "",
    )


ENTRIES = (
    _crash(
        "segfault",
        signal.SIGSEGV,
        "The rank accesses unmapped memory.",
        "accessed an unmapped address",
        choice_param("how", ("read", "write", "call"), "Access to the address.", default="read"),
        example='faults.segfault("call", rank=1, when=when.line("step 2"))',
    ),
    _crash(
        "stack_overflow",
        signal.SIGSEGV,
        "C functions in the rank recurse until the stack is used up.",
        "ran out of stack",
        needs=f"{CTYPES}; CPython's faulthandler",
    ),
    _crash(
        "abort",
        signal.SIGABRT,
        "The rank aborts, like a failed assertion in C code or a fatal error of Python.",
        "aborted",
        choice_param("how", ("abort", "fatal_error"), "abort(), or Py_FatalError with its traceback.", default="abort"),
        example='faults.abort("fatal_error", rank=1)',
    ),
    _crash(
        "double_free",
        signal.SIGABRT,
        "The rank frees memory twice; the C library detects it and aborts.",
        "freed memory twice",
        needs=f"{CTYPES}; a C library that detects it, such as glibc",
    ),
    _crash(
        "bus_error",
        signal.SIGBUS,
        "The rank accesses a page of a mapped file that was truncated.",
        "accessed a mapped page beyond the end of its file",
    ),
    _crash(
        "illegal_instruction",
        signal.SIGILL,
        "The rank executes an instruction that its processor does not have.",
        "executed an illegal instruction",
        needs=f"{CTYPES}; x86_64 or aarch64; executable memory",
        unavailable=_no_machine_code(0, 1),
    ),
    _crash(
        "fpe",
        signal.SIGFPE,
        "The rank divides integers by zero in machine code.",
        "divided by zero",
        needs=f"{CTYPES}; x86_64, as aarch64 does not trap; executable memory",
        unavailable=_no_machine_code(0),
    ),
    _crash(
        "bad_syscall",
        signal.SIGSYS,
        "The rank makes a system call for which its own seccomp filter kills the process.",
        "made a forbidden system call",
        needs=f"{CTYPES}; seccomp",
        unavailable=why_no_seccomp,
    ),
    _crash(
        "broken_pipe",
        signal.SIGPIPE,
        "The rank writes to a pipe without a reader, with the signal's default action, as in C programs.",
        "wrote to a pipe without readers",
        core=False,
        needs=IN_RANK,
    ),
    _crash(
        "cpu_limit",
        signal.SIGXCPU,
        "The rank spins until it exceeds its limit of processor time, set to at most one second above its use.",
        "exceeded its limit of processor time",
    ),
    _crash(
        "file_limit",
        signal.SIGXFSZ,
        "The rank writes to a file beyond its size limit, with the signal's default action.",
        "exceeded its file size limit",
    ),
    _crash(
        "alarm",
        signal.SIGALRM,
        "An alarm without a handler ends the rank while the program runs.",
        "set an alarm",
        seconds_param("seconds", "Seconds until the alarm.", default=0.05),
        core=False,
        needs=IN_RANK,
    ),
    _later(
        "crash_at_import",
        "The rank crashes when it imports a module.",
        lambda aim: f"the import of {aim.text('module')}",
        'faults.crash_at_import("numpy", rank=1)',
        Param("module", read_text, "Full name of the module, which must not be imported yet.", "text", required=True),
        first="exception",
    ),
    _later(
        "crash_at_exit",
        "The rank crashes after the end of its program, in a function that Python calls at exit (atexit).",
        lambda _: "its exit (atexit)",
        "faults.crash_at_exit(rank=1)",
        first="segfault",
    ),
    _later(
        "crash_in_del",
        "The rank crashes in the destructor of an object, where Python ignores exceptions.",
        lambda aim: "a destructor" + (" at the end of the interpreter" if aim.text("at") == "end" else ""),
        'faults.crash_in_del("end", rank=1)',
        choice_param("at", ("once", "end"), "Destroyed at once, or at the end of the interpreter.", default="once"),
        first="segfault",
    ),
    _later(
        "crash_in_handler",
        "The rank crashes in a signal handler, for a signal that it sends to itself or waits for.",
        lambda aim: f"the handler of {aim.text('signal')}",
        'faults.crash_in_handler("SIGTERM", wait=True, rank=1)',
        Param("signal", read_signal, "Signal of the handler.", "signal", default="SIGUSR1"),
        flag_param("wait", "Whether it waits for the signal from another process."),
        first="segfault",
    ),
)
WITH_CORE = tuple(entry.name for entry in ENTRIES if CORE in entry.params)
