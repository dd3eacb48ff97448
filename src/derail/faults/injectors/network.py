"""Connections that break, names that do not resolve, and how ranks find each other: store, port, environment."""

from __future__ import annotations

import os
import signal
import socket
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from derail.faults.catalogue.entry import Acts, Entry, Param, Requires, Setup
from derail.faults.catalogue.injector_api import FOREVER, AtExit, Soon
from derail.faults.catalogue.params import (
    choice_param,
    count_param,
    flag_param,
    read_text,
    seconds_param,
    size_param,
    text_param,
)
from derail.faults.injectors.resources import living
from derail.faults.mechanisms.namespaces import enter, is_elsewhere
from derail.faults.mechanisms.namespaces import why_not as no_namespaces
from derail.faults.mechanisms.rendezvous_proxy import (
    check_proxy,
    hold_port,
    keep_port,
    listen,
    note_port,
    prepare_port,
    prepare_proxy,
    proxy,
    spoil,
    take_port,
)
from derail.faults.mechanisms.sockets import ESTABLISHED, LISTENING, disconnect, established, stolen, table
from derail.faults.mechanisms.sockets import why_not as no_stealing
from derail.faults.model.results import Errored, Injected, NotReached
from derail.faults.model.triggers import OwnExit
from derail.model.input_error import InputError
from derail.model.spec import Function
from derail.platform.capabilities import PROC, why_no_proc
from derail.platform.processes import group_members

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from derail.faults.catalogue.injector_api import Aim, Step
    from derail.faults.model.plan import Fault, Value
    from derail.faults.model.results import Result
    from derail.model.exit import ExitStatus
    from derail.model.spec import RankSpec


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


def kill_store(aim: Aim) -> Step:
    """Kill whoever listens on the port, among the processes of the rank."""
    pid = living(aim)
    if pid is None:
        return NotReached("the rank had ended before its store could be killed")
    port = int(aim.number("port")) or _port_of(pid, aim.text("port_variable"))
    if not port:
        return NotReached(f"{aim.text('port_variable')} of pid {pid} says no port")
    server = next((each for each in {pid, *group_members(pid)} if _listener(each, port)), None)
    if server is None:
        return NotReached(f"no process of rank {aim.rank} listens on port {port} in /proc/{pid}/net/tcp")
    inode = _listener(server, port)
    told = f"pid {server}, which listened on port {port} (socket {inode}), was killed"
    if server == pid:
        aim.control.send_signal(aim.rank, signal.SIGKILL)
        return AtExit(partial(_killed, told), "an exit by SIGKILL")
    os.kill(server, signal.SIGKILL)

    def check() -> Result | None:
        still = table(pid).get(inode, (0, 0, 0))[0] == LISTENING
        return None if still else Injected(f"{told}; the socket listens no more in /proc/{pid}/net/tcp")

    return Soon(check, f"the end of socket {inode}", at_exit=lambda status: Injected(f"{told}; the rank: {status}"))


def _killed(told: str, status: ExitStatus) -> Result:
    ended = f"{told}; the rank ended with {status}"
    return Injected(ended) if status.signal == signal.SIGKILL else Errored(ended)


def _port_of(pid: int, variable: str) -> int:
    value = environment_of(pid).get(variable, "")
    return int(value) if value.isdigit() else 0


def _listener(pid: int, port: int) -> int:
    """The inode of the socket with which a process listens on a port; 0 if it does not."""
    listening = {inode for inode, (state, local, _) in table(pid).items() if (state, local) == (LISTENING, port)}
    try:
        links = [os.readlink(PROC / str(pid) / "fd" / fd) for fd in os.listdir(PROC / str(pid) / "fd")]
    except OSError:
        return 0
    return next((inode for inode in listening if f"socket:[{inode}]" in links), 0)


VARIABLES = (
    text_param("address_variable", "The environment variable that says where.", default="MASTER_ADDR"),
    text_param("port_variable", "The environment variable that says on which port.", default="MASTER_PORT"),
)
PROXIED = "a rank that finds its peers by environment variables, and is not the one that listens there"
LATENCY = seconds_param("latency", "Seconds by which everything is late.", default=0.1)
JITTER = seconds_param("jitter", "Up to so many seconds more, chosen by the seed.", default=0.0)
HOW_MUCH = {
    "bandwidth": size_param("bandwidth", "Bytes per second and direction.", default=2**20),
    "slice": size_param("slice", "Bytes that are passed on at a time.", default=100),
    "reset_after": count_param("reset_after", "Bytes after which a connection is reset.", default=0),
    "close_after": count_param("close_after", "Bytes after which a connection is closed.", default=0),
    "refuse": count_param("refuse", "How many connections are reset at once.", default=1, least=1),
}


