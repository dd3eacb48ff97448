"""The names of ``derail.logs`` exist, and cost only what they need."""

from __future__ import annotations

import pytest

import derail.logs


def test_every_public_name_is_there() -> None:
    """Each name can be imported, also one that is the name of a module as well."""
    assert [name for name in derail.logs.__all__ if not callable(getattr(derail.logs, name))] == []


def test_an_unknown_name_is_an_error(run_python) -> None:
    """A name that does not exist is an AttributeError that lists the existing ones."""
    with pytest.raises(AttributeError, match=r"no attribute 'Tails'; it has ConsoleSink, "):
        derail.logs.Tails  # type: ignore[attr-defined]  # noqa: B018


def test_a_rank_that_redirects_its_streams_loads_no_tails(run_python) -> None:
    """Modules that only the launcher needs are not imported in the ranks."""
    source = """
import sys
from derail.logs.redirect import redirect_stdout
print(sorted(name for name in sys.modules if name.startswith("derail.logs")))
import derail.logs
print(callable(derail.logs.redirect))
"""
    assert run_python(source).stdout == "['derail.logs', 'derail.logs.redirect']\nTrue\n"
