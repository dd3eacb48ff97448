"""The program that stands before a rank's own if system calls of it are to be held up: it puts itself under the filter,
hands the listener to derail, and becomes the rank's program by exec, with the same pid and environment.

Standard library only, started by path: ``python -I -S seccomp.py '{"filter": "20000000...", ...}' program ...``.

The filter is the main thread's alone. The other thread hands over the listener, so that it does not matter which calls
are held up. The connection is closed by the exec itself: that is how the other side knows a call of the program from
one of ours.

The reasons are in docs/adr/seccomp-user-notification.md.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
import time
from _operator import _compare_digest  # secrets.compare_digest, without the import of hashlib

VARIABLE = "DERAIL_SYSCALLS"
"""Environment variable with the endpoint of the handshake: both secrets, and the directory of the socket, whose name is
this process's pid. The program does not see it."""
LONGEST = 30.0
"""Seconds to wait for derail."""
LONGEST_ADDRESS = 107
"""Bytes of a path that fit into a socket's address."""
_open: list[socket.socket] = []
"""What only the exec may close: a socket that nothing refers to would be closed before."""


def main() -> None:
    """Do what argv says. If nobody takes the listener the program is not started: exit 125 with a reason."""
    told, argv = json.loads(sys.argv[1]), sys.argv[2:]
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # this Python ignores them; the program must not inherit it
        signal.signal(number, signal.SIG_DFL)
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    env = _environment()
    try:
        prevented = put_under(bytes.fromhex(told["filter"]), told["seccomp"], told["flags"])
    except OSError as error:
        prevented = str(error)
    if prevented:
        sys.stderr.write(f"derail: the listener of the rank's system calls could not be handed over: {prevented}\n")
        os._exit(125)
    try:
        os.execvpe(argv[0], argv, env)
    except OSError as error:
        sys.stderr.write(f"derail: {argv[0]}: {error.strerror}\n")
        os._exit(127 if isinstance(error, FileNotFoundError) else 126)


def put_under(program: bytes, seccomp: int, flags: int) -> str:
    """Put this thread under the filter and hand its listener over. What prevented it; empty if nothing did.

    If the kernel refuses the filter, the other side is told, and nothing is prevented: the program runs as ever.
    """
    connection = _connect(os.environ.get(VARIABLE, ""))
    _open.append(connection)
    installed: list[tuple[int, str]] = []
    ready = threading.Lock()
    ready.acquire()
    heard: list[bytes] = []

    def hand_over() -> None:
        with ready:
            fd, refused = installed[0]
        try:
            if fd < 0:
                connection.sendall(b"refused: " + refused.encode())
            else:
                socket.send_fds(connection, [b"listener"], [fd])
            heard.append(connection.recv(16))
        except OSError as error:
            heard.append(str(error).encode())

    thread = threading.Thread(target=hand_over)
    thread.start()
    try:
        installed.append((_install(program, seccomp, flags), ""))
    except OSError as error:
        installed.append((-1, str(error)))
    ready.release()
    thread.join()
    return "" if heard == [b"go"] else b"".join(heard).decode() or "nobody answers any more"


def _connect(endpoint: str) -> socket.socket:
    """Connect to derail. The process with the listener controls the program, so both sides prove who they are."""
    if endpoint.count(":") < 2:
        raise OSError(f"{VARIABLE} is not set")
    call, reply, directory = endpoint.split(":", 2)
    if directory.startswith("/proc/self/fd/"):  # from namespace.py, as its mounts may hide the directory
        os.set_inheritable(int(os.path.basename(directory)), False)
    name = os.path.join(directory, str(os.getpid()))
    if len(os.fsencode(name)) > LONGEST_ADDRESS:
        fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        name = f"/proc/self/fd/{fd}/{os.getpid()}"
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    end = time.monotonic() + LONGEST
    while True:
        try:
            connection.connect(name)
        except (ConnectionRefusedError, FileNotFoundError):
            if time.monotonic() > end:
                raise
            time.sleep(0.005)  # noqa: TID251 - nothing tells when a socket comes to be
        else:
            break
    peer = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    uid = int.from_bytes(peer[4:8], sys.byteorder)
    if uid != os.geteuid():
        raise PermissionError(1, f"user {uid} listens in the place of derail")
    connection.settimeout(LONGEST)
    connection.send(call.encode())
    if not _compare_digest(connection.recv(256), reply.encode()):
        raise PermissionError(1, "a process listens in the place of derail that does not know the secret of the job")
    return connection


def _install(program: bytes, seccomp: int, flags: int) -> int:
    import ctypes

    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_char_p))

    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    zero = ctypes.c_ulong(0)
    if libc.prctl(38, ctypes.c_ulong(1), zero, zero, zero) != 0:  # PR_SET_NO_NEW_PRIVS
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_NO_NEW_PRIVS)")
    given = ctypes.byref(Program(len(program) // 8, program))
    fd = -1
    for wanted in (flags, flags & 0b1000):  # an old kernel does not know all of them; the listener must be
        fd = int(libc.syscall(ctypes.c_long(seccomp), ctypes.c_long(1), ctypes.c_ulong(wanted), given))
        if fd >= 0:
            return fd
    number = ctypes.get_errno()
    raise OSError(number, f"seccomp(): {os.strerror(number)}")


def _environment() -> dict[bytes, bytes]:
    """What we were started with: Python may have added a locale of its own choice."""
    try:
        with open("/proc/self/environ", "rb") as file:
            pairs = [entry.partition(b"=") for entry in file.read().split(b"\0") if entry]
    except OSError:
        return {name: value for name, value in os.environb.items() if name != VARIABLE.encode()}
    return {name: value for name, equals, value in pairs if equals and name and name != VARIABLE.encode()}


if __name__ == "__main__":
    main()
