"""``@pytest.mark.ranks(n)`` in real pytest runs: which process runs what, and the outcomes of tests."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from program_files import program_text

if TYPE_CHECKING:
    from plugin.inner_pytest import RunPytest

pytest_plugins = ["pytester"]


def test_a_body_runs_on_its_ranks_as_one_job(run_pytest: RunPytest) -> None:
    """Each rank has its number and addresses, is a process of its own, and can reach rank 0."""
    result = run_pytest(program_text("suites/ranks/job"))
    result.assert_outcomes(passed=4)


def test_fixtures_of_functions_are_set_up_in_each_rank_and_the_others_once(run_pytest: RunPytest) -> None:
    """Whatever requests them and whatever they return, also None; module set-up functions run in each rank."""
    result = run_pytest(
        program_text("suites/ranks/fixture_scopes"),
        "-rA",
    )
    result.assert_outcomes(passed=5)
    assert result.stdout.str().count("torn down in 0") == 4
    assert result.stdout.str().count("torn down in 1") == 4


def test_conftest_plugins_and_pytests_own_fixtures_work_in_ranks(run_pytest: RunPytest) -> None:
    """monkeypatch, capsys, caplog, tmp_path (one for all), tmp_path_factory (one for each), request.getfixturevalue."""
    result = run_pytest(
        program_text("suites/ranks/own_fixtures"),
        ini="log_level = INFO",
        conftest="""
import os
import pytest

@pytest.fixture
def from_conftest(rank):
    return "conftest", rank

@pytest.fixture
def late(request):
    return f"late {os.environ['LOCAL_RANK']}"
""",
    )
    result.assert_outcomes(passed=2)


def test_what_cannot_be_handed_to_ranks_is_an_error_that_names_the_fixture(run_pytest: RunPytest) -> None:
    """In the controller or in a rank, late or overridden; the message names two remedies."""
    result = run_pytest(program_text("suites/ranks/unpicklable"))
    result.assert_outcomes(passed=1, failed=3)
    result.stdout.fnmatch_lines(
        [
            "*fixture 'lock' (scope 'session', *.py:*): its value, of type lock, cannot be pickled for the ranks: *",
            "*ranks(..., in_ranks=[[]'lock'[]])*",
            "*fixture 'gives_odd': its value from the controller cannot be unpickled in a rank: ValueError: not here",
            "*fixture 'late' (scope 'module', *.py:*): requested after the ranks started, but it is set up once*",
        ]
    )


def test_the_marker_may_come_from_a_parameter_or_from_a_hook(run_pytest: RunPytest) -> None:
    """A test with the rank fixture may get its marker after collection."""
    result = run_pytest(
        """
import pytest

@pytest.mark.parametrize("count", [pytest.param(count, marks=pytest.mark.ranks(count)) for count in (1, 2)])
def test_parameter(rank, world_size, count):
    assert (rank in range(count), world_size) == (True, count)

def test_hook(rank, world_size):
    assert (rank in range(2), world_size) == (True, 2)
""",
        conftest="""
import pytest

def pytest_collection_modifyitems(items):
    for item in items:
        if item.name == "test_hook":
            item.add_marker(pytest.mark.ranks(2))
