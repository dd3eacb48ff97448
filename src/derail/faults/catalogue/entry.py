"""Declaration of a fault by its injector.

The reasons are in docs/adr/verified-or-inconclusive.md.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

from derail.faults.model.triggers import Start

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from derail.faults.catalogue.injector_api import Aim, Step
    from derail.faults.model.plan import Fault, Value
    from derail.faults.model.triggers import Trigger
    from derail.model.spec import RankSpec

Side: TypeAlias = Literal["outside", "in rank", "before start"]


@dataclass(frozen=True, slots=True)
class Param:
    """One parameter of a fault.

    Attributes:
        name: its name, in Python, TOML and JSON.
        read: turns what was given into what is kept, or raises ValueError with what was expected.
        meaning: one sentence.
        type: what is given, for people: "signal", "seconds", "text" ...
        choices: the words of which one is given; empty if it is no choice.
        default: what it is if it is not given.
        required: whether it must be given.
    """

    name: str
    read: Callable[[object], Value]
    meaning: str
    type: str
    default: Value = None
    required: bool = False
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Requires:
    """What a fault needs of the machine and of the rank.

    Attributes:
        needs: in words, for people.
        unavailable: says why the fault cannot be done on this machine; empty if it can.
    """

    needs: str
    unavailable: Callable[[], str] = str


@dataclass(frozen=True, slots=True)
class Acts:
    """When and how often a fault may act.

    Attributes:
        triggers: the words of the triggers that may set it off; empty for all that its side can see.
        default: the trigger if none is given.
        repeats: whether it may act more than once.
        lasts: whether ``for_`` may undo it before the end of the job.
    """

    triggers: tuple[str, ...] = ()
    default: Trigger = field(default_factory=Start)
    repeats: bool = False
    lasts: bool = False


@dataclass(frozen=True, slots=True)
class Setup:
    """What a fault does before it acts, whatever its trigger, in this order.

    Attributes:
        prepare: changes the rank that it is aimed at before it is started. Raises InputError if that rank cannot be
            changed so.
        await_rank: gets ready before any rank is started.
        begin: gets ready when the rank runs.
    """

    prepare: Callable[[RankSpec, Fault], RankSpec] = lambda rank, _: rank
    await_rank: Callable[[Aim], None] = lambda _: None
    begin: Callable[[Aim], None] = lambda _: None


@dataclass(frozen=True, slots=True)
class Entry:
    """One fault.

    Attributes:
        name: its name, in Python, TOML and JSON.
        side: where it acts.
        summary: what it does, as a sentence.
        inject: acts (outside), or says how the effect is proved once the rank has reported that it acts (in rank).
        verified: how it is proved, as a sentence.
        healed: how it is undone, as a sentence; empty if it cannot be.
        example: a line of Python.
        requires: what it needs of the machine and of the rank.
        params: what it takes, in the order in which Python takes them by position.
        acts: when and how often it may act.
        setup: what it does before it acts.
        check: says what is wrong with a combination of parameters; empty if nothing.
        before_launcher: whether a launcher must not act on the exit of the rank before derail has looked at it, as it
            would take the proof away, or read what is still to be damaged.
        family: the file that it stands in; filled in by the registry.
    """

    name: str
    side: Side
    summary: str
    inject: Callable[[Aim], Step]
    verified: str
    healed: str
    example: str
    requires: Requires
    params: tuple[Param, ...] = ()
    acts: Acts = Acts()
    setup: Setup = Setup()
    check: Callable[[Mapping[str, Value]], str] = lambda _: ""
    before_launcher: bool = False
    family: str = ""

    @property
    def defaults(self) -> tuple[tuple[str, Value], ...]:
        """The parameters that need not be given, with their defaults."""
        return tuple((param.name, param.default) for param in self.params if not param.required)
