"""TCP ports that nobody has, and that nobody gets by chance."""

from __future__ import annotations

from pathlib import Path

EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")
LOWEST, HIGHEST = 15000, 65535
FEWEST = 1000
"""Ports to choose from that make it worth while."""
TRIES = 100


def free_port(address: str = "127.0.0.1") -> int:
    """A TCP port that nobody has bound.

    It is free again when this returns, until rank 0 binds it, and nothing holds it meanwhile. (A socket that holds it
    would make every server fail that does not set SO_REUSEADDR, and an environment variable cannot hand a socket over.)
    So it is one that the kernel hands to nobody who asks for any, if there are such.
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


def outside_of_the_ephemeral() -> range:
    """The ports that the kernel hands to nobody who asks for any; none if that is not told, or there are few."""
    try:
        low, high = map(int, EPHEMERAL.read_text(encoding="ascii").split())
    except (OSError, ValueError):
        return range(0)
    below, above = range(LOWEST, low), range(high + 1, HIGHEST)
    return max(below, above, key=len) if max(len(below), len(above)) >= FEWEST else range(0)
