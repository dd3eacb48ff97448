"""Kinds of break: how a run is broken at a point."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from derail.model.input_error import InputError, not_known
from derail.recovery.profiles import load_profile, shipped_profiles

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from derail.recovery.points import Point

Name: TypeAlias = Literal["kill", "power", "preempt", "disk-full", "io-error", "slow"]
VICTIMS = ("all", "ranks", "rank", "launcher")
STATES = ("lost", "names", "torn")
"""What remains after a loss of power: only what was synchronized; or all names, with unsynchronized data missing; or
all names, with unsynchronized data cut at a page boundary."""
SLOW_SECONDS = 10.0
DEFAULT = ("kill", "preempt=terminate")
_WITHOUT = {"disk-full": errno.ENOSPC, "io-error": errno.EIO}


@dataclass(frozen=True, slots=True)
class Break:
    """Kind of break.

    Attributes:
        name: the kind.
        what: the victim of a kill, the state after a loss of power, or the profile of a preemption.
        seconds: how long a slow operation takes.
    """

    name: Name
    what: str = ""
    seconds: float = SLOW_SECONDS

    def __str__(self) -> str:
        """Return it as on the command line."""
        return f"{self.name}={self.what}" if self.what else self.name

    @property
    def ends_job(self) -> bool:
        """Whether everything is killed at once."""
        return self.name == "power" or (self.name == "kill" and self.what == "all")

    @property
    def errno(self) -> int:
        """Error number with which the operation fails; 0 if it does not fail."""
        return _WITHOUT.get(self.name, 0)

    def words(self) -> str:
        """Return text such as ``killed``, for a report."""
        match self.name:
            case "kill":
                return {
                    "all": "killed", "ranks": "all ranks killed", "rank": "the acting rank killed",
                    "launcher": "the launcher killed",
                }[self.what]  # fmt: skip
            case "power":
                return {
                    "lost": "power lost (all unsynchronized changes lost)",
                    "names": "power lost (names kept, unsynchronized data lost)",
                    "torn": "power lost (names kept, unsynchronized data torn)",
                }[self.what]
            case "preempt":
                return f"preempted ({self.what})"
            case "slow":
                return f"slowed down by {self.seconds:g} s"
        return {"disk-full": "disk full (ENOSPC)", "io-error": "I/O error (EIO)"}[self.name]

    def suits(self, point: Point, *, first_of_save: bool) -> bool:
        """Return whether a run is broken in this way at the point.

        An error or a delay needs an operation. A preemption takes long, and is tried at lines and at the first
        operation of each save.
        """
        if self.name in ("disk-full", "io-error", "slow"):
            return not point.is_line
        return self.name != "preempt" or point.is_line or first_of_save


def read_breaks(words: Iterable[str], *, scale: float = 1.0) -> tuple[Break, ...]:
    """Return the kinds of break that these words name, several in one word separated by commas.

    Raises:
        InputError: with all errors in them.
    """
    problems: list[str] = []
    found: dict[Break, None] = {}
    for word in (part.strip() for text in words for part in text.split(",")):
        name, _, what = word.partition("=")
        try:
            found.update(dict.fromkeys(_read(name, what, scale)))
        except (ValueError, InputError) as error:
            problems.append(f"--break {word}: {error}")
    if problems:
        raise InputError(*problems)
    return tuple(found)


def _read(name: str, what: str, scale: float) -> Iterator[Break]:
    match name:
        case "kill":
            yield Break("kill", _one_of(what or "all", VICTIMS, "victim"))
        case "power":
            for state in [_one_of(what, STATES, "state")] if what else STATES:
                yield Break("power", state)
        case "preempt":
            if not what:
                raise ValueError(f"expected preempt=PROFILE, with one of {', '.join(shipped_profiles())} or a file")
            load_profile(what)
            yield Break("preempt", what)
        case "slow":
            seconds = float(what) if what else SLOW_SECONDS
            if not 0 < seconds < 3600:
                raise ValueError(f"expected seconds above 0 and below 3600, got {what}")
            yield Break("slow", seconds=seconds * scale)
        case "disk-full" | "io-error":
            if what:
                raise ValueError(f"{name} takes no value, got {what!r}")
            yield Break(name)
        case _:
            kinds = ("kill", "power", "preempt", "disk-full", "io-error", "slow")
            raise ValueError(not_known(name, kinds, "kind of break"))


def _one_of(word: str, known: tuple[str, ...], noun: str) -> str:
    if word not in known:
        raise ValueError(not_known(word, known, noun))
    return word
