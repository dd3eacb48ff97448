"""Functions of ``when``: their triggers and their errors."""

import builtins

import pytest

from derail import when
from derail.faults.model.triggers import (
    KINDS,
    After,
    AllOf,
    AnyOf,
    Barrier,
    Call,
    ExitOf,
    ImportOf,
    Line,
    OwnExit,
    Phase,
    Point,
    Probability,
    Restart,
    SignalReceived,
    Start,
    Then,
    to_data,
)
from derail.faults.serialization.trigger_codec import from_data
from derail.model.input_error import InputError

ALL = [
    Start(),
    After(0.0),
    After(2.5),
    Line("step 3"),
    Line("^x$", "stderr", 4, 1),
    Line("x", hit="2..8+2"),
    Point("after_step"),
    Point("after_step", "3.."),
    Call("json:dumps"),
    Call("a.b:C.d", "2..4", "exit"),
    ImportOf("torch.distributed"),
    SignalReceived("SIGTERM"),
    SignalReceived("SIGRTMIN+3", 2),
    OwnExit(),
    ExitOf(3),
    Restart(0),
    Restart(2),
    Phase("stopping"),
    Phase("starting rank 12"),
    Barrier(Point("x")),
    Barrier(Line("step 3", hit=2), (0, 2)),
    Probability(0.25),
    Probability(1.0, Point("x", "1.."), 2),
    AllOf((Line("x"), Point("y"), Start())),
    AnyOf((After(1.0), AllOf((OwnExit(), Phase("killing"))))),
    Then((Line("x"), After(0.5), Then((Point("a"), Point("b"))))),
]


@pytest.mark.parametrize("trigger", ALL, ids=str)
def test_a_trigger_is_read_as_written(trigger):
    """Its plain form is complete."""
    problems = []

    assert from_data(to_data(trigger), "when", problems) == trigger
    assert problems == []


def test_every_kind_of_trigger_is_tested_above():
    """A new trigger has to join the list."""
    assert {type(trigger) for trigger in ALL} == set(KINDS.values())


def test_the_words_make_the_triggers():
    """``derail.when`` is the form for Python."""
    made = [
        when.start(), when.after(1), when.line("x", hit=2), when.point("p"), when.own_exit(),
        when.call("a:b", at="exit"), when.import_of("a.b"), when.signal_received(15), when.exit_of(2), when.restart(1),
        when.phase("running"),
        when.barrier("p", ranks=[2, 0]), when.probability(0.5, when.point("p", hit="1.."), first=1),
        when.all_of(when.start(), when.own_exit()), when.any_of(when.start(), when.own_exit()),
        when.then(when.start(), when.own_exit()), when.line("x", hit="3..3"),
    ]  # fmt: skip

    assert made == [
        Start(), After(1.0), Line("x", hit=2), Point("p"), OwnExit(), Call("a:b", at="exit"), ImportOf("a.b"),
        SignalReceived("SIGTERM"), ExitOf(2), Restart(1), Phase("running"), Barrier(Point("p"), (0, 2)),
        Probability(0.5, Point("p", "1.."), 1), AllOf((Start(), OwnExit())), AnyOf((Start(), OwnExit())),
        Then((Start(), OwnExit())), Line("x", hit=3),
    ]  # fmt: skip


