"""Connections that break, and names that do not resolve; and how ranks find each other (rendezvous.py)."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

from derail.faults.catalogue.entry import Acts, Entry, Param, Requires, Setup
from derail.faults.catalogue.injector_api import Soon
from derail.faults.catalogue.params import choice_param, count_param, read_text
from derail.faults.injectors import rendezvous
from derail.faults.injectors.resources import living
from derail.faults.mechanisms.namespaces import enter, is_elsewhere
from derail.faults.mechanisms.namespaces import why_not as no_namespaces
from derail.faults.mechanisms.sockets import ESTABLISHED, disconnect, established, stolen, table
from derail.faults.mechanisms.sockets import why_not as no_stealing
from derail.faults.model.results import Errored, Injected, NotReached
from derail.platform.capabilities import PROC

if TYPE_CHECKING:
    from derail.faults.catalogue.injector_api import Aim, Step
    from derail.faults.model.results import Result
    from derail.model.exit import ExitStatus

FOREVER = float("inf")


def sever(aim: Aim) -> Step:
    """Shut connections down through duplicates of the rank's own descriptors."""
    return _break(aim, "shut down")


def reset(aim: Aim) -> Step:
    """Abort connections through duplicates of the rank's own descriptors."""
    return _break(aim, "reset")


def _break(aim: Aim, deed: str) -> Step:
    pid = living(aim)
    if pid is None:
        return NotReached("the rank had ended before its connections could be broken")
    ports = [(int(aim.number("peer_port")), "peer_port"), (int(aim.number("local_port")), "local_port")]
    have = established(pid)
    meant = [each for each in have if all(port in (0, getattr(each, name)) for port, name in ports)]
    if not meant:
        others = f"; it has {', '.join(map(str, have))}" if have else ""
        return NotReached(f"rank {aim.rank} (pid {pid}) has no established TCP connection that is meant{others}")
    for each in meant:
        with stolen(pid, each.fd) as fd:
            if os.fstat(fd).st_ino != each.inode:
                return Errored(f"descriptor {each.fd} of pid {pid} became something else meanwhile")
            if deed == "reset":
                disconnect(fd)
            else:
                with socket.socket(fileno=os.dup(fd)) as mine:
                    mine.shutdown(socket.SHUT_RDWR)
    after = table(pid)
    alive = [str(each) for each in meant if after.get(each.inode, (0, 0, 0))[0] == ESTABLISHED]
    if alive:
        return Errored(f"still established in /proc/{pid}/net/tcp: {', '.join(alive)}")
    what = ", ".join(map(str, meant))
    return Injected(f"{deed}: {what} of pid {pid}; no longer established in /proc/{pid}/net/tcp")


def no_names(aim: Aim) -> Step:
    """The rank has said that names do not resolve: it must have asked for one."""
    names = ", ".join(aim.texts("names"))

    def check() -> Result | None:
        lookups = [record for record in aim.records if record["event"] == "lookup"]
        if not lookups:
            return None
        return Injected(
            f"{lookups[0].get('call')}({lookups[0].get('name')!r}) was told {aim.text('error')} in the rank"
        )

    def at_exit(status: ExitStatus) -> Result:
        return NotReached(f"the rank never asked for {names}; it ended with {status}")

    return Soon(check, f"a look-up of {names}", within=FOREVER, at_exit=at_exit)


def loopback_down(aim: Aim) -> Step:
    """The rank was started with a network of its own, in which nothing is up."""
    pid = aim.control.pid(aim.rank) or 0

    def check() -> Result | None:
        if living(aim) is None or not is_elsewhere(pid, "net"):
            return None
        net = PROC / str(pid) / "net"
        try:
            devices = [line.split(":")[0].strip() for line in (net / "dev").read_text().splitlines() if ":" in line]
            routes = (net / "fib_trie").read_text()
        except OSError:
            return None
        if devices != ["lo"] or "127.0.0.1" in routes:
            return None
        return Injected(f"pid {pid} has a network namespace of its own: only lo in {net}/dev, no address in fib_trie")

    def at_exit(status: ExitStatus) -> Result:
        return Errored(f"the rank ended with {status} before its network was seen; its stderr may say why")

    return Soon(check, f"a network without addresses in /proc/{pid}/net", within=20.0, at_exit=at_exit)


def _read_names(value: object) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or not value or not all(isinstance(name, str) and name for name in value):
        raise ValueError(f"expected a list of host names like ['node0'], or ['*'] for all, got {value!r}")
    return tuple(dict.fromkeys(read_text(name) for name in value))


PORTS = (
    count_param("peer_port", "Only connections to this port of the peer; 0 for any.", default=0, most=65535),
    count_param("local_port", "Only connections from this port of the rank; 0 for any.", default=0, most=65535),
)
STEALING = "pidfd_getfd: ptrace rights on the rank, which a parent of the same user has unless a filter forbids it"

ENTRIES = (
    Entry(
        name="sever",
        side="outside",
        summary="Shuts established TCP connections of a rank down: both ends read the end, and writing is EPIPE.",
        inject=sever,
        verified="no longer established in /proc/PID/net/tcp",
        healed="",
        example='faults.sever(peer_port=29500, rank=1, when=when.line("step 2"))',
        params=PORTS,
        requires=Requires(STEALING, unavailable=no_stealing),
    ),
    Entry(
        name="reset",
        side="outside",
        summary="Aborts established TCP connections of a rank: the peer gets a RST, and the rank ECONNRESET.",
        inject=reset,
        verified="no longer established in /proc/PID/net/tcp",
        healed="",
        example='faults.reset(rank=1, when=when.line("step 2"))',
        params=PORTS,
        requires=Requires(STEALING, unavailable=no_stealing),
    ),
    Entry(
        name="dns_failure",
        side="in rank",
        summary="Host names do not resolve in the rank: socket.getaddrinfo and all that uses it raise gaierror.",
        inject=no_names,
        verified="by the rank's own record of a look-up that was told so",
        healed="after `for_` seconds names resolve again",
        example='faults.dns_failure(["node0"], rank=1)',
        params=(
            Param("names", _read_names, 'Which names; ["*"] for all, addresses in digits not.', "names", required=True),
            choice_param("error", ("EAI_AGAIN", "EAI_NONAME", "EAI_FAIL"), "What is said.", default="EAI_AGAIN"),
        ),
        requires=Requires("Python in the rank, started without -S, -I and -E"),
        acts=Acts(lasts=True),
    ),
    Entry(
        name="loopback_down",
        side="before start",
        summary="The rank has no network at all, not even the loopback.",
        inject=loopback_down,
        verified="only lo in /proc/PID/net/dev, no address in /proc/PID/net/fib_trie, another namespace than ours",
        healed="it ends with the rank",
        example="faults.loopback_down(rank=1)",
        acts=Acts(triggers=("start",)),
        requires=Requires(
            "a rank that is a program; a network namespace, as an ordinary user inside a user namespace",
            unavailable=lambda: no_namespaces("net"),
        ),
        setup=Setup(prepare=lambda rank, fault: enter(rank, fault, {"namespaces": ["net"]})),
    ),
    *rendezvous.ENTRIES,
)
