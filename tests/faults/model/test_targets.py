"""Target words, spared ranks, and the independence of each decision."""

from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from derail import faults, when
from derail.faults.engine import journal
from derail.faults.engine.driver import Driver
from derail.faults.engine.prepare import check
from derail.faults.engine.sync_points import SyncPoint
from derail.faults.model.plan import TargetWord
from derail.faults.model.targets import AGENT, AGENT_RANK, WORDS, resolve, spared
from derail.model.input_error import InputError
from faults.fake_job import FakeJob, spec_of
from faults.real_job import ended


def meant(word, ranks, seed=0, **options):
    """Return the ranks that a word selects."""
    plan = faults.plan([faults.hang(rank=word, id="a")], seed=seed, **options)
    return set(resolve(plan, plan.faults[0], range(ranks)))


@pytest.mark.parametrize(
    ("word", "counts"),
    [
        ("all", [1, 2, 3, 4, 5]),
        ("one", [1, 1, 1, 1, 1]),
        ("minority", [0, 0, 1, 1, 2]),
        ("majority", [1, 2, 2, 3, 3]),
        ("all but one", [0, 1, 2, 3, 4]),
    ],
)
def test_a_word_selects_a_number_of_ranks(word, counts):
    """Less than half, more than half ...; a word that selects no rank is refused."""
    for ranks, count in enumerate(counts, 1):
        if count:
            assert len(meant(word, ranks)) == count
        else:
            with pytest.raises(ValueError, match=f"'{word}'.* {ranks} ranks"):
                meant(word, ranks)


def test_a_type_checker_knows_the_words():
    """The type of a target lists the words."""
    assert get_args(TargetWord) == tuple(WORDS)


@settings(deadline=None, max_examples=60)
@given(st.sampled_from([word for word in WORDS if word != AGENT]), st.integers(0, 2**63 - 1), st.integers(3, 20))
def test_an_additional_rank_does_not_change_the_order_of_the_others(word, seed, ranks):
    """Of the earlier ranks, more or fewer are selected, but not different ones."""
    before, after = meant(word, ranks, seed), meant(word, ranks + 1, seed) - {ranks}

    assert before <= after or after <= before


def test_every_rank_is_selected_under_some_seed():
    """Selections are spread over the ranks."""
    chosen = [meant("one", 4, seed).pop() for seed in range(400)]

    assert all(60 < chosen.count(rank) < 140 for rank in range(4))


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**63 - 1), st.integers(1, 6))
def test_a_spared_rank_is_never_selected(seed, keep):
    """Whatever the word, and whatever other faults exist."""
    plan = faults.plan(
        [faults.hang(rank=word, id=word) for word in ("all", "majority", "one")] + [faults.hang(rank=2, id="n")],
        seed=seed,
        keep_alive=keep,
    )
    hit = {rank for fault in plan.faults for rank in resolve(plan, fault, range(8))}

    assert len(hit & set(spared(plan, range(8)))) == 0
    assert len(set(range(8)) - hit) == keep
    assert 2 in hit


@pytest.mark.parametrize(
    ("target", "keep", "problem"),
    [
        (
            [0, 1],
            2,
            "keep_alive: expected 2 of 3 ranks without a fault, got 1: faults target all the others",
        ),
        ("all", 3, "faults[0].rank: 'all' selects no rank in a job of 3 ranks with keep_alive=3"),
        ("all", 4, "keep_alive: expected 4 of 3 ranks without a fault"),
        ("the agent", 0, "faults[0].rank: this job has no agent to target"),
    ],
)
def test_a_plan_that_spares_too_few_ranks_is_refused(target, keep, problem):
    """Before a rank is started."""
    with pytest.raises(InputError) as error:
        check(faults.plan([faults.hang(rank=target)], keep_alive=keep), range(3))

    assert problem in str(error.value)


def test_the_agent_is_a_target_only_if_there_is_one():
    """It is not a rank: no other word selects it, and it is not spared either."""
    with_agent = (*range(3), AGENT_RANK)
    plan = faults.plan(
        [faults.stop(rank="the agent", id="a"), faults.stop(rank="all", id="b"), faults.stop(rank="majority", id="c")],
        keep_alive=1,
    )

    assert resolve(plan, plan.faults[0], with_agent) == (AGENT_RANK,)
    for fault in plan.faults[1:]:
        assert resolve(plan, fault, with_agent) == resolve(plan, fault, range(3))
    assert spared(plan, with_agent) == spared(plan, range(3))


