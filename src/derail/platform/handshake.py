"""Unix sockets that only this user's processes can reach, and on which both ends prove that they belong to one job.

The socket is in a separate directory with mode 0700 and an unpredictable name. Each end queries the user of the other
one from the kernel (SO_PEERCRED, unix(7)) before it reads or sends a byte. Then each sends its half of a secret that
the peer received in private: through its environment, or through inherited memory. An abstract name would be visible
to every user in /proc/net/unix, and other users could bind it before us and after us.

The reasons are in docs/adr/same-user-trust.md.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import socket
import struct
import tempfile
import weakref
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Self

_UCRED = struct.Struct("3i")  # struct ucred: pid, uid, gid
_LONGEST = 107
"""Maximum bytes of a path in struct sockaddr_un."""
_NAME = "s"
SECRET_BYTES = 16
BACKLOG = 1024
"""Connections that the kernel queues until they are accepted."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """All data that a peer needs for the handshake. It is a secret: never put it into an argv, a log or a journal.

    Attributes:
        path: the socket.
        call: sent by the connecting end to prove that it belongs to the job.
        reply: sent by the listening end to prove the same.
    """

    path: str
    call: str
    reply: str

    def __str__(self) -> str:
        """Return it as one word, for an environment variable."""
        return f"{self.call}:{self.reply}:{self.path}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse the text of ``str``.

        Raises:
            ValueError: if it is something else.
        """
        call, reply, path = text.split(":", 2)
        return cls(path, call, reply)


class PrivateDirectory:
    """A directory for the sockets of one job, which only this user can enter, and the secret of the job.

    It is made at the first use. The process that made it removes it: by ``close``, and at the latest when it is
    garbage-collected.

    Args:
        parent: directory to make it in; by default the one for temporary files.
    """

    def __init__(self, parent: str | os.PathLike[str] | None = None) -> None:
        self._parent = parent
        self._path = ""
        self._call, self._reply = "", ""
        self._remove: weakref.finalize[[str, int], PrivateDirectory] | None = None

    def endpoint(self, name: str = "") -> Endpoint:
        """Return a socket of this name in it; without a name, the directory itself.

        Raises:
            OSError: if no directory can be made.
        """
        if self._remove is None:
            self._path = tempfile.mkdtemp(prefix="dh-", dir=self._parent)
            self._remove = weakref.finalize(self, _remove_own, self._path, os.getpid())
            self._call, self._reply = secrets.token_hex(SECRET_BYTES), secrets.token_hex(SECRET_BYTES)
        return Endpoint(os.path.join(self._path, name) if name else self._path, self._call, self._reply)

    def close(self) -> None:
        """Remove it. Idempotent; a later ``endpoint`` makes a new one."""
        remove, self._remove = self._remove, None
        if remove is not None:
            remove()


def _remove_own(path: str, pid: int) -> None:
    if os.getpid() == pid:  # not in a forked copy
        shutil.rmtree(path, ignore_errors=True)


class HandshakeListener:
    """The listening end. ``open`` it, pass its ``endpoint`` to peers in private, and ``close`` it."""

    def __init__(self, kind: socket.SocketKind = socket.SOCK_STREAM) -> None:
        self._kind = kind
        self._socket: socket.socket | None = None
        self._directory: PrivateDirectory | None = None
        self._endpoint: Endpoint | None = None
        self._pid = 0

    @property
    def endpoint(self) -> Endpoint:
        """Address for peers, and the secret."""
        assert self._endpoint is not None, "the listener is not open"
        return self._endpoint

    def open(self, parent: str | os.PathLike[str] | None = None) -> Self:
        """Listen in a new private directory.

        Args:
            parent: directory to make it in; by default the one for temporary files.

        Raises:
            OSError: if there is no descriptor left, or no directory can be made.
        """
        self._directory = PrivateDirectory(parent)
        return self.open_at(self._directory.endpoint(_NAME))

    def open_at(self, endpoint: Endpoint) -> Self:
        """Listen at an endpoint of a ``PrivateDirectory``.

        Raises:
            OSError: if there is no descriptor left, or a process listens there already.
        """
        self._endpoint, self._pid = endpoint, os.getpid()
        try:
            self._socket = socket.socket(socket.AF_UNIX, self._kind)
            with _short(endpoint.path) as address:
                self._socket.bind(address)
            os.chmod(endpoint.path, 0o600)
            self._socket.listen(BACKLOG)
            self._socket.setblocking(False)
        except BaseException:
            self.close()
            raise
        return self

    def fileno(self) -> int:
        """Return the descriptor, which polls readable when a peer has connected."""
        assert self._socket is not None, "the listener is not open"
        return self._socket.fileno()

    def accept(self) -> socket.socket | None:
        """Return the next connection of a process of this user; None if there is none. Never blocks.

        Raises:
            OSError: EMFILE or ENFILE, if no descriptor is left; the peer remains queued.
        """
        while self._socket is not None:
            try:
                connection, _ = self._socket.accept()
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    raise
                return None
            if is_own(connection):
                return connection
            connection.close()
        return None

    def close(self) -> None:
        """Stop listening, and remove the socket and the directory that ``open`` made. Idempotent.

        In a forked copy of this process, close only the descriptor.
        """
        listener, self._socket = self._socket, None
        if listener is not None:
            listener.close()
            if self._pid == os.getpid():
                with suppress(OSError):
                    os.unlink(self.endpoint.path)
        if self._directory is not None:
            self._directory.close()


def connect(endpoint: Endpoint, *, kind: socket.SocketKind = socket.SOCK_STREAM, seconds: float) -> socket.socket:
    """Connect to a listener of this user; the user is checked before any byte is sent.

    Raises:
        OSError: if no process listens there, or a process of another user does.
    """
    with ExitStack() as undo:
        connection = undo.enter_context(socket.socket(socket.AF_UNIX, kind))
        connection.settimeout(seconds)
        with _short(endpoint.path) as address:
            connection.connect(address)
        if not is_own(connection):
            raise PermissionError(errno.EPERM, f"a process of user {peer(connection)[1]} listens at {endpoint.path}")
        undo.pop_all()
    return connection


def peer(connection: socket.socket) -> tuple[int, int]:
    """Return the pid and the user of the other end, as the kernel reports them.

    Raises:
        OSError: if this system does not report them.
    """
    if not hasattr(socket, "SO_PEERCRED"):
        raise OSError(errno.ENOPROTOOPT, "this system has no SO_PEERCRED")
    data = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    pid, uid, _ = _UCRED.unpack(data)
    return pid, uid


def is_own(connection: socket.socket) -> bool:
    """Return whether the peer is a process of this user; without SO_PEERCRED the directory's mode guarantees it."""
    return not hasattr(socket, "SO_PEERCRED") or peer(connection)[1] == os.geteuid()


def proves(given: object, secret: str) -> bool:
    """Return whether a peer has a secret, in a time that does not depend on what it sent."""
    return isinstance(given, str) and secrets.compare_digest(given.encode(errors="replace"), secret.encode())


class _short:  # noqa: N801 - used like a function
    """A name of the same file that fits into a socket's address, valid while the body runs."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._fd = -1

    def __enter__(self) -> str:
        if len(os.fsencode(self._path)) <= _LONGEST:
            return self._path
        directory, name = os.path.split(self._path)
        self._fd = os.open(directory, getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC)
        return f"/proc/self/fd/{self._fd}/{name}"

    def __exit__(self, *_: object) -> None:
        if self._fd >= 0:
            os.close(self._fd)
