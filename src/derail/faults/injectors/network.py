"""Broken connections, failing name resolution, and wrong rendezvous data: store, port, environment."""

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
    prepare_kept_port,
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
        return NotReached(f"rank {aim.rank} (pid {pid}) has no matching established TCP connection{others}")
    for each in meant:
        with stolen(pid, each.fd) as fd:
            if os.fstat(fd).st_ino != each.inode:
                return Errored(f"descriptor {each.fd} of pid {pid} was replaced before it could be broken")
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
    """Verify that the rank has looked up one of the names."""
    names = ", ".join(aim.texts("names"))

    def check() -> Result | None:
        lookups = [record for record in aim.records if record["event"] == "lookup"]
        if not lookups:
            return None
        return Injected(
            f"{lookups[0].get('call')}({lookups[0].get('name')!r}) failed with {aim.text('error')} in the rank"
        )

    def at_exit(status: ExitStatus) -> Result:
        return NotReached(f"the rank never looked up {names}; it ended with {status}")

    return Soon(check, f"a look-up of {names}", within=FOREVER, at_exit=at_exit)


def loopback_down(aim: Aim) -> Step:
    """Verify that the rank runs in its own network namespace without any address."""
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
        return Injected(f"pid {pid} has a separate network namespace: only lo in {net}/dev, no address in fib_trie")

    def at_exit(status: ExitStatus) -> Result:
        return Errored(f"the rank ended with {status} before its network was verified; see its stderr")

    return Soon(check, f"a network without addresses in /proc/{pid}/net", within=20.0, at_exit=at_exit)


def _read_names(value: object) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or not value or not all(isinstance(name, str) and name for name in value):
        raise ValueError(f"expected a list of host names like ['node0'], or ['*'] for all, got {value!r}")
    return tuple(dict.fromkeys(read_text(name) for name in value))


PORTS = (
    count_param("peer_port", "Only connections to this port of the peer; 0 for any.", default=0, most=65535),
    count_param("local_port", "Only connections from this port of the rank; 0 for any.", default=0, most=65535),
)
STEALING = "pidfd_getfd: ptrace rights on the rank, as a parent of the same user has unless a filter forbids it"


def kill_store(aim: Aim) -> Step:
    """Kill the process of the rank that listens on the port."""
    pid = living(aim)
    if pid is None:
        return NotReached("the rank had ended before its store could be killed")
    port = int(aim.number("port")) or _port_of(pid, aim.text("port_variable"))
    if not port:
        return NotReached(f"{aim.text('port_variable')} of pid {pid} is not a port")
    server = next((each for each in {pid, *group_members(pid)} if _listener(each, port)), None)
    if server is None:
        return NotReached(f"no process of rank {aim.rank} listens on port {port} in /proc/{pid}/net/tcp")
    inode = _listener(server, port)
    deed = f"pid {server}, which listened on port {port} (socket {inode}), was killed"
    if server == pid:
        aim.control.send_signal(aim.rank, signal.SIGKILL)
        return AtExit(partial(_killed, deed), "an exit by SIGKILL")
    os.kill(server, signal.SIGKILL)

    def check() -> Result | None:
        still = table(pid).get(inode, (0, 0, 0))[0] == LISTENING
        return None if still else Injected(f"{deed}; the socket no longer listens in /proc/{pid}/net/tcp")

    return Soon(check, f"the end of socket {inode}", at_exit=lambda status: Injected(f"{deed}; the rank: {status}"))


def _killed(deed: str, status: ExitStatus) -> Result:
    ended = f"{deed}; the rank ended with {status}"
    return Injected(ended) if status.signal == signal.SIGKILL else Errored(ended)


def _port_of(pid: int, variable: str) -> int:
    value = environment_of(pid).get(variable, "")
    return int(value) if value.isdigit() else 0


def _listener(pid: int, port: int) -> int:
    """Return the inode of the socket on which a process listens on a port; 0 if there is none."""
    listening = {inode for inode, (state, local, _) in table(pid).items() if (state, local) == (LISTENING, port)}
    try:
        links = [os.readlink(PROC / str(pid) / "fd" / fd) for fd in os.listdir(PROC / str(pid) / "fd")]
    except OSError:
        return 0
    return next((inode for inode in listening if f"socket:[{inode}]" in links), 0)


VARIABLES = (
    text_param("address_variable", "Environment variable with the address.", default="MASTER_ADDR"),
    text_param("port_variable", "Environment variable with the port.", default="MASTER_PORT"),
)
PROXIED = "a rank that finds its peers by environment variables, and does not listen on that address itself"
LATENCY = seconds_param("latency", "Delay of all data, in seconds.", default=0.1)
JITTER = seconds_param("jitter", "Maximum further delay in seconds, chosen by the seed.", default=0.0)
HOW_MUCH = {
    "bandwidth": size_param("bandwidth", "Bytes per second in each direction.", default=2**20),
    "slice": size_param("slice", "Bytes passed on at a time.", default=100),
    "reset_after": count_param("reset_after", "Bytes after which a connection is reset.", default=0),
    "close_after": count_param("close_after", "Bytes after which a connection is closed.", default=0),
    "refuse": count_param("refuse", "Number of first connections to reset at once.", default=1, least=1),
}


