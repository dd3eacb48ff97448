"""Recording of the collectives of ``torch.distributed``: the public functions, ``Work.wait``, waits for store keys,
functional collectives, and the backward passes of DDP. FSDP calls the public functions.

The code of each function is replaced, not the name: modules that have imported it are covered, and torch's compiler,
which knows the functions by identity, still does.
"""

from __future__ import annotations

import os
import sys
from functools import cache, partial

from ..ring import ASYNC, COMPARED, STORE, TO_PEER, Call, as_ranges
from . import torch_trace
from .spots import detour

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FunctionType
    from typing import Any, TypeAlias, TypeVar

    from ..recorder import Describe, Recorder, Ticket

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

FUNCTIONAL = (
    "all_gather_into_tensor_coalesced", "all_gather_single", "all_gather_single_autograd",
    "all_gather_single_coalesced", "all_gather_tensor", "all_gather_tensor_autograd", "all_reduce",
    "all_reduce_coalesced", "all_to_all_single", "all_to_all_single_autograd", "broadcast", "reduce_scatter_single",
    "reduce_scatter_single_autograd", "reduce_scatter_single_coalesced", "reduce_scatter_tensor",
    "reduce_scatter_tensor_autograd", "reduce_scatter_tensor_coalesced",
)  # fmt: skip
"""Functions of ``torch.distributed._functional_collectives``: they issue a collective, ``wait_tensor`` waits for it."""

UNEVEN = ("all_to_all_single", "all_to_all_single_autograd")
"""Those of them whose shapes may differ between ranks."""

STORE_WAITS = ("get", "multi_get", "wait")


def record_torch(recorder: Recorder, c10d: Any) -> None:
    """Record the collectives of ``torch.distributed.distributed_c10d``, which is imported."""
    torch = sys.modules.get("torch")
    recorder.hide(os.path.dirname(getattr(torch, "__file__", None) or c10d.__file__) + os.sep)
    groups = groups_of(c10d)
    for name, parameter in GROUP_WIDE.items():
        _wrap(recorder, c10d, name, partial(_group_wide, name, parameter, groups))
    for name, parameter in TO_ONE_PEER.items():
        _wrap(recorder, c10d, name, partial(_to_peer, name, parameter, groups))
    for name in OF_GROUPS:
        _wrap(recorder, c10d, name, partial(_of_groups, name, groups, recorder, c10d))
    work = getattr(c10d, "Work", None)
    if isinstance(work, type) and "wait" in vars(work):
        work.wait = _named_like(work.wait, recorder.wrap_wait(work.wait))  # type: ignore[attr-defined]
    store = getattr(c10d, "Store", None)
    for name in STORE_WAITS:
        if isinstance(store, type) and name in vars(store):
            method = getattr(store, name)
            setattr(store, name, _named_like(method, recorder.wrap(method, _store_wait(name))))


def record_functional(recorder: Recorder, module: Any) -> None:
    """Record ``torch.distributed._functional_collectives``, which is imported."""
    groups = groups_of(module.c10d)
    for name in FUNCTIONAL:
        function = getattr(module, name, None)
        if function is not None:
            describe = _functional(name, groups, Reach(function))
            detour(function, _unless_compiling(partial(_issuing, recorder, describe)))
    detour(module.wait_tensor, _unless_compiling(partial(_waiting, recorder)))


def _issuing(recorder: Recorder, describe: Describe, original: Callable[..., Any]) -> Callable[..., Any]:
    """Return a functional collective that is recorded until the memory of its result is waited for."""
    recorded = recorder.wrap(original, describe)

    def issue(*args: Any, **options: Any) -> Any:
        result = recorded(*args, **options)
        issued = recorder.pending.pop(id(result), None)
        if issued is not None:
            parts = result if isinstance(result, list) else (result,)
            waiting = [_memory(part) for part in parts if hasattr(part, "elem")]
            recorder.pending.update(dict.fromkeys(waiting, issued))
            if not waiting:  # the function has waited itself, as it does to gather in another dimension
                recorder.leave(*issued)
        return result

    return issue


def _waiting(recorder: Recorder, original: Callable[..., Any]) -> Callable[..., Any]:
    recorded = recorder.wrap_wait(original, _memory)

    def wait_tensor(tensor: Any) -> Any:
        return recorded(tensor)

    return wait_tensor


