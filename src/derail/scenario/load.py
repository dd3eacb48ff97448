"""Strict reader of scenarios in TOML files: all problems of a file are reported at once, each with its path in it."""

from __future__ import annotations

import re
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, get_args

from derail.faults.catalogue.params import read_seconds, read_signal
from derail.faults.codec import read_plan
from derail.faults.engine.prepare import check
from derail.faults.model.targets import AGENT_RANK
from derail.faults.serialization.table_reader import Fields
from derail.faults.serialization.table_schema import TableSchema
from derail.faults.serialization.toml_files import read_toml
from derail.model.events import Stream
from derail.model.input_error import InputError, nearest_file, not_known
from derail.scenario.model import ControlKind, ErrorFileState, Expect, Leaves, LogTail, Promise, Scenario

if TYPE_CHECKING:
    from collections.abc import Mapping

    from derail.faults.model.plan import Plan
    from derail.faults.serialization.table_schema import Schema

T = TypeVar("T")
MOST_RANKS = 4096  # ranks of a scenario
TEARDOWN = {"anyOf": [{"enum": ["any"]}, {"type": "number", "minimum": 0}]}
FOLDER = "scenarios"
"""Name of a folder of scenarios: of those that come with derail, and of those of a project."""


def load(path: Path) -> Scenario:
    """Read one scenario.

    Raises:
        InputError: if the file cannot be read, or has an error.
    """
    problems: list[str] = []
    scenario = _read(Fields(read_toml(path), "", problems), path.absolute())
    if problems:
        raise InputError(*problems, source=str(path))
    return scenario


def schema() -> Schema:
    """Return the JSON Schema of scenarios, without the definitions of triggers and faults that it refers to."""
    table = TableSchema()
    _read(table, Path("scenario.toml"))
    return table.schema()


def find(name: str) -> Path:
    """Return the file of a scenario, given by its path or by the name of one that comes with derail.

    Raises:
        InputError: if neither exists.
    """
    path = Path(name)
    if path.is_file():
        return path
    known = shipped()
    wanted = name.removesuffix(".toml")
    if wanted in known:
        return known[wanted]
    if wanted in {each.partition("/")[0] for each in known}:
        raise InputError(f"{name} is a family of scenarios. Give one of those in 'derail list scenarios {wanted}'")
    if path.is_dir():
        raise InputError(f"{name} is a folder; 'derail verify-agent native --scenario {name}' runs all in it")
    if beside := nearest_file(path.absolute()) if path.suffix else "":
        raise InputError(f"there is no file {name}{beside}")
    if "/" not in wanted and not path.suffix:  # the last part of a name is enough to suggest it
        from difflib import get_close_matches

        stories = {each.rpartition("/")[2]: each for each in known}
        if near := get_close_matches(wanted, stories, n=1):
            raise InputError(f"unknown scenario {wanted!r}; did you mean {stories[near[0]]!r}?")
    problem = not_known(wanted, known, "scenario", list_with="derail list scenarios")
    raise InputError(f"there is no file {name}, and among derail's own: {problem}")


def shipped() -> Mapping[str, Path]:
    """Return the scenarios that come with derail, by name."""
    root = shipped_root()
    return {str(path.relative_to(root).with_suffix("")): path for path in sorted(root.rglob("*.toml"))}


def shipped_root() -> Path:
    """Return the folder of derail's scenarios: inside an installed package, beside ``src`` in a checkout."""
    package = Path(__file__).parent.parent
    installed = package / "scenarios"
    return installed if installed.is_dir() else package.parent.parent / "scenarios"


