"""Stub of ``derail.faults`` for type checkers and editors: up to date, and equal to the runtime."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pytest

from derail import faults, when
from derail.faults.registry import entries
from derail.report.catalogue import render_page

STUB = Path(faults.__file__).with_suffix(".pyi")
FUNCTIONS = {node.name: node for node in ast.parse(STUB.read_text()).body if isinstance(node, ast.FunctionDef)}


def test_the_stub_is_as_the_catalogue_writes_it():
    """To mend it: python -m derail.report.catalogue src/derail/faults/__init__.pyi."""
    assert STUB.read_text() == render_page(STUB.read_text())


def test_the_stub_and_the_package_have_the_same_names():
    """Each fault has a function in the stub, and both list the same names in ``__all__``."""
    scope: dict[str, object] = {}
    exec(STUB.read_text(), scope)

    assert list(FUNCTIONS) == list(entries())
    assert scope["__all__"] == faults.__all__


@pytest.mark.parametrize("name", entries())
def test_a_builder_is_what_its_stub_says(name):
    """Names, order, keyword-only parameters, types, defaults and docstring are the same."""
    scope = {word: getattr(when, word) for word in when.__all__}
    built, declared = getattr(faults, name), FUNCTIONS[name]
    arguments = declared.args
    positional = [None] * (len(arguments.args) - len(arguments.defaults)) + arguments.defaults
    expected = [
        (argument.arg, kind, ast.unparse(argument.annotation), *([] if default is None else [ast.unparse(default)]))
        for kind, given, defaults in (
            (inspect.Parameter.POSITIONAL_OR_KEYWORD, arguments.args, positional),
            (inspect.Parameter.KEYWORD_ONLY, arguments.kwonlyargs, arguments.kw_defaults),
        )
        for argument, default in zip(given, defaults, strict=True)
    ]
    shown = [
        (param.name, param.kind, ast.unparse(ast.parse(param.annotation)))
        + (() if param.default is param.empty else (repr(param.default),))
        for param in inspect.signature(built).parameters.values()
    ]

    assert shown == expected
    assert inspect.getdoc(built) == ast.get_docstring(declared)
    assert [eval(given[3], scope) for given in expected if len(given) > 3] == [
        param.default for param in inspect.signature(built).parameters.values() if param.default is not param.empty
    ]


def test_no_injector_is_imported_before_a_fault_is_requested(run_python):
    """``from derail import faults`` costs almost nothing; the first fault imports the catalogue."""
    told = run_python(
        "import sys\n"
        "from derail import faults\n"
        "def loaded(): return sum(name.startswith('derail.faults.injectors') for name in sys.modules)\n"
        "before = loaded()\n"
        "faults.signal\n"
        "print(before, loaded() > 0)"
    )

    assert told.stdout == "0 True\n"
