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
    """The rank leaves with an exit code, in its main thread.

    Args:
        code (code, required): What sys.exit gets: a number (256 is 0) or a message.
        how (default "exit"): sys.exit, which can be caught, or os._exit.
        rank: Which rank, which ranks, or a word that the seed of the plan resolves.
        when: What sets it off: start, after, line, point, call, import_of, signal_received, exit_of, restart,
            phase, barrier, probability, all_of, any_of, then. Unless given: at its start.
        id: Its name in journal and results; by default made from what the fault says.

    Acts: in rank
    Needs: Python in the rank, started without -S, -I and -E
    Verified: the code in the status of the rank's exit
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
    """An exception is raised in the rank's main thread, wherever that is just now.

    Args:
        type (exception, required): A builtin exception, or package.module:Class.
        message (text, default "injected by derail"): What it is made with.
        rank: Which rank, which ranks, or a word that the seed of the plan resolves.
        when: What sets it off: start, after, line, point, call, import_of, signal_received, exit_of, restart,
            phase, barrier, probability, all_of, any_of, then. Unless given: at its start.
        id: Its name in journal and results; by default made from what the fault says.

    Acts: in rank
    Needs: Python in the rank, started without -S, -I and -E
    Verified: the rank's record of where it was raised, that Python did not ignore it there, and the rank's end
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
    """Another thread raises an exception in the main thread, which meets it at its next instruction of Python.

    Args:
        type (exception, required): A builtin exception, or package.module:Class.
        message (text, default "injected by derail"): What it is made with.
        rank: Which rank, which ranks, or a word that the seed of the plan resolves.
        when: What sets it off: start, after, line, point, call, import_of, signal_received, exit_of, restart,
            phase, barrier, probability, all_of, any_of, then. Unless given: at its start.
        id: Its name in journal and results; by default made from what the fault says.

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
    """The rank becomes another program, under its own pid.

    Args:
        argv (texts, required): The program, looked up in PATH, and its arguments.
        rank: Which rank, which ranks, or a word that the seed of the plan resolves.
        when: What sets it off: start, after, line, point, call, import_of, signal_received, exit_of, restart,
            phase, barrier, probability, all_of, any_of, then. Unless given: at its start.
        id: Its name in journal and results; by default made from what the fault says.

    Acts: in rank
    Needs: Python in the rank, started without -S, -I and -E; /proc
    Verified: the program's name in /proc/PID/stat, which a rank that has ended keeps too
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
    """The rank starts a helper and leaves at once, without it.

    Args:
        kind (default "group"): In the rank's group; in a session of its own; forked twice; or in the group, writing
            to its stdout.
        code (count, default 1): The code with which the rank leaves.
        lives (seconds, default 60.0): Seconds after which the helper ends.
        rank: Which rank, which ranks, or a word that the seed of the plan resolves.
        when: What sets it off: start, after, line, point, call, import_of, signal_received, exit_of, restart,
            phase, barrier, probability, all_of, any_of, then. Unless given: at its start.
        id: Its name in journal and results; by default made from what the fault says.

    Acts: in rank
    Needs: Python in the rank, started without -S, -I and -E; /proc
    Verified: the helper's state, group and session in /proc/PID/stat after the rank's exit, which has the code
    Undone: the helper ends by itself
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
    """The rank touches memory that is not there.

    Args:
        how (default "read"): What it does with the address.
        core (flag, default False): Whether the kernel may write a core file, as the rank's hard limit allows.
        rank: Which rank, which ranks, or a word that the seed of the plan resolves.
        when: What sets it off: start, after, line, point, call, import_of, signal_received, exit_of, restart,
            phase, barrier, probability, all_of, any_of, then. Unless given: at its start.
        id: Its name in journal and results; by default made from what the fault says.

    Acts: in rank
    Needs: Python in the rank, started without -S, -I and -E; ctypes
    Verified: SIGSEGV in the status of the rank's exit
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
    """C functions call each other in the rank until the stack is used up.

    Args:
        core (flag, default False): Whether the kernel may write a core file, as the rank's hard limit allows.
        rank: Which rank, which ranks, or a word that the seed of the plan resolves.
        when: What sets it off: start, after, line, point, call, import_of, signal_received, exit_of, restart,
            phase, barrier, probability, all_of, any_of, then. Unless given: at its start.
        id: Its name in journal and results; by default made from what the fault says.

    Acts: in rank
    Needs: Python in the rank, started without -S, -I and -E; ctypes; CPython's faulthandler
    Verified: SIGSEGV in the status of the rank's exit
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
    """The rank aborts, as failed assertions of C code do, or Python on finding itself broken.

    Args:
        how (default "abort"): abort(), or Py_FatalError with its traceback.
        core (flag, default False): Whether the kernel may write a core file, as the rank's hard limit allows.
        rank: Which rank, which ranks, or a word that the seed of the plan resolves.
        when: What sets it off: start, after, line, point, call, import_of, signal_received, exit_of, restart,
            phase, barrier, probability, all_of, any_of, then. Unless given: at its start.
        id: Its name in journal and results; by default made from what the fault says.

    Acts: in rank
    Needs: Python in the rank, started without -S, -I and -E; ctypes
    Verified: SIGABRT in the status of the rank's exit
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
    """The rank frees memory twice; the C library notices, and aborts.

    Args:
        core (flag, default False): Whether the kernel may write a core file, as the rank's hard limit allows.
        rank: Which rank, which ranks, or a word that the seed of the plan resolves.
        when: What sets it off: start, after, line, point, call, import_of, signal_received, exit_of, restart,
            phase, barrier, probability, all_of, any_of, then. Unless given: at its start.
        id: Its name in journal and results; by default made from what the fault says.

    Acts: in rank
    Needs: Python in the rank, started without -S, -I and -E; ctypes; a C library that notices, as glibc
    Verified: SIGABRT in the status of the rank's exit
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
    """The rank touches a page of a mapped file that has been truncated.

    Args:
        core (flag, default False): Whether the kernel may write a core file, as the rank's hard limit allows.
        rank: Which rank, which ranks, or a word that the seed of the plan resolves.
        when: What sets it off: start, after, line, point, call, import_of, signal_received, exit_of, restart,
            phase, barrier, probability, all_of, any_of, then. Unless given: at its start.
        id: Its name in journal and results; by default made from what the fault says.

    Acts: in rank
    Needs: Python in the rank, started without -S, -I and -E; ctypes
    Verified: SIGBUS in the status of the rank's exit
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
    """The rank runs an instruction that its processor does not have.

    Args:
        core (flag, default False): Whether the kernel may write a core file, as the rank's hard limit allows.
        rank: Which rank, which ranks, or a word that the seed of the plan resolves.
        when: What sets it off: start, after, line, point, call, import_of, signal_received, exit_of, restart,
            phase, barrier, probability, all_of, any_of, then. Unless given: at its start.
        id: Its name in journal and results; by default made from what the fault says.

    Acts: in rank
    Needs: Python in the rank, started without -S, -I and -E; ctypes; x86_64 or aarch64; memory that may be executed
    Verified: SIGILL in the status of the rank's exit
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
    """The rank divides whole numbers by zero in machine code.

    Args:
        core (flag, default False): Whether the kernel may write a core file, as the rank's hard limit allows.
        rank: Which rank, which ranks, or a word that the seed of the plan resolves.
        when: What sets it off: start, after, line, point, call, import_of, signal_received, exit_of, restart,
            phase, barrier, probability, all_of, any_of, then. Unless given: at its start.
        id: Its name in journal and results; by default made from what the fault says.

    Acts: in rank
    Needs: Python in the rank, started without -S, -I and -E; ctypes; x86_64, as aarch64 does not trap; memory that
        may be executed
    Verified: SIGFPE in the status of the rank's exit
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
    """The rank makes a system call that a seccomp filter of its own punishes with death.

    Args:
        core (flag, default False): Whether the kernel may write a core file, as the rank's hard limit allows.
        rank: Which rank, which ranks, or a word that the seed of the plan resolves.
        when: What sets it off: start, after, line, point, call, import_of, signal_received, exit_of, restart,
            phase, barrier, probability, all_of, any_of, then. Unless given: at its start.
        id: Its name in journal and results; by default made from what the fault says.

    Acts: in rank
    Needs: Python in the rank, started without -S, -I and -E; ctypes; seccomp
    Verified: SIGSYS in the status of the rank's exit
    Undone: never
    Example: ``faults.bad_syscall(rank=1, when=when.line("step 2"))``
    """

