"""Preparation of a job before its start: unchanged, unless a fault acts inside a rank."""

import json
import os
import pickle
from pathlib import Path

import pytest

from derail import faults, when
from derail.faults.catalogue.injector_api import control_signal
from derail.faults.engine.prepare import LONGEST, SITE, check, environment, prepare
from derail.faults.inrank.function_wrapper import EntryPoint
from derail.faults.inrank.rank_plan import VARIABLE, Part
from derail.model.input_error import InputError
from derail.model.spec import Command, Function, JobSpec, RankSpec

JOURNAL = Path("/run/journal.jsonl")


PROGRAM = Command(("python", "train.py"))


def job(ranks=3, run=PROGRAM, **env):
    """Return a job that is never started."""
    return JobSpec("job", "id-1", tuple(RankSpec(rank, run, {"A": "1", **env}) for rank in range(ranks)))


def shout(word):
    """Function of a rank."""
    return word.upper()


def test_a_plan_without_in_rank_faults_changes_nothing():
    """The result is the very same value."""
    spec = job()
    plan = faults.plan([faults.signal("SIGKILL", rank=1), faults.error_file("empty", rank="all")])

    assert prepare(plan, spec, journal=JOURNAL) == spec


def test_only_target_ranks_are_changed():
    """In the others there is no trace of a plan."""
    spec = job()
    plan = faults.plan([faults.exit(7, rank=1, when=when.line("x"))])

    prepared = prepare(plan, spec, journal=JOURNAL)

    assert [rank == before for rank, before in zip(prepared.ranks, spec.ranks, strict=True)] == [True, False, True]
    assert prepared.ranks[1].run == spec.ranks[1].run
    assert prepared.ranks[1].env.keys() - spec.ranks[1].env.keys() == {VARIABLE, "PYTHONPATH"}


def test_the_given_spec_is_not_modified():
    """A spec is a value."""
    spec = job()
    before = pickle.dumps(spec)

    prepare(faults.plan([faults.exit(7, rank=1)]), spec, journal=JOURNAL)

    assert pickle.dumps(spec) == before


@pytest.mark.parametrize(
    ("before", "after"), [({}, str(SITE)), ({"PYTHONPATH": ""}, str(SITE)), ({"PYTHONPATH": "/a:/b"}, f"{SITE}:/a:/b")]
)
def test_derails_directory_is_first_on_pythonpath_and_nothing_is_lost(before, after):
    """An empty entry would mean the working directory."""
    prepared = prepare(faults.plan([faults.exit(7, rank=0)]), job(1, **before), journal=JOURNAL)

    assert prepared.ranks[0].env["PYTHONPATH"] == after.replace(":", os.pathsep)


def test_a_rank_gets_its_own_part_of_the_plan():
    """Its rank, the journal, the signal, and its own faults with all their parameters."""
    plan = faults.plan(
        [
            faults.exit(7, rank=[0, 1], when=when.after(1)),
            faults.hang(["SIGTERM"], rank=0, for_=2.0),
            faults.exception("OSError", rank=0, when=when.point("p", hit=3)),
            faults.exit(1, rank=2),
        ]
    )
    told = json.loads(prepare(plan, job(), journal=JOURNAL).ranks[0].env[VARIABLE])
    by_name = {fault["name"]: fault for fault in told["faults"]}

    assert (told["rank"], told["job"], told["journal"], told["signal"]) == (0, "id-1", str(JOURNAL), control_signal())
    assert [*by_name] == ["exit", "hang", "exception"]
    assert (by_name["exit"]["when"], by_name["exit"]["params"]) == ("told", {"code": 7, "how": "exit"})
    assert (by_name["hang"]["when"], by_name["hang"]["for"], by_name["hang"]["numbers"]) == ("start", 2.0, [15])
    assert (by_name["exception"]["when"], by_name["exception"]["watch"]) == (
        "watch",
        {"kind": "point", "name": "p", "at": "enter", "hits": [[3, 3, 1]]},
    )
    assert told["watches"] == []


