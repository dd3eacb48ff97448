"""Decisions of pytest's hooks in ranks: their reports reach the controller and count."""

from __future__ import annotations

import importlib.util
import re
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING

import pytest

from program_files import program_text

if TYPE_CHECKING:
    from plugin.inner_pytest import RunPytest

pytest_plugins = ["pytester"]

HAS_SUBTESTS = importlib.util.find_spec("_pytest.subtests") is not None
needs_subtests = pytest.mark.skipif(not HAS_SUBTESTS, reason="pytest 9 has subtests")

STARTS = {
    "warm": ("ranks(2)", ()),
    "spawn": ("ranks(2, start_method='spawn')", ()),
    "reused": ("ranks(2, reuse='module')", ()),
    "xdist": ("ranks(2)", ("xdist",)),
}
"""How ranks come to be: the marker, and plugins that are loaded besides."""


@pytest.fixture(params=STARTS)
def start(request: pytest.FixtureRequest) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
    """Return a marker, plugins, and their options."""
    marker, plugins = STARTS[request.param]
    return marker, plugins, ("-n", "1") if plugins else ()


HOOKS = {
    "makereport": """
@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if is_meant(report):
        report.outcome, report.longrepr = "failed", "the hook says no"
    return report
""",
    "logreport": """
def pytest_runtest_logreport(report):
    if is_meant(report):
        report.outcome, report.longrepr = "failed", "the hook says no"
""",
    "teststatus": """
def pytest_report_teststatus(report, config):
    if is_meant(report):
        report.outcome, report.longrepr = "failed", "the hook says no"
""",
}


@pytest.mark.parametrize("hook", HOOKS)
def test_a_hook_that_fails_a_passed_test_in_one_rank_fails_the_test(run_pytest: RunPytest, start, hook: str) -> None:
    """For each of pytest's hooks and each way to start ranks; the summary names the rank."""
    marker, plugins, options = start
    result = run_pytest(
        f"import pytest\n@pytest.mark.{marker}\ndef test_it(rank):\n    pass\n",
        *options,
        conftest=f"""
import os
import pytest

def is_meant(report):
    return os.environ.get("RANK") == "1" and report.when == "call" and report.passed
{HOOKS[hook]}
""",
        plugins=plugins,
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["FAILED *test_it - rank 1: the hook says no"])


def test_a_hook_that_forgives_a_failure_in_a_rank_is_heard(run_pytest: RunPytest) -> None:
    """A conftest's hook may turn an exception into a skip, an expected failure or a success."""
    result = run_pytest(
        """
import pytest

@pytest.mark.ranks(2)
@pytest.mark.parametrize("outcome", ["passed", "skipped", "xfailed"])
def test_it(rank, outcome):
    assert rank == 0
""",
        "-rsx",
        conftest=program_text("suites/ranks/conftest_with_outcomes"),
    )
    result.assert_outcomes(passed=1, skipped=1, xfailed=1)
    result.stdout.fnmatch_lines(["SKIPPED *: rank 1: known", "XFAIL *- rank 1: known"])


def test_fixtures_find_the_reports_that_a_hook_stores_on_the_test(run_pytest: RunPytest, start) -> None:
    """The set-up report in the body, the body's report in the tear-down, in each run of the test."""
    marker, plugins, options = start
    result = run_pytest(
        f"""
import pytest

@pytest.mark.{marker}
@pytest.mark.parametrize("number", [1, 2])
def test_it(rank, number, request, outcomes):
    assert request.node.rep_setup.passed
    assert not hasattr(request.node, "rep_call")
""",
        *options,
        "-rP",
        conftest="""
import pytest

@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(item, call):
    report = yield
    setattr(item, f"rep_{report.when}", report)
    return report

@pytest.fixture
def outcomes(request, rank):
    yield
    print("rank", rank, "saw", request.node.rep_setup.outcome, request.node.rep_call.outcome)
""",
        plugins=plugins,
    )
    result.assert_outcomes(passed=2)
    text = result.stdout.str()
    assert [text.count(f"rank {rank} saw passed passed") for rank in (0, 1)] == [2, 2]


