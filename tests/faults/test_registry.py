"""Catalogue: every entry is complete, and its builder matches it."""

import importlib
import inspect
import signal

import pytest

from derail import faults, when
from derail.faults.inrank.actions import ACTIONS
from derail.faults.model.triggers import KINDS
from derail.faults.registry import RESERVED, builder, entries, entry
from derail.model.input_error import InputError

ENTRIES = entries()


@pytest.mark.parametrize("name", ENTRIES)
def test_the_example_of_an_entry_works(name):
    """The example in ``derail explain`` can be pasted."""
    made = eval(ENTRIES[name].example, {"faults": faults, "when": when})

    assert made.name == name


@pytest.mark.parametrize("name", ENTRIES)
def test_an_entry_is_complete(name):
    """Each states its effect, its evidence, and its triggers."""
    known = ENTRIES[name]

    assert all([known.summary, known.verified, known.example, known.family])
    assert set(known.acts.triggers) <= set(KINDS)
    assert KINDS[known.acts.triggers[0]] is type(known.acts.default) or type(known.acts.default).__name__ == "Start"
    assert not {param.name for param in known.params} & set(RESERVED)
    assert all(param.meaning.endswith(".") and param.type for param in known.params)
    assert bool(known.healed) or not known.acts.lasts


def test_exactly_the_in_rank_faults_have_an_action():
    """The two halves of an in-rank fault have one name."""
    assert set(ACTIONS) == {name for name, known in ENTRIES.items() if known.side == "in rank"}


@pytest.mark.parametrize("name", ENTRIES)
def test_a_builder_has_the_signature_of_its_entry(name):
    """``help(faults.signal)`` shows its parameters."""
    parameters = inspect.signature(getattr(faults, name)).parameters

    assert [*parameters][: len(ENTRIES[name].params)] == [param.name for param in ENTRIES[name].params]
    common = ["rank", "when", *["times"] * ENTRIES[name].acts.repeats, *["for_"] * ENTRIES[name].acts.lasts, "id"]
    assert [*parameters][len(ENTRIES[name].params) :] == common
    assert getattr(faults, name).__doc__.startswith(ENTRIES[name].summary)


def test_every_fault_is_listed_among_the_names_of_faults():
    """``dir`` has them and more; ``import *`` has them and the parts of plans."""
    assert set(ENTRIES) <= set(dir(faults))
    assert {*faults.__all__} == {*ENTRIES, "Fault", "Plan", "InputError", "Target", "fail_point", "plan"}
    assert all(getattr(faults, name) for name in faults.__all__)


def test_an_unknown_fault_is_refused_with_the_nearest_name():
    """A typing error is found where it is made."""
    with pytest.raises(AttributeError, match="unknown fault 'signl'; did you mean 'signal'"):
        faults.signl  # noqa: B018
    with pytest.raises(InputError, match="unknown fault 'hagn'; did you mean 'hang'"):
        builder("hagn")