def test_the_public_names_are_the_words_and_the_types():
    """Each kind has a function named as in TOML and a type for annotations; none hides a builtin of Python."""
    words = [name for name in when.__all__ if name[0].islower()]

    assert sorted(words) == sorted(KINDS)
    assert {getattr(when, name) for name in when.__all__} == {
        *(getattr(when, word) for word in words), *KINDS.values(), when.Hit, when.Trigger
    }  # fmt: skip
    assert set(when.__all__) & set(vars(builtins)) == set()


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda: when.line("step ("), "when.line: 'step (' is not a regular expression"),
        (lambda: when.line("x", hit=0), "when.line: expected occurrences from 1 upwards"),
        (lambda: when.line("x", stream="stdin"), 'when.line: expected "stdout" or "stderr", got \'stdin\''),
        (lambda: when.after(-1), "when.after: expected a number of seconds, 0 or more, got -1.0"),
        (lambda: when.after(float("nan")), "when.after: expected a number of seconds"),
        (lambda: when.point(""), "when.point: a point needs a name"),
        (lambda: when.point("p", hit="4..2"), "when.point: expected occurrences from 1 upwards"),
        (lambda: when.point("p", hit="some"), "when.point: expected something like '4', '2..6', '2..8+2' or '3..'"),
        (lambda: when.call("json.dumps"), "when.call: expected package.module:function"),
        (lambda: when.call("a:b", at="in"), 'when.call: expected "enter" or "exit", got \'in\''),
        (lambda: when.import_of("a b"), "when.import_of: expected the name of a module"),
        (lambda: when.signal_received("SIGTEM"), "when.signal_received: "),
        (lambda: when.phase("starting rank x"), "when.phase: expected one of starting, running"),
        (lambda: when.barrier("p", ranks=[1, 1]), "when.barrier: expected different ranks, got [1, 1]"),
        (lambda: when.probability(1.5), "when.probability: expected a number from 0 to 1, got 1.5"),
        (lambda: when.all_of(when.start()), "when.all_of: expected two triggers or more, got 1"),
        (when.then, "when.then: expected two triggers or more, got 0"),
        (lambda: when.line(3), "when.line: expected a string, got 3"),
        (lambda: when.line(b"x"), "when.line: expected a string, got b'x'"),
        (lambda: when.line("x", hit=2.5), "when.line: expected something like '4', '2..6'"),
        (lambda: when.line("x", rank="0"), "when.line: expected a whole number, 0 or more, got '0'"),
        (lambda: when.after("0.2"), "when.after: expected a number, got '0.2'"),
        (lambda: when.point(3), "when.point: expected a string, got 3"),
        (lambda: when.call(3), "when.call: expected a string, got 3"),
        (lambda: when.import_of(None), "when.import_of: expected a string, got None"),
        (lambda: when.phase(3), "when.phase: expected a string, got 3"),
        (lambda: when.signal_received(2.5), "when.signal_received: expected a signal like 'SIGTERM', got 2.5"),
        (lambda: when.exit_of("0"), "when.exit_of: expected a whole number, 0 or more, got '0'"),
        (lambda: when.exit_of(None), "when.exit_of: expected a whole number, 0 or more, got None"),
        (lambda: when.restart(-1), "when.restart: expected a whole number, 0 or more, got -1"),
        (lambda: when.all_of("step 3", when.start()), "when.all_of: expected a trigger, got 'step 3'"),
        (lambda: when.any_of([when.start(), when.own_exit()]), "when.any_of: expected a trigger, got [Start()"),
        (lambda: when.then(when.start(), when.start), "when.then: expected a trigger, got <function start"),
        (lambda: when.barrier(3), "when.barrier: expected a trigger, got 3"),
        (lambda: when.barrier("p", ranks=["0"]), "when.barrier: expected a list of ranks, got ['0']"),
        (lambda: when.barrier("p", ranks=0), "when.barrier: expected a list of ranks, got 0"),
        (lambda: when.probability("0.5"), "when.probability: expected a number, got '0.5'"),
        (lambda: when.probability(0.5, "start"), "when.probability: expected a trigger, got 'start'"),
        (lambda: when.probability(0.5, first="2"), "when.probability: expected a whole number, 0 or more, got '2'"),
    ],
)
def test_a_trigger_that_can_never_fire_is_refused_at_its_creation(make, problem):
    """Otherwise it would only be found after the run."""
    with pytest.raises(InputError) as error:
        make()

    assert problem in str(error.value)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        ("stat", "when: unknown trigger 'stat'; did you mean 'start'?"),
        ({"lines": "x"}, "when: unknown trigger 'lines'; did you mean 'line'?"),
        ({"line": 3}, "when.line: expected a string, got 3"),
        ({"line": "x", "hits": 2}, "when.hits: unknown key 'hits'; did you mean 'hit'?"),
        ({"line": "x", "hit": 0}, "when.hit: expected occurrences from 1 upwards"),
        ({"line": "x", "hit": True}, "when.hit: expected a number or a text, got True"),
        ({"call": "json"}, "when.call: expected package.module:function"),
        ({"cal": "json:dumps"}, "when: unknown trigger 'cal'; did you mean 'call'?"),
        ({"call": "json:dumps", "on": "exit"}, "when.on: unknown key 'on'; known: at, call, hit"),
        ({"signal_received": "TEM"}, "when.signal_received: "),
        ({"restart": -1}, "when.restart: expected a whole number, 0 or more, got -1"),
        ({"exit_of": "one"}, "when.exit_of: expected a whole number, 0 or more, got 'one'"),
        ({"phase": "stoping"}, "when.phase: expected one of starting, running, stopping, killing, done"),
        ({"barrier": {"pint": "x"}}, "when.barrier: unknown trigger 'pint'; did you mean 'point'?"),
        ({"barrier": {"point": "x"}, "ranks": 1}, "when.ranks: expected a list of ranks, got 1"),
        ({"probability": "half"}, "when.probability: expected a number from 0 to 1, got 'half'"),
        ({"probability": 0.5, "of": {"line": "("}}, "when.of.line: '(' is not a regular expression"),
        ({"all_of": "start"}, "when.all_of: expected a list of triggers, got 'start'"),
        ({"any_of": ["start"]}, "when.any_of: expected two triggers or more, got 1"),
        ({"then": ["start", {"lin": "x"}]}, "when.then[1]: unknown trigger 'lin'; did you mean 'line'?"),
        ({"line": "(", "stream": "out"}, 'when.stream: expected "stdout" or "stderr", got \'out\''),
        ({"line": "("}, "when.line: '(' is not a regular expression"),
        ({"after": "soon"}, "when.after: expected a number of seconds, 0 or more, got 'soon'"),
        ({"start": 3}, "when.start: takes no value"),
        ({"line": "x", "after": 1}, "when.after: unknown key 'after'"),
        ({}, "when: empty: expected a trigger, one of start, after, line"),
        (7, "when: expected a table, got 7"),
    ],
)
def test_an_invalid_trigger_is_refused_with_its_path(data, problem):
    """A misspelt trigger must not become a fault that never happens."""
    problems = []

    assert from_data(data, "when", problems) is None
    assert any(problem in told for told in problems), problems