@pytest.mark.parametrize(
    ("fault", "problem"),
    [
        (faults.exit(7, rank="the agent"), "faults[0].fault: 'exit' acts inside ranks. Only faults that act from"),
        (
            faults.stop(rank="the agent", when=when.point("x")),
            "faults[0].when: the agent has no in-rank runtime",
        ),
        (faults.stop(rank="the agent", when=when.line("x")), "faults[0].when.rank: missing"),
    ],
)
def test_a_fault_that_cannot_target_the_agent_is_refused(fault, problem):
    """It is another project's program without derail's runtime."""
    with pytest.raises(InputError) as error:
        check(faults.plan([fault]), (*range(3), AGENT_RANK))

    assert problem in str(error.value)


def test_the_agent_can_be_signalled_at_a_line_of_a_rank():
    """Like a user who presses Ctrl-C when the job hangs."""
    interrupt = faults.signal("SIGINT", rank="the agent", times=3, when=when.line("x", rank=0))

    check(faults.plan([interrupt]), (*range(3), AGENT_RANK))


def test_keep_alive_spares_a_rank_in_a_job(tmp_path):
    """All ranks but one are killed; the launcher ends that one."""
    plan = faults.plan([faults.signal("SIGKILL", rank="all", when=when.line("ready"))], seed=3, keep_alive=1)
    seen, _ = ended(tmp_path, "print('ready', flush=True); time.sleep(600)", ranks=4, plan=plan)
    (kept,) = spared(plan, range(4))

    assert seen.root_cause != kept
    assert {told.rank for told in seen.faults} == set(range(4)) - {kept}
    assert seen.ranks[kept].status.signal != 9


PROGRAM = """
import signal
from derail.faults import fail_point
signal.signal(signal.SIGUSR1, lambda *_: None)
fail_point("begin")
for step in range(8):
    fail_point("step")
"""
FIVE = (
    faults.signal("SIGUSR1", rank="one", when=when.probability(0.4, when.point("step", hit="1..")), times=2),
    faults.signal("SIGWINCH", rank="minority", when=when.point("step", hit="2..6+2")),
    faults.hang(rank="majority", for_=2.0, when=when.probability(0.5, when.point("step", hit="1.."))),
    faults.signal("SIGURG", rank="all", when=when.probability(0.5, when.start())),
    faults.exit(0, rank="one", when=when.then(when.point("step", hit=4), when.point("step", hit=2))),
)


def decisions(tmp_path, given, ranks, *, name):
    """Return which rank each fault hit and when."""
    sync_point = SyncPoint("there", "begin")  # nobody goes beyond it before the driver has heard of all of them
    sync_point.release()
    driver = Driver(faults.plan(given, seed=12), journal=tmp_path / f"{name}.jsonl", sync_points=[sync_point])
    FakeJob(driver.prepare(spec_of(tmp_path, *[PROGRAM] * ranks)), driver).run()
    found = {}
    for record in journal.read(driver.journal.path):
        if record["event"] in ("start", "again", "tell", "end"):
            told = (record["rank"], record["event"], record.get("hit"), record.get("result"))
            found.setdefault(record["fault"], set()).add(told)
    return found


@pytest.mark.parametrize("times", [3, pytest.param(20, marks=pytest.mark.slow)])
def test_a_plan_does_the_same_at_the_same_triggers_each_time(tmp_path, times):
    """Five faults, twenty times."""
    runs = [decisions(tmp_path, FIVE, 3, name=n) for n in range(times)]

    assert len(runs[0]) == 5
    assert all(run == runs[0] for run in runs)
    assert "injected" in {told[3] for of_fault in runs[0].values() for told in of_fault}


@pytest.mark.parametrize("gone", range(4))
def test_removing_a_fault_changes_nothing_for_the_others(tmp_path, gone):
    """Their decisions depend on their own ids."""
    whole = decisions(tmp_path, FIVE, 3, name="whole")
    fewer = decisions(tmp_path, [fault for place, fault in enumerate(FIVE) if place != gone], 3, name="fewer")

    assert len(fewer) == 4
    assert {fault: told for fault, told in whole.items() if fault in fewer} == fewer


def test_adding_a_rank_changes_nothing_for_the_others(tmp_path):
    """The earlier ranks get the same faults again."""
    three, four = (decisions(tmp_path, FIVE, ranks, name=ranks) for ranks in (3, 4))

    for fault, told in three.items():
        ours = {(rank, *what) for rank, *what in four[fault] if rank != 3}
        assert ours <= told or told <= ours
