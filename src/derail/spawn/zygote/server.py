"""The zygote: a process from which ranks are forked, with their modules imported and a single thread.

It reports the exit status of each rank to the launcher, and reaps the rank only when the launcher permits it. It ends
when the launcher asks for that, or has ended itself, and kills its ranks in the second case.

The reasons are in docs/adr/forked-zygote.md.
"""

from __future__ import annotations

import errno
import gc
import importlib
import os
import pickle
import select
import signal
import socket
import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NoReturn

from derail.model.clock import SYSTEM_CLOCK
from derail.model.exit import ExitStatus
from derail.platform import groups
from derail.spawn import process_exit, worker
from derail.spawn.zygote import child_setup, preload, wire

if TYPE_CHECKING:
    from typing import BinaryIO

TOGETHER = 0.5
"""Seconds within which requested ranks count as starting together."""

REAP = b"r"
"""Message of the launcher that permits to reap an ended rank."""

GO = b"g"
"""Message that lets a rank run: until then it waits, and it ends if no process is left that could send this."""

STALE, UNFIT = "stale", "unfit"
"""Answers to the request for a rank: this source file has changed; a fork would differ from a new process."""

_OF_EVERY_RANK = (
    "derail.errors.recorder",
    "multiprocessing.spawn",
    "multiprocessing.util",
    "ctypes",
    "locale",
    "resource",
    "select",
)


@dataclass(slots=True)
class _Rank:
    pid: int
    report: socket.socket
    ended: bool = False
    unwanted: bool = False


def main(file: BinaryIO) -> NoReturn:
    """Import the requested modules, then serve; called in a fresh interpreter, see ``payload.interpreter``."""
    with file:
        control_fd, launcher_pid, modules, kept = pickle.load(file)
    control = socket.socket(fileno=control_fd)
    control.set_inheritable(False)
    streams: Any = (sys.stdout, sys.stderr)
    for stream in streams:
        stream.reconfigure(line_buffering=True)  # no fork may inherit a part of a message
    preloaded = preload.preload((*_OF_EVERY_RANK, *modules))
    unfit = preload.why_not_to_fork() if kept else ""
    if kept:
        _release_console()
    gc.collect()
    gc.freeze()  # existing objects stay shared with the ranks: no collection here writes to them
    ZygoteServer(control, launcher_pid, preloaded, unfit).serve()


def _release_console() -> None:
    """Close the console: a reader of the launcher's output must not wait for the end of this process."""
    null = os.open(os.devnull, os.O_WRONLY)
    for fd in (1, 2):
        os.dup2(null, fd)
    os.close(null)