@pytest.mark.parametrize("method", ["spawn", "fork", "forkserver"])
def test_a_function_is_wrapped(method):
    """A forked rank starts no interpreter."""
    spec = job(1, run=Function(shout, ("a",), method))

    run = prepare(faults.plan([faults.exit(7, rank=0)]), spec, journal=JOURNAL).ranks[0].run

    assert isinstance(run.target, EntryPoint)
    assert (run.args, run.start_method, run.target.__name__, run.target.__module__) == (
        ("a",), method, "shout", shout.__module__,
    )  # fmt: skip


def test_the_wrapper_is_picklable_and_calls_its_target():
    """Without a plan in the environment it adds nothing."""
    entry = pickle.loads(pickle.dumps(EntryPoint(shout)))

    assert entry("a") == "A"


@pytest.mark.parametrize(
    ("fault", "problem"),
    [
        (faults.exit(7, rank=3), "faults[0].rank: there is no rank 3; the job has ranks 0 to 2"),
        (faults.signal("SIGKILL", rank=[0, 5]), "faults[0].rank: there is no rank 5"),
        (faults.signal("SIGKILL", rank=0, when=when.line("x", rank=9)), "faults[0].when.rank: there is no rank 9"),
    ],
)
def test_a_fault_for_a_missing_rank_prevents_the_run(fault, problem):
    """It could only end as not reached."""
    with pytest.raises(InputError) as error:
        prepare(faults.plan([fault]), job(), journal=JOURNAL)

    assert problem in str(error.value)


def test_words_need_ranks():
    """An empty job has no rank to select."""
    with pytest.raises(InputError, match="the job has no ranks"):
        check(faults.plan([faults.hang(rank="one")]), ())


def test_a_plan_too_long_for_the_environment_is_refused():
    """Linux accepts 128 KiB per variable."""
    plan = faults.plan([faults.exit("x" * LONGEST, rank=0)])

    with pytest.raises(InputError, match="at most 100000 bytes"):
        prepare(plan, job(), journal=JOURNAL)


def test_an_external_agent_gets_variables_for_all_ranks():
    """Each rank finds its faults by its RANK."""
    plan = faults.plan([faults.exit(7, rank=1), faults.signal("SIGKILL", rank=0)])

    variables = environment(plan, range(4), journal=JOURNAL, job="j", environ={})
    told = json.loads(variables[VARIABLE])

    assert (told["rank"], [fault["ranks"] for fault in told["faults"]]) == (None, [[1]])
    assert environment(faults.plan(), range(4), journal=JOURNAL, job="j", environ={}) == {}


def test_ranks_of_an_external_agent_watch_what_the_driver_waits_for():
    """Each for its own places: those of the faults that target it."""
    plan = faults.plan([faults.signal("SIGKILL", rank=1, when=when.point("x"))])
    variables = environment(plan, range(4), journal=JOURNAL, job="j", environ={}, meet="somewhere")
    parts = [Part(variables[VARIABLE], rank) for rank in range(3)]

    assert [[watch.name for watch in part.watches] for part in parts] == [[], ["x"], []]
    assert {part.meet for part in parts} == {"somewhere"}


def test_ranks_of_an_external_agent_do_the_handshake_without_faults():
    """Otherwise derail could not identify them."""
    assert VARIABLE in environment(faults.plan(), range(4), journal=JOURNAL, job="j", environ={}, meet="somewhere")


def test_one_and_all_are_resolved_with_the_seed():
    """The same plan selects the same ranks, and another seed may select others."""

    def whom(seed):
        plan = faults.plan([faults.exit(7, rank="one")], seed=seed)
        prepared = prepare(plan, job(8), journal=JOURNAL)
        return [rank.rank for rank in prepared.ranks if VARIABLE in rank.env]

    assert [len(whom(seed)) for seed in range(20)] == [1] * 20
    assert whom(3) == whom(3)
    assert len({whom(seed)[0] for seed in range(20)}) > 3
