"""CPUs for a rank: those near its GPU, or on a separate NUMA node; read from sysfs, without torch."""

from __future__ import annotations

import os
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator

_NVIDIA = "0x10de"
_DISPLAY_CONTROLLER = "0x03"


class TopologyError(RuntimeError):
    """The error of a rank with unknown CPUs, or without any CPU left."""


class AffinityMode(str, Enum):  # noqa: UP042 - as torch's: str() of a StrEnum returns another text
    """The part of the machine that a rank is bound to, with torch's names.

    ``NODE``: the NUMA node of its GPU. ``SOCKET``: all nodes of that node's socket. ``EXCLUSIVE``: a separate share of
    the node's physical cores. ``CORE_COMPLEX``: cores of the node that share one last-level cache.
    """

    NODE = "node"
    SOCKET = "socket"
    EXCLUSIVE = "exclusive"
    CORE_COMPLEX = "core-complex"


class NumaOptionsLike(Protocol):
    """derail's ``NumaOptions``, or torch's."""

    @property
    def affinity_mode(self) -> str | Enum:
        """One of the values of ``AffinityMode``."""
        ...

    @property
    def should_fall_back_if_binding_fails(self) -> bool:
        """Whether a rank that cannot be bound runs unbound, with a warning."""
        ...


@dataclass(frozen=True, slots=True)
class NumaOptions:
    """Options for the binding of ranks to CPUs; the same fields as torch's."""

    affinity_mode: AffinityMode
    should_fall_back_if_binding_fails: bool = False


def cpus_for(
    rank: int,
    numa_options: NumaOptionsLike | None,
    *,
    ranks: int | None = None,
    sysfs: Path = Path("/sys"),
    allowed: Collection[int] | None = None,
) -> frozenset[int] | None:
    """Return the CPUs for local rank ``rank``; None if it is not to be bound.

    With NVIDIA GPUs, rank i belongs to GPU i, counted in the order of their PCI addresses, independent of
    CUDA_VISIBLE_DEVICES. Without any, the ranks are distributed over the NUMA nodes with CPUs: 0, 1, ..., 0, 1, ...

    Args:
        rank: local rank.
        numa_options: None for no binding.
        ranks: number of ranks; ``EXCLUSIVE`` needs it on a machine without GPUs.
        sysfs: mount point of sysfs.
        allowed: CPUs that may be used; None for those that this thread may use.

    Raises:
        TopologyError: if the machine does not show such a topology, has no GPU for the rank, or no allowed CPU there;
            with ``should_fall_back_if_binding_fails`` that is a RuntimeWarning, and None is returned.
    """
    if numa_options is None:
        return None
    try:
        machine = _Machine(sysfs, frozenset(_allowed_here() if allowed is None else allowed))
        mode = _mode(numa_options.affinity_mode)
        node, place, sharers = machine.place_of(rank, ranks)
        cpus = _CHOICES[mode](machine, node, place, sharers)
        _require(cpus, node)
    except (TopologyError, OSError, ValueError) as error:
        message = f"rank {rank} cannot be bound to CPUs: {error}"
        if not numa_options.should_fall_back_if_binding_fails:
            raise TopologyError(message) from error
        warnings.warn(f"{message}; it runs unbound", RuntimeWarning, stacklevel=2)
        return None
    return cpus


@contextmanager
def bound_to(cpus: Collection[int] | None) -> Iterator[None]:
    """Bind this thread to ``cpus`` while the body runs, so that its children are bound from their first instruction.

    Raises:
        OSError: if none of them may be used here, or the platform cannot bind.
    """
    if cpus is None:
        yield
        return
    if not hasattr(os, "sched_setaffinity"):
        import errno

        raise OSError(errno.ENOTSUP, "this platform cannot bind a process to CPUs; start it without numa_options")
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, cpus)
    except OSError as error:
        raise OSError(
            error.errno, f"cannot be bound to CPUs {sorted(cpus)}; only {sorted(before)} are allowed"
        ) from error
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _allowed_here() -> set[int]:
    if not hasattr(os, "sched_getaffinity"):
        raise TopologyError("this platform cannot bind a process to CPUs")
    return os.sched_getaffinity(0)


def _mode(named: str | Enum) -> AffinityMode:
    value = named.value if isinstance(named, Enum) else named
    try:
        return AffinityMode(value)
    except ValueError:
        known = ", ".join(mode.value for mode in AffinityMode)
        raise TopologyError(f"unknown affinity mode {value!r}; expected one of {known}") from None


def _require(cpus: Collection[int], node: int) -> None:
    if not cpus:
        raise TopologyError(f"none of the CPUs of NUMA node {node} may be used by this process (see taskset -p)")


