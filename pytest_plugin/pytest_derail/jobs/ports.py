"""Ports for a job or a test that no other job on this machine gets while it runs.

The number is outside the kernel's ephemeral range, from which it assigns ports on request. The port is claimed by the
name of an abstract socket: only one process in this network namespace can bind it, and the kernel frees it when the
process ends.
"""

from __future__ import annotations

import errno
import random
import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING

from derail.agents.invocation import LOOPBACK
from derail.faults.mechanisms.sockets import LISTENING, table
from derail.platform.ports import free_port, outside_of_the_ephemeral
from derail.platform.processes import every_pid
from derail.platform.shared_memory import open_files

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

TRIES = 1000  # random ports to try


class Port(int):
    """Number of a free TCP port on the loopback address, which no other job gets until its test is over.

    Servers that accept a bound socket take ``socket``, which can also be an argument of a function on ranks; others
    take the number.
    """

    _socket: socket.socket | None = None

    @property
    def socket(self) -> socket.socket:
        """Socket bound to the port, not listening yet; always the same one. It is closed at the end of the test."""
        if self._socket is None:
            bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            try:
                bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                bound.bind((LOOPBACK, self))
            except OSError:
                bound.close()
                raise
            self._socket = bound
        return self._socket

    def close(self) -> None:
        """Close the socket, if there is one. Idempotent."""
        if self._socket is not None:
            self._socket.close()

    def __reduce__(self) -> tuple[type[int], tuple[int]]:
        """Pickle the port as a plain number."""
        return int, (int(self),)


def listened_on(ports: Collection[int], ours: Callable[[int], bool]) -> list[int]:
    """Return those of these ports on which a process listens that belongs to ``ours``.

    Other users and other tests on the machine may take a port once it is free.
    """
    sockets = table("self").items() if ports else ()
    listening = {f"socket:[{inode}]": port for inode, (state, port, _) in sockets if state == LISTENING}
    wanted = {link: port for link, port in listening.items() if port in set(map(int, ports))}
    holders = every_pid() if wanted else ()
    return sorted({wanted[link] for pid in holders for link in open_files(pid) if link in wanted and ours(pid)})


@contextmanager
def claimed_port() -> Iterator[int]:
    """Claim a free TCP port on the loopback address; no other job gets it while the body runs."""
    candidates = outside_of_the_ephemeral()
    chance = random.SystemRandom()
    for _ in range(TRIES if candidates else 0):
        claim = _claim(port := chance.choice(candidates))
        if claim is not None:
            with claim:
                yield port
            return
    yield free_port()


def _claim(port: int) -> socket.socket | None:
    """Return the claim to a port, or None if another job has claimed it or a socket is bound to it."""
    claim = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        claim.bind(f"\0derail-port-{port}")
        for address in (LOOPBACK, "0.0.0.0"):
            with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
                probe.bind((address, port))
    except OSError as error:
        claim.close()
        if error.errno in (errno.EADDRINUSE, errno.EACCES):
            return None
        raise
    return claim