def _net(name: str, summary: str, example: str, *params: Param, **fixed: Any) -> Entry:
    """Return the declaration of a single disturbance by the proxy."""
    return Entry(
        name=name,
        side="before start",
        summary=summary,
        inject=partial(spoil, **fixed),
        verified="the proxy's own counts",
        healed="the proxy closes with all its connections",
        example=example,
        params=(*params, *VARIABLES),
        acts=Acts(triggers=("start",)),
        requires=Requires(PROXIED),
        check=(lambda _: "") if fixed else check_proxy,
        setup=Setup(prepare=prepare_proxy, await_rank=listen),
    )


def environment_of(pid: int) -> dict[str, str]:
    """Return the initial environment of a process; empty if it is not visible, or not yet."""
    try:
        pairs = (PROC / str(pid) / "environ").read_bytes().split(b"\0")
    except OSError:
        return {}
    return dict(pair.decode(errors="surrogateescape").split("=", 1) for pair in pairs if b"=" in pair)


Change = tuple[str, str | None]
"""Environment variable with its new value; None to remove it."""


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
            f"{fault.name} on rank {rank.rank}: expected a rank that runs a program, got a function: its environment "
            f"is not visible from outside ({fault.id})"
        )
    if rank.env.get(name) == value:
        raise InputError(f"{fault.name} on rank {rank.rank}: {name} is already {value!r} ({fault.id})")
    env = {key: old for key, old in rank.env.items() if key != name}
    return replace(rank, env=env if value is None else {**env, name: value})


def _seen(change: Callable[[Mapping[str, Value]], Change], aim: Aim) -> Step:
    """Verify the rank's changed environment in /proc."""
    pid = living(aim)
    if pid is None:
        return NotReached("the rank had ended before its environment could be read")
    name, value = change(aim.fault.values)

    def check() -> Result | None:
        found = environment_of(pid)
        if not found or found.get(name) != value:
            return None  # during an exec the kernel shows nothing
        return Injected(f"/proc/{pid}/environ has {f'no {name}' if value is None else f'{name}={value}'}")

    def at_exit(status: ExitStatus) -> Result:
        return Errored(f"the rank ended with {status} before its environment was verified")

    return Soon(check, f"{name} in /proc/{pid}/environ", at_exit=at_exit)


