"""Tests with Hypothesis on ranks: every rank draws the same, also from the example database."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from program_files import program_text

if TYPE_CHECKING:
    from plugin.inner_pytest import RunPytest

pytest_plugins = ["pytester"]

PRELUDE = program_text("suites/worker/draws")
PLUGINS = ("_hypothesis_pytestplugin",)

MARKERS = {
    "warm": "ranks(2)",
    "spawn": "ranks(2, start_method='spawn')",
    "reused": "ranks(2, reuse='module')",
    "one folder": "ranks(2, reuse='session')",
}


@pytest.fixture
def drawn(pytester: pytest.Pytester):
    """Return what the ranks of inner tests have written down, by name."""

    def read(name: str) -> list[list[str]]:
        return [(pytester.path / f"{name}-{rank}").read_text().splitlines() for rank in (0, 1)]

    return read


@pytest.mark.parametrize("start", MARKERS)
def test_ranks_draw_the_same_values(run_pytest: RunPytest, drawn, start: str) -> None:
    """For each way to start ranks and in each test, also with the rank as an argument and with parameters."""
    marker = MARKERS[start]
    result = run_pytest(
        PRELUDE
        + f"""
@pytest.mark.{marker}
@pytest.mark.parametrize("name", ["a", "b"])
@given(number=st.integers(), text=st.text(), values=st.lists(st.sampled_from("xyz")))
def test_it(rank, world_size, out, name, number, text, values):
    assert (rank, world_size) == (int(os.environ["RANK"]), 2)
    note(out, name, number, text, values)

class TestIt(unittest.TestCase):
    @pytest.mark.{marker}
    @given(number=st.integers())
    def test_it(self, number):
        note(os.getcwd(), "method", number)
""",
        plugins=PLUGINS,
    )
    result.assert_outcomes(passed=3)
    found = {name: drawn(name) for name in ("a", "b", "method")}
    assert {name: zero == one for name, (zero, one) in found.items()} == dict.fromkeys(found, True)
    assert min(len(zero) for zero, _ in found.values()) > 50
    assert found["a"][0] != found["b"][0]


def test_a_run_draws_other_values_than_the_last_unless_they_are_fixed(run_pytest: RunPytest, drawn) -> None:
    """By ``derandomize`` or ``@seed``; Hypothesis prints the seed of all ranks."""
    source = program_text("suites/worker/seeds")
    for _ in range(2):
        run_pytest(source, plugins=PLUGINS).assert_outcomes(passed=3)
    for name, is_fixed in (("free", False), ("derandomized", True), ("seeded", True)):
        zero, one = drawn(name)
        half = len(zero) // 2
        assert (name, zero == one, zero[:half] == zero[half:]) == (name, True, is_fixed)


def test_an_example_that_failed_in_one_rank_comes_first_in_all_ranks_the_next_time(
    run_pytest: RunPytest, pytester: pytest.Pytester, drawn
) -> None:
    """The controller saves it after the job, and deletes it once it fails in no rank."""
    source = (
        PRELUDE
        + """
@pytest.mark.ranks(2)
@given(number=st.integers())
def test_it(rank, out, number):
    note(out, os.environ["ATTEMPT"], number)
    assert rank == 0 or number < 100 or os.environ["ATTEMPT"] == "3"
"""
    )
    outcomes = []
    for attempt in ("1", "2", "3", "4"):
        pytester._monkeypatch.setenv("ATTEMPT", attempt)
        outcomes.append(run_pytest(source, plugins=PLUGINS).parseoutcomes())
    assert [next(iter(each)) for each in outcomes] == ["failed", "failed", "passed", "failed"]
    failed = drawn("1")[1][-1]
    assert [drawn("2")[rank][0] for rank in (0, 1)] == [failed, failed]
    assert [drawn("3")[rank][0] for rank in (0, 1)] == [failed, failed]
    zero, one = drawn("4")
    assert (zero[0] == one[0], zero[0] == failed) == (True, False)


def test_state_machines_do_the_same_steps(run_pytest: RunPytest, drawn) -> None:
    """Hypothesis state machines are unittest classes."""
    result = run_pytest(
        PRELUDE
        + """
from hypothesis.stateful import RuleBasedStateMachine, rule

class Machine(RuleBasedStateMachine):
    @rule(number=st.integers())
    def step(self, number):
        note(os.path.dirname(__file__), "steps", number)

TestMachine = pytest.mark.ranks(2)(Machine.TestCase)
""",
        plugins=PLUGINS,
    )
    result.assert_outcomes(passed=1)
    zero, one = drawn("steps")
    assert (zero == one, len(zero) > 100) == (True, True)


def test_a_rank_that_fails_alone_runs_no_more_examples(run_pytest: RunPytest, drawn) -> None:
    """More would run without the other ranks: only the failing one is rerun, for the report."""
    result = run_pytest(
        PRELUDE
        + """
@pytest.mark.ranks(2)
@given(number=st.integers(0, 10))
def test_it(rank, out, number):
    note(out, "it", number)
    assert rank == 0 or number < 5
""",
        plugins=PLUGINS,
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["FAILED *test_it - rank 1: *"])
    zero, one = drawn("it")
    assert (one[:-1] == zero[: len(one) - 1], one[-1] == one[-2]) == (True, True)


def test_a_fixture_that_is_not_the_same_for_each_example_is_still_refused(run_pytest: RunPytest) -> None:
    """As without ranks, Hypothesis warns of function-scoped fixtures."""
    result = run_pytest(
        PRELUDE
        + """
@pytest.mark.ranks(2)
@given(number=st.integers())
def test_it(rank, monkeypatch, number):
    pass
""",
        plugins=PLUGINS,
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*FailedHealthCheck*function-scoped fixture*"])


FILES = {"checks.py": "named on the command line", "test_checks.py": "found by its name"}


@pytest.mark.parametrize("file", FILES, ids=FILES.values())
@pytest.mark.parametrize("start", ["warm", "spawn", "reused", "a fallback"])
def test_assertions_are_rewritten_in_ranks(
    run_pytest: RunPytest, pytester: pytest.Pytester, file: str, start: str
) -> None:
    """In a file of any name, in registered helpers of a conftest, and where ranks cannot be forked."""
    pytester.makepyfile(
        helpers="def check(numbers):\n    assert numbers == [0]\n",
        starts_a_thread="import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()\n",
    )
    (pytester.path / file).write_text(
        f"""
import pytest
from helpers import check

pytestmark = pytest.mark.{MARKERS.get(start, MARKERS["warm"])}

def test_own(rank):
    numbers = [rank]
    assert numbers == [0]

def test_helper(rank):
    check([rank])
"""
    )
    result = run_pytest(
        "",
        file,
        *(("--derail-preload", "starts_a_thread") if start == "a fallback" else ()),
        conftest="import pytest\npytest.register_assert_rewrite('helpers')\n",
    )
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(
        ["FAILED *test_own - rank 1: assert ?1? == ?0?", "FAILED *test_helper - rank 1: assert *"]
    )
    assert ("not on warm ranks" in result.stdout.str()) == (start == "a fallback")
