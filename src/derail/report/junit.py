"""Scorecard as JUnit XML, in the form that CI systems read: a suite per family, a case per scenario."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from derail.report.scorecard_text import headline, titled, told
from derail.report.text import printable
from derail.report.timeline_text import render_timeline
from derail.scenario.recovery import MEASURES

if TYPE_CHECKING:
    from derail.report.scorecard import Row, Scorecard

TAGS = {"FAIL": "failure", "INCONCLUSIVE": "error", "SKIPPED": "skipped"}
"""XML tags by verdict. INCONCLUSIVE is an error: the case proves nothing about the agent."""


def render_junit(card: Scorecard) -> bytes:
    """Return the scorecard as an XML document."""
    root = ET.Element("testsuites", name=f"derail verify-agent {titled(card)}", time=f"{card.seconds:.3f}")
    for family, members in groupby(card.rows, key=lambda row: row.family):
        rows = list(members)
        suite = ET.SubElement(
            root, "testsuite", name=f"{card.agent}.{family or 'scenarios'}", timestamp=card.date.removesuffix("Z"),
            time=f"{sum(row.elapsed for row in rows):.3f}", tests=str(len(rows)), failures=_count(rows, "FAIL"),
            errors=_count(rows, "INCONCLUSIVE"), skipped=_count(rows, "SKIPPED"),
        )  # fmt: skip
        properties = ET.SubElement(suite, "properties")
        ET.SubElement(properties, "property", name="agent", value=titled(card))
        ET.SubElement(properties, "property", name="where", value=headline(card))
        for row in rows:
            _add(suite, card, row)
    _count_all(root)
    ET.indent(root)
    document: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return document + b"\n"


def _count(rows: list[Row], kind: str) -> str:
    return str(sum(row.verdict == kind for row in rows))


def _count_all(root: ET.Element) -> None:
    for name in ("tests", "failures", "errors", "skipped"):
        root.set(name, str(sum(int(suite.get(name, "0")) for suite in root)))


def _add(suite: ET.Element, card: Scorecard, row: Row) -> None:
    name = row.scenario.rpartition("/")[2]
    classname = ".".join(filter(None, ("derail", card.agent, row.family)))
    case = ET.SubElement(suite, "testcase", classname=classname, name=name, time=f"{row.elapsed:.3f}")
    measured = [(measure, row.recovery.value(measure)) for measure in MEASURES]
    if known := [(measure, value) for measure, value in measured if value is not None]:
        properties = ET.SubElement(case, "properties")
        for measure, value in known:
            ET.SubElement(properties, "property", name=f"recovery.{measure}", value=f"{value:g}")
    if tag := TAGS.get(row.verdict):
        why = ET.SubElement(case, tag, message=printable("; ".join(row.reasons)))
        if tag != "skipped":
            why.set("type", row.verdict)
        why.text = "\n".join(told(row))
    if row.verdict in ("FAIL", "INCONCLUSIVE"):
        ET.SubElement(case, "system-out").text = _evidence(row)


def _evidence(row: Row) -> str:
    parts = [f"{row.title}\n", f"reported cause: {row.reported}\n", render_timeline(row.timeline)]
    parts += [f"fault {fault.fault}: {fault.result}: {fault.detail}\n" for fault in row.faults]
    parts += [f"left behind: {left}\n" for left in row.leftovers]
    if row.tail:
        parts += ["last lines:\n", *(f"  | {line}\n" for line in row.tail)]
    return "\n".join(printable(line) for line in "".join(parts).split("\n"))
