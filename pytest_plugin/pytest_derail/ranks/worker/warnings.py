"""Warnings of ranks: recorded by pytest's hook in the rank, and passed to the hooks of the controller."""

from __future__ import annotations

import sys
import warnings
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from pytest_derail.ranks.phase_reports import text_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from pytest_derail.ranks.phase_reports import Warned
    from pytest_derail.ranks.worker.write_through import Note


class NotedWarnings:
    """Plugin of a rank that records warnings of its test. The controller has those of the collection itself."""

    def __init__(self, note: Note) -> None:
        self._note = note

    @pytest.hookimpl
    def pytest_warning_recorded(self, warning_message: warnings.WarningMessage, when: str) -> None:
        """Record text, place, and the names of the category and of its bases."""
        if when != "runtest":
            return
        category = warning_message.category or Warning
        names = [(text_of(each.__module__), text_of(each.__name__)) for each in category.__mro__]
        text, file = text_of(warning_message.message), text_of(warning_message.filename)
        self._note("warning", text, file, warning_message.lineno, names)


def report_warnings(item: pytest.Item, of_ranks: Mapping[int, Iterable[Warned]]) -> None:
    """Pass the warnings of all ranks to the hooks: each once, with the ranks that have it in its node id."""
    counts = {rank: Counter(warned) for rank, warned in of_ranks.items()}
    for warned in dict.fromkeys(each for counted in counts.values() for each in counted):
        ranks = [str(rank) for rank, counted in sorted(counts.items()) if warned in counted]
        message = _message(*warned)
        for _ in range(max(counted[warned] for counted in counts.values())):
            item.ihook.pytest_warning_recorded.call_historic(
                kwargs={
                    "warning_message": message,
                    "nodeid": f"{item.nodeid} (rank{'s' if len(ranks) > 1 else ''} {', '.join(ranks)})",
                    "when": "runtest",
                    "location": None,
                }
            )


def _message(text: str, file: str, line: int, names: Iterable[tuple[str, str]]) -> warnings.WarningMessage:
    category = next(_imported(names), Warning)
    try:
        message: Any = category(text)
    except Exception:  # its constructor is third-party code
        message = text
    return warnings.WarningMessage(message=message, category=category, filename=file, lineno=line)


def _imported(names: Iterable[tuple[str, str]]) -> Iterator[type[Warning]]:
    """Yield those of these classes that are imported in this process."""
    for module, name in names:
        category = getattr(sys.modules.get(module), name, None)
        if isinstance(category, type) and issubclass(category, Warning):
            yield category
