"""Markers of the plugin, and messages about misuse of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    import pytest

MARKERS = {
    "ranks(n, *, timeout=None, start_method=None, preload=None, in_ranks=(), reuse=None)": "run the body of the test "
    "on n ranks as one job, or once for each number of a list. timeout: seconds for the whole job. start_method: how "
    "its processes are created. preload: modules already imported in warm ranks. in_ranks: names of fixtures that each "
    "rank sets up although their scope is wider than 'function', or ['*'] for all fixtures. reuse: 'module' or "
    "'session' keeps the ranks, and their process group, for the next tests in that scope.",
    "faults(*plans, seed=None)": "break the ranks of the test: paths of plans (beside the test's module, or below the "
    "root directory), plans, or faults. For tests with the ranks marker, and for jobs of the derail fixture that have "
    "no faults of their own.",
    "no_ranks": "with --derail-ranks, run the test in the process that runs pytest, as ranks(0) does.",
}


def near(word: object, known: Iterable[str]) -> str:
    """Return ``; did you mean 'timeout'?`` if a word resembles one of ``known``; else an empty text."""
    from difflib import get_close_matches

    matches = get_close_matches(str(word), list(known), n=1, cutoff=0.7)
    return f"; did you mean {matches[0]!r}?" if matches else ""


def misfit(error: TypeError, mark: pytest.Mark, known: Collection[str]) -> str:
    """Return Python's message about wrong arguments, without the function's name, with suggestions from ``known``.

    From Python 3.13 on the message may have Python's own suggestion, which does not consider ``known``; it is removed.
    """
    text = (str(error).partition("() ")[2] or str(error)).partition(". Did you mean ")[0]
    unknown = [name for name in mark.kwargs if name not in known and f"'{name}'" in text]
    return text + "".join(near(name, known) for name in unknown)
