"""Faults on the command line, one in each option: ``signal=SIGKILL rank=2 line='step 3'``.

The first word is the fault, followed by ``=`` and its first parameter if it has one. The other words are the keys of
the fault in TOML: parameters, ``rank``, ``times``, ``for``, ``id``, and the trigger (``start``, ``after=0.5``,
``line=...``, ``call=json:dumps``), followed by its options. Combined triggers are written as in TOML:
``all_of='["start", {line = "x"}]'``. Everything is then checked like a plan in a file.
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
"""Triggers with a text as value, even if it looks like a number."""
OPTIONS = ("hit", "stream", "at", "of", "first", "ranks")
"""Options of triggers."""
EXAMPLE = "signal=SIGKILL rank=2 line='step 3'"


def read_plan(
    specs: Sequence[str], *, file: Path | None = None, seed: int | None = None, ranks: int | None = None
) -> Plan:
    """Return the plan of a file, with the faults of ``--fault`` options appended.

    Args:
        specs: the texts of the options.
        file: a plan in TOML or JSON.
        seed: replaces the seed of the plan.
        ranks: the number of ranks of the job; in a job of one, options need not name the rank.

    Raises:
        InputError: if the file cannot be read, or the file or an option has an error.
    """
    from derail.faults.codec import load
    from derail.faults.model.plan import Plan

    plan = Plan() if file is None else load(file)
    given = tuple(fault for spec in specs for fault in _read(spec, ranks).faults)
    return Plan((*plan.faults, *given), plan.seed if seed is None else seed, plan.keep_alive)


def _read(spec: str, ranks: int | None) -> Plan:
    """Return one option as a plan of one fault.

    Raises:
        InputError: if the option has an error.
    """
    from derail.faults.codec import from_data

    source = f"--fault {spec!r}"
    try:
        table = {**({"rank": 0} if ranks == 1 else {}), **_table(spec)}
    except ValueError as error:
        raise InputError(f"{error}; example: {EXAMPLE}", source=source) from None
    try:
        return from_data({"faults": [table]})
    except InputError as error:
        problems = (problem.removeprefix("faults[0].").removeprefix("faults[0]: ") for problem in error.problems)
        raise InputError(*problems, source=source) from None


def _table(spec: str) -> dict[str, object]:
    """Return the table of the fault in TOML. Words that are not triggers are treated as parameters."""
    from derail.faults.model.triggers import KINDS
    from derail.faults.registry import COMMON, entries
    from derail.model.input_error import not_known

    words = shlex.split(spec)
    if not words:
        raise ValueError("the fault is empty")
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
        raise ValueError(f"expected at most one trigger, got {', '.join(triggers)}")
    if isinstance(table.get("rank"), str):
        table["rank"] = _ranks(str(table["rank"]))
    if len(when) == 1 and next(iter(when.values())) is True:
        table["when"] = next(iter(when))
    elif when:
        table["when"] = {key: str(value) if key in TEXTS else value for key, value in when.items()}
    return table


def _value(text: str) -> object:
    """Return a value parsed as TOML, else the text itself."""
    from derail.faults.serialization.toml_files import parse_toml

    try:
        return parse_toml(f"value = {text}")["value"]
    except ValueError:
        return text


def _ranks(text: str) -> object:
    """Return ``1,3`` as a list of two ranks; any other text unchanged, for the plan to interpret."""
    parts = text.split(",")
    return [int(part) for part in parts] if len(parts) > 1 and all(part.isdigit() for part in parts) else text
