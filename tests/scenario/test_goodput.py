"""Schedules of breaks, and the goodput of a perfect job on a simulated clock."""

import math
import statistics
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from derail.scenario.goodput import Pace, goodput, pace, schedule, student
from derail.scenario.recovery import read_run
from scenario.perfect_job import PerfectJob, formula

SCHEDULES = {
    0: [(24.119, 1), (26.051, 0), (26.547, 1)],
    1: [(47.793, 1), (55.872, 0), (64.937, 0)],
    20_261_201: [(30.89, 1), (49.411, 2), (53.353, 0)],
}
SEEDS = tuple(SCHEDULES)
seeds = st.integers(0, 2**63 - 1)
means = st.floats(0.5, 100.0)


@pytest.mark.parametrize(("seed", "first"), list(SCHEDULES.items()))
def test_a_schedule_is_the_same_on_every_machine_and_in_every_version(seed, first):
    """Its values are written down here: a change of them would make journals and reports incomparable."""
    breaks = schedule(seed, mtbf=20, seconds=300, ranks=4)
    assert [(round(each.at, 3), each.rank) for each in breaks[:3]] == first


@given(seed=seeds, mtbf=means, seconds=st.floats(1, 300), more=st.floats(0, 300), ranks=st.integers(1, 9))
def test_each_break_depends_on_the_seed_and_its_number_only(seed, mtbf, seconds, more, ranks):
    """The same arguments give the same schedule; a longer time adds breaks, and a longer mean stretches it."""
    breaks = schedule(seed, mtbf=mtbf, seconds=seconds, ranks=ranks)

    assert schedule(seed, mtbf=mtbf, seconds=seconds, ranks=ranks) == breaks
    assert schedule(seed, mtbf=mtbf, seconds=seconds + more, ranks=ranks)[: len(breaks)] == breaks
    stretched = schedule(seed, mtbf=2 * mtbf, seconds=2 * seconds, ranks=ranks)
    assert [(each.at, each.rank) for each in stretched] == [(pytest.approx(2 * each.at), each.rank) for each in breaks]
    assert [each.number for each in breaks] == list(range(1, len(breaks) + 1))
    assert all(0 < each.at < seconds and 0 <= each.rank < ranks for each in breaks)
    assert sorted(breaks, key=lambda each: each.at) == list(breaks)


@pytest.mark.parametrize("seed", SEEDS)
def test_intervals_are_exponential_and_ranks_uniform(seed):
    """Over 5,000 breaks: mean, deviation and the share of intervals beyond the mean, as in the distribution."""
    breaks = schedule(seed, mtbf=20, seconds=100_000, ranks=4)
    gaps = [later.at - earlier.at for earlier, later in pairwise(breaks)]

    assert len(breaks) == pytest.approx(5000, rel=0.05)
    assert statistics.stdev(gaps) == pytest.approx(20, rel=0.05)
    assert sum(gap > 20 for gap in gaps) / len(gaps) == pytest.approx(math.exp(-1), rel=0.05)
    assert [sum(each.rank == rank for each in breaks) for rank in range(4)] == [pytest.approx(1250, rel=0.1)] * 4


def test_too_many_breaks_are_refused():
    """Before anything runs."""
    with pytest.raises(ValueError, match=r"more than 10000 breaks in 300 s with a mean of 0.01 s between them"):
        schedule(0, mtbf=0.01, seconds=300, ranks=2)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    "job", [PerfectJob(), PerfectJob(step=1.0, recover=7.5, saves=1), PerfectJob(mtbf=5.0, saves=2)]
)
def test_the_goodput_of_a_perfect_job_is_that_of_the_formula(job, seed):
    """Constant steps, constant recovery, a checkpoint each n steps: within two percent for each seed."""
    quiet = pace(read_run(job.quiet(100 * job.step)))
    assert quiet == Pace(0.0, pytest.approx(1 / job.step))
    got = goodput([read_run(job.broken(seed, 8000 * job.mtbf))], quiet)

    assert got.value == pytest.approx(formula(job), rel=0.02)
    assert got.interval[0] <= got.value <= got.interval[1]


def test_the_interval_contains_the_formula_as_often_as_it_says():
    """Of 200 measurements with some 50 breaks each, 95 % are expected; below 90 %, the method would be a wrong one."""
    job = PerfectJob()
    quiet = Pace(0.0, 1 / job.step)
    intervals = [goodput([read_run(job.broken(seed, 50 * job.mtbf))], quiet).interval for seed in range(200)]
    hits = sum(low <= formula(job) <= high for low, high in intervals)

    assert 180 <= hits < 200


def test_steps_that_are_reached_twice_count_once():
    """Also over several runs of the job, and if an attempt skips steps."""

    def run(*attempts):
        job = PerfectJob(step=1.0)
        return read_run(
            job.records(
                [(10.0 * place, 10.0 * place + 9, *(steps or (None, None))) for place, steps in enumerate(attempts)]
            )
        )

    quiet = Pace(0.0, 1.0)
    assert goodput([run((1, 9), (6, 14), (1, 2))], quiet).useful == 14
    assert goodput([run((1, 9)), run((6, 14), (20, 22))], quiet).useful == 17
    assert goodput([run((1, 9), None, (12, 14), (1, 20))], quiet).useful == 20


def test_one_attempt_has_no_interval_and_no_time_no_goodput():
    """Neither is a number that would have to stand in for it."""
    job = PerfectJob()
    alone = goodput([read_run(job.quiet(5.0))], Pace(0.0, 1 / job.step))

    assert (alone.interval, alone.attempts, alone.value) == (None, 1, pytest.approx(1.0, rel=0.01))
    assert goodput([], Pace(0.0, 1.0)) is None
    assert goodput([read_run(job.quiet(5.0))], Pace(60.0, 1.0)) is None


@pytest.mark.parametrize("steps", [None, (3, 3)])
def test_a_quiet_run_without_two_steps_has_no_pace(steps):
    """A rate needs two different steps at two times."""
    assert pace(read_run(PerfectJob().records([(0.0, 5.0, *steps)] if steps else [(0.0, 5.0, None, None)]))) is None
    assert pace(read_run([])) is None


@pytest.mark.parametrize(("freedom", "quantile"), [(1, 12.706), (5, 2.571), (30, 2.042), (40, 2.021), (120, 1.980)])
def test_the_factor_is_that_of_students_distribution(freedom, quantile):
    """As in any table of it; the expansion beyond 30 is as good as the table."""
    assert student(freedom) == pytest.approx(quantile, abs=0.003)
