"""Real crashes: the processor, the C library or the kernel ends the rank with a signal; some wait for their moment.

They act inside the rank.
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
"""The crashes that are told by a word, and how they end the rank."""
CORE = flag_param("core", "Whether the kernel may write a core file, as the rank's hard limit allows.")


def ends_by(aim: Aim, status: ExitStatus, number: int, deed: str) -> Result:
    """What the end of the rank says of a deed by which it must have ended with a signal."""
    if status.signal == number or (status.code == 128 + number and _has_a_shell(aim)):
        if aim.fault.name in WITH_CORE and aim.flag("core") and not status.core_dumped and status.signal is not None:
            return Errored(f"{deed}; the rank ended with {status}, but no core was written (see core(5))")
        whose = "" if status.signal == number else ", its shell's word for that signal"
        return Injected(f"{deed}; the rank ended with {status}{whose}")
    if status.signal in aim.sent_by_supervisor:
        return NotReached(f"{deed}, but the signal of the supervisor was faster: the rank ended with {status}")
    return Errored(f"{deed}, but the rank ended with {status}")


def _has_a_shell(aim: Aim) -> bool:
    """Whether it was a child of the rank's own process that acted."""
    return any(record["event"] == "start" and record.get("by") != aim.control.pid(aim.rank) for record in aim.records)


def crashes_at(moment: str, aim: Aim) -> Step:
    """The rank has said that it is ready to crash at a moment: it must have come, and must have ended the rank."""
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
        return f"nobody can handle {name}"
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
    """One way to crash. They differ in what they do and by which signal that ends the rank."""

    def inject(aim: Aim) -> Step:
        def check(status: ExitStatus) -> Result:
            return ends_by(aim, status, number, f"{deed} in {aim.where}")

        return AtExit(check, f"an exit by {signal_name(number)}")

    return Entry(
        name=name,
        side="in rank",
        summary=summary,
        inject=inject,
        verified=f"{signal_name(number)} in the status of the rank's exit",
        healed="",
        example=example or f'faults.{name}(rank=1, when=when.line("step 2"))',
        params=(*params, CORE) if core else params,
        requires=Requires(needs, unavailable=unavailable),
    )


def _no_machine_code(*columns: int) -> Callable[[], str]:
    """Why machine code that is known for some machines cannot run here."""

    def why() -> str:
        machine = this_machine()
        known = machine is not None and machine.column in columns
        return "" if known else "the machine code for it is not known for this machine"

    return why


def _later(name: str, summary: str, moment: Callable[[Aim], str], example: str, *params: Param, first: str) -> Entry:
    """One of the moments at which a rank can crash."""
    return Entry(
        name=name,
        side="in rank",
        summary=summary,
        inject=lambda aim: crashes_at(moment(aim), aim),
        verified="the rank's record that the moment has come; unless it raises, the signal in the status of its exit",
        healed="",
        example=example,
        params=(*params, choice_param("how", ("exception", *CRASHES), "What happens then.", default=first)),
        requires=Requires(CTYPES),
        check=_check_handler if name == "crash_in_handler" else lambda _: "",
    )


