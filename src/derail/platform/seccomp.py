"""Interception of chosen system calls of a thread from outside: seccomp filters with user notification.

A filter is installed by the thread that it is for, and inherited by everything that this thread becomes or starts. The
holder of the listener then receives each chosen call, with the caller waiting in the kernel, and decides its result: it
continues, or fails with an errno. When the last copy of the listener is closed, held calls fail with ENOSYS: answer
them before.

See seccomp_unotify(2). Needs no privilege: the thread gives up gaining any (no_new_privs).
"""

from __future__ import annotations

import fcntl
import os
import select
import struct
from dataclasses import dataclass
from errno import EBUSY, EINTR, ENOENT, EXDEV
from functools import cache
from typing import TYPE_CHECKING

from derail.platform.syscalls import Machine, this_machine

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_RECV, _SEND, _ID_VALID = 0xC0502100, 0xC0182101, 0x40082102
_NOTIFICATION = struct.Struct("=QIIiIQ6Q")  # id, pid, flags; number, machine, instruction pointer, arguments
_RESPONSE = struct.Struct("=QqiI")  # id, value, error, flags
_CONTINUE = 1
_SET_MODE_FILTER, _PR_SET_NO_NEW_PRIVS = 1, 38
_NEW_LISTENER = 1 << 3
_LOAD, _EQUAL, _AT_LEAST, _HAS_BITS, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _NOTIFY = 0x7FFF0000, 0x7FC00000
_X32 = 0x40000000
MOST = 200
"""Maximum number of system calls in one filter, due to the reach of its jumps."""


@dataclass(frozen=True, slots=True)
class Call:
    """A held system call.

    Attributes:
        id: identifies it in the answer.
        tid: the thread that made it, as the holder of the listener sees it.
        number: number of the system call.
        args: its six arguments, as unsigned numbers.
    """

    id: int
    tid: int
    number: int
    args: tuple[int, ...]


class Listener:
    """The receiver of the calls that one filter holds. Owns its descriptor; ``close`` it."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def fileno(self) -> int:
        """Return the descriptor: readable while a call waits, hung up without a process under the filter; -1 closed."""
        return self._fd

    def receive(self) -> Call | None:
        """Receive the next call. Only after a poll, else it blocks. None if its caller is gone by now."""
        buffer = bytearray(_NOTIFICATION.size)
        try:
            fcntl.ioctl(self._fd, _RECV, buffer)
        except OSError as error:
            if error.errno in (ENOENT, EINTR):
                return None
            raise
        id_, tid, _, number, _, _, *args = _NOTIFICATION.unpack(buffer)
        return Call(id_, tid, number, tuple(args))

    def let(self, call: Call) -> bool:
        """Let the call proceed as if it had not been held; return False if its caller no longer waits."""
        return self._answer(call, 0, _CONTINUE)

    def fail(self, call: Call, errno: int) -> bool:
        """Make the call fail with an errno, without executing it; return False if its caller no longer waits."""
        return self._answer(call, -errno, 0)

    def is_waiting(self, call: Call) -> bool:
        """Return whether the caller still waits: memory that was read from it before is its own."""
        try:
            fcntl.ioctl(self._fd, _ID_VALID, struct.pack("=Q", call.id))
        except OSError as error:
            if error.errno == ENOENT:
                return False
            raise
        return True

    def close(self) -> None:
        """Let all held calls proceed, and close the descriptor. Idempotent."""
        fd, self._fd = self._fd, -1
        if fd < 0:
            return
        last = Listener(fd)
        while _polls(fd, 0) & select.POLLIN:
            call = last.receive()
            if call is not None:
                last.let(call)
        os.close(fd)

    def abandon(self) -> None:
        """Close this copy of the descriptor and nothing else: another process has its own. Idempotent."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def _answer(self, call: Call, error: int, flags: int) -> bool:
        try:
            fcntl.ioctl(self._fd, _SEND, bytearray(_RESPONSE.pack(call.id, 0, error, flags)))
        except OSError as failed:
            if failed.errno == ENOENT:
                return False
            raise
        return True


