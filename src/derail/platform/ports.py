"""Free TCP ports outside the range from which the kernel assigns ports."""

from __future__ import annotations

from pathlib import Path

EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")
LOWEST, HIGHEST = 15000, 65535
FEWEST = 1000
"""Minimum number of ports in a range for it to be used."""
TRIES = 100
LOOPBACKS = ("127.0.0.1", "localhost", "::1")
"""Names of this machine under which only its own processes reach a server."""


def free_port(address: str = "127.0.0.1") -> int:
    """Return a TCP port that no process has bound.

    It is unbound when this returns, and not reserved until rank 0 binds it. A socket that reserves it would break
    every server without SO_REUSEADDR, and an environment variable cannot pass a socket. So it is outside the range
    from which the kernel assigns ports, if that leaves enough.
    """
    import random
    import socket

    candidates = outside_of_the_ephemeral()
    for port in random.SystemRandom().sample(candidates, min(TRIES, len(candidates))):
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            try:
                probe.bind((address, port))
            except OSError:
                continue
            return port
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind((address, 0))
        return int(probe.getsockname()[1])


def why_not_free(port: int) -> OSError | None:
    """Return why no server of this machine can listen at a TCP port on all its addresses; None if one can.

    Connections of a server that has ended do not count.
    """
    import socket

    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
            probe.listen(1)
        except OSError as error:
            return error
    return None


def outside_of_the_ephemeral() -> range:
    """Return ports that the kernel does not assign by itself; none if the range is unknown, or leaves too few."""
    try:
        low, high = map(int, EPHEMERAL.read_text(encoding="ascii").split())
    except (OSError, ValueError):
        return range(0)
    below, above = range(LOWEST, low), range(high + 1, HIGHEST)
    return max(below, above, key=len) if max(len(below), len(above)) >= FEWEST else range(0)
