"""Plans: ids, hashes, and independent decisions."""

import pickle

import pytest

from derail import faults, when
from derail.faults.model.plan import Plan, decide
from derail.model.input_error import InputError


def test_the_id_of_a_fault_depends_on_its_content_not_its_position():
    """A fault keeps its id when others are inserted before it or removed."""
    kill, leave = faults.signal("SIGKILL", rank=2), faults.exit(7, rank=1)

    alone = faults.plan([kill]).faults[0].id
    behind = faults.plan([leave, kill]).faults[1].id

    assert alone == behind
    assert alone.startswith("signal-")


def test_equal_faults_have_different_ids():
    """Two equal faults can be distinguished."""
    ids = [fault.id for fault in faults.plan([faults.exit(1, rank=0)] * 3).faults]

    assert len(set(ids)) == 3


def test_an_id_that_is_given_twice_is_refused():
    """Results and journal identify faults by their ids."""
    with pytest.raises(InputError, match="duplicate id: 'a'"):
        faults.plan([faults.exit(1, rank=0, id="a"), faults.exit(2, rank=0, id="a")])


@pytest.mark.parametrize("seed", [-1, 2**63, 1.0, True])
def test_a_seed_that_does_not_fit_into_a_file_is_refused(seed):
    """A plan must be repeatable from its file."""
    with pytest.raises(InputError, match="seed: expected a whole number"):
        faults.plan([], seed=seed)


def test_the_hash_is_the_same_on_every_machine_and_for_ever():
    """The journal identifies the plan by it; it changes only if plans change their meaning."""
    plan = faults.plan([faults.signal("SIGKILL", rank=2, when=when.line("step 3"))], seed=7)

    assert (plan.faults[0].id, plan.hash) == ("signal-efec1e", "5a951445e5250f19")


def test_plans_are_values():
    """They are comparable, hashable and picklable."""
    plan = faults.plan([faults.hang(rank=[1, 0], ignore=["SIGTERM"])], seed=3)

    assert pickle.loads(pickle.dumps(plan)) == plan
    assert len({plan, pickle.loads(pickle.dumps(plan))}) == 1
    assert plan.faults[0].target == (0, 1)


def test_a_decision_depends_only_on_seed_and_subject():
    """Earlier decisions do not shift it."""
    first = decide(7, "signal-1", 2)
    decide(7, "other")

    assert decide(7, "signal-1", 2) == first
    assert len({first, decide(8, "signal-1", 2), decide(7, "signal-1", 3), decide(7, "signal-2", 2)}) == 4


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        (
            lambda: faults.signal("SIGKILL", rank=2, when=when.line("step 3")),
            "signal SIGKILL on rank 2 at line 'step 3'",
        ),
        (lambda: faults.signal("STOP", rank="all", for_=2), "signal SIGSTOP on all ranks at its start, for 2 s"),
        (
            lambda: faults.signal(10, rank=[1, 3], group=True, times=3, when=when.after(0.5)),
            "signal SIGUSR1 group on ranks 1, 3 after 0.5 s, 3 times",
        ),
        (lambda: faults.hang(rank="minority"), "hang on minority of the ranks at its start"),
        (lambda: faults.exit("bye", rank=0), "exit bye on rank 0 at its start"),
        (lambda: faults.error_file("truncated", rank=1), "error_file truncated on rank 1 at its exit"),
    ],
)
def test_a_fault_reads_as_a_sentence(fault, text):
    """Reports show the plan in this form, without defaults."""
    assert str(fault()) == text


@pytest.mark.parametrize("many", [-1, 1.0, True, "1"])
def test_an_invalid_keep_alive_is_refused(many):
    """It must be a number of ranks."""
    with pytest.raises(InputError, match="keep_alive: expected a number of ranks, 0 or more"):
        faults.plan([], keep_alive=many)


def test_an_empty_plan_is_a_plan():
    """Jobs without faults have one as well."""
    assert faults.plan() == Plan()