def filter_program(
    numbers: Iterable[int], machine: Machine, *, bits: Mapping[int, tuple[int, int]] | None = None
) -> bytes:
    """Return a filter that holds these calls and allows all others, also those of programs for other machines.

    Args:
        numbers: the system calls.
        machine: the conventions of this machine.
        bits: for a system call among them, the index of an argument and a mask of its lower 32 bits: calls whose
            argument has none of these bits are allowed.

    Raises:
        ValueError: if there are too many, or one without which the holder itself could not continue.
    """
    chosen = sorted(set(numbers))
    if len(chosen) > MOST:
        raise ValueError(f"expected at most {MOST} system calls in a filter, got {len(chosen)}")
    for number in chosen:
        if machine.is_machinery(number):
            raise ValueError(f"system call {number} cannot be held up: its own release needs it")
    conditions = [(number, *(bits or {})[number]) for number in chosen if number in (bits or {})]
    chosen = [number for number in chosen if number not in (bits or {})]
    to_end = len(chosen) + 3 * len(conditions)
    code = [
        (_LOAD, 0, 0, 4),
        (_EQUAL, 0, to_end + 2, machine.audit),
        (_LOAD, 0, 0, 0),
        (_AT_LEAST, to_end, 0, _X32),
        *((_EQUAL, to_end - index, 0, number) for index, number in enumerate(chosen)),
    ]
    for index, (number, argument, mask) in enumerate(conditions):  # another number jumps to the next condition
        left = 3 * (len(conditions) - index)
        code += [
            (_EQUAL, 0, 2, number),
            (_LOAD, 0, 0, 16 + 8 * argument),
            (_HAS_BITS, left - 2, left - 3, mask),
        ]
    code += [(_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, _NOTIFY)]
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in code)


def install(program: bytes, machine: Machine, *, flags: int = 0) -> int:
    """Put the calling thread under a filter, permanently, and return the descriptor of its listener.

    Raises:
        OSError: EBUSY if the thread is under a filter with a listener already; EINVAL if the kernel is too old.
    """
    import ctypes

    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_char_p))

    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, *(ctypes.c_ulong(n) for n in (1, 0, 0, 0))) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_NO_NEW_PRIVS)")
    given = Program(len(program) // 8, program)
    fd = int(
        libc.syscall(
            ctypes.c_long(machine.seccomp), ctypes.c_long(_SET_MODE_FILTER), ctypes.c_ulong(_NEW_LISTENER | flags),
            ctypes.byref(given),
        )
    )  # fmt: skip
    if fd < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"seccomp(): {os.strerror(number)}")
    return fd


@cache
def why_not() -> str:
    """Return why calls cannot be held and answered on this machine; empty if they can.

    It is tried once, on a short-lived thread: a filter belongs to that thread, and is gone with it.
    """
    machine = this_machine()
    if machine is None:
        return "system calls can be held up on Linux on x86_64 and aarch64 only"
    number = machine.number("getppid")
    assert number is not None, "both machines have it"
    return _tried(number, machine)


def _tried(number: int, machine: Machine) -> str:
    """Have a thread call getppid twice: the first call must proceed, the second must fail with EXDEV."""
    import ctypes
    import threading

    ready: list[Listener | OSError] = []
    installed = threading.Event()
    results: list[int] = []

    def ask() -> None:
        try:
            ready.append(Listener(install(filter_program([number], machine), machine)))
        except OSError as error:
            ready.append(error)
            return
        finally:
            installed.set()
        libc = ctypes.CDLL(None, use_errno=True)
        results.extend((libc.syscall(number), libc.syscall(number), ctypes.get_errno()))

    thread = threading.Thread(target=ask, name="derail-seccomp-trial", daemon=True)
    thread.start()
    installed.wait()
    listener = ready[0]
    if isinstance(listener, OSError):
        thread.join()
        nested = " (this process is under such a filter itself)" if listener.errno == EBUSY else ""
        return f"the kernel refuses a filter with user notification: {listener}{nested}"
    try:
        for answer in (listener.let, lambda call: listener.fail(call, EXDEV)):
            if not _polls(listener.fileno(), 10_000) & select.POLLIN:
                return "a held call was not notified within 10 s"
            call = listener.receive()
            if call is None or not answer(call):
                return "a held call was gone before it was answered"
    except OSError as error:
        return f"a held call cannot be answered: {error}"
    finally:
        listener.close()
        thread.join(10)
    if results != [os.getppid(), -1, EXDEV]:
        return f"answers did not arrive: expected getppid to succeed and then fail with EXDEV, got {results}"
    return ""


def _polls(fd: int, milliseconds: int) -> int:
    poller = select.poll()
    poller.register(fd, select.POLLIN)
    return dict(poller.poll(milliseconds)).get(fd, 0)
