"""Shim that installs a seccomp filter, passes its listener to derail, and then execs the rank's program.

The rank's program keeps the pid and the environment.

Standard library only, started by path: ``python -I -S seccomp.py '{"filter": "20000000...", ...}' program ...``.

Only the main thread is under the filter. The other thread passes the listener on, so any call may be in the filter. The
exec closes the connection: this is how derail distinguishes calls of the program from calls of the shim.

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
"""Environment variable with the endpoint of the handshake: both secrets, and the directory of the socket. The name of
the socket is this process's pid. The rank's program does not see the variable."""
LONGEST = 30.0
"""Seconds to wait for derail."""
LONGEST_ADDRESS = 107
"""Maximum bytes of a path in the address of a socket."""
_open: list[socket.socket] = []
"""References to sockets that only the exec may close: Python closes a socket without a reference."""


def main() -> None:
    """Do what argv requests, or exit with 125 and a reason if derail does not take the listener."""
    request, argv = json.loads(sys.argv[1]), sys.argv[2:]
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # this Python ignores them; the program must not inherit it
        signal.signal(number, signal.SIG_DFL)
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    env = _environment()
    try:
        prevented = put_under(bytes.fromhex(request["filter"]), request["seccomp"], request["flags"])
    except OSError as error:
        prevented = str(error)
    if prevented:
        sys.stderr.write(f"derail: cannot pass the listener of the rank's system calls to derail: {prevented}\n")
        os._exit(125)
    try:
        os.execvpe(argv[0], argv, env)
    except OSError as error:
        sys.stderr.write(f"derail: {argv[0]}: {error.strerror}\n")
        os._exit(127 if isinstance(error, FileNotFoundError) else 126)


def put_under(program: bytes, seccomp: int, flags: int) -> str:
    """Put this thread under the filter, pass its listener on, and return the problem; empty if there is none.

    If the kernel refuses the filter, derail receives the reason. That is no problem here: the program runs unchanged.
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
    return "" if heard == [b"go"] else b"".join(heard).decode() or "derail closed the connection"


def _connect(endpoint: str) -> socket.socket:
    """Connect to derail; as the listener gives control over the program, both sides authenticate."""
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
            time.sleep(0.005)  # noqa: TID251 - there is no event for the creation of a socket
        else:
            break
    peer = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    uid = int.from_bytes(peer[4:8], sys.byteorder)
    if uid != os.geteuid():
        raise PermissionError(1, f"expected derail's user {os.geteuid()} to listen, got user {uid}")
    connection.settimeout(LONGEST)
    connection.send(call.encode())
    if not _compare_digest(connection.recv(256), reply.encode()):
        raise PermissionError(1, "the listening process does not have the secret of the job")
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
    for wanted in (flags, flags & 0b1000):  # an old kernel may refuse some flags; the listener flag is required
        fd = int(libc.syscall(ctypes.c_long(seccomp), ctypes.c_long(1), ctypes.c_ulong(wanted), given))
        if fd >= 0:
            return fd
    number = ctypes.get_errno()
    raise OSError(number, f"seccomp(): {os.strerror(number)}")


def _environment() -> dict[bytes, bytes]:
    """Return the environment at the start of this process: Python may have added a locale."""
    try:
        with open("/proc/self/environ", "rb") as file:
            pairs = [entry.partition(b"=") for entry in file.read().split(b"\0") if entry]
    except OSError:
        return {name: value for name, value in os.environb.items() if name != VARIABLE.encode()}
    return {name: value for name, equals, value in pairs if equals and name and name != VARIABLE.encode()}


if __name__ == "__main__":
    main()