def _net(name: str, summary: str, example: str, *params: Param, **fixed: Any) -> Entry:
    """One thing that the proxy does, under a name of its own."""
    return Entry(
        name=name,
        side="before start",
        summary=summary,
        inject=partial(spoil, **fixed),
        verified="by what the proxy counted",
        healed="the proxy ends, and its connections with it",
        example=example,
        params=(*params, *VARIABLES),
        acts=Acts(triggers=("start",)),
        requires=Requires(PROXIED),
        check=(lambda _: "") if fixed else check_proxy,
        setup=Setup(prepare=prepare_proxy, await_rank=listen),
    )


def environment_of(pid: int) -> dict[str, str]:
    """What a process was started with; empty if that cannot be seen, or not yet."""
    try:
        pairs = (PROC / str(pid) / "environ").read_bytes().split(b"\0")
    except OSError:
        return {}
    return dict(pair.decode(errors="surrogateescape").split("=", 1) for pair in pairs if b"=" in pair)


Change = tuple[str, str | None]
"""A variable of the environment, and what it is to be; None for nothing."""


def _wrong_address(values: Mapping[str, Value]) -> Change:
    return str(values["variable"]), str(values["address"])


def _wrong_size(values: Mapping[str, Value]) -> Change:
    return "WORLD_SIZE", str(values["size"])


def _other_rank(values: Mapping[str, Value]) -> Change:
    return "RANK", str(values["as_rank"])


def _no_variable(values: Mapping[str, Value]) -> Change:
    return str(values["variable"]), None


def _prepare(change: Callable[[Mapping[str, Value]], Change], rank: RankSpec, fault: Fault) -> RankSpec:
    name, value = change(fault.values)
    if isinstance(rank.run, Function):
        raise InputError(
            f"{fault.name} on rank {rank.rank}: the environment of a function cannot be seen from outside, and this "
            f"rank is one; run a program ({fault.id})"
        )
    if rank.env.get(name) == value:
        raise InputError(f"{fault.name} on rank {rank.rank}: {name} is {value!r} already ({fault.id})")
    env = {key: old for key, old in rank.env.items() if key != name}
    return replace(rank, env=env if value is None else {**env, name: value})


def _seen(change: Callable[[Mapping[str, Value]], Change], aim: Aim) -> Step:
    """The rank was started with another environment: the kernel shows it."""
    pid = living(aim)
    if pid is None:
        return NotReached("the rank had ended before its environment could be seen")
    name, value = change(aim.fault.values)

    def check() -> Result | None:
        found = environment_of(pid)
        if not found or found.get(name) != value:
            return None  # in the middle of an exec the kernel shows nothing
        return Injected(f"/proc/{pid}/environ has {f'no {name}' if value is None else f'{name}={value}'}")

    def at_exit(status: ExitStatus) -> Result:
        return Errored(f"the rank ended with {status} before its environment was seen")

    return Soon(check, f"{name} in /proc/{pid}/environ", at_exit=at_exit)


