"""Scorecard as JUnit XML, as CI systems read it."""

from __future__ import annotations

from dataclasses import replace
from xml.etree import ElementTree as ET

from derail.report.junit import render_junit
from derail.scenario.recovery import Recovery
from report.cards import CARD, EMPTY, RIGHT


def test_each_scenario_is_a_case_in_the_suite_of_its_family() -> None:
    """FAIL is a failure, INCONCLUSIVE an error, SKIPPED skipped."""
    root = ET.fromstring(render_junit(CARD))
    suites = {
        suite.get("name"): {k: suite.get(k) for k in ("tests", "failures", "errors", "skipped")} for suite in root
    }
    assert suites == {
        "planted.crash": {"tests": "2", "failures": "1", "errors": "0", "skipped": "0"},
        "planted.hang": {"tests": "1", "failures": "0", "errors": "1", "skipped": "0"},
        "planted.node": {"tests": "1", "failures": "0", "errors": "0", "skipped": "1"},
    }
    assert {key: root.get(key) for key in ("tests", "failures", "errors", "skipped")} == {
        "tests": "4", "failures": "1", "errors": "1", "skipped": "1",
    }  # fmt: skip
    cases = [(case.get("classname"), case.get("name"), case.get("time")) for case in root.iter("testcase")]
    assert cases[:2] == [("derail.planted.crash", "right", "2.000"), ("derail.planted.crash", "wrong", "2.000")]


def test_failures_are_reported_with_their_evidence() -> None:
    """The message has the reasons; the output has timeline, faults and last lines. Any rank output gives valid XML."""
    root = ET.fromstring(render_junit(CARD))
    (failure,) = root.iter("failure")
    assert failure.get("message", "").startswith("expected root cause rank 1, got rank 0; <script>alert('\\x1b")
    output = root.findall(".//testcase[@name='wrong']/system-out")[0].text or ""
    for told in ("reported cause: rank 0", "rank 1: ended: SIGKILL (9)", "left behind: process 7", "  | <script>"):
        assert told in output
    assert all(line.isprintable() for line in output.splitlines())


def test_a_scorecard_without_rows_is_a_document() -> None:
    """It has no suites."""
    root = ET.fromstring(render_junit(EMPTY))
    assert (root.tag, root.get("tests"), list(root)) == ("testsuites", "0", [])


def test_measures_are_properties_of_the_case() -> None:
    """CI systems show their course over many builds; a value that is unknown has no property."""
    row = replace(RIGHT, recovery=Recovery(notice=0.25, recover=2.0, lost_steps=0, failed=True, stepped=True))
    (case,) = ET.fromstring(render_junit(replace(CARD, rows=(row,)))).iter("testcase")

    assert [(each.get("name"), each.get("value")) for each in case.iter("property")] == [
        ("recovery.notice", "0.25"), ("recovery.recover", "2"), ("recovery.lost-steps", "0"),
    ]  # fmt: skip
    assert not list(next(ET.fromstring(render_junit(CARD)).iter("testcase")).iter("property"))
