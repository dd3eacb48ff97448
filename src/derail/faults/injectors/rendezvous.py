"""How ranks find and reach each other: a proxy before the store, its port, its end (and environment.py).

Part of the family ``network``.
"""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from derail.faults.catalogue.entry import Acts, Entry, Param, Requires, Setup
from derail.faults.catalogue.injector_api import AtExit, Soon
from derail.faults.catalogue.params import choice_param, count_param, flag_param, seconds_param, size_param, text_param
from derail.faults.injectors import environment
from derail.faults.injectors.environment import environment_of
from derail.faults.injectors.resources import living
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
from derail.faults.mechanisms.sockets import LISTENING, table
from derail.faults.model.results import Errored, Injected, NotReached
from derail.faults.model.triggers import OwnExit
from derail.platform.capabilities import PROC, why_no_proc
from derail.platform.processes import group_members

if TYPE_CHECKING:
    from derail.faults.catalogue.injector_api import Aim, Step
    from derail.faults.model.results import Result
    from derail.model.exit import ExitStatus


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


ENTRIES = (
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
    *environment.ENTRIES,
)
