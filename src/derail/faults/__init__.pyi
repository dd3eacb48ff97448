"""Breaking jobs on purpose, and proving that it happened: a function for each fault, and plans of them."""

from typing import Literal

from derail import faults as _here
from derail.faults.inrank.fail_point import fail_point as fail_point
from derail.faults.model.plan import Fault, Plan, Target
from derail.faults.model.plan import plan as plan
from derail.faults.model.triggers import OwnExit, Start, Trigger
from derail.model.input_error import InputError

# The rest is written by: python -m derail.report.catalogue src/derail/faults/__init__.pyi

__all__ = [
    "Fault",
    "InputError",
    "Plan",
    "Target",
    "abort",
    "alarm",
    "ansi",
    "async_exception",
    "bad_syscall",
    "block_signal",
    "blocked_pipe",
    "broken_pipe",
    "bus_error",
    "busy_loop",
    "checkpoint_damaged",
    "clock_drift",
    "clock_freeze",
    "clock_offset",
    "clock_step_back",
    "closed_stream",
    "cont",
    "cpu_limit",
    "cpu_quota",
    "crash_after_return",
    "crash_at_exit",
    "crash_at_import",
    "crash_in_del",
    "crash_in_handler",
    "deadlock",
    "dns_failure",
    "double_free",
    "duplicate_rank",
    "error_file",
    "error_file_of_other_rank",
    "error_file_replaced",
    "error_file_skewed",
    "error_file_stale",
    "error_file_unwritable",
    "exception",
    "exec",
    "exit",
    "exit_zero_handler",
    "fail_point",
    "fd_leak",
    "file_limit",
    "forking_handler",
    "fpe",
    "freeze",
    "full_disk",
    "full_inodes",
    "full_shm",
    "gil_held",
    "hang",
    "hang_at_exit",
    "hang_thread",
    "ignore_signal",
    "illegal_instruction",
    "invalid_utf8",
    "killed_while_sending",
    "launcher_killed",
    "launcher_log_disk_full",
    "launcher_signalled",
    "launcher_stdout_closed",
    "launcher_stopped",
    "limit",
    "log_deleted",
    "log_disk_full",
    "log_fifo",
    "log_flood",
    "log_read_only",
    "log_replaced",
    "log_truncated",
    "long_line",
    "loopback_down",
    "memory_limit",
    "missing_variable",
    "monotonic_offset",
    "net_bandwidth",
    "net_black_hole",
    "net_close",
    "net_half_open",
    "net_latency",
    "net_refuse",
    "net_reset",
    "net_slices",
    "no_newline_before_kill",
    "nul_bytes",
    "oom_score",
    "orphan",
    "partial_line",
    "pipe_holder",
    "plan",
    "port_kept",
    "port_taken",
    "progress_bar",
    "proxy",
    "raising_handler",
    "reraising_handler",
    "reset",
    "second_signal",
    "segfault",
    "sever",
    "sigchld_ignored",
    "signal",
    "signal_storm",
    "slow_handler",
    "spawn_eagain",
    "spawn_emfile",
    "spawn_enoent",
    "stack_overflow",
    "starve",
    "stolen_wait",
    "stop",
    "store_dies",
    "syscall_delay",
    "syscall_errno",
    "throttle",
    "trace_stop",
    "uninterruptible",
    "value_huge",
    "value_slow",
    "value_unpicklable",
    "wrong_address",
    "wrong_world_size",
]

def exit(
    code: int | str,
    how: Literal["exit", "_exit"] = "exit",
    *,
    rank: int | list[int] | tuple[int, ...] | Literal["all", "one", "minority", "majority", "all but one", "the agent"],
    when: Trigger = Start(),
    id: str = "",
) -> Fault:
    """The rank exits with a code, in its main thread.

    Args:
        code (code, required): Argument of sys.exit: a number (256 is 0) or a message.
        how (default "exit"): sys.exit, which can be caught, or os._exit.
        rank: Target: a rank, several ranks, or a word that the seed of the plan resolves.
        when: Trigger, one of start, after, line, point, call, import_of, signal_received, exit_of, restart, phase,
            barrier, probability, all_of, any_of, then. Default: at its start.
        id: Name in journal and results; by default derived from the content of the fault.

    Acts: in rank
    Needs: Python in the rank, started without -S, -I and -E
    Verified: the code in the rank's exit status
    Undone: never
    Example: ``faults.exit(7, rank=1, when=when.after(0.2))``
    """

def exception(
    type: str,
    message: str = "injected by derail",
    *,
    rank: int | list[int] | tuple[int, ...] | Literal["all", "one", "minority", "majority", "all but one", "the agent"],
    when: Trigger = Start(),
    id: str = "",
) -> Fault:
    """An exception is raised in the rank's main thread, at its present position.

    Args:
        type (exception, required): A builtin exception, or package.module:Class.
        message (text, default "injected by derail"): Argument of the exception.
        rank: Target: a rank, several ranks, or a word that the seed of the plan resolves.
        when: Trigger, one of start, after, line, point, call, import_of, signal_received, exit_of, restart, phase,
            barrier, probability, all_of, any_of, then. Default: at its start.
        id: Name in journal and results; by default derived from the content of the fault.

    Acts: in rank
    Needs: Python in the rank, started without -S, -I and -E
    Verified: the rank's record of its position, that Python did not ignore the exception there, and the rank's exit
    Undone: never
    Example: ``faults.exception("RuntimeError", "boom", rank=0)``
    """

def async_exception(
    type: str,
    message: str = "injected by derail",
    *,
    rank: int | list[int] | tuple[int, ...] | Literal["all", "one", "minority", "majority", "all but one", "the agent"],
    when: Trigger = Start(),
    id: str = "",
) -> Fault:
    """Another thread raises an exception in the main thread, at its next Python instruction.

    Args:
        type (exception, required): A builtin exception, or package.module:Class.
        message (text, default "injected by derail"): Argument of the exception.
        rank: Target: a rank, several ranks, or a word that the seed of the plan resolves.
        when: Trigger, one of start, after, line, point, call, import_of, signal_received, exit_of, restart, phase,
            barrier, probability, all_of, any_of, then. Default: at its start.
        id: Name in journal and results; by default derived from the content of the fault.

    Acts: in rank
    Needs: Python in the rank, started without -S, -I and -E; ctypes
    Verified: the rank's record of its arrival in the main thread
    Undone: never
    Example: ``faults.async_exception("TimeoutError", rank=0, when=when.after(1))``
    """

def exec(
    argv: list[str] | tuple[str, ...],
    *,
    rank: int | list[int] | tuple[int, ...] | Literal["all", "one", "minority", "majority", "all but one", "the agent"],
    when: Trigger = Start(),
    id: str = "",
) -> Fault:
    """The rank's process execs another program, under the same pid.

    Args:
        argv (texts, required): The program, looked up in PATH, and its arguments.
        rank: Target: a rank, several ranks, or a word that the seed of the plan resolves.
        when: Trigger, one of start, after, line, point, call, import_of, signal_received, exit_of, restart, phase,
            barrier, probability, all_of, any_of, then. Default: at its start.
        id: Name in journal and results; by default derived from the content of the fault.

    Acts: in rank
    Needs: Python in the rank, started without -S, -I and -E; /proc
    Verified: the program's name in /proc/PID/stat, which an exited rank keeps as well
    Undone: never
    Example: ``faults.exec(["sleep", "60"], rank=1, when=when.line("step 2"))``
    """

def orphan(
    kind: Literal["group", "session", "daemon", "chatty"] = "group",
    code: int = 1,
    lives: float = 60.0,
    *,
    rank: int | list[int] | tuple[int, ...] | Literal["all", "one", "minority", "majority", "all but one", "the agent"],
    when: Trigger = Start(),
    id: str = "",
) -> Fault:
    """The rank starts a helper process and exits at once without it.

    Args:
        kind (default "group"): In the rank's group; in its own session; forked twice; or in the group, writing to
            the rank's stdout.
        code (count, default 1): Exit code of the rank.
        lives (seconds, default 60.0): Seconds until the helper exits.
        rank: Target: a rank, several ranks, or a word that the seed of the plan resolves.
        when: Trigger, one of start, after, line, point, call, import_of, signal_received, exit_of, restart, phase,
            barrier, probability, all_of, any_of, then. Default: at its start.
        id: Name in journal and results; by default derived from the content of the fault.

    Acts: in rank
    Needs: Python in the rank, started without -S, -I and -E; /proc
    Verified: the rank's exit code; then the helper's state, group and session in /proc/PID/stat
    Undone: the helper exits after `lives` seconds
    Example: ``faults.orphan("daemon", rank=1, when=when.line("step 2"))``
    """

def segfault(
    how: Literal["read", "write", "call"] = "read",
    core: bool = False,
    *,
    rank: int | list[int] | tuple[int, ...] | Literal["all", "one", "minority", "majority", "all but one", "the agent"],
    when: Trigger = Start(),
    id: str = "",
) -> Fault:
    """The rank accesses unmapped memory.

    Args:
        how (default "read"): Access to the address.
        core (flag, default False): Whether the kernel may write a core file, within the rank's hard limit.
        rank: Target: a rank, several ranks, or a word that the seed of the plan resolves.
        when: Trigger, one of start, after, line, point, call, import_of, signal_received, exit_of, restart, phase,
            barrier, probability, all_of, any_of, then. Default: at its start.
        id: Name in journal and results; by default derived from the content of the fault.

    Acts: in rank
    Needs: Python in the rank, started without -S, -I and -E; ctypes
    Verified: SIGSEGV in the rank's exit status
    Undone: never
    Example: ``faults.segfault("call", rank=1, when=when.line("step 2"))``
    """

def stack_overflow(
    core: bool = False,
    *,
    rank: int | list[int] | tuple[int, ...] | Literal["all", "one", "minority", "majority", "all but one", "the agent"],
    when: Trigger = Start(),
    id: str = "",
) -> Fault:
    """C functions in the rank recurse until the stack is used up.

    Args:
        core (flag, default False): Whether the kernel may write a core file, within the rank's hard limit.
        rank: Target: a rank, several ranks, or a word that the seed of the plan resolves.
        when: Trigger, one of start, after, line, point, call, import_of, signal_received, exit_of, restart, phase,
            barrier, probability, all_of, any_of, then. Default: at its start.
        id: Name in journal and results; by default derived from the content of the fault.

    Acts: in rank
    Needs: Python in the rank, started without -S, -I and -E; ctypes; CPython's faulthandler
    Verified: SIGSEGV in the rank's exit status
    Undone: never
    Example: ``faults.stack_overflow(rank=1, when=when.line("step 2"))``
    """

def abort(
    how: Literal["abort", "fatal_error"] = "abort",
    core: bool = False,
    *,
    rank: int | list[int] | tuple[int, ...] | Literal["all", "one", "minority", "majority", "all but one", "the agent"],
    when: Trigger = Start(),
    id: str = "",
) -> Fault:
    """The rank aborts, like a failed assertion in C code or a fatal error of Python.

    Args:
        how (default "abort"): abort(), or Py_FatalError with its traceback.
        core (flag, default False): Whether the kernel may write a core file, within the rank's hard limit.
        rank: Target: a rank, several ranks, or a word that the seed of the plan resolves.
        when: Trigger, one of start, after, line, point, call, import_of, signal_received, exit_of, restart, phase,
            barrier, probability, all_of, any_of, then. Default: at its start.
        id: Name in journal and results; by default derived from the content of the fault.

    Acts: in rank
    Needs: Python in the rank, started without -S, -I and -E; ctypes
    Verified: SIGABRT in the rank's exit status
    Undone: never
    Example: ``faults.abort("fatal_error", rank=1)``
    """

def double_free(
    core: bool = False,
    *,
    rank: int | list[int] | tuple[int, ...] | Literal["all", "one", "minority", "majority", "all but one", "the agent"],
    when: Trigger = Start(),
    id: str = "",
) -> Fault:
    """The rank frees memory twice; the C library detects it and aborts.

    Args:
        core (flag, default False): Whether the kernel may write a core file, within the rank's hard limit.
        rank: Target: a rank, several ranks, or a word that the seed of the plan resolves.
        when: Trigger, one of start, after, line, point, call, import_of, signal_received, exit_of, restart, phase,
            barrier, probability, all_of, any_of, then. Default: at its start.
        id: Name in journal and results; by default derived from the content of the fault.

    Acts: in rank
    Needs: Python in the rank, started without -S, -I and -E; ctypes; a C library that detects it, such as glibc
    Verified: SIGABRT in the rank's exit status
    Undone: never
    Example: ``faults.double_free(rank=1, when=when.line("step 2"))``
    """

def bus_error(
    core: bool = False,
    *,
    rank: int | list[int] | tuple[int, ...] | Literal["all", "one", "minority", "majority", "all but one", "the agent"],
    when: Trigger = Start(),
    id: str = "",
) -> Fault:
    """The rank accesses a page of a mapped file that was truncated.

    Args:
        core (flag, default False): Whether the kernel may write a core file, within the rank's hard limit.
        rank: Target: a rank, several ranks, or a word that the seed of the plan resolves.
        when: Trigger, one of start, after, line, point, call, import_of, signal_received, exit_of, restart, phase,
            barrier, probability, all_of, any_of, then. Default: at its start.
        id: Name in journal and results; by default derived from the content of the fault.

    Acts: in rank
    Needs: Python in the rank, started without -S, -I and -E; ctypes
    Verified: SIGBUS in the rank's exit status
    Undone: never
    Example: ``faults.bus_error(rank=1, when=when.line("step 2"))``
    """

def illegal_instruction(
    core: bool = False,
    *,
    rank: int | list[int] | tuple[int, ...] | Literal["all", "one", "minority", "majority", "all but one", "the agent"],
    when: Trigger = Start(),
    id: str = "",
) -> Fault:
    """The rank executes an instruction that its processor does not have.

    Args:
        core (flag, default False): Whether the kernel may write a core file, within the rank's hard limit.
        rank: Target: a rank, several ranks, or a word that the seed of the plan resolves.
        when: Trigger, one of start, after, line, point, call, import_of, signal_received, exit_of, restart, phase,
            barrier, probability, all_of, any_of, then. Default: at its start.
        id: Name in journal and results; by default derived from the content of the fault.

    Acts: in rank
    Needs: Python in the rank, started without -S, -I and -E; ctypes; x86_64 or aarch64; executable memory
    Verified: SIGILL in the rank's exit status
    Undone: never
    Example: ``faults.illegal_instruction(rank=1, when=when.line("step 2"))``
    """

def fpe(
    core: bool = False,
    *,
    rank: int | list[int] | tuple[int, ...] | Literal["all", "one", "minority", "majority", "all but one", "the agent"],
    when: Trigger = Start(),
    id: str = "",
) -> Fault:
    """The rank divides integers by zero in machine code.

    Args:
        core (flag, default False): Whether the kernel may write a core file, within the rank's hard limit.
        rank: Target: a rank, several ranks, or a word that the seed of the plan resolves.
        when: Trigger, one of start, after, line, point, call, import_of, signal_received, exit_of, restart, phase,
            barrier, probability, all_of, any_of, then. Default: at its start.
        id: Name in journal and results; by default derived from the content of the fault.

    Acts: in rank
    Needs: Python in the rank, started without -S, -I and -E; ctypes; x86_64, as aarch64 does not trap; executable
        memory
    Verified: SIGFPE in the rank's exit status
    Undone: never
    Example: ``faults.fpe(rank=1, when=when.line("step 2"))``
    """

def bad_syscall(
    core: bool = False,
    *,
    rank: int | list[int] | tuple[int, ...] | Literal["all", "one", "minority", "majority", "all but one", "the agent"],
    when: Trigger = Start(),
    id: str = "",
) -> Fault:
    """The rank makes a system call for which its own seccomp filter kills the process.

    Args:
        core (flag, default False): Whether the kernel may write a core file, within the rank's hard limit.
        rank: Target: a rank, several ranks, or a word that the seed of the plan resolves.
        when: Trigger, one of start, after, line, point, call, import_of, signal_received, exit_of, restart, phase,
            barrier, probability, all_of, any_of, then. Default: at its start.
        id: Name in journal and results; by default derived from the content of the fault.

    Acts: in rank
    Needs: Python in the rank, started without -S, -I and -E; ctypes; seccomp
    Verified: SIGSYS in the rank's exit status
    Undone: never
    Example: ``faults.bad_syscall(rank=1, when=when.line("step 2"))``
    """

def broken_pipe(
    *,
    rank: int | list[int] | tuple[int, ...] | Literal["all", "one", "minority", "majority", "all but one", "the agent"],
    when: Trigger = Start(),
    id: str = "",
) -> Fault:
    """The rank writes to a pipe without a reader, with the signal's default action, as in C programs.

    Args:
        rank: Target: a rank, several ranks, or a word that the seed of the plan resolves.
        when: Trigger, one of start, after, line, point, call, import_of, signal_received, exit_of, restart, phase,
            barrier, probability, all_of, any_of, then. Default: at its start.
        id: Name in journal and results; by default derived from the content of the fault.

    Acts: in rank
    Needs: Python in the rank, started without -S, -I and -E
    Verified: SIGPIPE in the rank's exit status
    Undone: never
    Example: ``faults.broken_pipe(rank=1, when=when.line("step 2"))``
    """

