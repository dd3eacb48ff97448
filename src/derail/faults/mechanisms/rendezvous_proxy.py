"""Interposer between a rank and the address in its environment: a proxy, or a process that already uses the port."""

from __future__ import annotations

import os
import socket
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

from derail.faults.catalogue.injector_api import FOREVER, Soon
from derail.faults.mechanisms.sockets import LISTENING, table
from derail.faults.mechanisms.tcp_proxy import Proxy, Spoiling
from derail.faults.model.plan import decide
from derail.faults.model.results import Errored, Injected, NotReached
from derail.model.input_error import InputError
from derail.platform.ports import free_port
from derail.platform.processes import environment

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from derail.faults.catalogue.injector_api import Aim, Step
    from derail.faults.model.plan import Fault, Value
    from derail.faults.model.results import Result
    from derail.model.exit import ExitStatus
    from derail.model.spec import RankSpec

_Run = tuple[str, int, "Path | None", "Path | None"]
_addresses: dict[_Run, tuple[int, tuple[str, int]]] = {}
"""Port in the environment and original address of each rank that is prepared and not yet started. The paths of a rank's
files distinguish concurrent runs of one plan."""
_listeners: dict[_Run, socket.socket] = {}
"""Listeners for ranks that are not yet started."""


def _run_of(aim: Aim) -> _Run:
    control = aim.control
    return aim.fault.id, aim.rank, control.error_file(aim.rank), control.log_file(aim.rank, "stdout")


def _address(rank: RankSpec, fault: Fault) -> tuple[str, int]:
    """Return the address in the rank's environment."""
    names = [str(fault.param(name)) for name in ("address_variable", "port_variable")]
    host, port = (rank.env.get(name, "") for name in names)
    if not host or not _is_port(port):
        raise InputError(
            f"{fault.name} on rank {rank.rank}: expected an address in its environment, got {names[0]}={host!r} and "
            f"{names[1]}={port!r} ({fault.id})"
        )
    return host, int(port)


def _is_port(text: str) -> bool:
    return text.isdecimal() and 0 < int(text) < 65536


def _remember(rank: RankSpec, fault: Fault, port: int, address: tuple[str, int]) -> None:
    _addresses[fault.id, rank.rank, rank.error_file, rank.streams.stdout] = port, address


def prepare_proxy(rank: RankSpec, fault: Fault) -> RankSpec:
    """Direct the rank to a free port, on which the proxy will listen as soon as the rank exists."""
    address, port = _address(rank, fault), free_port()
    _remember(rank, fault, port, address)
    changed = {str(fault.param("address_variable")): "127.0.0.1", str(fault.param("port_variable")): str(port)}
    return replace(rank, env={**rank.env, **changed})


def prepare_port(rank: RankSpec, fault: Fault) -> RankSpec:
    """Record where the rank will listen, and return the rank unchanged."""
    address = _address(rank, fault)
    _remember(rank, fault, address[1], address)
    return rank


def listen(aim: Aim) -> None:
    """Listen on the rank's port before the rank starts: it may connect before the event of its start."""
    prepared, run = _addresses.get(_run_of(aim)), _run_of(aim)
    if prepared is not None:
        listener = _listeners[run] = socket.create_server(("127.0.0.1", prepared[0]))
        aim.undo.append((f"port {prepared[0]} for the proxy of rank {aim.rank}", listener.close))


def proxy(aim: Aim) -> Step:
    """Start the rank's proxy; its own counts are the evidence."""
    return spoil(aim)


def spoil(aim: Aim, **fixed: Any) -> Step:
    """Start the rank's proxy with some parameters fixed by the fault rather than by the plan."""
    prepared = _addresses.pop(_run_of(aim), None)
    if prepared is None:
        return Errored("the rank was not prepared for a proxy: its launcher did not let faults prepare the job")
    port, address = prepared
    served = Proxy(port, address, _spoiling(aim, fixed))
    aim.undo.append((f"the proxy of rank {aim.rank} on port {port}", served.stop))
    served.start(_listeners.pop(_run_of(aim), None))
    wanted = served.spoiling.wanted()

    def check() -> Result | None:
        if served.broken:
            return Errored(f"the proxy failed: {served.broken}")
        if not all(served.done[name] for name in wanted):
            return None
        counts = ", ".join(f"{name} {served.done[name]}" for name in (*wanted, "connections", "bytes"))
        return Injected(f"counted by the proxy on port {port} before {address[0]}:{address[1]}: {counts}")

    def at_exit(status: ExitStatus) -> Result:
        missing = ", ".join(name for name in wanted if not served.done[name])
        seen = f"{served.done['connections']} connections and {served.done['bytes']} bytes"
        return NotReached(
            f"{seen} went through the proxy, without an occasion for {missing}; the rank ended with {status}"
        )

    return Soon(check, "traffic for the proxy to change", within=FOREVER, at_exit=at_exit)


