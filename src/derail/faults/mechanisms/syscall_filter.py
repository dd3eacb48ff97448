"""Thread that answers the filtered system calls of one rank: it takes the listener from the shim, and decides each
call.

There is one watch per rank for all faults on its system calls: a process can have only one filter with a listener. The
thread ends when no process is left under the filter, or when it is stopped; calls that still wait then continue.
"""

from __future__ import annotations

import os
import select
import socket
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from derail.faults.model.results import Errored, Unavailable
from derail.model.clock import SYSTEM_CLOCK
from derail.platform.handshake import HandshakeListener, peer, proves
from derail.platform.proc_status import read_process_state
from derail.platform.seccomp import Listener
from derail.platform.threads import start_thread

if TYPE_CHECKING:
    from derail.faults.mechanisms.syscall_rules import Rule
    from derail.faults.model.results import Result
    from derail.platform.handshake import Endpoint
    from derail.platform.seccomp import Call

SHIM_COMES_WITHIN = 30.0
"""Seconds from the start of a rank to the connection of its shim."""
COMES_AGAIN = float("inf")
"""Deadline of a held call that expired while a signal had interrupted its caller."""


@dataclass(slots=True)
class Held:
    """System call that is held until a deadline."""

    call: Call
    since: float
    until: float
    errno: int
    counted: list[tuple[Rule, int]]