SUBTESTS = {
    "subtests": """
@pytest.mark.{marker}
def test_it(rank, subtests):
    for number in range(3):
        with subtests.test("shard", number=number):
            assert (rank, number) != (1, 1), "it is empty"
""",
    "subTest": """
class TestIt(unittest.TestCase):
    @pytest.mark.{marker}
    def test_it(self):
        for number in range(3):
            with self.subTest("shard", number=number):
                self.assertNotEqual((os.environ["RANK"], number), ("1", 1), "it is empty")
""",
}


@needs_subtests
@pytest.mark.parametrize("kind", SUBTESTS)
def test_a_failed_subtest_fails_the_test_and_is_reported_with_its_rank(run_pytest: RunPytest, start, kind: str) -> None:
    """As without ranks, subtest and test have a report each; the other subtests have run."""
    marker, plugins, options = start
    source = "import os, unittest\nimport pytest\n" + SUBTESTS[kind].replace("{marker}", marker)
    result = run_pytest(source, "-v", *options, plugins=plugins)
    result.assert_outcomes(failed=2)
    lines = result.stdout.str()
    assert re.findall(r"^SUBFAILED\[shard\] \(number='?1'?, rank='?1'?\) .*test_it", lines, re.MULTILINE) != []
    result.stdout.fnmatch_lines(["FAILED *test_it - rank 1: contains 1 failed subtest"])
    assert len(re.findall(r"SUBPASSED\[shard\]", lines)) == 5


@needs_subtests
def test_a_rank_that_dies_after_a_failed_subtest_has_died_and_the_subtest_is_reported(run_pytest: RunPytest) -> None:
    """Records from before the death are kept."""
    result = run_pytest(
        """
import os
import pytest

@pytest.mark.ranks(2)
def test_it(rank, subtests):
    if rank == 1:
        with subtests.test("before"):
            assert False
        os.kill(os.getpid(), 9)
"""
    )
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(["SUBFAILED?before? (rank=1) *", "FAILED *test_it - rank 1: SIGKILL (9), in call"])


@needs_subtests
def test_subtests_that_fail_in_one_attempt_only_are_no_failure_with_rerunfailures(run_pytest: RunPytest) -> None:
    """The plugin reruns the test on new ranks, and its own hooks work in the ranks."""
    result = run_pytest(
        """
import pytest

@pytest.mark.ranks(2)
def test_it(rank, subtests, tmp_path_factory, pytestconfig):
    marker = pytestconfig.rootpath / f"ran-{rank}"
    with subtests.test("first attempt"):
        assert marker.exists() or marker.write_text("") is None and False
""",
        "--reruns",
        "2",
        plugins=("pytest_rerunfailures",),
    )
    assert result.parseoutcomes() == {"passed": 1, "rerun": 1}
    assert result.ret == 0


def test_soft_assertions_count(run_pytest: RunPytest, start) -> None:
    """pytest-check changes the report of a test whose body has returned to failed."""
    marker, plugins, options = start
    result = run_pytest(
        f"""
import pytest
from pytest_check import check

@pytest.mark.{marker}
def test_it(rank):
    check.equal(rank, 0, "not the first")
""",
        *options,
        plugins=("pytest_check.plugin", *plugins),
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["FAILED *test_it - rank 1: *not the first*"])


def test_marks_that_a_test_adds_in_a_rank_count(run_pytest: RunPytest) -> None:
    """An expected failure in one rank; an unexpected success in all ranks, also with strict xfail."""
    result = run_pytest(
        """
import pytest

@pytest.mark.ranks(2)
def test_fails(rank, request):
    if rank == 1:
        request.node.add_marker(pytest.mark.xfail(reason="known"))
        assert False

@pytest.mark.ranks(2)
@pytest.mark.parametrize("strict", [False, True])
def test_passes(request, strict):
    request.node.add_marker(pytest.mark.xfail(reason="never", strict=strict))
""",
        "-rxX",
    )
    result.assert_outcomes(xfailed=1, xpassed=1, failed=1)
    result.stdout.fnmatch_lines(
        ["XFAIL *test_fails - rank 1: known", "XPASS *test_passes?False? - never", "*1 failed*"]
    )


