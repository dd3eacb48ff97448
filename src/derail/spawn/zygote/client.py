"""A rank that is forked by a resident process: how the launcher asks for it, and holds it."""

from __future__ import annotations

import errno
import os
import pickle
import socket
from contextlib import ExitStack, suppress
from dataclasses import astuple
from typing import TYPE_CHECKING

from derail.model.clock import SYSTEM_CLOCK
from derail.model.exit import SIGKILL, ExitStatus
from derail.platform import exits, groups
from derail.platform.strangers import status_before_reaping, status_of_ended
from derail.spawn import descriptors, payload, streams
from derail.spawn.child_handle import Child
from derail.spawn.spawn_error import UnfitError
from derail.spawn.zygote import child_setup, inheritance, pool, wire
from derail.spawn.zygote.server import GO, REAP, STALE, UNFIT, decode

if TYPE_CHECKING:
    from derail.model.spec import Function, RankSpec
    from derail.spawn.return_values import Slot

START_SECONDS = 300.0
"""How long the first rank may take to be there: the resident process imports what is preloaded before."""

ANSWER_SECONDS = 5.0
"""How long after a rank's end its resident process may take to say how it ended; else the status is lost."""

_REPORT_SECONDS = (
    0.001  # a status comes in microseconds; this long a look may take, so that nobody looks in a tight loop
)
_REAP_SECONDS = 0.2
CANCEL_SECONDS = 2.0
"""How long a rank that was asked for in vain may take to be there, and to end."""

_TRIES = 3


class _StaleError(Exception):
    """A source file is not the one any more that the resident process has imported."""


def start(
    spec: RankSpec, function: Function, slot: Slot, service: pool.Service, asked: AskedRank | None = None
) -> ServedProcess:
    """Have the rank forked by a resident process, and return when it has its own session, streams and environment.

    Args:
        spec: the rank.
        function: what it runs.
        slot: where its value goes.
        service: what the resident process is like.
        asked: the rank, if it was asked for before.

    Raises:
        pickle.PicklingError: if the function or an argument cannot be sent.
        UnfitError: if the resident process refuses to fork.
        pool.ServerGoneError: if it ended meanwhile.
        OSError: if the rank, or the resident process, could not be started.
        ValueError: the same, where the operating system has no number for it.

        In all cases nothing of the rank is left.
    """
    changed = ""
    for _ in range(_TRIES):
        waiting, asked = asked or ask(spec, function, slot, service), None
        try:
            return waiting.start()
        except _StaleError as error:
            changed = str(error)
    raise UnfitError(f"{changed} changes all the time")


def ask(spec: RankSpec, function: Function, slot: Slot, service: pool.Service) -> AskedRank:
    """Ask a resident process for the rank, and do not wait for it.

    Raises:
        pickle.PicklingError, pool.ServerGoneError, OSError: as ``start``.
    """
    # Without a directory of its own, the payload takes the rank to the launcher's.
    setting = pickle.dumps(astuple(inheritance.setting(spec)))
    sent = payload.create_payload(spec, function, slot, front=setting)
    with ExitStack() as stack:
        stack.callback(sent.close)
        stdout, stderr = stack.enter_context(streams.opened(spec.streams))
        server = pool.acquire(service)
        with ExitStack() as undo:
            undo.callback(server.release)
            report, theirs = socket.socketpair()
            stack.callback(theirs.close)
            undo.callback(report.close)
            report.setblocking(False)
            passed, gate = os.pipe()
            stack.callback(os.close, passed)
            undo.callback(descriptors.close_owned, descriptors.own(gate))
            server.ask_for_rank((theirs.fileno(), sent.file_fd, stdout, stderr, passed, *sent.fds))
            descriptors.own(report.fileno())
            undo.callback(descriptors.disown, report.fileno())
            return AskedRank(spec.rank, server=server, report=report, gate=gate, undo=undo.pop_all())


class AskedRank:
    """A rank that a resident process was asked for: it becomes one, and runs nothing before it is let. One of
    ``start`` and ``cancel`` must be called, once."""

    def __init__(
        self, rank: int, *, server: pool.ResidentProcess, report: socket.socket, gate: int, undo: ExitStack
    ) -> None:
        self._rank = rank
        self._server = server
        self._report = report
        self._gate = gate
        self._undo = undo

    def start(self) -> ServedProcess:
        """Let it run, when it is there; raises what ``start`` of this module does, and leaves nothing of it then."""
        with self._undo as undo:
            process = self._receive(undo)
            with suppress(BrokenPipeError):  # somebody has ended it meanwhile: its handle tells how
                os.write(self._gate, GO)
            undo.pop_all()
        descriptors.close_owned(self._gate)
        return process

    def cancel(self) -> None:
        """Have it end without having run anything. One that is not there yet ends when it finds nobody to report to."""
        descriptors.close_owned(self._gate)
        with self._undo as undo:
            if not exits.is_readable(self._report.fileno(), CANCEL_SECONDS):
                return
            try:
                process = self._receive(undo)
            except (OSError, ValueError, UnfitError, _StaleError):
                return
            undo.pop_all()
        if not exits.is_readable(process.exit_fd, CANCEL_SECONDS):
            process.signal(SIGKILL)
        process.reap()
        process.close()

    def _receive(self, undo: ExitStack) -> ServedProcess:
        line = _receive_line(self._report, self._server)
        _heed_refusal(line, self._server)
        pid = child_setup.read_report(line)
        # It stays in the process table until we ask otherwise, or close the socket: the number is its own.
        undo.callback(groups.signal_process, pid, None, SIGKILL)
        exit_fd = exits.open_exit_fd(pid, use_pidfd=True)
        descriptors.own(exit_fd.fileno())
        return ServedProcess(self._rank, pid, exit_fd=exit_fd, report=self._report, server=self._server)


