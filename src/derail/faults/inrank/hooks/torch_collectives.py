"""Recording of the collectives of ``torch.distributed``: the public functions, ``Work.wait`` and waits for store keys.

The code of each function is replaced, not the name: modules that have imported it are covered, and torch's compiler,
which knows the functions by identity, still does.
"""

from __future__ import annotations

import os
import sys
from functools import partial

from ..ring import ASYNC, COMPARED, STORE, TO_PEER, Call, as_ranges
from .spots import detour

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FunctionType
    from typing import Any, TypeAlias, TypeVar

    from ..recorder import Describe, Recorder

    V = TypeVar("V")
    About: TypeAlias = tuple[str, str, bytes]

GROUP_WIDE = {
    "all_gather": "tensor",
    "all_gather_coalesced": "",
    "all_gather_into_tensor": "input_tensor",
    "all_gather_object": "",
    "all_gather_single": "input_tensor",
    "all_reduce": "tensor",
    "all_reduce_coalesced": "tensors",
    "all_to_all": "",
    "all_to_all_single": "",
    "barrier": "",
    "broadcast": "tensor",
    "broadcast_object_list": "",
    "gather": "tensor",
    "gather_object": "",
    "monitored_barrier": "",
    "reduce": "tensor",
    "reduce_scatter": "output",
    "reduce_scatter_single": "output",
    "reduce_scatter_tensor": "output",
    "scatter": "tensor",
    "scatter_object_list": "",
}
"""Functions that every rank of a group calls, with the parameter whose shape is equal in all of them, if one is."""

TO_ONE_PEER = {
    "irecv": "src",
    "isend": "dst",
    "recv": "src",
    "recv_object_list": "src",
    "send": "dst",
    "send_object_list": "dst",
}
"""Functions that concern one other rank, with the parameter that names it."""

OF_GROUPS = ("init_process_group", "new_group", "split_group")
"""Functions that make groups, and that all ranks call."""

STORE_WAITS = ("get", "multi_get", "wait")


def record_torch(recorder: Recorder, c10d: Any) -> None:
    """Record the collectives of ``torch.distributed.distributed_c10d``, which is imported."""
    torch = sys.modules.get("torch")
    recorder.hide(os.path.dirname(getattr(torch, "__file__", None) or c10d.__file__) + os.sep)
    groups = Groups(c10d)
    for name, parameter in GROUP_WIDE.items():
        _wrap(recorder, c10d, name, partial(_group_wide, name, parameter, groups))
    for name, parameter in TO_ONE_PEER.items():
        _wrap(recorder, c10d, name, partial(_to_peer, name, parameter, groups))
    for name in OF_GROUPS:
        _wrap(recorder, c10d, name, partial(_of_groups, name, groups, recorder))
    work = getattr(c10d, "Work", None)
    if isinstance(work, type) and "wait" in vars(work):
        work.wait = _named_like(work.wait, recorder.wrap_wait(work.wait))  # type: ignore[attr-defined]
    store = getattr(c10d, "Store", None)
    for name in STORE_WAITS:
        if isinstance(store, type) and name in vars(store):
            method = getattr(store, name)
            setattr(store, name, _named_like(method, recorder.wrap(method, _store_wait(name))))


def _wrap(recorder: Recorder, c10d: Any, name: str, describe: Callable[[Reach], Describe]) -> None:
    """Record the calls of a function, if this torch has it."""
    function: FunctionType | None = getattr(c10d, name, None)
    if function is None or not hasattr(function, "__code__"):
        return
    reach = Reach(function)
    detour(function, lambda original: recorder.wrap(original, describe(reach)))


def _named_like(original: Any, method: Any) -> Any:
    for attribute in ("__name__", "__qualname__", "__doc__"):
        try:
            setattr(method, attribute, getattr(original, attribute))
        except (AttributeError, TypeError):
            pass  # a function of C may lack it
    return method


class Reach:
    """Access to the arguments of a call by the names of the parameters of its function."""

    def __init__(self, function: Any) -> None:
        import inspect  # torch has imported it

        self.places = {name: place for place, name in enumerate(inspect.signature(function).parameters)}

    def of(self, name: str) -> Callable[[tuple[Any, ...], dict[str, Any]], Any]:
        """Return a function that returns an argument of a call, or None if it has none."""
        place = self.places.get(name)
        if place is None:
            return lambda _, options: options.get(name)
        return lambda args, options: args[place] if len(args) > place else options.get(name)


