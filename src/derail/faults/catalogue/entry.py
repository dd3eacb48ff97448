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
    """Parameter of a fault.

    Attributes:
        name: its name, in Python, TOML and JSON.
        read: converts a given value to its normal form, or raises ValueError with the expected form.
        meaning: one sentence for users.
        type: the type for users: "signal", "seconds", "text" ...
        choices: the allowed words; empty if any value is allowed.
        default: the default.
        required: whether it has no default.
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
    """Requirements of a fault on the machine and on the rank.

    Attributes:
        needs: the requirements in words, for users.
        unavailable: returns why the fault is impossible on this machine; empty if it is possible.
    """

    needs: str
    unavailable: Callable[[], str] = str


@dataclass(frozen=True, slots=True)
class Acts:
    """Triggers and repetition of a fault.

    Attributes:
        triggers: the words of the allowed triggers; empty for all that its side can detect.
        default: the trigger if none is given.
        repeats: whether it may be injected more than once.
        lasts: whether ``for_`` may undo it before the end of the job.
    """

    triggers: tuple[str, ...] = ()
    default: Trigger = field(default_factory=Start)
    repeats: bool = False
    lasts: bool = False


@dataclass(frozen=True, slots=True)
class Setup:
    """Preparations of a fault before its injection, independent of its trigger, in this order.

    Attributes:
        prepare: changes the target rank before it starts. Raises InputError if that is impossible for this rank.
        await_rank: prepares before any rank starts.
        begin: prepares when the rank runs.
    """

    prepare: Callable[[RankSpec, Fault], RankSpec] = lambda rank, _: rank
    await_rank: Callable[[Aim], None] = lambda _: None
    begin: Callable[[Aim], None] = lambda _: None


@dataclass(frozen=True, slots=True)
class Entry:
    """Declaration of a fault.

    Attributes:
        name: its name, in Python, TOML and JSON.
        side: where it acts.
        summary: its effect, as a sentence.
        inject: injects (outside), or returns how to verify the effect after the rank has reported it (in rank).
        verified: its evidence, for users.
        healed: how it is undone, for users; empty if it cannot be.
        example: a line of Python.
        requires: its requirements on the machine and on the rank.
        params: its parameters, in the order of positional arguments.
        acts: its triggers and repetition.
        setup: its preparations.
        check: returns the problem with a combination of parameters; empty if there is none.
        before_launcher: whether derail must inspect the exit of the rank before a launcher acts on it: the launcher
            would remove the evidence, or read a file before it is damaged.
        family: the module of its declaration; the registry sets it.
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
        """Optional parameters with their defaults."""
        return tuple((param.name, param.default) for param in self.params if not param.required)
