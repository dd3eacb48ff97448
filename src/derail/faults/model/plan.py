"""What to break, as frozen values: a fault says what, whom, when, how often and for how long; a plan is a set of them
with a seed.

Nothing here knows which faults exist: ``registry`` checks names and parameters, ``codec`` reads and writes plans.
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
    """One thing to break.

    Attributes:
        name: its name in the catalogue.
        target: a rank, several ranks, or a word that ``targets`` resolves ("all", "one", "minority" ...).
        params: what it takes, by name, as far as it differs from the defaults.
        when: what sets it off, once per rank that it is aimed at.
        times: how often it acts: once each time that what sets it off comes, or, if that comes once, so often in a row.
        for_: seconds until it is undone; None leaves it until the end of the job.
        id: names it in journal and results, and seeds its decisions. A plan fills in what is left empty, from what the
            fault says and not from where it stands.
        defaults: what it takes where nothing is given, by name. Which fault it is says that already.
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
        """All parameters by name, given or by default."""
        return {**dict(self.defaults), **dict(self.params)}

    def param(self, name: str) -> Value:
        """The value of one parameter, given or by default.

        Raises:
            KeyError: if this fault has no such parameter.
        """
        return self.values[name]

    def data(self) -> dict[str, Data]:
        """The fault as plain data, as it stands in TOML and JSON, without its id."""
        told: dict[str, Data] = {"fault": self.name}
        told.update((name, _plain(value)) for name, value in self.params)
        told["rank"] = list(self.target) if isinstance(self.target, tuple) else self.target
        told["when"] = to_data(self.when)
        if self.times != 1 or comings(self.when) not in (None, 1):
            told["times"] = self.times
        if self.for_ is not None:
            told["for"] = self.for_
        return told

    def __str__(self) -> str:
        """``signal SIGKILL on rank 2 at line 'step 3'``."""
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
    """Faults, and the seed of every decision that they leave open. Two plans are equal if they say the same.

    Attributes:
        faults: what to break; each has an id.
        seed: of all decisions.
        keep_alive: so many ranks are left alone by all faults.
    """

    faults: tuple[Fault, ...] = ()
    seed: int = 0
    keep_alive: int = 0

    def __post_init__(self) -> None:
        """Refuse a seed that no file can hold, and give every fault an id of its own."""
        if type(self.keep_alive) is not int or self.keep_alive < 0:
            raise InputError(f"keep_alive: expected a number of ranks, 0 or more, got {self.keep_alive!r}")
        if type(self.seed) is not int or not 0 <= self.seed < 2**63:
            raise InputError(f"seed: expected a whole number from 0 to 2**63 - 1, got {self.seed!r}")
        object.__setattr__(self, "faults", _with_ids(self.faults))

    def data(self) -> dict[str, Data]:
        """The plan as plain data, ids included."""
        told: dict[str, Data] = {"seed": self.seed}
        if self.keep_alive:
            told["keep_alive"] = self.keep_alive
        return {**told, "faults": [{**fault.data(), "id": fault.id} for fault in self.faults]}

    @property
    def hash(self) -> str:
        """Sixteen hex digits that are the same for the same plan, on every machine."""
        return digest(self.data())


def plan(faults: Iterable[Fault] = (), *, seed: int = 0, keep_alive: int = 0) -> Plan:
    """Put faults together under one seed; ``keep_alive`` ranks are left alone by all of them.

    Raises:
        InputError: if two faults were given the same id, or the seed is no whole number from 0 to 2**63 - 1.
    """
    return Plan(tuple(faults), seed, keep_alive)


def digest(data: Data) -> str:
    """Sixteen hex digits of plain data, whatever the order of its keys."""
    import hashlib
    import json

    text = json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def decide(seed: int, *about: int | str) -> int:
    """A number below 2 ** 64 for one decision: the same for the same seed and subject, independent of all others."""
    return int(digest([seed, *about]), 16)


def _with_ids(faults: Sequence[Fault]) -> tuple[Fault, ...]:
    given = [fault.id for fault in faults if fault.id]
    twice = sorted({name for name in given if given.count(name) > 1})
    if twice:
        raise InputError(*(f"faults: the id {name!r} is given to two faults; each needs its own" for name in twice))
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
