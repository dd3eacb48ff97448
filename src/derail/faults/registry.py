"""Which faults exist: by name, who injects each, what it takes, what it needs, how it is verified and how it heals.

A new fault is a function and an ``Entry`` in the file of its family under ``injectors`` (and, if it acts inside the
rank, an action of the same name under ``inrank``). Everything else (builders, TOML, checks, documentation) follows.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING

from derail.faults.model.plan import Fault
from derail.faults.model.targets import read_target
from derail.faults.model.triggers import KINDS, OwnExit, Trigger, comings, walk, word_of
from derail.model.input_error import InputError, not_known

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from derail.faults.catalogue.entry import Entry, Param, Side
    from derail.faults.model.plan import Value

FAMILIES = (
    "process",
    "crashes",
    "signals",
    "hang",
    "values",
    "errorfile",
    "checkpoints",
    "resources",
    "stragglers",
    "syscalls",
    "network",
    "clock",
    "logs",
    "supervisor",
)
"""Modules under ``injectors``; each has its ``ENTRIES``."""

COMMON = ("rank", "when", "times", "for", "id")
"""What every fault has."""
RESERVED = (*COMMON, "fault", "for_")
"""What no parameter may be called."""


PUBLIC = ("Fault", "Plan", "InputError", "Target", "fail_point", "plan")
"""What ``derail.faults`` has beside a function for each fault."""


def public_names() -> list[str]:
    """Return all names of ``derail.faults``, sorted."""
    return sorted((*PUBLIC, *entries()))


@cache
def entries() -> Mapping[str, Entry]:
    """All faults by name, in the order of the families."""
    from dataclasses import replace

    found: dict[str, Entry] = {}
    for family in FAMILIES:
        for entry in import_module(f"derail.faults.injectors.{family}").ENTRIES:
            taken = [param.name for param in entry.params if param.name in RESERVED]
            if entry.name in found or taken:
                raise ValueError(f"injectors/{family}.py: {entry.name!r} or its parameters {taken} are taken already")
            found[entry.name] = replace(
                entry, family=family, acts=replace(entry.acts, triggers=entry.acts.triggers or _heard(entry.side))
            )
    return found


def _heard(side: Side) -> tuple[str, ...]:
    """Return the triggers that a fault can have on its side: in a rank all but the end of that rank."""
    return tuple(word for word in KINDS if not (side == "in rank" and KINDS[word] is OwnExit))


def entry(name: str) -> Entry:
    """Return the entry of a fault.

    Raises:
        InputError: if there is no such fault.
    """
    found = entries().get(name)
    if found is None:
        raise InputError(not_known(name, entries(), "fault", list_with="derail list faults"))
    return found


def make(
    name: str,
    given: Mapping[str, object],
    problems: list[str],
    *,
    where: str = "",
    rank: object = None,
    when: Trigger | None = None,
    times: int | None = None,
    for_: float | None = None,
    id: str = "",  # noqa: A002 - the word that the plan uses
) -> Fault | None:
    """Check everything about a fault and make it. What is wrong is added to ``problems`` under ``where``; then None."""
    before = len(problems)

    def note(key: str, what: str) -> None:
        problems.append(f"{where}{'.' if where and key else ''}{key}: {what}" if where or key else what)

    known = entries().get(name)
    if known is None:
        note("fault" if where else "", not_known(name, entries(), "fault", list_with="derail list faults"))
        return None
    values = _read_params(known, given, note)
    target, wrong = read_target(rank)
    if wrong:
        note("rank", wrong)
    before_common = len(problems)
    _check_common(when, times, for_, id, note)
    if len(problems) > before_common:
        return None
    trigger = known.acts.default if when is None else when
    never = [word_of(part) for part in walk(trigger) if word_of(part) not in known.acts.triggers]
    if never:
        note("when", f"{name!r} cannot act {trigger}; its triggers: {', '.join(known.acts.triggers)}")
    many = comings(trigger) or 1
    often = (many if known.acts.repeats else 1) if times is None else times
    if often < 1 or (often > 1 and not known.acts.repeats):
        note("times", f"{name!r} acts once" if often > 1 else f"expected 1 or more, got {times}")
    elif 1 < many < often or (many > 1 and not known.acts.repeats):
        note("times", f"{name!r} is to act {often} times; {trigger} comes {many} times")
    if for_ is not None and not known.acts.lasts:
        note("for", f"{name!r} cannot be undone after a while")
    if for_ is not None and not 0 <= for_ < float("inf"):
        note("for", f"expected a number of seconds, 0 or more, got {for_!r}")
    if len(problems) == before and (clash := known.check(values)):
        note("", clash)
    if len(problems) > before or target is None:
        return None
    pairs = tuple((param.name, values[param.name]) for param in known.params if _differs(param, values[param.name]))
    return Fault(name, target, pairs, trigger, often, None if for_ is None else float(for_), id, known.defaults)


def _check_common(when: object, times: object, for_: object, name: object, note: Callable[[str, str], None]) -> None:
    """Note what has a wrong type; what a value of the right type means is checked by ``make``."""
    if when is not None and not isinstance(when, Trigger):
        note("when", f"expected a trigger of derail.when, got {when!r}")
    if times is not None and type(times) is not int:
        note("times", f"expected 1 or more, got {times!r}")
    if for_ is not None and (isinstance(for_, bool) or not isinstance(for_, int | float)):
        note("for", f"expected a number of seconds, 0 or more, got {for_!r}")
    if not isinstance(name, str):
        note("id", f"expected a string, got {name!r}")


def _read_params(known: Entry, given: Mapping[str, object], note: Callable[[str, str], None]) -> dict[str, Value]:
    values: dict[str, Value] = {}
    for param in known.params:
        if param.name not in given:
            values[param.name] = param.default
            if param.required:
                note(param.name, f"is missing: {param.meaning}")
            continue
        try:
            values[param.name] = param.read(given[param.name])
        except ValueError as error:
            note(param.name, str(error))
    names = [param.name for param in known.params]
    for key in given:
        if key not in names:
            note(key, not_known(key, [*names, *COMMON], f"parameter of {known.name!r}"))
    return values


def _differs(param: Param, value: Value) -> bool:
    # 0 == False == 0.0 for Python; a plan must say which of them it is.
    return param.required or (type(value), value) != (type(param.default), param.default)


def builder(name: str) -> Callable[..., Fault]:
    """Return the function that makes one kind of fault: ``builder("signal")("SIGKILL", rank=2)``.

    Raises:
        InputError: if there is no such fault.
    """
    from derail.faults.catalogue.signature import docstring, signature

    known = entry(name)

    def build(
        *args: object,
        rank: object = ...,
        when: Trigger | None = None,
        times: int | None = None,
        for_: float | None = None,
        id: str = "",  # noqa: A002 - the word that the plan uses
        **params: object,
    ) -> Fault:
        names = [param.name for param in known.params]
        if len(args) > len(names):
            raise TypeError(f"faults.{name} takes {len(names)} values by position, got {len(args)}")
        given = dict(zip(names, args, strict=False))
        twice = given.keys() & params.keys()
        if twice:
            raise TypeError(f"faults.{name} got {', '.join(sorted(twice))} by position and by name")
        if rank is ... and params.keys() <= {*names}:
            raise TypeError(f"faults.{name}() needs rank=...: a rank, a list of ranks, or a word like 'all'")
        problems: list[str] = []
        made = make(
            name, {**given, **params}, problems, where=f"faults.{name}",
            rank=None if rank is ... else rank, when=when, times=times, for_=for_, id=id,
        )  # fmt: skip
        if made is None:
            raise InputError(*problems)
        return made

    build.__name__ = build.__qualname__ = name
    build.__module__ = "derail.faults"
    build.__doc__ = docstring(known)
    build.__signature__ = signature(known)  # type: ignore[attr-defined]
    return build
