"""``derail schema``: its output, and that it rejects nothing that the readers accept."""

from __future__ import annotations

import copy
import datetime as dt
import json
import tomllib
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft7Validator

from derail.agents import custom
from derail.cli.schema import KINDS, schema_of
from derail.faults import codec
from derail.faults.catalogue.signature import param_schema
from derail.faults.registry import entries
from derail.faults.serialization.table_reader import Fields
from derail.scenario import load
from derail.scenario.load import shipped

if TYPE_CHECKING:
    from pathlib import Path

    from cli.conftest import Derail

SCHEMAS = {kind: Draft7Validator(schema_of(kind)) for kind in KINDS}
SCENARIOS = {name: tomllib.loads(path.read_text()) for name, path in shipped().items()}
GOOD = next(path for name, path in shipped().items() if name == "crash/killed_at_step_3")
DECLARATION = {
    "name": "mine",
    "command": "mine -n {ranks} {script}",
    "version": "mine --version",
    "promises": ["ends", "root_cause"],
    "logs": "{log_dir}/{rank}/{stream}.log",
    "report": {"root_cause": r"root cause: (?P<rank>\d+)", "failure": r"(?P<rank>\d+) failed", "file": "{workdir}/x"},
    "variables": {"RANK": "MY_RANK"},
}


def problems(kind: str, data: object) -> list[str]:
    """Return the errors that the reader of a kind of file finds in a text."""
    found: list[str] = []
    fields = Fields(data, "", found)
    if kind == "scenario":
        load._read(fields, GOOD)
    elif kind == "declaration":
        custom._read(fields)
    else:
        codec.read_plan(fields)
        fields.finish()
    return found


def is_valid(kind: str, data: object) -> bool:
    """Return whether the schema accepts a document."""
    return SCHEMAS[kind].is_valid(data)


@pytest.mark.parametrize("kind", KINDS)
def test_a_schema_is_one_of_draft_7_that_refers_to_nothing_outside(derail_command: Derail, kind: str) -> None:
    """Taplo and Even Better TOML read draft 7 and follow references into ``definitions``."""
    done = derail_command("schema", kind)
    printed = json.loads(done.stdout)

    assert (done.returncode, done.stderr, printed) == (0, "", schema_of(kind))
    Draft7Validator.check_schema(printed)
    assert printed["$schema"] == "http://json-schema.org/draft-07/schema#"
    refers = set(_references(printed))
    assert refers <= {f"#/definitions/{name}" for name in printed.get("definitions", ())}
    assert refers >= ({"#/definitions/fault", "#/definitions/trigger"} if kind != "declaration" else set())


def _references(schema: object) -> list[str]:
    if isinstance(schema, dict):
        own = [schema["$ref"]] if isinstance(schema.get("$ref"), str) else []
        return own + [each for value in schema.values() for each in _references(value)]
    return [each for value in schema for each in _references(value)] if isinstance(schema, list) else []


def test_the_schema_beside_the_shipped_scenarios_is_fresh() -> None:
    """If this fails: derail schema scenario > scenarios/scenario.schema.json."""
    written = load.shipped_root() / "scenario.schema.json"
    assert written.read_text() == json.dumps(schema_of("scenario"), indent=1) + "\n"


def test_each_shipped_scenario_names_the_schema_in_its_first_line() -> None:
    """The path is relative to the file, which works in a checkout and in an installed package."""
    schema = (load.shipped_root() / "scenario.schema.json").resolve()
    first = {name: path.read_text().splitlines()[0] for name, path in shipped().items()}
    named = {name: (shipped()[name].parent / line.removeprefix("#:schema ")).resolve() for name, line in first.items()}

    assert [name for name, line in first.items() if not line.startswith("#:schema ")] == []
    assert [name for name, path in named.items() if path != schema] == []


def test_all_shipped_scenarios_are_valid() -> None:
    """Their faults are valid as a plan too."""
    wrong = {
        name: [error.message for error in SCHEMAS["scenario"].iter_errors(data)] for name, data in SCENARIOS.items()
    }
    plans = [{"faults": data["faults"]} for data in SCENARIOS.values() if "faults" in data]

    assert {name: told for name, told in wrong.items() if told} == {}
    assert len(plans) > 100
    assert all(is_valid("plan", plan) for plan in plans)
    assert is_valid("declaration", DECLARATION)
    assert problems("declaration", DECLARATION) == []


