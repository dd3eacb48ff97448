"""Real crashes: the processor, the C library or the kernel ends the rank with a signal.

Each action prepares first, and a failure to prepare is reported. The effect that it returns ends the process.
"""

from __future__ import annotations

import os
import signal
import sys

from ..rank_plan import ImpossibleError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ctypes
    from collections.abc import Callable

    from ..api import Effect, Runtime
    from ..rank_plan import Task

NOWHERE = 8
"""Address that is never mapped."""
ILLEGAL = {"x86_64": b"\x0f\x0b", "aarch64": b"\0\0\0\0"}
"""Undefined instruction: ud2, udf."""
DIVIDE = {"x86_64": b"\x31\xc9\xb8\x01\0\0\0\x99\xf7\xf9\xc3"}
"""Division of 1 by 0, which traps: xor ecx, ecx; mov eax, 1; cdq; idiv ecx; ret."""
NO_CALL = 3556
"""Number of a system call that no kernel has."""
STACK = 8 << 20
_PR_SET_DUMPABLE, _PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 4, 22, 38
_FILTER = (
    (0x20, 0, 0, 0),  # load the number of the call
    (0x15, 0, 1, NO_CALL),
    (0x06, 0, 0, 0x80000000),  # kill the process
    (0x06, 0, 0, 0x7FFF0000),  # allow
)


def libc(*, keeping_gil: bool = False) -> ctypes.CDLL:
    """Return the C library of this process; calls into it release the GIL unless ``keeping_gil``.

    Raises:
        ImpossibleError: if this Python was built without ctypes.
    """
    try:
        import ctypes
    except ImportError:
        raise ImpossibleError("its Python has no ctypes") from None
    return ctypes.PyDLL(None) if keeping_gil else ctypes.CDLL(None, use_errno=True)


def segfault(_: Runtime, task: Task) -> Effect:
    """Access unmapped memory."""
    return _ends(task, signal.SIGSEGV, touching(task.text("how")))


def abort(_: Runtime, task: Task) -> Effect:
    """Call ``abort()``, or Python's function for fatal internal errors."""
    if task.text("how") == "abort":
        return _ends(task, signal.SIGABRT, os.abort)
    libc()
    import ctypes

    return _ends(task, signal.SIGABRT, lambda: ctypes.pythonapi.Py_FatalError(b"injected by derail"))


def double_free(_: Runtime, task: Task) -> Effect:
    """Free memory twice: the C library detects it and aborts."""
    library = libc()
    import ctypes

    library.malloc.restype = ctypes.c_void_p
    # An unusual size: otherwise another allocation could get the piece between the two calls.
    piece = ctypes.c_void_p(library.malloc(ctypes.c_size_t(968)))

    def free_twice() -> None:
        library.free(piece)
        library.free(piece)

    return _ends(task, signal.SIGABRT, free_twice)


def bus_error(_: Runtime, task: Task) -> Effect:
    """Access a page of a mapped file after the file was truncated."""
    import mmap

    fd = _file()
    os.truncate(fd, mmap.PAGESIZE)
    memory = mmap.mmap(fd, mmap.PAGESIZE)

    def touch() -> None:
        os.truncate(fd, 0)
        memory[0] = 1

    return _ends(task, signal.SIGBUS, touch)


def illegal_instruction(_: Runtime, task: Task) -> Effect:
    """Execute an instruction that the processor does not have."""
    return _ends(task, signal.SIGILL, _machine_code(ILLEGAL))


def divide_by_zero(_: Runtime, task: Task) -> Effect:
    """Divide integers by zero in machine code: Python's own division checks first."""
    return _ends(task, signal.SIGFPE, _machine_code(DIVIDE))


def bad_syscall(_: Runtime, task: Task) -> Effect:
    """Make a system call for which a seccomp filter kills the process."""
    library = libc()
    import ctypes
    import struct

    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_char_p))

    program = Program(len(_FILTER), b"".join(struct.pack("=HBBI", *instruction) for instruction in _FILTER))
    numbers = (ctypes.c_ulong(number) for number in (1, 0, 0, 0))
    if library.prctl(_PR_SET_NO_NEW_PRIVS, *numbers) or library.prctl(_PR_SET_SECCOMP, 2, ctypes.byref(program)):
        raise ImpossibleError(f"it cannot install a seccomp filter: {os.strerror(ctypes.get_errno())}")
    return _ends(task, signal.SIGSYS, lambda: library.syscall(NO_CALL))


def broken_pipe(_: Runtime, task: Task) -> Effect:
    """Write to a pipe without a reader, with the default action of SIGPIPE that programs other than Python have."""
    read_end, write_end = os.pipe()
    os.close(read_end)
    return _ends(task, signal.SIGPIPE, lambda: os.write(write_end, b"x"))


def cpu_limit(_: Runtime, task: Task) -> Effect:
    """Use more processor time than the limit allows."""
    import resource

    used = resource.getrusage(resource.RUSAGE_SELF)
    limit, hard = int(used.ru_utime + used.ru_stime) + 1, resource.getrlimit(resource.RLIMIT_CPU)[1]
    if hard != resource.RLIM_INFINITY and hard <= limit:
        raise ImpossibleError(f"its hard limit of processor time is {hard} s, which sends SIGKILL")

    def spin() -> None:
        resource.setrlimit(resource.RLIMIT_CPU, (limit, hard))
        while True:
            pass

    return _ends(task, signal.SIGXCPU, spin)


