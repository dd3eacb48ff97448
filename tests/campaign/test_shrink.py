"""The search for the fewest faults that still fail, without processes."""

from __future__ import annotations

from itertools import combinations
from random import Random
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from derail.campaign.shrink import Count, Search

if TYPE_CHECKING:
    from collections.abc import Callable

    from derail.campaign.shrink import Candidate, Outcome


@given(st.integers(1, 9).flatmap(lambda size: st.tuples(st.just(size), st.sets(st.integers(0, size - 1)))))
def test_what_fails_with_certain_faults_is_reduced_to_them(case: tuple[int, set[int]]):
    """A failure that needs certain faults ends at exactly these, whatever else is in the plan."""
    size, needed = case
    search = Search(lambda kept: "fails" if needed <= set(kept) else "passes", 1, 1000)
    search.reduce(size)
    assert (search.best, search.complete) == (tuple(sorted(needed)), True)


@given(st.integers(1, 6), st.data())
def test_any_failure_ends_where_no_single_fault_can_be_left_out(size: int, data: st.DataObject):
    """A failure that is not monotone ends at a candidate of which every smaller one by a fault passes."""
    subsets = [each for count in range(size) for each in combinations(range(size), count)]
    failing = data.draw(st.sets(st.sampled_from(subsets))) | {tuple(range(size))}
    search = Search(lambda kept: "fails" if kept in failing else "passes", 1, 1000)
    search.reduce(size)
    assert search.best in failing
    assert search.complete
    assert not any(tuple(each for each in search.best if each != place) in failing for place in search.best)


def test_two_of_seven_take_fewer_than_25_runs():
    """Each pair among seven faults is found in fewer than 25 runs."""
    for pair in combinations(range(7), 2):
        search = Search(lambda kept, pair=pair: "fails" if {*pair} <= {*kept} else "passes", 1, 1000)
        search.reduce(7)
        assert search.best == pair
        assert search.runs < 25


def test_a_flaky_failure_is_counted_with_an_interval():
    """Every second run of the original fails: the count has all runs of it, and passes are not hidden."""
    outcomes = iter(("passes", "fails") * 100)
    search = Search(lambda kept: next(outcomes) if kept == (0,) else "passes", 20, 1000)
    search.reduce(1)
    search.count_again()
    assert str(search.counts[0,]) == "fails 10 of 20 (95 %: 30 to 70 %)"
    assert str(search.counts[()]).startswith("fails 0 of 20 (95 %: 0 to 16 %)")


def test_runs_without_a_verdict_do_not_count():
    """A candidate whose runs have no verdict neither fails nor passes, and the search is then not complete."""
    search = Search(lambda kept: "fails" if len(kept) == 2 else "unknown", 3, 1000)
    search.reduce(2)
    assert (search.best, search.complete) == ((0, 1), False)
    assert (search.counts[0,].judged, search.counts[0,].unknown) == (0, 3)


@pytest.mark.parametrize("most", [1, 2, 3, 5])
def test_the_budget_of_runs_is_kept(most: int):
    """The search ends at its budget with the best candidate so far, and is not complete."""
    search = Search(lambda kept: "fails" if {1, 5} <= {*kept} else "passes", 1, most)
    search.reduce(7)
    search.count_again()
    assert search.runs == most
    assert search.best is not None
    assert not search.complete


def test_the_interval_without_runs_is_everything():
    """No judged run says nothing about the rate."""
    assert Count(unknown=2).interval == (0.0, 1.0)


def test_runs_are_kept_for_the_count_of_what_remains():
    """A budget that ends the search leaves ``repeat`` runs of the best candidate."""
    search = Search(lambda kept: "fails" if {0, 5} <= {*kept} else "passes", 10, 30)
    search.reduce(7)
    assert not search.complete
    search.count_again()
    assert search.best is not None
    assert search.counts[search.best].judged == 10
    assert search.runs <= 60


def flaky(needed: set[int], rate: float, random: Random) -> Callable[[Candidate], Outcome]:
    """Return a run that fails at this rate with certain faults, and in 1 of 100 without."""
    return lambda kept: "fails" if random.random() < (rate if needed <= {*kept} else 0.01) else "passes"


@pytest.mark.parametrize("rate", [0.5, 0.9])
def test_a_flaky_failure_is_reduced_to_what_it_needs(rate: float):
    """Of seven faults two matter, and other failures are rare: of 100 searches few end elsewhere, within the budget."""
    ends: list[tuple[int, ...] | None] = []
    for seed in range(100):
        needed = set(Random(seed).sample(range(7), 2))
        search = Search(flaky(needed, rate, Random(seed)), 20, 300)
        search.reduce(7)
        search.count_again()
        ends.append(search.best if search.complete and search.best == tuple(sorted(needed)) else None)
        if ends[-1] is not None:
            low, high = search.counts[ends[-1]].interval
            assert low < high
            assert search.counts[ends[-1]].judged == 20
    assert sum(end is not None for end in ends) >= 85


def test_a_candidate_that_fails_more_rarely_is_not_taken():
    """One failure of many is another one, or chance."""
    outcomes = iter(["fails", *["passes"] * 100])
    search = Search(lambda kept: "fails" if len(kept) == 2 else next(outcomes), 20, 1000)
    search.reduce(2)
    assert search.best == (0, 1)
    assert search.counts[0,].fails == 1