def _read(fields: Fields, path: Path) -> Scenario:
    fields.need("title", "ranks", "worker", "expect")
    ranks = _ranks_of(fields)
    nodes, counted = fields.whole("nodes", 1, least=1), not fields.problems
    if ranks % nodes and counted:
        fields.note("nodes", f"is {nodes}; {ranks} ranks cannot be spread evenly over {nodes} nodes")
    restarts = fields.whole("restarts", None) if fields.has("restarts") else 0  # None: the value is invalid
    launches = fields.whole("launches", 0)
    if launches and (ranks, nodes, restarts) not in ((1, 1, 0), (1, 1, None)) and counted:
        fields.note("launches", "the launcher is the one rank of its job: expected ranks = 1, no nodes, no restarts")
    worker, function = _worker(fields, path)
    plan = read_plan(fields)
    try:
        check(plan, (*range(ranks), AGENT_RANK))
    except InputError as error:
        fields.problems.extend(error.problems)
    scenario = Scenario(
        title=fields.text("title", ""),
        why=fields.text("why", "").strip(),
        issue=fields.text("issue", ""),
        ranks=ranks,
        worker=worker,
        function=function,
        args=fields.texts("args"),
        env=_strings(fields.table_at("env")),
        timeout=fields.seconds("timeout", 30.0),
        grace=fields.seconds("grace", 5.0),
        nodes=nodes,
        restarts=restarts or 0,
        launches=launches,
        needs=fields.texts("needs"),
        step=fields.custom("step", _read_step, "", shape={"type": "string"}),
        faults=plan,
        expect=_expect(fields.table_at("expect"), ranks, restarts),
        control=_control(fields, plan, ranks),
        name=_name(path),
        path=path,
    )
    fields.finish()
    return scenario


def _ranks_of(fields: Fields) -> int:
    """Return the number of ranks; for an invalid value the maximum, so that every rank number is accepted."""
    ranks = fields.whole("ranks", MOST_RANKS, least=1)
    if ranks > MOST_RANKS:
        fields.note("ranks", f"expected at most {MOST_RANKS}, got {ranks}")
        return MOST_RANKS
    return ranks


def _worker(fields: Fields, path: Path) -> tuple[Path, str]:
    """Return the program, relative to the scenario's file, and its function if one is named: ``file:function``."""
    given, _, function = fields.text("worker", "").partition(".py:")
    worker = (path.parent / (f"{given}.py" if function else given)).resolve()
    if given and not worker.is_file():
        fields.note(
            "worker", f"there is no file {worker}{nearest_file(worker)}; paths are relative to the scenario's file"
        )
    elif function and not function.isidentifier():
        fields.note("worker", f"{function!r} is not a valid name of a function")
    elif function and not re.search(rf"^def {function}\(", worker.read_text(errors="replace"), re.MULTILINE):
        fields.note("worker", f"there is no function {function} in {worker}")
    return worker, function


def _strings(fields: Fields) -> dict[str, str]:
    variables = {}
    for key in fields.keys(r"[^=\x00]+", example="NAME", otherwise="cannot be an environment variable"):
        variables[key] = fields.text(key, "")
        if "\0" in variables[key]:
            fields.note(key, "cannot be an environment variable")
    return variables


def _control(fields: Fields, plan: Plan, ranks: int) -> tuple[ControlKind, ...]:
    """Return the negative controls: those that are named, else those that are possible."""
    if fields.has("control"):
        named_kinds = fields.words("control", get_args(ControlKind), what="negative control")
        return tuple(word for word in get_args(ControlKind) if word in named_kinds)
    if not plan.faults:
        return ()
    named = ranks > 1 and any(not isinstance(fault.target, str) for fault in plan.faults)
    return ("no-fault", "wrong-target") if named else ("no-fault",)


def _expect(fields: Fields, ranks: int, restarts: int | None) -> Expect:
    fields.need("succeeded")
    failures, stopped = _ranks(fields, "failures", ranks), _ranks(fields, "stopped", ranks)
    root_cause = fields.whole("root_cause", None)
    if root_cause is not None and root_cause >= ranks:
        fields.note("root_cause", _no_rank(root_cause, ranks))
    expect = Expect(
        succeeded=fields.flag("succeeded", None),
        root_cause=root_cause,
        failures=failures,
        stopped=stopped,
        exits=_exits(fields.table_at("exits"), ranks),
        message=_regex(fields, "message"),
        log_tail=tuple(_log_tail(table, ranks) for table in fields.tables("log_tail")),
        error_file=_error_files(fields.table_at("error_file"), ranks),
        exit_code=fields.whole("exit_code", None),
        teardown_seconds=fields.custom("teardown_seconds", _read_teardown, None, shape=TEARDOWN),
        restarts=fields.whole("restarts", None),
        resumed_at=fields.whole("resumed_at", None),
        leftovers=_word(fields, "leftovers", get_args(Leaves)) or "none",  # type: ignore[arg-type]
        promise=_word(fields, "promise", get_args(Promise)),  # type: ignore[arg-type]
    )
    if expect.succeeded and (failures or root_cause is not None):
        fields.note("succeeded", "a job that succeeded has no failures and no root cause")
    if expect.restarts is not None and restarts is not None and expect.restarts > restarts:
        fields.note("restarts", f"expected at most {restarts}, which the scenario allows, got {expect.restarts}")
    fields.finish()
    return expect