class Watch:
    """Owner of the listener of one rank. ``start`` it as soon as the rank runs, and ``stop`` it at the end.

    Attributes:
        lock: guards the rules; hold it to read or change one.
        rules: the rules; may grow until ``release``.
        problem: why no call can be filtered; None while there is no problem.
    """

    def __init__(self, pid: int) -> None:
        self.lock = threading.Lock()
        self.rules: list[Rule] = []
        self.problem: Result | None = None
        self._pid = pid
        self._held: dict[int, Held] = {}
        self._connection: socket.socket | None = None
        self._released = self._stopping = self._executed = False
        self._wake: tuple[socket.socket, socket.socket] | None = None
        self._open: list[socket.socket | HandshakeListener | Listener] = []
        self._thread: threading.Thread | None = None

    def start(self, endpoint: Endpoint) -> None:
        """Wait for the shim at an endpoint, in a new thread.

        Raises:
            OSError: if the socket cannot be made.
        """
        server = HandshakeListener(socket.SOCK_SEQPACKET).open_at(endpoint)
        try:
            self._wake = socket.socketpair()
        except OSError:
            server.close()
            raise
        self._open = [server, *self._wake]
        _watches.add(self)
        self._thread = threading.Thread(
            target=self._run, args=(server,), name=f"derail-syscalls-{self._pid}", daemon=True
        )
        start_thread(self._thread)

    def release(self) -> None:
        """Let the shim exec the rank's program: all rules that count from the first call are set."""
        self._released = True
        self._poke()

    def stop(self) -> None:
        """Let all waiting calls continue, and end the thread, which itself waits for no process. Idempotent."""
        self._stopping = True
        self._poke()
        if self._thread is not None:
            self._thread.join(5)

    @property
    def executed(self) -> bool:
        """Whether the rank's program has started: its exec closed the shim's end. Hold the lock."""
        if not self._executed and self._connection is not None:
            try:
                self._executed = self._connection.recv(16, socket.MSG_DONTWAIT) == b""
            except OSError:
                return False
        return self._executed

    def note_the_dead(self) -> None:
        """Record the held calls of callers that have ended. Hold the lock; for a caller that has just seen an exit."""
        for listener in self._open:
            if isinstance(listener, Listener):
                for tid, held in list(self._held.items()):
                    if not listener.is_waiting(held.call):
                        self._cut(self._held.pop(tid), SYSTEM_CLOCK.now())

    def close_copies(self) -> None:
        """Release the descriptors of the original in a forked copy, or held calls would outlive the original."""
        for thing in self._open:
            thing.abandon() if isinstance(thing, Listener) else thing.close()

    def _poke(self) -> None:
        if self._wake is not None:
            try:
                self._wake[1].send(b"!")
            except OSError:
                pass  # the thread has ended already

    def _run(self, server: HandshakeListener) -> None:
        try:
            connection = self._accept(server)
            if connection is not None:
                listener = self._take_listener(connection)
                if listener is not None:
                    self._serve(listener)
        except Exception as error:  # only the results of this rank's faults can report it
            with self.lock:
                self.problem = self.problem or Errored(
                    f"the thread that answers system calls failed: {type(error).__name__}: {error}"
                )
        finally:
            self._end()

    def _accept(self, server: HandshakeListener) -> socket.socket | None:
        """Return the connection of the rank's own process, authenticated by the secret of the job."""
        end = SYSTEM_CLOCK.now() + SHIM_COMES_WITHIN
        while self._wait(server, end):
            connection = server.accept()
            if connection is None:
                continue
            if peer(connection)[0] == self._pid and self._wait(connection, end):
                secret = connection.recv(256).decode(errors="replace")
                if proves(secret, server.endpoint.call):
                    connection.send(server.endpoint.reply.encode())
                    self._open.append(connection)
                    server.close()
                    return connection
            connection.close()
        self._note_silence(f"its shim did not connect within {SHIM_COMES_WITHIN:g} s")
        return None

    def _take_listener(self, connection: socket.socket) -> Listener | None:
        """Receive the listener, or the reason why there is none; the shim continues once all rules are set."""
        end = SYSTEM_CLOCK.now() + SHIM_COMES_WITHIN
        if not self._wait(connection, end):
            self._note_silence("its shim sent no listener")
            return None
        said, fds, _, _ = socket.recv_fds(connection, 4096, 1)
        if fds:
            os.set_inheritable(fds[0], False)
            listener = Listener(fds[0])
            self._open.append(listener)
        elif said:
            self.problem = Unavailable(f"rank's process (pid {self._pid}) {said.decode(errors='replace')}")
        while not self._released:
            if not self._wait(None, end):
                return None
        connection.send(b"go")
        self._connection = connection
        return listener if fds else None

    def _note_silence(self, what: str) -> None:
        if not self._stopping:
            with self.lock:
                self.problem = Errored(f"no system call of the rank (pid {self._pid}) was filtered: {what}")

    def _wait(self, thing: socket.socket | HandshakeListener | None, end: float) -> bool:
        """Wait for readable data or, without a socket, for a wake-up; return False after the deadline."""
        assert self._wake is not None, "it was started"
        poller = select.poll()
        poller.register(self._wake[0], select.POLLIN)
        if thing is not None:
            poller.register(thing, select.POLLIN)
        while not self._stopping:
            left = end - SYSTEM_CLOCK.now()
            if left <= 0:
                return False
            ready = [fd for fd, _ in poller.poll(left * 1000 + 1)]
            if self._wake[0].fileno() in ready:
                self._wake[0].recv(64)
                if thing is None:
                    return not self._stopping
            if thing is not None and thing.fileno() in ready:
                return not self._stopping
        return False

    def _serve(self, listener: Listener) -> None:
        assert self._wake is not None, "it was started"
        poller = select.poll()
        poller.register(self._wake[0], select.POLLIN)
        poller.register(listener.fileno(), select.POLLIN)
        while not self._stopping:
            ready = dict(poller.poll(self._until_next()))
            state = ready.get(listener.fileno(), 0)
            if self._wake[0].fileno() in ready:
                self._wake[0].recv(64)
            if state & select.POLLIN:
                call = listener.receive()
                if call is not None:
                    with self.lock:
                        if self.executed:
                            self.decide(listener, call)
                        else:
                            listener.let(call)
            elif state:
                return  # no process is left under the filter
            with self.lock:
                self._let_go(listener, SYSTEM_CLOCK.now())

    def _until_next(self) -> float | None:
        """Return the milliseconds until a held call expires; None if none is held."""
        until = min((held.until for held in self._held.values()), default=COMES_AGAIN)
        return None if until == COMES_AGAIN else max(0.0, (until - SYSTEM_CLOCK.now()) * 1000 + 1)

    def decide(self, listener: Listener, call: Call) -> None:
        """Answer a call of the rank's program, or hold it. Called with the lock."""
        if self._comes_again(call):
            return
        counted = [(rule, n) for rule in self.rules if (n := rule.count(call))]
        meant = [(rule, n) for rule, n in counted if rule.calls.has(n)]
        now = SYSTEM_CLOCK.now()
        delay = max((rule.delay for rule, _ in meant), default=0.0)
        errno = next((rule.errno for rule, _ in meant if rule.errno), 0)
        held = Held(call, now, now + delay, errno, meant)
        if delay > 0:
            self._held[call.tid] = held
        elif not self._answer(listener, held):
            for rule, _ in counted:  # the caller was interrupted: it drops the call or repeats it
                rule.seen -= 1

    def _comes_again(self, call: Call) -> bool:
        """Return whether this repeats a held call after a signal interrupted it; the call remains held."""
        held = self._held.get(call.tid)
        if held is None:
            return False
        # Compare the first argument only: registers beyond the arguments of a call hold arbitrary values.
        if (held.call.number, held.call.args[0]) == (call.number, call.args[0]):
            held.call = call
            if held.until == COMES_AGAIN:
                held.until = SYSTEM_CLOCK.now()
            return True
        self._cut(self._held.pop(call.tid), SYSTEM_CLOCK.now())
        return False

    def _let_go(self, listener: Listener, now: float, *, all_: bool = False) -> None:
        for tid, held in list(self._held.items()):
            if now >= held.until:
                if self._answer(listener, held):
                    del self._held[tid]
                elif (caller := read_process_state(tid)) is None or caller.ended:
                    self._cut(self._held.pop(tid), now)
                else:
                    held.until = COMES_AGAIN
            elif all_:
                del self._held[tid]
                listener.let(held.call)
                self._cut(held, now)

    def _answer(self, listener: Listener, held: Held) -> bool:
        if not (listener.fail(held.call, held.errno) if held.errno else listener.let(held.call)):
            return False
        for rule, n in held.counted:
            if not rule.errno or rule.errno == held.errno:
                rule.answered.append(n)
        return True

    @staticmethod
    def _cut(held: Held, now: float) -> None:
        for rule, n in held.counted:
            if rule.delay:
                rule.cut.append((n, now - held.since))

    def _end(self) -> None:
        """Let all calls continue, and close everything."""
        _watches.discard(self)
        with self.lock:
            self._executed = self.executed
            things, self._open = self._open, []
            for thing in things:
                if isinstance(thing, Listener):
                    self._let_go(thing, SYSTEM_CLOCK.now(), all_=True)
                thing.close()


_watches: set[Watch] = set()


def _close_copies() -> None:
    for watch in list(_watches):
        watch.close_copies()
    _watches.clear()


os.register_at_fork(after_in_child=_close_copies)