def changed(change: str) -> dict[str, Any]:
    """Return a valid scenario with the TOML of one key under a path replaced."""
    path, _, value = change.partition(" = ")
    data = copy.deepcopy(SCENARIOS["crash/killed_at_step_3"])
    *above, key = path.split(".")
    into: Any = data
    for part in above:
        into = into[int(part)] if part.isdigit() else into[part]
    if value:
        into[key] = tomllib.loads(f"value = {value}")["value"]
    else:
        del into[key]
    return data


MISTAKES = [
    "title", "ranks", "worker", "expect", "faults.0.rank", "faults.0.fault", "faults.0.signal",
    "title = 7", "ranks = 0", "ranks = 'four'", "ranks = true", "grcae = 5", "grace = -1", "timeout = 'soon'",
    "args = 'step'", "args = [1]", "env = { A = 1 }", "needs = 'torch'", "control = ['no-falt']", "seed = -1",
    "nodes = 0", "faults.0.fault = 'sginal'", "faults.0.signal = 1.5", "faults.0.sginal = 'SIGKILL'",
    "faults.0.rank = 'al'", "faults.0.rank = -1", "faults.0.rank = []", "faults.0.rank = [1, 1]",
    "faults.0.times = 0", "faults.0.for = '1'", "faults.0.id = 1", "faults.0.when = 'line'",
    "faults.0.when = 'strat'", "faults.0.when = { lin = 'x' }", "faults.0.when = { line = 7 }",
    "faults.0.when = { start = false }", "faults.0.when = { line = 'x', hitt = 2 }",
    "faults.0.when = { all_of = 'start' }",
    "faults.0.when = { all_of = ['start', { line = 1 }] }", "faults = 'signal'", "expect.rot_cause = 2",
    "expect.root_cause = -1", "expect.stopped = [true]", "expect.exits = { two = 'SIGKILL' }",
    "expect.exits = { 2 = 256 }", "expect.exits = { 2 = true }", "expect.error_file = { 2 = 'bad' }",
    "expect.log_tail = 'x'", "expect.log_tail = { rank = 2, stream = 'out', like = 'x' }",
    "expect.log_tail = { rank = 2, lik = 'x' }", "expect.leftovers = 'some'", "expect.promise = 'all'",
    "expect.exit_code = '137'", "expect.teardown_seconds = 'soon'", "expect.teardown_seconds = -1",
    "expect.message = ['x']",
]  # fmt: skip


@pytest.mark.parametrize("change", MISTAKES)
def test_a_mistake_is_rejected_by_the_schema_and_by_the_reader(change: str) -> None:
    """An editor marks what ``derail run`` refuses."""
    data = changed(change)

    assert is_valid("scenario", data) is False
    assert problems("scenario", data) != []


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("declaration", {"promise": ["ends"]}),
        ("declaration", {"promises": ["end"]}),
        ("declaration", {"report": "x"}),
        ("declaration", {"report": {"failed": "(?P<rank>x)"}}),
        ("declaration", {"variables": {"RNK": "X"}}),
        ("declaration", {"variables": {"RANK": 1}}),
        ("plan", {"sed": 1}),
        ("plan", {"keep_alive": "one"}),
        ("plan", {"faults": [7]}),
        ("plan", {"title": "of a scenario"}),
    ],
)
def test_mistakes_in_the_other_kinds_of_files_are_rejected_by_both(kind: str, data: dict[str, object]) -> None:
    """A declaration has only its reader's keys, and a plan has no keys of a scenario."""
    assert is_valid(kind, data) is False
    assert problems(kind, data) != []


WORDS = st.sampled_from(
    sorted(
        {key for data in SCENARIOS.values() for key in (*data, *data["expect"])}
        | {key for data in SCENARIOS.values() for fault in data.get("faults", ()) for key in fault}
        | {
            "line",
            "start",
            "all_of",
            "then",
            "hit",
            "all",
            "one",
            "any",
            "0",
            "1",
            "RANK",
            "SIGTERM",
            "",
            "2..4",
            "stdout",
        }
    )
)
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-2, 6)
    | st.integers()
    | st.floats()
    | WORDS
    | st.text(max_size=4)
    | st.just(dt.date(2026, 1, 1))
)
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3), max_leaves=5
)


