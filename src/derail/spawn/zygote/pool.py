"""Resident processes, from which ranks are forked, and which of them there are.

One is started by the first rank that needs it. It is ended when the last handle of a rank of it is closed, or kept for
later ones.
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
"""How long a resident process may take to end before it is killed: on a busy machine it may have to wait for its turn,
and what it has preloaded has exit functions."""


class ServerGoneError(OSError):
    """The resident process ended before the rank was there."""


@dataclass(frozen=True, slots=True)
class Service:
    """What a resident process has to be like; ranks that ask for the same share one.

    Attributes:
        name: for messages.
        modules: what it imports, or calls, before it forks.
        kept: whether it stays when its last rank has gone, and refuses to fork where a fork is not like a new process.
        cpus: what it is bound to while it imports; None for the launcher's.
        variables: those of ``inheritance.early_variables`` that it has; None for the launcher's.
        facts: whatever else tells it from others.
    """

    name: str
    modules: tuple[Preload, ...]
    kept: bool = False
    cpus: tuple[int, ...] | None = None
    variables: inheritance.Variables | None = None
    facts: Hashable = None

    @property
    def title(self) -> str:
        """For people who look at the process list: ``derail-fork-server``."""
        return self.name.replace("the ", "derail-").replace(" ", "-")


class ResidentProcess:
    """A running resident process, and how many handles need it."""

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
        """Whether it is there to be asked."""
        return not exits.is_readable(self._exit_fd.fileno())

    @property
    def exit_fd(self) -> int:
        """Polls readable once it has ended."""
        return self._exit_fd.fileno()

    def __str__(self) -> str:
        """``the fork server (process 7)``."""
        return f"{self.service.name} (process {self.pid})"

    @property
    def fds(self) -> tuple[int, ...]:
        """The descriptors that are open as long as this is."""
        return self._exit_fd.fileno(), self._control.fileno()

    def ask_for_rank(self, fds: tuple[int, ...]) -> None:
        """Ask for a rank; the answer comes on the socket whose other end is the first of ``fds``."""
        with self._sending:
            try:
                wire.send_fork(self._control, fds)
            except (BrokenPipeError, ConnectionResetError):
                raise self.gone() from None

    def gone(self) -> ServerGoneError:
        """Have it serve no new rank; what to raise, since it does not answer any more."""
        self.dismiss()
        return ServerGoneError(errno.ECHILD, f"{self} ended while starting it; its stderr may say why")

    def release(self) -> None:
        """One handle less; the last one ends the process, unless it is kept."""
        if os.getpid() != self._owner:
            return  # a fork of the launcher has a copy of the handle, but no say
        with _lock:
            self.users -= 1
            if self.users > 0 or (self.service.kept and _residents.get(self.service) is self):
                return
            self.retire()
        self.end()

    def dismiss(self) -> None:
        """Have it serve no new rank; it is ended with its last one."""
        with _lock:
            self.retire()

    def retire(self) -> bool:
        """Have it serve no new rank; whether it is to be ended, as nobody needs it. Called with the lock held."""
        if _residents.get(self.service) is self:
            del _residents[self.service]
        return self.users == 0

    def end(self) -> None:
        """End the process and reap it; its ranks are not touched."""
        wire.send_quit(self._control)
        if not exits.wait_readable(self._exit_fd, QUIT_SECONDS):
            groups.signal_process(self.pid, self._exit_fd.pidfd, SIGKILL)
            exits.wait_readable(self._exit_fd, QUIT_SECONDS)
        self._process.poll()
        descriptors.disown(self._control.fileno())
        self._control.close()
        descriptors.disown(self._exit_fd.fileno())
        self._exit_fd.close()


_residents: dict[Service, ResidentProcess] = {}
_foreign: list[ResidentProcess] = []
"""Those of a process that this one was forked from, kept: collecting one would close descriptors that are ours now."""
_lock = threading.Lock()


def acquire(service: Service) -> ResidentProcess:
    """A resident process, with one user more."""
    with _lock:
        server = _residents.get(service)
        if server is not None and not server.alive:
            if server.retire():
                server.end()
            server = None
        if server is None:
            _make_room(service)
            server = _residents[service] = _start_resident(service)
        server.users += 1
        return server


def end_kept() -> None:
    """Keep no resident process any longer: those without ranks end now, the others with their last rank."""
    with _lock:
        held = [server for server in _residents.values() if server.service.kept]
        idle = [server for server in held if server.retire()]
    for server in idle:
        server.end()


def kept() -> dict[int, tuple[int, ...]]:
    """The processes that are kept, and the descriptors by which this process holds each of them."""
    with _lock:
        return {server.pid: server.fds for server in _residents.values() if server.service.kept}


def _make_room(service: Service) -> None:
    """End those that have the same modules as ``service``, are otherwise unlike it, and idle."""
    for other in tuple(_residents.values()):
        alike = other.service.kept and service.kept and other.service.modules == service.modules
        if alike and other.users == 0:
            other.retire()
            other.end()


def _start_resident(service: Service) -> ResidentProcess:
    ours, theirs = socket.socketpair()
    with ExitStack() as undo:
        undo.callback(ours.close)
        with theirs, open(create_memory_file("derail-resident"), "wb") as file:
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
        server = ResidentProcess(service, process, ours)
        undo.pop_all()
        return server


def _forget() -> None:
    """In a fork of the launcher: these processes are not its own."""
    global _lock  # noqa: PLW0603 - another thread may have held it
    _lock = threading.Lock()
    _foreign.extend(_residents.values())
    _residents.clear()


os.register_at_fork(after_in_child=_forget)
atexit.register(end_kept)