def test_a_failure_that_is_not_expected_counts_though_another_rank_failed_as_expected(run_pytest: RunPytest) -> None:
    """The marker is evaluated in each rank with that rank's exception."""
    result = run_pytest(
        """
import pytest

@pytest.mark.ranks(2)
@pytest.mark.xfail(raises=ValueError)
def test_it(rank, tmp_path):
    if rank == 0:
        (tmp_path / "raises").touch()
        raise ValueError
    while not (tmp_path / "raises").exists():
        pass
    raise KeyError("another")
"""
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["FAILED *test_it - rank 1: KeyError: 'another'"])


CASES = program_text("suites/ranks/unittest_cases")

OF_CLASSES = program_text("suites/ranks/unittest_classes")


OF_RANK_1 = (
    "TestIt::test_fails",
    "TestIt::test_raises",
    "TestSetUp::test_it",
    "TestTearDown::test_it",
    "TestCleanUp::test_it",
    "TestSetUpClass::test_it",
    "TestAsync::test_fails",
)
"""Those that fail there only."""


@pytest.mark.parametrize("kind", STARTS)
def test_methods_of_unittest_run_on_ranks(run_pytest: RunPytest, kind: str) -> None:
    """With set-up and tear-down of their class; failures, skips and expectations are as without ranks."""
    marker, plugins = STARTS[kind]
    result = run_pytest(CASES.replace("ranks(2)", marker), "-rfsx", *(("-n", "1") if plugins else ()), plugins=plugins)
    result.assert_outcomes(passed=2, failed=8, skipped=3, xfailed=1)
    result.stdout.fnmatch_lines_random(
        [
            *(f"FAILED *{name} - rank 1: *" for name in OF_RANK_1),
            "FAILED *TestIt::test_passes_unexpectedly - rank ?: Failed: Unexpec*",
            "SKIPPED *not now",
            "SKIPPED *not here",
            "SKIPPED *never",
        ]
    )


def test_the_end_of_a_class_of_unittest_fails_its_test(run_pytest: RunPytest) -> None:
    """A rank of one test tears the class down with the test."""
    result = run_pytest("import os, unittest\nimport pytest\n" + OF_CLASSES)
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(
        ["FAILED *TestTearDownClass::test_it - rank 1: *", "FAILED *TestCleanUpClass::test_it - rank ?: *"]
    )


def test_the_exit_codes_by_which_tests_of_torch_skip_are_skips(run_pytest: RunPytest) -> None:
    """In functions and in methods of unittest; torch's table is looked up where the test has imported it, and another
    code is a failure."""
    result = run_pytest(
        program_text("suites/ranks/torch_skips"),
        "-rs",
    )
    result.assert_outcomes(skipped=2, failed=1)
    result.stdout.fnmatch_lines(["SKIPPED *Need at least 2 CUDA devices"])


def test_the_end_of_the_session_that_a_rank_asks_for_is_heard(run_pytest: RunPytest) -> None:
    """``pytest.exit`` ends it as it does without ranks; a KeyboardInterrupt in a rank fails its test."""
    result = run_pytest(program_text("suites/ranks/interrupts"))
    assert result.ret == 7
    result.stdout.fnmatch_lines(["*Exit: that is enough*"])
    result.assert_outcomes(failed=1)


RECORDS = program_text("suites/ranks/records")