@st.composite
def damaged(draw: st.DrawFn, good: st.SearchStrategy[dict[str, Any]]) -> dict[str, Any]:
    """Return the document of a valid file with some values removed, replaced or added."""
    data = copy.deepcopy(draw(good))
    for _ in range(draw(st.integers(1, 3))):
        into: Any = data
        while below := [key for key in _keys(into) if isinstance(into[key], dict | list)]:
            if draw(st.booleans()):
                break
            into = into[draw(st.sampled_from(below))]
        what, keys = draw(st.sampled_from(["remove", "replace", "add"])), list(_keys(into))
        if what == "add" and isinstance(into, dict):
            into[draw(WORDS)] = draw(VALUES)
        elif what == "add":
            into.append(draw(VALUES))
        elif keys and what == "replace":
            into[draw(st.sampled_from(keys))] = draw(VALUES)
        elif keys:
            del into[draw(st.sampled_from(keys))]
    return data


def _keys(of: dict[str, Any] | list[Any]) -> list[Any]:
    return list(of) if isinstance(of, dict) else list(range(len(of)))


FILES = st.one_of(
    st.tuples(st.just("scenario"), damaged(st.sampled_from(list(SCENARIOS.values())))),
    st.tuples(
        st.just("plan"),
        damaged(st.sampled_from([{"seed": 1, "faults": data.get("faults", [])} for data in SCENARIOS.values()])),
    ),
    st.tuples(st.just("declaration"), damaged(st.just(DECLARATION))),
)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(FILES)
def test_what_a_schema_rejects_its_reader_rejects(file: tuple[str, dict[str, Any]]) -> None:
    """An editor marks nothing in any damaged file that derail would accept."""
    kind, data = file
    if not is_valid(kind, data):
        assert problems(kind, data) != []


PARAMS = [(entry.name, param) for entry in entries().values() for param in entry.params]


@settings(max_examples=500, deadline=None)
@given(st.sampled_from(PARAMS), VALUES)
def test_what_the_schema_of_a_parameter_rejects_its_reader_rejects(named: tuple[str, Any], value: object) -> None:
    """For each parameter of each fault."""
    _, param = named
    if not Draft7Validator(param_schema(param)).is_valid(value):
        with pytest.raises(ValueError, match=r"\w"):
            param.read(value)


USUAL = [
    0, 1, 3, 15, -1, 4096, 0.5, 2.0, True, False, "15", "SIGTERM", "1..3", "64K", "unlimited", "ValueError",
    "json:dumps", "write", "ENOSPC", "stdout", "/tmp", "", [], ["SIGTERM"], [15], ["SIGTERM", 15], ["a", "b"],
    [0.5], {"a": 1}, None,
]  # fmt: skip


@pytest.mark.parametrize("name", entries())
def test_the_schema_takes_usual_values_that_a_parameter_takes(name: str) -> None:
    """It accepts the default too: an editor marks none of them."""
    wrong = []
    for param in entries()[name].params:
        schema = Draft7Validator(param_schema(param))
        default = list(param.default) if isinstance(param.default, tuple) else param.default
        for value in [*USUAL, *param.choices, *([] if default is None else [default])]:
            try:
                param.read(value)
            except ValueError:
                continue
            wrong += [] if schema.is_valid(value) else [(param.name, value)]

    assert wrong == []


def test_each_key_of_a_scenario_has_a_description() -> None:
    """An editor shows it beside the key."""
    schema = schema_of("scenario")
    tables = (schema, schema["properties"]["expect"], *schema["definitions"]["fault"]["anyOf"])
    undescribed = {
        key
        for table in tables
        for key, shape in table["properties"].items()
        if not {"description", "$ref"} & shape.keys()
    }

    assert undescribed <= {"times", "for", "id"}


def test_scenarios_of_a_project_may_name_a_schema_of_their_own(tmp_path: Path) -> None:
    """The reader takes the first line as a comment."""
    path = tmp_path / "mine.toml"
    (tmp_path / "worker.py").write_text("")
    path.write_text("#:schema nowhere.json\ntitle = 't'\nranks = 1\nworker = 'worker.py'\n" + EXPECT)

    assert load.load(path).title == "t"


EXPECT = (
    GOOD.read_text()[GOOD.read_text().index("[expect]") :].splitlines()[0]
    + "\n"
    + "\n".join(
        f"{key} = {json.dumps(value)}"
        for key, value in SCENARIOS["calm/one_rank"]["expect"].items()
        if not isinstance(value, dict | list)
    )
)