def _spoiling(aim: Aim, fixed: dict[str, Any]) -> Spoiling:
    given = aim.fault.values
    return Spoiling(**{**fixed, **_spoils(given), "seed": decide(aim.seed, aim.fault.id, aim.rank)})


def _spoils(values: Mapping[str, Value]) -> dict[str, Any]:
    """Return the parameters that configure a proxy."""
    known = [field.name for field in fields(Spoiling)]
    return {name: value for name, value in values.items() if name in known}


def check_proxy(values: Mapping[str, Value]) -> str:
    """Return the problem with the parameters of a proxy; empty if there is none."""
    spoils = Spoiling(**_spoils(values)).wanted()
    return (
        ""
        if spoils
        else "a proxy that spoils nothing is no fault. Set latency=, bandwidth=, refuse= or another parameter"
    )


def hold_port(aim: Aim) -> None:
    """Listen on the rank's port before the rank does; a failure is reported when the fault acts."""
    prepared, run = _addresses.get(_run_of(aim)), _run_of(aim)
    if prepared is not None:
        try:
            taken = _listeners[run] = socket.create_server(prepared[1])
        except OSError:
            return
        aim.undo.append((f"port {prepared[0]}, taken from rank {aim.rank}", taken.close))


def prepare_kept_port(rank: RankSpec, fault: Fault) -> RankSpec:
    """Record where the rank will listen, if it has an address, and return the rank unchanged.

    A rank may end before its own environment can be read.
    """
    _remember_kept((fault.id, rank.rank, rank.error_file, rank.streams.stdout), rank.env, fault)
    return rank


def note_port(aim: Aim) -> None:
    """Read from its environment where the rank listens, while it is alive: it is not readable after its exit."""
    pid = aim.control.pid(aim.rank)
    entries = b"" if pid is None else environment(pid)
    env = dict(os.fsdecode(entry).partition("=")[::2] for entry in entries.split(b"\0"))
    _remember_kept(_run_of(aim), env, aim.fault)


def _remember_kept(run: _Run, env: Mapping[str, str], fault: Fault) -> None:
    host, port = (env.get(str(fault.param(name)), "") for name in ("address_variable", "port_variable"))
    if _is_port(port):
        _addresses[run] = int(port), (host or "127.0.0.1", int(port))


def keep_port(aim: Aim) -> Step:
    """Listen on the address of a rank that has just ended."""
    _, where = _addresses.pop(_run_of(aim), (0, None))
    if where is None:
        return NotReached(f"the rank had no {aim.text('port_variable')} in its environment")
    try:
        taken = socket.create_server(where)
    except OSError as error:
        return NotReached(
            f"another process took the port first, or the address is not local: {error.strerror} ({where})"
        )
    aim.undo.append((f"port {where[1]}, taken after rank {aim.rank}", taken.close))
    inode = os.fstat(taken.fileno()).st_ino
    state, local, _ = table("self").get(inode, (0, 0, 0))
    if (state, local) != (LISTENING, where[1]):
        return Errored(f"socket {inode} does not listen on port {where[1]} in /proc/self/net/tcp")
    return Injected(f"{where[0]}:{where[1]} is taken: socket {inode} listens in /proc/self/net/tcp")


def take_port(aim: Aim) -> Step:
    """Verify that this process listens on the rank's address: the second to bind fails."""
    prepared, held = _addresses.pop(_run_of(aim), None), _listeners.pop(_run_of(aim), None)
    if prepared is None:
        return Errored("the rank's address is unknown: its launcher did not let faults prepare the job")
    _, (host, port) = prepared
    try:
        taken = held or socket.create_server((host, port))
    except OSError as error:
        return NotReached(
            f"another process took the port first, or the address is not local: {error.strerror} ({host}:{port})"
        )
    if held is None:
        aim.undo.append((f"port {port}, taken from rank {aim.rank}", taken.close))
    inode = os.fstat(taken.fileno()).st_ino
    state, local, _ = table("self").get(inode, (0, 0, 0))
    if (state, local) != (LISTENING, port):
        return Errored(f"socket {inode} does not listen on port {port} in /proc/self/net/tcp")
    return Injected(f"{host}:{port} is taken: socket {inode} listens in /proc/self/net/tcp")
