"""Faults and plans as frozen values.

A fault states what to break, on which ranks, when, how often and for how long; a plan is a set of faults with a seed.

This module does not use the catalogue: ``registry`` checks names and parameters, ``codec`` reads and writes plans.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal, TypeAlias

from derail.faults.model.triggers import comings, to_data
from derail.model.input_error import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from derail.faults.model.triggers import Data, Trigger

Value: TypeAlias = bool | int | float | str | tuple[str, ...] | None
TargetWord: TypeAlias = Literal["all", "one", "minority", "majority", "all but one", "the agent"]
Target: TypeAlias = int | tuple[int, ...] | TargetWord


_WHOM = {
    "all": "all ranks",
    "one": "one of the ranks",
    "all but one": "all but one of the ranks",
    "the agent": "the agent",
}


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault: what to break, where and when.

    Attributes:
        name: the name in the catalogue.
        target: a rank, several ranks, or a word that ``targets`` resolves ("all", "one", "minority" ...).
        params: parameters by name, as far as they differ from the defaults.
        when: the trigger, evaluated for each target rank separately.
        times: the number of injections: one per occurrence of the trigger, or, if it can fire only once, all in a row.
        for_: seconds until it is undone; None leaves it until the end of the job.
        id: the name in journal and results, which also seeds its random decisions. A plan fills in an empty id from the
            content of the fault, not from its position.
        defaults: default parameters by name; they follow from the fault's name, so they do not count in comparisons.
    """

    name: str
    target: Target
    params: tuple[tuple[str, Value], ...]
    when: Trigger
    times: int = 1
    for_: float | None = None
    id: str = ""
    defaults: tuple[tuple[str, Value], ...] = field(default=(), compare=False, repr=False)

    @property
    def values(self) -> dict[str, Value]:
        """Parameters by name, given or by default."""
        return {**dict(self.defaults), **dict(self.params)}

    def param(self, name: str) -> Value:
        """Return the value of one parameter, given or by default.

        Raises:
            KeyError: if this fault has no such parameter.
        """
        return self.values[name]

    def data(self) -> dict[str, Data]:
        """Return the fault as plain data for TOML and JSON, without its id."""
        data: dict[str, Data] = {"fault": self.name}
        data.update((name, _plain(value)) for name, value in self.params)
        data["rank"] = list(self.target) if isinstance(self.target, tuple) else self.target
        data["when"] = to_data(self.when)
        if self.times != 1 or comings(self.when) not in (None, 1):
            data["times"] = self.times
        if self.for_ is not None:
            data["for"] = self.for_
        return data

    def __str__(self) -> str:
        """Return a description such as ``signal SIGKILL on rank 2 at line 'step 3'``."""
        target = self.target
        whom = f"rank {target}" if isinstance(target, int) else _WHOM.get(str(target), f"{target} of the ranks")
        if isinstance(target, tuple):
            whom = f"ranks {', '.join(map(str, target))}"
        what = " ".join(_shown(name, value) for name, value in self.params)
        often = "" if self.times == 1 else f", {self.times} times"
        long = "" if self.for_ is None else f", for {self.for_:g} s"
        return " ".join(part for part in (self.name, what, f"on {whom} {self.when}") if part) + often + long


@dataclass(frozen=True, slots=True)
class Plan:
    """Set of faults with the seed of all their random decisions. Plans with equal content are equal.

    Attributes:
        faults: the faults; each has an id.
        seed: the seed of all decisions.
        keep_alive: the number of ranks that no fault may target.
    """

    faults: tuple[Fault, ...] = ()
    seed: int = 0
    keep_alive: int = 0

    def __post_init__(self) -> None:
        """Refuse a seed that does not fit into a file, and give every fault a unique id."""
        if type(self.keep_alive) is not int or self.keep_alive < 0:
            raise InputError(f"keep_alive: expected a number of ranks, 0 or more, got {self.keep_alive!r}")
        if type(self.seed) is not int or not 0 <= self.seed < 2**63:
            raise InputError(f"seed: expected a whole number from 0 to 2**63 - 1, got {self.seed!r}")
        object.__setattr__(self, "faults", _with_ids(self.faults))

    def data(self) -> dict[str, Data]:
        """Return the plan as plain data, ids included."""
        data: dict[str, Data] = {"seed": self.seed}
        if self.keep_alive:
            data["keep_alive"] = self.keep_alive
        return {**data, "faults": [{**fault.data(), "id": fault.id} for fault in self.faults]}

    @property
    def hash(self) -> str:
        """Hash of the content in sixteen hex digits: equal plans have equal hashes on every machine."""
        return digest(self.data())


def plan(faults: Iterable[Fault] = (), *, seed: int = 0, keep_alive: int = 0) -> Plan:
    """Combine faults under one seed; no fault may target the ``keep_alive`` spared ranks.

    Raises:
        InputError: if two faults have the same id, or the seed is not an integer from 0 to 2**63 - 1.
    """
    return Plan(tuple(faults), seed, keep_alive)


def digest(data: Data) -> str:
    """Return a hash of plain data in sixteen hex digits, independent of the order of keys."""
    import hashlib
    import json

    text = json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def decide(seed: int, *about: int | str) -> int:
    """Return a number below 2 ** 64 for one decision: it depends only on the seed and the subject."""
    return int(digest([seed, *about]), 16)


def _with_ids(faults: Sequence[Fault]) -> tuple[Fault, ...]:
    given = [fault.id for fault in faults if fault.id]
    twice = sorted({name for name in given if given.count(name) > 1})
    if twice:
        raise InputError(*(f"faults: duplicate id: {name!r}. Give each fault a unique id" for name in twice))
    taken = set(given)
    named = []
    for fault in faults:
        if not fault.id:
            stem = f"{fault.name}-{digest(fault.data())[:6]}"
            name, copy = stem, 1
            while name in taken:
                copy += 1
                name = f"{stem}.{copy}"
            taken.add(name)
            named.append(replace(fault, id=name))
        else:
            named.append(fault)
    return tuple(named)


def _plain(value: Value) -> Data:
    return list(value) if isinstance(value, tuple) else value


def _shown(name: str, value: Value) -> str:
    if value is True:
        return name
    if isinstance(value, tuple):
        return f"{name}={','.join(value)}"
    return str(value) if name in ("signal", "code", "content", "type") else f"{name}={value!r}"
