"""Ranks whose environment is wrong, so that they look for their peers at the wrong place or for the wrong ones.

Part of the family ``network``.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from derail.faults.catalogue.entry import Acts, Entry, Param, Requires, Setup
from derail.faults.catalogue.injector_api import Soon
from derail.faults.catalogue.params import count_param, read_text, text_param
from derail.faults.injectors.resources import living
from derail.faults.model.results import Errored, Injected, NotReached
from derail.model.input_error import InputError
from derail.model.spec import Function
from derail.platform.capabilities import PROC, why_no_proc

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from derail.faults.catalogue.injector_api import Aim, Step
    from derail.faults.model.plan import Fault, Value
    from derail.faults.model.results import Result
    from derail.model.exit import ExitStatus
    from derail.model.spec import RankSpec


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
