"""A rank that is forked by a zygote: the launcher's request and handle."""

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
"""Maximum seconds until the first rank exists: the zygote imports the preloaded modules before."""

ANSWER_SECONDS = 5.0
"""Maximum seconds from a rank's exit until its zygote reports the status; else the status is lost."""

_REPORT_SECONDS = 0.001  # a status arrives within microseconds; this wait prevents a tight loop of queries
_REAP_SECONDS = 0.2
CANCEL_SECONDS = 2.0
"""Maximum seconds for a rank that was requested in vain to exist, and to end."""

_TRIES = 3


class _StaleError(Exception):
    """A source file that has changed since the zygote imported it."""


def start(
    spec: RankSpec, function: Function, slot: Slot, service: pool.Service, asked: AskedRank | None = None
) -> ServedProcess:
    """Have the rank forked by a zygote, and return when it has its own session, streams and environment.

    Args:
        spec: the rank.
        function: what it runs.
        slot: descriptors for its value.
        service: properties of the zygote.
        asked: the rank, if it was requested before.

    Raises:
        pickle.PicklingError: if the function or an argument cannot be sent.
        UnfitError: if the zygote refuses to fork.
        pool.ServerGoneError: if it ended in between.
        OSError: if the rank, or the zygote, could not be started.
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
    """Request the rank from a zygote, without waiting for it.

    Raises:
        pickle.PicklingError, pool.ServerGoneError, OSError: as ``start``.
    """
    # Without a directory in the spec, the payload moves the rank to the launcher's.
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
    """A requested rank: the zygote forks it, and it runs nothing before ``start``.

    One of ``start`` and ``cancel`` must be called, once.
    """

    def __init__(
        self, rank: int, *, server: pool.ZygoteProcess, report: socket.socket, gate: int, undo: ExitStack
    ) -> None:
        self._rank = rank
        self._server = server
        self._report = report
        self._gate = gate
        self._undo = undo

    def start(self) -> ServedProcess:
        """Let it run once it is ready; raises as ``start`` of this module, and leaves nothing of it then."""
        with self._undo as undo:
            process = self._receive(undo)
            with suppress(BrokenPipeError):  # it was killed in between: its handle reports the status
                os.write(self._gate, GO)
            undo.pop_all()
        descriptors.close_owned(self._gate)
        return process

    def cancel(self) -> None:
        """End it before it runs anything. One that is not ready yet ends when its report has no reader."""
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
        # It stays in the process table until we request otherwise, or close the socket: its pid is not reused.
        undo.callback(groups.signal_process, pid, None, SIGKILL)
        exit_fd = exits.open_exit_fd(pid, use_pidfd=True)
        descriptors.own(exit_fd.fileno())
        return ServedProcess(self._rank, pid, exit_fd=exit_fd, report=self._report, server=self._server)


class ServedProcess(Child):
    """A child of the zygote, which reports its exit status: ``peek`` may have it only a moment after ``exit_fd``."""

    def __init__(
        self, rank: int, pid: int, *, exit_fd: exits.ExitFd, report: socket.socket, server: pool.ZygoteProcess
    ) -> None:
        super().__init__(rank, pid, exit_fd)
        self._report = report
        self._server = server
        self._seen_at: float | None = None

    def close(self) -> None:
        """Close the handle's resources, and end the zygote if it has no other user. Idempotent."""
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
            return status  # the zygote is stopped or not scheduled: the rank has not been reaped
        now = SYSTEM_CLOCK.now()
        self._seen_at = self._seen_at or now
        if now - self._seen_at < ANSWER_SECONDS:
            return None
        return ExitStatus(
            lost=f"{self._server} has not reported within {ANSWER_SECONDS:g} s how process "
            f"{self._pid} ended; check whether it is stopped"
        )

    def _ask_kernel(self) -> ExitStatus | None:
        """Return the status after the zygote was killed: from the rank's new parent, us or init, or from the kernel."""
        pidfd = self._exit_fd.pidfd
        status = exits.peek(self._pid, self._exit_fd) if pidfd is None else status_of_ended(self._pid, pidfd)
        if status is not None and status.lost is not None:
            return ExitStatus(
                lost=f"{self._server}, which reports how process {self._pid} ended, "
                "was killed, and the kernel does not keep the status"
            )
        return status

    def _has_ended(self) -> bool:
        return self._exit_fd.closed or exits.is_readable(self._exit_fd.fileno())

    def _has_number(self) -> bool:
        # Without the zygote, the new parent of an ended rank has reaped it.
        return not self._exit_fd.closed and (not self._has_ended() or self._server.alive)

    def _reap(self) -> bool:
        try:
            self._report.send(REAP, wire.NO_SIGPIPE)
        except OSError:
            exits.reap(self._pid, self._exit_fd)  # ours, if we adopt orphans
        else:
            # The end of the stream confirms it. A stopped zygote does it when it continues.
            while exits.is_readable(self._report.fileno(), _REAP_SECONDS) and self._unread_status():
                pass
        return True

    def _unread_status(self) -> bool:
        """Read a status that arrived after /proc had shown it; return False at the end of the stream."""
        try:
            return bool(self._report.recv(child_setup.REPORT_LIMIT))
        except OSError:
            return False


def _receive_line(report: socket.socket, server: pool.ZygoteProcess) -> bytes:
    """Return the rank's report of its start, and leave later data unread."""
    if not exits.is_readable(report.fileno(), START_SECONDS):
        raise OSError(errno.ETIMEDOUT, f"{server} did not answer within {START_SECONDS:g} s")
    peeked = report.recv(child_setup.REPORT_LIMIT, socket.MSG_PEEK)
    if not peeked:
        raise server.gone()
    return report.recv(peeked.index(b"\n") + 1)


def _heed_refusal(line: bytes, server: pool.ZygoteProcess) -> None:
    """Raise the zygote's reason not to fork; it would refuse the next rank as well."""
    verb, _, text = line.decode().rstrip("\n").partition(" ")
    if verb in (STALE, UNFIT):
        server.dismiss()
        raise _StaleError(text) if verb == STALE else UnfitError(text)