""",
    )
    result.assert_outcomes(passed=3)


@pytest.mark.parametrize("reuse", ["", ", reuse='module'"])
def test_a_wide_fixture_that_is_asked_for_late_is_refused_by_its_name_and_the_remedy_works(
    run_pytest: RunPytest, reuse: str
) -> None:
    """Dependencies are not named. Both remedies work: the argument, and set-up in each rank."""
    result = run_pytest(program_text("suites/ranks/late_fixtures").replace("ranks(2", f"ranks(2{reuse}"))
    result.assert_outcomes(passed=2, failed=2)
    for name in ("wide", "narrow"):
        result.stdout.fnmatch_lines([f"FAILED *test_late?{name}? - rank ?: Failed: fixture 'wide' *"])
    result.stdout.fnmatch_lines(["*ranks(..., in_ranks=[[]'wide'[]])*"])


def test_skip_xfail_and_importorskip_work_on_any_rank(run_pytest: RunPytest) -> None:
    """A marker needs no ranks; in the body, on all ranks or on one if the others finish."""
    result = run_pytest(
        program_text("suites/ranks/skips"),
        "-rA",
    )
    result.assert_outcomes(skipped=4, xfailed=2, failed=2)
    result.stdout.fnmatch_lines_random(
        [
            "SKIPPED *: by marker",
            "SKIPPED *: could not import 'no_such_module'*",
            "SKIPPED *: rank 1: no such thing",
            "SKIPPED *: in a fixture",
            "XFAIL *test_imperative - rank 1: known",
            "XFAIL *test_raises - by marker",
            "FAILED *test_raises_another*",
            "*XPASS(strict)*never",
        ]
    )


@pytest.mark.parametrize(
    ("marker", "told"),
    [
        ("ranks()", "missing 1 required positional argument: 'ranks'"),
        ("ranks(-1)", "expected a number of ranks of 1 or more, or a list of them, got -1"),
        ("ranks([])", "the list of numbers of ranks is empty"),
        ("ranks(2, timeout=0)", "timeout: expected a number of seconds above 0, got 0"),
        ("ranks(2, tiemout=3)", "unexpected keyword argument 'tiemout'; did you mean 'timeout'?"),
        (
            "ranks(2, start_method='sporn')",
            "start_method=): expected one of warm, spawn, fork, forkserver, got 'sporn'",
        ),
        ("ranks(2, start_method='spwan')", "; did you mean 'spawn'?"),
        ("ranks(2, reuse='modul')", "; did you mean 'module'?"),
        ("ranks([1, 0])", "expected a number of ranks of 1 or more, or a list of them"),
        ("faults('no_such_plan.toml')", "no_such_plan.toml"),
        ("faults('plan.toml', sede=1)", "unexpected keyword argument 'sede'; did you mean 'seed'?"),
    ],
)
def test_a_wrong_marker_is_an_error_that_says_what_is_wrong(run_pytest: RunPytest, marker: str, told: str) -> None:
    """It is an error of the collection: no test runs, and no fixture is set up."""
    result = run_pytest(f"import pytest\n@pytest.mark.{marker}\ndef test_one():\n    pass", "--setup-show")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.assert_outcomes(errors=1)
    assert told in result.stdout.str()
    result.stdout.fnmatch_lines(["*ERROR collecting test_it.py*"])
    result.stdout.no_fnmatch_line("*SETUP*")


def test_a_wrong_marker_of_a_test_case_is_a_usage_error(run_pytest: RunPytest) -> None:
    """Methods of a test case are collected in another way."""
    result = run_pytest(
        """
import unittest
import pytest

class TestIt(unittest.TestCase):
    @pytest.mark.ranks(2, tiemout=3)
    def test_one(self):
        pass
"""
    )
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: *unexpected keyword argument 'tiemout'; did you mean 'timeout'?"])


def test_a_misspelt_marker_is_found_at_the_collection(run_pytest: RunPytest) -> None:
    """An error with the nearest name if the test needs it, else a warning; declared markers are accepted."""
    needs = "import pytest\n@pytest.mark.{}\ndef test_one({}): pass"
    for marker, fixture, meant in (
        ("rank(2)", "world_size", "ranks"),
        ("rnaks(2)", "rank", "ranks"),
        ("fault('plan.toml')", "derail", "faults"),
    ):
        result = run_pytest(needs.format(marker, fixture))
        result.assert_outcomes(errors=1)
        name = marker.partition("(")[0]
        result.stdout.fnmatch_lines([f"*: unknown marker '{name}'; did you mean @pytest.mark.{meant}?"])
    result = run_pytest(needs.format("rank(2)", ""))
    result.assert_outcomes(passed=1, warnings=2)  # one is pytest's own
    result.stdout.fnmatch_lines(["*unknown marker 'rank'; did you mean @pytest.mark.ranks?"])
    run_pytest(needs.format("rank(2)", ""), ini="markers = rank: of the suite").assert_outcomes(passed=1)
    run_pytest(needs.format("slow", ""), ini="markers = slow: of the suite").assert_outcomes(passed=1)


def test_rank_fixtures_elsewhere_say_what_they_are_for(run_pytest: RunPytest) -> None:
    """A request for one in a test without ranks is an error."""
    result = run_pytest("def test_one(rank):\n    pass")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*ERROR at setup*", "*the `rank` fixture needs @pytest.mark.ranks(n)"])
    result = run_pytest("def test_one(request):\n    request.getfixturevalue('rank')")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*the `rank` fixture needs @pytest.mark.ranks(n)"])
    own = "import pytest\n@pytest.fixture\ndef rank():\n    return 3\ndef test_one(rank):\n    assert rank == 3"
    run_pytest(own).assert_outcomes(passed=1)


def test_markers_fixtures_and_collection_read_well(run_pytest: RunPytest) -> None:
    """None of these options starts anything."""
    source = """
import pytest

@pytest.mark.ranks([1, 2])
def test_one(rank):
    pass
