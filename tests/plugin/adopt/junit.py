"""Outcomes of tests in a JUnit file."""

from __future__ import annotations

from xml.etree import ElementTree as ET

KINDS = ("failure", "error", "skipped")


def outcomes(path: str) -> dict[str, str]:
    """The outcome of each test in a JUnit file."""
    return {
        f"{case.get('classname')}.{case.get('name')}": next((each.tag for each in case if each.tag in KINDS), "passed")
        for case in ET.parse(path).iter("testcase")
    }
