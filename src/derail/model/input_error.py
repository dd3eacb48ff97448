"""The error for unusable input, and messages about unknown names that suggest the nearest known one."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

MOST_NAMES = 24
"""Number of known names that a message lists where none resembles the given one."""


class InputError(ValueError):
    """An error in a plan, scenario, declaration, journal, scorecard, agent or trigger, which makes it unusable.

    It is raised before anything is started.

    Attributes:
        problems: one line each: place, problem, remedy.
        source: the file or argument with the problems; precedes each line of the text. May be empty.
    """

    def __init__(self, *problems: str, source: str = "") -> None:
        self.problems = problems
        self.source = source
        super().__init__("\n".join(f"{source}: {problem}" if source else problem for problem in problems))


def not_known(word: str, known: Iterable[str], what: str, *, list_with: str = "") -> str:
    """Return the message that ``word`` is no known ``what``, with the nearest known name.

    Without a near one, it lists the known names, or the command ``list_with`` that prints them where there are many.
    """
    from difflib import get_close_matches

    names = list(known)
    near = get_close_matches(word.lower(), [name.lower() for name in names], n=1, cutoff=0.5)
    if near:
        meant = next(name for name in names if name.lower() == near[0])
        return f"unknown {what} {word!r}; did you mean {meant!r}?"
    if list_with and len(names) > MOST_NAMES:
        return f"unknown {what} {word!r}; '{list_with}' names all {len(names)}"
    shown = sorted(names)[:MOST_NAMES]
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return f"unknown {what} {word!r}; " + (f"known: {', '.join(shown)}{more}" if names else "there are none")


def nearest_file(path: Path) -> str:
    """Return a suggestion of a file with a similar name, to end a message with; empty if there is none."""
    from difflib import get_close_matches

    beside = [each.name for each in path.parent.glob("*") if each.is_file()]
    matches = get_close_matches(path.name, beside, n=1)
    return f" (did you mean {matches[0]!r}?)" if matches else ""