def broken_pipe(
    *,
    rank: int | list[int] | tuple[int, ...] | Literal["all", "one", "minority", "majority", "all but one", "the agent"],
    when: Trigger = Start(),
    id: str = "",
) -> Fault:
    """The rank writes to a pipe that nobody can read, with the signal's default action, as programs in C have it.

    Args:
        rank: Which rank, which ranks, or a word that the seed of the plan resolves.
        when: What sets it off: start, after, line, point, call, import_of, signal_received, exit_of, restart,
            phase, barrier, probability, all_of, any_of, then. Unless given: at its start.
        id: Its name in journal and results; by default made from what the fault says.

    Acts: in rank
    Needs: Python in the rank, started without -S, -I and -E
    Verified: SIGPIPE in the status of the rank's exit
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
    """The rank spins until it has used up the processor time that it is allowed: at most one second more.

    Args:
        core (flag, default False): Whether the kernel may write a core file, as the rank's hard limit allows.
        rank: Which rank, which ranks, or a word that the seed of the plan resolves.
        when: What sets it off: start, after, line, point, call, import_of, signal_received, exit_of, restart,
            phase, barrier, probability, all_of, any_of, then. Unless given: at its start.
        id: Its name in journal and results; by default made from what the fault says.

    Acts: in rank
    Needs: Python in the rank, started without -S, -I and -E; ctypes
    Verified: SIGXCPU in the status of the rank's exit
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
    """The rank writes more to a file than it is allowed, with the signal's default action.

    Args:
        core (flag, default False): Whether the kernel may write a core file, as the rank's hard limit allows.
        rank: Which rank, which ranks, or a word that the seed of the plan resolves.
        when: What sets it off: start, after, line, point, call, import_of, signal_received, exit_of, restart,
            phase, barrier, probability, all_of, any_of, then. Unless given: at its start.
        id: Its name in journal and results; by default made from what the fault says.

    Acts: in rank
    Needs: Python in the rank, started without -S, -I and -E; ctypes
    Verified: SIGXFSZ in the status of the rank's exit
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
    """An alarm clock for which the rank has no handler goes off while the program goes on.

    Args:
        seconds (seconds, default 0.05): Seconds until it goes off.
        rank: Which rank, which ranks, or a word that the seed of the plan resolves.
        when: What sets it off: start, after, line, point, call, import_of, signal_received, exit_of, restart,
            phase, barrier, probability, all_of, any_of, then. Unless given: at its start.
        id: Its name in journal and results; by default made from what the fault says.

    Acts: in rank
    Needs: Python in the rank, started without -S, -I and -E
    Verified: SIGALRM in the status of the rank's exit
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
        module (text, required): Which; by its full name, and not imported before.
        how (default "exception"): What happens then.
        rank: Which rank, which ranks, or a word that the seed of the plan resolves.
        when: What sets it off: start, after, line, point, call, import_of, signal_received, exit_of, restart,
            phase, barrier, probability, all_of, any_of, then. Unless given: at its start.
        id: Its name in journal and results; by default made from what the fault says.

    Acts: in rank
    Needs: Python in the rank, started without -S, -I and -E; ctypes
    Verified: the rank's record that the moment has come; unless it raises, the signal in the status of its exit
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
    """The rank crashes after its program has ended, in a function that Python calls at its exit (atexit).

    Args:
        how (default "segfault"): What happens then.
        rank: Which rank, which ranks, or a word that the seed of the plan resolves.
        when: What sets it off: start, after, line, point, call, import_of, signal_received, exit_of, restart,
            phase, barrier, probability, all_of, any_of, then. Unless given: at its start.
        id: Its name in journal and results; by default made from what the fault says.

    Acts: in rank
    Needs: Python in the rank, started without -S, -I and -E; ctypes
    Verified: the rank's record that the moment has come; unless it raises, the signal in the status of its exit
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
        at (default "once"): Destroyed at once, or when the interpreter ends.
        how (default "segfault"): What happens then.
        rank: Which rank, which ranks, or a word that the seed of the plan resolves.
        when: What sets it off: start, after, line, point, call, import_of, signal_received, exit_of, restart,
            phase, barrier, probability, all_of, any_of, then. Unless given: at its start.
        id: Its name in journal and results; by default made from what the fault says.

    Acts: in rank
    Needs: Python in the rank, started without -S, -I and -E; ctypes
    Verified: the rank's record that the moment has come; unless it raises, the signal in the status of its exit
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
    """The rank crashes in the handler of a signal, which it sends to itself or waits for.

    Args:
        signal (signal, default "SIGUSR1"): Whose handler.
        wait (flag, default False): Whether it waits for the signal of somebody else.
        how (default "segfault"): What happens then.
        rank: Which rank, which ranks, or a word that the seed of the plan resolves.
        when: What sets it off: start, after, line, point, call, import_of, signal_received, exit_of, restart,
            phase, barrier, probability, all_of, any_of, then. Unless given: at its start.
        id: Its name in journal and results; by default made from what the fault says.

    Acts: in rank
    Needs: Python in the rank, started without -S, -I and -E; ctypes
    Verified: the rank's record that the moment has come; unless it raises, the signal in the status of its exit
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
    """Sends any signal to a rank, or to all processes of its group.

    Args:
        signal (signal, required): Which signal, by name or number; real-time ones as SIGRTMIN+n.
        group (flag, default False): Whether the rank's whole process group gets it.
        every (seconds, default 0.1): Seconds between two signals, if there are several.
        rank: Which rank, which ranks, or a word that the seed of the plan resolves.
        when: What sets it off: start, after, line, point, call, import_of, signal_received, own_exit, exit_of,
            restart, phase, barrier, probability, all_of, any_of, then. Unless given: at its start.
        times: How often it acts; by default each time that a limited trigger comes, else once.
        for_ (seconds): How long it lasts; by default until the end of the job.
        id: Its name in journal and results; by default made from what the fault says.

    Acts: outside
    Needs: nothing; /proc for signals that do not end the rank
    Verified: a deadly signal in the status of the rank's exit; a stop as state T in /proc; a handled, blocked or
        ignored one in SigCgt, SigPnd or SigIgn of /proc/PID/status
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
    """Stops a rank (SIGSTOP), for a while or for good: it does nothing, and hears SIGTERM only afterwards.

    Args:
        group (flag, default False): Whether the rank's whole process group gets it.
        rank: Which rank, which ranks, or a word that the seed of the plan resolves.
        when: What sets it off: start, after, line, point, call, import_of, signal_received, own_exit, exit_of,
            restart, phase, barrier, probability, all_of, any_of, then. Unless given: at its start.
        for_ (seconds): How long it lasts; by default until the end of the job.
        id: Its name in journal and results; by default made from what the fault says.

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
    """Holds a rank as a debugger does (ptrace): it stands, and hears no signal but SIGKILL.

    Args:
        rank: Which rank, which ranks, or a word that the seed of the plan resolves.
        when: What sets it off: start, after, line, point, call, import_of, signal_received, own_exit, exit_of,
            restart, phase, barrier, probability, all_of, any_of, then. Unless given: at its start.
        for_ (seconds): How long it lasts; by default until the end of the job.
        id: Its name in journal and results; by default made from what the fault says.

    Acts: outside
    Needs: /proc, ptrace
    Verified: state t of all threads in /proc/PID/task
    Undone: it is let go; if derail is killed, by the kernel
    Example: ``faults.trace_stop(rank=1, for_=0.5, when=when.line("step 2"))``
    """

