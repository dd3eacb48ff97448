"""Values, exceptions and streams of a test that could break reports: the outcome is the same as without ranks."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest

from program_files import program_text

if TYPE_CHECKING:
    from plugin.inner_pytest import RunPytest

pytest_plugins = ["pytester"]

MARKERS = {
    "warm": "ranks(2)",
    "spawn": "ranks(2, start_method='spawn')",
    "fork": "ranks(2, start_method='fork')",
    "reused": "ranks(2, reuse='module')",
    "reused-spawn": "ranks(2, reuse='module', start_method='spawn')",
}

VALUES = program_text("suites/ranks/hostile_values")


@pytest.mark.parametrize("marker", MARKERS.values(), ids=MARKERS)
def test_a_property_of_any_value_leaves_a_passing_test_passed(run_pytest: RunPytest, marker: str) -> None:
    """A recursive value, one without a text, one that cannot be pickled, one too large: the rank continues."""
    result = run_pytest(VALUES.replace("ranks(2)", marker), "--junitxml=junit.xml")
    result.assert_outcomes(passed=1)
    assert "replaced" not in result.stdout.str()
    properties = ET.parse("junit.xml").findall(".//testcase/properties/property")
    assert [each.get("name") for each in properties].count("direct") == 8


EXCEPTIONS = program_text("suites/ranks/hostile_exceptions")


@pytest.mark.parametrize("marker", [MARKERS["warm"], MARKERS["reused"]], ids=["warm", "reused"])
def test_an_exception_of_any_kind_fails_its_test_in_the_ranks(run_pytest: RunPytest, marker: str) -> None:
    """No rank dies of it; each reports the phase and the exception."""
    result = run_pytest(EXCEPTIONS.replace("ranks(2)", marker), "--tb=short")
    result.assert_outcomes(passed=1, failed=7)
    output = result.stdout.str()
    assert output.count("failed in call: ") >= 14
    assert " exit 1" not in output
    result.stdout.fnmatch_lines(["FAILED *test_kinds[[]NoPickle] - rank ?: test_it.NoPickle: told", "FAILED *NoClass*"])


STREAMS = program_text("suites/ranks/hostile_streams")


@pytest.mark.parametrize("marker", MARKERS.values(), ids=MARKERS)
def test_streams_that_a_test_replaces_are_put_back_and_one_that_it_closes_fails_it(
    run_pytest: RunPytest, marker: str
) -> None:
    """As under pytest's own capture; the rank itself exits normally."""
    result = run_pytest(STREAMS.replace("ranks(2)", marker), "-rPf")
    result.assert_outcomes(passed=5, failed=2)
    result.stdout.fnmatch_lines(["rank ?: failed in call: Failed: sys.stdout: closed by the test*"])
    result.stdout.fnmatch_lines(["printed after"])
    assert "exit 120" not in result.stdout.str()