def _environ(
    name: str, summary: str, change: Callable[[Mapping[str, Value]], Change], example: str, *params: Param
) -> Entry:
    """Return the declaration of a fault in one environment variable."""
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
        summary="Shuts down established TCP connections of a rank: both ends read end of file, writes raise EPIPE.",
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
        summary="Aborts established TCP connections of a rank: the peer receives a RST, and the rank gets ECONNRESET.",
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
        summary="Host names do not resolve in the rank: socket.getaddrinfo and its users raise gaierror.",
        inject=no_names,
        verified="the rank's own record of a failed look-up",
        healed="after `for_` seconds names resolve again",
        example='faults.dns_failure(["node0"], rank=1)',
        params=(
            Param("names", _read_names, 'Host names; ["*"] for all, except numeric addresses.', "names", required=True),
            choice_param(
                "error", ("EAI_AGAIN", "EAI_NONAME", "EAI_FAIL"), "Error of the look-up.", default="EAI_AGAIN"
            ),
        ),
        requires=Requires("Python in the rank, started without -S, -I and -E"),
        acts=Acts(lasts=True),
    ),
    Entry(
        name="loopback_down",
        side="before start",
        summary="The rank has no network at all, not even the loopback.",
        inject=loopback_down,
        verified="only lo in /proc/PID/net/dev, no address in /proc/PID/net/fib_trie, in a separate namespace",
        healed="ends with the rank",
        example="faults.loopback_down(rank=1)",
        acts=Acts(triggers=("start",)),
        requires=Requires(
            "a rank that is a program; a network namespace, which for users other than root needs a user namespace",
            unavailable=lambda: no_namespaces("net"),
        ),
        setup=Setup(prepare=lambda rank, fault: enter(rank, fault, {"namespaces": ["net"]})),
    ),
    Entry(
        name="proxy",
        side="before start",
        summary="Connects a rank to MASTER_ADDR and MASTER_PORT through a proxy that delays, limits or breaks traffic.",
        inject=proxy,
        verified="the proxy's own counts, one for each of its disturbances",
        healed="the proxy closes with all its connections",
        example="faults.proxy(latency=0.2, rank=1)",
        params=(
            replace(LATENCY, default=0.0),
            JITTER,
            size_param("bandwidth", "Bytes per second in each direction; 0 for no limit.", default=0),
            size_param("slice", "Bytes passed on at a time; 0 for no limit.", default=0),
            flag_param("black_hole", "Whether all data is dropped while connections stay open."),
            choice_param("half_open", ("no", "to_rank", "from_rank"), "Direction to drop, if only one.", default="no"),
            count_param("reset_after", "Bytes after which a connection is reset; -1 for never.", default=-1, least=-1),
            count_param("close_after", "Bytes after which a connection is closed; -1 for never.", default=-1, least=-1),
            count_param("refuse", "Number of first connections to reset at once.", default=0),
            *VARIABLES,
        ),
        acts=Acts(triggers=("start",)),
        requires=Requires(PROXIED),
        check=check_proxy,
        setup=Setup(prepare=prepare_proxy, await_rank=listen),
    ),
    _net(
        "net_latency",
        "All traffic between a rank and MASTER_ADDR is delayed.",
        "faults.net_latency(0.2, jitter=0.1, rank=1)",
        LATENCY,
        JITTER,
    ),
    _net(
        "net_bandwidth",
        "The bandwidth between a rank and MASTER_ADDR is limited.",
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
        "Connections between a rank and MASTER_ADDR stay open, and all data is dropped.",
        "faults.net_black_hole(rank=1)",
        black_hole=True,
    ),
    _net(
        "net_half_open",
        "Connections between a rank and MASTER_ADDR stay open, and the data of one direction is dropped.",
        'faults.net_half_open("to_rank", rank=1)',
        choice_param("half_open", ("to_rank", "from_rank"), "Direction to drop.", default="to_rank"),
    ),
    _net(
        "net_reset",
        "Connections between a rank and MASTER_ADDR are reset after a number of bytes.",
        "faults.net_reset(4096, rank=1)",
        HOW_MUCH["reset_after"],
    ),
    _net(
        "net_close",
        "Connections between a rank and MASTER_ADDR are closed after a number of bytes.",
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
        summary="Another process listens on MASTER_PORT, so that the rank that needs the port cannot bind it.",
        inject=take_port,
        verified="derail's socket listens on the port in /proc/self/net/tcp",
        healed="the port is released",
        example="faults.port_taken(rank=0)",
        params=VARIABLES,
        acts=Acts(triggers=("start",), lasts=True),
        requires=Requires("an address of this machine in the rank's environment; /proc", unavailable=why_no_proc),
        setup=Setup(prepare=prepare_port, await_rank=hold_port),
    ),
    Entry(
        name="port_kept",
        side="outside",
        summary="From the rank's exit on, another process listens on its MASTER_PORT: the next attempt needs another.",
        inject=keep_port,
        verified="derail's socket listens on the port in /proc/self/net/tcp",
        healed="the port is released",
        example="faults.port_kept(rank=0)",
        params=VARIABLES,
        acts=Acts(triggers=("own_exit",), default=OwnExit()),
        requires=Requires("an address of this machine in the rank's environment; /proc", unavailable=why_no_proc),
        setup=Setup(prepare=prepare_kept_port, begin=note_port),
    ),
    Entry(
        name="store_dies",
        side="outside",
        summary="Kills the process that listens on MASTER_PORT: the rank, or a process of its group.",
        inject=kill_store,
        verified="the rank's exit status, or its socket gone from /proc/PID/net/tcp",
        healed="",
        example='faults.store_dies(rank=0, when=when.line("step 2"))',
        params=(
            count_param("port", "Port; 0 for that of the variable.", default=0, most=65535),
            text_param("port_variable", "Variable with the port in the rank's environment.", default="MASTER_PORT"),
        ),
        requires=Requires("/proc", unavailable=why_no_proc),
    ),
    _environ(
        "wrong_address",
        "A rank connects to the wrong address for its peers.",
        _wrong_address,
        'faults.wrong_address("127.0.0.254", rank=1)',
        Param("address", read_text, "Wrong address.", "text", default="127.0.0.254"),
        text_param("variable", "Environment variable with the address.", default="MASTER_ADDR"),
    ),
    _environ(
        "wrong_world_size",
        "A rank has a wrong world size.",
        _wrong_size,
        "faults.wrong_world_size(5, rank=1)",
        replace(count_param("size", "Wrong WORLD_SIZE.", default=0, least=1), required=True, default=None),
    ),
    _environ(
        "duplicate_rank",
        "A rank has the number of another rank of the job.",
        _other_rank,
        "faults.duplicate_rank(0, rank=1)",
        count_param("as_rank", "Wrong RANK.", default=0),
    ),
    _environ(
        "missing_variable",
        "A variable is missing from the environment of a rank.",
        _no_variable,
        'faults.missing_variable("MASTER_ADDR", rank=1)',
        replace(text_param("variable", "Name of the variable.", default=""), required=True, default=None),
    ),
)