ENTRIES = (
    _crash(
        "segfault",
        signal.SIGSEGV,
        "The rank touches memory that is not there.",
        "touched an address without memory",
        choice_param("how", ("read", "write", "call"), "What it does with the address.", default="read"),
        example='faults.segfault("call", rank=1, when=when.line("step 2"))',
    ),
    _crash(
        "stack_overflow",
        signal.SIGSEGV,
        "C functions call each other in the rank until the stack is used up.",
        "ran out of stack",
        needs=f"{CTYPES}; CPython's faulthandler",
    ),
    _crash(
        "abort",
        signal.SIGABRT,
        "The rank aborts, as failed assertions of C code do, or Python on finding itself broken.",
        "aborted",
        choice_param("how", ("abort", "fatal_error"), "abort(), or Py_FatalError with its traceback.", default="abort"),
        example='faults.abort("fatal_error", rank=1)',
    ),
    _crash(
        "double_free",
        signal.SIGABRT,
        "The rank frees memory twice; the C library notices, and aborts.",
        "freed memory twice",
        needs=f"{CTYPES}; a C library that notices, as glibc",
    ),
    _crash(
        "bus_error",
        signal.SIGBUS,
        "The rank touches a page of a mapped file that has been truncated.",
        "touched a mapped page behind the end of its file",
    ),
    _crash(
        "illegal_instruction",
        signal.SIGILL,
        "The rank runs an instruction that its processor does not have.",
        "ran an illegal instruction",
        needs=f"{CTYPES}; x86_64 or aarch64; memory that may be executed",
        unavailable=_no_machine_code(0, 1),
    ),
    _crash(
        "fpe",
        signal.SIGFPE,
        "The rank divides whole numbers by zero in machine code.",
        "divided by zero",
        needs=f"{CTYPES}; x86_64, as aarch64 does not trap; memory that may be executed",
        unavailable=_no_machine_code(0),
    ),
    _crash(
        "bad_syscall",
        signal.SIGSYS,
        "The rank makes a system call that a seccomp filter of its own punishes with death.",
        "made a forbidden system call",
        needs=f"{CTYPES}; seccomp",
        unavailable=why_no_seccomp,
    ),
    _crash(
        "broken_pipe",
        signal.SIGPIPE,
        "The rank writes to a pipe that nobody can read, with the signal's default action, as programs in C have it.",
        "wrote to a pipe without readers",
        core=False,
        needs=IN_RANK,
    ),
    _crash(
        "cpu_limit",
        signal.SIGXCPU,
        "The rank spins until it has used up the processor time that it is allowed: at most one second more.",
        "spun beyond its limit of processor time",
    ),
    _crash(
        "file_limit",
        signal.SIGXFSZ,
        "The rank writes more to a file than it is allowed, with the signal's default action.",
        "wrote beyond its limit of file sizes",
    ),
    _crash(
        "alarm",
        signal.SIGALRM,
        "An alarm clock for which the rank has no handler goes off while the program goes on.",
        "set an alarm",
        seconds_param("seconds", "Seconds until it goes off.", default=0.05),
        core=False,
        needs=IN_RANK,
    ),
    _later(
        "crash_at_import",
        "The rank crashes when it imports a module.",
        lambda aim: f"the import of {aim.text('module')}",
        'faults.crash_at_import("numpy", rank=1)',
        Param("module", read_text, "Which; by its full name, and not imported before.", "text", required=True),
        first="exception",
    ),
    _later(
        "crash_at_exit",
        "The rank crashes after its program has ended, in a function that Python calls at its exit (atexit).",
        lambda _: "its exit (atexit)",
        "faults.crash_at_exit(rank=1)",
        first="segfault",
    ),
    _later(
        "crash_in_del",
        "The rank crashes in the destructor of an object, where Python ignores exceptions.",
        lambda aim: "a destructor" + (" at the end of the interpreter" if aim.text("at") == "end" else ""),
        'faults.crash_in_del("end", rank=1)',
        choice_param("at", ("once", "end"), "Destroyed at once, or when the interpreter ends.", default="once"),
        first="segfault",
    ),
    _later(
        "crash_in_handler",
        "The rank crashes in the handler of a signal, which it sends to itself or waits for.",
        lambda aim: f"the handler of {aim.text('signal')}",
        'faults.crash_in_handler("SIGTERM", wait=True, rank=1)',
        Param("signal", read_signal, "Whose handler.", "signal", default="SIGUSR1"),
        flag_param("wait", "Whether it waits for the signal of somebody else."),
        first="segfault",
    ),
)
WITH_CORE = tuple(entry.name for entry in ENTRIES if CORE in entry.params)
