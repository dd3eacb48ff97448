"""The floor: what a launcher costs that does nothing but start programs and wait for them. It keeps no promise."""

from __future__ import annotations

import os
import select
import signal
import time


class Floor:
    """posix_spawn, one pidfd each, one epoll; with ``tee``, a pipe each, and its whole lines written with a prefix."""

    def __init__(self, program: str, args: list[tuple[str, ...]], *, tee: bool = False) -> None:
        self.epoll = select.epoll()
        self.ranks: dict[int, int] = {}  # pidfd -> rank
        self.pipes: dict[int, int] = {}
        self.rests: dict[int, bytes] = {}
        self.pids: dict[int, int] = {}
        self.seen: dict[int, int] = {}
        self.failed = False
        for rank, words in enumerate(args):
            actions = []
            if tee:
                read, write = os.pipe()
                actions = [(os.POSIX_SPAWN_DUP2, write, 1)]
            pid = os.posix_spawnp(program, [program, *words], os.environ, setsid=True, file_actions=actions)
            self.pids[rank], pidfd = pid, os.pidfd_open(pid)
            self.ranks[pidfd] = rank
            self.epoll.register(pidfd, select.EPOLLIN)
            if tee:
                os.close(write)
                self.pipes[read] = rank
                self.epoll.register(read, select.EPOLLIN)

    def wait(self, timeout: float = -1, period: float = 1) -> bool:
        """True if all have ended; the first that fails is the end of the others."""
        end = None if timeout < 0 else time.monotonic() + timeout
        while self.ranks or self.pipes:
            left = None if end is None else end - time.monotonic()
            if left is not None and left <= 0:
                return False
            for fd, _ in self.epoll.poll(left):
                if fd in self.pipes:
                    self._copy(fd)
                else:
                    self._bury(fd)
        return True

    def close(self) -> None:
        """SIGTERM to all, and wait."""
        for pidfd in self.ranks:
            signal.pidfd_send_signal(pidfd, signal.SIGTERM)
        self.wait()
        self.epoll.close()

    def _bury(self, pidfd: int) -> None:
        rank = self.ranks.pop(pidfd)
        self.seen[rank] = time.monotonic_ns()
        ended = os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
        self.epoll.unregister(pidfd)  # closing is not enough while anybody holds a copy
        os.close(pidfd)
        if ended is not None and ended.si_status != 0 and not self.failed:
            self.failed = True
            for other in self.ranks:
                signal.pidfd_send_signal(other, signal.SIGTERM)

    def _copy(self, fd: int) -> None:
        rank = self.pipes[fd]
        data = os.read(fd, 1 << 16)
        whole, newline, rest = (self.rests.pop(fd, b"") + data).rpartition(b"\n")
        self.rests[fd] = rest
        prefix = b"[bench%d]:" % rank
        out = memoryview(prefix + whole.replace(b"\n", b"\n" + prefix) + newline if newline else b"")
        while out:
            out = out[os.write(1, out) :]
        if not data:
            self.epoll.unregister(fd)
            os.close(fd)
            del self.pipes[fd]