class ServedProcess(Child):
    """A child of the resident process, which tells how it ended: ``peek`` may know that a moment after ``exit_fd``."""

    def __init__(
        self, rank: int, pid: int, *, exit_fd: exits.ExitFd, report: socket.socket, server: pool.ResidentProcess
    ) -> None:
        super().__init__(rank, pid, exit_fd)
        self._report = report
        self._server = server
        self._seen_at: float | None = None

    def close(self) -> None:
        """Close what the handle holds, and end the resident process if nobody else needs it. Idempotent."""
        with self._lock:
            self._look()
            if not self._close():
                return
            descriptors.disown(self._report.fileno())
            self._report.close()
        self._server.release()

    def _look(self) -> ExitStatus | None:
        if self._status is None and not self._exit_fd.closed and exits.is_readable(self._exit_fd.fileno()):
            self._status = self._read_status()
        return self._status

    def _read_status(self) -> ExitStatus | None:
        if exits.is_readable(self._report.fileno(), _REPORT_SECONDS):
            line = self._report.recv(child_setup.REPORT_LIMIT).decode()
            if line.startswith("exited "):
                return decode(line.split(" ", 2)[2])
            return self._ask_kernel()
        pidfd = self._exit_fd.pidfd
        if pidfd is not None and (status := status_before_reaping(self._pid, pidfd)) is not None:
            return status  # the resident process is stopped or not scheduled: the rank has not been reaped
        now = SYSTEM_CLOCK.now()
        self._seen_at = self._seen_at or now
        if now - self._seen_at < ANSWER_SECONDS:
            return None
        return ExitStatus(
            lost=f"{self._server} has not said in {ANSWER_SECONDS:g} s how process "
            f"{self._pid} ended; see whether it is stopped"
        )

    def _ask_kernel(self) -> ExitStatus | None:
        """The resident process was killed: the status is with who adopted the rank, us or init, or with the kernel."""
        pidfd = self._exit_fd.pidfd
        status = exits.peek(self._pid, self._exit_fd) if pidfd is None else status_of_ended(self._pid, pidfd)
        if status is not None and status.lost is not None:
            return ExitStatus(
                lost=f"{self._server}, which was to tell how process {self._pid} ended, "
                "was killed, and the kernel does not keep the status"
            )
        return status

    def _has_ended(self) -> bool:
        return self._exit_fd.closed or exits.is_readable(self._exit_fd.fileno())

    def _has_number(self) -> bool:
        # Without the resident process, whoever adopted an ended rank has reaped it.
        return not self._exit_fd.closed and (not self._has_ended() or self._server.alive)

    def _reap(self) -> bool:
        try:
            self._report.send(REAP, wire.NO_SIGPIPE)
        except OSError:
            exits.reap(self._pid, self._exit_fd)  # ours, if we adopt orphans
        else:
            # The end of the stream says that it is done. A resident process that is stopped does it when it goes on.
            while exits.is_readable(self._report.fileno(), _REAP_SECONDS) and self._unread_status():
                pass
        return True

    def _unread_status(self) -> bool:
        """Read the status that came after it was known from /proc; False at the end of the stream."""
        try:
            return bool(self._report.recv(child_setup.REPORT_LIMIT))
        except OSError:
            return False


def _receive_line(report: socket.socket, server: pool.ResidentProcess) -> bytes:
    """What the rank reports of its start, and nothing of what comes after."""
    if not exits.is_readable(report.fileno(), START_SECONDS):
        raise OSError(errno.ETIMEDOUT, f"{server} did not answer within {START_SECONDS:g} s")
    there = report.recv(child_setup.REPORT_LIMIT, socket.MSG_PEEK)
    if not there:
        raise server.gone()
    return report.recv(there.index(b"\n") + 1)


def _heed_refusal(line: bytes, server: pool.ResidentProcess) -> None:
    """Raise why the resident process does not fork; it will not for the next rank, either."""
    verb, _, text = line.decode().rstrip("\n").partition(" ")
    if verb in (STALE, UNFIT):
        server.dismiss()
        raise _StaleError(text) if verb == STALE else UnfitError(text)