def file_limit(_: Runtime, task: Task) -> Effect:
    """Write more to a file than the limit allows."""
    import resource

    fd, hard = _file(), resource.getrlimit(resource.RLIMIT_FSIZE)[1]

    def write() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
        os.write(fd, b"x")

    return _ends(task, signal.SIGXFSZ, write)


def alarm(_: Runtime, task: Task) -> Effect:
    """Set an alarm without a handler, and continue."""
    seconds = max(float(task.text("seconds")), 1e-6)  # 0 would disarm the timer

    def wind_up() -> None:
        _default(signal.SIGALRM)
        signal.setitimer(signal.ITIMER_REAL, seconds)

    return wind_up


def stack_overflow(_: Runtime, task: Task) -> Effect:
    """Recurse in C until the stack is used up."""
    import faulthandler
    import resource

    dive = getattr(faulthandler, "_stack_overflow", None)
    if dive is None:
        raise ImpossibleError("its Python has no faulthandler._stack_overflow")
    soft, hard = resource.getrlimit(resource.RLIMIT_STACK)

    def overflow() -> None:
        if soft == resource.RLIM_INFINITY or soft > STACK:
            resource.setrlimit(resource.RLIMIT_STACK, (STACK, hard))
        dive()

    return _ends(task, signal.SIGSEGV, overflow)


def _ends(task: Task, number: signal.Signals, deed: Callable[[], object]) -> Effect:
    """Return the crash with its core setting and the signal's default action, so that no code of the program runs."""
    set_core = core_setting(core=task.flag("core"))

    def end() -> None:
        set_core()
        _default(number)
        deed()

    return end


def core_setting(*, core: bool) -> Callable[[], None]:
    """Return a function that turns core files of this process on or off; that function imports nothing.


    Raises:
        ImpossibleError: if core files are requested and not allowed.
    """
    import resource

    library, hard = libc(), resource.getrlimit(resource.RLIMIT_CORE)[1]
    if core and hard == 0:
        raise ImpossibleError("its hard limit for core files is 0")
    limit = hard if core else 0 if hard == 0 else 1
    sent_on = not core and _cores_are_sent_on(limit)

    def set_core() -> None:
        resource.setrlimit(resource.RLIMIT_CORE, (limit, hard))
        if sent_on:
            library.prctl(_PR_SET_DUMPABLE, 0)  # hides the exit details from other processes, so only where necessary

    return set_core


def _cores_are_sent_on(limit: int) -> bool:
    """Return whether the kernel passes cores to a program regardless of the limit (core(5)).

    It passes none to a program behind a pipe at a limit of 1, which is too small for any core file as well.
    """
    try:
        with open("/proc/sys/kernel/core_pattern", encoding="utf-8") as file:
            kind = file.read(1)
    except (OSError, ValueError):
        return True
    return kind == "@" or (kind == "|" and limit != 1)


def _default(number: signal.Signals) -> None:
    """Restore the default action of a signal. C handlers such as faulthandler's stay: they pass the signal on."""
    if signal.getsignal(number) not in (None, signal.SIG_DFL):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [number])


def touching(how: str) -> Callable[[], object]:
    """Return a function that accesses unmapped memory; that function imports nothing."""
    libc()
    import ctypes

    if how == "write":
        return lambda: ctypes.memset(NOWHERE, 0, 1)
    if how == "call":
        return ctypes.CFUNCTYPE(None)(NOWHERE)
    return lambda: ctypes.c_long.from_address(NOWHERE).value


def _machine_code(by_machine: dict[str, bytes]) -> Callable[[], None]:
    libc()
    import ctypes
    import mmap

    machine = os.uname().machine
    code = by_machine.get(machine)
    if code is None or sys.maxsize < 2**32:
        raise ImpossibleError(f"derail has no machine code for {machine}")
    try:
        memory = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    except OSError as error:
        raise ImpossibleError(f"it cannot map executable memory: {error}") from None
    memory[: len(code)] = code
    start = ctypes.c_char.from_buffer(memory)  # keeps it mapped

    def run() -> None:
        ctypes.CFUNCTYPE(None)(ctypes.addressof(start))()

    return run


def _file() -> int:
    """Return a new file without a name, in memory if possible."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("derail", os.MFD_CLOEXEC)
    import tempfile

    with tempfile.TemporaryFile(buffering=0) as file:
        return os.dup(file.fileno())


ACTIONS: dict[str, Callable[[Runtime, Task], Effect]] = {
    "segfault": segfault,
    "abort": abort,
    "double_free": double_free,
    "bus_error": bus_error,
    "illegal_instruction": illegal_instruction,
    "fpe": divide_by_zero,
    "bad_syscall": bad_syscall,
    "broken_pipe": broken_pipe,
    "cpu_limit": cpu_limit,
    "file_limit": file_limit,
    "alarm": alarm,
    "stack_overflow": stack_overflow,
}