def cpu_limit(
    core: bool = False,
    *,
    rank: int | list[int] | tuple[int, ...] | Literal["all", "one", "minority", "majority", "all but one", "the agent"],
    when: Trigger = Start(),
    id: str = "",
) -> Fault:
    """The rank spins until it exceeds its limit of processor time, set to at most one second above its use.

    Args:
        core (flag, default False): Whether the kernel may write a core file, within the rank's hard limit.
        rank: Target: a rank, several ranks, or a word that the seed of the plan resolves.
        when: Trigger, one of start, after, line, point, call, import_of, signal_received, exit_of, restart, phase,
            barrier, probability, all_of, any_of, then. Default: at its start.
        id: Name in journal and results; by default derived from the content of the fault.

    Acts: in rank
    Needs: Python in the rank, started without -S, -I and -E; ctypes
    Verified: SIGXCPU in the rank's exit status
    Undone: never
    Example: ``faults.cpu_limit(rank=1, when=when.line("step 2"))``
    """

def file_limit(
    core: bool = False,
    *,
    rank: int | list[int] | tuple[int, ...] | Literal["all", "one", "minority", "majority", "all but one", "the agent"],
    when: Trigger = Start(),
    id: str = "",
) -> Fault:
    """The rank writes to a file beyond its size limit, with the signal's default action.

    Args:
        core (flag, default False): Whether the kernel may write a core file, within the rank's hard limit.
        rank: Target: a rank, several ranks, or a word that the seed of the plan resolves.
        when: Trigger, one of start, after, line, point, call, import_of, signal_received, exit_of, restart, phase,
            barrier, probability, all_of, any_of, then. Default: at its start.
        id: Name in journal and results; by default derived from the content of the fault.

    Acts: in rank
    Needs: Python in the rank, started without -S, -I and -E; ctypes
    Verified: SIGXFSZ in the rank's exit status
    Undone: never
    Example: ``faults.file_limit(rank=1, when=when.line("step 2"))``
    """

def alarm(
    seconds: float = 0.05,
    *,
    rank: int | list[int] | tuple[int, ...] | Literal["all", "one", "minority", "majority", "all but one", "the agent"],
    when: Trigger = Start(),
    id: str = "",
) -> Fault:
    """An alarm without a handler ends the rank while the program runs.

    Args:
        seconds (seconds, default 0.05): Seconds until the alarm.
        rank: Target: a rank, several ranks, or a word that the seed of the plan resolves.
        when: Trigger, one of start, after, line, point, call, import_of, signal_received, exit_of, restart, phase,
            barrier, probability, all_of, any_of, then. Default: at its start.
        id: Name in journal and results; by default derived from the content of the fault.

    Acts: in rank
    Needs: Python in the rank, started without -S, -I and -E
    Verified: SIGALRM in the rank's exit status
    Undone: never
    Example: ``faults.alarm(rank=1, when=when.line("step 2"))``
    """

def crash_at_import(
    module: str,
    how: Literal["exception", "segfault", "abort"] = "exception",
    *,
    rank: int | list[int] | tuple[int, ...] | Literal["all", "one", "minority", "majority", "all but one", "the agent"],
    when: Trigger = Start(),
    id: str = "",
) -> Fault:
    """The rank crashes when it imports a module.

    Args:
        module (text, required): Full name of the module, which must not be imported yet.
        how (default "exception"): What happens at that moment.
        rank: Target: a rank, several ranks, or a word that the seed of the plan resolves.
        when: Trigger, one of start, after, line, point, call, import_of, signal_received, exit_of, restart, phase,
            barrier, probability, all_of, any_of, then. Default: at its start.
        id: Name in journal and results; by default derived from the content of the fault.

    Acts: in rank
    Needs: Python in the rank, started without -S, -I and -E; ctypes
    Verified: the rank's record that it reached the moment; unless it raises, the signal in its exit status
    Undone: never
    Example: ``faults.crash_at_import("numpy", rank=1)``
    """

def crash_at_exit(
    how: Literal["exception", "segfault", "abort"] = "segfault",
    *,
    rank: int | list[int] | tuple[int, ...] | Literal["all", "one", "minority", "majority", "all but one", "the agent"],
    when: Trigger = Start(),
    id: str = "",
) -> Fault:
    """The rank crashes after the end of its program, in a function that Python calls at exit (atexit).

    Args:
        how (default "segfault"): What happens at that moment.
        rank: Target: a rank, several ranks, or a word that the seed of the plan resolves.
        when: Trigger, one of start, after, line, point, call, import_of, signal_received, exit_of, restart, phase,
            barrier, probability, all_of, any_of, then. Default: at its start.
        id: Name in journal and results; by default derived from the content of the fault.

    Acts: in rank
    Needs: Python in the rank, started without -S, -I and -E; ctypes
    Verified: the rank's record that it reached the moment; unless it raises, the signal in its exit status
    Undone: never
    Example: ``faults.crash_at_exit(rank=1)``
    """

def crash_in_del(
    at: Literal["once", "end"] = "once",
    how: Literal["exception", "segfault", "abort"] = "segfault",
    *,
    rank: int | list[int] | tuple[int, ...] | Literal["all", "one", "minority", "majority", "all but one", "the agent"],
    when: Trigger = Start(),
    id: str = "",
) -> Fault:
    """The rank crashes in the destructor of an object, where Python ignores exceptions.

    Args:
        at (default "once"): Destroyed at once, or at the end of the interpreter.
        how (default "segfault"): What happens at that moment.
        rank: Target: a rank, several ranks, or a word that the seed of the plan resolves.
        when: Trigger, one of start, after, line, point, call, import_of, signal_received, exit_of, restart, phase,
            barrier, probability, all_of, any_of, then. Default: at its start.
        id: Name in journal and results; by default derived from the content of the fault.

    Acts: in rank
    Needs: Python in the rank, started without -S, -I and -E; ctypes
    Verified: the rank's record that it reached the moment; unless it raises, the signal in its exit status
    Undone: never
    Example: ``faults.crash_in_del("end", rank=1)``
    """

def crash_in_handler(
    signal: str | int = "SIGUSR1",
    wait: bool = False,
    how: Literal["exception", "segfault", "abort"] = "segfault",
    *,
    rank: int | list[int] | tuple[int, ...] | Literal["all", "one", "minority", "majority", "all but one", "the agent"],
    when: Trigger = Start(),
    id: str = "",
) -> Fault:
    """The rank crashes in a signal handler, for a signal that it sends to itself or waits for.

    Args:
        signal (signal, default "SIGUSR1"): Signal of the handler.
        wait (flag, default False): Whether it waits for the signal from another process.
        how (default "segfault"): What happens at that moment.
        rank: Target: a rank, several ranks, or a word that the seed of the plan resolves.
        when: Trigger, one of start, after, line, point, call, import_of, signal_received, exit_of, restart, phase,
            barrier, probability, all_of, any_of, then. Default: at its start.
        id: Name in journal and results; by default derived from the content of the fault.

    Acts: in rank
    Needs: Python in the rank, started without -S, -I and -E; ctypes
    Verified: the rank's record that it reached the moment; unless it raises, the signal in its exit status
    Undone: never
    Example: ``faults.crash_in_handler("SIGTERM", wait=True, rank=1)``
    """

def signal(
    signal: str | int,
    group: bool = False,
    every: float = 0.1,
    *,
    rank: int | list[int] | tuple[int, ...] | Literal["all", "one", "minority", "majority", "all but one", "the agent"],
    when: Trigger = Start(),
    times: int | None = None,
    for_: float | None = None,
    id: str = "",
) -> Fault:
    """Sends a signal to a rank, or to all processes of its group.

    Args:
        signal (signal, required): Signal by name or number; real-time signals as SIGRTMIN+n.
        group (flag, default False): Whether to signal the rank's whole process group.
        every (seconds, default 0.1): Seconds between two signals, if `times` is more than one.
        rank: Target: a rank, several ranks, or a word that the seed of the plan resolves.
        when: Trigger, one of start, after, line, point, call, import_of, signal_received, own_exit, exit_of,
            restart, phase, barrier, probability, all_of, any_of, then. Default: at its start.
        times: Number of injections; by default one per occurrence of a limited trigger, otherwise one.
        for_ (seconds): Duration; by default until the end of the job.
        id: Name in journal and results; by default derived from the content of the fault.

    Acts: outside
    Needs: nothing; /proc for signals that do not end the rank
    Verified: a deadly signal in the rank's exit status; a stop as state T in /proc; a handled, blocked or ignored
        one in SigCgt, SigPnd or SigIgn of /proc/PID/status
    Undone: a stopped rank is continued
    Example: ``faults.signal("SIGKILL", rank=2, when=when.line("step 3"))``
    """

def stop(
    group: bool = False,
    *,
    rank: int | list[int] | tuple[int, ...] | Literal["all", "one", "minority", "majority", "all but one", "the agent"],
    when: Trigger = Start(),
    for_: float | None = None,
    id: str = "",
) -> Fault:
    """Stops a rank (SIGSTOP), for a limited time or for good; SIGTERM takes effect only after it continues.

    Args:
        group (flag, default False): Whether to signal the rank's whole process group.
        rank: Target: a rank, several ranks, or a word that the seed of the plan resolves.
        when: Trigger, one of start, after, line, point, call, import_of, signal_received, own_exit, exit_of,
            restart, phase, barrier, probability, all_of, any_of, then. Default: at its start.
        for_ (seconds): Duration; by default until the end of the job.
        id: Name in journal and results; by default derived from the content of the fault.

    Acts: outside
    Needs: /proc
    Verified: state T in /proc/PID/status
    Undone: the rank is continued
    Example: ``faults.stop(rank=1, when=when.line("step 2"), for_=5)``
    """

def trace_stop(
    *,
    rank: int | list[int] | tuple[int, ...] | Literal["all", "one", "minority", "majority", "all but one", "the agent"],
    when: Trigger = Start(),
    for_: float | None = None,
    id: str = "",
) -> Fault:
    """Holds a rank as a debugger does (ptrace): it stops, and only SIGKILL takes effect.

    Args:
        rank: Target: a rank, several ranks, or a word that the seed of the plan resolves.
        when: Trigger, one of start, after, line, point, call, import_of, signal_received, own_exit, exit_of,
            restart, phase, barrier, probability, all_of, any_of, then. Default: at its start.
        for_ (seconds): Duration; by default until the end of the job.
        id: Name in journal and results; by default derived from the content of the fault.

    Acts: outside
    Needs: /proc, ptrace
    Verified: state t of all threads in /proc/PID/task
    Undone: it is released; if derail is killed, the kernel releases it
    Example: ``faults.trace_stop(rank=1, for_=0.5, when=when.line("step 2"))``
    """

def cont(
    group: bool = False,
    *,
    rank: int | list[int] | tuple[int, ...] | Literal["all", "one", "minority", "majority", "all but one", "the agent"],
    when: Trigger = Start(),
    id: str = "",
) -> Fault:
    """Continues a stopped rank (SIGCONT), regardless of what stopped it.

    Args:
        group (flag, default False): Whether to signal the rank's whole process group.
        rank: Target: a rank, several ranks, or a word that the seed of the plan resolves.
        when: Trigger, one of start, after, line, point, call, import_of, signal_received, own_exit, exit_of,
            restart, phase, barrier, probability, all_of, any_of, then. Default: at its start.
        id: Name in journal and results; by default derived from the content of the fault.

    Acts: outside
    Needs: /proc
    Verified: state T in /proc/PID/status before, another one after
    Undone: never
    Example: ``faults.cont(rank=1, when=when.after(2))``
    """

def signal_storm(
    signals: list[str] | list[int] | list[str | int] | tuple[str | int, ...] = ("SIGTERM",),
    count: int = 20,
    enough: int = 0,
    every: float = 0.01,
    *,
    rank: int | list[int] | tuple[int, ...] | Literal["all", "one", "minority", "majority", "all but one", "the agent"],
    when: Trigger = Start(),
    id: str = "",
) -> Fault:
    """Sends a rank many signals in a short time, of one kind or of several in turn.

    Args:
        signals (signals, default ("SIGTERM",)): Names of the signals, sent in turn.
        count (count, default 20): Total number of signals.
        enough (count, default 0): Number that suffices if the rank ends early; 0 for all.
        every (seconds, default 0.01): Seconds between two signals; 0 for all at once.
        rank: Target: a rank, several ranks, or a word that the seed of the plan resolves.
        when: Trigger, one of start, after, line, point, call, import_of, signal_received, own_exit, exit_of,
            restart, phase, barrier, probability, all_of, any_of, then. Default: at its start.
        id: Name in journal and results; by default derived from the content of the fault.

    Acts: outside
    Needs: /proc, for a rank that lives on
    Verified: all were sent while the rank lived, and it catches, ignores or blocks them in /proc/PID/status; or the
        rank ended after the last one, or after `enough`
    Undone: never
    Example: ``faults.signal_storm(["SIGTERM", "SIGINT"], count=50, rank=0, when=when.line("step 2"))``
    """

def second_signal(
    signal: str | int = "SIGTERM",
    delay: float = 0.05,
    *,
    rank: int | list[int] | tuple[int, ...] | Literal["all", "one", "minority", "majority", "all but one", "the agent"],
    when: Trigger = Start(),
    id: str = "",
) -> Fault:
    """Sends a rank a second signal while it handles the first one that the supervisor sent to end it.

    Args:
        signal (signal, default "SIGTERM"): Second signal.
        delay (seconds, default 0.05): Seconds after the first signal.
        rank: Target: a rank, several ranks, or a word that the seed of the plan resolves.
        when: Trigger, one of start, after, line, point, call, import_of, signal_received, own_exit, exit_of,
            restart, phase, barrier, probability, all_of, any_of, then. Default: at its start.
        id: Name in journal and results; by default derived from the content of the fault.

    Acts: outside
    Needs: a job that is torn down; /proc
    Verified: as for `signal`; not reached if the first signal ends the rank
    Undone: never
    Example: ``faults.second_signal("SIGTERM", rank="all")``
    """

def block_signal(
    signals: list[str] | list[int] | list[str | int] | tuple[str | int, ...] = ("SIGTERM",),
    *,
    rank: int | list[int] | tuple[int, ...] | Literal["all", "one", "minority", "majority", "all but one", "the agent"],
    when: Trigger = Start(),
    id: str = "",
) -> Fault:
    """The rank blocks signals: they stay pending without effect.

    Args:
        signals (signals, default ("SIGTERM",)): Names of the signals.
        rank: Target: a rank, several ranks, or a word that the seed of the plan resolves.
        when: Trigger, one of start, after, line, point, call, import_of, signal_received, exit_of, restart, phase,
            barrier, probability, all_of, any_of, then. Default: at its start.
        id: Name in journal and results; by default derived from the content of the fault.

    Acts: in rank
    Needs: Python in the rank, started without -S, -I and -E; /proc
    Verified: SigBlk of all threads in /proc/PID/task
    Undone: never
    Example: ``faults.block_signal(["SIGTERM"], rank=1)``
    """

def ignore_signal(
    signals: list[str] | list[int] | list[str | int] | tuple[str | int, ...] = ("SIGTERM",),
    *,
    rank: int | list[int] | tuple[int, ...] | Literal["all", "one", "minority", "majority", "all but one", "the agent"],
    when: Trigger = Start(),
    id: str = "",
) -> Fault:
    """The rank ignores signals.

    Args:
        signals (signals, default ("SIGTERM",)): Names of the signals.
        rank: Target: a rank, several ranks, or a word that the seed of the plan resolves.
        when: Trigger, one of start, after, line, point, call, import_of, signal_received, exit_of, restart, phase,
            barrier, probability, all_of, any_of, then. Default: at its start.
        id: Name in journal and results; by default derived from the content of the fault.

    Acts: in rank
    Needs: Python in the rank, started without -S, -I and -E; /proc
    Verified: SigIgn in /proc/PID/status
    Undone: never
    Example: ``faults.ignore_signal(["SIGTERM", "SIGINT"], rank=1, when=when.line("step 1"))``
    """

def slow_handler(
    seconds: float = 5.0,
    signal: str | int = "SIGTERM",
    *,
    rank: int | list[int] | tuple[int, ...] | Literal["all", "one", "minority", "majority", "all but one", "the agent"],
    when: Trigger = Start(),
    id: str = "",
) -> Fault:
    """The rank handles a signal slowly: its handler sleeps before the previous action runs.

    Args:
        seconds (seconds, default 5.0): Seconds that the handler sleeps.
        signal (signal, default "SIGTERM"): Signal of the handler.
        rank: Target: a rank, several ranks, or a word that the seed of the plan resolves.
        when: Trigger, one of start, after, line, point, call, import_of, signal_received, exit_of, restart, phase,
            barrier, probability, all_of, any_of, then. Default: at its start.
        id: Name in journal and results; by default derived from the content of the fault.

    Acts: in rank
    Needs: Python in the rank, started without -S, -I and -E; /proc
    Verified: the rank's record that the handler ran, SigCgt in /proc/PID/status, and that the sleep was complete or
        the rank was killed during it
    Undone: never
    Example: ``faults.slow_handler(5, rank=1)``
    """