class ZygoteServer:
    """The zygote's service for one launcher."""

    def __init__(self, control: socket.socket, launcher_pid: int, preloaded: preload.Preloaded, unfit: str) -> None:
        self._control = control
        self._launcher_pid = launcher_pid
        self._preloaded = preloaded
        self._unfit = unfit
        self._ranks: dict[int, _Rank] = {}
        self._received: list[int] = []
        self._missing = 0
        self._invalidated_at = 0.0
        self._poll = select.poll()
        self._wake_read = self._wake_write = self._launcher_fd = -1

    def serve(self) -> NoReturn:
        """Serve requests until the launcher asks for the end, or has ended."""
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())  # the thread that started this may have blocked any
        self._poll.register(self._control, select.POLLIN)
        self._poll.register(self._wake_read, select.POLLIN)
        self._watch_launcher()
        while True:
            for fd, _ in self._poll.poll():
                if fd == self._control.fileno():
                    self._obey(wire.receive(self._control))
                elif fd == self._wake_read:
                    os.read(self._wake_read, 4096)
                    self._look_for_exits()
                elif fd == self._launcher_fd:
                    self._end_all()
                else:
                    self._read_message(fd)

    def _watch_launcher(self) -> None:
        """Watch for the launcher's exit; the end of the socket is not enough, because a fork may hold a copy."""
        if hasattr(os, "pidfd_open"):
            try:
                self._launcher_fd = os.pidfd_open(self._launcher_pid)
            except OSError:
                return
            self._poll.register(self._launcher_fd, select.POLLIN)
            if os.getppid() != self._launcher_pid:
                self._end_all()

    def _obey(self, frame: wire.Frame | None) -> None:
        if frame is None:
            self._end_all()
        elif frame.verb == wire.QUIT:
            self._leave()
        else:
            self._received += frame.fds
            self._missing += frame.missing
            if frame.verb == wire.MORE:
                return
            fds, missing = self._received, self._missing
            self._received, self._missing = [], 0
            try:
                if frame.verb == wire.FORK and fds:
                    self._fork(fds, missing)
            finally:
                for fd in fds[1:] if frame.verb == wire.FORK else fds:
                    os.close(fd)

    def _fork(self, fds: list[int], missing: int) -> None:
        report = socket.socket(fileno=fds[0])
        report.setblocking(False)
        refusal = self._refusal(missing)
        if not refusal:
            self._invalidate_import_caches()
            try:
                pid = child_setup.fork(lambda: self._become(fds))
            except OSError as error:
                refusal = f"failed {error.errno or 0} {error}"
        if refusal:
            _send(report, refusal)
            report.close()
            return
        self._ranks[report.fileno()] = _Rank(pid, report)
        self._poll.register(report, select.POLLIN)
        # It may have ended before it was in the list.
        self._look_for_exits()

    def _invalidate_import_caches(self) -> None:
        """Let ranks find new modules; once for those that start together, because it takes time in each."""
        now = SYSTEM_CLOCK.now()
        if not self._ranks or now - self._invalidated_at > TOGETHER:
            importlib.invalidate_caches()
            self._invalidated_at = now

    def _refusal(self, missing: int) -> str:
        if missing:
            return (
                f"failed {errno.EMFILE} the process that forks it has no descriptor left; raise the limit (ulimit -n)"
            )
        if self._unfit:
            return f"{UNFIT} {self._unfit}"
        changed = self._preloaded.changed_source()
        return f"{STALE} {changed}" if changed else ""

    def _become(self, fds: list[int]) -> NoReturn:
        """Become the rank, in the child. ``fds``: report, payload, stdout, stderr, gate, and those of the payload."""
        signal.set_wakeup_fd(-1)
        for fd in (self._wake_read, self._wake_write, self._launcher_fd, self._control.detach(), *self._ranks):
            if fd >= 0:
                os.close(fd)
        for rank in self._ranks.values():
            rank.report.detach()
        file = open(fds[1], "rb")
        sent = child_setup.Setting(*pickle.load(file))
        setting = replace(sent, env=self._preloaded.environment_of(sent.env), stdout=fds[2], stderr=fds[3])
        child_setup.become_rank(setting, fds[0], preloaded=self._preloaded)
        if os.read(fds[4], 1) != GO:
            os._exit(child_setup.NOT_STARTED)
        os.close(fds[4])
        process_exit.leave(lambda: worker.run_payload(file, fds[5:]))

    def _look_for_exits(self) -> None:
        for rank in tuple(self._ranks.values()):
            if rank.ended:
                continue
            result = os.waitid(os.P_PID, rank.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if result is not None:
                rank.ended = True
                status = ExitStatus.from_waitid(result)
                if rank.unwanted or not _send(rank.report, f"exited {rank.pid} {encode(status)}"):
                    self._reap(rank)

    def _read_message(self, fd: int) -> None:
        """Handle the launcher's message about a rank: it may be reaped, or is no longer needed."""
        rank = self._ranks[fd]
        try:
            data = rank.report.recv(16)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data and not rank.ended:
            self._look_for_exits()  # the launcher saw the exit in /proc, before SIGCHLD was delivered here
        if self._ranks.get(fd) is not rank:
            return
        if rank.ended:
            self._reap(rank)
        elif not data:
            rank.unwanted = True
            self._poll.unregister(fd)

    def _reap(self, rank: _Rank) -> None:
        os.waitid(os.P_PID, rank.pid, os.WEXITED)
        fd = rank.report.fileno()
        del self._ranks[fd]
        if not rank.unwanted:
            self._poll.unregister(fd)
        rank.report.close()

    def _end_all(self) -> NoReturn:
        """Kill all ranks and end: the launcher is gone."""
        for rank in self._ranks.values():
            # Unreaped, alive or not: its pid is not reused. The lifeline ends the rest of its group, and spares helpers
            # that clean up behind the rank.
            groups.signal_process(rank.pid, None, signal.SIGKILL)
        self._leave()

    def _leave(self) -> NoReturn:
        for rank in self._ranks.values():
            # Ended ranks are not left to a host that adopts orphans.
            os.waitid(os.P_PID, rank.pid, os.WEXITED | os.WNOHANG)
        try:
            process_exit.run_exit_functions()  # of preloaded modules, once instead of in each rank
        finally:
            os._exit(0)


def encode(status: ExitStatus) -> str:
    """Encode an exit status as text."""
    if status.signal is not None:
        return f"signal {status.signal} {int(status.core_dumped)}"
    return f"code {status.code} 0"


def decode(words: str) -> ExitStatus:
    """Decode the text of ``encode``."""
    kind, number, dumped = words.split()
    if kind == "signal":
        return ExitStatus(signal=int(number), core_dumped=dumped == "1")
    return ExitStatus(code=int(number))


def _send(report: socket.socket, line: str) -> bool:
    try:
        report.send(line.replace("\n", " ").encode("utf-8", "backslashreplace") + b"\n")
    except OSError:
        return False
    return True
