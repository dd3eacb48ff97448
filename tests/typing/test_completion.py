"""Names, parameters and docstrings that Jedi shows in an editor."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import subprocess
import sys

import pytest

from derail import faults
from derail.faults.registry import entries

IN_CI = "CI" in os.environ  # asked when tests are collected: while they run, it is hidden
PUBLIC = (
    "derail",
    "derail.conformance",
    "derail.errors",
    "derail.faults",
    "derail.logs",
    "derail.when",
    "pytest_derail",
)
WORDS = 'Literal["all", "one", "minority", "majority", "all but one", "the agent"]'
LOOK = """
import json
import jedi

def completed(source):
    return jedi.Script(source).complete()

(call,) = jedi.Script("from derail import faults\\nfaults.signal(").get_signatures()
print(json.dumps({
    "faults.sig": [name.name for name in completed("from derail import faults\\nfaults.sig")],
    "call": [param.description.removeprefix("param ") for param in call.params],
    "docstrings": {
        name.name: name.docstring(raw=True)
        for name in completed("from derail import faults\\nfaults.") if name.type == "function"
    },
    "fixture": [name.name for name in completed(
        "from pytest_derail import Derail\\ndef test(derail: Derail):\\n    derail.faults.sig"
    )],
    "imported": [name.name for name in completed("from derail import ")],
    **{name: [found.name for found in completed(f"import {name}\\n{name}.")] for name in %r},
}))
"""


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """What an editor shows at several places of programs that use the installed package."""
    if importlib.util.find_spec("jedi") is None:
        assert not IN_CI, "CI must run jedi: pip install '.[test]'"
        pytest.skip("jedi is not installed")
    edited = tmp_path_factory.mktemp("edited")
    done = subprocess.run(
        [sys.executable, "-c", LOOK % (PUBLIC,)],
        cwd=edited,
        env={**os.environ, "XDG_CACHE_HOME": str(edited)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_beginning_of_a_fault_is_completed_to_the_faults_that_begin_so(shown):
    """No fault is missing, and nothing else is offered."""
    print(shown["faults.sig"])

    assert shown["faults.sig"] == ["sigchld_ignored", "signal", "signal_storm"]
    assert shown["faults.sig"] == sorted(name for name in entries() if name.startswith("sig"))


def test_the_parameters_of_a_fault_are_shown_with_types_and_defaults(shown):
    """They appear behind the opening parenthesis, in their order."""
    print(f"faults.signal({', '.join(shown['call'])})")

    assert shown["call"] == [
        "signal: str | int",
        "group: bool=False",
        "every: float=0.1",
        f"rank: int | list[int] | tuple[int, ...] | {WORDS}",
        "when: Trigger=Start()",
        "times: int | None=None",
        "for_: float | None=None",
        'id: str=""',
    ]


def test_the_fixture_completes_the_faults_as_well(shown):
    """A test whose argument hides the package has its functions at hand."""
    assert shown["fixture"] == shown["faults.sig"]


def test_each_fault_shows_its_docstring(shown):
    """An editor shows what ``help`` shows."""
    wrong = [name for name in entries() if shown["docstrings"].get(name) != getattr(faults, name).__doc__]

    assert wrong == []


@pytest.mark.parametrize("name", PUBLIC)
def test_all_names_of_a_public_module_are_offered(shown, name):
    """Names that are imported only when they are asked for are offered as well."""
    assert sorted({*importlib.import_module(name).__all__} - {*shown[name]}) == []


def test_all_names_can_be_completed_in_an_import(shown):
    """``from derail import`` offers them."""
    assert sorted({*importlib.import_module("derail").__all__} - {*shown["imported"]}) == []