def raising_handler(
    type: str = "RuntimeError",
    message: str = "injected by derail",
    signal: str | int = "SIGTERM",
    *,
    rank: int | list[int] | tuple[int, ...] | Literal["all", "one", "minority", "majority", "all but one", "the agent"],
    when: Trigger = Start(),
    id: str = "",
) -> Fault:
    """The rank's signal handler raises an exception, at the present position of the main thread.

    Args:
        type (exception, default "RuntimeError"): A builtin exception, or package.module:Class.
        message (text, default "injected by derail"): Argument of the exception.
        signal (signal, default "SIGTERM"): Signal of the handler.
        rank: Target: a rank, several ranks, or a word that the seed of the plan resolves.
        when: Trigger, one of start, after, line, point, call, import_of, signal_received, exit_of, restart, phase,
            barrier, probability, all_of, any_of, then. Default: at its start.
        id: Name in journal and results; by default derived from the content of the fault.

    Acts: in rank
    Needs: Python in the rank, started without -S, -I and -E; /proc
    Verified: the rank's record that the handler ran, SigCgt in /proc/PID/status, and that Python did not ignore the
        exception there
    Undone: never
    Example: ``faults.raising_handler("KeyError", rank=1)``
    """

def exit_zero_handler(
    signal: str | int = "SIGTERM",
    how: Literal["exit", "_exit"] = "exit",
    *,
    rank: int | list[int] | tuple[int, ...] | Literal["all", "one", "minority", "majority", "all but one", "the agent"],
    when: Trigger = Start(),
    id: str = "",
) -> Fault:
    """The rank exits with code 0 when it receives a signal, as if it had finished.

    Args:
        signal (signal, default "SIGTERM"): Signal of the handler.
        how (default "exit"): sys.exit, which can be caught, or os._exit.
        rank: Target: a rank, several ranks, or a word that the seed of the plan resolves.
        when: Trigger, one of start, after, line, point, call, import_of, signal_received, exit_of, restart, phase,
            barrier, probability, all_of, any_of, then. Default: at its start.
        id: Name in journal and results; by default derived from the content of the fault.

    Acts: in rank
    Needs: Python in the rank, started without -S, -I and -E; /proc
    Verified: the rank's record that the handler ran, SigCgt in /proc/PID/status, and the rank's exit code 0
    Undone: never
    Example: ``faults.exit_zero_handler(rank=1)``
    """

def reraising_handler(
    signal: str | int = "SIGTERM",
    *,
    rank: int | list[int] | tuple[int, ...] | Literal["all", "one", "minority", "majority", "all but one", "the agent"],
    when: Trigger = Start(),
    id: str = "",
) -> Fault:
    """The rank's handler cleans up, restores the default action, and sends the signal to itself again.

    Args:
        signal (signal, default "SIGTERM"): Signal of the handler.
        rank: Target: a rank, several ranks, or a word that the seed of the plan resolves.
        when: Trigger, one of start, after, line, point, call, import_of, signal_received, exit_of, restart, phase,
            barrier, probability, all_of, any_of, then. Default: at its start.
        id: Name in journal and results; by default derived from the content of the fault.

    Acts: in rank
    Needs: Python in the rank, started without -S, -I and -E; /proc
    Verified: the rank's record that the handler ran, SigCgt in /proc/PID/status, and the signal in the rank's exit
        status
    Undone: never
    Example: ``faults.reraising_handler(rank=1)``
    """

def forking_handler(
    signal: str | int = "SIGTERM",
    lives: float = 60.0,
    *,
    rank: int | list[int] | tuple[int, ...] | Literal["all", "one", "minority", "majority", "all but one", "the agent"],
    when: Trigger = Start(),
    id: str = "",
) -> Fault:
    """The rank's handler forks before the previous action runs: the child outlives the rank.

    Args:
        signal (signal, default "SIGTERM"): Signal of the handler.
        lives (seconds, default 60.0): Seconds until the child exits; it ignores the signal.
        rank: Target: a rank, several ranks, or a word that the seed of the plan resolves.
        when: Trigger, one of start, after, line, point, call, import_of, signal_received, exit_of, restart, phase,
            barrier, probability, all_of, any_of, then. Default: at its start.
        id: Name in journal and results; by default derived from the content of the fault.

    Acts: in rank
    Needs: Python in the rank, started without -S, -I and -E; /proc
    Verified: the rank's record that the handler ran, SigCgt in /proc/PID/status, and the child alive at the rank's
        exit
    Undone: never
    Example: ``faults.forking_handler(rank=1)``
    """

def hang(
    ignore: list[str] | list[int] | list[str | int] | tuple[str | int, ...] = (),
    *,
    rank: int | list[int] | tuple[int, ...] | Literal["all", "one", "minority", "majority", "all but one", "the agent"],
    when: Trigger = Start(),
    for_: float | None = None,
    id: str = "",
) -> Fault:
    """The rank's main thread sleeps for ever, or for a limited time, and ignores the given signals.

    Args:
        ignore (signals, default ()): Signals that the rank ignores during the hang.
        rank: Target: a rank, several ranks, or a word that the seed of the plan resolves.
        when: Trigger, one of start, after, line, point, call, import_of, signal_received, exit_of, restart, phase,
            barrier, probability, all_of, any_of, then. Default: at its start.
        for_ (seconds): Duration; by default until the end of the job.
        id: Name in journal and results; by default derived from the content of the fault.

    Acts: in rank
    Needs: Python in the rank, started without -S, -I and -E; /proc
    Verified: state S or D in /proc/PID/status, and the ignored signals in its SigIgn
    Undone: after `for_` seconds the main thread continues, and the signals have their handlers again
    Example: ``faults.hang(rank=3, ignore=["SIGTERM"], when=when.line("step 2"))``
    """

def deadlock(
    *,
    rank: int | list[int] | tuple[int, ...] | Literal["all", "one", "minority", "majority", "all but one", "the agent"],
    when: Trigger = Start(),
    for_: float | None = None,
    id: str = "",
) -> Fault:
    """The rank's main thread waits for a lock that it already holds.

    Args:
        rank: Target: a rank, several ranks, or a word that the seed of the plan resolves.
        when: Trigger, one of start, after, line, point, call, import_of, signal_received, exit_of, restart, phase,
            barrier, probability, all_of, any_of, then. Default: at its start.
        for_ (seconds): Duration; by default until the end of the job.
        id: Name in journal and results; by default derived from the content of the fault.

    Acts: in rank
    Needs: Python in the rank, started without -S, -I and -E; /proc
    Verified: state S in /proc/PID/status, and a futex in /proc/PID/wchan if the kernel shows it
    Undone: after `for_` seconds the main thread continues
    Example: ``faults.deadlock(rank=1, when=when.line("step 2"))``
    """

def gil_held(
    *,
    rank: int | list[int] | tuple[int, ...] | Literal["all", "one", "minority", "majority", "all but one", "the agent"],
    when: Trigger = Start(),
    for_: float | None = None,
    id: str = "",
) -> Fault:
    """The rank's main thread waits in C code and keeps the GIL, so that no other thread and no handler runs.

    Args:
        rank: Target: a rank, several ranks, or a word that the seed of the plan resolves.
        when: Trigger, one of start, after, line, point, call, import_of, signal_received, exit_of, restart, phase,
            barrier, probability, all_of, any_of, then. Default: at its start.
        for_ (seconds): Duration; by default until the end of the job.
        id: Name in journal and results; by default derived from the content of the fault.

    Acts: in rank
    Needs: Python in the rank, started without -S, -I and -E; ctypes; a Python with a GIL; /proc
    Verified: state S, and a thread of the rank that no longer moves a descriptor (/proc/PID/fdinfo)
    Undone: after `for_` seconds the main thread continues
    Example: ``faults.gil_held(rank=1, for_=5, when=when.line("step 2"))``
    """

def busy_loop(
    *,
    rank: int | list[int] | tuple[int, ...] | Literal["all", "one", "minority", "majority", "all but one", "the agent"],
    when: Trigger = Start(),
    for_: float | None = None,
    id: str = "",
) -> Fault:
    """The rank's main thread spins in an empty loop.

    Args:
        rank: Target: a rank, several ranks, or a word that the seed of the plan resolves.
        when: Trigger, one of start, after, line, point, call, import_of, signal_received, exit_of, restart, phase,
            barrier, probability, all_of, any_of, then. Default: at its start.
        for_ (seconds): Duration; by default until the end of the job.
        id: Name in journal and results; by default derived from the content of the fault.

    Acts: in rank
    Needs: Python in the rank, started without -S, -I and -E; /proc
    Verified: state R in /proc/PID/status, and growing processor time in /proc/PID/stat
    Undone: after `for_` seconds the main thread continues
    Example: ``faults.busy_loop(rank=1, when=when.line("step 2"))``
    """

def blocked_pipe(
    *,
    rank: int | list[int] | tuple[int, ...] | Literal["all", "one", "minority", "majority", "all but one", "the agent"],
    when: Trigger = Start(),
    for_: float | None = None,
    id: str = "",
) -> Fault:
    """The rank's main thread blocks in a write to a full pipe that is never read.

    Args:
        rank: Target: a rank, several ranks, or a word that the seed of the plan resolves.
        when: Trigger, one of start, after, line, point, call, import_of, signal_received, exit_of, restart, phase,
            barrier, probability, all_of, any_of, then. Default: at its start.
        for_ (seconds): Duration; by default until the end of the job.
        id: Name in journal and results; by default derived from the content of the fault.

    Acts: in rank
    Needs: Python in the rank, started without -S, -I and -E; /proc
    Verified: state S in /proc/PID/status, and pipe_write in /proc/PID/wchan if the kernel shows it
    Undone: after `for_` seconds the main thread continues
    Example: ``faults.blocked_pipe(rank=1, when=when.line("step 2"))``
    """

def hang_at_exit(
    *,
    rank: int | list[int] | tuple[int, ...] | Literal["all", "one", "minority", "majority", "all but one", "the agent"],
    when: Trigger = Start(),
    for_: float | None = None,
    id: str = "",
) -> Fault:
    """The rank hangs after the end of its program, in a function that Python calls at exit (atexit).

    Args:
        rank: Target: a rank, several ranks, or a word that the seed of the plan resolves.
        when: Trigger, one of start, after, line, point, call, import_of, signal_received, exit_of, restart, phase,
            barrier, probability, all_of, any_of, then. Default: at its start.
        for_ (seconds): Duration; by default until the end of the job.
        id: Name in journal and results; by default derived from the content of the fault.

    Acts: in rank
    Needs: Python in the rank, started without -S, -I and -E; /proc
    Verified: the rank's record that it reached the function, and state S in /proc/PID/status
    Undone: after `for_` seconds the rank ends
    Example: ``faults.hang_at_exit(rank=1)``
    """

def hang_thread(
    *,
    rank: int | list[int] | tuple[int, ...] | Literal["all", "one", "minority", "majority", "all but one", "the agent"],
    when: Trigger = Start(),
    for_: float | None = None,
    id: str = "",
) -> Fault:
    """The rank hangs after the end of its program: Python joins a thread that does not end.

    Args:
        rank: Target: a rank, several ranks, or a word that the seed of the plan resolves.
        when: Trigger, one of start, after, line, point, call, import_of, signal_received, exit_of, restart, phase,
            barrier, probability, all_of, any_of, then. Default: at its start.
        for_ (seconds): Duration; by default until the end of the job.
        id: Name in journal and results; by default derived from the content of the fault.

    Acts: in rank
    Needs: Python in the rank, started without -S, -I and -E; /proc
    Verified: the thread's record that the main thread has ended, and state S in /proc/PID/status
    Undone: after `for_` seconds the thread ends, and the rank with it
    Example: ``faults.hang_thread(rank=1)``
    """

def uninterruptible(
    *,
    rank: int | list[int] | tuple[int, ...] | Literal["all", "one", "minority", "majority", "all but one", "the agent"],
    when: Trigger = Start(),
    for_: float | None = None,
    id: str = "",
) -> Fault:
    """The rank's main thread waits in the kernel, in state D, where only SIGKILL takes effect.

    Args:
        rank: Target: a rank, several ranks, or a word that the seed of the plan resolves.
        when: Trigger, one of start, after, line, point, call, import_of, signal_received, exit_of, restart, phase,
            barrier, probability, all_of, any_of, then. Default: at its start.
        for_ (seconds): Duration; by default until the end of the job.
        id: Name in journal and results; by default derived from the content of the fault.

    Acts: in rank
    Needs: Python in the rank, started without -S, -I and -E; ctypes; /proc
    Verified: state D in /proc/PID/status, and the child that it waits for
    Undone: after `for_` seconds the main thread continues; at the end of the job the child is killed
    Example: ``faults.uninterruptible(rank=1, when=when.line("step 2"))``
    """

def value_huge(
    size: int | str,
    beside: bool = False,
    *,
    rank: int | list[int] | tuple[int, ...] | Literal["all", "one", "minority", "majority", "all but one", "the agent"],
    when: Trigger = Start(),
    id: str = "",
) -> Fault:
    """The rank's function returns a large number of bytes.

    Args:
        size (bytes, required): Number of bytes.
        beside (flag, default False): Whether the original value is returned with them, as (value, bytes).
        rank: Target: a rank, several ranks, or a word that the seed of the plan resolves.
        when: Trigger, one of start, after, line, point, call, import_of, signal_received, exit_of, restart, phase,
            barrier, probability, all_of, any_of, then. Default: at its start.
        id: Name in journal and results; by default derived from the content of the fault.

    Acts: in rank
    Needs: a rank that is a function; Python in the rank, started without -S, -I and -E
    Verified: the rank's record of the return, and that the supervisor received a value
    Undone: never
    Example: ``faults.value_huge("256M", rank=1)``
    """

def value_unpicklable(
    kind: Literal["lambda", "raises", "unpickling"] = "lambda",
    *,
    rank: int | list[int] | tuple[int, ...] | Literal["all", "one", "minority", "majority", "all but one", "the agent"],
    when: Trigger = Start(),
    id: str = "",
) -> Fault:
    """The rank's function returns a value that cannot be sent.

    Args:
        kind (default "lambda"): A lambda; an object that raises when it is pickled; or one that raises when it is
            unpickled.
        rank: Target: a rank, several ranks, or a word that the seed of the plan resolves.
        when: Trigger, one of start, after, line, point, call, import_of, signal_received, exit_of, restart, phase,
            barrier, probability, all_of, any_of, then. Default: at its start.
        id: Name in journal and results; by default derived from the content of the fault.

    Acts: in rank
    Needs: a rank that is a function; Python in the rank, started without -S, -I and -E
    Verified: the rank's record of the return, its failure, and that no value was received (for unpickling: that one
        was)
    Undone: never
    Example: ``faults.value_unpicklable("unpickling", rank=1)``
    """

def value_slow(
    seconds: float = 1.0,
    *,
    rank: int | list[int] | tuple[int, ...] | Literal["all", "one", "minority", "majority", "all but one", "the agent"],
    when: Trigger = Start(),
    id: str = "",
) -> Fault:
    """Sending the value that the rank's function returns takes time; the value itself arrives unchanged.

    Args:
        seconds (seconds, default 1.0): Delay in seconds.
        rank: Target: a rank, several ranks, or a word that the seed of the plan resolves.
        when: Trigger, one of start, after, line, point, call, import_of, signal_received, exit_of, restart, phase,
            barrier, probability, all_of, any_of, then. Default: at its start.
        id: Name in journal and results; by default derived from the content of the fault.

    Acts: in rank
    Needs: a rank that is a function; Python in the rank, started without -S, -I and -E
    Verified: the rank's records of the start and end of the pickling, and that the supervisor received a value
    Undone: never
    Example: ``faults.value_slow(2, rank=1)``
    """

def killed_while_sending(
    size: int | str = 8388608,
    *,
    rank: int | list[int] | tuple[int, ...] | Literal["all", "one", "minority", "majority", "all but one", "the agent"],
    when: Trigger = Start(),
    id: str = "",
) -> Fault:
    """The rank gets SIGKILL after a part of its function's return value has been sent.

    Args:
        size (bytes, default 8388608): Bytes sent before the signal.
        rank: Target: a rank, several ranks, or a word that the seed of the plan resolves.
        when: Trigger, one of start, after, line, point, call, import_of, signal_received, exit_of, restart, phase,
            barrier, probability, all_of, any_of, then. Default: at its start.
        id: Name in journal and results; by default derived from the content of the fault.

    Acts: in rank
    Needs: a rank that is a function; Python in the rank, started without -S, -I and -E
    Verified: the rank's record that it was sending, SIGKILL in its exit status, and that no value was received
    Undone: never
    Example: ``faults.killed_while_sending(rank=1)``
    """