@pytest.mark.parametrize("kind", ["warm", "reused", "xdist"])
def test_what_a_rank_records_arrives_however_it_ends(
    run_pytest: RunPytest, pytester: pytest.Pytester, kind: str
) -> None:
    """Log records, properties of the test and of the suite, sections: in the terminal and in JUnit XML, with the rank.
    What all ranks record alike is there once, under its own name."""
    marker, plugins = STARTS[kind]
    result = run_pytest(
        RECORDS.replace("ranks(2)", marker.replace(")", ", timeout=3)")),
        "-rfP",
        "--junitxml=junit.xml",
        *(("-n", "1") if plugins else ()),
        ini="junit_logging = all",
        plugins=plugins,
    )
    result.assert_outcomes(passed=1, failed=3)
    suite = ET.parse(pytester.path / "junit.xml").getroot()[0]
    cases = {str(case.get("name")).partition("[")[2].rstrip("]"): case for case in suite.iter("testcase")}
    of_suite = {(each.get("name"), each.get("value")) for each in suite.findall("properties/property")}
    for ending, case in cases.items():
        for rank in (0, 1):
            result.stdout.fnmatch_lines(
                [f"-* Captured log call of rank {rank} -*", f"WARNING *train*{ending}: logged by {rank}"]
            )
            result.stdout.fnmatch_lines(
                [f"-* Captured metrics call of rank {rank} -*", f"{ending}: measured by {rank}"]
            )
            assert f"{ending}: logged by {rank}" in str(case.findtext("system-out"))
            assert (f"suite {ending}[rank {rank}]", str(rank)) in of_suite
        assert [(each.get("name"), each.get("value")) for each in case.findall("properties/property")] == [
            ("alike", ending),
            ("loss[rank 0]", "0.5"),
            ("loss[rank 1]", "1.5"),
        ]
    messages = {ending: case.find("failure") for ending, case in cases.items()}
    assert {ending: found.get("message") for ending, found in messages.items() if found is not None} == {
        "fails": "rank 1: assert False",
        "hangs": "not over after 3 s: rank 1 hung",
        "dies": "rank 1: exit 9, in call",
    }
    result.stdout.fnmatch_lines_random(
        ["FAILED *fails? - rank 1: assert False", "FAILED *hangs? - *: rank 1 hung", "FAILED *dies? - rank 1: exit 9*"]
    )


def test_values_that_no_other_process_can_read_are_recorded_as_text(run_pytest: RunPytest, pytester) -> None:
    """The text is the same as in JUnit XML."""
    result = run_pytest(
        """
import pytest

class Odd:
    def __str__(self):
        return "odd"

@pytest.mark.ranks(2)
def test_it(record_property):
    record_property("odd", Odd())
    record_property("nested", {("key", 1): [Odd(), 2.5]})
""",
        "--junitxml=junit.xml",
    )
    result.assert_outcomes(passed=1)
    found = [each.get("value") for each in ET.parse(pytester.path / "junit.xml").getroot().iter("property")]
    assert found == ["odd", "{('key', 1): ['odd', 2.5]}"]


def test_what_a_forked_child_logs_is_not_the_ranks(run_pytest: RunPytest) -> None:
    """As without ranks: the child has a copy of pytest's capture."""
    result = run_pytest(program_text("suites/ranks/logging_children"))
    result.assert_outcomes(failed=1)
    result.stdout.no_fnmatch_line("*by a child*")


def test_warnings_of_ranks_are_in_the_summary_once_with_the_ranks_that_have_them(run_pytest: RunPytest, start) -> None:
    """Those of fixtures as well; what filters, ``pytest.warns`` and ``recwarn`` take away is not. A category that only
    ranks know is shown by one of its bases."""
    marker, plugins, options = start
    result = run_pytest(
        program_text("suites/ranks/warned").replace("ranks(2)", marker),
        *options,
        plugins=plugins,
    )
    result.assert_outcomes(passed=3, warnings=3)
    result.stdout.fnmatch_lines(["*::test_body (ranks 0, 1)", "*::test_ranks (ranks 0, 1)", "*: in the fixture"])
    result.stdout.fnmatch_lines(["*::test_ranks (rank 1)", "*: FutureWarning: in one rank"])
    output = result.stdout.str()
    assert not [text for text in ("taken away", "expected", "ignored", "raised") if f": {text}" in output]
