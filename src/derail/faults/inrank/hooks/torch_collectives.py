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
    from typing import Any

    from ..recorder import Describe, Recorder

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
        self._groups: dict[str | None, tuple[bytes, bytes, bytes]] = {}
        self._shapes: dict[object, bytes] = {}

    def about(self, group: Any) -> tuple[bytes, bytes, bytes]:
        """Return name, label and ranks of a group; None means the default group."""
        name = None if group is None else group.group_name
        known = self._groups.get(name)
        return self._learn(name, group) if known is None else known

    def forget(self) -> None:
        """Forget all groups: others may get their names."""
        self._groups.clear()

    def _learn(self, name: str | None, group: Any) -> tuple[bytes, bytes, bytes]:
        whole = self._c10d._get_default_group()  # noqa: SLF001 - torch has no public name for it without a warning
        group = whole if group is None else group
        label = getattr(group, "group_desc", "") or ""
        if label in ("undefined", "default_pg"):
            label = "" if group is whole else str(group.group_name)
        ranks = self._c10d.get_process_group_ranks(group)
        about = (_text(f"torch:{group.group_name}"), _text(label), as_ranges(ranks))
        self._groups[name] = about
        return about

    def rank_of(self, group: Any, rank: int) -> int:
        """Return the global rank of a rank of a group."""
        return int(self._c10d.get_global_rank(group, rank)) if group is not None else rank

    def shape(self, value: Any) -> bytes:
        """Return the words for a tensor, or for a list of them: ``float32[1024]``."""
        if isinstance(value, (list, tuple)):
            return b"%d x " % len(value) + self.shape(value[0]) if value else b"0 tensors"
        shape = getattr(value, "shape", None)
        if shape is None:
            return b""
        key = (value.dtype, shape)
        words = self._shapes.get(key)
        if words is None:
            if len(self._shapes) > MOST_SHAPES:
                self._shapes.clear()
            words = self._shapes[key] = _text(
                f"{str(value.dtype).removeprefix('torch.')}[{','.join(str(int(size)) for size in shape)}]"
            )
        return words


MOST_SHAPES = 4096
"""Shapes whose words are kept."""


def _text(text: str) -> bytes:
    return text.encode(errors="replace")


def _group_wide(name: str, parameter: str, groups: Groups, reach: Reach) -> Describe:
    operation, flags = name.encode(), COMPARED if parameter else 0
    group_of, tensor_of, async_of = reach.of("group"), reach.of(parameter), reach.of("async_op")
    root = next((name for name in ("src", "dst") if name in reach.places), "")
    root_of, root_in_group_of = reach.of(root), reach.of(f"group_{root}")

    def describe(args: tuple[Any, ...], options: dict[str, Any]) -> Call:
        handle = group_of(args, options)
        group, label, ranks = groups.about(handle)
        shapes = groups.shape(tensor_of(args, options)) if parameter else b""
        subject = b""
        if root:
            number, in_group = root_of(args, options), root_in_group_of(args, options)
            number = number if in_group is None else groups.rank_of(handle, in_group)
            subject = b"root %d" % (number or 0)
        is_async = async_of(args, options)
        return Call(operation, group, label, ranks, shapes, -1, flags | ASYNC if is_async else flags, subject)

    return describe


def _to_peer(name: str, parameter: str, groups: Groups, reach: Reach) -> Describe:
    operation = name.encode()
    flags = TO_PEER | ASYNC if name.startswith("i") else TO_PEER
    group_of, peer_of, in_group_of = reach.of("group"), reach.of(parameter), reach.of(f"group_{parameter}")
    tensor_of = reach.of("tensor")

    def describe(args: tuple[Any, ...], options: dict[str, Any]) -> Call:
        handle = group_of(args, options)
        group, label, ranks = groups.about(handle)
        peer, in_group = peer_of(args, options), in_group_of(args, options)
        if peer is None and in_group is not None:
            peer = groups.rank_of(handle, in_group)
        shapes = groups.shape(tensor_of(args, options))
        return Call(operation, group, label, ranks, shapes, -1 if peer is None else int(peer), flags)

    return describe


def _of_groups(name: str, groups: Groups, recorder: Recorder, reach: Reach) -> Describe:
    only_members = reach.of("use_local_synchronization")

    def describe(args: tuple[Any, ...], options: dict[str, Any]) -> Call | None:
        groups.forget()
        if only_members(args, options):
            return None  # only the members call it, so that calls of different ranks cannot be matched
        return Call(name.encode(), b"groups", b"", as_ranges(range(recorder.world)))

    return describe


def _store_wait(name: str) -> Describe:
    operation = b"store." + name.encode()

    def describe(args: tuple[Any, ...], options: dict[str, Any]) -> Call:
        keys = args[1] if len(args) > 1 else next(iter(options.values()), "")
        subject = keys if isinstance(keys, str) else ", ".join(keys)
        return Call(operation, b"store", flags=STORE, subject=_text(subject))

    return describe