def crash_after_return(
    how: Literal["segfault", "abort"] = "segfault",
    unsent: bool = False,
    *,
    rank: int | list[int] | tuple[int, ...] | Literal["all", "one", "minority", "majority", "all but one", "the agent"],
    when: Trigger = Start(),
    id: str = "",
) -> Fault:
    """The rank crashes after its function has returned, and after or before its value is sent.

    Args:
        how (default "segfault"): Kind of crash.
        unsent (flag, default False): Whether it crashes before its value is sent.
        rank: Target: a rank, several ranks, or a word that the seed of the plan resolves.
        when: Trigger, one of start, after, line, point, call, import_of, signal_received, exit_of, restart, phase,
            barrier, probability, all_of, any_of, then. Default: at its start.
        id: Name in journal and results; by default derived from the content of the fault.

    Acts: in rank
    Needs: a rank that is a function; Python in the rank, started without -S, -I and -E; ctypes
    Verified: the rank's record, the signal in its exit status, and whether the supervisor received a value
    Undone: never
    Example: ``faults.crash_after_return(rank=1)``
    """

def error_file(
    content: Literal[
        "truncated",
        "empty",
        "blank",
        "text",
        "word",
        "not_json",
        "two_documents",
        "single_quotes",
        "binary",
        "pickle",
        "null",
        "list",
        "string",
        "number",
        "nan",
        "infinity",
        "long_number",
        "bom",
        "utf16",
        "utf32",
        "invalid_utf8",
        "nul",
        "nul_padded",
        "nul_in_front",
        "raw_newline",
        "surrogate",
        "terminal_codes",
        "deep",
        "many_values",
        "huge",
        "no_message",
        "null_message",
        "number_message",
        "list_message",
        "empty_message",
        "no_extra_info",
        "list_extra_info",
        "duplicate_keys",
        "no_timestamp",
        "timestamp_null",
        "timestamp_word",
        "timestamp_fraction",
        "timestamp_milliseconds",
        "timestamp_huge",
        "timestamp_zero",
        "timestamp_negative",
        "null_callstack",
        "list_callstack",
        "missing",
        "directory",
        "fifo",
        "socket",
        "dangling_link",
        "link_loop",
        "link_to_directory",
        "null_device",
        "endless_device",
        "full_device",
        "read_error",
        "hole",
        "unreadable",
    ],
    *,
    rank: int | list[int] | tuple[int, ...] | Literal["all", "one", "minority", "majority", "all but one", "the agent"],
    when: Trigger = OwnExit(),
    id: str = "",
) -> Fault:
    """Damages the error file of a rank between the rank's exit and the supervisor's read.

    Args:
        content (required): Content or file type that the supervisor finds instead.
        rank: Target: a rank, several ranks, or a word that the seed of the plan resolves.
        when: Trigger, one of own_exit. Default: at its exit.
        id: Name in journal and results; by default derived from the content of the fault.

    Acts: outside
    Needs: a rank with an error file; for unreadable, a user other than root
    Verified: the file's bytes, or the entry in its place, read again
    Undone: never
    Example: ``faults.error_file("truncated", rank=1)``
    """

def error_file_stale(
    age: float = 3600.0,
    message: str = "RuntimeError: of an earlier attempt",
    *,
    rank: int | list[int] | tuple[int, ...] | Literal["all", "one", "minority", "majority", "all but one", "the agent"],
    when: Trigger = Start(),
    id: str = "",
) -> Fault:
    """A stale error file of an earlier attempt, with its old times, is in place, and the rank writes none.

    Args:
        age (seconds, default 3600.0): Age of the file, by its own times.
        message (text, default "RuntimeError: of an earlier attempt"): Error message in it.
        rank: Target: a rank, several ranks, or a word that the seed of the plan resolves.
        when: Trigger, one of start, own_exit. Default: at its start.
        id: Name in journal and results; by default derived from the content of the fault.

    Acts: outside
    Needs: a rank with an error file that it does not write
    Verified: the file's bytes, and the same file with the same time at the rank's exit
    Undone: never
    Example: ``faults.error_file_stale(rank=1)``
    """

def error_file_of_other_rank(
    other: int = 0,
    *,
    rank: int | list[int] | tuple[int, ...] | Literal["all", "one", "minority", "majority", "all but one", "the agent"],
    when: Trigger = OwnExit(),
    id: str = "",
) -> Fault:
    """After the rank's exit, its error file is replaced by that of another rank.

    Args:
        other (count, default 0): Rank of the other file, which must exist by then.
        rank: Target: a rank, several ranks, or a word that the seed of the plan resolves.
        when: Trigger, one of own_exit. Default: at its exit.
        id: Name in journal and results; by default derived from the content of the fault.

    Acts: outside
    Needs: a rank with an error file, and another rank that has written its own before
    Verified: the file's bytes, read again, equal to those of the other rank
    Undone: never
    Example: ``faults.error_file_of_other_rank(0, rank=1)``
    """

def error_file_skewed(
    seconds: float,
    *,
    rank: int | list[int] | tuple[int, ...] | Literal["all", "one", "minority", "majority", "all but one", "the agent"],
    when: Trigger = OwnExit(),
    id: str = "",
) -> Fault:
    """After the rank's exit, all times in its error file are shifted by a number of seconds.

    Args:
        seconds (seconds, required): Seconds later, or earlier if negative.
        rank: Target: a rank, several ranks, or a word that the seed of the plan resolves.
        when: Trigger, one of own_exit. Default: at its exit.
        id: Name in journal and results; by default derived from the content of the fault.

    Acts: outside
    Needs: a rank with an error file that it writes
    Verified: the times in the file, read again
    Undone: never
    Example: ``faults.error_file_skewed(-3600, rank=1)``
    """

def error_file_replaced(
    every: float = 0.0002,
    *,
    rank: int | list[int] | tuple[int, ...] | Literal["all", "one", "minority", "majority", "all but one", "the agent"],
    when: Trigger = OwnExit(),
    id: str = "",
) -> Fault:
    """From the rank's exit to the end of the job, its error file alternates with the first half of itself.

    Args:
        every (seconds, default 0.0002): Seconds between two replacements.
        rank: Target: a rank, several ranks, or a word that the seed of the plan resolves.
        when: Trigger, one of own_exit. Default: at its exit.
        id: Name in journal and results; by default derived from the content of the fault.

    Acts: outside
    Needs: a rank with an error file that it writes; hard links
    Verified: the inode under its name, which keeps changing
    Undone: the file that the rank wrote is restored
    Example: ``faults.error_file_replaced(rank=1)``
    """

def error_file_unwritable(
    how: Literal["missing_directory", "full_disk", "directory"] = "missing_directory",
    *,
    rank: int | list[int] | tuple[int, ...] | Literal["all", "one", "minority", "majority", "all but one", "the agent"],
    when: Trigger = Start(),
    id: str = "",
) -> Fault:
    """The path of the rank's error file cannot be written, so that the supervisor finds no file.

    Args:
        how (default "missing_directory"): Path in a missing directory, on a full disk (/dev/full), or of a
            directory.
        rank: Target: a rank, several ranks, or a word that the seed of the plan resolves.
        when: Trigger, one of start. Default: at its start.
        id: Name in journal and results; by default derived from the content of the fault.

    Acts: before start
    Needs: a rank with an error file that is a program or a spawned function
    Verified: TORCHELASTIC_ERROR_FILE in /proc/PID/environ, and the error of derail's own write to that path
    Undone: ends with the rank
    Example: ``faults.error_file_unwritable("full_disk", rank=1)``
    """

def checkpoint_damaged(
    path: str,
    how: Literal["truncated", "emptied", "missing", "bit_flipped", "zeroed"] = "truncated",
    *,
    rank: int | list[int] | tuple[int, ...] | Literal["all", "one", "minority", "majority", "all but one", "the agent"],
    when: Trigger = Start(),
    times: int | None = None,
    id: str = "",
) -> Fault:
    """Damages a file that a rank has written, such as a checkpoint; the next reader must detect it.

    Args:
        path (file, required): Path of the file, relative to the rank's working directory; * and ? select the newest
            match.
        how (default "truncated"): Cut in half, emptied, deleted, one bit flipped, or one page zeroed; the seed
            selects bit and page.
        rank: Target: a rank, several ranks, or a word that the seed of the plan resolves.
        when: Trigger, one of start, after, line, point, call, import_of, signal_received, own_exit, exit_of,
            restart, phase, barrier, probability, all_of, any_of, then. Default: at its start.
        times: Number of injections; by default one per occurrence of a limited trigger, otherwise one.
        id: Name in journal and results; by default derived from the content of the fault.

    Acts: outside
    Needs: /proc, for a path that is not absolute
    Verified: the file's size or changed bytes, read again
    Undone: never
    Example: ``faults.checkpoint_damaged("checkpoints/*.pt", "bit_flipped", rank=0, when=when.line("saved step
        4"))``
    """

def limit(
    resource: Literal["AS", "CORE", "CPU", "DATA", "FSIZE", "MEMLOCK", "NOFILE", "NPROC", "STACK"],
    value: int | str,
    hard: bool = False,
    *,
    rank: int | list[int] | tuple[int, ...] | Literal["all", "one", "minority", "majority", "all but one", "the agent"],
    when: Trigger = Start(),
    for_: float | None = None,
    id: str = "",
) -> Fault:
    """Sets a resource limit of a running rank (prlimit).

    Args:
        resource (required): Name of the limit.
        value (amount, required): The new soft limit: bytes (or "64M"), seconds for CPU, a number for NOFILE and
            NPROC, or "unlimited".
        hard (flag, default False): Whether the hard limit is lowered as well, so that the rank cannot raise the
            soft limit again.
        rank: Target: a rank, several ranks, or a word that the seed of the plan resolves.
        when: Trigger, one of start, after, line, point, call, import_of, signal_received, own_exit, exit_of,
            restart, phase, barrier, probability, all_of, any_of, then. Default: at its start.
        for_ (seconds): Duration; by default until the end of the job.
        id: Name in journal and results; by default derived from the content of the fault.

    Acts: outside
    Needs: /proc; for NPROC to have an effect, a rank that is not root
    Verified: the limit in /proc/PID/limits after the change
    Undone: the previous limit is restored; after a lowered hard limit that needs CAP_SYS_RESOURCE
    Example: ``faults.limit("NOFILE", 16, rank=1, when=when.line("step 2"))``
    """

def oom_score(
    adjustment: int = 1000,
    *,
    rank: int | list[int] | tuple[int, ...] | Literal["all", "one", "minority", "majority", "all but one", "the agent"],
    when: Trigger = Start(),
    for_: float | None = None,
    id: str = "",
) -> Fault:
    """Makes a rank the kernel's first victim when memory runs out (oom_score_adj).

    Args:
        adjustment (count, default 1000): From -1000 (never a victim) to 1000 (first victim); lowering it needs
            CAP_SYS_RESOURCE.
        rank: Target: a rank, several ranks, or a word that the seed of the plan resolves.
        when: Trigger, one of start, after, line, point, call, import_of, signal_received, own_exit, exit_of,
            restart, phase, barrier, probability, all_of, any_of, then. Default: at its start.
        for_ (seconds): Duration; by default until the end of the job.
        id: Name in journal and results; by default derived from the content of the fault.

    Acts: outside
    Needs: /proc
    Verified: /proc/PID/oom_score_adj after the change
    Undone: the previous value is restored
    Example: ``faults.oom_score(1000, rank=0)``
    """

def fd_leak(
    count: int = 0,
    *,
    rank: int | list[int] | tuple[int, ...] | Literal["all", "one", "minority", "majority", "all but one", "the agent"],
    when: Trigger = Start(),
    id: str = "",
) -> Fault:
    """The rank leaks descriptors, up to a number or up to its limit.

    Args:
        count (count, default 0): Number of open descriptors after the leak; 0 for all that RLIMIT_NOFILE allows.
        rank: Target: a rank, several ranks, or a word that the seed of the plan resolves.
        when: Trigger, one of start, after, line, point, call, import_of, signal_received, exit_of, restart, phase,
            barrier, probability, all_of, any_of, then. Default: at its start.
        id: Name in journal and results; by default derived from the content of the fault.

    Acts: in rank
    Needs: Python in the rank, started without -S, -I and -E; /proc
    Verified: the number of entries in /proc/PID/fd
    Undone: never
    Example: ``faults.fd_leak(rank=0, when=when.point('after_step'))``
    """

def full_disk(
    directory: str,
    size: int | str = 4096,
    inodes: int = 0,
    *,
    rank: int | list[int] | tuple[int, ...] | Literal["all", "one", "minority", "majority", "all but one", "the agent"],
    when: Trigger = Start(),
    id: str = "",
) -> Fault:
    """The rank alone sees an empty file system of a few bytes at a directory.

    Args:
        directory (path, required): Directory, with its content hidden from the rank.
        size (bytes, default 4096): Size in bytes, or "64K"; at least one page.
        inodes (count, default 0): Maximum number of files; 0 for no limit other than the size.
        rank: Target: a rank, several ranks, or a word that the seed of the plan resolves.
        when: Trigger, one of start. Default: at its start.
        id: Name in journal and results; by default derived from the content of the fault.

    Acts: before start
    Needs: a rank that is a program; a mount namespace, which for users other than root needs a user namespace
    Verified: statvfs of the directory through /proc/PID/root, and the tmpfs in /proc/PID/mountinfo
    Undone: ends with the rank
    Example: ``faults.full_disk("/tmp", size="64K", rank=0)``
    """

def full_inodes(
    directory: str,
    files: int = 1,
    *,
    rank: int | list[int] | tuple[int, ...] | Literal["all", "one", "minority", "majority", "all but one", "the agent"],
    when: Trigger = Start(),
    id: str = "",
) -> Fault:
    """The rank alone sees an empty file system at a directory, with room for data but only for few files.

    Args:
        directory (path, required): Directory, with its content hidden from the rank.
        files (count, default 1): Maximum number of files.
        rank: Target: a rank, several ranks, or a word that the seed of the plan resolves.
        when: Trigger, one of start. Default: at its start.
        id: Name in journal and results; by default derived from the content of the fault.

    Acts: before start
    Needs: a rank that is a program; a mount namespace, which for users other than root needs a user namespace
    Verified: statvfs of the directory through /proc/PID/root, and the tmpfs in /proc/PID/mountinfo
    Undone: ends with the rank
    Example: ``faults.full_inodes("/tmp", rank=0)``
    """

def full_shm(
    size: int | str = 4096,
    inodes: int = 0,
    *,
    rank: int | list[int] | tuple[int, ...] | Literal["all", "one", "minority", "majority", "all but one", "the agent"],
    when: Trigger = Start(),
    id: str = "",
) -> Fault:
    """The rank alone sees a tiny /dev/shm: writes fail with ENOSPC, access to mapped memory with SIGBUS.

    Args:
        size (bytes, default 4096): Size in bytes, or "1M"; at least one page.
        inodes (count, default 0): Maximum number of files; 0 for no limit other than the size.
        rank: Target: a rank, several ranks, or a word that the seed of the plan resolves.
        when: Trigger, one of start. Default: at its start.
        id: Name in journal and results; by default derived from the content of the fault.

    Acts: before start
    Needs: a rank that is a program; a mount namespace, which for users other than root needs a user namespace
    Verified: statvfs of /dev/shm through /proc/PID/root, and the tmpfs in /proc/PID/mountinfo
    Undone: ends with the rank
    Example: ``faults.full_shm(size="1M", rank="all")``
    """

def memory_limit(
    size: int | str,
    *,
    rank: int | list[int] | tuple[int, ...] | Literal["all", "one", "minority", "majority", "all but one", "the agent"],
    when: Trigger = Start(),
    for_: float | None = None,
    id: str = "",
) -> Fault:
    """Moves a running rank into a cgroup with a memory limit: the kernel kills a process that exceeds it.

    Args:
        size (bytes, required): Limit of the rank with its children: bytes, or "256M".
        rank: Target: a rank, several ranks, or a word that the seed of the plan resolves.
        when: Trigger, one of start, after, line, point, call, import_of, signal_received, own_exit, exit_of,
            restart, phase, barrier, probability, all_of, any_of, then. Default: at its start.
        for_ (seconds): Duration; by default until the end of the job.
        id: Name in journal and results; by default derived from the content of the fault.

    Acts: outside
    Needs: a cgroup with the memory controller, of version 1 or 2, delegated to this user
    Verified: the rank's cgroup in /proc/PID/cgroup, and its limit after the change
    Undone: the limit is lifted, the rank returns to its cgroup, and the new one is removed
    Example: ``faults.memory_limit("256M", rank=1, when=when.line("step 2"))``
    """

