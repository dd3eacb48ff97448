"""Signature and docstring of the function that builds a fault, derived from the fault's declaration."""

from __future__ import annotations

import ast
import json
from inspect import Parameter, Signature
from textwrap import fill
from typing import TYPE_CHECKING, Any, get_args

from derail.faults.model.plan import TargetWord

if TYPE_CHECKING:
    from collections.abc import Iterator

    from derail.faults.catalogue.entry import Entry, Param

_SIGNALS = "list[str] | list[int] | list[str | int] | tuple[str | int, ...]"
TYPES = {
    "amount": "int | str",
    "bytes": "int | str",
    "calls": "str | int",
    "code": "int | str",
    "count": "int",
    "descriptor": "int | None",
    "errno": "str",
    "exception": "str",
    "factor": "float",
    "file": "str",
    "flag": "bool",
    "names": "list[str] | tuple[str, ...]",
    "path": "str",
    "seconds": "float",
    "signal": "str | int",
    "signals": _SIGNALS,
    "system call": "str | int",
    "text": "str",
    "texts": "list[str] | tuple[str, ...]",
}
"""Python types by parameter type. Of sequences, readers accept only list and tuple."""
JSON_TYPES = {"bool": "boolean", "float": "number", "int": "integer", "str": "string"}
"""JSON Schema's names of Python types."""
WIDTH = 112
"""Columns of a docstring, which is indented by four in a file of at most 120 columns."""


def signature(entry: Entry) -> Signature:
    """Return the signature of a fault's builder; ``times`` and ``for_`` only if the fault can have them."""
    shown = [
        Parameter(
            param.name,
            Parameter.POSITIONAL_OR_KEYWORD,
            default=Parameter.empty if param.required else param.default,
            annotation=_annotation(param),
        )
        for param in entry.params
    ]
    ranks = f"int | list[int] | tuple[int, ...] | {_literal(get_args(TargetWord))}"
    common: list[tuple[str, object, str]] = [("rank", Parameter.empty, ranks), ("when", entry.acts.default, "Trigger")]
    common += [("times", None, "int | None")] * entry.acts.repeats + [("for_", None, "float | None")] * entry.acts.lasts
    common += [("id", "", "str")]
    shown += [
        Parameter(name, Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
        for name, default, annotation in common
    ]
    return Signature(shown, return_annotation="Fault")


def _annotation(param: Param) -> str:
    return _literal(param.choices) if param.choices else TYPES[param.type]


def param_schema(param: Param) -> dict[str, Any]:
    """Return the JSON Schema of a parameter's Python type; it may accept more than the parameter does."""
    shape = {"enum": list(param.choices)} if param.choices else _of_type(ast.parse(TYPES[param.type], mode="eval").body)
    default = list(param.default) if isinstance(param.default, tuple) else param.default
    known = {} if param.required or default is None else {"default": default}
    return {**shape, "description": param.meaning, **known}


def _of_type(type_: ast.expr) -> dict[str, Any]:
    match type_:
        case ast.BinOp(left=left, right=right):
            options: list[dict[str, Any]] = []
            for option in (_of_type(left), _of_type(right)):
                options += [each for each in option.get("anyOf", [option]) if each not in options]
            return {"anyOf": options} if len(options) > 1 else options[0]
        case ast.Subscript(value=ast.Name(id="list"), slice=item):
            return {"type": "array", "items": _of_type(item)}
        case ast.Subscript(value=ast.Name(id="tuple"), slice=ast.Tuple(elts=[item, _])):
            return {"type": "array", "items": _of_type(item)}
        case ast.Constant(value=None):
            return {"type": "null"}
        case ast.Name(id=name):
            return {"type": JSON_TYPES[name]}
    raise ValueError(f"{ast.unparse(type_)}: no JSON Schema for this type. Extend signature._of_type")


def _literal(words: tuple[str, ...]) -> str:
    return f"Literal[{', '.join(map(source, words))}]"


def source(value: object) -> str:
    """Return a default value as Python source in the form that ruff gives it."""
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, tuple):
        return f"({', '.join(map(source, value))}{',' * (len(value) == 1)})"
    return repr(value)


def docstring(entry: Entry) -> str:
    """Return the effect, parameters and requirements of a fault as the docstring of its builder."""
    return "\n".join(_lines(entry)).rstrip()


def _lines(entry: Entry) -> Iterator[str]:
    yield from (fill(entry.summary, WIDTH), "", "Args:")
    yield from (_argument(param.name, _takes(param), param.meaning) for param in entry.params)
    yield _argument("rank", "", "Target: a rank, several ranks, or a word that the seed of the plan resolves.")
    yield _argument("when", "", f"Trigger, one of {', '.join(entry.acts.triggers)}. Default: {entry.acts.default}.")
    if entry.acts.repeats:
        yield _argument(
            "times", "", "Number of injections; by default one per occurrence of a limited trigger, otherwise one."
        )
    if entry.acts.lasts:
        yield _argument("for_", "seconds", "Duration; by default until the end of the job.")
    yield _argument("id", "", "Name in journal and results; by default derived from the content of the fault.")
    yield ""
    facts = {
        "Acts": entry.side,
        "Needs": entry.requires.needs,
        "Verified": entry.verified,
        "Undone": entry.healed or "never",
        "Example": f"``{entry.example}``",
    }
    for word, fact in facts.items():
        if fact:
            yield fill(
                f"{word}: {fact}", WIDTH, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False
            )


def _takes(param: Param) -> str:
    default = "required" if param.required else f"default {source(param.default)}"
    return default if param.choices else f"{param.type}, {default}"


def _argument(name: str, takes: str, meaning: str) -> str:
    begin = f"    {name} ({takes}): " if takes else f"    {name}: "
    return fill(f"{begin}{meaning}", WIDTH, subsequent_indent=" " * 8, break_long_words=False, break_on_hyphens=False)