def cont(
    group: bool = False,
    *,
    rank: int | list[int] | tuple[int, ...] | Literal["all", "one", "minority", "majority", "all but one", "the agent"],
    when: Trigger = Start(),
    id: str = "",
) -> Fault:
    """Continues a stopped rank (SIGCONT), whoever stopped it.

    Args:
        group (flag, default False): Whether the rank's whole process group gets it.
        rank: Which rank, which ranks, or a word that the seed of the plan resolves.
        when: What sets it off: start, after, line, point, call, import_of, signal_received, own_exit, exit_of,
            restart, phase, barrier, probability, all_of, any_of, then. Unless given: at its start.
        id: Its name in journal and results; by default made from what the fault says.

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
    """Sends a rank many signals in a short time, one kind or several in turn.

    Args:
        signals (signals, default ("SIGTERM",)): Which signals, in turn.
        count (count, default 20): How many in all.
        enough (count, default 0): How many will do, if the rank has ended by then; 0 for all.
        every (seconds, default 0.01): Seconds between two of them; 0 for all at once.
        rank: Which rank, which ranks, or a word that the seed of the plan resolves.
        when: What sets it off: start, after, line, point, call, import_of, signal_received, own_exit, exit_of,
            restart, phase, barrier, probability, all_of, any_of, then. Unless given: at its start.
        id: Its name in journal and results; by default made from what the fault says.

    Acts: outside
    Needs: /proc, for a rank that lives on
    Verified: all were sent while the rank lived, and it catches, ignores or blocks them in /proc/PID/status, or it
        ended after the last, or when `enough` were sent
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
    """Sends a rank another signal while it deals with the first one that the supervisor sent to end it.

    Args:
        signal (signal, default "SIGTERM"): Which signal.
        delay (seconds, default 0.05): Seconds after the first one.
        rank: Which rank, which ranks, or a word that the seed of the plan resolves.
        when: What sets it off: start, after, line, point, call, import_of, signal_received, own_exit, exit_of,
            restart, phase, barrier, probability, all_of, any_of, then. Unless given: at its start.
        id: Its name in journal and results; by default made from what the fault says.

    Acts: outside
    Needs: a job that is ended; /proc
    Verified: as for `signal`; a rank that dies of the first one is not reached
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
    """The rank blocks signals: they stay pending, and do nothing.

    Args:
        signals (signals, default ("SIGTERM",)): Which signals.
        rank: Which rank, which ranks, or a word that the seed of the plan resolves.
        when: What sets it off: start, after, line, point, call, import_of, signal_received, exit_of, restart,
            phase, barrier, probability, all_of, any_of, then. Unless given: at its start.
        id: Its name in journal and results; by default made from what the fault says.

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
        signals (signals, default ("SIGTERM",)): Which signals.
        rank: Which rank, which ranks, or a word that the seed of the plan resolves.
        when: What sets it off: start, after, line, point, call, import_of, signal_received, exit_of, restart,
            phase, barrier, probability, all_of, any_of, then. Unless given: at its start.
        id: Its name in journal and results; by default made from what the fault says.

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
    """The rank takes its time over a signal: its handler sleeps before it does what was done without it.

    Args:
        seconds (seconds, default 5.0): How long it sleeps.
        signal (signal, default "SIGTERM"): Which signal it handles.
        rank: Which rank, which ranks, or a word that the seed of the plan resolves.
        when: What sets it off: start, after, line, point, call, import_of, signal_received, exit_of, restart,
            phase, barrier, probability, all_of, any_of, then. Unless given: at its start.
        id: Its name in journal and results; by default made from what the fault says.

    Acts: in rank
    Needs: Python in the rank, started without -S, -I and -E; /proc
    Verified: the rank's record that the handler ran, SigCgt in /proc/PID/status, and that it slept to the end or
        was killed before
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
    """The rank's handler raises an exception, wherever the main thread is when the signal comes.

    Args:
        type (exception, default "RuntimeError"): A builtin exception, or package.module:Class.
        message (text, default "injected by derail"): What it is made with.
        signal (signal, default "SIGTERM"): Which signal it handles.
        rank: Which rank, which ranks, or a word that the seed of the plan resolves.
        when: What sets it off: start, after, line, point, call, import_of, signal_received, exit_of, restart,
            phase, barrier, probability, all_of, any_of, then. Unless given: at its start.
        id: Its name in journal and results; by default made from what the fault says.

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
    """The rank leaves with 0 when it is told to end, as if it had finished.

    Args:
        signal (signal, default "SIGTERM"): Which signal it handles.
        how (default "exit"): sys.exit, which can be caught, or os._exit.
        rank: Which rank, which ranks, or a word that the seed of the plan resolves.
        when: What sets it off: start, after, line, point, call, import_of, signal_received, exit_of, restart,
            phase, barrier, probability, all_of, any_of, then. Unless given: at its start.
        id: Its name in journal and results; by default made from what the fault says.

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
    """The rank's handler cleans up and sends itself the signal again, with the default action.

    Args:
        signal (signal, default "SIGTERM"): Which signal it handles.
        rank: Which rank, which ranks, or a word that the seed of the plan resolves.
        when: What sets it off: start, after, line, point, call, import_of, signal_received, exit_of, restart,
            phase, barrier, probability, all_of, any_of, then. Unless given: at its start.
        id: Its name in journal and results; by default made from what the fault says.

    Acts: in rank
    Needs: Python in the rank, started without -S, -I and -E; /proc
    Verified: the rank's record that the handler ran, SigCgt in /proc/PID/status, and the signal in the status of
        the rank's exit
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
    """The rank's handler forks before it does what was done without it: the child outlives the rank.

    Args:
        signal (signal, default "SIGTERM"): Which signal it handles.
        lives (seconds, default 60.0): Seconds after which the child ends; it ignores the signal.
        rank: Which rank, which ranks, or a word that the seed of the plan resolves.
        when: What sets it off: start, after, line, point, call, import_of, signal_received, exit_of, restart,
            phase, barrier, probability, all_of, any_of, then. Unless given: at its start.
        id: Its name in journal and results; by default made from what the fault says.

    Acts: in rank
    Needs: Python in the rank, started without -S, -I and -E; /proc
    Verified: the rank's record that the handler ran, SigCgt in /proc/PID/status, and the child, alive at the rank's
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
    """The rank's main thread sleeps for ever (or for a while), deaf to the signals that it is to ignore.

    Args:
        ignore (signals, default ()): Signals that the rank ignores while it hangs.
        rank: Which rank, which ranks, or a word that the seed of the plan resolves.
        when: What sets it off: start, after, line, point, call, import_of, signal_received, exit_of, restart,
            phase, barrier, probability, all_of, any_of, then. Unless given: at its start.
        for_ (seconds): How long it lasts; by default until the end of the job.
        id: Its name in journal and results; by default made from what the fault says.

    Acts: in rank
    Needs: Python in the rank, started without -S, -I and -E; /proc
    Verified: state S or D in /proc/PID/status, and the ignored signals in its SigIgn
    Undone: after `for_` seconds the main thread goes on, and the signals have their handlers back
    Example: ``faults.hang(rank=3, ignore=["SIGTERM"], when=when.line("step 2"))``
    """

def deadlock(
    *,
    rank: int | list[int] | tuple[int, ...] | Literal["all", "one", "minority", "majority", "all but one", "the agent"],
    when: Trigger = Start(),
    for_: float | None = None,
    id: str = "",
) -> Fault:
    """The rank's main thread waits for a lock that it holds itself.

    Args:
        rank: Which rank, which ranks, or a word that the seed of the plan resolves.
        when: What sets it off: start, after, line, point, call, import_of, signal_received, exit_of, restart,
            phase, barrier, probability, all_of, any_of, then. Unless given: at its start.
        for_ (seconds): How long it lasts; by default until the end of the job.
        id: Its name in journal and results; by default made from what the fault says.

    Acts: in rank
    Needs: Python in the rank, started without -S, -I and -E; /proc
    Verified: state S in /proc/PID/status, and a futex in /proc/PID/wchan where the kernel tells
    Undone: after `for_` seconds the main thread goes on
    Example: ``faults.deadlock(rank=1, when=when.line("step 2"))``
    """

def gil_held(
    *,
    rank: int | list[int] | tuple[int, ...] | Literal["all", "one", "minority", "majority", "all but one", "the agent"],
    when: Trigger = Start(),
    for_: float | None = None,
    id: str = "",
) -> Fault:
    """The rank's main thread waits in C code and keeps the GIL: no other thread of it and no handler runs.

    Args:
        rank: Which rank, which ranks, or a word that the seed of the plan resolves.
        when: What sets it off: start, after, line, point, call, import_of, signal_received, exit_of, restart,
            phase, barrier, probability, all_of, any_of, then. Unless given: at its start.
        for_ (seconds): How long it lasts; by default until the end of the job.
        id: Its name in journal and results; by default made from what the fault says.

    Acts: in rank
    Needs: Python in the rank, started without -S, -I and -E; ctypes; a Python with a GIL; /proc
    Verified: state S, and a thread of the rank that moved a descriptor (/proc/PID/fdinfo) and does so no more
    Undone: after `for_` seconds the main thread goes on
    Example: ``faults.gil_held(rank=1, for_=5, when=when.line("step 2"))``
    """

def busy_loop(
    *,
    rank: int | list[int] | tuple[int, ...] | Literal["all", "one", "minority", "majority", "all but one", "the agent"],
    when: Trigger = Start(),
    for_: float | None = None,
    id: str = "",
) -> Fault:
    """The rank's main thread spins in a loop that does nothing.

    Args:
        rank: Which rank, which ranks, or a word that the seed of the plan resolves.
        when: What sets it off: start, after, line, point, call, import_of, signal_received, exit_of, restart,
            phase, barrier, probability, all_of, any_of, then. Unless given: at its start.
        for_ (seconds): How long it lasts; by default until the end of the job.
        id: Its name in journal and results; by default made from what the fault says.

    Acts: in rank
    Needs: Python in the rank, started without -S, -I and -E; /proc
    Verified: state R in /proc/PID/status, and growing processor time in /proc/PID/stat
    Undone: after `for_` seconds the main thread goes on
    Example: ``faults.busy_loop(rank=1, when=when.line("step 2"))``
    """

def blocked_pipe(
    *,
    rank: int | list[int] | tuple[int, ...] | Literal["all", "one", "minority", "majority", "all but one", "the agent"],
    when: Trigger = Start(),
    for_: float | None = None,
    id: str = "",
) -> Fault:
    """The rank's main thread writes to a pipe that nobody reads.

    Args:
        rank: Which rank, which ranks, or a word that the seed of the plan resolves.
        when: What sets it off: start, after, line, point, call, import_of, signal_received, exit_of, restart,
            phase, barrier, probability, all_of, any_of, then. Unless given: at its start.
        for_ (seconds): How long it lasts; by default until the end of the job.
        id: Its name in journal and results; by default made from what the fault says.

    Acts: in rank
    Needs: Python in the rank, started without -S, -I and -E; /proc
    Verified: state S in /proc/PID/status, and pipe_write in /proc/PID/wchan where the kernel tells
    Undone: after `for_` seconds the main thread goes on
    Example: ``faults.blocked_pipe(rank=1, when=when.line("step 2"))``
    """

def hang_at_exit(
    *,
    rank: int | list[int] | tuple[int, ...] | Literal["all", "one", "minority", "majority", "all but one", "the agent"],
    when: Trigger = Start(),
    for_: float | None = None,
    id: str = "",
) -> Fault:
    """The rank hangs after its program has ended, in a function that Python calls at its exit (atexit).

    Args:
        rank: Which rank, which ranks, or a word that the seed of the plan resolves.
        when: What sets it off: start, after, line, point, call, import_of, signal_received, exit_of, restart,
            phase, barrier, probability, all_of, any_of, then. Unless given: at its start.
        for_ (seconds): How long it lasts; by default until the end of the job.
        id: Its name in journal and results; by default made from what the fault says.

    Acts: in rank
    Needs: Python in the rank, started without -S, -I and -E; /proc
    Verified: the rank's record that it has come there, and state S in /proc/PID/status
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
    """The rank hangs after its program has ended: Python waits for a thread of it that does not end.

    Args:
        rank: Which rank, which ranks, or a word that the seed of the plan resolves.
        when: What sets it off: start, after, line, point, call, import_of, signal_received, exit_of, restart,
            phase, barrier, probability, all_of, any_of, then. Unless given: at its start.
        for_ (seconds): How long it lasts; by default until the end of the job.
        id: Its name in journal and results; by default made from what the fault says.

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
    """The rank's main thread waits in the kernel, in state D: no signal but SIGKILL gets through.

    Args:
        rank: Which rank, which ranks, or a word that the seed of the plan resolves.
        when: What sets it off: start, after, line, point, call, import_of, signal_received, exit_of, restart,
            phase, barrier, probability, all_of, any_of, then. Unless given: at its start.
        for_ (seconds): How long it lasts; by default until the end of the job.
        id: Its name in journal and results; by default made from what the fault says.

    Acts: in rank
    Needs: Python in the rank, started without -S, -I and -E; ctypes; /proc
    Verified: state D in /proc/PID/status, and the child that it waits for
    Undone: after `for_` seconds the main thread goes on; at the end of the job the child is ended
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
    """The rank's function returns so many bytes.

    Args:
        size (bytes, required): How many.
        beside (flag, default False): Whether what it would have returned comes with them, as (value, bytes).
        rank: Which rank, which ranks, or a word that the seed of the plan resolves.
        when: What sets it off: start, after, line, point, call, import_of, signal_received, exit_of, restart,
            phase, barrier, probability, all_of, any_of, then. Unless given: at its start.
        id: Its name in journal and results; by default made from what the fault says.

    Acts: in rank
    Needs: a rank that is a function; Python in the rank, started without -S, -I and -E
    Verified: the rank's record that it returned them, and that the supervisor received a value
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
    """The rank's function returns what cannot be sent.

    Args:
        kind (default "lambda"): A function without a name; an object that raises when it is pickled; or one that
            does when it is read.
        rank: Which rank, which ranks, or a word that the seed of the plan resolves.
        when: What sets it off: start, after, line, point, call, import_of, signal_received, exit_of, restart,
            phase, barrier, probability, all_of, any_of, then. Unless given: at its start.
        id: Its name in journal and results; by default made from what the fault says.

    Acts: in rank
    Needs: a rank that is a function; Python in the rank, started without -S, -I and -E
    Verified: the rank's record of it, its failure, and that no value was received (for unpickling: that one was)
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
    """Sending what the rank's function returns takes its time; the value itself arrives unchanged.

    Args:
        seconds (seconds, default 1.0): How long.
        rank: Which rank, which ranks, or a word that the seed of the plan resolves.
        when: What sets it off: start, after, line, point, call, import_of, signal_received, exit_of, restart,
            phase, barrier, probability, all_of, any_of, then. Unless given: at its start.
        id: Its name in journal and results; by default made from what the fault says.

    Acts: in rank
    Needs: a rank that is a function; Python in the rank, started without -S, -I and -E
    Verified: the rank's records of the beginning and the end of the pickling, and that the supervisor received a
        value
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
    """The rank gets SIGKILL when a part of the value that its function returned is on its way.

    Args:
        size (bytes, default 8388608): Bytes that are out by then.
        rank: Which rank, which ranks, or a word that the seed of the plan resolves.
        when: What sets it off: start, after, line, point, call, import_of, signal_received, exit_of, restart,
            phase, barrier, probability, all_of, any_of, then. Unless given: at its start.
        id: Its name in journal and results; by default made from what the fault says.

    Acts: in rank
    Needs: a rank that is a function; Python in the rank, started without -S, -I and -E
    Verified: the rank's record that it was sending, SIGKILL in the status of its exit, and that no value was
        received
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
    """The rank crashes when its function has returned: after its value was sent, or before.

    Args:
        how (default "segfault"): What happens.
        unsent (flag, default False): Whether it crashes before its value is sent.
        rank: Which rank, which ranks, or a word that the seed of the plan resolves.
        when: What sets it off: start, after, line, point, call, import_of, signal_received, exit_of, restart,
            phase, barrier, probability, all_of, any_of, then. Unless given: at its start.
        id: Its name in journal and results; by default made from what the fault says.

    Acts: in rank
    Needs: a rank that is a function; Python in the rank, started without -S, -I and -E; ctypes
    Verified: the rank's record, the signal in the status of its exit, and whether the supervisor received a value
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
    """Damages the error file of a rank after the rank's exit and before the supervisor reads it.

    Args:
        content (required): What the supervisor finds instead.
        rank: Which rank, which ranks, or a word that the seed of the plan resolves.
        when: What sets it off: own_exit. Unless given: at its exit.
        id: Its name in journal and results; by default made from what the fault says.

    Acts: outside
    Needs: a rank that has an error file; a user that is not root, for unreadable
    Verified: the file's bytes (or what stands in its place), read again
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
    """The error file of an earlier attempt lies there, with its times, and the rank writes none of its own.

    Args:
        age (seconds, default 3600.0): How long ago it was written, by its own account.
        message (text, default "RuntimeError: of an earlier attempt"): What it says.
        rank: Which rank, which ranks, or a word that the seed of the plan resolves.
        when: What sets it off: start, own_exit. Unless given: at its start.
        id: Its name in journal and results; by default made from what the fault says.

    Acts: outside
    Needs: a rank that has an error file and does not write it
    Verified: the file's bytes, and the same file with the same time still there at the exit of the rank
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
    """After the rank's exit its error file is that of another rank.

    Args:
        other (count, default 0): Whose; that rank must have written one by then.
        rank: Which rank, which ranks, or a word that the seed of the plan resolves.
        when: What sets it off: own_exit. Unless given: at its exit.
        id: Its name in journal and results; by default made from what the fault says.

    Acts: outside
    Needs: a rank that has an error file, and another one that has written its own before
    Verified: the file's bytes, read again, which are those of the other rank
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
    """After the rank's exit all times in its error file are wrong by so many seconds.

    Args:
        seconds (seconds, required): How much later than they were (or, below 0, earlier).
        rank: Which rank, which ranks, or a word that the seed of the plan resolves.
        when: What sets it off: own_exit. Unless given: at its exit.
        id: Its name in journal and results; by default made from what the fault says.

    Acts: outside
    Needs: a rank that has an error file and writes it
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
    """From the rank's exit to the end of the job, its error file and a half of it replace each other.

    Args:
        every (seconds, default 0.0002): Seconds between two turns.
        rank: Which rank, which ranks, or a word that the seed of the plan resolves.
        when: What sets it off: own_exit. Unless given: at its exit.
        id: Its name in journal and results; by default made from what the fault says.

    Acts: outside
    Needs: a rank that has an error file and writes it; hard links
    Verified: the inode under its name, which changes again and again
    Undone: the file is what the rank wrote
    Example: ``faults.error_file_replaced(rank=1)``
    """

def error_file_unwritable(
    how: Literal["missing_directory", "full_disk", "directory"] = "missing_directory",
    *,
    rank: int | list[int] | tuple[int, ...] | Literal["all", "one", "minority", "majority", "all but one", "the agent"],
    when: Trigger = Start(),
    id: str = "",
) -> Fault:
    """The rank is told to write its error file where that cannot be done; the supervisor looks in vain.

    Args:
        how (default "missing_directory"): A directory that does not exist, a full disk (/dev/full), or a directory
            in its place.
        rank: Which rank, which ranks, or a word that the seed of the plan resolves.
        when: What sets it off: start. Unless given: at its start.
        id: Its name in journal and results; by default made from what the fault says.

    Acts: before start
    Needs: a rank that has an error file, and is a program or a spawned function
    Verified: TORCHELASTIC_ERROR_FILE in /proc/PID/environ, and the error of a write of our own to that place
    Undone: it ends with the rank
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
    """Damages a file that a rank has written, a checkpoint for example: whoever reads it next must notice.

    Args:
        path (file, required): Which file, seen from the rank's working directory; with * and ?, the one that was
            written last.
        how (default "truncated"): Cut in half, cut to nothing, removed, one bit changed, or one page of it zero;
            the seed says which.
        rank: Which rank, which ranks, or a word that the seed of the plan resolves.
        when: What sets it off: start, after, line, point, call, import_of, signal_received, own_exit, exit_of,
            restart, phase, barrier, probability, all_of, any_of, then. Unless given: at its start.
        times: How often it acts; by default each time that a limited trigger comes, else once.
        id: Its name in journal and results; by default made from what the fault says.

    Acts: outside
    Needs: /proc, for a path that is not absolute
    Verified: the file's size, or the bytes that were changed, read again
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
        resource (required): Which limit.
        value (amount, required): The new soft limit: bytes (or "64M"), seconds for CPU, a number for NOFILE and
            NPROC, or "unlimited".
        hard (flag, default False): Whether the hard limit is lowered too, so that the rank cannot raise it again.
        rank: Which rank, which ranks, or a word that the seed of the plan resolves.
        when: What sets it off: start, after, line, point, call, import_of, signal_received, own_exit, exit_of,
            restart, phase, barrier, probability, all_of, any_of, then. Unless given: at its start.
        for_ (seconds): How long it lasts; by default until the end of the job.
        id: Its name in journal and results; by default made from what the fault says.

    Acts: outside
    Needs: /proc; for NPROC to have an effect, a rank that is not root
    Verified: the limit in /proc/PID/limits, read after it was set
    Undone: the limit of before is set again; a hard limit that was lowered needs CAP_SYS_RESOURCE for that
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
    """Makes a rank the first that the kernel kills when memory runs out (oom_score_adj).

    Args:
        adjustment (count, default 1000): From -1000 (never) to 1000 (first); lowering it needs CAP_SYS_RESOURCE.
        rank: Which rank, which ranks, or a word that the seed of the plan resolves.
        when: What sets it off: start, after, line, point, call, import_of, signal_received, own_exit, exit_of,
            restart, phase, barrier, probability, all_of, any_of, then. Unless given: at its start.
        for_ (seconds): How long it lasts; by default until the end of the job.
        id: Its name in journal and results; by default made from what the fault says.

    Acts: outside
    Needs: /proc
    Verified: /proc/PID/oom_score_adj, read after it was written
    Undone: the value of before is written again
    Example: ``faults.oom_score(1000, rank=0)``
    """

def fd_leak(
    count: int = 0,
    *,
    rank: int | list[int] | tuple[int, ...] | Literal["all", "one", "minority", "majority", "all but one", "the agent"],
    when: Trigger = Start(),
    id: str = "",
) -> Fault:
    """The rank opens descriptors and never closes them, up to a number or until no more can be opened.

    Args:
        count (count, default 0): How many it then has open; 0 for all that RLIMIT_NOFILE allows.
        rank: Which rank, which ranks, or a word that the seed of the plan resolves.
        when: What sets it off: start, after, line, point, call, import_of, signal_received, exit_of, restart,
            phase, barrier, probability, all_of, any_of, then. Unless given: at its start.
        id: Its name in journal and results; by default made from what the fault says.

    Acts: in rank
    Needs: Python in the rank, started without -S, -I and -E; /proc
    Verified: by counting /proc/PID/fd
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
    """The rank sees an empty file system of a few bytes at a directory; nobody else does.

    Args:
        directory (path, required): Where; what it held is hidden from the rank.
        size (bytes, default 4096): How much fits: bytes, or "64K"; at least one page.
        inodes (count, default 0): How many files fit; 0 for no limit but the size.
        rank: Which rank, which ranks, or a word that the seed of the plan resolves.
        when: What sets it off: start. Unless given: at its start.
        id: Its name in journal and results; by default made from what the fault says.

    Acts: before start
    Needs: a rank that is a program; a mount namespace, as an ordinary user inside a user namespace
    Verified: statvfs of the directory through /proc/PID/root, and the tmpfs in /proc/PID/mountinfo
    Undone: it ends with the rank
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
    """The rank sees an empty file system at a directory that has room for data, but for few files only.

    Args:
        directory (path, required): Where; what it held is hidden from the rank.
        files (count, default 1): How many files fit.
        rank: Which rank, which ranks, or a word that the seed of the plan resolves.
        when: What sets it off: start. Unless given: at its start.
        id: Its name in journal and results; by default made from what the fault says.

    Acts: before start
    Needs: a rank that is a program; a mount namespace, as an ordinary user inside a user namespace
    Verified: statvfs of the directory through /proc/PID/root, and the tmpfs in /proc/PID/mountinfo
    Undone: it ends with the rank
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
    """The rank sees a /dev/shm of a few bytes: writes fail with ENOSPC, touching mapped memory with SIGBUS.

    Args:
        size (bytes, default 4096): How much fits: bytes, or "1M"; at least one page.
        inodes (count, default 0): How many files fit; 0 for no limit but the size.
        rank: Which rank, which ranks, or a word that the seed of the plan resolves.
        when: What sets it off: start. Unless given: at its start.
        id: Its name in journal and results; by default made from what the fault says.

    Acts: before start
    Needs: a rank that is a program; a mount namespace, as an ordinary user inside a user namespace
    Verified: statvfs of /dev/shm through /proc/PID/root, and the tmpfs in /proc/PID/mountinfo
    Undone: it ends with the rank
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
    """Puts a running rank into a cgroup that may have only so much memory: who takes more is killed.

    Args:
        size (bytes, required): How much it may have, its children included: bytes, or "256M".
        rank: Which rank, which ranks, or a word that the seed of the plan resolves.
        when: What sets it off: start, after, line, point, call, import_of, signal_received, own_exit, exit_of,
            restart, phase, barrier, probability, all_of, any_of, then. Unless given: at its start.
        for_ (seconds): How long it lasts; by default until the end of the job.
        id: Its name in journal and results; by default made from what the fault says.

    Acts: outside
    Needs: a cgroup with the memory controller, of version 1 or 2, delegated to this user
    Verified: the rank's cgroup in /proc/PID/cgroup, and the limit there, read after it was written
    Undone: the limit is taken away, the rank goes back, and the cgroup is removed
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
    """Puts a running rank into a cgroup that may have only so much processor time, as containers do.

    Args:
        cpus (factor, default 0.5): How many processors it may use, its children included.
        rank: Which rank, which ranks, or a word that the seed of the plan resolves.
        when: What sets it off: start, after, line, point, call, import_of, signal_received, own_exit, exit_of,
            restart, phase, barrier, probability, all_of, any_of, then. Unless given: at its start.
        for_ (seconds): How long it lasts; by default until the end of the job.
        id: Its name in journal and results; by default made from what the fault says.

    Acts: outside
    Needs: a cgroup with the cpu controller, of version 1 or 2, delegated to this user
    Verified: the rank's cgroup in /proc/PID/cgroup, and the quota there, read after it was written
    Undone: the quota is taken away, the rank goes back, and the cgroup is removed
    Example: ``faults.cpu_quota(0.1, rank=1, when=when.line("step 2"))``
    """