def cpu_quota(
    cpus: float = 0.5,
    *,
    rank: int | list[int] | tuple[int, ...] | Literal["all", "one", "minority", "majority", "all but one", "the agent"],
    when: Trigger = Start(),
    for_: float | None = None,
    id: str = "",
) -> Fault:
    """Moves a running rank into a cgroup with a quota of processor time, as containers have.

    Args:
        cpus (factor, default 0.5): Processors that the rank and its children may use.
        rank: Target: a rank, several ranks, or a word that the seed of the plan resolves.
        when: Trigger, one of start, after, line, point, call, import_of, signal_received, own_exit, exit_of,
            restart, phase, barrier, probability, all_of, any_of, then. Default: at its start.
        for_ (seconds): Duration; by default until the end of the job.
        id: Name in journal and results; by default derived from the content of the fault.

    Acts: outside
    Needs: a cgroup with the cpu controller, of version 1 or 2, delegated to this user
    Verified: the rank's cgroup in /proc/PID/cgroup, and its quota after the change
    Undone: the quota is lifted, the rank returns to its cgroup, and the new one is removed
    Example: ``faults.cpu_quota(0.1, rank=1, when=when.line("step 2"))``
    """

def freeze(
    *,
    rank: int | list[int] | tuple[int, ...] | Literal["all", "one", "minority", "majority", "all but one", "the agent"],
    when: Trigger = Start(),
    for_: float | None = None,
    id: str = "",
) -> Fault:
    """Freezes a rank and its children in a cgroup: of all signals, only those that kill take effect.

    Args:
        rank: Target: a rank, several ranks, or a word that the seed of the plan resolves.
        when: Trigger, one of start, after, line, point, call, import_of, signal_received, own_exit, exit_of,
            restart, phase, barrier, probability, all_of, any_of, then. Default: at its start.
        for_ (seconds): Duration; by default until the end of the job.
        id: Name in journal and results; by default derived from the content of the fault.

    Acts: outside
    Needs: a cgroup of version 2, delegated to this user
    Verified: the rank's cgroup in /proc/PID/cgroup, and frozen 1 in its cgroup.events
    Undone: it is thawed and returns to its cgroup; if derail is killed, the job's keeper ends the rank
    Example: ``faults.freeze(rank=1, when=when.line("step 2"), for_=5)``
    """

def starve(
    cpu: int = -1,
    priority: Literal["idle", "nice", "keep"] = "idle",
    *,
    rank: int | list[int] | tuple[int, ...] | Literal["all", "one", "minority", "majority", "all but one", "the agent"],
    when: Trigger = Start(),
    for_: float | None = None,
    id: str = "",
) -> Fault:
    """Binds all threads of a rank to one processor, at the lowest priority.

    Args:
        cpu (count, default -1): Number of the processor; -1 for the first that the rank may use.
        priority (default "idle"): idle: runs only on an otherwise idle processor (SCHED_IDLE, nice 19); nice: nice
            19; keep: unchanged.
        rank: Target: a rank, several ranks, or a word that the seed of the plan resolves.
        when: Trigger, one of start, after, line, point, call, import_of, signal_received, own_exit, exit_of,
            restart, phase, barrier, probability, all_of, any_of, then. Default: at its start.
        for_ (seconds): Duration; by default until the end of the job.
        id: Name in journal and results; by default derived from the content of the fault.

    Acts: outside
    Needs: Linux with /proc
    Verified: sched_getaffinity of every thread, nice value and policy in /proc/PID/stat
    Undone: processors and priorities are restored; raising a priority needs CAP_SYS_NICE or RLIMIT_NICE
    Example: ``faults.starve(rank=1, when=when.line("step 2"))``
    """

def throttle(
    factor: float = 2.0,
    period: float = 0.1,
    *,
    rank: int | list[int] | tuple[int, ...] | Literal["all", "one", "minority", "majority", "all but one", "the agent"],
    when: Trigger = Start(),
    for_: float | None = None,
    id: str = "",
) -> Fault:
    """Makes a rank a straggler: stopped and continued in turn, it runs slower by a factor.

    Args:
        factor (factor, default 2.0): Slowdown: with 4 the rank runs a quarter of the time.
        period (seconds, default 0.1): Seconds from one stop to the next.
        rank: Target: a rank, several ranks, or a word that the seed of the plan resolves.
        when: Trigger, one of start, after, line, point, call, import_of, signal_received, own_exit, exit_of,
            restart, phase, barrier, probability, all_of, any_of, then. Default: at its start.
        for_ (seconds): Duration; by default until the end of the job.
        id: Name in journal and results; by default derived from the content of the fault.

    Acts: outside
    Needs: /proc
    Verified: state T and then another state in /proc/PID/status
    Undone: a last SIGCONT; if derail is killed, the keeper of the job ends the rank, stopped or not
    Example: ``faults.throttle(4, rank=2, for_=10)``
    """

def syscall_errno(
    call: str | int,
    errno: str,
    calls: str | int = "1",
    fd: int | None = None,
    path: str = "",
    children: bool = False,
    *,
    rank: int | list[int] | tuple[int, ...] | Literal["all", "one", "minority", "majority", "all but one", "the agent"],
    when: Trigger = Start(),
    id: str = "",
) -> Fault:
    """Makes the n-th call of a system call fail, without executing it, in an unchanged program.

    Args:
        call (system call, required): System call by name or number; several, separated by commas, are counted
            together.
        errno (errno, required): Error of the call, by name.
        calls (calls, default "1"): Occurrences, counted from 1: `4`, `2..6`, `2..8+2` (every second one), `3..`
            (all from the third on).
        fd (descriptor, default None): Only calls on this descriptor count.
        path (text, default ""): Only calls on a path that contains this text count, or on a descriptor of such a
            file.
        children (flag, default False): Whether calls of the rank's child processes count as well.
        rank: Target: a rank, several ranks, or a word that the seed of the plan resolves.
        when: Trigger, one of start, after, line, point, call, import_of, signal_received, own_exit, exit_of,
            restart, phase, barrier, probability, all_of, any_of, then. Default: at its start.
        id: Name in journal and results; by default derived from the content of the fault.

    Acts: before start
    Needs: Linux 5.5 on x86_64 or aarch64, seccomp user notification; a rank that is a program; it cannot gain
        privileges by exec (no_new_privs), and 32-bit programs are not covered
    Verified: the kernel accepted the errno as the result of the rank's counted call, which was waiting
    Undone: held calls continue at the end of the job; such calls of a process that outlives it fail with ENOSYS
    Example: ``faults.syscall_errno("write", "ENOSPC", calls=4, rank=0)``
    """

def syscall_delay(
    call: str | int,
    seconds: float,
    calls: str | int = "1",
    fd: int | None = None,
    path: str = "",
    children: bool = False,
    *,
    rank: int | list[int] | tuple[int, ...] | Literal["all", "one", "minority", "majority", "all but one", "the agent"],
    when: Trigger = Start(),
    id: str = "",
) -> Fault:
    """Delays the n-th call of a system call, in an unchanged program.

    Args:
        call (system call, required): System call by name or number; several, separated by commas, are counted
            together.
        seconds (seconds, required): Delay in seconds.
        calls (calls, default "1"): Occurrences, counted from 1: `4`, `2..6`, `2..8+2` (every second one), `3..`
            (all from the third on).
        fd (descriptor, default None): Only calls on this descriptor count.
        path (text, default ""): Only calls on a path that contains this text count, or on a descriptor of such a
            file.
        children (flag, default False): Whether calls of the rank's child processes count as well.
        rank: Target: a rank, several ranks, or a word that the seed of the plan resolves.
        when: Trigger, one of start, after, line, point, call, import_of, signal_received, own_exit, exit_of,
            restart, phase, barrier, probability, all_of, any_of, then. Default: at its start.
        id: Name in journal and results; by default derived from the content of the fault.

    Acts: before start
    Needs: Linux 5.5 on x86_64 or aarch64, seccomp user notification; a rank that is a program; it cannot gain
        privileges by exec (no_new_privs), and 32-bit programs are not covered
    Verified: the rank's counted call waited for the whole delay and then continued, or its caller died waiting
    Undone: held calls continue at the end of the job; such calls of a process that outlives it fail with ENOSYS
    Example: ``faults.syscall_delay("connect", 0.5, calls="1..3", rank="all")``
    """

def sever(
    peer_port: int = 0,
    local_port: int = 0,
    *,
    rank: int | list[int] | tuple[int, ...] | Literal["all", "one", "minority", "majority", "all but one", "the agent"],
    when: Trigger = Start(),
    id: str = "",
) -> Fault:
    """Shuts down established TCP connections of a rank: both ends read end of file, writes raise EPIPE.

    Args:
        peer_port (count, default 0): Only connections to this port of the peer; 0 for any.
        local_port (count, default 0): Only connections from this port of the rank; 0 for any.
        rank: Target: a rank, several ranks, or a word that the seed of the plan resolves.
        when: Trigger, one of start, after, line, point, call, import_of, signal_received, own_exit, exit_of,
            restart, phase, barrier, probability, all_of, any_of, then. Default: at its start.
        id: Name in journal and results; by default derived from the content of the fault.

    Acts: outside
    Needs: pidfd_getfd: ptrace rights on the rank, as a parent of the same user has unless a filter forbids it
    Verified: no longer established in /proc/PID/net/tcp
    Undone: never
    Example: ``faults.sever(peer_port=29500, rank=1, when=when.line("step 2"))``
    """

def reset(
    peer_port: int = 0,
    local_port: int = 0,
    *,
    rank: int | list[int] | tuple[int, ...] | Literal["all", "one", "minority", "majority", "all but one", "the agent"],
    when: Trigger = Start(),
    id: str = "",
) -> Fault:
    """Aborts established TCP connections of a rank: the peer receives a RST, and the rank gets ECONNRESET.

    Args:
        peer_port (count, default 0): Only connections to this port of the peer; 0 for any.
        local_port (count, default 0): Only connections from this port of the rank; 0 for any.
        rank: Target: a rank, several ranks, or a word that the seed of the plan resolves.
        when: Trigger, one of start, after, line, point, call, import_of, signal_received, own_exit, exit_of,
            restart, phase, barrier, probability, all_of, any_of, then. Default: at its start.
        id: Name in journal and results; by default derived from the content of the fault.

    Acts: outside
    Needs: pidfd_getfd: ptrace rights on the rank, as a parent of the same user has unless a filter forbids it
    Verified: no longer established in /proc/PID/net/tcp
    Undone: never
    Example: ``faults.reset(rank=1, when=when.line("step 2"))``
    """

def dns_failure(
    names: list[str] | tuple[str, ...],
    error: Literal["EAI_AGAIN", "EAI_NONAME", "EAI_FAIL"] = "EAI_AGAIN",
    *,
    rank: int | list[int] | tuple[int, ...] | Literal["all", "one", "minority", "majority", "all but one", "the agent"],
    when: Trigger = Start(),
    for_: float | None = None,
    id: str = "",
) -> Fault:
    """Host names do not resolve in the rank: socket.getaddrinfo and its users raise gaierror.

    Args:
        names (names, required): Host names; ["*"] for all, except numeric addresses.
        error (default "EAI_AGAIN"): Error of the look-up.
        rank: Target: a rank, several ranks, or a word that the seed of the plan resolves.
        when: Trigger, one of start, after, line, point, call, import_of, signal_received, exit_of, restart, phase,
            barrier, probability, all_of, any_of, then. Default: at its start.
        for_ (seconds): Duration; by default until the end of the job.
        id: Name in journal and results; by default derived from the content of the fault.

    Acts: in rank
    Needs: Python in the rank, started without -S, -I and -E
    Verified: the rank's own record of a failed look-up
    Undone: after `for_` seconds names resolve again
    Example: ``faults.dns_failure(["node0"], rank=1)``
    """

def loopback_down(
    *,
    rank: int | list[int] | tuple[int, ...] | Literal["all", "one", "minority", "majority", "all but one", "the agent"],
    when: Trigger = Start(),
    id: str = "",
) -> Fault:
    """The rank has no network at all, not even the loopback.

    Args:
        rank: Target: a rank, several ranks, or a word that the seed of the plan resolves.
        when: Trigger, one of start. Default: at its start.
        id: Name in journal and results; by default derived from the content of the fault.

    Acts: before start
    Needs: a rank that is a program; a network namespace, which for users other than root needs a user namespace
    Verified: only lo in /proc/PID/net/dev, no address in /proc/PID/net/fib_trie, in a separate namespace
    Undone: ends with the rank
    Example: ``faults.loopback_down(rank=1)``
    """

def proxy(
    latency: float = 0.0,
    jitter: float = 0.0,
    bandwidth: int | str = 0,
    slice: int | str = 0,
    black_hole: bool = False,
    half_open: Literal["no", "to_rank", "from_rank"] = "no",
    reset_after: int = -1,
    close_after: int = -1,
    refuse: int = 0,
    address_variable: str = "MASTER_ADDR",
    port_variable: str = "MASTER_PORT",
    *,
    rank: int | list[int] | tuple[int, ...] | Literal["all", "one", "minority", "majority", "all but one", "the agent"],
    when: Trigger = Start(),
    id: str = "",
) -> Fault:
    """Connects a rank to MASTER_ADDR and MASTER_PORT through a proxy that delays, limits or breaks traffic.

    Args:
        latency (seconds, default 0.0): Delay of all data, in seconds.
        jitter (seconds, default 0.0): Maximum further delay in seconds, chosen by the seed.
        bandwidth (bytes, default 0): Bytes per second in each direction; 0 for no limit.
        slice (bytes, default 0): Bytes passed on at a time; 0 for no limit.
        black_hole (flag, default False): Whether all data is dropped while connections stay open.
        half_open (default "no"): Direction to drop, if only one.
        reset_after (count, default -1): Bytes after which a connection is reset; -1 for never.
        close_after (count, default -1): Bytes after which a connection is closed; -1 for never.
        refuse (count, default 0): Number of first connections to reset at once.
        address_variable (text, default "MASTER_ADDR"): Environment variable with the address.
        port_variable (text, default "MASTER_PORT"): Environment variable with the port.
        rank: Target: a rank, several ranks, or a word that the seed of the plan resolves.
        when: Trigger, one of start. Default: at its start.
        id: Name in journal and results; by default derived from the content of the fault.

    Acts: before start
    Needs: a rank that finds its peers by environment variables, and does not listen on that address itself
    Verified: the proxy's own counts, one for each of its disturbances
    Undone: the proxy closes with all its connections
    Example: ``faults.proxy(latency=0.2, rank=1)``
    """

def net_latency(
    latency: float = 0.1,
    jitter: float = 0.0,
    address_variable: str = "MASTER_ADDR",
    port_variable: str = "MASTER_PORT",
    *,
    rank: int | list[int] | tuple[int, ...] | Literal["all", "one", "minority", "majority", "all but one", "the agent"],
    when: Trigger = Start(),
    id: str = "",
) -> Fault:
    """All traffic between a rank and MASTER_ADDR is delayed.

    Args:
        latency (seconds, default 0.1): Delay of all data, in seconds.
        jitter (seconds, default 0.0): Maximum further delay in seconds, chosen by the seed.
        address_variable (text, default "MASTER_ADDR"): Environment variable with the address.
        port_variable (text, default "MASTER_PORT"): Environment variable with the port.
        rank: Target: a rank, several ranks, or a word that the seed of the plan resolves.
        when: Trigger, one of start. Default: at its start.
        id: Name in journal and results; by default derived from the content of the fault.

    Acts: before start
    Needs: a rank that finds its peers by environment variables, and does not listen on that address itself
    Verified: the proxy's own counts
    Undone: the proxy closes with all its connections
    Example: ``faults.net_latency(0.2, jitter=0.1, rank=1)``
    """

def net_bandwidth(
    bandwidth: int | str = 1048576,
    address_variable: str = "MASTER_ADDR",
    port_variable: str = "MASTER_PORT",
    *,
    rank: int | list[int] | tuple[int, ...] | Literal["all", "one", "minority", "majority", "all but one", "the agent"],
    when: Trigger = Start(),
    id: str = "",
) -> Fault:
    """The bandwidth between a rank and MASTER_ADDR is limited.

    Args:
        bandwidth (bytes, default 1048576): Bytes per second in each direction.
        address_variable (text, default "MASTER_ADDR"): Environment variable with the address.
        port_variable (text, default "MASTER_PORT"): Environment variable with the port.
        rank: Target: a rank, several ranks, or a word that the seed of the plan resolves.
        when: Trigger, one of start. Default: at its start.
        id: Name in journal and results; by default derived from the content of the fault.

    Acts: before start
    Needs: a rank that finds its peers by environment variables, and does not listen on that address itself
    Verified: the proxy's own counts
    Undone: the proxy closes with all its connections
    Example: ``faults.net_bandwidth("64K", rank=1)``
    """