class _Machine:
    """CPUs, nodes and GPUs according to sysfs."""

    def __init__(self, sysfs: Path, allowed: frozenset[int]) -> None:
        self._sysfs = sysfs
        self._allowed = allowed

    def place_of(self, rank: int, ranks: int | None) -> tuple[int, int, int | None]:
        """Return the node of ``rank``, its index among the ranks of that node, and their number (None: unknown)."""
        gpu_nodes = self._gpu_nodes()
        if gpu_nodes:
            if rank >= len(gpu_nodes):
                raise TopologyError(f"there is no GPU {rank} for it; sysfs shows {len(gpu_nodes)} of NVIDIA")
            node = gpu_nodes[rank]
            return node, gpu_nodes[:rank].count(node), gpu_nodes.count(node)
        nodes = [node for node in self.nodes() if self._node_cpus(node)]
        if not nodes:
            raise TopologyError(f"{self._sysfs}/devices/system/node shows no NUMA node with CPUs")
        index = rank % len(nodes)
        sharers = None if ranks is None else len(range(index, ranks, len(nodes)))
        return nodes[index], rank // len(nodes), sharers

    def nodes(self) -> list[int]:
        """Return all NUMA nodes, in order."""
        folder = self._sysfs / "devices/system/node"
        if not folder.is_dir():
            raise TopologyError(f"this machine shows no NUMA topology: there is no {folder}")
        names = (entry.name.removeprefix("node") for entry in folder.glob("node*"))
        return sorted(int(name) for name in names if name.isdigit())

    def allowed_cpus(self, node: int) -> frozenset[int]:
        """Return the CPUs of ``node`` that may be used."""
        return self._node_cpus(node) & self._allowed

    def socket_of(self, node: int) -> int | None:
        """Return the socket of a node, by any of its CPUs; None if it has no CPU."""
        cpus = self._node_cpus(node)
        if not cpus:
            return None
        return int(self._read(f"devices/system/cpu/cpu{min(cpus)}/topology/physical_package_id"))

    def core_of(self, cpu: int) -> int:
        """Return the lowest CPU of the same physical core."""
        return min(_parse_cpus(self._read(f"devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")))

    def last_level_cache_of(self, cpu: int) -> int:
        """Return the lowest CPU that shares the last-level cache."""
        caches = self._sysfs / f"devices/system/cpu/cpu{cpu}/cache"
        shared: dict[int, str] = {}
        for cache in caches.glob("index[0-9]*"):
            if (cache / "type").read_text().strip() in ("Unified", "Data"):
                shared[int((cache / "level").read_text())] = (cache / "shared_cpu_list").read_text()
        if not shared:
            raise TopologyError(f"this machine shows no caches of CPU {cpu}: nothing in {caches}")
        return min(_parse_cpus(shared[max(shared)]))

    def _gpu_nodes(self) -> list[int]:
        """Return the NUMA node of each GPU, in the order of the PCI addresses."""
        devices = self._sysfs / "bus/pci/devices"
        nodes = []
        for device in devices.iterdir() if devices.is_dir() else ():
            vendor, kind = (device / "vendor").read_text().strip(), (device / "class").read_text().strip()
            if vendor == _NVIDIA and kind.startswith(_DISPLAY_CONTROLLER):
                # A machine with a single node reports -1.
                nodes.append((device.name, max(0, int((device / "numa_node").read_text()))))
        return [node for _, node in sorted(nodes)]

    def _node_cpus(self, node: int) -> frozenset[int]:
        return _parse_cpus(self._read(f"devices/system/node/node{node}/cpulist"))

    def _read(self, path: str) -> str:
        try:
            return (self._sysfs / path).read_text()
        except FileNotFoundError:
            raise TopologyError(f"this machine shows no such topology: there is no {self._sysfs / path}") from None


def _parse_cpus(text: str) -> frozenset[int]:
    """Parse text such as ``0-3,8,10-11``."""
    cpus: set[int] = set()
    for part in filter(None, (part.strip() for part in text.split(","))):
        first, _, last = part.partition("-")
        cpus.update(range(int(first), int(last or first) + 1))
    return frozenset(cpus)


def _group(cpus: Iterable[int], key: Callable[[int], int]) -> dict[int, list[int]]:
    groups: dict[int, list[int]] = {}
    for cpu in sorted(cpus):
        groups.setdefault(key(cpu), []).append(cpu)
    return groups


def _node_cpus(machine: _Machine, node: int, _place: int, _sharers: int | None) -> frozenset[int]:
    return machine.allowed_cpus(node)


def _socket_cpus(machine: _Machine, node: int, _place: int, _sharers: int | None) -> frozenset[int]:
    socket = machine.socket_of(node)
    if socket is None:
        raise TopologyError(f"NUMA node {node} has no CPUs, so its socket is unknown")
    same = [other for other in machine.nodes() if machine.socket_of(other) == socket]
    return frozenset().union(*(machine.allowed_cpus(other) for other in same))


def _exclusive_cpus(machine: _Machine, node: int, place: int, sharers: int | None) -> frozenset[int]:
    if sharers is None:
        raise TopologyError("without GPUs, a node's cores cannot be shared out: the number of ranks is unknown")
    cores = [cpus for _, cpus in sorted(_group(machine.allowed_cpus(node), machine.core_of).items())]
    if len(cores) < sharers:
        raise TopologyError(f"NUMA node {node} has {len(cores)} usable physical cores for {sharers} ranks")
    # As equal as possible: the first ones get one core more.
    share, rest = divmod(len(cores), sharers)
    first = place * share + min(place, rest)
    return frozenset(cpu for core in cores[first : first + share + (place < rest)] for cpu in core)


def _core_complex_cpus(machine: _Machine, node: int, place: int, _sharers: int | None) -> frozenset[int]:
    complexes = _group(machine.allowed_cpus(node), machine.last_level_cache_of)
    if not complexes:
        return frozenset()
    # Those with more usable CPUs first; then by number.
    ordered = sorted(complexes.items(), key=lambda item: (-len(item[1]), item[0]))
    return frozenset(ordered[place % len(ordered)][1])


_CHOICES: dict[AffinityMode, Callable[[_Machine, int, int, int | None], frozenset[int]]] = {
    AffinityMode.NODE: _node_cpus,
    AffinityMode.SOCKET: _socket_cpus,
    AffinityMode.EXCLUSIVE: _exclusive_cpus,
    AffinityMode.CORE_COMPLEX: _core_complex_cpus,
}
