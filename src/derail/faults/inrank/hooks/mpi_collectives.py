"""Recording of the collectives of ``mpi4py``: the communicator ``MPI.COMM_WORLD`` and those made from it.

The methods of a communicator cannot be replaced, so ``MPI.COMM_WORLD`` becomes an instance of a subclass with the same
handle. Communicators that are made from it are of that class as well.
"""

from __future__ import annotations

import os

from ..ring import TO_PEER, Call, as_ranges
from .torch_collectives import keep

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..recorder import Describe, Recorder

GROUP_WIDE = (
    "Allgather", "Allgatherv", "Allreduce", "Alltoall", "Alltoallv", "Alltoallw", "Barrier", "Bcast", "Exscan",
    "Gather", "Gatherv", "Reduce", "Reduce_scatter", "Reduce_scatter_block", "Scan", "Scatter", "Scatterv",
    "allgather", "allreduce", "alltoall", "barrier", "bcast", "exscan", "gather", "reduce", "scan", "scatter",
    "Create", "Dup", "Split", "Split_type",
)  # fmt: skip
"""Methods that every rank of a communicator calls, and that return when they are complete."""

TO_ONE_PEER = ("Recv", "Send", "Ssend", "recv", "send", "ssend")
"""Methods that concern one other rank, whose number is their second argument."""


def record_mpi(recorder: Recorder, mpi: Any) -> None:
    """Record the collectives of ``mpi4py.MPI``, which is imported."""
    recorder.hide(os.path.dirname(mpi.__file__ or "mpi4py") + os.sep)
    communicators = Communicators(mpi)
    methods: dict[str, Any] = {"__slots__": (), "__module__": mpi.__name__}
    for name in GROUP_WIDE:
        _add(methods, recorder, mpi, name, _group_wide(name, communicators))
    for name in TO_ONE_PEER:
        _add(methods, recorder, mpi, name, _to_peer(name, communicators))
    kind = type("Intracomm", (mpi.Intracomm,), methods)
    for name in ("Create", "Split", "Split_type"):
        setattr(kind, name, _returning(kind, getattr(kind, name), mpi))
    mpi.COMM_WORLD = kind(mpi.COMM_WORLD)


def _returning(kind: Any, method: Any, mpi: Any) -> Any:
    """Return a method whose new communicators are of this class, as those of ``Dup`` are."""

    def make(*args: Any, **options: Any) -> Any:
        made = method(*args, **options)
        return kind(made) if type(made) is mpi.Intracomm and made != mpi.COMM_NULL else made

    make.__name__, make.__doc__ = method.__name__, method.__doc__
    return make


def _add(methods: dict[str, Any], recorder: Recorder, mpi: Any, name: str, describe: Describe) -> None:
    original = getattr(mpi.Intracomm, name, None)
    if original is not None:
        methods[name] = method = recorder.wrap(original, describe)
        method.__name__, method.__doc__ = name, original.__doc__


class Communicators:
    """Names and ranks of communicators."""

    def __init__(self, mpi: Any) -> None:
        self._mpi = mpi
        self._world = mpi.COMM_WORLD.Get_group()
        self._known: dict[int, tuple[str, str, str, bytes, list[int]]] = {}

    def about(self, comm: Any) -> tuple[str, str, bytes, list[int]]:
        """Return name, label, ranks as text, and ranks of a communicator.

        MPI has no name for it that is the same in all ranks, so it is named after its ranks and its own name. The
        handle may be used again after the communicator is freed: what is known of it counts while its name is the same.
        """
        name = comm.Get_name()
        handle = self._mpi._handleof(comm) if hasattr(self._mpi, "_handleof") else hash(comm.py2f())  # noqa: SLF001
        known = self._known.get(handle)
        if known is None or known[0] != name:
            group = comm.Get_group()
            ranks = self._mpi.Group.Translate_ranks(group, list(range(group.Get_size())), self._world)
            group.Free()
            text = as_ranges(ranks)
            label = "" if name == "MPI_COMM_WORLD" else name
            known = (name, f"mpi:{text.decode()}:{label}", label, text, list(ranks))
            self._known[handle] = known
        return known[1:]


def _group_wide(name: str, communicators: Communicators) -> Describe:
    def describe(args: tuple[Any, ...], _: dict[str, Any]) -> Call:
        group, label, ranks, _members = communicators.about(args[0])
        return calls.get(group) or keep(calls, group, Call(name, group, label=label, ranks=ranks))

    calls: dict[str, Call] = {}

    return describe


def _to_peer(name: str, communicators: Communicators) -> Describe:
    number = "source" if name.lower() == "recv" else "dest"

    def describe(args: tuple[Any, ...], options: dict[str, Any]) -> Call:  # the first argument is the communicator
        group, label, ranks, members = communicators.about(args[0])
        peer = args[2] if len(args) > 2 else options.get(number, -1)
        whose = members[peer] if 0 <= peer < len(members) else -1
        return Call(name, group, label=label, ranks=ranks, peer=whose, flags=TO_PEER)

    return describe