class Groups:
    """Names and ranks of process groups, and the words for shapes, each made once."""

    def __init__(self, c10d: Any) -> None:
        self._c10d = c10d
        self._groups: dict[str | None, About] = {}
        self._shapes: dict[object, str] = {}

    def about(self, group: Any) -> About:
        """Return name, label and ranks of a group; None means the default group."""
        name = None if group is None else group.group_name
        known = self._groups.get(name)
        return self._learn(name, group) if known is None else known

    def forget(self) -> None:
        """Forget all groups: others may get their names."""
        self._groups.clear()

    def _learn(self, name: str | None, group: Any) -> About:
        whole = self._c10d._get_default_group()  # noqa: SLF001 - torch has no public name for it without a warning
        group = whole if group is None else group
        label = getattr(group, "group_desc", "") or ""
        if label in ("undefined", "default_pg"):
            label = "" if group is whole else str(group.group_name)
        about = (f"torch:{group.group_name}", label, as_ranges(self._c10d.get_process_group_ranks(group)))
        self._groups[name] = about
        return about

    def rank_of(self, group: Any, rank: int) -> int:
        """Return the global rank of a rank of a group."""
        return int(self._c10d.get_global_rank(group, rank)) if group is not None else rank

    def shape(self, value: Any) -> str:
        """Return the words for a tensor, or for a list of them: ``float32[1024]``."""
        shape = getattr(value, "shape", None)
        if shape is None:
            if isinstance(value, (list, tuple)):
                return f"{len(value)} x {self.shape(value[0])}" if value else "0 tensors"
            return ""
        key = (value.dtype, shape)
        words = self._shapes.get(key)
        if words is None:
            sizes = ",".join(str(int(size)) for size in shape)
            words = f"{str(value.dtype).removeprefix('torch.')}[{sizes}]"
            keep(self._shapes, key, words)
        return words


MOST_KEPT = 4096
"""Shapes, and calls of one function, that are kept."""


def keep(known: dict[Any, V], key: object, value: V) -> V:
    """Keep a value, and forget all others if there are too many."""
    if len(known) >= MOST_KEPT:
        known.clear()
    known[key] = value
    return value


def _group_wide(name: str, parameter: str, groups: Groups, reach: Reach) -> Describe:
    flags = COMPARED if parameter else 0
    root = next((name for name in ("src", "dst") if name in reach.places), "")
    root_of, root_in_group_of = reach.of(root), reach.of(f"group_{root}")
    places = reach.places
    # What is read in every call is read without a call of ``Reach``: this runs in each collective of a program.
    at_group, at_tensor, at_async = (places.get(each, 1 << 30) for each in ("group", parameter, "async_op"))
    calls: dict[object, Call] = {}

    def describe(args: tuple[Any, ...], options: dict[str, Any]) -> Call:
        count = len(args)
        handle = args[at_group] if count > at_group else options.get("group")
        is_async = args[at_async] if count > at_async else options.get("async_op", False)
        tensor: Any = None if not parameter else args[at_tensor] if count > at_tensor else options.get(parameter)
        about = groups.about(handle)
        number = None
        if root:
            number, in_group = root_of(args, options), root_in_group_of(args, options)
            number = (number or 0) if in_group is None else groups.rank_of(handle, in_group)
        shape = getattr(tensor, "shape", None)
        if shape is not None:
            key = (about, tensor.dtype, shape, number, is_async)
            call = calls.get(key)
            if call is not None:
                return call
        shapes = groups.shape(tensor)
        group, label, ranks = about
        subject = f"root {number}" if root else ""
        whole = flags | ASYNC if is_async else flags
        call = Call(name, group, label=label, ranks=ranks, shapes=shapes, flags=whole, subject=subject)
        return call if shape is None else keep(calls, key, call)

    return describe


def _to_peer(name: str, parameter: str, groups: Groups, reach: Reach) -> Describe:
    flags = TO_PEER | ASYNC if name.startswith("i") else TO_PEER
    group_of, peer_of, in_group_of = reach.of("group"), reach.of(parameter), reach.of(f"group_{parameter}")
    tensor_of = reach.of("tensor")
    calls: dict[object, Call] = {}

    def describe(args: tuple[Any, ...], options: dict[str, Any]) -> Call:
        handle = group_of(args, options)
        about = groups.about(handle)
        peer, in_group = peer_of(args, options), in_group_of(args, options)
        if peer is None and in_group is not None:
            peer = groups.rank_of(handle, in_group)
        shapes = groups.shape(tensor_of(args, options))
        key = (about, shapes, peer)
        call = calls.get(key)
        if call is None:
            group, label, ranks = about
            number = -1 if peer is None else int(peer)
            call = Call(name, group, label=label, ranks=ranks, shapes=shapes, peer=number, flags=flags)
            keep(calls, key, call)
        return call

    return describe


def _of_groups(name: str, groups: Groups, recorder: Recorder, reach: Reach) -> Describe:
    only_members = reach.of("use_local_synchronization")
    call = Call(name, "groups", ranks=as_ranges(range(recorder.world)))

    def describe(args: tuple[Any, ...], options: dict[str, Any]) -> Call | None:
        groups.forget()
        # If only the members call it, calls of different ranks cannot be matched.
        return None if only_members(args, options) else call

    return describe


def _store_wait(name: str) -> Describe:
    def describe(args: tuple[Any, ...], options: dict[str, Any]) -> Call:
        keys = args[1] if len(args) > 1 else next(iter(options.values()), "")
        return Call(f"store.{name}", "store", flags=STORE, subject=keys if isinstance(keys, str) else ", ".join(keys))

    return describe