def _environ(
    name: str, summary: str, change: Callable[[Mapping[str, Value]], Change], example: str, *params: Param
) -> Entry:
    """An environment that is wrong in one variable."""
    return Entry(
        name=name,
        side="before start",
        summary=summary,
        inject=partial(_seen, change),
        verified="the variable in /proc/PID/environ of the rank",
        healed="",
        example=example,
        params=params,
        acts=Acts(triggers=("start",)),
        requires=Requires("a rank that is a program; /proc", unavailable=why_no_proc),
        setup=Setup(prepare=partial(_prepare, change)),
    )


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
    Entry(
        name="proxy",
        side="before start",
        summary="Sends a rank to MASTER_ADDR and MASTER_PORT through a proxy that delays, thins out or cuts it.",
        inject=proxy,
        verified="by what the proxy counted, for each thing that it is to do",
        healed="the proxy ends, and its connections with it",
        example="faults.proxy(latency=0.2, rank=1)",
        params=(
            replace(LATENCY, default=0.0),
            JITTER,
            size_param("bandwidth", "Bytes per second and direction; 0 for no limit.", default=0),
            size_param("slice", "Bytes that are passed on at a time; 0 for as they come.", default=0),
            flag_param("black_hole", "Whether all bytes are swallowed while connections stay."),
            choice_param(
                "half_open", ("no", "to_rank", "from_rank"), "Which direction is swallowed, if only one.", default="no"
            ),
            count_param("reset_after", "Bytes after which a connection is reset; -1 for never.", default=-1, least=-1),
            count_param("close_after", "Bytes after which a connection is closed; -1 for never.", default=-1, least=-1),
            count_param("refuse", "How many connections are first reset at once.", default=0),
            *VARIABLES,
        ),
        acts=Acts(triggers=("start",)),
        requires=Requires(PROXIED),
        check=check_proxy,
        setup=Setup(prepare=prepare_proxy, await_rank=listen),
    ),
    _net(
        "net_latency",
        "Everything between a rank and MASTER_ADDR comes late.",
        "faults.net_latency(0.2, jitter=0.1, rank=1)",
        LATENCY,
        JITTER,
    ),
    _net(
        "net_bandwidth",
        "Little gets through between a rank and MASTER_ADDR in a second.",
        'faults.net_bandwidth("64K", rank=1)',
        HOW_MUCH["bandwidth"],
    ),
    _net(
        "net_slices",
        "Messages between a rank and MASTER_ADDR arrive in small pieces.",
        "faults.net_slices(10, rank=1)",
        HOW_MUCH["slice"],
    ),
    _net(
        "net_black_hole",
        "Connections between a rank and MASTER_ADDR stay, and nothing gets through.",
        "faults.net_black_hole(rank=1)",
        black_hole=True,
    ),
    _net(
        "net_half_open",
        "Connections between a rank and MASTER_ADDR stay, and only one direction gets through.",
        'faults.net_half_open("to_rank", rank=1)',
        choice_param("half_open", ("to_rank", "from_rank"), "Which direction is swallowed.", default="to_rank"),
    ),
    _net(
        "net_reset",
        "Connections between a rank and MASTER_ADDR are reset after so many bytes.",
        "faults.net_reset(4096, rank=1)",
        HOW_MUCH["reset_after"],
    ),
    _net(
        "net_close",
        "Connections between a rank and MASTER_ADDR are closed after so many bytes.",
        "faults.net_close(4096, rank=1)",
        HOW_MUCH["close_after"],
    ),
    _net(
        "net_refuse",
        "The first connections of a rank to MASTER_ADDR are reset at once.",
        "faults.net_refuse(2, rank=1)",
        HOW_MUCH["refuse"],
    ),
    Entry(
        name="port_taken",
        side="before start",
        summary="Somebody else listens on MASTER_PORT, so that the rank that is to listen there cannot.",
        inject=take_port,
        verified="our socket listens on the port in /proc/self/net/tcp",
        healed="the port is given up",
        example="faults.port_taken(rank=0)",
        params=VARIABLES,
        acts=Acts(triggers=("start",), lasts=True),
        requires=Requires("an address of this machine in the rank's environment; /proc", unavailable=why_no_proc),
        setup=Setup(prepare=prepare_port, await_rank=hold_port),
    ),
    Entry(
        name="port_kept",
        side="outside",
        summary="From the rank's exit on another process listens on its MASTER_PORT; the next attempt needs another.",
        inject=keep_port,
        verified="our socket listens on the port in /proc/self/net/tcp",
        healed="the port is given up",
        example="faults.port_kept(rank=0)",
        params=VARIABLES,
        acts=Acts(triggers=("own_exit",), default=OwnExit()),
        requires=Requires("an address of this machine in the rank's environment; /proc", unavailable=why_no_proc),
        setup=Setup(begin=note_port),
    ),
    Entry(
        name="store_dies",
        side="outside",
        summary="Kills the process of a rank (itself, or one of its group) that listens on MASTER_PORT.",
        inject=kill_store,
        verified="the status of the rank's exit, or its socket gone from /proc/PID/net/tcp",
        healed="",
        example='faults.store_dies(rank=0, when=when.line("step 2"))',
        params=(
            count_param("port", "Which port; 0 for what the variable says.", default=0, most=65535),
            text_param("port_variable", "The variable of the rank that says which.", default="MASTER_PORT"),
        ),
        requires=Requires("/proc", unavailable=why_no_proc),
    ),
    _environ(
        "wrong_address",
        "A rank looks for its peers at another address.",
        _wrong_address,
        'faults.wrong_address("127.0.0.254", rank=1)',
        Param("address", read_text, "The address that it is told.", "text", default="127.0.0.254"),
        text_param("variable", "The environment variable that says where.", default="MASTER_ADDR"),
    ),
    _environ(
        "wrong_world_size",
        "A rank believes in another number of ranks.",
        _wrong_size,
        "faults.wrong_world_size(5, rank=1)",
        replace(count_param("size", "What WORLD_SIZE says.", default=0, least=1), required=True, default=None),
    ),
    _environ(
        "duplicate_rank",
        "A rank believes to be another one, which is there too.",
        _other_rank,
        "faults.duplicate_rank(0, rank=1)",
        count_param("as_rank", "What RANK says.", default=0),
    ),
    _environ(
        "missing_variable",
        "A variable is missing in the environment of a rank.",
        _no_variable,
        'faults.missing_variable("MASTER_ADDR", rank=1)',
        replace(text_param("variable", "Which variable.", default=""), required=True, default=None),
    ),
)