def _read_teardown(value: object) -> float:
    if value == "any":
        return inf
    try:
        return read_seconds(value)
    except ValueError:
        raise ValueError(f"expected a number of seconds, 0 or more, or 'any', got {value!r}") from None


def _log_tail(fields: Fields, ranks: int) -> LogTail:
    fields.need("rank", *([] if fields.has("unlike") else ["like"]))
    rank = fields.whole("rank", 0)
    if rank >= ranks:
        fields.note("rank", _no_rank(rank, ranks))
    stream = _word(fields, "stream", get_args(Stream)) or "stdout"
    like, unlike = _patterns(fields, "like"), _patterns(fields, "unlike")
    fields.finish()
    return LogTail(rank, like, stream, unlike)  # type: ignore[arg-type]


def _patterns(fields: Fields, key: str) -> tuple[str, ...]:
    strings = {"type": "array", "items": {"type": "string"}}
    return fields.custom(key, _read_patterns, (), shape={"anyOf": [{"type": "string"}, strings]})


def _read_patterns(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ValueError(f"expected a list of strings, got {value!r}")
    return tuple(value)


def _exits(fields: Fields, ranks: int) -> dict[int, int | str]:
    code = {"type": "integer", "minimum": 0, "maximum": 255}
    shape = {"anyOf": [code, {"type": "string"}]}
    exits = {rank: fields.custom(key, _read_exit, None, shape=shape) for rank, key in _by_rank(fields, ranks)}
    return {rank: status for rank, status in exits.items() if status is not None}


def _read_exit(value: object) -> int | str:
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 255:
        return value
    try:
        return read_signal(value if isinstance(value, str) else "")
    except ValueError:
        raise ValueError(f"expected an exit code from 0 to 255 or the name of a signal, got {value!r}") from None


def _error_files(fields: Fields, ranks: int) -> dict[int, ErrorFileState]:
    states = get_args(ErrorFileState)
    given = {rank: fields.word(key, states, what="state of an error file") for rank, key in _by_rank(fields, ranks)}
    return {rank: state for rank, state in given.items() if state is not None}  # type: ignore[misc]


def _by_rank(fields: Fields, ranks: int) -> list[tuple[int, str]]:
    """Return the ranks that are the keys of a table, each with its key."""
    entries = []
    for key in fields.keys("[0-9]{1,9}", example="0", otherwise="expected a rank number as key"):
        if int(key) >= ranks:
            fields.note(key, _no_rank(int(key), ranks))
        entries.append((int(key), key))
    return entries


def _ranks(fields: Fields, key: str, ranks: int) -> tuple[int, ...] | None:
    named = fields.ranks(key)
    if named is None:
        return None
    beyond = [rank for rank in named if rank >= ranks]
    if beyond:
        fields.note(key, _no_rank(beyond[0], ranks))
    return tuple(sorted(set(named)))


def _word(fields: Fields, key: str, words: tuple[str, ...]) -> str | None:
    return fields.word(key, words)


def _regex(fields: Fields, key: str) -> str:
    value = fields.text(key, "")
    try:
        re.compile(value)
    except (re.error, RecursionError, OverflowError) as error:
        fields.note(key, f"expected a regular expression, got {value!r}: {error}")
    return value


def _read_step(value: object) -> str:
    try:
        groups = re.compile(value).groups if isinstance(value, str) else 0
    except (re.error, RecursionError, OverflowError):
        groups = 0
    if not groups or not isinstance(value, str):
        raise ValueError(
            f"expected a regular expression with a group for the number, like 'step (\\d+)', got {value!r}"
        )
    return value


def _no_rank(rank: int, ranks: int) -> str:
    return f"there is no rank {rank}; the scenario has ranks 0 to {ranks - 1}"


def _name(path: Path) -> str:
    """Return ``family/story``: the path below the nearest folder ``scenarios``; the file's name if there is none."""
    above = path.parent.parts
    inside = len(above) - above[::-1].index(FOLDER) if FOLDER in above else len(above)
    return "/".join((*above[inside:], path.stem))
