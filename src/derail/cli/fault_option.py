"""Faults in one line each, for the command line: ``signal=SIGKILL rank=2 line='step 3'``.

The first word is the fault, with its first parameter behind ``=`` if it has one. The others are what TOML has on lines
of its own: parameters, ``rank``, ``times``, ``for``, ``id``, and the trigger (``start``, ``after=0.5``, ``line=...``,
``call=json:dumps``), with its options beside it; triggers that are made of others as in TOML:
``all_of='["start", {line = "x"}]'``. Everything is then checked as a plan in a file is.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from derail.model.input_error import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from derail.faults.model.plan import Plan

TEXTS = ("line", "point", "call", "import_of", "phase")
"""Triggers whose value is a text, whatever it looks like."""
OPTIONS = ("hit", "stream", "at", "of", "first", "ranks")
"""What triggers take besides."""
EXAMPLE = "signal=SIGKILL rank=2 line='step 3'"


def read_plan(
    specs: Sequence[str], *, file: Path | None = None, seed: int | None = None, ranks: int | None = None
) -> Plan:
    """The plan of a file, and the faults of ``--fault`` options after its own.

    Args:
        specs: what the options say.
        file: a plan in TOML or JSON.
        seed: replaces that of the plan.
        ranks: how many ranks the job has; in a job of one, no option need name it.

    Raises:
        InputError: if the file cannot be read, or anything in it or in an option is wrong.
    """
    from derail.faults.codec import load
    from derail.faults.model.plan import Plan

    plan = Plan() if file is None else load(file)
    given = tuple(fault for spec in specs for fault in _read(spec, ranks).faults)
    return Plan((*plan.faults, *given), plan.seed if seed is None else seed, plan.keep_alive)


def _read(spec: str, ranks: int | None) -> Plan:
    """One option, as a plan of one fault.

    Raises:
        InputError: if anything in it is wrong.
    """
    from derail.faults.codec import from_data

    source = f"--fault {spec!r}"
    try:
        table = {**({"rank": 0} if ranks == 1 else {}), **_table(spec)}
    except ValueError as error:
        raise InputError(f"{error}; an example: {EXAMPLE}", source=source) from None
    try:
        return from_data({"faults": [table]})
    except InputError as error:
        problems = (problem.removeprefix("faults[0].").removeprefix("faults[0]: ") for problem in error.problems)
        raise InputError(*problems, source=source) from None


def _table(spec: str) -> dict[str, object]:
    """The table that the same fault would be in TOML. Words that are no triggers are taken for parameters."""
    from derail.faults.model.triggers import KINDS
    from derail.faults.registry import COMMON, entries
    from derail.model.input_error import not_known

    words = shlex.split(spec)
    if not words:
        raise ValueError("it is empty")
    name, equals, first = words[0].partition("=")
    table: dict[str, object] = {"fault": name}
    entry = entries().get(name)
    if equals:
        if entry is not None and not entry.params:
            raise ValueError(f"{name!r} takes no value")
        table[entry.params[0].name if entry is not None else "value"] = _value(first)
    own = {param.name for param in entry.params} if entry is not None else set()
    known = (*sorted(own), *COMMON, *KINDS, *OPTIONS)
    when: dict[str, object] = {}
    for word in words[1:]:
        key, equals, text = word.partition("=")
        if entry is not None and key not in known:
            raise ValueError(not_known(key, known, f"parameter of {name!r}"))
        into = when if key in {*KINDS, *OPTIONS} - own else table
        if key in into:
            raise ValueError(f"{key!r} is given twice")
        into[key] = _value(text) if equals else True
    triggers = [key for key in when if key in KINDS]
    if len(triggers) > 1:
        raise ValueError(f"it has more than one trigger: {', '.join(triggers)}")
    if isinstance(table.get("rank"), str):
        table["rank"] = _ranks(str(table["rank"]))
    if len(when) == 1 and next(iter(when.values())) is True:
        table["when"] = next(iter(when))
    elif when:
        table["when"] = {key: str(value) if key in TEXTS else value for key, value in when.items()}
    return table


def _value(text: str) -> object:
    """A value as TOML has it, else the bare text."""
    from derail.faults.serialization.toml_files import parse_toml

    try:
        return parse_toml(f"value = {text}")["value"]
    except ValueError:
        return text


def _ranks(text: str) -> object:
    """``1,3`` is two ranks; anything else is left to the plan to understand."""
    parts = text.split(",")
    return [int(part) for part in parts] if len(parts) > 1 and all(part.isdigit() for part in parts) else text
