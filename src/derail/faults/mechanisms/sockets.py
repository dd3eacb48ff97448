"""TCP connections of another process: listed from /proc, and duplicated into this one by ``pidfd_getfd``."""

from __future__ import annotations

import os
import socket
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from derail.platform.capabilities import PROC

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

PIDFD_GETFD = 438
ESTABLISHED, LISTENING = 0x01, 0x0A


@dataclass(frozen=True, slots=True)
class Connection:
    """Line of ``/proc/PID/net/tcp`` that belongs to a process.

    Attributes:
        fd: its descriptor in that process.
        inode: its unique identifier.
        local_port: the port of that process.
        peer_port: the port of the peer.
    """

    fd: int
    inode: int
    local_port: int
    peer_port: int

    def __str__(self) -> str:
        return f"descriptor {self.fd} (port {self.local_port} to {self.peer_port})"


def table(pid: int | str) -> dict[int, tuple[int, int, int]]:
    """Return the TCP sockets in the network namespace of a process: inode -> state, local port, port of the peer."""
    found: dict[int, tuple[int, int, int]] = {}
    for name in ("tcp", "tcp6"):
        try:
            lines = (PROC / str(pid) / "net" / name).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            local, peer = (int(fields[index].rpartition(":")[2], 16) for index in (1, 2))
            found[int(fields[9])] = (int(fields[3], 16), local, peer)
    return found


def are_own(connections: Sequence[socket.socket]) -> list[bool | None]:
    """Return for each accepted loopback connection whether its peer is a process of this user.

    None means that the process has already closed its end, so that the kernel does not name its user. Without /proc
    every connection counts as this user's, except one that is gone. The table of sockets may be long, so it is read
    once for all.
    """
    wanted = [_ends_of_peer(connection) for connection in connections]
    try:
        lines = (PROC / "self" / "net" / "tcp").read_text().splitlines()[1:]
    except OSError:
        return [ends is not None for ends in wanted]
    found: dict[tuple[str, str], str] = {}
    for line in lines:
        fields = line.split()
        if fields[9] != "0":
            found[fields[1], fields[2]] = fields[7]
    users = [False if ends is None else found.get(ends) for ends in wanted]
    return [user if user is False or user is None else user == str(os.geteuid()) for user in users]


def _ends_of_peer(connection: socket.socket) -> tuple[str, str] | None:
    """Return the peer's address and this one as in its row in /proc/net/tcp; None if the connection is gone."""
    try:
        (host, port), (own_host, own_port) = connection.getpeername()[:2], connection.getsockname()[:2]
    except OSError:
        return None
    return f"{_address(host)}:{port:04X}", f"{_address(own_host)}:{own_port:04X}"


def _address(host: str) -> str:
    """Return an IPv4 address in the format of /proc/net/tcp: a number in this machine's byte order."""
    return f"{int.from_bytes(socket.inet_aton(host), sys.byteorder):08X}"


def established(pid: int) -> list[Connection]:
    """Return the connections of a process, ordered by descriptor."""
    sockets = table(pid)
    found: list[Connection] = []
    for fd in sorted(map(int, os.listdir(PROC / str(pid) / "fd"))):
        try:
            link = os.readlink(PROC / str(pid) / "fd" / str(fd))
        except OSError:
            continue
        if not link.startswith("socket:["):
            continue  # and not 0, the inode of connections that are not yet accepted
        inode = int(link[8:-1])
        state, local, peer = sockets.get(inode, (0, 0, 0))
        if state == ESTABLISHED and inode not in [other.inode for other in found]:
            found.append(Connection(fd, inode, local, peer))
    return found


@contextmanager
def stolen(pid: int, fd: int) -> Iterator[int]:
    """Yield a duplicate of another process's descriptor, closed afterwards; changes to the file behind it remain.

    Raises:
        OSError: if permission is denied, or the process or the descriptor is gone.
    """
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    process = os.pidfd_open(pid)
    try:
        mine = int(libc.syscall(PIDFD_GETFD, process, fd, 0))
        if mine < 0:
            number = ctypes.get_errno()
            raise OSError(number, f"pidfd_getfd: {os.strerror(number)}")
    finally:
        os.close(process)
    try:
        yield mine
    finally:
        os.close(mine)


def disconnect(fd: int) -> None:
    """Abort a connection with a RST to the peer, by ``connect`` to AF_UNSPEC, which closes no descriptor.

    Raises:
        OSError: if the kernel refuses.
    """
    import ctypes

    if ctypes.CDLL(None, use_errno=True).connect(fd, bytes(16), 16) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"connect: {os.strerror(number)}")


@cache
def why_not() -> str:
    """Return why descriptors of other processes are not accessible here; empty if a trial on a child succeeds."""
    import subprocess

    if not hasattr(os, "pidfd_open") or not PROC.is_dir():
        return "this system has no pidfd_open, or no /proc"
    try:
        child = subprocess.Popen(("cat",), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    except OSError as error:
        return f"the trial of pidfd_getfd failed: {error}"
    with child:
        try:
            with stolen(child.pid, 0):
                return ""
        except OSError as error:
            return f"{error.strerror} (it needs ptrace rights: the same user, and no Yama or seccomp restriction)"
