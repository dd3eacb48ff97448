"""What a contract case is: something to do, the facts to expect of it, and what torch is known to make of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable

    from contract.implementations import Api
    from contract.stage import Stage

Facts: TypeAlias = dict[str, Any]

ALWAYS: Facts = {"finished": True, "left": "none"}
"""Facts that are taken of every case: it came to its end, and no process was left when its own had ended."""

MODULES = (
    "starting",
    "waiting",
    "values",
    "failing",
    "blaming",
    "evidence",
    "error_files",
    "recording",
    "closing",
    "signals",
    "leftovers",
    "streams",
    "log_files",
    "tee",
    "tailing",
    "redirecting",
)


class KnownTorchFault(AssertionError):
    """Torch did, once more, exactly what it is known to do wrong."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What torch makes of a case.

    Attributes:
        why: what it does, with the public issue, or "seen on 2.13.0".
        seen: facts that show this very fault and no other; at least one contradicts the expected ones.
        deadline: seconds after which torch counts as hung; short only where that is its fault.
        chance: why it does not show each time; empty if it does.
    """

    why: str
    seen: Facts
    deadline: float = 150.0
    chance: str = ""


@dataclass(frozen=True, slots=True)
class Case:
    """One case, run in a process of its own against each implementation."""

    name: str
    run: Callable[[Api, Stage], Facts]
    expect: Facts
    fault: Fault | None = None
    deadline: float = 150.0
    doc: str = field(default="", compare=False)


CASES: dict[str, Case] = {}


def add(
    name: str,
    run: Callable[[Api, Stage], Facts],
    *,
    expect: Facts,
    torch: Fault | None = None,
    deadline: float = 150.0,
    doc: str = "",
) -> None:
    """Register a case; ``expect`` is what both must show, ``torch`` what torch is known to show instead."""
    whole = ALWAYS | expect
    if name in CASES:
        raise ValueError(f"there are two contract cases called {name!r}; rename one")
    if torch is not None and all(whole.get(fact) == value for fact, value in torch.seen.items()):
        raise ValueError(f"the torch fault of case {name!r} contradicts none of the expected facts")
    if torch is not None and torch.seen.get("finished") is False and torch.deadline > 60:
        raise ValueError(f"the torch fault of case {name!r} is a hang; say after how many seconds it is one")
    CASES[name] = Case(name, run, whole, torch, deadline, doc or (run.__doc__ or ""))


def case(
    expect: Facts, *, torch: Fault | None = None, deadline: float = 150.0
) -> Callable[[Callable[[Api, Stage], Facts]], Callable[[Api, Stage], Facts]]:
    """Register the decorated function under its own name."""

    def register(run: Callable[[Api, Stage], Facts]) -> Callable[[Api, Stage], Facts]:
        add(run.__name__, run, expect=expect, torch=torch, deadline=deadline)
        return run

    return register


def load_cases() -> dict[str, Case]:
    """Import every module of cases, and return all cases by name."""
    for module in MODULES:
        import_module(f"contract.cases.{module}")
    return CASES
