"""The rank's end of the handshake: a rank of an external agent reports who it is to derail before its first line.

Nothing else shows for certain which process is which rank of which attempt before it does anything. Where no answer
comes, the program runs unchanged. Afterwards the number of each signal that the program has a Python handler for is
sent through the same connection: only this shows that a rank which exits with code 0 was asked to.

The other end is agents/external/handshake_server.py. It is believed only if the kernel names this process's own user as
its user, and if it sends its half of the job's secret: what it answers is executed.
"""

from __future__ import annotations

import json
import os
import sys
from _operator import _compare_digest  # what secrets.compare_digest is, without the import of hashlib

from .stream_copies import HIGH

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket

    from .rank_plan import Part

PATIENCE = 10.0
"""Maximum seconds to wait for an answer."""
LONGEST = 4 << 20
"""Maximum bytes of an answer: it may hold a command line and an environment."""
LONGEST_ADDRESS = 107


def meet(part: Part) -> dict[str, object] | None:
    """Report this process to derail, and return the answer, or None if there is none.

    The answer contains the attempt, whether faults act here, the files for streams that are not captured elsewhere, and
    the program to exec first if a fault changes the rank before its start.
    """
    import _socket  # not socket: its import costs more than the whole handshake

    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        call, reply, path = part.meet.split(":", 2)
        connection.settimeout(PATIENCE)
        _connect(connection, path)
        if not _is_own(connection):
            return None
        argv = [sys.executable, *getattr(sys, "orig_argv", sys.argv)[1:]]
        report = {"rank": part.rank, "pid": os.getpid(), "job": part.job, "argv": argv}
        connection.sendall(f"{call} {json.dumps(report)}\n".encode())
        secret, _, text = _receive_line(connection).partition(b" ")
        if not _compare_digest(secret, reply.encode()):
            return None
        answer = json.loads(text)
        if isinstance(answer, dict) and answer.get("acts"):
            _tell_of_signals(connection.fileno())
            if answer.get("announce"):
                from . import exit_announcement

                exit_announcement.announce_to(connection.fileno(), str(answer.get("error_file") or ""))
    except (OSError, ValueError):
        return None
    finally:
        connection.close()
    return answer if isinstance(answer, dict) else None


def _connect(connection: socket, path: str) -> None:
    """Connect to a socket at a path of any length: an address has room for only 107 bytes."""
    if len(os.fsencode(path)) <= LONGEST_ADDRESS:
        connection.connect(path)
        return
    directory, name = os.path.split(path)
    fd = os.open(directory, getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        connection.connect(f"/proc/self/fd/{fd}/{name}")
    finally:
        os.close(fd)


def _is_own(connection: socket) -> bool:
    """Return whether the listener is a process of this user, by the kernel's credentials (struct ucred, unix(7))."""
    import _socket

    option = getattr(_socket, "SO_PEERCRED", None)
    if option is None:
        return True
    return int.from_bytes(connection.getsockopt(_socket.SOL_SOCKET, option, 12)[4:8], sys.byteorder) == os.geteuid()


def _receive_line(connection: socket) -> bytes:
    """Return the line that the other end sends; empty if it closes before."""
    received = b""
    while not received.endswith(b"\n"):
        more = connection.recv(65536)
        if not more or len(received) > LONGEST:
            return b""
        received += more
    return received


def _tell_of_signals(fd: int) -> None:
    """Make Python write the number of each signal that it handles to a copy of ``fd`` above common numbers."""
    import _signal  # type: ignore[import-not-found]
    import fcntl

    kept = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, HIGH)
    try:
        os.set_blocking(kept, False)
        _signal.set_wakeup_fd(kept, warn_on_full_buffer=False)
    except ValueError:  # not the main thread
        os.close(kept)


def follow(answer: dict[str, object]) -> None:
    """Exec the program in the answer, if any; set variables, and redirect or copy the streams as it says."""
    argv, env = answer.get("exec"), answer.get("env")
    if isinstance(argv, list) and isinstance(env, dict):
        os.execve(argv[0], argv, env)
    for name, number in (("stdout", 1), ("stderr", 2)):
        path = answer.get(name)
        if isinstance(path, str):
            fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            os.dup2(fd, number)
            os.close(fd)
    variables, copied = answer.get("set"), answer.get("copies")
    for name, value in variables.items() if isinstance(variables, dict) else ():
        os.environ.setdefault(str(name), str(value))
    for name, path in copied.items() if isinstance(copied, dict) else ():
        from . import stream_copies

        try:
            stream_copies.begin(str(name), str(path))
        except OSError:
            pass  # no copy can be made: the rank's output belongs to its launcher