def freeze(
    *,
    rank: int | list[int] | tuple[int, ...] | Literal["all", "one", "minority", "majority", "all but one", "the agent"],
    when: Trigger = Start(),
    for_: float | None = None,
    id: str = "",
) -> Fault:
    """Freezes a rank and its children in a cgroup: no signal reaches them but one that ends them at once.

    Args:
        rank: Which rank, which ranks, or a word that the seed of the plan resolves.
        when: What sets it off: start, after, line, point, call, import_of, signal_received, own_exit, exit_of,
            restart, phase, barrier, probability, all_of, any_of, then. Unless given: at its start.
        for_ (seconds): How long it lasts; by default until the end of the job.
        id: Its name in journal and results; by default made from what the fault says.

    Acts: outside
    Needs: a cgroup of version 2, delegated to this user
    Verified: the rank's cgroup in /proc/PID/cgroup, and frozen 1 in its cgroup.events
    Undone: it is thawed, goes back, the cgroup is removed; if derail is killed, the job's keeper ends the rank
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
    """Binds all threads of a rank to one processor and takes their priority away.

    Args:
        cpu (count, default -1): Which processor; -1 for the first that the rank may use.
        priority (default "idle"): idle: runs when nobody else wants to (SCHED_IDLE, nice 19); nice: nice 19; keep:
            as it is.
        rank: Which rank, which ranks, or a word that the seed of the plan resolves.
        when: What sets it off: start, after, line, point, call, import_of, signal_received, own_exit, exit_of,
            restart, phase, barrier, probability, all_of, any_of, then. Unless given: at its start.
        for_ (seconds): How long it lasts; by default until the end of the job.
        id: Its name in journal and results; by default made from what the fault says.

    Acts: outside
    Needs: Linux with /proc
    Verified: sched_getaffinity of every thread, nice value and policy in /proc/PID/stat
    Undone: as it was before; raising a priority again needs CAP_SYS_NICE or RLIMIT_NICE
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
    """Makes a straggler of a rank: stopped and continued in turns, it runs slower by a factor.

    Args:
        factor (factor, default 2.0): How much slower: 4 runs a quarter of the time.
        period (seconds, default 0.1): Seconds from one stop to the next.
        rank: Which rank, which ranks, or a word that the seed of the plan resolves.
        when: What sets it off: start, after, line, point, call, import_of, signal_received, own_exit, exit_of,
            restart, phase, barrier, probability, all_of, any_of, then. Unless given: at its start.
        for_ (seconds): How long it lasts; by default until the end of the job.
        id: Its name in journal and results; by default made from what the fault says.

    Acts: outside
    Needs: /proc
    Verified: state T and then another one in /proc/PID/status
    Undone: no more turns, SIGCONT; if derail is killed, the keeper of the job ends the rank, stopped or not
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
    """Lets the n-th call of a system call fail, without being made, in a program that was never changed.

    Args:
        call (system call, required): Which system call, by name or number; several with commas between are counted
            together.
        errno (errno, required): What it fails with, by name.
        calls (calls, default "1"): Which of its calls, counted from 1: `4`, `2..6`, `2..8+2` (every second one),
            `3..` (all from the third on).
        fd (descriptor, default None): Only calls on this descriptor count.
        path (text, default ""): Only calls count on a path, or on a descriptor of a file whose path, has this in
            it.
        children (flag, default False): Whether calls of processes that the rank started count too.
        rank: Which rank, which ranks, or a word that the seed of the plan resolves.
        when: What sets it off: start, after, line, point, call, import_of, signal_received, own_exit, exit_of,
            restart, phase, barrier, probability, all_of, any_of, then. Unless given: at its start.
        id: Its name in journal and results; by default made from what the fault says.

    Acts: before start
    Needs: Linux 5.5 on x86_64 or aarch64, seccomp user notification; the rank a program; what it runs gains no
        privileges (no_new_privs), and its 32-bit programs are not reached
    Verified: the kernel took the errno as the answer to the counted call of the rank, which was waiting for it
    Undone: what is held goes on at the end of the job; calls of whatever outlives it, if any, then fail with ENOSYS
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
    """Holds the n-th call of a system call for some time before it is made, in a program that was never changed.

    Args:
        call (system call, required): Which system call, by name or number; several with commas between are counted
            together.
        seconds (seconds, required): How long it is held.
        calls (calls, default "1"): Which of its calls, counted from 1: `4`, `2..6`, `2..8+2` (every second one),
            `3..` (all from the third on).
        fd (descriptor, default None): Only calls on this descriptor count.
        path (text, default ""): Only calls count on a path, or on a descriptor of a file whose path, has this in
            it.
        children (flag, default False): Whether calls of processes that the rank started count too.
        rank: Which rank, which ranks, or a word that the seed of the plan resolves.
        when: What sets it off: start, after, line, point, call, import_of, signal_received, own_exit, exit_of,
            restart, phase, barrier, probability, all_of, any_of, then. Unless given: at its start.
        id: Its name in journal and results; by default made from what the fault says.

    Acts: before start
    Needs: Linux 5.5 on x86_64 or aarch64, seccomp user notification; the rank a program; what it runs gains no
        privileges (no_new_privs), and its 32-bit programs are not reached
    Verified: the counted call of the rank waited all that time and then was let go, or its caller died waiting
    Undone: what is held goes on at the end of the job; calls of whatever outlives it, if any, then fail with ENOSYS
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
    """Shuts established TCP connections of a rank down: both ends read the end, and writing is EPIPE.

    Args:
        peer_port (count, default 0): Only connections to this port of the peer; 0 for any.
        local_port (count, default 0): Only connections from this port of the rank; 0 for any.
        rank: Which rank, which ranks, or a word that the seed of the plan resolves.
        when: What sets it off: start, after, line, point, call, import_of, signal_received, own_exit, exit_of,
            restart, phase, barrier, probability, all_of, any_of, then. Unless given: at its start.
        id: Its name in journal and results; by default made from what the fault says.

    Acts: outside
    Needs: pidfd_getfd: ptrace rights on the rank, which a parent of the same user has unless a filter forbids it
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
    """Aborts established TCP connections of a rank: the peer gets a RST, and the rank ECONNRESET.

    Args:
        peer_port (count, default 0): Only connections to this port of the peer; 0 for any.
        local_port (count, default 0): Only connections from this port of the rank; 0 for any.
        rank: Which rank, which ranks, or a word that the seed of the plan resolves.
        when: What sets it off: start, after, line, point, call, import_of, signal_received, own_exit, exit_of,
            restart, phase, barrier, probability, all_of, any_of, then. Unless given: at its start.
        id: Its name in journal and results; by default made from what the fault says.

    Acts: outside
    Needs: pidfd_getfd: ptrace rights on the rank, which a parent of the same user has unless a filter forbids it
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
    """Host names do not resolve in the rank: socket.getaddrinfo and all that uses it raise gaierror.

    Args:
        names (names, required): Which names; ["*"] for all, addresses in digits not.
        error (default "EAI_AGAIN"): What is said.
        rank: Which rank, which ranks, or a word that the seed of the plan resolves.
        when: What sets it off: start, after, line, point, call, import_of, signal_received, exit_of, restart,
            phase, barrier, probability, all_of, any_of, then. Unless given: at its start.
        for_ (seconds): How long it lasts; by default until the end of the job.
        id: Its name in journal and results; by default made from what the fault says.

    Acts: in rank
    Needs: Python in the rank, started without -S, -I and -E
    Verified: by the rank's own record of a look-up that was told so
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
        rank: Which rank, which ranks, or a word that the seed of the plan resolves.
        when: What sets it off: start. Unless given: at its start.
        id: Its name in journal and results; by default made from what the fault says.

    Acts: before start
    Needs: a rank that is a program; a network namespace, as an ordinary user inside a user namespace
    Verified: only lo in /proc/PID/net/dev, no address in /proc/PID/net/fib_trie, another namespace than ours
    Undone: it ends with the rank
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
    """Sends a rank to MASTER_ADDR and MASTER_PORT through a proxy that delays, thins out or cuts it.

    Args:
        latency (seconds, default 0.0): Seconds by which everything is late.
        jitter (seconds, default 0.0): Up to so many seconds more, chosen by the seed.
        bandwidth (bytes, default 0): Bytes per second and direction; 0 for no limit.
        slice (bytes, default 0): Bytes that are passed on at a time; 0 for as they come.
        black_hole (flag, default False): Whether all bytes are swallowed while connections stay.
        half_open (default "no"): Which direction is swallowed, if only one.
        reset_after (count, default -1): Bytes after which a connection is reset; -1 for never.
        close_after (count, default -1): Bytes after which a connection is closed; -1 for never.
        refuse (count, default 0): How many connections are first reset at once.
        address_variable (text, default "MASTER_ADDR"): The environment variable that says where.
        port_variable (text, default "MASTER_PORT"): The environment variable that says on which port.
        rank: Which rank, which ranks, or a word that the seed of the plan resolves.
        when: What sets it off: start. Unless given: at its start.
        id: Its name in journal and results; by default made from what the fault says.

    Acts: before start
    Needs: a rank that finds its peers by environment variables, and is not the one that listens there
    Verified: by what the proxy counted, for each thing that it is to do
    Undone: the proxy ends, and its connections with it
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
    """Everything between a rank and MASTER_ADDR comes late.

    Args:
        latency (seconds, default 0.1): Seconds by which everything is late.
        jitter (seconds, default 0.0): Up to so many seconds more, chosen by the seed.
        address_variable (text, default "MASTER_ADDR"): The environment variable that says where.
        port_variable (text, default "MASTER_PORT"): The environment variable that says on which port.
        rank: Which rank, which ranks, or a word that the seed of the plan resolves.
        when: What sets it off: start. Unless given: at its start.
        id: Its name in journal and results; by default made from what the fault says.

    Acts: before start
    Needs: a rank that finds its peers by environment variables, and is not the one that listens there
    Verified: by what the proxy counted
    Undone: the proxy ends, and its connections with it
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
    """Little gets through between a rank and MASTER_ADDR in a second.

    Args:
        bandwidth (bytes, default 1048576): Bytes per second and direction.
        address_variable (text, default "MASTER_ADDR"): The environment variable that says where.
        port_variable (text, default "MASTER_PORT"): The environment variable that says on which port.
        rank: Which rank, which ranks, or a word that the seed of the plan resolves.
        when: What sets it off: start. Unless given: at its start.
        id: Its name in journal and results; by default made from what the fault says.

    Acts: before start
    Needs: a rank that finds its peers by environment variables, and is not the one that listens there
    Verified: by what the proxy counted
    Undone: the proxy ends, and its connections with it
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
        slice (bytes, default 100): Bytes that are passed on at a time.
        address_variable (text, default "MASTER_ADDR"): The environment variable that says where.
        port_variable (text, default "MASTER_PORT"): The environment variable that says on which port.
        rank: Which rank, which ranks, or a word that the seed of the plan resolves.
        when: What sets it off: start. Unless given: at its start.
        id: Its name in journal and results; by default made from what the fault says.

    Acts: before start
    Needs: a rank that finds its peers by environment variables, and is not the one that listens there
    Verified: by what the proxy counted
    Undone: the proxy ends, and its connections with it
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
    """Connections between a rank and MASTER_ADDR stay, and nothing gets through.

    Args:
        address_variable (text, default "MASTER_ADDR"): The environment variable that says where.
        port_variable (text, default "MASTER_PORT"): The environment variable that says on which port.
        rank: Which rank, which ranks, or a word that the seed of the plan resolves.
        when: What sets it off: start. Unless given: at its start.
        id: Its name in journal and results; by default made from what the fault says.

    Acts: before start
    Needs: a rank that finds its peers by environment variables, and is not the one that listens there
    Verified: by what the proxy counted
    Undone: the proxy ends, and its connections with it
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
    """Connections between a rank and MASTER_ADDR stay, and only one direction gets through.

    Args:
        half_open (default "to_rank"): Which direction is swallowed.
        address_variable (text, default "MASTER_ADDR"): The environment variable that says where.
        port_variable (text, default "MASTER_PORT"): The environment variable that says on which port.
        rank: Which rank, which ranks, or a word that the seed of the plan resolves.
        when: What sets it off: start. Unless given: at its start.
        id: Its name in journal and results; by default made from what the fault says.

    Acts: before start
    Needs: a rank that finds its peers by environment variables, and is not the one that listens there
    Verified: by what the proxy counted
    Undone: the proxy ends, and its connections with it
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
    """Connections between a rank and MASTER_ADDR are reset after so many bytes.

    Args:
        reset_after (count, default 0): Bytes after which a connection is reset.
        address_variable (text, default "MASTER_ADDR"): The environment variable that says where.
        port_variable (text, default "MASTER_PORT"): The environment variable that says on which port.
        rank: Which rank, which ranks, or a word that the seed of the plan resolves.
        when: What sets it off: start. Unless given: at its start.
        id: Its name in journal and results; by default made from what the fault says.

    Acts: before start
    Needs: a rank that finds its peers by environment variables, and is not the one that listens there
    Verified: by what the proxy counted
    Undone: the proxy ends, and its connections with it
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
    """Connections between a rank and MASTER_ADDR are closed after so many bytes.

    Args:
        close_after (count, default 0): Bytes after which a connection is closed.
        address_variable (text, default "MASTER_ADDR"): The environment variable that says where.
        port_variable (text, default "MASTER_PORT"): The environment variable that says on which port.
        rank: Which rank, which ranks, or a word that the seed of the plan resolves.
        when: What sets it off: start. Unless given: at its start.
        id: Its name in journal and results; by default made from what the fault says.

    Acts: before start
    Needs: a rank that finds its peers by environment variables, and is not the one that listens there
    Verified: by what the proxy counted
    Undone: the proxy ends, and its connections with it
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
        refuse (count, default 1): How many connections are reset at once.
        address_variable (text, default "MASTER_ADDR"): The environment variable that says where.
        port_variable (text, default "MASTER_PORT"): The environment variable that says on which port.
        rank: Which rank, which ranks, or a word that the seed of the plan resolves.
        when: What sets it off: start. Unless given: at its start.
        id: Its name in journal and results; by default made from what the fault says.

    Acts: before start
    Needs: a rank that finds its peers by environment variables, and is not the one that listens there
    Verified: by what the proxy counted
    Undone: the proxy ends, and its connections with it
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
    """Somebody else listens on MASTER_PORT, so that the rank that is to listen there cannot.

    Args:
        address_variable (text, default "MASTER_ADDR"): The environment variable that says where.
        port_variable (text, default "MASTER_PORT"): The environment variable that says on which port.
        rank: Which rank, which ranks, or a word that the seed of the plan resolves.
        when: What sets it off: start. Unless given: at its start.
        for_ (seconds): How long it lasts; by default until the end of the job.
        id: Its name in journal and results; by default made from what the fault says.

    Acts: before start
    Needs: an address of this machine in the rank's environment; /proc
    Verified: our socket listens on the port in /proc/self/net/tcp
    Undone: the port is given up
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
    """From the rank's exit on another process listens on its MASTER_PORT; the next attempt needs another.

    Args:
        address_variable (text, default "MASTER_ADDR"): The environment variable that says where.
        port_variable (text, default "MASTER_PORT"): The environment variable that says on which port.
        rank: Which rank, which ranks, or a word that the seed of the plan resolves.
        when: What sets it off: own_exit. Unless given: at its exit.
        id: Its name in journal and results; by default made from what the fault says.

    Acts: outside
    Needs: an address of this machine in the rank's environment; /proc
    Verified: our socket listens on the port in /proc/self/net/tcp
    Undone: the port is given up
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
    """Kills the process of a rank (itself, or one of its group) that listens on MASTER_PORT.

    Args:
        port (count, default 0): Which port; 0 for what the variable says.
        port_variable (text, default "MASTER_PORT"): The variable of the rank that says which.
        rank: Which rank, which ranks, or a word that the seed of the plan resolves.
        when: What sets it off: start, after, line, point, call, import_of, signal_received, own_exit, exit_of,
            restart, phase, barrier, probability, all_of, any_of, then. Unless given: at its start.
        id: Its name in journal and results; by default made from what the fault says.

    Acts: outside
    Needs: /proc
    Verified: the status of the rank's exit, or its socket gone from /proc/PID/net/tcp
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
    """A rank looks for its peers at another address.

    Args:
        address (text, default "127.0.0.254"): The address that it is told.
        variable (text, default "MASTER_ADDR"): The environment variable that says where.
        rank: Which rank, which ranks, or a word that the seed of the plan resolves.
        when: What sets it off: start. Unless given: at its start.
        id: Its name in journal and results; by default made from what the fault says.

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
    """A rank believes in another number of ranks.

    Args:
        size (count, required): What WORLD_SIZE says.
        rank: Which rank, which ranks, or a word that the seed of the plan resolves.
        when: What sets it off: start. Unless given: at its start.
        id: Its name in journal and results; by default made from what the fault says.

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
    """A rank believes to be another one, which is there too.

    Args:
        as_rank (count, default 0): What RANK says.
        rank: Which rank, which ranks, or a word that the seed of the plan resolves.
        when: What sets it off: start. Unless given: at its start.
        id: Its name in journal and results; by default made from what the fault says.

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
    """A variable is missing in the environment of a rank.

    Args:
        variable (text, required): Which variable.
        rank: Which rank, which ranks, or a word that the seed of the plan resolves.
        when: What sets it off: start. Unless given: at its start.
        id: Its name in journal and results; by default made from what the fault says.

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
    """The rank's wall clock is wrong by so many seconds: time.time, datetime.now and their like.

    Args:
        seconds (seconds, required): How much later than it is (or, below 0, earlier).
        rank: Which rank, which ranks, or a word that the seed of the plan resolves.
        when: What sets it off: start, after, line, point, call, import_of, signal_received, exit_of, restart,
            phase, barrier, probability, all_of, any_of, then. Unless given: at its start.
        for_ (seconds): How long it lasts; by default until the end of the job.
        id: Its name in journal and results; by default made from what the fault says.

    Acts: in rank
    Needs: Python in the rank, started without -S, -I and -E; a program that asks time or datetime
    Verified: by what time.time() said in the rank, compared with our clock by means of the monotonic one
    Undone: after `for_` seconds the clock is right again
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
        factor (factor, default 2.0): Seconds that it counts for each one that passes.
        rank: Which rank, which ranks, or a word that the seed of the plan resolves.
        when: What sets it off: start, after, line, point, call, import_of, signal_received, exit_of, restart,
            phase, barrier, probability, all_of, any_of, then. Unless given: at its start.
        for_ (seconds): How long it lasts; by default until the end of the job.
        id: Its name in journal and results; by default made from what the fault says.

    Acts: in rank
    Needs: Python in the rank, started without -S, -I and -E; a program that asks time or datetime
    Verified: by what time.time() said in the rank, compared with our clock by means of the monotonic one
    Undone: after `for_` seconds the clock is right again
    Example: ``faults.clock_drift(1.5, rank=1)``
    """