def net_slices(
    slice: int | str = 100,
    address_variable: str = "MASTER_ADDR",
    port_variable: str = "MASTER_PORT",
    *,
    rank: int | list[int] | tuple[int, ...] | Literal["all", "one", "minority", "majority", "all but one", "the agent"],
    when: Trigger = Start(),
    id: str = "",
) -> Fault:
    """Messages between a rank and MASTER_ADDR arrive in small pieces.

    Args:
        slice (bytes, default 100): Bytes passed on at a time.
        address_variable (text, default "MASTER_ADDR"): Environment variable with the address.
        port_variable (text, default "MASTER_PORT"): Environment variable with the port.
        rank: Target: a rank, several ranks, or a word that the seed of the plan resolves.
        when: Trigger, one of start. Default: at its start.
        id: Name in journal and results; by default derived from the content of the fault.

    Acts: before start
    Needs: a rank that finds its peers by environment variables, and does not listen on that address itself
    Verified: the proxy's own counts
    Undone: the proxy closes with all its connections
    Example: ``faults.net_slices(10, rank=1)``
    """

def net_black_hole(
    address_variable: str = "MASTER_ADDR",
    port_variable: str = "MASTER_PORT",
    *,
    rank: int | list[int] | tuple[int, ...] | Literal["all", "one", "minority", "majority", "all but one", "the agent"],
    when: Trigger = Start(),
    id: str = "",
) -> Fault:
    """Connections between a rank and MASTER_ADDR stay open, and all data is dropped.

    Args:
        address_variable (text, default "MASTER_ADDR"): Environment variable with the address.
        port_variable (text, default "MASTER_PORT"): Environment variable with the port.
        rank: Target: a rank, several ranks, or a word that the seed of the plan resolves.
        when: Trigger, one of start. Default: at its start.
        id: Name in journal and results; by default derived from the content of the fault.

    Acts: before start
    Needs: a rank that finds its peers by environment variables, and does not listen on that address itself
    Verified: the proxy's own counts
    Undone: the proxy closes with all its connections
    Example: ``faults.net_black_hole(rank=1)``
    """

def net_half_open(
    half_open: Literal["to_rank", "from_rank"] = "to_rank",
    address_variable: str = "MASTER_ADDR",
    port_variable: str = "MASTER_PORT",
    *,
    rank: int | list[int] | tuple[int, ...] | Literal["all", "one", "minority", "majority", "all but one", "the agent"],
    when: Trigger = Start(),
    id: str = "",
) -> Fault:
    """Connections between a rank and MASTER_ADDR stay open, and the data of one direction is dropped.

    Args:
        half_open (default "to_rank"): Direction to drop.
        address_variable (text, default "MASTER_ADDR"): Environment variable with the address.
        port_variable (text, default "MASTER_PORT"): Environment variable with the port.
        rank: Target: a rank, several ranks, or a word that the seed of the plan resolves.
        when: Trigger, one of start. Default: at its start.
        id: Name in journal and results; by default derived from the content of the fault.

    Acts: before start
    Needs: a rank that finds its peers by environment variables, and does not listen on that address itself
    Verified: the proxy's own counts
    Undone: the proxy closes with all its connections
    Example: ``faults.net_half_open("to_rank", rank=1)``
    """

def net_reset(
    reset_after: int = 0,
    address_variable: str = "MASTER_ADDR",
    port_variable: str = "MASTER_PORT",
    *,
    rank: int | list[int] | tuple[int, ...] | Literal["all", "one", "minority", "majority", "all but one", "the agent"],
    when: Trigger = Start(),
    id: str = "",
) -> Fault:
    """Connections between a rank and MASTER_ADDR are reset after a number of bytes.

    Args:
        reset_after (count, default 0): Bytes after which a connection is reset.
        address_variable (text, default "MASTER_ADDR"): Environment variable with the address.
        port_variable (text, default "MASTER_PORT"): Environment variable with the port.
        rank: Target: a rank, several ranks, or a word that the seed of the plan resolves.
        when: Trigger, one of start. Default: at its start.
        id: Name in journal and results; by default derived from the content of the fault.

    Acts: before start
    Needs: a rank that finds its peers by environment variables, and does not listen on that address itself
    Verified: the proxy's own counts
    Undone: the proxy closes with all its connections
    Example: ``faults.net_reset(4096, rank=1)``
    """

def net_close(
    close_after: int = 0,
    address_variable: str = "MASTER_ADDR",
    port_variable: str = "MASTER_PORT",
    *,
    rank: int | list[int] | tuple[int, ...] | Literal["all", "one", "minority", "majority", "all but one", "the agent"],
    when: Trigger = Start(),
    id: str = "",
) -> Fault:
    """Connections between a rank and MASTER_ADDR are closed after a number of bytes.

    Args:
        close_after (count, default 0): Bytes after which a connection is closed.
        address_variable (text, default "MASTER_ADDR"): Environment variable with the address.
        port_variable (text, default "MASTER_PORT"): Environment variable with the port.
        rank: Target: a rank, several ranks, or a word that the seed of the plan resolves.
        when: Trigger, one of start. Default: at its start.
        id: Name in journal and results; by default derived from the content of the fault.

    Acts: before start
    Needs: a rank that finds its peers by environment variables, and does not listen on that address itself
    Verified: the proxy's own counts
    Undone: the proxy closes with all its connections
    Example: ``faults.net_close(4096, rank=1)``
    """

def net_refuse(
    refuse: int = 1,
    address_variable: str = "MASTER_ADDR",
    port_variable: str = "MASTER_PORT",
    *,
    rank: int | list[int] | tuple[int, ...] | Literal["all", "one", "minority", "majority", "all but one", "the agent"],
    when: Trigger = Start(),
    id: str = "",
) -> Fault:
    """The first connections of a rank to MASTER_ADDR are reset at once.

    Args:
        refuse (count, default 1): Number of first connections to reset at once.
        address_variable (text, default "MASTER_ADDR"): Environment variable with the address.
        port_variable (text, default "MASTER_PORT"): Environment variable with the port.
        rank: Target: a rank, several ranks, or a word that the seed of the plan resolves.
        when: Trigger, one of start. Default: at its start.
        id: Name in journal and results; by default derived from the content of the fault.

    Acts: before start
    Needs: a rank that finds its peers by environment variables, and does not listen on that address itself
    Verified: the proxy's own counts
    Undone: the proxy closes with all its connections
    Example: ``faults.net_refuse(2, rank=1)``
    """

def port_taken(
    address_variable: str = "MASTER_ADDR",
    port_variable: str = "MASTER_PORT",
    *,
    rank: int | list[int] | tuple[int, ...] | Literal["all", "one", "minority", "majority", "all but one", "the agent"],
    when: Trigger = Start(),
    for_: float | None = None,
    id: str = "",
) -> Fault:
    """Another process listens on MASTER_PORT, so that the rank that needs the port cannot bind it.

    Args:
        address_variable (text, default "MASTER_ADDR"): Environment variable with the address.
        port_variable (text, default "MASTER_PORT"): Environment variable with the port.
        rank: Target: a rank, several ranks, or a word that the seed of the plan resolves.
        when: Trigger, one of start. Default: at its start.
        for_ (seconds): Duration; by default until the end of the job.
        id: Name in journal and results; by default derived from the content of the fault.

    Acts: before start
    Needs: an address of this machine in the rank's environment; /proc
    Verified: derail's socket listens on the port in /proc/self/net/tcp
    Undone: the port is released
    Example: ``faults.port_taken(rank=0)``
    """

def port_kept(
    address_variable: str = "MASTER_ADDR",
    port_variable: str = "MASTER_PORT",
    *,
    rank: int | list[int] | tuple[int, ...] | Literal["all", "one", "minority", "majority", "all but one", "the agent"],
    when: Trigger = OwnExit(),
    id: str = "",
) -> Fault:
    """From the rank's exit on, another process listens on its MASTER_PORT: the next attempt needs another.

    Args:
        address_variable (text, default "MASTER_ADDR"): Environment variable with the address.
        port_variable (text, default "MASTER_PORT"): Environment variable with the port.
        rank: Target: a rank, several ranks, or a word that the seed of the plan resolves.
        when: Trigger, one of own_exit. Default: at its exit.
        id: Name in journal and results; by default derived from the content of the fault.

    Acts: outside
    Needs: an address of this machine in the rank's environment; /proc
    Verified: derail's socket listens on the port in /proc/self/net/tcp
    Undone: the port is released
    Example: ``faults.port_kept(rank=0)``
    """

def store_dies(
    port: int = 0,
    port_variable: str = "MASTER_PORT",
    *,
    rank: int | list[int] | tuple[int, ...] | Literal["all", "one", "minority", "majority", "all but one", "the agent"],
    when: Trigger = Start(),
    id: str = "",
) -> Fault:
    """Kills the process that listens on MASTER_PORT: the rank, or a process of its group.

    Args:
        port (count, default 0): Port; 0 for that of the variable.
        port_variable (text, default "MASTER_PORT"): Variable with the port in the rank's environment.
        rank: Target: a rank, several ranks, or a word that the seed of the plan resolves.
        when: Trigger, one of start, after, line, point, call, import_of, signal_received, own_exit, exit_of,
            restart, phase, barrier, probability, all_of, any_of, then. Default: at its start.
        id: Name in journal and results; by default derived from the content of the fault.

    Acts: outside
    Needs: /proc
    Verified: the rank's exit status, or its socket gone from /proc/PID/net/tcp
    Undone: never
    Example: ``faults.store_dies(rank=0, when=when.line("step 2"))``
    """

def wrong_address(
    address: str = "127.0.0.254",
    variable: str = "MASTER_ADDR",
    *,
    rank: int | list[int] | tuple[int, ...] | Literal["all", "one", "minority", "majority", "all but one", "the agent"],
    when: Trigger = Start(),
    id: str = "",
) -> Fault:
    """A rank connects to the wrong address for its peers.

    Args:
        address (text, default "127.0.0.254"): Wrong address.
        variable (text, default "MASTER_ADDR"): Environment variable with the address.
        rank: Target: a rank, several ranks, or a word that the seed of the plan resolves.
        when: Trigger, one of start. Default: at its start.
        id: Name in journal and results; by default derived from the content of the fault.

    Acts: before start
    Needs: a rank that is a program; /proc
    Verified: the variable in /proc/PID/environ of the rank
    Undone: never
    Example: ``faults.wrong_address("127.0.0.254", rank=1)``
    """

def wrong_world_size(
    size: int,
    *,
    rank: int | list[int] | tuple[int, ...] | Literal["all", "one", "minority", "majority", "all but one", "the agent"],
    when: Trigger = Start(),
    id: str = "",
) -> Fault:
    """A rank has a wrong world size.

    Args:
        size (count, required): Wrong WORLD_SIZE.
        rank: Target: a rank, several ranks, or a word that the seed of the plan resolves.
        when: Trigger, one of start. Default: at its start.
        id: Name in journal and results; by default derived from the content of the fault.

    Acts: before start
    Needs: a rank that is a program; /proc
    Verified: the variable in /proc/PID/environ of the rank
    Undone: never
    Example: ``faults.wrong_world_size(5, rank=1)``
    """

def duplicate_rank(
    as_rank: int = 0,
    *,
    rank: int | list[int] | tuple[int, ...] | Literal["all", "one", "minority", "majority", "all but one", "the agent"],
    when: Trigger = Start(),
    id: str = "",
) -> Fault:
    """A rank has the number of another rank of the job.

    Args:
        as_rank (count, default 0): Wrong RANK.
        rank: Target: a rank, several ranks, or a word that the seed of the plan resolves.
        when: Trigger, one of start. Default: at its start.
        id: Name in journal and results; by default derived from the content of the fault.

    Acts: before start
    Needs: a rank that is a program; /proc
    Verified: the variable in /proc/PID/environ of the rank
    Undone: never
    Example: ``faults.duplicate_rank(0, rank=1)``
    """

def missing_variable(
    variable: str,
    *,
    rank: int | list[int] | tuple[int, ...] | Literal["all", "one", "minority", "majority", "all but one", "the agent"],
    when: Trigger = Start(),
    id: str = "",
) -> Fault:
    """A variable is missing from the environment of a rank.

    Args:
        variable (text, required): Name of the variable.
        rank: Target: a rank, several ranks, or a word that the seed of the plan resolves.
        when: Trigger, one of start. Default: at its start.
        id: Name in journal and results; by default derived from the content of the fault.

    Acts: before start
    Needs: a rank that is a program; /proc
    Verified: the variable in /proc/PID/environ of the rank
    Undone: never
    Example: ``faults.missing_variable("MASTER_ADDR", rank=1)``
    """

def clock_offset(
    seconds: float,
    *,
    rank: int | list[int] | tuple[int, ...] | Literal["all", "one", "minority", "majority", "all but one", "the agent"],
    when: Trigger = Start(),
    for_: float | None = None,
    id: str = "",
) -> Fault:
    """The rank's wall clock is wrong by a number of seconds: time.time, datetime.now and similar functions.

    Args:
        seconds (seconds, required): Seconds that the clock is ahead, or behind if negative.
        rank: Target: a rank, several ranks, or a word that the seed of the plan resolves.
        when: Trigger, one of start, after, line, point, call, import_of, signal_received, exit_of, restart, phase,
            barrier, probability, all_of, any_of, then. Default: at its start.
        for_ (seconds): Duration; by default until the end of the job.
        id: Name in journal and results; by default derived from the content of the fault.

    Acts: in rank
    Needs: Python in the rank, started without -S, -I and -E; a program that uses time or datetime
    Verified: time.time() in the rank, compared with derail's clock at the same monotonic time
    Undone: after `for_` seconds the clock is correct again
    Example: ``faults.clock_offset(-3600, rank=1)``
    """

def clock_drift(
    factor: float = 2.0,
    *,
    rank: int | list[int] | tuple[int, ...] | Literal["all", "one", "minority", "majority", "all but one", "the agent"],
    when: Trigger = Start(),
    for_: float | None = None,
    id: str = "",
) -> Fault:
    """The rank's wall clock runs too fast or too slow.

    Args:
        factor (factor, default 2.0): Seconds that the clock advances per real second.
        rank: Target: a rank, several ranks, or a word that the seed of the plan resolves.
        when: Trigger, one of start, after, line, point, call, import_of, signal_received, exit_of, restart, phase,
            barrier, probability, all_of, any_of, then. Default: at its start.
        for_ (seconds): Duration; by default until the end of the job.
        id: Name in journal and results; by default derived from the content of the fault.

    Acts: in rank
    Needs: Python in the rank, started without -S, -I and -E; a program that uses time or datetime
    Verified: time.time() in the rank, compared with derail's clock at the same monotonic time
    Undone: after `for_` seconds the clock is correct again
    Example: ``faults.clock_drift(1.5, rank=1)``
    """

def clock_freeze(
    *,
    rank: int | list[int] | tuple[int, ...] | Literal["all", "one", "minority", "majority", "all but one", "the agent"],
    when: Trigger = Start(),
    for_: float | None = None,
    id: str = "",
) -> Fault:
    """The rank's wall clock stops.

    Args:
        rank: Target: a rank, several ranks, or a word that the seed of the plan resolves.
        when: Trigger, one of start, after, line, point, call, import_of, signal_received, exit_of, restart, phase,
            barrier, probability, all_of, any_of, then. Default: at its start.
        for_ (seconds): Duration; by default until the end of the job.
        id: Name in journal and results; by default derived from the content of the fault.

    Acts: in rank
    Needs: Python in the rank, started without -S, -I and -E; a program that uses time or datetime
    Verified: time.time() in the rank, compared with derail's clock at the same monotonic time
    Undone: after `for_` seconds the clock is correct again
    Example: ``faults.clock_freeze(rank=1, for_=5)``
    """

def clock_step_back(
    seconds: float = 60.0,
    *,
    rank: int | list[int] | tuple[int, ...] | Literal["all", "one", "minority", "majority", "all but one", "the agent"],
    when: Trigger = Start(),
    for_: float | None = None,
    id: str = "",
) -> Fault:
    """The rank's wall clock jumps back once, while the program may be measuring a duration.

    Args:
        seconds (seconds, default 60.0): Seconds that the clock jumps back.
        rank: Target: a rank, several ranks, or a word that the seed of the plan resolves.
        when: Trigger, one of start, after, line, point, call, import_of, signal_received, exit_of, restart, phase,
            barrier, probability, all_of, any_of, then. Default: at its start.
        for_ (seconds): Duration; by default until the end of the job.
        id: Name in journal and results; by default derived from the content of the fault.

    Acts: in rank
    Needs: Python in the rank, started without -S, -I and -E; a program that uses time or datetime
    Verified: time.time() in the rank, compared with derail's clock at the same monotonic time
    Undone: after `for_` seconds the clock is correct again
    Example: ``faults.clock_step_back(60, rank=0, when=when.line("step 2"))``
    """

def monotonic_offset(
    seconds: float,
    *,
    rank: int | list[int] | tuple[int, ...] | Literal["all", "one", "minority", "majority", "all but one", "the agent"],
    when: Trigger = Start(),
    id: str = "",
) -> Fault:
    """The rank's monotonic clock and time since boot differ from those of other processes.

    Args:
        seconds (seconds, required): Seconds that the clock is ahead, or behind if negative (at most the time since
            boot).
        rank: Target: a rank, several ranks, or a word that the seed of the plan resolves.
        when: Trigger, one of start. Default: at its start.
        id: Name in journal and results; by default derived from the content of the fault.

    Acts: before start
    Needs: a rank that is a program; a time namespace, which for users other than root needs a user namespace
    Verified: /proc/PID/timens_offsets, in a time namespace other than derail's
    Undone: ends with the rank
    Example: ``faults.monotonic_offset(86400, rank=1)``
    """