def _memory(tensor: Any) -> int:
    """Return a number for the memory of a tensor, which its views have in common with it."""
    inner = getattr(tensor, "elem", tensor)
    try:
        return int(inner.untyped_storage()._cdata)  # noqa: SLF001 - the wait in C++ goes by it, too
    except Exception:  # a kind of tensor without memory
        return id(inner)


def _unless_compiling(wrap: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return a wrap whose functions leave torch's compiler, which follows their calls, the original."""
    torch: Any = sys.modules["torch"]  # which may not have its compiler yet

    def make(original: Callable[..., Any]) -> Callable[..., Any]:
        recorded = wrap(original)

        def either(*args: Any, **options: Any) -> Any:
            if torch.compiler.is_compiling():
                return original(*args, **options)
            return recorded(*args, **options)

        return either

    return make


def record_ddp(recorder: Recorder, module: Any) -> None:
    """Record what ``torch.nn.parallel.distributed``, which is imported, does in C++: see ``Reducers``."""
    kind = getattr(module, "DistributedDataParallel", None)
    c10d = sys.modules.get("torch.distributed.distributed_c10d")
    if kind is None or c10d is None:
        return  # a torch without distributed
    reducers = Reducers(recorder, groups_of(c10d), module)
    for name, operation in (("__init__", "DDP init"), ("_sync_buffers", "DDP buffers")):
        function = getattr(kind, name, None)
        if function is not None:
            describe = reducers.describe_init if name == "__init__" else reducers.describe(operation)
            detour(function, lambda original, describe=describe: recorder.wrap(original, describe))  # type: ignore[misc]
    if hasattr(kind, "_post_forward"):
        detour(kind._post_forward, reducers.arming)  # noqa: SLF001 - where torch itself prepares its reducer


class Reducers:
    """Backward passes of DDP modules, whose collectives are called in C++.

    The place in its group of all that a module reduces in one pass is that of one collective, ``DDP backward``. It
    begins when the gradient of an output of the module arrives, and ends with the pass.
    """

    def __init__(self, recorder: Recorder, groups: Groups, module: Any) -> None:
        self._recorder, self._groups, self._module = recorder, groups, module
        self._names: dict[int, str] = {}
        self._counts: dict[str, int] = {}
        self._calls: dict[tuple[About, str, str], Call] = {}
        self._backward: dict[int, Call] = {}
        self._open: list[tuple[Ticket, Call]] = []
        self._passes: list[Any] = []  # the frames that have begun them
        self._watches_passes = False

    def describe(self, operation: str) -> Describe:
        """Return a function that describes a call of a method of a module."""
        return lambda args, _: self._call(operation, args[0].process_group, self._name(args[0]))

    def describe_init(self, args: tuple[Any, ...], options: dict[str, Any]) -> Call | None:
        """Describe the construction of a module, in which ranks compare and broadcast its parameters."""
        if options.get("device_mesh") is not None:
            return None
        inner = args[1] if len(args) > 1 else options["module"]
        return self._call("DDP init", options.get("process_group"), self._number(id(args[0]), inner))

    def arming(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """Return a method that looks out for the backward pass after each forward pass with gradients."""
        torch = sys.modules["torch"]

        def post_forward(ddp: Any, output: Any) -> Any:
            result = original(ddp, output)
            if torch.compiler.is_compiling():
                return result
            try:
                if ddp.require_backward_grad_sync and torch.is_grad_enabled():
                    self._look_out(ddp, result, torch)
            except Exception as error:
                sys.stderr.write(f"derail: a backward pass is not recorded: {type(error).__name__}: {error}\n")
            return result

        return post_forward

    def _look_out(self, ddp: Any, output: Any, torch: Any) -> None:
        if not self._watches_passes:
            self._watches_passes = True
            detour(torch.autograd.graph._engine_run_backward, self._closing)  # noqa: SLF001 - all passes begin in it
        call = self._backward.get(id(ddp))
        if call is None:
            call = self._backward[id(ddp)] = self._call("DDP backward", ddp.process_group, self._name(ddp))
        is_awaited = True

        def begin(_: Any) -> None:
            nonlocal is_awaited
            if is_awaited and self._passes:
                is_awaited = False
                ticket = self._recorder.enter(call, 1, self._passes[-1])
                if ticket is not None:
                    self._open.append((ticket, call))

        tensors = (output,) if isinstance(output, torch.Tensor) else self._module._find_tensors(output)  # noqa: SLF001
        for tensor in tensors:
            node = tensor.grad_fn
            if node is not None:
                node.register_prehook(begin)

    def _closing(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function that records the end of what has begun in a pass."""

        def run(*args: Any, **options: Any) -> Any:
            before = len(self._open)
            self._passes.append(sys._getframe(1))  # noqa: SLF001 - the caller
            raised = True
            try:
                result = original(*args, **options)
                raised = False
                return result
            finally:
                self._passes.pop()
                while len(self._open) > before:
                    self._recorder.leave(*self._open.pop(), raised=raised)

        return run

    def _call(self, operation: str, group: Any, name: str) -> Call:
        about = self._groups.about(group)
        call = self._calls.get((about, operation, name))
        if call is None:
            words, label, ranks = about
            call = Call(operation, words, label=label, ranks=ranks, shapes=name, flags=COMPARED)
            keep(self._calls, (about, operation, name), call)
        return call

    def _name(self, ddp: Any) -> str:
        return self._names.get(id(ddp)) or self._number(id(ddp), ddp.module)

    def _number(self, key: int, inner: Any) -> str:
        """Name a module after its class; a further one of the class has its number, too."""
        self._backward.pop(key, None)
        kind = type(inner).__name__
        count = self._counts[kind] = self._counts.get(kind, 0) + 1
        self._names[key] = kind if count == 1 else f"{kind} {count}"
        return self._names[key]


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

    def of_functional(self, group: Any) -> About | None:
        """Return the same of a group as functional collectives are given it; None of a deprecated list of ranks."""
        if isinstance(group, str):
            name = group
        elif isinstance(group, list):
            return None
        else:
            mesh, dim = group if isinstance(group, tuple) else (group, 0)
            names = getattr(mesh, "_dim_group_names", None)
            if names is None:
                return self.about(group)
            name = names[dim]
        known = self._groups.get(name)
        return self._learn(name, self._c10d._resolve_process_group(name)) if known is None else known  # noqa: SLF001

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


@cache
def groups_of(c10d: Any) -> Groups:
    """Return the groups of this process, one object for all that record them: what a new group changes reaches all."""
    return Groups(c10d)


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


def _functional(name: str, groups: Groups, reach: Reach) -> Describe:
    group_of = reach.of("group")
    flags = ASYNC if name in UNEVEN else ASYNC | COMPARED
    calls: dict[object, Call] = {}

    def describe(args: tuple[Any, ...], options: dict[str, Any]) -> Call | None:
        about = groups.of_functional(group_of(args, options))
        if about is None:
            return None
        tensor = args[0] if args else next(iter(options.values()))
        shapes = groups.shape(tensor)
        call = calls.get((about, shapes))
        if call is None:
            group, label, ranks = about
            call = keep(calls, (about, shapes), Call(name, group, label=label, ranks=ranks, shapes=shapes, flags=flags))
        return call

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


def _of_groups(name: str, groups: Groups, recorder: Recorder, c10d: Any, reach: Reach) -> Describe:
    only_members = reach.of("use_local_synchronization")
    call = Call(name, "groups", ranks=as_ranges(range(recorder.world)))

    def describe(args: tuple[Any, ...], options: dict[str, Any]) -> Call | None:
        groups.forget()
        if recorder.ring is not None:
            torch_trace.answer(recorder.ring.directory, recorder.rank, c10d, recorder.is_hidden)
        # If only the members call it, calls of different ranks cannot be matched.
        return None if only_members(args, options) else call

    return describe


def _store_wait(name: str) -> Describe:
    def describe(args: tuple[Any, ...], options: dict[str, Any]) -> Call:
        keys = args[1] if len(args) > 1 else next(iter(options.values()), "")
        return Call(f"store.{name}", "store", flags=STORE, subject=keys if isinstance(keys, str) else ", ".join(keys))

    return describe
