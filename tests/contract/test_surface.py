"""The names and call signatures of torch's launcher, each of them in derail."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
from typing import TYPE_CHECKING

import pytest

from contract.implementations import HOMES, Api
from contract.surface import CALLS, CALLS_SINCE_2_14, spelled

if TYPE_CHECKING:
    from collections.abc import Callable


def _find(api: Api, name: str) -> Callable[..., object]:
    owner, _, member = name.partition(".")
    found = getattr(api, owner)
    call: Callable[..., object] = getattr(found, member) if member else found
    return call


@pytest.mark.parametrize("name", sorted({**CALLS, **CALLS_SINCE_2_14}))
def test_derail_is_called_as_torch_is(name: str) -> None:
    """Each public callable takes torch's parameters in torch's order and with torch's defaults, and needs no more."""
    parameters = list(inspect.signature(_find(Api("derail"), name)).parameters.values())
    calls = {**CALLS, **CALLS_SINCE_2_14}
    wanted = [part.partition("=") for part in calls[name].split(", ") if part]
    taken, more = parameters[: len(wanted)], parameters[len(wanted) :]
    optional = [p for p in more if p.default is not p.empty or p.kind in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
    assert [p.name for p in taken] == [parameter for parameter, _, _ in wanted]
    assert {p.kind for p in taken} <= {inspect.Parameter.POSITIONAL_OR_KEYWORD}
    assert {p.name: repr(p.default) for p, (_, _, d) in zip(taken, wanted, strict=True) if d not in ("", "...")} == {
        parameter: default for parameter, _, default in wanted if default not in ("", "...")
    }
    assert all(p.default is not p.empty for p, (_, given, _) in zip(taken, wanted, strict=True) if given)
    assert optional == more


@pytest.mark.torch
@pytest.mark.parametrize("name", sorted(CALLS))
def test_the_table_is_what_torch_has(name: str) -> None:
    """What is written down of torch is what the installed torch says."""
    pytest.importorskip("torch")
    assert spelled(_find(Api("torch"), name)) == CALLS[name]


@pytest.mark.torch
def test_no_public_name_of_torch_is_missing() -> None:
    """Every name in an ``__all__`` of torch's launcher is in the table, and in derail."""
    pytest.importorskip("torch")
    names: set[str] = set()
    for home in HOMES["torch"]:
        names.update(getattr(importlib.import_module(home), "__all__", ()))
    written = {name.partition(".")[0] for name in CALLS}
    derail = Api("derail")
    assert {name for name in names if name not in written or not hasattr(derail, name)} == set()


@pytest.mark.parametrize("method", ["wait", "pids", "close", "start"])
@pytest.mark.parametrize("context", ["MultiprocessContext", "SubprocessContext"])
def test_contexts_are_pcontexts(context: str, method: str) -> None:
    """Both contexts are PContexts, and have its methods."""
    api = Api("derail")
    assert (issubclass(getattr(api, context), api.PContext), callable(getattr(api.PContext, method))) == (True, True)