def partial_line(
    text: str = "derail: half a line",
    then: Literal["go_on", "exit"] = "go_on",
    stream: Literal["stdout", "stderr"] = "stdout",
    *,
    rank: int | list[int] | tuple[int, ...] | Literal["all", "one", "minority", "majority", "all but one", "the agent"],
    when: Trigger = Start(),
    id: str = "",
) -> Fault:
    """The rank writes text without a newline, and then continues or exits at once.

    Args:
        text (text, default "derail: half a line"): Text to write.
        then (default "go_on"): Continue, or os._exit(1) at once.
        stream (default "stdout"): Stream of the rank.
        rank: Target: a rank, several ranks, or a word that the seed of the plan resolves.
        when: Trigger, one of start, after, line, point, call, import_of, signal_received, exit_of, restart, phase,
            barrier, probability, all_of, any_of, then. Default: at its start.
        id: Name in journal and results; by default derived from the content of the fault.

    Acts: in rank
    Needs: Python in the rank, started without -S, -I and -E; /proc
    Verified: the bytes in the rank's log file, after its earlier content; for exit, exit code 1 and no bytes after
        them
    Undone: never
    Example: ``faults.partial_line(then='exit', rank=0, when=when.line('step 2'))``
    """

def no_newline_before_kill(
    text: str = "derail: last words",
    buffered: bool = False,
    stream: Literal["stdout", "stderr"] = "stdout",
    *,
    rank: int | list[int] | tuple[int, ...] | Literal["all", "one", "minority", "majority", "all but one", "the agent"],
    when: Trigger = Start(),
    id: str = "",
) -> Fault:
    """The rank writes text without a newline and is killed by SIGKILL at once.

    Args:
        text (text, default "derail: last words"): Text to write.
        buffered (flag, default False): Whether the text is only in a buffer of the process, and so is lost.
        stream (default "stdout"): Stream of the rank.
        rank: Target: a rank, several ranks, or a word that the seed of the plan resolves.
        when: Trigger, one of start, after, line, point, call, import_of, signal_received, exit_of, restart, phase,
            barrier, probability, all_of, any_of, then. Default: at its start.
        id: Name in journal and results; by default derived from the content of the fault.

    Acts: in rank
    Needs: Python in the rank, started without -S, -I and -E; /proc
    Verified: SIGKILL in the rank's exit status; the text is last in its log file, or (buffered) not in it
    Undone: never
    Example: ``faults.no_newline_before_kill(rank=0, when=when.line('step 2'))``
    """

def progress_bar(
    text: str = "training",
    steps: int = 100,
    stream: Literal["stdout", "stderr"] = "stdout",
    *,
    rank: int | list[int] | tuple[int, ...] | Literal["all", "one", "minority", "majority", "all but one", "the agent"],
    when: Trigger = Start(),
    id: str = "",
) -> Fault:
    """The rank draws a progress bar with carriage returns, without ever ending the line.

    Args:
        text (text, default "training"): Text to write.
        steps (count, default 100): Number of times it is drawn.
        stream (default "stdout"): Stream of the rank.
        rank: Target: a rank, several ranks, or a word that the seed of the plan resolves.
        when: Trigger, one of start, after, line, point, call, import_of, signal_received, exit_of, restart, phase,
            barrier, probability, all_of, any_of, then. Default: at its start.
        id: Name in journal and results; by default derived from the content of the fault.

    Acts: in rank
    Needs: Python in the rank, started without -S, -I and -E; /proc
    Verified: the bytes in the rank's log file, after its earlier content
    Undone: never
    Example: ``faults.progress_bar(rank=0, when=when.line('step 2'))``
    """

def ansi(
    text: str = "derail",
    stream: Literal["stdout", "stderr"] = "stdout",
    *,
    rank: int | list[int] | tuple[int, ...] | Literal["all", "one", "minority", "majority", "all but one", "the agent"],
    when: Trigger = Start(),
    id: str = "",
) -> Fault:
    """The rank writes terminal codes: colours, clear, alternate screen, no cursor, a title, hidden text.

    Args:
        text (text, default "derail"): Text to write.
        stream (default "stdout"): Stream of the rank.
        rank: Target: a rank, several ranks, or a word that the seed of the plan resolves.
        when: Trigger, one of start, after, line, point, call, import_of, signal_received, exit_of, restart, phase,
            barrier, probability, all_of, any_of, then. Default: at its start.
        id: Name in journal and results; by default derived from the content of the fault.

    Acts: in rank
    Needs: Python in the rank, started without -S, -I and -E; /proc
    Verified: the bytes in the rank's log file, after its earlier content
    Undone: never
    Example: ``faults.ansi(rank=0, when=when.line('step 2'))``
    """

def nul_bytes(
    text: str = "derail",
    count: int = 512,
    stream: Literal["stdout", "stderr"] = "stdout",
    *,
    rank: int | list[int] | tuple[int, ...] | Literal["all", "one", "minority", "majority", "all but one", "the agent"],
    when: Trigger = Start(),
    id: str = "",
) -> Fault:
    """The rank writes NUL bytes in the middle of a line.

    Args:
        text (text, default "derail"): Text to write.
        count (count, default 512): Number of NUL bytes.
        stream (default "stdout"): Stream of the rank.
        rank: Target: a rank, several ranks, or a word that the seed of the plan resolves.
        when: Trigger, one of start, after, line, point, call, import_of, signal_received, exit_of, restart, phase,
            barrier, probability, all_of, any_of, then. Default: at its start.
        id: Name in journal and results; by default derived from the content of the fault.

    Acts: in rank
    Needs: Python in the rank, started without -S, -I and -E; /proc
    Verified: the bytes in the rank's log file, after its earlier content
    Undone: never
    Example: ``faults.nul_bytes(rank=0, when=when.line('step 2'))``
    """

def invalid_utf8(
    text: str = "derail",
    stream: Literal["stdout", "stderr"] = "stdout",
    *,
    rank: int | list[int] | tuple[int, ...] | Literal["all", "one", "minority", "majority", "all but one", "the agent"],
    when: Trigger = Start(),
    id: str = "",
) -> Fault:
    """The rank writes a line with every kind of invalid UTF-8.

    Args:
        text (text, default "derail"): Text to write.
        stream (default "stdout"): Stream of the rank.
        rank: Target: a rank, several ranks, or a word that the seed of the plan resolves.
        when: Trigger, one of start, after, line, point, call, import_of, signal_received, exit_of, restart, phase,
            barrier, probability, all_of, any_of, then. Default: at its start.
        id: Name in journal and results; by default derived from the content of the fault.

    Acts: in rank
    Needs: Python in the rank, started without -S, -I and -E; /proc
    Verified: the bytes in the rank's log file, after its earlier content
    Undone: never
    Example: ``faults.invalid_utf8(rank=0, when=when.line('step 2'))``
    """

def long_line(
    size: int | str = 1048576,
    stream: Literal["stdout", "stderr"] = "stdout",
    *,
    rank: int | list[int] | tuple[int, ...] | Literal["all", "one", "minority", "majority", "all but one", "the agent"],
    when: Trigger = Start(),
    id: str = "",
) -> Fault:
    """The rank writes one very long line.

    Args:
        size (bytes, default 1048576): Bytes before the newline; 100M is known to break launchers.
        stream (default "stdout"): Stream of the rank.
        rank: Target: a rank, several ranks, or a word that the seed of the plan resolves.
        when: Trigger, one of start, after, line, point, call, import_of, signal_received, exit_of, restart, phase,
            barrier, probability, all_of, any_of, then. Default: at its start.
        id: Name in journal and results; by default derived from the content of the fault.

    Acts: in rank
    Needs: Python in the rank, started without -S, -I and -E; /proc
    Verified: the bytes in the rank's log file, after its earlier content
    Undone: never
    Example: ``faults.long_line('100M', rank=0, when=when.line('step 2'))``
    """

def log_flood(
    lines: int = 10000,
    width: int = 80,
    stream: Literal["stdout", "stderr"] = "stdout",
    *,
    rank: int | list[int] | tuple[int, ...] | Literal["all", "one", "minority", "majority", "all but one", "the agent"],
    when: Trigger = Start(),
    id: str = "",
) -> Fault:
    """The rank writes numbered lines as fast as it can.

    Args:
        lines (count, default 10000): Number of lines.
        width (count, default 80): Bytes per line, without the newline.
        stream (default "stdout"): Stream of the rank.
        rank: Target: a rank, several ranks, or a word that the seed of the plan resolves.
        when: Trigger, one of start, after, line, point, call, import_of, signal_received, exit_of, restart, phase,
            barrier, probability, all_of, any_of, then. Default: at its start.
        id: Name in journal and results; by default derived from the content of the fault.

    Acts: in rank
    Needs: Python in the rank, started without -S, -I and -E; /proc
    Verified: the bytes in the rank's log file, after its earlier content
    Undone: never
    Example: ``faults.log_flood(rank=0, when=when.line('step 2'))``
    """

def closed_stream(
    stream: Literal["stdout", "stderr"] = "stdout",
    *,
    rank: int | list[int] | tuple[int, ...] | Literal["all", "one", "minority", "majority", "all but one", "the agent"],
    when: Trigger = Start(),
    id: str = "",
) -> Fault:
    """The rank closes a stream: writes fail with EBADF, and the next file that it opens gets that number.

    Args:
        stream (default "stdout"): Stream of the rank.
        rank: Target: a rank, several ranks, or a word that the seed of the plan resolves.
        when: Trigger, one of start, after, line, point, call, import_of, signal_received, exit_of, restart, phase,
            barrier, probability, all_of, any_of, then. Default: at its start.
        id: Name in journal and results; by default derived from the content of the fault.

    Acts: in rank
    Needs: Python in the rank, started without -S, -I and -E; /proc
    Verified: no such descriptor, or another file under its number, in /proc/PID/fd; or EBADF in the rank
    Undone: never
    Example: ``faults.closed_stream(rank=0, when=when.line('step 2'))``
    """

def log_read_only(
    stream: Literal["stdout", "stderr"] = "stdout",
    *,
    rank: int | list[int] | tuple[int, ...] | Literal["all", "one", "minority", "majority", "all but one", "the agent"],
    when: Trigger = Start(),
    id: str = "",
) -> Fault:
    """The rank's log file becomes read-only for the rank: writes fail with EBADF.

    Args:
        stream (default "stdout"): Stream of the rank.
        rank: Target: a rank, several ranks, or a word that the seed of the plan resolves.
        when: Trigger, one of start, after, line, point, call, import_of, signal_received, exit_of, restart, phase,
            barrier, probability, all_of, any_of, then. Default: at its start.
        id: Name in journal and results; by default derived from the content of the fault.

    Acts: in rank
    Needs: Python in the rank, started without -S, -I and -E; /proc
    Verified: the flags of the descriptor in /proc/PID/fdinfo; or EBADF in the rank
    Undone: never
    Example: ``faults.log_read_only(rank=0, when=when.line('step 2'))``
    """

def log_disk_full(
    stream: Literal["stdout", "stderr"] = "stdout",
    *,
    rank: int | list[int] | tuple[int, ...] | Literal["all", "one", "minority", "majority", "all but one", "the agent"],
    when: Trigger = Start(),
    id: str = "",
) -> Fault:
    """The rank's stream moves to a full disk (/dev/full): writes fail with ENOSPC.

    Args:
        stream (default "stdout"): Stream of the rank.
        rank: Target: a rank, several ranks, or a word that the seed of the plan resolves.
        when: Trigger, one of start, after, line, point, call, import_of, signal_received, exit_of, restart, phase,
            barrier, probability, all_of, any_of, then. Default: at its start.
        id: Name in journal and results; by default derived from the content of the fault.

    Acts: in rank
    Needs: Python in the rank, started without -S, -I and -E; /proc; /dev/full
    Verified: the descriptor in /proc/PID/fd; or ENOSPC in the rank
    Undone: never
    Example: ``faults.log_disk_full(rank=0, when=when.line('step 2'))``
    """

def pipe_holder(
    seconds: float = 60.0,
    own_session: bool = False,
    stream: Literal["stdout", "stderr"] = "stdout",
    *,
    rank: int | list[int] | tuple[int, ...] | Literal["all", "one", "minority", "majority", "all but one", "the agent"],
    when: Trigger = Start(),
    id: str = "",
) -> Fault:
    """The rank starts a process that keeps both of its streams open after the rank's exit.

    Args:
        seconds (seconds, default 60.0): Seconds that the process lives.
        own_session (flag, default False): Whether the process leaves the process group of the rank.
        stream (default "stdout"): Stream of the rank.
        rank: Target: a rank, several ranks, or a word that the seed of the plan resolves.
        when: Trigger, one of start, after, line, point, call, import_of, signal_received, exit_of, restart, phase,
            barrier, probability, all_of, any_of, then. Default: at its start.
        id: Name in journal and results; by default derived from the content of the fault.

    Acts: in rank
    Needs: Python in the rank, started without -S, -I and -E; /proc
    Verified: at the rank's exit, the process is alive, and its descriptor is the rank's log file
    Undone: never
    Example: ``faults.pipe_holder(rank=0, when=when.line('step 2'))``
    """

def log_deleted(
    stream: Literal["stdout", "stderr"] = "stdout",
    *,
    rank: int | list[int] | tuple[int, ...] | Literal["all", "one", "minority", "majority", "all but one", "the agent"],
    when: Trigger = Start(),
    id: str = "",
) -> Fault:
    """Deletes the log file of a rank, which continues to write to it.

    Args:
        stream (default "stdout"): Stream of the rank.
        rank: Target: a rank, several ranks, or a word that the seed of the plan resolves.
        when: Trigger, one of start, after, line, point, call, import_of, signal_received, own_exit, exit_of,
            restart, phase, barrier, probability, all_of, any_of, then. Default: at its start.
        id: Name in journal and results; by default derived from the content of the fault.

    Acts: outside
    Needs: a rank with a log file for the stream; /proc
    Verified: no file under its name; the rank's descriptor is the deleted file
    Undone: never
    Example: ``faults.log_deleted(rank=0, when=when.line('step 2'))``
    """

def log_truncated(
    copy: bool = False,
    stream: Literal["stdout", "stderr"] = "stdout",
    *,
    rank: int | list[int] | tuple[int, ...] | Literal["all", "one", "minority", "majority", "all but one", "the agent"],
    when: Trigger = Start(),
    id: str = "",
) -> Fault:
    """Empties the log file of a rank, as logrotate's copytruncate does.

    Args:
        copy (flag, default False): Whether it is first copied to NAME.1.
        stream (default "stdout"): Stream of the rank.
        rank: Target: a rank, several ranks, or a word that the seed of the plan resolves.
        when: Trigger, one of start, after, line, point, call, import_of, signal_received, own_exit, exit_of,
            restart, phase, barrier, probability, all_of, any_of, then. Default: at its start.
        id: Name in journal and results; by default derived from the content of the fault.

    Acts: outside
    Needs: a rank with a log file for the stream; /proc
    Verified: the size of the file, with the same inode
    Undone: never
    Example: ``faults.log_truncated(rank=0, when=when.line('step 2'))``
    """

def log_replaced(
    stream: Literal["stdout", "stderr"] = "stdout",
    *,
    rank: int | list[int] | tuple[int, ...] | Literal["all", "one", "minority", "majority", "all but one", "the agent"],
    when: Trigger = Start(),
    id: str = "",
) -> Fault:
    """Renames the log file of a rank to NAME.1 and creates an empty one in its place, as logrotate does.

    Args:
        stream (default "stdout"): Stream of the rank.
        rank: Target: a rank, several ranks, or a word that the seed of the plan resolves.
        when: Trigger, one of start, after, line, point, call, import_of, signal_received, own_exit, exit_of,
            restart, phase, barrier, probability, all_of, any_of, then. Default: at its start.
        id: Name in journal and results; by default derived from the content of the fault.

    Acts: outside
    Needs: a rank with a log file for the stream; /proc
    Verified: another inode under its name; the rank's descriptor is the old one
    Undone: never
    Example: ``faults.log_replaced(rank=0, when=when.line('step 2'))``
    """

def log_fifo(
    stream: Literal["stdout", "stderr"] = "stdout",
    *,
    rank: int | list[int] | tuple[int, ...] | Literal["all", "one", "minority", "majority", "all but one", "the agent"],
    when: Trigger = Start(),
    for_: float | None = None,
    id: str = "",
) -> Fault:
    """Renames the log file of a rank to NAME.1 and creates a FIFO in its place, on which every open blocks.

    Args:
        stream (default "stdout"): Stream of the rank.
        rank: Target: a rank, several ranks, or a word that the seed of the plan resolves.
        when: Trigger, one of start, after, line, point, call, import_of, signal_received, own_exit, exit_of,
            restart, phase, barrier, probability, all_of, any_of, then. Default: at its start.
        for_ (seconds): Duration; by default until the end of the job.
        id: Name in journal and results; by default derived from the content of the fault.

    Acts: outside
    Needs: a rank with a log file for the stream; /proc
    Verified: a FIFO under its name; the rank's descriptor is the file that was there
    Undone: the file is put back under its name
    Example: ``faults.log_fifo(rank=0, when=when.line('step 2'))``
    """