"""
    assert "@pytest.mark.ranks(n, *, timeout=None" in run_pytest(source, "--markers").stdout.str()
    run_pytest(source, "--fixtures").stdout.fnmatch_lines_random(["rank -- *", "world_size -- *", "local_rank -- *"])
    assert "_derail_ranks" not in run_pytest(source, "--fixtures").stdout.str()
    run_pytest(source, "--collect-only", "-q").stdout.fnmatch_lines(
        ["*::test_one[[]ranks=1]", "*::test_one[[]ranks=2]"]
    )


def test_ranks_are_started_in_every_way(run_pytest: RunPytest) -> None:
    """The marker wins over the command line, that over the environment, that over the ini file; what a test sees is the
    same in all of them."""
    source = program_text("suites/ranks/start_methods")
    for options, env, ini, method in (
        ((), {}, "", "warm"),
        (("--derail-start-method=spawn",), {}, "", "spawn"),
        ((), {}, "derail_start_method = fork", "fork"),
        ((), {"DERAIL_START_METHOD": "forkserver"}, "derail_start_method = sporn", "forkserver"),
        (("--derail-start-method=fork",), {"DERAIL_START_METHOD": "forkserver"}, "", "fork"),
    ):
        conftest = f"""
from derail.launch import start
real = start.start_processes

def noting(*args, **kwargs):
    print("started by", kwargs["start_method"])
    return real(*args, **kwargs)

start.start_processes = noting
import os
os.environ.update({env!r})
"""
        result = run_pytest(source, *options, ini=ini, conftest=conftest)
        result.assert_outcomes(failed=2)
        result.stdout.fnmatch_lines(
            [
                ">*assert numbers == ?0?",
                "E*At index 0 diff: 1 != 0",
                "rank 0: passed",
                "rank 1: failed in call: assert ?1? == ?0?  <- root cause",
                "-* stdout of rank 1 -*",
                "out of 1",
                f"started by {method}",
                "-* stdout of rank 0 -*",
                "started by forkserver",
            ]
        )


def test_the_time_of_a_test_is_that_of_its_marker_or_else_of_the_command_line(run_pytest: RunPytest) -> None:
    """It begins when the ranks begin with the test: what their modules take to be imported does not count, or they
    would not have come to their set-up."""
    result = run_pytest(
        program_text("suites/ranks/timeouts"),
        "--derail-timeout=0.5",
    )
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(
        [
            "FAILED *test_option - not over after 0.5 s: rank 0, 1 hung",
            "FAILED *test_marker - not over after 0.4 s: rank 0, 1 hung",
        ]
    )
    phases = re.findall(r"^rank \d: hung in (\w+)", result.stdout.str(), re.MULTILINE)
    assert (len(phases), set(phases) <= {"setup", "call"}) == (4, True)


def test_help_names_every_option_and_key(run_pytest: RunPytest) -> None:
    """All have one prefix."""
    told = run_pytest("", "--help").stdout.str()
    for word in ("timeout=SECONDS", "grace=SECONDS", "start-method=METHOD", "plan=FILE", "keep "):
        assert f"--derail-{word}" in told
    for key in (
        "timeout (string)",
        "grace (string)",
        "start_method (string)",
        "keep (bool)",
        "fixtures_in_ranks (args)",
    ):
        assert f"derail_{key}:" in told
    assert "@pytest.mark.faults(*plans, seed=None): break the ranks" in run_pytest("", "--markers").stdout.str()


@pytest.mark.parametrize("marker", ["ranks(2)", "ranks(2, reuse='module')"], ids=["warm", "reused"])
def test_doctests_of_a_marked_module_run_in_pytests_own_process(run_pytest: RunPytest, marker: str) -> None:
    """They are no test functions; their failures count, beside tests on ranks."""
    result = run_pytest(
        f'''
"""
>>> import os
>>> "RANK" in os.environ
False
"""
import pytest

pytestmark = pytest.mark.{marker}


def twice(x):
    """
    >>> twice(1)
    3
    """
    return 2 * x


def test_it(rank):
    """
    >>> twice(2)
    4
    """
''',
        "--doctest-modules",
    )
    result.assert_outcomes(passed=3, failed=1)
    result.stdout.fnmatch_lines(["derail: 1 job, 2 ranks*", "FAILED *.twice"])


@pytest.mark.parametrize(
    "marker",
    ["ranks(2)", "ranks(2, reuse='module')", "ranks(2, start_method='spawn')"],
    ids=["warm", "reused", "spawn"],
)
def test_a_module_that_skips_itself_in_one_rank_skips_its_tests(run_pytest: RunPytest, marker: str) -> None:
    """The report has the reason and the rank; a failure of another rank counts."""
    result = run_pytest(
        f"""
import os
import pytest

pytestmark = pytest.mark.{marker}

if os.environ.get("RANK") == "1":
    pytest.skip("not here", allow_module_level=True)


def test_passes():
    pass


def test_fails(rank):
    assert rank == 1
""",
        "-rsf",
    )
    result.assert_outcomes(skipped=1, failed=1)
    result.stdout.fnmatch_lines(["SKIPPED *: rank 1: not here", "FAILED *::test_fails - rank 0: *"])