def clock_freeze(
    *,
    rank: int | list[int] | tuple[int, ...] | Literal["all", "one", "minority", "majority", "all but one", "the agent"],
    when: Trigger = Start(),
    for_: float | None = None,
    id: str = "",
) -> Fault:
    """The rank's wall clock stands.

    Args:
        rank: Which rank, which ranks, or a word that the seed of the plan resolves.
        when: What sets it off: start, after, line, point, call, import_of, signal_received, exit_of, restart,
            phase, barrier, probability, all_of, any_of, then. Unless given: at its start.
        for_ (seconds): How long it lasts; by default until the end of the job.
        id: Its name in journal and results; by default made from what the fault says.

    Acts: in rank
    Needs: Python in the rank, started without -S, -I and -E; a program that asks time or datetime
    Verified: by what time.time() said in the rank, compared with our clock by means of the monotonic one
    Undone: after `for_` seconds the clock is right again
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
    """The rank's wall clock goes back once, in the middle of whatever it measures.

    Args:
        seconds (seconds, default 60.0): By how much.
        rank: Which rank, which ranks, or a word that the seed of the plan resolves.
        when: What sets it off: start, after, line, point, call, import_of, signal_received, exit_of, restart,
            phase, barrier, probability, all_of, any_of, then. Unless given: at its start.
        for_ (seconds): How long it lasts; by default until the end of the job.
        id: Its name in journal and results; by default made from what the fault says.

    Acts: in rank
    Needs: Python in the rank, started without -S, -I and -E; a program that asks time or datetime
    Verified: by what time.time() said in the rank, compared with our clock by means of the monotonic one
    Undone: after `for_` seconds the clock is right again
    Example: ``faults.clock_step_back(60, rank=0, when=when.line("step 2"))``
    """

def monotonic_offset(
    seconds: float,
    *,
    rank: int | list[int] | tuple[int, ...] | Literal["all", "one", "minority", "majority", "all but one", "the agent"],
    when: Trigger = Start(),
    id: str = "",
) -> Fault:
    """The rank's monotonic clock and the time since boot are other ones than everybody else's.

    Args:
        seconds (seconds, required): How much more than it is (or, below 0, less; at most since boot).
        rank: Which rank, which ranks, or a word that the seed of the plan resolves.
        when: What sets it off: start. Unless given: at its start.
        id: Its name in journal and results; by default made from what the fault says.

    Acts: before start
    Needs: a rank that is a program; a time namespace, as an ordinary user inside a user namespace
    Verified: /proc/PID/timens_offsets, and another time namespace than ours
    Undone: it ends with the rank
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
    """The rank writes text without a line end, and goes on, or ends right behind it.

    Args:
        text (text, default "derail: half a line"): The text in it.
        then (default "go_on"): go_on, or os._exit(1) at once.
        stream (default "stdout"): Which of its two streams.
        rank: Which rank, which ranks, or a word that the seed of the plan resolves.
        when: What sets it off: start, after, line, point, call, import_of, signal_received, exit_of, restart,
            phase, barrier, probability, all_of, any_of, then. Unless given: at its start.
        id: Its name in journal and results; by default made from what the fault says.

    Acts: in rank
    Needs: Python in the rank, started without -S, -I and -E; /proc
    Verified: the bytes in the rank's log file, behind what was in it before; the exit with code 1 and nothing
        behind them, if it is to end so
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
    """The rank writes text without a line end and is killed by SIGKILL at once.

    Args:
        text (text, default "derail: last words"): The text in it.
        buffered (flag, default False): Whether the text has only come to a buffer in the process: then it is lost.
        stream (default "stdout"): Which of its two streams.
        rank: Which rank, which ranks, or a word that the seed of the plan resolves.
        when: What sets it off: start, after, line, point, call, import_of, signal_received, exit_of, restart,
            phase, barrier, probability, all_of, any_of, then. Unless given: at its start.
        id: Its name in journal and results; by default made from what the fault says.

    Acts: in rank
    Needs: Python in the rank, started without -S, -I and -E; /proc
    Verified: SIGKILL in the rank's exit; the text is the last in its log file, or (buffered) is not in it
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
    """The rank draws a progress bar by carriage returns, on a line that never ends.

    Args:
        text (text, default "training"): The text in it.
        steps (count, default 100): How often it is drawn.
        stream (default "stdout"): Which of its two streams.
        rank: Which rank, which ranks, or a word that the seed of the plan resolves.
        when: What sets it off: start, after, line, point, call, import_of, signal_received, exit_of, restart,
            phase, barrier, probability, all_of, any_of, then. Unless given: at its start.
        id: Its name in journal and results; by default made from what the fault says.

    Acts: in rank
    Needs: Python in the rank, started without -S, -I and -E; /proc
    Verified: the bytes in the rank's log file, behind what was in it before
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
    """The rank writes terminal codes: colours, clear, the other screen, no cursor, a title, hidden text.

    Args:
        text (text, default "derail"): The text in it.
        stream (default "stdout"): Which of its two streams.
        rank: Which rank, which ranks, or a word that the seed of the plan resolves.
        when: What sets it off: start, after, line, point, call, import_of, signal_received, exit_of, restart,
            phase, barrier, probability, all_of, any_of, then. Unless given: at its start.
        id: Its name in journal and results; by default made from what the fault says.

    Acts: in rank
    Needs: Python in the rank, started without -S, -I and -E; /proc
    Verified: the bytes in the rank's log file, behind what was in it before
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
        text (text, default "derail"): The text in it.
        count (count, default 512): How many.
        stream (default "stdout"): Which of its two streams.
        rank: Which rank, which ranks, or a word that the seed of the plan resolves.
        when: What sets it off: start, after, line, point, call, import_of, signal_received, exit_of, restart,
            phase, barrier, probability, all_of, any_of, then. Unless given: at its start.
        id: Its name in journal and results; by default made from what the fault says.

    Acts: in rank
    Needs: Python in the rank, started without -S, -I and -E; /proc
    Verified: the bytes in the rank's log file, behind what was in it before
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
    """The rank writes a line that is no UTF-8, in all the ways there are.

    Args:
        text (text, default "derail"): The text in it.
        stream (default "stdout"): Which of its two streams.
        rank: Which rank, which ranks, or a word that the seed of the plan resolves.
        when: What sets it off: start, after, line, point, call, import_of, signal_received, exit_of, restart,
            phase, barrier, probability, all_of, any_of, then. Unless given: at its start.
        id: Its name in journal and results; by default made from what the fault says.

    Acts: in rank
    Needs: Python in the rank, started without -S, -I and -E; /proc
    Verified: the bytes in the rank's log file, behind what was in it before
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
        size (bytes, default 1048576): Bytes in front of its line end; 100M is what makes launchers fall.
        stream (default "stdout"): Which of its two streams.
        rank: Which rank, which ranks, or a word that the seed of the plan resolves.
        when: What sets it off: start, after, line, point, call, import_of, signal_received, exit_of, restart,
            phase, barrier, probability, all_of, any_of, then. Unless given: at its start.
        id: Its name in journal and results; by default made from what the fault says.

    Acts: in rank
    Needs: Python in the rank, started without -S, -I and -E; /proc
    Verified: the bytes in the rank's log file, behind what was in it before
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
        lines (count, default 10000): How many.
        width (count, default 80): Bytes in each, without the line end.
        stream (default "stdout"): Which of its two streams.
        rank: Which rank, which ranks, or a word that the seed of the plan resolves.
        when: What sets it off: start, after, line, point, call, import_of, signal_received, exit_of, restart,
            phase, barrier, probability, all_of, any_of, then. Unless given: at its start.
        id: Its name in journal and results; by default made from what the fault says.

    Acts: in rank
    Needs: Python in the rank, started without -S, -I and -E; /proc
    Verified: the bytes in the rank's log file, behind what was in it before
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
    """The rank closes a stream: writes fail with EBADF, and the next file that it opens has that number.

    Args:
        stream (default "stdout"): Which of its two streams.
        rank: Which rank, which ranks, or a word that the seed of the plan resolves.
        when: What sets it off: start, after, line, point, call, import_of, signal_received, exit_of, restart,
            phase, barrier, probability, all_of, any_of, then. Unless given: at its start.
        id: Its name in journal and results; by default made from what the fault says.

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
    """The rank has its log file open for reading only from now on: writes fail with EBADF.

    Args:
        stream (default "stdout"): Which of its two streams.
        rank: Which rank, which ranks, or a word that the seed of the plan resolves.
        when: What sets it off: start, after, line, point, call, import_of, signal_received, exit_of, restart,
            phase, barrier, probability, all_of, any_of, then. Unless given: at its start.
        id: Its name in journal and results; by default made from what the fault says.

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
    """The stream of the rank is on a full disk (/dev/full) from now on: writes fail with ENOSPC.

    Args:
        stream (default "stdout"): Which of its two streams.
        rank: Which rank, which ranks, or a word that the seed of the plan resolves.
        when: What sets it off: start, after, line, point, call, import_of, signal_received, exit_of, restart,
            phase, barrier, probability, all_of, any_of, then. Unless given: at its start.
        id: Its name in journal and results; by default made from what the fault says.

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
    """The rank starts a process that keeps both of its streams open after the rank's end.

    Args:
        seconds (seconds, default 60.0): How long that process lives.
        own_session (flag, default False): Whether it leaves the process group of the rank.
        stream (default "stdout"): Which of its two streams.
        rank: Which rank, which ranks, or a word that the seed of the plan resolves.
        when: What sets it off: start, after, line, point, call, import_of, signal_received, exit_of, restart,
            phase, barrier, probability, all_of, any_of, then. Unless given: at its start.
        id: Its name in journal and results; by default made from what the fault says.

    Acts: in rank
    Needs: Python in the rank, started without -S, -I and -E; /proc
    Verified: at the exit of the rank, that process lives, and its descriptor is the rank's log file
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
    """Removes the log file of a rank, which goes on writing to it.

    Args:
        stream (default "stdout"): Which of its two streams.
        rank: Which rank, which ranks, or a word that the seed of the plan resolves.
        when: What sets it off: start, after, line, point, call, import_of, signal_received, own_exit, exit_of,
            restart, phase, barrier, probability, all_of, any_of, then. Unless given: at its start.
        id: Its name in journal and results; by default made from what the fault says.

    Acts: outside
    Needs: a rank whose stream goes to a log file; /proc
    Verified: nothing under its name; the rank's descriptor is the file that was there
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
    """Cuts the log file of a rank to nothing, as logrotate's copytruncate does.

    Args:
        copy (flag, default False): Whether it is copied to NAME.1 before.
        stream (default "stdout"): Which of its two streams.
        rank: Which rank, which ranks, or a word that the seed of the plan resolves.
        when: What sets it off: start, after, line, point, call, import_of, signal_received, own_exit, exit_of,
            restart, phase, barrier, probability, all_of, any_of, then. Unless given: at its start.
        id: Its name in journal and results; by default made from what the fault says.

    Acts: outside
    Needs: a rank whose stream goes to a log file; /proc
    Verified: the size of the file, which is still the same inode
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
    """Renames the log file of a rank to NAME.1 and puts an empty one in its place, as logrotate does.

    Args:
        stream (default "stdout"): Which of its two streams.
        rank: Which rank, which ranks, or a word that the seed of the plan resolves.
        when: What sets it off: start, after, line, point, call, import_of, signal_received, own_exit, exit_of,
            restart, phase, barrier, probability, all_of, any_of, then. Unless given: at its start.
        id: Its name in journal and results; by default made from what the fault says.

    Acts: outside
    Needs: a rank whose stream goes to a log file; /proc
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
    """Renames the log file of a rank to NAME.1 and puts a FIFO in its place, which holds whoever opens it.

    Args:
        stream (default "stdout"): Which of its two streams.
        rank: Which rank, which ranks, or a word that the seed of the plan resolves.
        when: What sets it off: start, after, line, point, call, import_of, signal_received, own_exit, exit_of,
            restart, phase, barrier, probability, all_of, any_of, then. Unless given: at its start.
        for_ (seconds): How long it lasts; by default until the end of the job.
        id: Its name in journal and results; by default made from what the fault says.

    Acts: outside
    Needs: a rank whose stream goes to a log file; /proc
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
    """The launcher is started with SIGCHLD ignored: the kernel reaps its children, and their ends are lost.

    Args:
        rank: Which rank, which ranks, or a word that the seed of the plan resolves.
        when: What sets it off: start. Unless given: at its start.
        id: Its name in journal and results; by default made from what the fault says.

    Acts: before start
    Needs: the launcher a program under derail; /proc
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
    """Somebody else in the launcher's process waits for its children first: it is told that there is none.

    Args:
        count (count, default 1): Of how many children.
        rank: Which rank, which ranks, or a word that the seed of the plan resolves.
        when: What sets it off: start, after, line, point, call, import_of, signal_received, exit_of, restart,
            phase, barrier, probability, all_of, any_of, then. Unless given: at its start.
        id: Its name in journal and results; by default made from what the fault says.

    Acts: in rank
    Needs: a launcher that is Python, and waits by os.wait and its like
    Verified: the status that was taken, and the child gone from /proc
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
    """The launcher cannot make its n-th process: fork and its like fail with EAGAIN.

    Args:
        child (count, default 1): Which process of the launcher, counted from 1; helpers that it starts too. A
            launcher's processes are those that it makes after its last exec, so that the commands of a wrapper do
            not count; of a shell's, those that live.
        rank: Which rank, which ranks, or a word that the seed of the plan resolves.
        when: What sets it off: start, after, line, point, call, import_of, signal_received, own_exit, exit_of,
            restart, phase, barrier, probability, all_of, any_of, then. Unless given: at its start.
        id: Its name in journal and results; by default made from what the fault says.

    Acts: before start
    Needs: Linux 5.5 on x86_64 or aarch64, seccomp user notification; the launcher a program under derail
    Verified: the kernel took the errno as the answer to the call, which was waiting for it
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
    """The launcher gets no pipe for its n-th process: EMFILE, once.

    Args:
        child (count, default 1): Which process of the launcher, counted from 1; helpers that it starts too. A
            launcher's processes are those that it makes after its last exec, so that the commands of a wrapper do
            not count; of a shell's, those that live.
        rank: Which rank, which ranks, or a word that the seed of the plan resolves.
        when: What sets it off: start, after, line, point, call, import_of, signal_received, own_exit, exit_of,
            restart, phase, barrier, probability, all_of, any_of, then. Unless given: at its start.
        id: Its name in journal and results; by default made from what the fault says.

    Acts: before start
    Needs: Linux 5.5 on x86_64 or aarch64, seccomp user notification; the launcher a program under derail
    Verified: the kernel took the errno as the answer to the call, which was waiting for it
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
    """The program of the launcher's n-th process is not there: exec fails with ENOENT, wherever it is sought.

    Args:
        child (count, default 1): Which process of the launcher, counted from 1; helpers that it starts too. A
            launcher's processes are those that it makes after its last exec, so that the commands of a wrapper do
            not count; of a shell's, those that live.
        rank: Which rank, which ranks, or a word that the seed of the plan resolves.
        when: What sets it off: start, after, line, point, call, import_of, signal_received, own_exit, exit_of,
            restart, phase, barrier, probability, all_of, any_of, then. Unless given: at its start.
        id: Its name in journal and results; by default made from what the fault says.

    Acts: before start
    Needs: Linux 5.5 on x86_64 or aarch64, seccomp user notification; the launcher a program under derail
    Verified: the kernel took the errno as the answer to the call, which was waiting for it
    Undone: never
    Example: ``faults.spawn_enoent(2, rank=0)``
    """

def launcher_killed(
    *,
    rank: int | list[int] | tuple[int, ...] | Literal["all", "one", "minority", "majority", "all but one", "the agent"],
    when: Trigger = Start(),
    id: str = "",
) -> Fault:
    """Kills a launcher, and not the processes that it has started.

    Args:
        rank: Which rank, which ranks, or a word that the seed of the plan resolves.
        when: What sets it off: start, after, line, point, call, import_of, signal_received, own_exit, exit_of,
            restart, phase, barrier, probability, all_of, any_of, then. Unless given: at its start.
        id: Its name in journal and results; by default made from what the fault says.

    Acts: outside
    Needs: the launcher a program under derail; /proc
    Verified: SIGKILL in the launcher's exit, and what its processes do then
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
    """Stops a launcher, and not the processes that it has started.

    Args:
        rank: Which rank, which ranks, or a word that the seed of the plan resolves.
        when: What sets it off: start, after, line, point, call, import_of, signal_received, own_exit, exit_of,
            restart, phase, barrier, probability, all_of, any_of, then. Unless given: at its start.
        for_ (seconds): How long it lasts; by default until the end of the job.
        id: Its name in journal and results; by default made from what the fault says.

    Acts: outside
    Needs: the launcher a program under derail; /proc
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
        signal (signal, required): Which signal.
        rank: Which rank, which ranks, or a word that the seed of the plan resolves.
        when: What sets it off: start, after, line, point, call, import_of, signal_received, own_exit, exit_of,
            restart, phase, barrier, probability, all_of, any_of, then. Unless given: at its start.
        id: Its name in journal and results; by default made from what the fault says.

    Acts: outside
    Needs: the launcher a program under derail; /proc
    Verified: as for signal: its exit by it, or that it was delivered, ignored or is held back
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
    """The launcher is started without a stdout, or with a pipe that nobody reads.

    Args:
        how (default "closed"): No descriptor 1, or a broken pipe.
        rank: Which rank, which ranks, or a word that the seed of the plan resolves.
        when: What sets it off: start. Unless given: at its start.
        id: Its name in journal and results; by default made from what the fault says.

    Acts: before start
    Needs: the launcher a program under derail; /proc
    Verified: descriptor 1 in /proc/PID/fd; for a pipe, POLLERR: nobody has its other end
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
        path (text, required): Files whose path has this in it.
        rank: Which rank, which ranks, or a word that the seed of the plan resolves.
        when: What sets it off: start, after, line, point, call, import_of, signal_received, own_exit, exit_of,
            restart, phase, barrier, probability, all_of, any_of, then. Unless given: at its start.
        id: Its name in journal and results; by default made from what the fault says.

    Acts: before start
    Needs: Linux 5.5 on x86_64 or aarch64, seccomp user notification; the launcher a program under derail
    Verified: the kernel took ENOSPC as the answer to a write, which was waiting for it
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
