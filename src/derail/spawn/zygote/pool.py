"""Zygotes, from which ranks are forked, and the registry of the running ones.

The first rank that needs a zygote starts it. It is ended when the last handle of its ranks is closed, or kept for later
ones.
"""

from __future__ import annotations

import atexit
import errno
import os
import pickle
import socket
import subprocess
import threading
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from derail.model.exit import SIGKILL
from derail.platform import exits, groups, topology
from derail.spawn import descriptors, payload
from derail.spawn.return_values import create_memory_file
from derail.spawn.zygote import inheritance, wire

if TYPE_CHECKING:
    from collections.abc import Hashable

    from derail.model.spec import Preload

QUIT_SECONDS = 10.0
"""Seconds for a zygote to end before it is killed: on a busy machine it may wait for CPU time, and preloaded modules
have exit functions."""


class ServerGoneError(OSError):
    """The error of a zygote that ended before the rank existed."""


@dataclass(frozen=True, slots=True)
class Service:
    """Properties of a zygote; ranks that need the same ones share it.

    Attributes:
        name: for messages.
        modules: modules that it imports, and callables that it calls, before it forks.
        kept: whether it outlives its last rank, and refuses to fork where a fork would differ from a new process.
        cpus: its CPUs while it imports; None for the launcher's.
        variables: its ``inheritance.early_variables``; None for the launcher's.
        facts: all other distinguishing properties.
    """

    name: str
    modules: tuple[Preload, ...]
    kept: bool = False
    cpus: tuple[int, ...] | None = None
    variables: inheritance.Variables | None = None
    facts: Hashable = None

    @property
    def title(self) -> str:
        """Its name in the process list: ``derail-fork-server``."""
        return self.name.replace("the ", "derail-").replace(" ", "-")


class ZygoteProcess:
    """A running zygote, and the number of its handles."""

    def __init__(self, service: Service, process: subprocess.Popen[bytes], control: socket.socket) -> None:
        self.service = service
        self.users = 0
        self.pid = process.pid
        self._process = process
        self._control = control
        self._exit_fd = exits.open_exit_fd(process.pid)
        self._owner = os.getpid()
        self._sending = threading.Lock()
        descriptors.own(self._exit_fd.fileno())
        descriptors.own(control.fileno())

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return not exits.is_readable(self._exit_fd.fileno())

    @property
    def exit_fd(self) -> int:
        """Descriptor that polls readable once it has ended."""
        return self._exit_fd.fileno()

    def __str__(self) -> str:
        """Return text such as ``the fork server (process 7)``."""
        return f"{self.service.name} (process {self.pid})"

    @property
    def fds(self) -> tuple[int, ...]:
        """The descriptors that are open while this object is."""
        return self._exit_fd.fileno(), self._control.fileno()

    def ask_for_rank(self, fds: tuple[int, ...]) -> None:
        """Request a rank; the answer arrives on the socket with the first of ``fds`` as its other end."""
        with self._sending:
            try:
                wire.send_fork(self._control, fds)
            except (BrokenPipeError, ConnectionResetError):
                raise self.gone() from None

    def gone(self) -> ServerGoneError:
        """Retire a zygote that does not answer; return the error to raise."""
        self.dismiss()
        return ServerGoneError(errno.ECHILD, f"{self} ended while starting it; its stderr may say why")

    def release(self) -> None:
        """Remove one handle; the last one ends the process, unless it is kept."""
        if os.getpid() != self._owner:
            return  # a fork of the launcher has a copy of the handle, but does not own the zygote
        with _lock:
            self.users -= 1
            if self.users > 0 or (self.service.kept and _zygotes.get(self.service) is self):
                return
            self.retire()
        self.end()

    def dismiss(self) -> None:
        """Give it no new rank; it ends with its last one."""
        with _lock:
            self.retire()

    def retire(self) -> bool:
        """Give it no new rank; return whether to end it, because it has no user. Needs the lock."""
        if _zygotes.get(self.service) is self:
            del _zygotes[self.service]
        return self.users == 0

    def end(self) -> None:
        """End the process and reap it; its ranks are not affected."""
        wire.send_quit(self._control)
        if not exits.wait_readable(self._exit_fd, QUIT_SECONDS):
            groups.signal_process(self.pid, self._exit_fd.pidfd, SIGKILL)
            exits.wait_readable(self._exit_fd, QUIT_SECONDS)
        self._process.poll()
        descriptors.disown(self._control.fileno())
        self._control.close()
        descriptors.disown(self._exit_fd.fileno())
        self._exit_fd.close()


_zygotes: dict[Service, ZygoteProcess] = {}
_foreign: list[ZygoteProcess] = []
"""Zygotes of the process that forked this one, kept referenced: collecting one would close reused descriptors."""
_lock = threading.Lock()


def acquire(service: Service) -> ZygoteProcess:
    """Return a zygote, with one more user."""
    with _lock:
        server = _zygotes.get(service)
        if server is not None and not server.alive:
            if server.retire():
                server.end()
            server = None
        if server is None:
            _make_room(service)
            server = _zygotes[service] = _start_zygote(service)
        server.users += 1
        return server


def end_kept() -> None:
    """Stop keeping zygotes: those without ranks end now, the others with their last rank."""
    with _lock:
        lasting = [server for server in _zygotes.values() if server.service.kept]
        idle = [server for server in lasting if server.retire()]
    for server in idle:
        server.end()


def kept() -> dict[int, tuple[int, ...]]:
    """Return the pids of kept zygotes, and the descriptors with which this process holds each of them."""
    with _lock:
        return {server.pid: server.fds for server in _zygotes.values() if server.service.kept}


def _make_room(service: Service) -> None:
    """End idle zygotes with the same modules as ``service`` and other properties."""
    for other in tuple(_zygotes.values()):
        alike = other.service.kept and service.kept and other.service.modules == service.modules
        if alike and other.users == 0:
            other.retire()
            other.end()


def _start_zygote(service: Service) -> ZygoteProcess:
    ours, theirs = socket.socketpair()
    with ExitStack() as undo:
        undo.callback(ours.close)
        with theirs, open(create_memory_file("derail-zygote"), "wb") as file:
            file.write(payload.path_front())
            pickle.dump((theirs.fileno(), os.getpid(), service.modules, service.kept), file)
            file.flush()
            os.lseek(file.fileno(), 0, os.SEEK_SET)
            with topology.bound_to(None if service.cpus is None else frozenset(service.cpus)):
                process = subprocess.Popen(
                    payload.interpreter(file.fileno(), "zygote.server", service.title),
                    stdin=subprocess.DEVNULL,
                    start_new_session=True,
                    pass_fds=(file.fileno(), theirs.fileno()),
                    env=None if service.variables is None else inheritance.environment(service.variables),
                )
        undo.callback(process.wait)
        undo.callback(process.kill)
        server = ZygoteProcess(service, process, ours)
        undo.pop_all()
        return server


def _forget() -> None:
    """Forget the zygotes in a fork of the launcher, which does not own them."""
    global _lock  # noqa: PLW0603 - another thread may have held it
    _lock = threading.Lock()
    _foreign.extend(_zygotes.values())
    _zygotes.clear()


os.register_at_fork(after_in_child=_forget)
atexit.register(end_kept)