def sigchld_ignored(
    *,
    rank: int | list[int] | tuple[int, ...] | Literal["all", "one", "minority", "majority", "all but one", "the agent"],
    when: Trigger = Start(),
    id: str = "",
) -> Fault:
    """Starts the launcher with SIGCHLD ignored: the kernel reaps its children and drops their statuses.

    Args:
        rank: Target: a rank, several ranks, or a word that the seed of the plan resolves.
        when: Trigger, one of start. Default: at its start.
        id: Name in journal and results; by default derived from the content of the fault.

    Acts: before start
    Needs: a launcher that runs as a program under derail; /proc
    Verified: SIGCHLD in SigIgn of /proc/PID/status
    Undone: never
    Example: ``faults.sigchld_ignored(rank=0)``
    """

def stolen_wait(
    count: int = 1,
    *,
    rank: int | list[int] | tuple[int, ...] | Literal["all", "one", "minority", "majority", "all but one", "the agent"],
    when: Trigger = Start(),
    id: str = "",
) -> Fault:
    """Other code in the launcher's process reaps its children first: its own wait fails with ECHILD.

    Args:
        count (count, default 1): Number of children.
        rank: Target: a rank, several ranks, or a word that the seed of the plan resolves.
        when: Trigger, one of start, after, line, point, call, import_of, signal_received, exit_of, restart, phase,
            barrier, probability, all_of, any_of, then. Default: at its start.
        id: Name in journal and results; by default derived from the content of the fault.

    Acts: in rank
    Needs: a launcher in Python that waits by os.wait or similar functions
    Verified: the stolen exit status, and the child gone from /proc
    Undone: never
    Example: ``faults.stolen_wait(rank=0)``
    """

def spawn_eagain(
    child: int = 1,
    *,
    rank: int | list[int] | tuple[int, ...] | Literal["all", "one", "minority", "majority", "all but one", "the agent"],
    when: Trigger = Start(),
    id: str = "",
) -> Fault:
    """The launcher cannot make its n-th process: fork and similar calls fail with EAGAIN.

    Args:
        child (count, default 1): Number of the launcher's process, counted from 1, including helpers. Only
            processes made after its last exec count, so that the commands of a wrapper do not; for a shell, only
            living processes count.
        rank: Target: a rank, several ranks, or a word that the seed of the plan resolves.
        when: Trigger, one of start, after, line, point, call, import_of, signal_received, own_exit, exit_of,
            restart, phase, barrier, probability, all_of, any_of, then. Default: at its start.
        id: Name in journal and results; by default derived from the content of the fault.

    Acts: before start
    Needs: Linux 5.5 on x86_64 or aarch64, seccomp user notification; a launcher that runs as a program under derail
    Verified: the kernel accepted the errno as the result of the waiting call
    Undone: never
    Example: ``faults.spawn_eagain(2, rank=0)``
    """

def spawn_emfile(
    child: int = 1,
    *,
    rank: int | list[int] | tuple[int, ...] | Literal["all", "one", "minority", "majority", "all but one", "the agent"],
    when: Trigger = Start(),
    id: str = "",
) -> Fault:
    """The launcher gets no pipe for its n-th process: one call fails with EMFILE.

    Args:
        child (count, default 1): Number of the launcher's process, counted from 1, including helpers. Only
            processes made after its last exec count, so that the commands of a wrapper do not; for a shell, only
            living processes count.
        rank: Target: a rank, several ranks, or a word that the seed of the plan resolves.
        when: Trigger, one of start, after, line, point, call, import_of, signal_received, own_exit, exit_of,
            restart, phase, barrier, probability, all_of, any_of, then. Default: at its start.
        id: Name in journal and results; by default derived from the content of the fault.

    Acts: before start
    Needs: Linux 5.5 on x86_64 or aarch64, seccomp user notification; a launcher that runs as a program under derail
    Verified: the kernel accepted the errno as the result of the waiting call
    Undone: never
    Example: ``faults.spawn_emfile(2, rank=0)``
    """

def spawn_enoent(
    child: int = 1,
    *,
    rank: int | list[int] | tuple[int, ...] | Literal["all", "one", "minority", "majority", "all but one", "the agent"],
    when: Trigger = Start(),
    id: str = "",
) -> Fault:
    """The program of the launcher's n-th process is missing: every exec of it fails with ENOENT.

    Args:
        child (count, default 1): Number of the launcher's process, counted from 1, including helpers. Only
            processes made after its last exec count, so that the commands of a wrapper do not; for a shell, only
            living processes count.
        rank: Target: a rank, several ranks, or a word that the seed of the plan resolves.
        when: Trigger, one of start, after, line, point, call, import_of, signal_received, own_exit, exit_of,
            restart, phase, barrier, probability, all_of, any_of, then. Default: at its start.
        id: Name in journal and results; by default derived from the content of the fault.

    Acts: before start
    Needs: Linux 5.5 on x86_64 or aarch64, seccomp user notification; a launcher that runs as a program under derail
    Verified: the kernel accepted the errno as the result of the waiting call
    Undone: never
    Example: ``faults.spawn_enoent(2, rank=0)``
    """

def launcher_killed(
    *,
    rank: int | list[int] | tuple[int, ...] | Literal["all", "one", "minority", "majority", "all but one", "the agent"],
    when: Trigger = Start(),
    id: str = "",
) -> Fault:
    """Kills a launcher, but not the processes that it has started.

    Args:
        rank: Target: a rank, several ranks, or a word that the seed of the plan resolves.
        when: Trigger, one of start, after, line, point, call, import_of, signal_received, own_exit, exit_of,
            restart, phase, barrier, probability, all_of, any_of, then. Default: at its start.
        id: Name in journal and results; by default derived from the content of the fault.

    Acts: outside
    Needs: a launcher that runs as a program under derail; /proc
    Verified: SIGKILL in the launcher's exit status, with the processes that were still alive
    Undone: never
    Example: ``faults.launcher_killed(rank=0, when=when.line('stopping rank'))``
    """

def launcher_stopped(
    *,
    rank: int | list[int] | tuple[int, ...] | Literal["all", "one", "minority", "majority", "all but one", "the agent"],
    when: Trigger = Start(),
    for_: float | None = None,
    id: str = "",
) -> Fault:
    """Stops a launcher, but not the processes that it has started.

    Args:
        rank: Target: a rank, several ranks, or a word that the seed of the plan resolves.
        when: Trigger, one of start, after, line, point, call, import_of, signal_received, own_exit, exit_of,
            restart, phase, barrier, probability, all_of, any_of, then. Default: at its start.
        for_ (seconds): Duration; by default until the end of the job.
        id: Name in journal and results; by default derived from the content of the fault.

    Acts: outside
    Needs: a launcher that runs as a program under derail; /proc
    Verified: state T in /proc/PID/status
    Undone: SIGCONT
    Example: ``faults.launcher_stopped(rank=0, for_=2, when=when.line('step 2'))``
    """

def launcher_signalled(
    signal: str | int,
    *,
    rank: int | list[int] | tuple[int, ...] | Literal["all", "one", "minority", "majority", "all but one", "the agent"],
    when: Trigger = Start(),
    id: str = "",
) -> Fault:
    """Sends a signal to a launcher that has started processes.

    Args:
        signal (signal, required): Signal by name or number.
        rank: Target: a rank, several ranks, or a word that the seed of the plan resolves.
        when: Trigger, one of start, after, line, point, call, import_of, signal_received, own_exit, exit_of,
            restart, phase, barrier, probability, all_of, any_of, then. Default: at its start.
        id: Name in journal and results; by default derived from the content of the fault.

    Acts: outside
    Needs: a launcher that runs as a program under derail; /proc
    Verified: as for signal: the exit by that signal, or its delivery, or that it is ignored or pending
    Undone: never
    Example: ``faults.launcher_signalled('SIGTERM', rank=0, when=when.line('step 2'))``
    """

def launcher_stdout_closed(
    how: Literal["closed", "broken"] = "closed",
    *,
    rank: int | list[int] | tuple[int, ...] | Literal["all", "one", "minority", "majority", "all but one", "the agent"],
    when: Trigger = Start(),
    id: str = "",
) -> Fault:
    """The launcher starts without a stdout, or with a broken pipe as stdout.

    Args:
        how (default "closed"): No descriptor 1, or a broken pipe.
        rank: Target: a rank, several ranks, or a word that the seed of the plan resolves.
        when: Trigger, one of start. Default: at its start.
        id: Name in journal and results; by default derived from the content of the fault.

    Acts: before start
    Needs: a launcher that runs as a program under derail; /proc
    Verified: descriptor 1 in /proc/PID/fd; for a pipe, POLLERR: its read end is closed
    Undone: never
    Example: ``faults.launcher_stdout_closed('broken', rank=0)``
    """

def launcher_log_disk_full(
    path: str,
    *,
    rank: int | list[int] | tuple[int, ...] | Literal["all", "one", "minority", "majority", "all but one", "the agent"],
    when: Trigger = Start(),
    id: str = "",
) -> Fault:
    """The launcher's own writes to its files fail with ENOSPC; those of its processes do not.

    Args:
        path (text, required): Text that the path of a file must contain.
        rank: Target: a rank, several ranks, or a word that the seed of the plan resolves.
        when: Trigger, one of start, after, line, point, call, import_of, signal_received, own_exit, exit_of,
            restart, phase, barrier, probability, all_of, any_of, then. Default: at its start.
        id: Name in journal and results; by default derived from the content of the fault.

    Acts: before start
    Needs: Linux 5.5 on x86_64 or aarch64, seccomp user notification; a launcher that runs as a program under derail
    Verified: the kernel accepted ENOSPC as the result of the waiting write
    Undone: at the end of the job
    Example: ``faults.launcher_log_disk_full('journal', rank=0, when=when.line('step 2'))``
    """

class _Functions:
    """What mypy sees in an attribute that holds this package, which it takes for any module."""

    fail_point = staticmethod(_here.fail_point)
    plan = staticmethod(_here.plan)
    exit = staticmethod(_here.exit)
    exception = staticmethod(_here.exception)
    async_exception = staticmethod(_here.async_exception)
    exec = staticmethod(_here.exec)
    orphan = staticmethod(_here.orphan)
    segfault = staticmethod(_here.segfault)
    stack_overflow = staticmethod(_here.stack_overflow)
    abort = staticmethod(_here.abort)
    double_free = staticmethod(_here.double_free)
    bus_error = staticmethod(_here.bus_error)
    illegal_instruction = staticmethod(_here.illegal_instruction)
    fpe = staticmethod(_here.fpe)
    bad_syscall = staticmethod(_here.bad_syscall)
    broken_pipe = staticmethod(_here.broken_pipe)
    cpu_limit = staticmethod(_here.cpu_limit)
    file_limit = staticmethod(_here.file_limit)
    alarm = staticmethod(_here.alarm)
    crash_at_import = staticmethod(_here.crash_at_import)
    crash_at_exit = staticmethod(_here.crash_at_exit)
    crash_in_del = staticmethod(_here.crash_in_del)
    crash_in_handler = staticmethod(_here.crash_in_handler)
    signal = staticmethod(_here.signal)
    stop = staticmethod(_here.stop)
    trace_stop = staticmethod(_here.trace_stop)
    cont = staticmethod(_here.cont)
    signal_storm = staticmethod(_here.signal_storm)
    second_signal = staticmethod(_here.second_signal)
    block_signal = staticmethod(_here.block_signal)
    ignore_signal = staticmethod(_here.ignore_signal)
    slow_handler = staticmethod(_here.slow_handler)
    raising_handler = staticmethod(_here.raising_handler)
    exit_zero_handler = staticmethod(_here.exit_zero_handler)
    reraising_handler = staticmethod(_here.reraising_handler)
    forking_handler = staticmethod(_here.forking_handler)
    hang = staticmethod(_here.hang)
    deadlock = staticmethod(_here.deadlock)
    gil_held = staticmethod(_here.gil_held)
    busy_loop = staticmethod(_here.busy_loop)
    blocked_pipe = staticmethod(_here.blocked_pipe)
    hang_at_exit = staticmethod(_here.hang_at_exit)
    hang_thread = staticmethod(_here.hang_thread)
    uninterruptible = staticmethod(_here.uninterruptible)
    value_huge = staticmethod(_here.value_huge)
    value_unpicklable = staticmethod(_here.value_unpicklable)
    value_slow = staticmethod(_here.value_slow)
    killed_while_sending = staticmethod(_here.killed_while_sending)
    crash_after_return = staticmethod(_here.crash_after_return)
    error_file = staticmethod(_here.error_file)
    error_file_stale = staticmethod(_here.error_file_stale)
    error_file_of_other_rank = staticmethod(_here.error_file_of_other_rank)
    error_file_skewed = staticmethod(_here.error_file_skewed)
    error_file_replaced = staticmethod(_here.error_file_replaced)
    error_file_unwritable = staticmethod(_here.error_file_unwritable)
    checkpoint_damaged = staticmethod(_here.checkpoint_damaged)
    limit = staticmethod(_here.limit)
    oom_score = staticmethod(_here.oom_score)
    fd_leak = staticmethod(_here.fd_leak)
    full_disk = staticmethod(_here.full_disk)
    full_inodes = staticmethod(_here.full_inodes)
    full_shm = staticmethod(_here.full_shm)
    memory_limit = staticmethod(_here.memory_limit)
    cpu_quota = staticmethod(_here.cpu_quota)
    freeze = staticmethod(_here.freeze)
    starve = staticmethod(_here.starve)
    throttle = staticmethod(_here.throttle)
    syscall_errno = staticmethod(_here.syscall_errno)
    syscall_delay = staticmethod(_here.syscall_delay)
    sever = staticmethod(_here.sever)
    reset = staticmethod(_here.reset)
    dns_failure = staticmethod(_here.dns_failure)
    loopback_down = staticmethod(_here.loopback_down)
    proxy = staticmethod(_here.proxy)
    net_latency = staticmethod(_here.net_latency)
    net_bandwidth = staticmethod(_here.net_bandwidth)
    net_slices = staticmethod(_here.net_slices)
    net_black_hole = staticmethod(_here.net_black_hole)
    net_half_open = staticmethod(_here.net_half_open)
    net_reset = staticmethod(_here.net_reset)
    net_close = staticmethod(_here.net_close)
    net_refuse = staticmethod(_here.net_refuse)
    port_taken = staticmethod(_here.port_taken)
    port_kept = staticmethod(_here.port_kept)
    store_dies = staticmethod(_here.store_dies)
    wrong_address = staticmethod(_here.wrong_address)
    wrong_world_size = staticmethod(_here.wrong_world_size)
    duplicate_rank = staticmethod(_here.duplicate_rank)
    missing_variable = staticmethod(_here.missing_variable)
    clock_offset = staticmethod(_here.clock_offset)
    clock_drift = staticmethod(_here.clock_drift)
    clock_freeze = staticmethod(_here.clock_freeze)
    clock_step_back = staticmethod(_here.clock_step_back)
    monotonic_offset = staticmethod(_here.monotonic_offset)
    partial_line = staticmethod(_here.partial_line)
    no_newline_before_kill = staticmethod(_here.no_newline_before_kill)
    progress_bar = staticmethod(_here.progress_bar)
    ansi = staticmethod(_here.ansi)
    nul_bytes = staticmethod(_here.nul_bytes)
    invalid_utf8 = staticmethod(_here.invalid_utf8)
    long_line = staticmethod(_here.long_line)
    log_flood = staticmethod(_here.log_flood)
    closed_stream = staticmethod(_here.closed_stream)
    log_read_only = staticmethod(_here.log_read_only)
    log_disk_full = staticmethod(_here.log_disk_full)
    pipe_holder = staticmethod(_here.pipe_holder)
    log_deleted = staticmethod(_here.log_deleted)
    log_truncated = staticmethod(_here.log_truncated)
    log_replaced = staticmethod(_here.log_replaced)
    log_fifo = staticmethod(_here.log_fifo)
    sigchld_ignored = staticmethod(_here.sigchld_ignored)
    stolen_wait = staticmethod(_here.stolen_wait)
    spawn_eagain = staticmethod(_here.spawn_eagain)
    spawn_emfile = staticmethod(_here.spawn_emfile)
    spawn_enoent = staticmethod(_here.spawn_enoent)
    launcher_killed = staticmethod(_here.launcher_killed)
    launcher_stopped = staticmethod(_here.launcher_stopped)
    launcher_signalled = staticmethod(_here.launcher_signalled)
    launcher_stdout_closed = staticmethod(_here.launcher_stdout_closed)
    launcher_log_disk_full = staticmethod(_here.launcher_log_disk_full)
