"""Transfer of descriptors from the launcher to a zygote: short frames on a stream socket, in order, in one piece."""

from __future__ import annotations

import array
import os
import socket
import struct
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

MORE, FORK, DROP, QUIT = b"more", b"fork", b"drop", b"quit"
"""Some of a rank's descriptors; the last of them: fork it; drop those sent so far; end, and leave the ranks alone."""

NO_SIGPIPE: int = getattr(socket, "MSG_NOSIGNAL", 0)
"""For ``send``: it must not kill a host that has reset SIGPIPE to its default action."""

_FRAME = struct.Struct("<4sI")
_LIMIT = 200  # the kernel accepts 253 descriptors at a time
_INTS = struct.calcsize("i")


class Frame(NamedTuple):
    """One received frame; ``missing`` descriptors did not fit into this process."""

    verb: bytes
    fds: tuple[int, ...]
    missing: int


def send_fork(sock: socket.socket, fds: Sequence[int]) -> None:
    """Request a rank with these descriptors.

    Raises:
        OSError: if the zygote is gone.
    """
    try:
        for start in range(0, len(fds), _LIMIT):
            part = fds[start : start + _LIMIT]
            _send(sock, FORK if start + _LIMIT >= len(fds) else MORE, part)
    except BaseException:
        try:
            _send(sock, DROP, ())
        except OSError:
            pass
        raise


def send_quit(sock: socket.socket) -> None:
    """Ask the zygote to end, if it has not ended already."""
    try:
        _send(sock, QUIT, ())
    except OSError:
        pass


def receive(sock: socket.socket) -> Frame | None:
    """Return the next frame; None at the end."""
    data, ancillary, _, _ = sock.recvmsg(_FRAME.size, socket.CMSG_SPACE(_LIMIT * _INTS))
    while data and len(data) < _FRAME.size:
        rest = sock.recv(_FRAME.size - len(data))
        data = data + rest if rest else b""
    fds = array.array("i")
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(content[: len(content) - len(content) % _INTS])
    if not data:
        for fd in fds:
            os.close(fd)
        return None
    for fd in fds:
        os.set_inheritable(fd, False)
    verb, count = _FRAME.unpack(data)
    return Frame(verb, tuple(fds), count - len(fds))


def _send(sock: socket.socket, verb: bytes, fds: Sequence[int]) -> None:
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    sock.sendmsg([_FRAME.pack(verb, len(fds))], rights, NO_SIGPIPE)
