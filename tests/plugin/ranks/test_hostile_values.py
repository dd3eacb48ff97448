"""Values, exceptions and streams of a test that would break what reports on it: the test ends as without ranks."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest

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

VALUES = """
import pytest
pytestmark = pytest.mark.{marker}

class NoText:
    def __str__(self): raise ValueError("no text")
    __repr__ = __str__

class Leaves(NoText):
    def __str__(self): raise SystemExit(3)
    __repr__ = __str__

class NoPickle(str):
    def __reduce__(self): raise RuntimeError("not to be pickled")

itself = []
itself.append(itself)
tree = []
for _ in range(60): tree = [tree, tree]

def test_properties(record_property, record_testsuite_property, record_xml_attribute, request):
    for value in (itself, [1, itself], {{"a": NoText()}}, Leaves(), NoPickle("x"), tree, {{NoText()}}, {{NoText(): 1}}):
        record_property("value", value)
        record_testsuite_property("value", value)
        record_xml_attribute("value", value)
        request.node.user_properties.append(("direct", value))
    request.node.add_report_section("call", "custom", itself)
    request.node.user_properties += ["no pair", 3]
"""


@pytest.mark.parametrize("marker", MARKERS.values(), ids=MARKERS)
def test_a_property_of_any_value_leaves_a_passing_test_passed(run_pytest: RunPytest, marker: str) -> None:
    """It contains itself, has no text, cannot be pickled, or is too large: its rank runs on."""
    result = run_pytest(VALUES.format(marker=marker), "--junitxml=junit.xml")
    result.assert_outcomes(passed=1)
    assert "replaced" not in result.stdout.str()
    properties = ET.parse("junit.xml").findall(".//testcase/properties/property")
    assert [each.get("name") for each in properties].count("direct") == 8


EXCEPTIONS = """
import pytest
pytestmark = pytest.mark.{marker}

class NoText(Exception):
    def __str__(self): raise ValueError("no text")
    __repr__ = __str__

class NoPickle(Exception):
    def __reduce__(self): raise SystemExit(0)

class NoLoad(Exception):
    def __init__(self, text): super().__init__(text); self.text = text
    def __setstate__(self, state): raise KeyboardInterrupt

class NoClass(Exception):
    @property
    def __class__(self): raise ValueError("no class")

@pytest.mark.parametrize("kind", [NoText, NoPickle, NoLoad, NoClass])
def test_kinds(kind):
    raise kind("told")

def test_many_lines():
    raise ValueError("told\\n" * 210_000)

def test_cyclic():
    class Local(Exception): pass
    first, second = Local("told"), KeyError("second")
    first.__cause__, second.__cause__ = second, first
    raise first

def test_group():
    raise BaseExceptionGroup("told", [NoText(1), ExceptionGroup("inner", [KeyError(2)]), SystemExit(0)])

def test_after():
    pass
"""


@pytest.mark.parametrize("marker", [MARKERS["warm"], MARKERS["reused"]], ids=["warm", "reused"])
def test_an_exception_of_any_kind_fails_its_test_in_the_ranks(run_pytest: RunPytest, marker: str) -> None:
    """No rank dies of it: each says in which phase it failed, and by what."""
    result = run_pytest(EXCEPTIONS.format(marker=marker), "--tb=short")
    result.assert_outcomes(passed=1, failed=7)
    output = result.stdout.str()
    assert output.count("failed in call: ") >= 14
    assert " exit 1" not in output
    result.stdout.fnmatch_lines(["FAILED *test_kinds[[]NoPickle] - rank ?: test_it.NoPickle: told", "FAILED *NoClass*"])


STREAMS = """
import os, sys, pytest
pytestmark = pytest.mark.{marker}

class Broken:
    def write(self, text): raise ValueError("broken")
    flush = write

def test_none(): sys.stdout = sys.stderr = None
def test_deleted(): del sys.stdout
def test_broken(): sys.stdout = Broken()
def test_descriptors(): os.closerange(0, 3)
def test_closed(): sys.stdout.close()
def test_detached(): sys.stderr.detach()
def test_after(): print("printed after")
"""


@pytest.mark.parametrize("marker", MARKERS.values(), ids=MARKERS)
def test_streams_that_a_test_replaces_are_put_back_and_one_that_it_closes_fails_it(
    run_pytest: RunPytest, marker: str
) -> None:
    """As under pytest's own capture; the rank itself ends well."""
    result = run_pytest(STREAMS.format(marker=marker), "-rPf")
    result.assert_outcomes(passed=5, failed=2)
    result.stdout.fnmatch_lines(["rank ?: failed in call: Failed: sys.stdout: closed by the test*"])
    result.stdout.fnmatch_lines(["printed after"])
    assert "exit 120" not in result.stdout.str()