def test_faults_is_a_package_and_plan_a_function_whatever_was_imported_before():
    """The submodule of the same name must not hide it."""
    importlib.reload(importlib.import_module("derail.faults.registry"))
    importlib.import_module("derail.faults.model.plan")

    assert callable(faults.plan)
    assert faults.plan([], seed=3).seed == 3


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda: faults.signal("SIGKILL"), r"faults.signal\(\) needs rank=...: a rank, a list of ranks"),
        (lambda: faults.signal("SIGKILL", True, 0.1, 5, rank=0), "takes 3 values by position, got 4"),
        (lambda: faults.signal("SIGKILL", signal="SIGTERM", rank=0), "got signal by position and by name"),
    ],
)
def test_a_wrong_call_is_a_type_error(make, problem):
    """As with any other function."""
    with pytest.raises(TypeError, match=problem):
        make()


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda: faults.signal(rank=0), "faults.signal.signal: is missing"),
        (lambda: faults.signal(99, rank=0), "faults.signal.signal: signal 99 does not exist here"),
        (lambda: faults.signal(True, rank=0), "faults.signal.signal: expected a signal like 'SIGTERM', got True"),
        (lambda: faults.signal("SIGKILL", rank="some"), "faults.signal.rank: unknown target 'some'"),
        (lambda: faults.signal("SIGKILL", rank=None), "faults.signal.rank: expected a rank"),
        (lambda: faults.signal("SIGKILL", rnk=2), "parameter of 'signal' 'rnk'; did you mean 'rank'"),
        (
            lambda: faults.signal("SIGKILL", rank=0, when="start"),
            "faults.signal.when: expected a trigger of derail.when",
        ),
        (lambda: faults.signal("SIGKILL", rank=0, when=when.start), "faults.signal.when: expected a trigger"),
        (lambda: faults.signal("SIGKILL", rank=0, times="2"), "faults.signal.times: expected 1 or more, got '2'"),
        (lambda: faults.signal("SIGKILL", rank=0, times=True), "faults.signal.times: expected 1 or more, got True"),
        (lambda: faults.signal("SIGKILL", rank=0, for_="1"), "faults.signal.for: expected a number of seconds"),
        (lambda: faults.signal("SIGKILL", rank=0, id=7), "faults.signal.id: expected a string, got 7"),
        (lambda: faults.signal("SIGKILL", rank=0, times=0), "faults.signal.times: expected 1 or more, got 0"),
        (lambda: faults.signal("SIGKILL", rank=0, for_=-1), "faults.signal.for: expected a number of seconds"),
        (
            lambda: faults.hang(rank=0, when=when.then(when.start(), when.own_exit())),
            "'hang' cannot act at its start, then",
        ),
        (
            lambda: faults.exit(1, rank=0, when=when.line("x", hit="2..6+2")),
            "'exit' is to act 1 times; at line 'x' (hit",
        ),
        (lambda: faults.signal("SIGUSR1", rank=0, times=4, when=when.line("x", hit="1..3")), "to act 4 times; at line"),
        (lambda: faults.exit(2**40, rank=0), "faults.exit.code: expected an exit code from"),
        (lambda: faults.exit("\ud800", rank=0), "half a surrogate pair"),
        (lambda: faults.error_file("truncated", rank=0, when=when.start()), "'error_file' cannot act at its start"),
    ],
)
def test_wrong_values_are_refused_where_they_are_given(make, problem):
    """The message names the builder and the parameter."""
    with pytest.raises(InputError) as error:
        make()

    assert problem in str(error.value)


def test_a_signal_has_one_name_in_every_notation():
    """Number, short name, enum member and real-time signals."""
    given = [9, "9", "kill", "SIGKILL", signal.SIGKILL]

    assert {faults.signal(number, rank=0).param("signal") for number in given} == {"SIGKILL"}
    assert faults.signal(37, rank=0).param("signal") == "SIGRTMIN+3"


def test_parameters_that_are_not_given_have_their_defaults():
    """A plan stores only given parameters; the catalogue has the defaults."""
    fault = faults.signal("SIGKILL", rank=0)

    assert fault.params == (("signal", "SIGKILL"),)
    assert (fault.param("group"), fault.param("every")) == (False, 0.1)
    assert dict(entry("signal").defaults) == {"group": False, "every": 0.1}
    with pytest.raises(KeyError):
        fault.param("groop")


def test_an_unknown_entry_is_refused():
    """The error has its name and the nearest one."""
    with pytest.raises(InputError, match="did you mean 'exception'"):
        entry("exeption")


@pytest.mark.parametrize(
    ("trigger", "given", "times"),
    [
        (when.line("x"), {}, 1),
        (when.line("x"), {"times": 3}, 3),
        (when.line("x", hit="2..6+2"), {}, 3),
        (when.line("x", hit="2..6+2"), {"times": 2}, 2),
        (when.line("x", hit="2.."), {}, 1),
        (when.probability(0.5, when.point("x", hit="1..9")), {"times": 2}, 2),
    ],
    ids=str,
)
def test_a_fault_acts_at_each_occurrence_unless_times_is_smaller(trigger, given, times):
    """``times`` may be omitted if the occurrences determine it."""
    assert faults.signal("SIGUSR1", rank=0, when=trigger, **given).times == times
