"""What it costs to install the plugin: it brings nothing that pytest loads, and a changed outcome would be seen."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING

from benchmarks import installed

if TYPE_CHECKING:
    from pathlib import Path


def test_the_plugin_is_installed_with_pytest_and_no_other_plugin() -> None:
    """What has a plugin of its own is loaded in every start of pytest: hypothesis and faker are extras of their own."""
    extras = tomllib.loads((installed.ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]

    assert extras["pytest"] == ["pytest>=8"]


def test_a_test_that_comes_to_something_else_is_named(tmp_path: Path) -> None:
    """So is one that is there only with the plugin, or only without it."""
    cases = ('<testcase classname="m" name="a"/>', '<testcase classname="m" name="b"><skipped/></testcase>')
    reports = []
    for number, found in enumerate((cases, (cases[0].replace("/>", "><failure/></testcase>"),))):
        (tmp_path / str(number)).write_text(f"<testsuite>{''.join(found)}</testsuite>")
        reports.append(installed.outcomes_of(tmp_path / str(number)))

    assert installed.changed(reports[0], reports[0]) == {}
    assert installed.changed(*reports) == {"m::a": ("passed", "failure"), "m::b": ("skipped", None)}


def test_the_table_tells_differences_within_a_round() -> None:
    """A slow round is slow for all, and counts for nothing."""
    found = {
        "without": [(100.0, 50.0), (900.0, 450.0), (100.0, 50.0)],
        "with": [(110.0, 51.0), (910.0, 451.0), (110.0, 51.0)],
    }

    assert installed.table(found).splitlines()[2:] == [
        "| without | 100 | 0.0 | 50 | 0.0 |",
        "| with | 110 | 10.0 | 51 | 1.0 |",
    ]
